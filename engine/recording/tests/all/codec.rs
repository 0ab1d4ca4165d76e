//! Pixel equality after a round trip.

use deskreel_recording::{ErrorKind, Picture, Rect, ScreenDecoder, ScreenEncoder, ScreenMessage};
use proptest::prelude::*;

use crate::{
    desktop::{Canvas, Desktop, Numbers, Script},
    recording::picture,
    segments::same,
};

#[test]
fn generated_desktops_round_trip() {
    for script in Script::ALL {
        let mut desktop = Desktop::new(500, 333, script);
        let mut encoder = ScreenEncoder::new(64 << 20);
        let mut decoder = ScreenDecoder::new();
        let mut bytes = 0;
        for i in 0..60 {
            let damage: Vec<Rect> = desktop
                .next()
                .into_iter()
                .map(|(x, y, w, h)| Rect::new(x, y, w, h))
                .collect();
            let Some(message) = encoder.encode(picture(&desktop.canvas), &damage, i == 40).unwrap() else {
                continue;
            };
            bytes += message.bytes.len();
            assert_eq!(message.key, i == 0 || i == 40);
            decoder.apply(&message).unwrap();
            assert!(
                same(decoder.picture().unwrap(), picture(&desktop.canvas)),
                "{script:?} frame {i}"
            );
        }
        assert!(bytes > 0);
    }
}

#[test]
fn scrolling_and_moving_cost_little() {
    for (script, limit) in [(Script::Scrolling, 4000), (Script::Typing, 200)] {
        let mut desktop = Desktop::new(800, 600, script);
        let mut encoder = ScreenEncoder::new(64 << 20);
        encoder.encode(picture(&desktop.canvas), &[], false).unwrap();
        for _ in 0..10 {
            let damage: Vec<Rect> = desktop
                .next()
                .into_iter()
                .map(|(x, y, w, h)| Rect::new(x, y, w, h))
                .collect();
            if let Some(message) = encoder.encode(picture(&desktop.canvas), &damage, false).unwrap() {
                assert!(message.bytes.len() < limit, "{script:?}: {} bytes", message.bytes.len());
            }
        }
    }
}

#[test]
fn written_rectangles_hold_all_that_changed() {
    let mut desktop = Desktop::new(400, 300, Script::Windows);
    let mut encoder = ScreenEncoder::new(64 << 20);
    let mut decoder = ScreenDecoder::new();
    let mut before = desktop.canvas.clone();
    for _ in 0..30 {
        let damage: Vec<Rect> = desktop
            .next()
            .into_iter()
            .map(|(x, y, w, h)| Rect::new(x, y, w, h))
            .collect();
        let Some(message) = encoder.encode(picture(&desktop.canvas), &damage, false).unwrap() else {
            continue;
        };
        for rect in decoder.apply(&message).unwrap().to_vec() {
            for y in rect.y..rect.y + rect.height {
                let start = (usize::from(y) * 400 + usize::from(rect.x)) * 4;
                let row = start..start + usize::from(rect.width) * 4;
                before.data[row.clone()].copy_from_slice(&desktop.canvas.data[row]);
            }
        }
        assert!(before.data == desktop.canvas.data);
    }
}

#[test]
fn pictures_with_padding_and_alpha_are_the_same_pictures() {
    let (width, height) = (70_u16, 20_u16);
    let stride = 70 * 4 + 12;
    let mut data = vec![9; stride * 20 - 12];
    let mut encoder = ScreenEncoder::new(64 << 20);
    let mut decoder = ScreenDecoder::new();
    let whole = [Rect::new(0, 0, width, height)];
    let message = encoder
        .encode(
            Picture {
                width,
                height,
                stride,
                data: &data,
            },
            &whole,
            false,
        )
        .unwrap()
        .unwrap();
    decoder.apply(&message).unwrap();
    for alpha in data.iter_mut().skip(3).step_by(4) {
        *alpha ^= 0x55;
    }
    let unchanged = encoder
        .encode(
            Picture {
                width,
                height,
                stride,
                data: &data,
            },
            &whole,
            false,
        )
        .unwrap();
    assert!(unchanged.is_none(), "alpha and padding are not part of the picture");
    data[stride + 4] = 200;
    let message = encoder
        .encode(
            Picture {
                width,
                height,
                stride,
                data: &data,
            },
            &whole,
            false,
        )
        .unwrap()
        .unwrap();
    assert_eq!(decoder.apply(&message).unwrap(), [Rect::new(1, 1, 1, 1)]);
    assert!(same(
        decoder.picture().unwrap(),
        Picture {
            width,
            height,
            stride,
            data: &data
        }
    ));
}

