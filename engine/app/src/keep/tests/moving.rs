//! Copying between storages, and holding a storage against the catalog.

use deskreel_sdk::Key;
use uuid::Uuid;

use super::bed::{Bed, Wanted, key, now, record, row, trust, wanted};
use crate::catalog::Catalog;
use crate::keep::bench::{Load, bench};
use crate::keep::check::check;
use crate::keep::copy::{Copied, Copier};
use crate::keep::retention::Rules;
use crate::keep::scan::{Kind, Scanned, Scanner};

struct Moving {
    bed: Bed,
    catalog: Catalog,
    ids: Vec<Uuid>,
}

impl Moving {
    fn new(count: usize) -> Self {
        let bed = Bed::new(&["a", "b"], "");
        let ids = (0..count).map(|_| bed.record("a", &key(1), &wanted())).collect();
        let catalog = bed.catalog("data");
        bed.rebuild(&catalog, &trust(&key(1)));
        Self { bed, catalog, ids }
    }

    fn copy(&self, missing_only: bool, only: Option<Uuid>, recordings: usize) -> Copied {
        let rules = Rules::new(&self.bed.loaded.config.retention).unwrap();
        let copier = Copier {
            handle: self.bed.handle(),
            from: &self.bed.storage(0),
            to: &self.bed.storage(1),
            catalog: &self.catalog,
            rules: &rules,
            missing_only,
            now: now(),
        };
        assert!(copier.size(only).unwrap() > 0);
        let mut left = recordings;
        let meanwhile = &mut |_| {
            left -= 1;
            left > 0
        };
        copier.copy(only, meanwhile).unwrap()
    }

    fn scan(&self, storage: usize, digests: bool) -> Scanned {
        let scanner = Scanner {
            handle: self.bed.handle(),
            catalog: &self.catalog,
            storage: &self.bed.storage(storage),
            digests,
        };
        scanner.scan(&mut |_| {}).unwrap()
    }

    fn read(&self, storage: &str, id: Uuid, name: &str) -> Option<Vec<u8>> {
        let files = self.bed.files(storage, id);
        let file = files.iter().find(|file| file.ends_with(name))?;
        std::fs::read(file).ok()
    }
}

#[test]
fn an_interrupted_copy_is_taken_up_again() {
    let test = Moving::new(5);
    let first = test.copy(true, None, 2);
    assert_eq!((first.recordings, first.objects, first.present), (2, 6, 0));
    // Killed between two segments, too: the manifest is not there yet.
    let begun = |id: &&Uuid| test.bed.recording("b", **id).exists();
    let third = *test.ids.iter().find(|id| !begun(id)).unwrap();
    let (name, bytes) = ("00000000.mcap", test.read("a", third, "00000000.mcap").unwrap());
    std::fs::create_dir(test.bed.recording("b", third)).unwrap();
    std::fs::write(test.bed.recording("b", third).join(name), bytes).unwrap();
    let second = test.copy(true, None, usize::MAX);
    assert_eq!(
        (second.recordings, second.objects, second.present, second.failed),
        (5, 8, 7, 0)
    );
    for id in &test.ids {
        for name in ["00000000.mcap", "00000001.mcap", "manifest.json"] {
            assert_eq!(test.read("a", *id, name), test.read("b", *id, name), "{name}");
        }
        assert_eq!(test.catalog.stored_at(*id, "b").unwrap(), 3);
    }
    // Without --missing everything is put again, and found to be the same.
    let proof = test.copy(false, None, usize::MAX);
    assert_eq!((proof.objects, proof.present, proof.failed), (15, 0, 0));
    let nothing = test.scan(1, true);
    assert!(nothing.counts.is_empty(), "{:?}", nothing.findings);
    assert_eq!(nothing.digests, 15);
}

#[test]
fn damaged_bytes_are_not_copied_and_the_manifest_waits() {
    let test = Moving::new(2);
    let [bad, good] = [test.ids[0], test.ids[1]];
    let path = test.bed.recording("a", bad).join("00000001.mcap");
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let copied = test.copy(true, None, usize::MAX);
    assert_eq!(copied.failed, 2, "{:?}", copied.problems);
    assert!(
        copied
            .problems
            .iter()
            .any(|problem| problem.contains("digest is not what was sealed"))
    );
    assert!(test.read("b", bad, "00000000.mcap").is_some());
    assert!(test.read("b", bad, "00000001.mcap").is_none() && test.read("b", bad, "manifest.json").is_none());
    assert!(test.read("b", good, "manifest.json").is_some());
    // Other bytes under a key that is taken are refused by the storage, not replaced.
    std::fs::write(test.bed.recording("b", good).join("00000000.mcap"), b"other").unwrap();
    let copied = test.copy(false, Some(good), usize::MAX);
    assert_eq!(copied.failed, 2, "{:?}", copied.problems);
    assert_eq!(test.read("b", good, "00000000.mcap").unwrap(), b"other");
}

