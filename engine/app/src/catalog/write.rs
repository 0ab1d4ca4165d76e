//! Writing: what the pipeline and recovery tell the catalog. Every function is one transaction and may be repeated.

use rusqlite::params;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Catalog, GapRow, NewSession, Object, Result, SegmentRow, State};

/// How a recording was closed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Closed {
    /// What the state becomes: delivering, recovered or damaged.
    pub(crate) state: State,
    /// Wall-clock end.
    pub(crate) ended: OffsetDateTime,
    /// Length in milliseconds.
    pub(crate) duration_ms: u64,
    /// PDUs that could not be decoded.
    pub(crate) undecoded: u64,
    /// Why the session ended.
    pub(crate) end_reason: String,
    /// What is wrong with the recording, if something is.
    pub(crate) problem: Option<String>,
    /// SHA-256 of the manifest, hexadecimal; `None` when there is none.
    pub(crate) manifest_sha256: Option<String>,
}

/// A storage that an object goes to: its name and whether it is required.
pub(crate) type Target<'a> = (&'a str, bool);

impl Catalog {
    /// A recorded session starts.
    ///
    /// # Errors
    /// SQLite failures, an id that is taken.
    pub(crate) fn session_started(&self, session: &NewSession) -> Result<()> {
        self.insert_session(session, State::Recording, None)
    }

    /// A session starts that is not recorded, and why.
    ///
    /// # Errors
    /// SQLite failures, an id that is taken.
    pub(crate) fn session_not_recorded(&self, session: &NewSession, why: &str) -> Result<()> {
        self.insert_session(session, State::NotRecorded, Some(why))
    }

    fn insert_session(&self, session: &NewSession, state: State, problem: Option<&str>) -> Result<()> {
        insert(&self.lock(), session, state, problem).map_err(self.sql("add a session"))
    }

