//! What the events of recordings say, for searching: one text a recording, gone with the recording.

use rusqlite::params;
use uuid::Uuid;

use super::{Catalog, Result, SessionRow};

/// Words of a search that count.
const WORDS_MAX: usize = 16;

/// All words of a text as FTS5 is asked for them: each is there, or a word that begins so. `None`: there is no word.
pub(super) fn query(text: &str) -> Option<String> {
    let words = text
        .split(|c: char| !c.is_alphanumeric())
        .filter(|word| !word.is_empty());
    // Within quotes nothing is an operator.
    let words: Vec<String> = words.take(WORDS_MAX).map(|word| format!("\"{word}\"*")).collect();
    (!words.is_empty()).then(|| words.join(" "))
}

impl Catalog {
    /// Takes the facts of sessions that are new or have changed among those that are searched, at most `max`; says how many
    /// those were.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn read_words(&self, max: u32) -> Result<usize> {
        let sql = self.sql("take sessions among those that are searched");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        let rows: Vec<(String, Option<i64>)> = {
            let mut statement = transaction
                .prepare_cached("SELECT id, n FROM sessions WHERE words_read = 0 LIMIT ?1")
                .map_err(sql)?;
            let rows = statement.query_map([max], |row| Ok((row.get(0)?, row.get(1)?)));
            rows.map_err(sql)?.collect::<rusqlite::Result<_>>().map_err(sql)?
        };
        if rows.is_empty() {
            return Ok(0);
        }
        let last = transaction.query_row("SELECT max(n) FROM sessions", [], |row| row.get::<_, Option<i64>>(0));
        let mut last = last.map_err(sql)?.unwrap_or(0);
        for (id, n) in &rows {
            let n = n.unwrap_or_else(|| {
                last += 1;
                last
            });
            transaction
                .prepare_cached("UPDATE sessions SET n = ?2, words_read = 1 WHERE id = ?1")
                .and_then(|mut statement| statement.execute(params![id, n]))
                .map_err(sql)?;
            transaction
                .prepare_cached(
                    "INSERT OR REPLACE INTO session_words (rowid, user, login, desktop, labels, rest)
                     SELECT n, user, login, desktop, labels, desktop_addr || char(10) || client_name || char(10) || client_addr
                     || char(10) || coalesce(end_reason, '') || char(10) || coalesce(problem, '')
                     FROM sessions WHERE id = ?1",
                )
                .and_then(|mut statement| statement.execute([id]))
                .map_err(sql)?;
        }
        transaction.commit().map_err(sql)?;
        Ok(rows.len())
    }

    /// Closed recordings whose events have not been read for searching yet, the newest first.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn unread(&self, max: u32) -> Result<Vec<SessionRow>> {
        let rest = format!(
            "WHERE s.n IS NOT NULL AND s.events_read = 0 AND s.state IN ('delivering', 'complete', 'recovered', 'damaged')
             ORDER BY s.started_ms DESC LIMIT {max}"
        );
        self.session_rows(&rest, None)
    }

    /// Keeps what the events of a recording say. A recording that was deleted meanwhile leaves nothing.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn keep_text(&self, session: Uuid, text: &str) -> Result<()> {
        let sql = self.sql("keep what events say");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        let read = transaction.execute(
            "UPDATE sessions SET events_read = 1 WHERE id = ?1 AND events_read = 0 AND n IS NOT NULL AND state <> 'deleted'",
            [session.to_string()],
        );
        if read.map_err(sql)? == 1 {
            transaction
                .execute(
                    "INSERT INTO event_texts (rowid, text) SELECT n, ?2 FROM sessions WHERE id = ?1",
                    params![session.to_string(), text],
                )
                .map_err(sql)?;
        }
        transaction.commit().map_err(sql)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use time::OffsetDateTime;

    use super::*;
    use crate::catalog::{Closed, IdentityKind, Listing, NewSession, State};

    fn session(catalog: &Catalog, n: u128) -> Uuid {
        let id = Uuid::from_u128(n);
        let started = OffsetDateTime::UNIX_EPOCH;
        let session = NewSession {
            id,
            started,
            user: "ann".to_owned(),
            identity: IdentityKind::Proven,
            login: "root".to_owned(),
            desktop: "desk".to_owned(),
            desktop_addr: String::new(),
            labels: [].into(),
            roles: Vec::new(),
            decision: None,
            client_addr: String::new(),
            client_name: String::new(),
        };
        catalog.session_started(&session).unwrap();
        let closed = Closed {
            state: State::Complete,
            ended: started,
            duration_ms: 0,
            undecoded: 0,
            end_reason: String::new(),
            problem: None,
            manifest_sha256: None,
        };
        catalog.closed(id, &closed, &[]).unwrap();
        id
    }

    fn found(catalog: &Catalog, text: &str) -> usize {
        let listing = Listing {
            text: Some(text.to_owned()),
            ..Listing::default()
        };
        catalog.page(&listing, None, 10).unwrap().len()
    }

    #[test]
    fn words_are_found_until_the_recording_goes() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(dir.path()).unwrap();
        let (first, second) = (session(&catalog, 1), session(&catalog, 2));
        assert!(catalog.unread(10).unwrap().is_empty());
        assert_eq!(catalog.read_words(10).unwrap(), 2);
        assert_eq!(catalog.read_words(10).unwrap(), 0);
        assert_eq!(catalog.unread(10).unwrap().len(), 2);
        catalog.keep_text(first, "clipboard\nQuarterly Bilançe.xlsx").unwrap();
        catalog
            .keep_text(second, "drive \\\\tsclient\\C\\salaries.csv")
            .unwrap();
        assert!(catalog.unread(10).unwrap().is_empty());
        for (text, expected) in [
            ("salaries", 1),
            ("SALAR", 1),
            ("csv salaries", 1),
            ("bilance", 1),
            ("xlsx salaries", 0),
            ("alaries", 0),
            ("\"", 0),
            ("salaries OR clipboard", 0),
            ("salaries\" OR \"clipboard", 0),
            ("NEAR(", 0),
            ("text:clipboard*", 0),
            ("c", 2),
        ] {
            assert_eq!(found(&catalog, text), expected, "{text}");
        }
        catalog.deleted(second, OffsetDateTime::UNIX_EPOCH, "ann", "x").unwrap();
        assert_eq!(found(&catalog, "salaries"), 0);
        // Read too late, it leaves nothing.
        catalog.keep_text(second, "salaries").unwrap();
        assert_eq!(found(&catalog, "salaries"), 0);
        let texts = catalog
            .lock()
            .query_row("SELECT count(*) FROM event_texts", [], |row| row.get::<_, u32>(0));
        assert_eq!(texts.unwrap(), 1);
    }
}
