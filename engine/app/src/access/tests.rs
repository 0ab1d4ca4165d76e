#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deskreel_config::{Document, Loaded, ReadOptions, ResourceKind, Sources, read_resources};
use deskreel_policy::{Identity, ProvenBy, Reason, Verdict};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::entry::{ResourceOrigin, defaults};
use super::*;
use crate::catalog::{Catalog, StoredOrigin, StoredResource};

/// A folder with a configuration and resources.
struct Bed {
    dir: TempDir,
}

impl Bed {
    fn new(config: &str, resources: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("resources")).unwrap();
        let bed = Self { dir };
        bed.write(config, resources);
        bed
    }

    fn write(&self, config: &str, resources: &str) {
        std::fs::write(self.dir.path().join("deskreel.yaml"), config).unwrap();
        std::fs::write(self.dir.path().join("resources/r.yaml"), resources).unwrap();
    }

    fn loaded(&self) -> Loaded {
        let sources = Sources {
            file: Some(PathBuf::from("deskreel.yaml")),
            working_dir: self.dir.path().to_owned(),
            ..Sources::default()
        };
        deskreel_config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn catalog(&self) -> Catalog {
        Catalog::open(&self.loaded().config.data_dir).unwrap()
    }

    fn create(&self, text: &str, force: Force) -> Result<Vec<Change>, Refused> {
        replace(&self.catalog(), &documents(text), force, None, |_| Ok(()))
    }

    fn remove(&self, kind: ResourceKind, name: &str) -> Result<Change, Refused> {
        remove(&self.catalog(), kind, name, |_| Ok(()))
    }
}

fn documents(text: &str) -> Vec<Document> {
    let options = ReadOptions {
        file: Path::new("t.yaml"),
        base: Path::new("/"),
        skip_foreign: false,
    };
    let stream = read_resources(text, &options);
    assert!(stream.errors.is_empty(), "{:?}", stream.errors);
    stream.documents
}

const RECORDING: (ResourceKind, &str) = (ResourceKind::SessionRecordingConfig, "session-recording-config");

fn recording(mode: &str) -> String {
    format!("kind: session_recording_config\nversion: v2\nspec: {{mode: {mode}}}\n")
}

