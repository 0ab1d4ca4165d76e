#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use crate::{Gif, Settings};

const MS: u64 = 1_000_000;
const WIDTH: u32 = 40;
const HEIGHT: u32 = 30;
const ALL: [Region; 1] = [Region {
    x: 0,
    y: 0,
    width: WIDTH,
    height: HEIGHT,
}];

fn exporter(settings: Settings) -> Gif {
    Gif::open(settings, Context::new("gif")).unwrap()
}

fn video(duration_ms: u64) -> VideoParams {
    let mut video = VideoParams::new(WIDTH, HEIGHT);
    video.duration_ns = Some(duration_ms * MS);
    video.title = "alice on lab".to_owned();
    video.digest = Some("ab".repeat(32));
    video
}

/// A picture in one colour.
fn solid(r: u8, g: u8, b: u8) -> Vec<u8> {
    [r, g, b, 0].repeat((WIDTH * HEIGHT) as usize)
}

fn frame<'a>(at_ms: u64, rgba: &'a [u8], changed: &'a [Region]) -> Frame<'a> {
    Frame::new(at_ms * MS, WIDTH, HEIGHT, WIDTH as usize * 4, rgba, changed).unwrap()
}

/// What a viewer shows: (when in hundredths, all pixels).
type Shown = Vec<(u64, Vec<[u8; 3]>)>;

/// Decodes a GIF: the pictures, its length in hundredths, and the rectangles that were written.
fn decode(path: &Path) -> (Shown, u64, Vec<[u16; 4]>) {
    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(File::open(path).unwrap()).unwrap();
    let width = usize::from(decoder.width());
    let mut canvas = vec![[9_u8; 3]; width * usize::from(decoder.height())];
    let (mut shown, mut now, mut written) = (Vec::new(), 0, Vec::new());
    while let Some(frame) = decoder.read_next_frame().unwrap() {
        written.push([frame.left, frame.top, frame.width, frame.height]);
        for (row, pixels) in frame.buffer.chunks(usize::from(frame.width) * 4).enumerate() {
            for (column, pixel) in pixels.as_chunks::<4>().0.iter().enumerate() {
                let at = (usize::from(frame.top) + row) * width + usize::from(frame.left) + column;
                if let ([r, g, b, 255], Some(to)) = (*pixel, canvas.get_mut(at)) {
                    *to = [r, g, b];
                }
            }
        }
        assert!(
            u64::from(frame.delay) >= SHORTEST,
            "picture {} at {now}: {}",
            shown.len(),
            frame.delay
        );
        shown.push((now, canvas.clone()));
        now += u64::from(frame.delay);
    }
    (shown, now, written)
}

#[test]
fn pictures_times_and_changes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let mut job = exporter(Settings::default())
        .start("gif", &video(5000), Output::new(&path))
        .unwrap();
    let mut picture = solid(255, 255, 255);
    job.frame(&frame(0, &picture, &ALL)).unwrap();
    // One pixel, then another in the same tenth of a second, then nothing for long.
    let change = [Region {
        x: 5,
        y: 7,
        width: 10,
        height: 3,
    }];
    let at = (7 * WIDTH as usize + 5) * 4;
    picture[at..at + 3].copy_from_slice(&[1, 2, 3]);
    job.frame(&frame(1000, &picture, &change)).unwrap();
    picture[at + 4..at + 7].copy_from_slice(&[4, 5, 6]);
    job.frame(&frame(1040, &picture, &change)).unwrap();
    // What says that it changed and did not is no picture.
    job.frame(&frame(2000, &picture, &ALL)).unwrap();
    let summary = job.finish().unwrap();
    assert_eq!((summary.frames, summary.notes.len()), (2, 0));
    assert_eq!(summary.bytes, path.metadata().unwrap().len());
    let (shown, length, written) = decode(&path);
    assert_eq!(length, 500);
    assert_eq!(written, [[0, 0, 40, 30], [5, 7, 2, 1]]);
    assert_eq!(shown.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 100]);
    let last = &shown[1].1;
    assert_eq!(
        (last[at / 4], last[at / 4 + 1], last[0]),
        ([1, 2, 3], [4, 5, 6], [255, 255, 255])
    );
    let bytes = std::fs::read(&path).unwrap();
    let comment = b"alice on lab\nmanifest-sha256: abab";
    assert!(bytes.windows(comment.len()).any(|part| part == comment));
}

