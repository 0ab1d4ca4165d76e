//! A session's writer: a thread of its own between its recorder and the disk. A disk or a catalog that hangs holds up this
//! thread and nothing else: the recorder goes on following the desktop's compression, caches and surfaces, so that the
//! picture after a gap can be decoded, and what waits to be written is bounded.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::Bytes;
use deskreel_recording::event::GapReason;
use deskreel_recording::{Recorder, SealedSegment};

use super::session::Shared;
use super::sink::{Again, Sink};
use crate::catalog::{Closed, GapRow};

/// What a job costs besides its bytes.
const JOB_COST: u64 = 256;
/// Between two attempts to write what the disk did not take, with best effort.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// A job counts as one that the disk takes until it lasts so long.
const SLOW_JOB: Duration = Duration::from_secs(1);
/// How often a recorder that waits for the disk looks whether that makes sense.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// The thread's stack: a catalog's statement and a file are all that it holds.
const STACK_BYTES: usize = 512 << 10;
/// What is said when the thread has ended by itself.
const GONE: &str = "the writer is gone";

/// What is to be written.
enum Job {
    /// The next bytes of the open segment of this number.
    Append(u32, Bytes),
    Sealed(Box<SealedSegment>),
    Gap(GapRow),
    Closed(Vec<u8>, Box<Closed>),
    /// Only whether there is room.
    Look,
}

impl Job {
    fn cost(&self) -> u64 {
        JOB_COST
            + match self {
                Self::Append(_, bytes) => bytes.len() as u64,
                Self::Sealed(segment) => segment.bytes.len() as u64,
                Self::Closed(manifest, _) => manifest.len() as u64,
                Self::Gap(_) | Self::Look => 0,
            }
    }

    fn run(self, sink: &mut Sink, again: Again<'_>) -> anyhow::Result<()> {
        match self {
            Self::Append(number, bytes) => sink.append(number, &bytes),
            Self::Sealed(segment) => sink.sealed(&segment, again),
            Self::Gap(row) => {
                if let Err(error) = sink.gap(&row) {
                    // Only listings lack it: no reason to record less.
                    tracing::error!(session = %sink.shared.id, %error, "the catalog lacks a gap that the recording has");
                }
                Ok(())
            }
            Self::Closed(manifest, closed) => sink.closed(manifest, &closed, again),
            Self::Look => Ok(()),
        }
    }
}

#[derive(Default)]
struct State {
    /// What the jobs cost that are not done, the one at hand first.
    costs: VecDeque<u64>,
    /// All of that.
    bytes: u64,
    /// Since when the thread has been at the job at hand, or could be.
    busy_since: Option<Instant>,
    /// Whether a long job was told of.
    told: bool,
    /// What the disk answers while the thread tries again and again.
    trouble: Option<String>,
    /// The open segment can't be appended to any more: it has to be sealed, to be written whole.
    wants_seal: bool,
    /// Which limit of the spool is reached.
    full: Option<String>,
    /// What the recorder has not heard of yet: it has to give up.
    failed: Option<String>,
    /// Whether no manifest may be made, and why.
    broken: Option<String>,
    /// Until when a disk that doesn't take something is tried again.
    until: Option<Instant>,
}

impl State {
    /// There is one job more.
    fn begin(&mut self, cost: u64, now: Instant) {
        self.costs.push_back(cost);
        self.bytes += cost;
        self.busy_since.get_or_insert(now);
    }

    /// The job at hand is done, and the next one, if there is one, begins.
    fn end(&mut self, now: Instant) {
        let cost = self.costs.pop_front().unwrap_or_default();
        self.bytes = self.bytes.saturating_sub(cost);
        self.busy_since = (!self.costs.is_empty()).then_some(now);
        self.told = false;
    }

