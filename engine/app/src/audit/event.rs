//! What the audit log tells: every event with its name, its code and its own fields. Names, codes and fields are
//! Teleport's where Teleport has such an event.

mod access;
mod log;
mod resource;
mod session;

use serde::Serialize;
use time::OffsetDateTime;

pub(crate) use access::{Login, LoginVia, Phase, RecordingAccess, RecordingAction};
pub(crate) use log::{LogEvent, RemovedFile, Upkeep};
pub(crate) use resource::{ResourceChange, ResourceVerb};
pub(crate) use session::{Client, Directory, DirectoryAction, DisconnectReason, SessionEnd, SessionStart, Summary};

/// One event, without who and where: those are the [`Scope`](super::Scope)'s.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub(crate) enum Event {
    /// A session starts, or was refused.
    SessionStart(Box<SessionStart>),
    /// A session that had started is over.
    SessionEnd(Box<SessionEnd>),
    /// The gateway ended a session, or refused to let it go on.
    ClientDisconnect {
        /// For people.
        reason: String,
        /// Why, as one word.
        reason_code: DisconnectReason,
    },
    /// A limit on open sessions refused one.
    SessionRejected {
        /// The option that names the limit.
        reason: &'static str,
        /// The limit.
        maximum: u64,
    },
    /// The client's clipboard went to the desktop, or the desktop's to the client.
    Clipboard {
        /// To the desktop.
        #[serde(skip)]
        to_desktop: bool,
        /// Bytes.
        length: u64,
        /// What the clipboard offered.
        formats: Vec<String>,
        /// Of the data, hexadecimal.
        sha256: Option<String>,
    },
    /// A clipboard transfer was blocked.
    ClipboardBlocked {
        /// `to_desktop` or `from_desktop`.
        direction: &'static str,
        /// What the clipboard offered.
        formats: Vec<String>,
    },
    /// A drive of the client was shared with the desktop, which then read or wrote a file on it.
    Directory(Box<Directory>),
    /// A virtual channel was opened.
    ChannelOpen {
        /// Its name.
        channel: String,
    },
    /// A virtual channel was denied.
    ChannelDenied {
        /// Its name.
        channel: String,
        /// The option and role that denied it, or what else did.
        reason: String,
    },
    /// The recording of a session begins.
    RecordingStart {
        /// `strict` or `best_effort`.
        level: String,
        /// How the storages work: `sync` or `as_configured`.
        storage_mode: String,
        /// Where the recording goes.
        storages: Vec<String>,
    },
    /// Something was not recorded.
    RecordingGap {
        /// Start of the gap.
        #[serde(with = "time::serde::rfc3339")]
        from: OffsetDateTime,
        /// End of the gap.
        #[serde(with = "time::serde::rfc3339")]
        to: OffsetDateTime,
        /// Why.
        reason: String,
    },
    /// Every required storage has all of the recording.
    RecordingComplete {
        /// How many segments.
        segments: u32,
        /// SHA-256 of the manifest, hexadecimal.
        digest: Option<String>,
        /// Where it is.
        storages: Vec<String>,
    },
    /// The recorder could not go on.
    RecordingFail {
        /// Why.
        error: String,
        /// Whether that ends the session.
        strict: bool,
    },
    /// A recording that a crash had left open was closed.
    RecordingRecover {
        /// How many segments are left.
        segments: u32,
        /// SHA-256 of the manifest, hexadecimal.
        digest: Option<String>,
        /// What is wrong with it, if anything.
        problem: Option<String>,
    },
    /// The manifest is at a storage.
    SessionUpload {
        /// The manifest: storage and key.
        url: String,
        /// The storage's name in the configuration.
        storage: String,
    },
    /// The spool fills up, or has room again.
    SpoolFill {
        /// 80, 90 or 100; 0 when it has room again.
        alert: u8,
        /// How near the nearest limit is.
        percent: u8,
        /// That limit's name in the configuration.
        limit: &'static str,
        /// Bytes that wait.
        used_bytes: u64,
        /// Bytes that the file system has left.
        free_bytes: u64,
    },
    /// Somebody logged on, or failed to.
    Login(Login),
    /// Somebody did something with a recording or a running session, or was refused.
    Recording(Box<RecordingAccess>),
    /// A resource was made, changed or removed.
    Resource(ResourceChange),
    /// The catalog was made anew from a storage.
    CatalogRebuild(Upkeep),
    /// Recordings were copied from a storage to another.
    StorageCopy(Upkeep),
    /// Digests of objects were compared with what was sealed.
    StorageScrub(Upkeep),
    /// About the log itself.
    Log(LogEvent),
}

impl Event {
    /// Name and code.
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        match self {
            Self::SessionStart(start) if start.success => ("windows.desktop.session.start", "TDP00I"),
            Self::SessionStart(_) => ("windows.desktop.session.start", "TDP00W"),
            Self::SessionEnd(_) => ("windows.desktop.session.end", "TDP01I"),
            Self::ClientDisconnect { .. } => ("client.disconnect", "T3006I"),
            Self::SessionRejected { .. } => ("session.rejected", "T1006W"),
            Self::Clipboard { to_desktop: true, .. } => ("desktop.clipboard.send", "TDP02I"),
            Self::Clipboard { .. } => ("desktop.clipboard.receive", "TDP03I"),
            Self::ClipboardBlocked { .. } => ("desktop.clipboard.blocked", "DRC02W"),
            Self::Directory(directory) => directory.kind(),
            Self::ChannelOpen { .. } => ("desktop.channel.open", "DRC01I"),
            Self::ChannelDenied { .. } => ("desktop.channel.denied", "DRC00W"),
            Self::RecordingStart { .. } => ("session.recording.start", "DRR00I"),
            Self::RecordingGap { .. } => ("session.recording.gap", "DRR01W"),
            Self::RecordingComplete { .. } => ("session.recording.complete", "DRR02I"),
            Self::RecordingFail { .. } => ("session.recording.fail", "DRR03E"),
            Self::RecordingRecover { .. } => ("session.recording.recover", "DRR04W"),
            Self::SessionUpload { .. } => ("session.upload", "T2005I"),
            Self::SpoolFill { alert: 0, .. } => ("spool.fill", "DRS03I"),
            Self::SpoolFill { .. } => ("spool.fill", "DRS03W"),
            Self::Login(login) if login.success => ("user.login", "T1000I"),
            Self::Login(_) => ("user.login", "T1000W"),
            Self::Recording(access) => access.kind(),
            Self::Resource(change) => change.kind(),
            Self::CatalogRebuild(done) if done.success => ("catalog.rebuild", "DRS00I"),
            Self::CatalogRebuild(_) => ("catalog.rebuild", "DRS00W"),
            Self::StorageCopy(done) if done.success => ("storage.copy", "DRS01I"),
            Self::StorageCopy(_) => ("storage.copy", "DRS01W"),
            Self::StorageScrub(done) if done.success => ("storage.scrub", "DRS02I"),
            Self::StorageScrub(_) => ("storage.scrub", "DRS02W"),
            Self::Log(LogEvent::Rotated { .. }) => ("audit.log.rotate", "DRL00I"),
            Self::Log(LogEvent::Repaired { .. }) => ("audit.log.repair", "DRL01W"),
            Self::Log(LogEvent::Lost { .. }) => ("audit.log.lost", "DRL02E"),
        }
    }
}
