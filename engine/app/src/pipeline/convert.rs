//! What the tap reports, as events of the recording.

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::{self, ClipboardContent, InputEvent, KeyCode, MouseButton, PointerEvent};
use deskreel_recording::Rect;
use deskreel_recording::event::{
    Button, Clipboard, ClipboardFormat, ClipboardKind, Input, KeyContent, Pointer, PointerShape, Position, Transfer,
    Undecoded,
};

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
        InputEvent::MoveBy { .. } | InputEvent::Locks { .. } => return None,
    })
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
