#![allow(clippy::unwrap_used, reason = "tests")]

use deskreel_recording::event::{
    ClipboardFormat, Contact, ContactState, Gap, GapReason, KeyContent, MonitorFacts, NetworkFacts, Transfer,
};

use super::*;

const S: u64 = 1_000_000_000;

fn key(scancode: u16) -> Event {
    let content = KeyContent {
        scancode: Some(scancode),
        ..KeyContent::default()
    };
    Event::Input(Input::Key {
        down: true,
        content: Some(content),
    })
}

fn button(down: bool, x: u16) -> Event {
    Event::Input(Input::MouseButton {
        button: Button::Left,
        down,
        x,
        y: 20,
    })
}

/// The lines as `seconds text`.
fn told(events: &[(u64, Event)]) -> Vec<String> {
    let mut teller = Teller::default();
    let mut lines: Vec<Line> = events.iter().flat_map(|(at, event)| teller.take(*at, event)).collect();
    lines.extend(teller.end());
    assert!(lines.is_sorted_by_key(|(at, _)| *at), "{lines:?}");
    lines.iter().map(|(at, text)| format!("{} {text}", at / S)).collect()
}

#[test]
fn keys_are_words_and_stand_where_they_were_typed() {
    // l, s, Enter, then x, during which the wheel turns.
    let wheel = |delta| {
        Event::Input(Input::Wheel {
            horizontal: false,
            delta,
            x: 1,
            y: 2,
        })
    };
    let mut events = vec![
        (S, key(0x26)),
        (S + 1, key(0x1f)),
        (S + 2, key(0x1c)),
        (2 * S, key(0x2d)),
    ];
    events.extend([(3 * S, wheel(-120)), (3 * S + 1, wheel(-120)), (4 * S, wheel(120))]);
    events.push((5 * S, Event::Input(Input::MouseMove { x: 1, y: 1 })));
    assert_eq!(
        told(&events),
        [
            "1 Typed: ls",
            "1 Pressed Enter",
            "2 Typed: x",
            "3 Scrolled down at 1, 2",
            "4 Scrolled up at 1, 2"
        ]
    );
    let unnamed = Event::Input(Input::Key {
        down: true,
        content: None,
    });
    let keys = [1, 2, 9].map(|at| (at * S, unnamed.clone()));
    assert_eq!(
        told(&keys),
        [
            "1 Typed 2 keys; which ones is not recorded",
            "9 Typed 1 key; which one is not recorded"
        ]
    );
}

#[test]
fn where_fingers_and_pens_touch_is_told_and_monitors_are() {
    let contact = |state| Contact {
        id: 1,
        state,
        x: 30,
        y: -4,
        pressure: None,
        eraser: false,
        barrel: false,
    };
    let finger = |state| Event::Input(Input::Touch(contact(state)));
    let pen = Event::Input(Input::Pen(contact(ContactState::Down)));
    let side = |x| MonitorFacts {
        x,
        y: 0,
        width: 80,
        height: 60,
        primary: x == 0,
    };
    let monitors = |asked, monitors| Event::Session(SessionEvent::Monitors { asked, monitors });
    let events = [
        (S, key(0x26)),
        (2 * S, finger(ContactState::Down)),
        (3 * S, finger(ContactState::Move)),
        (4 * S, finger(ContactState::Up)),
        (5 * S, pen),
        (6 * S, monitors(true, vec![side(0), side(80)])),
        (7 * S, monitors(false, vec![side(0), side(80)])),
        (8 * S, monitors(false, Vec::new())),
    ];
    assert_eq!(
        told(&events),
        [
            "1 Typed: l",
            "2 Touched with a finger at 30, -4",
            "5 Touched with a pen at 30, -4",
            "6 The client asks for monitors: 80x60 at 0, 0; 80x60 at 80, 0",
            "7 The screen is several monitors: 80x60 at 0, 0; 80x60 at 80, 0",
            "8 The screen is one monitor"
        ]
    );
}

