//! A recording made from a generated desktop, for the other tests.

use std::time::Duration;

use bytes::Bytes;
use deskreel_recording::{
    Event, Outcome, Picture, Recorder, RecorderOptions, Rect, Report, SealedSegment, SigningKey, Verifier,
    VerifyOptions,
    event::{
        DesktopFacts, EndReason, Gap, GapReason, Input, Pointer, PointerShape, Position, SessionEnd, SessionStart,
        Undecoded, UserFacts,
    },
};
use uuid::Uuid;

use crate::desktop::{Canvas, Desktop, Script};

pub(crate) const MS: u64 = 1_000_000;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn id(n: u8) -> Uuid {
    Uuid::from_bytes([1, 146, 0, 0, 0, 0, 0x70, 0, 0x80, 0, 0, 0, 0, 0, 0, n])
}

pub(crate) fn picture(canvas: &Canvas) -> Picture<'_> {
    Picture {
        width: canvas.width,
        height: canvas.height,
        stride: usize::from(canvas.width) * 4,
        data: &canvas.data,
    }
}

pub(crate) fn start(recording: Uuid) -> SessionStart {
    SessionStart {
        recording,
        started_unix_us: 1_700_000_000_000_000,
        product: "deskreel test".into(),
        node: "node-a".into(),
        user: UserFacts {
            name: "ann".into(),
            proven: false,
        },
        login: "ann".into(),
        desktop: DesktopFacts {
            name: "lab".into(),
            addr: "127.0.0.1:3389".into(),
            ..DesktopFacts::default()
        },
        decision: Some(serde_json::json!({"verdict": "allow", "rules": ["all"]})),
        ..SessionStart::default()
    }
}

pub(crate) fn end() -> SessionEnd {
    SessionEnd {
        reason: EndReason::ClientClosed,
        detail: None,
        error_info: None,
    }
}

/// What a finished recording consists of.
#[derive(Clone)]
pub(crate) struct Recording {
    pub(crate) segments: Vec<SealedSegment>,
    pub(crate) manifest: Vec<u8>,
}

/// What to put into a recording.
#[derive(Clone, Copy)]
pub(crate) struct Plan {
    pub(crate) recording: Uuid,
    pub(crate) key: u8,
    pub(crate) script: Script,
    pub(crate) frames: u64,
    pub(crate) gap: bool,
    pub(crate) undecoded: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            recording: id(1),
            key: 1,
            script: Script::Scrolling,
            frames: 60,
            gap: false,
            undecoded: false,
        }
    }
}

pub(crate) fn recorder(plan: &Plan) -> Recorder {
    let options = RecorderOptions {
        segment_max_age: Duration::from_millis(500),
        keyframe_interval: Duration::from_secs(1),
        ..RecorderOptions::default()
    };
    Recorder::new(start(plan.recording), key(plan.key), options).unwrap()
}

/// Feeds one step of a desktop to a recorder.
pub(crate) fn step(recorder: &mut Recorder, desktop: &mut Desktop, i: u64) {
    let now = i * 40 * MS;
    let damage: Vec<Rect> = desktop
        .next()
        .into_iter()
        .map(|(x, y, w, h)| Rect::new(x, y, w, h))
        .collect();
    recorder
        .push(now, &Event::Input(Input::MouseMove { x: i as u16, y: 7 }))
        .unwrap();
    if i % 10 == 5 {
        let rgba = vec![i as u8; 16 * 16 * 4];
        let shape = Some(PointerShape::image(16, 16, 1, 2, &rgba).unwrap());
        let pointer = Pointer {
            position: Some(Position { x: 3, y: i as u16 }),
            visible: Some(true),
            shape,
        };
        recorder.push(now, &Event::Pointer(pointer)).unwrap();
    }
    recorder.frame(now + MS, picture(&desktop.canvas), &damage).unwrap();
}

pub(crate) fn record(plan: &Plan) -> Recording {
    let mut recorder = recorder(plan);
    let mut desktop = Desktop::new(320, 240, plan.script);
    let mut segments = Vec::new();
    for i in 0..plan.frames {
        step(&mut recorder, &mut desktop, i);
        let now = i * 40 * MS + 2 * MS;
        if plan.gap && i == 20 {
            let gap = Gap {
                from_ns: now - MS,
                to_ns: now,
                reason: GapReason::QueueFull,
                detail: None,
            };
            recorder.push(now, &Event::Gap(gap)).unwrap();
        }
        if plan.undecoded && i == 21 {
            let undecoded = Undecoded {
                what: "bitmap".into(),
                codec_id: None,
                rect: None,
                error: "short".into(),
                length: 3,
                pdu: vec![1, 2, 3].into(),
            };
            recorder.push(now, &Event::Undecoded(undecoded)).unwrap();
        }
        if recorder.seal_due(now) {
            segments.extend(recorder.seal(now).unwrap());
        }
    }
    let (last, manifest) = recorder.finish(plan.frames * 40 * MS, end()).unwrap();
    segments.extend(last);
    Recording { segments, manifest }
}

/// Verifies objects with key 1 as the trusted key.
pub(crate) fn verify<'a>(objects: impl IntoIterator<Item = (u32, &'a Bytes)>, manifest: Option<&[u8]>) -> Report {
    let options = VerifyOptions {
        recording: None,
        trusted: vec![key(1).verifying_key()],
        deep: true,
    };
    let mut verifier = Verifier::new(options);
    for (number, bytes) in objects {
        verifier.segment(number, bytes);
    }
    verifier.finish(manifest)
}

impl Recording {
    pub(crate) fn objects(&self) -> impl Iterator<Item = (u32, &Bytes)> {
        self.segments.iter().map(|segment| (segment.number, &segment.bytes))
    }

    pub(crate) fn verify(&self) -> Report {
        verify(self.objects(), Some(&self.manifest))
    }
}

#[test]
fn a_whole_recording_verifies() {
    for script in Script::ALL {
        let recording = record(&Plan {
            script,
            ..Plan::default()
        });
        assert!(recording.segments.len() >= 4);
        let report = recording.verify();
        assert_eq!(report.findings, []);
        assert_eq!(report.outcome, Outcome::Whole);
        assert_eq!(report.segments, recording.segments.len() as u64);
        assert_eq!(report.duration_ns, 60 * 40 * MS);
        assert!(report.frames > 20, "{script:?}: {} frames", report.frames);
    }
}

#[test]
fn gaps_and_undecoded_are_findings() {
    let report = record(&Plan {
        gap: true,
        undecoded: true,
        ..Plan::default()
    })
    .verify();
    assert_eq!(report.outcome, Outcome::Findings);
    let texts: Vec<&str> = report.findings.iter().map(|finding| finding.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "1 gaps, 0.001 s unrecorded",
            "1 PDUs could not be decoded and are kept raw"
        ],
    );
}

#[test]
fn without_a_manifest_it_is_open() {
    let recording = record(&Plan::default());
    let report = verify(recording.objects().take(2), None);
    assert_eq!(report.outcome, Outcome::Findings);
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, deskreel_recording::FindingKind::StillOpen);
}
