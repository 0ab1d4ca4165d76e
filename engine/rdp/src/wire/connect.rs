//! MCS Connect Initial and Connect Response down to their GCC user data blocks ([MS-RDPBCGR] 2.2.1.3, 2.2.1.4).
//!
//! BER (T.125) wraps PER (T.124) wraps a row of type-length-value blocks. Only the way to the blocks is walked; nothing is
//! decoded and encoded again, because that loses what newer clients send.

use std::ops::Range;

use super::cursor::{Cursor, WireError};
use super::mcs::x224_payload;

/// Types of the GCC user data blocks.
pub mod block {
    /// TS_UD_CS_CORE
    pub const CS_CORE: u16 = 0xC001;
    /// TS_UD_CS_SEC
    pub const CS_SECURITY: u16 = 0xC002;
    /// TS_UD_CS_NET
    pub const CS_NET: u16 = 0xC003;
    /// TS_UD_CS_MONITOR
    pub const CS_MONITOR: u16 = 0xC005;
    /// TS_UD_CS_MULTITRANSPORT
    pub const CS_MULTITRANSPORT: u16 = 0xC00A;
    /// TS_UD_SC_CORE
    pub const SC_CORE: u16 = 0x0C01;
    /// TS_UD_SC_SEC1
    pub const SC_SECURITY: u16 = 0x0C02;
    /// TS_UD_SC_NET
    pub const SC_NET: u16 = 0x0C03;
    /// TS_UD_SC_MCS_MSGCHANNEL
    pub const SC_MCS_MSGCHANNEL: u16 = 0x0C04;
    /// TS_UD_SC_MULTITRANSPORT
    pub const SC_MULTITRANSPORT: u16 = 0x0C08;
}

/// No peer sends more blocks than there are types, some 20.
const BLOCKS_MAX: usize = 64;

/// One GCC user data block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// A type of [`block`], or an unknown one.
    pub kind: u16,
    /// Where the body lies in the PDU, after its 4-byte header.
    pub body: Range<usize>,
}

/// What a Connect Response holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectResponse {
    /// MCS result, 0 = rt-successful.
    pub result: u8,
    /// The desktop's blocks; empty if the result is not 0.
    pub blocks: Vec<Block>,
}

/// The client's blocks of a whole Connect Initial PDU, from TPKT on. The blocks must fill the PDU to its end: what a
/// desktop might find behind them would not be filtered.
///
/// # Errors
/// [`WireError`]
pub fn connect_initial(pdu: &[u8]) -> Result<Vec<Block>, WireError> {
    const WHAT: &str = "Connect Initial";
    let mut cursor = Cursor::at(pdu, x224_payload(pdu)?, WHAT);
    ber_application_tag(&mut cursor, 101)?;
    let length = ber_length(&mut cursor)?;
    if length != cursor.left() {
        return Err(cursor.invalid("length", length as u64));
    }
    ber_skip(&mut cursor, "callingDomainSelector", 0x04)?;
    ber_skip(&mut cursor, "calledDomainSelector", 0x04)?;
    ber_skip(&mut cursor, "upwardFlag", 0x01)?;
    for field in ["targetParameters", "minimumParameters", "maximumParameters"] {
        ber_skip(&mut cursor, field, 0x30)?;
    }
    let length = ber_open(&mut cursor, "userData", 0x04)?;
    if length != cursor.left() {
        return Err(cursor.invalid("userData length", length as u64));
    }

    // ConnectData: key object 0.0.20.124.0.1, then the octet string connectPDU
    expect(&mut cursor, "GCC key", &[0x00, 0x05, 0x00, 0x14, 0x7C, 0x00, 0x01])?;
    per_length(&mut cursor)?;
    // ConnectGCCPDU: conferenceCreateRequest with user data; conference name "1"; one set, H.221 key, "Duca"
    expect(
        &mut cursor,
        "conferenceCreateRequest",
        &[0x00, 0x08, 0x00, 0x10, 0x00, 0x01, 0xC0, 0x00],
    )?;
    expect(&mut cursor, "H.221 key", b"Duca")?;
    let length = per_length(&mut cursor)?;
    if length != cursor.left() {
        return Err(cursor.invalid("user data length", length as u64));
    }
    blocks(cursor)
}

