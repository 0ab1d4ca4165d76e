//! The audit log of a real session, and who looked at its recording.

use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{USER, Xrdp};
use peers::gateway::{Gateway, Settings, recording_folder};
use serde_json::Value;

fn text<'a>(event: &'a Value, name: &str) -> &'a str {
    event[name].as_str().unwrap_or_default()
}

fn find<'a>(events: &'a [Value], name: &str) -> &'a Value {
    let found = events.iter().find(|event| event["event"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {events:#?}"))
}

/// The events of a session.
fn trail(gateway: &Gateway, id: &str) -> anyhow::Result<Vec<Value>> {
    let events = gateway.json(&["audit", "ls", "--session", id])?;
    Ok(events.as_array().cloned().unwrap_or_default())
}

#[test]
fn a_session_and_its_recording_leave_a_trail() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("a_session_and_its_recording_leave_a_trail") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let gateway = Gateway::start(&dir.path().join("gateway"), &Settings::of(xrdp.port, "sync"))?;
    let client = Client::start(dir.path(), "client", gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    drop(client);
    let recording = gateway.wait_recording(0, &["complete"])?;
    let id = text(&recording, "id");

    let events = trail(&gateway, id)?;
    for event in &events {
        for (name, value) in [
            ("sid", id),
            ("user", USER),
            ("login", USER),
            ("windows_user", USER),
            ("desktop_name", "lab"),
            ("proto", "rdp"),
        ] {
            assert_eq!(text(event, name), value, "{name} of {event}");
        }
        for name in [
            "uid",
            "time",
            "code",
            "cluster_name",
            "node",
            "windows_desktop_service",
            "addr.remote",
            "desktop_addr",
        ] {
            assert!(!text(event, name).is_empty(), "{name} of {event}");
        }
    }
    let start = find(&events, "windows.desktop.session.start");
    assert_eq!((text(start, "code"), &start["ei"]), ("TDP00I", &0.into()));
    let begun = find(&events, "session.recording.start");
    assert_eq!(
        (text(begun, "level"), &begun["storages"]),
        ("strict", &serde_json::json!(["disk"]))
    );
    let end = find(&events, "windows.desktop.session.end");
    assert_eq!((&end["recorded"], &end["gaps"]), (&true.into(), &0.into()));
    assert_eq!(end["bytes"], recording["bytes"]);
    assert_eq!(end["participants"], serde_json::json!([USER]));
    assert_eq!(text(find(&events, "session.upload"), "storage"), "disk");
    let digest = text(find(&events, "session.recording.complete"), "digest").to_owned();
    assert_eq!(digest, text(&recording, "manifest_sha256"));

    // The last picture is there, however slow the first one was.
    let end = Duration::from_millis(recording["duration_ms"].as_u64().unwrap_or_default());
    looks_are_told(&gateway, id, &digest, end)?;
    let verified = gateway.run(&["audit", "verify"])?;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    a_changed_line_is_found(&gateway)
}

/// Whoever looks at the recording, copies or deletes it is in the log.
fn looks_are_told(gateway: &Gateway, id: &str, digest: &str, end: Duration) -> anyhow::Result<()> {
    gateway.frame(id, end.as_secs_f64())?;
    let copy = gateway.dir.join("copy").display().to_string();
    let copied = gateway.run(&["recordings", "download", id, "-o", &copy])?;
    assert_eq!(
        copied.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let stored = recording_folder(&gateway.dir.join("recordings"), id).join("manifest.json");
    assert!(stored.exists());
    let removed = gateway.run(&["recordings", "rm", id, "--yes"])?;
    assert_eq!(
        removed.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&removed.stderr)
    );
    assert!(!stored.exists());
    let row = &gateway.recordings()?[0];
    assert_eq!((text(row, "state"), text(row, "manifest_sha256")), ("deleted", digest));

    let events = trail(gateway, id)?;
    let told: Vec<(&str, &str)> = events
        .iter()
        .filter(|event| text(event, "code").starts_with("DRA") || text(event, "code") == "T2012I")
        .map(|event| (text(event, "event"), text(event, "phase")))
        .collect();
    let expected = [
        ("session.recording.access", "begun"),
        ("session.recording.download", "begun"),
        ("session.recording.download", "done"),
        ("session.recording.delete", "begun"),
        ("session.recording.delete", "done"),
    ];
    assert_eq!(told, expected);
    let download = events
        .iter()
        .rfind(|event| event["event"] == "session.recording.download")
        .unwrap_or(&Value::Null);
    assert_eq!((text(download, "sha256"), text(download, "result")), (digest, "whole"));
    assert!(text(download, "user").starts_with("local:"), "{download}");
    // The copy is whole without gateway and storage.
    let verified = gateway.run(&["recordings", "verify", &copy])?;
    assert_eq!(
        verified.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    // Deleted is deleted.
    assert!(!gateway.run(&["recordings", "events", id])?.status.success());
    Ok(())
}

fn a_changed_line_is_found(gateway: &Gateway) -> anyhow::Result<()> {
    let path = gateway.dir.join("data/audit/audit.jsonl");
    let log = std::fs::read_to_string(&path)?;
    std::fs::write(&path, log.replacen("\"success\":true", "\"success\":false", 1))?;
    let verified = gateway.run(&["audit", "verify"])?;
    assert_eq!(
        verified.status.code(),
        Some(4),
        "{}",
        String::from_utf8_lossy(&verified.stdout)
    );
    std::fs::write(&path, log)?;
    assert_eq!(gateway.run(&["audit", "verify"])?.status.code(), Some(0));
    Ok(())
}
