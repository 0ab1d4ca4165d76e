//! The listing of the pages: sorted, filtered, a page at a time. Each page begins where the one before ended, by the row
//! and not by a number, so the thousandth costs what the first does.
//!
//! Filters that most rows pass fill a page from the first rows in the order that is wanted; filters that few rows pass need
//! an index, and that index is no use for the former. So the first rows are looked through, and only where they don't fill
//! the page the rest is asked by the indices of words.

use std::fmt::Write as _;

use rusqlite::params_from_iter;
use rusqlite::types::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::query::{SESSION_COLUMNS, session_row};
use super::write::to_ms;
use super::{Catalog, Result, SessionRow, State, search};

/// Rows that are looked through before an index is asked.
const WINDOW: u32 = 2000;
/// Sessions that a listing takes into the index of parts of words before it asks that: few, as it writes meanwhile.
const NEW_MAX: u32 = 50;
/// Recordings whose events match that a search considers, those first that were started last.
const MATCHES_MAX: u32 = 10_000;

/// What a listing is sorted by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum SortBy {
    /// Wall-clock start.
    #[default]
    Started,
    /// Length.
    Duration,
    /// Who asked.
    User,
    /// Bytes of its segments.
    Size,
}

impl SortBy {
    const fn column(self) -> &'static str {
        match self {
            Self::Started => "s.started_ms",
            Self::Duration => "coalesce(s.duration_ms, 0)",
            Self::User => "s.user",
            Self::Size => "s.bytes",
        }
    }
}

/// Which sessions, in which order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Listing {
    /// What they are sorted by.
    pub(crate) sort: SortBy,
    /// Largest first.
    pub(crate) descending: bool,
    /// Only those that run; otherwise only those that don't.
    pub(crate) running: bool,
    /// In this state.
    pub(crate) state: Option<State>,
    /// Anywhere in user, login, desktop, address, client, labels, reasons, or the begin of the id; or its words in what
    /// the events of the recording say.
    pub(crate) text: Option<String>,
    /// Part of the user's name.
    pub(crate) user: Option<String>,
    /// Part of the desktop's name.
    pub(crate) desktop: Option<String>,
    /// Part of the login.
    pub(crate) login: Option<String>,
    /// A label of the desktop, and perhaps its value.
    pub(crate) label: Option<(String, Option<String>)>,
    /// Started at or after.
    pub(crate) from: Option<OffsetDateTime>,
    /// Started before.
    pub(crate) to: Option<OffsetDateTime>,
    /// At least so long, in milliseconds.
    pub(crate) min_ms: Option<u64>,
    /// At most so long, in milliseconds.
    pub(crate) max_ms: Option<u64>,
    /// Only with gaps.
    pub(crate) gaps: bool,
}

/// SQL and its arguments, as they come together.
#[derive(Default)]
struct Sql {
    text: String,
    arguments: Vec<Value>,
}

impl Sql {
    fn and(&mut self, condition: &str, values: impl IntoIterator<Item = Value>) {
        self.text.push_str(" AND ");
        self.text.push_str(condition);
        self.arguments.extend(values);
    }

    /// The session is one of those that one of these questions names by number.
    fn and_in(&mut self, questions: &[(&str, Value)]) {
        let union: Vec<&str> = questions.iter().map(|(sql, _)| *sql).collect();
        let condition = format!("s.n IN ({})", union.join(" UNION "));
        self.and(&condition, questions.iter().map(|(_, value)| value.clone()));
    }
}

const WORDS: &str = "SELECT rowid FROM session_words WHERE session_words MATCH ?";

/// The text as the index of parts of words is asked for it; `None`: it is too short for that index.
fn part(column: &str, text: &str) -> Option<Value> {
    (text.chars().count() >= 3).then(|| format!("{column}\"{}\"", text.replace('"', "\"\"")).into())
}

impl Listing {
    /// Which rows come into question at all, and where the page begins.
    fn rows(&self, after: Option<Uuid>) -> Sql {
        let mut sql = Sql::default();
        // The plan follows the sort's index; this condition must not take another one.
        sql.text.push_str(if self.running {
            "s.state = 'recording'"
        } else {
            "+s.state <> 'recording'"
        });
        if let Some(after) = after {
            let column = self.sort.column();
            let than = if self.descending { "<" } else { ">" };
            let condition = format!(
                "({column}, s.id) {than} (SELECT {}, a.id FROM sessions a WHERE a.id = ?)",
                column.replace("s.", "a.")
            );
            sql.and(&condition, [after.to_string().into()]);
        }
        sql
    }

