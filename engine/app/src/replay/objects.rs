//! The objects of one recording, read back whole from the nearest place that has them so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::bail;
use bytes::Bytes;
use deskreel_recording::{Manifest, Segment, sha256};
use uuid::Uuid;

use super::library::Shelf;
use super::source::{MANIFEST, segment_name, segment_number};
use crate::catalog::{Catalog, Object};

/// How long a place may take while others have not been asked yet; it gets all the time that it needs when they have.
const PATIENCE: Duration = Duration::from_secs(5);
/// Segments that are read before they are asked for, once two were asked for in a row.
const AHEAD: usize = 2;
/// Bytes of segments that are kept for the next question, beside those that are being read.
const CACHE_MAX_BYTES: u64 = 32 << 20;
/// Segments that are kept for the next question.
const CACHE_MAX: usize = 8;

/// What is known of a recording's digests, hexadecimal.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    pub(super) segments: BTreeMap<u32, String>,
    pub(super) manifest: Option<String>,
}

impl Known {
    /// What the catalog has noted when they were sealed.
    ///
    /// # Errors
    /// The catalog's.
    pub(crate) fn from_catalog(catalog: &Catalog, recording: Uuid) -> Result<Self, crate::catalog::Error> {
        let segments = catalog.segments(recording)?.into_iter();
        Ok(Self {
            segments: segments.map(|row| (row.number, row.sha256)).collect(),
            manifest: catalog.sha256(recording, Object::Manifest)?,
        })
    }
}

/// What came of looking for an object.
#[derive(Debug, Clone)]
pub(super) enum Found {
    /// As it was written.
    Whole(Bytes),
    /// No place has it whole; the first that has it at all has this. The log says what is wrong with it.
    Damaged(Bytes),
}

impl Found {
    /// The bytes, whatever they are worth.
    pub(super) fn bytes(self) -> Bytes {
        match self {
            Self::Whole(bytes) | Self::Damaged(bytes) => bytes,
        }
    }
}

/// A segment that was read, or is being read by whoever holds the lock.
struct Slot {
    number: u32,
    whole: tokio::sync::Mutex<Option<Bytes>>,
    bytes: AtomicU64,
}

#[derive(Default)]
struct Cache {
    slots: VecDeque<Arc<Slot>>,
    last: Option<u32>,
}

impl Cache {
    /// A segment's slot, and whether it is new.
    fn slot(&mut self, number: u32) -> (Arc<Slot>, bool) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.number == number) {
            return (Arc::clone(slot), false);
        }
        let slot = Arc::new(Slot {
            number,
            whole: tokio::sync::Mutex::new(None),
            bytes: AtomicU64::new(0),
        });
        self.slots.push_back(Arc::clone(&slot));
        (slot, true)
    }
}

/// The objects of one recording. Reading is shared: several readers of one segment read it once.
pub(crate) struct Objects {
    recording: Uuid,
    shelves: Vec<Arc<Shelf>>,
    known: Mutex<Known>,
    cache: Mutex<Cache>,
}

impl Objects {
    pub(super) fn new(recording: Uuid, shelves: Vec<Arc<Shelf>>, known: Known) -> Self {
        Self {
            recording,
            shelves,
            known: Mutex::new(known),
            cache: Mutex::default(),
        }
    }

    /// The recording's id.
    pub(crate) fn recording(&self) -> Uuid {
        self.recording
    }

