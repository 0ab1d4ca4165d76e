//! Fingers, pens and monitors: what passes beside the picture on dynamic channels and in share data.

use super::*;
use crate::wire::channel::single_chunk;
use crate::wire::dvc;
use crate::wire::egfx::{command, encode};
use crate::wire::monitor::{DISPLAY_CHANNEL, Monitor};
use crate::wire::touch::{CHANNEL, Contact, State};

const DRDYNVC: u16 = 1006;
/// What FreeRDP writes for a finger that goes down at 300, 200.
const FINGER: [u8; 25] = [
    3, 0, 25, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0x41, 0x2C, 0x40, 0xC8, 0x19, 0x81, 0x2A, 0x80, 0xC6, 0x81, 0x2E, 0x80, 0xCA,
];
const TWO: [[i32; 5]; 2] = [[0, 0, 1919, 1079, 1], [-1280, 56, -1, 1079, 0]];

fn with(input: InputLevel, graphics: bool, monitors: &[[i32; 5]]) -> Tap {
    let mut tap = Tap::new(TapConfig {
        channels: vec![StaticChannel {
            id: DRDYNVC,
            name: "drdynvc".to_owned(),
        }],
        input,
        graphics,
        monitors: monitors.iter().map(monitor).collect(),
        ..TapConfig::default()
    });
    feed(&mut tap, TO_CLIENT, &demand_active(32, 32));
    feed(&mut tap, TO_DESKTOP, &confirm_active(&[]));
    tap
}

fn monitor(&[left, top, right, bottom, primary]: &[i32; 5]) -> Monitor {
    Monitor {
        left,
        top,
        right,
        bottom,
        primary: primary != 0,
    }
}

fn words(count: u32, monitors: &[[i32; 5]]) -> Vec<u8> {
    let words = monitors.iter().flatten().flat_map(|word| word.to_le_bytes());
    count.to_le_bytes().into_iter().chain(words).collect()
}

fn chunk(direction: Direction, pdu: &[u8]) -> Vec<u8> {
    mcs(direction, DRDYNVC, &single_chunk(pdu))
}

fn create(id: u8, name: &str) -> Vec<u8> {
    chunk(TO_CLIENT, &[&[0x10, id][..], name.as_bytes(), &[0]].concat())
}

fn says(id: u8, message: &[u8]) -> Vec<u8> {
    chunk(TO_DESKTOP, &[&[0x30, id][..], message].concat())
}

/// A layout that the client asks for.
fn wish(width: u8) -> Vec<u8> {
    let mut message = vec![2, 0, 0, 0, 56, 0, 0, 0, 40, 0, 0, 0, 1, 0, 0, 0];
    message.extend([1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, width, 0, 0, 0, 100, 0, 0, 0]);
    message.resize(56, 0);
    message
}

fn down() -> TapEvent {
    TapEvent::Input(InputEvent::Contact(Contact {
        pen: false,
        id: 0,
        state: State::Down,
        x: 300,
        y: 200,
        pressure: None,
        pen_flags: 0,
    }))
}

fn asked(width: i32) -> TapEvent {
    TapEvent::Monitors {
        asked: true,
        monitors: vec![monitor(&[0, 0, width - 1, 99, 1])],
    }
}

fn shown(monitors: &[[i32; 5]]) -> TapEvent {
    TapEvent::Monitors {
        asked: false,
        monitors: monitors.iter().map(monitor).collect(),
    }
}

#[test]
fn fingers_are_told_as_the_mouse_is() {
    for graphics in [false, true] {
        for (level, told) in [
            (InputLevel::None, vec![]),
            (InputLevel::Mouse, vec![down()]),
            (InputLevel::All, vec![down()]),
        ] {
            let mut tap = with(level, graphics, &[]);
            assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), [], "not opened");
            feed(&mut tap, TO_CLIENT, &create(4, CHANNEL));
            assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), told);
            // in parts
            let (first, rest) = FINGER.split_at(9);
            let first = chunk(TO_DESKTOP, &[&[0x20, 4, 25][..], first].concat());
            assert_eq!(feed(&mut tap, TO_DESKTOP, &first), []);
            assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, rest)), told);
            // the desktop says the same bytes of another channel, and closes this one
            feed(&mut tap, TO_CLIENT, &create(5, "ECHO"));
            assert_eq!(feed(&mut tap, TO_DESKTOP, &says(5, &FINGER)), []);
            feed(&mut tap, TO_CLIENT, &chunk(TO_CLIENT, &[0x40, 4]));
            assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), []);
        }
    }
}

