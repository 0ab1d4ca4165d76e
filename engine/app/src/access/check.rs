//! What documents get wrong that no document shows by itself: languages inside roles, names of roles that don't exist.

use std::collections::{BTreeMap, BTreeSet};

use deskreel_config::{ConfigError, Document, Resource, ResourceKind, Role};
use deskreel_policy::{RoleSet, Severity};
use time::OffsetDateTime;

use super::view::Snapshot;

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
