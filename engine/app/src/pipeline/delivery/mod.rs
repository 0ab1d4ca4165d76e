//! Delivery, the decisions: which object goes to which storage when, how long to wait after a failure, when a copy may
//! be dropped, when a recording is complete. Pure: no clock, no task, no storage; `courier` does what it says.
//!
//! Rules: objects of one recording may arrive out of order, but a storage gets the manifest only when it has every
//! segment. Objects of running sessions (live) go before the backlog, and to a sync storage one after the other, so that
//! a crash leaves a whole row there. One failure makes the storage wait (full jitter, doubling), and until it works
//! again it is tried with one object at a time.

mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use uuid::Uuid;

use super::storage::Remedy;
use crate::catalog::Object;
pub(crate) use rules::{Live, Rules};

/// Shortest wait after a failure.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest wait after a failure.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// After so many failed waits in a row, objects are no longer kept in the spool for a storage that isn't required.
const OPTIONAL_PATIENCE: u32 = 10;
/// Bytes on their way to one storage at once (one object may always go).
const IN_FLIGHT_MAX_BYTES: u64 = 64 << 20;

/// Moments, as time since the machine was made.
pub(crate) type Time = Duration;

/// One object of one recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectId {
    /// The recording.
    pub(crate) recording: Uuid,
    /// Segment or manifest.
    pub(crate) object: Object,
}

/// Where the bytes are while they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// In memory only: lost if the process ends.
    Memory,
    /// In the spool.
    Spool,
}

/// What is to be done now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    /// Put the object; answer with [`Delivery::stored`] or [`Delivery::failed`].
    Put {
        /// Index of the storage.
        storage: usize,
        /// The object.
        id: ObjectId,
    },
    /// A sync storage took nothing of a live recording for `stall_max`, or refuses an object for good: move what the
    /// recording has in memory to the spool (then call [`Delivery::spilled`]), add what follows as not live, and act as
    /// `on_failure` says if the storage is required. Once a recording.
    Stalled {
        /// The recording.
        recording: Uuid,
        /// Index of the storage.
        storage: usize,
        /// Its last error, or that it doesn't answer.
        error: String,
    },
    /// Every storage that counts has it: drop the copy.
    Release {
        /// The object.
        id: ObjectId,
    },
    /// Every required storage has all of the recording.
    Complete {
        /// The recording.
        recording: Uuid,
    },
    /// The storage will not get the object.
    Lost {
        /// Index of the storage.
        storage: usize,
        /// The object.
        id: ObjectId,
        /// Why.
        error: String,
    },
}

#[derive(Debug)]
struct Entry {
    size: u64,
    held: Held,
    live: Live,
    /// Storages that don't have it and may still get it.
    missing: BTreeSet<usize>,
    /// A required storage refused it: the copy is evidence and stays in the spool.
    keep: bool,
}

#[derive(Debug, Default)]
struct Recording {
    objects: BTreeMap<Object, Entry>,
    /// Segments that each storage doesn't have (refused ones included, they hold the manifest back).
    segments_missing: Vec<usize>,
    /// When each storage last took something, or last began to lack something.
    progress: Vec<Time>,
    /// Storages that will never have all segments, and so never get the manifest.
    lost: BTreeSet<usize>,
    stalled: bool,
    complete: bool,
}

