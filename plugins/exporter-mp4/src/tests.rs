#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use mp4_atom::{Atom as _, Avc1, Codec, Decode as _, Header, Moov, ReadFrom as _, Trak};
use openh264::decoder::Decoder;
use openh264::formats::YUVSource as _;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A small desktop: a coloured ground, a white window and dark strokes as dense as text in it.
struct Desktop {
    width: u32,
    height: u32,
    rgba: Vec<u8>,
    seed: u32,
}

impl Desktop {
    fn new(width: u32, height: u32) -> Self {
        let mut desktop = Self {
            width,
            height,
            rgba: vec![0; (width * height * 4) as usize],
            seed: 1,
        };
        desktop.fill(0, 0, width, height, [58, 110, 165]);
        desktop.fill(width / 8, height / 8, width * 3 / 4, height * 3 / 4, [255, 255, 255]);
        desktop.fill(width / 8, height / 8, width * 3 / 4, 12, [0, 0, 128]);
        desktop
    }

    fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, colour: [u8; 3]) {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                let at = ((row * self.width + column) * 4) as usize;
                self.rgba[at..at + 3].copy_from_slice(&colour);
            }
        }
    }

    /// Writes glyph number `n`; returns the region.
    fn glyph(&mut self, n: u32) -> Region {
        let columns = self.width * 3 / 4 / 8 - 1;
        let rows = (self.height * 3 / 4 - 20) / 12;
        let (x, y) = (
            self.width / 8 + 4 + n % columns * 8,
            self.height / 8 + 16 + n / columns % rows * 12,
        );
        self.fill(x, y, 8, 12, [255, 255, 255]);
        for _ in 0..4 {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (dx, dy, across) = (self.seed >> 24 & 3, self.seed >> 20 & 7, self.seed >> 30 & 1 == 1);
            let (w, h) = if across { (5, 1) } else { (1, 5) };
            self.fill(x + dx, y + dy, w, h, [20, 20, 20]);
        }
        Region {
            x,
            y,
            width: 8,
            height: 12,
        }
    }

    fn frame<'a>(&'a self, time_ns: u64, changed: &'a [Region]) -> Frame<'a> {
        Frame::new(
            time_ns,
            self.width,
            self.height,
            self.width as usize * 4,
            &self.rgba,
            changed,
        )
        .unwrap()
    }
}

struct Export {
    _folder: tempfile::TempDir,
    path: PathBuf,
    job: Mp4Job,
}

fn start(width: u32, height: u32, duration_ns: Option<u64>, settings: Settings) -> Export {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    let mut video = VideoParams::new(width, height);
    video.duration_ns = duration_ns;
    video.title = "a session".into();
    video.started = Some("2024-05-01T10:00:00Z".into());
    let exporter = Mp4::open(settings, Context::new("mp4")).unwrap();
    let job = exporter.start("mp4", &video, Output::new(&path)).unwrap();
    Export {
        _folder: folder,
        path,
        job,
    }
}

/// A picture of the file: when it is shown, for how long, and its R, G, B.
struct Shown {
    start: u64,
    ticks: u64,
    key: bool,
    rgb: Vec<u8>,
}

struct Video {
    width: usize,
    height: usize,
    duration: u64,
    moov: Moov,
    pictures: Vec<Shown>,
}

