//! What the machine has to know of storages, sessions and failures.

use std::time::Duration;

use uuid::Uuid;

use crate::catalog::Object;

/// Moments, as time since the machine was made.
pub(crate) type Time = Duration;

/// One object of one recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct ObjectId {
    /// The recording.
    pub(crate) recording: Uuid,
    /// Segment or manifest.
    pub(crate) object: Object,
}

/// What the machine has to know of a storage.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// A recording isn't complete, and its copy isn't dropped, without it.
    pub(crate) required: bool,
    /// A live segment counts only when it is there: no progress for `stall_max` is a stall.
    pub(crate) sync: bool,
    /// Puts at once.
    pub(crate) concurrency: usize,
    /// How fast puts may follow each other.
    pub(crate) pace: Pace,
}

/// How much a storage may be asked to do in a second, on average; a second's worth may come at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Puts begun.
    pub(crate) puts_per_second_max: Option<u64>,
    /// Bytes of puts begun.
    pub(crate) bytes_per_second_max: Option<u64>,
}

/// Whether an object's session runs, and which storages it waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Live {
    /// It doesn't wait.
    No,
    /// Those that are sync in the configuration.
    Sync,
    /// These and every required one, as `storage_mode: sync` of the Decision asks.
    Required,
}

impl Live {
    /// Whether the session waits for this storage.
    pub(super) fn waits_for(self, rules: &Rules) -> bool {
        match self {
            Self::No => false,
            Self::Sync => rules.sync,
            Self::Required => rules.sync || rules.required,
        }
    }
}

impl From<bool> for Live {
    fn from(live: bool) -> Self {
        if live { Self::Sync } else { Self::No }
    }
}

/// Where the bytes are while they wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Held {
    /// In memory only: lost if the process ends.
    Memory,
    /// In the spool.
    Spool,
}

/// What class of failure it was, by what helps against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Trying again helps: unreachable, slow, rate limited.
    Retry,
    /// The operator has to mend something (permission, settings, full disk); then trying again helps.
    Operator,
    /// Trying again helps, and the storage isn't to blame: this machine's disk or catalog failed.
    Here,
    /// Nothing helps this object: the storage holds other bytes under the key, or refuses the key or the size.
    None,
}

/// Why an object was not stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Failure {
    /// What helps.
    pub(crate) remedy: Remedy,
    /// What the storage said.
    pub(crate) message: String,
    /// The pause that it asked for.
    pub(crate) retry_after: Option<Duration>,
}

impl Failure {
    /// A failure without a wish for a pause.
    pub(crate) fn new(remedy: Remedy, message: impl Into<String>) -> Self {
        Self {
            remedy,
            message: message.into(),
            retry_after: None,
        }
    }
}
