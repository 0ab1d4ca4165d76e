//! What the audit log is told of a session, from its start to its end and beyond.

use deskreel_config::{Mode, OnFailure, RecordingMode};
use deskreel_recording::Event;
use deskreel_recording::event::{ChannelFacts, SessionEvent};
use serde_json::Value;
use time::OffsetDateTime;
use uuid::Uuid;

use super::bed::{Bed, Fixture, ended, eventually};
use crate::audit::{Filter, last, verify};
use crate::catalog::{Catalog, IdentityKind, NewSession, State};
use crate::pipeline::{OpenError, SessionFacts, Sessions};

fn facts(fixture: &Fixture, sessions: &Sessions) -> SessionFacts {
    let mut facts = fixture.facts();
    let audit = sessions.audit();
    facts.audit = audit.session(audit.scope(facts.id, "127.0.0.1:50000"));
    facts
}

fn opened(channel: &str) -> Event {
    Event::Session(SessionEvent::ChannelOpened(ChannelFacts {
        name: channel.to_owned(),
        dynamic: true,
        reason: None,
    }))
}

/// The session's events, oldest first.
fn events(bed: &Bed, id: Uuid) -> Vec<Value> {
    let filter = Filter {
        session: Some(id.to_string()),
        ..Filter::default()
    };
    let events = last(&bed.config.data_dir, &filter, 1000).unwrap();
    events.into_iter().map(|event| Value::Object(event.fields)).collect()
}

