#![expect(clippy::unwrap_used, reason = "tests")]

use time::Duration;

use super::*;
use uuid::Uuid;

fn session(number: u128) -> NewSession {
    NewSession {
        id: Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number),
        started: time::OffsetDateTime::UNIX_EPOCH + Duration::days(20_000) + Duration::seconds(number as i64),
        user: "alice".into(),
        identity: IdentityKind::Claimed,
        login: "LAB\\alice".into(),
        desktop: "lab".into(),
        desktop_addr: "127.0.0.1:3389".into(),
        labels: [("env".to_owned(), "lab".to_owned())].into(),
        roles: vec!["access".into()],
        decision: Some(serde_json::json!({"verdict": "allow"})),
        client_addr: "127.0.0.1:40000".into(),
        client_name: "LAPTOP".into(),
    }
}

fn segment(number: u32) -> SegmentRow {
    SegmentRow {
        number,
        bytes: 1000,
        sha256: "00".repeat(32),
        first_ns: u64::from(number) * 1_000_000_000,
        last_ns: (u64::from(number) + 1) * 1_000_000_000,
        starts_with_key: number == 0,
    }
}

#[test]
fn a_session_from_start_to_complete() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    let new = session(1);
    catalog.session_started(&new).unwrap();
    let targets = [("disk", true), ("cloud", false)];
    catalog.segment_sealed(new.id, &segment(0), &targets).unwrap();
    catalog.segment_sealed(new.id, &segment(1), &targets).unwrap();
    let at = new.started + Duration::seconds(3);
    catalog.stored(new.id, Object::Segment(0), "disk", at).unwrap();
    // Repeating a step changes nothing, least of all what is already known to be stored.
    catalog.segment_sealed(new.id, &segment(0), &targets).unwrap();
    catalog
        .stored(new.id, Object::Segment(0), "disk", at + Duration::seconds(9))
        .unwrap();
    let gap = GapRow {
        from_ns: 5,
        to_ns: 9,
        reason: "queue full".into(),
    };
    catalog.gap(new.id, &gap).unwrap();
    catalog.gap(new.id, &gap).unwrap();

    let running = catalog.session(&new.id.to_string()).unwrap();
    assert_eq!(
        (running.state, running.duration_ms, running.bytes),
        (State::Recording, 2000, 2000)
    );
    assert_eq!((running.segments, running.gaps, running.ended), (2, 1, None));

    let closed = Closed {
        state: State::Delivering,
        ended: new.started + Duration::seconds(4),
        duration_ms: 4000,
        undecoded: 7,
        end_reason: "client disconnected".into(),
        problem: None,
        manifest_sha256: None,
    };
    catalog.closed(new.id, &closed, &targets).unwrap();
    assert_eq!(catalog.sessions_in(State::Delivering).unwrap().len(), 1);
    catalog.delivered(new.id).unwrap();
    let row = catalog.session(&new.id.to_string()[..20]).unwrap();
    assert_eq!((row.state, row.duration_ms, row.undecoded), (State::Complete, 4000, 7));
    assert_eq!(row.ended, Some(closed.ended));
    assert_eq!(catalog.segments(new.id).unwrap(), vec![segment(0), segment(1)]);
    assert_eq!(catalog.gaps(new.id).unwrap(), vec![gap]);
    let placements = catalog.placements(new.id).unwrap();
    assert_eq!(placements.len(), 6);
    let last = placements.last().unwrap();
    assert_eq!(
        (last.object, last.storage.as_str(), last.required),
        (Object::Manifest, "disk", true)
    );
    let stored: Vec<_> = placements
        .iter()
        .filter_map(|row| row.stored.map(|at| (row.object, at)))
        .collect();
    assert_eq!(stored, vec![(Object::Segment(0), at)]);
}

#[test]
fn ids_may_be_shortened_while_unique() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    for number in [0x11, 0x12, 0x21] {
        catalog.session_started(&session(number)).unwrap();
    }
    let id = session(0x21).id.to_string();
    assert_eq!(catalog.session(&id[..35]).unwrap().id, session(0x21).id);
    assert_eq!(catalog.session(&id.to_uppercase()).unwrap().id, session(0x21).id);
    let shared = &session(0x11).id.to_string()[..35];
    assert!(matches!(
        catalog.session(shared),
        Err(Error::Ambiguous { count: 2, .. })
    ));
    for junk in ["", "zz", "%", "0190_", "'; DROP TABLE sessions"] {
        assert!(matches!(catalog.session(junk), Err(Error::NotFound(_))), "{junk}");
    }
    assert!(matches!(catalog.session("ffff"), Err(Error::NotFound(_))));
}

#[test]
fn reads_while_another_connection_writes() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(Catalog::open_read_only(folder.path()), Err(Error::Missing(_))));
    let writer = Catalog::open(folder.path()).unwrap();
    writer.session_started(&session(1)).unwrap();
    let reader = Catalog::open_read_only(folder.path()).unwrap();
    let mut held = writer.lock();
    let transaction = held
        .transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)
        .unwrap();
    transaction.execute("UPDATE sessions SET user = 'mallory'", []).unwrap();
    assert_eq!(reader.sessions().unwrap()[0].user, "alice");
    transaction.commit().unwrap();
    assert_eq!(reader.sessions().unwrap()[0].user, "mallory");
    assert!(reader.session_started(&session(2)).is_err(), "a reader cannot write");
}

#[test]
fn reads_when_no_gateway_runs() {
    let folder = tempfile::tempdir().unwrap();
    drop(Catalog::open(folder.path()).unwrap());
    assert!(
        Catalog::open_read_only(folder.path())
            .unwrap()
            .sessions()
            .unwrap()
            .is_empty()
    );
}

#[test]
fn other_schema_versions_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    catalog.lock().pragma_update(None, "user_version", 999).unwrap();
    drop(catalog);
    assert!(matches!(
        Catalog::open(folder.path()),
        Err(Error::Newer { found: 999, .. })
    ));
    assert!(matches!(
        Catalog::open_read_only(folder.path()),
        Err(Error::Newer { found: 999, .. })
    ));
}

#[test]
fn damage_is_added_up_and_outlives_delivery() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    let new = session(1);
    catalog.session_started(&new).unwrap();
    catalog.damaged(new.id, "segment 3 is missing").unwrap();
    catalog.damaged(new.id, "segment 3 is missing").unwrap();
    catalog.damaged(new.id, "segment 5 is missing").unwrap();
    let closed = Closed {
        state: State::Delivering,
        ended: new.started,
        duration_ms: 0,
        undecoded: 0,
        end_reason: String::new(),
        problem: None,
        manifest_sha256: None,
    };
    catalog.closed(new.id, &closed, &[]).unwrap();
    catalog.delivered(new.id).unwrap();
    let row = catalog.session(&new.id.to_string()).unwrap();
    assert_eq!(row.state, State::Damaged);
    assert_eq!(
        row.problem.as_deref(),
        Some("segment 3 is missing; segment 5 is missing")
    );
}

#[test]
fn what_was_not_recorded_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(folder.path()).unwrap();
    let new = session(1);
    catalog.session_not_recorded(&new, "cluster_off").unwrap();
    catalog
        .session_ended(new.id, new.started + Duration::seconds(2), 2000, "client disconnected")
        .unwrap();
    let row = catalog.session(&new.id.to_string()).unwrap();
    assert_eq!((row.state, row.duration_ms), (State::NotRecorded, 2000));
    assert_eq!(row.problem.as_deref(), Some("cluster_off"));
}
