#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

const SECOND: u64 = 1_000_000_000;

/// A small desktop: a coloured ground and coloured strokes as dense as text.
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
        desktop
    }

    fn fill(&mut self, x: u32, y: u32, width: u32, height: u32, colour: [u8; 3]) -> Region {
        for row in y..(y + height).min(self.height) {
            for column in x..(x + width).min(self.width) {
                let at = ((row * self.width + column) * 4) as usize;
                self.rgba[at..at + 3].copy_from_slice(&colour);
            }
        }
        Region { x, y, width, height }
    }

    /// Strokes of red, blue and black in a square.
    fn glyph(&mut self, n: u32) -> Region {
        let (x, y) = (8 + n * 12 % (self.width - 24), 8 + n * 5 % (self.height - 24));
        for colour in [[200, 0, 0], [0, 0, 220], [0, 0, 0]] {
            self.seed = self.seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (dx, dy) = (self.seed >> 24 & 7, self.seed >> 20 & 7);
            self.fill(x + dx, y + dy, 1, 5, colour);
        }
        let (width, height) = (12, 12);
        Region { x, y, width, height }
    }

    fn frame<'a>(&'a self, time_ns: u64, changed: &'a [Region]) -> Frame<'a> {
        let stride = self.width as usize * 4;
        Frame::new(time_ns, self.width, self.height, stride, &self.rgba, changed).unwrap()
    }

    fn rgb(&self) -> Vec<u8> {
        self.rgba
            .chunks_exact(4)
            .flat_map(|pixel| pixel[..3].to_vec())
            .collect()
    }
}

struct Export {
    _folder: tempfile::TempDir,
    path: PathBuf,
    job: WebmJob,
}

fn start(video: &VideoParams, settings: Settings) -> Export {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.webm");
    let exporter = Webm::open(settings, Context::new("webm")).unwrap();
    let job = exporter.start("webm", video, Output::new(&path)).unwrap();
    Export {
        _folder: folder,
        path,
        job,
    }
}

fn video(desktop: &Desktop, seconds: u64) -> VideoParams {
    let mut video = VideoParams::new(desktop.width, desktop.height);
    video.duration_ns = Some(seconds * SECOND);
    video.title = "ann on build-1".into();
    video.started = Some("2024-05-01T10:00:00Z".into());
    video.recording = Some("01902b6e".into());
    video.digest = Some("ab".repeat(32));
    video
}

/// Runs a program of the package ffmpeg, which reads the file with other code than what wrote it. `None` where it is missing and
/// tests may be skipped.
fn program(name: &str, arguments: &[&str], path: &Path) -> Option<Vec<u8>> {
    let output = Command::new(name)
        .arg("-v")
        .arg("error")
        .arg("-i")
        .arg(path)
        .args(arguments)
        .output();
    let output = match output {
        Err(error) if std::env::var_os("TESTS_REQUIRE_PEERS").is_none_or(|value| value.is_empty()) => {
            eprintln!("SKIPPED: {name} (package ffmpeg): {error}");
            return None;
        }
        output => output.unwrap(),
    };
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() && said.is_empty(), "{name}: {said}");
    Some(output.stdout)
}

/// All pictures as R, G, B, each once.
fn pictures(path: &Path, size: usize) -> Option<Vec<Vec<u8>>> {
    let decode = ["-fps_mode", "passthrough", "-f", "rawvideo", "-pix_fmt", "rgb24", "-"];
    let bytes = program("ffmpeg", &decode, path)?;
    assert_eq!(bytes.len() % size, 0);
    Some(bytes.chunks_exact(size).map(<[u8]>::to_vec).collect())
}

fn times(path: &Path) -> Option<Vec<(u64, bool)>> {
    let show = ["-show_entries", "packet=pts,flags", "-of", "csv=p=0"];
    let text = String::from_utf8(program("ffprobe", &show, path)?).unwrap();
    let line = |line: &str| {
        let (pts, flags) = line.split_once(',').unwrap();
        (pts.parse().unwrap(), flags.starts_with('K'))
    };
    Some(text.lines().map(line).collect())
}

fn psnr(a: &[u8], b: &[u8]) -> f64 {
    let sum: f64 = a
        .iter()
        .zip(b)
        .map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2))
        .sum();
    10.0 * (255.0 * 255.0 * a.len() as f64 / sum.max(1e-9)).log10()
}

/// Exports 60 pictures of coloured strokes; returns the file and what was shown when, in milliseconds.
fn strokes(lossless: bool, threads: u32) -> (Export, Vec<(u64, Vec<u8>)>, Summary) {
    let mut desktop = Desktop::new(333, 241);
    let mut video = video(&desktop, 30);
    video.lossless = lossless;
    video.threads = Some(threads);
    let mut export = start(&video, Settings::default());
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    let mut shown = vec![(0, desktop.rgb())];
    for n in 1..60_u32 {
        let time_ms = u64::from(n) * 400;
        let changed = [desktop.glyph(n * 2), desktop.glyph(n * 2 + 1)];
        export.job.frame(&desktop.frame(time_ms * 1_000_000, &changed)).unwrap();
        shown.push((time_ms, desktop.rgb()));
    }
    let job = std::mem::replace(&mut export.job, start(&video, Settings::default()).job);
    let summary = job.finish().unwrap();
    (export, shown, summary)
}