/// The desktop's result and blocks of a whole Connect Response PDU, from TPKT on.
///
/// The length of the ConnectData is not looked at: servers write 42 there whatever it is, and clients know.
///
/// # Errors
/// [`WireError`]
pub fn connect_response(pdu: &[u8]) -> Result<ConnectResponse, WireError> {
    const WHAT: &str = "Connect Response";
    let mut cursor = Cursor::at(pdu, x224_payload(pdu)?, WHAT);
    ber_application_tag(&mut cursor, 102)?;
    let length = ber_length(&mut cursor)?;
    if length > cursor.left() {
        return Err(cursor.invalid("length", length as u64));
    }
    cursor.expect_u8("result tag", 0x0A)?;
    cursor.expect_u8("result length", 1)?;
    let result = cursor.u8()?;
    if result != 0 {
        return Ok(ConnectResponse {
            result,
            blocks: Vec::new(),
        });
    }
    ber_skip(&mut cursor, "calledConnectId", 0x02)?;
    ber_skip(&mut cursor, "domainParameters", 0x30)?;
    let length = ber_open(&mut cursor, "userData", 0x04)?;
    if length > cursor.left() {
        return Err(cursor.invalid("userData length", length as u64));
    }

    expect(&mut cursor, "GCC key", &[0x00, 0x05, 0x00, 0x14, 0x7C, 0x00, 0x01])?;
    per_length(&mut cursor)?;
    // ConnectGCCPDU: conferenceCreateResponse; nodeID, tag (an INTEGER with its length), result, one set, H.221 key "McDn"
    cursor.expect_u8("conferenceCreateResponse", 0x14)?;
    cursor.skip(2)?;
    let tag_length = usize::from(cursor.u8()?);
    cursor.skip(tag_length)?;
    cursor.skip(1)?;
    expect(&mut cursor, "user data sets", &[0x01, 0xC0, 0x00])?;
    expect(&mut cursor, "H.221 key", b"McDn")?;
    let length = per_length(&mut cursor)?;
    let start = cursor.position();
    let bytes = cursor.take(length)?;
    let mut blocks = blocks(Cursor::new(bytes, WHAT))?;
    for block in &mut blocks {
        block.body = start + block.body.start..start + block.body.end;
    }
    Ok(ConnectResponse { result, blocks })
}

fn blocks(mut cursor: Cursor<'_>) -> Result<Vec<Block>, WireError> {
    let mut blocks = Vec::new();
    while !cursor.is_empty() {
        let kind = cursor.u16()?;
        let length = cursor.u16()?;
        let Some(body) = usize::from(length).checked_sub(4) else {
            return Err(cursor.invalid("block length", length));
        };
        let start = cursor.position();
        cursor.skip(body)?;
        if blocks.len() == BLOCKS_MAX {
            return Err(cursor.invalid("number of blocks", BLOCKS_MAX as u64 + 1));
        }
        blocks.push(Block {
            kind,
            body: start..start + body,
        });
    }
    Ok(blocks)
}

fn expect(cursor: &mut Cursor<'_>, field: &'static str, wanted: &[u8]) -> Result<(), WireError> {
    wanted.iter().try_for_each(|&byte| cursor.expect_u8(field, byte))
}

/// A BER tag of class application, constructed, in its two-byte form.
fn ber_application_tag(cursor: &mut Cursor<'_>, number: u8) -> Result<(), WireError> {
    cursor.expect_u8("tag", 0x7F)?;
    cursor.expect_u8("tag number", number)
}

fn ber_open(cursor: &mut Cursor<'_>, field: &'static str, tag: u8) -> Result<usize, WireError> {
    cursor.expect_u8(field, tag)?;
    ber_length(cursor)
}

fn ber_skip(cursor: &mut Cursor<'_>, field: &'static str, tag: u8) -> Result<(), WireError> {
    let length = ber_open(cursor, field, tag)?;
    cursor.skip(length)
}

/// A BER length: one byte, or 0x81 to 0x84 and as many bytes, big endian.
fn ber_length(cursor: &mut Cursor<'_>) -> Result<usize, WireError> {
    let first = cursor.u8()?;
    match first {
        0..=0x7F => Ok(usize::from(first)),
        0x81..=0x84 => {
            let bytes = cursor.take(usize::from(first & 0x7F))?;
            Ok(bytes
                .iter()
                .fold(0_usize, |length, &byte| (length << 8) | usize::from(byte)))
        }
        _ => Err(cursor.invalid("BER length", first)),
    }
}

/// A PER length: one byte below 0x80, or two with the top bits 10. Larger ones are fragmented, which no peer does.
pub(crate) fn per_length(cursor: &mut Cursor<'_>) -> Result<usize, WireError> {
    let first = cursor.u8()?;
    match first {
        0..=0x7F => Ok(usize::from(first)),
        0x80..=0xBF => Ok(usize::from(first & 0x3F) << 8 | usize::from(cursor.u8()?)),
        _ => Err(cursor.invalid("PER length", first)),
    }
}
