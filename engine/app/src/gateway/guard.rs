//! Against guessing: who fails too often is not listened to for a while.
//!
//! A logon counts as failed from the moment it is checked until it turns out right, so that many at once are no more than
//! many in a row. Three things are counted, each for another attack:
//!
//! - one name at one address: after some tries each further one has to wait twice as long as the one before;
//! - one name from everywhere: a bucket that holds `logon_failures_max` and runs empty within `logon_block`. An address from
//!   which the user has logged on lately has no part in it, so that nobody can lock a user out of the own desk;
//! - one address with all names: another bucket, of `logon_failures_per_address_max`.
//!
//! A refusal looks like a wrong password. Names that don't exist are counted like those that do.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::limits::network;

/// Rows of each table. When there are more, those that mean least go: an attacker who can make that many up has other means.
const ROWS_MAX: usize = 16_384;
/// Failures of one name at one address that cost no wait: people mistype.
const FREE_FAILURES: u32 = 3;
/// The wait after those; it doubles with each further failure, up to `gateway.logon_block`.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// What is allowed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GuardLimits {
    /// `gateway.logon_failures_max`
    pub(crate) per_user_max: u32,
    /// `gateway.logon_failures_per_address_max`
    pub(crate) per_address_max: u32,
    /// `gateway.logon_block`
    pub(crate) block: Duration,
    /// `gateway.logon_trust`
    pub(crate) trust: Duration,
}

/// Counts failed logons.
#[derive(Debug)]
pub(crate) struct Guard {
    limits: GuardLimits,
    counts: Mutex<Counts>,
    /// Turns names, which may be long, into numbers that nobody can foresee.
    names: RandomState,
}

/// A name at an address.
type Pair = (u64, IpAddr);

#[derive(Debug, Default)]
struct Counts {
    pairs: Table<Pair, Tries>,
    users: Table<u64, Bucket>,
    addresses: Table<IpAddr, Bucket>,
    /// Until when a user's address is known.
    trusted: Table<Pair, Instant>,
    /// Until when the audit log need not hear of a refusal again: of a name, of an address (name 0), of one at the other.
    told: Table<(u64, Option<IpAddr>), Instant>,
}

/// Why a logon is not listened to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blocked {
    /// The name has failed at this address, and has to wait.
    Wait,
    /// `gateway.logon_failures_max`
    User,
    /// `gateway.logon_failures_per_address_max`
    Address,
}

/// A logon that is being checked. It has failed when this is dropped.
#[derive(Debug)]
#[must_use = "dropped, it counts as a failure"]
pub(crate) struct Attempt<'a> {
    guard: &'a Guard,
    pair: Pair,
    at: Instant,
    /// Whether the user's bucket counts it.
    is_trusted: bool,
    is_settled: bool,
}

impl Guard {
    pub(crate) fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            counts: Mutex::default(),
            names: RandomState::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody at `address` is listened to.
    pub(crate) fn is_blocked(&self, address: IpAddr, now: Instant) -> bool {
        let GuardLimits {
            per_address_max, block, ..
        } = self.limits;
        let counts = self.lock();
        let bucket = counts.addresses.get(&network(address));
        bucket.is_some_and(|bucket| bucket.is_full(per_address_max, block, now))
    }

    /// Whether the audit log should hear that nobody listens to `user` (here or anywhere) or to `address`: once within
    /// `gateway.logon_block` each. Who goes on guessing doesn't fill it.
    pub(crate) fn is_news(&self, block: Blocked, user: &str, address: IpAddr, now: Instant) -> bool {
        let key = match block {
            Blocked::Wait => (self.names.hash_one(user), Some(network(address))),
            Blocked::User => (self.names.hash_one(user), None),
            Blocked::Address => (0, Some(network(address))),
        };
        let mut counts = self.lock();
        if counts.told.get(&key).is_some_and(|until| *until > now) {
            return false;
        }
        let until = now + self.limits.block;
        *counts.told.row(key, now, || until) = until;
        true
    }

    /// Listens to one logon, and counts it until it has turned out right.
    ///
    /// # Errors
    /// The limit that is reached; nothing is counted then.
    pub(crate) fn listen(&self, user: &str, address: IpAddr, now: Instant) -> Result<Attempt<'_>, Blocked> {
        let GuardLimits {
            per_user_max,
            per_address_max,
            block,
            ..
        } = self.limits;
        let address = network(address);
        let user = self.names.hash_one(user);
        let pair = (user, address);
        let mut guarded = self.lock();
        let counts = &mut *guarded;
        let is_trusted = counts.trusted.get(&pair).is_some_and(|until| *until > now);
        let is_full = |bucket: Option<&Bucket>, max| bucket.is_some_and(|bucket| bucket.is_full(max, block, now));
        let tries = counts.pairs.get(&pair);
        if tries.is_some_and(|tries| !tries.may_go(per_user_max, block, now)) {
            return Err(Blocked::Wait);
        }
        if !is_trusted && is_full(counts.addresses.get(&address), per_address_max) {
            return Err(Blocked::Address);
        }
        if !is_trusted && is_full(counts.users.get(&user), per_user_max) {
            return Err(Blocked::User);
        }
        counts.pairs.row(pair, now, || Tries::new(now)).begin(now);
        let of_address = counts.addresses.row(address, now, || Bucket::new(now));
        of_address.put(per_address_max, block, now);
        if !is_trusted {
            let of_user = counts.users.row(user, now, || Bucket::new(now));
            of_user.put(per_user_max, block, now);
        }
        drop(guarded);
        Ok(Attempt {
            guard: self,
            pair,
            at: now,
            is_trusted,
            is_settled: false,
        })
    }
}