#[test]
fn lossless_pictures_come_back_bit_by_bit() {
    let (export, shown, summary) = strokes(true, 2);
    assert_eq!(summary.frames, 60);
    assert_eq!(summary.bytes, std::fs::metadata(&export.path).unwrap().len());
    let Some(pictures) = pictures(&export.path, 333 * 241 * 3) else {
        return;
    };
    assert_eq!(pictures.len(), shown.len());
    for ((time, want), got) in shown.iter().zip(&pictures) {
        assert!(want == got, "another picture at {time} ms");
    }
    let times = times(&export.path).unwrap();
    let want: Vec<u64> = shown.iter().map(|(time, _)| *time).collect();
    assert_eq!(times.iter().map(|(time, _)| *time).collect::<Vec<_>>(), want);
    let keys: Vec<u64> = times.iter().filter(|(_, key)| *key).map(|(time, _)| *time).collect();
    assert_eq!(keys, [0, 10_000, 20_000]);
}

#[test]
fn the_number_of_threads_does_not_show_in_the_video() {
    let files = [1, 3].map(|threads| {
        let (export, ..) = strokes(false, threads);
        std::fs::read(&export.path).unwrap()
    });
    assert!(files[0] == files[1]);
}

#[test]
fn coloured_text_stays_sharp() {
    let (export, shown, _) = strokes(false, 1);
    let Some(pictures) = pictures(&export.path, 333 * 241 * 3) else {
        return;
    };
    assert_eq!(pictures.len(), shown.len());
    for ((time, want), got) in shown.iter().zip(&pictures) {
        let quality = psnr(want, got);
        assert!(quality >= 40.0, "{quality:.1} dB at {time} ms");
    }
}

