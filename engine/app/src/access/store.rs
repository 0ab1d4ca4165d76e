//! Changes of resources: who wins over whom.
//!
//! What the configuration says wins and is stored again at every start and reload; a resource wins whole, never key by
//! key. A command may replace it until then, if told so twice.

use std::collections::BTreeSet;

use deskreel_config::{Document, ResourceKind};
use serde_json::{Map, Value};

use super::configured::Configured;
use super::entry::{ResourceOrigin, defaults};
use crate::audit::{AuditError, Event, ResourceChange, ResourceVerb};
use crate::catalog::{Catalog, Error, ResourceTable, StoredOrigin, StoredResource};

/// How much a command may replace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Force {
    /// Only what is built in.
    Create,
    /// What commands made too.
    Replace,
    /// What the configuration says too, until the next start or reload.
    Confirmed,
}

/// What happened to a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeVerb {
    /// It was not there.
    Created,
    /// It was, and says something else now.
    Updated,
    /// It was, and says the same.
    Unchanged,
    /// It is gone.
    Deleted,
    /// What is built in is in force again.
    Reset,
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// Which kind.
    pub(crate) kind: ResourceKind,
    /// Its name.
    pub(crate) name: String,
    /// What happened.
    pub(crate) verb: ChangeVerb,
    /// Paths that differ; of a new or removed resource none.
    pub(crate) changed: Vec<String>,
    /// It holds until the next start or reload only: where the configuration says otherwise.
    pub(crate) until_restart: Option<String>,
}

/// Why a change did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// It is there already.
    #[error("{0} exists, use -f to replace it")]
    Exists(String),
    /// The configuration says it.
    #[error(
        "{subject} is set in {place}, remove it there and restart, or add --confirm to replace it until the next start"
    )]
    Configured {
        /// What.
        subject: String,
        /// Where.
        place: String,
    },
    /// The configuration says it, and it was to be removed.
    #[error("{subject} is set in {place}, remove it there to {what} it")]
    ConfiguredRemove {
        /// What.
        subject: String,
        /// Where.
        place: String,
        /// delete or reset
        what: &'static str,
    },
    /// It is not what was read any more.
    #[error("{subject} has changed since it was read (revision {read}, now {now})")]
    Changed {
        /// What.
        subject: String,
        /// What was read.
        read: u64,
        /// What is there.
        now: String,
    },
    /// It is not there.
    #[error("there is no {0}")]
    Unknown(String),
    /// It is built in.
    #[error("{0} is built in: there is nothing to remove")]
    BuiltIn(String),
    /// The audit log can't be told.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] Error),
}

/// How messages call a resource: there is one `session_recording_config`.
pub(crate) fn subject(kind: ResourceKind, name: &str) -> String {
    if kind == ResourceKind::SessionRecordingConfig {
        kind.to_string()
    } else {
        format!("{kind}/{name}")
    }
}

fn is_built_in(kind: ResourceKind, name: &str) -> bool {
    defaults()
        .iter()
        .any(|entry| entry.kind() == kind && entry.name() == name)
}

/// What is in force of that name, by what is stored.
fn origin(stored: Option<&StoredResource>, kind: ResourceKind, name: &str) -> Option<ResourceOrigin> {
    match stored {
        Some(stored) => Some(stored.origin.into()),
        None => is_built_in(kind, name).then_some(ResourceOrigin::Defaults),
    }
}

/// Stores what the configuration says over whatever is there, and resets what it said before and says no more. `tell`
/// hears of what is about to happen and may refuse it.
///
/// # Errors
/// [`Refused::Catalog`], and what `tell` says.
pub(crate) fn store_configured(
    catalog: &Catalog,
    configured: &Configured,
    tell: impl FnOnce(&[Change]) -> Result<(), Refused>,
) -> Result<(), Refused> {
    catalog.edit_resources(|table| {
        let changes = take_over(table, configured).map_err(|error| catalog.resources_error(error))?;
        tell(&changes)
    })
}

