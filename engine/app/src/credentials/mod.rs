//! What local users prove themselves with: passwords and one-time tickets.
//!
//! A password is kept twice: as argon2id for clients that send it (TLS), and as a sealed NT hash for clients that only
//! show that they know it (NLA). A ticket's secret is random, so its NT hash serves both.

mod key;
mod password;
mod ticket;

#[cfg(test)]
mod tests;

use std::path::Path;

use anyhow::Context as _;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher as _, PasswordVerifier as _, SaltString};
use rand::Rng as _;
use time::OffsetDateTime;
use tracing::warn;
use zeroize::Zeroizing;

pub(crate) use key::NtHash;
use key::Sealer;
use password::nt_hash;
pub(crate) use password::read_new_password;
pub(crate) use ticket::{NewTicket, Ticket};

use crate::catalog::{Catalog, PasswordRow};

/// The store. Every call blocks: a few milliseconds for the database, some tens for argon2.
#[derive(Debug)]
pub(crate) struct Credentials {
    catalog: Catalog,
    sealer: Sealer,
    /// Checked in place of a user's that is not there, so that both take the same time.
    nobody: PasswordRow,
}

/// Something that a user may know, and what it is worth.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    /// What a client's answer is checked against.
    pub(crate) hash: NtHash,
    /// What it proves.
    pub(crate) proof: Proof,
}

/// What proves a user's name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Proof {
    /// The password.
    Password,
    /// A ticket; it has to be taken out before it counts.
    Ticket(Ticket),
    /// Nothing: the user has neither. Whoever matches this has guessed a random number.
    Nobody,
}

impl Credentials {
    /// Opens the store of `data_dir`, with catalog and key; makes both if they are not there.
    ///
    /// # Errors
    /// Either can't be opened.
    pub(crate) fn open(data_dir: &Path) -> anyhow::Result<Self> {
        let catalog = Catalog::open(data_dir).context("open the catalog")?;
        let sealer = Sealer::open(data_dir)?;
        let mut random = Zeroizing::new([0; 16]);
        rand::rng().fill_bytes(random.as_mut());
        let nobody = PasswordRow {
            argon2: argon2(&hex::encode(random.as_ref()))?,
            sealed: sealer.seal(NOBODY, &random)?,
        };
        Ok(Self {
            catalog,
            sealer,
            nobody,
        })
    }

    /// Sets a user's password.
    ///
    /// # Errors
    /// [`password::PasswordError`], or the store's.
    pub(crate) fn set_password(&self, user: &str, password: &Zeroizing<String>) -> anyhow::Result<()> {
        password::check(password)?;
        let row = PasswordRow {
            argon2: argon2(password)?,
            sealed: self.sealer.seal(&password_place(user), &nt_hash(password))?,
        };
        Ok(self.catalog.set_password(user, &row, OffsetDateTime::now_utc())?)
    }

    /// Whether a user has a password.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn has_password(&self, user: &str) -> anyhow::Result<bool> {
        Ok(self.catalog.password(user)?.is_some())
    }

    /// Whether anybody could log on by NLA at all.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn any(&self) -> anyhow::Result<bool> {
        Ok(self.catalog.any_credentials(OffsetDateTime::now_utc())?)
    }

    /// All that `user` may know just now; never empty.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn candidates(&self, user: &str, now: OffsetDateTime) -> anyhow::Result<Vec<Candidate>> {
        let password = self.catalog.password(user)?;
        let tickets = self.catalog.tickets(Some(user), now)?;
        let (place, sealed, proof) = match &password {
            Some(row) => (password_place(user), &row.sealed, Proof::Password),
            None => (NOBODY.to_owned(), &self.nobody.sealed, Proof::Nobody),
        };
        let mut candidates = Vec::new();
        match self.sealer.open_sealed(&place, sealed) {
            Some(hash) => candidates.push(Candidate { hash, proof }),
            None => warn!(
                user,
                "the password was sealed with another credentials.key; set it again"
            ),
        }
        for row in tickets {
            match self.sealer.open_sealed(&ticket::place(&row.id), &row.sealed) {
                Some(hash) => candidates.push(Candidate {
                    hash,
                    proof: Proof::Ticket(row.into()),
                }),
                None => warn!(ticket = row.id, "the ticket was sealed with another credentials.key"),
            }
        }
        Ok(candidates)
    }

    /// What `password` proves of `user`; `None` = nothing. Takes as long for a user who has none.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn verify(&self, user: &str, password: &str, now: OffsetDateTime) -> anyhow::Result<Option<Proof>> {
        let row = self.catalog.password(user)?;
        let known = row.as_ref().unwrap_or(&self.nobody);
        let parsed = PasswordHash::new(&known.argon2)
            .map_err(|error| anyhow::anyhow!("the stored password of {user} is damaged: {error}"))?;
        let right = Argon2::default().verify_password(password.as_bytes(), &parsed).is_ok();
        if right && row.is_some() {
            return Ok(Some(Proof::Password));
        }
        let hash = nt_hash(password);
        let candidates = self.candidates(user, now)?;
        let ticket = candidates
            .into_iter()
            .find(|candidate| matches!(candidate.proof, Proof::Ticket(_)) && same(&candidate.hash, &hash));
        Ok(ticket.map(|candidate| candidate.proof))
    }
}

/// In the same time wherever the first difference is.
fn same(a: &NtHash, b: &NtHash) -> bool {
    a.iter()
        .zip(b.iter())
        .fold(0, |differences, (a, b)| differences | (a ^ b))
        == 0
}

/// What the secret of a name that is not there is sealed for.
const NOBODY: &str = "nobody";

fn password_place(user: &str) -> String {
    format!("password:{user}")
}

fn argon2(password: &str) -> anyhow::Result<String> {
    let mut salt = [0; 16];
    rand::rng().fill_bytes(&mut salt);
    let failed = |error: argon2::password_hash::Error| anyhow::anyhow!("hash a password: {error}");
    let salt = SaltString::encode_b64(&salt).map_err(failed)?;
    let hash = Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map_err(failed)?;
    Ok(hash.to_string())
}