#[test]
fn the_file_says_what_it_shows() {
    let mut desktop = Desktop::new(320, 240);
    let mut export = start(&video(&desktop, 90), Settings::default());
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    for (at, title) in [(0, "ann"), (2, "logon"), (50, "Öffnen")] {
        let kind = MarkerKind::Chapter { title: title.into() };
        let time_ns = at * SECOND;
        export.job.marker(&Marker { time_ns, kind }).unwrap();
        let changed = [desktop.glyph(u32::try_from(at).unwrap())];
        export.job.frame(&desktop.frame(time_ns + SECOND, &changed)).unwrap();
    }
    export.job.finish().unwrap();
    let show = ["-show_format", "-show_streams", "-show_chapters", "-of", "default=nw=1"];
    let Some(told) = program("ffprobe", &show, &export.path) else {
        return;
    };
    let told = String::from_utf8(told).unwrap();
    for line in [
        "codec_name=vp9",
        "profile=Profile 1",
        "pix_fmt=gbrp",
        "color_range=pc",
        "color_space=gbr",
        "width=320",
        "duration=90.000000",
        "TAG:title=ann on build-1",
        "TAG:title=logon",
        "TAG:title=Öffnen",
        "TAG:DESKREEL_RECORDING=01902b6e",
        "TAG:creation_time=2024-05-01T10:00:00.000000Z",
        "start_time=2.000000",
        "end_time=50.000000",
    ] {
        assert!(told.lines().any(|told| told == line), "{line} in {told}");
    }
    assert!(
        told.contains(&format!("TAG:DESKREEL_MANIFEST_SHA256={}", "ab".repeat(32))),
        "{told}"
    );
    // The index points to where keyframes are: the picture at 60 s is the last one.
    let seek = [
        "-ss",
        "60",
        "-frames:v",
        "1",
        "-f",
        "rawvideo",
        "-pix_fmt",
        "rgb24",
        "-",
    ];
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-ss", "50.9", "-i"])
        .arg(&export.path)
        .args(&seek[2..])
        .output()
        .unwrap();
    assert!(
        psnr(&output.stdout, &desktop.rgb()) >= 38.0,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[test]
fn bursts_are_shown_together_and_the_last_picture_is_kept() {
    let settings = Settings {
        fps_max: 10,
        ..Settings::default()
    };
    let mut desktop = Desktop::new(320, 240);
    let mut export = start(&video(&desktop, 3), settings);
    export.job.frame(&desktop.frame(0, &[])).unwrap();
    for n in 0..100_u32 {
        let changed = [desktop.glyph(n)];
        let time = SECOND + u64::from(n) * SECOND / 100;
        export.job.frame(&desktop.frame(time, &changed)).unwrap();
    }
    let summary = export.job.finish().unwrap();
    assert!((10..=13).contains(&summary.frames), "{}", summary.frames);
    let Some(pictures) = pictures(&export.path, 320 * 240 * 3) else {
        return;
    };
    assert!(psnr(pictures.last().unwrap(), &desktop.rgb()) >= 38.0);
    let times = times(&export.path).unwrap();
    assert!(times.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 99), "{times:?}");
}

#[test]
fn pointers_and_resizes_are_drawn() {
    let shape = [255, 0, 255, 255].repeat(16);
    let pointer = |x, y| Pointer {
        x,
        y,
        hotspot_x: 0,
        hotspot_y: 0,
        width: 4,
        height: 4,
        rgba: &shape,
    };
    let large = Desktop::new(320, 240);
    let small = Desktop::new(200, 100);
    let mut params = video(&large, 4);
    params.lossless = true;
    let mut export = start(&params, Settings::default());
    let at = |time, x, y| large.frame(time, &[]).with_pointer(Some(pointer(x, y))).unwrap();
    export.job.frame(&at(0, 10, 20)).unwrap();
    export.job.frame(&at(SECOND, -2, 238)).unwrap();
    export.job.frame(&small.frame(2 * SECOND, &[])).unwrap();
    // Larger than was said: it is scaled down to fit.
    let wide = Desktop::new(640, 240);
    export.job.frame(&wide.frame(3 * SECOND, &[])).unwrap();
    export.job.finish().unwrap();
    let Some(pictures) = pictures(&export.path, 320 * 240 * 3) else {
        return;
    };
    let mut want = large.rgba.clone();
    pointer(10, 20).draw(&mut want, 320, 240, 320 * 4);
    let rgb = |rgba: &[u8]| {
        rgba.chunks_exact(4)
            .flat_map(|pixel| pixel[..3].to_vec())
            .collect::<Vec<u8>>()
    };
    assert!(pictures[0] == rgb(&want));
    let mut want = large.rgba.clone();
    pointer(-2, 238).draw(&mut want, 320, 240, 320 * 4);
    assert!(pictures[1] == rgb(&want), "the pointer's old place is drawn anew");
    let row = |y: usize| &pictures[2][(y * 320 + 60) * 3..][..200 * 3];
    assert!(row(70) == &small.rgb()[..600] && row(169) == &small.rgb()[99 * 600..]);
    assert!(pictures[2][..70 * 320 * 3].iter().all(|value| *value == 0));
    let lit = |rows: Range<usize>| {
        pictures[3][rows.start * 960..rows.end * 960]
            .iter()
            .any(|value| *value > 0)
    };
    assert!(lit(60..180) && !lit(0..60) && !lit(180..240));
}

#[test]
fn a_late_first_picture_and_hours_of_nothing_shift_nothing() {
    let mut desktop = Desktop::new(64, 64);
    let mut export = start(&video(&desktop, 30 * 3600), Settings::default());
    export.job.frame(&desktop.frame(3 * SECOND, &[])).unwrap();
    let changed = [desktop.fill(0, 0, 64, 64, [200, 30, 30])];
    export.job.frame(&desktop.frame(20 * 3600 * SECOND, &changed)).unwrap();
    let summary = export.job.finish().unwrap();
    assert_eq!(summary.frames, 3);
    let Some(times) = times(&export.path) else {
        return;
    };
    let hours = 3_600_000;
    assert_eq!(times, [(0, true), (3_000, false), (20 * hours, true)]);
    let told = program(
        "ffprobe",
        &["-show_entries", "format=duration", "-of", "csv=p=0"],
        &export.path,
    )
    .unwrap();
    assert_eq!(String::from_utf8(told).unwrap().trim(), "108000.000000");
}

#[test]
fn what_is_given_up_or_refused_says_why() {
    let mut params = VideoParams::new(9000, 100);
    let exporter = Webm::open(Settings::default(), Context::new("webm")).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = Output::new(folder.path().join("x"));
    let error = exporter.start("webm", &params, output.clone()).err().unwrap();
    assert!(error.to_string().contains("--width"), "{error}");
    params.width = 100;
    let error = exporter.start("mkv", &params, output.clone()).err().unwrap();
    assert!(error.to_string().contains("this exporter makes webm"), "{error}");
    drop(exporter.start("webm", &params, output.clone()).unwrap());
    let output = Output::new(folder.path().join("y"));
    let error = exporter.start("webm", &params, output).unwrap().finish().unwrap_err();
    assert!(error.to_string().contains("nothing to export"), "{error}");
    for settings in [
        r#"{"fps_max": 0}"#,
        r#"{"fps_max": 61}"#,
        r#"{"quantizer": 64}"#,
        r#"{"threads": 17}"#,
    ] {
        let settings: Settings = deskreel_sdk::serde_json::from_str(settings).unwrap();
        let error = Webm::open(settings, Context::new("webm")).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{error}");
    }
}
