//! Delivery, the decisions: which object goes to which storage when, how long to wait after a failure, when a copy may
//! be dropped, when a recording is complete. Pure: no clock, no task, no storage; `courier` does what it says.
//!
//! Rules: objects of one recording may arrive out of order, but a storage gets the manifest only when it has every
//! segment. Objects of running sessions (live) go before the backlog, and to a sync storage one after the other, so that
//! a crash leaves a whole row there. A failing storage is tried with one object at a time; see `queue`. Every call takes
//! time that grows with the logarithm of what waits, so that a spool of a hundred thousand segments is no burden.

mod queue;
mod recording;
mod rules;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use uuid::Uuid;

use crate::catalog::Object;
use queue::{Queue, Turn, backoff};
use recording::{Entry, Lack, Recording, Stage};
pub(crate) use rules::{Failure, Held, Live, ObjectId, Pace, Remedy, Rules, Time};

/// A running session's object is tried again at the latest after this part of `stall_max`, so that an outage that is over
/// doesn't end the session.
const LIVE_WAITS: u32 = 4;

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

/// The machine.
#[derive(Debug)]
pub(crate) struct Delivery {
    storages: Vec<Queue>,
    recordings: BTreeMap<Uuid, Recording>,
    arrivals: u64,
    ready: VecDeque<Action>,
    /// When which session stalls on which storage.
    stalls: BTreeSet<(Time, Uuid, usize)>,
    stall_max: Duration,
    /// The spool fills up.
    pressed: bool,
    /// Only what is in memory goes.
    stopping: bool,
    random: StdRng,
}

impl Delivery {
    /// A machine with nothing to do. `seed` is the jitter's.
    pub(crate) fn new(storages: Vec<Rules>, stall_max: Duration, seed: u64) -> Self {
        Self {
            storages: storages.into_iter().map(Queue::new).collect(),
            recordings: BTreeMap::new(),
            arrivals: 0,
            ready: VecDeque::new(),
            stalls: BTreeSet::new(),
            stall_max,
            pressed: false,
            stopping: false,
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
        missing: &BTreeSet<usize>,
    ) {
        let live = live.into();
        let missing: Vec<usize> = missing.iter().copied().collect();
        let count = self.storages.len();
        let recording = self.recordings.entry(id.recording);
        let recording = recording.or_insert_with(|| Recording::new(count));
        if recording.objects.contains_key(&id.object) {
            return;
        }
        self.arrivals += 1;
        let lack = |&storage: &usize| Lack {
            storage,
            failures: 0,
            stage: Stage::Later,
        };
        recording.objects.insert(
            id.object,
            Entry {
                size,
                held,
                live,
                arrival: self.arrivals,
                lacks: missing.iter().map(lack).collect(),
                keep: false,
            },
        );
        for &storage in &missing {
            let at = &mut recording.at[storage];
            at.segments_missing += usize::from(id.object != Object::Manifest);
            if live.waits_for(&self.storages[storage].rules) {
                at.live.insert(id.object);
            }
        }
        for &storage in &missing {
            self.watch(now, id.recording, storage, false);
            self.offer(storage, id);
        }
        self.settle(id);
    }

    /// The next thing to do; `None` until [`Delivery::wake_at`] or the next call of another function.
    pub(crate) fn next(&mut self, now: Time) -> Option<Action> {
        if let Some(action) = self.ready.pop_front() {
            return Some(action);
        }
        let live_wait_max = self.stall_max / LIVE_WAITS;
        for (index, storage) in self.storages.iter_mut().enumerate() {
            let size = |id: &ObjectId| {
                let recording = self.recordings.get(&id.recording);
                let entry = recording.and_then(|recording| recording.objects.get(&id.object));
                entry.map_or(0, |entry| entry.size)
            };
            if let Some(id) = storage.start(now, live_wait_max, size) {
                return Some(Action::Put { storage: index, id });
            }
        }
        let &(at, recording, storage) = self.stalls.first()?;
        if now < at {
            return None;
        }
        let error = self.storages[storage].failing().map(str::to_owned);
        let error = error.unwrap_or_else(|| format!("nothing stored for {:?}", self.stall_max));
        self.stall(recording, storage, error);
        self.ready.pop_front()
    }

    /// When [`Delivery::next`] may have something new to say, if nothing else happens.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        let live_wait_max = self.stall_max / LIVE_WAITS;
        let puts = self
            .storages
            .iter()
            .filter_map(|storage| storage.wake_at(live_wait_max));
        puts.chain(self.stalls.first().map(|(at, ..)| *at)).min()
    }

