use std::time::Duration;

use deskreel_config::{ClaimedIdentity, Lock, LockTarget, LockingMode, Metadata, RoleOptions};
use deskreel_policy::{
    Cluster, Decision, Identity, LockedOut, Locks, Reason, UserFacts, Verdict, evaluate, lint_lock, locked_out,
};

use crate::world::{desktop, no_locks, now, opener, request, set, time, user, with_options};

fn lock(name: &str, target: LockTarget) -> Lock {
    Lock {
        metadata: Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        },
        target,
        message: Some(format!("message of {name}")),
        expires: None,
    }
}

fn on_user(user: &str) -> LockTarget {
    LockTarget {
        user: Some(user.to_owned()),
        ..LockTarget::default()
    }
}

fn on_login(login: &str) -> LockTarget {
    LockTarget {
        login: Some(login.to_owned()),
        ..LockTarget::default()
    }
}

fn locks(locks: Vec<Lock>) -> Locks {
    Locks { locks, ..no_locks() }
}

fn allowed() -> Decision {
    let roles = set(&[opener("all", &[("*", &["*"])], &["root"])]);
    let request = request(user("alice", &["all"]), Some(desktop("d", &[])), Some("root"));
    evaluate(&roles, &Cluster::default(), &no_locks(), &request)
}

fn denied_by(locks: &Locks, cluster: &Cluster, login: Option<&str>) -> Decision {
    let roles = set(&[opener("all", &[("*", &["*"])], &["root", "alice"])]);
    let request = request(user("alice", &["all"]), Some(desktop("d", &[])), login);
    evaluate(&roles, cluster, locks, &request)
}

#[test]
fn a_lock_holds_until_it_expires() {
    for (expires, in_force) in [
        (None, true),
        (Some("2026-02-01T00:00:01Z"), true),
        (Some("2026-02-01T00:00:00Z"), false),
        (Some("2026-01-31T23:59:59Z"), false),
    ] {
        let mut one = lock("l1", on_user("alice"));
        one.expires = expires.map(time);
        let mut other = lock("l1", on_user("alice"));
        other.metadata.expires = expires.map(time);
        for lock in [one, other] {
            let locks = locks(vec![lock]);
            let decision = denied_by(&locks, &Cluster::default(), Some("root"));
            assert_eq!(decision.reason == Some(Reason::Locked), in_force, "{expires:?}");
            assert_eq!(
                locked_out(&allowed(), None, &Cluster::default(), &locks, now()).is_some(),
                in_force
            );
            assert_eq!(locks.on_user("alice", &[], now()).is_some(), in_force);
        }
    }
}

/// The desktop lets alice in as ALICE too, so whoever is locked out must not come back that way.
#[test]
fn a_lock_holds_however_the_name_is_claimed() {
    let roles = set(&[opener("all", &[("*", &["*"])], &["root"])]);
    let cluster = Cluster {
        claimed_identity: ClaimedIdentity::Allow,
        claimed_roles: vec!["all".to_owned()],
        ..Cluster::default()
    };
    let locks = locks(vec![lock("l1", on_user("Alice"))]);
    for (name, is_locked) in [
        ("alice", true),
        ("ALICE", true),
        (r"CORP\alice", true),
        ("alice@corp.example", true),
        ("alic", false),
        (r"alice\bob", false),
    ] {
        let mut claim = request(UserFacts::unknown(name), Some(desktop("d", &[])), Some("root"));
        claim.identity = Identity::Claimed;
        let denied = evaluate(&roles, &cluster, &locks, &claim);
        assert_eq!(
            denied.reason == Some(Reason::Locked),
            is_locked,
            "{name}: {}",
            denied.why
        );
        let open = evaluate(&roles, &cluster, &no_locks(), &claim);
        assert_eq!(open.verdict, Verdict::Allow, "{name}: {}", open.why);
        let ended = locked_out(&open, None, &cluster, &locks, now());
        assert_eq!(ended.is_some(), is_locked, "{name}");
    }
    // a name that is proven is one user's
    let mut proven = allowed();
    proven.user = "ALICE".to_owned();
    assert_eq!(locked_out(&proven, None, &cluster, &locks, now()), None);
}

#[test]
fn the_client_is_told_the_message() {
    let decision = denied_by(
        &locks(vec![lock("l1", on_user("alice"))]),
        &Cluster::default(),
        Some("root"),
    );
    assert_eq!(decision.message, "message of l1");
    assert_eq!(decision.why, "lock l1 is in force on user alice");
    let mut silent = lock("l1", on_user("alice"));
    silent.message = Some("  ".to_owned());
    let decision = denied_by(&locks(vec![silent]), &Cluster::default(), Some("root"));
    assert_eq!(decision.message, "access is locked");
}

