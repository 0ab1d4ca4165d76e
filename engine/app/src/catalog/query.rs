//! Reading: listings, one session, its segments, gaps and placements.

use rusqlite::{Row, params};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{
    Catalog, Error, GapRow, IdentityKind, Object, PlacementRow, Result, SegmentRow, SessionRow, State, duration_ms,
};

pub(super) const SESSION_COLUMNS: &str =
    "SELECT s.id, s.state, s.started_ms, s.ended_ms, s.duration_ms, s.user, s.identity,
    s.login, s.desktop, s.client_addr, s.client_name, s.undecoded, s.end_reason, s.problem,
    s.bytes,
    (SELECT count(*) FROM segments WHERE session = s.id),
    (SELECT coalesce(max(last_ns), 0) FROM segments WHERE session = s.id),
    (SELECT count(*) FROM gaps WHERE session = s.id),
    s.desktop_addr, s.labels, s.roles, s.manifest_sha256, s.hold, s.deleted_ms, s.deleted_by,
    s.deleted_why, s.node, s.key_id, s.unproven, s.held_ms, s.held_by, s.doomed_ms, s.doomed_problem
    FROM sessions s";

impl Catalog {
    /// All sessions, newest first.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sessions(&self) -> Result<Vec<SessionRow>> {
        self.session_rows("ORDER BY s.started_ms DESC, s.id DESC", None)
    }

    /// This node's sessions in one state, oldest first.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sessions_in(&self, state: State) -> Result<Vec<SessionRow>> {
        let rest = "WHERE s.state = ?1 AND s.node IS NULL ORDER BY s.started_ms, s.id";
        self.session_rows(rest, Some(state.name()))
    }

    /// The one session with this id, if the catalog knows it.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn find(&self, id: Uuid) -> Result<Option<SessionRow>> {
        let mut rows = self.session_rows("WHERE s.id = ?1", Some(&id.to_string()))?;
        Ok(rows.pop())
    }

    /// The sessions whose ids come after `after`, in the order of ids, at most `max`: a listing in pages.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sessions_after(&self, after: Option<Uuid>, max: u32) -> Result<Vec<SessionRow>> {
        let after = after.map(|id| id.to_string()).unwrap_or_default();
        let rest = format!("WHERE s.id > ?1 ORDER BY s.id LIMIT {max}");
        self.session_rows(&rest, Some(&after))
    }

    /// Recordings whose deletion began and is not done, oldest attempt first; none that are held.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn doomed(&self) -> Result<Vec<SessionRow>> {
        let rest =
            "WHERE s.doomed_ms IS NOT NULL AND s.state <> 'deleted' AND s.hold IS NULL ORDER BY s.doomed_ms, s.id";
        self.session_rows(rest, None)
    }

    /// Whether this node ever recorded and sealed anything.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn has_recordings(&self) -> Result<bool> {
        let sql = "SELECT EXISTS (SELECT 1 FROM segments g JOIN sessions s ON s.id = g.session WHERE s.node IS NULL)";
        let found = self.lock().query_row(sql, [], |row| row.get(0));
        found.map_err(self.sql("look for recordings"))
    }

    /// The one session whose id starts with `prefix` (case and hyphens as in the id; upper case is accepted).
    ///
    /// # Errors
    /// [`Error::NotFound`], [`Error::Ambiguous`], SQLite failures.
    pub(crate) fn session(&self, prefix: &str) -> Result<SessionRow> {
        let mut rows = self.sessions_like(prefix)?;
        match (rows.len(), rows.pop()) {
            (1, Some(row)) => Ok(row),
            (0, _) => Err(Error::NotFound(prefix.to_owned())),
            (count, _) => Err(Error::Ambiguous {
                prefix: prefix.to_owned(),
                count,
            }),
        }
    }

    /// All sessions whose ids start with `prefix`; none for what can't be the beginning of an id.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sessions_like(&self, prefix: &str) -> Result<Vec<SessionRow>> {
        let wanted = prefix.to_ascii_lowercase();
        let plausible = wanted.len() <= 36 && wanted.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if wanted.is_empty() || !plausible {
            return Ok(Vec::new());
        }
        self.session_rows("WHERE substr(s.id, 1, length(?1)) = ?1 ORDER BY s.id", Some(&wanted))
    }

    /// Sessions that were not recorded and of which nobody said that they ended, oldest first.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn unrecorded_without_end(&self) -> Result<Vec<SessionRow>> {
        let rest = "WHERE s.state = ?1 AND s.ended_ms IS NULL ORDER BY s.started_ms, s.id";
        self.session_rows(rest, Some(State::NotRecorded.name()))
    }

    /// A session's Decision, where there was one.
    ///
    /// # Errors
    /// SQLite failures, a column that is no JSON.
    pub(crate) fn decision(&self, session: Uuid) -> Result<Option<serde_json::Value>> {
        let id = session.to_string();
        let decision: Option<String> = self
            .lock()
            .query_row("SELECT decision FROM sessions WHERE id = ?1", params![id], |row| {
                row.get(0)
            })
            .map_err(self.sql("read a decision"))?;
        decision
            .map(|text| serde_json::from_str(&text).map_err(|_| bad_row(&id, "decision", &text)))
            .transpose()
    }

    /// A session's sealed segments, in order.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn segments(&self, session: Uuid) -> Result<Vec<SegmentRow>> {
        let sql = self.sql("read segments");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT number, bytes, sha256, first_ns, last_ns, key FROM segments WHERE session = ?1 ORDER BY number",
            )
            .map_err(sql)?;
        let rows = statement
            .query_map(params![session.to_string()], |row| {
                Ok(SegmentRow {
                    number: row.get(0)?,
                    bytes: row.get(1)?,
                    sha256: row.get(2)?,
                    first_ns: row.get(3)?,
                    last_ns: row.get(4)?,
                    starts_with_key: row.get(5)?,
                })
            })
            .map_err(sql)?;
        rows.collect::<std::result::Result<_, _>>().map_err(sql)
    }

    /// A session's gaps, in order.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn gaps(&self, session: Uuid) -> Result<Vec<GapRow>> {
        let sql = self.sql("read gaps");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT from_ns, to_ns, reason FROM gaps WHERE session = ?1 ORDER BY from_ns, rowid")
            .map_err(sql)?;
        let rows = statement
            .query_map(params![session.to_string()], |row| {
                Ok(GapRow {
                    from_ns: row.get(0)?,
                    to_ns: row.get(1)?,
                    reason: row.get(2)?,
                })
            })
            .map_err(sql)?;
        rows.collect::<std::result::Result<_, _>>().map_err(sql)
    }

    /// Where a session's objects are or should be: by storage, segments in order, the manifest last.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn placements(&self, session: Uuid) -> Result<Vec<PlacementRow>> {
        let sql = self.sql("read placements");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(
                "SELECT object, storage, required, stored_ms, problem FROM placements WHERE session = ?1
                 ORDER BY storage, object = -1, object",
            )
            .map_err(sql)?;
        let mut rows = statement.query(params![session.to_string()]).map_err(sql)?;
        let mut placements = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            let object: i64 = row.get(0).map_err(sql)?;
            placements.push(PlacementRow {
                object: Object::from_sql(object)
                    .ok_or_else(|| bad_row(&session.to_string(), "object", &object.to_string()))?,
                storage: row.get(1).map_err(sql)?,
                required: row.get(2).map_err(sql)?,
                stored: row.get::<_, Option<i64>>(3).map_err(sql)?.map(from_ms),
                problem: row.get(4).map_err(sql)?,
            });
        }
        Ok(placements)
    }

    pub(super) fn session_rows(&self, rest: &str, argument: Option<&str>) -> Result<Vec<SessionRow>> {
        let sql = self.sql("read sessions");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached(&format!("{SESSION_COLUMNS} {rest}"))
            .map_err(sql)?;
        let mut rows = match argument {
            Some(argument) => statement.query(params![argument]),
            None => statement.query([]),
        }
        .map_err(sql)?;
        let mut sessions = Vec::new();
        while let Some(row) = rows.next().map_err(sql)? {
            sessions.push(session_row(row).map_err(sql)??);
        }
        Ok(sessions)
    }
}

