//! What the engine tells a plugin when it opens it.

use serde::{Deserialize, Serialize};

/// What the engine tells a plugin when it opens it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Context {
    /// The name of this instance in the configuration (`storages[].name`).
    pub name: String,
    /// Product version of the engine, for logs and user agents only; behaviour must not depend on it.
    pub engine_version: String,
}

impl Context {
    /// A context for an instance of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}
