//! One attempt at an export: made, stored, told.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deskreel_sdk::{ErrorKind, Key, Prefix, PutOptions};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::child::{self, Ended};
use super::{ACTOR, Answer, Exports, FOLDER, OUTPUT, Report, fresh, remove};
use crate::audit::{Actor, Event, Phase, RecordingAccess, RecordingAction};
use crate::catalog::{Catalog, ExportRow, MadeRow, SessionRow, State};
use crate::digest::digest_of;
use crate::host::StorageHandle;

/// Files of a folder that are put at once, whatever the plugin likes.
const CONCURRENCY_MAX: usize = 8;

/// An attempt.
pub(super) struct Job<'a> {
    exports: &'a Exports,
    row: ExportRow,
    session: SessionRow,
}

/// What came of it.
enum Outcome {
    /// The storages have it; the text names those that don't.
    Done(Option<String>),
    /// There was nothing to export.
    Nothing(String),
    /// It failed.
    Failed { why: String, for_good: bool },
    /// It has to wait.
    Waits(String),
    /// The recording is being deleted, or gone.
    Unwanted,
}

impl<'a> Job<'a> {
    pub(super) fn new(exports: &'a Exports, row: ExportRow, session: SessionRow) -> Self {
        Self { exports, row, session }
    }

    /// Makes the attempt and notes what came of it.
    pub(super) fn run(mut self) {
        let outcome = match self.tell(Phase::Begun, Map::new(), None) {
            Ok(()) => self.attempt(),
            Err(error) => Ok(Outcome::Waits(format!("{error:#}"))),
        };
        let outcome = outcome.unwrap_or_else(|error| Outcome::Failed {
            why: format!("{error:#}"),
            for_good: false,
        });
        if let Err(error) = self.end(outcome) {
            let (session, exporter) = (self.row.session, &self.row.exporter);
            tracing::error!(%session, exporter, error = format!("{error:#}"), "how an export ended is not noted");
        }
    }

    fn attempt(&mut self) -> anyhow::Result<Outcome> {
        let work = self.exports.work(&self.row);
        let output = work.join(OUTPUT);
        if !self.is_there(&output) {
            fresh(&work)?;
            self.row.storages.clear();
            match child::export(self.exports, &self.row, &work)? {
                Ended::Answer(Answer::Made(report)) => {
                    let made = made(&self.row.exporter, report);
                    self.exports.catalog.export_made(&self.row, &made)?;
                    self.row.made = Some(made);
                }
                Ended::Answer(Answer::Nothing { why }) => return Ok(Outcome::Nothing(why)),
                Ended::Answer(Answer::Failed { error, for_good }) => {
                    return Ok(Outcome::Failed { why: error, for_good });
                }
                Ended::BrokenOff(why) => return Ok(Outcome::Waits(why)),
                Ended::Unwanted => return Ok(Outcome::Unwanted),
            }
        }
        self.store(&output)
    }

    /// Whether the output of an earlier attempt is there, as it was made.
    fn is_there(&self, output: &Path) -> bool {
        let made = self.row.made.as_ref();
        made.is_some_and(|made| output.exists() && digest_of(output).is_ok_and(|digest| digest == made.sha256))
    }

    fn store(&mut self, output: &Path) -> anyhow::Result<Outcome> {
        let made = self.row.made.clone().context("an output that nobody made")?;
        let exports = self.exports;
        let now = OffsetDateTime::now_utc();
        let mut options = exports.rules.put_options(&exports.catalog, self.row.session, now);
        options.content_type = Some(made.mime.clone());
        let files = files(&self.row, &made, output)?;
        let (mut required, mut others) = (Vec::new(), Vec::new());
        for opened in &exports.storages {
            if self.row.storages.contains(&opened.name) {
                continue;
            }
            let put = match &opened.storage {
                Ok(storage) => put(&exports.handle, storage, &files, &options),
                Err(error) => Err(anyhow::anyhow!("storage {}: {error}", opened.name)),
            };
            if !is_wanted(&exports.catalog, &self.row) {
                return Ok(Outcome::Unwanted);
            }
            match put {
                Ok(()) => {
                    self.row.storages.push(opened.name.clone());
                    exports.catalog.export_stored(&self.row, &self.row.storages)?;
                }
                Err(error) if opened.required => required.push(format!("{error:#}")),
                Err(error) => others.push(format!("{error:#}")),
            }
            if exports.is_stopping() {
                return Ok(Outcome::Waits("the gateway stopped while it was stored".to_owned()));
            }
        }
        let last = self.row.attempts >= exports.limits.attempts_max;
        Ok(match (required.is_empty(), others.is_empty()) {
            (true, true) => Outcome::Done(None),
            (true, false) if last => Outcome::Done(Some(format!("not everywhere: {}", others.join("; ")))),
            _ => {
                required.extend(others);
                Outcome::Failed {
                    why: required.join("; "),
                    for_good: false,
                }
            }
        })
    }

