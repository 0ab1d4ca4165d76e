//! What every exporter must do. Each check takes an open exporter and panics when it doesn't keep the contract of [`Exporter`].

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::Value;

use crate::abi::host::{ExporterInstance, JobInstance};
use crate::abi::meta::{FormatInfo, Info};
use crate::testkit::{Check, Folder};
use crate::{
    Context, Error, ErrorKind, ExportJob, Exporter, Frame, Marker, MarkerKind, Output, Pointer, Region, Result,
    Summary, VideoParams,
};

/// An exporter under test: the author's type itself, or one that was loaded from a built file.
pub trait Subject: Send + Sync + 'static {
    /// One export under way.
    type Job: ExportJob;
    /// What it can make.
    fn formats(&self) -> Vec<FormatInfo>;
    /// Whether it wants the picture at all.
    fn wants_frames(&self) -> bool;
    /// Starts an export.
    ///
    /// # Errors
    /// As [`Exporter::start`].
    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<Self::Job>;
}

/// The author's type as a [`Subject`].
#[derive(Debug)]
pub struct Direct<E>(E);

impl<E: Exporter> Direct<E> {
    /// Opens the exporter with these settings.
    ///
    /// # Errors
    /// Settings that don't fit, and what the exporter says.
    pub fn open(settings: &Value) -> Result<Self> {
        let settings: E::Settings = crate::abi::storage::settings(&settings.to_string())?;
        E::open(settings, Context::new("testkit")).map(Self)
    }
}

impl<E: Exporter> Subject for Direct<E> {
    type Job = E::Job;

    fn formats(&self) -> Vec<FormatInfo> {
        let formats = E::FORMATS.iter();
        formats
            .map(|format| FormatInfo::new(format, E::LOSSLESS, E::STILL))
            .collect()
    }

    fn wants_frames(&self) -> bool {
        E::WANTS_FRAMES
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<E::Job> {
        self.0.start(format, video, output)
    }
}

/// An exporter of a built file as a [`Subject`].
pub struct Loaded {
    instance: ExporterInstance,
    info: Info,
}

impl Loaded {
    /// An open exporter and what its file says about itself.
    #[must_use]
    pub fn new(instance: ExporterInstance, info: Info) -> Self {
        Self { instance, info }
    }
}

/// An export of a built file's exporter.
pub struct LoadedJob(JobInstance);

impl Subject for Loaded {
    type Job = LoadedJob;

    fn formats(&self) -> Vec<FormatInfo> {
        self.info.formats.clone()
    }

    fn wants_frames(&self) -> bool {
        self.info.wants_frames
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<LoadedJob> {
        self.instance.start(format, video, output.path()).map(LoadedJob)
    }
}

impl ExportJob for LoadedJob {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.0.frame(frame)
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.0.marker(marker)
    }

