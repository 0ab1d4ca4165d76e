//! The catalog from what storages have.

use std::time::Instant;

use deskreel_recording::key_id;
use time::Duration;
use uuid::Uuid;

use super::bed::{Bed, Wanted, key, now, record, row, trust, wanted};
use crate::access::recordings::facts;
use crate::catalog::{NewSession, Object, State};
use crate::keep::hold::{self, Mark};
use crate::keep::look::Trust;
use crate::keep::purge::due;
use crate::keep::retention::Rules;
use crate::keep::sync::Scope;

#[test]
fn a_lost_catalog_comes_back_from_one_storage() {
    let bed = Bed::new(&["a"], "");
    let (mine, old) = (key(1), key(2));
    let own = bed.record("a", &mine, &wanted());
    let foreign = bed.record("a", &old, &wanted());
    let open = bed.record(
        "a",
        &mine,
        &Wanted {
            manifest: false,
            ..wanted()
        },
    );
    let mark = Mark {
        recording: own,
        reason: "case 17".into(),
        by: "bob".into(),
        at: now(),
    };
    assert!(hold::put(bed.handle(), &bed.storages, &mark).is_empty());
    let catalog = bed.catalog("data");
    let synced = bed.rebuild(&catalog, &trust(&mine));
    assert_eq!(
        (synced.recordings, synced.added, synced.open, synced.unproven),
        (3, 3, 1, 1)
    );
    assert!(synced.problems.is_empty(), "{:?}", synced.problems);

    let mine_row = row(&catalog, own);
    assert_eq!(
        (mine_row.state, mine_row.node.clone(), mine_row.unproven),
        (State::Complete, None, false)
    );
    assert_eq!((mine_row.user.as_str(), mine_row.desktop.as_str()), ("alice", "lab"));
    assert_eq!((mine_row.segments, mine_row.duration_ms), (2, 2000));
    assert_eq!(mine_row.started, wanted().started);
    assert_eq!(
        (mine_row.hold.as_deref(), mine_row.held_by.as_deref()),
        (Some("case 17"), Some("bob"))
    );
    assert_eq!(catalog.placements(own).unwrap().len(), 3);
    assert_eq!(catalog.segments(own).unwrap().len(), 2);

    let theirs = row(&catalog, foreign);
    assert_eq!(theirs.node.as_deref(), Some("elsewhere"));
    assert_eq!(theirs.key_id, Some(key_id(&old.verifying_key())));
    assert!(theirs.unproven);
    // No rule takes the word of somebody who could write to the storage.
    assert_eq!(
        (facts(&theirs).user.as_str(), facts(&theirs).participants.len()),
        ("", 0)
    );

    // The node's own, to be closed by its own recovery; nobody else's would be.
    let crashed = row(&catalog, open);
    assert_eq!((crashed.state, crashed.node), (State::Recording, None));
    assert_eq!(catalog.sessions_in(State::Recording).unwrap().len(), 1);
    // Again: nothing new.
    let again = bed.rebuild(&catalog, &trust(&mine));
    assert_eq!((again.added, again.updated), (0, 0));
}

#[test]
fn a_trusted_key_makes_facts_of_claims() {
    let bed = Bed::new(&["a"], "");
    let id = bed.record("a", &key(2), &wanted());
    let catalog = bed.catalog("data");
    let trust = Trust {
        own: Some(key(1).verifying_key()),
        others: vec![key(2).verifying_key()],
    };
    assert_eq!(bed.sync(&catalog, &trust).unproven, 0);
    let row = row(&catalog, id);
    assert_eq!((row.unproven, row.node.as_deref()), (false, Some("elsewhere")));
    assert_eq!(facts(&row).participants, ["alice"]);

    // A key that comes to be trusted later, or is put back, makes the difference at the next look.
    let later = bed.catalog("later");
    bed.sync(&later, &super::bed::trust(&key(1)));
    assert!(super::bed::row(&later, id).unproven);
    assert_eq!(bed.sync(&later, &trust).updated, 1);
    assert!(!super::bed::row(&later, id).unproven);
    assert_eq!(bed.sync(&later, &trust).updated, 0);
    assert_eq!(bed.sync(&later, &super::bed::trust(&key(2))).updated, 1);
    assert_eq!(super::bed::row(&later, id).node, None);
}

#[test]
fn another_nodes_recording_appears_grows_closes_and_goes() {
    let bed = Bed::new(&["a"], "");
    let catalog = bed.catalog("data");
    let trust = trust(&key(1));
    let (id, objects) = record(&key(2), &wanted());
    bed.write("a", &objects[..1]);
    let first = bed.sync_today(&catalog, &trust);
    assert_eq!((first.added, first.open), (1, 1));
    let running = row(&catalog, id);
    assert_eq!(running.state, State::Recording);
    assert_eq!(running.node.as_deref(), Some("elsewhere"));
    assert!(running.problem.unwrap().contains("it runs on node elsewhere"));
    // Recovery doesn't see it.
    assert!(catalog.sessions_in(State::Recording).unwrap().is_empty());
    assert!(
        crate::keep::erase::untouchable(&row(&catalog, id))
            .unwrap()
            .contains("may still be written")
    );

    bed.write("a", &objects[1..2]);
    bed.sync_today(&catalog, &trust);
    assert_eq!(catalog.stored_at(id, "a").unwrap(), 2);
    bed.write("a", &objects);
    let closed = bed.sync_today(&catalog, &trust);
    assert_eq!((closed.added, closed.updated, closed.open), (0, 1, 0));
    let done = row(&catalog, id);
    assert_eq!((done.state, done.segments, done.problem), (State::Complete, 2, None));
    assert!(done.manifest_sha256.is_some());

    // Their node's retention deletes it: this one's catalog has nothing to say of it any more.
    std::fs::remove_dir_all(bed.recording("a", id)).unwrap();
    assert_eq!(bed.sync_as(&catalog, &trust, false, Scope::Recent, now()).gone, 0);
    assert_eq!(bed.sync_today(&catalog, &trust).gone, 1);
    assert!(catalog.find(id).unwrap().is_none());
}

