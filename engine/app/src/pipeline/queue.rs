//! The bounded queue between the two relay tasks and a session's recorder thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_recording::Event;
use deskreel_recording::event::SessionEnd;
use tokio::sync::Notify;

/// What an entry costs besides its bytes, so that the bound holds for many tiny PDUs as well.
const ENTRY_COST: usize = 256;

/// Something for the recorder, and when it happened.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) at: Instant,
    pub(super) what: What,
}

/// What there is for the recorder.
#[derive(Debug)]
pub(super) enum What {
    /// One or several whole PDUs.
    Pdus(Direction, Bytes),
    /// A fact from the gateway; never a screen.
    Note(Box<Event>),
    /// The session is over; nothing follows.
    End(SessionEnd),
    /// The recorder has a defect.
    #[cfg(test)]
    Panic,
}

impl Entry {
    /// What the entry counts against the bound.
    pub(super) fn cost(&self) -> usize {
        match &self.what {
            What::Pdus(_, bytes) => bytes.len() + ENTRY_COST,
            _ => ENTRY_COST,
        }
    }
}

/// Why an entry was not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full.
    Full,
    /// The session's end is queued already.
    Ended,
}

#[derive(Debug, Default)]
struct State {
    entries: VecDeque<Entry>,
    /// Cost of what is queued or being worked on.
    cost: usize,
    /// Entries that the recorder is done with: progress.
    done: u64,
    ended: bool,
    /// Some PDUs were dropped, or the queue got so full that the recorder must skip to catch up.
    shed: bool,
    dropped: u64,
    /// The recorder waits, and wants to be woken by the first entry.
    idle: bool,
}

/// The queue. Its bound is a cost: bytes plus a constant for each entry.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    room: Notify,
    max: usize,
}

/// What the recorder learns when it takes entries.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The relay can't wait any longer: skip until the queue is nearly empty.
    pub(super) shed: bool,
    /// PDUs that were dropped unseen since the last call.
    pub(super) dropped: u64,
}

impl Queue {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            state: Mutex::default(),
            arrived: Condvar::new(),
            room: Notify::new(),
            max: usize::try_from(max_bytes).unwrap_or(usize::MAX),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs with the lock held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the entry if it fits below `share` percent of the bound, or if nothing else is queued (one entry always
    /// fits); gives it back otherwise.
    pub(super) fn push(&self, entry: Entry, share: usize) -> Result<(), (Entry, Refused)> {
        let cost = entry.cost();
        let state = self.lock();
        if state.ended {
            return Err((entry, Refused::Ended));
        }
        if state.cost > 0 && state.cost.saturating_add(cost) > self.max / 100 * share {
            return Err((entry, Refused::Full));
        }
        self.append(state, entry, cost);
        Ok(())
    }

    /// Takes what must not be lost whatever the bound says: facts and the end. They are few: channels and one end.
    pub(super) fn push_always(&self, entry: Entry) {
        let cost = entry.cost();
        let mut state = self.lock();
        if !state.ended {
            state.ended = matches!(entry.what, What::End(_));
            self.append(state, entry, cost);
        }
    }

    fn append(&self, mut state: MutexGuard<'_, State>, entry: Entry, cost: usize) {
        let end = matches!(entry.what, What::End(_));
        state.entries.push_back(entry);
        state.cost += cost;
        // One wake for a burst: the recorder comes by itself a frame interval after the first entry.
        let wake = std::mem::take(&mut state.idle) || end || state.cost > self.max / 4;
        drop(state);
        if wake {
            self.arrived.notify_one();
        }
    }

    /// Tells the recorder to skip until it has caught up.
    pub(super) fn shed(&self, dropped: u64) {
        let mut state = self.lock();
        state.shed = true;
        state.dropped += dropped;
        drop(state);
        self.arrived.notify_one();
    }

    /// Whether the recorder has been told to skip and hasn't noticed yet.
    pub(super) fn is_shedding(&self) -> bool {
        self.lock().shed
    }

    /// How many entries the recorder has worked through: while this grows there is progress.
    pub(super) fn progress(&self) -> u64 {
        self.lock().done
    }

    /// Where the relay waits for room; take the future before trying [`Queue::push`] again.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// Moves all entries to `batch`. With none there, waits for the first one (at most until `deadline`) and then lets
    /// others gather for `gather`, unless the session ends or a quarter of the queue is full.
    pub(super) fn take(&self, batch: &mut VecDeque<Entry>, deadline: Option<Instant>, gather: Duration) -> Taken {
        let mut state = self.lock();
        while state.entries.is_empty() && !state.shed {
            state.idle = true;
            state = match deadline {
                None => self.arrived.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break;
                    }
                    self.arrived
                        .wait_timeout(state, left)
                        .unwrap_or_else(PoisonError::into_inner)
                        .0
                }
            };
        }
        state.idle = false;
        let gathered = state.entries.front().map(|first| first.at + gather);
        while let Some(left) = gathered.map(|at| at.saturating_duration_since(Instant::now()))
            && !left.is_zero()
            && !state.ended
            && !state.shed
            && state.cost <= self.max / 4
        {
            state = self
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        batch.append(&mut state.entries);
        // What is shed ends when the recorder has worked through all that had been queued by now.
        Taken {
            shed: std::mem::take(&mut state.shed),
            dropped: std::mem::take(&mut state.dropped),
        }
    }

