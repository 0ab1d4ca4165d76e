//! Whole PDUs through the tap, built with IronRDP's encoders where there are any.

#![allow(clippy::unwrap_used, reason = "tests")]

mod build;

use build::*;
use ironrdp_bulk::{BulkCompressor, CompressionType};
use proptest::prelude::*;

use super::*;

const TO_DESKTOP: Direction = Direction::ToDesktop;
const TO_CLIENT: Direction = Direction::ToClient;

fn feed(tap: &mut Tap, direction: Direction, pdu: &[u8]) -> Vec<TapEvent> {
    let mut out = Vec::new();
    tap.pdu(direction, pdu, &mut out);
    out
}

fn active(width: u16, height: u16) -> Tap {
    let mut tap = Tap::new(config());
    feed(&mut tap, TO_CLIENT, &demand_active(width, height));
    feed(
        &mut tap,
        TO_DESKTOP,
        &confirm_active(&[(0x7677_2F12, 3), (0xCA8D_1BB9, 1)]),
    );
    tap
}

fn config() -> TapConfig {
    TapConfig {
        channels: vec![StaticChannel {
            id: 1005,
            name: "cliprdr".to_owned(),
        }],
        ..TapConfig::default()
    }
}

fn pixel(tap: &Tap, x: usize, y: usize) -> [u8; 3] {
    let picture = tap.picture().unwrap();
    let at = y * picture.stride + x * 4;
    assert_eq!(picture.rgba[at + 3], 255);
    [picture.rgba[at], picture.rgba[at + 1], picture.rgba[at + 2]]
}

fn rect(x: u16, y: u16, width: u16, height: u16) -> TapEvent {
    TapEvent::Damage(Rect { x, y, width, height })
}

#[track_caller]
fn undecoded(events: &[TapEvent]) -> &Undecoded {
    match events {
        [TapEvent::Undecoded(undecoded)] => undecoded,
        other => panic!("unexpected {other:?}"),
    }
}

#[test]
fn starts_with_the_first_demand_active() {
    let mut tap = Tap::new(config());
    assert!(tap.picture().is_none());
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &demand_active(30, 20)),
        [TapEvent::Resized { width: 30, height: 20 }]
    );
    let picture = tap.picture().unwrap();
    assert_eq!((picture.width, picture.height, picture.stride), (30, 20, 120));
    assert!(picture.rgba.chunks(4).all(|pixel| pixel == [0, 0, 0, 255]));
}

#[test]
fn bitmaps_of_all_depths_on_both_paths() {
    // 3x2 pixels; rows padded to four bytes.
    let raw24 = [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0, // lower row
        11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 0, 0,
    ];
    let mut tap = active(10, 10);
    let update = bitmap_update(&[Bitmap::new(2, 3, 3, 2, 24, 0, &raw24)]);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update)),
        [rect(2, 3, 3, 2)]
    );
    assert_eq!(pixel(&tap, 2, 3), [13, 12, 11]);
    assert_eq!(pixel(&tap, 4, 3), [19, 18, 17]);
    assert_eq!(pixel(&tap, 2, 4), [3, 2, 1]);
    assert_eq!(pixel(&tap, 5, 3), [0; 3]);

    let raw32 = [1, 2, 3, 99, 4, 5, 6, 99];
    let raw16 = [0x00, 0xF8, 0xE0, 0x07, 0x1F, 0x00, 0, 0];
    let rle16 = [0x64, 0x1F, 0x00];
    let rle8 = [0x64, 249];
    let header = [0, 0, 2, 0, 4, 0, 4, 0, 0x64, 250, 77];
    let update = bitmap_update(&[
        Bitmap::new(0, 0, 2, 1, 32, 0, &raw32),
        Bitmap::new(0, 1, 3, 1, 16, 0, &raw16),
        Bitmap::new(0, 2, 4, 1, 16, 0x401, &rle16),
        Bitmap::new(0, 5, 4, 1, 8, 0x401, &rle8),
        Bitmap::new(0, 6, 4, 1, 8, 0x001, &header),
    ]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 0, 0, &update)]));
    assert_eq!(
        events,
        [
            rect(0, 0, 2, 1),
            rect(0, 1, 3, 1),
            rect(0, 2, 4, 1),
            rect(0, 5, 4, 1),
            rect(0, 6, 4, 1)
        ]
    );
    assert_eq!([pixel(&tap, 0, 0), pixel(&tap, 1, 0)], [[3, 2, 1], [6, 5, 4]]);
    assert_eq!(
        [pixel(&tap, 0, 1), pixel(&tap, 1, 1), pixel(&tap, 2, 1)],
        [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    );
    assert_eq!(pixel(&tap, 3, 2), [0, 0, 255]);
    assert_eq!([pixel(&tap, 3, 5), pixel(&tap, 0, 6)], [[255, 0, 0], [0, 255, 0]]);
}