    /// The storage has the object, and the catalog knows.
    pub(crate) fn stored(&mut self, now: Time, storage: usize, id: ObjectId) {
        let queue = &mut self.storages[storage];
        queue.finish(id);
        queue.works();
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        if !recording.filled(id.object, storage) {
            return;
        }
        recording.at[storage].segments_missing -= usize::from(id.object != Object::Manifest);
        self.watch(now, id.recording, storage, true);
        self.offer_next(storage, id.recording);
        self.settle(id);
    }

    /// The storage did not take the object.
    pub(crate) fn failed(&mut self, now: Time, storage: usize, id: ObjectId, failure: &Failure) {
        let queue = &mut self.storages[storage];
        queue.finish(id);
        match failure.remedy {
            // The storage itself works.
            Remedy::None => return self.lose(storage, id, &failure.message),
            Remedy::Here => {}
            Remedy::Retry | Remedy::Operator => queue.fails(now, id, failure, &mut self.random),
        }
        let live_wait_max = self.stall_max / LIVE_WAITS;
        let recording = self.recordings.get_mut(&id.recording);
        if let Some(recording) = recording
            && let Some(lack) = recording.lack(id.object, storage)
        {
            lack.failures = lack.failures.saturating_add(1);
            let mut pause = backoff(failure.remedy, lack.failures, &mut self.random);
            let turn = turn(recording, id);
            if !turn.backlog {
                pause = pause.min(live_wait_max);
            }
            if let Some(lack) = recording.lack(id.object, storage) {
                lack.stage = Stage::Resting(now + pause);
            }
            queue.rest(now + pause, turn);
        }
        if self.gives_up(storage) {
            self.give_up(storage);
        }
    }

    /// Whether the spool fills up. While it does, objects are no longer kept for a storage that fails and isn't required.
    pub(crate) fn pressed(&mut self, pressed: bool) {
        self.pressed = pressed;
        for storage in 0..self.storages.len() {
            if self.gives_up(storage) {
                self.give_up(storage);
            }
        }
    }

    /// From now on only what is in memory goes to the storages; the spool is for the next run.
    pub(crate) fn stop(&mut self) {
        self.stopping = true;
        for queue in &mut self.storages {
            let recordings = &self.recordings;
            queue.retain(|turn| {
                let recording = recordings.get(&turn.id.recording);
                let entry = recording.and_then(|recording| recording.objects.get(&turn.id.object));
                entry.is_some_and(|entry| entry.held == Held::Memory)
            });
        }
    }

    /// The object's bytes are now in the spool.
    pub(crate) fn spilled(&mut self, id: ObjectId) {
        let recording = self.recordings.get_mut(&id.recording);
        if let Some(entry) = recording.and_then(|recording| recording.objects.get_mut(&id.object)) {
            entry.held = Held::Spool;
        }
    }

    /// What of a recording, or of all, is in memory only.
    pub(crate) fn in_memory(&self, of: Option<Uuid>) -> Vec<ObjectId> {
        let recordings = match of {
            Some(recording) => self.recordings.range(recording..=recording),
            None => self.recordings.range(..),
        };
        recordings
            .flat_map(|(&recording, state)| {
                let memory = state.objects.iter().filter(|(_, entry)| entry.held == Held::Memory);
                memory.map(move |(&object, _)| ObjectId { recording, object })
            })
            .collect()
    }

    /// With what error a storage fails; `None` while it works.
    pub(crate) fn failing(&self, storage: usize) -> Option<&str> {
        self.storages[storage].failing()
    }

    /// Whether nothing waits and nothing is under way.
    #[cfg(test)]
    pub(crate) fn is_idle(&self) -> bool {
        self.ready.is_empty() && self.storages.iter().all(Queue::is_idle)
    }

    /// Queues an object if it is its turn.
    fn offer(&mut self, storage: usize, id: ObjectId) {
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        let held = recording.objects.get(&id.object).map(|entry| entry.held);
        if !recording.in_turn(id.object, storage) || self.stopping && held == Some(Held::Spool) {
            return;
        }
        if let Some(lack) = recording.lack(id.object, storage)
            && lack.stage == Stage::Later
        {
            lack.stage = Stage::Queued;
            self.storages[storage].offer(turn(recording, id));
        }
    }

    /// Queues what has waited for something that is now at the storage, or never will be.
    fn offer_next(&mut self, storage: usize, recording: Uuid) {
        let first = self.recordings.get(&recording);
        let first = first.and_then(|state| state.at[storage].live.first().copied());
        for object in first.into_iter().chain([Object::Manifest]) {
            self.offer(storage, ObjectId { recording, object });
        }
    }

