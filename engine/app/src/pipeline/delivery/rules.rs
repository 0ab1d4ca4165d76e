//! What the machine has to know of storages and sessions.

/// What the machine has to know of a storage.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    /// A recording isn't complete, and its copy isn't dropped, without it.
    pub(crate) required: bool,
    /// A live segment counts only when it is there: no progress for `stall_max` is a stall.
    pub(crate) sync: bool,
    /// Puts at once.
    pub(crate) concurrency: usize,
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
