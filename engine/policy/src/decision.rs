//! The outcome: what is allowed, how it is recorded, and why. Written unchanged into catalog, start event and manifest.

use std::collections::BTreeMap;
use std::time::Duration;

use deskreel_config::{ClipboardLevel, ClipboardRight, InputLevel, LockingMode};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::{Identity, duration};

/// Answer to an [`AccessRequest`](crate::AccessRequest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Whether the session may be opened.
    pub verdict: Verdict,
    /// Why not; `None` unless denied.
    pub reason: Option<Reason>,
    /// What the client may be told; empty unless denied. Says nothing that a stranger could learn from.
    pub message: String,
    /// What operators are told: which check decided, and over what.
    pub why: String,
    /// Who asked.
    pub user: String,
    /// Whether that was proven.
    pub identity: Identity,
    /// Roles that counted, sorted, each once; without the implicit role.
    pub roles: Vec<String>,
    /// The desktop, if there is one.
    pub desktop: Option<String>,
    /// The account: of an allowed session in the role's spelling, else as asked.
    pub login: Option<String>,
    /// Accounts to choose from, sorted; only with [`Verdict::NeedLogin`].
    pub logins: Vec<String>,
    /// Whether and how the session is recorded.
    pub recording: RecordingDecision,
    /// What may pass between client and desktop.
    pub rights: Rights,
    /// How long, how often.
    pub limits: Limits,
    /// What of each role matched, in the order of [`Decision::roles`].
    pub matched: Vec<RoleMatch>,
    /// What an operator should know, though it decided nothing.
    pub warnings: Vec<String>,
    /// SHA-256 of all inputs, 64 lower-case hex digits.
    pub inputs_digest: String,
    /// `now` of the request.
    #[serde(with = "time::serde::rfc3339")]
    pub evaluated_at: OffsetDateTime,
}

/// Whether a session may be opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It may.
    Allow,
    /// It may not.
    Deny,
    /// It may, with one of the logins listed.
    NeedLogin,
}

/// Why a session was denied, in the order of the checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The configuration can't be read. Given by the gateway, never by [`evaluate`](crate::evaluate()).
    ConfigUnavailable,
    /// A lock on user, role, desktop or login.
    Locked,
    /// The locks can't be known, and strict says that this refuses.
    LockViewStale,
    /// No user of this name.
    UserUnknown,
    /// The user has expired.
    UserExpired,
    /// `status.is_locked`
    UserLocked,
    /// A role of the user does not exist.
    RoleUnknown,
    /// More roles than [`ROLES_PER_USER_MAX`](crate::ROLES_PER_USER_MAX).
    TooManyRoles,
    /// The name is merely claimed.
    IdentityNotProven,
    /// No desktop of this name.
    DesktopUnknown,
    /// Labels or expression of a deny match.
    DenyLabels,
    /// A deny names the login.
    DenyLogin,
    /// No role opens the desktop.
    NoDesktop,
    /// No role opens the login on the desktop.
    NoLogin,
    /// A second factor is asked for that can't be checked.
    MfaUnavailable,
    /// A trusted device is asked for, which can't be checked.
    DeviceTrustUnavailable,
    /// `max_connections` sessions are open.
    TooManySessions,
}

impl Reason {
    /// As in JSON, log and audit.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ConfigUnavailable => "config_unavailable",
            Self::Locked => "locked",
            Self::LockViewStale => "lock_view_stale",
            Self::UserUnknown => "user_unknown",
            Self::UserExpired => "user_expired",
            Self::UserLocked => "user_locked",
            Self::RoleUnknown => "role_unknown",
            Self::TooManyRoles => "too_many_roles",
            Self::IdentityNotProven => "identity_not_proven",
            Self::DesktopUnknown => "desktop_unknown",
            Self::DenyLabels => "deny_labels",
            Self::DenyLogin => "deny_login",
            Self::NoDesktop => "no_desktop",
            Self::NoLogin => "no_login",
            Self::MfaUnavailable => "mfa_unavailable",
            Self::DeviceTrustUnavailable => "device_trust_unavailable",
            Self::TooManySessions => "too_many_sessions",
        }
    }
}

