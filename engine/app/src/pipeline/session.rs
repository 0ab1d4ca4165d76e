//! The gateway's handle of one session's recorder, and what it tells it.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::TapConfig;
use deskreel_recording::event::{SessionEnd, SessionEvent};
use uuid::Uuid;

use crate::catalog::IdentityKind;

/// What the gateway knows of a session when its recording starts.
#[derive(Debug, Clone)]
pub(crate) struct SessionFacts {
    /// UUIDv7, minted at accept: session id and recording id are one.
    pub(crate) id: Uuid,
    /// Wall-clock time of the accept.
    pub(crate) started: SystemTime,
    /// The same moment on the monotonic clock: time 0 of the recording.
    pub(crate) started_at: Instant,
    /// Who asks.
    pub(crate) user: String,
    /// Whether that is proven.
    pub(crate) identity: IdentityKind,
    /// The account on the desktop, as the client sent it.
    pub(crate) login: String,
    /// The login's domain, if the client sent one.
    pub(crate) domain: Option<String>,
    /// Name of the desktop resource.
    pub(crate) desktop: String,
    /// Where the desktop is, `host:port`.
    pub(crate) desktop_addr: String,
    /// Where the client came from.
    pub(crate) client_addr: SocketAddr,
    /// The computer name that the client gave.
    pub(crate) client_name: String,
    /// Client build from the client core data.
    pub(crate) client_build: Option<u32>,
    /// What the tap has to know; `undecoded_max_bytes` is set by the pipeline.
    pub(crate) tap: TapConfig,
}

/// The recorder can't record any more, and `session_recording.on_failure` is strict: end the session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("recording failed: {reason}")]
pub(crate) struct RecorderFailed {
    /// Why, for the log and the recording.
    pub(crate) reason: String,
}

/// One session's recorder, as the gateway holds it. Cheap to clone; both relay tasks use it. When the last clone is
/// dropped without [`SessionRecorder::ended`], the recording is closed with [`EndReason::ProtocolError`](deskreel_recording::event::EndReason).
#[derive(Debug, Clone)]
pub(crate) struct SessionRecorder {}

impl SessionRecorder {
    /// False when `session_recording.mode` is off: then nothing need be enqueued.
    pub(crate) fn is_recording(&self) -> bool {
        true
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
        let _ = (direction, pdus);
        Ok(())
    }

    /// Resolves when the recorder failed and the session must end; never with best effort.
    pub(crate) async fn failed(&self) -> RecorderFailed {
        std::future::pending().await
    }

    /// Resolves when the desktop has to repaint everything (after a gap): inject `Phases::refresh`. Wait for it again
    /// afterwards. One caller at a time.
    pub(crate) async fn wants_refresh(&self) {
        std::future::pending().await
    }

    /// A fact for the recording's `session` channel: a channel that was opened or denied, an alert.
    pub(crate) fn note(&self, note: SessionEvent) {
        let _ = note;
    }

    /// The session is over: the recorder takes what is queued, closes the recording and hands it to delivery. Returns
    /// at once; only the first call counts.
    pub(crate) fn ended(&self, end: SessionEnd) {
        let _ = end;
    }

    /// Resolves when the recording is closed, after [`SessionRecorder::ended`]. With a sync storage it may not be stored
    /// yet.
    pub(crate) async fn closed(&self) {}
}
