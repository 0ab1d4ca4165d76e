#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};

use super::*;
use crate::{Frames, Job, Settings};

const MS: u64 = 1_000_000;

thread_local! {
    /// What this thread has synced: what fsync did shows only after a power cut.
    pub(super) static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}

fn start(interval: Option<&str>, duration_ns: Option<u64>) -> (tempfile::TempDir, FramesJob) {
    let folder = tempfile::tempdir().unwrap();
    let mut video = VideoParams::new(4, 2);
    video.duration_ns = duration_ns;
    let settings = Settings {
        interval: interval.map(str::to_owned),
    };
    let exporter = Frames::open(settings, Context::new("frames")).unwrap();
    video.digest = Some("ab".repeat(32));
    video.user = Some("eve\0".to_owned());
    match exporter.start("frames", &video, Output::new(folder.path())).unwrap() {
        Job::Frames(job) => (folder, *job),
        Job::Still(_) => unreachable!("frames were asked for"),
    }
}

fn solid(value: u8) -> Vec<u8> {
    vec![value; 4 * 2 * 4]
}

fn frame(time_ns: u64, rgba: &[u8]) -> Frame<'_> {
    Frame::new(time_ns, 4, 2, 16, rgba, &[]).unwrap()
}

fn first_pixel(path: &Path) -> [u8; 3] {
    let file = std::io::BufReader::new(File::open(path).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width, info.height, info.color_type), (4, 2, png::ColorType::Rgb));
    pixels[..3].try_into().unwrap()
}

fn index(folder: &Path) -> (Value, Vec<(u64, [u8; 3])>) {
    let index: Value = serde_json::from_slice(&std::fs::read(folder.join(INDEX)).unwrap()).unwrap();
    let frames = index["frames"].as_array().unwrap();
    let frames = frames
        .iter()
        .map(|entry| {
            let path = folder.join(entry["file"].as_str().unwrap());
            (entry["time_ns"].as_u64().unwrap() / MS, first_pixel(&path))
        })
        .collect();
    (index, frames)
}

#[test]
fn a_picture_for_each_change() {
    let (folder, mut job) = start(None, Some(5000 * MS));
    job.frame(&frame(0, &solid(1))).unwrap();
    job.frame(&frame(10 * MS, &solid(1))).unwrap();
    job.frame(&frame(62_345 * MS, &solid(2))).unwrap();
    let summary = job.finish().unwrap();
    let (_, frames) = index(folder.path());
    assert_eq!(frames, [(0, [1; 3]), (62_345, [2; 3])]);
    assert!(folder.path().join("000001_00h01m02.345s.png").exists());
    assert_eq!((summary.frames, summary.files), (2, 3));
    let on_disk: u64 = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().metadata().unwrap().len())
        .sum();
    assert_eq!(summary.bytes, on_disk);
}

#[test]
fn a_finished_export_is_durable() {
    SYNCED.take();
    let (folder, mut job) = start(None, None);
    job.frame(&frame(0, &solid(1))).unwrap();
    job.frame(&frame(MS, &solid(2))).unwrap();
    job.finish().unwrap();
    let synced = SYNCED.take();
    let mut expected: Vec<PathBuf> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    expected.sort();
    assert_eq!(expected.len(), 3);
    // The names last: they must not outlive what they name.
    expected.push(folder.path().to_owned());
    assert_eq!(synced, expected);
}

#[test]
fn a_picture_for_each_interval() {
    let (folder, mut job) = start(Some("100ms"), Some(500 * MS));
    job.frame(&frame(50 * MS, &solid(1))).unwrap();
    job.frame(&frame(100 * MS, &solid(2))).unwrap();
    job.frame(&frame(120 * MS, &solid(3))).unwrap();
    job.frame(&frame(180 * MS, &solid(4))).unwrap();
    job.finish().unwrap();
    let (_, frames) = index(folder.path());
    // What a picture shows is what was on the screen at its time: a change at 100 ms is in the picture of 100 ms.
    assert_eq!(
        frames,
        [
            (100, [2; 3]),
            (200, [4; 3]),
            (300, [4; 3]),
            (400, [4; 3]),
            (500, [4; 3])
        ]
    );
}

