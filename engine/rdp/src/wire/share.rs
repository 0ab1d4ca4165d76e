//! Share control and share data PDUs on the IO channel ([MS-RDPBCGR] 2.2.8.1.1), and the few that the gateway injects.

use std::ops::Range;

use zeroize::Zeroizing;

use super::cursor::{Cursor, WireError};
use super::mcs;
use crate::Direction;

/// Kinds of share control PDUs.
pub mod control {
    /// Demand Active
    pub const DEMAND_ACTIVE: u8 = 0x1;
    /// Confirm Active
    pub const CONFIRM_ACTIVE: u8 = 0x3;
    /// Deactivate All
    pub const DEACTIVATE_ALL: u8 = 0x6;
    /// Share data
    pub const DATA: u8 = 0x7;
    /// Enhanced security server redirection
    pub const REDIRECTION: u8 = 0xA;
    /// A flow PDU, which has no share control header (our own number).
    pub const FLOW: u8 = 0xFF;
}

/// Kinds of share data PDUs (pduType2).
pub mod data {
    /// Update
    pub const UPDATE: u8 = 2;
    /// Pointer
    pub const POINTER: u8 = 27;
    /// Input
    pub const INPUT: u8 = 28;
    /// Refresh Rect
    pub const REFRESH_RECT: u8 = 33;
    /// Suppress Output
    pub const SUPPRESS_OUTPUT: u8 = 35;
    /// Save Session Info
    pub const SAVE_SESSION_INFO: u8 = 38;
    /// Font Map
    pub const FONT_MAP: u8 = 40;
    /// Set Error Info
    pub const SET_ERROR_INFO: u8 = 47;
    /// Monitor Layout
    pub const MONITOR_LAYOUT: u8 = 55;
}

/// One share control PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareControl {
    /// A kind of [`control`].
    pub kind: u8,
    /// User channel of the sender; 0 if the PDU is too short to say (Deactivate All of old servers).
    pub source: u16,
    /// Where the whole PDU lies, its header included.
    pub range: Range<usize>,
}

/// The share control PDUs of one MCS payload, one after the other. After an error it ends.
#[derive(Debug, Clone)]
pub struct ShareControls<'a> {
    cursor: Cursor<'a>,
    end: bool,
}

/// Walks the share control PDUs in `payload` of `pdu` by their totalLength. At least one is there, or an error.
#[must_use]
pub fn share_controls(pdu: &[u8], payload: Range<usize>) -> ShareControls<'_> {
    let bytes = pdu.get(..payload.end).unwrap_or(pdu);
    ShareControls {
        cursor: Cursor::at(bytes, payload.start, "share control PDU"),
        end: false,
    }
}

impl Iterator for ShareControls<'_> {
    type Item = Result<ShareControl, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end {
            return None;
        }
        let item = self.read();
        self.end = item.is_err() || self.cursor.is_empty();
        Some(item)
    }
}

impl ShareControls<'_> {
    fn read(&mut self) -> Result<ShareControl, WireError> {
        let start = self.cursor.position();
        let length = self.cursor.u16()?;
        if length == 0x8000 {
            // Flow PDU ([MS-RDPBCGR] refers to T.128, 8.3): marker, pad, type, identifier, number, source
            self.cursor.skip(4)?;
            let source = self.cursor.u16()?;
            return Ok(ShareControl {
                kind: control::FLOW,
                source,
                range: start..self.cursor.position(),
            });
        }
        let kind = self.cursor.u16()?;
        let Some(rest) = usize::from(length).checked_sub(4) else {
            return Err(self.cursor.invalid("totalLength", length));
        };
        let mut body = Cursor::new(self.cursor.take(rest)?, "share control PDU");
        let kind = (kind & 0xF) as u8;
        let source = match body.u16() {
            Ok(source) => source,
            Err(_) if kind == control::DEACTIVATE_ALL => 0,
            Err(error) => return Err(error),
        };
        Ok(ShareControl {
            kind,
            source,
            range: start..self.cursor.position(),
        })
    }
}

/// One share data PDU, seen into a share control PDU of kind [`control::DATA`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShareData {
    /// The share.
    pub share_id: u32,
    /// A kind of [`data`].
    pub kind: u8,
    /// The compression byte: 0x20 compressed, low 4 bits the type, 0x40 at front, 0x80 flushed.
    pub compression: u8,
    /// Where the body lies in the PDU.
    pub body: Range<usize>,
}

