//! The listing of the pages: sorted, filtered, a page at a time. Each page begins where the one before ended, by the row
//! and not by a number, so the thousandth costs what the first does.

use std::fmt::Write as _;

use rusqlite::types::Value;
use rusqlite::{OptionalExtension as _, params_from_iter};
use time::OffsetDateTime;
use uuid::Uuid;

use super::query::{SESSION_COLUMNS, session_row};
use super::write::to_ms;
use super::{Catalog, Result, SessionRow, State};

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
}

impl SortBy {
    const fn column(self) -> &'static str {
        match self {
            Self::Started => "s.started_ms",
            Self::Duration => "coalesce(s.duration_ms, 0)",
            Self::User => "s.user",
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
    /// Anywhere in user, login, desktop, address, client, labels, reasons, or the begin of the id.
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

impl Listing {
    /// The SQL behind the columns, and its arguments.
    fn sql(&self, after: Option<Uuid>, limit: u32) -> (String, Vec<Value>) {
        let mut sql = format!("{SESSION_COLUMNS} WHERE ");
        // The plan follows the sort's index; this condition must not take another one.
        sql.push_str(if self.running {
            "s.state = 'recording'"
        } else {
            "+s.state <> 'recording'"
        });
        let mut arguments = Vec::new();
        let mut and = |condition: &str, values: Vec<Value>| {
            sql.push_str(" AND ");
            sql.push_str(condition);
            arguments.extend(values);
        };
        if let Some(state) = self.state {
            // Nearly all are complete; the other states are found by their index.
            let condition = if state == State::Complete {
                "+s.state = ?"
            } else {
                "s.state = ?"
            };
            and(condition, vec![state.name().to_owned().into()]);
        }
        for (column, part) in [
            ("s.user", &self.user),
            ("s.desktop", &self.desktop),
            ("s.login", &self.login),
        ] {
            if let Some(part) = part {
                and(
                    &format!("instr(lower({column}), lower(?)) > 0"),
                    vec![part.clone().into()],
                );
            }
        }
        if let Some(text) = &self.text {
            let condition =
                "(instr(lower(s.user || char(10) || s.login || char(10) || s.desktop || char(10) || s.desktop_addr
                || char(10) || s.client_name || char(10) || s.client_addr || char(10) || s.labels || char(10)
                || coalesce(s.end_reason, '') || char(10) || coalesce(s.problem, '')), lower(?)) > 0
                OR substr(s.id, 1, length(?)) = lower(?))";
            and(
                condition,
                vec![text.clone().into(), text.clone().into(), text.clone().into()],
            );
        }
        if let Some((key, value)) = &self.label {
            let condition =
                "EXISTS (SELECT 1 FROM json_each(s.labels) l WHERE l.key = ? AND (? IS NULL OR l.value = ?))";
            let value = value.clone().map_or(Value::Null, Value::from);
            and(condition, vec![key.clone().into(), value.clone(), value]);
        }
        if let Some(from) = self.from {
            and("s.started_ms >= ?", vec![to_ms(from).into()]);
        }
        if let Some(to) = self.to {
            and("s.started_ms < ?", vec![to_ms(to).into()]);
        }
        if let Some(min) = self.min_ms {
            and("coalesce(s.duration_ms, 0) >= ?", vec![saturate(min).into()]);
        }
        if let Some(max) = self.max_ms {
            and("coalesce(s.duration_ms, 0) <= ?", vec![saturate(max).into()]);
        }
        if self.gaps {
            and("EXISTS (SELECT 1 FROM gaps g WHERE g.session = s.id)", Vec::new());
        }
        let (column, than, order) = (
            self.sort.column(),
            if self.descending { "<" } else { ">" },
            if self.descending { "DESC" } else { "ASC" },
        );
        if let Some(after) = after {
            let id = after.to_string();
            let condition = format!(
                "({column}, s.id) {than} (SELECT {}, a.id FROM sessions a WHERE a.id = ?)",
                column.replace("s.", "a.")
            );
            and(&condition, vec![id.into()]);
        }
        // Writing to a String can't fail.
        let _ = write!(sql, " ORDER BY {column} {order}, s.id {order} LIMIT {limit}");
        (sql, arguments)
    }
}

