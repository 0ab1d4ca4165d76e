//! Where a PDU ends: TPKT (slow path) and fast path.

/// Bytes that are no PDU.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte starts neither a TPKT nor a fast-path PDU.
    #[error("byte {0:#04x} starts no RDP PDU")]
    NotAPdu(u8),
    /// The length is smaller than the header that carries it.
    #[error("a PDU gives its own length as {0}")]
    TooShort(usize),
}

/// The two framings of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PduKind {
    /// TPKT, X.224, MCS.
    SlowPath,
    /// The short form for input and graphics.
    FastPath,
}

impl PduKind {
    /// Reads the kind off the first byte.
    ///
    /// # Errors
    /// [`FrameError::NotAPdu`]
    pub fn of(first_byte: u8) -> Result<Self, FrameError> {
        match first_byte {
            TPKT_VERSION => Ok(Self::SlowPath),
            byte if byte & 0b11 == 0 => Ok(Self::FastPath),
            byte => Err(FrameError::NotAPdu(byte)),
        }
    }
}

/// First byte of a TPKT header.
const TPKT_VERSION: u8 = 3;
/// TPKT header and the shortest X.224 header.
const TPKT_LENGTH_MIN: usize = 7;
/// Fast path: header, length and at least one byte.
const FAST_PATH_LENGTH_MIN: usize = 3;

/// The length of the whole PDU that `bytes` starts with, `None` if more bytes are needed to tell.
///
/// The PDU itself may still be incomplete: compare with `bytes.len()`. The length fields have 16 (TPKT) and 15 bits (fast
/// path), so the answer is never above 65535.
///
/// # Errors
/// [`FrameError`]: the stream can't be followed any further.
pub fn find_pdu(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let Some(&first) = bytes.first() else { return Ok(None) };
    let (length, minimum) = match PduKind::of(first)? {
        PduKind::SlowPath => match bytes.get(2..4) {
            Some(&[high, low]) => (usize::from(u16::from_be_bytes([high, low])), TPKT_LENGTH_MIN),
            _ => return Ok(None),
        },
        PduKind::FastPath => match (bytes.get(1), bytes.get(2)) {
            (Some(&high), Some(&low)) if high & 0x80 != 0 => (
                usize::from(u16::from_be_bytes([high & 0x7F, low])),
                FAST_PATH_LENGTH_MIN + 1,
            ),
            (Some(&length), _) if length & 0x80 == 0 => (usize::from(length), FAST_PATH_LENGTH_MIN),
            _ => return Ok(None),
        },
    };
    if length < minimum {
        return Err(FrameError::TooShort(length));
    }
    Ok(Some(length))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths() {
        assert_eq!(find_pdu(&[]), Ok(None));
        assert_eq!(find_pdu(&[3, 0, 0]), Ok(None));
        assert_eq!(find_pdu(&[3, 0, 0x01, 0x02]), Ok(Some(258)));
        assert_eq!(find_pdu(&[3, 0, 0xFF, 0xFF, 0]), Ok(Some(65535)));
        assert_eq!(find_pdu(&[3, 0, 0, 6]), Err(FrameError::TooShort(6)));
        assert_eq!(find_pdu(&[0x04, 0x05]), Ok(Some(5)));
        assert_eq!(
            find_pdu(&[0xC4, 0x05]),
            Ok(Some(5)),
            "flags in bits 6 and 7 are no matter of framing"
        );
        assert_eq!(find_pdu(&[0x00, 0x80]), Ok(None));
        assert_eq!(find_pdu(&[0x00, 0xFF, 0xFF]), Ok(Some(0x7FFF)));
        assert_eq!(find_pdu(&[0x00, 0x80, 0x03]), Err(FrameError::TooShort(3)));
        assert_eq!(find_pdu(&[0x00, 0x00]), Err(FrameError::TooShort(0)));
        assert_eq!(find_pdu(b"GET / HTTP/1.1"), Err(FrameError::NotAPdu(b'G')));
        assert_eq!(find_pdu(&[0x16, 3, 1]), Err(FrameError::NotAPdu(0x16)));
    }
}
