//! Disks that are full: real ones, and ones that answer as told. Every recording is closed, and whole up to there.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use deskreel_config::{Mode, OnFailure};
use deskreel_recording::event::GapReason;
use deskreel_recording::{Event, Outcome};

use super::bed::{Bed, Fixture, Folder, PATIENCE, ended, eventually};
use crate::catalog::State;
use crate::pipeline::{SessionRecorder, Sessions};

/// A small file system of its own.
struct Disk {
    folder: tempfile::TempDir,
}

impl Disk {
    /// `None` where one may not mount.
    fn new(megabytes: u32) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={megabytes}m"), "tmpfs"])
            .arg(folder.path())
            .status();
        if mounted.is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        let required = std::env::var_os("TESTS_REQUIRE_PEERS").is_some_and(|value| !value.is_empty());
        assert!(!required, "only root can mount a small file system");
        eprintln!("SKIPPED: only root can mount a small file system");
        None
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn filler(&self) -> PathBuf {
        self.path().join("filler")
    }

    /// Takes the disk to its last byte.
    fn fill(&self) {
        let mut file = File::options().append(true).create(true).open(self.filler()).unwrap();
        for size in [1 << 16, 1 << 12, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// An engine whose disk is small, and whose storage, elsewhere, is away.
struct Scene {
    disk: Disk,
    _elsewhere: tempfile::TempDir,
    bed: Bed,
}

impl Scene {
    fn new(on_failure: OnFailure) -> Option<Self> {
        let disk = Disk::new(64)?;
        let elsewhere = tempfile::tempdir().unwrap();
        let mut bed = Bed::at(disk.path(), &[]);
        bed.config.session_recording.on_failure = on_failure;
        // What sessions do is to be seen, not that the log can't be written any more.
        bed.config.audit.on_failure = OnFailure::BestEffort;
        bed.config.spool.reserve_bytes = 32 << 20;
        let storage = Folder::new("far", Mode::Async, true, elsewhere.path().to_owned());
        storage.down(true);
        bed.storages.push(Arc::new(storage));
        Some(Self {
            disk,
            _elsewhere: elsewhere,
            bed,
        })
    }
}

async fn open(sessions: &Sessions, fixture: &Fixture) -> (uuid::Uuid, SessionRecorder) {
    let facts = fixture.facts();
    (facts.id, sessions.open(facts).await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_still_closes_every_open_recording() {
    let Some(scene) = Scene::new(OnFailure::Strict) else {
        return;
    };
    let bed = &scene.bed;
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let mut open_sessions = Vec::new();
    for _ in 0..4 {
        open_sessions.push(open(&sessions, &fixture).await);
    }
    for (direction, bytes) in fixture.batches() {
        for (_, recorder) in &open_sessions {
            recorder.enqueue(direction, bytes.clone()).await.unwrap();
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    scene.disk.fill();
    for (_, recorder) in &open_sessions {
        let failed = feed_until_it_fails(&fixture, recorder).await;
        assert!(failed.contains("the disk"), "{failed}");
        recorder.ended(ended());
        recorder.closed().await;
    }
    let refused = sessions.open(fixture.facts()).await.unwrap_err().to_string();
    assert!(refused.contains("the disk"), "{refused}");
    for (id, _) in &open_sessions {
        let row = bed.catalog().session(&id.to_string()).unwrap();
        assert_eq!(row.state, State::Delivering, "{row:?}");
        assert!(
            bed.spool_files()
                .contains(&Path::new(&id.to_string()).join("manifest.json"))
        );
    }
    // The storage is back: everything arrives, though the disk is still full.
    bed.storages[0].down(false);
    for (id, _) in &open_sessions {
        bed.wait_for(*id, State::Complete).await;
        let report = bed.recording(0, *id).verify(bed);
        assert_eq!(report.outcome, Outcome::Whole, "{:?}", report.findings);
    }
    scene.disk.empty();
    let room = || bed.spool_files().is_empty();
    eventually("the spool is empty", room).await;
    // The reserve is taken again, and sessions are let in again.
    let mut again = sessions.open(fixture.facts()).await;
    for _ in 0..500 {
        if again.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = sessions.open(fixture.facts()).await;
    }
    again.unwrap().ended(ended());
    sessions.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn best_effort_goes_on_when_there_is_room_again() {
    let Some(scene) = Scene::new(OnFailure::BestEffort) else {
        return;
    };
    let bed = &scene.bed;
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let (id, recorder) = open(&sessions, &fixture).await;
    fixture.feed(&recorder).await;
    scene.disk.fill();
    // The reserve goes within a second or two, and the recorder opens its gap.
    tokio::time::sleep(Duration::from_secs(3)).await;
    fixture.feed(&recorder).await;
    scene.disk.empty();
    tokio::time::timeout(PATIENCE, recorder.wants_refresh()).await.unwrap();
    recorder.ended(ended());
    recorder.closed().await;
    bed.storages[0].down(false);
    bed.wait_for(id, State::Complete).await;
    let recording = bed.recording(0, id);
    let report = recording.verify(bed);
    assert_eq!(report.outcome, Outcome::Findings, "{:?}", report.findings);
    let gaps: Vec<GapReason> = recording
        .events()
        .into_iter()
        .filter_map(|(_, event)| match event {
            Event::Gap(gap) => Some(gap.reason),
            _ => None,
        })
        .collect();
    assert_eq!(gaps, [GapReason::SpoolFull]);
    sessions.shutdown().await;
}

/// A quota says no once: the reserve helps, and the session goes on.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_quota_refuses_once_is_written_all_the_same() {
    let bed = Bed::new(&[("disk", Mode::Async, true)]);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let (id, recorder) = open(&sessions, &fixture).await;
    sessions
        .inner
        .means
        .spool
        .make_trouble([io::ErrorKind::QuotaExceeded.into()]);
    fixture.feed(&recorder).await;
    recorder.ended(ended());
    recorder.closed().await;
    bed.wait_for(id, State::Complete).await;
    let recording = bed.recording(0, id);
    assert_eq!(recording.verify(&bed).outcome, Outcome::Whole);
    fixture.compare(&recording.last_picture(), 0);
    sessions.shutdown().await;
}

/// A disk fails in the middle of a session: strict ends it, and what was recorded is closed.
#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_fails_ends_a_strict_session_and_loses_nothing() {
    const EIO: i32 = 5;
    let bed = Bed::new(&[("disk", Mode::Async, true)]);
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let (id, recorder) = open(&sessions, &fixture).await;
    fixture.feed(&recorder).await;
    sessions
        .inner
        .means
        .spool
        .make_trouble([io::Error::from_raw_os_error(EIO)]);
    let failed = feed_until_it_fails(&fixture, &recorder).await;
    assert!(failed.contains("Input/output error"), "{failed}");
    recorder.ended(ended());
    recorder.closed().await;
    let manifest = || bed.recording(0, id).manifest.is_some();
    eventually("it is closed and stored", manifest).await;
    // Closed by the recorder itself, or, where it was a sealed segment that the disk did not take, from what is durable.
    let report = bed.recording(0, id).verify(&bed);
    assert_eq!(report.outcome, Outcome::Findings, "it says so: {:?}", report.findings);
    sessions.shutdown().await;
    assert!(bed.spool_files().is_empty());
}

/// Best effort tries until the disk takes it, the open segment as well as a sealed one: only what could not wait is missing.
#[tokio::test(flavor = "multi_thread")]
async fn best_effort_goes_on_when_a_disk_works_again() {
    const EIO: i32 = 5;
    let mut bed = Bed::new(&[("disk", Mode::Async, true)]);
    bed.config.session_recording.on_failure = OnFailure::BestEffort;
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let (id, recorder) = open(&sessions, &fixture).await;
    fixture.feed(&recorder).await;
    let troubles = || (0..3).map(|_| io::Error::from_raw_os_error(EIO));
    sessions.inner.means.spool.make_trouble(troubles());
    let goes_on = async {
        let feed = async {
            loop {
                fixture.feed(&recorder).await;
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            _ = recorder.wants_refresh() => {}
            () = feed => {}
        }
    };
    tokio::time::timeout(PATIENCE, goes_on).await.unwrap();
    assert_eq!(recorder.shared().unwrap().failure(), None);
    recorder.ended(ended());
    recorder.closed().await;
    bed.wait_for(id, State::Complete).await;
    let recording = bed.recording(0, id);
    let report = recording.verify(&bed);
    assert_eq!(report.outcome, Outcome::Findings, "{:?}", report.findings);
    let gaps = bed.catalog().gaps(id).unwrap();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].reason.starts_with("storage_unavailable: "), "{gaps:?}");
    assert!(gaps[0].reason.contains("Input/output error"), "{gaps:?}");
    sessions.shutdown().await;
    assert!(bed.spool_files().is_empty());
}

/// Why the recorder failed.
async fn feed_until_it_fails(fixture: &Fixture, recorder: &SessionRecorder) -> String {
    let failed = async {
        for (direction, bytes) in fixture.batches().into_iter().cycle() {
            if recorder.enqueue(direction, bytes).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        recorder.failed().await.reason
    };
    tokio::time::timeout(PATIENCE, failed).await.unwrap()
}

/// The spool's own limit, while a session runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_used_up_ends_strict_sessions_and_tells_before() {
    let mut bed = Bed::new(&[("disk", Mode::Async, true)]);
    bed.storages[0].down(true);
    bed.config.spool.max_bytes = 400_000;
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let (id, recorder) = open(&sessions, &fixture).await;
    let failed = feed_until_it_fails(&fixture, &recorder).await;
    assert!(failed.contains("spool.max_bytes is 400000"), "{failed}");
    recorder.ended(ended());
    recorder.closed().await;
    let told = || {
        let events = crate::audit::last(&bed.config.data_dir, &crate::audit::Filter::default(), 1000).unwrap();
        events
            .iter()
            .any(|event| event.text("code") == "DRS03W" && event.text("limit") == "spool.max_bytes")
    };
    eventually("an alert stands in the audit log", told).await;
    bed.storages[0].down(false);
    bed.wait_for(id, State::Complete).await;
    assert_eq!(bed.recording(0, id).verify(&bed).outcome, Outcome::Whole);
    sessions.shutdown().await;
}
