//! What the tap reports, as events of the recording.

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_rdp::phase::Monitor;
use deskreel_rdp::tap::{self, ClipboardContent, InputEvent, KeyCode, MouseButton, PointerEvent};
use deskreel_rdp::wire::touch;
use deskreel_recording::Rect;
use deskreel_recording::event::{
    Button, Clipboard, ClipboardFormat, ClipboardKind, Contact, ContactState, Input, KeyContent, MonitorFacts, Pointer,
    PointerShape, Position, SessionEvent, Transfer, Undecoded,
};

/// What a pen says of itself ([MS-RDPEI] 2.2.3.7.1.1): its button, its two ways of rubbing out.
const PEN_BARREL: u32 = 1;
const PEN_ERASER: u32 = 2 | 4;

pub(super) fn rect(rect: tap::Rect) -> Rect {
    Rect {
        x: rect.x,
        y: rect.y,
        width: rect.width,
        height: rect.height,
    }
}

/// # Errors
/// A shape above the format's limits; the tap keeps them, so this is a defect.
pub(super) fn pointer(event: &PointerEvent) -> deskreel_recording::Result<Pointer> {
    let shape = |shape| Pointer {
        visible: Some(true),
        shape: Some(shape),
        position: None,
    };
    Ok(match event {
        PointerEvent::Shape(picture) => shape(PointerShape::image(
            picture.width,
            picture.height,
            picture.hotspot_x,
            picture.hotspot_y,
            &picture.rgba,
        )?),
        PointerEvent::Default => shape(PointerShape::Default),
        PointerEvent::Hidden => Pointer {
            visible: Some(false),
            ..Pointer::default()
        },
        PointerEvent::Position { x, y } => Pointer {
            position: Some(Position { x: *x, y: *y }),
            ..Pointer::default()
        },
    })
}

/// `None` for what the format doesn't hold: relative moves (the desktop reports where the pointer is) and lock keys.
pub(super) fn input(event: InputEvent) -> Option<Input> {
    Some(match event {
        InputEvent::Move { x, y } => Input::MouseMove { x, y },
        InputEvent::Button { button, down, x, y } => Input::MouseButton {
            button: mouse_button(button),
            down,
            x,
            y,
        },
        InputEvent::Wheel {
            horizontal,
            units,
            x,
            y,
        } => Input::Wheel {
            horizontal,
            delta: units,
            x,
            y,
        },
        InputEvent::Key { down, code } => Input::Key {
            down,
            content: Some(key(code)),
        },
        InputEvent::Contact(contact) => {
            let told = Contact {
                id: contact.id,
                state: contact_state(contact.state),
                x: contact.x,
                y: contact.y,
                pressure: contact.pressure,
                eraser: contact.pen_flags & PEN_ERASER != 0,
                barrel: contact.pen_flags & PEN_BARREL != 0,
            };
            if contact.pen {
                Input::Pen(told)
            } else {
                Input::Touch(told)
            }
        }
        InputEvent::MoveBy { .. } | InputEvent::Locks { .. } => return None,
    })
}

fn contact_state(state: touch::State) -> ContactState {
    match state {
        touch::State::Down => ContactState::Down,
        touch::State::Move => ContactState::Move,
        touch::State::Up => ContactState::Up,
        touch::State::Hover => ContactState::Hover,
        touch::State::Leave => ContactState::Leave,
        touch::State::Canceled => ContactState::Canceled,
    }
}

/// Where monitors are in the picture that they make up together.
pub(super) fn monitors(monitors: &[Monitor]) -> Vec<MonitorFacts> {
    let left = monitors.iter().map(|monitor| monitor.left).min().unwrap_or_default();
    let top = monitors.iter().map(|monitor| monitor.top).min().unwrap_or_default();
    // Edges are inclusive; a peer may claim anything.
    let between = |from: i32, to: i32| (i64::from(to) - i64::from(from)).max(0).unsigned_abs();
    let length = |from: i32, to: i32| (i64::from(to) - i64::from(from) + 1).max(0).unsigned_abs();
    let place = |monitor: &Monitor| MonitorFacts {
        x: between(left, monitor.left),
        y: between(top, monitor.top),
        width: length(monitor.left, monitor.right),
        height: length(monitor.top, monitor.bottom),
        primary: monitor.primary,
    };
    monitors.iter().map(place).collect()
}

fn mouse_button(button: MouseButton) -> Button {
    match button {
        MouseButton::Left => Button::Left,
        MouseButton::Right => Button::Right,
        MouseButton::Middle => Button::Middle,
        MouseButton::X1 => Button::X1,
        MouseButton::X2 => Button::X2,
    }
}

