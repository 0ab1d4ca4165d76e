#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;

const BLOCK: Duration = Duration::from_secs(300);
const HOUR: Duration = Duration::from_secs(3600);

fn guard(per_user_max: u32, per_address_max: u32) -> Guard {
    Guard::new(GuardLimits {
        per_user_max,
        per_address_max,
        block: BLOCK,
        trust: HOUR,
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// One address of many.
fn other(index: u32) -> IpAddr {
    IpAddr::from((0x0A00_0000 + index).to_be_bytes())
}

impl Guard {
    fn fail(&self, user: &str, address: IpAddr, now: Instant) -> Result<(), Blocked> {
        self.listen(user, address, now).map(drop)
    }

    fn succeed(&self, user: &str, address: IpAddr, now: Instant) -> Result<(), Blocked> {
        self.listen(user, address, now).map(Attempt::succeeded)
    }
}

#[test]
fn many_at_once_are_no_more_than_many_in_a_row() {
    let guard = guard(5, 100);
    let now = Instant::now();
    let here = address("192.0.2.1");
    let held: Vec<_> = (0..20).map_while(|_| guard.listen("alice", here, now).ok()).collect();
    assert_eq!(held.len(), 5);
    drop(held);
    assert_eq!(guard.fail("alice", here, now).unwrap_err(), Blocked::Wait);
    // and from many addresses at once
    let held: Vec<_> = (0..20)
        .map_while(|index| guard.listen("bob", other(index), now).ok())
        .collect();
    assert_eq!(held.len(), 5);
    let address = address("198.51.100.7");
    assert_eq!(guard.fail("bob", address, now).unwrap_err(), Blocked::User);
}

#[test]
fn each_failure_at_one_address_doubles_the_wait() {
    let guard = guard(10_000, 10_000);
    let here = address("192.0.2.1");
    let mut now = Instant::now();
    for _ in 0..FREE_FAILURES {
        guard.fail("alice", here, now).unwrap();
    }
    for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let wait = Duration::from_secs(wait);
        let early = now + wait - Duration::from_millis(1);
        assert_eq!(guard.fail("alice", here, early).unwrap_err(), Blocked::Wait, "{wait:?}");
        // others there go on, and the name elsewhere
        guard.succeed("bob", here, early).unwrap();
        guard.succeed("alice", address("192.0.2.2"), early).unwrap();
        now += wait;
        guard.fail("alice", here, now).unwrap();
    }
    // long afterwards it is as if nothing had been
    now += 2 * BLOCK;
    for _ in 0..FREE_FAILURES {
        guard.fail("alice", here, now).unwrap();
    }
}

#[test]
fn nobody_locks_a_user_out_of_the_own_desk() {
    let guard = guard(5, 100);
    let now = Instant::now();
    let desk = address("192.0.2.1");
    guard.succeed("alice", desk, now).unwrap();
    for index in 0..5 {
        guard.fail("alice", other(index), now).unwrap();
    }
    assert_eq!(guard.fail("alice", other(9), now).unwrap_err(), Blocked::User);
    guard.succeed("alice", desk, now).unwrap();
    // at the own desk mistyping is no business of the others
    guard.fail("alice", desk, now).unwrap();
    guard.succeed("alice", desk, now).unwrap();
    assert_eq!(guard.fail("alice", other(9), now).unwrap_err(), Blocked::User);
    // a fifth of the block later, one fits in again
    let later = now + BLOCK / 5;
    guard.fail("alice", other(9), later).unwrap();
    assert_eq!(guard.fail("alice", other(10), later).unwrap_err(), Blocked::User);
    // the desk is forgotten some day
    let late = now + HOUR + BLOCK;
    for index in 0..5 {
        guard.fail("alice", other(index), late).unwrap();
    }
    assert_eq!(guard.succeed("alice", desk, late).unwrap_err(), Blocked::User);
}

#[test]
fn an_address_is_blocked_for_all_names_and_a_success_does_not_help_it() {
    let guard = guard(100, 3);
    let now = Instant::now();
    let here = address("2001:db8::1");
    for name in ["a", "b", "c"] {
        assert!(!guard.is_blocked(here, now));
        guard.succeed("mallory", address("2001:db8::2"), now).unwrap();
        guard.fail(name, here, now).unwrap();
    }
    assert!(guard.is_blocked(address("2001:db8::ffff"), now), "a /64 is one address");
    assert_eq!(
        guard.fail("d", address("2001:db8::ffff"), now).unwrap_err(),
        Blocked::Address
    );
    guard
        .succeed("mallory", here, now)
        .expect("who has logged on from here may again");
    assert!(guard.is_blocked(here, now));
    guard.fail("d", address("2001:db8:0:1::1"), now).unwrap();
    assert!(!guard.is_blocked(here, now + BLOCK));
}

#[test]
fn who_logs_on_is_forgiven_and_what_was_no_guess_does_not_count() {
    let guard = guard(3, 3);
    let now = Instant::now();
    let here = address("192.0.2.1");
    for _ in 0..20 {
        guard.fail("alice", here, now).unwrap();
        guard.fail("alice", here, now).unwrap();
        guard.succeed("alice", here, now).unwrap();
        guard.listen("alice", here, now).unwrap().cancelled();
    }
    assert!(!guard.is_blocked(here, now));
    let counts = guard.lock();
    assert!(
        counts
            .pairs
            .rows
            .values()
            .all(|tries| tries.pending == 0 && tries.failures == 0)
    );
}

#[test]
fn memory_is_bounded_and_what_is_checked_stays() {
    let guard = guard(1, u32::MAX);
    let now = Instant::now();
    let held = guard.listen("alice", other(0), now).unwrap();
    for index in 0..u32::try_from(ROWS_MAX).unwrap() + 10 {
        let later = now + Duration::from_millis(index.into());
        guard.fail(&format!("name {index}"), other(index), later).unwrap();
    }
    let counts = guard.lock();
    assert!(counts.users.rows.len() <= ROWS_MAX && counts.pairs.rows.len() <= ROWS_MAX);
    assert_eq!(counts.pairs.rows.values().filter(|tries| tries.pending == 1).count(), 1);
    drop(counts);
    let newest = format!("name {}", ROWS_MAX + 9);
    assert_eq!(guard.fail(&newest, other(77), now).unwrap_err(), Blocked::User);
    drop(held);
    assert!(guard.lock().pairs.rows.values().all(|tries| tries.pending == 0));
}

#[test]
fn a_block_is_news_once() {
    let guard = guard(5, 100);
    let now = Instant::now();
    let (here, there) = (address("192.0.2.1"), address("198.51.100.7"));
    // who mistypes at the own desk hides nothing of what others do elsewhere
    assert!(guard.is_news(Blocked::Wait, "alice", here, now));
    assert!(!guard.is_news(Blocked::Wait, "alice", here, now));
    assert!(guard.is_news(Blocked::Wait, "alice", there, now));
    assert!(guard.is_news(Blocked::User, "alice", here, now));
    // many addresses guess at one name
    assert!(!guard.is_news(Blocked::User, "alice", there, now));
    assert!(guard.is_news(Blocked::User, "bob", here, now));
    // one address guesses at many names
    assert!(guard.is_news(Blocked::Address, "alice", here, now));
    assert!(!guard.is_news(Blocked::Address, "bob", here, now + BLOCK / 2));
    assert!(guard.is_news(Blocked::Address, "bob", there, now));
    assert!(guard.is_news(Blocked::Address, "alice", here, now + BLOCK));
    assert!(guard.is_news(Blocked::User, "alice", here, now + BLOCK));
}
