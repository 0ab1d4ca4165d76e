//! From the raw configuration to [`Config`]: absolute paths, and what only several keys together can get wrong.

use std::collections::HashMap;
use std::path::Path;

use crate::layers::absolute;
use crate::model::{
    Access, Audit, Config, ExporterConfig, Gateway, Listener, Log, Mode, Recording, RecordingMode, SessionRecording,
    Spool, StorageConfig,
};
use crate::raw::{RawConfig, RawExporter, RawStorage, RawSwitch};

/// The socket of `audit.syslog: true`.
const SYSLOG: &str = "/dev/log";

/// What is wrong between keys: the key to blame and the message.
pub(crate) type Findings = Vec<(String, String)>;

pub(crate) fn resolve(raw: RawConfig, base_dir: &Path) -> (Config, Findings) {
    let path = |text: &str| absolute(base_dir, text);
    let optional = |text: &Option<String>| text.as_deref().map(path);
    let data_dir = path(&raw.data_dir);
    let config = Config {
        plugin_dirs: raw.plugin_dirs.iter().map(|dir| path(dir)).collect(),
        gateway: Gateway {
            listen: raw.gateway.listen,
            listeners: raw
                .gateway
                .listeners
                .into_iter()
                .map(|raw| Listener {
                    listen: raw.listen,
                    desktop: raw.desktop,
                })
                .collect(),
            client_security: raw.gateway.client_security,
            tls_min: raw.gateway.tls_min,
            certificate: optional(&raw.gateway.certificate),
            private_key: optional(&raw.gateway.private_key),
            default_desktop: raw.gateway.default_desktop,
            handshake_timeout: raw.gateway.handshake_timeout.0,
            activation_timeout: raw.gateway.activation_timeout.0,
            connect_timeout: raw.gateway.connect_timeout.0,
            shutdown_timeout: raw.gateway.shutdown_timeout.0,
            sessions_max: raw.gateway.sessions_max,
            connections_per_address_max: raw.gateway.connections_per_address_max,
            logon_failures_max: raw.gateway.logon_failures_max,
            logon_failures_per_address_max: raw.gateway.logon_failures_per_address_max,
            logon_block: raw.gateway.logon_block.0,
        },
        session_recording: SessionRecording {
            mode: raw.session_recording.mode,
            on_failure: raw.session_recording.on_failure,
        },
        recording: Recording {
            segment_max_age: raw.recording.segment_max_age.map(|age| age.0),
            segment_max_bytes: raw.recording.segment_max_bytes.0,
            keyframe_interval: raw.recording.keyframe_interval.0,
            frame_interval: raw.recording.frame_interval.0,
            queue_max_bytes: raw.recording.queue_max_bytes.0,
            stall_max: raw.recording.stall_max.0,
            undecoded_max_bytes: raw.recording.undecoded_max_bytes.0,
        },
        spool: Spool {
            path: optional(&raw.spool.path).unwrap_or_else(|| data_dir.join("spool")),
            max_bytes: raw.spool.max_bytes.0,
            min_free_bytes: raw.spool.min_free_bytes.0,
        },
        storages: raw
            .storages
            .into_iter()
            .enumerate()
            .map(|(index, raw)| storage(raw, index, base_dir))
            .collect(),
        exporters: raw
            .exporters
            .into_iter()
            .enumerate()
            .map(|(index, raw)| exporter(raw, index, base_dir))
            .collect(),
        access: Access {
            resources_dir: path(&raw.access.resources_dir),
            claimed_identity: raw.access.claimed_identity,
            claimed_roles: raw.access.claimed_roles,
        },
        audit: Audit {
            file_max_bytes: raw.audit.file_max_bytes.0,
            files_max: raw.audit.files_max,
            queue_max: raw.audit.queue_max,
            on_failure: raw.audit.on_failure.unwrap_or(raw.session_recording.on_failure),
            syslog: match &raw.audit.syslog {
                RawSwitch::Bool(false) => None,
                RawSwitch::Bool(true) => Some(Path::new(SYSLOG).to_owned()),
                RawSwitch::Path(socket) => Some(path(socket)),
            },
            cluster_name: raw.audit.cluster_name,
        },
        log: Log {
            level: raw.log.level,
            format: raw.log.format,
        },
        base_dir: base_dir.to_owned(),
        data_dir,
    };
    let findings = check(&config);
    (config, findings)
}

fn storage(raw: RawStorage, index: usize, base_dir: &Path) -> StorageConfig {
    StorageConfig {
        name: raw.name,
        plugin: raw.plugin,
        path: raw.path.map(|path| absolute(base_dir, &path)),
        sha256: raw.sha256,
        mode: raw.mode,
        required: raw.required,
        op_timeout: raw.op_timeout.map(|timeout| timeout.0),
        settings: raw.settings,
        source_key: format!("storages[{index}]"),
    }
}

fn exporter(raw: RawExporter, index: usize, base_dir: &Path) -> ExporterConfig {
    ExporterConfig {
        name: raw.name,
        plugin: raw.plugin,
        path: raw.path.map(|path| absolute(base_dir, &path)),
        sha256: raw.sha256,
        mode: raw.mode,
        settings: raw.settings,
        source_key: format!("exporters[{index}]"),
    }
}

fn check(config: &Config) -> Findings {
    let mut findings = Findings::new();
    let mut find = |key: String, message: &str| findings.push((key, message.to_owned()));

    let pair = (&config.gateway.certificate, &config.gateway.private_key);
    match pair {
        (Some(_), None) => find("gateway.certificate".to_owned(), "needs gateway.private_key beside it"),
        (None, Some(_)) => find("gateway.private_key".to_owned(), "needs gateway.certificate beside it"),
        _ => {}
    }
    if config.gateway.client_security.is_empty() {
        find("gateway.client_security".to_owned(), "must name nla, tls or both");
    }
    if config.session_recording.mode == RecordingMode::On && config.storages.is_empty() {
        find(
            "storages".to_owned(),
            "at least one is needed while session_recording is on",
        );
    }
    if config.session_recording.mode == RecordingMode::On
        && !config.storages.is_empty()
        && !config.storages.iter().any(|storage| storage.required)
    {
        find(
            "storages".to_owned(),
            "at least one must be required while session_recording is on",
        );
    }
    if config.spool.max_bytes < 2 * config.recording.segment_max_bytes {
        find(
            "spool.max_bytes".to_owned(),
            "must hold two segments of recording.segment_max_bytes at least",
        );
    }
    for exporter in config.exporters.iter().filter(|exporter| exporter.mode == Mode::Async) {
        find(
            format!("{}.mode", exporter.source_key),
            "async exporters are not supported yet: write sync",
        );
    }
    let storages = config
        .storages
        .iter()
        .map(|storage| (&storage.name, &storage.source_key));
    let exporters = config
        .exporters
        .iter()
        .map(|exporter| (&exporter.name, &exporter.source_key));
    for (key, message) in duplicates(storages).into_iter().chain(duplicates(exporters)) {
        find(key, &message);
    }
    findings
}

fn duplicates<'a>(names: impl Iterator<Item = (&'a String, &'a String)>) -> Findings {
    let mut first = HashMap::new();
    let mut findings = Findings::new();
    for (name, key) in names {
        if let Some(other) = first.insert(name, key) {
            findings.push((format!("{key}.name"), format!("{other} is named {name} too")));
        }
    }
    findings
}
