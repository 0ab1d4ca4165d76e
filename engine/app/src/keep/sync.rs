//! The catalog from what storages have: all of it after a loss (`catalog rebuild`), and what other nodes put there
//! (`catalog sync`, and by itself beside the gateway).
//!
//! A recording of this node that the catalog knows is left to its own pipeline; a tombstone stays one. Recordings of other
//! nodes are read only: one without a manifest may still be written by its node, and nobody but that node ever closes it.

use std::collections::BTreeSet;

use bytes::Bytes;
use deskreel_sdk::{ErrorKind, Key};
use serde::Serialize;
use time::{Duration, OffsetDateTime};
use tokio::runtime::Handle;
use uuid::Uuid;

use super::look::{self, Trust};
use super::objects::{Group, Met, Name, walk};
use super::{Opened, hold};
use crate::catalog::{Catalog, Found, Imported, Object, SessionRow, State};
use crate::host::StorageHandle;

/// A larger manifest is none of ours.
const MANIFEST_MAX_BYTES: u64 = 256 << 20;
/// A recording without a manifest to which nothing came for so long does not run any more: its node crashed.
const OPEN_MAX: Duration = Duration::hours(48);
/// A look at what is new goes back so far, by the start of sessions.
const WINDOW: Duration = Duration::days(3);
/// Problems that are told one by one.
const PROBLEMS_MAX: usize = 20;

/// How much of a storage is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Everything; what is gone is noticed, too.
    All,
    /// Sessions that started in the last days, and older ones that were open at the last look.
    Recent,
}

/// What a look at one storage brought.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Synced {
    /// The storage.
    pub(crate) storage: String,
    /// Recordings that were seen there.
    pub(crate) recordings: u64,
    /// Objects of theirs.
    pub(crate) objects: u64,
    /// Recordings that are new to the catalog.
    pub(crate) added: u64,
    /// Recordings of which the catalog knows more than before.
    pub(crate) updated: u64,
    /// Recordings of other nodes that are not there any more.
    pub(crate) gone: u64,
    /// Recordings without a manifest: they run, or their node crashed.
    pub(crate) open: u64,
    /// Recordings that nobody signed who is trusted.
    pub(crate) unproven: u64,
    /// Recordings that the catalog knows as deleted and of which something is still there.
    pub(crate) leftover: u64,
    /// What could not be read.
    pub(crate) problems: Vec<String>,
}

/// What a look works with.
pub(crate) struct Syncer<'a> {
    /// To ask the storages with.
    pub(crate) handle: &'a Handle,
    /// The catalog, open for changes.
    pub(crate) catalog: &'a Catalog,
    /// Whose signatures count.
    pub(crate) trust: &'a Trust,
    /// The catalog was lost: recordings of this node's key without a manifest are its own, to be closed at the next start.
    pub(crate) rebuild: bool,
    /// Now.
    pub(crate) now: OffsetDateTime,
}

