#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const RECORDING: Uuid = Uuid::from_u128(7);

fn limits(max_bytes: u64, min_free_bytes: u64) -> Limits {
    Limits {
        max_bytes,
        min_free_bytes,
        reserve_bytes: 0,
    }
}

fn segment(number: u32) -> ObjectId {
    ObjectId {
        recording: RECORDING,
        object: Object::Segment(number),
    }
}

fn manifest() -> ObjectId {
    ObjectId {
        recording: RECORDING,
        object: Object::Manifest,
    }
}

#[test]
fn an_open_segment_becomes_a_sealed_one() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), limits(1 << 30, 0)).unwrap());
    let mut open = spool.begin(RECORDING, 3).unwrap();
    open.append(b"abc").unwrap();
    assert_eq!(
        spool.look(RECORDING).unwrap(),
        Found {
            open: vec![3],
            sealed: vec![]
        }
    );
    assert_eq!(spool.read_open(RECORDING, 3).unwrap(), "abc");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let inside = folder.path().join(RECORDING.to_string());
    assert_eq!((mode(&inside), mode(&inside.join("00000003.open"))), (0o700, 0o600));
    spool.write(manifest(), b"{}").unwrap();
    assert_eq!(mode(&inside.join("manifest.json")), 0o600);
    spool.remove(manifest()).unwrap();
    assert!(spool.begin(RECORDING, 3).is_err(), "never two writers");
    open.seal(b"def").unwrap();
    assert_eq!(
        spool.look(RECORDING).unwrap(),
        Found {
            open: vec![],
            sealed: vec![(Object::Segment(3), 6)]
        }
    );
    assert_eq!(spool.read(segment(3)).unwrap(), "abcdef");
    spool.remove(segment(3)).unwrap();
    spool.remove(segment(3)).unwrap();
    spool.remove_folder(RECORDING).unwrap();
    assert!(spool.recordings().unwrap().is_empty());
    assert_eq!(spool.used.load(Ordering::Relaxed), 0);
}

/// The courier takes the folder along with the last file in it, at any moment of a running session.
#[test]
fn a_folder_that_is_removed_meanwhile_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), limits(1 << 30, 0)).unwrap());
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                spool.remove_folder(RECORDING).unwrap();
                // without a pause it stands in the kernel's queue for the folder's lock, and every attempt loses
                std::thread::sleep(std::time::Duration::from_micros(100));
            }
        });
        for number in 0..300 {
            let begun = spool.begin(RECORDING, number).map(|mut open| open.append(b"a"));
            let removed = spool.remove_open(RECORDING, number);
            let written = spool.write(segment(number), b"b");
            let gone = spool.remove(segment(number));
            if begun.is_err() || written.is_err() || removed.is_err() || gone.is_err() {
                over.store(true, Ordering::Relaxed);
            }
            begun.unwrap().unwrap();
            removed.unwrap();
            written.unwrap();
            gone.unwrap();
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(spool.used.load(Ordering::Relaxed), 0);
}

#[test]
fn half_written_objects_are_gone_after_a_restart_and_foreign_files_stay() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), limits(1 << 30, 0)).unwrap());
    spool.write(segment(0), b"whole").unwrap();
    spool.write(manifest(), b"{}").unwrap();
    let inside = folder.path().join(RECORDING.to_string());
    fs::write(inside.join(".00000001.mcap"), "half").unwrap();
    fs::write(inside.join("notes.txt"), "an operator's").unwrap();
    fs::write(folder.path().join("lost+found"), "").unwrap();
    let again = Spool::open(folder.path(), limits(1 << 30, 0)).unwrap();
    let found = again.look(RECORDING).unwrap();
    assert_eq!(found.sealed, [(Object::Segment(0), 5), (Object::Manifest, 2)]);
    assert!(inside.join("notes.txt").exists() && !inside.join(".00000001.mcap").exists());
    again.remove(segment(0)).unwrap();
    again.remove(manifest()).unwrap();
    again.remove_folder(RECORDING).unwrap();
    assert!(inside.exists(), "what isn't ours keeps the folder");
}

#[test]
fn limits_are_named_when_reached() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path(), limits(64 << 20, 0)).unwrap();
    spool.room().unwrap();
    spool.write(segment(0), &vec![0; 49 << 20]).unwrap();
    assert!(spool.room().unwrap_err().contains("spool.max_bytes"));
    // Replacing does not count twice, and what is removed no longer counts.
    spool.write(segment(0), b"small").unwrap();
    spool.room().unwrap();
    let spool = Spool::open(folder.path(), limits(64 << 20, u64::MAX)).unwrap();
    assert!(spool.room().unwrap_err().contains("spool.min_free_bytes"));
}

#[test]
fn an_unreadable_open_segment_is_put_aside() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Arc::new(Spool::open(folder.path(), limits(1 << 30, 0)).unwrap());
    spool.begin(RECORDING, 0).unwrap().append(b"junk").unwrap();
    let aside = spool.set_aside(RECORDING, 0).unwrap();
    assert_eq!(fs::read(aside).unwrap(), b"junk");
    assert_eq!(spool.look(RECORDING).unwrap(), Found::default());
}
