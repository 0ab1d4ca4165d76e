//! What the audit log tells: every event with its name, its code and its own fields. Names, codes and fields are
//! Teleport's where Teleport has such an event.

use std::collections::BTreeMap;

use deskreel_recording::event::NetworkFacts;
use serde::Serialize;
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

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

/// Own fields of `catalog.rebuild`, `storage.copy` and `storage.scrub`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Upkeep {
    /// `begun` is written before anything is done, `done` when the outcome is known.
    pub(crate) phase: Phase,
    /// The storage that it is about: where a copy goes.
    pub(crate) storage: String,
    /// Whether it did what it should.
    pub(crate) success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Where a copy comes from, how much was found, copied or compared.
    #[serde(flatten)]
    pub(crate) details: serde_json::Map<String, Value>,
}

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

/// What somebody does with a recording or a running session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RecordingAction {
    /// Look at it: frames, events.
    Access,
    /// Make a video or pictures of it.
    Export,
    /// Copy segments and manifest.
    Download,
    /// Delete it.
    Delete,
    /// Keep it from being deleted.
    Hold,
    /// Lift such a hold.
    Release,
    /// Check it.
    Verify,
    /// Watch a running session.
    Watch,
    /// End a running session.
    Terminate,
}

/// Own fields of `session.recording.*`, `session.watch` and `session.terminate`; `user` is who asks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct RecordingAccess {
    /// Which event it is.
    #[serde(skip)]
    pub(crate) what: RecordingAction,
    /// The session.
    pub(crate) sid: Uuid,
    /// What exactly: `play`, `frame`, `events`, `export` ...
    pub(crate) action: String,
    /// `begun` is written before the first byte is handed out, `done` when the outcome is known.
    pub(crate) phase: Phase,
    /// False: refused, or failed after it had begun.
    pub(crate) success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// The rule that decided: role and number of its rule, or why there is none.
    pub(crate) rule: String,
    /// Whose session it was.
    pub(crate) session_user: String,
    /// On which desktop.
    pub(crate) desktop_name: String,
    /// Where the request came from, if not from this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) address: Option<String>,
    /// Format and range, bytes and SHA-256 of what was handed out, storages, result: what the action has of these.
    #[serde(flatten)]
    pub(crate) details: serde_json::Map<String, Value>,
}

/// Where an access stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// Nothing was handed out yet.
    Begun,
    /// It is over.
    Done,
}

/// Kinds whose changes are events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResourceKind {
    /// `user`
    User,
    /// `role`
    Role,
    /// `lock`
    Lock,
    /// `session_recording_config`
    RecordingConfig,
    /// `windows_desktop`
    Desktop,
}

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ResourceVerb {
    /// It is new.
    Created,
    /// It was replaced.
    Updated,
    /// It is gone.
    Deleted,
}

/// Own fields of the events about resources; who did it is `user`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ResourceChange {
    /// Of what kind it is.
    #[serde(skip)]
    pub(crate) kind: ResourceKind,
    /// What happened.
    #[serde(skip)]
    pub(crate) verb: ResourceVerb,
    /// Its name.
    pub(crate) name: String,
    /// `config-file` or `dynamic`.
    pub(crate) origin: String,
    /// Keys that changed; never values, which may be secret.
    pub(crate) changed: Vec<String>,
}

/// Events about the log itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum LogEvent {
    /// A file was full; the next one begins with this line.
    Rotated {
        /// The full file's new name.
        file: String,
        /// Older files that are removed, for `audit.files_max`.
        removed: Vec<RemovedFile>,
    },
    /// The log did not end as it was left.
    Repaired {
        /// What was found and done.
        message: String,
        /// What a process that was killed had written of its line.
        #[serde(skip_serializing_if = "Option::is_none")]
        torn: Option<String>,
        /// First line that is missing, by its `seq`.
        #[serde(skip_serializing_if = "Option::is_none")]
        missing_from: Option<u64>,
        /// Last line that is missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        missing_to: Option<u64>,
    },
    /// Events could not be written and are not in the log.
    Lost {
        /// How many.
        count: u64,
        /// Why.
        error: String,
    },
}

