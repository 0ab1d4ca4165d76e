//! What is wrong with a role, or odd.

use std::fmt;

use serde::Serialize;

/// One finding about a role.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Name of the role.
    pub role: String,
    /// Where in the resource, such as `spec.allow.windows_desktop_labels.env[0]`.
    pub path: String,
    /// How bad.
    pub severity: Severity,
    /// What is wrong and what would be right.
    pub message: String,
}

/// How bad a [`Problem`] is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The resource must not be loaded. What is wrong in an allow grants nothing, in a deny it matches everything.
    Error,
    /// It loads, and something in it has no effect.
    Warning,
    /// It works as written, which may not be as meant. Told by `resources check` alone.
    Lint,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.severity {
            Severity::Error => {}
            Severity::Warning => f.write_str("warning: ")?,
            Severity::Lint => f.write_str("lint: ")?,
        }
        write!(f, "role/{}: {}: {}", self.role, self.path, self.message)
    }
}
