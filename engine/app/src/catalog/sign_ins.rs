//! Who is signed in to the pages: what stands for the cookies, never the cookies.

use rusqlite::{OptionalExtension as _, params};
use time::OffsetDateTime;

use super::query::from_ms;
use super::write::to_ms;
use super::{Catalog, Result};

/// Somebody who signed in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SignIn {
    /// SHA-256 of the cookie's value.
    pub(crate) token: [u8; 32],
    /// Who.
    pub(crate) user: String,
    /// When.
    pub(crate) begun: OffsetDateTime,
}

impl Catalog {
    /// All sign-ins that were not ended.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn sign_ins(&self) -> Result<Vec<SignIn>> {
        let sql = self.sql("read the sign-ins");
        let connection = self.lock();
        let mut statement = connection
            .prepare_cached("SELECT token, user, begun_ms FROM sign_ins")
            .map_err(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(SignIn {
                token: row.get(0)?,
                user: row.get(1)?,
                begun: from_ms(row.get(2)?),
            })
        });
        rows.map_err(sql)?.collect::<rusqlite::Result<_>>().map_err(sql)
    }

    /// Somebody has signed in.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn signed_in(&self, sign_in: &SignIn) -> Result<()> {
        let sql = "INSERT INTO sign_ins (token, user, begun_ms) VALUES (?1, ?2, ?3)";
        let SignIn { token, user, begun } = sign_in;
        let kept = self.lock().execute(sql, params![token, user, to_ms(*begun)]);
        kept.map(drop).map_err(self.sql("keep a sign-in"))
    }

    /// These sign-ins are over.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn signed_out(&self, tokens: &[[u8; 32]]) -> Result<()> {
        let sql = self.sql("end sign-ins");
        let mut connection = self.lock();
        let transaction = connection.transaction().map_err(sql)?;
        for token in tokens {
            transaction
                .execute("DELETE FROM sign_ins WHERE token = ?1", [token])
                .map_err(sql)?;
        }
        transaction.commit().map_err(sql)
    }

    /// When a user's password was set; `None`: there is none.
    ///
    /// # Errors
    /// SQLite failures.
    pub(crate) fn password_set(&self, user: &str) -> Result<Option<OffsetDateTime>> {
        let connection = self.lock();
        let set = connection
            .query_row("SELECT changed_ms FROM passwords WHERE user = ?1", [user], |row| {
                row.get(0)
            })
            .optional();
        Ok(set.map_err(self.sql("read when a password was set"))?.map(from_ms))
    }
}