    fn finish(self) -> Result<Summary> {
        self.0.finish()
    }
}

/// Writes the tests of [`testkit::exporter`](crate::testkit::exporter) for an exporter, one `#[test]` each. `settings` and
/// `sample` are JSON: those that the checks use, and what `sample.yaml` shows.
///
/// ```ignore
/// deskreel_sdk::exporter_tests! {
///     exporter: Gif,
///     settings: json!({}),
///     sample: json!({"colors": 256}),
/// }
/// ```
#[macro_export]
macro_rules! exporter_tests {
    (exporter: $exporter:ty, settings: $settings:expr, sample: $sample:expr $(,)?) => {
        $crate::__exporter_checks! { [$crate::__exporter_tests] $exporter, $settings; }

        #[test]
        fn settings_accept_the_sample_and_refuse_junk() {
            $crate::testkit::exporter::settings::<$exporter>(&$sample);
        }
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! __exporter_tests {
    ($exporter:ty, $settings:expr; $($check:ident: $about:literal,)+) => {
        $(
            #[test]
            fn $check() {
                let opened = $crate::testkit::exporter::Direct::<$exporter>::open(&$settings);
                $crate::testkit::exporter::$check(&::std::sync::Arc::new(opened.expect("the exporter opens")));
            }
        )+
    };
}

/// The one list of the checks of an exporter: passes it on to another macro.
#[doc(hidden)]
#[macro_export]
macro_rules! __exporter_checks {
    ([$($then:tt)+] $($arguments:tt)*) => {
        $($then)+! { $($arguments)*
            formats: "its formats have names, extensions and media types",
            frames: "an export has an output, and its summary counts frames and bytes",
            resizes: "the screen may be resized, also to odd sizes",
            markers: "markers of every kind pass",
            nothing_to_show: "a recording without a picture does not break it",
            cancelled: "an export that is broken off does not hinder the next one",
            at_once: "four exports at once do not disturb each other",
            what_can_not_be_done: "unknown formats and outputs that can not be written are errors",
        }
    };
}

macro_rules! list {
    ($($check:ident: $about:literal,)+) => {
        /// Every check of this module that takes an exporter, in the order in which they are run.
        pub const CHECKS: &[Check] = &[$(Check { name: stringify!($check), about: $about }),+];

        /// Runs a check by its name; `false` where there is none of that name.
        ///
        /// # Panics
        /// When the check fails.
        pub fn run<S: Subject>(name: &str, subject: &Arc<S>) -> bool {
            match name {
                $(stringify!($check) => $check(subject),)+
                _ => return false,
            }
            true
        }
    };
}
crate::__exporter_checks! { [list] }

/// Frames of a check are no larger than this.
const WIDTH: u32 = 64;
const HEIGHT: u32 = 48;
/// Bytes between rows that belong to no pixel.
const PADDING: usize = 12;
const FRAME_NS: u64 = 100_000_000;

/// A picture whose every pixel depends on `seed`, and its stride.
fn picture(seed: u32, width: u32, height: u32) -> (Vec<u8>, usize) {
    let stride = width as usize * 4 + PADDING;
    let bytes = (0..stride * height as usize).map(|at| (at as u32).wrapping_mul(seed * 2 + 1).to_le_bytes()[0]);
    (bytes.collect(), stride)
}

fn video(width: u32, height: u32, frames: u64) -> VideoParams {
    let mut video = VideoParams::new(width, height);
    video.duration_ns = Some(frames * FRAME_NS);
    "a title: <&\"'".clone_into(&mut video.title);
    video.started = Some("2026-01-02T03:04:05Z".to_owned());
    video
}

/// Gives a job one frame; the first and every resized one is changed as a whole.
fn show(job: &mut impl ExportJob, n: u64, width: u32, height: u32, whole: bool) -> Result<()> {
    let (rgba, stride) = picture(n as u32, width, height);
    let all = Region {
        x: 0,
        y: 0,
        width,
        height,
    };
    let part = Region {
        x: width / 2,
        y: height / 2,
        width: 1,
        height: 1,
    };
    let changed = [if whole { all } else { part }];
    let shape = [255; 4 * 4];
    let pointer = Pointer {
        x: i32::try_from(n).unwrap_or(0) - 1,
        y: 0,
        hotspot_x: 1,
        hotspot_y: 1,
        width: 2,
        height: 2,
        rgba: &shape,
    };
    let frame = Frame::new(n * FRAME_NS, width, height, stride, &rgba, &changed)?;
    job.frame(&frame.with_pointer(n.is_multiple_of(2).then_some(pointer))?)
}

/// Where a format's output goes: a new path, or an empty folder.
fn output(folder: &Folder, format: &FormatInfo, name: &str) -> PathBuf {
    let path = folder.path().join(format!("{name}-{}", format.id));
    if format.folder {
        std::fs::create_dir(&path).expect("a temporary folder");
    }
    path
}

/// The bytes of an output, which must not be empty.
fn written(path: &Path, format: &FormatInfo) -> Vec<(String, u64)> {
    let facts = path.metadata().unwrap_or_else(|error| {
        panic!("{}: a finished export left no output: {error}", format.id);
    });
    assert_eq!(facts.is_dir(), format.folder, "{}: folder or file", format.id);
    let files = if format.folder {
        let entries = std::fs::read_dir(path).expect("the output's folder").flatten();
        let size = |entry: &std::fs::DirEntry| entry.metadata().map_or(0, |facts| facts.len());
        entries
            .map(|entry| (entry.file_name().to_string_lossy().into_owned(), size(&entry)))
            .collect()
    } else {
        vec![(String::new(), facts.len())]
    };
    assert!(
        files.iter().any(|(_, size)| *size > 0),
        "{}: a finished export is empty",
        format.id
    );
    files
}

/// A job that is shown frames only where its exporter wants them, as the engine does it.
struct Job<J> {
    job: J,
    wants_frames: bool,
}

impl<J: ExportJob> ExportJob for Job<J> {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        if self.wants_frames {
            self.job.frame(frame)
        } else {
            Ok(())
        }
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.job.marker(marker)
    }

    fn finish(self) -> Result<Summary> {
        self.job.finish()
    }
}

fn start<S: Subject>(subject: &S, format: &FormatInfo, video: &VideoParams, path: &Path) -> Job<S::Job> {
    match subject.start(&format.id, video, Output::new(path)) {
        Ok(job) => Job {
            job,
            wants_frames: subject.wants_frames(),
        },
        Err(error) => panic!("{}: an export can't be started: {error}", format.id),
    }
}

#[track_caller]
fn good<T>(format: &FormatInfo, what: &str, outcome: Result<T>) -> T {
    match outcome {
        Ok(value) => value,
        Err(error) => panic!("{}: {what}: {error}", format.id),
    }
}

#[track_caller]
fn no_panic<T>(format: &FormatInfo, what: &str, outcome: Result<T>) -> Option<Error> {
    let error = outcome.err()?;
    assert_ne!(error.kind(), ErrorKind::Panic, "{}: {what}: {error}", format.id);
    Some(error)
}

/// There is a format; ids are words and differ; extensions have no dot; a folder needs none.
pub fn formats<S: Subject>(subject: &Arc<S>) {
    let formats = subject.formats();
    assert!(!formats.is_empty(), "the exporter names no format");
    for (index, format) in formats.iter().enumerate() {
        let id = &format.id;
        let word = |text: &str| {
            text.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        assert!(!id.is_empty() && word(id), "`{id}` is no word of a-z, 0-9 and -");
        assert!(
            word(&format.extension),
            "{id}: the extension `{}` is no word",
            format.extension
        );
        assert!(
            format.folder || !format.extension.is_empty(),
            "{id}: a file without an extension"
        );
        assert!(format.mime.contains('/'), "{id}: `{}` is no media type", format.mime);
        assert!(
            !formats[..index].iter().any(|other| other.id == *id),
            "two formats are named {id}"
        );
    }
}

/// Frames with padded rows, small changes and a pointer end in an output, and the summary counts.
pub fn frames<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    for format in subject.formats() {
        let path = output(&folder, &format, "frames");
        let mut job = start(&**subject, &format, &video(WIDTH, HEIGHT, 6), &path);
        for n in 0..6 {
            good(&format, "a frame", show(&mut job, n, WIDTH, HEIGHT, n == 0));
        }
        let summary = good(&format, "finish", job.finish());
        let files = written(&path, &format);
        assert!(
            summary.frames > 0 || !subject.wants_frames(),
            "{}: the summary counts no frames",
            format.id
        );
        let bytes: u64 = files.iter().map(|(_, size)| size).sum();
        assert_eq!(summary.bytes, bytes, "{}: the summary's bytes", format.id);
    }
}

/// The screen may be resized, also to odd sizes.
pub fn resizes<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    for format in subject.formats() {
        let path = output(&folder, &format, "resizes");
        let mut job = start(&**subject, &format, &video(WIDTH, HEIGHT, 4), &path);
        for (n, (width, height)) in [(33, 17), (WIDTH, HEIGHT), (33, HEIGHT), (1, 1)]
            .into_iter()
            .enumerate()
        {
            let marker = Marker {
                time_ns: n as u64 * FRAME_NS,
                kind: MarkerKind::Resize { width, height },
            };
            good(&format, "a resize", job.marker(&marker));
            good(
                &format,
                "a resized frame",
                show(&mut job, n as u64, width, height, true),
            );
        }
        good(&format, "finish", job.finish());
        written(&path, &format);
    }
}

/// Markers of every kind pass, also those of a newer engine.
pub fn markers<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    for format in subject.formats() {
        let path = output(&folder, &format, "markers");
        let mut job = start(&**subject, &format, &video(WIDTH, HEIGHT, 8), &path);
        good(&format, "a frame", show(&mut job, 0, WIDTH, HEIGHT, true));
        let text = || "Strg+Ü <&>\n\u{1f5a5}".to_owned();
        let kinds = [
            MarkerKind::Key { text: text() },
            MarkerKind::Clipboard { text: text() },
            MarkerKind::Unknown,
            MarkerKind::Gap {
                until_ns: 6 * FRAME_NS,
                reason: text(),
            },
        ];
        for (n, kind) in kinds.into_iter().enumerate() {
            let marker = Marker {
                time_ns: (n as u64 + 1) * FRAME_NS,
                kind,
            };
            good(&format, "a marker", job.marker(&marker));
        }
        good(&format, "a frame", show(&mut job, 6, WIDTH, HEIGHT, false));
        good(&format, "finish", job.finish());
        written(&path, &format);
    }
}

