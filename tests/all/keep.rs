//! Keeping and losing recordings with the real binary and real storages: retention, holds, purge; storages checked,
//! compared and copied; a catalog that was lost; two engines that share a folder.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peers::gateway::{Gateway, deskreel, recording_folder, run_in};
use peers::process::{free_port, wait_for};
use serde_json::Value;

/// A folder with a configuration, in which the demo records.
pub(crate) struct Node {
    pub(crate) home: PathBuf,
}

impl Node {
    /// A node whose only storage is `recordings`.
    pub(crate) fn new(parent: &Path, name: &str, recordings: &Path) -> Self {
        let home = parent.join(name);
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(recordings).unwrap();
        symlink(recordings, home.join("recordings")).unwrap();
        let node = Self { home };
        node.configure("");
        node
    }

    /// The configuration of a node that does not record by a demo, with more of it.
    pub(crate) fn configure(&self, more: &str) {
        let port = free_port().unwrap();
        let text = format!(
            "data_dir: ./data\ngateway: {{listen: '127.0.0.1:{port}'}}\n\
             storages:\n  - {{name: disk, plugin: local, mode: sync, settings: {{path: ./recordings}}}}\n{more}"
        );
        fs::write(self.home.join("deskreel.yaml"), text).unwrap();
        fs::create_dir_all(self.home.join("resources")).unwrap();
    }

