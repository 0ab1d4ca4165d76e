//! From the raw configuration to [`Config`]: absolute paths, and what only several keys together can get wrong.

use std::collections::HashMap;
use std::path::Path;

use crate::layers::absolute;
use crate::model::{
    Access, Audit, Catalog, Config, ExporterConfig, Exports, Gateway, HostLabels, Listener, Log, Mode, Recording,
    Retention, RetentionRule, Spool, StorageConfig, Web,
};
use crate::raw::{
    RawAccess, RawConfig, RawExporter, RawGateway, RawHostLabels, RawListener, RawRetention, RawRetentionRule,
    RawStorage, RawSwitch, RawWeb,
};
use crate::resources::{ClusterMode, RecordingSettings, SessionMfa};

/// The socket of `audit.syslog: true`.
const SYSLOG: &str = "/dev/log";

/// What is wrong between keys: the key to blame and the message.
pub(crate) type Findings = Vec<(String, String)>;

pub(crate) fn resolve(raw: RawConfig, base_dir: &Path) -> (Config, Findings) {
    let path = |text: &str| absolute(base_dir, text);
    let data_dir = path(&raw.data_dir);
    let config = Config {
        plugin_dirs: raw.plugin_dirs.iter().map(|dir| path(dir)).collect(),
        gateway: gateway(raw.gateway, base_dir),
        session_recording: RecordingSettings {
            mode: raw.session_recording.mode,
            on_failure: raw.session_recording.on_failure,
            input: raw.session_recording.input,
            clipboard: raw.session_recording.clipboard,
        },
        recording: Recording {
            segment_max_age: raw.recording.segment_max_age.map(|age| age.0),
            segment_max_bytes: raw.recording.segment_max_bytes.0,
            keyframe_interval: raw.recording.keyframe_interval.0,
            frame_interval: raw.recording.frame_interval.0,
            queue_max_bytes: raw.recording.queue_max_bytes.0,
            stall_max: raw.recording.stall_max.0,
            repaint_max: raw.recording.repaint_max.0,
            undecoded_max_bytes: raw.recording.undecoded_max_bytes.0,
            trusted_keys: raw.recording.trusted_keys.iter().map(|file| path(file)).collect(),
        },
        spool: Spool {
            path: raw.spool.path.as_deref().map_or_else(|| data_dir.join("spool"), path),
            max_bytes: raw.spool.max_bytes.0,
            min_free_bytes: raw.spool.min_free_bytes.0,
            reserve_bytes: raw.spool.reserve_bytes.0,
        },
        storages: raw
            .storages
            .into_iter()
            .enumerate()
            .map(|(index, raw)| storage(raw, index, base_dir))
            .collect(),
        retention: retention(raw.retention),
        catalog: Catalog {
            sync_interval: raw.catalog.sync_interval.0,
        },
        exporters: raw
            .exporters
            .into_iter()
            .enumerate()
            .map(|(index, raw)| exporter(raw, index, base_dir))
            .collect(),
        exports: Exports {
            jobs_max: raw.exports.jobs_max,
            attempts_max: raw.exports.attempts_max,
            retry_after: raw.exports.retry_after.0,
            retry_max: raw.exports.retry_max.0,
            timeout: raw.exports.timeout.0,
            max_bytes: raw.exports.max_bytes.0,
        },
        access: access(raw.access, base_dir),
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
        web: web(raw.web, base_dir),
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

fn gateway(raw: RawGateway, base_dir: &Path) -> Gateway {
    let optional = |text: Option<String>| text.map(|text| absolute(base_dir, &text));
    let listener = |raw: RawListener| Listener {
        listen: raw.listen,
        desktop: raw.desktop,
    };
    Gateway {
        listen: raw.listen,
        certificate: optional(raw.certificate),
        private_key: optional(raw.private_key),
        client_security: raw.client_security,
        graphics: raw.graphics,
        tls_min: raw.tls_min,
        listeners: raw.listeners.into_iter().map(listener).collect(),
        default_desktop: raw.default_desktop,
        handshake_timeout: raw.handshake_timeout.0,
        activation_timeout: raw.activation_timeout.0,
        screen_max_pixels: raw.screen_max_pixels,
        connect_timeout: raw.connect_timeout.0,
        shutdown_timeout: raw.shutdown_timeout.0,
        sessions_max: raw.sessions_max,
        sessions_per_desktop_max: raw.sessions_per_desktop_max,
        connections_pending_max: raw.connections_pending_max,
        connections_per_address_max: raw.connections_per_address_max,
        logon_failures_max: raw.logon_failures_max,
        logon_failures_per_address_max: raw.logon_failures_per_address_max,
        logon_block: raw.logon_block.0,
        logon_trust: raw.logon_trust.0,
        secret_timeout: raw.secret_timeout.0,
        bandwidth_max: raw.bandwidth_max.map(|max| max.0),
    }
}

fn web(raw: RawWeb, base_dir: &Path) -> Web {
    let optional = |text: Option<String>| text.map(|text| absolute(base_dir, &text));
    Web {
        listen: raw.listen,
        certificate: optional(raw.certificate),
        private_key: optional(raw.private_key),
        external_url: raw.external_url.map(|url| url.trim_end_matches('/').to_owned()),
        session_ttl: raw.session_ttl.0,
    }
}

fn access(raw: RawAccess, base_dir: &Path) -> Access {
    let host_labels = |raw: RawHostLabels| HostLabels {
        pattern: raw.pattern,
        labels: raw.labels,
    };
    Access {
        resources_dir: absolute(base_dir, &raw.resources_dir),
        claimed_identity: raw.claimed_identity,
        claimed_roles: raw.claimed_roles,
        session_ttl_max: raw.session_ttl_max.map(|max| max.0),
        client_idle_timeout: raw.client_idle_timeout.map(|timeout| timeout.0),
        locking_mode: raw.locking_mode,
        lock_stale_max: raw.lock_stale_max.0,
        require_session_mfa: raw.require_session_mfa != SessionMfa::No,
        host_labels: raw.host_labels.into_iter().map(host_labels).collect(),
    }
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
        concurrency_max: raw.concurrency_max,
        puts_per_second_max: raw.puts_per_second_max,
        bytes_per_second_max: raw.bytes_per_second_max.map(|size| size.0),
        settings: raw.settings,
        source_key: format!("storages[{index}]"),
    }
}

fn retention(raw: RawRetention) -> Retention {
    let rule = |(index, raw): (usize, RawRetentionRule)| RetentionRule {
        keep: raw.keep.map(|keep| keep.0),
        users: raw.users,
        desktops: raw.desktops,
        labels: raw.labels,
        filter: raw.filter,
        source_key: format!("retention.rules[{index}]"),
    };
    Retention {
        default: raw.default.map(|keep| keep.0),
        rules: raw.rules.into_iter().enumerate().map(rule).collect(),
        purge_interval: raw.purge_interval.0,
        purge_batch_max: raw.purge_batch_max,
    }
}

fn exporter(raw: RawExporter, index: usize, base_dir: &Path) -> ExporterConfig {
    ExporterConfig {
        name: raw.name,
        plugin: raw.plugin,
        path: raw.path.map(|path| absolute(base_dir, &path)),
        sha256: raw.sha256,
        mode: raw.mode,
        when: raw.when,
        format: raw.format,
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
    match (&config.web.certificate, &config.web.private_key) {
        (Some(_), None) => find("web.certificate".to_owned(), "needs web.private_key beside it"),
        (None, Some(_)) => find("web.private_key".to_owned(), "needs web.certificate beside it"),
        _ => {}
    }
    if let Some(problem) = config.web.external_url.as_deref().and_then(not_an_origin) {
        find("web.external_url".to_owned(), problem);
    }
    let encrypted = config.web.certificate.is_some()
        || config
            .web
            .external_url
            .as_deref()
            .is_some_and(|url| url.starts_with("https://"));
    if config.web.listen.is_some_and(|listen| !listen.ip().is_loopback()) && !encrypted {
        find(
            "web.listen".to_owned(),
            "passwords would cross the network in clear text: set web.certificate and web.private_key, or an external_url with https:// where a proxy ends TLS",
        );
    }
    if config.gateway.client_security.is_empty() {
        find("gateway.client_security".to_owned(), "must name nla, tls or both");
    }
    if config.session_recording.mode != ClusterMode::Off && config.storages.is_empty() {
        find(
            "storages".to_owned(),
            "at least one is needed while session_recording is on",
        );
    }
    if config.session_recording.mode != ClusterMode::Off
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
    for rule in &config.retention.rules {
        if rule.users.is_empty() && rule.desktops.is_empty() && rule.labels.is_empty() && rule.filter.is_none() {
            find(
                rule.source_key.clone(),
                "must name users, desktops, labels or where; what counts for all recordings is retention.default",
            );
        }
    }
    for exporter in config.exporters.iter().filter(|exporter| exporter.mode == Mode::Sync) {
        for (key, set) in [("when", exporter.when.is_some()), ("format", exporter.format.is_some())] {
            if set {
                find(
                    format!("{}.{key}", exporter.source_key),
                    "is for exporters with mode: async; the command that asks says it of the others",
                );
            }
        }
    }
    for (index, listener) in config.gateway.listeners.iter().enumerate() {
        let others = config.gateway.listeners.iter().take(index).map(|other| other.listen);
        let taken = std::iter::once(config.gateway.listen)
            .chain(others)
            .any(|other| other == listener.listen && other.port() != 0);
        if taken {
            find(
                format!("gateway.listeners[{index}].listen"),
                "something else listens there already",
            );
        }
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

/// What keeps a text from being `https://host[:port]`.
fn not_an_origin(url: &str) -> Option<&'static str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
    let Some(host) = rest else {
        return Some("must begin with https:// or http://");
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
    (host.is_empty() || !host.chars().all(plain))
        .then_some("must be a scheme, a host and perhaps a port, without a path")
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