impl Syncer<'_> {
    /// Looks through one storage. `meanwhile` is called after every recording.
    ///
    /// # Errors
    /// A storage that can't be opened or listed, the catalog.
    pub(crate) fn sync(
        &self,
        opened: &Opened,
        scope: Scope,
        meanwhile: &mut dyn FnMut(&Synced),
    ) -> anyhow::Result<Synced> {
        let outcome = self.look_through(opened, scope, meanwhile);
        let problem = outcome.as_ref().err().map(|error| format!("{error:#}"));
        self.catalog.synced(&opened.name, self.now, problem.as_deref())?;
        outcome
    }

    fn look_through(
        &self,
        opened: &Opened,
        scope: Scope,
        meanwhile: &mut dyn FnMut(&Synced),
    ) -> anyhow::Result<Synced> {
        let storage = opened
            .storage
            .as_ref()
            .map_err(|error| anyhow::anyhow!(error.clone()))?;
        // Before the walk: what is added during it can't be missing from it.
        let known = self.catalog.foreign_at(&opened.name)?;
        let after = match scope {
            Scope::All => None,
            Scope::Recent => recent(self.now, &known),
        };
        let mut synced = Synced {
            storage: opened.name.clone(),
            ..Synced::default()
        };
        let mut seen = BTreeSet::new();
        walk(self.handle, storage, after, |met| {
            let Met::Recording(group) = met else { return Ok(true) };
            seen.insert(group.recording);
            synced.recordings += 1;
            synced.objects += group.objects.len() as u64;
            self.group(storage, opened.required, &group, &mut synced)?;
            meanwhile(&synced);
            Ok(true)
        })?;
        if scope == Scope::All {
            for row in known.iter().filter(|row| !seen.contains(&row.id)) {
                self.gone(row, &opened.name)?;
                synced.gone += 1;
            }
        }
        Ok(synced)
    }

    fn group(&self, storage: &StorageHandle, required: bool, group: &Group, synced: &mut Synced) -> anyhow::Result<()> {
        let row = self.catalog.find(group.recording)?;
        let changed = match &row {
            Some(row) if row.state == State::Deleted => {
                synced.leftover += 1;
                return Ok(());
            }
            Some(row) if row.state == State::NotRecorded => return Ok(()),
            // Its pipeline is at work, or will be at the next start.
            Some(row) if row.node.is_none() && matches!(row.state, State::Recording | State::Delivering) => {
                return Ok(());
            }
            Some(row) if row.node.is_none() || row.manifest_sha256.is_some() && !self.trust.knows_better(row) => {
                self.touch(storage, required, group)?
            }
            row => match self.read(storage, group, row.as_ref(), synced)? {
                Some(imported) => {
                    synced.unproven += u64::from(imported.unproven);
                    self.import(storage, required, group, &imported)?
                }
                None => self.touch(storage, required, group)?,
            },
        };
        if row.is_none() {
            synced.added += u64::from(changed);
        } else {
            synced.updated += u64::from(changed);
        }
        let held = row.as_ref().is_some_and(|row| row.hold.is_some());
        if group.objects.contains_key(&Name::Hold) && !held {
            let mark = hold::read(self.handle, storage, group.recording, self.now);
            self.catalog.hold(group.recording, &mark.reason, &mark.by, mark.at)?;
        }
        Ok(())
    }

    fn import(
        &self,
        storage: &StorageHandle,
        required: bool,
        group: &Group,
        imported: &Imported,
    ) -> anyhow::Result<bool> {
        let objects = group.listed();
        Ok(self.catalog.import(imported, self.found(storage, required, &objects))?)
    }

    fn found<'b>(&self, storage: &'b StorageHandle, required: bool, objects: &'b [Object]) -> Found<'b> {
        Found {
            storage: &storage.name,
            required,
            objects,
            at: self.now,
        }
    }

    /// Notes what the storage has of a recording that the catalog knows. Only what is as large as it should be.
    fn touch(&self, storage: &StorageHandle, required: bool, group: &Group) -> anyhow::Result<bool> {
        let listed = group.listed();
        let before = self.catalog.stored_at(group.recording, &storage.name)?;
        if before >= listed.len() as u64 {
            return Ok(false);
        }
        let segments = self.catalog.segments(group.recording)?;
        let fits = |object: &Object| match object {
            Object::Manifest => true,
            // Of one without a manifest no sizes are known.
            Object::Segment(_) if segments.is_empty() => true,
            Object::Segment(number) => {
                let here = group.objects.get(&Name::Segment(*number)).map(|object| object.size);
                segments
                    .iter()
                    .any(|segment| segment.number == *number && Some(segment.bytes) == here)
            }
        };
        let objects: Vec<Object> = listed.into_iter().filter(fits).collect();
        self.catalog
            .found(group.recording, self.found(storage, required, &objects))?;
        Ok(self.catalog.stored_at(group.recording, &storage.name)? > before)
    }

    /// What the objects of a recording say that is new; `None`: nothing.
    fn read(
        &self,
        storage: &StorageHandle,
        group: &Group,
        row: Option<&SessionRow>,
        synced: &mut Synced,
    ) -> anyhow::Result<Option<Imported>> {
        let id = group.recording;
        let mut problem = |what: &str, error: &str| {
            if synced.problems.len() < PROBLEMS_MAX {
                synced.problems.push(format!("{what} of recording {id}: {error}"));
            }
        };
        let mut bad = None;
        if let Some(manifest) = group.objects.get(&Name::Manifest) {
            let read = match manifest.size {
                size if size > MANIFEST_MAX_BYTES => Err(format!("{size} bytes are too many")),
                _ => match self.get(storage, &manifest.key)? {
                    Some(bytes) => look::closed(id, &bytes, self.trust),
                    None => return Ok(None),
                },
            };
            match read {
                Ok(imported) => return Ok(Some(lacking(imported, group, &storage.name))),
                Err(error) => {
                    problem("the manifest", &error);
                    bad = Some(format!("the manifest at storage {} is damaged: {error}", storage.name));
                }
            }
        }
        synced.open += u64::from(bad.is_none());
        let bad = bad.or_else(|| self.crashed(group));
        if row.is_some_and(|row| bad.is_none() || row.state == State::Damaged) {
            return Ok(None);
        }
        let first = match group.objects.get(&Name::Segment(0)) {
            Some(first) => self.get(storage, &first.key)?,
            None => None,
        };
        let read = look::open(id, first, self.trust).or_else(|error| {
            problem("segment 0", &error);
            look::open(id, None, self.trust)
        });
        let Ok(mut imported) = read else { return Ok(None) };
        if imported.node.is_none() && !self.rebuild {
            imported = look::not_ours(imported, self.trust.own.as_ref());
        }
        imported.note = Some(match &imported.node {
            None => format!(
                "no manifest at storage {}: the next start of the gateway closes it",
                storage.name
            ),
            Some(node) => format!("no manifest yet: it runs on node {node}, or that node crashed"),
        });
        Ok(Some(match bad {
            // Of this node's own, recovery says what is wrong.
            Some(problem) if imported.node.is_some() => look::damaged(imported, problem),
            _ => imported,
        }))
    }

    /// That an open recording does not run any more, if so.
    fn crashed(&self, group: &Group) -> Option<String> {
        let youngest = OffsetDateTime::from_unix_timestamp(i64::try_from(group.youngest_ms()? / 1000).ok()?).ok()?;
        (self.now - youngest > OPEN_MAX).then(|| {
            format!(
                "it has no manifest and nothing came since {}: its node crashed",
                crate::output::utc(youngest)
            )
        })
    }

    /// An object; `None` when it is gone by now.
    fn get(&self, storage: &StorageHandle, key: &Key) -> anyhow::Result<Option<Bytes>> {
        match self.handle.block_on(storage.get(key)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A recording of another node is not at a storage any more where it was.
    fn gone(&self, row: &SessionRow, storage: &str) -> anyhow::Result<()> {
        self.catalog.deleted_from(row.id, storage)?;
        let left = self.catalog.placements(row.id)?;
        if left.iter().any(|placed| placed.stored.is_some()) {
            return Ok(());
        }
        if row.hold.is_some() {
            self.catalog
                .damaged(row.id, "it is held, but no storage has it any more")?;
        } else {
            self.catalog.forget(row.id)?;
        }
        Ok(())
    }
}

/// The key behind which everything is that a look at what is new has to see.
fn recent(now: OffsetDateTime, known: &[SessionRow]) -> Option<Key> {
    let open = known
        .iter()
        .filter(|row| row.state == State::Recording)
        .map(|row| row.id);
    let ms = u64::try_from((now - WINDOW).unix_timestamp()).unwrap_or(0) * 1000;
    // The time in UUIDv7s, as their text begins.
    let window = format!("{:08x}-{:04x}", ms >> 16, ms & 0xffff);
    let oldest = open.min().map(|id: Uuid| before(id)).filter(|oldest| *oldest < window);
    Key::new(oldest.unwrap_or(window)).ok()
}

/// A key before all keys of a recording.
fn before(id: Uuid) -> String {
    // The text without its end stands before all that begin with the whole.
    let text = id.to_string();
    text.get(..text.len() - 1).unwrap_or_default().to_owned()
}

/// A closed recording of which something is not there, or not as large as it should be.
fn lacking(mut imported: Imported, group: &Group, storage: &str) -> Imported {
    let wrong = imported.segments.iter().filter(|segment| {
        let here = group.objects.get(&Name::Segment(segment.number));
        here.is_none_or(|object| object.size != segment.bytes)
    });
    let numbers: Vec<String> = wrong.map(|segment| segment.number.to_string()).collect();
    if let (Some(closed), false) = (&mut imported.closed, numbers.is_empty()) {
        let (first, more) = (numbers.iter().take(10), numbers.len().saturating_sub(10));
        let first: Vec<&str> = first.map(String::as_str).collect();
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        closed.state = State::Damaged;
        closed.problem = Some(format!(
            "not at storage {storage}, or not as large as the manifest says: segment {}{more}",
            first.join(", ")
        ));
    }
    imported
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_look_at_what_is_new_sees_all_that_is_open() {
        let now = OffsetDateTime::now_utc();
        let at = |ago: Duration| {
            let seconds = u64::try_from((now - ago).unix_timestamp()).unwrap();
            Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0))
        };
        let (young, edge, old) = (
            at(Duration::hours(1)),
            at(WINDOW - Duration::seconds(2)),
            at(Duration::days(30)),
        );
        let behind = |known: &[SessionRow], id: Uuid| format!("{id}/") > recent(now, known).unwrap().to_string();
        assert!(behind(&[], young) && behind(&[], edge) && !behind(&[], old));
        let open = SessionRow {
            state: State::Recording,
            ..SessionRow::unlisted(old)
        };
        assert!(
            behind(std::slice::from_ref(&open), old),
            "an open recording is looked at however old it is"
        );
        let closed = SessionRow::unlisted(old);
        assert!(!behind(&[closed], old));
    }
}
