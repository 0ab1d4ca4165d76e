//! What every command that changes resources does: find out who asks, check, change, tell the audit log.

use anyhow::bail;
use deskreel_config::{ConfigError, Document, Loaded, ResourceKind};
use deskreel_policy::Verb;
use time::OffsetDateTime;

use super::{Global, UsageError};
use crate::access::{
    self, Change, ChangeVerb, Force, Refused, Snapshot, View, Who, check, look, open_for_change, subject,
};
use crate::audit::{Actor, Audit, Event, ResourceChange, ResourceVerb};
use crate::catalog::Catalog;
use crate::credentials::Credentials;

/// A command that changes resources.
pub(crate) struct Changer {
    pub(crate) loaded: Loaded,
    catalog: Catalog,
    /// What is in force before the change.
    pub(crate) snapshot: Snapshot,
    view: View,
    who: Who,
    audit: Audit,
}

impl Changer {
    /// Opens everything that a change needs.
    ///
    /// # Errors
    /// A configuration, catalog or audit log that can't be used.
    pub(crate) fn open(global: &Global) -> anyhow::Result<Self> {
        let loaded = global.load()?;
        let who = Who::is(&loaded.config.data_dir);
        let catalog = open_for_change(&loaded)?;
        let snapshot = look(&loaded)?;
        let view = snapshot.view(OffsetDateTime::now_utc());
        let audit = Audit::open(&loaded.config)?;
        Ok(Self {
            loaded,
            catalog,
            snapshot,
            view,
            who,
            audit,
        })
    }

    /// Stores `documents`, all or none, and says what happened. `read` is the revision that an edit began with.
    ///
    /// # Errors
    /// Something is wrong with them; it may not be changed; it is not there as it was.
    pub(crate) fn replace(
        &self,
        documents: &[Document],
        force: Force,
        read: Option<u64>,
    ) -> anyhow::Result<Vec<Change>> {
        let refs: Vec<&Document> = documents.iter().collect();
        let found = check(&refs, &self.snapshot, OffsetDateTime::now_utc());
        if !found.errors.is_empty() {
            return Err(UsageError(lines(&found.errors)).into());
        }
        warn(&found.warnings);
        for Document { kind, name, .. } in documents {
            let exists = self.snapshot.entries.contains_key(&(*kind, name.clone()));
            let verb = if exists { Verb::Update } else { Verb::Create };
            self.permit(*kind, verb, name)?;
        }
        let told = |changes: &[Change]| self.tell(changes);
        let changes = access::replace(&self.catalog, documents, force, read, told)?;
        for change in &changes {
            println!("{} {}", subject(change.kind, &change.name), word(change.verb));
            if let Some(place) = &change.until_restart {
                eprintln!(
                    "deskreel: warning: {} is set in {place}, which is in force again at the next start or reload",
                    subject(change.kind, &change.name)
                );
            }
        }
        Ok(changes)
    }

    /// Removes a resource and says so.
    ///
    /// # Errors
    /// It is not there; it may not be removed.
    pub(crate) fn remove(&self, kind: ResourceKind, name: &str) -> anyhow::Result<Change> {
        let verb = if kind == ResourceKind::SessionRecordingConfig {
            Verb::Update
        } else {
            Verb::Delete
        };
        self.permit(kind, verb, name)?;
        let told = |changes: &[Change]| self.tell(changes);
        let change = match access::remove(&self.catalog, kind, name, told) {
            Err(Refused::Unknown(unknown)) => bail!("there is no {unknown}{}", self.near(kind, name)),
            done => done?,
        };
        println!("{} {}", subject(kind, name), word(change.verb));
        if kind == ResourceKind::User {
            self.forget(name)?;
        }
        if kind == ResourceKind::Role && change.verb == ChangeVerb::Deleted {
            let users = self.view.users.values();
            for user in users.filter(|user| user.roles.iter().any(|role| role == name)) {
                eprintln!(
                    "deskreel: warning: user/{} has the role and is refused until it exists again",
                    user.metadata.name
                );
            }
        }
        Ok(change)
    }

    /// Removes the password and the tickets of a user, so that a new user of the name does not inherit them.
    fn forget(&self, user: &str) -> anyhow::Result<()> {
        let credentials = Credentials::open(&self.loaded.config.data_dir)?;
        credentials.remove_password(user)?;
        for ticket in credentials.tickets()?.iter().filter(|ticket| ticket.user == user) {
            credentials.take_ticket(&ticket.id)?;
        }
        Ok(())
    }

    /// A name of this kind that may have been meant.
    pub(crate) fn near(&self, kind: ResourceKind, name: &str) -> String {
        let names = self.snapshot.entries.keys().filter(|(other, _)| *other == kind);
        let near = names
            .map(|(_, other)| (strsim::levenshtein(other, name), other))
            .min()
            .filter(|(distance, other)| *distance <= 2 && *distance < other.chars().count());
        near.map(|(_, near)| format!(", did you mean {near}?"))
            .unwrap_or_default()
    }

    fn permit(&self, kind: ResourceKind, verb: Verb, name: &str) -> anyhow::Result<()> {
        if let Err(why) = self.who.may(&self.view, kind, verb, Some(name)) {
            bail!("{} may not change {}: {why}", self.who.name(), subject(kind, name));
        }
        Ok(())
    }

    /// Writes the events of changes that are about to happen.
    fn tell(&self, changes: &[Change]) -> Result<(), Refused> {
        for change in changes {
            let verb = match change.verb {
                ChangeVerb::Unchanged => continue,
                ChangeVerb::Created => ResourceVerb::Created,
                ChangeVerb::Updated | ChangeVerb::Reset => ResourceVerb::Updated,
                ChangeVerb::Deleted => ResourceVerb::Deleted,
            };
            let event = Event::Resource(ResourceChange {
                kind: change.kind.into(),
                verb,
                name: change.name.clone(),
                origin: "dynamic".to_owned(),
                changed: change.changed.clone(),
            });
            self.audit
                .emit_or_fail(actor(&self.who), &event)
                .map_err(|error| Refused::Audit(error.to_string()))?;
        }
        Ok(())
    }
}

/// Who acts, for the audit log.
pub(crate) fn actor(who: &Who) -> Actor {
    let sudo_user = std::env::var("SUDO_USER").ok().filter(|user| !user.is_empty());
    Actor {
        user: who.name(),
        sudo_user: sudo_user.filter(|_| matches!(who, Who::Local { .. })),
    }
}

fn word(verb: ChangeVerb) -> &'static str {
    match verb {
        ChangeVerb::Created => "created",
        ChangeVerb::Updated => "updated",
        ChangeVerb::Unchanged => "unchanged",
        ChangeVerb::Deleted => "deleted",
        ChangeVerb::Reset => "reset to what is built in",
    }
}

/// One error a line.
pub(crate) fn lines(errors: &[ConfigError]) -> String {
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Prints warnings: the place, then the word.
pub(crate) fn warn(warnings: &[ConfigError]) {
    for warning in warnings {
        eprintln!("{}", warning_line(warning, "warning"));
    }
}

/// A finding in one line, with `word` after its place.
pub(crate) fn warning_line(warning: &ConfigError, word: &str) -> String {
    let ConfigError { origin, key, message } = warning;
    let key = if key.is_empty() {
        String::new()
    } else {
        format!("{key}: ")
    };
    if *origin == deskreel_config::Origin::Default {
        format!("{word}: {key}{message}")
    } else {
        format!("{origin}: {word}: {key}{message}")
    }
}
