//! Segments and events: what was pushed comes back, in ours and in other MCAP readers.

use std::collections::BTreeSet;

use bytes::Bytes;
use deskreel_recording::{
    Channel, Event, Manifest, Picture, Recorder, RecorderOptions, Rect, ScreenDecoder, Segment, Size,
    event::{EndReason, Input, PointerState, SessionEnd, SessionEvent},
    manifest_key, segment_key,
};

use crate::{
    desktop::{Desktop, Script},
    recording::{MS, Plan, id, key, picture, record, recorder, start, step},
};

#[test]
fn object_keys() {
    assert_eq!(
        segment_key(id(1), 7),
        "01920000-0000-7000-8000-000000000001/00000007.mcap"
    );
    assert_eq!(
        manifest_key(id(1)),
        "01920000-0000-7000-8000-000000000001/manifest.json"
    );
}

#[test]
fn pictures_come_back_at_their_times() {
    let plan = Plan::default();
    let mut recorder = recorder(&plan);
    let mut desktop = Desktop::new(320, 240, Script::Windows);
    let mut shown = Vec::new();
    let mut segments = Vec::new();
    for i in 0..50 {
        step(&mut recorder, &mut desktop, i);
        shown.push((i * 40 * MS + MS, desktop.canvas.clone()));
        if i % 7 == 3 {
            segments.extend(recorder.seal(i * 40 * MS + 3 * MS).unwrap());
        }
    }
    let (last, _) = recorder.finish(50 * 40 * MS, crate::recording::end()).unwrap();
    segments.extend(last);
    let mut decoder = ScreenDecoder::new();
    let mut shown = shown.iter();
    for segment in segments {
        for event in Segment::open(segment.bytes).unwrap().events() {
            let (time, event) = event.unwrap();
            if let Event::Screen(message) = event {
                decoder.apply(&message).unwrap();
                let (expected_time, canvas) = shown.next().unwrap();
                assert_eq!(time, *expected_time);
                assert!(same(decoder.picture().unwrap(), picture(canvas)), "at {time}");
            }
        }
    }
    assert!(shown.next().is_none());
}

pub(crate) fn same(a: Picture<'_>, b: Picture<'_>) -> bool {
    (a.width, a.height) == (b.width, b.height)
        && (0..usize::from(a.height)).all(|y| {
            let row = |picture: &Picture<'_>| {
                let start = y * picture.stride;
                picture.data[start..start + usize::from(picture.width) * 4]
                    .chunks_exact(4)
                    .map(|pixel| [pixel[0], pixel[1], pixel[2]])
                    .collect::<Vec<_>>()
            };
            row(&a) == row(&b)
        })
}

#[test]
fn the_mcap_crate_reads_the_same_messages() {
    let recording = record(&Plan::default());
    for sealed in &recording.segments {
        let summary = mcap::Summary::read(&sealed.bytes).unwrap().unwrap();
        let stats = summary.stats.unwrap();
        let theirs: Vec<_> = mcap::MessageStream::new(&sealed.bytes)
            .unwrap()
            .map(|message| message.map(|message| (message.log_time, message.channel.topic.clone(), message.data)))
            .collect::<Result<_, _>>()
            .unwrap();
        assert_eq!(stats.message_count, theirs.len() as u64);
        let segment = Segment::open(sealed.bytes.clone()).unwrap();
        let ours: Vec<_> = segment.events().map(Result::unwrap).collect();
        assert_eq!(ours.len(), theirs.len());
        for ((time, event), (their_time, topic, data)) in ours.iter().zip(&theirs) {
            assert_eq!(time, their_time);
            assert_eq!(event.channel().topic(), topic);
            if let Event::Screen(screen) = event {
                assert_eq!(&screen.bytes[..], &data[..]);
            }
        }
    }
}

#[test]
fn the_messages_of_a_span_are_an_ordinary_zstd_stream() {
    let recording = record(&Plan {
        frames: 20,
        ..Plan::default()
    });
    let mut stream = Vec::new();
    for sealed in &recording.segments {
        for event in Segment::open(sealed.bytes.clone()).unwrap().events() {
            if let (_, Event::Screen(message)) = event.unwrap() {
                stream.extend_from_slice(&message.bytes);
            }
        }
    }
    // The empty last block that ends a zstd frame.
    stream.extend_from_slice(&[1, 0, 0]);
    let raw = zstd::stream::decode_all(&stream[..]).unwrap();
    assert_eq!(&raw[..6], [1, 1, 64, 1, 240, 0], "a key of 320x240 comes first");
}

