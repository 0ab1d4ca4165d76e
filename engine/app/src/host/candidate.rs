//! A built plugin and settings that no configuration names: what its author wants checked.

use std::path::{Path, PathBuf};

use deskreel_sdk::abi::host::{ExporterInstance, ExporterLibrary, StorageInstance, StorageLibrary};
use deskreel_sdk::abi::meta::{Kind, Meta};
use deskreel_sdk::{Profile, Result};
use serde_json::{Map, Value};

use super::{context, file, library, meta, search, settings};
use crate::usage::UsageError;

/// Most bytes of a file of settings.
const SETTINGS_MAX_BYTES: u64 = 1 << 20;

/// What a plugin's file says about itself. Nothing of it is run.
///
/// # Errors
/// A [`UsageError`]: it may not or can't be used.
pub(crate) fn inspect(path: &Path) -> anyhow::Result<Meta> {
    let read = || {
        let real = file::check(path, None)?;
        let meta = meta::read(&real)?;
        search::supported(&meta)?;
        Ok(meta)
    };
    read().map_err(|error: String| blame(path, &error))
}

/// A loaded plugin and its settings, checked against its schema.
pub(crate) struct Candidate<L> {
    library: L,
    /// As the plugin gets them.
    settings: Value,
}

impl Candidate<StorageLibrary> {
    /// Loads a storage.
    ///
    /// # Errors
    /// A [`UsageError`] about the file or the settings.
    pub(crate) fn storage(path: &Path, settings: Option<&Path>) -> anyhow::Result<Self> {
        let (real, meta) = accepted(path)?;
        let library = library::load_storage(&real).map_err(|error| blame(path, &error))?;
        let schema = library.info().settings_schema.clone();
        Self::with(library, &schema, &meta, settings)
    }

    /// The settings' schema.
    pub(crate) fn schema(&self) -> &Value {
        &self.library.info().settings_schema
    }

    /// What a storage with the settings is like.
    pub(crate) fn profile(&self) -> Result<Profile> {
        self.library.profile(&self.settings)
    }

    /// Whether the plugin itself reads these settings.
    pub(crate) fn reads(&self, settings: &Value) -> Result<(), String> {
        let read = self.library.profile(settings);
        read.map(drop).map_err(|error| error.to_string())
    }

    /// The settings as the plugin gets them.
    pub(crate) fn settings(&self) -> &Value {
        &self.settings
    }

    /// Opens it.
    pub(crate) async fn open(&self) -> Result<StorageInstance> {
        self.library.open(&self.settings, &context("check")).await
    }
}

impl Candidate<ExporterLibrary> {
    /// Loads an exporter.
    ///
    /// # Errors
    /// A [`UsageError`] about the file or the settings.
    pub(crate) fn exporter(path: &Path, settings: Option<&Path>) -> anyhow::Result<Self> {
        let (real, meta) = accepted(path)?;
        let library = library::load_exporter(&real).map_err(|error| blame(path, &error))?;
        let schema = library.info().settings_schema.clone();
        Self::with(library, &schema, &meta, settings)
    }

    /// What the library says about itself.
    pub(crate) fn library(&self) -> &ExporterLibrary {
        &self.library
    }

    /// Whether the plugin itself reads these settings.
    pub(crate) fn reads(&self, settings: &Value) -> Result<(), String> {
        let opened = self.library.open(settings, &context("check"));
        opened.map(drop).map_err(|error| error.to_string())
    }

    /// The settings as the plugin gets them.
    pub(crate) fn settings(&self) -> &Value {
        &self.settings
    }

    /// Opens it.
    pub(crate) fn open(&self) -> Result<ExporterInstance> {
        self.library.open(&self.settings, &context("check"))
    }
}

impl<L> Candidate<L> {
    fn with(library: L, schema: &Value, meta: &Meta, file: Option<&Path>) -> anyhow::Result<Self> {
        deskreel_sdk::abi::host::set_log(super::write_log);
        let (written, base_dir) = match file {
            Some(file) => read_settings(file, meta)?,
            None => (Value::Object(Map::new()), PathBuf::from("/")),
        };
        let settings = settings::resolve(&written, schema, &base_dir).map_err(|errors| {
            let (before, after) = match file {
                Some(file) => (format!("{}: ", file.display()), ""),
                None => (String::new(), "; name a file with --settings"),
            };
            let lines = errors
                .into_iter()
                .map(|error| format!("{before}settings{}: {}{after}", error.key, error.message));
            UsageError(lines.collect::<Vec<_>>().join("\n"))
        })?;
        Ok(Self { library, settings })
    }
}

fn accepted(path: &Path) -> anyhow::Result<(PathBuf, Meta)> {
    let meta = inspect(path)?;
    let real = file::check(path, None).map_err(|error| blame(path, &error))?;
    Ok((real, meta))
}

fn blame(path: &Path, error: &str) -> anyhow::Error {
    UsageError(format!("{}: {error}", path.display())).into()
}

/// The settings in a file and the folder where relative paths in them start. The file has either what stands below `settings`, or
/// a configuration's `storages` or `exporters`, as `sample.yaml` has.
fn read_settings(file: &Path, meta: &Meta) -> anyhow::Result<(Value, PathBuf)> {
    let wrong = |error: &dyn std::fmt::Display| blame(file, &error.to_string());
    let real = file.canonicalize().map_err(|error| wrong(&error))?;
    if real.metadata().map_err(|error| wrong(&error))?.len() > SETTINGS_MAX_BYTES {
        return Err(wrong(&"is too large for a file of settings"));
    }
    let text = std::fs::read_to_string(&real).map_err(|error| wrong(&error))?;
    let mut document: Value = serde_saphyr::from_str(&text).map_err(|error| wrong(&error))?;
    let base_dir = real.parent().unwrap_or(Path::new("/")).to_owned();
    let section = match meta.kind {
        Kind::Storage => "storages",
        Kind::Exporter => "exporters",
    };
    if document.get("storages").is_none() && document.get("exporters").is_none() {
        return Ok((document, base_dir));
    }
    let same = |entry: &&mut Value| {
        let named = entry["plugin"].as_str().unwrap_or_default();
        named.replace('-', "_") == meta.name.replace('-', "_")
    };
    let entries = document.get_mut(section).and_then(Value::as_array_mut);
    let entry = entries.and_then(|entries| entries.iter_mut().find(same));
    match entry {
        Some(entry) => Ok((entry["settings"].take(), base_dir)),
        None => Err(wrong(&format!("`{section}` has no entry with `plugin: {}`", meta.name))),
    }
}
