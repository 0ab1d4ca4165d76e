//! What can't be read never widens access.

use super::*;

#[test]
fn what_cannot_be_read_never_widens_access() {
    let desktop = "kind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h}\n---\n";
    let dev = role(
        "dev",
        "{allow: {windows_desktop_labels: {'*': '*'}, windows_desktop_logins: [a]}}",
    );
    let user = "---\nkind: user\nversion: v2\nmetadata: {name: alice}\nspec: {roles: [dev]}\n";
    let bed = Bed::new("", "");
    bed.create(&format!("{desktop}{dev}{user}"), Force::Create).unwrap();
    let ask = |view: &View| {
        let ask = Ask {
            user: "alice",
            identity: Identity::Proven { by: ProvenBy::Password },
            desktop: Some("d"),
            login: Some("a"),
            source: None,
            now: OffsetDateTime::now_utc(),
            open_sessions: 0,
        };
        view.decide(&view.request(&ask))
    };
    let access = Access::start(&bed.loaded()).unwrap();
    assert_eq!(ask(&access.view()).verdict, Verdict::Allow);

    // while it runs, the version before stays in force, and everybody is told
    damage(&bed, ResourceKind::Role, "dev", "{\"kind\": \"role\"");
    wait(&access, |view| !view.problems.is_empty());
    assert_eq!(ask(&access.view()).verdict, Verdict::Allow);
    assert!(access.view().problems[0].contains("role/dev: the version before it stays in force: not JSON"));
    drop(access);
    // after a start there is none, so the role closes everything to its users
    let access = Access::start(&bed.loaded()).unwrap();
    assert_eq!(ask(&access.view()).reason, Some(Reason::DenyLabels));
    assert!(access.view().problems[0].contains("role/dev can't be read, so it denies everything"));
    // a lock can't be left out
    damage(&bed, ResourceKind::Lock, "l", "{}");
    wait(&access, |view| view.unavailable.is_some());
    let decision = ask(&access.view());
    assert_eq!(
        (decision.verdict, decision.reason),
        (Verdict::Deny, Some(Reason::ConfigUnavailable))
    );
    assert!(decision.why.contains("lock/l can't be read"), "{}", decision.why);
    assert_eq!(decision.recording.level, deskreel_policy::Level::Off);
    // repaired: all is as before
    bed.create(&dev, Force::Replace).unwrap();
    bed.remove(ResourceKind::Lock, "l").unwrap();
    wait(&access, |view| view.unavailable.is_none() && view.problems.is_empty());
    assert_eq!(ask(&access.view()).verdict, Verdict::Allow);
}

#[test]
fn what_cannot_be_looked_at_lets_nobody_in() {
    let bed = Bed::new("", "");
    let access = Access::start(&bed.loaded()).unwrap();
    let database = bed.loaded().config.data_dir.join("catalog.sqlite");
    let database = rusqlite::Connection::open(database).unwrap();
    database
        .execute_batch("ALTER TABLE resource_state RENAME TO hidden")
        .unwrap();
    wait(&access, |view| view.unavailable.is_some());
    database
        .execute_batch("ALTER TABLE hidden RENAME TO resource_state")
        .unwrap();
    wait(&access, |view| view.unavailable.is_none());
}

#[test]
fn a_preset_does_not_come_back_for_a_role_that_cannot_be_read() {
    let desktop = "kind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h}\n---\n";
    let user = "kind: user\nversion: v2\nmetadata: {name: a}\nspec: {roles: [access], traits: {windows_logins: [a]}}\n";
    let bed = Bed::new("", &format!("{desktop}{user}"));
    damage(&bed, ResourceKind::Role, "access", "{}");
    let view = look(&bed.loaded()).unwrap().view(OffsetDateTime::now_utc());
    let ask = Ask {
        user: "a",
        identity: Identity::Proven { by: ProvenBy::Password },
        desktop: Some("d"),
        login: Some("a"),
        source: None,
        now: OffsetDateTime::now_utc(),
        open_sessions: 0,
    };
    assert_eq!(view.decide(&view.request(&ask)).verdict, Verdict::Deny);
}

#[test]
fn a_proposed_role_stands_for_one_that_cannot_be_read() {
    let user = "kind: user\nversion: v2\nmetadata: {name: alice}\nspec: {roles: [dev]}\n";
    let desktop = "---\nkind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h}\n---\n";
    let open = "{allow: {windows_desktop_labels: {'*': '*'}, windows_desktop_logins: [a]}}";
    let bed = Bed::new("", "");
    bed.create(&format!("{user}{desktop}{}", role("dev", open)), Force::Create)
        .unwrap();
    damage(&bed, ResourceKind::Role, "dev", "{");
    let snapshot = look(&bed.loaded()).unwrap();
    let now = OffsetDateTime::now_utc();
    let verdict = |snapshot: &Snapshot| {
        let view = snapshot.view(now);
        let request = view.request(&Ask {
            user: "alice",
            identity: Identity::Proven { by: ProvenBy::Password },
            desktop: Some("d"),
            login: Some("a"),
            source: None,
            now,
            open_sessions: 0,
        });
        view.decide(&request).verdict
    };
    assert_eq!(verdict(&snapshot), Verdict::Deny);
    assert_eq!(verdict(&snapshot.with(documents(&role("dev", open)))), Verdict::Allow);
}
