#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::Path;
use std::sync::Arc;

use deskreel_recording::event::{EndReason, Gap, GapReason, Pointer, PointerShape, Position, SessionEnd, SessionStart};
use deskreel_recording::{Event, Picture, Recorder, RecorderOptions, Rect, SealedSegment, SigningKey};
use tokio::runtime::Runtime;
use uuid::Uuid;

use super::*;

const SECOND: u64 = 1_000_000_000;
const WIDTH: u16 = 160;
const HEIGHT: u16 = 120;

/// A recording of 20 s: a square that moves once a second, a segment every 4 s, a key every 8 s or so, a resize at 12.5 s.
pub(super) struct Recorded {
    folder: tempfile::TempDir,
    id: Uuid,
    runtime: Arc<Runtime>,
    /// Each picture and its time.
    pictures: Vec<(u64, u16, u16, Vec<u8>)>,
}

fn picture(width: u16, height: u16, second: u64) -> Vec<u8> {
    let mut rgba = vec![40; usize::from(width) * usize::from(height) * 4];
    rgba.chunks_exact_mut(4).for_each(|pixel| pixel[3] = 255);
    let left = usize::try_from(second).unwrap() * 5;
    for y in 10..30 {
        for x in left..left + 20 {
            let at = (y * usize::from(width) + x) * 4;
            rgba[at..at + 3].copy_from_slice(&[200, x as u8, y as u8]);
        }
    }
    rgba
}

