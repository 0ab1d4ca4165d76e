//! What a kill leaves at each step, laid out by hand: recovery must close it, twice over, and invent nothing.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use deskreel_config::Mode;
use deskreel_recording::event::{EndReason, Input, SessionEnd, SessionStart, UserFacts};
use deskreel_recording::recover::Closing;
use deskreel_recording::{
    Event, Manifest, Outcome, Picture, Recorder, RecorderOptions, Rect, SealedSegment, SigningKey,
};
use time::OffsetDateTime;
use uuid::Uuid;

use super::bed::{Bed, eventually};
use crate::catalog::{Catalog, Closed, IdentityKind, NewSession, Object, State};
use crate::keys::NodeKey;
use crate::pipeline::sink::segment_row;

/// All that a session of three segments leaves behind, piece by piece.
pub(super) struct Parts {
    pub(super) id: Uuid,
    key: SigningKey,
    pub(super) segments: Vec<SealedSegment>,
    /// The third segment as it was before it was sealed.
    open: Bytes,
    pub(super) manifest: Bytes,
}

fn draw(recorder: &mut Recorder, time_ns: u64, shade: u8) {
    let pixels = vec![shade; 64 * 64 * 4];
    let picture = Picture {
        width: 64,
        height: 64,
        stride: 64 * 4,
        data: &pixels,
    };
    recorder
        .frame(
            time_ns,
            picture,
            &[Rect {
                x: 0,
                y: 0,
                width: 64,
                height: 64,
            }],
        )
        .unwrap();
    recorder
        .push(time_ns, &Event::Input(Input::MouseMove { x: shade.into(), y: 1 }))
        .unwrap();
}

impl Parts {
    pub(super) fn new(key: &SigningKey) -> Self {
        let id = Uuid::now_v7();
        let start = SessionStart {
            recording: id,
            started_unix_us: 1_700_000_000_000_000,
            user: UserFacts {
                name: "alice".to_owned(),
                proven: false,
            },
            ..SessionStart::default()
        };
        let options = RecorderOptions {
            segment_max_age: Duration::from_secs(1),
            ..RecorderOptions::default()
        };
        let mut recorder = Recorder::new(start, key.clone(), options).unwrap();
        let mut segments = Vec::new();
        for second in 1..=2 {
            draw(&mut recorder, second * 1_000_000_000, second as u8);
            segments.push(recorder.seal(second * 1_000_000_000).unwrap().unwrap());
        }
        draw(&mut recorder, 3_000_000_000, 3);
        let open = recorder.take_open_bytes().unwrap();
        assert!(!open.is_empty());
        let end = SessionEnd {
            reason: EndReason::ClientClosed,
            detail: None,
            error_info: None,
        };
        let (last, manifest) = recorder.finish(4_000_000_000, end).unwrap();
        segments.push(last.unwrap());
        Self {
            id,
            key: key.clone(),
            segments,
            open,
            manifest: manifest.into(),
        }
    }

    /// What recovery makes of the first `count` segments.
    fn recovered_manifest(&self, count: usize) -> Vec<u8> {
        let mut closing = Closing::new(self.id, vec![self.key.verifying_key()]);
        for segment in &self.segments[..count] {
            closing.segment(&segment.bytes).unwrap();
        }
        closing.finish("crashed", &self.key).unwrap()
    }
}

/// A session as the catalog notes its start.
pub(super) fn new_session(id: Uuid) -> NewSession {
    NewSession {
        id,
        started: OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap(),
        user: "alice".to_owned(),
        identity: IdentityKind::Claimed,
        login: String::new(),
        desktop: "lab".to_owned(),
        desktop_addr: String::new(),
        labels: std::collections::BTreeMap::new(),
        roles: Vec::new(),
        decision: None,
        client_addr: String::new(),
        client_name: String::new(),
    }
}

/// A data_dir as a kill left it.
struct Scene {
    bed: Bed,
    parts: Parts,
    catalog: Catalog,
}

impl Scene {
    fn new(storages: &[(&str, Mode, bool)]) -> Self {
        let bed = Bed::new(storages);
        fs::create_dir_all(&bed.config.data_dir).unwrap();
        let key = NodeKey::load_or_create(&bed.config.data_dir).unwrap();
        let catalog = Catalog::open(&bed.config.data_dir).unwrap();
        let parts = Parts::new(key.signing());
        Self { bed, parts, catalog }
    }

    fn spool(&self, name: &str, bytes: &[u8]) {
        let folder = self.bed.config.spool.path.join(self.parts.id.to_string());
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    }