#[test]
fn a_scan_finds_what_does_not_belong_and_what_is_missing() {
    let test = Moving::new(4);
    let objects = |id: Uuid, name: &str| test.bed.recording("a", id).join(name);
    let clean = test.scan(0, true);
    assert!(clean.counts.is_empty() && !clean.is_broken(), "{:?}", clean.findings);
    assert_eq!((clean.recordings, clean.objects, clean.digests), (4, 12, 12));

    let (_, unknown) = record(&key(1), &wanted());
    test.bed.write("a", &unknown);
    test.bed.write(
        "a",
        &[
            ("lost+found/x".to_owned(), "x".into()),
            ("stray".to_owned(), "y".into()),
        ],
    );
    test.catalog.deleted(test.ids[0], now(), "bob", "test").unwrap();
    std::fs::remove_file(objects(test.ids[1], "00000001.mcap")).unwrap();
    std::fs::write(objects(test.ids[2], "00000000.mcap"), b"short").unwrap();
    std::fs::write(objects(test.ids[2], "00000009.mcap"), b"more").unwrap();
    let path = objects(test.ids[3], "00000000.mcap");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let fast = test.scan(0, false);
    let count = |scanned: &Scanned, kind| scanned.counts.get(&kind).copied().unwrap_or(0);
    for (kind, wanted) in [
        // A plus is in no key, so the plugin doesn't list that folder.
        (Kind::Stranger, 1),
        (Kind::Unknown, 1),
        (Kind::Leftover, 1),
        (Kind::Unlisted, 1),
        (Kind::Missing, 1),
        (Kind::Size, 1),
        (Kind::Digest, 0),
    ] {
        assert_eq!(count(&fast, kind), wanted, "{kind:?}: {:?}", fast.findings);
    }
    assert!(fast.is_broken());
    assert_eq!(count(&test.scan(0, true), Kind::Digest), 1);
    // All of a recording is gone.
    std::fs::remove_dir_all(test.bed.path("a").join(test.ids[3].to_string())).unwrap();
    assert_eq!(count(&test.scan(0, false), Kind::Missing), 4);
    let scrubbed = Scanner {
        handle: test.bed.handle(),
        catalog: &test.catalog,
        storage: &test.bed.storage(0),
        digests: true,
    };
    let scrubbed = scrubbed.scrub(100, &mut |_| {}).unwrap();
    assert!(scrubbed.is_broken());
}

#[test]
fn an_open_recording_is_copied_without_a_manifest() {
    let test = Moving::new(1);
    let open = test.bed.record(
        "a",
        &key(2),
        &Wanted {
            manifest: false,
            ..wanted()
        },
    );
    test.bed.sync(&test.catalog, &trust(&key(1)));
    let copied = test.copy(true, None, usize::MAX);
    assert_eq!((copied.open, copied.failed, copied.objects), (1, 0, 5));
    assert!(test.read("b", open, "00000001.mcap").is_some());
    assert!(row(&test.catalog, open).manifest_sha256.is_none());
    // What was deleted does not come back by a copy.
    test.catalog.deleted(test.ids[0], now(), "bob", "test").unwrap();
    assert_eq!(test.copy(false, None, usize::MAX).deleted, 1);
}

#[test]
fn a_check_and_a_benchmark_leave_nothing() {
    let bed = Bed::new(&["a"], "");
    let steps = check(bed.handle(), &bed.storage(0));
    assert!(steps.iter().all(|step| step.ok), "{steps:?}");
    let names: Vec<&str> = steps.iter().map(|step| step.step).collect();
    let all = [
        "reach",
        "put",
        "put again",
        "create only",
        "stat",
        "get",
        "get a range",
        "list",
        "delete",
        "be gone",
    ];
    assert_eq!(names, all);
    let load = Load {
        objects: 5,
        size: 100_000,
        concurrency: 2,
    };
    let measured = bench(bed.handle(), &bed.storage(0), load).unwrap();
    assert_eq!(measured.iter().map(|row| row.count).collect::<Vec<_>>(), [5, 5, 5]);
    assert!(
        measured
            .iter()
            .all(|row| row.p50_ms <= row.p99_ms && row.p99_ms <= row.max_ms)
    );
    let listed = bed
        .handle()
        .block_on(bed.storage(0).list(&deskreel_sdk::Prefix::all()))
        .unwrap();
    assert_eq!(listed, []);
}

#[test]
fn a_storage_that_is_gone_says_what_that_means() {
    let bed = Bed::new(&["a"], "");
    let storage = bed.storage(0);
    bed.handle().block_on(storage.check()).unwrap();
    std::fs::remove_dir_all(bed.path("a")).unwrap();
    std::fs::write(bed.path("a"), b"no folder").unwrap();
    let steps = check(bed.handle(), &storage);
    let [reach] = steps.as_slice() else {
        panic!("nothing more is asked of a storage that is not there: {steps:?}")
    };
    assert!(!reach.ok && reach.step == "reach");
    let problem = reach.problem.clone().unwrap();
    assert!(
        problem.contains("storage a: ") && problem.contains("its disk is mounted"),
        "{problem}"
    );
    assert!(Key::new("a").is_ok());
}