    /// The recorder is done with an entry of this cost.
    pub(super) fn done(&self, cost: usize) {
        let mut state = self.lock();
        state.cost = state.cost.saturating_sub(cost);
        state.done += 1;
        drop(state);
        self.room.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn pdu(length: usize) -> Entry {
        Entry {
            at: Instant::now(),
            what: What::Pdus(Direction::ToClient, vec![0; length].into()),
        }
    }

    fn end() -> Entry {
        let end = SessionEnd {
            reason: deskreel_recording::event::EndReason::ClientClosed,
            detail: None,
            error_info: None,
        };
        Entry {
            at: Instant::now(),
            what: What::End(end),
        }
    }

    #[test]
    fn bounded_by_bytes_and_by_number() {
        let queue = Queue::new(100 * 1000);
        queue.push(pdu(60_000), 100).unwrap();
        assert!(matches!(queue.push(pdu(60_000), 100), Err((_, Refused::Full))));
        assert!(
            matches!(queue.push(pdu(20_000), 75), Err((_, Refused::Full))),
            "three quarters are full"
        );
        queue.push(pdu(20_000), 100).unwrap();
        let mut empties = 0;
        while queue.push(pdu(0), 100).is_ok() {
            empties += 1;
        }
        assert!((10..100_000 / ENTRY_COST).contains(&empties), "{empties}");
    }

    #[test]
    fn one_entry_larger_than_the_bound_passes_alone() {
        let queue = Queue::new(1000);
        queue.push(pdu(16_000), 100).unwrap();
        assert!(matches!(queue.push(pdu(1), 100), Err((_, Refused::Full))));
        let mut batch = VecDeque::new();
        queue.take(&mut batch, None, Duration::ZERO);
        // Taken is not done: the bytes still count.
        assert!(matches!(queue.push(pdu(1), 100), Err((_, Refused::Full))));
        queue.done(batch.pop_front().unwrap().cost());
        queue.push(pdu(1), 100).unwrap();
        assert_eq!(queue.progress(), 1);
    }

    #[test]
    fn nothing_follows_the_end_and_the_end_always_fits() {
        let queue = Queue::new(1000);
        queue.push(pdu(900), 100).unwrap();
        queue.push_always(end());
        assert!(matches!(queue.push(pdu(1), 100), Err((_, Refused::Ended))));
        queue.push_always(end());
        let mut batch = VecDeque::new();
        // The end doesn't wait for others to gather.
        queue.take(&mut batch, None, Duration::from_secs(3600));
        assert_eq!(batch.len(), 2);
    }

    #[test]
    fn a_deadline_ends_the_wait_with_nothing() {
        let queue = Queue::new(1000);
        let mut batch = VecDeque::new();
        let taken = queue.take(&mut batch, Some(Instant::now()), Duration::ZERO);
        assert!(batch.is_empty() && taken == Taken::default());
        queue.shed(3);
        assert_eq!(
            queue.take(&mut batch, None, Duration::ZERO),
            Taken { shed: true, dropped: 3 }
        );
    }
}
