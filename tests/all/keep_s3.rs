//! Keeping recordings in S3: migration, rebuild, retention against object lock, on a real server.

use std::fs;

use peers::gateway::recording_folder;
use peers::seaweed::{BUCKET, KEY, LOCKED_BUCKET, READER_KEY, READER_SECRET, SECRET, Seaweed};
use serde_json::Value;

use crate::keep::Node;

/// An entry of `storages`.
fn cloud(port: u16, bucket: &str, prefix: &str, account: (&str, &str), more: &str) -> String {
    let (key, secret) = account;
    format!(
        "{{name: cloud, plugin: s3, settings: {{bucket: {bucket}, prefix: {prefix}, endpoint: 'http://127.0.0.1:{port}', \
         access_key_id: {key}, secret_access_key: {secret}{more}}}}}"
    )
}

const DISK: &str = "{name: disk, plugin: local, settings: {path: ./recordings}}";
const ALL: (&str, &str) = (KEY, SECRET);

#[test]
fn from_disk_to_s3_and_back_from_nothing() -> anyhow::Result<()> {
    let port = Seaweed::shared()?;
    let dir = tempfile::tempdir()?;
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let both = format!("storages=[{DISK}, {}]", cloud(port, BUCKET, "keep", ALL, ""));
    let json = |code, arguments: &[&str]| node.json(code, &[arguments, &["--set", &both]].concat());
    let checked = json(0, &["storages", "check", "cloud"]);
    assert!(checked[0]["steps"].as_array().unwrap().len() >= 9, "{checked}");
    assert_eq!(
        json(0, &["storages", "bench", "cloud", "--objects", "4", "--mib", "1"])[0]["count"],
        4
    );
    assert_eq!(
        json(0, &["storages", "copy", "disk", "cloud", "--missing"])["failed"],
        0
    );
    let scanned = json(0, &["storages", "scan", "cloud", "--digests"]);
    assert_eq!(
        (&scanned[0]["recordings"], &scanned[0]["counts"]),
        (&1.into(), &serde_json::json!({}))
    );

    // Who may only read is told what that means.
    let reader = format!(
        "storages=[{}]",
        cloud(port, BUCKET, "keep", (READER_KEY, READER_SECRET), "")
    );
    let (code, out, err) = node.run(&["storages", "check", "cloud", "--set", &reader]);
    assert!(
        code == 3 && out.contains("writing objects is not allowed"),
        "{out}{err}"
    );

    // Disk and data_dir are gone; the bucket is all that is left.
    let before = node.row(&id);
    fs::copy(node.home.join("data/keys/node.pub.pem"), dir.path().join("old.pub.pem"))?;
    fs::rename(node.home.join("data"), dir.path().join("lost"))?;
    fs::remove_dir_all(recording_folder(&dir.path().join("shared"), &id))?;
    let alone = format!("storages=[{}]", cloud(port, BUCKET, "keep", ALL, ""));
    let ok = |arguments: &[&str]| node.ends(0, &[arguments, &["--set", &alone]].concat());
    ok(&["catalog", "rebuild", "--storage", "cloud"]);
    assert_eq!(node.row(&id)["manifest_sha256"], before["manifest_sha256"]);
    ok(&[
        "recordings",
        "verify",
        &id,
        "--public-key",
        &dir.path().join("old.pub.pem").display().to_string(),
    ]);
    ok(&[
        "recordings",
        "frame",
        &id,
        "--at",
        "1s",
        "-o",
        &dir.path().join("frame.png").display().to_string(),
    ]);
    ok(&["recordings", "rm", &id, "--yes"]);
    let empty = node.json(0, &["storages", "scan", "cloud", "--set", &alone]);
    assert_eq!(empty[0]["objects"], 0);
    Ok(())
}

