//! Copies in the spool that are not what was sealed, and storages whose answers are not what they did.

use std::fs;

use deskreel_config::Mode;
use deskreel_recording::{Outcome, segment_key};
use uuid::Uuid;

use super::bed::{Bed, Fixture, ended, eventually};
use crate::catalog::State;

/// Records a session whose last storage is away, and stops.
async fn recorded(bed: &Bed) -> Uuid {
    bed.storages.last().unwrap().down(true);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    recorder.closed().await;
    if bed.storages.len() > 1 {
        let first = &bed.storages[0];
        let all = || first.keys(id).iter().any(|key| key.ends_with("manifest.json"));
        eventually("the first storage has it", all).await;
    }
    sessions.shutdown().await;
    bed.storages.last().unwrap().down(false);
    id
}

/// One bit on the disk is not what it was.
fn spoil(bed: &Bed, id: Uuid) {
    let path = bed.config.spool.path.join(id.to_string()).join("00000001.mcap");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_copy_is_taken_from_another_storage() {
    let bed = Bed::new(&[("near", Mode::Async, true), ("far", Mode::Async, true)]);
    let id = recorded(&bed).await;
    spoil(&bed, id);
    let sessions = bed.start().await;
    bed.wait_for(id, State::Complete).await;
    for storage in 0..2 {
        let report = bed.recording(storage, id).verify(&bed);
        assert_eq!(report.outcome, Outcome::Whole, "{:?}", report.findings);
    }
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spoiled_copy_without_another_is_never_stored_and_never_dropped() {
    let bed = Bed::new(&[("far", Mode::Async, true)]);
    let id = recorded(&bed).await;
    spoil(&bed, id);
    let sessions = bed.start().await;
    bed.wait_for(id, State::Damaged).await;
    let problem = bed.catalog().session(&id.to_string()).unwrap().problem.unwrap();
    assert_eq!(
        problem,
        "segment 1 is not at storage far: what the spool has is not what was sealed, and no other storage has it"
    );
    sessions.shutdown().await;
    assert!(bed.storages[0].read(&segment_key(id, 1)).is_none());
    assert!(bed.recording(0, id).manifest.is_none());
    assert!(bed.spool_files().iter().any(|file| file.ends_with("00000001.mcap")));
}

/// The object was stored, the answer was lost, and then the storage takes the same bytes for others.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_counts_and_not_what_a_storage_says() {
    let bed = Bed::new(&[("far", Mode::Async, true)]);
    let id = recorded(&bed).await;
    let far = &bed.storages[0];
    far.lie(true);
    let sessions = bed.start().await;
    eventually("something arrived", || far.arrived() > 0).await;
    far.lie(false);
    bed.wait_for(id, State::Complete).await;
    assert_eq!(bed.recording(0, id).verify(&bed).outcome, Outcome::Whole);
    sessions.shutdown().await;
    assert!(bed.spool_files().is_empty());
}