#[test]
fn planar_with_bulk_history_over_both_paths() {
    let mut tap = active(64, 64);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let mut shared = 0;
    for step in 0..40u16 {
        let rgb = pattern(16, 16, u32::from(step) / 8);
        let data = planar(16, 16, &rgb);
        let (x, y) = (step % 4 * 16, step / 4 % 4 * 16);
        let update = bitmap_update(&[Bitmap::new(x, y, 16, 16, 32, 0x401, &data)]);
        let (length, flags) = sender.compress(&update).unwrap();
        let flags = u8::try_from(flags).unwrap();
        let bytes = if flags & 0x20 == 0 {
            update
        } else {
            sender.compressed_data(length).to_vec()
        };
        shared += usize::from(flags & 0x20 != 0);
        let pdu = if step % 3 == 0 {
            fast_path(&[(1, 0, flags, &bytes)])
        } else {
            share_data(2, flags, &bytes)
        };
        assert_eq!(feed(&mut tap, TO_CLIENT, &pdu), [rect(x, y, 16, 16)], "step {step}");
        for (index, color) in rgb.chunks(3).enumerate() {
            let (column, row) = (index % 16, 15 - index / 16);
            assert_eq!(
                pixel(&tap, usize::from(x) + column, usize::from(y) + row),
                *color,
                "step {step}"
            );
        }
    }
    assert!(shared > 30, "only {shared} were compressed");
}

#[test]
fn what_lies_beyond_the_picture_is_cut_off() {
    let mut tap = active(10, 10);
    let rgb = pattern(8, 8, 1);
    let data = planar(8, 8, &rgb);
    let update = bitmap_update(&[
        Bitmap::new(6, 7, 8, 8, 32, 0x401, &data),
        Bitmap::new(10, 0, 8, 8, 32, 0x401, &data),
        // Padded to eight columns, five and three of them shown.
        Bitmap {
            right: 4,
            bottom: 2,
            ..Bitmap::new(0, 0, 8, 8, 32, 0x401, &data)
        },
    ]);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update)),
        [rect(6, 7, 4, 3), rect(0, 0, 5, 3)]
    );
    // The upper left of the bitmap is its last row's beginning.
    let last_row = &rgb[7 * 8 * 3..];
    assert_eq!(pixel(&tap, 6, 7), last_row[..3]);
    assert_eq!(pixel(&tap, 9, 7), last_row[9..12]);
    assert_eq!(pixel(&tap, 4, 0), last_row[12..15]);
    assert_eq!(pixel(&tap, 5, 0), [0; 3]);
}

#[test]
fn a_broken_bitmap_does_not_take_its_neighbours_along() {
    let mut tap = active(10, 10);
    let good = planar(2, 2, &pattern(2, 2, 3));
    let bad = Bitmap::new(4, 4, 4, 4, 32, 0x401, &[0x30, 0x00]);
    let update = bitmap_update(&[
        Bitmap::new(0, 0, 2, 2, 32, 0x401, &good),
        bad.clone(),
        Bitmap::new(0, 2, 2, 2, 32, 0x401, &good),
    ]);
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update));
    assert_eq!([&events[0], &events[2]], [&rect(0, 0, 2, 2), &rect(0, 2, 2, 2)]);
    let fault = undecoded(&events[1..2]);
    assert_eq!(fault.kind, UndecodedKind::Bitmap);
    assert_eq!(
        fault.rect,
        Some(Rect {
            x: 4,
            y: 4,
            width: 4,
            height: 4
        })
    );
    assert_eq!(fault.data, bad.bytes());
    assert_eq!(pixel(&tap, 4, 4), [0; 3]);

    // Cut within the second one; a count that promises too much.
    let cut = &update[..4 + 18 + good.len() + 10];
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, cut));
    assert_eq!(events[0], rect(0, 0, 2, 2));
    assert_eq!(undecoded(&events[1..]).error, "bitmap update ends in rectangle 2 of 3");
}

#[test]
fn fragments_of_one_update() {
    let mut tap = active(20, 20);
    let data = planar(16, 16, &pattern(16, 16, 9));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let third = update.len() / 3;
    let parts = [&update[..third], &update[third..2 * third], &update[2 * third..]];
    assert_eq!(feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 2, 0, parts[0])])), []);
    // A synchronize between fragments would cut them off, so they come in a row; two share a PDU here.
    let events = feed(
        &mut tap,
        TO_CLIENT,
        &fast_path(&[(1, 3, 0, parts[1]), (1, 1, 0, parts[2])]),
    );
    assert_eq!(events, [rect(0, 0, 16, 16)]);

    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 2, 0, parts[0]), (5, 0, 0, &[])]));
    assert_eq!(undecoded(&events[..1]).data, parts[0]);
    assert_eq!(events[1], TapEvent::Pointer(PointerEvent::Hidden));
    assert!(
        undecoded(&feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 1, 0, parts[2])])))
            .error
            .contains("missing")
    );
}