/// Reads the file back with other code than what wrote it: boxes parsed, pictures decoded.
fn read(path: &Path) -> Video {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = bytes.as_slice();
    let mut kinds = Vec::new();
    let mut moov = None;
    while !rest.is_empty() {
        let header = Header::decode(&mut rest).unwrap();
        let size = header.size.unwrap();
        kinds.push(header.kind);
        if header.kind == Moov::KIND {
            let mut whole = &bytes[bytes.len() - rest.len() - 8..];
            moov = Some(Moov::read_from(&mut whole).unwrap());
        }
        rest = &rest[size..];
    }
    assert_eq!(
        kinds.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["ftyp", "moov", "mdat"]
    );
    let moov = moov.unwrap();
    let trak: &Trak = &moov.trak[0];
    let table = &trak.mdia.minf.stbl;
    let Codec::Avc1(Avc1 { visual, avcc, .. }) = &table.stsd.codecs[0] else {
        panic!("not avc1");
    };
    let mp4_atom::StszSamples::Different { sizes } = &table.stsz.samples else {
        panic!("sizes");
    };
    // Chunks to sample offsets.
    let chunks: Vec<u64> = table
        .stco
        .as_ref()
        .unwrap()
        .entries
        .iter()
        .map(|o| u64::from(*o))
        .collect();
    let mut offsets = Vec::new();
    for (number, chunk) in (1_u32..).zip(&chunks) {
        let run = table
            .stsc
            .entries
            .iter()
            .rev()
            .find(|run| run.first_chunk <= number)
            .unwrap();
        let mut at = *chunk;
        for _ in 0..run.samples_per_chunk {
            offsets.push(at);
            at += u64::from(sizes[offsets.len() - 1]);
        }
    }
    assert_eq!(offsets.len(), sizes.len());
    let deltas = table
        .stts
        .entries
        .iter()
        .flat_map(|e| vec![u64::from(e.sample_delta); e.sample_count as usize]);
    let keys = &table.stss.as_ref().unwrap().entries;
    let mut decoder = Decoder::new().unwrap();
    let parameters = [
        &[0, 0, 0, 1],
        &avcc.sequence_parameter_sets[0][..],
        &[0, 0, 0, 1],
        &avcc.picture_parameter_sets[0],
    ];
    let parameters = parameters.concat();
    let mut pictures = Vec::new();
    let mut start = 0;
    for (((number, offset), size), ticks) in (1_u32..).zip(&offsets).zip(sizes).zip(deltas) {
        let mut sample = &bytes[*offset as usize..*offset as usize + *size as usize];
        let key = keys.contains(&number);
        let mut stream = if key { parameters.clone() } else { Vec::new() };
        while let Some((length, after)) = sample.split_first_chunk::<4>() {
            let (unit, after) = after.split_at(u32::from_be_bytes(*length) as usize);
            stream.extend([0, 0, 0, 1]);
            stream.extend(unit);
            sample = after;
        }
        let decoded = decoder.decode(&stream).unwrap().unwrap();
        let (width, height) = decoded.dimensions();
        let (sy, sc, _) = decoded.strides();
        let mut rgb = Vec::with_capacity(width * height * 3);
        for y in 0..height {
            for x in 0..width {
                let l = 1.164_383 * (f64::from(decoded.y()[y * sy + x]) - 16.0);
                let cb = f64::from(decoded.u()[y / 2 * sc + x / 2]) - 128.0;
                let cr = f64::from(decoded.v()[y / 2 * sc + x / 2]) - 128.0;
                for value in [
                    l + 1.792_741 * cr,
                    l - 0.213_249 * cb - 0.532_909 * cr,
                    l + 2.112_402 * cb,
                ] {
                    rgb.push(value.round().clamp(0.0, 255.0) as u8);
                }
            }
        }
        pictures.push(Shown { start, ticks, key, rgb });
        start += ticks;
    }
    Video {
        width: visual.width.into(),
        height: visual.height.into(),
        duration: moov.mvhd.duration,
        moov,
        pictures,
    }
}

fn psnr(rgb: &[u8], rgba: &[u8]) -> f64 {
    let errors = rgb
        .chunks_exact(3)
        .zip(rgba.chunks_exact(4))
        .flat_map(|(a, b)| a.iter().zip(b));
    let sum: f64 = errors.map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * rgb.len() as f64 / sum.max(1e-9)).log10()
}

#[test]
fn frames_come_back_at_their_times_and_look_the_same() {
    let mut files = Vec::new();
    for threads in [1, 3] {
        let settings = Settings {
            threads,
            ..Settings::default()
        };
        let mut export = start(320, 240, Some(30 * SECOND), settings);
        let mut desktop = Desktop::new(320, 240);
        let mut expected = vec![(0, desktop.rgba.clone())];
        export.job.frame(&desktop.frame(0, &[])).unwrap();
        for n in 1..120_u64 {
            let time = n * SECOND / 5 + (n % 3) * 7_000_000;
            let changed = [desktop.glyph(n as u32 * 2), desktop.glyph(n as u32 * 2 + 1)];
            export.job.frame(&desktop.frame(time, &changed)).unwrap();
            expected.push((time, desktop.rgba.clone()));
        }
        let summary = export.job.finish().unwrap();
        let video = read(&export.path);
        assert_eq!((video.width, video.height), (320, 240));
        assert_eq!(video.duration, 30 * 90_000);
        assert_eq!(summary.frames, 120);
        assert_eq!(summary.bytes, std::fs::metadata(&export.path).unwrap().len());
        assert_eq!(video.pictures.len(), expected.len());
        for (shown, (time, rgba)) in video.pictures.iter().zip(&expected) {
            assert_eq!(shown.start, (time * 9 + 50_000) / 100_000, "at {time}");
            let quality = psnr(&shown.rgb, rgba);
            assert!(quality >= 37.0, "{quality:.1} dB at {time}");
        }
        let keys: Vec<u64> = video
            .pictures
            .iter()
            .filter(|shown| shown.key)
            .map(|shown| shown.start / 90_000)
            .collect();
        assert_eq!(keys, [0, 10, 20]);
        assert_eq!(
            video.pictures.iter().map(|shown| shown.ticks).sum::<u64>(),
            video.duration
        );
        let created = video.moov.mvhd.creation_time;
        assert_eq!(created, 1_714_557_600 + 2_082_844_800);
        files.push(std::fs::read(&export.path).unwrap());
    }
    assert!(files[0] == files[1], "the number of threads shows in the video");
}

