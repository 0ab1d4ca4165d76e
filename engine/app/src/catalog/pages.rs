//! What the pages show of one recording beside its row: where it is, and what the verifier said.

use rusqlite::OptionalExtension as _;
use uuid::Uuid;

use super::{Catalog, Result};

/// What one storage has of a recording.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Share {
    /// The storage's name in the configuration.
    pub(crate) name: String,
    /// Objects that it has.
    pub(crate) stored: u32,
    /// Objects that it should have.
    pub(crate) objects: u32,
}

impl Catalog {
    /// Keeps what the verifier said of a recording.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn keep_report(&self, session: Uuid, report: &serde_json::Value) -> Result<()> {
        let sql = "INSERT OR REPLACE INTO reports (session, report) VALUES (?1, ?2)";
        let kept = self.lock().execute(sql, [session.to_string(), report.to_string()]);
        kept.map(drop).map_err(self.sql("keep a report"))
    }

    /// What the verifier said of a recording last.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn report(&self, session: Uuid) -> Result<Option<serde_json::Value>> {
        let sql = self.sql("read a report");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT report FROM reports WHERE session = ?1")
            .map_err(sql)?;
        let text: Option<String> = statement
            .query_row([session.to_string()], |row| row.get(0))
            .optional()
            .map_err(sql)?;
        // It is written by us alone; another version's may say other things.
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Where a recording is, by storage.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn shares(&self, session: Uuid) -> Result<Vec<Share>> {
        let sql = self.sql("read placements");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT storage, count(stored_ms), count(*) FROM placements WHERE session = ?1 GROUP BY storage ORDER BY storage",
            )
            .map_err(sql)?;
        let rows = statement.query_map([session.to_string()], |row| {
            Ok(Share {
                name: row.get(0)?,
                stored: row.get(1)?,
                objects: row.get(2)?,
            })
        });
        rows.map_err(sql)?.collect::<rusqlite::Result<_>>().map_err(sql)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use time::OffsetDateTime;

    use super::*;
    use crate::catalog::{Object, listing};

    #[test]
    fn storages_say_what_they_have() {
        let (_dir, catalog, ids) = listing::tests::filled(5);
        let at = OffsetDateTime::UNIX_EPOCH;
        catalog.stored(ids[0], Object::Manifest, "disk", at).unwrap();
        let disk = |stored| Share {
            name: "disk".to_owned(),
            stored,
            objects: 1,
        };
        assert_eq!(catalog.shares(ids[0]).unwrap(), [disk(1)]);
        assert_eq!(catalog.shares(ids[1]).unwrap(), [disk(0)]);
        let report = serde_json::json!({"outcome": "whole"});
        catalog.keep_report(ids[0], &report).unwrap();
        assert_eq!(catalog.report(ids[0]).unwrap(), Some(report));
        assert_eq!(catalog.report(ids[1]).unwrap(), None);
    }
}
