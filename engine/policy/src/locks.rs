//! Locks: on new sessions, and on those that run.

use deskreel_config::{Lock, LockingMode};
use time::OffsetDateTime;

use crate::login::Asked;
use crate::text::fold;
use crate::{Cluster, Decision, Identity, Locks};

/// What a client is told by a lock without a message.
const NO_MESSAGE: &str = "access is locked";

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
/// the view of locks is too old for it. `login` is the account that is known by now, beside the Decision's.
#[must_use]
pub fn locked_out(
    decision: &Decision,
    login: Option<&str>,
    cluster: &Cluster,
    locks: &Locks,
    now: OffsetDateTime,
) -> Option<LockedOut> {
    // the role's spelling and the account's, which may have a domain
    let known = decision.login.as_deref().into_iter().chain(login);
    let logins: Vec<String> = known.flat_map(|login| Asked::new(login, None).deny).collect();
    let claimed = claimed(&decision.user, decision.identity);
    let subject = Subject {
        user: &decision.user,
        claimed: &claimed,
        roles: &decision.roles,
        desktop: decision.desktop.as_deref(),
        logins: &logins,
    };
    if let Some((lock, _)) = locks.in_force(now).find_map(|lock| Some((lock, subject.hit(lock)?))) {
        return Some(LockedOut::Locked {
            name: lock.metadata.name.clone(),
            message: message(lock),
        });
    }
    let ends = decision.limits.lock_mode == LockingMode::Strict && locks.is_stale(cluster, now);
    ends.then_some(LockedOut::ViewStale)
}

/// The forms in which a lock may name a user whose name is merely claimed: the desktop, which alone checks it, takes it in any
/// case and with any domain, and a lock must not be passed by another spelling.
pub(crate) fn claimed(user: &str, identity: Identity) -> Vec<String> {
    match identity {
        Identity::Claimed => Asked::new(user, None).deny,
        Identity::Proven { .. } => Vec::new(),
    }
}

/// What the client is told.
pub(crate) fn message(lock: &Lock) -> String {
    let message = lock
        .message
        .as_deref()
        .map(str::trim)
        .filter(|message| !message.is_empty());
    message.unwrap_or(NO_MESSAGE).to_owned()
}

/// What locks can hit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Subject<'a> {
    pub(crate) user: &'a str,
    /// Folded forms of the user's name, if it is merely claimed.
    pub(crate) claimed: &'a [String],
    pub(crate) roles: &'a [String],
    pub(crate) desktop: Option<&'a str>,
    /// Folded forms of the login, if it is known.
    pub(crate) logins: &'a [String],
}

impl Subject<'_> {
    /// What of it the lock hits, in words.
    pub(crate) fn hit(&self, lock: &Lock) -> Option<String> {
        let target = &lock.target;
        let is_user =
            |user: &&String| *user == self.user || (!self.claimed.is_empty() && self.claimed.contains(&fold(user)));
        if let Some(user) = target.user.as_ref().filter(is_user) {
            return Some(format!("user {user}"));
        }
        if let Some(role) = target.role.as_ref().filter(|role| self.roles.contains(role)) {
            return Some(format!("role {role}"));
        }
        let desktop = target.windows_desktop.as_deref();
        if let Some(desktop) = desktop.filter(|desktop| Some(*desktop) == self.desktop) {
            return Some(format!("desktop {desktop}"));
        }
        let login = target.login.as_ref();
        let login = login.filter(|login| !self.logins.is_empty() && self.logins.contains(&fold(login)))?;
        Some(format!("login {login}"))
    }
}

impl Locks {
    /// The first lock, by name, that is in force on the user or one of the roles: it closes pages, API and recordings.
    #[must_use]
    pub fn on_user(&self, user: &str, roles: &[String], now: OffsetDateTime) -> Option<&Lock> {
        let subject = Subject {
            user,
            claimed: &[],
            roles,
            desktop: None,
            logins: &[],
        };
        self.in_force(now).find(|lock| subject.hit(lock).is_some())
    }

    /// The last view is older than the cluster lets it be.
    #[must_use]
    pub fn is_stale(&self, cluster: &Cluster, now: OffsetDateTime) -> bool {
        let age = now - self.viewed_at;
        !age.is_negative() && age.unsigned_abs() > cluster.lock_stale_max
    }

    /// Locks in force, by name.
    pub(crate) fn in_force(&self, now: OffsetDateTime) -> impl Iterator<Item = &Lock> {
        let ahead = move |time: Option<OffsetDateTime>| time.is_none_or(|time| time > now);
        let mut locks: Vec<_> = self.locks.iter().collect();
        locks.retain(|lock| ahead(lock.expires) && ahead(lock.metadata.expires));
        locks.sort_by_key(|lock| &lock.metadata.name);
        locks.into_iter()
    }
}

/// The lint of a lock: what may not be meant as it is written.
#[must_use]
pub fn lint_lock(lock: &Lock) -> Option<String> {
    let target = &lock.target;
    let fields = [&target.user, &target.role, &target.windows_desktop, &target.login];
    (fields.into_iter().flatten().count() > 1)
        .then(|| "several fields in one target lock each by itself, not only where all of them are met".to_owned())
}
