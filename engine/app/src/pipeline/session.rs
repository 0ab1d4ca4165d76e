//! The gateway's handle of one session's recorder, and what it tells it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_config::OnFailure;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::{Loss, TapConfig};
use deskreel_recording::Event;
use deskreel_recording::event::{EndReason, SessionEnd};
use tokio::sync::{Notify, mpsc, oneshot, watch};
use uuid::Uuid;

use super::drives;
use super::facts::SessionFacts;
use super::live::{self, LiveEvent, Look, Wish};
use super::queue::{Entry, Lost, Queue, Refused, What};
use super::trail::Trail;

/// How long best effort lets the user's session wait for a full queue before it opens a gap.
const GAP_PATIENCE: Duration = Duration::from_millis(100);
/// How often in `recording.stall_max` it is looked whether a strict recorder makes progress.
const STALL_LOOKS: u32 = 4;
/// Share of the queue, in percent, above which best effort begins to wait. The rest is for what arrives while the
/// recorder catches up by skipping: skipped PDUs keep the decompressor right, dropped ones don't.
const BEST_EFFORT_SHARE: usize = 75;

/// The recorder can't record any more, and `session_recording.on_failure` is strict: end the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recording failed: {reason}")]
pub(crate) struct RecorderFailed {
    /// Why, for the log and the recording.
    pub(crate) reason: String,
}

/// What the desktop has to repaint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refresh {
    /// The screen, by a rectangle as [MS-RDPBCGR] 2.2.11.1 has it: the pixels at its right and bottom edges belong to it.
    Whole,
    /// The same for desktops that don't take these edges for a part of it: one pixel more.
    WithEdges,
}

impl Refresh {
    /// How far the rectangle goes beyond the screen.
    pub(crate) fn beyond(self) -> u16 {
        match self {
            Self::Whole => 0,
            Self::WithEdges => 1,
        }
    }
}

/// How a session is recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub(super) on_failure: OnFailure,
    /// Every required storage works as `mode: sync`.
    pub(super) all_sync: bool,
    pub(super) stall_max: Duration,
    pub(super) queue_max_bytes: u64,
}

/// What the gateway's handle, the recorder thread and the courier share of one session.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) id: Uuid,
    pub(super) started_at: Instant,
    pub(super) on_failure: OnFailure,
    pub(super) stall_max: Duration,
    pub(super) queue: Queue,
    /// What the audit log is told.
    pub(super) trail: Trail,
    /// What the tap follows.
    tap: TapConfig,
    /// Segments go to the spool: a storage is async, or a sync storage stalled.
    pub(super) spooled: AtomicBool,
    /// Segments count when the sync storages have them; not any more after one stalled.
    pub(super) live: AtomicBool,
    /// Every required storage works as `mode: sync`.
    pub(super) all_sync: bool,
    /// Bytes of sealed segments that are in memory only.
    in_memory: Mutex<u64>,
    in_memory_less: Condvar,
    /// The recorder thread waits for the disk or a storage.
    pub(super) waits_for_room: AtomicBool,
    failure: watch::Sender<Option<String>>,
    refresh: Notify,
    /// What `refresh` is about.
    wanted: Mutex<Refresh>,
    closed: watch::Sender<bool>,
}

impl Shared {
    /// `spooled`, `live`: see the fields.
    pub(super) fn new(facts: &SessionFacts, rules: &Rules, spooled: bool, live: bool) -> Self {
        Self {
            id: facts.id,
            started_at: facts.started_at,
            on_failure: rules.on_failure,
            stall_max: rules.stall_max,
            queue: Queue::new(rules.queue_max_bytes),
            trail: Trail::new(facts, None),
            tap: facts.tap.clone(),
            spooled: AtomicBool::new(spooled),
            live: AtomicBool::new(live),
            all_sync: rules.all_sync,
            in_memory: Mutex::new(0),
            in_memory_less: Condvar::new(),
            waits_for_room: AtomicBool::new(false),
            failure: watch::Sender::new(None),
            refresh: Notify::new(),
            wanted: Mutex::new(Refresh::Whole),
            closed: watch::Sender::new(false),
        }
    }

    pub(super) fn is_strict(&self) -> bool {
        self.on_failure == OnFailure::Strict
    }