#[test]
fn updates_larger_than_the_limit_are_given_up() {
    let mut tap = Tap::new(TapConfig {
        max_request_size: 1000,
        undecoded_max_bytes: 10,
        ..config()
    });
    feed(&mut tap, TO_CLIENT, &demand_active(10, 10));
    let part = [7; 600];
    assert_eq!(feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 2, 0, &part)])), []);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 3, 0, &part)]));
    assert_eq!(events.len(), 2);
    let fault = undecoded(&events[..1]);
    assert_eq!((fault.data.len(), fault.length), (10, 600));
    assert_eq!(
        undecoded(&feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 1, 0, &part)]))).length,
        600
    );
}

#[test]
fn remote_fx_paints_its_rectangles_only() {
    let mut tap = active(200, 150);
    // Two tiles far apart; of each a rectangle is valid.
    let message = remote_fx(
        200,
        150,
        &[(5, 6, 20, 10), (130, 70, 62, 58)],
        &[(0, 0, [200, 30, 60]), (2, 1, [10, 240, 90])],
    );
    let mut update = frame_marker(0, 7);
    update.extend(surface_bits(0, 0, 200, 150, 3, 32, &message));
    update.extend(frame_marker(1, 7));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(events, [rect(5, 6, 20, 10), rect(130, 70, 62, 58), TapEvent::FrameEnd]);
    let near = |at: [u8; 3], to: [u8; 3]| at.iter().zip(to).all(|(a, b)| a.abs_diff(b) <= 5);
    assert!(near(pixel(&tap, 5, 6), [200, 30, 60]), "{:?}", pixel(&tap, 5, 6));
    assert!(
        near(pixel(&tap, 191, 127), [10, 240, 90]),
        "{:?}",
        pixel(&tap, 191, 127)
    );
    assert_eq!(
        [pixel(&tap, 4, 6), pixel(&tap, 25, 6), pixel(&tap, 100, 70)],
        [[0; 3]; 3]
    );

    // The surface's origin moves everything; what is beyond the picture is not decoded.
    let update = surface_bits(
        100,
        100,
        64,
        64,
        3,
        32,
        &remote_fx(64, 64, &[], &[(0, 0, [9, 9, 9]), (5, 5, [1, 1, 1])]),
    );
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)])),
        [rect(100, 100, 64, 50)]
    );
    assert!(near(pixel(&tap, 163, 149), [9, 9, 9]));
}

#[test]
fn remote_fx_is_known_by_its_looks_when_the_client_announced_nothing() {
    let mut tap = active(64, 64);
    feed(&mut tap, TO_DESKTOP, &confirm_active(&[]));
    let message = remote_fx(64, 64, &[], &[(0, 0, [90, 90, 90])]);
    let update = surface_bits(0, 0, 64, 64, 3, 32, &message);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)])),
        [rect(0, 0, 64, 64)]
    );
    let update = surface_bits(0, 0, 64, 64, 3, 32, b"something else");
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(undecoded(&events).error, "codec that the client did not announce");
}

#[test]
fn surface_commands_are_split() {
    let mut tap = active(8, 8);
    // Lower row first.
    let raw = [1, 2, 3, 0, 4, 5, 6, 0, 7, 8, 9, 0, 10, 11, 12, 0];
    let nscodec = surface_bits(4, 4, 2, 2, 1, 32, &[1, 2, 3, 4]);
    let mut update = surface_bits(1, 1, 2, 2, 0, 32, &raw);
    update.extend(&nscodec);
    update.extend(surface_bits(7, 7, 2, 2, 0, 32, &raw));
    update.extend(frame_marker(1, 1));
    update.extend(frame_marker(1, 2));
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &update)]));
    assert_eq!(events.len(), 4, "{events:?}");
    assert_eq!(
        [&events[0], &events[2], &events[3]],
        [&rect(1, 1, 2, 2), &rect(7, 7, 1, 1), &TapEvent::FrameEnd]
    );
    let fault = undecoded(&events[1..2]);
    assert_eq!(
        (fault.codec_id, fault.rect),
        (
            Some(1),
            Some(Rect {
                x: 4,
                y: 4,
                width: 2,
                height: 2
            })
        )
    );
    assert_eq!(
        (fault.error.as_str(), &fault.data),
        ("no decoder for NSCodec", &nscodec)
    );
    assert_eq!(
        [pixel(&tap, 1, 1), pixel(&tap, 1, 2), pixel(&tap, 7, 7)],
        [[9, 8, 7], [3, 2, 1], [9, 8, 7]]
    );

    // A frame marker without its id, as some desktops send it; then an unknown command.
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &[4, 0, 1, 0])]));
    assert_eq!(events, [TapEvent::FrameEnd]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(4, 0, 0, &[9, 0, 1, 2, 3])]));
    assert_eq!(undecoded(&events).error, "surface command 0x0009");
}

