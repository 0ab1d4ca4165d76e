//! Finding what there is of a recording: in the spool, at the storages, in the catalog.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use deskreel_recording::recover::{Closing, reseal};
use deskreel_recording::{Segment, SegmentHeader};
use uuid::Uuid;

use super::Recovery;
use crate::catalog::Object;
use crate::pipeline::courier::key;
use crate::pipeline::delivery::ObjectId;
use crate::pipeline::steps;

/// So long a storage that did not answer is not asked again.
const SILENT_FOR: Duration = Duration::from_secs(20);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An object that was found, and where.
pub(super) struct Piece {
    pub(super) bytes: Bytes,
    pub(super) in_spool: bool,
    /// Storages that were seen to have it.
    pub(super) at: BTreeSet<usize>,
}

/// Where pieces may be.
pub(super) struct Pieces {
    /// The keys that each storage lists.
    pub(super) listed: Vec<BTreeSet<String>>,
    /// What the catalog knows to be stored.
    pub(super) stored: BTreeSet<(Object, usize)>,
}

impl Recovery {
    /// The keys that each storage lists for the recording.
    pub(super) async fn listed(&self, recording: Uuid) -> anyhow::Result<Vec<BTreeSet<String>>> {
        let mut listed = Vec::new();
        for (index, storage) in self.means.storages.iter().enumerate() {
            let silent = |since: Instant| since.elapsed() < SILENT_FOR;
            if lock(&self.silent).get(&index).is_some_and(|since| silent(*since)) {
                anyhow::bail!("storage {} did not answer a moment ago", storage.name());
            }
            match storage.list(format!("{recording}/")).await {
                Ok(keys) => listed.push(keys.into_iter().collect()),
                Err(error) if !storage.required() => {
                    tracing::warn!(storage = storage.name(), %error, "recovering without this storage");
                    listed.push(BTreeSet::new());
                }
                Err(error) => {
                    lock(&self.silent).insert(index, Instant::now());
                    let what = format!("list recording {recording} at storage {}", storage.name());
                    return Err(error).context(what);
                }
            }
        }
        Ok(listed)
    }

    /// What the catalog knows to be stored.
    pub(super) async fn stored(&self, recording: Uuid) -> anyhow::Result<BTreeSet<(Object, usize)>> {
        let placements = self.placements(recording).await?;
        let stored = placements.into_iter().filter(|placement| placement.stored.is_some());
        Ok(stored
            .filter_map(|placement| {
                let storage = self
                    .targets
                    .iter()
                    .position(|target| target.name == placement.storage)?;
                Some((placement.object, storage))
            })
            .collect())
    }

    /// An object from the spool, else from the first storage that has it.
    pub(super) async fn piece(&self, id: ObjectId, pieces: &Pieces) -> anyhow::Result<Option<Piece>> {
        let Pieces { listed, stored } = pieces;
        let mut at: BTreeSet<usize> = (0..listed.len())
            .filter(|storage| stored.contains(&(id.object, *storage)))
            .collect();
        let spool = Arc::clone(&self.means.spool);
        match tokio::task::spawn_blocking(move || spool.read(id)).await? {
            Ok(bytes) => {
                return Ok(Some(Piece {
                    bytes,
                    in_spool: true,
                    at,
                }));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).with_context(|| format!("read {} of {} in the spool", id.object, id.recording));
            }
        }
        let key = key(id);
        for (index, keys) in listed.iter().enumerate() {
            if !keys.contains(&key) {
                continue;
            }
            let storage = &self.means.storages[index];
            let bytes = storage.get(key.clone()).await;
            let bytes = bytes.with_context(|| format!("read {key} at storage {}", storage.name()))?;
            at.insert(index);
            return Ok(Some(Piece {
                bytes,
                in_spool: false,
                at,
            }));
        }
        Ok(None)
    }

    /// The open segment, sealed up to its last whole event.
    pub(super) async fn reseal(
        &self,
        id: ObjectId,
        number: u32,
        closing: &Closing,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<Option<Piece>> {
        let spool = Arc::clone(&self.means.spool);
        let recording = id.recording;
        let open = match tokio::task::spawn_blocking(move || spool.read_open(recording, number)).await? {
            Ok(open) => open,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read the open segment of {recording}")),
        };
        // The crash may have come after the seal was written and before the segment got its name.
        let whole = Segment::open(open.clone())
            .ok()
            .filter(|segment| segment.seal().is_some());
        let sealed = if open.is_empty() {
            Ok(None)
        } else if whole.is_some() {
            Ok(Some(open))
        } else {
            reseal(
                open,
                SegmentHeader { recording, number },
                closing.last_seal(),
                &self.key,
            )
            .map(|sealed| sealed.map(|sealed| sealed.bytes))
        };
        let spool = Arc::clone(&self.means.spool);
        let store = move || -> anyhow::Result<(Option<Bytes>, Option<String>)> {
            match sealed {
                Ok(Some(bytes)) => {
                    spool.write(id, &bytes)?;
                    steps::reached("recovery: sealed");
                    spool.remove_open(recording, number)?;
                    Ok((Some(bytes), None))
                }
                Ok(None) => {
                    spool.remove_open(recording, number)?;
                    Ok((None, None))
                }
                Err(error) => {
                    let aside = spool.set_aside(recording, number)?;
                    Ok((
                        None,
                        Some(format!(
                            "the open {} is unreadable ({error}); kept as {}",
                            id.object,
                            aside.display()
                        )),
                    ))
                }
            }
        };
        let (bytes, problem) = tokio::task::spawn_blocking(store)
            .await?
            .with_context(|| format!("close the open segment of {recording}"))?;
        problems.extend(problem);
        Ok(bytes.map(|bytes| Piece {
            bytes,
            in_spool: true,
            at: BTreeSet::new(),
        }))
    }

    /// Segments after the last one that follows on: number `numbers` is not there, or doesn't fit.
    pub(super) async fn strays(
        &self,
        recording: Uuid,
        numbers: u32,
        listed: &[BTreeSet<String>],
    ) -> anyhow::Result<BTreeSet<u32>> {
        let spool = Arc::clone(&self.means.spool);
        let found = tokio::task::spawn_blocking(move || spool.look(recording))
            .await?
            .context("read the spool")?;
        let in_spool = found.sealed.iter().filter_map(|(object, _)| match object {
            Object::Segment(number) => Some(*number),
            Object::Manifest => None,
        });
        let at_storages = listed.iter().flatten().filter_map(|key| {
            let name = key.rsplit('/').next()?;
            name.strip_suffix(".mcap")?.parse::<u32>().ok()
        });
        Ok(in_spool
            .chain(found.open.iter().copied())
            .chain(at_storages)
            .filter(|number| *number > numbers)
            .collect())
    }

    /// Segments that the catalog knows to have been sealed, and that are nowhere. Number `numbers` may be there and not
    /// fit (`whole` is false then).
    pub(super) async fn lost(
        &self,
        recording: Uuid,
        numbers: u32,
        stray: &BTreeSet<u32>,
        whole: bool,
    ) -> anyhow::Result<Vec<u32>> {
        let catalog = Arc::clone(&self.means.catalog);
        let known = tokio::task::spawn_blocking(move || catalog.segments(recording)).await??;
        let lost = known.into_iter().map(|segment| segment.number);
        Ok(lost
            .filter(|number| *number >= numbers + u32::from(!whole) && !stray.contains(number))
            .collect())
    }
}
