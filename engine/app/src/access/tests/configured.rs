//! What the configuration says: its events, and folders that can't be loaded.

use super::*;

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
