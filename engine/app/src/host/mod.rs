//! The plugin host: finds plugin files, checks them, loads them, and hands out storages and exporters.
//!
//! A plugin's way: [`search`] finds its file, [`mod@file`] refuses one that others may change, [`meta`] reads what it says about
//! itself without running it, [`library`] loads it, [`settings`] checks the operator's settings against its schema, and then it
//! is opened. Every error names the file and the configuration key.

pub(crate) mod candidate;
mod exporter;
mod file;
mod library;
mod memory;
mod meta;
mod search;
mod settings;
mod storage;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;

use deskreel_config::{ExporterConfig, Loaded, StorageConfig};
use deskreel_sdk::Context;
use deskreel_sdk::abi::host::{ExporterLibrary, LogLine, StorageLibrary};
use deskreel_sdk::abi::meta::Kind;
use serde_json::Value;

pub(crate) use exporter::ExporterHandle;
pub(crate) use memory::return_large_buffers;
pub(crate) use search::{Listed, Search};
pub(crate) use storage::{StorageHandle, at_storage};

use crate::usage::UsageError;

/// The configured plugins, opened on demand. Cheap until then.
pub(crate) struct Plugins<'a> {
    loaded: &'a Loaded,
    search: Search,
}

impl<'a> Plugins<'a> {
    /// Plugins as the configuration names them.
    pub(crate) fn new(loaded: &'a Loaded) -> Self {
        deskreel_sdk::abi::host::set_log(write_log);
        Self {
            loaded,
            search: Search::new(&loaded.config.plugin_dirs),
        }
    }

    /// Opens one configured storage.
    ///
    /// # Errors
    /// It can't be opened; a [`UsageError`] where the configuration or the file is to blame.
    pub(crate) async fn open_storage(&self, config: &StorageConfig) -> anyhow::Result<Arc<StorageHandle>> {
        let entry = Entry::from(config);
        let (path, library): (_, StorageLibrary) = self.load(&entry, library::load_storage)?;
        let settings = self.settings(&entry, &library.info().settings_schema)?;
        let profile = library
            .profile(&settings)
            .map_err(|error| self.open_error(&entry, &path, &error))?;
        let context = context(&config.name);
        let op_timeout = config.op_timeout.unwrap_or(profile.op_timeout);
        let opening = tokio::time::timeout(op_timeout, library.open(&settings, &context));
        let instance = match opening.await {
            Ok(outcome) => outcome,
            Err(_) => Err(deskreel_sdk::abi::host::timed_out("opening", op_timeout)),
        }
        .map_err(|error| self.open_error(&entry, &path, &error))?;
        Ok(Arc::new(StorageHandle::new(config, profile, instance)))
    }

    /// Opens one configured exporter.
    ///
    /// # Errors
    /// As [`open_storage`](Self::open_storage).
    pub(crate) fn open_exporter(&self, config: &ExporterConfig) -> anyhow::Result<ExporterHandle> {
        let entry = Entry::from(config);
        let (path, library): (_, ExporterLibrary) = self.load(&entry, library::load_exporter)?;
        let settings = self.settings(&entry, &library.info().settings_schema)?;
        let instance = library
            .open(&settings, &context(&config.name))
            .map_err(|error| self.open_error(&entry, &path, &error))?;
        Ok(ExporterHandle::new(&config.name, library.info(), instance))
    }

    /// Every plugin file that the search finds and every configured one, without running any of them.
    pub(crate) fn list(&self) -> Vec<Listed> {
        let config = &self.loaded.config;
        let storages = config
            .storages
            .iter()
            .map(|storage| (&storage.name, Entry::from(storage)));
        let exporters = config
            .exporters
            .iter()
            .map(|exporter| (&exporter.name, Entry::from(exporter)));
        let mut listed = self.search.all();
        for (name, entry) in storages.chain(exporters) {
            let section = if entry.kind == Kind::Storage {
                "storages"
            } else {
                "exporters"
            };
            let configured_as = format!("{section}/{name}");
            let problem = |error: String| format!("{}: {error}", entry.source_key);
            let path = match self.search.find(entry.kind, entry.plugin, entry.path) {
                Ok(path) => path,
                Err(error) => {
                    listed.push(Listed::missing(
                        entry.kind,
                        entry.plugin,
                        entry.path,
                        configured_as,
                        problem(error),
                    ));
                    continue;
                }
            };
            let wrong = file::check(&path, entry.sha256)
                .and_then(|real| meta::read(&real))
                .and_then(|meta| search::fits(&meta, entry.kind, entry.plugin))
                .err();
            let index = listed.iter().position(|row| row.path == path).unwrap_or_else(|| {
                listed.push(Listed::read(path));
                listed.len() - 1
            });
            if let Some(row) = listed.get_mut(index) {
                row.configured_as.push(configured_as);
                row.problem = wrong.map(problem).or(row.problem.take());
            }
        }
        listed
    }

    /// What is wrong with the configured plugins and with their settings. Loads them, but opens none.
    pub(crate) fn problems(&self) -> Vec<String> {
        let config = &self.loaded.config;
        let storages = config.storages.iter().map(|storage| {
            let entry = storage.into();
            let (_, library) = self.load(&entry, library::load_storage)?;
            self.settings(&entry, &library.info().settings_schema)
        });
        let exporters = config.exporters.iter().map(|exporter| {
            let entry = exporter.into();
            let (_, library) = self.load(&entry, library::load_exporter)?;
            self.settings(&entry, &library.info().settings_schema)
        });
        let outcomes = storages.chain(exporters);
        outcomes
            .filter_map(|outcome| outcome.err().map(|error| error.to_string()))
            .collect()
    }