impl Attempt<'_> {
    /// The user has logged on: what failed at this address before is forgiven, and the address is the user's own for a while.
    pub(crate) fn succeeded(mut self) {
        let (user, address) = self.pair;
        let GuardLimits { trust, .. } = self.guard.limits;
        let mut counts = self.guard.lock();
        let mut forgiven = 1;
        if let Some(tries) = counts.pairs.get_mut(&self.pair) {
            forgiven += tries.failures;
            tries.failures = 0;
            tries.pending = tries.pending.saturating_sub(1);
        }
        self.give_back(&mut counts, forgiven);
        if !trust.is_zero() {
            let until = self.at + trust;
            *counts.trusted.row((user, address), self.at, || until) = until;
        }
        drop(counts);
        self.is_settled = true;
    }

    /// It was no guess.
    pub(crate) fn cancelled(mut self) {
        let mut counts = self.guard.lock();
        if let Some(tries) = counts.pairs.get_mut(&self.pair) {
            tries.pending = tries.pending.saturating_sub(1);
        }
        self.give_back(&mut counts, 1);
        drop(counts);
        self.is_settled = true;
    }

    fn give_back(&self, counts: &mut Counts, tries: u32) {
        let (user, address) = self.pair;
        let GuardLimits {
            per_user_max,
            per_address_max,
            block,
            ..
        } = self.guard.limits;
        if let Some(bucket) = counts.users.get_mut(&user).filter(|_| !self.is_trusted) {
            bucket.take(tries, per_user_max, block, self.at);
        }
        if let Some(bucket) = counts.addresses.get_mut(&address) {
            bucket.take(tries, per_address_max, block, self.at);
        }
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_settled {
            return;
        }
        let mut counts = self.guard.lock();
        if let Some(tries) = counts.pairs.get_mut(&self.pair) {
            tries.pending = tries.pending.saturating_sub(1);
            tries.failures = tries.failures.saturating_add(1);
            tries.last = tries.last.max(self.at);
            tries.forgotten = tries.last + 2 * self.guard.limits.block;
        }
    }
}

/// The tries of one name at one address.
#[derive(Debug, Clone, Copy)]
struct Tries {
    failures: u32,
    /// Checked just now.
    pending: u32,
    /// When the last one that failed was begun.
    last: Instant,
    /// When the failures count no more.
    forgotten: Instant,
}

impl Tries {
    fn new(now: Instant) -> Self {
        Self {
            failures: 0,
            pending: 0,
            last: now,
            forgotten: now,
        }
    }

    /// Whether one more may be checked now: several at once only as long as nothing has failed often.
    fn may_go(&self, at_once_max: u32, block: Duration, now: Instant) -> bool {
        let failures = self.failures_now(now);
        if failures < FREE_FAILURES {
            return failures.saturating_add(self.pending) < at_once_max.max(FREE_FAILURES);
        }
        let doublings = (failures - FREE_FAILURES).min(31);
        let wait = FIRST_WAIT.saturating_mul(1 << doublings).min(block);
        self.pending == 0 && now.saturating_duration_since(self.last) >= wait
    }

    fn failures_now(&self, now: Instant) -> u32 {
        if self.forgotten <= now { 0 } else { self.failures }
    }

    fn begin(&mut self, now: Instant) {
        self.failures = self.failures_now(now);
        self.pending += 1;
    }
}

/// Failures of a kind: as many as fit drain away within a time.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    empty_at: Instant,
}

impl Bucket {
    fn new(now: Instant) -> Self {
        Self { empty_at: now }
    }

    /// Whether one more would not fit.
    fn is_full(&self, max: u32, block: Duration, now: Instant) -> bool {
        self.empty_at.saturating_duration_since(now) + block / max > block
    }

    fn put(&mut self, max: u32, block: Duration, now: Instant) {
        self.empty_at = self.empty_at.max(now) + block / max;
    }

    fn take(&mut self, count: u32, max: u32, block: Duration, now: Instant) {
        let less = (block / max).saturating_mul(count);
        self.empty_at = self.empty_at.checked_sub(less).unwrap_or(now).max(now);
    }
}

/// When a row means nothing any more.
trait Expires {
    fn expires(&self) -> Instant;

    /// Whether it must stay all the same.
    fn in_use(&self) -> bool {
        false
    }
}

impl Expires for Tries {
    fn expires(&self) -> Instant {
        self.forgotten
    }

    fn in_use(&self) -> bool {
        self.pending > 0
    }
}

impl Expires for Bucket {
    fn expires(&self) -> Instant {
        self.empty_at
    }
}

impl Expires for Instant {
    fn expires(&self) -> Instant {
        *self
    }
}

/// At most [`ROWS_MAX`] rows, and those in use.
#[derive(Debug)]
struct Table<K, V> {
    rows: HashMap<K, V>,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self { rows: HashMap::new() }
    }
}

impl<K: Eq + Hash + Copy, V: Expires> Table<K, V> {
    fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.rows.get_mut(key)
    }

    /// The row of `key`, made by `new` if there is none.
    fn row(&mut self, key: K, now: Instant, new: impl FnOnce() -> V) -> &mut V {
        if self.rows.len() >= ROWS_MAX && !self.rows.contains_key(&key) {
            self.rows.retain(|_, row| row.in_use() || row.expires() > now);
            let least = self.rows.iter().filter(|(_, row)| !row.in_use());
            let least = least.min_by_key(|(_, row)| row.expires()).map(|(key, _)| *key);
            if let Some(least) = least.filter(|_| self.rows.len() >= ROWS_MAX) {
                self.rows.remove(&least);
            }
        }
        self.rows.entry(key).or_insert_with(new)
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
