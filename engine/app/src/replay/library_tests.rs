#![allow(clippy::unwrap_used, reason = "tests")]

//! Reading back from several places, some of which are down, slow, empty, or hold other bytes than were written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use deskreel_config::Mode;
use deskreel_recording::event::{EndReason, SessionEnd, SessionStart};
use deskreel_recording::{Picture, Recorder, RecorderOptions, Rect, SigningKey, manifest_key, segment_key, sha256};
use deskreel_sdk::{Error, ErrorKind, PutOptions};
use uuid::Uuid;

use super::objects::Found;
use super::*;
use crate::pipeline::{Answer, Storage};

const SEGMENTS: u32 = 6;

impl Objects {
    async fn manifest(&self) -> anyhow::Result<Option<Bytes>> {
        self.find_manifest().await?.map(whole).transpose()
    }

    async fn segment(self: &Arc<Self>, number: u32) -> anyhow::Result<Option<Bytes>> {
        self.find_segment(number).await?.map(whole).transpose()
    }
}

fn whole(found: Found) -> anyhow::Result<Bytes> {
    match found {
        Found::Whole(bytes) => Ok(bytes),
        Found::Damaged(_) => anyhow::bail!("no place has it whole"),
    }
}

/// A storage in memory.
struct Shelf {
    name: &'static str,
    local: bool,
    objects: Mutex<BTreeMap<String, Bytes>>,
    down: AtomicBool,
    /// Never answers.
    hangs: AtomicBool,
    latency_ms: AtomicU64,
    gets: Mutex<Vec<String>>,
}

impl Shelf {
    fn new(name: &'static str, local: bool, objects: &BTreeMap<String, Bytes>) -> Arc<Self> {
        Arc::new(Self {
            name,
            local,
            objects: Mutex::new(objects.clone()),
            down: AtomicBool::new(false),
            hangs: AtomicBool::new(false),
            latency_ms: AtomicU64::new(0),
            gets: Mutex::default(),
        })
    }

    fn spoil(&self, key: &str) {
        let mut objects = self.objects.lock().unwrap();
        let mut bytes = objects[key].to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        objects.insert(key.to_owned(), bytes.into());
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.gets.lock().unwrap())
    }

    async fn read(&self, key: String, range: Range<u64>) -> Result<Bytes, Error> {
        self.gets.lock().unwrap().push(key.clone());
        if self.hangs.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(Duration::from_millis(self.latency_ms.load(Ordering::SeqCst))).await;
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "connection refused"));
        }
        let objects = self.objects.lock().unwrap();
        let whole = objects.get(&key).ok_or_else(|| Error::not_found(key.clone()))?;
        let end = range.end.min(whole.len() as u64);
        Ok(whole.slice(range.start as usize..end as usize))
    }
}

impl Storage for Shelf {
    fn name(&self) -> &str {
        self.name
    }

    fn mode(&self) -> Mode {
        Mode::Async
    }

    fn required(&self) -> bool {
        true
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn put(&self, _: String, _: Bytes, _: PutOptions) -> Answer<'_, ()> {
        Box::pin(async { Err(Error::unsupported("it is read only")) })
    }

    fn get(&self, key: String) -> Answer<'_, Bytes> {
        Box::pin(self.read(key, 0..u64::MAX))
    }

    fn get_range(&self, key: String, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(self.read(key, range))
    }

    fn list(&self, prefix: String) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let objects = self.objects.lock().unwrap();
            Ok(objects.keys().filter(|key| key.starts_with(&prefix)).cloned().collect())
        })
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