#[test]
fn bursts_are_shown_together_and_nothing_is_lost() {
    let settings = Settings {
        fps_max: 10,
        ..Settings::default()
    };
    let mut export = start(320, 240, Some(3 * SECOND), settings);
    let mut desktop = Desktop::new(320, 240);
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    for n in 0..100_u64 {
        let changed = [desktop.glyph(n as u32)];
        export
            .job
            .frame(&desktop.frame(SECOND + n * SECOND / 100, &changed))
            .unwrap();
    }
    export.job.finish().unwrap();
    let video = read(&export.path);
    assert!((10..=13).contains(&video.pictures.len()), "{}", video.pictures.len());
    let last = video.pictures.last().unwrap();
    assert!(psnr(&last.rgb, &desktop.rgba) >= 37.0);
    assert!(
        video
            .pictures
            .windows(2)
            .all(|pair| pair[1].start - pair[0].start >= 9_000)
    );
    assert_eq!(video.duration, 3 * 90_000);
}

/// A picture's time on the screen has 32 bits in the file, 13 hours 15 minutes.
#[test]
fn a_picture_that_stays_for_a_day_shifts_nothing() {
    const HOUR: u64 = 3600 * SECOND;
    let mut export = start(64, 64, Some(50 * HOUR), Settings::default());
    let mut desktop = Desktop::new(64, 64);
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    let region = Region {
        x: 0,
        y: 0,
        width: 64,
        height: 64,
    };
    desktop.fill(0, 0, 64, 64, [200, 30, 30]);
    export.job.frame(&desktop.frame(20 * HOUR + SECOND, &[region])).unwrap();
    let summary = export.job.finish().unwrap();
    let video = read(&export.path);
    assert_eq!(video.duration, 50 * 3600 * 90_000);
    assert_eq!(
        video.pictures.iter().map(|shown| shown.ticks).sum::<u64>(),
        video.duration
    );
    assert!(video.pictures.iter().all(|shown| shown.ticks <= 3600 * 90_000));
    let red = |shown: &&Shown| shown.rgb[0] > 150;
    let change = video.pictures.iter().find(red).unwrap();
    assert_eq!(change.start, (20 * 3600 + 1) * 90_000);
    assert!(
        video
            .pictures
            .iter()
            .filter(|shown| shown.start > change.start)
            .all(|shown| red(&shown))
    );
    assert_eq!(summary.frames, video.pictures.len() as u64);
    assert!((50..=54).contains(&video.pictures.len()), "{}", video.pictures.len());
}