#[test]
fn a_key_repeats_the_pointer_and_a_resize_makes_one() {
    let mut recorder = recorder(&Plan::default());
    let small = Desktop::new(200, 100, Script::Typing).canvas;
    let large = Desktop::new(300, 200, Script::Typing).canvas;
    recorder.frame(MS, picture(&small), &[]).unwrap();
    recorder
        .push(2 * MS, &Event::Input(Input::MouseMove { x: 9, y: 8 }))
        .unwrap();
    assert!(
        !recorder
            .frame(3 * MS, picture(&small), &[Rect::new(0, 0, 200, 100)])
            .unwrap(),
        "nothing changed"
    );
    assert!(recorder.frame(4 * MS, picture(&large), &[]).unwrap());
    let (sealed, _) = recorder.finish(5 * MS, crate::recording::end()).unwrap();
    let segment = Segment::open(sealed.unwrap().bytes).unwrap();
    let events: Vec<_> = segment.events().map(|event| event.unwrap().1).collect();
    let channels: Vec<_> = events.iter().map(|event| event.channel().topic()).collect();
    let expected = [
        "session", "session", "key", "input", "session", "key", "pointer", "session",
    ];
    assert_eq!(channels, expected);
    assert_eq!(
        events[4],
        Event::Session(SessionEvent::Resized {
            width: 300,
            height: 200
        })
    );
    let mut state = PointerState::default();
    state.apply(&events[6]);
    assert_eq!(state.position.unwrap().x, 9);
    let body = segment.seal().unwrap().body().clone();
    assert!(body.starts_with_key);
    assert_eq!(body.keys_ns, [MS, 4 * MS]);
}

#[test]
fn keys_come_with_activity_not_with_pauses() {
    let options = RecorderOptions::default();
    let mut recorder = Recorder::new(start(id(1)), key(1), options).unwrap();
    let mut desktop = Desktop::new(200, 100, Script::Typing);
    let whole = [Rect::new(0, 0, 200, 100)];
    let mut tick = |recorder: &mut Recorder, seconds: u64| {
        desktop.next();
        recorder
            .frame(seconds * 1000 * MS, picture(&desktop.canvas), &whole)
            .unwrap();
    };
    for i in 0..65 {
        tick(&mut recorder, i);
    }
    // One change a minute: a quarter of the interval each.
    for i in 2..8 {
        tick(&mut recorder, i * 60);
    }
    let sealed = recorder.seal(500_000 * MS).unwrap().unwrap();
    let keys: Vec<u64> = sealed.seal.body().keys_ns.iter().map(|ns| ns / (1000 * MS)).collect();
    assert_eq!(keys, [0, 30, 60, 300]);
}

#[test]
fn a_span_of_many_bytes_gets_a_key() {
    let options = RecorderOptions {
        key_max_raw_bytes: 1 << 20,
        ..RecorderOptions::default()
    };
    let mut recorder = Recorder::new(start(id(1)), key(1), options).unwrap();
    let mut desktop = Desktop::new(640, 480, Script::Film);
    for i in 0..40 {
        let damage: Vec<Rect> = desktop
            .next()
            .into_iter()
            .map(|(x, y, w, h)| Rect::new(x, y, w, h))
            .collect();
        recorder.frame(i * MS, picture(&desktop.canvas), &damage).unwrap();
    }
    let sealed = recorder.seal(50 * MS).unwrap().unwrap();
    let keys = sealed.seal.body().keys_ns.len();
    assert!((3..15).contains(&keys), "{keys} keys");
    let mut decoder = ScreenDecoder::new();
    for event in Segment::open(sealed.bytes).unwrap().events() {
        if let (_, Event::Screen(message)) = event.unwrap() {
            decoder.apply(&message).unwrap();
        }
    }
    assert!(same(decoder.picture().unwrap(), picture(&desktop.canvas)));
}