    /// More is known of the digests now.
    pub(crate) fn learn(&self, more: Known) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.segments.extend(more.segments);
        known.manifest = more.manifest.or(known.manifest.take());
    }

    /// A part of another object of the recording, such as `exports/session.mp4`, from the nearest place that has it. No
    /// digest covers it.
    ///
    /// # Errors
    /// Places that could not be read, when no other has it.
    pub(crate) async fn file_range(&self, name: &str, range: Range<u64>) -> anyhow::Result<Option<Bytes>> {
        let mut failed = Vec::new();
        for shelf in self.nearest_first() {
            match shelf.get_range(self.recording, name, range.clone()).await {
                Ok(Some(bytes)) => return Ok(Some(bytes)),
                Ok(None) => {}
                Err(error) => failed.push(format!("{}: {error}", shelf.name())),
            }
        }
        if failed.is_empty() {
            return Ok(None);
        }
        bail!("read {name} of {}: {}", self.recording, failed.join("; "))
    }

    /// The numbers of the segments that are there.
    ///
    /// # Errors
    /// No place that can be listed.
    pub(crate) async fn segments(&self) -> anyhow::Result<BTreeSet<u32>> {
        let mut numbers = BTreeSet::new();
        let mut failed = Vec::new();
        for shelf in &self.shelves {
            match shelf.names(self.recording).await {
                Ok(names) => numbers.extend(names.iter().filter_map(|name| segment_number(name))),
                Err(error) => failed.push(format!("{}: {error:#}", shelf.name())),
            }
        }
        if numbers.is_empty() && !failed.is_empty() {
            bail!("list the segments of {}: {}", self.recording, failed.join("; "));
        }
        Ok(numbers)
    }

    /// The names of what exporters have stored beside the recording, such as `exports/session.mp4`. A place that can't be
    /// listed is left out as long as another can.
    ///
    /// # Errors
    /// No place that can be listed.
    pub(crate) async fn exports(&self) -> anyhow::Result<BTreeSet<String>> {
        let (mut names, mut listed, mut failed) = (BTreeSet::new(), false, Vec::new());
        for shelf in &self.shelves {
            match shelf.names(self.recording).await {
                Ok(found) => {
                    listed = true;
                    names.extend(found.into_iter().filter(|name| name.starts_with("exports/")));
                }
                Err(error) => failed.push(format!("{}: {error:#}", shelf.name())),
            }
        }
        if !listed && !failed.is_empty() {
            bail!("list the exports of {}: {}", self.recording, failed.join("; "));
        }
        Ok(names)
    }

    /// The manifest; `None` when there is none yet.
    ///
    /// # Errors
    /// Places that could not be read, when no other has it.
    pub(super) async fn find_manifest(&self) -> anyhow::Result<Option<Found>> {
        let found = self.find(Object::Manifest).await?;
        if let Some(Found::Whole(bytes)) = &found
            && let Ok(manifest) = Manifest::parse(bytes)
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            for (number, entry) in (0..).zip(&manifest.body().segments) {
                let number = entry.seal().map_or(number, |seal| seal.body().number);
                known.segments.entry(number).or_insert_with(|| entry.sha256.clone());
            }
        }
        Ok(found)
    }

    /// A segment, its digest checked; `None` when no place has it. Segments that follow are read ahead when they are
    /// asked for in a row.
    ///
    /// # Errors
    /// As [`Objects::find_manifest`].
    pub(super) async fn find_segment(self: &Arc<Self>, number: u32) -> anyhow::Result<Option<Found>> {
        let (slot, ahead) = self.slots(number);
        for slot in ahead {
            let this = Arc::clone(self);
            // What goes wrong is told to whoever asks for it.
            tokio::spawn(async move { drop(this.load(&slot).await) });
        }
        let found = self.load(&slot).await;
        self.trim();
        found
    }

    /// The place of a segment in the cache, and of those to read ahead.
    fn slots(&self, number: u32) -> (Arc<Slot>, Vec<Arc<Slot>>) {
        let last = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.segments.last_key_value().map_or(0, |(number, _)| *number)
        };
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let in_a_row = cache.last.is_some_and(|last| last.checked_add(1) == Some(number));
        cache.last = Some(number);
        let (slot, _) = cache.slot(number);
        let mut ahead = Vec::new();
        if in_a_row {
            for next in (number..=last).skip(1).take(AHEAD) {
                let (slot, new) = cache.slot(next);
                ahead.extend(new.then_some(slot));
            }
        }
        (slot, ahead)
    }

    /// Reads a segment unless somebody has, or is about to. What is damaged is looked for anew each time.
    async fn load(&self, slot: &Slot) -> anyhow::Result<Option<Found>> {
        let mut loaded = slot.whole.lock().await;
        if let Some(bytes) = &*loaded {
            return Ok(Some(Found::Whole(bytes.clone())));
        }
        let found = self.find(Object::Segment(slot.number)).await?;
        if let Some(Found::Whole(bytes)) = &found {
            slot.bytes.store(bytes.len() as u64, Ordering::Relaxed);
            *loaded = Some(bytes.clone());
        }
        Ok(found)
    }

    /// Drops the oldest of what was read.
    fn trim(&self) {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let size = |cache: &Cache| {
            cache
                .slots
                .iter()
                .map(|slot| slot.bytes.load(Ordering::Relaxed))
                .sum::<u64>()
        };
        while cache.slots.len() > CACHE_MAX || (cache.slots.len() > 1 && size(&cache) > CACHE_MAX_BYTES) {
            cache.slots.pop_front();
        }
    }

    fn nearest_first(&self) -> Vec<Arc<Shelf>> {
        let mut shelves = self.shelves.clone();
        shelves.sort_by_key(|shelf| shelf.rank());
        shelves
    }

    /// An object from the nearest place that has it whole.
    async fn find(&self, object: Object) -> anyhow::Result<Option<Found>> {
        let name = match object {
            Object::Segment(number) => segment_name(number),
            Object::Manifest => MANIFEST.to_owned(),
        };
        let (mut failed, mut damaged, mut slow) = (Vec::new(), None, Vec::new());
        let shelves = self.nearest_first();
        let last = shelves.len().saturating_sub(1);
        for (index, shelf) in shelves.iter().enumerate() {
            let get = shelf.get(self.recording, &name);
            let found = if shelf.is_far() && index < last {
                match tokio::time::timeout(PATIENCE, get).await {
                    Ok(found) => found,
                    Err(_) => {
                        shelf.failed();
                        slow.push(Arc::clone(shelf));
                        continue;
                    }
                }
            } else {
                get.await
            };
            if let Some(whole) = self.judge(object, shelf, found, &mut damaged, &mut failed) {
                return Ok(Some(Found::Whole(whole)));
            }
        }
        for shelf in slow {
            let found = shelf.get(self.recording, &name).await;
            if let Some(whole) = self.judge(object, &shelf, found, &mut damaged, &mut failed) {
                return Ok(Some(Found::Whole(whole)));
            }
        }
        match damaged {
            Some(bytes) => Ok(Some(Found::Damaged(bytes))),
            None if failed.is_empty() => Ok(None),
            None => bail!("read {}/{name}: {}", self.recording, failed.join("; ")),
        }
    }

    fn judge(
        &self,
        object: Object,
        shelf: &Shelf,
        found: Result<Option<Bytes>, String>,
        damaged: &mut Option<Bytes>,
        failed: &mut Vec<String>,
    ) -> Option<Bytes> {
        match found {
            Ok(Some(bytes)) => match self.check(object, &bytes) {
                Ok(()) => return Some(bytes),
                Err(error) => {
                    let problem = format!(
                        "{object} of {} at {} is damaged: {error:#}",
                        self.recording,
                        shelf.name()
                    );
                    tracing::warn!(problem, "asking elsewhere");
                    damaged.get_or_insert(bytes);
                }
            },
            Ok(None) => {}
            Err(error) => failed.push(format!("{}: {error}", shelf.name())),
        }
        None
    }

    /// Whether an object is what was written: by its digest where that is known, else by what it says of itself.
    fn check(&self, object: Object, bytes: &Bytes) -> anyhow::Result<()> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let digest = match object {
            Object::Segment(number) => known.segments.get(&number).cloned(),
            Object::Manifest => known.manifest.clone(),
        };
        drop(known);
        match (digest, object) {
            (Some(digest), _) => {
                let found = hex::encode(sha256(bytes));
                anyhow::ensure!(found == digest, "its SHA-256 is {found}, {digest} was written");
            }
            (None, Object::Segment(number)) => {
                let segment = Segment::open(bytes.clone())?;
                let header = segment.header();
                let own = (header.recording, header.number) == (self.recording, number);
                anyhow::ensure!(
                    own,
                    "it says that it is segment {} of {}",
                    header.number,
                    header.recording
                );
            }
            (None, Object::Manifest) => {
                let manifest = Manifest::parse(bytes)?;
                let of = manifest.body().recording;
                anyhow::ensure!(of == self.recording, "it is of recording {of}");
                for entry in &manifest.body().segments {
                    entry.seal()?;
                }
            }
        }
        Ok(())
    }
}

/// A part of some bytes; what lies past their end is left out.
pub(super) fn slice(whole: &Bytes, range: &Range<u64>) -> Bytes {
    let at = |place: u64| usize::try_from(place).unwrap_or(usize::MAX).min(whole.len());
    whole.slice(at(range.start).min(at(range.end))..at(range.end))
}