/// The gateway measures whenever it likes.
#[test]
fn measures_of_the_network_tear_no_word_apart() {
    let network = Event::Session(SessionEvent::Network(NetworkFacts {
        round_trip_ms: Some(12),
        ..NetworkFacts::default()
    }));
    assert!(Teller::passes_over(&network));
    let events = [(S, key(0x26)), (S + 1, network), (S + 2, key(0x1f))];
    assert_eq!(told(&events), ["1 Typed: ls"]);
}

#[test]
fn behind_what_is_missing_no_key_and_no_button_is_down() {
    let gap = Gap {
        from_ns: 2 * S,
        to_ns: 3 * S,
        reason: GapReason::QueueFull,
        detail: None,
    };
    let mut events = vec![(S, key(0x1d)), (S + 1, key(0x26)), (S + 2, button(true, 10))];
    events.push((3 * S, Event::Gap(gap)));
    events.extend([(4 * S, key(0x26)), (5 * S, button(false, 90))]);
    assert_eq!(
        told(&events),
        [
            "1 Pressed Ctrl+L",
            "1 Left click at 10, 20",
            "3 Not recorded from 00:00:02.000 to 00:00:03.000: queue full",
            "4 Typed: l"
        ]
    );
    let mut teller = Teller::default();
    for (at, code) in [(1, 0x26), (2, 0x1d)] {
        assert!(teller.take(at, &key(code)).is_empty());
    }
    assert_eq!(teller.lost(), [(1, "Typed: l".to_owned())]);
    teller.take(3, &key(0x1f));
    assert_eq!(teller.end(), [(3, "Typed: s".to_owned())]);
}

#[test]
fn clicks_and_drags() {
    let events = [
        (S, button(true, 10)),
        (2 * S, button(false, 12)),
        (3 * S, button(true, 10)),
        (4 * S, button(false, 90)),
    ];
    assert_eq!(
        told(&events),
        [
            "1 Left click at 10, 20",
            "3 Left click at 10, 20",
            "4 Dragged from 10, 20 to 90, 20 with the left button"
        ]
    );
}

#[test]
fn what_passes_is_told_once() {
    let mut clip = Clipboard {
        kind: ClipboardKind::Offered,
        direction: Transfer::ToDesktop,
        formats: vec![
            ClipboardFormat {
                id: 13,
                name: String::new(),
            },
            ClipboardFormat {
                id: 49_300,
                name: "HTML Format".to_owned(),
            },
        ],
        length: None,
        sha256: None,
        text: None,
    };
    let offered = Event::Clipboard(clip.clone());
    clip.kind = ClipboardKind::Transferred;
    clip.formats.truncate(1);
    (clip.length, clip.sha256, clip.text) = (Some(2), Some("ab".to_owned()), Some("hi".to_owned()));
    let mut file = Drive::new(DriveOperation::Read, "home/a".to_owned());
    file.bytes = Some(5);
    let piece = Event::Drive(file.clone());
    file.operation = DriveOperation::Close;
    (file.read, file.sha256) = (Some(5), Some("cd".to_owned()));
    let gap = Gap {
        from_ns: 6 * S,
        to_ns: 7 * S,
        reason: GapReason::QueueFull,
        detail: None,
    };
    let end = SessionEnd {
        reason: deskreel_recording::event::EndReason::OperatorEnded,
        detail: Some("enough".to_owned()),
        error_info: None,
    };
    let events = [
        (S, offered),
        (2 * S, Event::Clipboard(clip)),
        (3 * S, piece),
        (4 * S, Event::Drive(file)),
        (6 * S, Event::Gap(gap)),
        (8 * S, Event::Session(SessionEvent::End(end))),
    ];
    assert_eq!(
        told(&events),
        [
            "1 Clipboard offered to the desktop: text, HTML",
            "2 Clipboard transferred to the desktop, 2 bytes: hi",
            "4 File closed: home/a, 5 bytes to the desktop, SHA-256 cd",
            "6 Not recorded from 00:00:06.000 to 00:00:07.000: queue full",
            "8 The session ends: operator ended: enough"
        ]
    );
}
