//! What goes over the control socket: one JSON object a line.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::catalog::IdentityKind;

/// Longest request, newline included.
pub(crate) const REQUEST_MAX_BYTES: u64 = 16 << 10;
/// Longest answer: a picture of the largest desktop, in base64.
pub(crate) const ANSWER_MAX_BYTES: u64 = 256 << 20;
/// Longest reason of a `terminate`, in characters.
pub(crate) const REASON_MAX_CHARS: usize = 1000;
/// Shortest time between two pictures of a watched session, in milliseconds.
pub(crate) const FRAME_INTERVAL_MIN_MS: u64 = 200;

/// What is asked of the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Request {
    /// All running sessions.
    List {},
    /// One of them.
    Show {
        /// Its id, or a unique beginning of it.
        id: String,
    },
    /// End one.
    Terminate {
        /// Its id, or a unique beginning of it.
        id: String,
        /// Told to the session's user (in the recording and the log) and to auditors.
        reason: String,
        /// Who became root or the gateway's account by sudo, for the audit log: told, not proved.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sudo_user: Option<String>,
    },
    /// Follow one until it ends.
    Watch {
        /// Its id, or a unique beginning of it.
        id: String,
        /// Pictures too, so often.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        frame_interval_ms: Option<u64>,
        /// As with `terminate`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sudo_user: Option<String>,
    },
}

/// What the gateway answers. `watch` has many answers, all others one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub(crate) enum Answer {
    /// To `list`.
    Sessions {
        /// Oldest first.
        sessions: Vec<Session>,
    },
    /// To `show`, and the first to `watch`.
    Session {
        /// The session.
        session: Box<Session>,
    },
    /// To `terminate`: the session is ending.
    Terminating {
        /// Its whole id.
        id: Uuid,
    },
    /// To `watch`: something was recorded.
    Event {
        /// As `recordings events` shows it.
        event: Map<String, Value>,
    },
    /// To `watch`: the picture.
    Frame {
        /// Nanoseconds since the session's start.
        time_ns: u64,
        /// A PNG, in base64.
        png: String,
    },
    /// To `watch`: the session is over.
    End {
        /// The end's code and what was special about it.
        reason: String,
    },
    /// It can't be done.
    Error {
        /// What kind of obstacle.
        kind: ErrorKind,
        /// One line for people.
        message: String,
    },
}

/// Kinds of obstacles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ErrorKind {
    /// The request can't be read, or asks for nonsense.
    Request,
    /// No running session has this id, or several begin with it.
    NotFound,
    /// Who asks may not do this.
    Denied,
    /// The session isn't recorded, so there is nothing to watch.
    NotRecorded,
    /// The watcher did not keep up.
    Lagged,
    /// The audit log can't be written, so nothing was done.
    Audit,
    /// Too many connections at once.
    Busy,
}

/// A running session.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Session {
    /// Session id and recording id are one.
    pub(crate) id: Uuid,
    /// Who is in.
    pub(crate) user: String,
    /// Whether that is proven.
    pub(crate) identity: IdentityKind,
    /// The roles that counted.
    pub(crate) roles: Vec<String>,
    /// The account on the desktop.
    pub(crate) login: String,
    /// Name of the desktop.
    pub(crate) desktop: String,
    /// Where it is.
    pub(crate) desktop_addr: String,
    /// Where the client is.
    pub(crate) client_addr: String,
    /// What the client calls its machine.
    pub(crate) client_name: String,
    /// Wall-clock start.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) started: OffsetDateTime,
    /// How long it runs, in milliseconds.
    pub(crate) duration_ms: u64,
    /// How long nobody has touched mouse or keys, in milliseconds.
    pub(crate) idle_ms: u64,
    /// `starting` until the picture begins, then `recorded` or `not_recorded`.
    pub(crate) recording: RecordingState,
    /// `strict`, `best_effort` or `off`.
    pub(crate) level: String,
}

/// Whether a session is being recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecordingState {
    /// Its picture has not begun.
    Starting,
    /// It is.
    Recorded,
    /// It isn't.
    NotRecorded,
}