    /// The recorder can't do its work. Strict: the gateway will end the session. Best effort: only the log says so.
    pub(super) fn fail(&self, reason: &str) {
        let first = self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| reason.to_owned());
            first
        });
        if first {
            self.trail.fail(reason, self.is_strict());
            tracing::error!(session = %self.id, reason, strict = self.is_strict(), "recording failed");
        }
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.borrow().clone()
    }

    fn wish(&self, wish: Wish) {
        self.queue.push_always(Entry {
            at: Instant::now(),
            what: What::Wish(wish),
        });
    }

    pub(super) fn want_refresh(&self, refresh: Refresh) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = refresh;
        self.refresh.notify_one();
    }

    /// The recording is closed.
    pub(super) fn set_closed(&self) {
        self.closed.send_replace(true);
    }

    /// A sealed segment waits in memory from now on.
    pub(super) fn hold(&self, bytes: u64) {
        *self.in_memory.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
    }

    /// It is stored, or in the spool.
    pub(super) fn release(&self, bytes: u64) {
        let mut held = self.in_memory.lock().unwrap_or_else(PoisonError::into_inner);
        *held = held.saturating_sub(bytes);
        drop(held);
        self.in_memory_less.notify_all();
    }

    /// Makes sure that at most `max` bytes of sealed segments (and the one to come) are in memory. Strict waits: a sync
    /// storage that is slow makes the desktop slow, not the gateway large; a stall ends the wait, because then they go to
    /// the spool. Best effort doesn't let the session wait and goes over to the spool at once.
    pub(super) fn limit_memory(&self, max: u64) {
        let mut held = self.in_memory.lock().unwrap_or_else(PoisonError::into_inner);
        while *held > max && !self.spooled.load(Ordering::Acquire) {
            if !self.is_strict() {
                self.spooled.store(true, Ordering::Release);
                tracing::warn!(session = %self.id, bytes = *held, "the sync storages are slow: using the spool");
                return;
            }
            // Woken by `release`; the time only bounds how late a stall is noticed.
            let wait = self.in_memory_less.wait_timeout(held, Duration::from_millis(500));
            held = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// One session's recorder, as the gateway holds it. Cheap to clone; both relay tasks use it. When the last clone is
/// dropped without [`SessionRecorder::ended`], the recording is closed with [`EndReason::ProtocolError`].
#[derive(Debug, Clone)]
pub(crate) struct SessionRecorder {
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Recording(Arc<Handle>),
    NotRecording(Arc<NotRecorded>),
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        let end = let_go();
        self.shared.queue.push_always(Entry {
            at: Instant::now(),
            what: What::End(end),
        });
    }
}

/// The end of a session of which nobody said how it ended.
fn let_go() -> SessionEnd {
    SessionEnd {
        reason: EndReason::ProtocolError,
        detail: Some("the gateway let go of the session without saying why".to_owned()),
        error_info: None,
    }
}

/// What is to be done when a session ends that isn't recorded.
pub(super) type OnEnd = Box<dyn FnOnce(SessionEnd) + Send>;

struct NotRecorded {
    trail: Arc<Trail>,
    drives: drives::Unrecorded,
    on_end: Mutex<Option<OnEnd>>,
}

impl NotRecorded {
    fn ended(&self, end: SessionEnd) {
        let on_end = self.on_end.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(on_end) = on_end {
            self.drives.finish(&self.trail);
            on_end(end);
        }
    }
}

impl Drop for NotRecorded {
    fn drop(&mut self) {
        self.ended(let_go());
    }
}

impl std::fmt::Debug for NotRecorded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("NotRecorded")
    }
}

impl SessionRecorder {
    pub(super) fn recording(shared: Arc<Shared>) -> Self {
        Self {
            kind: Kind::Recording(Arc::new(Handle { shared })),
        }
    }

    pub(super) fn not_recording(trail: Arc<Trail>, drives: drives::Unrecorded, on_end: OnEnd) -> Self {
        Self {
            kind: Kind::NotRecording(Arc::new(NotRecorded {
                trail,
                drives,
                on_end: Mutex::new(Some(on_end)),
            })),
        }
    }