    /// The configuration with the secrets in plugins' settings replaced by a word, for output. Where a plugin can't be loaded
    /// to tell which settings are secret, every text in its settings is.
    pub(crate) fn without_secrets(&self) -> Loaded {
        let mut shown = self.loaded.clone();
        let config = &self.loaded.config;
        for (index, storage) in config.storages.iter().enumerate() {
            let library = self.load(&storage.into(), library::load_storage);
            let schema = library
                .as_ref()
                .ok()
                .map(|(_, library)| &library.info().settings_schema);
            conceal(&mut shown, "storages", index, schema);
        }
        for (index, exporter) in config.exporters.iter().enumerate() {
            let library = self.load(&exporter.into(), library::load_exporter);
            let schema = library
                .as_ref()
                .ok()
                .map(|(_, library)| &library.info().settings_schema);
            conceal(&mut shown, "exporters", index, schema);
        }
        shown
    }

    fn load<L>(
        &self,
        entry: &Entry<'_>,
        load: impl FnOnce(&std::path::Path) -> Result<L, String>,
    ) -> anyhow::Result<(PathBuf, L)> {
        let blame = if entry.path.is_some() { "path" } else { "plugin" };
        let fail = |message: String| self.usage_error(&format!("{}.{blame}", entry.source_key), &message);
        let path = self.search.find(entry.kind, entry.plugin, entry.path).map_err(fail)?;
        let fail_at = |message: String| fail(format!("{}: {message}", path.display()));
        let real = file::check(&path, entry.sha256).map_err(fail_at)?;
        let meta = meta::read(&real).map_err(fail_at)?;
        search::fits(&meta, entry.kind, entry.plugin).map_err(fail_at)?;
        let library = load(&real).map_err(fail_at)?;
        tracing::debug!(
            path = %path.display(), plugin = meta.name, version = meta.version, sdk = meta.sdk, "loaded plugin"
        );
        Ok((path, library))
    }

    fn settings(&self, entry: &Entry<'_>, schema: &Value) -> anyhow::Result<Value> {
        settings::resolve(entry.settings, schema, &self.loaded.config.base_dir).map_err(|errors| {
            let lines: Vec<String> = errors
                .into_iter()
                .map(|error| self.located(&format!("{}.settings{}", entry.source_key, error.key), &error.message))
                .collect();
            UsageError(lines.join("\n")).into()
        })
    }

    fn open_error(&self, entry: &Entry<'_>, path: &std::path::Path, error: &deskreel_sdk::Error) -> anyhow::Error {
        let message = format!("{}: {error}", path.display());
        if error.kind() == deskreel_sdk::ErrorKind::InvalidSettings {
            return self.usage_error(&format!("{}.settings", entry.source_key), &message);
        }
        anyhow::anyhow!("{}", self.located(entry.source_key, &message))
    }

    fn usage_error(&self, key: &str, message: &str) -> anyhow::Error {
        UsageError(self.located(key, message)).into()
    }

    /// The message with the key and where in the configuration it stands.
    fn located(&self, key: &str, message: &str) -> String {
        deskreel_config::ConfigError {
            origin: self.loaded.origin(key),
            key: key.to_owned(),
            message: message.to_owned(),
        }
        .to_string()
    }
}

/// What `storages[]` and `exporters[]` have in common.
struct Entry<'a> {
    kind: Kind,
    plugin: &'a str,
    path: Option<&'a PathBuf>,
    sha256: Option<&'a str>,
    settings: &'a Value,
    source_key: &'a str,
}

impl<'a> From<&'a StorageConfig> for Entry<'a> {
    fn from(config: &'a StorageConfig) -> Self {
        Self {
            kind: Kind::Storage,
            plugin: &config.plugin,
            path: config.path.as_ref(),
            sha256: config.sha256.as_deref(),
            settings: &config.settings,
            source_key: &config.source_key,
        }
    }
}

impl<'a> From<&'a ExporterConfig> for Entry<'a> {
    fn from(config: &'a ExporterConfig) -> Self {
        Self {
            kind: Kind::Exporter,
            plugin: &config.plugin,
            path: config.path.as_ref(),
            sha256: config.sha256.as_deref(),
            settings: &config.settings,
            source_key: &config.source_key,
        }
    }
}

fn conceal(shown: &mut Loaded, section: &str, index: usize, schema: Option<&Value>) {
    let entry = shown.values.get_mut(section).and_then(|entries| entries.get_mut(index));
    if let Some(settings) = entry.and_then(|entry| entry.get_mut("settings")) {
        match schema {
            Some(schema) => settings::conceal(settings, schema),
            None => settings::conceal_all(settings),
        }
    }
}

fn context(name: &str) -> Context {
    let mut context = Context::new(name);
    context.engine_version = env!("CARGO_PKG_VERSION").to_owned();
    context
}

/// The most that is taken of a text that a plugin says, in bytes: of an error, or of a line for the log.
const SAID_MAX_BYTES: usize = 4096;

/// As much of a plugin's text as is taken.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(SAID_MAX_BYTES)]
}

/// A plugin's log line becomes one of ours.
fn write_log(line: LogLine<'_>) {
    let LogLine {
        level,
        plugin,
        instance,
        target: module,
        message,
        fields,
    } = line;
    let (message, fields) = (shortened(message), shortened(fields));
    macro_rules! write_at {
        ($level:ident) => {
            tracing::event!(target: "deskreel::plugin", tracing::Level::$level, plugin, instance, module, fields, "{message}")
        };
    }
    match level {
        tracing::Level::ERROR => write_at!(ERROR),
        tracing::Level::WARN => write_at!(WARN),
        tracing::Level::INFO => write_at!(INFO),
        tracing::Level::DEBUG => write_at!(DEBUG),
        tracing::Level::TRACE => write_at!(TRACE),
    }
}
