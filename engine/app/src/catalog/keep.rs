//! Keeping and losing recordings: holds, deletions, what is where, and recordings that other nodes made.

use std::collections::HashMap;

use rusqlite::params;
use time::OffsetDateTime;
use uuid::Uuid;

use super::write::{insert, to_ms};
use super::{Backlog, Catalog, Closed, GapRow, NewSession, Object, PlaceRow, Result, SegmentRow, SessionRow, State};

/// A recording as a storage shows it: what its own segments and manifest say.
#[derive(Debug, Clone)]
pub(crate) struct Imported {
    /// Facts of the session's start.
    pub(crate) session: NewSession,
    /// How it ended; `None` while it has no manifest.
    pub(crate) closed: Option<Closed>,
    /// What is to be known of one that has none.
    pub(crate) note: Option<String>,
    /// Its segments, as the manifest lists them.
    pub(crate) segments: Vec<SegmentRow>,
    /// Its gaps.
    pub(crate) gaps: Vec<GapRow>,
    /// The node that made it, if it is not this one.
    pub(crate) node: Option<String>,
    /// Whose key signed it.
    pub(crate) key_id: Option<String>,
    /// Nobody who is trusted signed it.
    pub(crate) unproven: bool,
}

/// Objects of one recording that were seen at a storage.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Found<'a> {
    /// The storage.
    pub(crate) storage: &'a str,
    /// Whether the configuration says that it is required.
    pub(crate) required: bool,
    /// What is there.
    pub(crate) objects: &'a [Object],
    /// When that was seen.
    pub(crate) at: OffsetDateTime,
}

