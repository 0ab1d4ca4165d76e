//! The resolved configuration: immutable, checked, absolute paths. What the rest of the engine reads.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::resources::{Graphics, LockingMode, RecordingSettings};

/// The whole configuration after all layers were merged and checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Folder of catalog, keys and (unless moved) spool. Absolute.
    pub data_dir: PathBuf,
    /// Folders that are searched for plugins, in this order. Absolute.
    pub plugin_dirs: Vec<PathBuf>,
    /// The side that clients connect to.
    pub gateway: Gateway,
    /// Whether sessions are recorded, and what happens when that fails.
    pub session_recording: RecordingSettings,
    /// Limits and intervals of the recording itself.
    pub recording: Recording,
    /// The local waiting room for segments.
    pub spool: Spool,
    /// Where recordings go, in the order of the file. Names are unique.
    pub storages: Vec<StorageConfig>,
    /// How long recordings are kept.
    pub retention: Retention,
    /// The catalog beside the storages.
    pub catalog: Catalog,
    /// What recordings can be exported with, in the order of the file. Names are unique.
    pub exporters: Vec<ExporterConfig>,
    /// What async exporters may take.
    pub exports: Exports,
    /// Who may connect where.
    pub access: Access,
    /// The audit log.
    pub audit: Audit,
    /// The pages.
    pub web: Web,
    /// The engine's own log.
    pub log: Log,
    /// Where relative paths start: the folder of the configuration file, or the working folder when there is none.
    /// Plugins resolve the paths of their settings against it. Absolute.
    pub base_dir: PathBuf,
}

/// Section `gateway`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gateway {
    /// Address that RDP clients connect to.
    pub listen: SocketAddr,
    /// More addresses, each bound to one desktop.
    pub listeners: Vec<Listener>,
    /// How clients may secure their leg; the first that a client offers is taken. Not empty.
    pub client_security: Vec<ClientSecurity>,
    /// How desktops may send their picture, unless they say otherwise themselves.
    pub graphics: Graphics,
    /// Oldest version of TLS on both legs.
    pub tls_min: TlsMin,
    /// PEM certificate chain shown to clients; `None` = a self-signed one, made once and kept in `data_dir`.
    /// Set together with [`Gateway::private_key`] or not at all.
    pub certificate: Option<PathBuf>,
    /// PEM private key of the certificate.
    pub private_key: Option<PathBuf>,
    /// Desktop that is used when the client's user name carries no selector.
    pub default_desktop: Option<String>,
    /// From accept until the client has sent what the handshake wants of it.
    pub handshake_timeout: Duration,
    /// Without NLA: from the client's TLS until the desktop's picture can start. With it: for the client's logon, and again
    /// from the desktop's answer until its picture can start. People read certificate warnings in between.
    pub activation_timeout: Duration,
    /// Most pixels of a session's screen, all monitors together.
    pub screen_max_pixels: u64,
    /// Time to reach the desktop: TCP, X.224, TLS and, where it wants that, the NLA logon.
    pub connect_timeout: Duration,
    /// Time that open sessions get to end when the gateway is told to stop.
    pub shutdown_timeout: Duration,
    /// Open sessions at once, all clients together. At least 1.
    pub sessions_max: u32,
    /// Open sessions on one desktop. At least 1.
    pub sessions_per_desktop_max: u32,
    /// Open client connections that have not logged on yet, all clients together. At least 1.
    pub connections_pending_max: u32,
    /// Open client connections (sessions or not yet) from one address. At least 1.
    pub connections_per_address_max: u32,
    /// Failed logons of one user within [`Gateway::logon_block`], from all addresses that are not the user's own.
    pub logon_failures_max: u32,
    /// Failed logons from one address within [`Gateway::logon_block`].
    pub logon_failures_per_address_max: u32,
    /// How long failed logons count, and the longest that one user at one address is made to wait after them.
    pub logon_block: Duration,
    /// How long an address counts as a user's own after a logon from there.
    pub logon_trust: Duration,
    /// Time to get the password of a desktop's login from where it is kept.
    pub secret_timeout: Duration,
    /// Bytes a second and direction that a session may relay; `None` = as many as there are.
    pub bandwidth_max: Option<u64>,
}

/// One entry of `gateway.listeners`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Address that RDP clients connect to.
    pub listen: SocketAddr,
    /// The only desktop that is reached through it.
    pub desktop: String,
}

/// How a client may secure its leg.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClientSecurity {
    /// Network level authentication (CredSSP): the user is known before anything else happens.
    Nla,
    /// TLS alone: the user's credentials come when the desktop is already waiting for them.
    Tls,
}

