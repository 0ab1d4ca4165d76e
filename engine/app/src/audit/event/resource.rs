//! Own fields of events about resources.

use serde::Serialize;

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
    pub(super) fn kind(&self) -> (&'static str, &'static str) {
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
