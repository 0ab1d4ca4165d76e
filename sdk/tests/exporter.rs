//! An exporter called through the function table, as the engine does.

#![expect(unsafe_code, reason = "plays the loader")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Mutex;

use deskreel_sdk::abi::host::{ExporterInstance, ExporterLibrary};
use deskreel_sdk::prelude::*;
use deskreel_sdk::serde_json::json;

/// What the job saw: the place of the pixels in memory, and what came with them.
static SEEN: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Probe;

struct Job {
    output: Output,
    frames: u64,
}

impl Exporter for Probe {
    type Settings = ();
    type Job = Job;
    const FORMATS: &'static [Format] = &[Format {
        id: "probe",
        extension: "txt",
        mime: "text/plain",
        needs_seek: false,
        folder: false,
    }];
    const LOSSLESS: &'static [&'static str] = &["probe"];
    const WANTS_EVENTS: bool = true;

    fn open((): (), context: Context) -> Result<Self> {
        assert_eq!(context.name, "probe");
        Ok(Self)
    }

    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<Job> {
        assert_eq!((format, video.width, video.title.as_str()), ("probe", 2, "a title"));
        Ok(Job { output, frames: 0 })
    }
}

impl ExportJob for Job {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.frames += 1;
        assert!(frame.time_ns != 666, "asked to panic");
        let Frame {
            time_ns,
            rgba,
            changed,
            pointer,
            ..
        } = frame;
        let pointer = pointer.map(|pointer| (pointer.x, pointer.y, pointer.hotspot_x, pointer.rgba.len()));
        SEEN.lock()
            .unwrap()
            .push(format!("{time_ns} {:p} {} {pointer:?}", rgba.as_ptr(), changed.len()));
        Ok(())
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        SEEN.lock().unwrap().push(format!("{marker:?}"));
        Ok(())
    }

    fn finish(self) -> Result<Summary> {
        use std::io::Write as _;
        self.output.create()?.write_all(b"done")?;
        let mut summary = Summary::default();
        summary.frames = self.frames;
        Ok(summary)
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        SEEN.lock()
            .unwrap()
            .push(format!("dropped {}", self.output.path().display()));
    }
}

deskreel_sdk::export_exporter!(Probe);

unsafe extern "C" {
    #[link_name = "deskreel_exporter_v1"]
    static SYMBOL: u8;
}

fn open() -> ExporterInstance {
    // SAFETY: the symbol is this binary's own.
    let library = unsafe { ExporterLibrary::new((&raw const SYMBOL).cast()) }.unwrap();
    let info = library.info();
    assert_eq!((info.formats[0].id.as_str(), info.formats[0].lossless), ("probe", true));
    assert!(info.wants_frames && info.wants_events);
    library.open(&json!(null), &Context::new("probe")).unwrap()
}

fn video() -> VideoParams {
    let mut video = VideoParams::new(2, 2);
    video.title = "a title".to_owned();
    video
}

fn seen(text: &str) -> bool {
    SEEN.lock().unwrap().iter().any(|line| line.contains(text))
}

#[test]
fn frames_arrive_where_they_lie_and_the_summary_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("out.txt");
    let mut job = open().start("probe", &video(), &path).unwrap();
    let pixels = [9_u8; 16];
    let shape = [1_u8; 4];
    let changed = [Region {
        x: 0,
        y: 1,
        width: 2,
        height: 1,
    }];
    let pointer = Pointer {
        x: -3,
        y: 4,
        hotspot_x: 7,
        hotspot_y: 0,
        width: 1,
        height: 1,
        rgba: &shape,
    };
    let frame = Frame::new(5, 2, 2, 8, &pixels, &changed).unwrap();
    job.frame(&frame).unwrap();
    job.frame(&frame.with_pointer(Some(pointer)).unwrap()).unwrap();
    job.marker(&Marker {
        time_ns: 6,
        kind: MarkerKind::Key {
            text: "Ctrl+C".to_owned(),
        },
    })
    .unwrap();
    let event = MarkerKind::Event {
        session_ns: 7,
        channel: "session".to_owned(),
        event: [("kind".to_owned(), json!("logon"))].into_iter().collect(),
    };
    job.marker(&Marker {
        time_ns: 6,
        kind: event,
    })
    .unwrap();
    assert_eq!(job.finish().unwrap().frames, 2);
    assert!(seen(
        r#"Event { session_ns: 7, channel: "session", event: {"kind": String("logon")} }"#
    ));
    assert!(seen(&format!("5 {:p} 1 None", pixels.as_ptr())));
    assert!(seen(&format!("5 {:p} 1 Some((-3, 4, 7, 4))", pixels.as_ptr())));
    assert!(seen("Key { text: \"Ctrl+C\" }"));
    assert_eq!(std::fs::read(path).unwrap(), b"done");
}

#[test]
fn a_job_that_panics_ends_and_the_exporter_lives_on() {
    let exporter = open();
    let mut job = exporter.start("probe", &video(), Path::new("/nowhere/panics")).unwrap();
    let pixels = [9_u8; 16];
    let error = job.frame(&Frame::new(666, 2, 2, 8, &pixels, &[]).unwrap()).unwrap_err();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::Panic, "plugin panicked: asked to panic")
    );
    assert!(seen("dropped /nowhere/panics"));
    let error = job.frame(&Frame::new(7, 2, 2, 8, &pixels, &[]).unwrap()).unwrap_err();
    assert_eq!(error.message(), "the export has ended already");
    assert!(job.finish().is_err());
    exporter.start("probe", &video(), Path::new("/nowhere/else")).unwrap();
}

#[test]
fn dropping_a_job_cancels_it_and_an_unknown_format_is_refused() {
    let exporter = open();
    drop(
        exporter
            .start("probe", &video(), Path::new("/nowhere/cancelled"))
            .unwrap(),
    );
    assert!(seen("dropped /nowhere/cancelled"));
    let error = exporter.start("gif", &video(), Path::new("/nowhere/x")).err().unwrap();
    assert_eq!(
        (error.kind(), error.message()),
        (ErrorKind::InvalidInput, "the exporter has no format `gif`")
    );
}
