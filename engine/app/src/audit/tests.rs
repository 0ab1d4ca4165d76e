//! Tests of the log as a whole: several writers, tampering, kills, a disk that fails.
#![expect(clippy::unwrap_used, reason = "tests")]

mod crash;
mod failure;
mod tamper;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use deskreel_config::{Config, OnFailure, Sources};
use serde_json::Value;

use super::*;

/// The default configuration with its data in `folder`.
pub(super) fn config(folder: &Path, on_failure: OnFailure) -> Config {
    let sources = Sources {
        working_dir: folder.to_owned(),
        ..Sources::default()
    };
    let mut config = deskreel_config::load(&sources).unwrap().config;
    config.audit.on_failure = on_failure;
    config
}

pub(super) fn event(name: &str) -> Event {
    Event::ChannelOpen {
        channel: name.to_owned(),
    }
}

/// Every line of the log, parsed.
pub(super) fn lines(data_dir: &Path) -> Vec<Value> {
    let mut lines = Vec::new();
    read(data_dir, &Filter::default(), |event| {
        lines.push(Value::Object(event.fields));
        Ok(())
    })
    .unwrap();
    lines
}

#[test]
fn a_line_has_the_common_fields_first_and_the_chain_last() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), OnFailure::Strict);
    let audit = Audit::open(&config).unwrap();
    let session = audit.session(SessionScope {
        sid: "0190".to_owned(),
        user: "alice".to_owned(),
        ..SessionScope::default()
    });
    session.update(|scope| scope.set_login("root", Some("CORP")));
    session.note(event("cliprdr"));
    session.note(event("rdpdr"));
    drop(session);
    drop(audit);
    let text = std::fs::read_to_string(config.data_dir.join("audit/audit.jsonl")).unwrap();
    let first = text.lines().next().unwrap();
    assert!(
        first.starts_with(r#"{"ei":0,"event":"desktop.channel.open","code":"DRC01I","time":""#),
        "{first}"
    );
    assert!(
        first.ends_with(&format!(r#","seq":1,"prev":"{}"}}"#, files::GENESIS)),
        "{first}"
    );
    let found = lines(&config.data_dir);
    assert_eq!(found[1]["ei"], 1);
    for (name, value) in [
        ("sid", "0190"),
        ("user", "alice"),
        ("login", "root"),
        ("windows_user", "root"),
        ("windows_domain", "CORP"),
        ("proto", "rdp"),
        ("channel", "rdpdr"),
        ("desktop_name", ""),
        ("addr.remote", ""),
    ] {
        assert_eq!(found[1][name], value, "{name}");
    }
    assert_eq!(found[1]["prev"], files::sha256(first.as_bytes()));
    for file in ["audit", "audit/audit.jsonl", "audit/head", "audit/lock"] {
        let mode = std::fs::metadata(config.data_dir.join(file))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o077, 0, "{file} is readable by others: {mode:o}");
    }
    assert!(verify(&config.data_dir, None).unwrap().whole);
}

#[test]
fn several_writers_make_one_chain() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), OnFailure::Strict);
    config.audit.file_max_bytes = 64 << 10;
    config.audit.files_max = 1000;
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let config = config.clone();
            std::thread::spawn(move || {
                let audit = Audit::open(&config).unwrap();
                for round in 0..100 {
                    let event = event(&format!("{number}-{round}-{}", "x".repeat(500)));
                    if round % 10 == 0 {
                        audit.emit(Scope::Node {}, &event).unwrap();
                    } else {
                        audit.note(Scope::Node {}, event);
                    }
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let report = verify(&config.data_dir, None).unwrap();
    assert!(report.whole, "{report:#?}");
    assert!(report.files > 3, "{report:#?}");
    for (_, path) in files::older(&config.data_dir.join(FOLDER)).unwrap() {
        let bytes = std::fs::metadata(&path).unwrap().len();
        assert!(
            bytes <= config.audit.file_max_bytes,
            "{}: {bytes} bytes",
            path.display()
        );
    }
    let found = lines(&config.data_dir);
    assert_eq!(found.len() as u64, report.last_seq);
    let channels = found.iter().filter(|line| line["event"] == "desktop.channel.open");
    assert_eq!(channels.count(), 400);
    // Each writer's events are in the order in which it wrote them.
    for number in 0..4 {
        let start = format!("{number}-");
        let mine = found
            .iter()
            .filter_map(|line| line["channel"].as_str()?.strip_prefix(&start));
        let rounds: Vec<u32> = mine
            .map(|name| name.split('-').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(rounds, (0..100).collect::<Vec<_>>());
    }
}

#[test]
fn old_files_go_and_the_chain_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), OnFailure::Strict);
    config.audit.file_max_bytes = 64 << 10;
    config.audit.files_max = 3;
    let audit = Audit::open(&config).unwrap();
    for _ in 0..100 {
        audit.emit(Scope::Node {}, &event(&"x".repeat(5000))).unwrap();
    }
    drop(audit);
    let report = verify(&config.data_dir, None).unwrap();
    assert!(report.whole, "{report:#?}");
    assert_eq!(report.files, 3);
    assert!(report.first_seq > 1);
    // Removing one more by hand is found.
    let oldest = files::older(&config.data_dir.join(FOLDER)).unwrap().remove(0).1;
    std::fs::remove_file(oldest).unwrap();
    let report = verify(&config.data_dir, None).unwrap();
    assert!(!report.whole);
    assert!(
        report.findings[0].problem.contains("no audit.log.rotate tells of it"),
        "{report:#?}"
    );
}

