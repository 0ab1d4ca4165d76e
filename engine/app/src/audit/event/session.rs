//! Own fields of events about sessions.

use std::collections::BTreeMap;

use deskreel_recording::event::NetworkFacts;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;

/// What was done with a drive of the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectoryAction {
    /// It was shared.
    Share,
    /// The desktop read of it.
    Read,
    /// The desktop wrote to it.
    Write,
}

/// Own fields of `desktop.directory.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Directory {
    /// Which event it is.
    #[serde(skip)]
    pub(crate) action: DirectoryAction,
    /// False: refused by the role, the desktop or the client.
    pub(crate) success: bool,
    /// Number of the drive in the session.
    pub(crate) directory_id: u32,
    /// Its name, as the client gave it.
    pub(crate) directory_name: String,
    /// The file, from the drive on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) file_path: Option<String>,
    /// The first byte; touching ranges are one event.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) offset: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) length: Option<u64>,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
}

/// Own fields of `windows.desktop.session.start`.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct SessionStart {
    /// Whether it was let in.
    pub(crate) success: bool,
    /// Why not, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Why not, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) message: Option<String>,
    /// The whole Decision, where there was one.
    pub(crate) decision: Option<Value>,
    /// The client's computer.
    pub(crate) client: Client,
    /// `proven` or `claimed`; empty while nobody said a name.
    pub(crate) identity: String,
    /// Whether the session is recorded.
    pub(crate) recorded: bool,
    /// Why not: `cluster_off`, `roles_off` or what failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_recorded: Option<String>,
}

/// The client as it describes itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Client {
    /// Computer name.
    pub(crate) name: String,
    /// Build of the RDP client.
    pub(crate) build: Option<u32>,
}

/// Own fields of `windows.desktop.session.end`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct SessionEnd {
    /// When it started.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) session_start: OffsetDateTime,
    /// When it was over.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) session_stop: OffsetDateTime,
    /// Who was in it.
    pub(crate) participants: Vec<String>,
    /// Whether it was recorded.
    pub(crate) recorded: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_recorded: Option<String>,
    /// Why it ended.
    pub(crate) end_reason: String,
    /// Gaps in the recording.
    pub(crate) gaps: u32,
    /// Bytes in sealed segments.
    pub(crate) bytes: u64,
    /// Whether a later start of the gateway found out that it was over.
    pub(crate) recovered: bool,
    /// What else it came to.
    #[serde(flatten)]
    pub(crate) summary: Summary,
}

/// What a session came to; what isn't known is left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Summary {
    /// Who was logged on, as the desktop said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) logon: Option<String>,
    /// The network, as the desktop measured it last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) network: Option<NetworkFacts>,
    /// The last error code of the desktop, or the one that the client was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error_info: Option<u32>,
    /// How many events of a channel the recording has, pictures aside.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) events: BTreeMap<&'static str, u64>,
}

/// Why the gateway ended a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum DisconnectReason {
    /// No input for too long.
    Idle,
    /// The longest time that a session may last.
    Ttl,
    /// A lock.
    Lock,
    /// The view of the locks is too old to be trusted.
    LockViewStale,
    /// Somebody ended it.
    Terminated,
    /// The recorder failed, or the audit log.
    Recorder,
}

impl Directory {
    pub(super) fn kind(&self) -> (&'static str, &'static str) {
        match (self.action, self.success) {
            (DirectoryAction::Share, true) => ("desktop.directory.share", "TDP04I"),
            (DirectoryAction::Share, false) => ("desktop.directory.share", "TDP04W"),
            (DirectoryAction::Read, true) => ("desktop.directory.read", "TDP05I"),
            (DirectoryAction::Read, false) => ("desktop.directory.read", "TDP05W"),
            (DirectoryAction::Write, true) => ("desktop.directory.write", "TDP06I"),
            (DirectoryAction::Write, false) => ("desktop.directory.write", "TDP06W"),
        }
    }
}
