//! What is asked: who wants to open what, and under which settings of the cluster.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use deskreel_config::{ClaimedIdentity, Lock, LockingMode, RecordVote, RecordingSettings, User};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::duration;

/// Settings that hold for everybody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cluster {
    /// The resource `session_recording_config` that is in force.
    pub recording: RecordingSettings,
    /// `access.session_ttl_max`; `None` = never.
    #[serde(with = "duration::optional")]
    pub session_ttl_max: Option<Duration>,
    /// `access.client_idle_timeout`; `None` = never.
    #[serde(with = "duration::optional")]
    pub client_idle_timeout: Option<Duration>,
    /// `access.locking_mode`: where no role says.
    pub locking_mode: LockingMode,
    /// `access.lock_stale_max`: age above which the view of locks is outdated.
    #[serde(with = "duration::required")]
    pub lock_stale_max: Duration,
    /// `access.require_session_mfa`
    pub require_session_mfa: bool,
    /// `access.claimed_identity`
    pub claimed_identity: ClaimedIdentity,
    /// `access.claimed_roles`
    pub claimed_roles: Vec<String>,
}

impl Default for Cluster {
    /// The defaults of policy's page.
    fn default() -> Self {
        Self {
            recording: RecordingSettings::default(),
            session_ttl_max: None,
            client_idle_timeout: None,
            locking_mode: LockingMode::BestEffort,
            lock_stale_max: Duration::from_secs(300),
            require_session_mfa: false,
            claimed_identity: ClaimedIdentity::Deny,
            claimed_roles: vec!["access".to_owned()],
        }
    }
}

/// The locks, and when they were last known to be all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Locks {
    /// Every lock that is stored, in force or not.
    pub locks: Vec<Lock>,
    /// When they were last read.
    #[serde(with = "time::serde::rfc3339")]
    pub viewed_at: OffsetDateTime,
}

/// What is known of a user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct UserFacts {
    /// Name, as in the resource.
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
    /// Names of roles.
    pub roles: Vec<String>,
    /// What templates and expressions read.
    pub traits: BTreeMap<String, Vec<String>>,
    /// A resource of this name is there.
    pub exists: bool,
    /// From then on the user is refused.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
    /// `status.is_locked`
    pub is_locked: bool,
    /// `status.lock_expires`; `None` = for ever.
    #[serde(with = "time::serde::rfc3339::option")]
    pub lock_expires: Option<OffsetDateTime>,
}

impl UserFacts {
    /// The facts of a name that no resource has.
    #[must_use]
    pub fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            ..Self::default()
        }
    }
}

impl From<&User> for UserFacts {
    fn from(user: &User) -> Self {
        Self {
            name: user.metadata.name.clone(),
            labels: user.metadata.labels.clone(),
            roles: user.roles.clone(),
            traits: user.traits.clone(),
            exists: true,
            expires: user.metadata.expires,
            is_locked: user.is_locked,
            lock_expires: user.lock_expires,
        }
    }
}

/// Whether the name of the user is more than what the client wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Identity {
    /// The gateway has checked it.
    Proven {
        /// How.
        by: ProvenBy,
    },
    /// Nobody has checked it here (pass-through of the user's own credentials).
    Claimed,
}

/// What proved an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProvenBy {
    /// A password that the gateway knows.
    Password,
    /// A ticket.
    Ticket,
    /// An account of the node's operating system.
    LocalAccount,
}

/// What is known of a desktop.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DesktopFacts {
    /// Name, as in the resource.
    pub name: String,
    /// `host:port`
    pub addr: String,
    /// Labels, computed ones included.
    pub labels: BTreeMap<String, String>,
    /// `spec.domain`
    pub domain: Option<String>,
    /// `spec.record_session.desktop`: the least that sessions on it are recorded with.
    pub floor: Option<RecordVote>,
}

/// May this user open this login on this desktop?
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AccessRequest {
    /// Who asks.
    pub user: UserFacts,
    /// Whether that is proven.
    pub identity: Identity,
    /// The desktop; `None` = there is none of the name that was asked for.
    pub desktop: Option<DesktopFacts>,
    /// The account on the desktop, as the client wrote it; `None` = not known yet.
    pub login: Option<String>,
    /// Address of the client.
    pub source: Option<IpAddr>,
    /// The time.
    #[serde(with = "time::serde::rfc3339")]
    pub now: OffsetDateTime,
    /// A second factor was checked for this session.
    pub mfa_verified: bool,
    /// Sessions of the user that are open, this one not counted.
    pub open_sessions: u32,
}
