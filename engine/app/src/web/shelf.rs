//! What was read of recordings and may be asked for again: within limits, and only in memory.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use axum::body::Bytes;
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::replay::{Source, Summary};

/// Recordings whose segments' summaries are kept.
const RECORDINGS_MAX: usize = 16;
/// Posters that are kept, about 20 kB each.
const POSTERS_MAX: usize = 1000;
/// Requests that may decode, verify or scan at once: the rest of the machine is for sessions.
const WORKERS_MAX: usize = 2;

/// Segments that may be read for players at once: each is in memory until it is sent.
const READERS_MAX: usize = 32;

/// The segments of one recording that were read.
type Summaries = BTreeMap<u32, Arc<Summary>>;

/// See the module.
pub(super) struct Shelf {
    summaries: Mutex<Kept<Uuid, Summaries>>,
    posters: Mutex<Kept<Uuid, Bytes>>,
    /// Whoever decodes, verifies or scans holds one.
    pub(super) workers: Semaphore,
    /// Whoever reads a segment for a player holds one.
    pub(super) readers: Semaphore,
}

impl Default for Shelf {
    fn default() -> Self {
        Self {
            summaries: Mutex::new(Kept::new(RECORDINGS_MAX)),
            posters: Mutex::new(Kept::new(POSTERS_MAX)),
            workers: Semaphore::new(WORKERS_MAX),
            readers: Semaphore::new(READERS_MAX),
        }
    }
}

impl Shelf {
    /// The summary of a sealed segment; `None` where it is missing or damaged. Blocks.
    pub(super) fn summary(&self, source: &Source, number: u32) -> Option<Arc<Summary>> {
        let id = source.recording();
        if let Some(known) = with(&self.summaries, |kept| kept.get(&id)?.get(&number).cloned()) {
            return Some(known);
        }
        let segment = source.open_segment(number).ok()?;
        let summary = Arc::new(Summary::of(&segment).ok()?);
        with(&self.summaries, |kept| {
            kept.entry(id).insert(number, Arc::clone(&summary));
        });
        Some(summary)
    }

    pub(super) fn poster(&self, id: Uuid) -> Option<Bytes> {
        with(&self.posters, |kept| kept.get(&id).cloned())
    }

    pub(super) fn keep_poster(&self, id: Uuid, png: Bytes) {
        with(&self.posters, |kept| *kept.entry(id) = png);
    }
}

fn with<T, R>(lock: &Mutex<T>, work: impl FnOnce(&mut T) -> R) -> R {
    work(&mut lock.lock().unwrap_or_else(PoisonError::into_inner))
}

/// The last used of many.
pub(super) struct Kept<K, V> {
    max: usize,
    rows: HashMap<K, (Instant, V)>,
}

impl<K: Hash + Eq + Copy, V: Default> Kept<K, V> {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            rows: HashMap::new(),
        }
    }

    pub(super) fn get(&mut self, key: &K) -> Option<&V> {
        let (used, value) = self.rows.get_mut(key)?;
        *used = Instant::now();
        Some(value)
    }

    pub(super) fn entry(&mut self, key: K) -> &mut V {
        if !self.rows.contains_key(&key) && self.rows.len() >= self.max {
            let oldest = self.rows.iter().min_by_key(|(_, (used, _))| *used).map(|(key, _)| *key);
            if let Some(oldest) = oldest {
                self.rows.remove(&oldest);
            }
        }
        let (used, value) = self.rows.entry(key).or_insert_with(|| (Instant::now(), V::default()));
        *used = Instant::now();
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let mut kept: Kept<u8, u8> = Kept::new(2);
        *kept.entry(1) = 1;
        *kept.entry(2) = 2;
        assert_eq!(kept.get(&1), Some(&1));
        *kept.entry(3) = 3;
        let found = [1, 2, 3].map(|key| kept.get(&key).copied());
        assert_eq!(found, [Some(1), None, Some(3)]);
    }
}
