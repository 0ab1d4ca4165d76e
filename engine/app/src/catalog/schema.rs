//! The tables, and how an older database becomes a current one.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use super::{Error, Result};

/// One script a version: script `n` turns version `n` into version `n + 1`. Never changed once released, only added.
const MIGRATIONS: &[&str] = &[
    // 1
    "CREATE TABLE sessions (
        id          TEXT PRIMARY KEY NOT NULL,
        state       TEXT NOT NULL,
        started_ms  INTEGER NOT NULL,
        ended_ms    INTEGER,
        duration_ms INTEGER,
        user        TEXT NOT NULL,
        identity    TEXT NOT NULL,
        login       TEXT NOT NULL,
        desktop     TEXT NOT NULL,
        client_addr TEXT NOT NULL,
        client_name TEXT NOT NULL,
        undecoded   INTEGER NOT NULL DEFAULT 0,
        end_reason  TEXT,
        problem     TEXT
    ) STRICT;
    CREATE INDEX sessions_by_start ON sessions (started_ms);
    CREATE INDEX sessions_by_state ON sessions (state);

    CREATE TABLE segments (
        session  TEXT NOT NULL REFERENCES sessions (id),
        number   INTEGER NOT NULL,
        bytes    INTEGER NOT NULL,
        sha256   TEXT NOT NULL,
        first_ns INTEGER NOT NULL,
        last_ns  INTEGER NOT NULL,
        key      INTEGER NOT NULL,
        PRIMARY KEY (session, number)
    ) STRICT, WITHOUT ROWID;

    -- One row for each object and storage that must or may hold it; object -1 is the manifest.
    CREATE TABLE placements (
        session   TEXT NOT NULL REFERENCES sessions (id),
        object    INTEGER NOT NULL,
        storage   TEXT NOT NULL,
        required  INTEGER NOT NULL,
        stored_ms INTEGER,
        problem   TEXT,
        PRIMARY KEY (session, object, storage)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX placements_waiting ON placements (session) WHERE stored_ms IS NULL;

    CREATE TABLE gaps (
        session TEXT NOT NULL REFERENCES sessions (id),
        from_ns INTEGER NOT NULL,
        to_ns   INTEGER NOT NULL,
        reason  TEXT NOT NULL
    ) STRICT;
    CREATE INDEX gaps_by_session ON gaps (session);",
    // 2
    "CREATE TABLE passwords (
        user       TEXT PRIMARY KEY NOT NULL,
        argon2     TEXT NOT NULL,
        sealed     BLOB NOT NULL,
        changed_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE tickets (
        id         TEXT PRIMARY KEY NOT NULL,
        user       TEXT NOT NULL,
        desktop    TEXT NOT NULL,
        login      TEXT,
        sealed     BLOB NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX tickets_by_user ON tickets (user);",
    // 3: what rules about recordings and the audit log ask, and what is left of a deleted recording
    "ALTER TABLE sessions ADD COLUMN desktop_addr TEXT NOT NULL DEFAULT '';
    ALTER TABLE sessions ADD COLUMN labels TEXT NOT NULL DEFAULT '{}';
    ALTER TABLE sessions ADD COLUMN roles TEXT NOT NULL DEFAULT '[]';
    ALTER TABLE sessions ADD COLUMN decision TEXT;
    ALTER TABLE sessions ADD COLUMN manifest_sha256 TEXT;
    -- Why the recording must not be deleted; NULL = it may be.
    ALTER TABLE sessions ADD COLUMN hold TEXT;
    ALTER TABLE sessions ADD COLUMN deleted_ms INTEGER;
    ALTER TABLE sessions ADD COLUMN deleted_by TEXT;",
    // 4
    "CREATE TABLE resources (
        kind     TEXT NOT NULL,
        name     TEXT NOT NULL,
        origin   TEXT NOT NULL,
        revision INTEGER NOT NULL,
        document TEXT NOT NULL,
        base     TEXT NOT NULL,
        place    TEXT NOT NULL,
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;

    -- One row: the revision of the last change, and which configuration was stored last.
    CREATE TABLE resource_state (
        revision INTEGER NOT NULL,
        digest   TEXT NOT NULL
    ) STRICT;
    INSERT INTO resource_state VALUES (0, '');",
    // 5: recordings of other nodes, holds, deletions that take longer than one attempt, and what was last seen where
    "-- The node that recorded it; NULL = this one.
    ALTER TABLE sessions ADD COLUMN node TEXT;
    -- Whose key signed it, where it is another node's.
    ALTER TABLE sessions ADD COLUMN key_id TEXT;
    -- 1 = nobody who is trusted signed it: its facts are claims.
    ALTER TABLE sessions ADD COLUMN unproven INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE sessions ADD COLUMN held_ms INTEGER;
    ALTER TABLE sessions ADD COLUMN held_by TEXT;
    ALTER TABLE sessions ADD COLUMN deleted_why TEXT;
    -- When its deletion was tried last, for whom, why, and what is in the way.
    ALTER TABLE sessions ADD COLUMN doomed_ms INTEGER;
    ALTER TABLE sessions ADD COLUMN doomed_by TEXT;
    ALTER TABLE sessions ADD COLUMN doomed_why TEXT;
    ALTER TABLE sessions ADD COLUMN doomed_problem TEXT;
    CREATE INDEX sessions_doomed ON sessions (doomed_ms) WHERE doomed_ms IS NOT NULL;
    CREATE INDEX placements_by_storage ON placements (storage, session);
    CREATE TABLE syncs (
        storage   TEXT PRIMARY KEY NOT NULL,
        synced_ms INTEGER NOT NULL,
        problem   TEXT
    ) STRICT, WITHOUT ROWID;",
    // 6: what the pages sort by, and what was last found of a recording's seals
    "CREATE INDEX sessions_by_user ON sessions (user, id);
    CREATE INDEX sessions_by_duration ON sessions (coalesce(duration_ms, 0), id);
    CREATE TABLE reports (
        session TEXT PRIMARY KEY NOT NULL,
        report  TEXT NOT NULL
    ) STRICT, WITHOUT ROWID;",
    // 7
    LOCAL_AUTH,
    // 8: exports that async exporters make
    "-- 1 = closed, and nobody has said yet what is to be exported of it. What was closed before this column is not exported.
    ALTER TABLE sessions ADD COLUMN exports_due INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX sessions_exports_due ON sessions (id) WHERE exports_due = 1;
    CREATE TABLE exports (
        session   TEXT NOT NULL REFERENCES sessions (id),
        exporter  TEXT NOT NULL,
        state     TEXT NOT NULL,
        attempts  INTEGER NOT NULL DEFAULT 0,
        queued_ms INTEGER NOT NULL,
        next_ms   INTEGER NOT NULL,
        -- Who asked for it; NULL = the exporter's when.
        asked_by  TEXT,
        problem   TEXT,
        ended_ms  INTEGER,
        -- What was made, once it is; object is NULL until then.
        format    TEXT,
        object    TEXT,
        mime      TEXT,
        files     INTEGER,
        bytes     INTEGER,
        sha256    TEXT,
        notes     TEXT,
        storages  TEXT,
        PRIMARY KEY (session, exporter)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX exports_pending ON exports (next_ms) WHERE state = 'pending';
    CREATE INDEX exports_failed ON exports (session) WHERE state = 'failed';",
    // 9: sizes to sort by, and the texts of events to search
    "ALTER TABLE sessions ADD COLUMN bytes INTEGER NOT NULL DEFAULT 0;
    UPDATE sessions SET bytes = (SELECT coalesce(sum(g.bytes), 0) FROM segments g WHERE g.session = sessions.id);
    CREATE INDEX sessions_by_size ON sessions (bytes, id);
    CREATE TRIGGER segment_added AFTER INSERT ON segments BEGIN
        UPDATE sessions SET bytes = bytes + NEW.bytes WHERE id = NEW.session;
    END;
    CREATE TRIGGER segment_changed AFTER UPDATE OF bytes ON segments BEGIN
        UPDATE sessions SET bytes = bytes + NEW.bytes - OLD.bytes WHERE id = NEW.session;
    END;
    CREATE TRIGGER segment_gone AFTER DELETE ON segments BEGIN
        UPDATE sessions SET bytes = bytes - OLD.bytes WHERE id = OLD.session;
    END;

    -- What a session is called by in the tables that are searched, once it is in them; VACUUM may change a rowid, but not this.
    ALTER TABLE sessions ADD COLUMN n INTEGER;
    CREATE UNIQUE INDEX sessions_by_n ON sessions (n);
    -- Parts of words of the facts of sessions; those with words_read = 0 are not in it yet, or have changed since.
    CREATE VIRTUAL TABLE session_words USING fts5(user, login, desktop, labels, rest, tokenize = 'trigram');
    ALTER TABLE sessions ADD COLUMN words_read INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX sessions_unnamed ON sessions (id) WHERE words_read = 0;
    CREATE TRIGGER session_changed AFTER UPDATE OF user, login, desktop, desktop_addr, labels, client_name, client_addr,
        end_reason, problem ON sessions WHEN NEW.words_read = 1 BEGIN
        UPDATE sessions SET words_read = 0 WHERE id = NEW.id;
    END;
    -- What the events of recordings say; those with events_read = 0 are not in it yet.
    CREATE VIRTUAL TABLE event_texts USING fts5(text, tokenize = 'unicode61 remove_diacritics 2');
    INSERT INTO event_texts (event_texts, rank) VALUES ('secure-delete', 1);
    ALTER TABLE sessions ADD COLUMN events_read INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX sessions_unread ON sessions (started_ms)
        WHERE events_read = 0 AND state IN ('delivering', 'complete', 'recovered', 'damaged');
    CREATE TRIGGER session_deleted AFTER UPDATE OF state ON sessions WHEN NEW.state = 'deleted' AND NEW.n IS NOT NULL BEGIN
        DELETE FROM event_texts WHERE rowid = NEW.n;
    END;
    CREATE TRIGGER session_forgotten AFTER DELETE ON sessions WHEN OLD.n IS NOT NULL BEGIN
        DELETE FROM event_texts WHERE rowid = OLD.n;
        DELETE FROM session_words WHERE rowid = OLD.n;
    END;",
    // 10: who is signed in to the pages
    "CREATE TABLE sign_ins (
        -- SHA-256 of the cookie's value.
        token    BLOB PRIMARY KEY NOT NULL,
        user     TEXT NOT NULL,
        begun_ms INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;",
];

/// Takes password hashes and second factors of other systems out of users that were stored before they were dropped at once.
pub(super) const LOCAL_AUTH: &str = "UPDATE resources SET document = json_remove(document, '$.spec.local_auth')
    WHERE kind = 'user' AND json_valid(document) AND json_type(document, '$.spec.local_auth') IS NOT NULL;";

/// The version that this program reads and writes.
fn known() -> u32 {
    u32::try_from(MIGRATIONS.len()).unwrap_or(u32::MAX)
}

fn version(connection: &Connection, path: &Path) -> Result<u32> {
    connection
        .pragma_query_value(None, "user_version", |row| row.get(0))
        .map_err(|source| Error::Sql {
            action: "read the schema version",
            path: path.to_owned(),
            source,
        })
}

/// Brings the database to the current version, all steps in one transaction.
pub(super) fn migrate(connection: &mut Connection, path: &Path) -> Result<()> {
    let sql = |source| Error::Sql {
        action: "bring the schema up to date",
        path: path.to_owned(),
        source,
    };
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql)?;
    let found = version(&transaction, path)?;
    if found > known() {
        return Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: known(),
        });
    }
    for script in MIGRATIONS.iter().skip(found as usize) {
        transaction.execute_batch(script).map_err(sql)?;
    }
    transaction.pragma_update(None, "user_version", known()).map_err(sql)?;
    transaction.commit().map_err(sql)
}

/// Checks that a database opened for reading has the current version.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<()> {
    let found = version(connection, path)?;
    match found.cmp(&known()) {
        std::cmp::Ordering::Equal => Ok(()),
        std::cmp::Ordering::Less => Err(Error::Older {
            path: path.to_owned(),
            found,
            known: known(),
        }),
        std::cmp::Ordering::Greater => Err(Error::Newer {
            path: path.to_owned(),
            found,
            known: known(),
        }),
    }
}