#[derive(Debug)]
struct Queue {
    rules: Rules,
    /// Live ones first (`true` is backlog), then in order of arrival.
    waiting: BTreeSet<(bool, u64, ObjectId)>,
    in_flight: BTreeMap<ObjectId, u64>,
    bytes_in_flight: u64,
    failures: u32,
    not_before: Time,
    last_error: Option<String>,
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Delivery {
    storages: Vec<Queue>,
    recordings: BTreeMap<Uuid, Recording>,
    /// Arrival numbers.
    order: BTreeMap<ObjectId, u64>,
    arrivals: u64,
    ready: VecDeque<Action>,
    stall_max: Duration,
    random: StdRng,
}

impl Delivery {
    /// A machine with nothing to do. `seed` is the jitter's.
    pub(crate) fn new(storages: Vec<Rules>, stall_max: Duration, seed: u64) -> Self {
        let queue = |rules| Queue {
            rules,
            waiting: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            bytes_in_flight: 0,
            failures: 0,
            not_before: Time::ZERO,
            last_error: None,
        };
        Self {
            storages: storages.into_iter().map(queue).collect(),
            recordings: BTreeMap::new(),
            order: BTreeMap::new(),
            arrivals: 0,
            ready: VecDeque::new(),
            stall_max,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// An object is to go to the storages in `missing` (none: everybody has it, only its copy is left). An object that is
    /// already here is left as it is. The manifest comes after the segments. `live`: its session runs, and which storages
    /// it waits for.
    pub(crate) fn add(
        &mut self,
        now: Time,
        id: ObjectId,
        size: u64,
        held: Held,
        live: impl Into<Live>,
        missing: BTreeSet<usize>,
    ) {
        let live = live.into();
        let count = self.storages.len();
        let recording = self.recordings.entry(id.recording).or_default();
        recording.segments_missing.resize(count, 0);
        recording.progress.resize(count, now);
        if recording.objects.contains_key(&id.object) {
            return;
        }
        self.arrivals += 1;
        self.order.insert(id, self.arrivals);
        for &storage in &missing {
            if !recording.objects.values().any(|entry| entry.missing.contains(&storage)) {
                recording.progress[storage] = now;
            }
            if id.object != Object::Manifest {
                recording.segments_missing[storage] += 1;
            }
            if id.object != Object::Manifest || recording.segments_missing[storage] == 0 {
                self.storages[storage]
                    .waiting
                    .insert((live == Live::No, self.arrivals, id));
            }
        }
        recording.objects.insert(
            id.object,
            Entry {
                size,
                held,
                live,
                missing,
                keep: false,
            },
        );
        self.settle(id);
    }

    /// The next thing to do; `None` until [`Delivery::wake_at`] or the next call of another function.
    pub(crate) fn next(&mut self, now: Time) -> Option<Action> {
        if let Some(action) = self.ready.pop_front() {
            return Some(action);
        }
        for (index, storage) in self.storages.iter_mut().enumerate() {
            if let Some(id) = storage.start(index, now, &self.recordings) {
                return Some(Action::Put { storage: index, id });
            }
        }
        self.find_stall(now)
    }

    /// When [`Delivery::next`] may have something new to say, if nothing else happens.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        let backoffs = self
            .storages
            .iter()
            .filter(|storage| storage.failures > 0 && !storage.waiting.is_empty() && storage.in_flight.is_empty())
            .map(|storage| storage.not_before);
        let stalls = self
            .recordings
            .values()
            .filter(|recording| !recording.stalled)
            .flat_map(|recording| {
                self.stallable(recording)
                    .map(|storage| recording.progress[storage] + self.stall_max)
            });
        backoffs.chain(stalls).min()
    }

    /// The storage has the object, and the catalog knows.
    pub(crate) fn stored(&mut self, now: Time, storage: usize, id: ObjectId) {
        let queue = &mut self.storages[storage];
        queue.finish(id);
        queue.failures = 0;
        queue.not_before = Time::ZERO;
        queue.last_error = None;
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        recording.progress[storage] = now;
        let Some(entry) = recording.objects.get_mut(&id.object) else {
            return;
        };
        if entry.missing.remove(&storage) && id.object != Object::Manifest {
            recording.segments_missing[storage] -= 1;
            self.offer_manifest(storage, id.recording);
        }
        self.settle(id);
    }

    /// The storage did not take the object.
    pub(crate) fn failed(&mut self, now: Time, storage: usize, id: ObjectId, remedy: Remedy, error: &str) {
        let queue = &mut self.storages[storage];
        queue.finish(id);
        if remedy == Remedy::None {
            // The storage itself works: only this object is refused.
            self.lose(storage, id, error);
            return;
        }
        // Several puts that were under way together fail together: that is one failure.
        if queue.failures == 0 || now >= queue.not_before {
            queue.failures = queue.failures.saturating_add(1);
            let doubled = BACKOFF_MIN.saturating_mul(1 << queue.failures.min(16));
            let (low, high) = match remedy {
                Remedy::Operator => (BACKOFF_MAX / 2, BACKOFF_MAX),
                Remedy::Retry | Remedy::None => (BACKOFF_MIN, doubled.min(BACKOFF_MAX)),
            };
            queue.not_before = now + self.random.random_range(low..=high);
        }
        queue.last_error = Some(error.to_owned());
        let entry = self
            .recordings
            .get(&id.recording)
            .and_then(|recording| recording.objects.get(&id.object));
        if let (Some(entry), Some(&arrival)) = (entry, self.order.get(&id))
            && entry.missing.contains(&storage)
        {
            queue.waiting.insert((entry.live == Live::No, arrival, id));
        }
        if !queue.rules.required && queue.failures >= OPTIONAL_PATIENCE {
            self.give_up(storage);
        }
    }

    /// The object's bytes are now in the spool.
    pub(crate) fn spilled(&mut self, id: ObjectId) {
        let entry = self
            .recordings
            .get_mut(&id.recording)
            .and_then(|recording| recording.objects.get_mut(&id.object));
        if let Some(entry) = entry {
            entry.held = Held::Spool;
        }
    }

    /// What of a recording, or of all, is in memory only.
    pub(crate) fn in_memory(&self, of: Option<Uuid>) -> Vec<ObjectId> {
        self.recordings
            .iter()
            .filter(|(recording, _)| of.is_none_or(|wanted| wanted == **recording))
            .flat_map(|(&recording, state)| {
                let memory = state.objects.iter().filter(|(_, entry)| entry.held == Held::Memory);
                memory.map(move |(&object, _)| ObjectId { recording, object })
            })
            .collect()
    }

    /// Since when a storage fails and with what error; `None` while it works.
    pub(crate) fn failing(&self, storage: usize) -> Option<&str> {
        let queue = &self.storages[storage];
        if queue.failures == 0 {
            None
        } else {
            queue.last_error.as_deref()
        }
    }

    /// Whether nothing waits and nothing is under way.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty()
            && self
                .storages
                .iter()
                .all(|storage| storage.waiting.is_empty() && storage.in_flight.is_empty())
    }