/// A recording without a picture ends in an output or in an error that says so.
pub fn nothing_to_show<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    for format in subject.formats() {
        let path = output(&folder, &format, "nothing");
        match subject.start(&format.id, &video(WIDTH, HEIGHT, 0), Output::new(&path)) {
            Ok(job) => drop(no_panic(&format, "finish without a frame", job.finish())),
            Err(error) => drop(no_panic(&format, "start", Err::<(), _>(error))),
        }
    }
}

/// A job that is dropped leaves nothing that hinders the next one.
pub fn cancelled<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    for format in subject.formats() {
        for shown in [0, 3] {
            let path = output(&folder, &format, &format!("cancelled-{shown}"));
            let mut job = start(&**subject, &format, &video(WIDTH, HEIGHT, 6), &path);
            for n in 0..shown {
                good(&format, "a frame", show(&mut job, n, WIDTH, HEIGHT, n == 0));
            }
            drop(job);
        }
        let path = output(&folder, &format, "afterwards");
        let mut job = start(&**subject, &format, &video(WIDTH, HEIGHT, 1), &path);
        good(&format, "a frame", show(&mut job, 0, WIDTH, HEIGHT, true));
        good(&format, "finish after a cancelled job", job.finish());
        written(&path, &format);
    }
}

/// Four exports at once, each on its own thread, come out as one alone does.
pub fn at_once<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    for format in subject.formats() {
        let export = |name: String| {
            let path = output(&folder, &format, &name);
            let mut job = start(&**subject, &format, &video(WIDTH, HEIGHT, 6), &path);
            for n in 0..6 {
                good(&format, "a frame", show(&mut job, n, WIDTH, HEIGHT, n == 0));
            }
            good(&format, "finish", job.finish()).frames
        };
        let alone = export("alone".to_owned());
        std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|n| {
                    let export = &export;
                    scope.spawn(move || export(format!("at-once-{n}")))
                })
                .collect();
            for thread in threads {
                let frames = thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                assert_eq!(frames, alone, "{}: frames of one of four exports at once", format.id);
            }
        });
    }
}

