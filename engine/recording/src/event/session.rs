//! Session, gap and undecoded events.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::base64_bytes;
use crate::Rect;

/// Who the user is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct UserFacts {
    /// Name of the user.
    pub name: String,
    /// True when something proved the name; false when it was merely claimed.
    pub proven: bool,
}

/// The machine behind the gateway.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct DesktopFacts {
    /// Name of the desktop resource.
    pub name: String,
    /// `host:port`.
    pub addr: String,
    /// Labels of the resource.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// The user's RDP client.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientFacts {
    /// `address:port` as the gateway saw it.
    pub addr: String,
    /// Computer name from the client core data; a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Client build from the client core data; a claim.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub build: Option<u32>,
}

/// Facts at the start of a session; the first event of segment 0 and part of the manifest.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SessionStart {
    /// Recording id (UUIDv7).
    pub recording: Uuid,
    /// Wall time of time 0, in microseconds since 1970-01-01 UTC.
    pub started_unix_us: u64,
    /// Program and version that wrote the recording.
    pub product: String,
    /// Name of the gateway node.
    pub node: String,
    /// Who asked.
    pub user: UserFacts,
    /// Account on the desktop, as the client sent it.
    pub login: String,
    /// Domain of the login.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The desktop.
    pub desktop: DesktopFacts,
    /// The client.
    pub client: ClientFacts,
    /// Role decision, as the policy printed it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<serde_json::Value>,
    /// Anything more that the writer wants to state.
    #[serde(flatten)]
    pub extra: BTreeMap<String, serde_json::Value>,
}

/// A virtual channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelFacts {
    /// Channel name.
    pub name: String,
    /// Dynamic (inside `drdynvc`) rather than static.
    #[serde(default)]
    pub dynamic: bool,
    /// Why it was denied; absent when it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a session ended. The text form is open: readers show reasons they don't know as [`EndReason::Unknown`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The client closed the connection.
    ClientClosed,
    /// The desktop closed the connection.
    DesktopClosed,
    /// The user logged off on the desktop.
    LoggedOff,
    /// A network or protocol error.
    ProtocolError,
    /// The recorder or a storage failed and the mode is strict.
    RecorderFailed,
    /// A limit or lock of the policy ended it.
    PolicyEnded,
    /// An operator ended it.
    OperatorEnded,
    /// The gateway stopped.
    GatewayStopped,
    /// Unknown: the gateway crashed; the recording was closed afterwards.
    Recovered,
    /// A reason of a later version.
    #[serde(other)]
    Unknown,
}

/// How a session ended; the last event and part of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionEnd {
    /// Why.
    pub reason: EndReason,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Error info code that was seen or sent ([MS-RDPBCGR] 2.2.5.1.1).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_info: Option<u32>,
}

/// The network between desktop and client, as the desktop measured it ([MS-RDPBCGR] 2.2.14.1.5).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct NetworkFacts {
    /// Average round trip, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_ms: Option<u32>,
    /// Shortest round trip, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub round_trip_min_ms: Option<u32>,
    /// Bandwidth, in kilobits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_kbit: Option<u32>,
}

/// One of several monitors: where it is in the picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MonitorFacts {
    /// Left edge.
    pub x: u64,
    /// Upper edge.
    pub y: u64,
    /// Columns.
    pub width: u64,
    /// Rows.
    pub height: u64,
    /// The primary one.
    pub primary: bool,
}

/// Events of the session as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum SessionEvent {
    /// The session began.
    Start(Box<SessionStart>),
    /// The picture has this size from here on; written by [`crate::Recorder::frame`] before the key.
    Resized {
        /// Width in pixels.
        width: u16,
        /// Height in pixels.
        height: u16,
    },
    /// Other monitors than before.
    Monitors {
        /// The client asks for them; else the desktop says that they are these from now on.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        asked: bool,
        /// Each of them; empty where there is one, which is the whole picture.
        #[serde(default)]
        monitors: Vec<MonitorFacts>,
    },
    /// A virtual channel was opened.
    ChannelOpened(ChannelFacts),
    /// A virtual channel was denied.
    ChannelDenied(ChannelFacts),
    /// The desktop told the result of a logon.
    Logon {
        /// Whether the user is logged on now.
        ok: bool,
        /// Account name, where told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        login: Option<String>,
        /// One line for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// The desktop has measured the network to the client.
    Network(NetworkFacts),
    /// Something an auditor should look at.
    Alert {
        /// Short stable name.
        name: String,
        /// One line for people.
        detail: String,
    },
    /// The session ended.
    End(SessionEnd),
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// Why nothing was recorded for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// The tap's queue was full (`best_effort`).
    QueueFull,
    /// The recorder failed and was started again.
    RecorderFailed,
    /// No storage took the recording.
    StorageUnavailable,
    /// The spool was full.
    SpoolFull,
    /// The tap lost the thread of the desktop's compression or codec state.
    Undecodable,
    /// A reason of a later version.
    #[serde(other)]
    Unknown,
}

/// A stretch that is known to be unrecorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Begin, in nanoseconds since the session's start.
    pub from_ns: u64,
    /// End, in nanoseconds since the session's start.
    pub to_ns: u64,
    /// Why.
    pub reason: GapReason,
    /// One line for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A PDU that could not be decoded: evidence kept for a better decoder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecoded {
    /// What it was: the deepest layer reached (`bitmap`, `surface_bits`, `pointer`, `order`, ...).
    pub what: String,
    /// Codec id of a surface command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec_id: Option<u8>,
    /// Where on the screen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rect: Option<Rect>,
    /// The decoder's error.
    pub error: String,
    /// Length of the unit in bytes, also when `pdu` is left out.
    pub length: u64,
    /// The raw unit; empty when the session's `undecoded_max_bytes` is used up.
    #[serde(default, with = "base64_bytes")]
    pub pdu: Bytes,
}
