//! The bounded queue between the two relay tasks and a session's recorder thread.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::Loss;
use deskreel_recording::Event;
use deskreel_recording::event::SessionEnd;
use tokio::sync::Notify;

use super::live::Wish;

/// What an entry costs besides its bytes, so that the bound holds for many tiny PDUs as well.
const ENTRY_COST: usize = 256;
/// PDUs below this size are copied: a slice keeps the whole buffer that it was read into, many times its own size.
const COPY_BELOW_BYTES: usize = 16 << 10;
/// Where there is little room the relay is told of more only so often: each time it is woken for one entry costs more than the entry.
const ROOM_INTERVAL: Duration = Duration::from_millis(1);
/// What [`Queue::push_beyond`] may add to the bound.
const BEYOND_MAX_BYTES: usize = 1 << 20;

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
    /// PDUs that stood here were dropped unseen.
    Lost(Lost),
    /// A fact from the gateway; never a screen.
    Note(Box<Event>),
    /// Somebody looks in.
    Wish(Wish),
    /// The session is over; nothing follows.
    End(SessionEnd),
    /// The recorder has a defect.
    #[cfg(test)]
    Panic,
    /// The recorder has one that its next picture shows.
    #[cfg(test)]
    PanicInFrame,
}

/// PDUs that the recorder never sees.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lost {
    /// How many reads.
    pub(super) reads: u64,
    /// What the tap misses of them.
    pub(super) loss: Loss,
}

impl Entry {
    /// One or several whole PDUs that arrive now.
    pub(super) fn pdus(direction: Direction, pdus: Bytes) -> Self {
        let pdus = if pdus.len() < COPY_BELOW_BYTES {
            Bytes::copy_from_slice(&pdus)
        } else {
            pdus
        };
        Self {
            at: Instant::now(),
            what: What::Pdus(direction, pdus),
        }
    }

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
    /// The recorder waits, and wants to be woken by the first entry.
    idle: bool,
    /// The recorder lets entries gather.
    gathering: bool,
    /// When those who wait for room were woken last.
    woken: Option<Instant>,
    /// There is room of which they were not told.
    untold: bool,
}

/// The queue. Its bound is a cost: bytes plus a constant for each entry.
#[derive(Debug)]
pub(super) struct Queue {
    state: Mutex<State>,
    arrived: Condvar,
    room: Notify,
    max: usize,
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

