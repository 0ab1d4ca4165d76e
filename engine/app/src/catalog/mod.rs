//! The catalog: which sessions there were, what was recorded of them and where it lies. One SQLite database in
//! `data_dir`, in WAL mode, so that the command line reads it while the gateway writes. All SQL is in this folder.
//!
//! The catalog knows, the storages prove: everything in it but the "not recorded" sessions can be rebuilt from the
//! recordings themselves.

mod credentials;
mod delivery;
mod exports;
mod health;
mod keep;
mod listing;
mod pages;
mod query;
mod resources;
mod rows;
mod schema;
mod search;
mod sign_ins;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::private;

pub(crate) use credentials::{PasswordRow, TicketRow};
pub(crate) use exports::{ExportRow, ExportState, MadeRow};
pub(crate) use keep::{Found, Imported};
pub(crate) use listing::{Listing, SortBy, is_about};

pub(crate) use resources::{ResourceTable, StoredOrigin, StoredResource};
pub(crate) use rows::{
    Backlog, GapRow, IdentityKind, NewSession, Object, PlaceRow, PlacementRow, SegmentRow, SessionRow, State,
    duration_ms,
};
pub(crate) use sign_ins::SignIn;
pub(crate) use write::Closed;

/// How long a statement waits for another process that holds the database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// The file below `data_dir`.
const FILE_NAME: &str = "catalog.sqlite";

/// Why the catalog could not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// Nothing was ever recorded with this `data_dir`.
    #[error("no catalog at {}: the gateway has not run with this data_dir yet", .0.display())]
    Missing(PathBuf),
    /// The database was written by a newer Deskreel.
    #[error("catalog {} has schema version {found}, this deskreel knows {known}: it was written by a newer version", path.display())]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest version that this program knows.
        known: u32,
    },
    /// The gateway that owns this database has not brought it up to date yet.
    #[error("catalog {} has schema version {found}, this deskreel needs {known}: start the gateway once to bring it up to date", path.display())]
    Older {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The version that this program needs.
        known: u32,
    },
    /// No session has an id that starts like this.
    #[error("no recording with id {0:?}")]
    NotFound(String),
    /// Several sessions have ids that start like this.
    #[error("id {prefix:?} is not unique: {count} recordings start with it")]
    Ambiguous {
        /// What the person typed.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// A folder could not be made.
    #[error("create {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The database could not be kept from other accounts.
    #[error("make the catalog {} readable by its owner only", path.display())]
    Mode {
        /// The database.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// A row that this program cannot have written.
    #[error("catalog holds {value:?} as {column} of session {session}")]
    Row {
        /// Which session.
        session: String,
        /// Which column.
        column: &'static str,
        /// The value there.
        value: String,
    },
    /// SQLite failed.
    #[error("catalog {}: {action}", path.display())]
    Sql {
        /// What was being done.
        action: &'static str,
        /// The database.
        path: PathBuf,
        /// SQLite's answer.
        source: rusqlite::Error,
    },
}

/// What catalog functions return.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// An open catalog. Every call blocks for a few milliseconds at most (one row, one commit), so async code calls it
/// through `spawn_blocking` or from a thread.
#[derive(Debug)]
pub(crate) struct Catalog {
    connection: Mutex<Connection>,
    path: PathBuf,
}

impl Catalog {
    /// Opens the catalog of the engine that owns `data_dir`; creates it or brings its schema up to date.
    ///
    /// # Errors
    /// A folder or database that cannot be made or opened, or one that a newer version wrote.
    pub(crate) fn open(data_dir: &Path) -> Result<Self> {
        private::create_dir_all(data_dir).map_err(|source| Error::Folder {
            path: data_dir.to_owned(),
            source,
        })?;
        let path = data_dir.join(FILE_NAME);
        restrict(&path)?;
        let sql = |action| {
            let path = path.clone();
            move |source| Error::Sql { action, path, source }
        };
        let mut connection = Connection::open(&path).map_err(sql("open"))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(sql("set the busy timeout"))?;
        connection
            .pragma_update(None, "journal_mode", "wal")
            .map_err(sql("switch to WAL"))?;
        // A row that says "stored" lets the spool delete its copy: it must survive a power cut, not only a kill.
        connection
            .pragma_update(None, "synchronous", "full")
            .map_err(sql("set synchronous"))?;
        connection
            .pragma_update(None, "foreign_keys", true)
            .map_err(sql("turn foreign keys on"))?;
        // Password hashes and tickets that are removed must not stay in pages that nothing uses.
        connection
            .pragma_update(None, "secure_delete", true)
            .map_err(sql("turn secure deletion on"))?;
        schema::migrate(&mut connection, &path)?;
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
    }

    /// Opens the catalog for reading, also while a gateway writes to it.
    ///
    /// # Errors
    /// [`Error::Missing`] when the gateway never ran; a database that cannot be opened or has another schema.
    pub(crate) fn open_read_only(data_dir: &Path) -> Result<Self> {
        let path = data_dir.join(FILE_NAME);
        if !path.exists() {
            return Err(Error::Missing(path));
        }
        let sql = |action| {
            let path = path.clone();
            move |source| Error::Sql { action, path, source }
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags).map_err(sql("open"))?;
        connection
            .busy_timeout(BUSY_TIMEOUT)
            .map_err(sql("set the busy timeout"))?;
        schema::check(&connection, &path)?;
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
    }

    /// As [`open_read_only`](Self::open_read_only); one that holds nothing where the gateway never ran.
    ///
    /// # Errors
    /// A database that cannot be opened or has another schema.
    pub(crate) fn open_or_nothing(data_dir: &Path) -> Result<Self> {
        match Self::open_read_only(data_dir) {
            Err(Error::Missing(_)) => Self::nothing(),
            opened => opened,
        }
    }

    /// A catalog that holds nothing and is nowhere.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn nothing() -> Result<Self> {
        let path = PathBuf::from(":memory:");
        let sql = |action| {
            let path = path.clone();
            move |source| Error::Sql { action, path, source }
        };
        let mut connection = Connection::open_in_memory().map_err(sql("open"))?;
        schema::migrate(&mut connection, &path)?;
        Ok(Self {
            connection: Mutex::new(connection),
            path,
        })
    }

    /// Opens the catalog for changes beside the gateway that owns it.
    ///
    /// # Errors
    /// As [`Catalog::open_read_only`].
    pub(crate) fn open_beside(data_dir: &Path) -> Result<Self> {
        // It exists and has this version's schema.
        drop(Self::open_read_only(data_dir)?);
        Self::open(data_dir)
    }

    /// From here on this connection's commits may be lost by a power cut (not by a kill). For what a storage can tell again.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn relaxed(self) -> Result<Self> {
        self.lock()
            .pragma_update(None, "synchronous", "normal")
            .map_err(self.sql("set synchronous"))?;
        Ok(self)
    }

    fn lock(&self) -> MutexGuard<'_, Connection> {
        // A panic while the lock was held left at most an unfinished transaction, which rusqlite rolled back.
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn sql(&self, action: &'static str) -> impl Fn(rusqlite::Error) -> Error + Copy + '_ {
        move |source| Error::Sql {
            action,
            path: self.path.clone(),
            source,
        }
    }
}

