//! Roles, users, locks and recording settings as serde reads them off a checked document, and what is wrong in them
//! that no single field shows.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::RECORDING_CONFIG_NAME;
use super::model::{
    ClipboardLevel, ClipboardRight, ClusterMode, DeviceTrust, InputLevel, Lock, LockTarget, LockingMode, Metadata,
    RecordSession, RecordVote, RecordingSettings, Role, RoleConditions, RoleOptions, Rule, SessionMfa, User,
};
use crate::OnFailure;
use crate::raw::RawDuration;

/// What is wrong with a document, and what is odd: path and message.
#[derive(Default)]
pub(super) struct Findings {
    pub(super) errors: Vec<(String, String)>,
    pub(super) warnings: Vec<(String, String)>,
}

impl Findings {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.errors.push((path.into(), message.into()));
    }

    fn warn(&mut self, path: impl Into<String>, message: impl Into<String>) {
        self.warnings.push((path.into(), message.into()));
    }
}

/// What is around every kind's `spec`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDocument<S> {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: String,
    #[serde(rename = "sub_kind")]
    _sub_kind: Option<String>,
    metadata: RawMetadata,
    spec: S,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawMetadata {
    #[serde(default = "recording_config_name", deserialize_with = "or_recording_config_name")]
    pub(super) name: String,
    pub(super) description: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "time")]
    pub(super) expires: Option<OffsetDateTime>,
    #[serde(rename = "namespace")]
    _namespace: Option<String>,
    #[serde(rename = "revision")]
    _revision: Option<String>,
    #[serde(rename = "id")]
    _id: Option<String>,
}

/// Only the one kind of which there is one may lack a name.
fn recording_config_name() -> String {
    RECORDING_CONFIG_NAME.to_owned()
}

fn or_recording_config_name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.unwrap_or_else(recording_config_name))
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<OffsetDateTime>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| OffsetDateTime::parse(&text, &Rfc3339))
        .transpose()
        .map_err(de::Error::custom)
}

impl RawMetadata {
    fn resolve(self) -> Metadata {
        Metadata {
            name: self.name,
            description: self.description.filter(|text| !text.is_empty()),
            labels: self.labels,
            expires: self.expires,
        }
    }
}