fn key(code: KeyCode) -> KeyContent {
    match code {
        KeyCode::Scan { code, prefix } => KeyContent {
            scancode: Some(code),
            extended: prefix == 0xE0,
            unicode: None,
        },
        KeyCode::Unicode(unit) => KeyContent {
            unicode: Some(unit),
            ..KeyContent::default()
        },
    }
}

/// `None` for questions and refusals: only offers and what went over are recorded.
pub(super) fn clipboard(event: tap::ClipboardEvent) -> Option<Clipboard> {
    let direction = match event.direction {
        Direction::ToClient => Transfer::ToClient,
        Direction::ToDesktop => Transfer::ToDesktop,
    };
    let transferred = |formats, length, sha256: Option<[u8; 32]>, text| Clipboard {
        kind: ClipboardKind::Transferred,
        direction,
        formats,
        length: Some(length),
        sha256: sha256.map(hex::encode),
        text,
    };
    Some(match event.content {
        ClipboardContent::Formats(formats) => Clipboard {
            kind: ClipboardKind::Offered,
            direction,
            formats: formats
                .into_iter()
                .map(|format| ClipboardFormat {
                    id: format.id,
                    name: format.name,
                })
                .collect(),
            length: None,
            sha256: None,
            text: None,
        },
        ClipboardContent::Data {
            format,
            length,
            sha256,
            text,
        } => {
            let formats = format
                .map(|id| ClipboardFormat {
                    id,
                    name: String::new(),
                })
                .into_iter()
                .collect();
            transferred(formats, length, sha256, text)
        }
        ClipboardContent::FileData { length, sha256 } => {
            let file = ClipboardFormat {
                id: 0,
                name: "FileContents".to_owned(),
            };
            transferred(vec![file], length, sha256, None)
        }
        ClipboardContent::Request { .. } | ClipboardContent::Refused | ClipboardContent::FileRequest { .. } => {
            return None;
        }
    })
}

/// `keep`: with the raw bytes, or only that there were some.
pub(super) fn undecoded(undecoded: tap::Undecoded, keep: bool) -> Undecoded {
    Undecoded {
        what: undecoded.kind.as_str().to_owned(),
        codec_id: undecoded.codec_id,
        rect: undecoded.rect.map(rect),
        error: undecoded.error,
        length: undecoded.length as u64,
        pdu: if keep {
            Bytes::from(undecoded.data)
        } else {
            Bytes::new()
        },
    }
}

/// What a desktop says of a logon that did not go through, or not yet ([MS-RDPBCGR] 2.2.10.1.1.4.1.1). Only where it says for
/// certain that nobody is logged on, the logon has failed.
pub(super) fn logon_error(notification: u32, data: u32) -> SessionEvent {
    let (is_over, next) = match notification {
        0xFFFF_FFF9 => (true, "the session that is there can't be taken over"),
        0xFFFF_FFFA => (true, "the account may not log on"),
        0xFFFF_FFFB => (false, "the desktop asks which session to end"),
        0xFFFF_FFFC => (false, "the desktop asks which session to go on with"),
        0xFFFF_FFFD => (true, "the desktop ends the session"),
        0xFFFF_FFFE => (false, "the logon goes on"),
        _ => (false, "the desktop says something of the logon"),
    };
    let (is_refused, what) = match data {
        0 => (true, "wrong user name or password"),
        1 => (true, "the password must be changed"),
        2 => (false, "another reason"),
        3 => (false, "a warning"),
        _ => (false, "a session's number"),
    };
    let detail = format!("{next} ({notification:#x}): {what} ({data:#x})");
    if is_over || (notification == 0xFFFF_FFFE && is_refused) {
        return SessionEvent::Logon {
            ok: false,
            login: None,
            detail: Some(detail),
        };
    }
    SessionEvent::Alert {
        name: "logon".to_owned(),
        detail,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_logon_has_failed_where_the_desktop_says_so() {
        for (notification, data, failed, words) in [
            (0xFFFF_FFFE, 0, true, "wrong user name or password"),
            (0xFFFF_FFFE, 1, true, "must be changed"),
            (0xFFFF_FFFE, 2, false, "another reason"),
            (0xFFFF_FFFA, 2, true, "may not log on"),
            (0xFFFF_FFFD, 7, true, "ends the session"),
            (0xFFFF_FFFC, 7, false, "which session to go on with"),
            (5, 9, false, "(0x5)"),
        ] {
            let (is_failed, detail) = match logon_error(notification, data) {
                SessionEvent::Logon { ok, detail, .. } => (!ok, detail.unwrap_or_default()),
                SessionEvent::Alert { detail, .. } => (false, detail),
                other => panic!("{other:?}"),
            };
            assert_eq!(is_failed, failed, "{detail}");
            assert!(detail.contains(words), "{detail}");
        }
    }
}
