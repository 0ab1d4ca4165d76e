//! The committed test vectors (docs/format.md section 11): a small recording that any implementation can be held against.
//!
//! `DESKREEL_WRITE_VECTORS=1 cargo test -p deskreel-recording -- --exact vectors::vectors` writes them anew, after a change of the format.

use std::{collections::BTreeSet, fs, path::PathBuf};

use bytes::Bytes;
use deskreel_recording::{
    Event, Outcome, Rect, ScreenDecoder, Segment, Verifier, VerifyOptions, VerifyingKey,
    event::{Gap, GapReason, Input, Pointer, PointerShape, Position},
    sha256,
};
use serde_json::{Value, json};

use crate::{
    desktop::Canvas,
    recording::{MS, Plan, end, id, picture, recorder},
};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

fn segment_file(number: usize) -> PathBuf {
    folder().join(format!("{number:08}.mcap"))
}

/// What a reader must see: one entry an event; screen events as the digest of the picture's RGB rows.
fn read(segments: &[Bytes]) -> Value {
    let mut decoder = ScreenDecoder::new();
    let mut events = Vec::new();
    for bytes in segments {
        for event in Segment::open(bytes.clone()).unwrap().events() {
            let (time_ns, event) = event.unwrap();
            let channel = event.channel().topic();
            events.push(match &event {
                Event::Screen(message) => {
                    decoder.apply(message).unwrap();
                    let picture = decoder.picture().unwrap();
                    let rgb: Vec<u8> = picture
                        .data
                        .chunks_exact(4)
                        .flat_map(|pixel| &pixel[..3])
                        .copied()
                        .collect();
                    let (width, height) = (picture.width, picture.height);
                    let digest = hex::encode(sha256(&rgb));
                    json!({"ns": time_ns, "channel": channel, "width": width, "height": height, "rgb_sha256": digest})
                }
                other => {
                    let payload: Value = serde_json::from_slice(&other.to_payload().unwrap()).unwrap();
                    json!({"ns": time_ns, "channel": channel, "event": payload})
                }
            });
        }
    }
    Value::Array(events)
}

fn write_vectors() {
    let plan = Plan {
        recording: id(42),
        ..Plan::default()
    };
    let mut recorder = recorder(&plan);
    let mut canvas = Canvas::new(96, 80);
    canvas.fill((0, 0, 96, 80), [240, 240, 240]);
    canvas.photo((0, 0, 64, 64), 1, 3);
    let whole = [Rect::new(0, 0, 96, 80)];
    recorder.frame(10 * MS, picture(&canvas), &whole).unwrap();
    let shape = PointerShape::image(2, 1, 0, 0, &[255, 0, 0, 255, 0, 0, 255, 128]).unwrap();
    let pointer = Pointer {
        position: Some(Position { x: 5, y: 6 }),
        visible: Some(true),
        shape: Some(shape),
    };
    recorder.push(11 * MS, &Event::Pointer(pointer)).unwrap();
    // A copy, a residual rectangle and a raw one.
    let before = canvas.clone();
    for y in 0..40 {
        for x in 0..40 {
            let at = (usize::from(y + 8_u16) * 96 + usize::from(x + 8_u16)) * 4;
            canvas.put(x + 50, y + 30, before.data[at..at + 3].try_into().unwrap());
        }
    }
    canvas.photo((0, 0, 45, 45), 9, 3);
    canvas.fill((2, 70, 10, 3), [255, 128, 0]);
    recorder.frame(20 * MS, picture(&canvas), &whole).unwrap();
    let mut segments = vec![recorder.seal(600 * MS).unwrap().unwrap()];
    recorder
        .push(700 * MS, &Event::Input(Input::MouseMove { x: 90, y: 70 }))
        .unwrap();
    let gap = Gap {
        from_ns: 700 * MS,
        to_ns: 800 * MS,
        reason: GapReason::QueueFull,
        detail: None,
    };
    recorder.push(800 * MS, &Event::Gap(gap)).unwrap();
    canvas.fill((60, 2, 30, 20), [0, 90, 200]);
    recorder.frame(900 * MS, picture(&canvas), &whole).unwrap();
    let smaller = Canvas {
        width: 33,
        height: 21,
        data: canvas.data[..33 * 21 * 4].to_vec(),
    };
    recorder.frame(1000 * MS, picture(&smaller), &[]).unwrap();
    let (last, manifest) = recorder.finish(1100 * MS, end()).unwrap();
    segments.extend(last);

    fs::create_dir_all(folder()).unwrap();
    let objects: Vec<Bytes> = segments.into_iter().map(|segment| segment.bytes).collect();
    for (number, bytes) in objects.iter().enumerate() {
        fs::write(segment_file(number), bytes).unwrap();
    }
    fs::write(folder().join("manifest.json"), manifest).unwrap();
    let key = crate::recording::key(1).verifying_key();
    let expected = json!({
        "outcome": "findings",
        "finding": "gaps",
        "recording": id(42),
        "segments": objects.len(),
        "public_key": hex::encode(key.as_bytes()),
        "events": read(&objects),
    });
    fs::write(
        folder().join("expected.json"),
        serde_json::to_string_pretty(&expected).unwrap() + "\n",
    )
    .unwrap();
}

