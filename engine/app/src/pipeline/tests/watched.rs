//! What a sync session does to this machine's disk: nothing, while its storage is healthy.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deskreel_config::Mode;
use deskreel_recording::Outcome;
use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

use super::bed::{Bed, Fixture, Folder, ended, eventually};
use crate::catalog::State;

/// Tells of every file that is made, written or renamed in some folders.
struct Watcher {
    inotify: OwnedFd,
    folders: BTreeMap<i32, PathBuf>,
}

impl Watcher {
    fn new(root: &Path) -> Self {
        let inotify = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).unwrap();
        let mut watcher = Self {
            inotify,
            folders: BTreeMap::new(),
        };
        let mut folders = vec![root.to_owned()];
        while let Some(folder) = folders.pop() {
            let what = WatchFlags::CREATE | WatchFlags::MODIFY | WatchFlags::MOVED_TO | WatchFlags::MOVED_FROM;
            let watch = add_watch(&watcher.inotify, &folder, what).unwrap();
            let inside = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
            folders.extend(inside.filter(|path| path.is_dir()));
            watcher.folders.insert(watch, folder);
        }
        watcher
    }

    /// What was touched since the last call.
    fn touched(&self) -> BTreeSet<PathBuf> {
        let mut buffer = [MaybeUninit::uninit(); 1 << 16];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let mut touched = BTreeSet::new();
        while let Ok(event) = reader.next() {
            let name = event.file_name().map_or("", |name| name.to_str().unwrap());
            touched.insert(self.folders[&event.wd()].join(name));
        }
        touched
    }
}

/// The catalog and the audit log know of a session; they have none of its pictures.
fn is_knowledge(path: &Path) -> bool {
    let name = path.file_name().unwrap().to_str().unwrap();
    let in_audit = path.parent().is_some_and(|folder| folder.ends_with("audit"));
    name.starts_with("catalog.sqlite") || in_audit
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sync_session_leaves_no_byte_on_the_disk_until_its_storage_fails() {
    let elsewhere = tempfile::tempdir().unwrap();
    let mut bed = Bed::new(&[]);
    bed.config.recording.stall_max = Duration::from_secs(2);
    bed.config.session_recording.on_failure = deskreel_config::OnFailure::BestEffort;
    let storage = Folder::new("far", Mode::Sync, true, elsewhere.path().to_owned());
    bed.storages.push(Arc::new(storage));
    let fixture = Fixture::load("xrdp-planar");
    let sessions = bed.start().await;
    let watcher = Watcher::new(bed.config.data_dir.parent().unwrap());
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    // Long enough for several appends, had there been any, and several segments.
    for _ in 0..3 {
        fixture.feed(&recorder).await;
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
    recorder.ended(ended());
    bed.wait_for(id, State::Complete).await;
    let touched = watcher.touched();
    assert!(
        touched.iter().any(|path| is_knowledge(path)),
        "it sees what is touched: {touched:?}"
    );
    let others: Vec<&PathBuf> = touched.iter().filter(|path| !is_knowledge(path)).collect();
    assert!(others.is_empty(), "{others:?}");
    let recording = bed.recording(0, id);
    assert_eq!(recording.verify(&bed).outcome, Outcome::Whole);
    assert!(recording.segments.len() > 3);

    // The storage fails: now the spool takes everything.
    let facts = fixture.facts();
    let id = facts.id;
    let recorder = sessions.open(facts).await.unwrap();
    bed.storages[0].hang(true);
    fixture.feed(&recorder).await;
    let spilled = || {
        watcher
            .touched()
            .iter()
            .any(|path| path.starts_with(&bed.config.spool.path))
    };
    eventually("the spool is used", spilled).await;
    bed.storages[0].hang(false);
    recorder.ended(ended());
    bed.wait_for(id, State::Complete).await;
    assert_eq!(bed.recording(0, id).verify(&bed).outcome, Outcome::Whole);
    sessions.shutdown().await;
}