#[test]
fn what_runs_here_is_left_to_its_pipeline() {
    let bed = Bed::new(&["a"], "");
    let catalog = bed.catalog("data");
    let mine = key(1);
    let (id, objects) = record(&mine, &wanted());
    catalog.session_started(&session(id)).unwrap();
    bed.write("a", &objects);
    for rebuild in [false, true] {
        let synced = bed.sync_as(&catalog, &trust(&mine), rebuild, Scope::All, now());
        assert_eq!((synced.recordings, synced.added, synced.updated), (1, 0, 0));
    }
    assert_eq!(row(&catalog, id).state, State::Recording);
    assert_eq!(catalog.stored_at(id, "a").unwrap(), 0);
    // A recording that this node's key signed and that it doesn't know: perhaps a twin with the same key writes it. A look
    // beside the gateway never makes it this node's to close.
    let twin = bed.record(
        "a",
        &mine,
        &Wanted {
            manifest: false,
            ..wanted()
        },
    );
    bed.sync(&catalog, &trust(&mine));
    assert!(row(&catalog, twin).node.is_some());
}

fn session(id: Uuid) -> NewSession {
    crate::pipeline::unknown_session(id, None)
}

#[test]
fn damage_is_told_and_hides_nothing_else() {
    let bed = Bed::new(&["a"], "");
    let catalog = bed.catalog("data");
    let (torn, objects) = record(&key(2), &wanted());
    bed.write("a", &objects);
    std::fs::write(bed.path("a").join(&objects[2].0), b"{\"deskreel_manifest\": 1}").unwrap();
    let (swapped, mut objects) = record(&key(2), &wanted());
    let (_, others) = record(&key(2), &wanted());
    objects[2].1 = others[2].1.clone();
    bed.write("a", &objects);
    let (short, objects) = record(&key(2), &wanted());
    bed.write("a", &objects);
    std::fs::remove_file(bed.path("a").join(&objects[1].0)).unwrap();
    let whole = bed.record("a", &key(2), &wanted());
    bed.write("a", &[("not-a-recording".to_owned(), "x".into())]);

    let synced = bed.sync(&catalog, &trust(&key(1)));
    assert_eq!((synced.recordings, synced.added), (4, 4));
    assert_eq!(synced.problems.len(), 2, "{:?}", synced.problems);
    for (id, problem) in [
        (torn, "the manifest at storage a"),
        (swapped, "of recording"),
        (short, "segment 1"),
    ] {
        let row = row(&catalog, id);
        assert_eq!(row.state, State::Damaged, "{problem}");
        assert!(row.problem.clone().unwrap().contains(problem), "{row:?}");
    }
    assert_eq!(row(&catalog, whole).state, State::Complete);
}

#[test]
fn what_nobody_writes_any_more_counts_as_crashed() {
    let bed = Bed::new(&["a"], "");
    let catalog = bed.catalog("data");
    let id = bed.record(
        "a",
        &key(2),
        &Wanted {
            manifest: false,
            ..wanted()
        },
    );
    let today = time::OffsetDateTime::now_utc();
    bed.sync_as(&catalog, &trust(&key(1)), false, Scope::All, today + Duration::hours(1));
    assert_eq!(row(&catalog, id).state, State::Recording);
    bed.sync_as(&catalog, &trust(&key(1)), false, Scope::All, today + Duration::days(3));
    let row = row(&catalog, id);
    assert_eq!(row.state, State::Damaged);
    assert!(row.problem.unwrap().contains("its node crashed"));
}

#[test]
fn ten_thousand_recordings() {
    let bed = Bed::new(&["a"], "retention: {default: 1d}\n");
    let mine = key(1);
    for number in 0..10_000 {
        let wanted = Wanted {
            started: now() - Duration::days(2) + Duration::seconds(number),
            segments: 1,
            ..wanted()
        };
        bed.record("a", &mine, &wanted);
    }
    let catalog = bed.catalog("data").relaxed().unwrap();
    let begun = Instant::now();
    let synced = bed.rebuild(&catalog, &trust(&mine));
    let rebuilt = begun.elapsed();
    assert_eq!((synced.recordings, synced.added), (10_000, 10_000));
    let begun = Instant::now();
    assert_eq!(bed.sync(&catalog, &trust(&mine)).updated, 0);
    let again = begun.elapsed();
    let begun = Instant::now();
    assert_eq!(catalog.sessions().unwrap().len(), 10_000);
    let places = catalog.places().unwrap();
    let listed = begun.elapsed();
    assert!(
        places
            .values()
            .all(|places| places.len() == 1 && places[0].pending == 0)
    );
    let rules = Rules::new(&bed.loaded.config.retention).unwrap();
    let begun = Instant::now();
    assert_eq!(due(&catalog, &rules, now(), 100, |_| true).unwrap().len(), 100);
    assert_eq!(
        due(&catalog, &rules, now(), usize::MAX, |_| true).unwrap().len(),
        10_000
    );
    println!(
        "10,000 recordings: rebuild {rebuilt:?}, sync {again:?}, ls {listed:?}, due {:?}",
        begun.elapsed()
    );
    assert_eq!(catalog.backlogs().unwrap()["a"].stored, 20_000);
    let sample = catalog.sample("a", 50).unwrap();
    assert_eq!(sample.len(), 50);
    assert!(sample.iter().any(|(_, object, _)| matches!(object, Object::Segment(0))));
}
