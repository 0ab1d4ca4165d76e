#![allow(clippy::unwrap_used, reason = "tests")]
use std::sync::{Arc, Mutex};

use deskreel_sdk::{ExportJob, Frame, Marker, MarkerKind, Result};

use super::*;
use crate::replay::tests::Recorded;

const SECOND: u64 = 1_000_000_000;

/// A frame: time, size, first pixel, column of the pointer.
type Seen = (u64, (u32, u32), [u8; 3], Option<i32>);

/// All that an exporter got.
#[derive(Debug, Default)]
struct Probe {
    frames: Vec<Seen>,
    markers: Vec<Marker>,
}

/// A job that writes down what it gets.
struct Notes(Arc<Mutex<Probe>>);

impl ExportJob for Notes {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let first = frame.row(0).first_chunk::<3>().copied().unwrap();
        let pointer = frame.pointer.map(|pointer| pointer.x);
        let seen = (frame.time_ns, (frame.width, frame.height), first, pointer);
        self.0.lock().unwrap().frames.push(seen);
        Ok(())
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.0.lock().unwrap().markers.push(marker.clone());
        Ok(())
    }

    fn finish(self) -> Result<Summary> {
        Ok(Summary::default())
    }
}

/// Exports a stretch, in seconds, of what lies in the recording's folder.
fn exported(recorded: &Recorded, (from, to): (u64, u64), options: &Options, wants: (bool, bool)) -> (Probe, Exported) {
    let source = recorded.source();
    let index = Index::read_whole(&source).unwrap();
    let stretch = Stretch {
        from_ns: from * SECOND,
        to_ns: to * SECOND,
    };
    let plan = Plan {
        format: "probe",
        stretch,
        options,
        output: Path::new("/nowhere"),
    };
    let (width, height) = index.size_between(&source, stretch.from_ns, stretch.to_ns).unwrap();
    let idle = if options.skip_idle {
        time_map::idle(&source, &index, stretch)
    } else {
        Vec::new()
    };
    let map = TimeMap::new(stretch, options.speed, &idle);
    let stage = Stage::new(options, (width.into(), height.into()), index.start.as_ref());
    let probe = Arc::default();
    let run = Run::new(&source, &index, &plan, (Notes(Arc::clone(&probe)), wants), (map, stage));
    let exported = run.go(|_| true).unwrap().unwrap();
    let probe = std::mem::take(&mut *probe.lock().unwrap());
    let frames = probe.frames.iter().map(|(time_ns, ..)| *time_ns);
    assert!(frames.clone().is_sorted() && frames.clone().all(|time_ns| time_ns <= exported.length_ns));
    assert!(probe.markers.is_sorted_by_key(|marker| marker.time_ns));
    (probe, exported)
}

const FRAMES: (bool, bool) = (true, false);

fn times(probe: &Probe) -> Vec<u64> {
    probe.frames.iter().map(|(time_ns, ..)| time_ns * 10 / SECOND).collect()
}

fn chapters(probe: &Probe) -> Vec<(u64, &str)> {
    let title = |marker: &Marker| match &marker.kind {
        MarkerKind::Chapter { title } => Some(title.clone()),
        _ => None,
    };
    probe
        .markers
        .iter()
        .filter_map(|marker| Some((marker.time_ns / SECOND, title(marker)?)))
        .map(|(at, title)| (at, &*Box::leak(title.into_boxed_str())))
        .collect()
}

#[test]
fn events_are_those_of_the_stretch() {
    let recorded = Recorded::new();
    for wants in [(false, true), (true, true)] {
        let (probe, _) = exported(&recorded, (1, 4), &Options::default(), wants);
        let told = probe.markers.iter().filter_map(|marker| match &marker.kind {
            MarkerKind::Event { session_ns, .. } => Some(session_ns * 10 / SECOND),
            _ => None,
        });
        let mut told: Vec<u64> = told.collect();
        // A pointer may get shape and place at once.
        told.dedup();
        assert_eq!(told, [15, 25, 35], "{wants:?}");
    }
}

#[test]
fn frames_come_at_their_times_and_faster_when_asked() {
    let recorded = Recorded::new();
    let (probe, exported) = exported_plain(&recorded, &Options::default());
    assert_eq!(exported.length_ns, 8 * SECOND);
    // Each picture and, a nanosecond later, each move of the pointer.
    assert_eq!(
        times(&probe),
        [0, 5, 5, 15, 15, 25, 25, 35, 35, 45, 45, 55, 55, 65, 65, 75, 75]
    );
    let fast = Options {
        speed: "4".parse().unwrap(),
        fps_max: Some(2),
        no_pointer: true,
        ..Options::default()
    };
    let (probe, exported) = exported_plain(&recorded, &fast);
    assert_eq!(exported.length_ns, 2 * SECOND);
    assert_eq!(times(&probe), [0, 5, 10, 15, 20]);
    assert!(probe.frames.iter().all(|(.., pointer)| pointer.is_none()));
}

fn exported_plain(recorded: &Recorded, options: &Options) -> (Probe, Exported) {
    exported(recorded, (2, 10), options, FRAMES)
}

