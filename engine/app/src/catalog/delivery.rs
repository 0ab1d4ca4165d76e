//! What delivery asks.

use rusqlite::{ErrorCode, OptionalExtension as _, params};
use uuid::Uuid;

use super::{Catalog, Error, Object, Result};

impl Error {
    /// Whether the disk has no room, or (on some file systems) fails for that reason.
    pub(crate) fn is_disk_full(&self) -> bool {
        let Self::Sql { source, .. } = self else { return false };
        matches!(
            source.sqlite_error_code(),
            Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure)
        )
    }
}

impl Catalog {
    /// SHA-256 of an object as it was sealed, hexadecimal; `None` where nobody noted it.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sha256(&self, session: Uuid, object: Object) -> Result<Option<String>> {
        let id = session.to_string();
        let connection = self.lock();
        let found = match object {
            Object::Segment(number) => connection
                .prepare_cached("SELECT sha256 FROM segments WHERE session = ?1 AND number = ?2")
                .and_then(|mut query| query.query_row(params![id, number], |row| row.get(0)).optional()),
            Object::Manifest => connection
                .prepare_cached("SELECT manifest_sha256 FROM sessions WHERE id = ?1")
                .and_then(|mut query| query.query_row(params![id], |row| row.get(0)).optional())
                .map(Option::flatten),
        };
        found.map_err(self.sql("read a digest"))
    }
}
