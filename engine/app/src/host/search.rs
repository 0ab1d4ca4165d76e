//! Where plugin files are looked for.

use std::path::{Path, PathBuf};

use deskreel_sdk::abi::ABI_MAJOR;
use deskreel_sdk::abi::meta::{Kind, Meta};
use serde::Serialize;

use super::{file, meta};

/// The folders that are searched, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Search {
    folders: Vec<PathBuf>,
}

/// One plugin file, for `plugins ls`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Listed {
    /// Storage or exporter; `None` where the file doesn't say.
    pub(crate) kind: Option<Kind>,
    /// The plugin's name.
    pub(crate) name: String,
    /// The plugin's own version.
    pub(crate) version: Option<String>,
    /// ABI major.
    pub(crate) abi: Option<u32>,
    /// Version of the SDK that it was built with.
    pub(crate) sdk: Option<String>,
    /// The compiler that built it.
    pub(crate) rustc: Option<String>,
    /// The file.
    pub(crate) path: PathBuf,
    /// `storages/NAME` and `exporters/NAME` of the configuration.
    pub(crate) configured_as: Vec<String>,
    /// Why it can't be used.
    pub(crate) problem: Option<String>,
}

impl Search {
    /// The configured folders, then `<prefix>/lib/deskreel/plugins` of the installation, then beside the binary. Never the
    /// working folder.
    pub(crate) fn new(plugin_dirs: &[PathBuf]) -> Self {
        let mut folders = plugin_dirs.to_vec();
        if let Some(beside) = std::env::current_exe().ok().as_deref().and_then(Path::parent) {
            folders.extend(beside.parent().map(|prefix| prefix.join("lib/deskreel/plugins")));
            folders.push(beside.to_owned());
        }
        Self { folders }
    }

    /// The file of a plugin: `path` where one is configured, else the first in the folders.
    pub(crate) fn find(&self, kind: Kind, plugin: &str, path: Option<&PathBuf>) -> Result<PathBuf, String> {
        if let Some(path) = path {
            return match path.metadata() {
                Ok(_) => Ok(path.clone()),
                Err(error) => Err(format!("{}: {error}", path.display())),
            };
        }
        // A name with a slash would leave the folders.
        if plugin.is_empty()
            || !plugin
                .chars()
                .all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        {
            return Err(format!("`{plugin}` is not a plugin's name; a file goes into `path`"));
        }
        let name = format!("libdeskreel_{kind}_{}.so", plugin.replace('-', "_"));
        if let Some(found) = self
            .folders
            .iter()
            .map(|folder| folder.join(&name))
            .find(|path| path.exists())
        {
            return Ok(found);
        }
        let folders: Vec<String> = self.folders.iter().map(|folder| folder.display().to_string()).collect();
        let there: Vec<String> = self
            .all()
            .into_iter()
            .filter(|row| row.kind == Some(kind))
            .map(|row| row.name)
            .collect();
        let there = if there.is_empty() {
            String::new()
        } else {
            format!("; {kind} plugins there: {}", there.join(", "))
        };
        Err(format!(
            "no {kind} plugin `{plugin}`: {name} is not in {}{there}",
            folders.join(", ")
        ))
    }

    /// Every plugin file in the folders, in their order.
    pub(crate) fn all(&self) -> Vec<Listed> {
        let mut listed: Vec<Listed> = Vec::new();
        for folder in &self.folders {
            let names = std::fs::read_dir(folder)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.file_name());
            let mut names: Vec<String> = names.filter_map(|name| name.into_string().ok()).collect();
            names.retain(|name| {
                ["libdeskreel_storage_", "libdeskreel_exporter_"]
                    .iter()
                    .any(|start| name.starts_with(start))
                    && name.ends_with(".so")
            });
            names.sort();
            for path in names.into_iter().map(|name| folder.join(name)) {
                if !listed.iter().any(|row| row.path == path) {
                    listed.push(Listed::read(path));
                }
            }
        }
        listed
    }
}

impl Listed {
    /// What a file says about itself.
    pub(crate) fn read(path: PathBuf) -> Self {
        match meta::read(&path) {
            Ok(meta) => {
                let problem = file::check(&path, None).and_then(|_| supported(&meta)).err();
                Self {
                    kind: Some(meta.kind),
                    name: meta.name,
                    version: Some(meta.version),
                    abi: Some(meta.abi),
                    sdk: Some(meta.sdk),
                    rustc: Some(meta.rustc),
                    path,
                    configured_as: Vec::new(),
                    problem,
                }
            }
            Err(problem) => {
                let stem = path
                    .file_stem()
                    .map(|stem| stem.to_string_lossy().into_owned())
                    .unwrap_or_default();
                let name = ["libdeskreel_storage_", "libdeskreel_exporter_"]
                    .iter()
                    .find_map(|start| stem.strip_prefix(start));
                Self::unread(None, name.unwrap_or(&stem).to_owned(), path, problem)
            }
        }
    }

    /// A configured plugin whose file isn't there.
    pub(crate) fn missing(
        kind: Kind,
        plugin: &str,
        path: Option<&PathBuf>,
        configured_as: String,
        problem: String,
    ) -> Self {
        let mut row = Self::unread(
            Some(kind),
            plugin.to_owned(),
            path.cloned().unwrap_or_default(),
            problem,
        );
        row.configured_as.push(configured_as);
        row
    }

    fn unread(kind: Option<Kind>, name: String, path: PathBuf, problem: String) -> Self {
        Self {
            kind,
            name,
            version: None,
            abi: None,
            sdk: None,
            rustc: None,
            path,
            configured_as: Vec::new(),
            problem: Some(problem),
        }
    }
}

pub(super) fn supported(meta: &Meta) -> Result<(), String> {
    if meta.abi == ABI_MAJOR {
        return Ok(());
    }
    Err(format!(
        "the plugin speaks ABI {} (SDK {}), this engine speaks ABI {ABI_MAJOR}",
        meta.abi, meta.sdk
    ))
}

/// Whether a file is the plugin that the configuration means.
pub(crate) fn fits(meta: &Meta, kind: Kind, plugin: &str) -> Result<(), String> {
    supported(meta)?;
    if meta.kind != kind {
        return Err(format!(
            "is the {} plugin `{}`, where a {kind} belongs",
            meta.kind, meta.name
        ));
    }
    if meta.name.replace('-', "_") != plugin.replace('-', "_") {
        return Err(format!("is the {kind} plugin `{}`, not `{plugin}`", meta.name));
    }
    Ok(())
}