/// A format that it doesn't have, and an output that can't be written, are errors.
pub fn what_can_not_be_done<S: Subject>(subject: &Arc<S>) {
    let folder = Folder::new().expect("a temporary folder");
    let path = folder.path().join("unknown");
    match subject.start("no-such-format", &video(WIDTH, HEIGHT, 1), Output::new(&path)) {
        Ok(_) => panic!("a format that it does not have is started"),
        Err(error) => assert_ne!(error.kind(), ErrorKind::Panic, "an unknown format: {error}"),
    }
    for format in subject.formats() {
        let path = folder.path().join("missing").join("deeper");
        let outcome = subject
            .start(&format.id, &video(WIDTH, HEIGHT, 1), Output::new(&path))
            .and_then(|job| {
                let wants_frames = subject.wants_frames();
                let mut job = Job { job, wants_frames };
                show(&mut job, 0, WIDTH, HEIGHT, true)?;
                job.finish()
            });
        let error = no_panic(&format, "an output in a missing folder", outcome);
        assert!(
            error.is_some(),
            "{}: an output that can't be written is a success",
            format.id
        );
    }
}

/// The settings read the sample and refuse unknown keys, wrong types and nonsense; the schema says so too.
///
/// # Panics
/// When they don't.
pub fn settings<E: Exporter>(sample: &Value) {
    super::storage::settings_of::<E::Settings>(sample);
}