#[cfg(test)]
impl Catalog {
    /// From now on, and until not any more, who writes through another connection waits.
    pub(crate) fn occupy(&self, held: bool) {
        let done = self
            .lock()
            .execute_batch(if held { "BEGIN IMMEDIATE" } else { "COMMIT" });
        assert!(done.is_ok(), "{done:?}");
    }

    /// From now on segments with this number are refused; `None`: no longer.
    pub(crate) fn refuse_segment(&self, number: Option<u32>) {
        let drop = "DROP TRIGGER IF EXISTS refuse;";
        let sql = number.map_or(drop.to_owned(), |number| {
            format!(
                "{drop} CREATE TRIGGER refuse BEFORE INSERT ON segments WHEN NEW.number = {number}
                 BEGIN SELECT RAISE(ABORT, 'refused'); END;"
            )
        });
        let done = self.lock().execute_batch(&sql);
        assert!(done.is_ok(), "{done:?}");
    }
}

/// Makes the database and what SQLite keeps beside it private. SQLite gives new files beside it the database's own mode.
///
/// None of them is opened here: closing a descriptor drops all POSIX locks that the process has on the file, those of
/// its other connections too, and another process would then take the write-ahead log for abandoned and delete it.
fn restrict(path: &Path) -> Result<()> {
    let beside = |suffix: &str| {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    private::ensure_file(path)
        .and_then(|()| private::restrict_if_there(&beside("-wal")))
        .and_then(|()| private::restrict_if_there(&beside("-shm")))
        .and_then(|()| {
            path.parent()
                .map_or(Ok(()), |folder| private::give_to_owner_of(folder, path))
        })
        .map_err(|source| Error::Mode {
            path: path.to_owned(),
            source,
        })
}

#[cfg(test)]
mod tests;