#[test]
fn a_picture_that_stays_for_centuries_is_an_error() {
    let mut export = start(64, 64, None, Settings::default());
    let desktop = Desktop::new(64, 64);
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    let error = export.job.frame(&desktop.frame(u64::MAX, &[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}

#[test]
fn a_late_first_frame_does_not_shorten_the_video() {
    let mut export = start(320, 240, Some(4 * SECOND), Settings::default());
    let desktop = Desktop::new(320, 240);
    export.job.frame(&desktop.frame(3 * SECOND, &[])).unwrap();
    export.job.finish().unwrap();
    let video = read(&export.path);
    assert_eq!(video.duration, 4 * 90_000);
    let starts: Vec<u64> = video.pictures.iter().map(|shown| shown.start).collect();
    assert_eq!(starts, [0, 3 * 90_000]);
    assert!(video.pictures[0].rgb.iter().all(|value| *value < 4));
}

#[test]
fn odd_sizes_and_resizes_fit_one_video() {
    let mut export = start(333, 241, Some(2 * SECOND), Settings::default());
    let large = Desktop::new(333, 241);
    let small = Desktop::new(200, 99);
    export.job.frame(&large.frame(0, &[])).unwrap();
    export
        .job
        .marker(&Marker {
            time_ns: SECOND,
            kind: MarkerKind::Resize { width: 200, height: 99 },
        })
        .unwrap();
    export.job.frame(&small.frame(SECOND, &[])).unwrap();
    export.job.finish().unwrap();
    let video = read(&export.path);
    assert_eq!((video.width, video.height), (334, 242));
    let crop = |rgb: &[u8], x: usize, y: usize, width: usize, height: usize| -> Vec<u8> {
        (y..y + height)
            .flat_map(|row| rgb[(row * 334 + x) * 3..][..width * 3].to_vec())
            .collect()
    };
    assert!(psnr(&crop(&video.pictures[0].rgb, 0, 0, 333, 241), &large.rgba) >= 35.0);
    // In the middle, at an even corner.
    assert!(psnr(&crop(&video.pictures[1].rgb, 66, 70, 200, 99), &small.rgba) >= 35.0);
}

#[test]
fn the_file_says_what_it_shows() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.mp4");
    let mut video = VideoParams::new(320, 240);
    video.title = "alice on build-1".into();
    video.recording = Some("01902b6e".into());
    video.digest = Some("ab".repeat(32));
    video.threads = Some(2);
    let exporter = Mp4::open(Settings::default(), Context::new("mp4")).unwrap();
    let mut job = exporter.start("mp4", &video, Output::new(&path)).unwrap();
    let desktop = Desktop::new(320, 240);
    let chapter = |job: &mut Mp4Job, at: u64, title: &str| {
        let kind = MarkerKind::Chapter { title: title.into() };
        let time_ns = at * SECOND;
        job.marker(&Marker { time_ns, kind }).unwrap();
    };
    chapter(&mut job, 0, "alice");
    job.frame(&desktop.frame(0, &[])).unwrap();
    chapter(&mut job, 2, "logon");
    chapter(&mut job, 7, "Öffnen");
    job.frame(&desktop.frame(9 * SECOND, &[])).unwrap();
    let summary = job.finish().unwrap();
    assert_eq!(summary.bytes, std::fs::metadata(&path).unwrap().len());
    let moov = read(&path).moov;
    let list: Vec<(u64, String)> = moov
        .udta
        .as_ref()
        .and_then(|udta| udta.chpl.as_ref())
        .map(|list| {
            list.entries
                .iter()
                .map(|e| (e.start / 10_000_000, e.title.clone()))
                .collect()
        })
        .unwrap();
    assert_eq!(list, [(0, "alice".into()), (2, "logon".into()), (7, "Öffnen".into())]);
    // The track's samples are where it says they are.
    let track = &moov.trak[1];
    assert_eq!(
        moov.trak[0].tref.as_ref().unwrap().track_reference_type_boxes[0].track_ids,
        [track.tkhd.track_id]
    );
    let table = &track.mdia.minf.stbl;
    let deltas: Vec<u32> = table.stts.entries.iter().map(|e| e.sample_delta).collect();
    assert_eq!(deltas, [2000, 5000, 3000]);
    let at = table.stco.as_ref().unwrap().entries[0] as usize;
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(
        &bytes[at..],
        [b"\0\x05alice\0\x05logon\0\x07", "Öffnen".as_bytes()].concat()
    );
    let keys = moov
        .meta
        .as_ref()
        .and_then(|meta| meta.get::<mp4_atom::Keys>())
        .unwrap();
    assert_eq!(keys.entries.len(), 2);
}

#[test]
fn what_is_given_up_leaves_nothing() {
    let mut export = start(320, 240, None, Settings::default());
    let desktop = Desktop::new(320, 240);
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    let folder = export.path.parent().unwrap().to_owned();
    drop(export.job);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0);
}

#[test]
fn no_picture_is_an_error() {
    let export = start(320, 240, Some(SECOND), Settings::default());
    let error = export.job.finish().unwrap_err();
    assert!(error.to_string().contains("no picture"), "{error}");
    assert!(!export.path.exists());
}

#[test]
fn huge_pictures_are_scaled() {
    let mut export = start(5120, 1440, Some(SECOND), Settings::default());
    let desktop = Desktop::new(5120, 1440);
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    let summary = export.job.finish().unwrap();
    let video = read(&export.path);
    assert_eq!((video.width, video.height), (3840, 1080));
    assert_eq!(
        video.pictures[0].rgb[..3].iter().map(|v| v / 8).collect::<Vec<_>>(),
        [58 / 8, 110 / 8, 165 / 8]
    );
    assert!(summary.notes[0].contains("scaled"), "{:?}", summary.notes);
}

#[test]
fn settings_are_checked() {
    for settings in [
        Settings {
            fps_max: 0,
            ..Settings::default()
        },
        Settings {
            fps_max: 61,
            ..Settings::default()
        },
        Settings {
            quantizer: 11,
            ..Settings::default()
        },
        Settings {
            threads: 17,
            ..Settings::default()
        },
    ] {
        let error = Mp4::open(settings, Context::new("mp4")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings);
    }
}
