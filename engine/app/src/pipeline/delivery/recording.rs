//! What the machine knows of one recording.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Held, Live, Time};
use crate::catalog::Object;

/// An object that some storage still lacks, or whose copy has to stay.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) size: u64,
    pub(super) held: Held,
    pub(super) live: Live,
    pub(super) arrival: u64,
    /// Storages that don't have it and may still get it.
    pub(super) lacks: Vec<Lack>,
    /// A required storage refused it: the copy is evidence and stays in the spool.
    pub(super) keep: bool,
}

/// A storage that lacks an object.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lack {
    pub(super) storage: usize,
    /// Failed puts.
    pub(super) failures: u32,
    pub(super) stage: Stage,
}

/// How far an object is on its way to one storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It isn't its turn: something goes before it.
    Later,
    /// It is in the queue, or under way.
    Queued,
    /// It failed and goes again then.
    Resting(Time),
}

/// The recording as one storage has it.
#[derive(Debug)]
pub(super) struct At {
    /// Segments that it doesn't have, refused ones included: they hold the manifest back.
    pub(super) segments_missing: usize,
    /// What its session waits for; only the first is on its way.
    pub(super) live: BTreeSet<Object>,
    /// When it is a stall if nothing of `live` is stored until then.
    pub(super) stalls_at: Option<Time>,
    /// It will never have all segments, and so never gets the manifest.
    pub(super) lost: bool,
}

/// A recording.
#[derive(Debug)]
pub(super) struct Recording {
    pub(super) objects: BTreeMap<Object, Entry>,
    pub(super) at: Vec<At>,
    pub(super) stalled: bool,
    pub(super) complete: bool,
}

impl Recording {
    pub(super) fn new(storages: usize) -> Self {
        let at = || At {
            segments_missing: 0,
            live: BTreeSet::new(),
            stalls_at: None,
            lost: false,
        };
        Self {
            objects: BTreeMap::new(),
            at: std::iter::repeat_with(at).take(storages).collect(),
            stalled: false,
            complete: false,
        }
    }

    pub(super) fn lack(&mut self, object: Object, storage: usize) -> Option<&mut Lack> {
        let entry = self.objects.get_mut(&object)?;
        entry.lacks.iter_mut().find(|lack| lack.storage == storage)
    }

    /// The storage no longer lacks it. False when it didn't.
    pub(super) fn filled(&mut self, object: Object, storage: usize) -> bool {
        let Some(entry) = self.objects.get_mut(&object) else {
            return false;
        };
        let before = entry.lacks.len();
        entry.lacks.retain(|lack| lack.storage != storage);
        self.at[storage].live.remove(&object);
        entry.lacks.len() < before
    }

    /// Whether it is the object's turn at a storage.
    pub(super) fn in_turn(&self, object: Object, storage: usize) -> bool {
        let at = &self.at[storage];
        let segments_first = object == Object::Manifest && at.segments_missing > 0;
        let live_row = at.live.contains(&object) && at.live.first() != Some(&object);
        !segments_first && !live_row
    }
}