    /// Takes what should not be lost though the queue is full, up to a bound of its own; gives it back otherwise.
    pub(super) fn push_beyond(&self, entry: Entry) -> Result<(), (Entry, Refused)> {
        let cost = entry.cost();
        let state = self.lock();
        if state.ended {
            return Err((entry, Refused::Ended));
        }
        if state.cost.saturating_add(cost) > self.max.saturating_add(BEYOND_MAX_BYTES) {
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
    pub(super) fn shed(&self) {
        self.lock().shed = true;
        self.arrived.notify_one();
    }

    /// PDUs were dropped here, between what is queued and what will be. The recorder must skip, too.
    pub(super) fn lost(&self, lost: Lost) {
        let mut state = self.lock();
        if state.ended {
            return;
        }
        state.shed = true;
        if let Some(Entry {
            what: What::Lost(before),
            ..
        }) = state.entries.back_mut()
        {
            before.reads += lost.reads;
            before.loss = before.loss.and(lost.loss);
            drop(state);
            self.arrived.notify_one();
            return;
        }
        let entry = Entry {
            at: Instant::now(),
            what: What::Lost(lost),
        };
        let cost = entry.cost();
        self.append(state, entry, cost);
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

    /// Whether all that was queued is worked through.
    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lock().cost == 0
    }

    /// Whether the recorder has nothing to do for now: there is nothing, or it lets entries gather.
    pub(super) fn is_resting(&self) -> bool {
        let state = self.lock();
        state.cost == 0 || state.gathering
    }

    /// Where the relay waits for room; take the future before trying [`Queue::push`] again.
    pub(super) fn room(&self) -> &Notify {
        &self.room
    }

    /// Moves all entries to `batch`. With none there, waits for the first one (at most until `deadline`) and then lets
    /// others gather for `gather`, unless the session ends or a quarter of the queue is full. True: the relay can't wait any
    /// longer, so skip until the queue is nearly empty.
    pub(super) fn take(&self, batch: &mut VecDeque<Entry>, deadline: Option<Instant>, gather: Duration) -> bool {
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
            state.gathering = true;
            state = self
                .arrived
                .wait_timeout(state, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.gathering = false;
        batch.append(&mut state.entries);
        // What is shed ends when the recorder has worked through all that had been queued by now.
        std::mem::take(&mut state.shed)
    }

    /// The recorder is done with an entry of this cost.
    pub(super) fn done(&self, cost: usize) {
        let mut state = self.lock();
        state.cost = state.cost.saturating_sub(cost);
        state.done += 1;
        // The last of them all always gets here: then there is room for anything.
        let wake = state.cost <= self.max / 2 || state.woken.is_none_or(|at| at.elapsed() >= ROOM_INTERVAL);
        state.untold = !wake;
        if wake {
            state.woken = Some(Instant::now());
        }
        drop(state);
        if wake {
            self.room.notify_waiters();
        }
    }

    /// The recorder does something that may take long: who waits is told of what room there is.
    pub(super) fn tell_room(&self) {
        if std::mem::take(&mut self.lock().untold) {
            self.room.notify_waiters();
        }
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

    /// However seldom there is word of a little room.
    #[test]
    fn who_waits_for_room_is_woken() {
        let queue = Queue::new(100_000);
        let mut batch = VecDeque::new();
        for before_a_long_step in [false, true, false] {
            while queue.push(pdu(1000), 100).is_ok() {}
            queue.take(&mut batch, None, Duration::ZERO);
            queue.done(batch.pop_front().unwrap().cost());
            let mut room = std::pin::pin!(queue.room().notified());
            assert!(!room.as_mut().enable());
            if before_a_long_step {
                queue.done(batch.pop_front().unwrap().cost());
                queue.tell_room();
                assert!(room.as_mut().enable());
            }
            while let Some(entry) = batch.pop_front() {
                queue.done(entry.cost());
            }
            assert!(room.as_mut().enable());
        }
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
        let shed = queue.take(&mut batch, Some(Instant::now()), Duration::ZERO);
        assert!(batch.is_empty() && !shed);
        queue.shed();
        assert!(queue.take(&mut batch, None, Duration::ZERO));
        assert!(batch.is_empty());
    }

    /// Entries that gather are no sign of a recorder that is stuck.
    #[test]
    fn who_gathers_rests() {
        let queue = Queue::new(100_000);
        queue.push(pdu(100), 100).unwrap();
        assert!(!queue.is_resting());
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| {
                let mut batch = VecDeque::new();
                queue.take(&mut batch, None, Duration::from_secs(3600));
                batch.len()
            });
            while !queue.is_resting() {
                std::thread::yield_now();
            }
            queue.push_always(end());
            assert_eq!(taken.join().unwrap(), 2);
        });
        assert!(!queue.is_resting(), "taken is not done");
    }

    /// Where it happened matters: what stands before it is right, what follows refers to what was never seen.
    #[test]
    fn what_is_lost_has_its_place() {
        let queue = Queue::new(1000);
        let lost = |activation| Lost {
            reads: 1,
            loss: Loss {
                activation,
                ..Loss::default()
            },
        };
        queue.push(pdu(100), 100).unwrap();
        queue.lost(lost(false));
        queue.lost(lost(true));
        queue.push(pdu(100), 100).unwrap();
        queue.lost(lost(false));
        let mut batch = VecDeque::new();
        assert!(queue.take(&mut batch, None, Duration::ZERO));
        let two = Lost { reads: 2, ..lost(true) };
        let found: Vec<_> = batch
            .iter()
            .map(|entry| match &entry.what {
                What::Lost(lost) => Some(*lost),
                _ => None,
            })
            .collect();
        assert_eq!(found, [None, Some(two), None, Some(lost(false))]);
    }

    #[test]
    fn the_room_beyond_is_bounded() {
        let queue = Queue::new(1000);
        queue.push(pdu(900), 100).unwrap();
        let mut count = 0;
        while queue.push_beyond(pdu(50_000)).is_ok() {
            count += 1;
        }
        assert_eq!(count, 20);
    }

    /// A small PDU in the queue must not keep the buffer alive that it was read into.
    #[test]
    fn small_pdus_do_not_pin_their_buffer() {
        let buffer = Bytes::from(vec![7; 64 << 10]);
        let queued = |slice: Bytes| match Entry::pdus(Direction::ToClient, slice).what {
            What::Pdus(_, bytes) => bytes,
            _ => unreachable!(),
        };
        let small = queued(buffer.slice(..1000));
        let large = queued(buffer.slice(..32 << 10));
        assert!(small == buffer[..1000] && large == buffer[..32 << 10]);
        assert_eq!(large.as_ptr(), buffer.as_ptr(), "large ones are not copied");
        assert_ne!(small.as_ptr(), buffer.as_ptr());
    }
}
