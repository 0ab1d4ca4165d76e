//! Locks: on new sessions, and on those that run.

use deskreel_config::Lock;
use time::OffsetDateTime;

use crate::{Cluster, Decision, Locks};

/// Why a lock ends a session or closes a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockedOut {
    /// A lock is in force.
    Locked {
        /// Its name.
        name: String,
        /// Its message, for the client; never empty.
        message: String,
    },
    /// The locks can't be known, and strict says that this ends sessions.
    ViewStale,
}

/// Whether a running session must end: by a lock on its user, one of its roles, its desktop or its login, or because
/// the view of locks is too old for it. `login` is the account that is known by now, if the Decision has none.
#[must_use]
pub fn locked_out(
    _decision: &Decision,
    _login: Option<&str>,
    _cluster: &Cluster,
    _locks: &Locks,
    _now: OffsetDateTime,
) -> Option<LockedOut> {
    Some(LockedOut::ViewStale)
}

impl Locks {
    /// The first lock, by name, that is in force on the user or one of the roles: it closes pages, API and recordings.
    #[must_use]
    pub fn on_user(&self, _user: &str, _roles: &[String], _now: OffsetDateTime) -> Option<&Lock> {
        self.locks.first()
    }
}
