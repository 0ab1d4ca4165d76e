#![allow(clippy::unwrap_used, reason = "tests")]

use deskreel_config::Sources;

use super::super::copy::tests::{Recorded, given_up, stored, waiting};
use super::*;
use crate::catalog::Object;

/// A configuration with these storages, and a folder that their paths start at.
struct Bed {
    folder: tempfile::TempDir,
    loaded: Loaded,
    runtime: Arc<Runtime>,
    recorded: Recorded,
}

impl Bed {
    fn new(storages: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = "storages:\n".to_owned();
        for storage in storages {
            text.push_str(&format!("  - {storage}\n"));
        }
        let file = folder.path().join("deskreel.yaml");
        std::fs::write(&file, text).unwrap();
        let loaded = deskreel_config::load(&Sources {
            file: Some(file),
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        })
        .unwrap();
        Self {
            folder,
            loaded,
            runtime: runtime().unwrap(),
            recorded: Recorded::new(),
        }
    }

    /// Puts the whole recording into a folder of a storage.
    fn fill(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name).join(self.recorded.id.to_string());
        std::fs::create_dir_all(&folder).unwrap();
        for (number, bytes) in self.recorded.segments.iter().enumerate() {
            std::fs::write(folder.join(format!("{number:08}.mcap")), bytes).unwrap();
        }
        std::fs::write(folder.join("manifest.json"), &self.recorded.manifest).unwrap();
        folder
    }

    fn verify(&self, placements: Option<&[PlacementRow]>) -> Vec<Verified> {
        let copies = Copies {
            loaded: &self.loaded,
            runtime: &self.runtime,
            id: self.recorded.id,
            placements,
            trusted: std::slice::from_ref(&self.recorded.trusted),
            deep: false,
        };
        copies.verify()
    }

    /// What the catalog says of a storage, for every object of the recording.
    fn all(&self, storage: &str, row: impl Fn(&str, Object) -> PlacementRow) -> Vec<PlacementRow> {
        let segments = 0..u32::try_from(self.recorded.segments.len()).unwrap();
        let objects = segments.map(Object::Segment).chain([Object::Manifest]);
        objects.map(|object| row(storage, object)).collect()
    }
}

const A: &str = "{name: a, plugin: local, settings: {path: ./a}}";
const B: &str = "{name: b, plugin: local, settings: {path: ./b}}";
/// Its folder can't be made: a file is in the way.
const UNUSABLE: &str = "{name: b, plugin: local, settings: {path: ./deskreel.yaml/b}}";

fn verdicts(verified: &[Verified]) -> Vec<(&str, Verdict)> {
    verified
        .iter()
        .map(|copy| (copy.place.as_str(), copy.report.outcome))
        .collect()
}

#[test]
fn a_storage_that_can_not_be_opened_is_a_finding_and_hides_nothing() {
    for storages in [[A, UNUSABLE], [UNUSABLE, A]] {
        let bed = Bed::new(&storages);
        bed.fill("a");
        let placements = [bed.all("a", stored), bed.all("b", stored)].concat();
        let verified = bed.verify(Some(&placements));
        let a = verified.iter().find(|copy| copy.place == "storage a").unwrap();
        let b = verified.iter().find(|copy| copy.place == "storage b").unwrap();
        assert_eq!((a.report.outcome, a.checked), (Verdict::Whole, true));
        assert_eq!((b.report.outcome, b.checked), (Verdict::Findings, false));
        assert_eq!(outcome(&verified).unwrap(), Outcome::Findings);
        let text = text(&verified, std::slice::from_ref(&bed.recorded.trusted));
        assert!(
            text.contains("storage a: whole") && text.contains("storage b: NOT CHECKED"),
            "{text}"
        );
        assert!(text.contains("could not be checked: "), "{text}");
        // Nothing was verified: that is no result with findings.
        assert!(outcome(&verified[..1]).is_err() != outcome(&verified[1..]).is_err());
    }
    let bed = Bed::new(&[UNUSABLE]);
    let verified = bed.verify(Some(&bed.all("b", stored)));
    assert!(outcome(&verified).is_err());
}

