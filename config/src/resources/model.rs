//! What resources are once they are read: plain values, structurally valid. Languages inside them (label patterns,
//! templates, expressions, `where`) are still text; `deskreel-policy` compiles them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::OnFailure;

/// `metadata` of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// Unique among the resources of its kind; 1 to 255 bytes, no `/`, no control characters.
    pub name: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// For selecting.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// From then on the resource is absent.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "time::serde::rfc3339::option"
    )]
    pub expires: Option<OffsetDateTime>,
}

/// Resource `role`, versions `v3` to `v7`: one meaning in all of them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Name, labels, expiry.
    pub metadata: Metadata,
    /// What the role opens.
    pub allow: RoleConditions,
    /// What the role closes, whoever opens it.
    pub deny: RoleConditions,
    /// What sessions may do and how they are recorded.
    pub options: RoleOptions,
}

/// `spec.allow` or `spec.deny` of a role.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoleConditions {
    /// Label key to patterns; no keys match nothing.
    pub windows_desktop_labels: BTreeMap<String, Vec<String>>,
    /// Expression over the desktop's labels and the user.
    pub windows_desktop_labels_expression: Option<String>,
    /// Accounts on the desktop; templates.
    pub windows_desktop_logins: Vec<String>,
    /// What may be done with recordings and resources.
    pub rules: Vec<Rule>,
}

/// One entry of `rules`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Rule {
    /// Kinds, or `*`.
    pub resources: Vec<String>,
    /// Verbs, or `*`.
    pub verbs: Vec<String>,
    /// Condition; absent = always.
    #[serde(rename = "where")]
    pub condition: Option<String>,
}

/// `spec.options` of a role. `None` = not written.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RoleOptions {
    /// Whether and how sessions are recorded.
    pub record_session: Option<RecordSession>,
    /// Directions of the clipboard.
    pub desktop_clipboard: Option<ClipboardRight>,
    /// Drives of the client on the desktop.
    pub desktop_directory_sharing: Option<bool>,
    /// Printers of the client.
    pub desktop_printer: Option<bool>,
    /// Smart cards of the client.
    pub desktop_smart_card: Option<bool>,
    /// Serial and parallel ports of the client.
    pub desktop_serial_port: Option<bool>,
    /// USB devices of the client.
    pub desktop_usb: Option<bool>,
    /// Sound of the desktop.
    pub desktop_audio_output: Option<bool>,
    /// Microphones of the client.
    pub desktop_audio_input: Option<bool>,
    /// Cameras of the client.
    pub desktop_camera: Option<bool>,
    /// `WebAuthn`, location, telemetry, `RemoteApp`.
    pub desktop_other_channels: Option<bool>,
    /// Longest session; `None` = not written (30 h), as is anything not above 0.
    pub max_session_ttl: Option<Duration>,
    /// Longest time without input; `None` = not written or `never`.
    pub client_idle_timeout: Option<Duration>,
    /// Open sessions of one user; `None` = not written or 0.
    pub max_connections: Option<u32>,
    /// How an outdated view of the locks counts.
    pub lock: Option<LockingMode>,
    /// Whether a session needs a second factor.
    pub require_session_mfa: Option<SessionMfa>,
    /// Whether the client's device must be trusted.
    pub device_trust_mode: Option<DeviceTrust>,
}

/// `record_session` of a role.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct RecordSession {
    /// The role's vote on desktops; `None` = not written, which records.
    pub desktop: Option<RecordVote>,
    /// What `desktop: true` means, if it says `strict`; `best_effort` is no vote.
    pub default: Option<OnFailure>,
    /// Input that is recorded.
    pub input: Option<InputLevel>,
    /// What of the clipboard is recorded.
    pub clipboard: Option<ClipboardLevel>,
}

/// A vote on recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordVote {
    /// `false`
    Off,
    /// `true`: as the cluster's `on_failure` says.
    On,
    /// `strict`
    Strict,
    /// `best_effort`
    BestEffort,
}

