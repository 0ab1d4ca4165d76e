//! What waits for one storage, and how that storage does.
//!
//! Two backoffs, both with full jitter from 200 ms to 60 s. Each object has its own: one that the storage never takes
//! doesn't hold up the others. The storage's is a circuit breaker: any failure opens it; when its time is over, one object
//! goes as a probe, and the next success closes it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::rules::{Failure, ObjectId, Pace, Remedy, Rules, Time};

/// Shortest wait after a failure.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// Longest wait after a failure.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Longest pause that a storage may ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(600);
/// Bytes on their way to one storage at once (one object may always go).
const IN_FLIGHT_MAX_BYTES: u64 = 64 << 20;
/// So much of a rate limit may be used up at once.
const BURST: Duration = Duration::from_secs(1);

/// An object's place in the queue: running sessions before the backlog, then in order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn {
    pub(super) backlog: bool,
    pub(super) arrival: u64,
    pub(super) id: ObjectId,
}

/// A storage's queue.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) rules: Rules,
    /// May go.
    waiting: BTreeSet<Turn>,
    /// Have failed, and when they may go again: of running sessions, of the backlog.
    resting: [BTreeSet<(Time, Turn)>; 2],
    in_flight: BTreeMap<ObjectId, u64>,
    bytes_in_flight: u64,
    /// The next one waits until less is in flight.
    no_room: bool,
    circuit: Circuit,
    pacer: Pacer,
}

/// Whether the storage is believed to work. It is while `failures` is 0.
#[derive(Debug, Default)]
struct Circuit {
    /// In a row. Puts that were under way together fail together and count once; so does one object again and again.
    failures: u32,
    last: Option<ObjectId>,
    failed_at: Time,
    /// The next probe.
    probe_at: Time,
    /// The storage asked to be left alone until then.
    quiet_until: Time,
    error: Option<String>,
}

impl Queue {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            pacer: Pacer::new(rules.pace),
            rules,
            waiting: BTreeSet::new(),
            resting: [BTreeSet::new(), BTreeSet::new()],
            in_flight: BTreeMap::new(),
            bytes_in_flight: 0,
            no_room: false,
            circuit: Circuit::default(),
        }
    }

    pub(super) fn offer(&mut self, turn: Turn) {
        self.waiting.insert(turn);
    }

    /// The object is not to go here any more. It may be under way.
    pub(super) fn withdraw(&mut self, turn: Turn, rests_until: Option<Time>) {
        self.waiting.remove(&turn);
        if let Some(until) = rests_until {
            self.resting[usize::from(turn.backlog)].remove(&(until, turn));
        }
    }

    /// The next object to put, if one may go now. `live_wait_max`: a running session's object waits no longer than this for
    /// a probe after a failure.
    pub(super) fn start(
        &mut self,
        now: Time,
        live_wait_max: Duration,
        size: impl Fn(&ObjectId) -> u64,
    ) -> Option<ObjectId> {
        for class in &mut self.resting {
            while let Some(&(until, turn)) = class.first()
                && until <= now
            {
                class.remove(&(until, turn));
                self.waiting.insert(turn);
            }
        }
        let turn = *self.waiting.first()?;
        let open = self.circuit.open_until(turn.backlog, live_wait_max);
        if !self.has_slot() || now < open || now < self.pacer.free_at() {
            return None;
        }
        let size = size(&turn.id);
        self.no_room = !self.in_flight.is_empty() && self.bytes_in_flight + size > IN_FLIGHT_MAX_BYTES;
        if self.no_room {
            return None;
        }
        self.waiting.remove(&turn);
        self.in_flight.insert(turn.id, size);
        self.bytes_in_flight += size;
        self.pacer.take(now, size);
        Some(turn.id)
    }

    /// When [`Queue::start`] may have an object, if nothing else happens.
    pub(super) fn wake_at(&self, live_wait_max: Duration) -> Option<Time> {
        if !self.has_slot() {
            return None;
        }
        let due = |since: Time, backlog| {
            let open = self.circuit.open_until(backlog, live_wait_max);
            since.max(open).max(self.pacer.free_at())
        };
        let waiting = self.waiting.first().filter(|_| !self.no_room);
        let waiting = waiting.map(|turn| due(Time::ZERO, turn.backlog));
        let resting = self.resting.iter().filter_map(BTreeSet::first);
        let resting = resting.map(|(until, turn)| due(*until, turn.backlog));
        waiting.into_iter().chain(resting).min()
    }

    /// The put is over, whatever came of it.
    pub(super) fn finish(&mut self, id: ObjectId) {
        if let Some(size) = self.in_flight.remove(&id) {
            self.bytes_in_flight -= size;
            self.no_room = false;
        }
    }

    /// The storage works.
    pub(super) fn works(&mut self) {
        self.circuit = Circuit {
            quiet_until: self.circuit.quiet_until,
            ..Circuit::default()
        };
    }

    /// The storage failed on an object.
    pub(super) fn fails(&mut self, now: Time, id: ObjectId, failure: &Failure, random: &mut StdRng) {
        let circuit = &mut self.circuit;
        if circuit.failures == 0 || now >= circuit.probe_at {
            if circuit.last != Some(id) {
                circuit.failures = circuit.failures.saturating_add(1);
            }
            circuit.probe_at = now + backoff(failure.remedy, circuit.failures, random);
            circuit.failed_at = now;
        }
        circuit.last = Some(id);
        circuit.error = Some(failure.message.clone());
        if let Some(pause) = failure.retry_after {
            circuit.quiet_until = circuit.quiet_until.max(now + pause.min(RETRY_AFTER_MAX));
        }
    }

    /// An object that failed goes again at `until`.
    pub(super) fn rest(&mut self, until: Time, turn: Turn) {
        self.resting[usize::from(turn.backlog)].insert((until, turn));
    }

    /// Drops what is not under way and not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&Turn) -> bool) {
        self.waiting.retain(&keep);
        for class in &mut self.resting {
            class.retain(|(_, turn)| keep(turn));
        }
    }

    /// Its last error, while the storage fails.
    pub(super) fn failing(&self) -> Option<&str> {
        if self.circuit.failures == 0 {
            None
        } else {
            self.circuit.error.as_deref()
        }
    }

    /// All that is not under way.
    pub(super) fn turns(&self) -> Vec<Turn> {
        let resting = self.resting.iter().flatten().map(|(_, turn)| *turn);
        self.waiting.iter().copied().chain(resting).collect()
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.resting.iter().all(BTreeSet::is_empty) && self.in_flight.is_empty()
    }

    fn has_slot(&self) -> bool {
        let slots = if self.circuit.failures > 0 {
            1
        } else {
            self.rules.concurrency.max(1)
        };
        self.in_flight.len() < slots
    }
}