    /// Whether the disk does not keep up: more than `max_bytes` wait. One job always fits, because a segment may be larger
    /// than that by itself, but not while the thread is at a job for long.
    fn is_too_slow(&self, max_bytes: u64, now: Instant) -> bool {
        let slow = self
            .busy_since
            .is_some_and(|since| now.saturating_duration_since(since) >= SLOW_JOB);
        let fits = if slow {
            0
        } else {
            self.costs.iter().copied().max().unwrap_or(0)
        };
        self.bytes.saturating_sub(fits) > max_bytes
    }
}

/// What recorder and thread share.
#[derive(Default)]
struct Desk {
    state: Mutex<State>,
    changed: Condvar,
}

impl Desk {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code that can panic runs with the lock held.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread has ended by itself, and with it what waits.
    fn gone(&self) {
        self.lock().broken.get_or_insert_with(|| GONE.to_owned());
        self.changed.notify_all();
    }

    /// The disk did not take something, with best effort: waits and says whether it is to be tried again.
    fn again(&self, shared: &Shared, error: &str) -> bool {
        let mut state = self.lock();
        if state.trouble.is_none() {
            tracing::error!(session = %shared.id, error, "the spool or the catalog does not take the recording; trying again");
        }
        state.trouble = Some(error.to_owned());
        if state.until.is_some_and(|until| Instant::now() >= until) {
            return false;
        }
        let waited = self.changed.wait_timeout(state, RETRY_INTERVAL);
        drop(waited.unwrap_or_else(PoisonError::into_inner));
        true
    }
}

/// A session's writer, as its recorder holds it. Dropping it waits for the thread.
pub(super) struct Writer {
    shared: Arc<Shared>,
    desk: Arc<Desk>,
    /// Bytes that may wait for the disk, and, of sealed segments, for a sync storage.
    max_bytes: u64,
    /// `None` once nothing more is to come.
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.closing();
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // Its jobs' panics are caught; there is nobody left to tell of another.
            let _ = thread.join();
        }
    }
}

impl Writer {
    /// Starts the thread. Looks at the spool once before that, so that a session that begins with a full one knows.
    ///
    /// # Errors
    /// The system has no more threads.
    pub(super) fn start(sink: Sink, max_bytes: u64) -> anyhow::Result<Self> {
        let shared = Arc::clone(&sink.shared);
        let desk = Arc::new(Desk::default());
        desk.lock().full = sink.room().err();
        let (jobs, received) = mpsc::channel();
        let thread = std::thread::Builder::new()
            .name(format!("writer-{}", shared.id.simple()))
            .stack_size(STACK_BYTES)
            .spawn({
                let desk = Arc::clone(&desk);
                move || run(sink, &received, &desk)
            })
            .context("start the writer thread")?;
        Ok(Self {
            shared,
            desk,
            max_bytes,
            jobs: Some(jobs),
            thread: Some(thread),
        })
    }

