//! A running gateway sees what changes.

use super::*;

#[test]
fn a_running_gateway_sees_changes() {
    let bed = Bed::new("", &role("dev", "{}"));
    let access = Access::start(&bed.loaded()).unwrap();
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: alice}}\n";
    bed.create(lock, Force::Create).unwrap();
    wait(&access, |view| view.locks().locks.len() == 1);
    bed.remove(ResourceKind::Lock, "l").unwrap();
    wait(&access, |view| view.locks().locks.is_empty());
    bed.create(
        "kind: user\nversion: v2\nmetadata: {name: alice}\nspec: {roles: [dev]}\n",
        Force::Create,
    )
    .unwrap();
    wait(&access, |view| view.users.contains_key("alice"));
    assert!(access.view().locks().viewed_at > OffsetDateTime::now_utc() - time::Duration::seconds(10));

    // the folder is read again when told so; what is wrong changes nothing
    bed.write("", &role("dev", "{allow: {windows_desktop_labls: {}}}"));
    assert!(
        access
            .reload(&bed.loaded())
            .unwrap_err()
            .to_string()
            .contains("did you mean windows_desktop_labels?")
    );
    assert!(access.view().roles.contains("dev"));
    // alice, whom a command made, loses her role; a user in the folder could not
    let user = "---\nkind: user\nversion: v2\nmetadata: {name: bob}\nspec: {roles: [dev]}\n";
    bed.write("", &format!("{}{user}", role("ops", "{}")));
    assert!(
        access
            .reload(&bed.loaded())
            .unwrap_err()
            .to_string()
            .contains("there is no role \"dev\"")
    );
    bed.write("session_recording: off\n", &role("ops", "{}"));
    access.reload(&bed.loaded()).unwrap();
    let view = access.view();
    assert!(view.roles.contains("ops") && !view.roles.contains("dev"));
    assert_eq!(view.cluster.recording.mode, deskreel_config::ClusterMode::Off);
}

#[test]
fn expired_resources_are_absent() {
    let soon = (OffsetDateTime::now_utc() + time::Duration::seconds(2))
        .format(&time::format_description::well_known::Rfc3339)
        .unwrap();
    let text = format!("kind: role\nversion: v7\nmetadata: {{name: dev, expires: '{soon}'}}\nspec: {{}}\n");
    let bed = Bed::new("", &text);
    let access = Access::start(&bed.loaded()).unwrap();
    assert!(access.view().roles.contains("dev"));
    wait(&access, |view| !view.roles.contains("dev"));
}

#[test]
fn ten_thousand_roles() {
    let spec = "{allow: {windows_desktop_labels: {env: [dev, 'test*']}, windows_desktop_logins: ['{{internal.windows_logins}}']}}";
    let roles: Vec<String> = (0..10_000).map(|index| role(&format!("r{index}"), spec)).collect();
    let bed = Bed::new("", &roles.join("---\n"));
    let begun = Instant::now();
    let access = Access::start(&bed.loaded()).unwrap();
    assert_eq!(access.view().roles.names().count(), 10_003);
    let started = begun.elapsed();
    let begun = Instant::now();
    bed.create(
        "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {role: r1}}\n",
        Force::Create,
    )
    .unwrap();
    wait(&access, |view| view.locks().locks.len() == 1);
    println!(
        "10000 roles: start {started:?}, a lock is seen after {:?}",
        begun.elapsed()
    );
}
