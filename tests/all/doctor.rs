//! `deskreel doctor` on real folders: what is well, and each thing that can be wrong.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use peers::gateway::{Gateway, Settings, run_in};
use peers::process::{free_port, wait_for};
use serde_json::Value;

/// Exit code and report.
fn doctor(dir: &Path) -> (i32, Value) {
    let output = run_in(dir, &["doctor", "--format", "json"]).unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().unwrap(), report)
}

/// Findings of one check that are not in order, each with what to do.
fn wrong(report: &Value, check: &str) -> Vec<String> {
    let findings = report["findings"].as_array().unwrap();
    let wrong = findings
        .iter()
        .filter(|finding| finding["check"] == check && finding["state"] != "ok");
    wrong
        .map(|finding| {
            let remedy = finding["remedy"].as_str().unwrap();
            assert!(!remedy.is_empty(), "{finding}");
            format!(
                "{}: {} -> {remedy}",
                finding["state"].as_str().unwrap(),
                finding["what"].as_str().unwrap()
            )
        })
        .collect()
}

/// What is wrong while `change` holds; afterwards all is well again.
fn with(dir: &Path, check: &str, exit: i32, change: impl FnOnce(), undo: impl FnOnce()) -> Vec<String> {
    change();
    let (code, report) = doctor(dir);
    let found = wrong(&report, check);
    assert!(
        !found.is_empty() && code == exit,
        "{check}: exit {code}, not {exit}: {report:#}"
    );
    undo();
    let (code, report) = doctor(dir);
    assert_eq!(code, 0, "{report:#}");
    found
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
}

#[test]
fn a_healthy_node_and_each_thing_that_can_be_wrong() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dir = folder.path();
    let mut gateway = Gateway::start(dir, &Settings::of(free_port()?, "async"))?;
    // it listens for clients a moment before it can be asked
    wait_for(Duration::from_secs(60), "the control socket", || {
        Ok(dir.join("data/control.sock").exists())
    })?;
    let (code, report) = doctor(dir);
    assert_eq!((code, &report["running"]), (0, &Value::Bool(true)), "{report:#}");
    let text = String::from_utf8(run_in(dir, &["doctor"])?.stdout)?;
    for line in [
        "ok       storage        disk: plugin local opens and can be written",
        "ok       catalog        opens and is whole",
        "ok       gateway        runs and answers: 0 sessions are open",
        "0 errors, 0 warnings",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let port = gateway.port;
    gateway.process.end();
    assert_eq!(doctor(dir).0, 0);

    let data = dir.join("data");
    let config = dir.join("deskreel.yaml");
    let written = fs::read_to_string(&config)?;
    let configured = |key: &str| write(&config, format!("{written}{key}\n"));
    let back = || write(&config, &written);

    let found = with(dir, "configuration", 2, || configured("gatewy: {}"), back);
    assert!(found[0].contains("gatewy: unknown"), "{found:?}");

    let taken = TcpListener::bind(("127.0.0.1", port))?;
    let (code, report) = doctor(dir);
    let found = wrong(&report, "port");
    assert!(
        code == 3 && found[0].contains("stop the program that listens there"),
        "{code} {found:?}"
    );
    drop(taken);
    let taken = TcpListener::bind(("127.0.0.1", 0))?;
    let pages = format!("web: {{listen: '{}'}}", taken.local_addr()?);
    let found = with(dir, "port", 3, || configured(&pages), back);
    assert!(found[0].starts_with("error: web.listen"), "{found:?}");

    let found = with(dir, "disk", 3, || configured("spool: {min_free_bytes: 1000TiB}"), back);
    assert!(
        found[0].starts_with("error: ") && found[0].contains("sessions are refused"),
        "{found:?}"
    );

    let key = data.join("keys/node.pem");
    let found = with(dir, "files", 3, || mode(&key, 0o644), || mode(&key, 0o600));
    assert!(
        found[0].contains("node.pem has mode 644") && found[0].contains("chmod 600"),
        "{found:?}"
    );
    let found = with(dir, "files", 3, || mode(&data, 0o755), || mode(&data, 0o700));
    assert!(
        found[0].contains("data_dir") && found[0].contains("chmod 700"),
        "{found:?}"
    );
    let resources = dir.join("resources");
    let found = with(dir, "files", 3, || mode(&resources, 0o777), || mode(&resources, 0o755));
    assert!(found[0].contains("others may change it"), "{found:?}");

    let recordings = dir.join("recordings");
    let kept = dir.join("kept");
    let block = || {
        fs::rename(&recordings, &kept).unwrap();
        write(&recordings, "a file where the folder should be");
    };
    let unblock = || {
        fs::remove_file(&recordings).unwrap();
        fs::rename(&kept, &recordings).unwrap();
    };
    let found = with(dir, "storage", 3, block, unblock);
    assert!(
        found[0].starts_with("error: disk: ") && found[0].contains("it is required"),
        "{found:?}"
    );

    let lab = resources.join("lab.yaml");
    let good = fs::read_to_string(&lab)?;
    let bad = good.replace("version: v3", "version: v9");
    let found = with(dir, "resources", 2, || write(&lab, bad), || write(&lab, &good));
    assert!(
        found[0].contains("in force is revision ") && found[0].contains("windows_desktop/lab"),
        "{found:?}"
    );

    let log = data.join("audit/audit.jsonl");
    let events = fs::read_to_string(&log)?;
    let changed = events.replacen("config-file", "config_file", 1);
    assert_ne!(events, changed);
    let found = with(dir, "audit", 4, || write(&log, changed), || write(&log, &events));
    assert!(
        found[0].starts_with("broken: ") && found[0].contains("was changed"),
        "{found:?}"
    );
    let later = events.replace("\"time\":\"20", "\"time\":\"21");
    write(&log, later);
    let found = wrong(&doctor(dir).1, "clock");
    assert!(found[0].contains("but something was written at 21"), "{found:?}");
    write(&log, &events);

    // the last to close it after a change moves everything from its log into the file; then nobody has it open, and the bytes
    // of its pages can be spoilt as a disk would
    assert!(run_in(dir, &["lock", "--user", "mallory"])?.status.success());
    let catalog = data.join("catalog.sqlite");
    let bytes = fs::read(&catalog)?;
    let mut spoilt = bytes.clone();
    spoilt[4096..].fill(0x5a);
    let found = with(
        dir,
        "catalog",
        4,
        || write(&catalog, spoilt),
        || write(&catalog, &bytes),
    );
    assert!(found[0].starts_with("broken: "), "{found:?}");
    // a newer Deskreel wrote it
    let mut newer = bytes.clone();
    newer[60..64].copy_from_slice(&999u32.to_be_bytes());
    let found = with(dir, "catalog", 3, || write(&catalog, newer), || write(&catalog, &bytes));
    assert!(
        found[0].contains("run the version of Deskreel that wrote it"),
        "{found:?}"
    );
    Ok(())
}
