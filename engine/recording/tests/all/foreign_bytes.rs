//! Bytes of any origin: errors, never panics, never memory without end.

use std::sync::LazyLock;

use bytes::Bytes;
use deskreel_recording::{
    Channel, Event, Manifest, Rect, ScreenDecoder, ScreenEncoder, ScreenMessage, Seal, Segment, SegmentHeader,
    Verifier, VerifyOptions, recover,
};
use proptest::prelude::*;

use crate::{
    desktop::{Desktop, Script},
    recording::{Plan, Recording, id, key, picture, record},
};

static RECORDING: LazyLock<Recording> = LazyLock::new(|| {
    record(&Plan {
        frames: 20,
        gap: true,
        ..Plan::default()
    })
});

/// A key and some deltas.
static SPAN: LazyLock<Vec<ScreenMessage>> = LazyLock::new(|| {
    let mut desktop = Desktop::new(160, 120, Script::Windows);
    let mut encoder = ScreenEncoder::new(64 << 20);
    let mut span = vec![encoder.encode(picture(&desktop.canvas), &[], false).unwrap().unwrap()];
    for _ in 0..6 {
        let damage: Vec<Rect> = desktop
            .next()
            .into_iter()
            .map(|(x, y, w, h)| Rect::new(x, y, w, h))
            .collect();
        span.extend(encoder.encode(picture(&desktop.canvas), &damage, false).unwrap());
    }
    span
});