    /// A session that was not recorded is over.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn session_ended(
        &self,
        session: Uuid,
        ended: OffsetDateTime,
        duration_ms: u64,
        why: &str,
    ) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE sessions SET ended_ms = ?2, duration_ms = ?3, end_reason = ?4 WHERE id = ?1",
                params![session.to_string(), to_ms(ended), duration_ms, why],
            )
            .map(drop)
            .map_err(self.sql("end a session"))
    }

    /// A segment is sealed and on its way to `targets`. What is already known to be stored stays so.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn segment_sealed(&self, session: Uuid, segment: &SegmentRow, targets: &[Target<'_>]) -> Result<()> {
        let sql = self.sql("add a segment");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        transaction
            .execute(
                "INSERT INTO segments (session, number, bytes, sha256, first_ns, last_ns, key)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
                 ON CONFLICT DO UPDATE SET bytes = excluded.bytes, sha256 = excluded.sha256,
                 first_ns = excluded.first_ns, last_ns = excluded.last_ns, key = excluded.key",
                params![
                    id,
                    segment.number,
                    segment.bytes,
                    segment.sha256,
                    segment.first_ns,
                    segment.last_ns,
                    segment.starts_with_key
                ],
            )
            .map_err(sql)?;
        place(&transaction, &id, Object::Segment(segment.number), targets).map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// A sealed segment was only in memory when the gateway was killed.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn segment_lost(&self, session: Uuid, number: u32) -> Result<()> {
        let sql = self.sql("forget a segment");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        transaction
            .execute(
                "DELETE FROM segments WHERE session = ?1 AND number = ?2",
                params![id, number],
            )
            .map_err(sql)?;
        transaction
            .execute(
                "DELETE FROM placements WHERE session = ?1 AND object = ?2",
                params![id, number],
            )
            .map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// `object` is at `storage`.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn stored(&self, session: Uuid, object: Object, storage: &str, at: OffsetDateTime) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE placements SET stored_ms = coalesce(stored_ms, ?4), problem = NULL
                 WHERE session = ?1 AND object = ?2 AND storage = ?3",
                params![session.to_string(), object.to_sql(), storage, to_ms(at)],
            )
            .map(drop)
            .map_err(self.sql("mark an object as stored"))
    }

    /// `object` will not arrive at `storage`.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn not_stored(&self, session: Uuid, object: Object, storage: &str, problem: &str) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE placements SET problem = ?4
                 WHERE session = ?1 AND object = ?2 AND storage = ?3 AND stored_ms IS NULL",
                params![session.to_string(), object.to_sql(), storage, problem],
            )
            .map(drop)
            .map_err(self.sql("mark an object as refused"))
    }

    /// A gap was recorded. The same gap again changes nothing.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn gap(&self, session: Uuid, gap: &GapRow) -> Result<()> {
        self.lock()
            .execute(
                "INSERT INTO gaps (session, from_ns, to_ns, reason) SELECT ?1, ?2, ?3, ?4
                 WHERE NOT EXISTS (SELECT 1 FROM gaps
                 WHERE session = ?1 AND from_ns = ?2 AND to_ns = ?3 AND reason = ?4)",
                params![session.to_string(), gap.from_ns, gap.to_ns, gap.reason],
            )
            .map(drop)
            .map_err(self.sql("add a gap"))
    }

    /// The recording is closed: its manifest exists and is on its way to `targets`. A damaged one stays so.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn closed(&self, session: Uuid, closed: &Closed, targets: &[Target<'_>]) -> Result<()> {
        let sql = self.sql("close a recording");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        transaction
            .execute(
                "UPDATE sessions SET state = CASE state WHEN 'damaged' THEN state ELSE ?2 END, ended_ms = ?3, duration_ms = ?4, undecoded = ?5, end_reason = ?6,
                 problem = coalesce(?7, problem), manifest_sha256 = coalesce(?8, manifest_sha256), exports_due = 1 WHERE id = ?1",
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
            )
            .map_err(sql)?;
        place(&transaction, &id, Object::Manifest, targets).map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// Every required storage has all of the recording. A recovered or damaged one keeps saying so.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn delivered(&self, session: Uuid) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE sessions SET state = ?2 WHERE id = ?1 AND state = ?3",
                params![session.to_string(), State::Complete.name(), State::Delivering.name()],
            )
            .map(drop)
            .map_err(self.sql("complete a recording"))
    }

    /// The recording is gone from `storage`.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn deleted_from(&self, session: Uuid, storage: &str) -> Result<()> {
        self.lock()
            .execute(
                "DELETE FROM placements WHERE session = ?1 AND storage = ?2",
                params![session.to_string(), storage],
            )
            .map(drop)
            .map_err(self.sql("note a deletion at a storage"))
    }

    /// The recording is gone; what the catalog knew of it stays, as its tombstone.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn deleted(&self, session: Uuid, at: OffsetDateTime, by: &str, why: &str) -> Result<()> {
        let sql = self.sql("note a deletion");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        transaction
            .execute(
                "UPDATE sessions SET state = ?2, deleted_ms = ?3, deleted_by = ?4, deleted_why = ?5,
                 doomed_problem = NULL, exports_due = 0 WHERE id = ?1",
                params![id, State::Deleted.name(), to_ms(at), by, why],
            )
            .map_err(sql)?;
        // One that is being made is removed by whoever makes it.
        transaction
            .execute(
                "DELETE FROM exports WHERE session = ?1 AND state <> 'running'",
                params![id],
            )
            .map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// Something is wrong with the recording. The first problem is kept, later ones are added.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn damaged(&self, session: Uuid, problem: &str) -> Result<()> {
        self.lock()
            .execute(
                "UPDATE sessions SET state = ?2, problem = CASE
                   WHEN problem IS NULL THEN ?3
                   WHEN instr(problem, ?3) > 0 THEN problem
                   ELSE problem || '; ' || ?3 END
                 WHERE id = ?1",
                params![session.to_string(), State::Damaged.name(), problem],
            )
            .map(drop)
            .map_err(self.sql("mark a recording as damaged"))
    }
}

/// Adds a session.
pub(super) fn insert(
    connection: &rusqlite::Connection,
    session: &NewSession,
    state: State,
    problem: Option<&str>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO sessions (id, state, started_ms, user, identity, login, desktop, client_addr, client_name,
         problem, desktop_addr, labels, roles, decision)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
    )?;
    let values = params![
        session.id.to_string(),
        state.name(),
        to_ms(session.started),
        session.user,
        session.identity.name(),
        session.login,
        session.desktop,
        session.client_addr,
        session.client_name,
        problem,
        session.desktop_addr,
        json(&session.labels),
        json(&session.roles),
        session.decision.as_ref().map(json),
    ];
    statement.execute(values).map(drop)
}

fn place(connection: &rusqlite::Connection, id: &str, object: Object, targets: &[Target<'_>]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO placements (session, object, storage, required) VALUES (?1, ?2, ?3, ?4)
         ON CONFLICT DO UPDATE SET required = excluded.required",
    )?;
    for (storage, required) in targets {
        statement.execute(params![id, object.to_sql(), storage, required])?;
    }
    Ok(())
}

/// Maps with text keys, lists and text: JSON can say all of it.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|_| "null".to_owned())
}

/// Milliseconds since 1970.
pub(super) fn to_ms(time: OffsetDateTime) -> i64 {
    i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX)
}
