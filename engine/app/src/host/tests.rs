#![allow(clippy::unwrap_used, reason = "tests")]

mod loaded;
mod refused;
mod variants;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deskreel_config::{Loaded, Sources};
use deskreel_sdk::{Key, PutOptions};

use super::{Plugins, StorageHandle};

/// A folder with a configuration file.
struct Setup {
    folder: tempfile::TempDir,
}

impl Setup {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Loads a configuration whose `storages` are these lines.
    fn load(&self, storages: &[&str]) -> Loaded {
        let mut text = "storages:\n".to_owned();
        for storage in storages {
            text.push_str(&format!("  - {storage}\n"));
        }
        let file = self.path("deskreel.yaml");
        std::fs::write(&file, text).unwrap();
        let working_dir = self.folder.path().to_owned();
        deskreel_config::load(&Sources {
            file: Some(file),
            working_dir,
            ..Sources::default()
        })
        .unwrap()
    }

    async fn open(&self, storages: &[&str]) -> anyhow::Result<Vec<Arc<StorageHandle>>> {
        let loaded = self.load(storages);
        let plugins = Plugins::new(&loaded);
        let mut handles = Vec::new();
        for config in &loaded.config.storages {
            handles.push(plugins.open_storage(config).await?);
        }
        Ok(handles)
    }

    /// The error of opening this one storage.
    async fn error(&self, storage: &str) -> anyhow::Error {
        self.open(&[storage]).await.err().unwrap()
    }
}

/// A library that cargo built for these tests.
fn built(name: &str) -> PathBuf {
    std::env::current_exe().unwrap().with_file_name(name)
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn options() -> PutOptions {
    PutOptions::default()
}

fn show(path: &Path) -> String {
    path.display().to_string()
}
