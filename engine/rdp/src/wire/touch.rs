//! Fingers and pens ([MS-RDPEI] 2.2): what the client says of them on a dynamic channel.

use super::cursor::{Cursor, WireError};

/// Name of the dynamic channel.
pub const CHANNEL: &str = "Microsoft::Windows::RDS::Input";
/// Longest message of the client; one of a touch has some hundred bytes.
pub const MESSAGE_MAX_BYTES: usize = 64 << 10;
/// Kinds of messages that come of a finger or a pen.
pub mod event {
    /// Fingers
    pub const TOUCH: u16 = 3;
    /// Pens
    pub const PEN: u16 = 8;
}

/// What is present of a finger: its rectangle, orientation, pressure.
const RECT: u16 = 1;
const ORIENTATION: u16 = 2;
const PRESSURE: u16 = 4;
/// What is present of a pen: flags, pressure, rotation, tilt in two directions.
const PEN_FLAGS: u16 = 1;
const PEN_PRESSURE: u16 = 2;
const PEN_REST: [u16; 3] = [4, 8, 16];

/// What became of a contact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It begins: the finger or pen touches.
    Down,
    /// It goes on, perhaps elsewhere.
    Move,
    /// It ends.
    Up,
    /// Near, without a touch.
    Hover,
    /// It is not near any more.
    Leave,
    /// It does not count: the client takes it back.
    Canceled,
}

impl State {
    /// Of the flags of a contact ([MS-RDPEI] 2.2.3.3.1.1).
    fn of(flags: u32) -> Self {
        let has = |bit: u32| flags & bit != 0;
        if has(0x20) {
            Self::Canceled
        } else if has(0x01) {
            Self::Down
        } else if has(0x04) {
            Self::Up
        } else if has(0x10) {
            Self::Move
        } else if has(0x08) {
            Self::Hover
        } else {
            Self::Leave
        }
    }
}

/// One finger or pen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contact {
    /// A pen rather than a finger.
    pub pen: bool,
    /// Which of them.
    pub id: u8,
    /// What became of it.
    pub state: State,
    /// Column in the picture; may be outside.
    pub x: i32,
    /// Row.
    pub y: i32,
    /// How hard, if told; 1024 is the hardest.
    pub pressure: Option<u32>,
    /// The pen's other end, or its button: PEN_FLAG_BARREL_PRESSED 1, PEN_FLAG_ERASER_PRESSED 2, PEN_FLAG_INVERTED 4.
    pub pen_flags: u32,
}

/// Calls `each` for every contact of a message, in order; other messages have none.
///
/// # Errors
/// [`WireError`], where the message is not as long as it says too: others might find a second one behind it. What stands
/// before the fault is told.
pub fn contacts(message: &[u8], mut each: impl FnMut(Contact)) -> Result<(), WireError> {
    let mut cursor = Cursor::new(message, "touch message");
    let kind = cursor.u16()?;
    let length = cursor.u32()?;
    if length as usize != message.len() {
        return Err(cursor.invalid("pduLength", length));
    }
    if !matches!(kind, event::TOUCH | event::PEN) {
        return Ok(());
    }
    // milliseconds since the oldest
    four_bytes(&mut cursor)?;
    for _ in 0..two_bytes(&mut cursor)? {
        let count = two_bytes(&mut cursor)?;
        // microseconds since the one before
        let [first] = cursor.array()?;
        cursor.skip(usize::from(first >> 5))?;
        for _ in 0..count {
            each(contact(&mut cursor, kind == event::PEN)?);
        }
    }
    match cursor.left() {
        0 => Ok(()),
        left => Err(cursor.invalid("number of bytes behind the last contact", left as u64)),
    }
}

