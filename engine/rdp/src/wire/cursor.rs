//! The one bounds-checked reader that all walkers share.

/// Bytes of a peer that don't have the shape they should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The bytes end before the structure does.
    #[error("{what} ends early: {needed} bytes wanted at offset {offset}, {left} left")]
    Short {
        /// The structure that was being read.
        what: &'static str,
        /// Where in it.
        offset: usize,
        /// Bytes wanted there.
        needed: usize,
        /// Bytes that are left there.
        left: usize,
    },
    /// A field holds what it must not hold.
    #[error("{what}: {field} is {value:#x} (at offset {offset})")]
    Invalid {
        /// The structure that was being read.
        what: &'static str,
        /// The field to blame.
        field: &'static str,
        /// Its value.
        value: u64,
        /// Where the reader stood, just after the field as a rule.
        offset: usize,
    },
}

impl WireError {
    /// The structure to blame.
    #[must_use]
    pub fn what(&self) -> &'static str {
        match self {
            Self::Short { what, .. } | Self::Invalid { what, .. } => what,
        }
    }
}

/// A reader over borrowed bytes. Every read checks the bounds; offsets count from the start of `bytes`.
#[derive(Debug, Clone)]
pub struct Cursor<'a> {
    bytes: &'a [u8],
    position: usize,
    what: &'static str,
}

impl<'a> Cursor<'a> {
    /// Reads `bytes` from the start; `what` names the structure in errors.
    #[must_use]
    pub fn new(bytes: &'a [u8], what: &'static str) -> Self {
        Self {
            bytes,
            position: 0,
            what,
        }
    }

    /// Reads `bytes` from `position` on (clamped to the end).
    #[must_use]
    pub fn at(bytes: &'a [u8], position: usize, what: &'static str) -> Self {
        Self {
            bytes,
            position: position.min(bytes.len()),
            what,
        }
    }

    /// Offset of the next byte.
    #[must_use]
    pub fn position(&self) -> usize {
        self.position
    }

    /// Number of bytes left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.bytes.len() - self.position
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.left() == 0
    }

    /// The rest, without moving.
    #[must_use]
    pub fn rest(&self) -> &'a [u8] {
        self.bytes.get(self.position..).unwrap_or_default()
    }

    /// The next byte, without moving.
    #[must_use]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.position).copied()
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`], as for every read below.
    pub fn take(&mut self, length: usize) -> Result<&'a [u8], WireError> {
        let end = self.position.checked_add(length);
        match end.and_then(|end| Some((end, self.bytes.get(self.position..end)?))) {
            Some((end, slice)) => {
                self.position = end;
                Ok(slice)
            }
            None => Err(WireError::Short {
                what: self.what,
                offset: self.position,
                needed: length,
                left: self.left(),
            }),
        }
    }

    /// Steps over `length` bytes.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn skip(&mut self, length: usize) -> Result<(), WireError> {
        self.take(length).map(|_| ())
    }

    /// The next `N` bytes as an array.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], WireError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// One byte.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn u8(&mut self) -> Result<u8, WireError> {
        self.array().map(u8::from_le_bytes)
    }

    /// Two bytes, little endian.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn u16(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_le_bytes)
    }

    /// Two bytes, big endian.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn u16_be(&mut self) -> Result<u16, WireError> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes, little endian.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn u32(&mut self) -> Result<u32, WireError> {
        self.array().map(u32::from_le_bytes)
    }

    /// Four bytes, little endian, signed.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn i32(&mut self) -> Result<i32, WireError> {
        self.array().map(i32::from_le_bytes)
    }

    /// An error that blames `field` of the structure being read.
    #[must_use]
    pub fn invalid(&self, field: &'static str, value: impl Into<u64>) -> WireError {
        WireError::Invalid {
            what: self.what,
            field,
            value: value.into(),
            offset: self.position,
        }
    }

    /// Reads one byte, which must be `wanted`.
    ///
    /// # Errors
    /// [`WireError::Short`], or [`WireError::Invalid`] for another byte.
    pub fn expect_u8(&mut self, field: &'static str, wanted: u8) -> Result<(), WireError> {
        match self.u8()? {
            byte if byte == wanted => Ok(()),
            other => Err(self.invalid(field, other)),
        }
    }
}

/// UTF-16LE up to the first NUL or the end; what is not valid becomes U+FFFD.
pub(crate) fn utf16_text(bytes: &[u8]) -> String {
    let units = bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    char::decode_utf16(units.take_while(|&unit| unit != 0))
        .map(|result| result.unwrap_or(char::REPLACEMENT_CHARACTER))
        .collect()
}

/// Text for logs and facts: control characters become U+FFFD, so that a peer can't write into a terminal or a log line.
pub(crate) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn reads_stop_at_the_end() {
        let mut cursor = Cursor::new(&[1, 2, 3, 4, 5, 6, 7], "test");
        assert_eq!(cursor.u8(), Ok(1));
        assert_eq!(cursor.u16(), Ok(0x0302));
        assert_eq!(cursor.u16_be(), Ok(0x0405));
        assert_eq!(
            cursor.u32(),
            Err(WireError::Short {
                what: "test",
                offset: 5,
                needed: 4,
                left: 2
            })
        );
        assert_eq!(cursor.position(), 5, "a failed read does not move");
        assert!(cursor.take(usize::MAX).is_err());
        assert_eq!(cursor.rest(), [6, 7]);
        assert!(Cursor::at(&[1], 9, "test").is_empty());
    }

    #[test]
    fn text_is_cut_at_nul_and_cleaned() {
        assert_eq!(utf16_text(&[b'a', 0, 0x00, 0xD8, b'b', 0, 0, 0, b'c', 0]), "a\u{FFFD}b");
        assert_eq!(printable("a\x1b[2J\nb"), "a\u{FFFD}[2J\u{FFFD}b");
    }
}