#[test]
fn vectors() {
    if std::env::var_os("DESKREEL_WRITE_VECTORS").is_some() {
        write_vectors();
    }
    let expected: Value = serde_json::from_slice(&fs::read(folder().join("expected.json")).unwrap()).unwrap();
    let segments: Vec<Bytes> = (0..expected["segments"].as_u64().unwrap() as usize)
        .map(|number| fs::read(segment_file(number)).unwrap().into())
        .collect();
    let read = read(&segments);
    for (event, expected) in read
        .as_array()
        .unwrap()
        .iter()
        .zip(expected["events"].as_array().unwrap())
    {
        assert_eq!(event, expected);
    }
    assert_eq!(read, expected["events"]);

    let mut public_key = [0; 32];
    hex::decode_to_slice(expected["public_key"].as_str().unwrap(), &mut public_key).unwrap();
    let trusted = vec![VerifyingKey::from_bytes(&public_key).unwrap()];
    let mut verifier = Verifier::new(VerifyOptions {
        recording: None,
        trusted,
        deep: true,
    });
    for (number, bytes) in (0..).zip(&segments) {
        verifier.segment(number, bytes);
    }
    let report = verifier.finish(Some(&fs::read(folder().join("manifest.json")).unwrap()));
    assert_eq!(report.outcome, Outcome::Findings, "{report:?}");
    assert_eq!(report.findings.len(), 1);
    let finding = serde_json::to_value(report.findings[0].kind).unwrap();
    assert_eq!(finding, expected["finding"]);
    assert_eq!(json!(report.recording), expected["recording"]);
}

/// Which operations the screen messages use: walks the decompressed frames as docs/format.md section 5 says.
fn operations(segments: &[Bytes]) -> BTreeSet<u8> {
    let mut used = BTreeSet::new();
    let mut spans: Vec<Vec<u8>> = Vec::new();
    for bytes in segments {
        for event in Segment::open(bytes.clone()).unwrap().events() {
            if let (_, Event::Screen(message)) = event.unwrap() {
                if message.key {
                    spans.push(Vec::new());
                }
                spans.last_mut().unwrap().extend_from_slice(&message.bytes);
            }
        }
    }
    for mut span in spans {
        // The empty last block that ends a zstd frame.
        span.extend_from_slice(&[1, 0, 0]);
        let raw = zstd::stream::decode_all(&span[..]).unwrap();
        let u16_at = |at: usize| usize::from(u16::from_le_bytes([raw[at], raw[at + 1]]));
        let mut at = 0;
        while at < raw.len() {
            let ops = u32::from_le_bytes(raw[at + 8..at + 12].try_into().unwrap());
            at += 16;
            for _ in 0..ops {
                used.insert(raw[at]);
                at += if raw[at] == 1 {
                    13
                } else {
                    9 + u16_at(at + 5) * u16_at(at + 7) * 3
                };
            }
        }
    }
    used
}

#[test]
fn vectors_use_every_operation() {
    let segments: Vec<Bytes> = (0..2)
        .map(|number| fs::read(segment_file(number)).unwrap().into())
        .collect();
    assert_eq!(operations(&segments), BTreeSet::from([1, 2, 3]));
}

/// The frame in docs/format.md section 11.
#[test]
fn the_documented_frame() {
    let hex_frame = |text: &str| hex::decode(text.replace([' ', '\n'], "")).unwrap();
    let mut key = hex_frame("01 01 0400 0200 0100 01000000 21000000  02 0000 0000 0400 0200");
    key.extend((0..24).map(|i| i * 10));
    let delta = hex_frame(
        "02 01 0400 0200 0000 02000000 19000000
         01 0000 0000 0200 0200 0200 0000
         02 0300 0100 0100 0100 ff8000",
    );
    // Both frames go through one stream, flushed in between.
    let mut stream = zstd::stream::raw::Encoder::new(3).unwrap();
    let mut part = |frame: &[u8]| {
        use zstd::stream::raw::{InBuffer, Operation as _, OutBuffer};
        let mut out = Vec::with_capacity(1000);
        stream
            .run(&mut InBuffer::around(frame), &mut OutBuffer::around(&mut out))
            .unwrap();
        let filled = out.len();
        stream.flush(&mut OutBuffer::around_pos(&mut out, filled)).unwrap();
        Bytes::from(out)
    };
    let mut decoder = ScreenDecoder::new();
    decoder
        .apply(&deskreel_recording::ScreenMessage {
            key: true,
            bytes: part(&key),
        })
        .unwrap();
    let written = decoder
        .apply(&deskreel_recording::ScreenMessage {
            key: false,
            bytes: part(&delta),
        })
        .unwrap();
    assert_eq!(written, [Rect::new(0, 0, 2, 2), Rect::new(3, 1, 1, 1)]);
    let rgb: Vec<u8> = decoder
        .picture()
        .unwrap()
        .data
        .chunks_exact(4)
        .flat_map(|pixel| &pixel[..3])
        .copied()
        .collect();
    let expected = "3c46505a646e3c46505a646e b4bec8d2dce6b4bec8ff8000";
    assert_eq!(hex::encode(rgb), expected.replace(' ', ""));
}