#[test]
fn what_is_no_touch_is_evidence_without_its_bytes() {
    let mut tap = with(InputLevel::Mouse, false, &[]);
    feed(&mut tap, TO_CLIENT, &create(4, CHANNEL));
    let events = feed(&mut tap, TO_DESKTOP, &says(4, &FINGER[..20]));
    let fault = undecoded(&events);
    assert_eq!(
        (fault.kind, fault.length, fault.data.len()),
        (UndecodedKind::Input, 20, 0)
    );
    // too long: said once, and followed to its end
    let long = chunk(TO_DESKTOP, &[&[0x28, 4, 1, 0, 1, 0][..], &[3; 1000]].concat());
    assert!(
        undecoded(&feed(&mut tap, TO_DESKTOP, &long))
            .error
            .contains("65537 bytes")
    );
    for _ in 0..64 {
        assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &[3; 1000])), []);
    }
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &[3; 537])), []);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), [down()]);
    // more than was said
    let first = chunk(TO_DESKTOP, &[0x20, 4, 2, 3]);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &first), []);
    undecoded(&feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)));
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), [down()]);
    // numbers beyond the limit are not followed
    for id in 10..25 {
        assert_eq!(feed(&mut tap, TO_CLIENT, &create(id, CHANNEL)), []);
    }
    undecoded(&feed(&mut tap, TO_CLIENT, &create(25, CHANNEL)));
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(25, &FINGER)), []);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(24, &FINGER)), [down()]);
}

/// What a desktop may find where it reads by the lengths in the messages, or in more than clients say at once.
#[test]
fn nothing_hides_behind_a_message() {
    let mut tap = with(InputLevel::Mouse, false, &[]);
    feed(&mut tap, TO_CLIENT, &create(4, CHANNEL));
    feed(&mut tap, TO_CLIENT, &create(5, DISPLAY_CHANNEL));
    let hovering_ends = [6, 0, 7, 0, 0, 0, 3];
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &hovering_ends)), []);
    for front in [&hovering_ends[..], &FINGER] {
        let events = feed(&mut tap, TO_DESKTOP, &says(4, &[front, &FINGER].concat()));
        assert_eq!(undecoded(&events).length, front.len() + FINGER.len());
    }
    let mut two = FINGER;
    two[2] = 50;
    let events = feed(&mut tap, TO_DESKTOP, &says(4, &[&two[..], &FINGER].concat()));
    assert_eq!(events[0], down());
    assert_eq!(undecoded(&events[1..]).length, 50);
    undecoded(&feed(&mut tap, TO_DESKTOP, &says(5, &[wish(80), wish(90)].concat())));

    // a chunk longer than any client's
    let long = [&FINGER[..], &[0; 9000]].concat();
    assert_eq!(undecoded(&feed(&mut tap, TO_DESKTOP, &says(4, &long))).length, 9025);
}

#[test]
fn monitors_are_told_where_they_become_others() {
    let mut tap = with(InputLevel::None, true, &TWO);
    let layout = |monitors: &[[i32; 5]]| share_data(55, 0, &words(monitors.len() as u32, monitors));
    assert_eq!(feed(&mut tap, TO_CLIENT, &layout(&TWO)), [], "as at the start");
    let three = [TWO[0], TWO[1], [1920, 0, 2719, 599, 0]];
    assert_eq!(feed(&mut tap, TO_CLIENT, &layout(&three)), [shown(&three)]);
    assert_eq!(feed(&mut tap, TO_CLIENT, &layout(&three)), []);
    assert_eq!(feed(&mut tap, TO_CLIENT, &layout(&TWO[..1])), [shown(&[])]);
    undecoded(&feed(&mut tap, TO_CLIENT, &share_data(55, 0, &words(3, &TWO))));

    // the client's wishes, each once
    feed(&mut tap, TO_CLIENT, &create(7, DISPLAY_CHANNEL));
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(7, &wish(80))), [asked(80)]);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(7, &wish(80))), []);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(7, &wish(90))), [asked(90)]);
    undecoded(&feed(&mut tap, TO_DESKTOP, &says(7, &wish(0))));

    // what a gap has swallowed is told at its end, or when the client says it again
    tap.skip(TO_CLIENT, &layout(&TWO));
    tap.skip(TO_DESKTOP, &says(7, &wish(70)));
    let mut out = Vec::new();
    tap.restart(&mut out);
    assert!(out.contains(&shown(&TWO)), "{out:?}");
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(7, &wish(70))), [asked(70)]);
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(7, &wish(70))), []);
    out.clear();
    tap.restart(&mut out);
    assert!(!out.contains(&shown(&TWO)), "{out:?}");
}

