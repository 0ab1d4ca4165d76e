//! Whole PDUs through the tap, built with IronRDP's encoders where there are any.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bitmaps;
mod build;
mod deferred;
mod gaps;
mod graphics;
mod hostile;
mod side;
mod surfaces;

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
    let mut facts = FactsTap::new(&config());
    feed(&mut tap, TO_CLIENT, &ask);
    facts.pdus(TO_CLIENT, &ask);
    let told = TapEvent::Clipboard(ClipboardEvent {
        direction: TO_DESKTOP,
        content: ClipboardContent::Data {
            format: Some(1),
            length: 6,
            sha256: None,
            text: None,
        },
    });
    assert_eq!(feed(&mut tap, TO_DESKTOP, &give), std::slice::from_ref(&told));
    assert_eq!(facts.pdus(TO_DESKTOP, &give), [told]);
    let broken = chunk(TO_DESKTOP, &request[..5]);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &broken), []);
    assert_eq!(facts.pdus(TO_DESKTOP, &broken), []);
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
