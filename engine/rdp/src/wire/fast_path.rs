//! Fast-path PDUs ([MS-RDPBCGR] 2.2.8.1.2, 2.2.9.1.2).

use super::cursor::{Cursor, WireError};

/// Codes of fast-path updates.
pub mod update {
    /// Drawing orders
    pub const ORDERS: u8 = 0;
    /// Bitmaps
    pub const BITMAP: u8 = 1;
    /// Palette
    pub const PALETTE: u8 = 2;
    /// Synchronize
    pub const SYNCHRONIZE: u8 = 3;
    /// Surface commands
    pub const SURFACE_COMMANDS: u8 = 4;
    /// Pointer hidden
    pub const POINTER_HIDDEN: u8 = 5;
    /// Pointer default
    pub const POINTER_DEFAULT: u8 = 6;
    /// Pointer position
    pub const POINTER_POSITION: u8 = 8;
    /// Pointer, 24 bits
    pub const POINTER_COLOR: u8 = 9;
    /// Pointer from the cache
    pub const POINTER_CACHED: u8 = 10;
    /// Pointer, any depth
    pub const POINTER_NEW: u8 = 11;
    /// Pointer, large
    pub const POINTER_LARGE: u8 = 12;
}

/// Where an update stands in a row of fragments.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragmentation {
    /// All of it.
    Single,
    /// The last part.
    Last,
    /// The first part.
    First,
    /// A part in the middle.
    Next,
}

/// One update of a fast-path PDU from the desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Update<'a> {
    /// A code of [`update`], or an unknown one.
    pub code: u8,
    /// Which part it is.
    pub fragmentation: Fragmentation,
    /// The compression byte, if there is one (as in a share data header).
    pub compression: Option<u8>,
    /// Its bytes, compressed if `compression` has the bit 0x20.
    pub data: &'a [u8],
}

/// Whether a fast-path PDU claims to be encrypted by standard RDP security. Only trust it on PDUs from the desktop:
/// Microsoft's client for macOS sets these bits at will.
#[must_use]
pub fn is_encrypted(first_byte: u8) -> bool {
    first_byte & 0x80 != 0
}

/// What follows the header (first byte and length).
///
/// # Errors
/// [`WireError`]
pub fn payload(pdu: &[u8]) -> Result<Cursor<'_>, WireError> {
    let mut cursor = Cursor::new(pdu, "fast-path PDU");
    cursor.skip(1)?;
    if cursor.u8()? & 0x80 != 0 {
        cursor.skip(1)?;
    }
    Ok(cursor)
}

/// The updates of a whole fast-path PDU from the desktop. After an error it ends.
///
/// # Errors
/// [`WireError`] if the header is too short.
pub fn updates(pdu: &[u8]) -> Result<Updates<'_>, WireError> {
    Ok(Updates {
        cursor: payload(pdu)?,
        end: false,
    })
}

/// See [`updates`].
#[derive(Debug, Clone)]
pub struct Updates<'a> {
    cursor: Cursor<'a>,
    end: bool,
}

impl<'a> Iterator for Updates<'a> {
    type Item = Result<Update<'a>, WireError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.end || self.cursor.is_empty() {
            return None;
        }
        let item = self.read();
        self.end = item.is_err();
        Some(item)
    }
}

impl<'a> Updates<'a> {
    fn read(&mut self) -> Result<Update<'a>, WireError> {
        let header = self.cursor.u8()?;
        let compression = if header >> 6 == 2 {
            Some(self.cursor.u8()?)
        } else {
            None
        };
        let length = self.cursor.u16()?;
        let data = self.cursor.take(usize::from(length))?;
        let fragmentation = match header >> 4 & 0b11 {
            0 => Fragmentation::Single,
            1 => Fragmentation::Last,
            2 => Fragmentation::First,
            _ => Fragmentation::Next,
        };
        Ok(Update {
            code: header & 0xF,
            fragmentation,
            compression,
            data,
        })
    }
}
