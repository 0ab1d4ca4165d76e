//! What documents get wrong that no document shows by itself: languages inside roles, names of roles that don't exist.

use std::collections::{BTreeMap, BTreeSet};

use deskreel_config::{ConfigError, Document, LockingMode, Resource, ResourceKind, Role};
use deskreel_policy::{Identity, Match, RoleSet, Severity, UserFacts};
use time::OffsetDateTime;

use super::view::{Ask, Snapshot, View};

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
    let stored = before.entries.keys().filter(|(kind, _)| *kind == ResourceKind::Role);
    let known: BTreeSet<&str> = roles
        .keys()
        .copied()
        .chain(stored.map(|(_, name)| name.as_str()))
        .collect();
    for document in documents {
        match &document.resource {
            Resource::User(user) => {
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
                let target = &lock.target;
                let fields = [&target.user, &target.role, &target.windows_desktop, &target.login];
                if fields.iter().filter(|field| field.is_some()).count() > 1 {
                    let message = "several targets: each locks by itself, not only where all meet";
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

/// Roles that are compared with desktops one by one.
const LINTED_MAX: usize = 2_000_000;

/// Hints that need the whole view: roles that open no desktop or no login, a relaxed lock mode.
pub(crate) fn lint(documents: &[&Document], view: &View, now: OffsetDateTime) -> Vec<ConfigError> {
    let mut hints = Vec::new();
    let mut left = LINTED_MAX;
    for document in documents {
        let Resource::Role(role) = &document.resource else {
            continue;
        };
        if role.options.lock == Some(LockingMode::BestEffort) && view.cluster.locking_mode == LockingMode::Strict {
            let message = "relaxes access.locking_mode, which is strict";
            hints.push(document.error("spec.options.lock", message));
        }
        let allow = &role.allow;
        let opens = !allow.windows_desktop_labels.is_empty() || allow.windows_desktop_labels_expression.is_some();
        if opens && allow.windows_desktop_logins.is_empty() {
            let message = "opens desktops with no login: write windows_desktop_logins";
            hints.push(document.error("spec.allow", message));
        }
        if !opens && !allow.windows_desktop_logins.is_empty() {
            let message = "names logins on no desktop: write windows_desktop_labels";
            hints.push(document.error("spec.allow.windows_desktop_logins", message));
        }
        if opens && !matches_some(role, view, now, &mut left) {
            let message = "matches none of the desktops that there are now";
            hints.push(document.error("spec.allow.windows_desktop_labels", message));
        }
    }
    hints
}

/// Whether the labels match any desktop for anybody who has the role. True when there is too much to look at.
fn matches_some(role: &Role, view: &View, now: OffsetDateTime, left: &mut usize) -> bool {
    let name = &role.metadata.name;
    let holders = view.users.values().filter(|user| user.roles.contains(name));
    let mut users: Vec<UserFacts> = holders.map(UserFacts::from).collect();
    if users.is_empty() {
        users.push(UserFacts {
            name: "anybody".to_owned(),
            exists: true,
            ..UserFacts::default()
        });
    }
    let matched = |part: Option<&Match>| part.is_none_or(|part| matches!(part, Match::Matched(_)));
    for mut user in users {
        user.roles = vec![name.clone()];
        for facts in view.desktop_facts(now) {
            let Some(rest) = left.checked_sub(1) else { return true };
            *left = rest;
            let mut request = view.request(&Ask {
                user: &user.name,
                identity: Identity::Claimed,
                desktop: Some(&facts.name),
                login: None,
                source: None,
                now,
                open_sessions: 0,
            });
            request.user = user.clone();
            let decision = view.decide(&request);
            let role = decision.matched.iter().find(|role| role.role == *name);
            if role.is_some_and(|role| matched(role.allow.labels.as_ref()) && matched(role.allow.expression.as_ref())) {
                return true;
            }
        }
    }
    false
}
