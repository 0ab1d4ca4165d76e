//! What is in force for a command: what the gateway goes by, or would after a start.

use std::collections::BTreeMap;
use std::sync::Arc;

use deskreel_config::{Loaded, ResourceKind};

use super::configured::Configured;
use super::entry::{Entry, Unreadable, defaults};
use super::store::store_configured;
use super::view::{Settings, Snapshot};
use crate::catalog::{self, Catalog, StoredOrigin, StoredResource};
use crate::pipeline;

/// The entries of what is built in.
pub(super) fn built_in() -> BTreeMap<(ResourceKind, String), Arc<Entry>> {
    let entries = defaults().iter();
    entries
        .map(|entry| ((entry.kind(), entry.name().to_owned()), Arc::clone(entry)))
        .collect()
}

/// What is in force by what is stored.
pub(super) fn of_stored(settings: Settings, stored: &[StoredResource]) -> Snapshot {
    let mut snapshot = Snapshot {
        settings,
        entries: built_in(),
        unreadable: Vec::new(),
    };
    for stored in stored {
        match Entry::read(stored) {
            Ok(entry) => {
                snapshot
                    .entries
                    .insert((stored.kind, stored.name.clone()), Arc::new(entry));
            }
            Err(unreadable) => take_out(&mut snapshot, unreadable),
        }
    }
    snapshot
}

/// What can't be read is not there, and what is built in does not come back for it.
pub(super) fn take_out(snapshot: &mut Snapshot, unreadable: Unreadable) {
    snapshot.entries.remove(&(unreadable.kind, unreadable.name.clone()));
    snapshot.unreadable.push(unreadable);
}

/// What is in force, without changing anything: of the running gateway, else of one that started now.
///
/// # Errors
/// A configuration or catalog that can't be read.
pub(crate) fn look(loaded: &Loaded) -> anyhow::Result<Snapshot> {
    let settings = Settings::of(loaded)?;
    let data_dir = &loaded.config.data_dir;
    let catalog = match Catalog::open_read_only(data_dir) {
        Ok(catalog) => Some(catalog),
        Err(catalog::Error::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let mut stored = match &catalog {
        Some(catalog) => catalog.resources()?,
        None => Vec::new(),
    };
    if !pipeline::is_running(data_dir) {
        let configured = Configured::read(loaded)?;
        let digest = match &catalog {
            Some(catalog) => catalog.resources_state()?.1,
            None => String::new(),
        };
        if digest != configured.digest() {
            let said = configured.stored();
            stored.retain(|old| {
                let is_said = said.iter().any(|row| (row.kind, &row.name) == (old.kind, &old.name));
                old.origin == StoredOrigin::Dynamic && !is_said
            });
            stored.extend(said);
        }
    }
    Ok(of_stored(settings, &stored))
}

/// The catalog, for a command that changes resources. When no gateway runs, the configuration is stored first, as a
/// start would.
///
/// # Errors
/// A configuration or catalog that can't be read or written.
pub(crate) fn open_for_change(loaded: &Loaded) -> anyhow::Result<Catalog> {
    let data_dir = &loaded.config.data_dir;
    let catalog = Catalog::open(data_dir)?;
    if !pipeline::is_running(data_dir) {
        let configured = Configured::read(loaded)?;
        if catalog.resources_state()?.1 != configured.digest() {
            catalog.edit_resources(|table| {
                store_configured(table, &configured).map_err(|error| catalog.resources_error(error))
            })?;
        }
    }
    Ok(catalog)
}