/// A file that is removed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct RemovedFile {
    /// Its name.
    pub(crate) file: String,
    /// `seq` of its last line.
    pub(crate) last_seq: u64,
    /// SHA-256 of its last line, hexadecimal.
    pub(crate) last_sha256: String,
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

impl Directory {
    fn kind(&self) -> (&'static str, &'static str) {
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

impl RecordingAccess {
    fn kind(&self) -> (&'static str, &'static str) {
        match (self.what, self.success) {
            (RecordingAction::Access, true) => ("session.recording.access", "T2012I"),
            (RecordingAction::Access, false) => ("session.recording.access", "DRA00W"),
            (RecordingAction::Export, true) => ("session.recording.export", "DRA01I"),
            (RecordingAction::Export, false) => ("session.recording.export", "DRA01W"),
            (RecordingAction::Download, true) => ("session.recording.download", "DRA02I"),
            (RecordingAction::Download, false) => ("session.recording.download", "DRA02W"),
            (RecordingAction::Delete, true) => ("session.recording.delete", "DRA03I"),
            (RecordingAction::Delete, false) => ("session.recording.delete", "DRA03W"),
            (RecordingAction::Hold, true) => ("session.recording.hold", "DRA07I"),
            (RecordingAction::Hold, false) => ("session.recording.hold", "DRA07W"),
            (RecordingAction::Release, true) => ("session.recording.release", "DRA08I"),
            (RecordingAction::Release, false) => ("session.recording.release", "DRA08W"),
            (RecordingAction::Verify, true) => ("session.recording.verify", "DRA04I"),
            (RecordingAction::Verify, false) => ("session.recording.verify", "DRA04W"),
            (RecordingAction::Watch, true) => ("session.watch", "DRA05I"),
            (RecordingAction::Watch, false) => ("session.watch", "DRA05W"),
            (RecordingAction::Terminate, true) => ("session.terminate", "DRA06I"),
            (RecordingAction::Terminate, false) => ("session.terminate", "DRA06W"),
        }
    }
}

impl From<deskreel_config::ResourceKind> for ResourceKind {
    fn from(kind: deskreel_config::ResourceKind) -> Self {
        match kind {
            deskreel_config::ResourceKind::Role => Self::Role,
            deskreel_config::ResourceKind::User => Self::User,
            deskreel_config::ResourceKind::WindowsDesktop => Self::Desktop,
            deskreel_config::ResourceKind::SessionRecordingConfig => Self::RecordingConfig,
            deskreel_config::ResourceKind::Lock => Self::Lock,
        }
    }
}

impl ResourceChange {
    fn kind(&self) -> (&'static str, &'static str) {
        use ResourceKind::{Desktop, Lock, RecordingConfig, Role, User};
        use ResourceVerb::{Created, Deleted, Updated};
        match (self.kind, self.verb) {
            (User, Created) => ("user.create", "T1002I"),
            (User, Updated) => ("user.update", "T1003I"),
            (User, Deleted) => ("user.delete", "T1004I"),
            (Role, Created) => ("role.created", "T9000I"),
            (Role, Updated) => ("role.updated", "T9002I"),
            (Role, Deleted) => ("role.deleted", "T9001I"),
            // A lock that is replaced is a new one: Teleport has no event of its own for it either.
            (Lock, Created | Updated) => ("lock.created", "TLK00I"),
            (Lock, Deleted) => ("lock.deleted", "TLK01I"),
            (RecordingConfig, _) => ("session_recording_config.update", "TCREC003I"),
            (Desktop, Created) => ("desktop.create", "DRP00I"),
            (Desktop, Updated) => ("desktop.update", "DRP01I"),
            (Desktop, Deleted) => ("desktop.delete", "DRP02I"),
        }
    }
}
