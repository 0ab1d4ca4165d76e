//! Who wins over whom: the configuration, commands, edits.

use super::*;

/// Rows of 8.1 "static": section in deskreel.yaml, stored before the start, in force after it.
fn static_rows() -> Vec<[String; 3]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy.yaml");
    let text = std::fs::read_to_string(path).unwrap();
    let value: serde_json::Value = serde_saphyr::from_str(&text).unwrap();
    let rows: Vec<[String; 3]> = serde_json::from_value(value["static"].clone()).unwrap();
    assert!(rows.len() >= 6);
    rows
}

/// Who reads the configuration would not see it.
#[test]
fn recording_that_a_command_switched_off_is_told() {
    let off = |bed: &Bed| look(&bed.loaded()).unwrap().switched_off();
    let bed = Bed::new("log: {level: info}\n", "");
    assert_eq!(off(&bed), None);
    bed.create(&recording("off"), Force::Create).unwrap();
    assert!(off(&bed).unwrap().contains("nothing is recorded"), "{:?}", off(&bed));
    bed.create(&recording("node-sync"), Force::Replace).unwrap();
    assert_eq!(off(&bed), None);
    // the configuration's own word is told by the check of the configuration
    assert_eq!(off(&Bed::new("session_recording: off\n", "")), None);
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