impl Recorded {
    pub(super) fn new() -> Self {
        let id = Uuid::now_v7();
        let folder = tempfile::tempdir().unwrap();
        let start = SessionStart {
            recording: id,
            started_unix_us: 1_714_557_600_000_000,
            ..SessionStart::default()
        };
        let options = RecorderOptions {
            keyframe_interval: Duration::from_secs(7),
            ..RecorderOptions::default()
        };
        let mut recorder = Recorder::new(start, SigningKey::from_bytes(&[7; 32]), options).unwrap();
        let mut pictures = Vec::new();
        let write = |segment: Option<SealedSegment>| {
            let segment = segment.unwrap();
            std::fs::write(
                folder.path().join(format!("{:08}.mcap", segment.number)),
                &segment.bytes,
            )
            .unwrap();
        };
        for second in 1..20 {
            let (width, height) = if second > 12 {
                (WIDTH + 41, HEIGHT - 20)
            } else {
                (WIDTH, HEIGHT)
            };
            let time = second * SECOND + SECOND / 2;
            let rgba = picture(width, height, second);
            let all = Rect {
                x: 0,
                y: 0,
                width,
                height,
            };
            let shown = Picture {
                width,
                height,
                stride: usize::from(width) * 4,
                data: &rgba,
            };
            recorder.frame(time, shown, &[all]).unwrap();
            pictures.push((time, width, height, rgba));
            let moved = Pointer {
                position: Some(Position { x: second as u16, y: 3 }),
                visible: Some(second != 5),
                shape: (second == 9).then(|| PointerShape::image(1, 1, 0, 0, &[9, 8, 7, 255]).unwrap()),
            };
            recorder.push(time + 1, &Event::Pointer(moved)).unwrap();
            if second == 15 {
                let gap = Gap {
                    from_ns: 14 * SECOND,
                    to_ns: 15 * SECOND,
                    reason: GapReason::QueueFull,
                    detail: None,
                };
                recorder.push(time + 2, &Event::Gap(gap)).unwrap();
            }
            if second % 4 == 0 {
                write(recorder.seal(time + 3).unwrap());
            }
        }
        let end = SessionEnd {
            reason: EndReason::ClientClosed,
            detail: None,
            error_info: None,
        };
        let (last, manifest) = recorder.finish(20 * SECOND, end).unwrap();
        write(last);
        std::fs::write(folder.path().join("manifest.json"), manifest).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        Self {
            folder,
            id,
            runtime: Arc::new(runtime),
            pictures,
        }
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn source(&self) -> Source {
        Source::folder(self.path(), Arc::clone(&self.runtime)).unwrap()
    }

    fn expected(&self, time_ns: u64) -> &(u64, u16, u16, Vec<u8>) {
        self.pictures.iter().rev().find(|(time, ..)| *time <= time_ns).unwrap()
    }

    fn check_seeks(&self, index: &Index, source: &Source) {
        for half in (3..40).rev() {
            let time_ns = half * SECOND / 2 + SECOND / 3;
            let mut player = Player::before(source, index, time_ns);
            player.play_to(time_ns).unwrap();
            let shown = player.picture().unwrap();
            let (_, width, height, rgba) = self.expected(time_ns);
            assert_eq!((shown.width, shown.height), (*width, *height), "at {time_ns}");
            assert!(rows(shown) == *rgba, "wrong picture at {time_ns}");
            let second = (time_ns - SECOND / 2) / SECOND;
            match player.pointer() {
                Some(pointer) => assert_eq!(
                    (pointer.x, pointer.width),
                    (second as i32, if second < 9 { 12 } else { 1 })
                ),
                None => assert_eq!(second, 5),
            }
        }
    }
}

fn rows(picture: Picture<'_>) -> Vec<u8> {
    let row = usize::from(picture.width) * 4;
    let rows = picture.data.chunks(picture.stride).take(usize::from(picture.height));
    rows.flat_map(|bytes| bytes[..row].to_vec()).collect()
}

#[test]
fn seeks_show_what_was_on_the_screen() {
    let recorded = Recorded::new();
    let source = recorded.source();
    assert_eq!(source.recording(), recorded.id);
    let index = Index::read(&source).unwrap();
    assert_eq!(index.segments.len(), 5);
    assert_eq!(index.duration_ns, 20 * SECOND);
    assert_eq!(index.end.as_ref().unwrap().reason, EndReason::ClientClosed);
    assert_eq!(index.gaps.len(), 1);
    assert!(
        index
            .segments
            .iter()
            .map(|segment| segment.keys_ns.len())
            .sum::<usize>()
            >= 3
    );
    assert_eq!(index.first_key(), Some(SECOND * 3 / 2));
    assert_eq!(index.size_max, Some((WIDTH + 41, HEIGHT)));
    let size = |from, to| index.size_between(&source, from, to);
    assert_eq!(size(0, 20 * SECOND), Some((WIDTH + 41, HEIGHT)));
    assert_eq!(size(0, 5 * SECOND), Some((WIDTH, HEIGHT)));
    assert_eq!(size(15 * SECOND, 20 * SECOND), Some((WIDTH + 41, HEIGHT - 20)));
    recorded.check_seeks(&index, &source);
}

#[test]
fn a_running_recording_plays_up_to_its_last_segment() {
    let recorded = Recorded::new();
    std::fs::remove_file(recorded.path().join("manifest.json")).unwrap();
    let source = recorded.source();
    let index = Index::read(&source).unwrap();
    recorded.check_seeks(&index, &source);
    assert_eq!(index.gaps.len(), 1);
    std::fs::remove_file(recorded.path().join("00000004.mcap")).unwrap();
    let index = Index::read(&source).unwrap();
    assert_eq!(index.end, None);
    assert_eq!(index.duration_ns, 16 * SECOND + SECOND / 2 + 1);
    std::fs::remove_file(recorded.path().join("00000001.mcap")).unwrap();
    let error = format!("{:#}", Index::read(&source).unwrap_err());
    assert!(error.contains("00000001.mcap") && error.contains("missing"), "{error}");
}

#[test]
fn damage_names_the_object() {
    let recorded = Recorded::new();
    let source = recorded.source();
    let index = Index::read(&source).unwrap();
    let path = recorded.path().join("00000002.mcap");
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let play = |source: &Source| {
        let mut player = Player::start(source, &index);
        player.play_to(u64::MAX).map_err(|error| format!("{error:#}"))
    };
    let error = play(&source).unwrap_err();
    assert!(
        error.contains(&format!("{}/00000002.mcap is damaged", recorded.id)),
        "{error}"
    );
    std::fs::copy(recorded.path().join("00000001.mcap"), &path).unwrap();
    let error = play(&source).unwrap_err();
    assert!(
        error.contains("00000002.mcap is damaged: it says that it is segment 1"),
        "{error}"
    );
    std::fs::remove_file(&path).unwrap();
    let error = play(&source).unwrap_err();
    assert!(error.contains("00000002.mcap is missing"), "{error}");
    std::fs::write(recorded.path().join("manifest.json"), "{").unwrap();
    let error = format!("{:#}", Index::read(&source).unwrap_err());
    assert!(error.contains("manifest.json is damaged"), "{error}");
}

#[test]
fn changed_regions_are_all_that_changed() {
    let recorded = Recorded::new();
    let source = recorded.source();
    let index = Index::read(&source).unwrap();
    let mut player = Player::start(&source, &index);
    let mut before: Option<(u16, Vec<u8>)> = None;
    while let Some(step) = player.next().unwrap() {
        let Some(shown) = player.picture() else { continue };
        let (width, now) = (shown.width, rows(shown));
        if let Some((old_width, old)) = &before
            && *old_width == width
        {
            for (at, (a, b)) in old.chunks_exact(4).zip(now.chunks_exact(4)).enumerate() {
                let (x, y) = (at % usize::from(width), at / usize::from(width));
                let inside = |rect: &Rect| {
                    (usize::from(rect.x)..usize::from(rect.x) + usize::from(rect.width)).contains(&x)
                        && (usize::from(rect.y)..usize::from(rect.y) + usize::from(rect.height)).contains(&y)
                };
                assert!(
                    a == b || step.changed.iter().any(inside),
                    "{x},{y} changed unseen at {}",
                    step.time_ns
                );
            }
        }
        before = Some((width, now));
    }
    assert_eq!(before.unwrap().0, WIDTH + 41);
}

#[test]
fn one_segment_alone_has_its_events() {
    let recorded = Recorded::new();
    let path = recorded.path().join("00000001.mcap");
    let source = Source::segment_file(&path, Arc::clone(&recorded.runtime)).unwrap();
    let index = Index::read(&source).unwrap();
    assert_eq!(index.segments.len(), 1);
    let mut player = Player::start(&source, &index);
    let mut events = 0;
    while player.next().unwrap().is_some() {
        events += 1;
    }
    assert!(events >= 4, "{events}");
    assert!(Source::segment_file(&recorded.path().join("manifest.json"), Arc::clone(&recorded.runtime)).is_err());
}

#[test]
fn folders_without_one_recording_are_told() {
    let recorded = Recorded::new();
    let above = tempfile::tempdir().unwrap();
    let open = |path: &Path| Source::folder(path, Arc::clone(&recorded.runtime)).map_err(|error| format!("{error:#}"));
    assert!(open(above.path()).err().unwrap().contains("no recording"));
    let inside = above.path().join(recorded.id.to_string());
    std::fs::create_dir(&inside).unwrap();
    for entry in std::fs::read_dir(recorded.path()).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), inside.join(entry.file_name())).unwrap();
    }
    assert_eq!(open(above.path()).unwrap().recording(), recorded.id);
    std::fs::create_dir(above.path().join(Uuid::now_v7().to_string())).unwrap();
    assert!(open(above.path()).err().unwrap().contains("2 recordings"));
}

#[test]
fn clocks() {
    assert_eq!(clock(0), "00:00:00.000");
    assert_eq!(clock(3_723_004 * 1_000_000), "01:02:03.004");
}
