//! Exports that async exporters make of recordings: which there are to be, how each stands, where its output is.

use rusqlite::{Row, params};
use serde::Serialize;
use time::OffsetDateTime;
use uuid::Uuid;

use super::query::from_ms;
use super::write::to_ms;
use super::{Catalog, Result, SessionRow};

/// How an export stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ExportState {
    /// It waits for its turn, or for the next attempt.
    Pending,
    /// It is being made, or put into the storages.
    Running,
    /// Every required storage has it, or there was nothing to export.
    Done,
    /// It failed for good; `exports retry` begins anew.
    Failed,
}

impl ExportState {
    const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
        }
    }

    fn parse(name: &str) -> Self {
        let all = [Self::Pending, Self::Running, Self::Done];
        all.into_iter()
            .find(|state| state.name() == name)
            .unwrap_or(Self::Failed)
    }
}

impl std::fmt::Display for ExportState {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.pad(self.name())
    }
}

/// One export of a recording.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct ExportRow {
    /// The recording.
    pub(crate) session: Uuid,
    /// The exporter's name in the configuration.
    pub(crate) exporter: String,
    /// How it stands.
    pub(crate) state: ExportState,
    /// Attempts that were begun.
    pub(crate) attempts: u32,
    /// Since when it is wanted.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) queued: OffsetDateTime,
    /// Not tried before.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) next: OffsetDateTime,
    /// Who asked for it; `None`: the exporter's `when`.
    pub(crate) asked_by: Option<String>,
    /// What went wrong last, or what it waits for.
    pub(crate) problem: Option<String>,
    /// When it was done, or had failed for good.
    #[serde(with = "time::serde::rfc3339::option")]
    pub(crate) ended: Option<OffsetDateTime>,
    /// What was made, once it is.
    #[serde(flatten)]
    pub(crate) made: Option<MadeRow>,
    /// The storages that have all of it.
    pub(crate) storages: Vec<String>,
}

/// What an export made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct MadeRow {
    /// The format.
    pub(crate) format: String,
    /// Its name below the recording's prefix, `exports/video.mp4`; of a folder with a slash at the end.
    pub(crate) object: String,
    /// Its media type.
    pub(crate) mime: String,
    /// How many files it is.
    pub(crate) files: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// SHA-256, hexadecimal; of a folder as `recordings export` tells it.
    pub(crate) sha256: String,
    /// What whoever looks at it should know: gaps, what the exporter says.
    pub(crate) notes: Vec<String>,
}

const COLUMNS: &str =
    "SELECT e.session, e.exporter, e.state, e.attempts, e.queued_ms, e.next_ms, e.asked_by, e.problem,
    e.ended_ms, e.format, e.object, e.mime, e.files, e.bytes, e.sha256, e.notes, e.storages FROM exports e";