#[test]
fn the_graphics_pipeline_tells_of_monitors() {
    let mut tap = with(InputLevel::None, true, &[]);
    feed(&mut tap, TO_CLIENT, &create(9, crate::wire::egfx::CHANNEL));
    feed(&mut tap, TO_DESKTOP, &chunk(TO_DESKTOP, &dvc::create_response(9, 0)));
    let mut reset = |width: u32, count: u32, monitors: &[[i32; 5]]| {
        let size = [width.to_le_bytes(), 600_u32.to_le_bytes()].concat();
        let mut body = [size, words(count, monitors)].concat();
        body.resize(332, 0);
        let message = [vec![0xE0, 4], encode(command::RESET_GRAPHICS, &body)].concat();
        feed(
            &mut tap,
            TO_CLIENT,
            &chunk(TO_CLIENT, &[&[0x30, 9][..], &message].concat()),
        )
    };
    let sides = [[0, 0, 799, 599, 1], [800, 0, 1599, 599, 0]];
    let resized = |width| TapEvent::Resized { width, height: 600 };
    assert_eq!(reset(1600, 2, &sides), [resized(1600), shown(&sides)]);
    assert_eq!(reset(1600, 2, &sides), []);
    assert_eq!(reset(800, 1, &sides[..1]), [resized(800), shown(&[])]);
    // its size counts all the same
    let events = reset(1600, 65, &sides);
    assert_eq!(events[0], resized(1600));
    assert_eq!(undecoded(&events[1..]).kind, UndecodedKind::GraphicsCommand);
}

#[test]
fn numbers_of_channels_that_were_lost_are_not_guessed() {
    let mut tap = with(InputLevel::Mouse, false, &[]);
    feed(&mut tap, TO_CLIENT, &create(4, CHANNEL));
    let first = chunk(TO_DESKTOP, &[0x20, 4, 25, 3, 0]);
    feed(&mut tap, TO_DESKTOP, &first);
    // the rest of it is dropped
    tap.lost(Loss::default());
    assert!(tap.is_right());
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), [down()]);
    tap.lost(Loss {
        channels: true,
        ..Loss::default()
    });
    assert!(tap.is_right(), "the picture needs none of them");
    assert_eq!(feed(&mut tap, TO_DESKTOP, &says(4, &FINGER)), []);
    let mut out = Vec::new();
    tap.restart(&mut out);
    let told = |event: &TapEvent| matches!(event, TapEvent::Undecoded(fault) if fault.error.contains("opens their channels anew"));
    assert_eq!(out.iter().filter(|event| told(event)).count(), 1, "{out:?}");
    // the first of them may have been opened just then
    let mut other = with(InputLevel::Mouse, false, &[]);
    other.lost(Loss {
        channels: true,
        ..Loss::default()
    });
    out.clear();
    other.restart(&mut out);
    assert_eq!(out.iter().filter(|event| told(event)).count(), 1, "{out:?}");
    // a number of a form that there is not, which FreeRDP takes for four bytes
    undecoded(&feed(
        &mut tap,
        TO_DESKTOP,
        &chunk(TO_DESKTOP, &[0x33, 4, 0, 0, 0, 3, 0]),
    ));
}

proptest! {
    /// Whatever a client says on these channels, in whatever parts: nothing panics, and a whole touch behind it is told.
    #[test]
    fn messages_of_noise_do_no_harm(
        parts in prop::collection::vec(
            (0u8..3, any::<bool>(), any::<u16>(), prop::collection::vec(prop_oneof![any::<u8>(), 0u8..9], 0..60)),
            0..30,
        ),
    ) {
        let mut tap = with(InputLevel::Mouse, false, &TWO);
        feed(&mut tap, TO_CLIENT, &create(4, CHANNEL));
        feed(&mut tap, TO_CLIENT, &create(5, DISPLAY_CHANNEL));
        for (channel, first, length, noise) in parts {
            let [low, high] = length.to_le_bytes();
            let head = if first { vec![0x24, 4 + channel, low, high] } else { vec![0x30, 4 + channel] };
            let events = feed(&mut tap, TO_DESKTOP, &chunk(TO_DESKTOP, &[head, noise].concat()));
            for event in events {
                if let TapEvent::Undecoded(undecoded) = event {
                    prop_assert!(!undecoded.error.contains("panicked"), "{:?}", undecoded);
                }
            }
        }
        let whole = chunk(TO_DESKTOP, &[&[0x20, 4, 25][..], &FINGER].concat());
        prop_assert_eq!(feed(&mut tap, TO_DESKTOP, &whole), [down()]);
    }
}
