//! What is sealed gets to the disk and stays there: folders that vanish, disks and catalogs that fail, keys that are gone.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_config::{Mode, OnFailure};
use deskreel_recording::event::SessionEvent;
use deskreel_recording::{Event, Outcome, Recorder, RecorderOptions};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::bed::{Bed, Fixture, PATIENCE, ended, eventually};
use crate::audit::Audit;
use crate::catalog::{Catalog, Object, State};
use crate::keys::{NodeKey, private_path};
use crate::pipeline::Storage;
use crate::pipeline::courier::{Courier, Health, Links, Means, Order};
use crate::pipeline::delivery::ObjectId;
use crate::pipeline::facts::{new_session, session_start};
use crate::pipeline::queue::{Entry, What};
use crate::pipeline::session::{Rules, Shared};
use crate::pipeline::sink::{Sink, Target};
use crate::pipeline::spool::{Found, Spool};

/// The end arrives together with what makes the recorder fail.
#[tokio::test(flavor = "multi_thread")]
async fn the_end_is_not_lost_with_what_failed_before_it() {
    for on_failure in [OnFailure::Strict, OnFailure::BestEffort] {
        let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
        bed.config.session_recording.on_failure = on_failure;
        // Both are taken at once.
        bed.config.recording.frame_interval = Duration::from_secs(600);
        let sessions = bed.start().await;
        let facts = Fixture::load("xrdp-16").facts();
        let id = facts.id;
        let recorder = sessions.open(facts).await.unwrap();
        recorder.shared().unwrap().queue.push_always(Entry {
            at: Instant::now(),
            what: What::Panic,
        });
        recorder.ended(ended());
        tokio::time::timeout(PATIENCE, recorder.closed())
            .await
            .expect("the recorder closes");
        bed.wait_for(id, State::Complete).await;
        let row = bed.catalog().session(&id.to_string()).unwrap();
        assert_eq!(row.end_reason.as_deref(), Some("client_closed: client disconnected"));
        sessions.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_that_the_catalog_does_not_take_is_kept_and_no_manifest_claims_more() {
    for mode in [Mode::Sync, Mode::Async] {
        let bed = Bed::new(&[("disk", mode, true)]);
        let fixture = Fixture::load("xrdp-planar");
        let sessions = bed.start().await;
        let facts = fixture.facts();
        let id = facts.id;
        let recorder = sessions.open(facts).await.unwrap();
        let catalog = Catalog::open(&bed.config.data_dir).unwrap();
        catalog.refuse_segment(Some(2));
        for (direction, bytes) in fixture.batches() {
            if recorder.enqueue(direction, bytes).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let failed = || recorder.shared().unwrap().failure().is_some();
        eventually("the recorder failed", failed).await;
        // Else recovery waits for what is still on its way.
        let delivered = || bed.storages[0].keys(id).len() == 2;
        eventually("the segments before are stored", delivered).await;
        catalog.refuse_segment(None);
        recorder.ended(ended());
        recorder.closed().await;
        bed.wait_for(id, State::Recovered).await;
        let stored = || {
            bed.storages[0]
                .keys(id)
                .iter()
                .any(|key| key.ends_with("manifest.json"))
        };
        eventually("the storage has all of it", stored).await;
        let recording = bed.recording(0, id);
        let report = recording.verify(&bed);
        assert_eq!(report.outcome, Outcome::Findings, "{:?}", report.findings);
        let count = recording.segments.len();
        assert!(
            count >= 3,
            "the refused one among them, and what was sealed meanwhile: {count}"
        );
        let reason = bed.catalog().session(&id.to_string()).unwrap().end_reason.unwrap();
        assert!(
            reason.starts_with("recovered: the recorder failed during the session") && reason.contains("catalog"),
            "{reason}"
        );
        sessions.shutdown().await;
        assert!(bed.spool_files().is_empty(), "{:?}", bed.spool_files());
    }
}

/// With best effort the catalog is told again and again, as the disk is.
#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_fails_for_a_while_does_not_end_a_recording() {
    let mut bed = Bed::new(&[("disk", Mode::Async, true)]);
    bed.config.session_recording.on_failure = OnFailure::BestEffort;
    bed.storages[0].down(true);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    let catalog = Catalog::open(&bed.config.data_dir).unwrap();
    catalog.refuse_segment(Some(2));
    fixture.feed(&recorder).await;
    let refused = Path::new(&id.to_string()).join("00000002.mcap");
    eventually("the file is there", || bed.spool_files().contains(&refused)).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(recorder.shared().unwrap().failure(), None);
    catalog.refuse_segment(None);
    recorder.ended(ended());
    recorder.closed().await;
    bed.storages[0].down(false);
    bed.wait_for(id, State::Complete).await;
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert_eq!(row.problem, None);
    assert!(row.segments > 3, "{}", row.segments);
    sessions.shutdown().await;
}

/// What was recorded while the writer hung at what failed then is in the recorder's memory alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_open_segment_is_kept_when_the_one_before_it_fails() {
    let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.config.recording.stall_max = Duration::from_secs(60);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    let catalog = Catalog::open(&bed.config.data_dir).unwrap();
    catalog.refuse_segment(Some(0));
    catalog.occupy(true);
    fixture.feed(&recorder).await;
    let last = Event::Session(SessionEvent::Alert {
        name: "the_last".to_owned(),
        detail: String::new(),
    });
    let shared = recorder.shared().unwrap();
    shared.queue.push_always(Entry {
        at: Instant::now(),
        what: What::Note(Box::new(last.clone())),
    });
    eventually("it is recorded", || shared.queue.is_idle()).await;
    catalog.occupy(false);
    eventually("the recorder failed", || shared.failure().is_some()).await;
    catalog.refuse_segment(None);
    recorder.ended(ended());
    recorder.closed().await;
    bed.wait_for(id, State::Recovered).await;
    let stored = || bed.recording(0, id).manifest.is_some();
    eventually("the storage has all of it", stored).await;
    let events = bed.recording(0, id).events();
    assert!(events.iter().any(|(_, event)| *event == last));
    sessions.shutdown().await;
}

/// A failed fsync says nothing of what was written before, and the next one on the same file may well succeed.
#[test]
fn a_segment_whose_file_failed_is_written_anew() {
    for fails_before_the_seal in [true, false] {
        let bed = Bed::new(&[]);
        let facts = Fixture::load("xrdp-16").facts();
        let catalog = Catalog::open(&bed.config.data_dir).unwrap();
        catalog.session_started(&new_session(&facts)).unwrap();
        let spool = Arc::new(Spool::open(&bed.config.spool.path, (&bed.config.spool).into()).unwrap());
        let (orders, mut received) = mpsc::channel(10);
        let rules = Rules {
            all_sync: false,
            on_failure: OnFailure::Strict,
            stall_max: Duration::from_secs(1),
            queue_max_bytes: 1 << 20,
        };
        let shared = Arc::new(Shared::new(&facts, &rules, true, false));
        let targets: Arc<[Target]> = Arc::new([]);
        let mut sink = Sink::new(shared, Arc::clone(&spool), Arc::new(catalog), orders, targets);
        let key = NodeKey::load_or_create(&bed.config.data_dir).unwrap();
        let options = RecorderOptions::default();
        let mut recorder = Recorder::new(session_start(&facts), key.signing().clone(), options).unwrap();
        let alert = |recorder: &mut Recorder, time_ns| {
            let event = SessionEvent::Alert {
                name: "test".to_owned(),
                detail: String::new(),
            };
            recorder.push(time_ns, &Event::Session(event)).unwrap();
        };
        alert(&mut recorder, 1);
        sink.append(0, &recorder.take_open_bytes().unwrap()).unwrap();
        sink.fail_to_sync();
        alert(&mut recorder, 2);
        if fails_before_the_seal {
            sink.append(0, &recorder.take_open_bytes().unwrap()).unwrap_err();
        }
        let segment = recorder.seal(3).unwrap().unwrap();
        sink.sealed(&segment, &|_| false).unwrap();
        let id = ObjectId {
            recording: facts.id,
            object: Object::Segment(0),
        };
        assert_eq!(spool.read(id).unwrap(), segment.bytes);
        let sealed = vec![(id.object, segment.bytes.len() as u64)];
        assert_eq!(spool.look(facts.id).unwrap(), Found { open: vec![], sealed });
        assert!(received.try_recv().is_ok());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_spool_does_not_take_is_tried_again() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.storages[0].hang(true);
    let spool = Arc::new(Spool::open(&bed.config.spool.path, (&bed.config.spool).into()).unwrap());
    let means = Means {
        storages: vec![Arc::clone(&bed.storages[0]) as Arc<dyn Storage>].into(),
        spool: Arc::clone(&spool),
        catalog: Arc::new(Catalog::open(&bed.config.data_dir).unwrap()),
        retention: Arc::new(crate::keep::retention::Rules::new(&bed.config.retention).unwrap()),
        links: Arc::new(Links::new(HashMap::new())),
        health: Arc::new(Mutex::new(vec![Health::default()])),
        audit: Audit::open(&bed.config).unwrap(),
    };
    let (orders, received) = mpsc::channel(10);
    let courier = tokio::spawn(Courier::new(means, Duration::from_millis(100), received, 1).run());
    let id = ObjectId {
        recording: Uuid::now_v7(),
        object: Object::Segment(0),
    };
    let in_the_way = bed.config.spool.path.join(id.recording.to_string());
    fs::write(&in_the_way, "not a folder").unwrap();
    let order = Order::Deliver {
        id,
        size: 3,
        payload: Some(Bytes::from_static(b"abc")),
        live: true.into(),
        missing: None,
    };
    orders.send(order).await.unwrap();
    // Long enough for the stall and the first attempt; the session is over and nothing else comes.
    tokio::time::sleep(Duration::from_millis(700)).await;
    fs::remove_file(&in_the_way).unwrap();
    let written = || spool.read(id).is_ok_and(|bytes| bytes == "abc");
    eventually("it is in the spool", written).await;
    courier.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_key_is_not_replaced_where_something_was_recorded() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    let sessions = bed.start().await;
    let facts = Fixture::load("xrdp-16").facts();
    let id = facts.id;
    sessions.open(facts).await.unwrap().ended(ended());
    bed.wait_for(id, State::Complete).await;
    sessions.shutdown().await;
    let path = private_path(&bed.config.data_dir);
    let backup = path.with_extension("backup");
    fs::rename(&path, &backup).unwrap();
    let error = bed.try_start().await.err().unwrap().to_string();
    assert!(
        error.contains("is missing") && error.contains("deskreel keys new"),
        "{error}"
    );
    assert!(!path.exists());
    fs::rename(&backup, &path).unwrap();
    bed.start().await.shutdown().await;

    // Nothing is in this catalog, but something waits in the spool.
    let bed = Bed::new(&[("disk", Mode::Async, true)]);
    fs::create_dir_all(bed.config.spool.path.join(id.to_string())).unwrap();
    assert!(bed.try_start().await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spool_has_one_engine() {
    let first = Bed::new(&[("disk", Mode::Async, true)]);
    let mut second = Bed::new(&[("disk", Mode::Async, true)]);
    second.config.spool.path.clone_from(&first.config.spool.path);
    let sessions = first.start().await;
    let error = second.try_start().await.err().unwrap().to_string();
    assert!(
        error.starts_with("spool.path ") && error.contains("in use by another deskreel"),
        "{error}"
    );
    sessions.shutdown().await;
    second.start().await.shutdown().await;

    // One folder for both is no second engine.
    let mut alone = Bed::new(&[("disk", Mode::Async, true)]);
    alone.config.spool.path.clone_from(&alone.config.data_dir);
    alone.start().await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn catalog_and_spool_are_the_owners_only() {
    let bed = Bed::new(&[("disk", Mode::Async, true)]);
    let sessions = bed.start().await;
    let recorder = sessions.open(Fixture::load("xrdp-16").facts()).await.unwrap();
    let open = || {
        bed.spool_files()
            .iter()
            .any(|file| file.extension().is_some_and(|name| name == "open"))
    };
    eventually("a segment is open", open).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let data_dir = &bed.config.data_dir;
    assert_eq!((mode(data_dir), mode(&bed.config.spool.path)), (0o700, 0o700));
    for name in ["catalog.sqlite", "catalog.sqlite-wal", "catalog.sqlite-shm"] {
        assert_eq!(mode(&data_dir.join(name)), 0o600, "{name}");
    }
    for file in bed.spool_files() {
        assert_eq!(mode(&bed.config.spool.path.join(&file)), 0o600, "{}", file.display());
    }
    recorder.ended(ended());
    sessions.shutdown().await;
}
