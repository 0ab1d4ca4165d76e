//! What every command that changes resources does: find out who asks, check, change, tell the audit log.

use anyhow::bail;
use deskreel_config::{ConfigError, Document, Loaded, ResourceKind};
use deskreel_policy::{ObjectFacts, Verb};
use time::OffsetDateTime;

use super::{Global, UsageError};
use crate::access::{
    self, Change, ChangeVerb, Entry, Force, Refused, ResourceOrigin, Snapshot, View, Who, check, configured_place,
    events, look, open_for_change, refused_problems, subject,
};
use crate::audit::Audit;
use crate::catalog::Catalog;

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
        let who = Who::is(&loaded.config.data_dir)?;
        let (catalog, audit) = open_for_change(&loaded, &who.actor())?;
        let snapshot = look(&loaded)?;
        let view = snapshot.view(OffsetDateTime::now_utc());
        for problem in refused_problems(snapshot.refused.as_deref()) {
            eprintln!("deskreel: warning: {problem}");
        }
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
        for document in documents {
            self.permit_replace(document, force)?;
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

    /// Stores a resource that is to be new, for commands that have no way to replace one.
    ///
    /// # Errors
    /// As [`Changer::replace`]; there is one of the name.
    pub(crate) fn add(&self, document: Document) -> anyhow::Result<()> {
        match self.replace(&[document], Force::Create, None) {
            Ok(_) => Ok(()),
            Err(error) => match error.downcast_ref::<Refused>() {
                Some(Refused::Exists(subject)) => {
                    bail!("{subject} exists; change it with `deskreel edit {subject}`")
                }
                _ => Err(error),
            },
        }
    }

    /// Whether a resource is there and may be removed: asked of several before the first one goes.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn can_remove(&self, kind: ResourceKind, name: &str) -> anyhow::Result<()> {
        let verb = if kind == ResourceKind::SessionRecordingConfig {
            Verb::Update
        } else {
            Verb::Delete
        };
        self.permit(kind, verb, &self.object(kind, name))?;
        let is = |(of, other): (ResourceKind, &str)| of == kind && other == name;
        let read = self.snapshot.entries.keys().any(|(kind, name)| is((*kind, name)));
        if !read && !self.is_unreadable(kind, name) && kind != ResourceKind::SessionRecordingConfig {
            bail!("there is no {}{}", subject(kind, name), self.near(kind, name));
        }
        let entry = self.snapshot.entries.get(&(kind, name.to_owned()));
        if entry.is_some_and(|entry| entry.origin == ResourceOrigin::Dynamic)
            && let Some(place) = configured_place(&self.loaded, &self.catalog, kind, name)?
        {
            bail!(
                "{} is set in {place} and replaced until the next start or reload, which puts it back; to be rid of it, \
                 remove it there",
                subject(kind, name)
            );
        }
        Ok(())
    }

    /// Removes a resource and says so.
    ///
    /// # Errors
    /// It is not there; it may not be removed.
    pub(crate) fn remove(&self, kind: ResourceKind, name: &str) -> anyhow::Result<Change> {
        self.can_remove(kind, name)?;
        let told = |changes: &[Change]| self.tell(changes);
        let change = match access::remove(&self.catalog, kind, name, told) {
            Err(Refused::Unknown(unknown)) => bail!("there is no {unknown}{}", self.near(kind, name)),
            done => done?,
        };
        println!("{} {}", subject(kind, name), word(change.verb));
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

    /// Both what is there and what it becomes must be allowed: labels that `where` asks for may be what changes.
    fn permit_replace(&self, document: &Document, force: Force) -> anyhow::Result<()> {
        let (kind, new) = (document.kind, self.snapshot.object(document, ResourceOrigin::Dynamic));
        let Some(old) = self.snapshot.entries.get(&(kind, document.name.clone())) else {
            // what can't be read is there all the same, and what takes its place may open what it closes
            if self.is_unreadable(kind, &document.name) {
                self.permit(kind, Verb::Update, &self.object(kind, &document.name))?;
            }
            return self.permit(kind, Verb::Create, &new);
        };
        self.permit(kind, Verb::Update, &self.snapshot.object(&old.document, old.origin))?;
        self.permit(kind, Verb::Update, &new)?;
        if force == Force::Confirmed {
            self.permit(kind, Verb::Create, &new)?;
        }
        Ok(())
    }

    fn is_unreadable(&self, kind: ResourceKind, name: &str) -> bool {
        let mut unreadable = self.snapshot.unreadable.iter();
        unreadable.any(|one| one.kind == kind && one.name == name)
    }

    /// Whether a resource may be shown to whoever is about to edit it.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn permit_read(&self, entry: &Entry) -> anyhow::Result<()> {
        let object = self.snapshot.object(&entry.document, entry.origin);
        if let Err(why) = self.who.may_see(&self.view, entry.kind(), Verb::Read, &object) {
            bail!(
                "{} may not see {}: {why}",
                self.who.name(),
                subject(entry.kind(), entry.name())
            );
        }
        Ok(())
    }

    /// What rules see of a resource; of one that is not there its name.
    fn object(&self, kind: ResourceKind, name: &str) -> ObjectFacts {
        let entry = self.snapshot.entries.get(&(kind, name.to_owned()));
        entry.map_or_else(
            || ObjectFacts {
                name: name.to_owned(),
                ..ObjectFacts::default()
            },
            |entry| self.snapshot.object(&entry.document, entry.origin),
        )
    }

    fn permit(&self, kind: ResourceKind, verb: Verb, object: &ObjectFacts) -> anyhow::Result<()> {
        if let Err(why) = self.who.may(&self.view, kind, verb, Some(object)) {
            bail!(
                "{} may not change {}: {why}",
                self.who.name(),
                subject(kind, &object.name)
            );
        }
        Ok(())
    }

    /// Writes the events of changes that are about to happen.
    fn tell(&self, changes: &[Change]) -> Result<(), Refused> {
        let events = events(changes, ResourceOrigin::Dynamic);
        Ok(self.audit.emit_all_or_fail(self.who.actor(), &events)?)
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

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::path::{Path, PathBuf};

    use deskreel_config::{ReadOptions, read_resources};

    use super::*;
    use crate::catalog::{StoredOrigin, StoredResource};

    fn documents(text: &str) -> Vec<Document> {
        let options = ReadOptions {
            file: Path::new("t.yaml"),
            base: Path::new("/"),
            skip_foreign: false,
        };
        let stream = read_resources(text, &options);
        assert!(stream.errors.is_empty(), "{:?}", stream.errors);
        stream.documents
    }

    fn role(name: &str) -> Vec<Document> {
        documents(&format!("kind: role\nversion: v7\nmetadata: {{name: {name}}}\n"))
    }

    fn node() -> (tempfile::TempDir, Global) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("resources")).unwrap();
        let file = folder.path().join("deskreel.yaml");
        std::fs::write(&file, "data_dir: ./data\n").unwrap();
        let global = Global {
            config: Some(file),
            set: Vec::new(),
        };
        (folder, global)
    }

    #[test]
    fn a_command_that_only_adds_says_how_to_change_what_is_there() {
        let (_folder, global) = node();
        let changer = Changer::open(&global).unwrap();
        changer.add(role("dev").remove(0)).unwrap();
        let error = changer.add(role("dev").remove(0)).unwrap_err().to_string();
        assert_eq!(error, "role/dev exists; change it with `deskreel edit role/dev`");
    }

    /// It may have had a deny.
    #[test]
    fn who_may_only_make_roles_may_not_replace_one_that_cant_be_read() {
        let (_folder, global) = node();
        let maker = "kind: role\nversion: v7\nmetadata: {name: maker}\n\
                     spec: {allow: {rules: [{resources: [role], verbs: [create]}]}}\n---\n\
                     kind: user\nversion: v2\nmetadata: {name: eve}\nspec: {roles: [maker]}\n";
        let changer = Changer::open(&global).unwrap();
        changer.replace(&documents(maker), Force::Create, None).unwrap();
        let broken = StoredResource {
            kind: ResourceKind::Role,
            name: "broken".to_owned(),
            origin: StoredOrigin::Dynamic,
            revision: 0,
            document: "{}".to_owned(),
            base: PathBuf::from("/"),
            place: String::new(),
        };
        let put = |table: &mut crate::catalog::ResourceTable<'_>| {
            table
                .put(&broken)
                .map_err(|error| changer.catalog.resources_error(error))
        };
        changer.catalog.edit_resources(put).unwrap();
        let mut changer = Changer::open(&global).unwrap();
        changer.who = Who::User("eve".to_owned());
        changer.replace(&role("new"), Force::Replace, None).unwrap();
        let refused = changer.replace(&role("broken"), Force::Replace, None).unwrap_err();
        assert!(
            refused.to_string().contains("eve may not change role/broken"),
            "{refused:#}"
        );
    }
}