    fn spool_has(&self, name: &str) -> bool {
        self.bed
            .spool_files()
            .contains(&PathBuf::from(self.parts.id.to_string()).join(name))
    }

    fn sealed_in_spool(&self, number: usize) {
        self.spool(&format!("{number:08}.mcap"), &self.parts.segments[number].bytes);
    }

    fn at_storage(&self, storage: usize, number: usize) {
        let key = deskreel_recording::segment_key(self.parts.id, number as u32);
        self.bed.storages[storage].write(&key, &self.parts.segments[number].bytes);
    }

    fn manifest_at_storage(&self, storage: usize) {
        self.bed.storages[storage].write(&deskreel_recording::manifest_key(self.parts.id), &self.parts.manifest);
    }

    fn targets(&self) -> Vec<(&'static str, bool)> {
        ["a", "b"][..self.bed.storages.len()]
            .iter()
            .map(|name| (*name, true))
            .collect()
    }

    fn started(&self) {
        self.catalog.session_started(&new_session(self.parts.id)).unwrap();
    }

    fn known(&self, number: usize) {
        let segment = &self.parts.segments[number];
        let row = segment_row(&segment.seal, &segment.bytes);
        self.catalog
            .segment_sealed(self.parts.id, &row, &self.targets())
            .unwrap();
    }

    fn stored(&self, object: Object, storage: &str) {
        self.catalog
            .stored(self.parts.id, object, storage, OffsetDateTime::now_utc())
            .unwrap();
    }

    fn closed(&self) {
        let closed = Closed {
            state: State::Delivering,
            ended: OffsetDateTime::from_unix_timestamp(1_700_000_004).unwrap(),
            duration_ms: 4000,
            undecoded: 0,
            end_reason: "client_closed".to_owned(),
            problem: None,
            manifest_sha256: None,
        };
        self.catalog.closed(self.parts.id, &closed, &self.targets()).unwrap();
    }

    /// Recovers with storages that can be read but don't take anything, stops, starts again with storages that work,
    /// and checks what they have in the end.
    async fn check(&self, state: State, outcome: Outcome, segments: usize) -> String {
        for storage in &self.bed.storages {
            storage.hang(true);
        }
        let sessions = self.bed.start().await;
        for storage in &self.bed.storages {
            storage.hang(false);
        }
        sessions.shutdown().await;
        let first = self.row();
        let sessions = self.bed.start().await;
        let manifests = || {
            let key = deskreel_recording::manifest_key(self.parts.id);
            self.bed.storages.iter().all(|storage| storage.read(&key).is_some())
        };
        eventually("every storage has the manifest", manifests).await;
        self.bed.wait_for(self.parts.id, state).await;
        sessions.shutdown().await;
        for storage in 0..self.bed.storages.len() {
            let mut recording = self.bed.recording(storage, self.parts.id);
            recording.segments.truncate(segments);
            let report = recording.verify(&self.bed);
            assert_eq!(report.outcome, outcome, "{:?}", report.findings);
            assert_eq!(report.segments, segments as u64);
        }
        let row = self.row();
        assert_eq!(row.segments as usize, segments);
        let wanted = first.end_reason.clone();
        assert_eq!(row.end_reason, wanted, "the second run changes nothing");
        row.problem.unwrap_or_default()
    }

    fn row(&self) -> crate::catalog::SessionRow {
        self.catalog.session(&self.parts.id.to_string()).unwrap()
    }
}

fn one_async() -> Scene {
    Scene::new(&[("a", Mode::Async, true)])
}