impl Catalog {
    /// From now on the recording must not be deleted. False: it is gone already, or never was.
    ///
    /// A deletion that had begun stops where it is.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn hold(&self, session: Uuid, reason: &str, by: &str, at: OffsetDateTime) -> Result<bool> {
        let changed = self.lock().execute(
            "UPDATE sessions SET hold = ?2, held_by = ?3, held_ms = ?4,
             doomed_ms = NULL, doomed_by = NULL, doomed_why = NULL, doomed_problem = NULL
             WHERE id = ?1 AND state NOT IN ('deleted', 'not_recorded')",
            params![session.to_string(), reason, by, to_ms(at)],
        );
        Ok(changed.map_err(self.sql("hold a recording"))? > 0)
    }

    /// The hold is lifted. False: there was none.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn release(&self, session: Uuid) -> Result<bool> {
        let changed = self.lock().execute(
            "UPDATE sessions SET hold = NULL, held_by = NULL, held_ms = NULL WHERE id = ?1 AND hold IS NOT NULL",
            params![session.to_string()],
        );
        Ok(changed.map_err(self.sql("lift a hold"))? > 0)
    }

    /// The deletion of a recording begins, unless it is held or not in a state to be deleted: the answer says whether it
    /// did. One statement, so that no hold can come between the question and the answer.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn doom(&self, session: Uuid, by: &str, why: &str, at: OffsetDateTime) -> Result<bool> {
        let changed = self.lock().execute(
            "UPDATE sessions SET doomed_ms = ?2, doomed_by = coalesce(doomed_by, ?3),
             doomed_why = coalesce(doomed_why, ?4)
             WHERE id = ?1 AND hold IS NULL AND state IN ('complete', 'recovered', 'damaged')",
            params![session.to_string(), to_ms(at), by, why],
        );
        Ok(changed.map_err(self.sql("begin a deletion"))? > 0)
    }

    /// Whether a deletion that began may go on: nobody has put a hold on the recording since.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn is_doomed(&self, session: Uuid) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND hold IS NULL AND doomed_ms IS NOT NULL)";
        let found = self
            .lock()
            .query_row(sql, params![session.to_string()], |row| row.get(0));
        found.map_err(self.sql("look whether a deletion may go on"))
    }

    /// For whom and why a recording is being deleted.
    ///
    /// # Errors
    /// SQLite failures, a session that the catalog doesn't know.
    pub(crate) fn doomed_for(&self, session: Uuid) -> Result<(String, String)> {
        let sql = "SELECT coalesce(doomed_by, ''), coalesce(doomed_why, '') FROM sessions WHERE id = ?1";
        let found = self
            .lock()
            .query_row(sql, params![session.to_string()], |row| Ok((row.get(0)?, row.get(1)?)));
        found.map_err(self.sql("read a deletion"))
    }

    /// What is in the way of a deletion that began; it is tried again.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn doom_problem(&self, session: Uuid, problem: &str) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE sessions SET doomed_problem = ?2 WHERE id = ?1 AND doomed_ms IS NOT NULL",
                params![session.to_string(), problem],
            )
            .map(drop)
            .map_err(self.sql("note a refused deletion"))
    }

    /// How much of every recording each storage has, by recording.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn places(&self) -> Result<HashMap<Uuid, Vec<PlaceRow>>> {
        let sql = self.sql("read where recordings are");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT session, storage, max(required), count(*), count(stored_ms),
                 sum(stored_ms IS NULL AND problem IS NULL), sum(stored_ms IS NULL AND problem IS NOT NULL), max(object = -1 AND stored_ms IS NOT NULL)
                 FROM placements GROUP BY session, storage ORDER BY session, storage",
            )
            .map_err(sql)?;
        let mut rows = statement.query([]).map_err(sql)?;
        let mut places: HashMap<Uuid, Vec<PlaceRow>> = HashMap::new();
        while let Some(row) = rows.next().map_err(sql)? {
            let id: String = row.get(0).map_err(sql)?;
            let Ok(id) = id.parse() else { continue };
            places.entry(id).or_default().push(PlaceRow {
                storage: row.get(1).map_err(sql)?,
                required: row.get(2).map_err(sql)?,
                objects: row.get(3).map_err(sql)?,
                stored: row.get(4).map_err(sql)?,
                pending: row.get(5).map_err(sql)?,
                failed: row.get(6).map_err(sql)?,
                manifest: row.get(7).map_err(sql)?,
            });
        }
        Ok(places)
    }

    /// What each storage has and what waits for it, by name.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn backlogs(&self) -> Result<HashMap<String, Backlog>> {
        let sql = self.sql("count what waits for the storages");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT p.storage, count(p.stored_ms), sum(p.stored_ms IS NULL AND p.problem IS NULL),
                 sum(CASE WHEN p.stored_ms IS NULL AND p.problem IS NULL THEN coalesce(s.bytes, 0) ELSE 0 END),
                 sum(p.stored_ms IS NULL AND p.problem IS NOT NULL)
                 FROM placements p LEFT JOIN segments s ON s.session = p.session AND s.number = p.object
                 GROUP BY p.storage",
            )
            .map_err(sql)?;
        let rows = statement
            .query_map([], |row| {
                let backlog = Backlog {
                    stored: row.get(1)?,
                    pending: row.get(2)?,
                    pending_bytes: row.get(3)?,
                    failed: row.get(4)?,
                };
                Ok((row.get::<_, String>(0)?, backlog))
            })
            .map_err(sql)?;
        rows.collect::<std::result::Result<_, _>>().map_err(sql)
    }

    /// How many objects of a recording the catalog knows at a storage.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn stored_at(&self, session: Uuid, storage: &str) -> Result<u64> {
        let sql = "SELECT count(stored_ms) FROM placements WHERE session = ?1 AND storage = ?2";
        let found = self
            .lock()
            .query_row(sql, params![session.to_string(), storage], |row| row.get(0));
        found.map_err(self.sql("count objects at a storage"))
    }

    /// Objects were seen at a storage: what the catalog lists of the recording is stored there.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn found(&self, session: Uuid, found: Found<'_>) -> Result<()> {
        let sql = self.sql("note what a storage has");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        place_found(&transaction, &id, found).map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// Adds a recording that a storage shows, or brings one up to date that had no manifest yet. What the catalog knows of
    /// holds and deletions stays; a tombstone stays what it is. False: nothing was changed.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn import(&self, imported: &Imported, found: Found<'_>) -> Result<bool> {
        let sql = self.sql("add a recording of another node");
        let id = imported.session.id.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        let known: Option<(String, bool)> = transaction
            .query_row(
                "SELECT state, node IS NULL FROM sessions WHERE id = ?1",
                params![id],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map(Some)
            .or_else(|error| match error {
                rusqlite::Error::QueryReturnedNoRows => Ok(None),
                error => Err(error),
            })
            .map_err(sql)?;
        match known.as_ref().map(|(state, own)| (state.as_str(), *own)) {
            // Its own pipeline says what becomes of it.
            Some((_, true)) | Some(("deleted", _)) => return Ok(false),
            Some(_) => {}
            None => {
                let state = imported.closed.as_ref().map_or(State::Recording, |closed| closed.state);
                insert(&transaction, &imported.session, state, None).map_err(sql)?;
            }
        }
        write_import(&transaction, &id, imported).map_err(sql)?;
        place_found(&transaction, &id, found).map_err(sql)?;
        transaction.commit().map_err(sql)?;
        Ok(true)
    }

    /// Recordings of other nodes of which the catalog says that `storage` has something, after `after`, in order of ids.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn foreign_at(&self, storage: &str) -> Result<Vec<SessionRow>> {
        let rest = "WHERE s.node IS NOT NULL AND s.state <> 'deleted' AND EXISTS (SELECT 1 FROM placements p
                    WHERE p.session = s.id AND p.storage = ?1 AND p.stored_ms IS NOT NULL) ORDER BY s.id";
        self.session_rows(rest, Some(storage))
    }

    /// A recording of another node is at no storage any more: the catalog knows nothing of it again.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn forget(&self, session: Uuid) -> Result<()> {
        let sql = self.sql("forget a recording of another node");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        let own: bool = transaction
            .query_row(
                "SELECT NOT EXISTS (SELECT 1 FROM sessions WHERE id = ?1 AND node IS NOT NULL)",
                params![id],
                |row| row.get(0),
            )
            .map_err(sql)?;
        if own {
            return Ok(());
        }
        for table in ["placements", "gaps", "segments", "exports"] {
            let delete = format!("DELETE FROM {table} WHERE session = ?1");
            transaction.execute(&delete, params![id]).map_err(sql)?;
        }
        transaction
            .execute("DELETE FROM sessions WHERE id = ?1", params![id])
            .map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// Recordings of which the catalog says that `storage` has something.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn recordings_at(&self, storage: &str) -> Result<Vec<Uuid>> {
        let sql = self.sql("read what a storage has");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT DISTINCT session FROM placements WHERE storage = ?1 AND stored_ms IS NOT NULL ORDER BY session",
            )
            .map_err(sql)?;
        let rows = statement
            .query_map(params![storage], |row| row.get::<_, String>(0))
            .map_err(sql)?;
        let ids = rows.collect::<std::result::Result<Vec<_>, _>>().map_err(sql)?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Objects that `storage` has, taken by chance, with the SHA-256 that they must have.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sample(&self, storage: &str, max: u32) -> Result<Vec<(Uuid, Object, String)>> {
        let sql = self.sql("choose objects of a storage");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT p.session, p.object, coalesce(s.sha256, r.manifest_sha256) AS digest
                 FROM placements p JOIN sessions r ON r.id = p.session
                 LEFT JOIN segments s ON s.session = p.session AND s.number = p.object
                 WHERE p.storage = ?1 AND p.stored_ms IS NOT NULL AND (p.object = -1 OR s.sha256 IS NOT NULL)
                 AND digest IS NOT NULL ORDER BY random() LIMIT ?2",
            )
            .map_err(sql)?;
        let rows = statement
            .query_map(params![storage, max], |row| {
                Ok((
                    row.get::<_, String>(0)?,
                    row.get::<_, i64>(1)?,
                    row.get::<_, String>(2)?,
                ))
            })
            .map_err(sql)?;
        let rows = rows.collect::<std::result::Result<Vec<_>, _>>().map_err(sql)?;
        let sample = rows
            .into_iter()
            .filter_map(|(id, object, digest)| Some((id.parse().ok()?, Object::from_sql(object)?, digest)));
        Ok(sample.collect())
    }

    /// A storage was looked through, or could not be.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn synced(&self, storage: &str, at: OffsetDateTime, problem: Option<&str>) -> Result<()> {
        self.lock()
            .execute(
                "INSERT INTO syncs (storage, synced_ms, problem) VALUES (?1, ?2, ?3)
                 ON CONFLICT DO UPDATE SET problem = excluded.problem,
                 synced_ms = CASE WHEN excluded.problem IS NULL THEN excluded.synced_ms ELSE synced_ms END",
                params![storage, if problem.is_none() { to_ms(at) } else { 0 }, problem],
            )
            .map(drop)
            .map_err(self.sql("note a look at a storage"))
    }

    /// When each storage was last looked through, and what hindered the last look.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn syncs(&self) -> Result<HashMap<String, (OffsetDateTime, Option<String>)>> {
        let sql = self.sql("read the looks at storages");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT storage, synced_ms, problem FROM syncs")
            .map_err(sql)?;
        let rows = statement
            .query_map([], |row| {
                Ok((row.get(0)?, (super::query::from_ms(row.get(1)?), row.get(2)?)))
            })
            .map_err(sql)?;
        rows.collect::<std::result::Result<_, _>>().map_err(sql)
    }
}