#[test]
fn orders_are_evidence_and_synchronize_is_nothing() {
    let mut tap = active(8, 8);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &fast_path(&[(3, 0, 0, &[]), (0, 0, 0, &[0, 0])])),
        []
    );
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(0, 0, 0, &[2, 0, 0x11, 0x22])]));
    let fault = undecoded(&events);
    assert_eq!(
        (fault.kind, fault.error.as_str()),
        (UndecodedKind::Orders, "2 drawing orders")
    );
    assert_eq!(feed(&mut tap, TO_CLIENT, &share_data(2, 0, &[3, 0, 0, 0])), []);
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, &[0, 0, 0, 0, 1, 0, 0, 0, 9]));
    assert_eq!(undecoded(&events).kind, UndecodedKind::Orders);
}

#[test]
fn pointers_are_decoded_and_cached() {
    let mut tap = active(8, 8);
    // 2x2, 32 bpp, bottom-up; then the mask of one bit, rows of two bytes.
    let xor = [3, 2, 1, 255, 6, 5, 4, 128, 9, 8, 7, 0, 12, 11, 10, 255];
    let new = pointer_shape(Some(32), 5, (1, 0), (2, 2), &xor, &[0, 0, 0, 0]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(0xB, 0, 0, &new)]));
    let [TapEvent::Pointer(PointerEvent::Shape(shape))] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (shape.width, shape.height, shape.hotspot_x, shape.hotspot_y),
        (2, 2, 1, 0)
    );
    assert_eq!(shape.rgba, [7, 8, 9, 0, 10, 11, 12, 255, 1, 2, 3, 255, 4, 5, 6, 128]);
    // From the cache, by both paths.
    for pdu in [
        fast_path(&[(0xA, 0, 0, &[5, 0])]),
        share_data(27, 0, &[7, 0, 0, 0, 5, 0]),
    ] {
        let events = feed(&mut tap, TO_CLIENT, &pdu);
        assert_eq!(
            events,
            [TapEvent::Pointer(PointerEvent::Shape(std::sync::Arc::clone(shape)))]
        );
    }
    // 24 bpp, in a slow-path colour pointer; masks longer than needed.
    let color = pointer_shape(None, 6, (0, 0), (1, 1), &[30, 20, 10, 0, 9, 9], &[0, 0, 9, 9]);
    let events = feed(
        &mut tap,
        TO_CLIENT,
        &share_data(27, 0, &[&[6, 0, 0, 0][..], &color].concat()),
    );
    let [TapEvent::Pointer(PointerEvent::Shape(shape))] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(shape.rgba, [10, 20, 30, 255]);
    // A broken shape is evidence, and its place in the cache is empty.
    let broken = pointer_shape(Some(32), 5, (0, 0), (2, 2), &[1, 2], &[]);
    assert_eq!(
        undecoded(&feed(&mut tap, TO_CLIENT, &fast_path(&[(0xB, 0, 0, &broken)]))).kind,
        UndecodedKind::Pointer
    );
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(0xA, 0, 0, &[5, 0])]));
    assert_eq!(undecoded(&events).error, "Cached pointer: nothing cached at 5");
    // Visibility and place.
    let events = feed(
        &mut tap,
        TO_CLIENT,
        &fast_path(&[(5, 0, 0, &[]), (6, 0, 0, &[]), (8, 0, 0, &[3, 0, 4, 0])]),
    );
    let expected = [
        PointerEvent::Hidden,
        PointerEvent::Default,
        PointerEvent::Position { x: 3, y: 4 },
    ];
    assert_eq!(events, expected.map(TapEvent::Pointer));
    let events = feed(&mut tap, TO_CLIENT, &share_data(27, 0, &[1, 0, 0, 0, 0, 0x7F, 0, 0]));
    assert_eq!(events, [TapEvent::Pointer(PointerEvent::Default)]);
}