/// A word of the registry's `VOTE`.
pub(super) fn vote(word: &str) -> RecordVote {
    match word {
        "false" => RecordVote::Off,
        "strict" => RecordVote::Strict,
        "best_effort" => RecordVote::BestEffort,
        _ => RecordVote::On,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRole {
    allow: RawConditions,
    deny: RawConditions,
    options: RawOptions,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConditions {
    windows_desktop_labels: BTreeMap<String, Vec<String>>,
    windows_desktop_labels_expression: Option<String>,
    windows_desktop_logins: Vec<String>,
    rules: Vec<RawRule>,
    namespaces: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRule {
    resources: Vec<String>,
    verbs: Vec<String>,
    #[serde(rename = "where")]
    condition: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawOptions {
    record_session: RawRecordSession,
    desktop_clipboard: Option<ClipboardRight>,
    desktop_directory_sharing: Option<bool>,
    desktop_printer: Option<bool>,
    desktop_smart_card: Option<bool>,
    desktop_serial_port: Option<bool>,
    desktop_usb: Option<bool>,
    desktop_audio_output: Option<bool>,
    desktop_audio_input: Option<bool>,
    desktop_camera: Option<bool>,
    desktop_other_channels: Option<bool>,
    max_session_ttl: Option<RawDuration>,
    client_idle_timeout: Option<RawDuration>,
    max_connections: Option<u32>,
    lock: Option<LockingMode>,
    require_session_mfa: Option<SessionMfa>,
    device_trust_mode: Option<DeviceTrust>,
    create_desktop_user: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawRecordSession {
    desktop: Option<String>,
    default: Option<OnFailure>,
    input: Option<InputLevel>,
    clipboard: Option<ClipboardLevel>,
}

pub(super) fn role(raw: RawDocument<RawRole>, findings: &mut Findings) -> Role {
    let spec = raw.spec;
    Role {
        metadata: raw.metadata.resolve(),
        allow: conditions(spec.allow, "spec.allow", findings),
        deny: conditions(spec.deny, "spec.deny", findings),
        options: options(spec.options, findings),
    }
}

fn conditions(raw: RawConditions, path: &str, findings: &mut Findings) -> RoleConditions {
    for (index, namespace) in raw.namespaces.iter().enumerate() {
        if !matches!(namespace.as_str(), "default" | "*") {
            findings.add(format!("{path}.namespaces[{index}]"), "only default and * are known");
        }
    }
    let text = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
    RoleConditions {
        windows_desktop_labels: raw.windows_desktop_labels,
        windows_desktop_labels_expression: text(raw.windows_desktop_labels_expression),
        windows_desktop_logins: raw.windows_desktop_logins,
        rules: raw
            .rules
            .into_iter()
            .map(|rule| Rule {
                resources: rule.resources,
                verbs: rule.verbs,
                condition: text(rule.condition),
            })
            .collect(),
    }
}

fn options(raw: RawOptions, findings: &mut Findings) -> RoleOptions {
    if raw.create_desktop_user == Some(true) {
        findings.warn("spec.options.create_desktop_user", "not supported, no effect");
    }
    let duration = |duration: Option<RawDuration>| -> Option<Duration> { duration.map(|duration| duration.0) };
    let RawRecordSession {
        desktop,
        default,
        input,
        clipboard,
    } = raw.record_session;
    let record = RecordSession {
        desktop: desktop.as_deref().map(vote),
        default,
        input,
        clipboard,
    };
    RoleOptions {
        record_session: (record != RecordSession::default()).then_some(record),
        desktop_clipboard: raw.desktop_clipboard,
        desktop_directory_sharing: raw.desktop_directory_sharing,
        desktop_printer: raw.desktop_printer,
        desktop_smart_card: raw.desktop_smart_card,
        desktop_serial_port: raw.desktop_serial_port,
        desktop_usb: raw.desktop_usb,
        desktop_audio_output: raw.desktop_audio_output,
        desktop_audio_input: raw.desktop_audio_input,
        desktop_camera: raw.desktop_camera,
        desktop_other_channels: raw.desktop_other_channels,
        max_session_ttl: duration(raw.max_session_ttl),
        client_idle_timeout: duration(raw.client_idle_timeout),
        max_connections: raw.max_connections.filter(|count| *count > 0),
        lock: raw.lock,
        require_session_mfa: raw.require_session_mfa,
        device_trust_mode: raw.device_trust_mode,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUser {
    roles: Vec<String>,
    traits: BTreeMap<String, Vec<String>>,
    status: RawStatus,
    #[serde(default, deserialize_with = "time")]
    expires: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStatus {
    is_locked: Option<bool>,
    #[serde(default, deserialize_with = "time")]
    lock_expires: Option<OffsetDateTime>,
}

pub(super) fn user(raw: RawDocument<RawUser>) -> User {
    let mut metadata = raw.metadata.resolve();
    metadata.expires = earlier(metadata.expires, raw.spec.expires);
    User {
        metadata,
        roles: raw.spec.roles,
        traits: raw.spec.traits,
        is_locked: raw.spec.status.is_locked.unwrap_or(false),
        lock_expires: raw.spec.status.lock_expires,
    }
}

fn earlier(a: Option<OffsetDateTime>, b: Option<OffsetDateTime>) -> Option<OffsetDateTime> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRecording {
    mode: ClusterMode,
    on_failure: OnFailure,
    input: InputLevel,
    clipboard: ClipboardLevel,
    #[serde(rename = "proxy_checks_host_keys")]
    _proxy_checks_host_keys: Option<bool>,
    encryption: RawEncryption,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEncryption {
    enabled: Option<bool>,
    manual_key_management: Option<serde_json::Value>,
}

pub(super) fn recording(raw: &RawDocument<RawRecording>, findings: &mut Findings) -> RecordingSettings {
    if raw.spec.encryption.enabled == Some(true) {
        let message = "needs recording.encryption.recipients in deskreel.yaml, which this version does not support yet";
        findings.add("spec.encryption.enabled", message);
    }
    if raw.spec.encryption.manual_key_management.is_some() {
        let message = "keys are named by recording.encryption.recipients in deskreel.yaml";
        findings.add("spec.encryption.manual_key_management", message);
    }
    RecordingSettings {
        mode: raw.spec.mode,
        on_failure: raw.spec.on_failure,
        input: raw.spec.input,
        clipboard: raw.spec.clipboard,
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawLock {
    target: RawTarget,
    message: Option<String>,
    #[serde(default, deserialize_with = "time")]
    expires: Option<OffsetDateTime>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTarget {
    user: Option<String>,
    role: Option<String>,
    windows_desktop: Option<String>,
    login: Option<String>,
}

pub(super) fn lock(raw: RawDocument<RawLock>, findings: &mut Findings) -> Lock {
    let text = |text: Option<String>| text.filter(|text| !text.is_empty());
    let target = LockTarget {
        user: text(raw.spec.target.user),
        role: text(raw.spec.target.role),
        windows_desktop: text(raw.spec.target.windows_desktop),
        login: text(raw.spec.target.login),
    };
    if target == LockTarget::default() {
        findings.add(
            "spec.target",
            "locks nothing: write user, role, windows_desktop or login",
        );
    }
    let metadata = raw.metadata.resolve();
    Lock {
        expires: earlier(metadata.expires, raw.spec.expires),
        metadata,
        target,
        message: text(raw.spec.message),
    }
}