#[test]
fn a_login_is_locked_in_every_form() {
    let locks = locks(vec![lock("l1", on_login("ROOT"))]);
    for login in ["root", r".\root", r"CORP\root", "root@corp", r"a\b\root"] {
        let decision = denied_by(&locks, &Cluster::default(), Some(login));
        assert_eq!(decision.reason, Some(Reason::Locked), "{login}");
    }
    let open = denied_by(&locks, &Cluster::default(), None);
    assert_eq!(
        (open.verdict, open.logins),
        (Verdict::NeedLogin, vec!["alice".to_owned()])
    );
    let whole = denied_by(
        &self::locks(vec![lock("l1", on_login(r"CORP\root"))]),
        &Cluster::default(),
        Some("root"),
    );
    assert_eq!(whole.verdict, Verdict::Allow);
}

#[test]
fn running_sessions_end() {
    let decision = allowed();
    let cluster = Cluster::default();
    let ends = |target, login| locked_out(&decision, login, &cluster, &locks(vec![lock("l1", target)]), now());
    let locked = Some(LockedOut::Locked {
        name: "l1".to_owned(),
        message: "message of l1".to_owned(),
    });
    assert_eq!(ends(on_user("alice"), None), locked);
    assert_eq!(ends(on_login("Root"), None), locked);
    assert_eq!(ends(on_login("bob"), None), None);
    assert_eq!(
        ends(
            LockTarget {
                role: Some("all".to_owned()),
                ..LockTarget::default()
            },
            None
        ),
        locked
    );
    assert_eq!(
        ends(
            LockTarget {
                windows_desktop: Some("d".to_owned()),
                ..LockTarget::default()
            },
            None
        ),
        locked
    );
    assert_eq!(
        ends(
            LockTarget {
                windows_desktop: Some("D".to_owned()),
                ..LockTarget::default()
            },
            None
        ),
        None
    );
    assert_eq!(ends(LockTarget::default(), None), None);
    // a login that the Decision does not know yet
    let mut unknown = decision.clone();
    unknown.login = None;
    let target = locks(vec![lock("l1", on_login("root"))]);
    assert_eq!(locked_out(&unknown, None, &cluster, &target, now()), None);
    assert_eq!(
        locked_out(&unknown, Some(r"CORP\ROOT"), &cluster, &target, now()),
        locked
    );
}

#[test]
fn an_old_view_counts_as_the_mode_says() {
    let stale = Locks {
        viewed_at: now() - Duration::from_secs(301),
        ..no_locks()
    };
    let fresh = Locks {
        viewed_at: now() - Duration::from_secs(300),
        ..no_locks()
    };
    let ahead = Locks {
        viewed_at: now() + Duration::from_secs(9000),
        ..no_locks()
    };
    for (mode, role, strict) in [
        (LockingMode::Strict, None, true),
        (LockingMode::BestEffort, None, false),
        (LockingMode::Strict, Some(LockingMode::BestEffort), false),
        (LockingMode::BestEffort, Some(LockingMode::Strict), true),
    ] {
        let cluster = Cluster {
            locking_mode: mode,
            ..Cluster::default()
        };
        let roles = set(&[with_options(
            "a",
            RoleOptions {
                lock: role,
                ..RoleOptions::default()
            },
        )]);
        let request = request(user("alice", &["a"]), Some(desktop("d", &[])), Some("root"));
        let decision = evaluate(&roles, &cluster, &stale, &request);
        let reason = strict.then_some(Reason::LockViewStale);
        assert_eq!(decision.reason, reason, "{mode:?} {role:?}");
        assert_eq!(decision.warnings.is_empty(), strict);
        let running = evaluate(&roles, &cluster, &fresh, &request);
        assert_eq!((running.verdict, running.warnings.len()), (Verdict::Allow, 0));
        let ends = strict.then_some(LockedOut::ViewStale);
        assert_eq!(locked_out(&running, None, &cluster, &stale, now()), ends);
        assert_eq!(locked_out(&running, None, &cluster, &fresh, now()), None);
        assert_eq!(locked_out(&running, None, &cluster, &ahead, now()), None);
    }
}

#[test]
fn the_first_lock_by_name_is_told() {
    let two = locks(vec![lock("b", on_user("alice")), lock("a", on_login("root"))]);
    assert_eq!(
        denied_by(&two, &Cluster::default(), Some("root")).message,
        "message of a"
    );
}

#[test]
fn several_targets_are_a_lint() {
    assert_eq!(lint_lock(&lock("l", on_user("a"))), None);
    let both = LockTarget {
        user: Some("a".to_owned()),
        login: Some("b".to_owned()),
        ..LockTarget::default()
    };
    assert!(lint_lock(&lock("l", both)).unwrap().contains("each by itself"));
}

#[test]
fn a_lock_on_an_account_with_its_domain_ends_sessions_that_roles_name_without() {
    let mut decision = allowed();
    decision.login = Some("root".to_owned());
    let cluster = Cluster::default();
    let on_login = |login: &str| LockTarget {
        login: Some(login.to_owned()),
        ..LockTarget::default()
    };
    let ends =
        |target, login| locked_out(&decision, login, &cluster, &locks(vec![lock("l1", target)]), now()).is_some();
    assert!(ends(on_login("corp\\root"), Some("CORP\\root")));
    assert!(ends(on_login("root"), Some("CORP\\root")));
    assert!(!ends(on_login("lab\\root"), Some("CORP\\root")));
    assert!(!ends(on_login("corp\\root"), None));
}
