//! What async exporters do beside the sessions: after each session that an exporter's `when` selects, the recording is read
//! back, exported by a process of lowest priority, and what comes of it is stored beside the recording.
//!
//! The life of an export: a recording is complete -> [`Exports::choose`] adds a row to the catalog (pending) -> [`job`]
//! begins it (running) -> [`child`] makes a file in `spool.path/exports` -> the storages get it -> done. A kill at any moment
//! leaves a row that the next start takes up: what was made whole is not made again, and a put of the same bytes is a success.
//! Exports are no part of the recording: the manifest knows nothing of them and nothing verifies them but their own digest.
//!
//! Everything here blocks and runs in threads of its own.

mod child;
mod job;

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, Thread};
use std::time::Duration;

use anyhow::Context as _;
use deskreel_config::{Config, ExporterConfig, Mode};
use deskreel_policy::SessionFilter;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::access::recordings::facts;
use crate::audit::Audit;
use crate::catalog::{Catalog, ExportRow, SessionRow};
use crate::keep::Opened;
use crate::keep::retention::Rules;
use crate::pipeline::Fill;
use crate::private;
use job::Job;

/// Who exports, as the audit log names it.
pub(crate) const ACTOR: &str = "deskreel:exports";
/// The folder of exports below a recording's prefix, and below the spool.
pub(crate) const FOLDER: &str = "exports";
/// Between two looks for something to do.
const POLL: Duration = Duration::from_secs(1);
/// Recordings that one look decides about.
const CHOOSE_MAX: u32 = 100;
/// No export begins while the spool is as full as this, in percent: recordings come first.
const BEGIN_BELOW: u8 = 80;
/// One that runs is broken off when it gets as full as this.
const END_FROM: u8 = 90;
/// An export that waits for room is looked at again after this time.
const ROOM_AGAIN: Duration = Duration::from_secs(10);

/// What the process that exports answers: one line of JSON on its standard output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The output is whole and durable.
    Made(Report),
    /// There is nothing that this exporter could export.
    Nothing {
        /// Why.
        why: String,
    },
    /// It did not work.
    Failed {
        /// Why.
        error: String,
        /// Whether another attempt could end otherwise.
        for_good: bool,
    },
}

/// What was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    /// The format.
    pub(crate) format: String,
    /// Extension of its file's name.
    pub(crate) extension: String,
    /// Media type.
    pub(crate) mime: String,
    /// Whether the output is a folder of files.
    pub(crate) folder: bool,
    /// Files in it.
    pub(crate) files: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// SHA-256, hexadecimal.
    pub(crate) sha256: String,
    /// Gaps and what the exporter says.
    pub(crate) notes: Vec<String>,
}

/// The part of the output's name that is the process's: it may be anything until the whole has its name.
pub(crate) const PART: &str = "part";
/// The whole output.
pub(crate) const OUTPUT: &str = "output";

/// An async exporter.
#[derive(Debug)]
struct Chooser {
    name: String,
    when: Option<SessionFilter>,
    source_key: String,
}

impl Chooser {
    fn new(config: &ExporterConfig) -> Result<Self, String> {
        let when = config.when.as_deref().map(SessionFilter::compile).transpose();
        Ok(Self {
            name: config.name.clone(),
            when: when.map_err(|error| format!("{}.when: {error}", config.source_key))?,
            source_key: config.source_key.clone(),
        })
    }

    /// Whether the exporter is for this session; `Some(Some(_))`: that can't be told.
    fn wants(&self, row: &SessionRow, now: OffsetDateTime) -> Option<Option<String>> {
        match self.when.as_ref().map(|when| when.passes(&facts(row), now)) {
            None | Some(Ok(true)) => Some(None),
            Some(Ok(false)) => None,
            Some(Err(error)) => Some(Some(format!("{}.when fails: {error}", self.source_key))),
        }
    }
}

fn choosers(config: &Config) -> impl Iterator<Item = Result<Chooser, String>> {
    let exporters = config.exporters.iter();
    exporters
        .filter(|exporter| exporter.mode == Mode::Async)
        .map(Chooser::new)
}