    pub(super) fn shared(&self) -> Option<&Arc<Shared>> {
        match &self.kind {
            Kind::Recording(handle) => Some(&handle.shared),
            Kind::NotRecording(_) => None,
        }
    }

    pub(super) fn trail(&self) -> &Trail {
        match &self.kind {
            Kind::Recording(handle) => &handle.shared.trail,
            Kind::NotRecording(session) => &session.trail,
        }
    }

    /// False for a session that isn't recorded; PDUs are enqueued all the same: the audit log hears of its drives and
    /// clipboard.
    pub(crate) fn is_recording(&self) -> bool {
        self.shared().is_some()
    }

    /// Hands over a copy of one or several whole PDUs that follow each other (one `Bytes`, no copy of the data).
    /// Strict: call it before forwarding them; it waits while the queue is full, at most `recording.stall_max` without
    /// progress. Best effort: call it after forwarding; it waits shortly, then opens a gap.
    ///
    /// Cancel safe: a cancelled call enqueued nothing.
    ///
    /// # Errors
    /// Only with strict: the session must end.
    pub(crate) async fn enqueue(&self, direction: Direction, pdus: Bytes) -> Result<(), RecorderFailed> {
        let shared = match &self.kind {
            Kind::Recording(handle) => &handle.shared,
            Kind::NotRecording(session) => {
                session.drives.pdus(direction, &pdus, &session.trail);
                return Ok(());
            }
        };
        let entry = Entry::pdus(direction, pdus);
        if shared.is_strict() {
            shared.enqueue_strict(entry).await
        } else {
            shared.enqueue_best_effort(entry).await;
            Ok(())
        }
    }

    /// Resolves when the recorder failed and the session must end; never with best effort. The same goes for the audit
    /// log and `audit.on_failure`.
    pub(crate) async fn failed(&self) -> RecorderFailed {
        tokio::select! {
            failed = self.recorder_failed() => failed,
            failed = self.trail().failed() => RecorderFailed { reason: failed.to_string() },
        }
    }

    async fn recorder_failed(&self) -> RecorderFailed {
        if let Some(shared) = self.shared().filter(|shared| shared.is_strict()) {
            let mut failure = shared.failure.subscribe();
            tokio::select! {
                Ok(reason) = failure.wait_for(Option::is_some) => return RecorderFailed {
                    reason: reason.clone().unwrap_or_default(),
                },
                failed = shared.stuck() => return failed,
                else => {}
            }
        }
        std::future::pending().await
    }

    /// Resolves when the desktop has to repaint everything (after a gap): inject `Phases::refresh`. Wait for it again
    /// afterwards. One caller at a time.
    pub(crate) async fn wants_refresh(&self) -> Refresh {
        match self.shared() {
            Some(shared) => {
                shared.refresh.notified().await;
                *shared.wanted.lock().unwrap_or_else(PoisonError::into_inner)
            }
            None => std::future::pending().await,
        }
    }

    /// A fact for the recording: a channel that was opened or denied, an alert.
    pub(crate) fn note(&self, note: Event) {
        self.note_as(&note.clone(), note);
    }

    /// The same of a fact of which the audit log hears more than the recording may keep.
    pub(crate) fn note_as(&self, told: &Event, note: Event) {
        self.trail().event(told);
        if let Some(shared) = self.shared() {
            shared.queue.push_always(Entry {
                at: Instant::now(),
                what: What::Note(Box::new(note)),
            });
        }
    }

    /// Every event that is recorded from now on, but for screens; `None` where nothing is recorded. Ends with the session,
    /// or when the receiver falls behind.
    pub(crate) fn watch(&self) -> Option<mpsc::Receiver<LiveEvent>> {
        let shared = self.shared()?;
        let (watcher, events) = live::watcher();
        shared.wish(Wish::Watch(watcher));
        Some(events)
    }

    /// The picture as it is now; `None` where nothing is recorded, or nothing was shown yet.
    pub(crate) async fn look(&self) -> Option<Look> {
        let shared = self.shared()?;
        let (asked, answer) = oneshot::channel();
        shared.wish(Wish::Look(asked));
        // Err = the session has ended
        answer.await.ok().flatten()
    }