fn role(name: &str, spec: &str) -> String {
    format!("kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Rows of 8.1 "static": section in deskreel.yaml, stored before the start, in force after it.
fn static_rows() -> Vec<[String; 3]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let rows: Vec<[String; 3]> = serde_json::from_value(value["static"].clone()).unwrap();
    assert!(rows.len() >= 6);
    rows
}

#[test]
fn who_wins_at_a_start() {
    for [section, stored, effective] in static_rows() {
        let bed = Bed::new("session_recording: off\n", "");
        match stored.as_str() {
            "none" => {}
            "dynamic" => drop(bed.create(&recording("node-sync"), Force::Create).unwrap()),
            "config-file" => drop(Access::start(&bed.loaded()).unwrap()),
            other => panic!("{other}"),
        }
        let config = if section == "set" {
            "session_recording: off\n"
        } else {
            "log: {level: info}\n"
        };
        bed.write(config, "");
        let looked = look(&bed.loaded()).unwrap();
        let access = Access::start(&bed.loaded()).unwrap();
        let again = look(&bed.loaded()).unwrap();
        for snapshot in [looked, again] {
            let entry = &snapshot.entries[&(RECORDING.0, RECORDING.1.to_owned())];
            assert_eq!(entry.origin.as_str(), effective, "{section} {stored}");
        }
        let mode = access.view().cluster.recording.mode;
        let expected = match effective.as_str() {
            "config-file" => deskreel_config::ClusterMode::Off,
            "dynamic" => deskreel_config::ClusterMode::Sync,
            _ => deskreel_config::ClusterMode::On,
        };
        assert_eq!(mode, expected, "{section} {stored}");
    }
}

#[test]
fn commands_refuse_what_others_say() {
    let bed = Bed::new("session_recording: off\n", &role("fixed", "{}"));
    drop(Access::start(&bed.loaded()).unwrap());
    let refused = |done: Result<Vec<Change>, Refused>| done.unwrap_err().to_string();
    assert_eq!(
        refused(bed.create(&recording("on"), Force::Create)),
        "session_recording_config exists, use -f to replace it"
    );
    let place = "session_recording_config is set in deskreel.yaml:1, remove it there and restart, or add --confirm to \
                 replace it until the next start";
    assert_eq!(refused(bed.create(&recording("on"), Force::Replace)), place);
    assert_eq!(
        bed.remove(RECORDING.0, RECORDING.1).unwrap_err().to_string(),
        "session_recording_config is set in deskreel.yaml:1, remove it there to reset it"
    );
    let changes = bed.create(&recording("on"), Force::Confirmed).unwrap();
    assert_eq!(changes[0].until_restart.as_deref(), Some("deskreel.yaml:1"));
    assert_eq!(
        changes[0].changed,
        ["spec.clipboard", "spec.input", "spec.mode", "spec.on_failure"]
    );
    let entry = |kind, name: &str| look(&bed.loaded()).unwrap().entries[&(kind, name.to_owned())].origin;
    assert_eq!(entry(RECORDING.0, RECORDING.1), ResourceOrigin::Dynamic);
    drop(Access::start(&bed.loaded()).unwrap());
    assert_eq!(entry(RECORDING.0, RECORDING.1), ResourceOrigin::ConfigFile);

    let message = refused(bed.create(&role("fixed", "{}"), Force::Replace));
    assert!(
        message.starts_with("role/fixed is set in ") && message.contains("r.yaml:1, remove it there"),
        "{message}"
    );
    let message = bed.remove(ResourceKind::Role, "fixed").unwrap_err().to_string();
    assert!(message.ends_with("r.yaml:1, remove it there to delete it"), "{message}");

    // presets: replaced, and back
    assert_eq!(
        bed.create(&role("access", "{}"), Force::Create).unwrap()[0].verb,
        ChangeVerb::Updated
    );
    assert_eq!(
        refused(bed.create(&role("access", "{}"), Force::Create)),
        "role/access exists, use -f to replace it"
    );
    assert_eq!(
        bed.create(&role("access", "{}"), Force::Replace).unwrap()[0].verb,
        ChangeVerb::Unchanged
    );
    assert_eq!(
        bed.remove(ResourceKind::Role, "access").unwrap().verb,
        ChangeVerb::Reset
    );
    assert_eq!(
        bed.remove(ResourceKind::Role, "access").unwrap_err().to_string(),
        "role/access is built in: there is nothing to remove"
    );
    assert_eq!(
        bed.remove(ResourceKind::Lock, "x").unwrap_err().to_string(),
        "there is no lock/x"
    );
}

#[test]
fn an_edit_notices_other_edits() {
    let bed = Bed::new("", "");
    bed.create(&role("dev", "{}"), Force::Create).unwrap();
    let revision = bed
        .catalog()
        .resource(ResourceKind::Role, "dev")
        .unwrap()
        .unwrap()
        .revision;
    bed.create(&role("dev", "{options: {desktop_usb: false}}"), Force::Replace)
        .unwrap();
    let text = documents(&role("dev", "{options: {desktop_usb: true}}"));
    let stale = replace(&bed.catalog(), &text, Force::Replace, Some(revision), |_| Ok(()));
    let message = stale.unwrap_err().to_string();
    assert_eq!(
        message,
        format!(
            "role/dev has changed since it was read (revision {revision}, now {})",
            revision + 1
        )
    );
    replace(&bed.catalog(), &text, Force::Replace, Some(revision + 1), |_| Ok(())).unwrap();
    // nothing happens when the audit log can't be told
    let told = |_: &[Change]| {
        let reason = "disk full".to_owned();
        Err(Refused::Audit(crate::audit::AuditError { reason }))
    };
    assert!(replace(&bed.catalog(), &documents(&role("x", "{}")), Force::Create, None, told).is_err());
    assert!(bed.catalog().resource(ResourceKind::Role, "x").unwrap().is_none());
}

/// Waits for a view in which `seen` holds.
fn wait(access: &Access, seen: impl Fn(&View) -> bool) -> Duration {
    let begun = Instant::now();
    while !seen(&access.view()) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            access.view().problems
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

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

/// Writes a row that no command would write.
fn damage(bed: &Bed, kind: ResourceKind, name: &str, document: &str) {
    let row = StoredResource {
        kind,
        name: name.to_owned(),
        origin: StoredOrigin::Dynamic,
        revision: 0,
        document: document.to_owned(),
        base: PathBuf::from("/"),
        place: String::new(),
    };
    let catalog = bed.catalog();
    let put = catalog.edit_resources(|table| table.put(&row).map_err(|error| catalog.resources_error(error)));
    put.unwrap();
}

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
fn what_is_shown_of_presets_is_what_policy_has() {
    for preset in deskreel_policy::presets() {
        let mut entries = defaults().iter();
        let shown = entries.find(|entry| entry.name() == preset.metadata.name).unwrap();
        let deskreel_config::Resource::Role(role) = &shown.document.resource else {
            panic!("{}", shown.name())
        };
        assert_eq!((&role.allow, &role.deny), (&preset.allow, &preset.deny));
        assert_eq!(role.options, preset.options);
    }
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

#[test]
fn secrets_are_hidden_and_kept() {
    let text = "kind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h, gateway: {credentials: {logins: \
                [{login: a, password: hunter2}, {login: b, password: {env: B}}]}}}\n";
    let bed = Bed::new("", "");
    bed.create(text, Force::Create).unwrap();
    let snapshot = look(&bed.loaded()).unwrap();
    let entry = &snapshot.entries[&(ResourceKind::WindowsDesktop, "d".to_owned())];
    let mut shown = entry.shown();
    assert!(!shown.to_string().contains("hunter2"), "{shown}");
    assert!(shown.to_string().contains("[hidden]") && shown.to_string().contains("env"));
    assert!(!format!("{entry:?}").contains("hunter2"));
    unhide(&mut shown, &entry.document.source);
    assert_eq!(shown["spec"], entry.document.source["spec"]);
    // what get prints can't be stored by mistake
    let hidden = text.replace("hunter2", "'[hidden]'");
    let options = ReadOptions {
        file: Path::new("t.yaml"),
        base: Path::new("/"),
        skip_foreign: false,
    };
    let errors = read_resources(&hidden, &options).errors;
    assert!(errors[0].message.contains("write the secret itself"), "{errors:?}");
}

#[test]
fn references_must_exist() {
    let check_text = |text: &str| {
        let documents = documents(text);
        let refs: Vec<&Document> = documents.iter().collect();
        let bed = Bed::new("", "");
        check(&refs, &look(&bed.loaded()).unwrap(), OffsetDateTime::now_utc())
    };
    let user = |roles: &str| format!("kind: user\nversion: v2\nmetadata: {{name: a}}\nspec: {{roles: [{roles}]}}\n");
    let errors = check_text(&user("acces, ghost")).errors;
    assert_eq!(
        errors[0].to_string(),
        "t.yaml:4:16: user/a: spec.roles[0]: there is no role \"acces\", did you mean access?"
    );
    assert_eq!(errors[1].message, "there is no role \"ghost\"");
    assert!(
        check_text(&format!("{}---\n{}", role("dev", "{}"), user("dev, access")))
            .errors
            .is_empty()
    );
    let lock = "kind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: a, role: b}, expires: '2020-01-01T00:00:00Z'}\n";
    let found = check_text(lock);
    assert!(
        found.warnings[0].message.contains("has passed already") && found.lints[0].message.contains("several fields")
    );
}

/// Events about resources in the audit log, as `code name changed`.
fn events(bed: &Bed) -> Vec<String> {
    let all = crate::audit::last(
        &bed.loaded().config.data_dir,
        &crate::audit::Filter::default(),
        usize::MAX,
    )
    .unwrap();
    let resource = |stored: &crate::audit::Stored| {
        let field = |name: &str| stored.fields.get(name).cloned().unwrap_or_default();
        assert_eq!(field("origin"), "config-file", "{stored:?}");
        assert!(field("user").as_str()?.starts_with("local:"), "{stored:?}");
        let changed = field("changed").to_string();
        Some(format!(
            "{} {} {changed}",
            field("code").as_str()?,
            field("name").as_str()?
        ))
    };
    all.iter().filter_map(resource).collect()
}

#[test]
fn what_the_configuration_changes_is_in_the_audit_log() {
    let user = "---\nkind: user\nversion: v2\nmetadata: {name: alice}\nspec: {roles: [dev]}\n";
    let desktop = "---\nkind: windows_desktop\nversion: v3\nmetadata: {name: d}\nspec: {addr: h}\n";
    let dev = role("dev", "{options: {desktop_usb: false}}");
    let bed = Bed::new("session_recording: off\n", &format!("{dev}{user}{desktop}"));
    let access = Access::start(&bed.loaded()).unwrap();
    let first = [
        "T9000I dev []",
        "T1002I alice []",
        "DRP00I d []",
        "TCREC003I session-recording-config [\"spec.mode\"]",
    ];
    assert_eq!(events(&bed), first);
    // the same again, on other lines: nothing has changed
    bed.write(
        "session_recording: off\n",
        &format!("# a comment\n{dev}{user}{desktop}"),
    );
    access.reload(&bed.loaded()).unwrap();
    assert_eq!(events(&bed).len(), first.len());
    // one key differs, a user and the section are gone
    let dev = role("dev", "{options: {desktop_usb: true, lock: strict}}");
    bed.write("", &format!("{dev}{desktop}"));
    access.reload(&bed.loaded()).unwrap();
    let second = [
        "TCREC003I session-recording-config []",
        "T1004I alice []",
        "T9002I dev [\"spec.options.desktop_usb\",\"spec.options.lock\"]",
    ];
    assert_eq!(events(&bed)[first.len()..], second);
    drop(access);
    // a command without a gateway stores what a start would, and says so
    bed.write("", "");
    let actor = Who::is(&bed.loaded().config.data_dir).unwrap().actor();
    drop(open_for_change(&bed.loaded(), &actor).unwrap());
    assert_eq!(
        events(&bed)[first.len() + second.len()..],
        ["T9001I dev []", "DRP02I d []"]
    );
    drop(Access::start(&bed.loaded()).unwrap());
    assert_eq!(events(&bed).len(), first.len() + second.len() + 2);
}

#[test]
fn a_folder_that_cannot_be_loaded_leaves_what_it_said_before() {
    let dev = role(
        "dev",
        "{allow: {windows_desktop_labels: {'*': '*'}, windows_desktop_logins: [a]}}",
    );
    let lock = "---\nkind: lock\nversion: v2\nmetadata: {name: l}\nspec: {target: {user: eve}}\n";
    let broken = dev.replace("windows_desktop_logins", "windows_desktop_login");
    // never loaded: nothing may run
    let bed = Bed::new("", &broken);
    let refused = |error: anyhow::Error| {
        assert!(error.is::<crate::usage::UsageError>(), "{error:#}");
        assert!(error.to_string().contains("r.yaml:4:"), "{error:#}");
    };
    refused(Access::start(&bed.loaded()).map(drop).unwrap_err());
    refused(look(&bed.loaded()).map(drop).unwrap_err());
    bed.write("session_recording: off\n", &format!("{dev}{lock}"));
    drop(Access::start(&bed.loaded()).unwrap());
    let wrong_together =
        format!("{dev}---\nkind: user\nversion: v2\nmetadata: {{name: u}}\nspec: {{roles: [ghost]}}\n");
    for (broken, says) in [
        (&broken, "did you mean windows_desktop_logins?"),
        (&wrong_together, "there is no role \"ghost\""),
    ] {
        // the whole folder stays: the lock too, which the broken one does not have; the section is as it says now
        bed.write("session_recording: on\n", broken);
        let access = Access::start(&bed.loaded()).unwrap();
        for snapshot in [look(&bed.loaded()).unwrap(), {
            let running = access.view();
            assert!(running.problems[0].contains(says) && running.problems[0].contains("stays in force"));
            assert_eq!(running.locks().locks.len(), 1);
            assert_eq!(running.cluster.recording.mode, deskreel_config::ClusterMode::On);
            look(&bed.loaded()).unwrap()
        }] {
            assert!(snapshot.refused.as_deref().unwrap().contains(says));
            assert!(snapshot.entries.contains_key(&(ResourceKind::Role, "dev".to_owned())));
            assert!(snapshot.entries.contains_key(&(ResourceKind::Lock, "l".to_owned())));
        }
        assert!(matches!(unloaded(&bed.loaded()).unwrap(), Unloaded::Refused(refused) if refused.contains(says)));
        assert!(!events(&bed).iter().any(|event| event.starts_with("TLK01I")));
    }
    // the section is gone, the folder broken: what the section said goes
    bed.write("", &broken);
    let access = Access::start(&bed.loaded()).unwrap();
    let recording = access.view().cluster.recording;
    assert_eq!(recording, deskreel_config::RecordingSettings::default());
    // mended
    bed.write("", &dev);
    assert_eq!(unloaded(&bed.loaded()).unwrap(), Unloaded::Changed);
    access.reload(&bed.loaded()).unwrap();
    assert!(access.view().problems.is_empty() && access.view().locks().locks.is_empty());
    assert_eq!(unloaded(&bed.loaded()).unwrap(), Unloaded::Nothing);
}

#[test]
fn rules_about_resources_see_labels_and_what_can_be_opened() {
    let labelled = |name: &str, team: &str, addr: &str| {
        format!(
            "---\nkind: windows_desktop\nversion: v3\nmetadata: {{name: {name}, labels: {{team: {team}}}}}\nspec: {{addr: {addr}}}\n"
        )
    };
    let rule = |verbs: &str| {
        format!(
            "{{allow: {{rules: [{{resources: [role, user], verbs: [{verbs}], where: \
             'equals(resource.metadata.labels[\"team\"], \"blue\") && resource.metadata.labels[\"teleport.dev/origin\"] == \
             \"config-file\"'}}], windows_desktop_labels: {{team: blue, zone: inner}}, windows_desktop_logins: [a]}}}}"
        )
    };
    let team = |team: &str| role(team, "{}").replace("metadata: {", &format!("metadata: {{labels: {{team: {team}}}, "));
    let text = [
        role("lead", &rule("list, read, update")),
        "---\n".to_owned() + &team("blue"),
        "---\n".to_owned() + &team("red"),
        "---\nkind: user\nversion: v2\nmetadata: {name: ann}\nspec: {roles: [lead]}\n".to_owned(),
        labelled("d-blue", "blue", "10.1.1.1"),
        labelled("d-red", "red", "10.1.1.1"),
    ];
    let bed = Bed::new(
        "access: {host_labels: [{match: '^10[.]', labels: {zone: inner}}]}\n",
        &text.concat(),
    );
    let access = Access::start(&bed.loaded()).unwrap();
    let (view, snapshot) = (access.view(), look(&bed.loaded()).unwrap());
    assert!(view.problems.is_empty(), "{:?}", view.problems);
    let ann = Who::User("ann".to_owned());
    let object = |kind, name: &str| {
        let entry = &snapshot.entries[&(kind, name.to_owned())];
        snapshot.object(&entry.document, entry.origin)
    };
    let may = |verb, name: &str| {
        let object = object(ResourceKind::Role, name);
        ann.may(&view, ResourceKind::Role, verb, Some(&object)).is_ok()
    };
    assert!(may(deskreel_policy::Verb::Update, "blue") && !may(deskreel_policy::Verb::Delete, "blue"));
    assert!(!may(deskreel_policy::Verb::Read, "red") && !may(deskreel_policy::Verb::Read, "lead"));
    // of nothing in particular, a `where` about resources fails, and so grants nothing
    assert!(
        ann.may(&view, ResourceKind::Role, deskreel_policy::Verb::Read, None)
            .is_err()
    );
    let see = |name: &str| {
        let object = object(ResourceKind::WindowsDesktop, name);
        let verb = deskreel_policy::Verb::List;
        ann.may_see(&view, ResourceKind::WindowsDesktop, verb, &object).is_ok()
    };
    assert_eq!(object(ResourceKind::WindowsDesktop, "d-blue").labels["zone"], "inner");
    assert!(see("d-blue") && !see("d-red"));
    let nobody = Who::User("nobody".to_owned());
    let object = object(ResourceKind::WindowsDesktop, "d-blue");
    let verb = deskreel_policy::Verb::List;
    assert!(
        nobody
            .may_see(&view, ResourceKind::WindowsDesktop, verb, &object)
            .is_err()
    );
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

#[test]
fn a_new_user_inherits_nothing_of_one_of_the_name() {
    let user = "kind: user\nversion: v2\nmetadata: {name: ann}\nspec: {roles: [access]}\n";
    let bed = Bed::new("", user);
    drop(Access::start(&bed.loaded()).unwrap());
    let credentials = crate::credentials::Credentials::open(&bed.loaded().config.data_dir).unwrap();
    let password = zeroize::Zeroizing::new("A-password-1".to_owned());
    credentials.set_password("ann", &password).unwrap();
    // the folder's user goes, a command makes another
    bed.write("", "");
    drop(Access::start(&bed.loaded()).unwrap());
    bed.create(user, Force::Create).unwrap();
    assert!(!credentials.has_password("ann").unwrap());
    // a change of the user leaves the password, a removal does not
    credentials.set_password("ann", &password).unwrap();
    bed.create(&user.replace("[access]", "[auditor]"), Force::Replace)
        .unwrap();
    assert!(credentials.has_password("ann").unwrap());
    bed.remove(ResourceKind::User, "ann").unwrap();
    assert!(!credentials.has_password("ann").unwrap());
}

#[test]
fn secrets_in_clear_text_are_hidden_whatever_they_look_like() {
    for password in ["987654321", "secret", "true", "1.5"] {
        let mut document = serde_json::json!({"spec": {"gateway": {"credentials": {"logins": [
            {"login": "a", "password": serde_json::from_str::<serde_json::Value>(password).unwrap_or_else(|_| password.into())},
            {"login": "b", "password": {"env": "NAME"}},
        ]}}}});
        let clear = document.clone();
        entry::hide(&mut document);
        let shown = document.to_string();
        assert!(!shown.contains(password) && shown.contains("NAME"), "{shown}");
        unhide(&mut document, &clear);
        assert_eq!(document, clear);
    }
}
