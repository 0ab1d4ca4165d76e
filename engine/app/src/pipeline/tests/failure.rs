//! Storages that fail, queues that overflow, recorders that break: strict ends the session, best effort goes on, and
//! neither loses what was sealed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use deskreel_config::{Mode, OnFailure};
use deskreel_rdp::Direction;
use deskreel_recording::event::{GapReason, SessionEvent};
use deskreel_recording::{Event, Outcome};

use super::bed::{Bed, Fixture, channels, ended, eventually};
use crate::catalog::State;
use crate::pipeline::OpenError;
use crate::pipeline::queue::{Entry, Queue, What};
use crate::pipeline::session::{Rules, SessionRecorder, Shared};

#[tokio::test(flavor = "multi_thread")]
async fn strict_refuses_a_session_that_no_sync_storage_takes() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.storages[0].down(true);
    let sessions = bed.start().await;
    let facts = Fixture::load("xrdp-16").facts();
    let error = sessions.open(facts.clone()).await.unwrap_err();
    assert_eq!(
        error,
        OpenError::Storage {
            storage: "disk".into(),
            error: "connection refused (unavailable)".into()
        }
    );
    assert!(bed.catalog().sessions().unwrap().is_empty());
    bed.storages[0].down(false);
    sessions.open(facts).await.unwrap().ended(ended());
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn best_effort_falls_back_to_the_spool() {
    let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.config.session_recording.on_failure = OnFailure::BestEffort;
    bed.storages[0].down(true);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    recorder.closed().await;
    assert_eq!(bed.catalog().session(&id.to_string()).unwrap().state, State::Delivering);
    bed.storages[0].down(false);
    bed.wait_for(id, State::Complete).await;
    let recording = bed.recording(0, id);
    assert_eq!(
        recording.verify(&bed).outcome,
        Outcome::Whole,
        "no gap: the spool had room"
    );
    fixture.compare(&recording.last_picture(), 0);
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_storage_that_stalls_ends_the_session_and_nothing_is_thrown_away() {
    for on_failure in [OnFailure::Strict, OnFailure::BestEffort] {
        let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
        bed.config.session_recording.on_failure = on_failure;
        bed.config.recording.stall_max = Duration::from_secs(2);
        let fixture = Fixture::load("xrdp-planar");
        let sessions = bed.start().await;
        let facts = fixture.facts();
        let id = facts.id;
        let recorder = sessions.open(facts).await.unwrap();
        let batches = fixture.batches();
        let (first, second) = batches.split_at(batches.len() / 2);
        bed.storages[0].hang(true);
        for (direction, bytes) in first {
            let enqueued = recorder.enqueue(*direction, bytes.clone()).await;
            assert!(enqueued.is_ok() || on_failure == OnFailure::Strict);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let spooled = || recorder.shared().unwrap().spooled.load(Ordering::SeqCst);
        eventually("the session went over to the spool", spooled).await;
        if on_failure == OnFailure::Strict {
            let failed = recorder.failed().await;
            assert_eq!(failed.reason, "storage disk: nothing stored for 2s");
            let (direction, bytes) = second[0].clone();
            assert_eq!(recorder.enqueue(direction, bytes).await, Err(failed));
        } else {
            for (direction, bytes) in second {
                recorder.enqueue(*direction, bytes.clone()).await.unwrap();
            }
        }
        recorder.ended(ended());
        recorder.closed().await;
        let on_disk = || bed.spool_files().iter().any(|file| file.ends_with("00000000.mcap"));
        eventually("what was in memory is in the spool", on_disk).await;
        bed.storages[0].hang(false);
        bed.wait_for(id, State::Complete).await;
        let recording = bed.recording(0, id);
        let report = recording.verify(&bed);
        assert_eq!(report.outcome, Outcome::Whole, "{:?}", report.findings);
        assert!(recording.segments.len() > 1);
        if on_failure == OnFailure::BestEffort {
            fixture.compare(&recording.last_picture(), 0);
        }
        eventually("the spool is empty", || bed.spool_files().is_empty()).await;
        sessions.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_segment_ends_a_strict_session_and_is_kept() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.storages[0].refuse("00000001.mcap");
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    for (direction, bytes) in fixture.batches() {
        if recorder.enqueue(direction, bytes).await.is_err() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(
        recorder.failed().await.reason,
        "storage disk: object too large (invalid input)"
    );
    recorder.ended(ended());
    recorder.closed().await;
    bed.wait_for(id, State::Damaged).await;
    let problem = bed.catalog().session(&id.to_string()).unwrap().problem.unwrap();
    assert_eq!(
        problem,
        "segment 1 is not at storage disk: object too large (invalid input)"
    );
    let kept = || bed.spool_files().iter().any(|file| file.ends_with("00000001.mcap"));
    eventually("the refused segment is kept", kept).await;
    sessions.shutdown().await;
    assert!(kept());
    assert!(
        bed.recording(0, id).manifest.is_none(),
        "no manifest where a segment is missing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_spool_ends_a_strict_session_and_refuses_the_next() {
    let mut bed = Bed::new(&[("disk", Mode::Async, true)]);
    bed.config.spool.min_free_bytes = u64::MAX;
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let error = sessions.open(fixture.facts()).await.unwrap_err();
    assert!(error.to_string().contains("spool.min_free_bytes"), "{error}");
    sessions.shutdown().await;

    // Best effort: the session goes on, and all of it is a gap that says why.
    bed.config.session_recording.on_failure = OnFailure::BestEffort;
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    recorder.closed().await;
    bed.wait_for(id, State::Complete).await;
    let gaps = bed.catalog().gaps(id).unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].reason.starts_with("spool_full: "), "{gaps:?}");
    let recording = bed.recording(0, id);
    assert_eq!(recording.verify(&bed).outcome, Outcome::Findings);
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_defect_of_the_recorder_is_never_silent() {
    for on_failure in [OnFailure::Strict, OnFailure::BestEffort] {
        let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
        bed.config.session_recording.on_failure = on_failure;
        let fixture = Fixture::load("xrdp-16");
        let sessions = bed.start().await;
        let facts = fixture.facts();
        let id = facts.id;
        let recorder = sessions.open(facts).await.unwrap();
        fixture.feed(&recorder).await;
        let shared = recorder.shared().unwrap();
        // A fact is recorded after the picture that it came upon.
        let alert = SessionEvent::Alert {
            name: "test".to_owned(),
            detail: String::new(),
        };
        recorder.note(Event::Session(alert));
        // once it goes on, but not for ever
        for _ in 0..4 {
            shared.queue.push_always(Entry {
                at: Instant::now(),
                what: What::Panic,
            });
        }
        if on_failure == OnFailure::Strict {
            assert_eq!(recorder.failed().await.reason, "the recorder panicked: a defect");
        } else {
            eventually("it failed", || shared.failure().is_some()).await;
            // The session goes on; nothing blocks.
            fixture.feed(&recorder).await;
        }
        recorder.ended(ended());
        recorder.closed().await;
        bed.wait_for(id, State::Complete).await;
        let recording = bed.recording(0, id);
        assert_eq!(recording.verify(&bed).outcome, Outcome::Findings);
        let events = recording.events();
        assert!(channels(&events)["key"] > 0);
        let [.., (_, Event::Gap(gap)), (_, Event::Session(SessionEvent::End(_)))] = events.as_slice() else {
            panic!("{:?}", channels(&events));
        };
        assert_eq!(gap.reason, GapReason::RecorderFailed);
        let row = bed.catalog().session(&id.to_string()).unwrap();
        assert_eq!(row.problem.as_deref(), Some("the recorder panicked: a defect"));
        sessions.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateway_that_forgets_a_session_still_closes_its_recording() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    let other = recorder.clone();
    drop(recorder);
    fixture.feed(&other).await;
    drop(other);
    bed.wait_for(id, State::Complete).await;
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert!(
        row.end_reason
            .unwrap()
            .starts_with("protocol_error: the gateway let go")
    );
    fixture.compare(&bed.recording(0, id).last_picture(), 1);
    sessions.shutdown().await;
}

fn shared(on_failure: OnFailure, stall_max: Duration) -> Arc<Shared> {
    let facts = Fixture::load("xrdp-16").facts();
    let rules = Rules {
        all_sync: false,
        on_failure,
        stall_max,
        queue_max_bytes: 100_000,
    };
    Arc::new(Shared::new(&facts, &rules, false, true))
}

fn drain(queue: &Queue) -> u64 {
    let mut batch = std::collections::VecDeque::new();
    queue.take(&mut batch, Some(Instant::now()), Duration::ZERO);
    let count = batch.len() as u64;
    for entry in batch {
        queue.done(entry.cost());
    }
    count
}

#[tokio::test(flavor = "multi_thread")]
async fn strict_waits_for_room_and_gives_up_only_without_progress() {
    let stall_max = Duration::from_secs(3);
    let shared = shared(OnFailure::Strict, stall_max);
    let recorder = SessionRecorder::recording(Arc::clone(&shared));
    let pdu = || bytes::Bytes::from(vec![0; 50_000]);
    recorder.enqueue(Direction::ToClient, pdu()).await.unwrap();
    // A recorder that is slow but works: in all the relay waits longer than stall_max.
    let before = Instant::now();
    let slow = {
        let shared = Arc::clone(&shared);
        std::thread::spawn(move || {
            for _ in 0..8 {
                std::thread::sleep(stall_max / 6);
                drain(&shared.queue);
            }
        })
    };
    for _ in 0..8 {
        recorder.enqueue(Direction::ToClient, pdu()).await.unwrap();
    }
    assert!(before.elapsed() > stall_max, "the queue was never full");
    slow.join().unwrap();
    let before = Instant::now();
    let error = recorder.enqueue(Direction::ToClient, pdu()).await.unwrap_err();
    assert!(before.elapsed() >= stall_max);
    assert_eq!(
        error.reason,
        "the recorder made no progress for 3s (recording.stall_max)"
    );
    assert_eq!(recorder.failed().await, error);
}

/// The queue need not be full for that: what hangs there is shown and not recorded.
#[tokio::test(flavor = "multi_thread")]
async fn strict_notices_a_recorder_that_hangs_with_little_to_do() {
    let stall_max = Duration::from_secs(1);
    let shared = shared(OnFailure::Strict, stall_max);
    let recorder = SessionRecorder::recording(Arc::clone(&shared));
    let pdu = || bytes::Bytes::from(vec![0; 100]);
    // One that works, and one that has nothing to do, don't hang.
    for _ in 0..2 {
        recorder.enqueue(Direction::ToClient, pdu()).await.unwrap();
        drain(&shared.queue);
        let waited = tokio::time::timeout(stall_max * 2, recorder.failed()).await;
        assert!(waited.is_err(), "{waited:?}");
    }
    let before = Instant::now();
    recorder.enqueue(Direction::ToClient, pdu()).await.unwrap();
    let failed = recorder.failed().await;
    assert!(before.elapsed() >= stall_max);
    assert_eq!(
        failed.reason,
        "the recorder made no progress for 1s (recording.stall_max)"
    );
    assert_eq!(recorder.enqueue(Direction::ToClient, pdu()).await, Err(failed));
}

/// What comes behind the end can't be recorded any more, so it must not reach the user.
#[tokio::test]
async fn strict_takes_nothing_after_the_end() {
    let shared = shared(OnFailure::Strict, Duration::from_secs(15));
    let recorder = SessionRecorder::recording(shared);
    recorder.ended(ended());
    let pdu = bytes::Bytes::from_static(&[0, 3, 0]);
    let error = recorder.enqueue(Direction::ToClient, pdu).await.unwrap_err();
    assert_eq!(error.reason, "the recording is closed already");
}