    fn end(&self, outcome: Outcome) -> anyhow::Result<()> {
        let (exports, row) = (self.exports, &self.row);
        let (session, exporter) = (row.session, row.exporter.as_str());
        let (catalog, now) = (&exports.catalog, OffsetDateTime::now_utc());
        match outcome {
            Outcome::Done(problem) => {
                catalog.export_done(row, now, problem.as_deref())?;
                self.clean();
                tracing::info!(%session, exporter, "exported");
                self.tell(Phase::Done, self.details(), None)
            }
            Outcome::Nothing(why) => {
                catalog.export_done(row, now, Some(&why))?;
                self.clean();
                tracing::info!(%session, exporter, why, "nothing to export");
                self.tell(Phase::Done, Map::from_iter([("nothing".to_owned(), why.into())]), None)
            }
            Outcome::Failed { why, for_good } => {
                let next = (!for_good && row.attempts < exports.limits.attempts_max)
                    .then(|| now + wait(&exports.limits, row.attempts));
                catalog.export_failed(row, &why, now, next)?;
                let (attempt, last) = (row.attempts, next.is_none());
                if last {
                    self.clean();
                    tracing::error!(%session, exporter, attempt, error = why,
                        "an export failed for good; `deskreel exports retry` begins anew");
                } else {
                    tracing::warn!(%session, exporter, attempt, error = why, "an export failed; it is tried again");
                }
                let mut details = self.details();
                details.insert("attempt".to_owned(), attempt.into());
                details.insert("final".to_owned(), last.into());
                self.tell(Phase::Done, details, Some(why))
            }
            Outcome::Waits(why) => {
                catalog.export_put_back(row, &why, now + super::ROOM_AGAIN)?;
                tracing::info!(%session, exporter, why, "an export waits");
                self.tell(Phase::Done, Map::new(), Some(why))
            }
            Outcome::Unwanted => {
                exports.withdraw(row);
                catalog.forget_export(row)?;
                self.clean();
                let why = "the recording is being deleted".to_owned();
                self.tell(Phase::Done, Map::new(), Some(why))
            }
        }
    }

    fn clean(&self) {
        let work = self.exports.work(&self.row);
        remove(&work);
        // Others of the same recording may be there.
        let _ = work.parent().map(fs::remove_dir);
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        if let Some(made) = &self.row.made {
            details.insert("format".to_owned(), json!(made.format));
            details.insert("object".to_owned(), json!(made.object));
            details.insert("bytes".to_owned(), json!(made.bytes));
            details.insert("sha256".to_owned(), json!(made.sha256));
            details.insert("storages".to_owned(), json!(self.row.storages));
        }
        details
    }

    /// Tells the audit log.
    fn tell(&self, phase: Phase, mut details: Map<String, Value>, error: Option<String>) -> anyhow::Result<()> {
        let row = &self.row;
        details.insert("exporter".to_owned(), json!(row.exporter));
        let known = self.exports.choosers.iter().find(|known| known.name == row.exporter);
        let rule = match (&row.asked_by, known) {
            (Some(by), _) => format!("asked for by {by}"),
            (None, Some(known)) if known.when.is_some() => format!("{}.when", known.source_key),
            (None, Some(known)) => known.source_key.clone(),
            (None, None) => "an exporter that is no longer configured".to_owned(),
        };
        let event = RecordingAccess {
            what: RecordingAction::Export,
            sid: row.session,
            action: "export".to_owned(),
            phase,
            success: error.is_none(),
            error,
            rule,
            session_user: self.session.user.clone(),
            desktop_name: self.session.desktop.clone(),
            address: None,
            details,
        };
        let actor = Actor {
            user: ACTOR.to_owned(),
            sudo_user: None,
        };
        self.exports
            .audit
            .emit_or_fail(actor, &Event::Recording(Box::new(event)))
            .context("tell the audit log of an export")
    }
}

