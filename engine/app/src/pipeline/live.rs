//! Looking into a session that runs: a copy of what the recorder writes, and its picture.

use deskreel_recording::Event;
use tokio::sync::{mpsc, oneshot};

/// Events that may wait for a watcher; one that falls further behind is let go.
const WATCH_QUEUE: usize = 1024;
/// Watchers of one session.
const WATCHERS_MAX: usize = 16;

/// One event, as it is recorded.
#[derive(Debug, Clone)]
pub(crate) struct LiveEvent {
    /// Nanoseconds since the session's start.
    pub(crate) time_ns: u64,
    /// What happened; never a screen.
    pub(crate) event: Event,
}

/// The picture at a moment.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    /// Nanoseconds since the session's start.
    pub(crate) time_ns: u64,
    /// Columns.
    pub(crate) width: u16,
    /// Rows.
    pub(crate) height: u16,
    /// Four bytes a pixel, rows from the top, without gaps.
    pub(crate) rgba: Vec<u8>,
}

/// Somebody wants to see.
#[derive(Debug)]
pub(super) enum Wish {
    /// Every event from now on.
    Watch(mpsc::Sender<LiveEvent>),
    /// The picture as it is now, if there is one.
    Look(oneshot::Sender<Option<Look>>),
}

/// Who watches one session.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    watchers: Vec<mpsc::Sender<LiveEvent>>,
}

impl Watchers {
    pub(super) fn add(&mut self, watcher: mpsc::Sender<LiveEvent>) {
        self.watchers.retain(|watcher| !watcher.is_closed());
        // one too many is let go, as is one that falls behind
        if self.watchers.len() < WATCHERS_MAX {
            self.watchers.push(watcher);
        }
    }

    /// Never waits: who does not keep up loses its place, which it sees by the end of its events.
    pub(super) fn tell(&mut self, time_ns: u64, event: &Event) {
        if self.watchers.is_empty() {
            return;
        }
        self.watchers.retain(|watcher| {
            let event = LiveEvent {
                time_ns,
                event: event.clone(),
            };
            watcher.try_send(event).is_ok()
        });
    }
}

/// A watcher's two ends.
pub(super) fn watcher() -> (mpsc::Sender<LiveEvent>, mpsc::Receiver<LiveEvent>) {
    mpsc::channel(WATCH_QUEUE)
}
