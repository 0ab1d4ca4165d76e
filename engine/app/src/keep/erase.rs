//! Deleting a recording from all storages, for good: by `recordings rm` or because its time is over.
//!
//! The catalog marks the recording first, in the statement that also looks for a hold; so a deletion that a storage refuses
//! (an object lock) or a crash interrupts is known and taken up again. The manifest goes last: segments without one look
//! like a session whose gateway died. What is left in the end is a tombstone in the catalog.

use std::path::Path;

use anyhow::{Context as _, bail};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::runtime::Handle;

use super::objects::{Name, of_recording};
use super::{Opened, hold};
use crate::catalog::{Catalog, SessionRow, State};
use crate::host::{StorageHandle, at_storage};

/// What became of the copy at one storage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Removed {
    /// The storage.
    pub(crate) storage: String,
    /// Objects that were deleted.
    pub(crate) objects: u64,
    /// Why something is left there.
    pub(crate) error: Option<String>,
}

/// For whom and why something is deleted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Warrant<'a> {
    /// Who, as the audit log names them.
    pub(crate) by: &'a str,
    /// Why.
    pub(crate) why: &'a str,
    /// When.
    pub(crate) now: OffsetDateTime,
}

/// What a deletion works with.
#[derive(Clone, Copy)]
pub(crate) struct Eraser<'a> {
    /// To ask the storages with.
    pub(crate) handle: &'a Handle,
    /// The catalog, open for changes.
    pub(crate) catalog: &'a Catalog,
    /// All configured storages.
    pub(crate) storages: &'a [Opened],
    /// The spool's folder.
    pub(crate) spool: &'a Path,
}

/// Why a recording can't be deleted now, whoever asks and whatever retention says.
pub(crate) fn untouchable(row: &SessionRow) -> Option<String> {
    let id = row.id;
    if let Some(hold) = &row.hold {
        return Some(format!("recording {id} is held: {hold}"));
    }
    match row.state {
        State::Recording if row.node.is_some() => Some(format!(
            "recording {id} of node {} has no manifest: it may still be written there",
            row.node.as_deref().unwrap_or_default()
        )),
        State::Recording => Some(format!("session {id} still runs: end it first")),
        State::Delivering => Some(format!(
            "recording {id} is being delivered: not every required storage has all of it yet"
        )),
        State::NotRecorded => Some(format!("session {id} was not recorded: there is nothing to delete")),
        State::Deleted => Some(format!("recording {id} is deleted already")),
        State::Complete | State::Recovered | State::Damaged => None,
    }
}

impl Eraser<'_> {
    /// Deletes a recording everywhere. What each storage did, and whether nothing is left.
    ///
    /// # Errors
    /// In the outer result: the catalog, or a hold that came in between; nothing was deleted then. In the inner one: what is
    /// left where; it is tried again.
    pub(crate) fn erase(
        &self,
        row: &SessionRow,
        warrant: Warrant<'_>,
    ) -> anyhow::Result<(Vec<Removed>, anyhow::Result<()>)> {
        if !self.catalog.doom(row.id, warrant.by, warrant.why, warrant.now)? {
            let now = self.catalog.session(&row.id.to_string())?;
            let why = untouchable(&now).unwrap_or_else(|| format!("recording {} can't be deleted now", row.id));
            bail!(why);
        }
        let removed = self.remove(row)?;
        let settled = self.settle(row, &removed, warrant);
        if let Err(error) = &settled {
            self.catalog.doom_problem(row.id, &format!("{error:#}"))?;
        }
        Ok((removed, settled))
    }

    /// A storage that refuses keeps none of the others from it.
    fn remove(&self, row: &SessionRow) -> anyhow::Result<Vec<Removed>> {
        let mut removed = Vec::new();
        for opened in self.storages {
            let mut here = Removed {
                storage: opened.name.clone(),
                objects: 0,
                error: None,
            };
            let done = match &opened.storage {
                Ok(storage) => self.empty(storage, row, &mut here.objects),
                Err(error) => Err(anyhow::anyhow!(error.clone())),
            };
            match done {
                Ok(()) => self.catalog.deleted_from(row.id, &opened.name)?,
                Err(error) => here.error = Some(format!("{error:#}")),
            }
            removed.push(here);
        }
        // Storages that are no longer configured.
        for placed in self.catalog.placements(row.id)? {
            let known = removed.iter().any(|removed| removed.storage == placed.storage);
            if !known && placed.stored.is_some() {
                removed.push(Removed {
                    storage: placed.storage,
                    objects: 0,
                    error: Some("is not configured any more: its copy stays".to_owned()),
                });
            }
        }
        Ok(removed)
    }

    fn empty(&self, storage: &StorageHandle, row: &SessionRow, objects: &mut u64) -> anyhow::Result<()> {
        let group = of_recording(self.handle, storage, row.id)?;
        if group.objects.contains_key(&Name::Hold) {
            // Another node's, which this one's catalog doesn't know of yet.
            let mark = hold::read(self.handle, storage, row.id, OffsetDateTime::now_utc());
            bail!("recording {} is held by {}: {}", row.id, mark.by, mark.reason);
        }
        for object in group.objects.values() {
            if !self.catalog.is_doomed(row.id)? {
                bail!("recording {} is held since its deletion began", row.id);
            }
            self.handle
                .block_on(storage.delete(&object.key))
                .with_context(|| format!("delete {}", object.key))?;
            *objects += 1;
        }
        Ok(())
    }

    /// Makes the row a tombstone once nothing is left anywhere.
    fn settle(&self, row: &SessionRow, removed: &[Removed], warrant: Warrant<'_>) -> anyhow::Result<()> {
        let left: Vec<String> = removed
            .iter()
            .filter_map(|removed| Some(at_storage(&removed.storage, removed.error.as_ref()?)))
            .collect();
        if !left.is_empty() {
            bail!(
                "recording {} is not deleted, a storage still has objects of it: {}",
                row.id,
                left.join("; ")
            );
        }
        let spooled = self.spool.join(row.id.to_string());
        match std::fs::remove_dir_all(&spooled) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", spooled.display()));
            }
            _ => {}
        }
        self.catalog.deleted(row.id, warrant.now, warrant.by, warrant.why)?;
        Ok(())
    }
}