impl ShareData {
    /// Whether the body is bulk-compressed.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.compression & 0x20 != 0
    }
}

/// Reads the share data header.
///
/// # Errors
/// [`WireError`]
pub fn share_data(pdu: &[u8], control: &ShareControl) -> Result<ShareData, WireError> {
    let bytes = pdu.get(..control.range.end).unwrap_or(pdu);
    let mut cursor = Cursor::at(bytes, control.range.start, "share data PDU");
    cursor.skip(6)?;
    let share_id = cursor.u32()?;
    cursor.skip(4)?;
    let kind = cursor.u8()?;
    let compression = cursor.u8()?;
    cursor.skip(2)?;
    Ok(ShareData {
        share_id,
        kind,
        compression,
        body: cursor.position()..bytes.len(),
    })
}

/// Who speaks and where, for injected PDUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// Towards whom.
    pub direction: Direction,
    /// User channel of the one in whose name we speak, in the MCS header.
    pub initiator: u16,
    /// The same in the share control header; some desktops use two numbers.
    pub source: u16,
    /// The IO channel.
    pub io_channel: u16,
    /// The current share, 0 before the first.
    pub share_id: u32,
}

/// A share data PDU of `kind` with `body` (some bytes), from TPKT on.
#[must_use]
pub fn data_pdu(sender: Sender, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len() as u16;
    let mut payload = Vec::with_capacity(18 + body.len());
    payload.extend_from_slice(&(18 + length).to_le_bytes());
    payload.extend_from_slice(&(0x10 | u16::from(control::DATA)).to_le_bytes());
    payload.extend_from_slice(&sender.source.to_le_bytes());
    payload.extend_from_slice(&sender.share_id.to_le_bytes());
    // pad, stream priority low
    payload.extend_from_slice(&[0, 1]);
    payload.extend_from_slice(&(4 + length).to_le_bytes());
    payload.extend_from_slice(&[kind, 0, 0, 0]);
    payload.extend_from_slice(body);
    mcs::send_data(sender.direction, sender.initiator, sender.io_channel, &payload)
}

/// Set Error Info ([MS-RDPBCGR] 2.2.5.1).
#[must_use]
pub fn set_error_info(sender: Sender, code: u32) -> Vec<u8> {
    data_pdu(sender, data::SET_ERROR_INFO, &code.to_le_bytes())
}

/// A redirection packet behind TLS ([MS-RDPBCGR] 2.2.13.3.1).
#[must_use]
pub fn redirection(sender: Sender, packet: &[u8]) -> Vec<u8> {
    /// Header, padding before the packet and after it.
    const AROUND: usize = 6 + 2 + 1;
    // there may be a password in it
    let mut payload = Zeroizing::new(Vec::with_capacity(AROUND + packet.len()));
    payload.extend_from_slice(&((AROUND + packet.len()) as u16).to_le_bytes());
    payload.extend_from_slice(&[control::REDIRECTION | 0x10, 0]);
    payload.extend_from_slice(&sender.source.to_le_bytes());
    payload.extend_from_slice(&[0, 0]);
    payload.extend_from_slice(packet);
    payload.push(0);
    mcs::send_data(sender.direction, sender.initiator, sender.io_channel, &payload)
}

/// Refresh Rect ([MS-RDPBCGR] 2.2.11.2) for one rectangle from the origin. The edges of the wire are inclusive.
#[must_use]
pub fn refresh_rect(sender: Sender, width: u16, height: u16) -> Vec<u8> {
    let mut body = vec![1, 0, 0, 0];
    rectangle(&mut body, width, height);
    data_pdu(sender, data::REFRESH_RECT, &body)
}

/// Suppress Output ([MS-RDPBCGR] 2.2.11.3): off, or on again with the rectangle to repaint.
#[must_use]
pub fn suppress_output(sender: Sender, allow: Option<(u16, u16)>) -> Vec<u8> {
    let mut body = vec![u8::from(allow.is_some()), 0, 0, 0];
    if let Some((width, height)) = allow {
        rectangle(&mut body, width, height);
    }
    data_pdu(sender, data::SUPPRESS_OUTPUT, &body)
}

fn rectangle(body: &mut Vec<u8>, width: u16, height: u16) {
    for edge in [0, 0, width.saturating_sub(1), height.saturating_sub(1)] {
        body.extend_from_slice(&edge.to_le_bytes());
    }
}
