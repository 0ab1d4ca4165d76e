//! One step of `plugins check`, in a process of its own that the plugin may take down.

use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use deskreel_config::{Log, LogFormat, LogLevel};
use deskreel_sdk::Prefix;
use deskreel_sdk::abi::host::{ExporterLibrary, StorageLibrary};
use deskreel_sdk::abi::meta::Kind;
use deskreel_sdk::testkit::{self, Loaded, Subject as _};
use serde::{Deserialize, Serialize};

use crate::cmd::Outcome;
use crate::host::candidate::{self, Candidate};
use crate::usage::UsageError;

/// The step that looks at the settings.
pub(super) const SETTINGS: &str = "settings";
/// The step that looks whether a storage is empty.
pub(super) const EMPTY: &str = "empty";
/// The step that looks at what killed puts left.
pub(super) const AFTER_KILLS: &str = "after_kills";
/// The step that deletes what checks left.
pub(super) const SWEEP: &str = "sweep";

/// What stands before each line that is for the process that started this one: the plugin may print lines, too.
const MARK: &str = "deskreel-check: ";

/// What a step tells.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "said", rename_all = "snake_case")]
pub(super) enum Said {
    /// The work that is to be killed has begun.
    Begun,
    /// It went well.
    Done,
    /// The contract is not kept.
    Failed {
        /// Why.
        problem: String,
    },
    /// File or settings can't be used.
    Unusable {
        /// Why.
        problem: String,
    },
}

impl Said {
    /// Reads a line of a step's output.
    pub(super) fn read(line: &str) -> Option<Self> {
        serde_json::from_str(line.strip_prefix(MARK)?).ok()
    }

    fn tell(&self) {
        let line = serde_json::to_string(self).unwrap_or_default();
        // Whoever asked is gone: nobody is left to be told.
        let _ = writeln!(std::io::stdout(), "\n{MARK}{line}");
        let _ = std::io::stdout().flush();
    }
}

/// Runs a step and tells how it went.
pub(super) fn run(file: &Path, settings: Option<&Path>, step: &str) -> anyhow::Result<Outcome> {
    crate::log::init(Log {
        level: LogLevel::Warn,
        format: LogFormat::Text,
    });
    // A check fails by a panic: its text is told, not printed.
    std::panic::set_hook(Box::new(|_| {}));
    let kind = candidate::inspect(file)?.kind;
    let work = AssertUnwindSafe(|| match kind {
        Kind::Storage => storage(&Candidate::storage(file, settings)?, step),
        Kind::Exporter => exporter(&Candidate::exporter(file, settings)?, step),
    });
    let said = match std::panic::catch_unwind(work) {
        Ok(Ok(())) => Said::Done,
        Ok(Err(error)) if error.is::<UsageError>() => Said::Unusable {
            problem: format!("{error:#}"),
        },
        Ok(Err(error)) => Said::Failed {
            problem: format!("{error:#}"),
        },
        Err(panic) => Said::Failed {
            problem: words(panic.as_ref()),
        },
    };
    said.tell();
    // Not by way of destructors: a plugin that hangs in one has failed a check already.
    std::process::exit(0)
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

fn storage(candidate: &Candidate<StorageLibrary>, step: &str) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    if step == SETTINGS {
        // Secrets and paths as the plugin gets them; where they come from is the engine's business.
        testkit::storage::settings_with(candidate.settings(), candidate.schema(), |settings| {
            candidate.reads(settings)
        });
        return Ok(());
    }
    runtime.block_on(async {
        let profile = candidate.profile().context("profile")?;
        if step == testkit::open_close::CHECK.name {
            testkit::open_close::run(|| candidate.open()).await;
            return Ok(());
        }
        let opening = tokio::time::timeout(profile.op_timeout, candidate.open());
        let instance = opening
            .await
            .context("open took longer than the profile's op_timeout")?
            .context("open")?;
        let subject = Arc::new(Loaded::new(instance, &profile));
        match step {
            EMPTY => return empty(&subject).await,
            SWEEP => return testkit::storage::sweep(&*subject).await.context("delete"),
            AFTER_KILLS => testkit::kills::look(Arc::clone(&subject)).await,
            step if step == testkit::kills::CHECK.name => {
                testkit::kills::put_until_killed(Arc::clone(&subject), || Said::Begun.tell()).await;
            }
            step => {
                let known = testkit::storage::run(step, Arc::clone(&subject)).await;
                anyhow::ensure!(known, "no check is named {step}");
            }
        }
        testkit::storage::sweep(&*subject)
            .await
            .context("delete what the check wrote")
    })
}

async fn empty(subject: &Loaded) -> anyhow::Result<()> {
    let page = subject.list(&Prefix::all(), None).await.context("list")?;
    let Some(first) = page.objects.first() else {
        return Ok(());
    };
    Err(UsageError(format!(
        "the storage is not empty, it has `{}`: the checks need one of their own, such as a new folder or prefix",
        first.key
    ))
    .into())
}

fn exporter(candidate: &Candidate<ExporterLibrary>, step: &str) -> anyhow::Result<()> {
    let library = candidate.library();
    if step == SETTINGS {
        let schema = &library.info().settings_schema;
        testkit::storage::settings_with(candidate.settings(), schema, |settings| candidate.reads(settings));
        return Ok(());
    }
    let subject = testkit::exporter::Loaded::new(candidate.open().context("open")?, library.info().clone());
    let known = testkit::exporter::run(step, &Arc::new(subject));
    anyhow::ensure!(known, "no check is named {step}");
    Ok(())
}