#[test]
fn input_on_both_paths() {
    let button = |down| InputEvent::Button {
        button: MouseButton::Left,
        down,
        x: 7,
        y: 8,
    };
    let wheel = InputEvent::Wheel {
        horizontal: false,
        units: -120,
        x: 0,
        y: 0,
    };
    let (code, unicode) = (
        KeyCode::Scan {
            code: 0x1D,
            prefix: 0xE0,
        },
        KeyCode::Unicode(0xE4),
    );
    let mouse_events = [
        InputEvent::Move { x: 5, y: 6 },
        button(true),
        button(false),
        wheel,
        InputEvent::Button {
            button: MouseButton::X1,
            down: true,
            x: 1,
            y: 2,
        },
    ]
    .map(TapEvent::Input);
    let key_events = [
        InputEvent::Key { down: true, code },
        InputEvent::Key { down: false, code },
        InputEvent::Key {
            down: true,
            code: unicode,
        },
        InputEvent::Locks { flags: 2 },
    ]
    .map(TapEvent::Input);
    let all_events = [&mouse_events[..], &key_events].concat();
    let mouse = |flags: u16, x: u8, y: u8| [&flags.to_le_bytes()[..], &[x, 0, y, 0]].concat();
    let event = |header: u8, body: &[u8]| [&[header], body].concat();
    let fast = [
        event(1 << 5, &mouse(0x0800, 5, 6)),
        event(1 << 5, &mouse(0x9000, 7, 8)),
        event(1 << 5, &mouse(0x1000, 7, 8)),
        event(1 << 5, &mouse(0x0200 | 0x0100 | 0x88, 0, 0)),
        event(2 << 5, &mouse(0x8001, 1, 2)),
        event(0x02, &[0x1D]),
        event(0x03, &[0x1D]),
        event(4 << 5, &[0xE4, 0]),
        event(3 << 5 | 2, &[]),
    ]
    .concat();
    let slow_event = |kind: u16, body: &[u8]| [&[0, 0, 0, 0][..], &kind.to_le_bytes(), body].concat();
    let slow = [
        vec![9, 0, 0, 0],
        slow_event(0x8001, &mouse(0x0800, 5, 6)),
        slow_event(0x8001, &mouse(0x9000, 7, 8)),
        slow_event(0x8001, &mouse(0x1000, 7, 8)),
        slow_event(0x8001, &mouse(0x0200 | 0x0100 | 0x88, 0, 0)),
        slow_event(0x8002, &mouse(0x8001, 1, 2)),
        slow_event(4, &[0, 0x01, 0x1D, 0, 0, 0]),
        slow_event(4, &[0, 0xC1, 0x1D, 0, 0, 0]),
        slow_event(5, &[0, 0, 0xE4, 0, 0, 0]),
        slow_event(0, &[0, 0, 2, 0, 0, 0]),
    ]
    .concat();
    let pdus = [
        fast_path_input(0, 9, &fast),
        // Microsoft's client for the Mac sets bits 6 and 7.
        fast_path_input(0xC0, 9, &fast),
        fast_path_input(0, 0, &[&[9], &fast[..]].concat()),
        share_data_to_desktop(28, &slow),
    ];
    for pdu in &pdus {
        for (input, expected) in [
            (InputLevel::None, &[][..]),
            (InputLevel::Mouse, &mouse_events),
            (InputLevel::All, &all_events),
        ] {
            let mut tap = Tap::new(TapConfig { input, ..config() });
            assert_eq!(feed(&mut tap, TO_DESKTOP, pdu), expected);
        }
    }
    // Keys must not leak through evidence.
    let events = feed(&mut active(8, 8), TO_DESKTOP, &fast_path_input(0, 3, &[0, 0x1E]));
    let fault = undecoded(&events);
    assert_eq!(
        (fault.kind, fault.length, fault.data.len()),
        (UndecodedKind::Input, 2, 0)
    );
    let mut tap = Tap::new(TapConfig {
        input: InputLevel::All,
        ..config()
    });
    let events = feed(&mut tap, TO_DESKTOP, &fast_path_input(0, 3, &[0, 0x1E]));
    assert_eq!(undecoded(&events[1..]).data, [0, 0x1E]);
}

#[test]
fn reactivation_keeps_history_and_takes_a_new_size() {
    let mut tap = active(64, 64);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let data = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let mut send = |tap: &mut Tap| {
        let (length, flags) = sender.compress(&update).unwrap();
        assert_ne!(flags & 0x20, 0);
        feed(
            tap,
            TO_CLIENT,
            &share_data(2, u8::try_from(flags).unwrap(), sender.compressed_data(length)),
        )
    };
    assert_eq!(send(&mut tap), [rect(0, 0, 16, 16)]);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_control(6, &[0; 6])),
        [TapEvent::Deactivated]
    );
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &demand_active(8, 100)),
        [TapEvent::Resized { width: 8, height: 100 }]
    );
    assert_eq!(pixel(&tap, 0, 0), [0; 3]);
    // The second time it is nearly all matches.
    assert_eq!(send(&mut tap), [rect(0, 0, 8, 16)]);
    assert_eq!(pixel(&tap, 0, 15), pattern(16, 16, 4)[..3]);

    let events = feed(&mut tap, TO_CLIENT, &demand_active(0, 100));
    assert!(undecoded(&events).error.contains("0x100"));
    assert!(tap.picture().is_none());
    assert_eq!(undecoded(&send(&mut tap)).error, "no picture to paint on");
}