fn one_sync() -> Scene {
    Scene::new(&[("a", Mode::Sync, true)])
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_with_an_open_segment_only() {
    let scene = one_async();
    scene.started();
    let key = &scene.parts.key;
    let start = SessionStart {
        recording: scene.parts.id,
        ..SessionStart::default()
    };
    let mut recorder = Recorder::new(start, key.clone(), RecorderOptions::default()).unwrap();
    draw(&mut recorder, 700_000_000, 1);
    let open = recorder.take_open_bytes().unwrap();
    scene.spool("00000000.open", &open);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 1).await, "");
    let row = scene.row();
    assert_eq!(row.duration_ms, 700, "up to the last event that is there");
    assert!(row.end_reason.unwrap().starts_with("recovered: "));
    assert!(scene.bed.spool_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_an_async_session() {
    // Sealed, renamed, and the catalog doesn't know yet.
    let scene = one_async();
    scene.started();
    scene.sealed_in_spool(0);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 1).await, "");

    // One delivered and gone from the spool, one waiting, one open.
    let scene = one_async();
    scene.started();
    scene.known(0);
    scene.at_storage(0, 0);
    scene.stored(Object::Segment(0), "a");
    scene.known(1);
    scene.sealed_in_spool(1);
    scene.spool("00000002.open", &scene.parts.open);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 3).await, "");
    assert_eq!(scene.row().duration_ms, 3000);
    assert!(scene.bed.spool_files().is_empty());

    // The seal is written, the name is not: the segment is taken as it is, with the end that is in it.
    let scene = one_async();
    scene.started();
    for number in 0..2 {
        scene.known(number);
        scene.sealed_in_spool(number);
    }
    scene.spool("00000002.open", &scene.parts.segments[2].bytes);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 3).await, "");
    assert_eq!(
        scene.bed.recording(0, scene.parts.id).segments[2],
        scene.parts.segments[2].bytes
    );
    assert_eq!(scene.row().end_reason.as_deref(), Some("client_closed"));

    // An open segment of which nothing reached the disk.
    let scene = one_async();
    scene.started();
    scene.known(0);
    scene.sealed_in_spool(0);
    scene.spool("00000001.open", b"");
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 1).await, "");
    assert!(scene.bed.spool_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_closing() {
    // The manifest is in the spool, the catalog doesn't know.
    let scene = one_async();
    scene.started();
    for number in 0..3 {
        scene.known(number);
        scene.sealed_in_spool(number);
    }
    scene.spool("manifest.json", &scene.parts.manifest);
    assert_eq!(scene.check(State::Complete, Outcome::Whole, 3).await, "");
    assert_eq!(scene.row().end_reason.as_deref(), Some("client_closed"));

    // Closed, half delivered.
    let scene = one_async();
    scene.started();
    for number in 0..3 {
        scene.known(number);
    }
    scene.at_storage(0, 0);
    scene.stored(Object::Segment(0), "a");
    scene.sealed_in_spool(1);
    scene.sealed_in_spool(2);
    scene.spool("manifest.json", &scene.parts.manifest);
    scene.closed();
    assert_eq!(scene.check(State::Complete, Outcome::Whole, 3).await, "");

    // All stored, and only the copies are left; the storage has them though the catalog doesn't know of the last one.
    let scene = one_async();
    scene.started();
    for number in 0..3 {
        scene.known(number);
        scene.at_storage(0, number);
        scene.stored(Object::Segment(number as u32), "a");
    }
    scene.closed();
    scene.manifest_at_storage(0);
    scene.sealed_in_spool(2);
    scene.spool("manifest.json", &scene.parts.manifest);
    assert_eq!(scene.check(State::Complete, Outcome::Whole, 3).await, "");
    assert!(scene.bed.spool_files().is_empty());

    // All stored, and the catalog was told of each, but not any more that this was all.
    let scene = one_sync();
    scene.started();
    for number in 0..3 {
        scene.known(number);
        scene.at_storage(0, number);
        scene.stored(Object::Segment(number as u32), "a");
    }
    scene.closed();
    scene.manifest_at_storage(0);
    scene.stored(Object::Manifest, "a");
    assert_eq!(scene.check(State::Complete, Outcome::Whole, 3).await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_in_the_middle_of_recovery() {
    let scene = one_async();
    scene.started();
    scene.known(0);
    scene.sealed_in_spool(0);
    scene.sealed_in_spool(1);
    scene.spool("manifest.json", &scene.parts.recovered_manifest(2));
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 2).await, "");
    let manifest = scene.bed.recording(0, scene.parts.id).manifest.unwrap();
    assert_eq!(
        manifest,
        scene.parts.recovered_manifest(2),
        "the manifest that was there is the one"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_catalog_that_is_gone_is_made_again_from_the_spool() {
    let scene = one_async();
    for number in 0..3 {
        scene.sealed_in_spool(number);
    }
    scene.spool("manifest.json", &scene.parts.manifest);
    assert_eq!(scene.check(State::Complete, Outcome::Whole, 3).await, "");
    let row = scene.row();
    assert_eq!(
        (row.user.as_str(), row.started.unix_timestamp()),
        ("alice", 1_700_000_000)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_kept_and_named() {
    // A segment is missing.
    let scene = one_async();
    scene.started();
    scene.sealed_in_spool(0);
    scene.sealed_in_spool(2);
    let problem = scene.check(State::Damaged, Outcome::Findings, 1).await;
    assert_eq!(problem, "segment 1 is missing, 1 after it are there");
    assert!(scene.spool_has("00000002.mcap"), "evidence stays");

    // A segment is damaged.
    let scene = one_async();
    scene.started();
    scene.sealed_in_spool(0);
    let mut bytes = scene.parts.segments[1].bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    scene.spool("00000001.mcap", &bytes);
    let problem = scene.check(State::Damaged, Outcome::Findings, 1).await;
    assert!(problem.starts_with("segment 1 is damaged: "), "{problem}");
    assert!(scene.spool_has("00000001.mcap"));

    // An open segment that is none.
    let scene = one_async();
    scene.started();
    scene.sealed_in_spool(0);
    scene.spool("00000001.open", b"this was never a segment");
    let problem = scene.check(State::Damaged, Outcome::Findings, 1).await;
    assert!(problem.starts_with("the open segment 1 is unreadable"), "{problem}");
    assert!(scene.spool_has("00000001.unreadable"));

    // Another node's manifest.
    let scene = one_async();
    scene.started();
    scene.sealed_in_spool(0);
    let stranger = Parts::new(&SigningKey::from_bytes(&[9; 32]));
    scene.spool("manifest.json", &stranger.manifest);
    let sessions = scene.bed.start().await;
    sessions.shutdown().await;
    let row = scene.row();
    assert_eq!(row.state, State::Damaged);
    assert!(
        row.problem
            .unwrap()
            .starts_with("the manifest that is there is not this node's")
    );
    assert!(scene.spool_has("manifest.json"));
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_each_step_of_a_sync_session() {
    // Stored, and the catalog doesn't know of the second one.
    let scene = one_sync();
    scene.started();
    scene.known(0);
    scene.stored(Object::Segment(0), "a");
    scene.known(1);
    scene.at_storage(0, 0);
    scene.at_storage(0, 1);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 2).await, "");
    let placements = scene.catalog.placements(scene.parts.id).unwrap();
    assert!(
        placements.iter().all(|placement| placement.stored.is_some()),
        "{placements:?}"
    );

    // Sealed, and in memory only.
    let scene = one_sync();
    scene.started();
    scene.known(0);
    scene.at_storage(0, 0);
    scene.known(1);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 1).await, "");
    let reason = scene.row().end_reason.unwrap();
    assert!(
        reason.ends_with("1 sealed segments that no storage had yet are lost"),
        "{reason}"
    );

    // Closed, and the manifest was in memory only.
    let scene = one_sync();
    scene.started();
    for number in 0..3 {
        scene.known(number);
        scene.at_storage(0, number);
        scene.stored(Object::Segment(number as u32), "a");
    }
    scene.closed();
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 3).await, "");
    assert_eq!(
        scene.row().end_reason.as_deref(),
        Some("client_closed"),
        "the end event is in the last segment"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_storage_that_lacks_something_gets_it_from_one_that_has_it() {
    let scene = Scene::new(&[("a", Mode::Sync, true), ("b", Mode::Sync, true)]);
    scene.started();
    for number in 0..3 {
        scene.known(number);
        scene.at_storage(0, number);
        scene.stored(Object::Segment(number as u32), "a");
    }
    scene.at_storage(1, 0);
    scene.stored(Object::Segment(0), "b");
    scene.closed();
    scene.manifest_at_storage(0);
    scene.stored(Object::Manifest, "a");
    assert_eq!(scene.check(State::Complete, Outcome::Whole, 3).await, "");
    assert!(scene.bed.spool_files().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_durable_is_recovered_as_nothing() {
    let scene = one_sync();
    scene.started();
    scene.bed.start().await.shutdown().await;
    let row = scene.row();
    assert_eq!((row.state, row.segments), (State::Recovered, 0));
    assert_eq!(
        row.problem.as_deref(),
        Some("the gateway stopped before anything was durable")
    );
    assert!(scene.bed.recording(0, scene.parts.id).manifest.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn recovery_waits_for_a_storage_that_does_not_answer() {
    let scene = one_sync();
    scene.started();
    scene.known(0);
    scene.at_storage(0, 0);
    scene.bed.storages[0].down(true);
    scene.bed.start().await.shutdown().await;
    assert_eq!(
        scene.row().state,
        State::Recording,
        "nothing is decided without the storage"
    );
    scene.bed.storages[0].down(false);
    assert_eq!(scene.check(State::Recovered, Outcome::Findings, 1).await, "");
    let manifest = Manifest::parse(&scene.bed.recording(0, scene.parts.id).manifest.unwrap()).unwrap();
    assert!(manifest.body().recovered);
}