#[test]
fn impossible_pictures_are_refused_and_do_no_harm() {
    let data = vec![1; 64 * 64 * 4];
    let good = Picture {
        width: 64,
        height: 64,
        stride: 256,
        data: &data,
    };
    let mut encoder = ScreenEncoder::new(64 << 20);
    let mut decoder = ScreenDecoder::new();
    decoder
        .apply(&encoder.encode(good, &[], false).unwrap().unwrap())
        .unwrap();
    for (bad, kind) in [
        (Picture { width: 0, ..good }, ErrorKind::InvalidInput),
        (Picture { stride: 255, ..good }, ErrorKind::InvalidInput),
        (Picture { height: 65, ..good }, ErrorKind::InvalidInput),
        (
            Picture {
                stride: usize::MAX,
                ..good
            },
            ErrorKind::InvalidInput,
        ),
        (Picture { width: 16_385, ..good }, ErrorKind::TooLarge),
        (
            Picture {
                width: 16_384,
                height: 4097,
                ..good
            },
            ErrorKind::TooLarge,
        ),
    ] {
        assert_eq!(encoder.encode(bad, &[], false).unwrap_err().kind(), kind);
    }
    let data = vec![2; 64 * 64 * 4];
    let next = Picture { data: &data, ..good };
    let message = encoder
        .encode(next, &[Rect::new(0, 0, 64, 64)], false)
        .unwrap()
        .unwrap();
    assert!(!message.key);
    decoder.apply(&message).unwrap();
    assert!(same(decoder.picture().unwrap(), next));
}

#[test]
fn after_an_error_only_a_key_helps() {
    let mut desktop = Desktop::new(200, 200, Script::Typing);
    let mut encoder = ScreenEncoder::new(64 << 20);
    let mut decoder = ScreenDecoder::new();
    let whole = [Rect::new(0, 0, 200, 200)];
    let mut frame = |key| {
        desktop.next();
        (
            encoder.encode(picture(&desktop.canvas), &whole, key).unwrap().unwrap(),
            desktop.canvas.clone(),
        )
    };
    let (key, _) = frame(false);
    let (delta, _) = frame(false);
    assert!(decoder.apply(&delta).is_err(), "no key yet");
    decoder.apply(&key).unwrap();
    assert!(
        decoder
            .apply(&ScreenMessage {
                key: false,
                bytes: vec![1, 2, 3].into()
            })
            .is_err()
    );
    assert!(decoder.picture().is_none());
    assert!(decoder.apply(&delta).is_err());
    let (key, canvas) = frame(true);
    assert!(key.key);
    decoder.apply(&key).unwrap();
    assert!(same(decoder.picture().unwrap(), picture(&canvas)));
}

#[test]
fn released_memory_comes_back_with_a_key() {
    let mut desktop = Desktop::new(200, 200, Script::Typing);
    let mut encoder = ScreenEncoder::new(64 << 20);
    let whole = [Rect::new(0, 0, 200, 200)];
    encoder.encode(picture(&desktop.canvas), &whole, false).unwrap();
    encoder.release();
    desktop.next();
    let message = encoder
        .encode(picture(&desktop.canvas), &whole, false)
        .unwrap()
        .unwrap();
    assert!(message.key);
}

/// One random change of a picture.
#[derive(Clone, Debug)]
enum Change {
    Fill {
        area: (u16, u16, u16, u16),
        rgb: [u8; 3],
    },
    Noise {
        area: (u16, u16, u16, u16),
        seed: u64,
        levels: u32,
    },
    Photo {
        area: (u16, u16, u16, u16),
        seed: u32,
    },
    Move {
        area: (u16, u16, u16, u16),
        to: (u16, u16),
    },
    Resize {
        width: u16,
        height: u16,
    },
    Key,
}

