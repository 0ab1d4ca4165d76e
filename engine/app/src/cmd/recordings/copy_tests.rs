#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use deskreel_recording::event::{EndReason, SessionEnd, SessionStart};
use deskreel_recording::{Picture, Recorder, RecorderOptions, Rect, SigningKey, VerifyingKey};
use time::OffsetDateTime;
use uuid::Uuid;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A small recording.
pub(in super::super) struct Recorded {
    pub(in super::super) id: Uuid,
    pub(in super::super) segments: Vec<Bytes>,
    pub(in super::super) manifest: Bytes,
    pub(in super::super) trusted: VerifyingKey,
}

impl Recorded {
    pub(in super::super) fn new() -> Self {
        let id = Uuid::now_v7();
        let key = SigningKey::from_bytes(&[7; 32]);
        let trusted = key.verifying_key();
        let start = SessionStart {
            recording: id,
            ..SessionStart::default()
        };
        let mut recorder = Recorder::new(start, key, RecorderOptions::default()).unwrap();
        let mut segments = Vec::new();
        for second in 1..5 {
            let data = vec![second as u8; 8 * 8 * 4];
            let picture = Picture {
                width: 8,
                height: 8,
                stride: 32,
                data: &data,
            };
            let all = Rect {
                x: 0,
                y: 0,
                width: 8,
                height: 8,
            };
            recorder.frame(second * SECOND, picture, &[all]).unwrap();
            if second < 4 {
                segments.push(recorder.seal(second * SECOND + 1).unwrap().unwrap().bytes);
            }
        }
        let end = SessionEnd {
            reason: EndReason::ClientClosed,
            detail: None,
            error_info: None,
        };
        let (last, manifest) = recorder.finish(5 * SECOND, end).unwrap();
        segments.extend(last.map(|segment| segment.bytes));
        Self {
            id,
            segments,
            manifest: manifest.into(),
            trusted,
        }
    }

    fn options(&self) -> VerifyOptions {
        VerifyOptions {
            recording: Some(self.id),
            trusted: vec![self.trusted],
            deep: false,
        }
    }

    fn object(&self, place: Place) -> Bytes {
        match place {
            Place::Segment(number) => self.segments[number as usize].clone(),
            Place::Manifest => self.manifest.clone(),
        }
    }

    fn places(&self) -> impl Iterator<Item = Place> {
        (0..self.segments.len() as u32)
            .map(Place::Segment)
            .chain([Place::Manifest])
    }
}

pub(in super::super) fn waiting(storage: &str, object: Object) -> PlacementRow {
    PlacementRow {
        object,
        storage: storage.to_owned(),
        required: true,
        stored: None,
        problem: None,
    }
}

pub(in super::super) fn stored(storage: &str, object: Object) -> PlacementRow {
    PlacementRow {
        stored: Some(OffsetDateTime::UNIX_EPOCH),
        ..waiting(storage, object)
    }
}

pub(in super::super) fn given_up(storage: &str, object: Object) -> PlacementRow {
    PlacementRow {
        problem: Some("too large".to_owned()),
        ..waiting(storage, object)
    }
}

/// Storage and spool, between which an object moves after every look.
#[derive(Default)]
struct World {
    storage: RefCell<BTreeMap<Place, Bytes>>,
    spool: RefCell<BTreeMap<Place, Bytes>>,
    /// Looks before the first move.
    rest: Cell<usize>,
    /// What arrives at the storage, one a look; it leaves the spool if it is there.
    arriving: RefCell<VecDeque<(Place, Bytes)>>,
}

struct Side<'a> {
    world: &'a World,
    objects: &'a RefCell<BTreeMap<Place, Bytes>>,
}

impl World {
    fn tick(&self) {
        if self.rest.get() > 0 {
            self.rest.set(self.rest.get() - 1);
        } else if let Some((place, bytes)) = self.arriving.borrow_mut().pop_front() {
            self.storage.borrow_mut().insert(place, bytes);
            self.spool.borrow_mut().remove(&place);
        }
    }

    fn examine(&self, recorded: &Recorded, placements: &[PlacementRow]) -> Report {
        let expected = Expected::of("disk", placements);
        let side = |objects| Side { world: self, objects };
        let (storage, spool) = (side(&self.storage), side(&self.spool));
        examine(&storage, &spool, &expected, recorded.options()).unwrap().report
    }
}

impl Objects for Side<'_> {
    fn segments(&self) -> anyhow::Result<BTreeSet<u32>> {
        let numbers = self.objects.borrow().keys().filter_map(Place::number).collect();
        self.world.tick();
        Ok(numbers)
    }

    fn segment(&self, number: u32) -> anyhow::Result<Option<Bytes>> {
        let found = self.objects.borrow().get(&Place::Segment(number)).cloned();
        self.world.tick();
        Ok(found)
    }

    fn manifest(&self) -> anyhow::Result<Option<Bytes>> {
        let found = self.objects.borrow().get(&Place::Manifest).cloned();
        self.world.tick();
        Ok(found)
    }
}