    fn send(&self, job: Job) -> anyhow::Result<()> {
        self.desk.lock().begin(job.cost(), Instant::now());
        let sent = self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok());
        if !sent {
            self.desk.gone();
        }
        anyhow::ensure!(sent, GONE);
        Ok(())
    }

    /// Whether more waits for the disk than may.
    pub(super) fn is_behind(&self) -> bool {
        self.desk.lock().bytes > self.max_bytes
    }

    /// Whether the recorder may go on.
    ///
    /// # Errors
    /// A write failed that it has not heard of yet: it has to give up.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let failed = self.desk.lock().failed.take();
        failed.map_or(Ok(()), |failed| Err(anyhow::Error::msg(failed)))
    }

    /// Has what was recorded since the last call made durable, where the open segment is in the spool, and has a look at
    /// the room there. False where that waits in the open segment, to be taken later.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn append(&mut self, recorder: &mut Recorder) -> anyhow::Result<bool> {
        if !self.shared.spooled.load(Ordering::Acquire) || self.is_behind() {
            return Ok(false);
        }
        let bytes = recorder.take_open_bytes().context("flush the open segment")?;
        if bytes.is_empty() {
            self.look()?;
        } else {
            self.send(Job::Append(recorder.open_number(), bytes))?;
        }
        Ok(true)
    }

    /// Has a look at the room in the spool, where nothing waits that would bring one about.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn look(&self) -> anyhow::Result<()> {
        if !self.desk.lock().costs.is_empty() {
            return Ok(());
        }
        self.send(Job::Look)
    }

    /// Why nothing more can be recorded for now: the kind of the gap, and in words.
    pub(super) fn obstacle(&self) -> Option<(GapReason, String)> {
        let state = self.desk.lock();
        if let Some(full) = &state.full {
            return Some((GapReason::SpoolFull, full.clone()));
        }
        if let Some(trouble) = &state.trouble {
            return Some((GapReason::StorageUnavailable, trouble.clone()));
        }
        state.is_too_slow(self.max_bytes, Instant::now()).then(|| {
            let detail = "what is recorded can't be written as fast as it comes (recording.queue_max_bytes)";
            (GapReason::StorageUnavailable, detail.to_owned())
        })
    }

    /// Whether a gap may end: there is no obstacle, and most of what waited is written.
    pub(super) fn is_clear(&self) -> bool {
        let state = self.desk.lock();
        state.trouble.is_none() && state.full.is_none() && state.bytes <= self.max_bytes / 2
    }

    /// Whether the open segment has to be sealed at once, because it can only be written whole.
    pub(super) fn wants_seal(&self) -> bool {
        std::mem::take(&mut self.desk.lock().wants_seal)
    }

    /// Fails a strict session whose disk or catalog makes no progress for `stall_max`.
    pub(super) fn watch(&self) {
        let mut state = self.desk.lock();
        let stall_max = self.shared.stall_max;
        let stalls = state.busy_since.is_some_and(|since| since.elapsed() >= stall_max);
        if !stalls || std::mem::replace(&mut state.told, true) {
            return;
        }
        drop(state);
        let reason = format!("the spool or the catalog takes nothing for {stall_max:?} (recording.stall_max)");
        if self.shared.is_strict() {
            self.shared.fail(&reason);
        } else {
            tracing::error!(session = %self.shared.id, reason, "what is recorded waits in memory");
        }
    }

    /// When [`Writer::watch`] may have something to do.
    pub(super) fn watch_at(&self) -> Option<Instant> {
        let state = self.desk.lock();
        let since = state.busy_since.filter(|_| !state.told)?;
        Some(since + self.shared.stall_max)
    }

    /// Sees to it that not too much is in memory. Strict waits: a disk or a sync storage that is slow makes the desktop
    /// slow, not the gateway large; a failure ends the wait, because then the session ends. Best effort doesn't wait:
    /// instead of a slow sync storage it uses the spool, and [`Writer::obstacle`] tells of the disk.
    pub(super) fn limit_memory(&self) {
        self.shared.waits_for_room.store(true, Ordering::Release);
        self.shared.limit_memory(self.max_bytes);
        if self.shared.is_strict() {
            self.wait_for_disk();
        }
        self.shared.waits_for_room.store(false, Ordering::Release);
    }

    fn wait_for_disk(&self) {
        while self.shared.failure().is_none() {
            let state = self.desk.lock();
            if state.bytes <= self.max_bytes {
                return;
            }
            let waited = self.desk.changed.wait_timeout(state, LOOK_INTERVAL);
            drop(waited.unwrap_or_else(PoisonError::into_inner));
            self.watch();
        }
    }

    /// A segment is sealed.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn sealed(&mut self, segment: SealedSegment) -> anyhow::Result<()> {
        self.send(Job::Sealed(Box::new(segment)))
    }

    /// A gap, for listings; the recording has it as an event.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn gap(&mut self, gap: GapRow) -> anyhow::Result<()> {
        self.send(Job::Gap(gap))
    }

    /// The recording is closed.
    ///
    /// # Errors
    /// The thread is gone.
    pub(super) fn closed(&mut self, manifest: Vec<u8>, closed: Closed) -> anyhow::Result<()> {
        self.send(Job::Closed(manifest, Box::new(closed)))
    }

    /// The session is over: a disk that takes nothing is tried for `stall_max` more.
    pub(super) fn closing(&self) {
        let mut state = self.desk.lock();
        state
            .until
            .get_or_insert_with(|| Instant::now() + self.shared.stall_max);
    }

    /// Waits until all is written.
    ///
    /// # Errors
    /// A segment did not get its whole way: the recording has to be closed from what is durable.
    pub(super) fn settle(&self) -> anyhow::Result<()> {
        let mut state = self.desk.lock();
        while !state.costs.is_empty() && state.broken.is_none() {
            state = self.desk.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        match &state.broken {
            Some(broken) => Err(anyhow::Error::msg(broken.clone())),
            None => Ok(()),
        }
    }
}

