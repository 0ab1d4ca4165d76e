//! Stored resources: what the command line made (dynamic), and a copy of what the configuration says (config-file), so
//! that every command sees what the gateway goes by.

use std::path::PathBuf;

use deskreel_config::ResourceKind;
use rusqlite::{Connection, OptionalExtension as _, Row, Transaction, TransactionBehavior, params};

use super::{Catalog, Error, Result};

/// Who put a resource there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoredOrigin {
    /// The resource folder or the configuration.
    ConfigFile,
    /// A command.
    Dynamic,
}

impl StoredOrigin {
    fn name(self) -> &'static str {
        match self {
            Self::ConfigFile => "config-file",
            Self::Dynamic => "dynamic",
        }
    }
}

/// One stored resource.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct StoredResource {
    /// Which kind.
    pub(crate) kind: ResourceKind,
    /// Unique within its kind.
    pub(crate) name: String,
    /// Who put it there.
    pub(crate) origin: StoredOrigin,
    /// Grows with every change of any resource.
    pub(crate) revision: u64,
    /// The document as JSON.
    pub(crate) document: String,
    /// Where relative paths in it start.
    pub(crate) base: PathBuf,
    /// Where it was read, for people: file and line, variable or flag, or who made it.
    pub(crate) place: String,
}

/// Kind, name and revision of a stored resource.
pub(crate) type StoredKey = (ResourceKind, String, u64);

/// The stored resources inside one transaction.
pub(crate) struct ResourceTable<'a> {
    transaction: Transaction<'a>,
    revision: u64,
}

const ALL: &str = "SELECT kind, name, origin, revision, document, base, place FROM resources ORDER BY kind, name";
const ONE: &str =
    "SELECT kind, name, origin, revision, document, base, place FROM resources WHERE kind = ?1 AND name = ?2";

impl Catalog {
    /// A number that differs after another connection has changed the database.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn data_version(&self) -> Result<u64> {
        self.lock()
            .pragma_query_value(None, "data_version", |row| row.get(0))
            .map_err(self.sql("ask for the data version"))
    }

    /// Revision of the last change of any resource, and the digest of the configuration that was stored last.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn resources_state(&self) -> Result<(u64, String)> {
        state(&self.lock()).map_err(self.sql("ask for the state of the resources"))
    }

    /// Keys of all stored resources, and the revision of the last change.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn resource_keys(&self) -> Result<(u64, Vec<StoredKey>)> {
        let sql = self.sql("list resources");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        let (revision, _) = state(&transaction).map_err(sql)?;
        let mut statement = transaction
            .prepare_cached("SELECT kind, name, revision FROM resources ORDER BY kind, name")
            .map_err(sql)?;
        let rows = statement
            .query_map([], |row| Ok((kind(row, 0)?, row.get(1)?, row.get(2)?)))
            .map_err(sql)?;
        let keys = rows.collect::<rusqlite::Result<_>>().map_err(sql)?;
        Ok((revision, keys))
    }

    /// All stored resources, by kind and name.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn resources(&self) -> Result<Vec<StoredResource>> {
        let sql = self.sql("read resources");
        let connection = self.lock();
        let mut statement = connection.prepare_cached(ALL).map_err(sql)?;
        let rows = statement.query_map([], read).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    /// All stored resources, and the revision of the last change among them.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn resources_at(&self) -> Result<(u64, Vec<StoredResource>)> {
        self.resources_with(|| ())
    }

    /// As [`Catalog::resources_at`]; `between` runs between the two reads.
    fn resources_with(&self, between: impl FnOnce()) -> Result<(u64, Vec<StoredResource>)> {
        let sql = self.sql("read resources");
        let mut connection = self.lock();
        // one view of both: a change between two reads would be counted and not seen
        let transaction = connection.transaction().map_err(sql)?;
        let (revision, _) = state(&transaction).map_err(sql)?;
        between();
        let mut statement = transaction.prepare_cached(ALL).map_err(sql)?;
        let rows = statement.query_map([], read).map_err(sql)?;
        let rows = rows.collect::<rusqlite::Result<_>>().map_err(sql)?;
        Ok((revision, rows))
    }

    /// One stored resource.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn resource(&self, kind: ResourceKind, name: &str) -> Result<Option<StoredResource>> {
        find(&self.lock(), kind, name).map_err(self.sql("read a resource"))
    }

    /// Changes resources: whatever `edit` does happens as a whole, or not at all when it fails.
    ///
    /// # Errors
    /// What `edit` says; SQLite failures.
    pub(crate) fn edit_resources<T, E: From<Error>>(
        &self,
        edit: impl FnOnce(&mut ResourceTable<'_>) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let sql = self.sql("change resources");
        let mut connection = self.lock();
        let transaction = connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| E::from(sql(error)))?;
        let (revision, _) = state(&transaction).map_err(|error| E::from(sql(error)))?;
        let mut table = ResourceTable { transaction, revision };
        let done = edit(&mut table)?;
        let ResourceTable { transaction, revision } = table;
        transaction
            .execute("UPDATE resource_state SET revision = ?1", [revision])
            .and_then(|_| transaction.commit())
            .map_err(|error| E::from(sql(error)))?;
        Ok(done)
    }

    /// An error of [`edit_resources`](Self::edit_resources)'s steps.
    pub(crate) fn resources_error(&self, source: rusqlite::Error) -> Error {
        self.sql("change resources")(source)
    }
}

