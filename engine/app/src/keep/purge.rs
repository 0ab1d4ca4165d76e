//! Deleting what retention no longer keeps: a list first, then one recording after the other, each told to the audit log
//! before and after.

use anyhow::Context as _;
use serde::Serialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use uuid::Uuid;

use super::erase::{Eraser, Removed, Warrant, untouchable};
use super::retention::{Rules, ended};
use crate::audit::{Actor, Audit, Event, Phase, RecordingAccess, RecordingAction};
use crate::catalog::{Catalog, SessionRow};

/// Rows that are read from the catalog at a time.
const PAGE: u32 = 500;

/// A recording whose time is over.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Due {
    /// The recording.
    pub(crate) id: Uuid,
    /// Whose session it was.
    pub(crate) user: String,
    /// On which desktop.
    pub(crate) desktop: String,
    /// When it was over.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) ended: OffsetDateTime,
    /// Until when it was to be kept.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) kept_until: OffsetDateTime,
    /// The key of the configuration that says so.
    pub(crate) rule: String,
    /// Bytes in sealed segments.
    pub(crate) bytes: u64,
    /// Digest of the manifest.
    pub(crate) manifest_sha256: Option<String>,
    /// What kept a storage from deleting it at the last attempt.
    pub(crate) problem: Option<String>,
    /// The whole row.
    #[serde(skip)]
    pub(crate) row: SessionRow,
}

/// This node's recordings whose time is over at `now`, in the order of their ids, at most `max`. Those of other nodes are
/// theirs to delete, and what is held, runs or is being delivered is left alone. A deletion that was begun for another reason
/// (`recordings rm` that a storage refused) is due, too. Only rows that are `wanted` are listed and counted.
///
/// # Errors
/// The catalog.
pub(crate) fn due(
    catalog: &Catalog,
    rules: &Rules,
    now: OffsetDateTime,
    max: usize,
    wanted: impl Fn(&SessionRow) -> bool,
) -> anyhow::Result<Vec<Due>> {
    let mut found: Vec<Due> = Vec::new();
    // What storages refuse for years must not keep the rest waiting; the one that was tried last is last here.
    for row in catalog.doomed()?.into_iter().filter(&wanted).take(max.div_ceil(2)) {
        if rules.too_early(&row, now).is_some() {
            // The rules have changed since.
            continue;
        }
        let (_, why) = catalog.doomed_for(row.id)?;
        let until = row.doomed.unwrap_or(now);
        found.push(described(row, until, format!("its deletion has begun: {why}")));
    }
    if rules.delete_nothing() {
        return Ok(found);
    }
    let mut after = None;
    loop {
        let page = catalog.sessions_after(after, PAGE)?;
        let Some(last) = page.last() else { return Ok(found) };
        after = Some(last.id);
        for row in page {
            if row.node.is_some() || row.doomed.is_some() || untouchable(&row).is_some() {
                continue;
            }
            let Some(term) = rules.term(&row, now) else { continue };
            let Some(until) = term.until(ended(&row)).filter(|until| *until <= now) else {
                continue;
            };
            if !wanted(&row) {
                continue;
            }
            if found.len() == max {
                return Ok(found);
            }
            found.push(described(row, until, term.source));
        }
    }
}

fn described(row: SessionRow, kept_until: OffsetDateTime, rule: String) -> Due {
    Due {
        id: row.id,
        user: row.user.clone(),
        desktop: row.desktop.clone(),
        ended: ended(&row),
        kept_until,
        rule,
        bytes: row.bytes,
        manifest_sha256: row.manifest_sha256.clone(),
        problem: row.doomed_problem.clone(),
        row,
    }
}

/// What became of one recording.
#[derive(Debug, Serialize)]
pub(crate) struct Purged {
    /// Which.
    #[serde(flatten)]
    pub(crate) due: Due,
    /// What each storage did.
    pub(crate) storages: Vec<Removed>,
    /// Why it is not deleted; it is tried again.
    pub(crate) error: Option<String>,
}

/// Deletes one recording whose time is over.
///
/// # Errors
/// The audit log can't be written: nothing is deleted then. The catalog.
pub(crate) fn purge(
    eraser: &Eraser<'_>,
    audit: &Audit,
    actor: &Actor,
    due: Due,
    now: OffsetDateTime,
) -> anyhow::Result<Purged> {
    let mut event = RecordingAccess {
        what: RecordingAction::Delete,
        sid: due.id,
        action: "purge".to_owned(),
        phase: Phase::Begun,
        success: true,
        error: None,
        rule: due.rule.clone(),
        session_user: due.user.clone(),
        desktop_name: due.desktop.clone(),
        address: None,
        details: Map::new(),
    };
    event.details.insert("digest".to_owned(), json!(due.manifest_sha256));
    event.details.insert("bytes".to_owned(), json!(due.bytes));
    let tell = |event: &RecordingAccess| {
        audit
            .emit_or_fail(actor.clone(), &Event::Recording(Box::new(event.clone())))
            .context("tell the audit log of a deletion")
    };
    tell(&event)?;
    let warrant = Warrant {
        by: &actor.user,
        why: &due.rule,
        now,
    };
    let (storages, error) = match eraser.erase(&due.row, warrant) {
        Ok((storages, settled)) => (storages, settled.err()),
        Err(error) => (Vec::new(), Some(error)),
    };
    let error = error.map(|error| format!("{error:#}"));
    event.phase = Phase::Done;
    event.success = error.is_none();
    event.error.clone_from(&error);
    let told = serde_json::to_value(&storages).unwrap_or(Value::Null);
    event.details.insert("storages".to_owned(), told);
    tell(&event)?;
    Ok(Purged { due, storages, error })
}