fn names(events: &[Value]) -> Vec<&str> {
    let names = events.iter().map(|event| event["event"].as_str().unwrap());
    names.filter(|name| !name.starts_with("desktop.clipboard")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_session_from_start_to_delivery() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = facts(&fixture, &sessions);
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    recorder.note(opened("Microsoft::Windows::RDS::DisplayControl"));
    recorder.ended(ended());
    bed.wait_for(id, State::Complete).await;
    sessions.shutdown().await;
    let complete = || names(&events(&bed, id)).contains(&"session.recording.complete");
    eventually("the log knows that it is complete", complete).await;
    let events = events(&bed, id);
    assert_eq!(
        names(&events),
        [
            "windows.desktop.session.start",
            "session.recording.start",
            "desktop.channel.open",
            "windows.desktop.session.end",
            "session.upload",
            "session.recording.complete",
        ]
    );
    let node = bed.key().fingerprint();
    for event in &events {
        for (name, value) in [
            ("sid", id.to_string().as_str()),
            ("user", "alice"),
            ("login", "alice"),
            ("windows_domain", "LAB"),
            ("desktop_name", "lab"),
            ("desktop_addr", "127.0.0.1:3389"),
            ("addr.remote", "127.0.0.1:50000"),
            ("proto", "rdp"),
            ("windows_desktop_service", node.as_str()),
        ] {
            assert_eq!(event[name], value, "{name} of {event}");
        }
        assert_eq!(event["desktop_labels"]["env"], "lab", "{event}");
    }
    assert_eq!(events[0]["ei"], 0);
    assert_eq!(
        (&events[0]["success"], &events[0]["code"]),
        (&true.into(), &"TDP00I".into())
    );
    assert_eq!(events[0]["client"]["name"], "LAPTOP");
    assert_eq!(events[0]["identity"], "claimed");
    let of = |name: &str| events.iter().find(|event| event["event"] == name).unwrap();
    let (end, upload) = (of("windows.desktop.session.end"), of("session.upload"));
    assert_eq!((&end["recorded"], &end["recovered"]), (&true.into(), &false.into()));
    assert_eq!(end["end_reason"], "client_closed: client disconnected");
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert_eq!(end["bytes"], row.bytes);
    assert_eq!(upload["storage"], "disk");
    assert_eq!(upload["url"], format!("disk:{}", deskreel_recording::manifest_key(id)));
    let complete = of("session.recording.complete");
    assert_eq!(complete["segments"], row.segments);
    let manifest = bed.storages[0].read(&deskreel_recording::manifest_key(id)).unwrap();
    assert_eq!(complete["digest"], hex::encode(deskreel_recording::sha256(&manifest)));
    assert_eq!(complete["digest"].as_str(), row.manifest_sha256.as_deref());
    assert!(verify(&bed.config.data_dir, None).unwrap().whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_recorded_says_why() {
    let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.config.session_recording.mode = RecordingMode::Off;
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = facts(&fixture, &sessions);
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    recorder.note(opened("rdpsnd"));
    recorder.ended(ended());
    drop(recorder);
    eventually("its end is told", || names(&events(&bed, id)).len() == 3).await;
    let events = events(&bed, id);
    assert_eq!(
        names(&events),
        [
            "windows.desktop.session.start",
            "desktop.channel.open",
            "windows.desktop.session.end"
        ]
    );
    for event in [&events[0], &events[2]] {
        assert_eq!(event["recorded"], false);
        assert!(
            event["not_recorded"].as_str().is_some_and(|why| !why.is_empty()),
            "{event}"
        );
    }
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_neither_starts_nor_goes_on_without_the_log() {
    let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.config.audit.on_failure = OnFailure::Strict;
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let running = facts(&fixture, &sessions);
    let id = running.id;
    let recorder = sessions.open(running).await.unwrap();
    fixture.feed(&recorder).await;
    let log = bed.config.data_dir.join("audit/audit.jsonl");
    let aside = bed.config.data_dir.join("audit/aside");
    std::fs::rename(&log, &aside).unwrap();
    std::fs::create_dir(&log).unwrap();
    recorder.note(opened("rdpsnd"));
    let failed = tokio::time::timeout(std::time::Duration::from_secs(60), recorder.failed());
    let reason = failed.await.unwrap().reason;
    assert!(reason.contains("the audit log can't be written"), "{reason}");
    let refused = sessions.open(facts(&fixture, &sessions)).await.unwrap_err();
    assert!(matches!(refused, OpenError::Audit(_)), "{refused}");
    std::fs::remove_dir(&log).unwrap();
    std::fs::rename(&aside, &log).unwrap();
    recorder.ended(ended());
    bed.wait_for(id, State::Complete).await;
    sessions.shutdown().await;
    // What happened meanwhile is in the log all the same.
    assert!(names(&events(&bed, id)).contains(&"desktop.channel.open"));
    assert!(verify(&bed.config.data_dir, None).unwrap().whole);
}

/// A session that the gateway was in when it was killed.
fn left_open(bed: &Bed, recorded: bool) -> Uuid {
    let session = NewSession {
        id: Uuid::now_v7(),
        started: OffsetDateTime::now_utc(),
        user: "alice".to_owned(),
        identity: IdentityKind::Claimed,
        login: "LAB\\alice".to_owned(),
        desktop: "lab".to_owned(),
        desktop_addr: String::new(),
        labels: std::collections::BTreeMap::new(),
        roles: vec!["access".to_owned()],
        decision: None,
        client_addr: String::new(),
        client_name: String::new(),
    };
    let catalog = Catalog::open(&bed.config.data_dir).unwrap();
    if recorded {
        catalog.session_started(&session).unwrap();
    } else {
        catalog.session_not_recorded(&session, "cluster_off").unwrap();
    }
    session.id
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_of_a_killed_gateway_end_once() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.start().await.shutdown().await;
    let (recorded, unrecorded) = (left_open(&bed, true), left_open(&bed, false));
    for _ in 0..2 {
        bed.start().await.shutdown().await;
        let told = events(&bed, recorded);
        assert_eq!(
            names(&told),
            ["session.recording.recover", "windows.desktop.session.end"]
        );
        assert_eq!(told[0]["code"], "DRR04W");
        assert_eq!(
            (&told[1]["recovered"], &told[1]["recorded"]),
            (&true.into(), &true.into())
        );
        assert_eq!(
            (&told[1]["login"], &told[1]["roles"][0]),
            (&"alice".into(), &"access".into())
        );
        let told = events(&bed, unrecorded);
        assert_eq!(names(&told), ["windows.desktop.session.end"]);
        assert_eq!(
            (&told[0]["recorded"], &told[0]["not_recorded"]),
            (&false.into(), &"cluster_off".into())
        );
    }
}