/// Whether and how a session is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingDecision {
    /// What a failing recording does to the session; off = not recorded.
    pub level: Level,
    /// How the required storages work.
    pub storage_mode: StorageMode,
    /// Input that is recorded.
    pub input: InputLevel,
    /// What of the clipboard is recorded.
    pub clipboard: ClipboardLevel,
    /// Every vote: the cluster's, then the roles', the implicit role's, the desktop's.
    pub because: Vec<Vote>,
    /// What turned recording off; `None` if it is on, or nothing was allowed.
    pub not_recorded: Option<NotRecorded>,
}

/// How strictly a session is recorded, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Not at all.
    Off,
    /// The session goes on when recording fails.
    BestEffort,
    /// The session ends when recording fails.
    Strict,
}

/// How storages work in a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StorageMode {
    /// Nothing is stored.
    None,
    /// Each in its own mode.
    AsConfigured,
    /// Every required one as `mode: sync`.
    Sync,
}

/// What turned recording off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NotRecorded {
    /// The cluster's mode.
    ClusterOff,
    /// Every role.
    RolesOff,
}

/// One say in how a session is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    /// Whose: `cluster`, `role NAME`, `implicit role`, `desktop NAME`.
    pub source: String,
    /// In its own words, such as `desktop: true`.
    pub says: String,
    /// What that comes to; the cluster's is the most that is possible.
    pub level: Level,
    /// Its say in input; `None` = none.
    pub input: Option<InputLevel>,
    /// Its say in the clipboard; `None` = none.
    pub clipboard: Option<ClipboardLevel>,
}

/// What may pass between client and desktop. Graphics, display control, pointer and input need no right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rights {
    /// Directions of the clipboard.
    pub clipboard: ClipboardRight,
    /// `desktop_directory_sharing`: drives of the client; with the direction also files through the clipboard.
    pub drives: bool,
    /// `desktop_printer`
    pub printer: bool,
    /// `desktop_smart_card`
    pub smart_card: bool,
    /// `desktop_serial_port`: serial and parallel ports.
    pub serial_port: bool,
    /// `desktop_usb`
    pub usb: bool,
    /// `desktop_audio_output`
    pub audio_output: bool,
    /// `desktop_audio_input`
    pub audio_input: bool,
    /// `desktop_camera`
    pub camera: bool,
    /// `desktop_other_channels`: WebAuthn, location, telemetry, RemoteApp.
    pub other_channels: bool,
    /// What made each value: name of the right to roles or `default`.
    pub because: BTreeMap<String, String>,
}

/// How long and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// The session ends this long after its start.
    #[serde(with = "duration::required")]
    pub ends_after: Duration,
    /// It ends after this long without mouse, key or touch; `None` = never.
    #[serde(with = "duration::optional")]
    pub idle_timeout: Option<Duration>,
    /// Open sessions of the user, this one included; `None` = any number.
    pub sessions_max: Option<u32>,
    /// How an outdated view of the locks counts.
    pub lock_mode: LockingMode,
    /// What made each value: its name to a role or setting.
    pub because: BTreeMap<String, String>,
}

/// What of one role matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleMatch {
    /// Name of the role.
    pub role: String,
    /// Its allow; the role opens the login only if labels, expression and login do not fail to match.
    pub allow: SideMatch,
    /// Its deny; one match is enough.
    pub deny: SideMatch,
}

/// What of `allow` or `deny` matched. `None` = the role has no such matcher, or it was not asked (no login yet).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideMatch {
    /// `windows_desktop_labels`
    pub labels: Option<Match>,
    /// `windows_desktop_labels_expression`
    pub expression: Option<Match>,
    /// `windows_desktop_logins`
    pub login: Option<Match>,
}

/// Whether a matcher matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "why", rename_all = "snake_case")]
pub enum Match {
    /// It did; the text names the label or login.
    Matched(String),
    /// It did not; the text names the first that differs.
    Not(String),
    /// It could not be told: counts as a match in deny, as none in allow.
    Failed(String),
}