fn contact(cursor: &mut Cursor<'_>, pen: bool) -> Result<Contact, WireError> {
    let id = cursor.u8()?;
    let present = two_bytes(cursor)?;
    let has = |bit: u16| present & bit != 0;
    let (x, y) = (four_bytes_signed(cursor)?, four_bytes_signed(cursor)?);
    let state = State::of(four_bytes(cursor)?);
    let (mut pressure, mut pen_flags) = (None, 0);
    if pen {
        if has(PEN_FLAGS) {
            pen_flags = four_bytes(cursor)?;
        }
        if has(PEN_PRESSURE) {
            pressure = Some(four_bytes(cursor)?);
        }
        for _ in PEN_REST.into_iter().filter(|bit| has(*bit)) {
            two_bytes(cursor)?;
        }
    } else {
        if has(RECT) {
            for _ in 0..4 {
                two_bytes(cursor)?;
            }
        }
        if has(ORIENTATION) {
            four_bytes(cursor)?;
        }
        if has(PRESSURE) {
            pressure = Some(four_bytes(cursor)?);
        }
    }
    Ok(Contact {
        pen,
        id,
        state,
        x,
        y,
        pressure,
        pen_flags,
    })
}

/// TWO_BYTE_UNSIGNED_INTEGER: the first bit says whether there is a second byte. Signed ones have the same length.
fn two_bytes(cursor: &mut Cursor<'_>) -> Result<u16, WireError> {
    let first = cursor.u8()?;
    let high = u16::from(first & 0x7F);
    Ok(match first & 0x80 {
        0 => high,
        _ => high << 8 | u16::from(cursor.u8()?),
    })
}

/// FOUR_BYTE_UNSIGNED_INTEGER: the first two bits say how many bytes follow.
fn four_bytes(cursor: &mut Cursor<'_>) -> Result<u32, WireError> {
    let first = cursor.u8()?;
    more(cursor, first >> 6, u32::from(first & 0x3F))
}

/// FOUR_BYTE_SIGNED_INTEGER: the same, and a third bit for the sign.
fn four_bytes_signed(cursor: &mut Cursor<'_>) -> Result<i32, WireError> {
    let first = cursor.u8()?;
    // 29 bits at most
    let value = more(cursor, first >> 6, u32::from(first & 0x1F))?.cast_signed();
    Ok(if first & 0x20 == 0 { value } else { -value })
}

