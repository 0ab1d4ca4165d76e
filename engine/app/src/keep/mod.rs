//! Keeping recordings, and losing them when their time has come: retention, holds, deletion, and looking after storages:
//! what they have, what they lack, what other nodes put there.
//!
//! Everything here blocks: it runs in commands, and in threads of their own beside the gateway ([`upkeep`]). Storages are
//! asked through a [`tokio::runtime::Handle`]. Time is an argument.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod copy;
pub(crate) mod erase;
pub(crate) mod hold;
mod look;
pub(crate) mod objects;
pub(crate) mod purge;
pub(crate) mod retention;
pub(crate) mod scan;
pub(crate) mod sync;
pub(crate) mod upkeep;

use std::sync::Arc;

use deskreel_config::Loaded;
use tokio::runtime::Handle;

use crate::host::{Plugins, StorageHandle};

pub(crate) use look::Trust;

#[cfg(test)]
mod tests;

/// A configured storage, open or not.
pub(crate) struct Opened {
    /// Its name in the configuration.
    pub(crate) name: String,
    /// Whether a recording is incomplete without it.
    pub(crate) required: bool,
    /// The storage, or why it can't be opened.
    pub(crate) storage: Result<Arc<StorageHandle>, String>,
}

/// What is wrong with the sections that this folder reads.
pub(crate) fn problems(config: &deskreel_config::Config) -> Vec<String> {
    let rules = retention::Rules::new(&config.retention).err();
    let keys = crate::keys::trust(config).err().map(|error| format!("{error:#}"));
    let exports = crate::exports::problems(config);
    rules.into_iter().chain(keys).chain(exports).collect()
}

/// Opens one configured storage.
///
/// # Errors
/// No storage of that name; a list of those that there are.
pub(crate) fn open_one(loaded: &Loaded, handle: &Handle, name: &str) -> Result<Opened, String> {
    let storages = &loaded.config.storages;
    let Some(config) = storages.iter().find(|config| config.name == name) else {
        let known: Vec<&str> = storages.iter().map(|config| config.name.as_str()).collect();
        return Err(format!("no storage is named {name:?}; there are: {}", known.join(", ")));
    };
    Ok(open(&Plugins::new(loaded), handle, config))
}

fn open(plugins: &Plugins<'_>, handle: &Handle, config: &deskreel_config::StorageConfig) -> Opened {
    Opened {
        name: config.name.clone(),
        required: config.required,
        storage: handle
            .block_on(plugins.open_storage(config))
            .map_err(|error| format!("{error:#}")),
    }
}

/// Opens every configured storage; one that can't be opened says why when it is needed.
pub(crate) fn open_all(loaded: &Loaded, handle: &Handle) -> Vec<Opened> {
    let plugins = Plugins::new(loaded);
    let storages = loaded.config.storages.iter();
    storages.map(|config| open(&plugins, handle, config)).collect()
}
