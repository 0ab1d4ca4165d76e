//! `recordings verify`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use deskreel_config::{Loaded, StorageConfig};
use deskreel_policy::Verb;
use deskreel_recording::{FindingKind, Outcome as Verdict, Report, VerifyOptions, VerifyingKey, key_id};
use serde::Serialize;
use serde_json::Value;
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::copy::{self, Examined, Expected};
use super::size;
use super::target::{Details, Found, Target, details, recorded, runtime, spool};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, PlacementRow};
use crate::cmd::{Global, Listing, Outcome};
use crate::host::Plugins;
use crate::keys::public_key;
use crate::output::{self, visible};
use crate::replay::{Place, Source, clock};

/// Arguments of `recordings verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel recordings verify 01902b6e\n  \
    deskreel recordings verify ./copied --public-key node.pub.pem --deep")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The key to trust instead of this node's and `recording.trusted_keys`: a PEM file as `keys show` prints it
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Decode every event and the whole picture as well
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    listing: Listing,
}

/// What was verified where.
#[derive(Debug, Serialize)]
struct Verified {
    /// The storage or folder.
    place: String,
    /// Whether this copy counts: the recording is incomplete without it.
    required: bool,
    /// Whether it could be read.
    checked: bool,
    /// Whether anything of the recording was there.
    #[serde(skip)]
    any: bool,
    #[serde(flatten)]
    report: Report,
}

impl Verified {
    fn unchecked(place: String, required: bool, id: Uuid, why: &str) -> Self {
        let mut report = copy::empty(Some(id));
        report.outcome = Verdict::Findings;
        let text = format!("could not be checked: {why}");
        report.findings.push(copy::finding(FindingKind::Unchecked, false, text));
        Self {
            place,
            required,
            checked: false,
            any: false,
            report,
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let purpose = Purpose {
        verb: Verb::Read,
        what: RecordingAction::Verify,
        action: "verify",
    };
    let (verified, trusted) = match args.target.find(global, &runtime, purpose)? {
        Found::Files(source) => {
            let trusted = match &args.public_key {
                Some(path) => named_key(path)?,
                None => node_keys(&global.load()?)?,
            };
            let copy = Verified {
                place: args.target.recording.clone(),
                required: true,
                checked: true,
                any: true,
                report: verify_source(&source, &trusted, args.deep)?,
            };
            (vec![copy], trusted)
        }
        Found::Recording {
            id,
            row,
            loaded,
            access,
        } => {
            recorded(row.as_deref())?;
            let pass = access.0.gate().begin(&access.1, Details::new())?;
            let trusted = match &args.public_key {
                Some(path) => named_key(path)?,
                None => node_keys(&loaded)?,
            };
            // Before anything is read: what the catalog calls stored must be found afterwards, the rest may be on its way.
            let placements = row
                .map(|_| Catalog::open_read_only(&loaded.config.data_dir)?.placements(id))
                .transpose()?;
            let copies = Copies {
                loaded: &loaded,
                runtime: &runtime,
                id,
                placements: placements.as_deref(),
                trusted: &trusted,
                deep: args.deep,
            };
            let verified = copies.verify();
            pass.done(Ok(results(&verified)))?;
            (verified, trusted)
        }
    };
    output::print(args.listing.format, &verified, |verified| text(verified, &trusted))?;
    outcome(&verified)
}

/// What the audit log is told.
fn results(verified: &[Verified]) -> Details {
    let results = verified.iter().map(|copy| {
        let result = match copy.report.outcome {
            _ if !copy.checked => "not_checked",
            Verdict::Whole => "whole",
            Verdict::Findings => "findings",
            Verdict::Broken => "broken",
        };
        (copy.place.clone(), result.into())
    });
    details([("result", Value::Object(results.collect()))])
}

/// The exit code's outcome: the worst of the copies that the recording is incomplete without, of all where there is none such.
/// Another copy that is not what was written is a finding.
///
/// # Errors
/// Nothing could be verified at all.
fn outcome(verified: &[Verified]) -> anyhow::Result<Outcome> {
    if verified.is_empty() {
        bail!("no storage is configured");
    }
    if verified.iter().all(|copy| !copy.checked) {
        bail!("nothing could be verified: no storage could be read");
    }
    let of = |copy: &Verified| match copy.report.outcome {
        Verdict::Whole => Outcome::Fine,
        Verdict::Findings => Outcome::Findings,
        Verdict::Broken => Outcome::Broken,
    };
    let any_required = verified.iter().any(|copy| copy.required);
    let outcomes = verified.iter().map(|copy| match of(copy) {
        outcome if copy.required || !any_required => outcome,
        Outcome::Broken => Outcome::Findings,
        _ => Outcome::Fine,
    });
    outcomes
        .max_by_key(|outcome| *outcome as u8)
        .context("no storage is configured")
}

/// The copies of one recording in the storages.
struct Copies<'a> {
    loaded: &'a Loaded,
    runtime: &'a Arc<Runtime>,
    id: Uuid,
    /// What the catalog says of the objects; `None` for a recording that it does not know.
    placements: Option<&'a [PlacementRow]>,
    trusted: &'a [VerifyingKey],
    deep: bool,
}

impl Copies<'_> {
    /// Verifies every copy: one that can't be read or has nothing doesn't hide the others.
    fn verify(&self) -> Vec<Verified> {
        let plugins = Plugins::new(self.loaded);
        let storages = &self.loaded.config.storages;
        let mut verified: Vec<Verified> = storages.iter().map(|config| self.copy(&plugins, config)).collect();
        let mut gone: Vec<&PlacementRow> = Vec::new();
        for placement in self.placements.unwrap_or_default() {
            let known = storages.iter().any(|config| config.name == placement.storage)
                || gone.iter().any(|known| known.storage == placement.storage);
            if !known {
                gone.push(placement);
            }
        }
        verified.extend(gone.into_iter().map(|placement| {
            let place = format!("storage {}", placement.storage);
            let why = "it is not in the configuration any more";
            Verified::unchecked(place, placement.required, self.id, why)
        }));
        verified
    }