fn more(cursor: &mut Cursor<'_>, count: u8, first: u32) -> Result<u32, WireError> {
    let rest = cursor.take(count.into())?;
    Ok(rest.iter().fold(first, |value, byte| value << 8 | u32::from(*byte)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    /// The shortest form.
    fn unsigned(value: u32) -> Vec<u8> {
        let [a, b, c, d] = value.to_be_bytes();
        match value {
            0..=0x3F => vec![d],
            0x40..=0x3FFF => vec![0x40 | c, d],
            0x4000..=0x3F_FFFF => vec![0x80 | b, c, d],
            _ => vec![0xC0 | a, b, c, d],
        }
    }

    fn signed(value: i32) -> Vec<u8> {
        let sign = if value < 0 { 0x20 } else { 0 };
        let [a, b, c, d] = value.unsigned_abs().to_be_bytes();
        match value.unsigned_abs() {
            0..=0x1F => vec![sign | d],
            0x20..=0x1FFF => vec![0x40 | sign | c, d],
            0x2000..=0x1F_FFFF => vec![0x80 | sign | b, c, d],
            _ => vec![0xC0 | sign | a, b, c, d],
        }
    }

    fn short(value: u16) -> Vec<u8> {
        match value {
            0..=0x7F => vec![value as u8],
            _ => (0x8000 | value).to_be_bytes().to_vec(),
        }
    }

    /// Frames of contacts, as a client writes them.
    fn message(pen: bool, frames: &[Vec<Contact>]) -> Vec<u8> {
        let mut body = [unsigned(7), short(frames.len() as u16)].concat();
        for contacts in frames {
            body.extend(short(contacts.len() as u16));
            // an offset of 2500 microseconds
            body.extend([0x29, 0xC4]);
            for contact in contacts {
                body.push(contact.id);
                let flags = match contact.state {
                    State::Down => 0x19,
                    State::Move => 0x1A,
                    State::Up => 0x04,
                    State::Hover => 0x0A,
                    State::Leave => 0x02,
                    State::Canceled => 0x22,
                };
                let pressed = contact.pressure.is_some();
                let present = match pen {
                    true => 0x1D | if pressed { PEN_PRESSURE } else { 0 },
                    false => 0x03 | if pressed { PRESSURE } else { 0 },
                };
                body.extend(short(present));
                body.extend(signed(contact.x));
                body.extend(signed(contact.y));
                body.extend(unsigned(flags));
                if pen {
                    body.extend(unsigned(contact.pen_flags));
                    body.extend(contact.pressure.map(unsigned).unwrap_or_default());
                    // rotation, tilts: signed ones of two bytes
                    body.extend([0x81, 0x0E, 0x47, 0xC1, 0x02]);
                } else {
                    // a rectangle, of two bytes and of one; the orientation
                    body.extend([0x80 | 0x40, 2, 5, 0x85, 1, 0x45]);
                    body.extend(unsigned(90));
                    body.extend(contact.pressure.map(unsigned).unwrap_or_default());
                }
            }
        }
        let kind = if pen { event::PEN } else { event::TOUCH };
        let length = (body.len() as u32 + 6).to_le_bytes();
        [&kind.to_le_bytes()[..], &length, &body].concat()
    }

    fn read(message: &[u8]) -> Result<Vec<Contact>, WireError> {
        let mut all = Vec::new();
        contacts(message, |contact| all.push(contact)).map(|()| all)
    }

    fn any_contact(pen: bool) -> impl Strategy<Value = Contact> {
        let state = prop_oneof![
            Just(State::Down),
            Just(State::Move),
            Just(State::Up),
            Just(State::Hover),
            Just(State::Leave),
            Just(State::Canceled)
        ];
        let limit = 0x1FFF_FFFF;
        let place = prop_oneof![-40..40_i32, -9000..9000_i32, -limit..=limit];
        let pressure = proptest::option::of(prop_oneof![0..1025_u32, 0..0x4000_0000_u32]);
        (any::<u8>(), state, place.clone(), place, pressure, 0..8_u32).prop_map(
            move |(id, state, x, y, pressure, flags)| Contact {
                pen,
                id,
                state,
                x,
                y,
                pressure,
                pen_flags: if pen { flags } else { 0 },
            },
        )
    }

    /// What FreeRDP writes for a finger that goes down at 300, 200: a rectangle and nothing else.
    #[test]
    fn a_finger_of_a_real_client() {
        let finger = [
            3, 0, 25, 0, 0, 0, 0, 1, 1, 0, 0, 1, 0x41, 0x2C, 0x40, 0xC8, 0x19, 0x81, 0x2A, 0x80, 0xC6, 0x81, 0x2E,
            0x80, 0xCA,
        ];
        let told = Contact {
            pen: false,
            id: 0,
            state: State::Down,
            x: 300,
            y: 200,
            pressure: None,
            pen_flags: 0,
        };
        assert_eq!(read(&finger).unwrap(), [told]);
        for cut in 0..finger.len() {
            assert!(read(&finger[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn other_messages_have_no_contacts() {
        // ready, hovering ends
        assert_eq!(read(&[2, 0, 16, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 10, 0]).unwrap(), []);
        assert_eq!(read(&[6, 0, 7, 0, 0, 0, 3]).unwrap(), []);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            fingers in proptest::collection::vec(proptest::collection::vec(any_contact(false), 0..4), 0..4),
            pens in proptest::collection::vec(proptest::collection::vec(any_contact(true), 0..4), 0..4),
        ) {
            prop_assert_eq!(read(&message(false, &fingers)).unwrap(), fingers.concat());
            prop_assert_eq!(read(&message(true, &pens)).unwrap(), pens.concat());
        }

        #[test]
        fn any_bytes_are_read_or_refused(kind in 0..10_u8, bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let length = (bytes.len() as u32 + 6).to_le_bytes();
            let message = [&[kind, 0][..], &length, &bytes].concat();
            let mut count = 0;
            let _ = contacts(&message, |_| count += 1);
            // the shortest contact has five bytes
            prop_assert!(count <= bytes.len() / 5);
        }
    }
}
