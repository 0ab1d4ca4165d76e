//! Passwords and tickets of local users. Secrets arrive here sealed and leave sealed.

use rusqlite::{OptionalExtension as _, Row, params};
use time::OffsetDateTime;

use super::write::to_ms;
use super::{Catalog, Result};

/// A password, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PasswordRow {
    /// Argon2id, in the format of password-hash (PHC).
    pub(crate) argon2: String,
    /// Sealed NT hash.
    pub(crate) sealed: Vec<u8>,
}

/// A ticket, as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TicketRow {
    /// Its number: tells tickets apart, opens nothing.
    pub(crate) id: String,
    /// Who may use it.
    pub(crate) user: String,
    /// Where it leads.
    pub(crate) desktop: String,
    /// As whom; `None` = as roles and desktop allow.
    pub(crate) login: Option<String>,
    /// Sealed NT hash of its secret.
    pub(crate) sealed: Vec<u8>,
    /// When it was made, in milliseconds of Unix time.
    pub(crate) created_ms: i64,
    /// From when on it is worth nothing.
    pub(crate) expires_ms: i64,
}

const TICKET: &str = "id, user, desktop, login, sealed, created_ms, expires_ms";

fn ticket(row: &Row<'_>) -> rusqlite::Result<TicketRow> {
    Ok(TicketRow {
        id: row.get(0)?,
        user: row.get(1)?,
        desktop: row.get(2)?,
        login: row.get(3)?,
        sealed: row.get(4)?,
        created_ms: row.get(5)?,
        expires_ms: row.get(6)?,
    })
}

impl Catalog {
    /// Sets or replaces a user's password.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn set_password(&self, user: &str, password: &PasswordRow, now: OffsetDateTime) -> Result<()> {
        self.lock()
            .execute(
                "INSERT OR REPLACE INTO passwords (user, argon2, sealed, changed_ms) VALUES (?1, ?2, ?3, ?4)",
                params![user, password.argon2, password.sealed, to_ms(now)],
            )
            .map(drop)
            .map_err(self.sql("set a password"))
    }

    /// A user's password.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn password(&self, user: &str) -> Result<Option<PasswordRow>> {
        self.lock()
            .query_row(
                "SELECT argon2, sealed FROM passwords WHERE user = ?1",
                params![user],
                |row| {
                    Ok(PasswordRow {
                        argon2: row.get(0)?,
                        sealed: row.get(1)?,
                    })
                },
            )
            .optional()
            .map_err(self.sql("read a password"))
    }

    /// Whether anybody could prove who it is: there is a password, or a live ticket.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn any_credentials(&self, now: OffsetDateTime) -> Result<bool> {
        self.lock()
            .query_row(
                "SELECT EXISTS (SELECT 1 FROM passwords) OR EXISTS (SELECT 1 FROM tickets WHERE expires_ms > ?1)",
                params![to_ms(now)],
                |row| row.get(0),
            )
            .map_err(self.sql("look for credentials"))
    }

    /// Adds a ticket and drops those that have expired; `false` if the user has `max` live ones already.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn add_ticket(&self, new: &TicketRow, max: u32, now: OffsetDateTime) -> Result<bool> {
        let sql = self.sql("add a ticket");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        transaction
            .execute("DELETE FROM tickets WHERE expires_ms <= ?1", params![to_ms(now)])
            .map_err(sql)?;
        let added = transaction
            .execute(
                "INSERT INTO tickets (id, user, desktop, login, sealed, created_ms, expires_ms)
                 SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7
                 WHERE (SELECT count(*) FROM tickets WHERE user = ?2) < ?8",
                params![
                    new.id,
                    new.user,
                    new.desktop,
                    new.login,
                    new.sealed,
                    new.created_ms,
                    new.expires_ms,
                    max
                ],
            )
            .map_err(sql)?;
        transaction.commit().map_err(sql)?;
        Ok(added > 0)
    }

    /// Live tickets, of `user` or of everybody, oldest first.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn tickets(&self, user: Option<&str>, now: OffsetDateTime) -> Result<Vec<TicketRow>> {
        let sql = self.sql("read tickets");
        let connection = self.lock();
        let mut statement = connection
            .prepare(&format!(
                "SELECT {TICKET} FROM tickets WHERE expires_ms > ?1 AND (?2 IS NULL OR user = ?2) ORDER BY created_ms, id"
            ))
            .map_err(sql)?;
        let rows = statement.query_map(params![to_ms(now), user], ticket).map_err(sql)?;
        rows.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    /// Takes a live ticket out, so that nobody uses it again; `false` if it is not there any more.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn take_ticket(&self, id: &str, now: OffsetDateTime) -> Result<bool> {
        self.lock()
            .execute(
                "DELETE FROM tickets WHERE id = ?1 AND expires_ms > ?2",
                params![id, to_ms(now)],
            )
            .map(|rows| rows > 0)
            .map_err(self.sql("take a ticket"))
    }
}