impl Catalog {
    /// This node's recordings that are closed and delivered, and of which nobody has said yet what is to be exported.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn exports_unchosen(&self, max: u32) -> Result<Vec<SessionRow>> {
        let rest = format!(
            "WHERE s.exports_due = 1 AND s.node IS NULL AND s.state IN ('complete', 'recovered', 'damaged')
             ORDER BY s.id LIMIT {max}"
        );
        self.session_rows(&rest, None)
    }

    /// These exporters export a recording from `now` on; a problem makes an export that has failed. What there is already
    /// stays.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn choose_exports(
        &self,
        session: Uuid,
        exporters: &[(&str, Option<String>)],
        now: OffsetDateTime,
    ) -> Result<()> {
        let sql = self.sql("add exports");
        let id = session.to_string();
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        for (exporter, problem) in exporters {
            let state = problem.as_ref().map_or(ExportState::Pending, |_| ExportState::Failed);
            transaction
                .execute(
                    "INSERT INTO exports (session, exporter, state, queued_ms, next_ms, problem)
                     VALUES (?1, ?2, ?3, ?4, ?4, ?5) ON CONFLICT DO NOTHING",
                    params![id, exporter, state.name(), to_ms(now), problem],
                )
                .map_err(sql)?;
        }
        transaction
            .execute("UPDATE sessions SET exports_due = 0 WHERE id = ?1", params![id])
            .map_err(sql)?;
        transaction.commit().map_err(sql)
    }

    /// Somebody wants an export, or wants one anew that has failed. False: there is one that has not failed.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn ask_export(&self, session: Uuid, exporter: &str, by: &str, now: OffsetDateTime) -> Result<bool> {
        let changed = self.lock().execute(
            "INSERT INTO exports (session, exporter, state, queued_ms, next_ms, asked_by)
             VALUES (?1, ?2, 'pending', ?3, ?3, ?4)
             ON CONFLICT DO UPDATE SET state = 'pending', attempts = 0, next_ms = excluded.next_ms,
             asked_by = excluded.asked_by, problem = NULL, ended_ms = NULL WHERE state = 'failed'",
            params![session.to_string(), exporter, to_ms(now), by],
        );
        Ok(changed.map_err(self.sql("add an export"))? > 0)
    }

    /// The exports of a recording, by exporter.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn exports(&self, session: Uuid) -> Result<Vec<ExportRow>> {
        self.export_rows("WHERE e.session = ?1 ORDER BY e.exporter", params![session.to_string()])
    }

    /// All exports, oldest recording first.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn all_exports(&self) -> Result<Vec<ExportRow>> {
        self.export_rows("ORDER BY e.session, e.exporter", params![])
    }

    /// How many exports have failed for good.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn exports_failed(&self) -> Result<u64> {
        let sql = "SELECT count(*) FROM exports WHERE state = 'failed'";
        let found = self.lock().query_row(sql, [], |row| row.get(0));
        found.map_err(self.sql("count exports"))
    }

    /// The exports whose turn it is, longest waiting first: none of recordings that are not whole yet, or being deleted.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn exports_due(&self, now: OffsetDateTime, max: usize) -> Result<Vec<ExportRow>> {
        let rest = format!(
            "JOIN sessions s ON s.id = e.session WHERE e.state = 'pending' AND e.next_ms <= ?1
             AND s.state IN ('complete', 'recovered', 'damaged') AND s.doomed_ms IS NULL
             ORDER BY e.next_ms, e.session LIMIT {max}"
        );
        self.export_rows(&rest, params![to_ms(now)])
    }

    /// Exports of recordings that were deleted meanwhile.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn exports_orphaned(&self) -> Result<Vec<ExportRow>> {
        self.export_rows(
            "JOIN sessions s ON s.id = e.session WHERE s.state = 'deleted' AND e.state <> 'running'",
            params![],
        )
    }

    /// An attempt begins.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn export_begun(&self, row: &ExportRow) -> Result<()> {
        self.change_export(
            row,
            "state = 'running', attempts = attempts + 1, problem = NULL",
            params![],
        )
    }

    /// The output is whole and durable; the storages are to get it.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn export_made(&self, row: &ExportRow, made: &MadeRow) -> Result<()> {
        let notes = serde_json::to_string(&made.notes).unwrap_or_default();
        self.change_export(
            row,
            "format = ?3, object = ?4, mime = ?5, files = ?6, bytes = ?7, sha256 = ?8, notes = ?9, storages = '[]'",
            params![
                made.format,
                made.object,
                made.mime,
                made.files,
                made.bytes,
                made.sha256,
                notes
            ],
        )
    }

    /// These storages have all of it.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn export_stored(&self, row: &ExportRow, storages: &[String]) -> Result<()> {
        let storages = serde_json::to_string(storages).unwrap_or_default();
        self.change_export(row, "storages = ?3", params![storages])
    }

    /// It is where it belongs; `problem`: but not everywhere.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn export_done(&self, row: &ExportRow, now: OffsetDateTime, problem: Option<&str>) -> Result<()> {
        self.change_export(
            row,
            "state = 'done', ended_ms = ?3, problem = ?4",
            params![to_ms(now), problem],
        )
    }

    /// An attempt failed; the next one comes at `next`, `None`: none does.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn export_failed(
        &self,
        row: &ExportRow,
        problem: &str,
        now: OffsetDateTime,
        next: Option<OffsetDateTime>,
    ) -> Result<()> {
        match next {
            Some(next) => self.change_export(
                row,
                "state = 'pending', next_ms = ?3, problem = ?4",
                params![to_ms(next), problem],
            ),
            None => self.change_export(
                row,
                "state = 'failed', ended_ms = ?3, problem = ?4",
                params![to_ms(now), problem],
            ),
        }
    }

    /// It has to wait, through no fault of its own: the attempt does not count.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn export_put_back(&self, row: &ExportRow, why: &str, next: OffsetDateTime) -> Result<()> {
        self.change_export(
            row,
            "state = 'pending', attempts = max(attempts - 1, 0), problem = ?3, next_ms = ?4",
            params![why, to_ms(next)],
        )
    }

    /// The engine that was making exports is gone: they are made again, and that attempt does not count.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn exports_interrupted(&self) -> Result<usize> {
        let sql = "UPDATE exports SET state = 'pending', attempts = max(attempts - 1, 0),
                   problem = 'the gateway ended while it was made' WHERE state = 'running'";
        self.lock()
            .execute(sql, [])
            .map_err(self.sql("take up interrupted exports"))
    }

    /// The catalog knows nothing of an export any more.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn forget_export(&self, row: &ExportRow) -> Result<()> {
        self.lock()
            .execute(
                "DELETE FROM exports WHERE session = ?1 AND exporter = ?2",
                params![row.session.to_string(), row.exporter],
            )
            .map(drop)
            .map_err(self.sql("forget an export"))
    }

    fn change_export(&self, row: &ExportRow, change: &str, values: &[&dyn rusqlite::ToSql]) -> Result<()> {
        let sql = format!("UPDATE exports SET {change} WHERE session = ?1 AND exporter = ?2");
        let id = row.session.to_string();
        let mut all: Vec<&dyn rusqlite::ToSql> = vec![&id, &row.exporter];
        all.extend_from_slice(values);
        self.lock()
            .execute(&sql, all.as_slice())
            .map(drop)
            .map_err(self.sql("change an export"))
    }

    fn export_rows(&self, rest: &str, values: &[&dyn rusqlite::ToSql]) -> Result<Vec<ExportRow>> {
        let sql = self.sql("read exports");
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&format!("{COLUMNS} {rest}")).map_err(sql)?;
        let rows = statement.query_map(values, row).map_err(sql)?;
        rows.collect::<std::result::Result<_, _>>().map_err(sql)
    }
}