fn saturate(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

impl Catalog {
    /// A page of sessions: at most `limit` behind the session `after`.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn page(&self, listing: &Listing, after: Option<Uuid>, limit: u32) -> Result<Vec<SessionRow>> {
        let failed = self.sql("list sessions");
        let (sql, arguments) = listing.sql(after, limit);
        let connection = self.lock();
        let mut statement = connection.prepare_cached(&sql).map_err(failed)?;
        let mut rows = statement.query(params_from_iter(arguments)).map_err(failed)?;
        let mut sessions = Vec::new();
        while let Some(row) = rows.next().map_err(failed)? {
            sessions.push(session_row(row).map_err(failed)??);
        }
        Ok(sessions)
    }

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
    use super::*;
    use crate::catalog::{Closed, GapRow, IdentityKind, NewSession};

    /// Sessions a second apart; user and length differ.
    fn filled(count: u32) -> (tempfile::TempDir, Catalog, Vec<Uuid>) {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let mut ids = Vec::new();
        for n in 0..count {
            let id = Uuid::from_u128(u128::from(n) + 1);
            let started = OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(i64::from(n));
            let session = NewSession {
                id,
                started,
                user: format!("user{}", n % 3),
                identity: IdentityKind::Proven,
                login: "Root".to_owned(),
                desktop: "desk".to_owned(),
                desktop_addr: "10.0.0.1:3389".to_owned(),
                labels: [("env".to_owned(), if n % 2 == 0 { "prod" } else { "dev" }.to_owned())].into(),
                roles: Vec::new(),
                decision: None,
                client_addr: "127.0.0.1:1".to_owned(),
                client_name: "laptop".to_owned(),
            };
            catalog.session_started(&session).unwrap();
            if n + 1 < count {
                let closed = Closed {
                    state: State::Complete,
                    ended: started,
                    duration_ms: u64::from(n % 7) * 1000,
                    undecoded: 0,
                    end_reason: "client_closed".to_owned(),
                    problem: None,
                    manifest_sha256: None,
                };
                catalog.closed(id, &closed, &[("disk", true)]).unwrap();
            }
            ids.push(id);
        }
        let gap = GapRow {
            from_ns: 0,
            to_ns: 5,
            reason: "queue_full".to_owned(),
        };
        catalog.gap(ids[4], &gap).unwrap();
        (dir, catalog, ids)
    }

    fn all(catalog: &Catalog, listing: &Listing) -> Vec<Uuid> {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = catalog.page(listing, after, 7).unwrap();
            found.extend(page.iter().map(|row| row.id));
            after = page.last().map(|row| row.id);
            if page.len() < 7 {
                return found;
            }
        }
    }

    #[test]
    fn pages_go_on_where_the_one_before_ended_in_every_order() {
        let (_dir, catalog, ids) = filled(40);
        let still = ids[39];
        for sort in [SortBy::Started, SortBy::Duration, SortBy::User] {
            for descending in [false, true] {
                let listing = Listing {
                    sort,
                    descending,
                    ..Listing::default()
                };
                let mut found = all(&catalog, &listing);
                assert_eq!(found.len(), 39, "{sort:?} {descending}");
                let key = |id: &Uuid| {
                    let n = ids.iter().position(|other| other == id).unwrap();
                    let key = match sort {
                        SortBy::Started => n,
                        SortBy::Duration => n % 7,
                        SortBy::User => n % 3,
                    };
                    (key, n)
                };
                let mut sorted = found.clone();
                sorted.sort_by_key(key);
                if descending {
                    sorted.reverse();
                }
                assert_eq!(found, sorted, "{sort:?} {descending}");
                found.dedup();
                assert!(!found.contains(&still), "a running session is listed apart");
            }
        }
        let running = Listing {
            running: true,
            ..Listing::default()
        };
        assert_eq!(all(&catalog, &running), [still]);
    }

    #[test]
    fn filters_filter() {
        let (_dir, catalog, ids) = filled(20);
        let count = |listing: Listing| all(&catalog, &listing).len();
        assert_eq!(
            count(Listing {
                user: Some("SER1".to_owned()),
                ..Listing::default()
            }),
            6
        );
        assert_eq!(
            count(Listing {
                login: Some("root".to_owned()),
                ..Listing::default()
            }),
            19
        );
        assert_eq!(
            count(Listing {
                desktop: Some("other".to_owned()),
                ..Listing::default()
            }),
            0
        );
        let label = |value: Option<&str>| Some(("env".to_owned(), value.map(str::to_owned)));
        assert_eq!(
            count(Listing {
                label: label(Some("prod")),
                ..Listing::default()
            }),
            10
        );
        assert_eq!(
            count(Listing {
                label: label(None),
                ..Listing::default()
            }),
            19
        );
        assert_eq!(
            count(Listing {
                state: Some(State::Damaged),
                ..Listing::default()
            }),
            0
        );
        assert_eq!(
            count(Listing {
                min_ms: Some(6000),
                ..Listing::default()
            }),
            2
        );
        assert_eq!(
            count(Listing {
                max_ms: Some(0),
                ..Listing::default()
            }),
            3
        );
        let at = |seconds| Some(OffsetDateTime::UNIX_EPOCH + time::Duration::seconds(seconds));
        assert_eq!(
            count(Listing {
                from: at(5),
                to: at(8),
                ..Listing::default()
            }),
            3
        );
        assert_eq!(
            all(
                &catalog,
                &Listing {
                    gaps: true,
                    ..Listing::default()
                }
            ),
            [ids[4]]
        );
        for (text, expected) in [
            ("LAPTOP", 19),
            ("user2", 6),
            ("client_closed", 19),
            ("%", 0),
            ("' OR 1=1 --", 0),
        ] {
            assert_eq!(
                count(Listing {
                    text: Some(text.to_owned()),
                    ..Listing::default()
                }),
                expected,
                "{text}"
            );
        }
        let id = ids[3].to_string();
        assert_eq!(
            all(
                &catalog,
                &Listing {
                    text: Some(id),
                    ..Listing::default()
                }
            ),
            [ids[3]]
        );
    }

    #[test]
    fn storages_say_what_they_have() {
        let (_dir, catalog, ids) = filled(5);
        let at = OffsetDateTime::UNIX_EPOCH;
        catalog
            .stored(ids[0], crate::catalog::Object::Manifest, "disk", at)
            .unwrap();
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
