//! Dynamic channels on the static channel drdynvc ([MS-RDPEDYC] 2.2).

use super::cursor::{Cursor, WireError, printable};

/// Name of the static channel that carries them.
pub const STATIC_CHANNEL: &str = "drdynvc";
/// Status with which xfreerdp refuses a channel; desktops take any negative one.
pub const STATUS_UNSUCCESSFUL: u32 = 0xC000_0001;
/// Commands.
pub mod command {
    /// Create
    pub const CREATE: u8 = 1;
    /// First part of a message
    pub const DATA_FIRST: u8 = 2;
    /// Message or further part of one
    pub const DATA: u8 = 3;
    /// Close
    pub const CLOSE: u8 = 4;
    /// Capabilities
    pub const CAPABILITIES: u8 = 5;
    /// Compressed first part (version 3)
    pub const DATA_FIRST_COMPRESSED: u8 = 6;
    /// Compressed part (version 3)
    pub const DATA_COMPRESSED: u8 = 7;
    /// Soft-Sync request (version 3)
    pub const SOFT_SYNC_REQUEST: u8 = 8;
    /// Soft-Sync response (version 3)
    pub const SOFT_SYNC_RESPONSE: u8 = 9;
}

/// One drdynvc PDU of either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DvcPdu<'a> {
    /// Capabilities request or response.
    Capabilities {
        /// Its version.
        version: u16,
    },
    /// Create, towards the client: a name. Control characters of it are replaced.
    CreateRequest {
        /// Channel number.
        id: u32,
        /// Its name.
        name: String,
    },
    /// Answer to a create, towards the desktop.
    CreateResponse {
        /// Channel number.
        id: u32,
        /// 0 or positive for success.
        status: u32,
    },
    /// First part of a message.
    DataFirst {
        /// Channel number.
        id: u32,
        /// Length of the whole message.
        length: u32,
        /// This part.
        data: &'a [u8],
    },
    /// A whole message, or a further part of one.
    Data {
        /// Channel number.
        id: u32,
        /// This part.
        data: &'a [u8],
    },
    /// Close.
    Close {
        /// Channel number.
        id: u32,
    },
    /// A command of version 3, or an unknown one.
    Other {
        /// The number.
        command: u8,
    },
}

/// Offset of the version field in a capabilities PDU.
pub const VERSION_AT: usize = 2;

/// The command of the PDU that starts with `first_byte`.
#[must_use]
pub fn command_of(first_byte: u8) -> u8 {
    first_byte >> 4
}

impl<'a> DvcPdu<'a> {
    /// Reads a PDU; `from_desktop` tells create requests from their responses.
    ///
    /// # Errors
    /// [`WireError`]
    pub fn parse(bytes: &'a [u8], from_desktop: bool) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(bytes, "dynamic channel PDU");
        let header = cursor.u8()?;
        Ok(match command_of(header) {
            command::CAPABILITIES => {
                cursor.skip(1)?;
                Self::Capabilities { version: cursor.u16()? }
            }
            command::CREATE => {
                let id = number(&mut cursor, header)?;
                if from_desktop {
                    let name = cursor.rest();
                    let name = name.split(|&byte| byte == 0).next().unwrap_or_default();
                    Self::CreateRequest {
                        id,
                        name: printable(&String::from_utf8_lossy(name)),
                    }
                } else {
                    Self::CreateResponse {
                        id,
                        status: cursor.u32()?,
                    }
                }
            }
            command::DATA_FIRST => {
                let id = number(&mut cursor, header)?;
                let length = number(&mut cursor, header >> 2)?;
                Self::DataFirst {
                    id,
                    length,
                    data: cursor.rest(),
                }
            }
            command::DATA => Self::Data {
                id: number(&mut cursor, header)?,
                data: cursor.rest(),
            },
            command::CLOSE => Self::Close {
                id: number(&mut cursor, header)?,
            },
            command => Self::Other { command },
        })
    }
}

/// A number of 1, 2 or 4 bytes, as the low two bits of `form` say.
fn number(cursor: &mut Cursor<'_>, form: u8) -> Result<u32, WireError> {
    match form & 0b11 {
        0 => cursor.u8().map(u32::from),
        1 => cursor.u16().map(u32::from),
        2 => cursor.u32(),
        form => Err(cursor.invalid("form of a number", form)),
    }
}

/// The answer to a create request.
#[must_use]
pub fn create_response(id: u32, status: u32) -> Vec<u8> {
    let mut pdu = Vec::with_capacity(9);
    match (u8::try_from(id), u16::try_from(id)) {
        (Ok(id), _) => pdu.extend_from_slice(&[0x10, id]),
        (_, Ok(id)) => {
            pdu.push(0x11);
            pdu.extend_from_slice(&id.to_le_bytes());
        }
        _ => {
            pdu.push(0x12);
            pdu.extend_from_slice(&id.to_le_bytes());
        }
    }
    pdu.extend_from_slice(&status.to_le_bytes());
    pdu
}

/// Most bytes of a PDU: one chunk of the static channel ([MS-RDPEDYC] 3.1.5.1.4).
const PDU_MAX: usize = 1600;

/// The PDUs that carry a message: one, or a first one and others.
#[must_use]
pub fn data(id: u32, message: &[u8]) -> Vec<Vec<u8>> {
    // a number of four bytes is always right
    let header = |command: u8, length: Option<u32>| {
        let mut pdu = vec![command << 4 | 2 | if length.is_some() { 2 << 2 } else { 0 }];
        pdu.extend_from_slice(&id.to_le_bytes());
        pdu.extend(length.into_iter().flat_map(u32::to_le_bytes));
        pdu
    };
    let mut pdu = header(command::DATA, None);
    if pdu.len() + message.len() <= PDU_MAX {
        pdu.extend_from_slice(message);
        return vec![pdu];
    }
    let mut pdu = header(command::DATA_FIRST, Some(message.len() as u32));
    let mut pdus = Vec::new();
    let mut rest = message;
    while !rest.is_empty() {
        let (part, following) = rest.split_at(rest.len().min(PDU_MAX - pdu.len()));
        pdu.extend_from_slice(part);
        pdus.push(std::mem::replace(&mut pdu, header(command::DATA, None)));
        rest = following;
    }
    pdus
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_fit_into_pdus() {
        for length in [0, 1, 1595, 1596, 10_000] {
            let message: Vec<u8> = (0..length).map(|byte| byte as u8).collect();
            let mut told = message.len();
            let mut again = Vec::new();
            for pdu in data(7, &message) {
                assert!(pdu.len() <= PDU_MAX);
                match DvcPdu::parse(&pdu, true) {
                    Ok(DvcPdu::DataFirst { id: 7, length, data }) => {
                        told = length as usize;
                        again.extend_from_slice(data);
                    }
                    Ok(DvcPdu::Data { id: 7, data }) => again.extend_from_slice(data),
                    other => panic!("{other:?}"),
                }
            }
            assert_eq!((told, again), (message.len(), message));
        }
    }
}
