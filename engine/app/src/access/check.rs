//! What documents get wrong that no document shows by itself: languages inside roles, names of roles that don't exist.

use std::collections::{BTreeMap, BTreeSet};

use deskreel_config::{ConfigError, Document, LockingMode, Resource, ResourceKind, Role};
use deskreel_policy::{DesktopFacts, ROLES_PER_USER_MAX, RoleSet, Severity, UserFacts};
use time::OffsetDateTime;

use super::view::{Snapshot, View};

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    /// The documents must not be loaded.
    pub(crate) errors: Vec<ConfigError>,
    /// They load, and something has no effect.
    pub(crate) warnings: Vec<ConfigError>,
    /// They work as written, which may not be as meant.
    pub(crate) lints: Vec<ConfigError>,
}

/// Checks `documents`, which come on top of `before`.
pub(crate) fn check(documents: &[&Document], before: &Snapshot, now: OffsetDateTime) -> Checked {
    let mut found = languages(documents);
    let roles = documents.iter().filter(|document| document.kind == ResourceKind::Role);
    let stored = before.entries.keys().filter(|(kind, _)| *kind == ResourceKind::Role);
    // one that can't be read is there all the same: it closes everything to its users
    let unreadable = before
        .unreadable
        .iter()
        .filter(|unreadable| unreadable.kind == ResourceKind::Role);
    let known: BTreeSet<&str> = roles
        .map(|document| document.name.as_str())
        .chain(stored.map(|(_, name)| name.as_str()))
        .chain(unreadable.map(|unreadable| unreadable.name.as_str()))
        .collect();
    for document in documents {
        match &document.resource {
            Resource::User(user) => {
                if user.roles.len() > ROLES_PER_USER_MAX {
                    let message = format!("more than {ROLES_PER_USER_MAX} roles");
                    found.errors.push(document.error("spec.roles", message));
                }
                for (index, role) in user.roles.iter().enumerate() {
                    if !known.contains(role.as_str()) {
                        let near = known.iter().find(|known| strsim::levenshtein(known, role) <= 2);
                        let hint = near.map(|near| format!(", did you mean {near}?")).unwrap_or_default();
                        let message = format!("there is no role {role:?}{hint}");
                        found
                            .errors
                            .push(document.error(&format!("spec.roles[{index}]"), message));
                    }
                }
            }
            Resource::Lock(lock) => {
                if lock.expires.is_some_and(|expires| expires <= now) {
                    found
                        .warnings
                        .push(document.error("spec.expires", "has passed already, so it locks nothing"));
                }
                if let Some(message) = deskreel_policy::lint_lock(lock) {
                    found.lints.push(document.error("spec.target", message));
                }
            }
            _ => {}
        }
    }
    found.errors.sort_by(|a, b| a.origin.cmp(&b.origin));
    found.warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
    found
}

/// What the languages inside roles get wrong: templates, patterns, expressions.
pub(crate) fn languages(documents: &[&Document]) -> Checked {
    let mut found = Checked::default();
    let mut roles: BTreeMap<&str, (&Role, &Document)> = BTreeMap::new();
    for document in documents {
        if let Resource::Role(role) = &document.resource {
            roles.insert(&document.name, (role, document));
        }
    }
    let (_, problems) = RoleSet::compile(roles.values().map(|(role, _)| *role));
    for problem in problems {
        let Some((_, document)) = roles.get(problem.role.as_str()) else {
            continue;
        };
        let error = document.error(&problem.path, problem.message);
        match problem.severity {
            Severity::Error => found.errors.push(error),
            Severity::Warning => found.warnings.push(error),
            Severity::Lint => found.lints.push(error),
        }
    }
    found
}

/// Hints that need the whole view: roles that open or close nothing, a relaxed lock mode.
pub(crate) fn lint(documents: &[&Document], view: &View, now: OffsetDateTime) -> Vec<ConfigError> {
    let users: Vec<UserFacts> = view.users.values().map(UserFacts::from).collect();
    let desktops: Vec<DesktopFacts> = view.desktop_facts(now).cloned().collect();
    let unused = deskreel_policy::unused(&view.roles, &users, &desktops, now);
    let mut hints = Vec::new();
    for document in documents {
        let Resource::Role(role) = &document.resource else {
            continue;
        };
        if role.options.lock == Some(LockingMode::BestEffort) && view.cluster.locking_mode == LockingMode::Strict {
            let message = "relaxes access.locking_mode, which is strict";
            hints.push(document.error("spec.options.lock", message));
        }
        let of_role = unused.iter().filter(|problem| problem.role == role.metadata.name);
        hints.extend(of_role.map(|problem| document.error(&problem.path, problem.message.clone())));
    }
    hints
}