/// Oldest version of TLS that is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum TlsMin {
    /// TLS 1.2 and 1.3.
    #[serde(rename = "1.2")]
    Tls12,
    /// TLS 1.3 alone.
    #[serde(rename = "1.3")]
    Tls13,
}

/// What happens to a session when its recording fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// Nothing reaches the user that the recording can't show: the session waits, then ends.
    Strict,
    /// The session goes on and the recording has a gap that says so.
    BestEffort,
}

/// Section `recording`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recording {
    /// Age at which a segment is sealed; `None` = by the storages' modes, see [`Config::segment_max_age`].
    pub segment_max_age: Option<Duration>,
    /// Size at which a segment is sealed.
    pub segment_max_bytes: u64,
    /// Time between two keyframes.
    pub keyframe_interval: Duration,
    /// Screen changes within this time become one frame.
    pub frame_interval: Duration,
    /// Bytes that may wait between the relay and the recorder, per session.
    pub queue_max_bytes: u64,
    /// Time without progress after which `session_recording.on_failure` acts.
    pub stall_max: Duration,
    /// How long the desktop may take to paint its whole screen again before a gap ends without it.
    pub repaint_max: Duration,
    /// Raw bytes of undecodable PDUs that one recording keeps.
    pub undecoded_max_bytes: u64,
    /// PEM files with the public keys of other nodes whose recordings are trusted beside this node's. Absolute.
    pub trusted_keys: Vec<PathBuf>,
}

/// Section `spool`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spool {
    /// Folder of the spool. Absolute; `spool` in `data_dir` unless set.
    pub path: PathBuf,
    /// Bytes that all waiting segments may take.
    pub max_bytes: u64,
    /// Free bytes of the file system below which the spool counts as full.
    pub min_free_bytes: u64,
    /// Bytes of the file system that are held ready to close recordings with when nothing else is left.
    pub reserve_bytes: u64,
}

/// When a plugin works: as part of what is going on, or behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// A segment counts when the plugin has stored it; an export runs in the command that asks.
    Sync,
    /// A segment counts when it is in the spool and is delivered in the background.
    Async,
}

/// One entry of `storages`.
#[derive(Debug, Clone, PartialEq)]
pub struct StorageConfig {
    /// Name that commands, catalog and log use. Unique among the storages.
    pub name: String,
    /// Plugin name, as in the file name `libdeskreel_storage_<plugin>.so`.
    pub plugin: String,
    /// The plugin's file, when it is not searched for. Absolute.
    pub path: Option<PathBuf>,
    /// SHA-256 that the plugin's file must have, 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// When a segment counts as recorded.
    pub mode: Mode,
    /// Whether a recording is complete only when this storage has it.
    pub required: bool,
    /// Time for one operation of the plugin; `None` = as its profile says.
    pub op_timeout: Option<Duration>,
    /// Puts at once; `None` = as its profile says.
    pub concurrency_max: Option<u32>,
    /// Puts begun in a second, on average; `None` = no limit.
    pub puts_per_second_max: Option<u32>,
    /// Bytes of puts begun in a second, on average; `None` = no limit.
    pub bytes_per_second_max: Option<u64>,
    /// The plugin's own settings, a JSON object; checked by the plugin's schema.
    pub settings: serde_json::Value,
    /// Where the entry stands in the configuration, such as `storages[0]`; with `.settings.x` a key of [`Loaded::origin`](crate::Loaded::origin).
    pub source_key: String,
}

/// Section `retention`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How long recordings are kept that no rule matches; `None` = for ever.
    pub default: Option<Duration>,
    /// What is kept for another time. Of all rules that match a recording, the longest counts.
    pub rules: Vec<RetentionRule>,
    /// Between two looks for recordings whose time is over.
    pub purge_interval: Duration,
    /// Recordings that one such look deletes at most. At least 1.
    pub purge_batch_max: u32,
}

/// One entry of `retention.rules`. Whatever it names must match; at least one thing is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetentionRule {
    /// How long; `None` = for ever.
    pub keep: Option<Duration>,
    /// Users, as patterns of label values are written; empty = any.
    pub users: Vec<String>,
    /// Desktops, likewise.
    pub desktops: Vec<String>,
    /// Labels that the desktop had at the session's start, likewise: all keys, any of a key's patterns.
    pub labels: BTreeMap<String, Vec<String>>,
    /// An expression over `session`.
    pub filter: Option<String>,
    /// Where the entry stands in the configuration, such as `retention.rules[0]`.
    pub source_key: String,
}

/// Section `catalog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Catalog {
    /// Between two looks at the storages for what other nodes recorded.
    pub sync_interval: Duration,
}

