#![allow(clippy::unwrap_used, reason = "tests")]

//! The pipeline as a whole: real streams in, storages that fail as told, recordings that verify out.

mod bed;

mod copies;
mod crash;
mod decisions;
mod durability;
mod failure;
mod fixture;
mod full;
mod gaps;
mod keeping_up;
mod kill;
mod pending;
mod trail;
mod watched;

use std::time::Duration;

use deskreel_config::{Mode, OnFailure};
use deskreel_recording::Outcome;

use crate::catalog::{IdentityKind, State};
use bed::{Bed, Fixture, ended, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_real_session_is_stored_and_shows_what_the_client_showed() {
    for (fixture, tolerance) in [("xrdp-planar", 0), ("xrdp-rfx", 8)] {
        let bed = Bed::new(&[("disk", Mode::Sync, true)]);
        let fixture = Fixture::load(fixture);
        let sessions = bed.start().await;
        let facts = fixture.facts();
        let id = facts.id;
        let recorder = sessions.open(facts).await.unwrap();
        fixture.feed(&recorder).await;
        // Nothing of a sync session touches the local disk while the storage is healthy.
        assert!(bed.spool_files().is_empty(), "{:?}", bed.spool_files());
        recorder.ended(ended());
        recorder.closed().await;
        bed.wait_for(id, State::Complete).await;
        assert!(bed.spool_files().is_empty(), "{:?}", bed.spool_files());

        let recording = bed.recording(0, id);
        let report = recording.verify(&bed);
        assert_eq!(report.outcome, Outcome::Whole, "{:?}", report.findings);
        fixture.compare(&recording.last_picture(), tolerance);
        let row = bed.catalog().session(&id.to_string()).unwrap();
        assert_eq!((row.user.as_str(), row.identity), ("alice", IdentityKind::Claimed));
        assert_eq!((row.login.as_str(), row.desktop.as_str()), ("LAB\\alice", "lab"));
        assert_eq!(
            row.bytes,
            recording
                .segments
                .iter()
                .map(|segment| segment.len() as u64)
                .sum::<u64>()
        );
        assert_eq!(row.end_reason.as_deref(), Some("client_closed: client disconnected"));
        assert_eq!((row.gaps, row.undecoded, row.problem), (0, 0, None));
        sessions.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn async_recordings_wait_in_the_spool_and_leave_it() {
    let bed = Bed::new(&[("near", Mode::Async, true), ("far", Mode::Async, true)]);
    bed.storages[1].down(true);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    recorder.closed().await;
    eventually("one storage has it", || {
        bed.storages[0]
            .keys(id)
            .iter()
            .any(|key| key.ends_with("manifest.json"))
    })
    .await;
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert_eq!(row.state, State::Delivering);
    assert!(row.segments > 2, "{}", row.segments);
    assert_eq!(
        bed.spool_files().len(),
        row.segments as usize + 1,
        "all of it is kept for the other one"
    );
    bed.storages[1].down(false);
    bed.wait_for(id, State::Complete).await;
    eventually("the spool is empty", || bed.spool_files().is_empty()).await;
    for storage in 0..2 {
        let recording = bed.recording(storage, id);
        assert_eq!(recording.verify(&bed).outcome, Outcome::Whole);
        fixture.compare(&recording.last_picture(), 0);
        assert!(bed.storages[storage].manifest_came_last(id));
    }
    let placements = bed.catalog().placements(id).unwrap();
    assert!(
        placements.iter().all(|placement| placement.stored.is_some()),
        "{placements:?}"
    );
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_run_leaves_in_the_spool_the_next_one_delivers() {
    let bed = Bed::new(&[("disk", Mode::Async, true)]);
    bed.storages[0].down(true);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    // Nobody says that it ended: the shutdown does.
    sessions.shutdown().await;
    assert_eq!(bed.catalog().session(&id.to_string()).unwrap().state, State::Delivering);
    drop(recorder);

    bed.storages[0].down(false);
    let sessions = bed.start().await;
    bed.wait_for(id, State::Complete).await;
    let recording = bed.recording(0, id);
    assert_eq!(recording.verify(&bed).outcome, Outcome::Whole);
    fixture.compare(&recording.last_picture(), 0);
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert_eq!(row.end_reason.as_deref(), Some("gateway_stopped"));
    eventually("the spool is empty", || bed.spool_files().is_empty()).await;
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_is_not_recorded_is_known_and_costs_nothing() {
    let mut bed = Bed::new(&[("disk", Mode::Sync, true)]);
    bed.config.session_recording.mode = deskreel_config::RecordingMode::Off;
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    assert!(!recorder.is_recording());
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    recorder.closed().await;
    let over = || bed.catalog().session(&id.to_string()).unwrap().end_reason.is_some();
    eventually("the catalog knows the end", over).await;
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert_eq!((row.state, row.bytes), (State::NotRecorded, 0));
    assert_eq!(row.problem.as_deref(), Some("cluster_off"));
    sessions.shutdown().await;
    assert!(bed.storages[0].keys(id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_engine_is_kept_out() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    let sessions = bed.start().await;
    let error = bed.try_start().await.err().unwrap();
    assert!(error.to_string().contains("in use by another deskreel"), "{error:#}");
    sessions.shutdown().await;
    bed.start().await.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recording_into_nothing_is_refused() {
    let bed = Bed::new(&[("disk", Mode::Sync, false)]);
    let error = bed.try_start().await.err().unwrap();
    assert!(
        error.to_string().contains("no entry of storages is required"),
        "{error:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_is_not_required_is_served_and_not_waited_for() {
    let mut bed = Bed::new(&[("disk", Mode::Sync, true), ("copy", Mode::Sync, false)]);
    bed.config.recording.stall_max = Duration::from_secs(2);
    bed.config.session_recording.on_failure = OnFailure::Strict;
    bed.storages[1].hang(true);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    bed.wait_for(id, State::Complete).await;
    bed.storages[1].hang(false);
    eventually("the copy has it too", || {
        bed.storages[1].keys(id) == bed.storages[0].keys(id)
    })
    .await;
    assert_eq!(bed.recording(1, id).verify(&bed).outcome, Outcome::Whole);
    sessions.shutdown().await;
}