#[test]
fn small_sessions_make_small_segments() {
    let mut recorder = recorder(&Plan::default());
    recorder
        .push(MS, &Event::Input(Input::MouseMove { x: 1, y: 1 }))
        .unwrap();
    let sealed = recorder.seal(2 * MS).unwrap().unwrap();
    assert!(sealed.bytes.len() < 8000, "{} bytes", sealed.bytes.len());
    assert!(
        recorder.seal(3 * MS).unwrap().is_none(),
        "an empty segment is never sealed"
    );
    recorder
        .push(MS, &Event::Input(Input::MouseMove { x: 2, y: 2 }))
        .unwrap();
    assert!(!recorder.seal_due(400 * MS));
    assert!(recorder.seal_due(600 * MS));
    let sealed = recorder.seal(600 * MS).unwrap().unwrap();
    assert_eq!(sealed.number, 1);
    assert_eq!(sealed.seal.body().first_ns, 3 * MS, "time never goes back");
    assert!(sealed.bytes.len() < 4500, "{} bytes", sealed.bytes.len());
}

#[test]
fn key_contents_stay_out_unless_given() {
    let event = Event::Input(Input::Key {
        down: true,
        content: None,
    });
    assert_eq!(&event.to_payload().unwrap()[..], br#"{"kind":"key","down":true}"#);
}

#[test]
fn the_manifest_repeats_what_happened() {
    let recording = record(&Plan {
        gap: true,
        ..Plan::default()
    });
    let manifest = Manifest::parse(&recording.manifest).unwrap();
    manifest.verify(&key(1).verifying_key()).unwrap();
    assert!(manifest.verify(&key(2).verifying_key()).is_err());
    let body = manifest.body();
    assert_eq!(body.start, Some(start(id(1))));
    assert_eq!(body.decision.as_ref().unwrap()["verdict"], "allow");
    assert_eq!(body.segments.len(), recording.segments.len());
    assert_eq!(body.gaps.len(), 1);
    assert_eq!(
        body.screen_max,
        Some(Size {
            width: 320,
            height: 240
        })
    );
    assert_eq!(
        body.end,
        SessionEnd {
            reason: EndReason::ClientClosed,
            detail: None,
            error_info: None
        }
    );
    assert_eq!(
        body.bytes,
        recording
            .segments
            .iter()
            .map(|segment| segment.bytes.len() as u64)
            .sum::<u64>()
    );
    let events: u64 = body.events.values().sum();
    let read: usize = recording
        .segments
        .iter()
        .map(|segment| Segment::open(segment.bytes.clone()).unwrap().events().count())
        .sum();
    assert_eq!(events, read as u64);
    let entry = body.segments[1].seal().unwrap();
    assert_eq!(entry, recording.segments[1].seal);
    assert_eq!(entry.body().previous, Some(recording.segments[0].seal.digest()));
}

#[test]
fn other_major_versions_are_refused() {
    let recording = record(&Plan {
        frames: 3,
        ..Plan::default()
    });
    let mut bytes = recording.segments[0].bytes.to_vec();
    let at = bytes.windows(10).position(|window| window == b"deskreel/1").unwrap();
    bytes[at + 9] = b'2';
    let error = Segment::open(Bytes::from(bytes)).unwrap_err();
    assert_eq!(error.kind(), deskreel_recording::ErrorKind::Unsupported);
    assert_eq!(error.to_string(), "format version 2 (this reader knows 1)");
    let text = String::from_utf8(recording.manifest).unwrap();
    let error = Manifest::parse(
        text.replace("\"deskreel_manifest\": 1", "\"deskreel_manifest\": 2")
            .as_bytes(),
    );
    assert_eq!(
        error.unwrap_err().to_string(),
        "manifest version 2 (this reader knows 1)"
    );
}

#[test]
fn topics_are_distinct() {
    let topics: BTreeSet<_> = Channel::ALL.iter().map(|channel| channel.topic()).collect();
    assert_eq!(topics.len(), Channel::ALL.len());
    assert_eq!(Channel::from_topic("screen"), Some(Channel::Screen));
    assert_eq!(Channel::from_topic("hologram"), None);
}