    /// Adds the filters. `by_index`: few rows will pass, and which do is asked of an index.
    fn filter(&self, sql: &mut Sql, by_index: bool) {
        if let Some(state) = self.state {
            // Nearly all are complete; the other states are found by their index.
            let is_rare = by_index && state != State::Complete;
            let condition = if is_rare { "s.state = ?" } else { "+s.state = ?" };
            sql.and(condition, [state.name().to_owned().into()]);
        }
        for (name, text) in [("user", &self.user), ("desktop", &self.desktop), ("login", &self.login)] {
            let Some(text) = text else { continue };
            sql.and(&format!("instr(lower(s.{name}), lower(?)) > 0"), [text.clone().into()]);
            if let Some(part) = part(&format!("{name} : "), text).filter(|_| by_index) {
                sql.and_in(&[(WORDS, part)]);
            }
        }
        if let Some((key, value)) = &self.label {
            let condition =
                "EXISTS (SELECT 1 FROM json_each(s.labels) l WHERE l.key = ? AND (? IS NULL OR l.value = ?))";
            let wanted = value.clone().map_or(Value::Null, Value::from);
            sql.and(condition, [key.clone().into(), wanted.clone(), wanted]);
            for word in [Some(key), value.as_ref()].into_iter().flatten() {
                // What JSON writes otherwise is looked for row by row.
                let is_plain = word.chars().all(|c| c.is_alphanumeric() || "-_.:/ ".contains(c));
                if let Some(part) = part("labels : ", word).filter(|_| by_index && is_plain) {
                    sql.and_in(&[(WORDS, part)]);
                }
            }
        }
        if let Some(text) = &self.text {
            self.search(sql, text, by_index);
        }
        for (moment, condition) in [(self.from, "s.started_ms >= ?"), (self.to, "s.started_ms < ?")] {
            if let Some(moment) = moment {
                sql.and(condition, [to_ms(moment).into()]);
            }
        }
        for (length, than) in [(self.min_ms, ">="), (self.max_ms, "<=")] {
            if let Some(length) = length {
                let condition = format!("coalesce(s.duration_ms, 0) {than} ?");
                sql.and(&condition, [i64::try_from(length).unwrap_or(i64::MAX).into()]);
            }
        }
        if self.gaps {
            let condition = if by_index {
                "s.id IN (SELECT session FROM gaps)"
            } else {
                "EXISTS (SELECT 1 FROM gaps g WHERE g.session = s.id)"
            };
            sql.and(condition, []);
        }
    }

    fn search(&self, sql: &mut Sql, text: &str, by_index: bool) {
        let said = format!(
            "SELECT * FROM (SELECT rowid FROM event_texts WHERE event_texts MATCH ? ORDER BY rowid DESC LIMIT {MATCHES_MAX})"
        );
        let words = search::query(text);
        if let Some(part) = part("", text).filter(|_| by_index) {
            let mut questions = vec![(WORDS, part)];
            if let Some(words) = words {
                questions.push((&said, words.into()));
            }
            questions.push(("SELECT n FROM sessions WHERE id GLOB ?", id_glob(text).into()));
            sql.and_in(&questions);
            return;
        }
        let about = "instr(lower(s.user || char(10) || s.login || char(10) || s.desktop || char(10) || s.desktop_addr
            || char(10) || s.client_name || char(10) || s.client_addr || char(10) || s.labels || char(10)
            || coalesce(s.end_reason, '') || char(10) || coalesce(s.problem, '')), lower(?)) > 0 OR s.id GLOB ?";
        let values = [text.to_owned().into(), id_glob(text).into()];
        match words {
            Some(words) => {
                let condition = format!("({about} OR s.n IN ({said}))");
                sql.and(&condition, values.into_iter().chain([words.into()]));
            }
            None => sql.and(&format!("({about})"), values),
        }
    }

    /// Whether there is anything that may keep a page from being full.
    fn is_filtered(&self) -> bool {
        let unfiltered = Self {
            sort: self.sort,
            descending: self.descending,
            running: self.running,
            ..Self::default()
        };
        *self != unfiltered
    }

    /// Whether the index of parts of words may be asked.
    fn is_by_words(&self) -> bool {
        let texts = [&self.text, &self.user, &self.desktop, &self.login];
        self.label.is_some() || texts.into_iter().any(Option::is_some)
    }

    fn order(&self) -> String {
        let (column, order) = (self.sort.column(), if self.descending { "DESC" } else { "ASC" });
        format!("ORDER BY {column} {order}, s.id {order}")
    }

    /// The question for the first rows that pass among the first in order; `None`: they all do.
    fn near(&self, after: Option<Uuid>, limit: u32) -> Option<Sql> {
        let texts = [&self.text, &self.user, &self.desktop, &self.login];
        // Only the index knows capitals beyond ASCII.
        let is_foreign = texts
            .iter()
            .any(|text| text.as_ref().is_some_and(|text| !text.is_ascii()));
        if !self.is_filtered() || self.running || is_foreign {
            return None;
        }
        let order = self.order();
        let mut sql = self.rows(after);
        sql.text = format!(
            "(SELECT s.* FROM sessions s WHERE {} {order} LIMIT {WINDOW}) s WHERE 1",
            sql.text
        );
        self.filter(&mut sql, false);
        let _ = write!(sql.text, " {order} LIMIT {limit}");
        Some(sql)
    }

    /// The question for all of them.
    fn all(&self, after: Option<Uuid>, limit: u32) -> Sql {
        let mut sql = self.rows(after);
        sql.text = format!("sessions s WHERE {}", sql.text);
        self.filter(&mut sql, true);
        let mut order = self.order();
        if self.is_filtered() {
            // Few pass: an index of what they have in common and a sort of those, not the index of the order.
            order = order.replacen(self.sort.column(), &format!("+{}", self.sort.column()), 1);
        }
        let _ = write!(sql.text, " {order} LIMIT {limit}");
        sql
    }
}