/// Whether a recording is there and stays there, as far as the catalog knows.
pub(super) fn is_wanted(catalog: &Catalog, row: &ExportRow) -> bool {
    match catalog.find(row.session) {
        Ok(session) => session.is_some_and(|session| session.state != State::Deleted && session.doomed.is_none()),
        // It is asked again.
        Err(_) => true,
    }
}

/// Before the next attempt, after so many.
fn wait(limits: &deskreel_config::Exports, attempts: u32) -> Duration {
    let doubled = 1_u32.checked_shl(attempts.saturating_sub(1)).unwrap_or(u32::MAX);
    limits.retry_after.saturating_mul(doubled).min(limits.retry_max)
}

fn made(exporter: &str, report: Report) -> MadeRow {
    let object = if report.folder {
        format!("{FOLDER}/{exporter}/")
    } else if report.extension.is_empty() {
        format!("{FOLDER}/{exporter}")
    } else {
        format!("{FOLDER}/{exporter}.{}", report.extension)
    };
    MadeRow {
        format: report.format,
        object,
        mime: report.mime,
        files: report.files,
        bytes: report.bytes,
        sha256: report.sha256,
        notes: report.notes,
    }
}

/// The files of an output and the keys that they get.
fn files(row: &ExportRow, made: &MadeRow, output: &Path) -> anyhow::Result<Vec<(Key, PathBuf)>> {
    let prefix = format!("{}/{}", row.session, made.object);
    if !output.is_dir() {
        return Ok(vec![(Key::new(prefix)?, output.to_owned())]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(output).with_context(|| format!("read {}", output.display()))? {
        let entry = entry.with_context(|| format!("read {}", output.display()))?;
        let name = entry.file_name();
        files.push((Key::new(format!("{prefix}{}", name.to_string_lossy()))?, entry.path()));
    }
    files.sort();
    Ok(files)
}

/// What a storage has of an export.
///
/// # Errors
/// What the storage says.
pub(super) fn stored(handle: &Handle, storage: &StorageHandle, row: &ExportRow) -> anyhow::Result<Vec<Key>> {
    let prefix = format!("{}/{FOLDER}/{}", row.session, row.exporter);
    let listed = handle.block_on(storage.list(&Prefix::new(&prefix)?))?;
    let own = |key: &Key| {
        let rest = key.as_str().strip_prefix(&prefix).unwrap_or_default();
        rest.is_empty() || rest.starts_with(['.', '/'])
    };
    Ok(listed.into_iter().map(|object| object.key).filter(own).collect())
}

/// Puts files into a storage, several at a time.
fn put(
    handle: &Handle,
    storage: &Arc<StorageHandle>,
    files: &[(Key, PathBuf)],
    options: &PutOptions,
) -> anyhow::Result<()> {
    let liked = usize::try_from(storage.profile.concurrency).unwrap_or(1);
    let width = liked.clamp(1, CONCURRENCY_MAX);
    handle.block_on(async {
        let mut running = JoinSet::new();
        let mut waiting = files.iter().cloned();
        loop {
            while running.len() < width
                && let Some((key, path)) = waiting.next()
            {
                let (storage, options) = (Arc::clone(storage), options.clone());
                running.spawn(async move { put_one(&storage, &key, &path, &options).await });
            }
            match running.join_next().await {
                None => return Ok(()),
                Some(put) => put.context("a put ended early")??,
            }
        }
    })
}

async fn put_one(storage: &StorageHandle, key: &Key, path: &Path, options: &PutOptions) -> anyhow::Result<()> {
    match storage.put_file(key, path, options).await {
        // Of an attempt whose output is lost, or an encoder that is not the same twice. Only this node writes these keys.
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            storage.delete(key).await?;
            Ok(storage.put_file(key, path, options).await?)
        }
        put => Ok(put?),
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let loaded = deskreel_config::load(&deskreel_config::Sources::default()).unwrap();
        let limits = loaded.config.exports;
        let minutes: Vec<u64> = (1..=9).map(|attempts| wait(&limits, attempts).as_secs() / 60).collect();
        assert_eq!(minutes, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(wait(&limits, u32::MAX), limits.retry_max);
    }
}