    /// Queues the manifest for a storage that has every segment by now.
    fn offer_manifest(&mut self, storage: usize, recording: Uuid) {
        let id = ObjectId {
            recording,
            object: Object::Manifest,
        };
        let Some(state) = self.recordings.get(&recording) else {
            return;
        };
        let Some(entry) = state.objects.get(&Object::Manifest) else {
            return;
        };
        if state.segments_missing[storage] == 0
            && entry.missing.contains(&storage)
            && let Some(&arrival) = self.order.get(&id)
        {
            self.storages[storage]
                .waiting
                .insert((entry.live == Live::No, arrival, id));
        }
    }

    /// Says so when the recording is complete, and drops the copy when every storage that counts has the object.
    fn settle(&mut self, id: ObjectId) {
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        let Some(entry) = recording.objects.get(&id.object) else {
            return;
        };
        if entry.keep
            || entry
                .missing
                .iter()
                .any(|&storage| self.storages[storage].rules.required)
        {
            return;
        }
        if id.object == Object::Manifest && !recording.complete {
            recording.complete = true;
            self.ready.push_back(Action::Complete {
                recording: id.recording,
            });
        }
        let hopeless = |storage: &usize| {
            let given_up = self.storages[*storage].failures >= OPTIONAL_PATIENCE && entry.held == Held::Spool;
            given_up || (id.object == Object::Manifest && recording.lost.contains(storage))
        };
        if !entry.missing.iter().all(hopeless) {
            return;
        }
        if let Some(&storage) = entry.missing.first() {
            let error = self.storages[storage].last_error.clone();
            let error = error.unwrap_or_else(|| "a segment is missing there".to_owned());
            self.lose(storage, id, &error); // settles again
            return;
        }
        recording.objects.remove(&id.object);
        if recording.objects.is_empty() && recording.complete {
            self.recordings.remove(&id.recording);
        }
        self.order.remove(&id);
        self.ready.push_back(Action::Release { id });
    }

