//! `kill -9`, really: processes of this test binary write, are killed at some moment, and the log goes on.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

use super::*;

const DATA: &str = "AUDIT_TEST_FOLDER";
/// Kills at each of so many moments.
const ROUNDS: usize = 5;

/// Writes for ever; a line for each event that is durable.
#[test]
#[ignore = "started and killed by the test below"]
fn child() {
    let Some(folder) = std::env::var_os(DATA) else { return };
    let mut config = config(Path::new(&folder), OnFailure::Strict);
    config.audit.file_max_bytes = 256 << 10;
    config.audit.files_max = 10_000;
    let audit = Audit::open(&config).unwrap();
    for number in 0.. {
        let name = format!("{}-{number}", std::process::id());
        for _ in 0..5 {
            audit.note(Scope::Node {}, event(&"unawaited".repeat(1000)));
        }
        audit.emit(Scope::Node {}, &event(&name)).unwrap();
        println!("\ndurable {name}");
    }
}

fn start(folder: &Path) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["audit::tests::crash::child", "--exact", "--ignored", "--nocapture"])
        .env(DATA, folder)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn what_was_acknowledged_survives_and_the_chain_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = config(folder.path(), OnFailure::Strict).data_dir;
    let mut durable = Vec::new();
    for round in 1..=ROUNDS {
        let mut children: Vec<Child> = (0..2).map(|_| start(folder.path())).collect();
        for child in &mut children {
            let out = BufReader::new(child.stdout.take().unwrap()).lines();
            let names = out
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("durable ").map(str::to_owned));
            durable.extend(names.take(7 * round));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // The next writer mends what they left.
        let audit = Audit::open(&config(folder.path(), OnFailure::Strict)).unwrap();
        audit.emit(Scope::Node {}, &event("after")).unwrap();
        drop(audit);
        let report = verify(&data_dir, None).unwrap();
        assert!(report.whole, "round {round}: {report:#?}");
        let found = lines(&data_dir);
        let names: std::collections::HashSet<&str> = found.iter().filter_map(|line| line["channel"].as_str()).collect();
        for name in &durable {
            assert!(
                names.contains(name.as_str()),
                "round {round}: {name} was told to be durable"
            );
        }
    }
    assert_eq!(durable.len(), 2 * 7 * (1 + 2 + 3 + 4 + 5));
}

#[test]
fn a_torn_line_is_removed_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), OnFailure::Strict);
    let audit = Audit::open(&config).unwrap();
    audit.emit(Scope::Node {}, &event("one")).unwrap();
    let path = config.data_dir.join("audit/audit.jsonl");
    let whole = std::fs::read(&path).unwrap();
    let half = br#"{"ei":0,"event":"desktop.chan"#;
    std::fs::write(&path, [&whole[..], half].concat()).unwrap();
    // Not a finding: the line was promised to nobody.
    let report = verify(&config.data_dir, None).unwrap();
    assert!(report.whole, "{report:#?}");
    assert!(report.notes[0].problem.contains("torn"), "{report:#?}");
    assert_eq!(lines(&config.data_dir).len(), 1);
    audit.emit(Scope::Node {}, &event("two")).unwrap();
    let report = verify(&config.data_dir, None).unwrap();
    assert!(report.whole, "{report:#?}");
    let found = lines(&config.data_dir);
    let events: Vec<&str> = found.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        ["desktop.channel.open", "audit.log.repair", "desktop.channel.open"]
    );
    assert_eq!(found[1]["torn"], String::from_utf8_lossy(half).as_ref());
    assert_eq!(found[1]["code"], "DRL01W");
}
