//! One-time tickets: a secret that lets one user into one desktop, once, soon.

use std::time::Duration;

use anyhow::bail;
use rand::Rng as _;
use time::OffsetDateTime;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::{Credentials, password::nt_hash};
use crate::catalog::TicketRow;

/// Live tickets of one user: each is one more secret that a guess could hit.
const TICKETS_PER_USER_MAX: u32 = 16;
/// The longest that a ticket lives.
const TTL_MAX: Duration = Duration::from_secs(24 * 3600);
/// Characters of a secret, 5 bits each, without those that look like others.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
const GROUPS: usize = 5;
const GROUP_CHARACTERS: usize = 5;

/// A ticket to be made.
#[derive(Debug, Clone)]
pub(crate) struct NewTicket {
    /// Who may use it.
    pub(crate) user: String,
    /// Where it leads.
    pub(crate) desktop: String,
    /// As whom; `None` = as roles and desktop allow.
    pub(crate) login: Option<String>,
    /// How long it lives.
    pub(crate) ttl: Duration,
}

/// A ticket without its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ticket {
    /// Its number.
    pub(crate) id: String,
    /// Who may use it.
    pub(crate) user: String,
    /// Where it leads.
    pub(crate) desktop: String,
    /// As whom.
    pub(crate) login: Option<String>,
    /// When it was made.
    pub(crate) created: OffsetDateTime,
    /// From when on it is worth nothing.
    pub(crate) expires: OffsetDateTime,
}

impl From<TicketRow> for Ticket {
    fn from(row: TicketRow) -> Self {
        let time = |ms: i64| {
            OffsetDateTime::from_unix_timestamp_nanos(i128::from(ms) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
        };
        Self {
            created: time(row.created_ms),
            expires: time(row.expires_ms),
            id: row.id,
            user: row.user,
            desktop: row.desktop,
            login: row.login,
        }
    }
}

impl Credentials {
    /// Makes a ticket; the secret is told once and never again.
    ///
    /// # Errors
    /// A life of no time or of more than a day, too many live tickets of the user, the store's.
    pub(crate) fn issue_ticket(&self, new: NewTicket) -> anyhow::Result<(Ticket, Zeroizing<String>)> {
        if new.ttl.is_zero() || new.ttl > TTL_MAX {
            bail!("a ticket lives from 1ms to {}h", TTL_MAX.as_secs() / 3600);
        }
        let secret = secret();
        let id = Uuid::new_v7(uuid::Timestamp::now(uuid::NoContext)).to_string();
        let now = OffsetDateTime::now_utc();
        let ms = |time: OffsetDateTime| i64::try_from(time.unix_timestamp_nanos() / 1_000_000).unwrap_or(i64::MAX);
        let row = TicketRow {
            sealed: self.sealer.seal(&place(&id), &nt_hash(&secret))?,
            id,
            user: new.user,
            desktop: new.desktop,
            login: new.login,
            created_ms: ms(now),
            expires_ms: ms(now + new.ttl),
        };
        if !self.catalog.add_ticket(&row, TICKETS_PER_USER_MAX, now)? {
            bail!("{} has {TICKETS_PER_USER_MAX} tickets already; remove one", row.user);
        }
        Ok((row.into(), secret))
    }

    /// All live tickets, oldest first.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn tickets(&self) -> anyhow::Result<Vec<Ticket>> {
        let rows = self.catalog.tickets(None, OffsetDateTime::now_utc())?;
        Ok(rows.into_iter().map(Ticket::from).collect())
    }

    /// Takes a ticket out: to use it, or to withdraw it. `false` = it is not there any more, or has expired: it counts
    /// for nothing then.
    ///
    /// # Errors
    /// The store's.
    pub(crate) fn take_ticket(&self, id: &str) -> anyhow::Result<bool> {
        Ok(self.catalog.take_ticket(id, OffsetDateTime::now_utc())?)
    }
}

/// What a ticket's secret is sealed for.
pub(super) fn place(id: &str) -> String {
    format!("ticket:{id}")
}

/// 125 random bits, in groups.
fn secret() -> Zeroizing<String> {
    let mut random = Zeroizing::new([0; GROUPS * GROUP_CHARACTERS]);
    rand::rng().fill_bytes(random.as_mut());
    let mut secret = Zeroizing::new(String::with_capacity(random.len() + GROUPS));
    for (index, byte) in random.iter().enumerate() {
        if index > 0 && index % GROUP_CHARACTERS == 0 {
            secret.push('-');
        }
        secret.push(char::from(ALPHABET[usize::from(byte & 31)]));
    }
    secret
}