/// Tells those that wait for the thread that it has panicked.
struct Alive<'a>(&'a Desk);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.gone();
        }
    }
}

/// The thread.
fn run(mut sink: Sink, jobs: &mpsc::Receiver<Job>, desk: &Desk) {
    let _alive = Alive(desk);
    let shared = Arc::clone(&sink.shared);
    while let Ok(job) = jobs.recv() {
        let was_torn = sink.torn().is_some();
        let again = |error: &str| !shared.is_strict() && desk.again(&shared, error);
        let done = catch_unwind(AssertUnwindSafe(|| job.run(&mut sink, &again)));
        let failed = match done {
            Ok(done) => done.err().map(|error| format!("{error:#}")),
            Err(_) => Some(sink.panicked().to_owned()),
        };
        let full = sink.room().err();
        let mut state = desk.lock();
        state.end(Instant::now());
        state.trouble = sink.torn().map(str::to_owned);
        state.wants_seal |= !was_torn && state.trouble.is_some();
        if sink.is_broken() {
            state.broken.get_or_insert_with(|| failed.clone().unwrap_or_default());
        }
        let ended = state.until.is_some();
        state.failed = state.failed.take().or_else(|| failed.clone());
        state.full.clone_from(&full);
        drop(state);
        desk.changed.notify_all();
        let reason = failed.or_else(|| full.map(|full| format!("spool {full}")));
        if let Some(reason) = reason
            && shared.is_strict()
            && !ended
        {
            // At once: the recorder hears of it only when it has something to write.
            shared.fail(&reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1000;

    #[test]
    fn one_job_may_be_larger_than_what_may_wait_unless_it_lasts() {
        let (mut state, now) = (State::default(), Instant::now());
        state.begin(10, now);
        state.begin(MAX * 3, now);
        state.begin(MAX - 10, now);
        // A segment above the limit, wherever it stands, and as much as the limit besides.
        assert!(!state.is_too_slow(MAX, now));
        assert!(state.is_too_slow(MAX, now + SLOW_JOB));
        state.begin(1, now);
        assert!(state.is_too_slow(MAX, now), "what waits besides is bounded");
        // The next job begins when the one before it is done.
        state.end(now + SLOW_JOB);
        assert!(!state.is_too_slow(MAX, now + SLOW_JOB));
        assert!(state.is_too_slow(MAX, now + SLOW_JOB * 2));
        state.end(now + SLOW_JOB * 2);
        assert!(
            !state.is_too_slow(MAX, now + SLOW_JOB * 9),
            "what is left is within the limit"
        );
    }

    /// A hang is told of by the time since when it lasts: that has to be known before the thread sees the job.
    #[test]
    fn a_job_begins_when_it_is_sent_or_the_one_before_it_is_done() {
        let (mut state, now) = (State::default(), Instant::now());
        let later = now + SLOW_JOB;
        state.begin(1, now);
        state.begin(1, later);
        assert_eq!(state.busy_since, Some(now));
        state.end(later);
        assert_eq!(state.busy_since, Some(later));
        state.end(later);
        assert_eq!((state.busy_since, state.bytes), (None, 0));
    }
}