/// Segments and manifest of a recording, by their keys.
fn recording(id: Uuid) -> BTreeMap<String, Bytes> {
    let start = SessionStart {
        recording: id,
        ..SessionStart::default()
    };
    let key = SigningKey::from_bytes(&[7; 32]);
    let mut recorder = Recorder::new(start, key, RecorderOptions::default()).unwrap();
    let mut objects = BTreeMap::new();
    let whole = Rect::new(0, 0, 32, 32);
    for number in 0..SEGMENTS {
        let pixels = vec![number as u8; 32 * 32 * 4];
        let picture = Picture {
            width: 32,
            height: 32,
            stride: 32 * 4,
            data: &pixels,
        };
        let time_ns = u64::from(number + 1) * 1_000_000_000;
        recorder.frame(time_ns, picture, &[whole]).unwrap();
        if number + 1 < SEGMENTS {
            let segment = recorder.seal(time_ns).unwrap().unwrap();
            objects.insert(segment_key(id, number), segment.bytes);
        }
    }
    let end = SessionEnd {
        reason: EndReason::ClientClosed,
        detail: None,
        error_info: None,
    };
    let (last, manifest) = recorder.finish(9_000_000_000, end).unwrap();
    objects.insert(segment_key(id, SEGMENTS - 1), last.unwrap().bytes);
    objects.insert(manifest_key(id), manifest.into());
    objects
}

struct World {
    id: Uuid,
    written: BTreeMap<String, Bytes>,
    spool: tempfile::TempDir,
    near: Arc<Shelf>,
    far: Arc<Shelf>,
    library: Arc<Library>,
}

impl World {
    fn new() -> Self {
        let id = Uuid::now_v7();
        let written = recording(id);
        let spool = tempfile::tempdir().unwrap();
        let (far, near) = (Shelf::new("far", false, &written), Shelf::new("near", true, &written));
        // The order of the configuration is another.
        let library = Library::new(spool.path(), vec![far.clone(), near.clone()]);
        Self {
            id,
            written,
            spool,
            near,
            far,
            library,
        }
    }

    fn key(&self, number: u32) -> String {
        segment_key(self.id, number)
    }

    /// Without a memory of what was read before.
    async fn segment(&self, number: u32) -> anyhow::Result<Option<Bytes>> {
        self.library.objects(self.id, Known::default()).segment(number).await
    }

    async fn is_whole(&self, number: u32) {
        assert_eq!(
            self.segment(number).await.unwrap().unwrap(),
            self.written[&self.key(number)]
        );
    }
}

#[tokio::test]
async fn the_nearest_place_that_has_it_is_asked() {
    let world = World::new();
    let folder = world.spool.path().join(world.id.to_string());
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("00000003.mcap"), &world.written[&world.key(3)]).unwrap();
    world.is_whole(3).await;
    assert!(world.near.asked().is_empty() && world.far.asked().is_empty());
    world.is_whole(0).await;
    assert_eq!((world.near.asked().len(), world.far.asked().len()), (1, 0));
    let objects = world.library.objects(world.id, Known::default());
    assert_eq!(objects.segments().await.unwrap(), (0..SEGMENTS).collect());
    assert_eq!(world.segment(99).await.unwrap(), None);
}

#[tokio::test]
async fn another_place_helps_when_one_is_down_and_that_one_is_asked_last_for_a_while() {
    let world = World::new();
    world.near.down.store(true, Ordering::SeqCst);
    world.is_whole(0).await;
    assert_eq!((world.near.asked().len(), world.far.asked().len()), (1, 1));
    world.is_whole(1).await;
    assert_eq!((world.near.asked().len(), world.far.asked().len()), (0, 1));
    world.far.down.store(true, Ordering::SeqCst);
    let error = world.segment(2).await.unwrap_err().to_string();
    assert!(
        error.contains("storage near") && error.contains("storage far"),
        "{error}"
    );
}

#[tokio::test]
async fn a_place_that_hangs_is_not_waited_for_while_there_are_others() {
    let world = World::new();
    let library = Library::new(
        world.spool.path(),
        vec![world.far.clone(), Shelf::new("b", false, &world.written)],
    );
    world.far.hangs.store(true, Ordering::SeqCst);
    let objects = library.objects(world.id, Known::default());
    let found = objects.segment(0).await.unwrap().unwrap();
    assert_eq!(found, world.written[&world.key(0)]);
}