/// What can happen to bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Number(prop::sample::Index, u64),
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    let damage = prop_oneof![
        (any::<prop::sample::Index>(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        any::<prop::sample::Index>().prop_map(Damage::Cut),
        (any::<prop::sample::Index>(), prop::collection::vec(any::<u8>(), 0..20))
            .prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        (
            any::<prop::sample::Index>(),
            prop_oneof![Just(0), Just(u64::MAX), Just(1 << 31), any::<u64>()]
        )
            .prop_map(|(at, number)| Damage::Number(at, number)),
    ];
    prop::collection::vec(damage, 1..5)
}

fn damaged(bytes: &[u8], damages: &[Damage]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for damage in damages {
        if bytes.is_empty() {
            break;
        }
        match damage {
            Damage::Flip(at, bits) => {
                let at = at.index(bytes.len());
                bytes[at] ^= bits;
            }
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Damage::Insert(at, more) => {
                let at = at.index(bytes.len());
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Number(at, number) => {
                let at = at.index(bytes.len());
                for (byte, with) in bytes[at..].iter_mut().zip(number.to_le_bytes()) {
                    *byte = with;
                }
            }
        }
    }
    bytes
}

fn read_everything(bytes: &Bytes) {
    for segment in [Segment::open(bytes.clone()), Segment::open_truncated(bytes.clone())]
        .into_iter()
        .flatten()
    {
        let mut decoder = ScreenDecoder::new();
        for event in segment.events() {
            if let Ok((_, Event::Screen(message))) = event {
                let _ = decoder.apply(&message);
            }
        }
    }
    let expected = SegmentHeader {
        recording: id(1),
        number: 0,
    };
    let _ = recover::reseal(bytes.clone(), expected, None, &key(1));
    let mut closing = recover::Closing::new(id(1), vec![key(1).verifying_key()]);
    let _ = closing.segment(bytes);
}

fn verify(bytes: &Bytes, manifest: &[u8]) {
    let options = VerifyOptions {
        recording: None,
        trusted: vec![key(1).verifying_key()],
        deep: true,
    };
    let mut verifier = Verifier::new(options);
    verifier.segment(0, bytes);
    verifier.segment(u32::MAX, bytes);
    verifier.segment(5, bytes);
    let _ = verifier.finish(Some(manifest));
}

/// A frame compressed as a message, so that damage reaches the frame rather than zstd's checks.
fn message(key: bool, frame: &[u8]) -> ScreenMessage {
    ScreenMessage {
        key,
        bytes: zstd::bulk::compress(frame, 1).unwrap().into(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300), key in any::<bool>()) {
        let bytes = Bytes::from(bytes);
        read_everything(&bytes);
        verify(&bytes, &bytes);
        let _ = Manifest::parse(&bytes);
        let _ = ScreenDecoder::new().apply(&ScreenMessage { key, bytes: bytes.clone() });
        let _ = ScreenDecoder::new().apply(&message(true, &bytes));
        for channel in Channel::ALL {
            let _ = Event::from_payload(channel, bytes.clone());
        }
    }

    #[test]
    fn damaged_segments(damages in damages(), which in 0..2_usize) {
        let bytes = Bytes::from(damaged(&RECORDING.segments[which].bytes, &damages));
        read_everything(&bytes);
        verify(&bytes, &RECORDING.manifest);
    }

    #[test]
    fn damaged_manifests(damages in damages()) {
        let manifest = damaged(&RECORDING.manifest, &damages);
        verify(&RECORDING.segments[0].bytes, &manifest);
        if let Ok(manifest) = Manifest::parse(&manifest) {
            for entry in &manifest.body().segments {
                let _ = entry.seal();
            }
        }
    }

    #[test]
    fn damaged_seals(damages in damages()) {
        let seal = &RECORDING.segments[0].seal;
        let text = damaged(seal.text().as_bytes(), &damages);
        if let Ok(parsed) = Seal::parse(&String::from_utf8_lossy(&text), &seal.signature_hex())
            && parsed.text() != seal.text()
        {
            prop_assert!(parsed.verify(&key(1).verifying_key()).is_err());
        }
    }

    #[test]
    fn damaged_messages(damages in damages(), which in 0..SPAN.len()) {
        let mut decoder = ScreenDecoder::new();
        for (i, message) in SPAN.iter().enumerate() {
            let bytes = if i == which { damaged(&message.bytes, &damages).into() } else { message.bytes.clone() };
            if decoder.apply(&ScreenMessage { key: message.key, bytes }).is_err() {
                prop_assert!(decoder.picture().is_none());
            }
        }
    }

    #[test]
    fn damaged_frames(damages in damages()) {
        // Undo the compression, damage the frame itself, compress again.
        let mut raw = Vec::new();
        let mut stream = SPAN[0].bytes.to_vec();
        stream.extend_from_slice(&[1, 0, 0]);
        std::io::copy(&mut zstd::stream::read::Decoder::new(&stream[..]).unwrap(), &mut raw).unwrap();
        let _ = ScreenDecoder::new().apply(&message(true, &damaged(&raw, &damages)));
    }

    #[test]
    fn made_up_frames(
        kind in 0..4_u8,
        size in (0..200_u16, 0..200_u16),
        ops in prop::collection::vec((0..5_u8, any::<[u8; 8]>(), prop::collection::vec(any::<u8>(), 0..40)), 0..6),
    ) {
        let mut decoder = ScreenDecoder::new();
        decoder.apply(&SPAN[0]).unwrap();
        let mut body = Vec::new();
        for (op, rect, data) in &ops {
            body.push(*op);
            // Small numbers, so that some rectangles fit.
            body.extend(rect.iter().enumerate().map(|(i, byte)| if i % 2 == 0 { byte % 64 } else { 0 }));
            body.extend_from_slice(data);
        }
        let mut frame = vec![kind, 1];
        frame.extend_from_slice(&size.0.to_le_bytes());
        frame.extend_from_slice(&size.1.to_le_bytes());
        frame.extend_from_slice(&u16::from(kind == 1).to_le_bytes());
        frame.extend_from_slice(&(ops.len() as u32).to_le_bytes());
        frame.extend_from_slice(&(body.len() as u32).to_le_bytes());
        frame.extend_from_slice(&body);
        let _ = decoder.apply(&message(kind == 1, &frame));
    }
}

/// A few bytes can't make a decoder take gigabytes: sizes are checked before memory is taken.
#[test]
fn bombs_are_refused() {
    let header = |width: u16, height: u16, span: u16, ops: u32, length: u32| {
        let mut frame = vec![1, 1];
        frame.extend_from_slice(&width.to_le_bytes());
        frame.extend_from_slice(&height.to_le_bytes());
        frame.extend_from_slice(&span.to_le_bytes());
        frame.extend_from_slice(&ops.to_le_bytes());
        frame.extend_from_slice(&length.to_le_bytes());
        frame
    };
    let refused = |frame: &[u8]| {
        ScreenDecoder::new()
            .apply(&message(true, frame))
            .unwrap_err()
            .to_string()
    };
    assert!(refused(&header(65_535, 65_535, 1, 0, 0)).contains("above the limit"));
    assert!(refused(&header(16_384, 16_384, 1, 0, 0)).contains("above the limit"));
    assert!(refused(&header(0, 1, 1, 0, 0)).contains("empty"));
    assert!(refused(&header(64, 64, 1025, 0, 0)).contains("span limit"));
    assert!(refused(&header(64, 64, 0, 0, 0)).contains("span limit"));
    assert!(refused(&header(64, 64, 1, 70_000, 0)).contains("70000 operations"));
    assert!(refused(&header(64, 64, 1, 1, u32::MAX)).contains("bytes for 64x64"));
    // A frame that says it is short and goes on for a gigabyte.
    let mut bomb = header(64, 64, 1, 0, 0);
    bomb.resize(100 << 20, 0);
    assert!(refused(&bomb).contains("longer than it states"));
    // A span longer than its key states.
    let mut frame = header(640, 480, 1, 2, 640 * 480 * 3 + 9 + 9 + 3);
    for rect in [[0, 0, 640_u16, 479], [0, 479, 640, 1]] {
        frame.push(2);
        frame.extend(rect.iter().flat_map(|value: &u16| value.to_le_bytes()));
        frame.resize(frame.len() + usize::from(rect[2]) * usize::from(rect[3]) * 3, 0);
    }
    let length = frame.len() as u32 - 16;
    frame[12..16].copy_from_slice(&length.to_le_bytes());
    let mut decoder = ScreenDecoder::new();
    decoder.apply(&message(true, &frame)).unwrap();
    // One more picture's worth is more than the 1 MiB that the key stated.
    frame[0] = 2;
    frame[6] = 0;
    let error = decoder.apply(&message(false, &frame)).unwrap_err();
    assert!(error.to_string().contains("span is longer"), "{error}");
}

/// A window above 8 MiB is refused, as a decoder in a browser could not hold it.
#[test]
fn large_windows_are_refused() {
    use zstd::stream::raw::CParameter;
    let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 3).unwrap();
    encoder.set_parameter(CParameter::WindowLog(27)).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, &[0; 100]).unwrap();
    let bytes = encoder.finish().unwrap().into();
    let error = ScreenDecoder::new()
        .apply(&ScreenMessage { key: true, bytes })
        .unwrap_err();
    assert_eq!(error.kind(), deskreel_recording::ErrorKind::Malformed);
    assert!(error.to_string().to_lowercase().contains("memory"), "{error}");
}