    /// The storage will not get the object.
    fn lose(&mut self, storage: usize, id: ObjectId, error: &str) {
        let Some(&arrival) = self.order.get(&id) else { return };
        let required = self.storages[storage].rules.required;
        for backlog in [false, true] {
            self.storages[storage].waiting.remove(&(backlog, arrival, id));
        }
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        let Some(entry) = recording.objects.get_mut(&id.object) else {
            return;
        };
        if !entry.missing.remove(&storage) {
            return;
        }
        entry.keep |= required;
        if id.object != Object::Manifest {
            recording.lost.insert(storage);
        }
        self.ready.push_back(Action::Lost {
            storage,
            id,
            error: error.to_owned(),
        });
        if entry.live.waits_for(&self.storages[storage].rules) && !recording.stalled {
            recording.stalled = true;
            self.ready.push_back(Action::Stalled {
                recording: id.recording,
                storage,
                error: error.to_owned(),
            });
        }
        self.settle(id);
        self.settle(ObjectId {
            object: Object::Manifest,
            ..id
        });
    }

    /// Stops waiting for a storage that isn't required, for everything that the required ones have.
    fn give_up(&mut self, storage: usize) {
        let waiting: Vec<ObjectId> = self.storages[storage].waiting.iter().map(|&(_, _, id)| id).collect();
        for id in waiting {
            self.settle(id);
        }
    }

    fn find_stall(&mut self, now: Time) -> Option<Action> {
        let (id, storage) = self
            .recordings
            .iter()
            .filter(|(_, recording)| !recording.stalled)
            .find_map(|(&id, recording)| {
                let late = |storage: &usize| now >= recording.progress[*storage] + self.stall_max;
                self.stallable(recording).find(late).map(|storage| (id, storage))
            })?;
        self.recordings.get_mut(&id)?.stalled = true;
        let error = self.storages[storage].last_error.clone();
        let error = error.unwrap_or_else(|| format!("nothing stored for {:?}", self.stall_max));
        Some(Action::Stalled {
            recording: id,
            storage,
            error,
        })
    }

    /// Storages that lack an object of the recording for which its session waits.
    fn stallable<'a>(&'a self, recording: &'a Recording) -> impl Iterator<Item = usize> + 'a {
        let storages = self.storages.iter().enumerate().filter(|(index, storage)| {
            let lacks = |entry: &Entry| entry.live.waits_for(&storage.rules) && entry.missing.contains(index);
            recording.objects.values().any(lacks)
        });
        storages.map(|(index, _)| index)
    }
}

impl Queue {
    fn start(&mut self, index: usize, now: Time, recordings: &BTreeMap<Uuid, Recording>) -> Option<ObjectId> {
        let slots = if self.failures > 0 {
            1
        } else {
            self.rules.concurrency.max(1)
        };
        if now < self.not_before || self.in_flight.len() >= slots {
            return None;
        }
        let in_turn = |id: &ObjectId| {
            let Some(recording) = recordings.get(&id.recording) else {
                return true;
            };
            let earlier = recording.objects.range(..id.object);
            !earlier
                .into_iter()
                .any(|(_, entry)| entry.live.waits_for(&self.rules) && entry.missing.contains(&index))
        };
        let &chosen = self.waiting.iter().find(|(_, _, id)| in_turn(id))?;
        let id = chosen.2;
        let entry = recordings
            .get(&id.recording)
            .and_then(|recording| recording.objects.get(&id.object));
        let size = entry.map_or(0, |entry| entry.size);
        if !self.in_flight.is_empty() && self.bytes_in_flight + size > IN_FLIGHT_MAX_BYTES {
            return None;
        }
        self.waiting.remove(&chosen);
        self.in_flight.insert(id, size);
        self.bytes_in_flight += size;
        Some(id)
    }

    fn finish(&mut self, id: ObjectId) {
        if let Some(size) = self.in_flight.remove(&id) {
            self.bytes_in_flight -= size;
        }
    }
}

#[cfg(test)]
mod tests;