#[test]
fn a_gap_keeps_histories_and_restarts_black() {
    let mut tap = active(16, 16);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let data = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let mut pdu = || {
        let (length, flags) = sender.compress(&update).unwrap();
        share_data(2, u8::try_from(flags).unwrap(), sender.compressed_data(length))
    };
    feed(&mut tap, TO_CLIENT, &pdu());
    for _ in 0..5 {
        tap.skip(TO_CLIENT, &pdu());
    }
    let shape = pointer_shape(Some(32), 3, (0, 0), (1, 1), &[3, 2, 1, 255], &[0, 0]);
    tap.skip(TO_CLIENT, &fast_path(&[(0xB, 0, 0, &shape)]));
    tap.skip(TO_CLIENT, &demand_active(20, 16));
    tap.skip(TO_CLIENT, &[3, 0]);
    let mut events = Vec::new();
    tap.restart(&mut events);
    let [resized, TapEvent::Pointer(PointerEvent::Shape(shape)), wanted] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(resized, &TapEvent::Resized { width: 20, height: 16 });
    assert_eq!(shape.rgba, [1, 2, 3, 255]);
    assert!(matches!(wanted, TapEvent::RefreshWanted { .. }));
    assert_eq!(pixel(&tap, 0, 0), [0; 3]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &pdu()), [rect(0, 0, 16, 16)]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &fast_path(&[(0xA, 0, 0, &[3, 0])])).len(), 1);
}

/// What was dropped unseen must not be guessed: whatever refers to it is undecoded until it is known again.
#[test]
fn what_refers_to_dropped_pdus_is_not_decoded() {
    let mut tap = active(16, 16);
    assert!(tap.is_right());
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let planar = |seed| planar(16, 16, &pattern(16, 16, seed));
    let mut pdu = |seed, flush: u8| {
        let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &planar(seed))]);
        let (length, flags) = sender.compress(&update).unwrap();
        assert_ne!(flags & 0x20, 0);
        share_data(2, u8::try_from(flags).unwrap() | flush, sender.compressed_data(length))
    };
    assert_eq!(feed(&mut tap, TO_CLIENT, &pdu(4, 0)), [rect(0, 0, 16, 16)]);
    let shape = pointer_shape(Some(32), 3, (0, 0), (1, 1), &[3, 2, 1, 255], &[0, 0]);
    feed(&mut tap, TO_CLIENT, &fast_path(&[(0xB, 0, 0, &shape)]));
    let first = fast_path(&[(1, 2, 0, &[1, 0])]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &first), []);

    // This one is dropped.
    pdu(9, 0);
    tap.lost(false);
    assert!(!tap.is_right());
    let events = feed(&mut tap, TO_CLIENT, &pdu(9, 0));
    assert!(undecoded(&events).error.contains("lost"), "{events:?}");
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 1, 0, &[0, 0])]));
    assert_eq!(
        undecoded(&events).error,
        "fragment of an update whose beginning is missing"
    );
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(0xA, 0, 0, &[3, 0])]));
    assert!(undecoded(&events).error.contains("nothing cached"), "{events:?}");
    // One byte a pixel: index 9, of a palette that may be another one by now.
    let index = Bitmap::new(0, 0, 4, 1, 8, 0, &[9; 4]);
    let events = feed(
        &mut tap,
        TO_CLIENT,
        &share_data(2, 0, &bitmap_update(std::slice::from_ref(&index))),
    );
    assert!(undecoded(&events).error.contains("palette"), "{events:?}");
    let mut palette = vec![2, 0, 0, 0, 0, 1, 0, 0];
    palette.extend([7; 768]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &share_data(2, 0, &palette)), []);
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, 0, &bitmap_update(&[index])));
    assert_eq!(events, [rect(0, 0, 4, 1)]);
    assert!(!tap.is_right());

    // The sender starts anew, also while the gap goes on.
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let (length, flags) = sender.compress(&[5; 300]).unwrap();
    let flags = u8::try_from(flags).unwrap() | 0x80;
    tap.skip(TO_CLIENT, &share_data(99, flags, sender.compressed_data(length)));
    assert!(tap.is_right());
}

#[test]
fn a_lost_activation_is_waited_for() {
    let mut tap = active(16, 16);
    tap.lost(true);
    assert!(!tap.is_right());
    tap.skip(TO_DESKTOP, &confirm_active(&[]));
    assert!(!tap.is_right(), "that one confirms what was lost");
    tap.skip(TO_CLIENT, &demand_active(20, 16));
    assert!(!tap.is_right(), "its codecs are not known yet");
    tap.lost(false);
    tap.skip(TO_DESKTOP, &confirm_active(&[]));
    assert!(tap.is_right());
}

#[test]
fn activations_are_found_among_other_pdus() {
    let plain = [share_data(2, 0, &[0; 8]), fast_path(&[(3, 0, 0, &[])])].concat();
    let deactivate = share_control(6, &[0; 6]);
    for pdu in [demand_active(8, 8), confirm_active(&[]), deactivate] {
        assert!(has_activation(1003, &[&plain[..], &pdu].concat()));
        assert!(!has_activation(1004, &pdu), "another channel");
    }
    assert!(!has_activation(1003, &plain));
    assert!(!has_activation(1003, &[]) && !has_activation(1003, &[3, 0]));
}