    pub(crate) fn demo(&self, seconds: u32) -> Command {
        let mut command = Command::new(deskreel());
        command
            .args(["demo", "--seconds", &seconds.to_string(), "--data-dir"])
            .arg(&self.home)
            .current_dir(&self.home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// Records a session; its id.
    pub(crate) fn record(&self) -> String {
        let known = self.ids();
        let ended = self.demo(2).status().unwrap();
        assert!(ended.success(), "deskreel demo: {ended}");
        // The demo's gateway may have seen what others recorded meanwhile.
        let own = self.rows().into_iter().filter(|row| row["node"].is_null());
        let new = own
            .filter_map(|row| row["id"].as_str().map(str::to_owned))
            .find(|id| !known.contains(id));
        new.expect("the demo's recording")
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> (i32, String, String) {
        let output = run_in(&self.home, arguments).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    }

    /// Runs a command that must end with this code; what it prints and says.
    pub(crate) fn ends(&self, code: i32, arguments: &[&str]) -> String {
        let (found, out, err) = self.run(arguments);
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        out + &err
    }

    pub(crate) fn json(&self, code: i32, arguments: &[&str]) -> Value {
        let (found, out, err) = self.run(&[arguments, &["--format", "json"]].concat());
        assert_eq!(found, code, "{arguments:?}: {out}{err}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    pub(crate) fn rows(&self) -> Vec<Value> {
        self.json(0, &["recordings", "ls"]).as_array().cloned().unwrap()
    }

    pub(crate) fn row(&self, id: &str) -> Value {
        let rows = self.rows();
        let row = rows.iter().find(|row| row["id"] == id).cloned();
        row.unwrap_or_else(|| panic!("no {id} in {rows:#?}"))
    }

    fn ids(&self) -> Vec<String> {
        self.rows()
            .iter()
            .map(|row| row["id"].as_str().unwrap().to_owned())
            .collect()
    }

    pub(crate) fn serve(&self) -> Gateway {
        let listen = self.json(0, &["config", "show"]).to_string();
        let port = listen.split("127.0.0.1:").nth(1).unwrap();
        let port: String = port.chars().take_while(char::is_ascii_digit).collect();
        Gateway::restart(&self.home, port.parse().unwrap()).unwrap()
    }

    pub(crate) fn events(&self, code: &str) -> Vec<Value> {
        let events = self.json(0, &["audit", "ls", "--event", code]);
        events.as_array().cloned().unwrap()
    }

    /// Files of a recording in the storage.
    pub(crate) fn files(&self, id: &str) -> Vec<String> {
        let entries = fs::read_dir(recording_folder(&self.home.join("recordings"), id))
            .into_iter()
            .flatten();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

/// Every recording is over in no time.
const AT_ONCE: &str = "retention.default=1ms";

#[test]
fn retention_and_holds() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let id = node.record();
    let digest = node.row(&id)["manifest_sha256"].clone();

    // Nothing is deleted unless the configuration says so; a dry run tells what would be.
    assert_eq!(
        node.json(0, &["recordings", "purge", "--dry-run"]),
        serde_json::json!([])
    );
    assert!(
        node.ends(0, &["recordings", "purge", "--yes"])
            .contains("nothing is due")
    );
    let due = node.json(0, &["recordings", "purge", "--dry-run", "--set", AT_ONCE]);
    assert_eq!(
        (&due[0]["id"], &due[0]["rule"]),
        (&Value::from(id.as_str()), &"retention.default".into())
    );
    assert!(due[0]["bytes"].as_u64().unwrap() > 0);
    let next_year = [
        "recordings",
        "purge",
        "--dry-run",
        "--at",
        "2100-01-01",
        "--set",
        "retention.default=365d",
    ];
    assert_eq!(node.json(0, &next_year).as_array().unwrap().len(), 1);
    let rules = "retention.rules=[{keep: never, desktops: ['de*']}]";
    let kept = node.json(
        0,
        &["recordings", "purge", "--dry-run", "--set", AT_ONCE, "--set", rules],
    );
    assert_eq!(kept, serde_json::json!([]));

    // rm obeys retention and holds; so does purge.
    let early = node.ends(
        1,
        &["recordings", "rm", &id, "--yes", "--set", "retention.default=365d"],
    );
    assert!(
        early.contains("is kept until") && early.contains("retention.default"),
        "{early}"
    );
    assert!(
        node.ends(2, &["recordings", "hold", &id, "--reason", " "])
            .contains("say why")
    );
    node.ends(0, &["recordings", "hold", &id, "--reason", "case 17"]);
    assert!(node.files(&id).contains(&"hold.json".to_owned()));
    assert_eq!(node.row(&id)["hold"], "case 17");
    assert!(node.ends(0, &["recordings", "show", &id]).contains("case 17 (local:"));
    assert!(
        node.ends(1, &["recordings", "rm", &id, "--yes"])
            .contains("is held: case 17")
    );
    assert!(
        node.ends(0, &["recordings", "purge", "--yes", "--set", AT_ONCE])
            .contains("nothing is due")
    );
    node.ends(0, &["recordings", "verify", &id]);
    node.ends(0, &["storages", "scan", "--digests"]);
    node.ends(0, &["recordings", "release", &id, "--reason", "closed"]);
    assert!(!node.files(&id).contains(&"hold.json".to_owned()));

    let purged = node.json(0, &["recordings", "purge", "--yes", "--set", AT_ONCE]);
    assert_eq!(
        (&purged[0]["id"], &purged[0]["error"]),
        (&Value::from(id.as_str()), &Value::Null)
    );
    assert!(node.files(&id).is_empty());
    let tombstone = node.row(&id);
    assert_eq!(
        (&tombstone["state"], &tombstone["manifest_sha256"]),
        (&"deleted".into(), &digest)
    );
    assert!(tombstone["deleted_by"].as_str().unwrap().starts_with("local:"));
    assert_eq!(tombstone["deleted_why"], "retention.default");
    for (code, member) in [
        ("DRA07I", "reason"),
        ("DRA08I", "reason"),
        ("DRA03I", "digest"),
        ("DRA03W", "error"),
    ] {
        let events = node.events(code);
        assert!(!events.is_empty(), "no {code}");
        assert!(
            events
                .iter()
                .all(|event| event["sid"] == id.as_str() && event[member] != Value::Null),
            "{events:#?}"
        );
    }
    assert_eq!(node.events("DRA03I").last().unwrap()["digest"], digest);
    // No look at the storages brings it back.
    node.ends(0, &["catalog", "sync"]);
    assert_eq!(node.row(&id)["state"], "deleted");
}

#[test]
fn the_gateway_deletes_by_itself() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let (gone, held) = (node.record(), node.record());
    node.ends(0, &["recordings", "hold", &held, "--reason", "case 17"]);
    node.configure("retention: {default: 1ms, purge_interval: 10s}\n");
    let _gateway = node.serve();
    wait_for(Duration::from_secs(60), "the recording to be deleted", || {
        Ok(node.row(&gone)["state"] == "deleted")
    })
    .unwrap();
    assert_eq!(node.row(&gone)["deleted_by"], "deskreel:retention");
    assert_eq!(node.row(&held)["state"], "complete");
    assert!(node.files(&gone).is_empty() && !node.files(&held).is_empty());
    let events = node.events("DRA03I");
    assert!(
        events.iter().all(|event| event["user"] == "deskreel:retention"),
        "{events:#?}"
    );
}

#[test]
fn a_lost_data_dir() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let (id, held) = (node.record(), node.record());
    node.ends(0, &["recordings", "hold", &held, "--reason", "case 17"]);
    let before = node.row(&id);
    fs::copy(node.home.join("data/keys/node.pub.pem"), dir.path().join("old.pub.pem")).unwrap();
    fs::rename(node.home.join("data"), dir.path().join("lost")).unwrap();

    // Everything is gone, the key too.
    assert!(node.rows().is_empty());
    let rebuilt = node.json(0, &["catalog", "rebuild", "--storage", "disk"]);
    assert_eq!(
        (&rebuilt[0]["recordings"], &rebuilt[0]["added"]),
        (&2.into(), &2.into())
    );
    let after = node.row(&id);
    for member in [
        "state",
        "started",
        "duration_ms",
        "user",
        "login",
        "desktop",
        "bytes",
        "segments",
        "manifest_sha256",
    ] {
        assert_eq!(before[member], after[member], "{member}");
    }
    assert!(after["node"].is_string() && after["unproven"] == true, "{after}");
    assert_eq!(node.row(&held)["hold"], "case 17");
    let old = dir.path().join("old.pub.pem").display().to_string();
    node.ends(0, &["recordings", "verify", &id, "--public-key", &old]);
    let trusted = format!("recording.trusted_keys=[{old}]");
    node.ends(0, &["recordings", "verify", &id, "--set", &trusted]);
    let png = dir.path().join("frame.png").display().to_string();
    node.ends(0, &["recordings", "frame", &id, "--at", "1s", "-o", &png]);
    let events = node.json(0, &["audit", "ls", "--event", "catalog.rebuild"]);
    assert_eq!(events.as_array().unwrap().len(), 2, "begun and done");
    // The gateway starts on it, with a key of its own, and records on.
    let new = node.record();
    assert_eq!(node.row(&new)["node"], Value::Null);
    assert_eq!(node.row(&id)["state"], "complete");

    // With the old key put back its recordings are its own again.
    fs::remove_dir_all(node.home.join("data")).unwrap();
    fs::create_dir(node.home.join("data")).unwrap();
    fs::rename(dir.path().join("lost/keys"), node.home.join("data/keys")).unwrap();
    node.ends(0, &["catalog", "rebuild", "--storage", "disk"]);
    let own = node.row(&id);
    assert_eq!((&own["node"], &own["unproven"]), (&Value::Null, &false.into()));
    node.ends(0, &["recordings", "verify", &id]);
    assert!(
        node.ends(2, &["catalog", "rebuild", "--storage", "dsk"])
            .contains("there are: disk")
    );
}

/// Ends the demo however the test ends.
struct Background(Child);

impl Drop for Background {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn two_engines_share_a_folder() {
    let dir = tempfile::tempdir().unwrap();
    let shared = dir.path().join("shared");
    let (a, b) = (Node::new(dir.path(), "a", &shared), Node::new(dir.path(), "b", &shared));
    let (of_a, of_b) = (a.record(), b.record());
    for (node, own, other) in [(&a, &of_a, &of_b), (&b, &of_b, &of_a)] {
        node.ends(0, &["catalog", "sync"]);
        assert_eq!(node.row(own)["node"], Value::Null);
        let row = node.row(other);
        assert!(row["node"].is_string() && row["state"] == "complete", "{row}");
        assert_eq!(row["storages"][0]["storage"], "disk");
        assert!(node.ends(0, &["recordings", "ls"]).contains("of node "));
        let png = node.home.join("other.png").display().to_string();
        node.ends(0, &["recordings", "frame", other, "--at", "1s", "-o", &png]);
        // Another node's recordings are not this one's to delete when their time is over.
        let due = node.json(0, &["recordings", "purge", "--dry-run", "--set", AT_ONCE]);
        assert_eq!(due.as_array().unwrap().len(), 1);
        assert_eq!(due[0]["id"], own.as_str());
    }
    // A hold on the other's recording reaches the other.
    b.ends(0, &["recordings", "hold", &of_a, "--reason", "case 18"]);
    let refused = a.json(3, &["recordings", "purge", "--yes", "--set", AT_ONCE]);
    assert!(refused[0]["error"].as_str().unwrap().contains("case 18"), "{refused}");
    a.ends(0, &["catalog", "sync"]);
    assert_eq!(a.row(&of_a)["hold"], "case 18");

    // While a records, b sees it and leaves it alone, over a start of its gateway too.
    let mut running = Background(a.demo(24).spawn().unwrap());
    b.configure("catalog: {sync_interval: 1s}\n");
    let gateway = b.serve();
    let mut id = String::new();
    wait_for(Duration::from_secs(60), "the other's session to be seen", || {
        let rows = b.rows();
        let found = rows.iter().find(|row| row["state"] == "recording");
        id = found.and_then(|row| row["id"].as_str()).unwrap_or_default().to_owned();
        Ok(!id.is_empty())
    })
    .unwrap();
    assert!(b.row(&id)["problem"].as_str().unwrap().contains("it runs on node"));
    drop(gateway);
    let _gateway = b.serve();
    assert!(running.0.wait().unwrap().success(), "the session was not disturbed");
    wait_for(Duration::from_secs(60), "the other's recording to be complete", || {
        Ok(b.row(&id)["state"] == "complete")
    })
    .unwrap();
    let manifest: Value =
        serde_json::from_slice(&fs::read(recording_folder(&shared, &id).join("manifest.json")).unwrap()).unwrap();
    assert!(manifest["manifest"].as_str().unwrap().contains("\"recovered\":false"));
    assert_eq!(a.row(&id)["node"], Value::Null);
    a.ends(0, &["recordings", "verify", &id]);
}

#[test]
fn storages_are_checked_compared_and_copied() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::new(dir.path(), "a", &dir.path().join("shared"));
    let ids = [node.record(), node.record()];
    let two = "storages=[{name: disk, plugin: local, settings: {path: ./recordings}}, \
               {name: copy, plugin: local, required: false, settings: {path: ./copy}}]";
    let json = |code, arguments: &[&str]| node.json(code, &[arguments, &["--set", two]].concat());
    let listed = json(0, &["storages", "ls"]);
    assert_eq!(
        (&listed[0]["name"], &listed[0]["healthy"], &listed[0]["pending"]),
        (&"disk".into(), &true.into(), &0.into())
    );
    assert!(
        listed[0]["stored"].as_u64().unwrap() >= 4 && listed[1]["stored"] == 0,
        "{listed}"
    );
    let checked = json(0, &["storages", "check"]);
    for storage in [0, 1] {
        let steps = checked[storage]["steps"].as_array().unwrap();
        assert!(
            steps.len() >= 9 && steps.iter().all(|step| step["ok"] == true),
            "{steps:#?}"
        );
    }
    let measured = json(0, &["storages", "bench", "copy", "--objects", "4", "--mib", "1"]);
    assert_eq!(measured[0]["operation"], "put");
    assert!(measured[0]["p99_ms"].as_f64().unwrap() > 0.0 && measured[1]["mib_per_second"].as_f64().unwrap() > 0.0);

    let copied = json(0, &["storages", "copy", "disk", "copy", "--missing"]);
    assert_eq!((&copied["recordings"], &copied["failed"]), (&2.into(), &0.into()));
    let again = json(0, &["storages", "copy", "disk", "copy", "--missing"]);
    assert_eq!((&again["objects"], &again["present"]), (&0.into(), &copied["objects"]));
    for id in &ids {
        let same = Command::new("diff")
            .arg("-r")
            .arg(recording_folder(&dir.path().join("shared"), id))
            .arg(recording_folder(&node.home.join("copy"), id))
            .status();
        assert!(same.unwrap().success());
        assert_eq!(
            node.row(id)["storages"].as_array().unwrap().len(),
            2,
            "{}",
            node.row(id)
        );
    }
    let clean = json(0, &["storages", "scan", "--digests"]);
    assert!(clean[1]["digests"].as_u64().unwrap() >= 4, "{clean}");

    // Damage at one storage is found, and mended from the other.
    let damaged = recording_folder(&node.home.join("copy"), &ids[0]).join("00000000.mcap");
    let mut bytes = fs::read(&damaged).unwrap();
    let whole = bytes.clone();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    fs::remove_file(recording_folder(&node.home.join("copy"), &ids[1]).join("manifest.json")).unwrap();
    fs::write(node.home.join("copy/notes.txt"), b"x").unwrap();
    let found = json(4, &["storages", "scan", "copy", "--digests"]);
    assert_eq!(
        found[0]["counts"],
        serde_json::json!({"stranger": 1, "missing": 1, "digest": 1})
    );
    json(4, &["storages", "scrub", "copy", "--sample", "1000"]);
    assert_eq!(node.events("storage.scrub").len(), 1);
    fs::remove_file(&damaged).unwrap();
    assert_eq!(
        json(0, &["storages", "copy", "disk", "copy", "--missing"])["objects"],
        2
    );
    assert_eq!(fs::read(&damaged).unwrap(), whole);
    let rest = json(3, &["storages", "scan", "copy", "--digests"]);
    assert_eq!(rest[0]["counts"], serde_json::json!({"stranger": 1}));
    assert_eq!(node.events("DRS01I").len(), 6, "begun and done of three copies");

    // A storage that does not work says so in plain words.
    let broken = "storages=[{name: disk, plugin: local, settings: {path: ./deskreel.yaml}}]";
    let (code, out, _) = node.run(&["storages", "check", "--set", broken]);
    assert!(code == 3 && out.contains("FAILED"), "{out}");
    let (code, out, _) = node.run(&["storages", "ls", "--set", broken]);
    assert!(code == 3 && out.contains("disk"), "{out}");
}