/// What is wrong with `exporters[].when`.
pub(crate) fn problems(config: &Config) -> Vec<String> {
    choosers(config).filter_map(Result::err).collect()
}

/// What it works with.
pub(crate) struct Exports {
    choosers: Vec<Chooser>,
    limits: deskreel_config::Exports,
    spool: deskreel_config::Spool,
    rules: Rules,
    storages: Vec<Opened>,
    catalog: Arc<Catalog>,
    audit: Audit,
    /// `--config` and `--set` of this process, for those that it starts.
    arguments: Vec<OsString>,
    handle: Handle,
    running: Mutex<HashSet<(Uuid, String)>>,
    stopping: AtomicBool,
}

/// The threads.
pub(crate) struct Running {
    exports: Arc<Exports>,
    thread: Thread,
}

impl Running {
    /// Nothing more begins, and what runs is broken off. The next start takes it up.
    pub(crate) fn stop(&self) {
        self.exports.stopping.store(true, Ordering::Release);
        self.thread.unpark();
    }

    /// Chooses for what was delivered until now: what other exporters the next start has is no matter.
    pub(crate) fn settle(&self) {
        loop {
            match self.exports.choose(OffsetDateTime::now_utc()) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) => {
                    let error = format!("{error:#}");
                    tracing::error!(error, "what is to be exported is chosen at the next start");
                    return;
                }
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Exports {
    /// Takes what it needs. `catalog` and `audit` are the engine's own; `arguments` name the configuration to a process of
    /// this program. To be called inside the runtime that the storages run in.
    ///
    /// # Errors
    /// An expression or a section `retention` that can't be read.
    pub(crate) fn new(
        config: &Config,
        arguments: Vec<OsString>,
        storages: Vec<Opened>,
        catalog: Arc<Catalog>,
        audit: Audit,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            choosers: choosers(config).collect::<Result<_, _>>().map_err(anyhow::Error::msg)?,
            limits: config.exports.clone(),
            spool: config.spool.clone(),
            rules: Rules::new(&config.retention).map_err(anyhow::Error::msg)?,
            storages,
            catalog,
            audit,
            arguments,
            handle: Handle::current(),
            running: Mutex::default(),
            stopping: AtomicBool::new(false),
        })
    }

    /// Starts. Only one may run on a catalog: it takes up what another one left.
    ///
    /// # Errors
    /// A thread that can't be had.
    pub(crate) fn start(self) -> anyhow::Result<Running> {
        let exports = Arc::new(self);
        let this = Arc::clone(&exports);
        let thread = thread::Builder::new()
            .name("exports".to_owned())
            .spawn(move || this.run())
            .context("start the thread of the exports")?
            .thread()
            .clone();
        Ok(Running { exports, thread })
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    fn run(self: &Arc<Self>) {
        if let Err(error) = self.take_up() {
            tracing::error!(error = format!("{error:#}"), "what the last run was exporting");
        }
        let mut told = None;
        while !self.is_stopping() {
            let problem = self.look().err().map(|error| format!("{error:#}"));
            if let Some(error) = &problem
                && told != problem
            {
                tracing::error!(error, "nothing is exported now");
            }
            told = problem;
            thread::park_timeout(POLL);
        }
    }

    /// What the last run left: rows that say that they run, and files that nobody will ask for.
    fn take_up(&self) -> anyhow::Result<()> {
        let interrupted = self.catalog.exports_interrupted()?;
        if interrupted > 0 {
            tracing::info!(interrupted, "exports are made again that the last run did not finish");
        }
        let kept: HashSet<PathBuf> = self
            .catalog
            .all_exports()?
            .iter()
            .filter(|row| row.made.is_some() && row.ended.is_none())
            .map(|row| self.work(row))
            .collect();
        let folder = self.spool.path.join(FOLDER);
        for recording in fs::read_dir(&folder).into_iter().flatten().flatten() {
            for export in fs::read_dir(recording.path()).into_iter().flatten().flatten() {
                if !kept.contains(&export.path()) {
                    remove(&export.path());
                }
            }
            // One that is not empty is needed.
            let _ = fs::remove_dir(recording.path());
        }
        Ok(())
    }

    /// The folder that an export works in.
    fn work(&self, row: &ExportRow) -> PathBuf {
        let folder = self.spool.path.join(FOLDER).join(row.session.to_string());
        folder.join(&row.exporter)
    }

    /// One look for something to do.
    fn look(self: &Arc<Self>) -> anyhow::Result<()> {
        let now = OffsetDateTime::now_utc();
        self.choose(now)?;
        for row in self.catalog.exports_orphaned()? {
            self.withdraw(&row);
            self.catalog.forget_export(&row)?;
        }
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner).len();
        let free = (self.limits.jobs_max as usize).saturating_sub(running);
        if free == 0 {
            return Ok(());
        }
        let due = self.catalog.exports_due(now, free)?;
        if due.is_empty() {
            return Ok(());
        }
        if let Some(full) = self.crowded(BEGIN_BELOW) {
            for row in due {
                let why = format!("waits: {full}");
                self.catalog.export_failed(&row, &why, now, Some(now + ROOM_AGAIN))?;
            }
            return Ok(());
        }
        for row in due {
            self.begin(row)?;
        }
        Ok(())
    }