fn row(row: &Row<'_>) -> rusqlite::Result<ExportRow> {
    let id: String = row.get(0)?;
    let state: String = row.get(2)?;
    let object: Option<String> = row.get(10)?;
    let list = |column: usize| -> rusqlite::Result<Vec<String>> {
        let text: Option<String> = row.get(column)?;
        Ok(text
            .and_then(|text| serde_json::from_str(&text).ok())
            .unwrap_or_default())
    };
    let text =
        |column: usize| -> rusqlite::Result<String> { Ok(row.get::<_, Option<String>>(column)?.unwrap_or_default()) };
    let made = object
        .map(|object| -> rusqlite::Result<MadeRow> {
            Ok(MadeRow {
                format: text(9)?,
                object,
                mime: text(11)?,
                files: row.get(12)?,
                bytes: row.get(13)?,
                sha256: text(14)?,
                notes: list(15)?,
            })
        })
        .transpose()?;
    Ok(ExportRow {
        // The column refers to a session, whose id is one.
        session: id.parse().unwrap_or_default(),
        exporter: row.get(1)?,
        state: ExportState::parse(&state),
        attempts: row.get(3)?,
        queued: from_ms(row.get(4)?),
        next: from_ms(row.get(5)?),
        asked_by: row.get(6)?,
        problem: row.get(7)?,
        ended: row.get::<_, Option<i64>>(8)?.map(from_ms),
        made,
        storages: list(16)?,
    })
}