#[test]
fn the_pointer_is_drawn() {
    let (folder, mut job) = start(None, None);
    let under = solid(9);
    let pointer = |x| Pointer {
        x,
        y: 0,
        hotspot_x: 0,
        hotspot_y: 0,
        width: 1,
        height: 1,
        rgba: &[200, 100, 50, 255],
    };
    job.frame(&frame(0, &under).with_pointer(Some(pointer(0))).unwrap())
        .unwrap();
    job.frame(&frame(MS, &under).with_pointer(Some(pointer(1))).unwrap())
        .unwrap();
    job.frame(&frame(2 * MS, &under).with_pointer(Some(pointer(1))).unwrap())
        .unwrap();
    job.finish().unwrap();
    let (_, frames) = index(folder.path());
    assert_eq!(frames, [(0, [200, 100, 50]), (1, [9; 3])]);
}

#[test]
fn markers_are_kept() {
    let (folder, mut job) = start(None, None);
    job.frame(&frame(0, &solid(1))).unwrap();
    let kind = MarkerKind::Gap {
        until_ns: 3 * MS,
        reason: "queue full".into(),
    };
    job.marker(&Marker { time_ns: MS, kind }).unwrap();
    job.finish().unwrap();
    let (index, _) = index(folder.path());
    assert_eq!(index["markers"][0]["kind"], "gap");
    assert_eq!(index["markers"][0]["until_ns"], 3 * MS);
}

#[test]
fn a_short_stretch_still_has_its_picture() {
    let (folder, mut job) = start(Some("1m"), Some(900 * MS));
    job.frame(&frame(700 * MS, &solid(5))).unwrap();
    job.finish().unwrap();
    assert_eq!(index(folder.path()).1, [(900, [5; 3])]);
    let (_folder, job) = start(None, None);
    assert!(job.finish().unwrap_err().to_string().contains("no picture"));
}

/// The texts of a PNG.
fn texts(path: &Path) -> Vec<(String, String)> {
    let file = std::io::BufReader::new(File::open(path).unwrap());
    let reader = png::Decoder::new(file).read_info().unwrap();
    let texts = reader.info().utf8_text.iter();
    texts
        .map(|text| (text.keyword.clone(), text.get_text().unwrap()))
        .collect()
}

#[test]
fn a_picture_says_where_it_is_from() {
    let (folder, mut job) = start(None, None);
    job.frame(&frame(0, &solid(1))).unwrap();
    job.finish().unwrap();
    let digest = "ab".repeat(32);
    assert_eq!(index(folder.path()).0["digest"], digest.as_str());
    let told = texts(&folder.path().join("000000_00h00m00.000s.png"));
    let fact = |name: &str, text: &str| (format!("deskreel:{name}"), text.to_owned());
    assert_eq!(told, [fact("manifest-sha256", &digest), fact("user", "eve ")]);
}

#[test]
fn one_picture_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.png");
    let exporter = Frames::open(Settings::default(), Context::new("frames")).unwrap();
    let mut video = VideoParams::new(4, 2);
    video.title = "alice on lab".to_owned();
    let mut job = exporter.start("png", &video, Output::new(&path)).unwrap();
    job.frame(&frame(0, &solid(7))).unwrap();
    let summary = job.finish().unwrap();
    assert_eq!((summary.frames, summary.files), (1, 1));
    assert_eq!(first_pixel(&path), [7; 3]);
    assert_eq!(texts(&path), [("Title".to_owned(), "alice on lab".to_owned())]);
    let none = exporter.start("png", &video, Output::new(folder.path().join("b.png")));
    assert!(none.unwrap().finish().unwrap_err().to_string().contains("no picture"));
}