fn take_over(table: &mut ResourceTable<'_>, configured: &Configured) -> rusqlite::Result<Vec<Change>> {
    let mut changes = Vec::new();
    let rows = configured.stored();
    let said: BTreeSet<(ResourceKind, &str)> = rows.iter().map(|row| (row.kind, row.name.as_str())).collect();
    let stored = table.all()?;
    for old in &stored {
        if old.origin == StoredOrigin::ConfigFile && !said.contains(&(old.kind, old.name.as_str())) {
            table.remove(old.kind, &old.name)?;
            changes.push(removal(old.kind, &old.name));
        }
    }
    for mut row in rows {
        let key = |stored: &StoredResource| (stored.kind.as_str(), stored.name.clone());
        let wanted = key(&row);
        let old = stored.binary_search_by(|stored| key(stored).cmp(&wanted)).ok();
        let old = old.and_then(|index| stored.get(index));
        row.revision = old.map_or(0, |old| old.revision);
        if old == Some(&row) {
            continue;
        }
        table.put(&row)?;
        changes.push(change(&row, old));
    }
    table.set_digest(&configured.digest())?;
    Ok(changes)
}

/// What happens when `row` is stored over `old`, or over what is built in.
fn change(row: &StoredResource, old: Option<&StoredResource>) -> Change {
    let read = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::Object(Map::new()));
    let before = match old {
        Some(old) => Some(read(&old.document)),
        None => built_in_source(row.kind, &row.name),
    };
    let changed = before
        .as_ref()
        .map(|before| changed_paths(before, &read(&row.document)));
    // another line of the same file is no change of what it says
    let same_source = old.is_some_and(|old| (old.origin, &old.base) == (row.origin, &row.base));
    Change {
        kind: row.kind,
        name: row.name.clone(),
        verb: match &changed {
            None => ChangeVerb::Created,
            Some(changed) if changed.is_empty() && same_source => ChangeVerb::Unchanged,
            Some(_) => ChangeVerb::Updated,
        },
        changed: changed.unwrap_or_default(),
        until_restart: None,
    }
}

/// What happens when a stored resource goes.
fn removal(kind: ResourceKind, name: &str) -> Change {
    Change {
        kind,
        name: name.to_owned(),
        verb: if is_built_in(kind, name) {
            ChangeVerb::Reset
        } else {
            ChangeVerb::Deleted
        },
        changed: Vec::new(),
        until_restart: None,
    }
}

/// The events of changes that are about to happen.
pub(crate) fn events(changes: &[Change], origin: ResourceOrigin) -> Vec<Event> {
    let verb = |change: &Change| match change.verb {
        ChangeVerb::Unchanged => None,
        ChangeVerb::Created => Some(ResourceVerb::Created),
        ChangeVerb::Updated | ChangeVerb::Reset => Some(ResourceVerb::Updated),
        ChangeVerb::Deleted => Some(ResourceVerb::Deleted),
    };
    let event = |change: &Change| {
        Some(Event::Resource(ResourceChange {
            kind: change.kind.into(),
            verb: verb(change)?,
            name: change.name.clone(),
            origin: origin.as_str().to_owned(),
            changed: change.changed.clone(),
        }))
    };
    changes.iter().filter_map(event).collect()
}

