//! Deskreel's configuration: defaults, then a YAML file, then the environment, then flags. Each value knows where it
//! comes from, every error says so, and the result is an immutable [`Config`].

#![forbid(unsafe_code)]

mod error;
mod model;
mod resources;

use std::path::PathBuf;

pub use error::{ConfigError, Errors, Origin};
pub use model::{
    Access, ClaimedIdentity, Config, ExporterConfig, Gateway, Log, LogFormat, LogLevel, Mode, OnFailure, Recording,
    RecordingMode, SessionRecording, Spool, StorageConfig,
};
pub use resources::{
    BulkCompression, Credentials, DesktopGateway, DesktopTls, Resources, Verify, WindowsDesktop, load_resources,
};

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
    pub value: serde_json::Value,
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
    /// Every value.
    pub entries: Vec<Entry>,
}

impl Loaded {
    /// Where the value of `key` comes from; for a key that is not there, the nearest thing that holds it.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        let _ = key;
        Origin::Default
    }
}

/// Reads and merges all layers, checks them and resolves the result.
///
/// # Errors
/// Everything that is wrong in any layer.
pub fn load(sources: &Sources) -> Result<Loaded, Errors> {
    let _ = sources;
    Err(Errors(Vec::new()))
}