/// Ids that begin with a text; none, for what can't be the begin of one.
fn id_glob(text: &str) -> String {
    let text = text.to_ascii_lowercase();
    let plausible = text.len() <= 36 && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    if plausible { format!("{text}*") } else { String::new() }
}

/// Whether a row has the text in itself: then it is no matter what the events of its recording say.
pub(crate) fn is_about(row: &SessionRow, text: &str) -> bool {
    let labels = serde_json::to_string(&row.labels).unwrap_or_default();
    let lines = [
        &row.user,
        &row.login,
        &row.desktop,
        &row.desktop_addr,
        &row.client_name,
        &row.client_addr,
        &labels,
        row.end_reason.as_ref().unwrap_or(&labels),
        row.problem.as_ref().unwrap_or(&labels),
    ];
    let text = text.to_lowercase();
    let is_in = |line: &&String| line.to_lowercase().contains(&text);
    lines.iter().any(is_in) || row.id.to_string().starts_with(&text)
}

impl Catalog {
    /// A page of sessions: at most `limit` behind the session `after`.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn page(&self, listing: &Listing, after: Option<Uuid>, limit: u32) -> Result<Vec<SessionRow>> {
        if listing.is_by_words() {
            // Those that began or ended just now; after a rebuild there are more, which the reader of the pages takes in. Where
            // somebody else writes, or nobody can, they are found a little later.
            if let Err(error) = self.read_words(NEW_MAX) {
                tracing::debug!(%error, "the newest sessions are not searched yet");
            }
        }
        if let Some(near) = listing.near(after, limit).filter(|_| !self.is_rare(listing)) {
            let found = self.ask(listing, near)?;
            if found.len() >= limit as usize {
                return Ok(found);
            }
        }
        self.ask(listing, listing.all(after, limit))
    }

    /// Whether so few sessions have the text that the first rows need not be looked through for it.
    fn is_rare(&self, listing: &Listing) -> bool {
        let Some(text) = &listing.text else { return false };
        let Some(part) = part("", text) else { return false };
        let few = |table: &str, words: Value| {
            let sql = format!(
                "SELECT count(*) FROM (SELECT rowid FROM {table} WHERE {table} MATCH ?1 LIMIT {})",
                WINDOW + 1
            );
            let connection = self.lock();
            let count = connection
                .prepare_cached(&sql)
                .and_then(|mut statement| statement.query_row([words], |row| row.get::<_, u32>(0)));
            // What can't be counted is for the question itself to tell.
            count.is_ok_and(|count| count <= WINDOW)
        };
        few("session_words", part) && search::query(text).is_none_or(|words| few("event_texts", words.into()))
    }

    /// Chosen first and read then: what is not shown costs as little as can be.
    fn ask(&self, listing: &Listing, chosen: Sql) -> Result<Vec<SessionRow>> {
        let failed = self.sql("list sessions");
        let Sql { text, arguments } = chosen;
        let order = listing.order();
        let sql = format!("{SESSION_COLUMNS} WHERE s.id IN (SELECT s.id FROM {text}) {order}");
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(arguments)).map_err(failed)?;
        let mut sessions = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            sessions.push(session_row(row).map_err(failed)??);
        }
        Ok(sessions)
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
pub(super) mod tests;