#[test]
fn lost_bulk_history_is_reported_until_it_is_flushed() {
    let mut tap = active(16, 16);
    let data = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[Bitmap::new(0, 0, 16, 16, 32, 0x401, &data)]);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let (length, flags) = sender.compress(&update).unwrap();
    let flags = u8::try_from(flags).unwrap();
    let compressed = sender.compressed_data(length).to_vec();
    let fault = |events: &[TapEvent]| {
        let fault = undecoded(events).clone();
        assert_eq!(fault.kind, UndecodedKind::Bulk);
        fault
    };
    // An impossible code in the bit stream.
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, flags, &[0xFF; 20]));
    assert_eq!(fault(&events).data, [0xFF; 20]);
    let events = feed(&mut tap, TO_CLIENT, &fast_path(&[(1, 0, flags & !0x80, &compressed)]));
    assert_eq!(fault(&events).data, compressed);
    // What is not compressed still decodes.
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(2, 0, &update)),
        [rect(0, 0, 16, 16)]
    );
    let events = feed(&mut tap, TO_CLIENT, &share_data(2, flags | 0x80, &compressed));
    assert!(
        matches!(events[..], [TapEvent::RefreshWanted { .. }, TapEvent::Damage(_)]),
        "{events:?}"
    );
}

#[test]
fn session_facts() {
    let mut tap = active(8, 8);
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(47, 0, &[3, 0, 0, 0])),
        [TapEvent::ErrorInfo { code: 3 }]
    );
    assert_eq!(
        feed(&mut tap, TO_CLIENT, &share_data(38, 0, &[2, 0, 0, 0])),
        [TapEvent::Logon(Logon::default())]
    );
    // Two share control PDUs in one: a known one of no interest, then a pointer.
    let both = [
        share_control_body(7, &data_body(55, 0, &[0; 8])),
        share_control_body(7, &data_body(27, 0, &[1, 0, 0, 0, 0, 0, 0, 0])),
    ];
    let events = feed(&mut tap, TO_CLIENT, &mcs(TO_CLIENT, 1003, &both.concat()));
    assert_eq!(events, [TapEvent::Pointer(PointerEvent::Hidden)]);
    // A disconnect, another channel, the end of the transport: nothing.
    for pdu in [
        &[3, 0, 0, 9, 2, 0xF0, 0x80, 0x21, 0x80][..],
        &mcs(TO_CLIENT, 1004, b"xxxxxxxxxxxx"),
        &[3, 0, 0, 7, 2, 0x80, 0x80],
    ] {
        assert_eq!(feed(&mut tap, TO_CLIENT, pdu), []);
    }
}

#[test]
fn clipboard_text_only_when_asked_for() {
    let request = [1, 0, 0, 0, 0, 0, 0, 0];
    let chunk = |direction, body: &[u8]| {
        let length = u32::try_from(body.len()).unwrap().to_le_bytes();
        mcs(direction, 1005, &[&length[..], &[3, 0, 0, 0], body].concat())
    };
    let ask = chunk(TO_CLIENT, &[4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0]);
    let give = chunk(
        TO_DESKTOP,
        &[5, 0, 1, 0, 6, 0, 0, 0, b's', b'e', b'c', b'r', b'e', b't'],
    );
    let clipboard = |clipboard| TapConfig { clipboard, ..config() };
    let mut tap = Tap::new(clipboard(ClipboardLevel::None));
    feed(&mut tap, TO_CLIENT, &ask);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &give), []);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &chunk(TO_DESKTOP, &request[..5])), []);
    for (level, limit) in [(ClipboardLevel::Facts, 0), (ClipboardLevel::Text, 100)] {
        let mut tap = Tap::new(clipboard(level));
        feed(&mut tap, TO_CLIENT, &ask);
        let events = feed(&mut tap, TO_DESKTOP, &give);
        let [TapEvent::Clipboard(event)] = &events[..] else {
            panic!("{events:?}")
        };
        let ClipboardContent::Data {
            format: Some(1),
            length: 6,
            text,
            ..
        } = &event.content
        else {
            panic!("{event:?}")
        };
        assert_eq!(text.as_deref(), (limit > 0).then_some("secret"));
        let fault = undecoded(&feed(&mut tap, TO_DESKTOP, &chunk(TO_DESKTOP, &request[..5])))
            .data
            .len();
        assert_eq!(fault, if limit > 0 { 5 } else { 0 });
    }
}

/// Whatever comes, our own code does not panic, damage lies inside the picture and the fourth byte stays 255.
#[track_caller]
fn assert_sane(tap: &Tap, events: &[TapEvent]) {
    for event in events {
        match event {
            TapEvent::Damage(rect) => {
                let picture = tap.picture().unwrap();
                assert!(rect.width > 0 && rect.height > 0);
                assert!(
                    u32::from(rect.x) + u32::from(rect.width) <= u32::from(picture.width),
                    "{rect:?}"
                );
                assert!(
                    u32::from(rect.y) + u32::from(rect.height) <= u32::from(picture.height),
                    "{rect:?}"
                );
            }
            TapEvent::Undecoded(undecoded) => assert!(!undecoded.error.contains("tap panicked"), "{undecoded:?}"),
            _ => {}
        }
    }
    if let Some(picture) = tap.picture() {
        assert!(picture.rgba.chunks(4).all(|pixel| pixel[3] == 255));
    }
}