/// The outer error is SQLite's, the inner one says which value makes no sense.
pub(super) fn session_row(row: &Row<'_>) -> rusqlite::Result<Result<SessionRow>> {
    let id: String = row.get(0)?;
    let state: String = row.get(1)?;
    let identity: String = row.get(6)?;
    let Ok(uuid) = id.parse::<Uuid>() else {
        return Ok(Err(bad_row(&id, "id", &id)));
    };
    let Some(known_state) = State::parse(&state) else {
        return Ok(Err(bad_row(&id, "state", &state)));
    };
    let Some(known_identity) = IdentityKind::parse(&identity) else {
        return Ok(Err(bad_row(&id, "identity", &identity)));
    };
    let (labels, roles): (String, String) = (row.get(19)?, row.get(20)?);
    let Ok(known_labels) = serde_json::from_str(&labels) else {
        return Ok(Err(bad_row(&id, "labels", &labels)));
    };
    let Ok(known_roles) = serde_json::from_str(&roles) else {
        return Ok(Err(bad_row(&id, "roles", &roles)));
    };
    let last_ns: u64 = row.get(16)?;
    Ok(Ok(SessionRow {
        id: uuid,
        state: known_state,
        started: from_ms(row.get(2)?),
        ended: row.get::<_, Option<i64>>(3)?.map(from_ms),
        duration_ms: row.get::<_, Option<u64>>(4)?.unwrap_or_else(|| duration_ms(last_ns)),
        user: row.get(5)?,
        identity: known_identity,
        login: row.get(7)?,
        desktop: row.get(8)?,
        desktop_addr: row.get(18)?,
        labels: known_labels,
        roles: known_roles,
        client_addr: row.get(9)?,
        client_name: row.get(10)?,
        undecoded: row.get(11)?,
        end_reason: row.get(12)?,
        problem: row.get(13)?,
        bytes: row.get(14)?,
        segments: row.get(15)?,
        gaps: row.get(17)?,
        manifest_sha256: row.get(21)?,
        hold: row.get(22)?,
        deleted: row.get::<_, Option<i64>>(23)?.map(from_ms),
        deleted_by: row.get(24)?,
        deleted_why: row.get(25)?,
        node: row.get(26)?,
        key_id: row.get(27)?,
        unproven: row.get(28)?,
        held: row.get::<_, Option<i64>>(29)?.map(from_ms),
        held_by: row.get(30)?,
        doomed: row.get::<_, Option<i64>>(31)?.map(from_ms),
        doomed_problem: row.get(32)?,
    }))
}

fn bad_row(session: &str, column: &'static str, value: &str) -> Error {
    Error::Row {
        session: session.to_owned(),
        column,
        value: value.to_owned(),
    }
}

/// Milliseconds since 1970 as a time; what no calendar holds becomes 1970, a listing must not fail over it.
pub(super) fn from_ms(ms: i64) -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}
