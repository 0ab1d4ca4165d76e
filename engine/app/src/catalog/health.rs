//! Whether the database is whole.

use time::OffsetDateTime;

use super::{Catalog, Result};

impl Catalog {
    /// What SQLite finds wrong with the database, at most `most` problems; reads all of it.
    ///
    /// # Errors
    /// SQLite failures, among them damage that keeps it from looking further.
    pub(crate) fn integrity(&self, most: usize) -> Result<Vec<String>> {
        let sql = self.sql("check the integrity");
        let connection = self.lock();
        let mut problems: Vec<String> = Vec::new();
        for check in ["integrity_check", "foreign_key_check"] {
            let mut statement = connection.prepare(&format!("PRAGMA {check}")).map_err(sql)?;
            let mut rows = statement.query([]).map_err(sql)?;
            while let Some(row) = rows.next().map_err(sql)? {
                let first: String = row.get(0).map_err(sql)?;
                if first == "ok" {
                    break;
                }
                if problems.len() == most {
                    return Ok(problems);
                }
                problems.push(match check {
                    "foreign_key_check" => format!("a row of {first} belongs to nothing"),
                    _ => first,
                });
            }
        }
        Ok(problems)
    }

    /// When the newest session started.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn newest_start(&self) -> Result<Option<OffsetDateTime>> {
        let ms: Option<i64> = self
            .lock()
            .query_row("SELECT max(started_ms) FROM sessions", [], |row| row.get(0))
            .map_err(self.sql("ask for the newest session"))?;
        Ok(ms.and_then(|ms| OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).ok()))
    }
}