fn samples() -> Vec<(Direction, Vec<u8>)> {
    let bitmap = planar(16, 16, &pattern(16, 16, 4));
    let update = bitmap_update(&[
        Bitmap::new(3, 3, 16, 16, 32, 0x401, &bitmap),
        Bitmap::new(0, 1, 4, 1, 16, 0x401, &[0x64, 0x1F, 0x00]),
        Bitmap::new(0, 1, 3, 1, 24, 0, &[9; 12]),
    ]);
    let mut surface = surface_bits(
        0,
        0,
        64,
        64,
        3,
        32,
        &remote_fx(64, 64, &[(0, 0, 30, 30)], &[(0, 0, [90, 9, 90])]),
    );
    surface.extend(surface_bits(7, 7, 2, 2, 0, 32, &[5; 16]));
    surface.extend(frame_marker(1, 2));
    let shape = pointer_shape(Some(32), 3, (0, 0), (1, 1), &[3, 2, 1, 255], &[0, 0]);
    let mut sender = BulkCompressor::new(CompressionType::Rdp5);
    let (length, flags) = sender.compress(&update).unwrap();
    let compressed = share_data(2, u8::try_from(flags).unwrap(), sender.compressed_data(length));
    vec![
        (TO_CLIENT, share_data(2, 0, &update)),
        (TO_CLIENT, fast_path(&[(1, 0, 0, &update)])),
        (TO_CLIENT, fast_path(&[(4, 0, 0, &surface)])),
        (TO_CLIENT, fast_path(&[(0xB, 0, 0, &shape), (0xA, 0, 0, &[3, 0])])),
        (TO_CLIENT, compressed),
        (TO_CLIENT, demand_active(40, 30)),
        (TO_DESKTOP, confirm_active(&[(0x7677_2F12, 3)])),
        (TO_DESKTOP, fast_path_input(0, 2, &[0, 0x1E, 1 << 5, 0, 8, 1, 0, 1, 0])),
        (
            TO_DESKTOP,
            share_data_to_desktop(28, &[1, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0x1E, 0, 0, 0]),
        ),
    ]
}

proptest! {
    #[test]
    fn noise_does_no_harm(pdus in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..20)) {
        let mut tap = active(40, 30);
        for (to_client, mut pdu) in pdus {
            let direction = if to_client { TO_CLIENT } else { TO_DESKTOP };
            // Half of the time as a fast-path PDU with sound framing, so that the noise gets further in.
            if pdu.first().is_some_and(|byte| byte & 1 == 0) {
                let length = u8::try_from(pdu.len() + 2).unwrap();
                pdu.splice(0..0, [0, length]);
            }
            let events = feed(&mut tap, direction, &pdu);
            assert_sane(&tap, &events);
        }
    }

    #[test]
    fn updates_of_noise_do_no_harm(
        code in 0u8..16,
        kind in 0u8..4,
        noise in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..4], 0..200),
    ) {
        let mut tap = active(40, 30);
        let with_type = [&[kind, 0][..], &noise].concat();
        for pdu in [
            fast_path(&[(code, 0, 0, &noise)]),
            fast_path(&[(code, 0, 0, &with_type)]),
            share_data(2, 0, &with_type),
            share_data(27, 0, &with_type),
            share_data(2, 0x21, &noise),
            mcs(TO_CLIENT, 1005, &[&[9, 0, 0, 0, 3, 0, 0, 0][..], &with_type].concat()),
        ] {
            let events = feed(&mut tap, TO_CLIENT, &pdu);
            assert_sane(&tap, &events);
        }
    }

    #[test]
    fn mutated_pdus_do_no_harm(
        mutations in prop::collection::vec((0usize..9, any::<prop::sample::Index>(), any::<u8>(), 0u8..3), 1..30),
    ) {
        let samples = samples();
        let mut tap = active(40, 30);
        for (sample, at, byte, how) in mutations {
            let (direction, mut pdu) = samples[sample].clone();
            let at = at.index(pdu.len());
            match how {
                0 => pdu[at] = byte,
                1 => pdu.truncate(at),
                _ => pdu[at] ^= 1 << (byte & 7),
            }
            // Sizes are bounded elsewhere; huge pictures would only make this slow.
            let events = feed(&mut tap, direction, &pdu);
            if tap.picture().is_some_and(|picture| picture.rgba.len() > 1 << 20) {
                tap = active(40, 30);
            } else {
                assert_sane(&tap, &events);
            }
        }
    }
}