    /// Says of recordings that have become complete what is to be exported of them.
    /// Chooses for some of the recordings that were delivered; for how many.
    fn choose(&self, now: OffsetDateTime) -> anyhow::Result<usize> {
        let sessions = self.catalog.exports_unchosen(CHOOSE_MAX)?;
        for session in &sessions {
            let wanted: Vec<(&str, Option<String>)> = self
                .choosers
                .iter()
                .filter_map(|chooser| Some((chooser.name.as_str(), chooser.wants(session, now)?)))
                .collect();
            for (exporter, problem) in &wanted {
                if let Some(problem) = problem {
                    tracing::error!(session = %session.id, exporter, problem, "not exported");
                }
            }
            self.catalog.choose_exports(session.id, &wanted, now)?;
        }
        Ok(sessions.len())
    }

    /// Why there is no room, if the spool or its disk is that full.
    fn crowded(&self, percent: u8) -> Option<String> {
        let fill = Fill::of_folder(&self.spool).filter(|fill| fill.percent >= percent)?;
        Some(format!(
            "the spool is {} % full ({}), and recordings come first",
            fill.percent, fill.limit
        ))
    }

    fn begin(self: &Arc<Self>, mut row: ExportRow) -> anyhow::Result<()> {
        let Some(session) = self.catalog.find(row.session)? else {
            return Ok(());
        };
        self.catalog.export_begun(&row)?;
        row.attempts += 1;
        let id = (row.session, row.exporter.clone());
        let name = format!("export {}", row.exporter);
        self.running
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(id.clone());
        let this = Arc::clone(self);
        let begun = thread::Builder::new().name(name).spawn(move || {
            let _place = Place { exports: &this, id };
            Job::new(&this, row, session).run();
        });
        begun.map(drop).context("start a thread for an export")
    }

    /// Deletes what the storages have of an export.
    fn withdraw(&self, row: &ExportRow) {
        remove(&self.work(row));
        for opened in &self.storages {
            let Ok(storage) = &opened.storage else { continue };
            let found = job::stored(&self.handle, storage, row).and_then(|keys| {
                keys.iter()
                    .try_for_each(|key| Ok(self.handle.block_on(storage.delete(key))?))
            });
            if let Err(error) = found {
                let error = format!("{error:#}");
                tracing::warn!(session = %row.session, exporter = row.exporter, storage = opened.name, error,
                    "an export of a deleted recording is left");
            }
        }
    }
}

/// A running export's place among those that may run at once.
struct Place<'a> {
    exports: &'a Exports,
    id: (Uuid, String),
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut running = self.exports.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.remove(&self.id);
    }
}

/// Removes a folder; one that can't be removed is told of.
fn remove(folder: &std::path::Path) {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(folder = %folder.display(), %error, "a folder of an export is left");
        }
        _ => {}
    }
}

/// Makes a folder to work in, with nothing in it.
fn fresh(folder: &std::path::Path) -> anyhow::Result<()> {
    remove(folder);
    private::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))
}

#[cfg(test)]
mod tests;
