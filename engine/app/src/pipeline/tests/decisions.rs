//! Sessions that are recorded as their Decision says, whatever the configuration does.

use std::sync::Arc;

use deskreel_config::{ClusterMode, Mode, OnFailure};
use deskreel_policy::{Level, NotRecorded, StorageMode};

use super::bed::*;
use crate::catalog::State;
use crate::gateway::grant::testing::everything;
use crate::pipeline::{OpenError, SessionFacts};

/// A session of the fixture, and what its Decision says.
fn decided(fixture: &Fixture, level: Level, storage_mode: StorageMode) -> SessionFacts {
    let mut decision = everything(ClusterMode::On, OnFailure::Strict);
    decision.recording.level = level;
    decision.recording.storage_mode = storage_mode;
    decision.recording.not_recorded = (level == Level::Off).then_some(NotRecorded::RolesOff);
    SessionFacts {
        decision: Some(Arc::new(decision)),
        ..fixture.facts()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn roles_that_all_say_no_leave_a_row_and_nothing_else() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    let facts = decided(&fixture, Level::Off, StorageMode::None);
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    assert!(!recorder.is_recording());
    assert!(recorder.watch().is_none() && recorder.look().await.is_none());
    recorder.ended(ended());
    let row = bed.catalog().session(&id.to_string()).unwrap();
    assert_eq!(
        (row.state, row.problem.as_deref()),
        (State::NotRecorded, Some("roles_off"))
    );
    sessions.shutdown().await;
    assert!(bed.storages[0].keys(id).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_decision_is_stricter_or_laxer_than_the_configuration() {
    let bed = Bed::new(&[("disk", Mode::Sync, true)]);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    bed.storages[0].down(true);
    let strict = decided(&fixture, Level::Strict, StorageMode::AsConfigured);
    assert!(matches!(sessions.open(strict).await, Err(OpenError::Storage { .. })));
    let lax = decided(&fixture, Level::BestEffort, StorageMode::AsConfigured);
    let recorder = sessions.open(lax).await.unwrap();
    assert!(recorder.is_recording());
    recorder.ended(ended());
    recorder.closed().await;
    bed.storages[0].down(false);
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_async_storage_is_waited_for_where_the_decision_says_sync() {
    let bed = Bed::new(&[("disk", Mode::Async, true)]);
    let fixture = Fixture::load("xrdp-16");
    let sessions = bed.start().await;
    bed.storages[0].down(true);
    let as_configured = decided(&fixture, Level::Strict, StorageMode::AsConfigured);
    let recorder = sessions.open(as_configured).await.unwrap();
    recorder.ended(ended());
    recorder.closed().await;
    let sync = decided(&fixture, Level::Strict, StorageMode::Sync);
    assert!(matches!(sessions.open(sync).await, Err(OpenError::Storage { .. })));

    bed.storages[0].down(false);
    let sync = decided(&fixture, Level::Strict, StorageMode::Sync);
    let id = sync.id;
    let recorder = sessions.open(sync).await.unwrap();
    let mut events = recorder.watch().unwrap();
    fixture.feed(&recorder).await;
    let look = recorder.look().await.unwrap();
    assert_eq!(look.rgba.len(), usize::from(look.width) * usize::from(look.height) * 4);
    assert!(
        look.rgba.chunks(4).any(|pixel| pixel != [0, 0, 0, 255]),
        "something was painted"
    );
    recorder.ended(ended());
    bed.wait_for(id, State::Complete).await;
    let mut seen = 0;
    while events.recv().await.is_some() {
        seen += 1;
    }
    assert!(seen > 0, "pointer and session events were told");
    let decision = bed.catalog().decision(id).unwrap().unwrap();
    assert_eq!(decision["recording"]["storage_mode"], "sync");
    sessions.shutdown().await;
}