    fn copy(&self, plugins: &Plugins<'_>, config: &StorageConfig) -> Verified {
        let place = format!("storage {}", config.name);
        let expected = self
            .placements
            .map_or_else(Expected::default, |placements| Expected::of(&config.name, placements));
        let required = match self.placements {
            Some(_) => expected.required,
            None => config.required,
        };
        let source = |place| Source::new(self.id, vec![place], Arc::clone(self.runtime));
        let options = VerifyOptions {
            recording: Some(self.id),
            trusted: self.trusted.to_vec(),
            deep: self.deep,
        };
        let examined = self.runtime.block_on(plugins.open_storage(config)).and_then(|storage| {
            let (storage, spool) = (source(Place::Storage(storage)), source(spool(self.loaded, self.id)));
            copy::examine(&storage, &spool, &expected, options)
        });
        match examined {
            Ok(Examined { mut report, any }) => {
                let elsewhere = self.placements.is_none() && !any;
                if elsewhere {
                    let text = "nothing of it is there, and the catalog does not know it".to_owned();
                    report.findings.push(copy::finding(FindingKind::Absent, false, text));
                    report.outcome = Verdict::Findings;
                }
                Verified {
                    place,
                    required: required && !elsewhere,
                    checked: true,
                    any,
                    report,
                }
            }
            Err(error) => Verified::unchecked(place, required, self.id, &format!("{error:#}")),
        }
    }
}

/// Verifies a recording in a folder.
///
/// # Errors
/// A folder that can't be read or holds nothing of a recording.
pub(super) fn verify_source(source: &Source, trusted: &[VerifyingKey], deep: bool) -> anyhow::Result<Report> {
    if source.only().is_some() {
        bail!("a segment alone can't be verified: name the folder with all of the recording");
    }
    let options = VerifyOptions {
        recording: Some(source.recording()),
        trusted: trusted.to_vec(),
        deep,
    };
    // Nothing is on its way to a folder.
    let Examined { report, any } = copy::examine(source, source, &Expected::default(), options)?;
    if !any {
        bail!("nothing of recording {} is there", source.recording());
    }
    Ok(report)
}

/// This node's own key, and those of other nodes that the configuration trusts.
pub(super) fn node_keys(loaded: &Loaded) -> anyhow::Result<Vec<VerifyingKey>> {
    let trust = crate::keys::trust(&loaded.config)?;
    let keys: Vec<VerifyingKey> = trust.own.into_iter().chain(trust.others).collect();
    if keys.is_empty() {
        bail!(
            "no key to trust: data_dir {} has none, and there is no --public-key",
            loaded.config.data_dir.display()
        );
    }
    Ok(keys)
}

fn named_key(path: &Path) -> anyhow::Result<Vec<VerifyingKey>> {
    Ok(vec![public_key(path).context("--public-key")?])
}

fn text(verified: &[Verified], trusted: &[VerifyingKey]) -> String {
    let mut text = String::new();
    for copy in verified {
        let report = &copy.report;
        let verdict = match report.outcome {
            _ if !copy.checked => "NOT CHECKED",
            Verdict::Broken => "BROKEN",
            _ if !copy.any => "nothing there",
            Verdict::Whole => "whole: complete and unchanged",
            Verdict::Findings => "true, with findings",
        };
        let required = if copy.required { "" } else { " (not required)" };
        text.push_str(&format!("{}{required}: {verdict}\n", visible(&copy.place)));
        if copy.any {
            text.push_str(&format!(
                "  {} segments, {}, {}\n",
                report.segments,
                size(report.bytes),
                clock(report.duration_ns)
            ));
        }
        for finding in &report.findings {
            let mark = if finding.broken { "broken" } else { "finding" };
            text.push_str(&format!("  {mark}: {}\n", visible(&finding.text)));
        }
    }
    for key in trusted {
        text.push_str(&format!("trusted key: {}\n", key_id(key)));
    }
    text
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