#[test]
fn a_storage_that_has_none_of_it_does_not_hide_the_good_copy() {
    let bed = Bed::new(&[B, A]);
    bed.fill("a");
    let placements = [bed.all("a", stored), bed.all("b", stored)].concat();
    let verified = bed.verify(Some(&placements));
    assert_eq!(
        verdicts(&verified),
        [("storage b", Verdict::Broken), ("storage a", Verdict::Whole)]
    );
    assert_eq!(outcome(&verified).unwrap(), Outcome::Broken);
    // A storage that was added later was never to have any of it.
    let verified = bed.verify(Some(&bed.all("a", stored)));
    assert_eq!(
        verdicts(&verified),
        [("storage b", Verdict::Findings), ("storage a", Verdict::Whole)]
    );
    assert_eq!(outcome(&verified).unwrap(), Outcome::Fine);
    // Another node's recording, in one of the storages.
    let verified = bed.verify(None);
    assert_eq!(outcome(&verified).unwrap(), Outcome::Fine);
}

#[test]
fn what_an_optional_storage_gave_up_does_not_count() {
    let bed = Bed::new(&[A, B]);
    bed.fill("a");
    let optional = |storage: &str, object| PlacementRow {
        required: false,
        ..given_up(storage, object)
    };
    let placements = [bed.all("a", stored), bed.all("b", optional)].concat();
    let verified = bed.verify(Some(&placements));
    assert_eq!(
        verdicts(&verified),
        [("storage a", Verdict::Whole), ("storage b", Verdict::Findings)]
    );
    assert_eq!(outcome(&verified).unwrap(), Outcome::Fine);
    // What is there and is not what was written is told, but the required copies are good.
    let folder = bed.fill("b");
    std::fs::write(folder.join("00000001.mcap"), b"other").unwrap();
    let optional = |storage: &str, object| PlacementRow {
        required: false,
        ..stored(storage, object)
    };
    let placements = [bed.all("a", stored), bed.all("b", optional)].concat();
    let verified = bed.verify(Some(&placements));
    assert_eq!(verified[1].report.outcome, Verdict::Broken);
    assert_eq!(outcome(&verified).unwrap(), Outcome::Findings);
    let text = text(&verified, std::slice::from_ref(&bed.recorded.trusted));
    assert!(text.contains("storage b (not required): BROKEN"), "{text}");
    assert_eq!(text.matches("segment 1: ").count(), 1, "{text}");
    // The same in a required storage.
    let placements = [bed.all("a", stored), bed.all("b", stored)].concat();
    assert_eq!(outcome(&bed.verify(Some(&placements))).unwrap(), Outcome::Broken);
}

#[test]
fn a_storage_that_left_the_configuration_is_told() {
    let bed = Bed::new(&[A]);
    bed.fill("a");
    let placements = [bed.all("a", stored), bed.all("old", stored)].concat();
    let verified = bed.verify(Some(&placements));
    assert_eq!(
        verdicts(&verified),
        [("storage a", Verdict::Whole), ("storage old", Verdict::Findings)]
    );
    assert_eq!(outcome(&verified).unwrap(), Outcome::Findings);
}

/// The catalog learns of a segment when it is sealed, which is before a sync storage has it.
#[test]
fn a_running_session_has_findings_and_is_not_broken() {
    let bed = Bed::new(&[A]);
    let folder = bed.fill("a");
    std::fs::remove_file(folder.join("manifest.json")).unwrap();
    for number in 2..bed.recorded.segments.len() {
        std::fs::remove_file(folder.join(format!("{number:08}.mcap"))).unwrap();
    }
    let placements = [
        stored("a", Object::Segment(0)),
        stored("a", Object::Segment(1)),
        waiting("a", Object::Segment(2)),
    ];
    let verified = bed.verify(Some(&placements));
    assert_eq!(
        outcome(&verified).unwrap(),
        Outcome::Findings,
        "{:?}",
        verified[0].report
    );
    // Before the first segment is sealed.
    std::fs::remove_dir_all(folder).unwrap();
    let verified = bed.verify(Some(&[]));
    assert_eq!(outcome(&verified).unwrap(), Outcome::Findings);
    assert!(
        verified[0]
            .report
            .findings
            .iter()
            .any(|finding| finding.kind == FindingKind::StillOpen)
    );
}

#[test]
fn what_is_no_key_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    assert!(named_key(&path).is_err());
    for (content, expected) in [
        ("junk", "BEGIN PUBLIC KEY"),
        (
            "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
            "no Ed25519 public key",
        ),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = format!("{:#}", named_key(&path).unwrap_err());
        assert!(error.contains(expected) && error.contains("--public-key"), "{error}");
    }
}