impl ResourceTable<'_> {
    /// All resources.
    pub(crate) fn all(&self) -> rusqlite::Result<Vec<StoredResource>> {
        let mut statement = self.transaction.prepare_cached(ALL)?;
        statement.query_map([], read)?.collect()
    }

    /// One resource.
    pub(crate) fn find(&self, kind: ResourceKind, name: &str) -> rusqlite::Result<Option<StoredResource>> {
        find(&self.transaction, kind, name)
    }

    /// Adds or replaces a resource, under a new revision, which is returned.
    pub(crate) fn put(&mut self, resource: &StoredResource) -> rusqlite::Result<u64> {
        self.revision += 1;
        self.transaction
            .prepare_cached(
                "INSERT INTO resources (kind, name, origin, revision, document, base, place)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT DO UPDATE SET origin = excluded.origin, revision = excluded.revision,
                 document = excluded.document, base = excluded.base, place = excluded.place",
            )?
            .execute(params![
                resource.kind.as_str(),
                resource.name,
                resource.origin.name(),
                self.revision,
                resource.document,
                resource.base.to_string_lossy(),
                resource.place,
            ])?;
        Ok(self.revision)
    }

    /// Removes the password and the tickets of a user, so that a new user of the name does not inherit them.
    pub(crate) fn forget_user(&self, name: &str) -> rusqlite::Result<()> {
        self.transaction
            .execute("DELETE FROM passwords WHERE user = ?1", [name])?;
        self.transaction
            .execute("DELETE FROM tickets WHERE user = ?1", [name])
            .map(drop)
    }

    /// Removes a resource, if it is there.
    pub(crate) fn remove(&mut self, kind: ResourceKind, name: &str) -> rusqlite::Result<()> {
        self.revision += 1;
        self.transaction
            .prepare_cached("DELETE FROM resources WHERE kind = ?1 AND name = ?2")?
            .execute(params![kind.as_str(), name])
            .map(drop)
    }

    /// Notes which configuration is stored.
    pub(crate) fn set_digest(&mut self, digest: &str) -> rusqlite::Result<()> {
        self.transaction
            .execute("UPDATE resource_state SET digest = ?1", [digest])
            .map(drop)
    }
}

fn state(connection: &Connection) -> rusqlite::Result<(u64, String)> {
    connection.query_row("SELECT revision, digest FROM resource_state", [], |row| {
        Ok((row.get(0)?, row.get(1)?))
    })
}

fn find(connection: &Connection, kind: ResourceKind, name: &str) -> rusqlite::Result<Option<StoredResource>> {
    connection
        .prepare_cached(ONE)?
        .query_row(params![kind.as_str(), name], read)
        .optional()
}

fn read(row: &Row<'_>) -> rusqlite::Result<StoredResource> {
    let origin: String = row.get(2)?;
    let base: String = row.get(5)?;
    Ok(StoredResource {
        kind: kind(row, 0)?,
        name: row.get(1)?,
        origin: match origin.as_str() {
            "config-file" => StoredOrigin::ConfigFile,
            _ => StoredOrigin::Dynamic,
        },
        revision: row.get(3)?,
        document: row.get(4)?,
        base: PathBuf::from(base),
        place: row.get(6)?,
    })
}

fn kind(row: &Row<'_>, column: usize) -> rusqlite::Result<ResourceKind> {
    let word: String = row.get(column)?;
    ResourceKind::ALL
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| rusqlite::Error::InvalidColumnName(format!("kind {word:?}")))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn user(name: &str, document: &str) -> StoredResource {
        StoredResource {
            kind: ResourceKind::User,
            name: name.to_owned(),
            origin: StoredOrigin::Dynamic,
            revision: 0,
            document: document.to_owned(),
            base: PathBuf::from("/"),
            place: String::new(),
        }
    }

    fn put(catalog: &Catalog, row: &StoredResource) {
        let edit = |table: &mut ResourceTable<'_>| table.put(row).map_err(|error| catalog.resources_error(error));
        catalog.edit_resources(edit).unwrap();
    }

    #[test]
    fn a_change_between_the_reads_is_neither_counted_nor_seen() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        let other = Catalog::open(folder.path()).unwrap();
        put(&other, &user("ann", "{}"));
        let (revision, rows) = catalog.resources_with(|| put(&other, &user("bob", "{}"))).unwrap();
        assert_eq!((revision, rows.len()), (1, 1));
        let (revision, rows) = catalog.resources_at().unwrap();
        assert_eq!((revision, rows.len()), (2, 2));
    }

    #[test]
    fn password_hashes_of_other_systems_are_gone_for_good() {
        let folder = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(folder.path()).unwrap();
        let kept = r#"{"kind":"user","metadata":{"name":"ann"},"spec":{"roles":["access"]}}"#;
        let hash = "JDJhJDEwJG5vdC1hLXJlYWwtaGFzaC1idXQtbG9uZy1lbm91Z2g=";
        let roles = r#""roles":["access"]"#;
        let old = kept.replace(roles, &format!(r#""local_auth":{{"password_hash":"{hash}"}},{roles}"#));
        for (name, document) in [("ann", old.as_str()), ("bob", kept), ("broken", "{")] {
            put(&catalog, &user(name, document));
        }
        catalog
            .lock()
            .execute_batch(crate::catalog::schema::LOCAL_AUTH)
            .unwrap();
        let documents: Vec<String> = catalog
            .resources()
            .unwrap()
            .into_iter()
            .map(|row| row.document)
            .collect();
        assert_eq!(documents, [kept, kept, "{"]);
        drop(catalog);
        // nor is it left in a page that nothing uses
        for entry in std::fs::read_dir(folder.path()).unwrap() {
            let bytes = std::fs::read(entry.unwrap().path()).unwrap();
            assert!(!bytes.windows(hash.len()).any(|window| window == hash.as_bytes()));
        }
    }
}