/// (when each picture is shown, the length, all in hundredths) of a change at `change_ms` in an export of `length_ms`.
fn change_at(fps: u32, change_ms: u64, length_ms: u64) -> (Vec<u64>, u64) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let settings = Settings {
        fps: Some(fps),
        seconds_max: None,
    };
    let mut job = exporter(settings)
        .start("gif", &video(length_ms), Output::new(&path))
        .unwrap();
    let (before, after) = (solid(1, 1, 1), solid(2, 2, 2));
    job.frame(&frame(0, &before, &ALL)).unwrap();
    job.frame(&frame(change_ms, &after, &ALL)).unwrap();
    job.finish().unwrap();
    let (shown, length, _) = decode(&path);
    assert_eq!(shown.last().unwrap().1[0], [2; 3], "the end is there");
    (shown.iter().map(|(at, _)| *at).collect(), length)
}

#[test]
fn what_changes_at_the_very_end_is_seen() {
    assert_eq!(change_at(10, 1000, 2000), (vec![0, 100], 200));
    // The picture before gives way, ...
    assert_eq!(change_at(10, 1000, 1000), (vec![0, 98], 100));
    assert_eq!(change_at(10, 995, 1000), (vec![0, 98], 100));
    assert_eq!(change_at(50, 40, 40), (vec![0, 2], 4));
    // ... unless it is as short itself.
    assert_eq!(change_at(50, 20, 20), (vec![0, 2], 4));
    // All in one picture.
    assert_eq!(change_at(10, 10, 10), (vec![0], 2));
}

#[test]
fn the_pointer_moves_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let mut job = exporter(Settings::default())
        .start("gif", &video(3000), Output::new(&path))
        .unwrap();
    let picture = solid(10, 20, 30);
    let shape = [200, 0, 0, 255].repeat(4);
    let pointer = |x| {
        Some(Pointer {
            x,
            y: 12,
            hotspot_x: 0,
            hotspot_y: 0,
            width: 2,
            height: 2,
            rgba: &shape,
        })
    };
    let first = frame(0, &picture, &ALL).with_pointer(pointer(3)).unwrap();
    job.frame(&first).unwrap();
    let second = frame(1000, &picture, &[]).with_pointer(pointer(39)).unwrap();
    job.frame(&second).unwrap();
    job.frame(&frame(2000, &picture, &[])).unwrap();
    job.finish().unwrap();
    let (shown, _, _) = decode(&path);
    let red = |shown: &[[u8; 3]]| shown.iter().filter(|pixel| **pixel == [200, 0, 0]).count();
    assert_eq!(shown.iter().map(|(_, shown)| red(shown)).collect::<Vec<_>>(), [4, 2, 0]);
}

#[test]
fn another_size_starts_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let mut job = exporter(Settings::default())
        .start("gif", &video(2000), Output::new(&path))
        .unwrap();
    let picture = solid(10, 20, 30);
    job.frame(&frame(0, &picture, &ALL)).unwrap();
    let small = [7, 7, 7, 0].repeat(8);
    let all = [Region {
        x: 0,
        y: 0,
        width: 4,
        height: 2,
    }];
    job.frame(&Frame::new(1000 * MS, 4, 2, 16, &small, &all).unwrap())
        .unwrap();
    job.finish().unwrap();
    let (shown, length, _) = decode(&path);
    let count = |color: [u8; 3]| shown[1].1.iter().filter(|pixel| **pixel == color).count();
    assert_eq!((count([7; 3]), count([0; 3]), length), (8, 40 * 30 - 8, 200));
}

#[test]
fn what_is_too_long_is_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gif");
    let error = exporter(Settings::default())
        .start("gif", &video(120_001), Output::new(&path))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(
        text.contains("121 s") && text.contains("120 s") && text.contains("--from"),
        "{text}"
    );
    assert!(!path.exists());
    // Of a session that runs the length is not known before.
    let mut running = video(0);
    running.duration_ns = None;
    let short = Settings {
        fps: None,
        seconds_max: Some(1),
    };
    let mut job = exporter(short).start("gif", &running, Output::new(&path)).unwrap();
    let picture = solid(1, 1, 1);
    job.frame(&frame(1000, &picture, &ALL)).unwrap();
    assert!(job.frame(&frame(1001, &picture, &ALL)).is_err());
    for wrong in [(Some(0), None), (Some(51), None), (None, Some(601))] {
        let settings = Settings {
            fps: wrong.0,
            seconds_max: wrong.1,
        };
        assert!(Gif::open(settings, Context::new("gif")).is_err());
    }
}

#[test]
fn a_disk_that_is_full_is_an_error() {
    let error = exporter(Settings::default())
        .start("gif", &video(1000), Output::new("/proc/no-such-folder/a.gif"))
        .unwrap_err();
    assert!(error.to_string().contains("/proc/no-such-folder/a.gif"), "{error}");
}
