//! What is in force for a command: what the gateway goes by, or would after a start.

use std::collections::BTreeMap;
use std::sync::Arc;

use deskreel_config::{Loaded, ResourceKind};

use super::Who;
use super::configured::{Configured, is_of_another_folder};
use super::entry::{Entry, ResourceOrigin, Unreadable, defaults};
use super::store::{events, store_configured};
use super::view::{Settings, Snapshot};
use crate::audit::{Actor, Audit};
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
pub(super) fn of_stored<'a>(settings: Settings, stored: impl IntoIterator<Item = &'a StoredResource>) -> Snapshot {
    let mut snapshot = Snapshot {
        settings,
        entries: built_in(),
        unreadable: Vec::new(),
        refused: None,
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
    // whoever can't read what is stored must not take it for nothing
    Who::is(&loaded.config.data_dir)?;
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
    let mut refused = None;
    if !pipeline::is_running(data_dir) {
        let digest = match &catalog {
            Some(catalog) => catalog.resources_state()?.1,
            None => String::new(),
        };
        let configured = Configured::in_force(loaded, &settings, &stored, !digest.is_empty())?;
        refused.clone_from(&configured.refused);
        if digest != configured.digest() {
            let said = configured.stored();
            stored.retain(|old| {
                let is_said = said.iter().any(|row| (row.kind, &row.name) == (old.kind, &old.name));
                old.origin == StoredOrigin::Dynamic && !is_said
            });
            stored.extend(said);
        }
    }
    let mut snapshot = of_stored(settings, &stored);
    snapshot.refused = refused;
    Ok(snapshot)
}

/// What is wrong with the configuration's resources as they are now, whatever is in force; and whether what is stored
/// differs from them.
///
/// # Errors
/// A catalog that can't be read.
pub(crate) fn unloaded(loaded: &Loaded) -> anyhow::Result<Unloaded> {
    let catalog = Catalog::open_or_nothing(&loaded.config.data_dir)?;
    let digest = catalog.resources_state()?.1;
    match Configured::in_force(loaded, &Settings::of(loaded)?, &catalog.resources()?, true) {
        Ok(configured) => Ok(match configured.refused {
            Some(refused) => Unloaded::Refused(refused),
            None if digest != configured.digest() && !digest.is_empty() => Unloaded::Changed,
            None => Unloaded::Nothing,
        }),
        Err(error) => Ok(Unloaded::Refused(format!("{error:#}"))),
    }
}

/// Where the configuration says a resource, if it does; whatever is in force.
///
/// # Errors
/// A configuration or catalog that can't be read.
pub(crate) fn configured_place(
    loaded: &Loaded,
    catalog: &Catalog,
    kind: ResourceKind,
    name: &str,
) -> anyhow::Result<Option<String>> {
    let configured = Configured::in_force(loaded, &Settings::of(loaded)?, &catalog.resources()?, true)?;
    let said = configured
        .stored()
        .into_iter()
        .find(|row| (row.kind, row.name.as_str()) == (kind, name));
    Ok(said.map(|row| row.place))
}

/// What of the configuration's resources is not in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unloaded {
    /// Everything is.
    Nothing,
    /// They have changed since they were loaded.
    Changed,
    /// They can't be loaded: one line a finding.
    Refused(String),
}

/// The catalog and the audit log, for a command that changes resources. When no gateway runs, the configuration is stored
/// first, as a start would, unless another resource folder than this configuration's was stored before.
///
/// # Errors
/// A configuration, catalog or log that can't be read or written.
pub(crate) fn open_for_change(loaded: &Loaded, actor: &Actor) -> anyhow::Result<(Catalog, Audit)> {
    let data_dir = &loaded.config.data_dir;
    let catalog = Catalog::open(data_dir)?;
    let audit = Audit::open(&loaded.config)?;
    if !pipeline::is_running(data_dir) {
        let digest = catalog.resources_state()?.1;
        let settings = Settings::of(loaded)?;
        let stored = catalog.resources()?;
        let configured = Configured::in_force(loaded, &settings, &stored, !digest.is_empty())?;
        if digest != configured.digest() && !is_of_another_folder(loaded, &stored) {
            store_configured(&catalog, &configured, |changes| {
                let events = events(changes, ResourceOrigin::ConfigFile);
                Ok(audit.emit_all_or_fail(actor.clone(), &events)?)
            })?;
        }
    }
    Ok((catalog, audit))
}
