//! The configuration as serde reads it off the merged layers, before paths and cross-checks.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};

use crate::model::{ClaimedIdentity, ClientSecurity, LogFormat, LogLevel, Mode, OnFailure, TlsMin};
use crate::resources::{ClipboardLevel, ClusterMode, Graphics, InputLevel, LockingMode, SessionMfa};
use crate::scalar::{parse_duration, parse_size};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawConfig {
    pub(crate) data_dir: String,
    pub(crate) plugin_dirs: Vec<String>,
    pub(crate) gateway: RawGateway,
    pub(crate) session_recording: RawSessionRecording,
    pub(crate) recording: RawRecording,
    pub(crate) spool: RawSpool,
    pub(crate) storages: Vec<RawStorage>,
    pub(crate) retention: RawRetention,
    pub(crate) catalog: RawCatalog,
    pub(crate) exporters: Vec<RawExporter>,
    pub(crate) exports: RawExports,
    pub(crate) access: RawAccess,
    pub(crate) audit: RawAudit,
    pub(crate) web: RawWeb,
    pub(crate) log: RawLog,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawGateway {
    pub(crate) listen: SocketAddr,
    pub(crate) listeners: Vec<RawListener>,
    pub(crate) client_security: Vec<ClientSecurity>,
    pub(crate) graphics: Graphics,
    pub(crate) tls_min: TlsMin,
    pub(crate) certificate: Option<String>,
    pub(crate) private_key: Option<String>,
    pub(crate) default_desktop: Option<String>,
    pub(crate) handshake_timeout: RawDuration,
    pub(crate) activation_timeout: RawDuration,
    pub(crate) connect_timeout: RawDuration,
    pub(crate) shutdown_timeout: RawDuration,
    pub(crate) sessions_max: u32,
    pub(crate) sessions_per_desktop_max: u32,
    pub(crate) connections_pending_max: u32,
    pub(crate) connections_per_address_max: u32,
    pub(crate) screen_max_pixels: u64,
    pub(crate) logon_failures_max: u32,
    pub(crate) logon_failures_per_address_max: u32,
    pub(crate) logon_block: RawDuration,
    pub(crate) logon_trust: RawDuration,
    pub(crate) secret_timeout: RawDuration,
    pub(crate) bandwidth_max: Option<RawSize>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawListener {
    pub(crate) listen: SocketAddr,
    pub(crate) desktop: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSessionRecording {
    pub(crate) mode: ClusterMode,
    pub(crate) on_failure: OnFailure,
    pub(crate) input: InputLevel,
    pub(crate) clipboard: ClipboardLevel,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRecording {
    pub(crate) segment_max_age: Option<RawDuration>,
    pub(crate) segment_max_bytes: RawSize,
    pub(crate) keyframe_interval: RawDuration,
    pub(crate) frame_interval: RawDuration,
    pub(crate) queue_max_bytes: RawSize,
    pub(crate) stall_max: RawDuration,
    pub(crate) repaint_max: RawDuration,
    pub(crate) undecoded_max_bytes: RawSize,
    pub(crate) trusted_keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawSpool {
    pub(crate) path: Option<String>,
    pub(crate) max_bytes: RawSize,
    pub(crate) min_free_bytes: RawSize,
    pub(crate) reserve_bytes: RawSize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawStorage {
    pub(crate) name: String,
    pub(crate) plugin: String,
    pub(crate) path: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) required: bool,
    pub(crate) op_timeout: Option<RawDuration>,
    pub(crate) concurrency_max: Option<u32>,
    pub(crate) puts_per_second_max: Option<u32>,
    pub(crate) bytes_per_second_max: Option<RawSize>,
    pub(crate) settings: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetention {
    pub(crate) default: Option<RawDuration>,
    pub(crate) rules: Vec<RawRetentionRule>,
    pub(crate) purge_interval: RawDuration,
    pub(crate) purge_batch_max: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawRetentionRule {
    pub(crate) keep: Option<RawDuration>,
    pub(crate) users: Vec<String>,
    pub(crate) desktops: Vec<String>,
    pub(crate) labels: BTreeMap<String, Vec<String>>,
    #[serde(rename = "where")]
    pub(crate) filter: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawCatalog {
    pub(crate) sync_interval: RawDuration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExporter {
    pub(crate) name: String,
    pub(crate) plugin: String,
    pub(crate) path: Option<String>,
    pub(crate) sha256: Option<String>,
    pub(crate) mode: Mode,
    pub(crate) when: Option<String>,
    pub(crate) format: Option<String>,
    pub(crate) settings: serde_json::Value,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawExports {
    pub(crate) jobs_max: u32,
    pub(crate) attempts_max: u32,
    pub(crate) retry_after: RawDuration,
    pub(crate) retry_max: RawDuration,
    pub(crate) timeout: RawDuration,
    pub(crate) max_bytes: RawSize,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAccess {
    pub(crate) resources_dir: String,
    pub(crate) claimed_identity: ClaimedIdentity,
    pub(crate) claimed_roles: Vec<String>,
    pub(crate) session_ttl_max: Option<RawDuration>,
    pub(crate) client_idle_timeout: Option<RawDuration>,
    pub(crate) locking_mode: LockingMode,
    pub(crate) lock_stale_max: RawDuration,
    pub(crate) require_session_mfa: SessionMfa,
    pub(crate) host_labels: Vec<RawHostLabels>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawHostLabels {
    #[serde(rename = "match")]
    pub(crate) pattern: String,
    pub(crate) labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAudit {
    pub(crate) file_max_bytes: RawSize,
    pub(crate) files_max: u32,
    pub(crate) queue_max: u32,
    pub(crate) on_failure: Option<OnFailure>,
    pub(crate) syslog: RawSwitch,
    pub(crate) cluster_name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWeb {
    pub(crate) listen: Option<SocketAddr>,
    pub(crate) certificate: Option<String>,
    pub(crate) private_key: Option<String>,
    pub(crate) external_url: Option<String>,
    pub(crate) session_ttl: RawDuration,
}

/// A boolean, or a path.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(crate) enum RawSwitch {
    Bool(bool),
    Path(String),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawLog {
    pub(crate) level: LogLevel,
    pub(crate) format: LogFormat,
}

/// A duration as text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawDuration(pub(crate) Duration);

impl<'de> Deserialize<'de> for RawDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_duration(&text).map(Self).map_err(de::Error::custom)
    }
}

/// A size as text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawSize(pub(crate) u64);

impl<'de> Deserialize<'de> for RawSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_size(&text).map(Self).map_err(de::Error::custom)
    }
}