/// Stores `documents` as dynamic resources, all or none. `read` is the revision that an edit began with; `tell` hears of
/// what is about to happen and may refuse it.
///
/// # Errors
/// [`Refused`]
pub(crate) fn replace(
    catalog: &Catalog,
    documents: &[Document],
    force: Force,
    read: Option<u64>,
    tell: impl FnOnce(&[Change]) -> Result<(), Refused>,
) -> Result<Vec<Change>, Refused> {
    catalog.edit_resources(|table| {
        let sql = |error| Refused::Catalog(catalog.resources_error(error));
        let mut changes = Vec::new();
        for document in documents {
            let Document { kind, name, .. } = document;
            let stored = table.find(*kind, name).map_err(sql)?;
            let origin = origin(stored.as_ref(), *kind, name);
            let subject = subject(*kind, name);
            let now = stored.as_ref().map_or(0, |stored| stored.revision);
            if let Some(read) = read.filter(|read| *read != now) {
                let now = stored.map_or_else(|| "gone".to_owned(), |stored| stored.revision.to_string());
                return Err(Refused::Changed { subject, read, now });
            }
            if origin.is_some_and(|origin| origin > ResourceOrigin::Defaults) && force == Force::Create {
                return Err(Refused::Exists(subject));
            }
            let configured = stored
                .as_ref()
                .filter(|stored| stored.origin == StoredOrigin::ConfigFile);
            if let Some(stored) = configured
                && force < Force::Confirmed
            {
                let place = stored.place.clone();
                return Err(Refused::Configured { subject, place });
            }
            let until_restart = configured.map(|stored| stored.place.clone());
            let mut change = put(table, document, stored.as_ref()).map_err(sql)?;
            change.until_restart = until_restart;
            if (*kind, change.verb) == (ResourceKind::User, ChangeVerb::Created) {
                table.forget_user(name).map_err(sql)?;
            }
            changes.push(change);
        }
        tell(&changes)?;
        Ok(changes)
    })
}

fn put(
    table: &mut ResourceTable<'_>,
    document: &Document,
    stored: Option<&StoredResource>,
) -> rusqlite::Result<Change> {
    let row = StoredResource {
        kind: document.kind,
        name: document.name.clone(),
        origin: StoredOrigin::Dynamic,
        revision: stored.map_or(0, |stored| stored.revision),
        document: document.source.to_string(),
        base: document.base.clone(),
        place: String::new(),
    };
    if stored != Some(&row) {
        table.put(&row)?;
    }
    Ok(change(&row, stored))
}

fn built_in_source(kind: ResourceKind, name: &str) -> Option<Value> {
    let mut built_in = defaults().iter();
    built_in
        .find(|entry| entry.kind() == kind && entry.name() == name)
        .map(|entry| entry.document.source.clone())
}

/// Removes a dynamic resource; what is built in comes back.
///
/// # Errors
/// [`Refused`]
pub(crate) fn remove(
    catalog: &Catalog,
    kind: ResourceKind,
    name: &str,
    tell: impl FnOnce(&[Change]) -> Result<(), Refused>,
) -> Result<Change, Refused> {
    catalog.edit_resources(|table| {
        let sql = |error| Refused::Catalog(catalog.resources_error(error));
        let stored = table.find(kind, name).map_err(sql)?;
        let built_in = is_built_in(kind, name);
        let subject = subject(kind, name);
        match stored {
            Some(stored) if stored.origin == StoredOrigin::ConfigFile => Err(Refused::ConfiguredRemove {
                subject,
                place: stored.place,
                what: if built_in { "reset" } else { "delete" },
            }),
            Some(_) => {
                table.remove(kind, name).map_err(sql)?;
                if kind == ResourceKind::User {
                    table.forget_user(name).map_err(sql)?;
                }
                let change = removal(kind, name);
                tell(std::slice::from_ref(&change))?;
                Ok(change)
            }
            None if built_in => Err(Refused::BuiltIn(subject)),
            None => Err(Refused::Unknown(subject)),
        }
    })
}

/// Paths at which two documents differ; lists count as a whole.
pub(crate) fn changed_paths(old: &Value, new: &Value) -> Vec<String> {
    fn walk(old: &Value, new: &Value, path: &str, out: &mut Vec<String>) {
        match (old, new) {
            (Value::Object(a), Value::Object(b)) => {
                let keys: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
                for key in keys {
                    let path = if path.is_empty() {
                        key.clone()
                    } else {
                        format!("{path}.{key}")
                    };
                    let of = |map: &Map<String, Value>| map.get(key).cloned().unwrap_or_default();
                    walk(&of(a), &of(b), &path, out);
                }
            }
            (old, new) if old != new => out.push(path.to_owned()),
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(old, new, "", &mut out);
    out
}