#[test]
fn a_gap_is_dark_from_its_begin_to_its_end() {
    let recorded = Recorded::new();
    let (probe, exported) = exported(&recorded, (13, 18), &Options::default(), FRAMES);
    assert_eq!((exported.gaps, exported.damage.len()), (1, 0));
    let shown = |tenths: u64| {
        probe
            .frames
            .iter()
            .rev()
            .find(|(at, ..)| *at <= tenths * SECOND / 10)
            .unwrap()
    };
    let brightness = [9, 10, 15, 19, 20].map(|tenths| shown(tenths).2);
    assert_eq!(brightness, [[40; 3], [13; 3], [13; 3], [13; 3], [40; 3]]);
    assert_eq!(shown(15).3, None, "no pointer over the sign");
    let gap = MarkerKind::Gap {
        until_ns: 2 * SECOND,
        reason: "queue full".into(),
    };
    assert!(
        probe
            .markers
            .iter()
            .any(|marker| marker.time_ns == SECOND && marker.kind == gap)
    );
    assert_eq!(
        chapters(&probe)[..3],
        [(0, " on "), (0, "201x100"), (1, "not recorded: queue full")]
    );
}

#[test]
fn a_damaged_segment_is_a_gap_until_the_next_keyframe() {
    let recorded = Recorded::new();
    let path = recorded.path().join("00000002.mcap");
    let whole = std::fs::read(&path).unwrap();
    let index = Index::read(&recorded.source()).unwrap();
    let key_ns = index.segments[3..]
        .iter()
        .find_map(|segment| segment.keys_ns.first())
        .copied()
        .unwrap();
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for damage in [Some(flipped), None] {
        match &damage {
            Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            None => std::fs::remove_file(&path).unwrap(),
        }
        let (probe, exported) = exported(&recorded, (2, 20), &Options::default(), FRAMES);
        assert_eq!(exported.damage.len(), 1, "{:?}", exported.damage);
        assert!(exported.damage[0].contains("00000002.mcap"), "{:?}", exported.damage);
        assert_eq!(exported.length_ns, 18 * SECOND, "time is kept");
        let begin = index.segments[2].first_ns - 2 * SECOND;
        let dark = |(_, _, pixel, _): &&Seen| *pixel == [13; 3];
        assert_eq!(probe.frames.iter().find(dark).unwrap().0, begin);
        let after = probe.frames.iter().find(|(at, ..)| *at >= key_ns - 2 * SECOND).unwrap();
        assert_eq!(after.2, [40; 3]);
        // What lies between the damage and the keyframe is dark too, up to the gap that the recording itself tells of.
        let between = probe
            .frames
            .iter()
            .filter(|(at, ..)| (begin..key_ns - 2 * SECOND).contains(at));
        assert!(between.clone().count() >= 1 && between.clone().all(|frame| dark(&frame)));
        assert!(
            chapters(&probe)
                .iter()
                .any(|(_, title)| title.contains("00000002.mcap"))
        );
    }
}

#[test]
fn without_a_manifest_what_is_whole_is_exported() {
    let recorded = Recorded::new();
    std::fs::write(recorded.path().join("manifest.json"), "{").unwrap();
    std::fs::remove_file(recorded.path().join("00000001.mcap")).unwrap();
    let (probe, exported) = exported(&recorded, (0, 20), &Options::default(), FRAMES);
    assert!(
        exported.damage.iter().any(|told| told.contains("manifest")),
        "{:?}",
        exported.damage
    );
    assert!(
        exported.damage.iter().any(|told| told.contains("00000001.mcap")),
        "{:?}",
        exported.damage
    );
    assert!(times(&probe).contains(&15) && times(&probe).contains(&195));
}

#[test]
fn the_begin_of_a_stretch_may_be_damaged() {
    let recorded = Recorded::new();
    std::fs::write(recorded.path().join("00000001.mcap"), "x").unwrap();
    let (probe, exported) = exported(&recorded, (6, 20), &Options::default(), FRAMES);
    assert_eq!(exported.damage.len(), 1);
    assert_eq!((probe.frames[0].0, probe.frames[0].2 == [40; 3]), (0, false));
    assert_eq!(probe.frames.last().unwrap().2, [40; 3]);
}

#[test]
fn the_clock_ticks_where_nothing_else_happens() {
    let recorded = Recorded::new();
    let options = Options {
        overlay: Overlay {
            clock: true,
            ..Overlay::default()
        },
        no_pointer: true,
        ..Options::default()
    };
    let (probe, _) = exported(&recorded, (2, 4), &options, FRAMES);
    assert_eq!(times(&probe), [0, 5, 10, 15, 20]);
    assert_eq!(probe.frames[0].1, (160, 120 + 24));
}

#[test]
fn exporters_of_events_get_all_of_them_and_no_frame() {
    let recorded = Recorded::new();
    let (probe, _) = exported(&recorded, (0, 20), &Options::default(), (false, true));
    assert!(probe.frames.is_empty());
    let channels: Vec<&str> = probe
        .markers
        .iter()
        .filter_map(|marker| match &marker.kind {
            MarkerKind::Event { channel, .. } => Some(channel.as_str()),
            _ => None,
        })
        .collect();
    let count = |name: &str| channels.iter().filter(|channel| **channel == name).count();
    assert_eq!((count("gap"), count("screen")), (1, 0));
    assert!(count("pointer") >= 19 && count("session") >= 2, "{channels:?}");
}