/// What a storage lacks is said once, with what to do; and it hides nothing of the others.
#[test]
fn a_storage_that_fails_says_what_to_do() -> anyhow::Result<()> {
    let port = Seaweed::shared()?;
    let free = peers::process::free_port()?;
    let dir = tempfile::tempdir()?;
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    for (entry, words, advice) in [
        (
            cloud(port, BUCKET, "advice", (KEY, "wrong-secret"), ""),
            "the credentials are not valid here",
            "correct the credentials in the storage's settings",
        ),
        (
            cloud(port, "no-such-bucket", "advice", ALL, ""),
            "bucket: there is no bucket `no-such-bucket`",
            "correct the storage's settings",
        ),
        (
            cloud(port, BUCKET, "advice", ALL, ", object_lock: governance"),
            "object_lock: the bucket has no object lock",
            "correct the storage's settings",
        ),
        (
            cloud(free, BUCKET, "advice", ALL, ""),
            "the server can't be reached",
            "look whether its server runs",
        ),
    ] {
        let checked = node.json(
            3,
            &["storages", "check", "cloud", "--set", &format!("storages=[{entry}]")],
        );
        let steps = checked[0]["steps"].as_array().unwrap();
        let problem = steps[0]["problem"].as_str().unwrap_or_default();
        assert!(
            steps.len() == 1 && problem.contains(words) && problem.contains(advice),
            "{checked}"
        );
        assert!(!problem.contains("wrong-secret"), "{problem}");
    }
    node.record();
    let down = format!("storages=[{}, {DISK}]", cloud(free, BUCKET, "down", ALL, ""));
    let (code, out, err) = node.run(&["storages", "scan", "--format", "json", "--set", &down]);
    let scanned: Value = serde_json::from_str(&out)?;
    assert_eq!(scanned.as_array().map(Vec::len), Some(1), "{out}");
    assert!(
        code == 3 && scanned[0]["storage"] == "disk" && err.contains("not looked at: storage cloud: "),
        "{code}: {out}{err}"
    );
    let alone = format!("storages=[{}]", cloud(free, BUCKET, "down", ALL, ""));
    let said = node.ends(1, &["storages", "scan", "--set", &alone]);
    assert!(said.contains("no storage could be looked at"), "{said}");
    Ok(())
}

#[test]
fn object_lock_is_stronger_than_retention() -> anyhow::Result<()> {
    let port = Seaweed::shared()?;
    let dir = tempfile::tempdir()?;
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let locked = cloud(port, LOCKED_BUCKET, "keep", ALL, ", object_lock: governance");
    let both = format!("storages=[{DISK}, {locked}]");
    // A day from the session's start: that is what the bucket is told.
    let day = ["--set", &both, "--set", "retention.default=1d"];
    let copied = node.json(0, &[&["storages", "copy", "disk", "cloud"][..], &day].concat());
    assert_eq!(copied["failed"], 0, "{copied}");
    // The rules change and its time is over: the disk obeys, the bucket does not.
    let at_once = ["--yes", "--set", &both, "--set", "retention.default=1ms"];
    let purge = |code| node.json(code, &[&["recordings", "purge"][..], &at_once].concat());
    for _ in 0..2 {
        let purged = purge(3);
        let error = purged[0]["error"].as_str().unwrap_or_default();
        assert!(
            error.contains("storage cloud: ") && error.contains("still has objects"),
            "{purged}"
        );
        assert!(
            purged[0]["storages"][1]["error"]
                .as_str()
                .unwrap()
                .contains("retained until"),
            "{purged}"
        );
        assert_eq!(purged[0]["storages"][0]["error"], Value::Null);
    }
    assert!(node.files(&id).is_empty());
    let row = node.row(&id);
    assert_eq!(row["state"], "complete");
    assert!(row["doomed_problem"].as_str().unwrap().contains("cloud"), "{row}");
    assert!(node.ends(0, &["recordings", "ls"]).contains("deletion refused"));
    assert_eq!(node.events("DRA03W").len(), 2);
    // It can still be played, from where it is.
    let only = format!("storages=[{locked}]");
    node.ends(0, &["recordings", "verify", &id, "--set", &only]);
    Ok(())
}
