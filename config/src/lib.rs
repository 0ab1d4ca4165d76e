//! Deskreel's configuration: defaults, then a YAML file, then the environment, then flags. Each value knows where it
//! comes from, every error says so, and the result is an immutable [`Config`].

#![forbid(unsafe_code)]

mod check;
mod error;
mod layers;
mod model;
mod raw;
mod resolve;
mod resources;
mod review;
mod scalar;
mod schema;
mod value;
mod yaml;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

pub use error::{ConfigError, Errors, Origin};
pub use model::{
    Access, Audit, Catalog, ClaimedIdentity, ClientSecurity, Config, ExporterConfig, Exports, Gateway, HostLabels,
    Listener, Log, LogFormat, LogLevel, Mode, OnFailure, Recording, Retention, RetentionRule, Spool, StorageConfig,
    TlsMin,
};
pub use resources::{
    BulkCompression, ClipboardLevel, ClipboardRight, ClusterMode, ClusterMode as RecordingMode, Credentials,
    DesktopGateway, DesktopLogin, DesktopSecurity, DesktopTls, DeviceTrust, Document, Graphics, InputLevel, Lock,
    LockTarget, LockingMode, Metadata, RECORDING_CONFIG_NAME, ReadOptions, RecordSession, RecordVote,
    RecordingSettings, Resource, ResourceKind, Resources, Role, RoleConditions, RoleOptions, Rule, ScreenSize,
    SecretSource, SessionMfa, Stream, User, Verify, WindowsDesktop, load_resources, read_edited, read_folder,
    read_resources, read_stored,
};
pub use scalar::{format_duration, parse_duration};

/// What a configuration is made of, lowest layer first (the defaults lie below).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// The YAML file.
    pub file: Option<PathBuf>,
    /// The environment; only names that start with `DESKREEL_` are looked at, and `DESKREEL_CONFIG` is no key.
    pub env: Vec<(String, String)>,
    /// Key, value and the flag as it was written.
    pub flags: Vec<(String, String, String)>,
    /// The working folder, absolute: where relative paths start when there is no file.
    pub working_dir: PathBuf,
}

/// One value and where it comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The key, such as `gateway.listen` or `storages[0].name`.
    pub key: String,
    /// The value as configured.
    pub value: Value,
    /// Where it comes from.
    pub origin: Origin,
}

/// A checked configuration and where each value comes from.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The file it was read from.
    pub file: Option<PathBuf>,
    /// The merged values in one spelling, nested as in the file.
    pub values: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Where the value of `key` comes from; for a key that is not there, the nearest thing around it.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        nearest_origin(&self.origins, key)
    }

    /// Every value with its origin, in the order of the documentation. Lists of plain values are one entry.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::new();
        for key in schema::CONFIG.keys.iter().filter(|key| !key.path.contains("[]")) {
            if let Some(value) = check::get(&self.values, key.path) {
                self.flatten(key.path, key.path, value, &mut entries);
            }
        }
        entries
    }

    fn flatten(&self, path: &str, pattern: &str, value: &Value, entries: &mut Vec<Entry>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                let known = schema::CONFIG.children(pattern);
                let rank = |name: &str| known.iter().position(|known| *known == name).unwrap_or(known.len());
                let mut names: Vec<&String> = map.keys().collect();
                names.sort_by_key(|name| rank(name));
                for name in names {
                    if let Some(value) = map.get(name) {
                        self.flatten(&schema::join(path, name), &schema::join(pattern, name), value, entries);
                    }
                }
            }
            Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
                for (index, item) in items.iter().enumerate() {
                    self.flatten(&format!("{path}[{index}]"), &format!("{pattern}[]"), item, entries);
                }
            }
            value => {
                entries.push(Entry {
                    key: path.to_owned(),
                    value: value.clone(),
                    origin: self.origin(path),
                });
            }
        }
    }
}

/// Reads and merges all layers, checks them and resolves the result.
///
/// # Errors
/// Everything that is wrong in any layer, and then what is wrong between keys.
pub fn load(sources: &Sources) -> Result<Loaded, Errors> {
    let layers::Layers {
        figment,
        values,
        origins,
        mut errors,
        poisoned,
    } = layers::Layers::read(sources);
    let base_dir = match &sources.file {
        Some(file) => sources
            .working_dir
            .join(file)
            .parent()
            .map(Path::to_owned)
            .unwrap_or_default(),
        None => sources.working_dir.clone(),
    };
    let base_dir = layers::absolute(&base_dir, "");
    match figment.extract::<raw::RawConfig>() {
        Ok(raw) => {
            let (config, findings) = resolve::resolve(raw, &base_dir);
            for (key, message) in findings {
                if !check::is_poisoned(&poisoned, &key) {
                    errors.push(ConfigError {
                        origin: nearest_origin(&origins, &key),
                        key,
                        message,
                    });
                }
            }
            if errors.is_empty() {
                return Ok(Loaded {
                    config,
                    file: sources.file.clone(),
                    values,
                    origins,
                });
            }
        }
        // the registry and the raw types disagree; a test holds that they don't
        Err(error) if errors.is_empty() => {
            let key = error.path.join(".");
            errors.push(ConfigError {
                origin: nearest_origin(&origins, &key),
                key,
                message: error.kind.to_string(),
            });
        }
        Err(_) => {}
    }
    errors.sort_by(|a, b| a.origin.cmp(&b.origin));
    Err(Errors::bounded(errors))
}

fn nearest_origin(origins: &BTreeMap<String, Origin>, key: &str) -> Origin {
    let mut key = key;
    loop {
        if let Some(origin) = origins.get(key) {
            return origin.clone();
        }
        match key.rfind(['.', '[']) {
            Some(end) => key = key.get(..end).unwrap_or_default(),
            None => return Origin::Default,
        }
    }
}

#[cfg(test)]
mod documents;
#[cfg(test)]
mod tests;
