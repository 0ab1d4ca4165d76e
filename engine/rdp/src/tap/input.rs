//! What the user does: fast-path input ([MS-RDPBCGR] 2.2.8.1.2) and slow-path input (2.2.8.1.1).

use super::InputLevel;
use super::event::{InputEvent, KeyCode, MouseButton, TapEvent, UndecodedKind};
use super::reader::Reader;
use super::sink::Sink;

const POINTER_WHEEL_NEGATIVE: u16 = 0x0100;
const POINTER_WHEEL: u16 = 0x0200;
const POINTER_HORIZONTAL_WHEEL: u16 = 0x0400;
const POINTER_MOVE: u16 = 0x0800;
const POINTER_DOWN: u16 = 0x8000;
const BUTTONS: [(u16, MouseButton); 3] = [
    (0x1000, MouseButton::Left),
    (0x2000, MouseButton::Right),
    (0x4000, MouseButton::Middle),
];
const EXTENDED_BUTTONS: [(u16, MouseButton); 2] = [(0x0001, MouseButton::X1), (0x0002, MouseButton::X2)];

/// Reports input events as far as it is asked to.
pub(super) struct Input {
    pub(super) level: InputLevel,
}

impl Input {
    /// Takes a fast-path PDU of the client after its length: `count` events, 0 when a byte says how many.
    pub(super) fn fast_path(&self, count: u8, data: &[u8], sink: &mut Sink<'_>) {
        if self.level == InputLevel::None {
            return;
        }
        let mut reader = Reader::new(data);
        let count = if count == 0 { reader.u8().unwrap_or(0) } else { count };
        for _ in 0..count {
            if self.fast_path_event(&mut reader, sink).is_none() {
                sink.undecoded(UndecodedKind::Input, "malformed fast-path input", data);
                return;
            }
        }
    }

    fn fast_path_event(&self, reader: &mut Reader<'_>, sink: &mut Sink<'_>) -> Option<()> {
        let header = reader.u8()?;
        let flags = header & 0x1F;
        let down = flags & 0x01 == 0;
        match header >> 5 {
            0 => {
                let code = KeyCode::Scan {
                    code: reader.u8()?.into(),
                    prefix: prefix(flags & 0x02 != 0, flags & 0x04 != 0),
                };
                self.key(down, code, sink);
            }
            1 => mouse(reader.u16()?, reader.u16()?, reader.u16()?, sink),
            2 => extended_mouse(reader.u16()?, reader.u16()?, reader.u16()?, sink),
            3 => self.locks(flags & 0x0F, sink),
            4 => self.key(down, KeyCode::Unicode(reader.u16()?), sink),
            5 => relative_mouse(reader.u16()?, reader.i16()?, reader.i16()?, sink),
            // A time stamp that says how fast the client paints.
            6 => reader.skip(4)?,
            _ => return None,
        }
        Some(())
    }

    /// Takes the body of an input share data PDU.
    pub(super) fn slow_path(&self, data: &[u8], sink: &mut Sink<'_>) {
        if self.level == InputLevel::None {
            return;
        }
        let mut reader = Reader::new(data);
        let count = reader.u16().unwrap_or(0);
        // Two bytes of padding.
        let _ = reader.skip(2);
        for _ in 0..count {
            if self.slow_path_event(&mut reader, sink).is_none() {
                sink.undecoded(UndecodedKind::Input, "malformed slow-path input", data);
                return;
            }
        }
    }

    fn slow_path_event(&self, reader: &mut Reader<'_>, sink: &mut Sink<'_>) -> Option<()> {
        // Four bytes of time that nobody fills.
        reader.skip(4)?;
        let kind = reader.u16()?;
        let mut body = Reader::new(reader.take(6)?);
        match kind {
            0 => {
                body.skip(2)?;
                self.locks(body.u8()? & 0x0F, sink);
            }
            // Unused.
            2 => {}
            4 => {
                let flags = body.u16()?;
                let code = KeyCode::Scan {
                    code: body.u16()?,
                    prefix: prefix(flags & 0x0100 != 0, flags & 0x0200 != 0),
                };
                self.key(flags & 0x8000 == 0, code, sink);
            }
            5 => {
                let flags = body.u16()?;
                self.key(flags & 0x8000 == 0, KeyCode::Unicode(body.u16()?), sink);
            }
            0x8001 => mouse(body.u16()?, body.u16()?, body.u16()?, sink),
            0x8002 => extended_mouse(body.u16()?, body.u16()?, body.u16()?, sink),
            0x8004 => relative_mouse(body.u16()?, body.i16()?, body.i16()?, sink),
            _ => return None,
        }
        Some(())
    }

    fn key(&self, down: bool, code: KeyCode, sink: &mut Sink<'_>) {
        if self.level == InputLevel::All {
            sink.push(TapEvent::Input(InputEvent::Key { down, code }));
        }
    }

    fn locks(&self, flags: u8, sink: &mut Sink<'_>) {
        if self.level == InputLevel::All {
            sink.push(TapEvent::Input(InputEvent::Locks { flags }));
        }
    }
}

fn prefix(extended: bool, extended1: bool) -> u8 {
    match (extended, extended1) {
        (_, true) => 0xE1,
        (true, false) => 0xE0,
        (false, false) => 0,
    }
}

fn mouse(flags: u16, x: u16, y: u16, sink: &mut Sink<'_>) {
    if flags & (POINTER_WHEEL | POINTER_HORIZONTAL_WHEEL) != 0 {
        let [low, _] = flags.to_le_bytes();
        // Nine bits, two's complement.
        let sign = if flags & POINTER_WHEEL_NEGATIVE != 0 { 0x100 } else { 0 };
        sink.push(TapEvent::Input(InputEvent::Wheel {
            horizontal: flags & POINTER_HORIZONTAL_WHEEL != 0,
            units: i16::from(low) - sign,
            x,
            y,
        }));
        return;
    }
    if flags & POINTER_MOVE != 0 {
        sink.push(TapEvent::Input(InputEvent::Move { x, y }));
    }
    buttons(&BUTTONS, flags, x, y, sink);
}

fn extended_mouse(flags: u16, x: u16, y: u16, sink: &mut Sink<'_>) {
    buttons(&EXTENDED_BUTTONS, flags, x, y, sink);
}

fn relative_mouse(flags: u16, dx: i16, dy: i16, sink: &mut Sink<'_>) {
    if flags & POINTER_MOVE != 0 {
        sink.push(TapEvent::Input(InputEvent::MoveBy { dx, dy }));
    }
    buttons(&BUTTONS, flags, 0, 0, sink);
    buttons(&EXTENDED_BUTTONS, flags, 0, 0, sink);
}

fn buttons(buttons: &[(u16, MouseButton)], flags: u16, x: u16, y: u16, sink: &mut Sink<'_>) {
    for (bit, button) in buttons {
        if flags & bit != 0 {
            sink.push(TapEvent::Input(InputEvent::Button {
                button: *button,
                down: flags & POINTER_DOWN != 0,
                x,
                y,
            }));
        }
    }
}