fn place_found(connection: &rusqlite::Connection, id: &str, found: Found<'_>) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO placements (session, object, storage, required, stored_ms) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET stored_ms = coalesce(stored_ms, excluded.stored_ms), problem = NULL",
    )?;
    for object in found.objects {
        statement.execute(params![
            id,
            object.to_sql(),
            found.storage,
            found.required,
            to_ms(found.at)
        ])?;
    }
    Ok(())
}

fn write_import(connection: &rusqlite::Connection, id: &str, imported: &Imported) -> rusqlite::Result<()> {
    connection.execute(
        "UPDATE sessions SET node = ?2, key_id = ?3, unproven = ?4, problem = ?5 WHERE id = ?1",
        params![id, imported.node, imported.key_id, imported.unproven, imported.note],
    )?;
    if let Some(closed) = &imported.closed {
        connection.execute(
            "UPDATE sessions SET state = ?2, ended_ms = ?3, duration_ms = ?4, undecoded = ?5, end_reason = ?6,
             problem = ?7, manifest_sha256 = ?8 WHERE id = ?1",
            params![
                id,
                closed.state.name(),
                to_ms(closed.ended),
                closed.duration_ms,
                closed.undecoded,
                closed.end_reason,
                closed.problem,
                closed.manifest_sha256
            ],
        )?;
    }
    let mut segment = connection.prepare_cached(
        "INSERT INTO segments (session, number, bytes, sha256, first_ns, last_ns, key) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
         ON CONFLICT DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256, first_ns = excluded.first_ns,
         last_ns = excluded.last_ns, key = excluded.key",
    )?;
    for row in &imported.segments {
        let values = params![
            id,
            row.number,
            row.bytes,
            row.sha256,
            row.first_ns,
            row.last_ns,
            row.starts_with_key
        ];
        segment.execute(values)?;
    }
    connection.execute("DELETE FROM gaps WHERE session = ?1", params![id])?;
    let mut gap =
        connection.prepare_cached("INSERT INTO gaps (session, from_ns, to_ns, reason) VALUES (?1, ?2, ?3, ?4)")?;
    for row in &imported.gaps {
        gap.execute(params![id, row.from_ns, row.to_ns, row.reason])?;
    }
    Ok(())
}
