//! Whether a user counts at all: row 2 of the order of checks.

use time::OffsetDateTime;

use crate::limits::ROLES_PER_USER_MAX;
use crate::{Reason, RoleSet, UserFacts};

/// Why the user does not count, and in words; `None` if it does.
pub(crate) fn standing(user: &UserFacts, roles: &RoleSet, now: OffsetDateTime) -> Option<(Reason, String)> {
    let name = &user.name;
    if !user.exists {
        return Some((Reason::UserUnknown, format!("there is no user {name}")));
    }
    if user.expires.is_some_and(|expires| expires <= now) {
        return Some((Reason::UserExpired, format!("user {name} has expired")));
    }
    if user.is_locked && user.lock_expires.is_none_or(|expires| expires > now) {
        return Some((Reason::UserLocked, format!("user {name} is locked (status.is_locked)")));
    }
    role_names(&user.roles, name, roles)
}

/// The part about roles alone.
pub(crate) fn role_names(names: &[String], user: &str, roles: &RoleSet) -> Option<(Reason, String)> {
    if let Some(unknown) = names.iter().filter(|role| !roles.contains(role)).min() {
        return Some((
            Reason::RoleUnknown,
            format!("there is no role {unknown}, which user {user} has"),
        ));
    }
    if names.len() <= ROLES_PER_USER_MAX {
        return None;
    }
    let distinct = names.iter().collect::<std::collections::BTreeSet<_>>().len();
    (distinct > ROLES_PER_USER_MAX).then(|| {
        let why = format!("user {user} has {distinct} roles, more than {ROLES_PER_USER_MAX}");
        (Reason::TooManyRoles, why)
    })
}