#[tokio::test]
async fn damage_is_found_and_healed_from_elsewhere() {
    let world = World::new();
    world.near.spoil(&world.key(2));
    world.near.spoil(&manifest_key(world.id));
    world.is_whole(2).await;
    let known = Known {
        manifest: Some(hex::encode(sha256(&world.written[&manifest_key(world.id)]))),
        ..Known::default()
    };
    let objects = world.library.objects(world.id, known);
    assert_eq!(
        objects.manifest().await.unwrap().unwrap(),
        world.written[&manifest_key(world.id)]
    );
    // What is learned later counts, too.
    objects.learn(Known {
        segments: [(2, "00".to_owned())].into(),
        manifest: None,
    });
    let error = objects.segment(2).await.unwrap_err().to_string();
    assert!(error.contains("no place has it whole"), "{error}");
    world.far.spoil(&world.key(2));
    let error = world.segment(2).await.unwrap_err().to_string();
    assert!(error.contains("no place has it whole"), "{error}");
}

#[tokio::test]
async fn digests_of_the_manifest_count_where_the_catalog_knows_nothing() {
    let world = World::new();
    // The same recording, recorded otherwise: whole by itself, but not what the manifest lists.
    let forged = {
        let start = SessionStart {
            recording: world.id,
            started_unix_us: 5,
            ..SessionStart::default()
        };
        let key = SigningKey::from_bytes(&[9; 32]);
        let mut recorder = Recorder::new(start, key, RecorderOptions::default()).unwrap();
        recorder.seal(1).unwrap().unwrap().bytes
    };
    world.near.objects.lock().unwrap().insert(world.key(0), forged.clone());
    let objects = world.library.objects(world.id, Known::default());
    assert_eq!(
        objects.segment(0).await.unwrap().unwrap(),
        forged,
        "nothing says otherwise"
    );
    let objects = world.library.objects(world.id, Known::default());
    objects.manifest().await.unwrap();
    assert_eq!(objects.segment(0).await.unwrap().unwrap(), world.written[&world.key(0)]);
    assert_ne!(sha256(&forged), sha256(&world.written[&world.key(0)]));
}

#[tokio::test]
async fn who_reads_in_a_row_finds_the_next_ones_read() {
    let world = World::new();
    let objects = world.library.objects(world.id, Known::default());
    objects.manifest().await.unwrap();
    world.near.asked();
    objects.segment(3).await.unwrap();
    objects.segment(1).await.unwrap();
    assert_eq!(
        world.near.asked(),
        [world.key(3), world.key(1)],
        "jumps read nothing ahead"
    );
    objects.segment(2).await.unwrap();
    let ahead = || world.near.gets.lock().unwrap().len() == 2;
    for _ in 0..1000 {
        if ahead() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.near.asked(), [world.key(2), world.key(4)], "3 was there");
    objects.segment(3).await.unwrap();
    objects.segment(4).await.unwrap();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        world.near.asked(),
        [world.key(5)],
        "each is read once, and nothing past the end"
    );
    let (a, b) = tokio::join!(objects.segment(0), objects.segment(0));
    assert_eq!(a.unwrap(), b.unwrap());
    assert_eq!(world.near.asked(), [world.key(0)], "two readers, one read");
}

#[tokio::test]
async fn parts_of_other_objects_come_from_whoever_has_them() {
    let world = World::new();
    let key = format!("{}/exports/session.mp4", world.id);
    world
        .far
        .objects
        .lock()
        .unwrap()
        .insert(key, Bytes::from_static(b"0123456789"));
    let objects = world.library.objects(world.id, Known::default());
    let part = objects.file_range("exports/session.mp4", 2..5).await.unwrap();
    assert_eq!(part.unwrap(), "234");
    assert_eq!(objects.file_range("exports/none", 0..5).await.unwrap(), None);
    world.near.down.store(true, Ordering::SeqCst);
    world.far.down.store(true, Ordering::SeqCst);
    assert!(objects.file_range("exports/session.mp4", 2..5).await.is_err());
}