fn area() -> impl Strategy<Value = (u16, u16, u16, u16)> {
    (0..300_u16, 0..200_u16, 1..300_u16, 1..200_u16)
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (area(), any::<[u8; 3]>()).prop_map(|(area, rgb)| Change::Fill { area, rgb }),
        4 => (area(), any::<u64>(), prop_oneof![Just(2_u32), Just(4), Just(256)])
            .prop_map(|(area, seed, levels)| Change::Noise { area, seed, levels }),
        2 => (area(), 0..50_u32).prop_map(|(area, seed)| Change::Photo { area, seed }),
        6 => (area(), (0..300_u16, 0..200_u16)).prop_map(|(area, to)| Change::Move { area, to }),
        1 => (1..300_u16, 1..200_u16).prop_map(|(width, height)| Change::Resize { width, height }),
        1 => Just(Change::Key),
    ]
}

impl Change {
    fn apply(&self, canvas: &mut Canvas) -> Vec<Rect> {
        match *self {
            Self::Fill { area, rgb } => {
                canvas.fill(area, rgb);
                vec![Rect::new(area.0, area.1, area.2, area.3)]
            }
            Self::Noise { area, seed, levels } => {
                let mut numbers = Numbers(seed);
                for y in area.1..area.1 + area.3 {
                    for x in area.0..area.0 + area.2 {
                        canvas.put(
                            x,
                            y,
                            std::array::from_fn(|_| (numbers.below(levels) * 255 / (levels - 1)) as u8),
                        );
                    }
                }
                vec![Rect::new(area.0, area.1, area.2, area.3)]
            }
            Self::Photo { area, seed } => {
                canvas.photo(area, seed, 1 + seed % 7);
                vec![Rect::new(area.0, area.1, area.2, area.3)]
            }
            Self::Move { area, to } => {
                let before = canvas.clone();
                for y in 0..area.3 {
                    for x in 0..area.2 {
                        let (from_x, from_y) = (area.0 + x, area.1 + y);
                        if from_x < before.width && from_y < before.height {
                            let at = (usize::from(from_y) * usize::from(before.width) + usize::from(from_x)) * 4;
                            canvas.put(to.0 + x, to.1 + y, before.data[at..at + 3].try_into().unwrap());
                        }
                    }
                }
                // Damage in two halves, to see that its cut does not matter.
                let half = area.2 / 2;
                vec![
                    Rect::new(to.0, to.1, half, area.3),
                    Rect::new(to.0 + half, to.1, area.2 - half, area.3),
                ]
            }
            Self::Resize { width, height } => {
                let mut resized = Canvas::new(width, height);
                resized.fill((0, 0, width, height / 2), [1, 2, 3]);
                *canvas = resized;
                vec![]
            }
            Self::Key => vec![],
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_changes_round_trip(
        width in 1..300_u16,
        height in 1..200_u16,
        changes in prop::collection::vec(prop::collection::vec(change(), 1..4), 1..12),
        key_max_raw_bytes in prop_oneof![Just(1_u64), Just(200_000), Just(64 << 20)],
    ) {
        let mut canvas = Canvas::new(width, height);
        let mut encoder = ScreenEncoder::new(key_max_raw_bytes);
        let mut decoder = ScreenDecoder::new();
        decoder.apply(&encoder.encode(picture(&canvas), &[], false).unwrap().unwrap()).unwrap();
        for frame in changes {
            let mut damage = Vec::new();
            let mut key = false;
            for change in frame {
                damage.extend(change.apply(&mut canvas));
                key |= matches!(change, Change::Key);
            }
            if let Some(message) = encoder.encode(picture(&canvas), &damage, key).unwrap() {
                decoder.apply(&message).unwrap();
            }
            prop_assert!(same(decoder.picture().unwrap(), picture(&canvas)));
        }
    }
}