/// Input that is recorded, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InputLevel {
    /// Nothing.
    None,
    /// Movement, buttons, wheel.
    Mouse,
    /// Keys too, and so passwords.
    All,
}

/// What of the clipboard is recorded, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipboardLevel {
    /// Nothing.
    None,
    /// Direction, formats, length, digest.
    Facts,
    /// The text too.
    Text,
}

/// Directions that the clipboard may work in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipboardRight {
    /// Both ways; also `true`.
    Both,
    /// From the client to the desktop.
    ToDesktop,
    /// From the desktop to the client.
    FromDesktop,
    /// Not at all; also `false`.
    Off,
}

/// How an outdated view of the locks counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LockingMode {
    /// It refuses and ends sessions.
    Strict,
    /// The last view stands.
    BestEffort,
}

/// Second factor of a session. Everything but [`SessionMfa::No`] refuses until it can be checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SessionMfa {
    /// None is asked for.
    No,
    /// Any.
    Yes,
    /// A hardware key.
    HardwareKey,
    /// A hardware key that is touched.
    HardwareKeyTouch,
    /// A hardware key with a PIN.
    HardwareKeyPin,
    /// A hardware key with a PIN that is touched.
    HardwareKeyTouchAndPin,
}

/// Whether the client's device must be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceTrust {
    /// No.
    Off,
    /// If it can be.
    Optional,
    /// Yes; refuses until it can be checked.
    Required,
}

/// Resource `user`, version `v2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct User {
    /// Name, labels; `expires` is the earlier of `metadata.expires` and `spec.expires`.
    pub metadata: Metadata,
    /// Names of roles.
    pub roles: Vec<String>,
    /// What templates and expressions read.
    pub traits: BTreeMap<String, Vec<String>>,
    /// `status.is_locked`
    pub is_locked: bool,
    /// `status.lock_expires`: the lock holds until then; `None` = for ever.
    #[serde(with = "time::serde::rfc3339::option")]
    pub lock_expires: Option<OffsetDateTime>,
}

/// Resource `session_recording_config`, version `v2`: there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordingSettings {
    /// Whether anything is recorded, and whether storages work as sync.
    pub mode: ClusterMode,
    /// What a role's `desktop: true` means.
    pub on_failure: OnFailure,
    /// Most input that any role may record.
    pub input: InputLevel,
    /// Most of the clipboard that any role may record.
    pub clipboard: ClipboardLevel,
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self {
            mode: ClusterMode::On,
            on_failure: OnFailure::Strict,
            input: InputLevel::All,
            clipboard: ClipboardLevel::Text,
        }
    }
}

/// Modes of session recording. `node` and `proxy` are words for [`ClusterMode::On`], `node-sync` and `proxy-sync` for
/// [`ClusterMode::Sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterMode {
    /// Nothing is recorded under any circumstances.
    Off,
    /// Recorded, each storage in its own mode.
    #[serde(alias = "node", alias = "proxy")]
    On,
    /// Recorded, every required storage as `mode: sync`.
    #[serde(alias = "node-sync", alias = "proxy-sync")]
    Sync,
}

/// Resource `lock`, version `v2`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Lock {
    /// Name, labels.
    pub metadata: Metadata,
    /// Whom or what it locks; at least one field is set, each locks by itself.
    pub target: LockTarget,
    /// Told to whoever is locked out.
    pub message: Option<String>,
    /// In force until then; `None` = until it is removed.
    #[serde(with = "time::serde::rfc3339::option")]
    pub expires: Option<OffsetDateTime>,
}

/// `spec.target` of a lock. Literal names; `login` ignores case.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LockTarget {
    /// A user's name.
    pub user: Option<String>,
    /// A role in the session's Decision.
    pub role: Option<String>,
    /// A desktop's name.
    pub windows_desktop: Option<String>,
    /// An account on a desktop.
    pub login: Option<String>,
}