    /// The session is over: the recorder takes what is queued, closes the recording and hands it to delivery. Returns
    /// at once; only the first call counts.
    pub(crate) fn ended(&self, end: SessionEnd) {
        match &self.kind {
            Kind::Recording(handle) => {
                handle.shared.queue.push_always(Entry {
                    at: Instant::now(),
                    what: What::End(end),
                });
            }
            Kind::NotRecording(session) => session.ended(end),
        }
    }

    /// Resolves when the recording is closed, after [`SessionRecorder::ended`]. With a sync storage it may not be stored
    /// yet.
    #[cfg(test)]
    pub(crate) async fn closed(&self) {
        if let Some(shared) = self.shared() {
            shared.wait_closed().await;
        }
    }
}

impl Shared {
    /// Resolves when the recording is closed.
    pub(super) async fn wait_closed(&self) {
        // An error is a recorder thread that is gone, which is closed as well.
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Resolves when the recorder thread has had something to do for `stall_max` and did nothing of it. That it waits for
    /// the disk or a storage is their stall, which is told where they are watched.
    async fn stuck(&self) -> RecorderFailed {
        let mut seen = (self.queue.progress(), Instant::now());
        loop {
            tokio::time::sleep(self.stall_max / STALL_LOOKS).await;
            let progress = self.queue.progress();
            let waits = self.waits_for_room.load(Ordering::Acquire);
            if progress != seen.0 || waits || self.queue.is_resting() {
                seen = (progress, Instant::now());
            } else if seen.1.elapsed() >= self.stall_max {
                return self.no_progress();
            }
        }
    }

    fn no_progress(&self) -> RecorderFailed {
        let reason = format!(
            "the recorder made no progress for {:?} (recording.stall_max)",
            self.stall_max
        );
        self.fail(&reason);
        RecorderFailed {
            // The first reason is the one that counts.
            reason: self.failure().unwrap_or(reason),
        }
    }

    fn check(&self) -> Result<(), RecorderFailed> {
        self.failure().map_or(Ok(()), |reason| Err(RecorderFailed { reason }))
    }

    async fn enqueue_strict(&self, mut entry: Entry) -> Result<(), RecorderFailed> {
        self.check()?;
        let mut progress = self.queue.progress();
        loop {
            let room = self.queue.room().notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            entry = match self.queue.push(entry, 100) {
                Ok(()) => return Ok(()),
                // Nothing that the recording can't show may pass.
                Err((_, Refused::Ended)) => {
                    return Err(RecorderFailed {
                        reason: "the recording is closed already".to_owned(),
                    });
                }
                Err((entry, Refused::Full)) => entry,
            };
            let waited = tokio::time::timeout(self.stall_max, room).await;
            self.check()?;
            let now = self.queue.progress();
            if waited.is_err() && now == progress {
                return Err(self.no_progress());
            }
            progress = now;
        }
    }

    async fn enqueue_best_effort(&self, mut entry: Entry) {
        if self.failure.borrow().is_some() {
            return;
        }
        let deadline = tokio::time::Instant::now() + GAP_PATIENCE;
        loop {
            let room = self.queue.room().notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            entry = match self.queue.push(entry, BEST_EFFORT_SHARE) {
                Ok(()) | Err((_, Refused::Ended)) => return,
                Err((entry, Refused::Full)) => entry,
            };
            if self.queue.is_shedding() {
                break;
            }
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                // it may not have been told of what little there is
                entry = match self.queue.push(entry, BEST_EFFORT_SHARE) {
                    Ok(()) | Err((_, Refused::Ended)) => return,
                    Err((entry, Refused::Full)) => entry,
                };
                break;
            }
        }
        let entry = match self.queue.push(entry, 100) {
            Ok(()) | Err((_, Refused::Ended)) => return self.queue.shed(),
            Err((entry, Refused::Full)) => entry,
        };
        // Without the last activation the tap knows neither the size of the picture nor its codecs, without the opening of
        // the graphics pipeline not what it shows, and there may be no other one for hours.
        let loss = match &entry.what {
            What::Pdus(_, pdus) => Loss::of(&self.tap, pdus),
            _ => Loss::default(),
        };
        if loss.is_vital() && self.queue.push_beyond(entry).is_ok() {
            return self.queue.shed();
        }
        self.queue.lost(Lost { reads: 1, loss });
    }
}
