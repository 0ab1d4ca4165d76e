//! Against guessing: who fails too often is not listened to for a while, by address and by user.
//!
//! A refusal looks like a wrong password. Names that don't exist are counted like those that do.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Addresses and names that are remembered, each. When there are more, the oldest go: an attacker who can make that many
/// up has other means.
const ENTRIES_MAX: usize = 16_384;

/// Counts failed logons.
#[derive(Debug)]
pub(super) struct Guard {
    per_user_max: u32,
    per_address_max: u32,
    block: Duration,
    failures: Mutex<Failures>,
}

#[derive(Debug, Default)]
struct Failures {
    users: HashMap<String, Count>,
    addresses: HashMap<IpAddr, Count>,
}

#[derive(Debug, Clone, Copy)]
struct Count {
    failures: u32,
    last: Instant,
}

/// Which limit is reached, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Blocked {
    /// `gateway.logon_failures_max`
    User,
    /// `gateway.logon_failures_per_address_max`
    Address,
}

impl Guard {
    /// Limits as in `gateway.logon_failures_max`, `gateway.logon_failures_per_address_max`, `gateway.logon_block`.
    pub(super) fn new(per_user_max: u32, per_address_max: u32, block: Duration) -> Self {
        Self {
            per_user_max,
            per_address_max,
            block,
            failures: Mutex::default(),
        }
    }

    /// Whether a logon is listened to.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(super) fn check(&self, user: &str, address: IpAddr, now: Instant) -> Result<(), Blocked> {
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let reached = |count: Option<&Count>, max| {
            count.is_some_and(|count| count.failures >= max && now.saturating_duration_since(count.last) < self.block)
        };
        if reached(failures.addresses.get(&network(address)), self.per_address_max) {
            return Err(Blocked::Address);
        }
        if reached(failures.users.get(user), self.per_user_max) {
            return Err(Blocked::User);
        }
        Ok(())
    }

    /// Counts a failed logon.
    pub(super) fn failed(&self, user: &str, address: IpAddr, now: Instant) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        count(&mut failures.users, user.to_owned(), self.block, now);
        count(&mut failures.addresses, network(address), self.block, now);
    }

    /// Forgets the failures of a user who has logged on. Those of the address stay: an attacker may have an account too.
    pub(super) fn succeeded(&self, user: &str) {
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.users.remove(user);
    }
}

fn count<K: Eq + Hash + Clone>(counts: &mut HashMap<K, Count>, key: K, block: Duration, now: Instant) {
    if counts.len() >= ENTRIES_MAX && !counts.contains_key(&key) {
        counts.retain(|_, count| now.saturating_duration_since(count.last) < block);
        if counts.len() >= ENTRIES_MAX
            && let Some(oldest) = counts
                .iter()
                .min_by_key(|(_, count)| count.last)
                .map(|(key, _)| key.clone())
        {
            counts.remove(&oldest);
        }
    }
    let entry = counts.entry(key).or_insert(Count { failures: 0, last: now });
    if now.saturating_duration_since(entry.last) >= block {
        entry.failures = 0;
    }
    entry.failures = entry.failures.saturating_add(1);
    entry.last = now;
}

/// What one subscriber has: an IPv4 address, or a /64 of IPv6.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & !u128::from(u64::MAX);
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const BLOCK: Duration = Duration::from_secs(60);

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_user_is_blocked_from_everywhere_and_not_for_ever() {
        let guard = Guard::new(3, 100, BLOCK);
        let now = Instant::now();
        for _ in 0..3 {
            guard.check("alice", address("192.0.2.1"), now).unwrap();
            guard.failed("alice", address("192.0.2.1"), now);
        }
        assert_eq!(guard.check("alice", address("192.0.2.9"), now), Err(Blocked::User));
        guard.check("bob", address("192.0.2.1"), now).unwrap();
        guard.check("alice", address("192.0.2.9"), now + BLOCK).unwrap();
        // the count starts anew
        guard.failed("alice", address("192.0.2.1"), now + BLOCK);
        guard.check("alice", address("192.0.2.1"), now + BLOCK).unwrap();
    }

    #[test]
    fn an_address_is_blocked_for_all_names_and_a_success_does_not_help_it() {
        let guard = Guard::new(100, 3, BLOCK);
        let now = Instant::now();
        for name in ["a", "b", "c"] {
            guard.failed(name, address("2001:db8::1"), now);
            guard.succeeded(name);
        }
        assert_eq!(guard.check("d", address("2001:db8::ffff"), now), Err(Blocked::Address));
        guard.check("d", address("2001:db8:0:1::1"), now).unwrap();
    }

    #[test]
    fn memory_is_bounded_and_keeps_the_newest() {
        let guard = Guard::new(1, u32::MAX, BLOCK);
        let now = Instant::now();
        for index in 0..ENTRIES_MAX + 10 {
            let later = now + Duration::from_millis(index as u64);
            guard.failed(&format!("name {index}"), address("192.0.2.1"), later);
        }
        assert_eq!(guard.failures.lock().unwrap().users.len(), ENTRIES_MAX);
        let newest = format!("name {}", ENTRIES_MAX + 9);
        assert_eq!(guard.check(&newest, address("192.0.2.2"), now), Err(Blocked::User));
    }
}
