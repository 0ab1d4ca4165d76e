//! MCS domain PDUs (T.125) as RDP uses them, from the TPKT header on.

use std::ops::Range;

use super::connect::per_length;
use super::cursor::{Cursor, WireError};
use crate::Direction;

/// Initiators and user ids count from here.
const USER_BASE: u16 = 1001;

/// One domain PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DomainPdu {
    /// Erect Domain Request (client).
    ErectDomain,
    /// Attach User Request (client).
    AttachUserRequest,
    /// Attach User Confirm (desktop).
    AttachUserConfirm {
        /// 0 = rt-successful.
        result: u8,
        /// The client's user channel, if attached.
        user_channel: Option<u16>,
    },
    /// Channel Join Request (client).
    ChannelJoinRequest {
        /// The channel to join.
        channel: u16,
    },
    /// Channel Join Confirm (desktop).
    ChannelJoinConfirm {
        /// 0 = rt-successful.
        result: u8,
        /// The channel that was asked for.
        channel: u16,
    },
    /// Send Data Request (client) or Indication (desktop).
    Data(Data),
    /// Disconnect Provider Ultimatum (either).
    Disconnect {
        /// 1 provider initiated, 3 user requested.
        reason: u8,
    },
    /// X.224 Disconnect Request, the goodbye of some old clients.
    X224Disconnect,
}

/// Data on one channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Who sends.
    pub direction: Direction,
    /// User channel of the sender.
    pub initiator: u16,
    /// The channel.
    pub channel: u16,
    /// Where the payload lies in the PDU.
    pub payload: Range<usize>,
}

/// Offset of what an X.224 data PDU holds. The TPKT length must be the length of `pdu`.
///
/// # Errors
/// [`WireError`]
pub(crate) fn x224_payload(pdu: &[u8]) -> Result<usize, WireError> {
    let mut cursor = Cursor::new(pdu, "X.224 data PDU");
    cursor.expect_u8("TPKT version", 3)?;
    cursor.skip(1)?;
    let length = cursor.u16_be()?;
    if usize::from(length) != pdu.len() {
        return Err(cursor.invalid("TPKT length", length));
    }
    cursor.expect_u8("length indicator", 2)?;
    cursor.expect_u8("code", 0xF0)?;
    cursor.expect_u8("end of TSDU", 0x80)?;
    Ok(cursor.position())
}

/// Reads a whole PDU as a domain PDU.
///
/// # Errors
/// [`WireError`], also for domain PDUs that RDP does not use, and for data in several MCS segments.
pub fn domain_pdu(pdu: &[u8]) -> Result<DomainPdu, WireError> {
    if pdu.get(5).is_some_and(|code| code & 0xF0 == 0x80) && pdu.first() == Some(&3) {
        return Ok(DomainPdu::X224Disconnect);
    }
    let mut cursor = Cursor::at(pdu, x224_payload(pdu)?, "MCS PDU");
    let choice = cursor.u8()?;
    Ok(match choice >> 2 {
        1 => DomainPdu::ErectDomain,
        8 => DomainPdu::Disconnect {
            reason: (choice & 0b11) << 1 | cursor.u8()? >> 7,
        },
        10 => DomainPdu::AttachUserRequest,
        11 => {
            let result = cursor.u8()?;
            let user_channel = if choice & 0b10 != 0 {
                Some(user_id(&mut cursor)?)
            } else {
                None
            };
            DomainPdu::AttachUserConfirm { result, user_channel }
        }
        14 => {
            cursor.skip(2)?;
            DomainPdu::ChannelJoinRequest {
                channel: cursor.u16_be()?,
            }
        }
        15 => {
            let result = cursor.u8()?;
            cursor.skip(2)?;
            DomainPdu::ChannelJoinConfirm {
                result,
                channel: cursor.u16_be()?,
            }
        }
        25 => DomainPdu::Data(data(cursor, Direction::ToDesktop)?),
        26 => DomainPdu::Data(data(cursor, Direction::ToClient)?),
        _ => return Err(cursor.invalid("choice", choice)),
    })
}

fn data(mut cursor: Cursor<'_>, direction: Direction) -> Result<Data, WireError> {
    let initiator = user_id(&mut cursor)?;
    let channel = cursor.u16_be()?;
    let flags = cursor.u8()?;
    // begin and end: RDP never splits data over several MCS PDUs
    if flags & 0x30 != 0x30 {
        return Err(cursor.invalid("segmentation", flags));
    }
    let length = per_length(&mut cursor)?;
    let start = cursor.position();
    // A receiver that goes by the TPKT length would see more than one that goes by this one.
    if length != cursor.left() {
        return Err(cursor.invalid("data length", length as u64));
    }
    Ok(Data {
        direction,
        initiator,
        channel,
        payload: start..start + length,
    })
}

fn user_id(cursor: &mut Cursor<'_>) -> Result<u16, WireError> {
    let id = cursor.u16_be()?;
    id.checked_add(USER_BASE).ok_or_else(|| cursor.invalid("initiator", id))
}

/// A Send Data Request (towards the desktop) or Indication (towards the client) with `payload`, lengths in their two-byte
/// form. The payload is at most 16383 bytes, PER's limit for that form; what is above is cut off.
#[must_use]
pub fn send_data(direction: Direction, initiator: u16, channel: u16, payload: &[u8]) -> Vec<u8> {
    const PAYLOAD_MAX: usize = 0x3FFF;
    debug_assert!(
        payload.len() <= PAYLOAD_MAX,
        "injected payload of {} bytes",
        payload.len()
    );
    let payload = payload.get(..PAYLOAD_MAX).unwrap_or(payload);
    let choice: u8 = match direction {
        Direction::ToDesktop => 25 << 2,
        Direction::ToClient => 26 << 2,
    };
    // below 0x4000, so both fit 16 bits
    let length = payload.len() as u16;
    let mut pdu = vec![3, 0];
    pdu.extend_from_slice(&(length + 15).to_be_bytes());
    pdu.extend_from_slice(&[2, 0xF0, 0x80, choice]);
    pdu.extend_from_slice(&initiator.saturating_sub(USER_BASE).to_be_bytes());
    pdu.extend_from_slice(&channel.to_be_bytes());
    pdu.push(0x70);
    pdu.extend_from_slice(&(length | 0x8000).to_be_bytes());
    pdu.extend_from_slice(payload);
    pdu
}

/// A Disconnect Provider Ultimatum, reason user requested, as Windows sends it after Set Error Info.
#[must_use]
pub fn disconnect_ultimatum() -> Vec<u8> {
    vec![3, 0, 0, 9, 2, 0xF0, 0x80, 0x21, 0x80]
}