#[test]
fn followers_see_every_event_once_over_rotations() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(folder.path(), OnFailure::Strict);
    config.audit.file_max_bytes = 64 << 10;
    let audit = Audit::open(&config).unwrap();
    audit.emit(Scope::Node {}, &event("before")).unwrap();
    let filter = Filter {
        events: vec!["desktop.*".to_owned()],
        ..Filter::default()
    };
    let mut follow = Follow::new(&config.data_dir, filter).unwrap();
    let mut seen = Vec::new();
    for number in 0..60 {
        audit
            .emit(Scope::Node {}, &event(&format!("{number}{}", " ".repeat(10_000))))
            .unwrap();
        if number % 13 == 0 {
            seen.extend(follow.take().unwrap());
        }
    }
    seen.extend(follow.take().unwrap());
    assert!(follow.take().unwrap().is_empty());
    let seen: Vec<u32> = seen
        .iter()
        .map(|event| event.text("channel").trim().parse().unwrap())
        .collect();
    assert_eq!(seen, (0..60).collect::<Vec<_>>());
    let last = last(&config.data_dir, &Filter::default(), 2).unwrap();
    assert_eq!(last[1].text("channel").trim(), "59");
}

#[test]
fn what_is_too_long_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), OnFailure::Strict);
    let audit = Audit::open(&config).unwrap();
    audit.emit(Scope::Node {}, &event(&"x".repeat(LINE_MAX_BYTES))).unwrap();
    drop(audit);
    let found = lines(&config.data_dir);
    assert_eq!(found[0]["truncated"], true);
    assert!(found[0].get("channel").is_none());
}

#[test]
fn filters() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), OnFailure::Strict);
    let audit = Audit::open(&config).unwrap();
    for (sid, user) in [("0190aaaa", "alice"), ("0190bbbb", "bob")] {
        let session = audit.session(SessionScope {
            sid: sid.to_owned(),
            user: user.to_owned(),
            ..SessionScope::default()
        });
        session.note(event("cliprdr"));
        session.note(Event::SessionRejected {
            reason: "max_connections",
            maximum: 2,
        });
    }
    drop(audit);
    let count = |filter: Filter| last(&config.data_dir, &filter, 100).unwrap().len();
    assert_eq!(count(Filter::default()), 4);
    let named = |name: &str| Filter {
        events: vec![name.to_owned()],
        ..Filter::default()
    };
    assert_eq!(count(named("session.rejected")), 2);
    assert_eq!(count(named("t1006w")), 2);
    assert_eq!(count(named("session.*")), 2);
    assert_eq!(count(named("session")), 0);
    let by = |user: Option<&str>, session: Option<&str>| Filter {
        user: user.map(str::to_owned),
        session: session.map(str::to_owned),
        ..Filter::default()
    };
    assert_eq!(count(by(Some("alice"), None)), 2);
    assert_eq!(count(by(None, Some("0190B"))), 2);
    assert_eq!(count(by(Some("alice"), Some("0190b"))), 0);
    let now = OffsetDateTime::now_utc();
    let between = |from: i64, to: i64| Filter {
        from: Some(now + time::Duration::seconds(from)),
        to: Some(now + time::Duration::seconds(to)),
        ..Filter::default()
    };
    assert_eq!(count(between(-60, 60)), 4);
    assert_eq!(count(between(-60, -30)), 0);
    assert_eq!(count(between(30, 60)), 0);
}