/// One entry of `exporters`.
#[derive(Debug, Clone, PartialEq)]
pub struct ExporterConfig {
    /// Name that commands use. Unique among the exporters.
    pub name: String,
    /// Plugin name, as in the file name `libdeskreel_exporter_<plugin>.so`.
    pub plugin: String,
    /// The plugin's file, when it is not searched for. Absolute.
    pub path: Option<PathBuf>,
    /// SHA-256 that the plugin's file must have, 64 lower-case hex digits.
    pub sha256: Option<String>,
    /// Sync: the export runs in the command that asks. Async: by itself, after each session that `when` selects.
    pub mode: Mode,
    /// Of an async exporter: an expression over `session`; `None` = every recorded session.
    pub when: Option<String>,
    /// Of an async exporter: what it makes; `None` = the first format of the plugin.
    pub format: Option<String>,
    /// The plugin's own settings, a JSON object; checked by the plugin's schema.
    pub settings: serde_json::Value,
    /// Where the entry stands in the configuration, such as `exporters[0]`.
    pub source_key: String,
}

/// Section `exports`: limits of what async exporters do beside the sessions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exports {
    /// Exports at once. At least 1.
    pub jobs_max: u32,
    /// Attempts at one export before it has failed for good. At least 1.
    pub attempts_max: u32,
    /// Before the second attempt; doubled for each further one.
    pub retry_after: Duration,
    /// The longest time between two attempts.
    pub retry_max: Duration,
    /// Time for one attempt.
    pub timeout: Duration,
    /// Bytes of one file that an export makes.
    pub max_bytes: u64,
}

/// Section `access`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    /// Folder of YAML resources, see [`load_resources`](crate::load_resources). Absolute.
    pub resources_dir: PathBuf,
    /// What happens to a name that nothing proved (pass-through of the user's own credentials).
    pub claimed_identity: ClaimedIdentity,
    /// Roles of such names.
    pub claimed_roles: Vec<String>,
    /// Longest session of anybody; `None` = as the roles say.
    pub session_ttl_max: Option<Duration>,
    /// Longest time without input of anybody; `None` = as the roles say.
    pub client_idle_timeout: Option<Duration>,
    /// How an outdated view of the locks counts where no role says it.
    pub locking_mode: LockingMode,
    /// Age from which the view of the locks is outdated.
    pub lock_stale_max: Duration,
    /// Whether every session needs a second factor.
    pub require_session_mfa: bool,
    /// Labels that desktops get by their address.
    pub host_labels: Vec<HostLabels>,
}

/// One entry of `access.host_labels`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostLabels {
    /// Regular expression that is searched for in the host of a desktop's `addr`.
    pub pattern: String,
    /// Labels of the desktops in which it is found; the desktop's own win.
    pub labels: BTreeMap<String, String>,
}

/// Whether a session under a merely claimed name is let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimedIdentity {
    /// Refused.
    Deny,
    /// Let through; the desktop checks the credentials.
    Allow,
}

/// Section `audit`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// Size at which a file of the log is closed and the next one begun.
    pub file_max_bytes: u64,
    /// Files that are kept, the one that is written included. At least 2.
    pub files_max: u32,
    /// Events that may wait to be written.
    pub queue_max: u32,
    /// What happens when events can't be written; as `session_recording.on_failure` unless set.
    pub on_failure: OnFailure,
    /// Unix datagram socket that gets a copy of every event. Absolute.
    pub syslog: Option<PathBuf>,
    /// `cluster_name` of the events; `None` = the host's name.
    pub cluster_name: Option<String>,
}

/// Section `web`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Web {
    /// Address that browsers connect to; `None` = there are no pages.
    pub listen: Option<SocketAddr>,
    /// PEM certificate chain; `None` = plain HTTP. Set together with [`Web::private_key`] or not at all.
    pub certificate: Option<PathBuf>,
    /// PEM private key of the certificate.
    pub private_key: Option<PathBuf>,
    /// Where browsers find the pages, as `https://host[:port]`; `None` = at the address that the request names.
    pub external_url: Option<String>,
    /// How long a sign-in lasts.
    pub session_ttl: Duration,
}

/// Section `log`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// Least important lines that are written.
    pub level: LogLevel,
    /// How lines are written.
    pub format: LogFormat,
}

/// Importance of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogLevel {
    /// Something failed.
    Error,
    /// Something is odd.
    Warn,
    /// What an operator wants to see of a healthy gateway.
    Info,
    /// For finding a fault.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The word that configuration and tracing filters use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How log lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Age at which a segment is sealed: as configured, else 10 s when any storage is sync and 60 s when none is.
    #[must_use]
    pub fn segment_max_age(&self) -> Duration {
        self.recording.segment_max_age.unwrap_or_else(|| {
            let any_sync = self.storages.iter().any(|storage| storage.mode == Mode::Sync);
            Duration::from_secs(if any_sync { 10 } else { 60 })
        })
    }
}