fn rows(recorded: &Recorded, row: impl Fn(&str, Object) -> PlacementRow) -> Vec<PlacementRow> {
    let object = |place| match place {
        Place::Segment(number) => Object::Segment(number),
        Place::Manifest => Object::Manifest,
    };
    recorded.places().map(|place| row("disk", object(place))).collect()
}

/// More looks than one examination takes.
const LOOKS: usize = 30;

#[test]
fn a_recording_that_moves_from_the_spool_to_the_storage_is_whole_at_any_moment() {
    let recorded = Recorded::new();
    for rest in 0..LOOKS {
        let world = World::default();
        world.rest.set(rest);
        for place in recorded.places() {
            world.spool.borrow_mut().insert(place, recorded.object(place));
            world.arriving.borrow_mut().push_back((place, recorded.object(place)));
        }
        let report = world.examine(&recorded, &rows(&recorded, waiting));
        assert_eq!(
            report.outcome,
            Verdict::Whole,
            "after {rest} looks: {:?}",
            report.findings
        );
    }
}

#[test]
fn a_session_that_goes_on_is_never_broken() {
    let recorded = Recorded::new();
    let arrivals = [Place::Segment(3), Place::Segment(2), Place::Segment(1), Place::Manifest];
    for rest in 0..LOOKS {
        for sealed in 1..3 {
            let world = World::default();
            world.rest.set(rest);
            let first = Place::Segment(0);
            world.storage.borrow_mut().insert(first, recorded.object(first));
            let arriving = arrivals.map(|place| (place, recorded.object(place)));
            world.arriving.borrow_mut().extend(arriving);
            let mut placements = vec![stored("disk", Object::Segment(0))];
            placements.extend((1..=sealed).map(|number| waiting("disk", Object::Segment(number))));
            let report = world.examine(&recorded, &placements);
            assert_ne!(
                report.outcome,
                Verdict::Broken,
                "after {rest} looks: {:?}",
                report.findings
            );
        }
    }
}

#[test]
fn what_the_catalog_calls_stored_must_be_at_the_storage() {
    let recorded = Recorded::new();
    let closed = rows(&recorded, stored);
    let open = &closed[..closed.len() - 1];
    for lost in recorded.places() {
        let world = World::default();
        for place in recorded.places() {
            let side = if place == lost { &world.spool } else { &world.storage };
            side.borrow_mut().insert(place, recorded.object(place));
        }
        let report = world.examine(&recorded, &closed);
        assert_eq!(report.outcome, Verdict::Broken, "{lost}");
        let told = report
            .findings
            .iter()
            .any(|finding| finding.kind == FindingKind::Missing);
        assert!(told, "{lost}: {:?}", report.findings);
        if lost != Place::Manifest {
            world.storage.borrow_mut().remove(&Place::Manifest);
            let report = world.examine(&recorded, open);
            assert_eq!(report.outcome, Verdict::Broken, "{lost}, while the session runs");
        }
    }
    let report = World::default().examine(&recorded, &closed);
    assert_eq!(report.outcome, Verdict::Broken, "all of it");
    assert_eq!(report.findings.len(), 1, "{:?}", report.findings);
}

#[test]
fn what_did_not_arrive_breaks_only_a_required_storage() {
    let recorded = Recorded::new();
    let optional = |row: fn(&str, Object) -> PlacementRow| {
        move |storage: &str, object| PlacementRow {
            required: false,
            ..row(storage, object)
        }
    };
    let outcome = |placements: &[PlacementRow]| {
        let world = World::default();
        for place in recorded.places().filter(|place| *place != Place::Segment(1)) {
            world.storage.borrow_mut().insert(place, recorded.object(place));
        }
        // The spool has it for another storage.
        let one = Place::Segment(1);
        world.spool.borrow_mut().insert(one, recorded.object(one));
        world.examine(&recorded, placements)
    };
    let mut placements = rows(&recorded, optional(stored));
    placements[1] = optional(given_up)("disk", Object::Segment(1));
    let report = outcome(&placements);
    assert_eq!(report.outcome, Verdict::Findings, "{:?}", report.findings);
    assert!(
        report.findings[0]
            .text
            .contains("segment 1: did not arrive at this storage: too large")
    );
    let mut placements = rows(&recorded, stored);
    placements[1] = given_up("disk", Object::Segment(1));
    assert_eq!(outcome(&placements).outcome, Verdict::Broken);
}

#[test]
fn a_closed_recording_that_waits_in_memory_is_on_its_way() {
    let recorded = Recorded::new();
    let report = World::default().examine(&recorded, &rows(&recorded, waiting));
    assert_eq!(report.outcome, Verdict::Findings);
    let [finding] = &report.findings[..] else {
        panic!("{:?}", report.findings)
    };
    assert_eq!(finding.kind, FindingKind::Absent);
    assert!(finding.text.starts_with("segment 0, segment 1, "), "{}", finding.text);
}