impl Circuit {
    fn open_until(&self, backlog: bool, live_wait_max: Duration) -> Time {
        let probe_at = match backlog {
            true => self.probe_at,
            false => self.probe_at.min(self.failed_at + live_wait_max),
        };
        probe_at.max(self.quiet_until)
    }
}

/// How long to wait after the `failures`th failure in a row: full jitter, the upper end doubles.
pub(super) fn backoff(remedy: Remedy, failures: u32, random: &mut StdRng) -> Duration {
    let (low, high) = match remedy {
        Remedy::Operator => (BACKOFF_MAX / 2, BACKOFF_MAX),
        Remedy::Retry | Remedy::Here | Remedy::None => {
            let doubled = BACKOFF_MIN.saturating_mul(1 << failures.min(16));
            (BACKOFF_MIN, doubled.min(BACKOFF_MAX))
        }
    };
    random.random_range(low..=high)
}

/// Keeps to a [`Pace`].
#[derive(Debug)]
struct Pacer {
    puts: Option<Bucket>,
    bytes: Option<Bucket>,
}

/// One limit, and the moment up to which it is used up.
#[derive(Debug)]
struct Bucket {
    per_second: u64,
    used_until: Time,
}

impl Pacer {
    fn new(pace: Pace) -> Self {
        let bucket = |per_second: Option<u64>| {
            per_second.map(|per_second| Bucket {
                per_second: per_second.max(1),
                used_until: Time::ZERO,
            })
        };
        Self {
            puts: bucket(pace.puts_per_second_max),
            bytes: bucket(pace.bytes_per_second_max),
        }
    }

    fn free_at(&self) -> Time {
        let buckets = self.puts.iter().chain(&self.bytes);
        let free = buckets.map(|bucket| bucket.used_until.saturating_sub(BURST));
        free.max().unwrap_or_default()
    }

    fn take(&mut self, now: Time, bytes: u64) {
        for (bucket, used) in [(&mut self.puts, 1), (&mut self.bytes, bytes)] {
            if let Some(bucket) = bucket {
                let nanoseconds = u128::from(used) * 1_000_000_000 / u128::from(bucket.per_second);
                let time = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
                bucket.used_until = bucket.used_until.max(now) + time;
            }
        }
    }
}