    /// Sets when the session stalls on the storage. `progress`: it has just taken something.
    fn watch(&mut self, now: Time, id: Uuid, storage: usize, progress: bool) {
        let Some(recording) = self.recordings.get_mut(&id) else {
            return;
        };
        let waits = !recording.stalled && !recording.at[storage].live.is_empty();
        let at = &mut recording.at[storage];
        let stalls_at = match at.stalls_at {
            _ if !waits => None,
            Some(at) if !progress => Some(at),
            _ => Some(now + self.stall_max),
        };
        if at.stalls_at != stalls_at {
            if let Some(old) = at.stalls_at {
                self.stalls.remove(&(old, id, storage));
            }
            at.stalls_at = stalls_at;
            self.stalls.extend(stalls_at.map(|at| (at, id, storage)));
        }
    }

    fn stall(&mut self, id: Uuid, storage: usize, error: String) {
        let Some(recording) = self.recordings.get_mut(&id).filter(|recording| !recording.stalled) else {
            return;
        };
        recording.stalled = true;
        for (index, at) in recording.at.iter_mut().enumerate() {
            if let Some(old) = at.stalls_at.take() {
                self.stalls.remove(&(old, id, index));
            }
        }
        self.ready.push_back(Action::Stalled {
            recording: id,
            storage,
            error,
        });
    }

    /// Says so when the recording is complete, and drops the copy when every storage that counts has the object.
    fn settle(&mut self, id: ObjectId) {
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        let Some(entry) = recording.objects.get(&id.object) else {
            return;
        };
        let required = |lack: &Lack| self.storages[lack.storage].rules.required;
        if entry.keep || entry.lacks.iter().any(required) {
            return;
        }
        if id.object == Object::Manifest && !recording.complete {
            recording.complete = true;
            self.ready.push_back(Action::Complete {
                recording: id.recording,
            });
        }
        let hopeless = |lack: &Lack| {
            let failing = self.storages[lack.storage].failing().is_some();
            let given_up = self.pressed && failing && entry.held == Held::Spool;
            given_up || (id.object == Object::Manifest && recording.at[lack.storage].lost)
        };
        if !entry.lacks.iter().all(hopeless) {
            return;
        }
        if let Some(lack) = entry.lacks.first() {
            let storage = lack.storage;
            let error = match self.storages[storage].failing() {
                Some(error) if self.pressed => {
                    format!("the spool fills up, and the storage, which isn't required, fails: {error}")
                }
                _ => "a segment is missing there".to_owned(),
            };
            self.lose(storage, id, &error); // settles again
            return;
        }
        recording.objects.remove(&id.object);
        if recording.objects.is_empty() && recording.complete {
            self.recordings.remove(&id.recording);
        }
        self.ready.push_back(Action::Release { id });
    }

    /// The storage will not get the object.
    fn lose(&mut self, storage: usize, id: ObjectId, error: &str) {
        let required = self.storages[storage].rules.required;
        let Some(recording) = self.recordings.get_mut(&id.recording) else {
            return;
        };
        let Some(stage) = recording.lack(id.object, storage).map(|lack| lack.stage) else {
            return;
        };
        let rests_until = match stage {
            Stage::Resting(until) => Some(until),
            Stage::Later | Stage::Queued => None,
        };
        let turn = turn(recording, id);
        self.storages[storage].withdraw(turn, rests_until);
        recording.filled(id.object, storage);
        let mut waited = false;
        if let Some(entry) = recording.objects.get_mut(&id.object) {
            entry.keep |= required;
            waited = entry.live.waits_for(&self.storages[storage].rules);
        }
        recording.at[storage].lost |= id.object != Object::Manifest;
        self.ready.push_back(Action::Lost {
            storage,
            id,
            error: error.to_owned(),
        });
        if waited {
            self.stall(id.recording, storage, error.to_owned());
        }
        self.offer_next(storage, id.recording);
        self.settle(id);
        self.settle(ObjectId {
            object: Object::Manifest,
            ..id
        });
    }

    fn gives_up(&self, storage: usize) -> bool {
        let queue = &self.storages[storage];
        self.pressed && !queue.rules.required && queue.failing().is_some()
    }

    /// Stops waiting for a storage that isn't required, for everything that the required ones have.
    fn give_up(&mut self, storage: usize) {
        for turn in self.storages[storage].turns() {
            self.settle(turn.id);
        }
    }
}

/// An object's place in any queue.
fn turn(recording: &Recording, id: ObjectId) -> Turn {
    let entry = recording.objects.get(&id.object);
    Turn {
        backlog: entry.is_none_or(|entry| entry.live == Live::No),
        arrival: entry.map_or(0, |entry| entry.arrival),
        id,
    }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
