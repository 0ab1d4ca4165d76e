//! Client Info ([MS-RDPBCGR] 2.2.1.11): read, and spliced without touching what follows the strings.

use std::ops::Range;

use super::cursor::{Cursor, WireError};

/// The basic security header before it.
const SECURITY_HEADER: usize = 4;
/// Offset of the flags in the payload, security header included.
pub const FLAGS_AT: usize = SECURITY_HEADER + 4;
/// Offset of the five string lengths.
const LENGTHS_AT: usize = SECURITY_HEADER + 8;
/// Offset of the first string.
const STRINGS_AT: usize = LENGTHS_AT + 10;
/// The longest string of the protocol is 512 bytes; Windows accepts more for passwords (smart card blobs).
const STRING_LENGTH_MAX: usize = 4096;

/// Flags.
pub mod flags {
    /// Log on without asking.
    pub const AUTOLOGON: u32 = 0x8;
    /// Strings are UTF-16.
    pub const UNICODE: u32 = 0x10;
    /// The client decompresses.
    pub const COMPRESSION: u32 = 0x80;
    /// Which kinds of compression, shifted by [`COMPRESSION_TYPE_SHIFT`].
    pub const COMPRESSION_TYPE_MASK: u32 = 0x1E00;
    /// See [`COMPRESSION_TYPE_MASK`].
    pub const COMPRESSION_TYPE_SHIFT: u32 = 9;
    /// The password is the PIN of a smart card: the desktop shows it to the card.
    pub const PASSWORD_IS_SC_PIN: u32 = 0x4_0000;
    /// A RemoteApp session.
    pub const RAIL: u32 = 0x8000;
}

/// Where the parts of a Client Info lie in its payload. Holds no text itself, so that no password gets copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientInfo {
    /// Bits of [`flags`].
    pub flags: u32,
    /// The domain, without terminator.
    pub domain: Range<usize>,
    /// The user name, without terminator.
    pub user_name: Range<usize>,
    /// The password, without terminator.
    pub password: Range<usize>,
    /// The alternate shell, without terminator.
    pub shell: Range<usize>,
    /// The working directory, without terminator.
    pub directory: Range<usize>,
    /// The client's own address, without terminator.
    pub address: Option<Range<usize>>,
    /// Performance flags.
    pub performance_flags: Option<u32>,
    /// The automatic reconnection cookie ([MS-RDPBCGR] 2.2.4.3), with the length in front of it. It logs on by itself,
    /// whatever the strings say.
    pub reconnect_cookie: Option<Range<usize>>,
}

impl ClientInfo {
    /// Reads the payload of the Client Info PDU, from the security header on. Everything behind the strings may be
    /// missing, as from old clients.
    ///
    /// # Errors
    /// [`WireError`]
    pub fn parse(payload: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload, "Client Info");
        cursor.skip(FLAGS_AT)?;
        let flags = cursor.u32()?;
        let unit = if flags & flags::UNICODE != 0 { 2 } else { 1 };
        let mut lengths = [0_usize; 5];
        for length in &mut lengths {
            *length = usize::from(cursor.u16()?);
            if *length % unit != 0 || *length > STRING_LENGTH_MAX {
                return Err(cursor.invalid("string length", *length as u64));
            }
        }
        // A desktop that goes by the terminator must see the same string as one that goes by the length.
        // A name has none inside; a password may be a cookie of any bytes.
        let mut string = |length: usize, is_name: bool| -> Result<Range<usize>, WireError> {
            let start = cursor.position();
            let mut units = cursor.take(length)?.chunks_exact(unit);
            units.find(|unit| unit.iter().all(|&byte| byte == 0));
            if is_name && units.any(|unit| unit.iter().any(|&byte| byte != 0)) {
                return Err(cursor.invalid("terminator inside a name, at byte", start as u64));
            }
            match cursor.take(unit)?.iter().find(|&&byte| byte != 0) {
                None => Ok(start..start + length),
                Some(&byte) => Err(cursor.invalid("string terminator", byte)),
            }
        };
        let [domain, user_name, password, shell, directory] = lengths;
        let mut info = Self {
            flags,
            domain: string(domain, true)?,
            user_name: string(user_name, true)?,
            password: string(password, false)?,
            shell: string(shell, false)?,
            directory: string(directory, false)?,
            address: None,
            performance_flags: None,
            reconnect_cookie: None,
        };
        // the extended part ends wherever the client's version ended it
        let _ = info.read_extended(&mut cursor);
        Ok(info)
    }

    fn read_extended(&mut self, cursor: &mut Cursor<'_>) -> Result<(), WireError> {
        cursor.skip(2)?;
        let length = usize::from(cursor.u16()?);
        let start = cursor.position();
        cursor.skip(length)?;
        self.address = Some(start..start + length);
        let length = usize::from(cursor.u16()?);
        cursor.skip(length)?;
        // time zone, session id
        cursor.skip(172 + 4)?;
        self.performance_flags = Some(cursor.u32()?);
        let start = cursor.position();
        let length = usize::from(cursor.u16()?);
        if length > 0 {
            // one that is cut short goes to the end of the PDU
            let end = cursor.position() + length.min(cursor.left());
            self.reconnect_cookie = Some(start..end);
        }
        Ok(())
    }

    /// Whether strings are UTF-16.
    #[must_use]
    pub fn is_unicode(&self) -> bool {
        self.flags & flags::UNICODE != 0
    }

    /// The payload with other strings: bytes as on the wire, without terminators; `None` keeps what is there. A reconnection
    /// cookie is taken out. All other bytes outside the three strings and their lengths stay as they are.
    ///
    /// # Errors
    /// [`WireError`] if a string is too long or `self` is not from this payload.
    pub fn splice(&self, payload: &[u8], replacement: &Replacement<'_>) -> Result<Vec<u8>, WireError> {
        let unit = if self.is_unicode() { 2 } else { 1 };
        let mut cursor = Cursor::new(payload, "Client Info");
        let mut out = Vec::with_capacity(payload.len() + 64);
        out.extend_from_slice(cursor.take(LENGTHS_AT)?);

        let kept = |range: &Range<usize>| payload.get(range.clone()).unwrap_or_default();
        let strings = [
            replacement.domain.unwrap_or(kept(&self.domain)),
            replacement.user_name.unwrap_or(kept(&self.user_name)),
            replacement.password.unwrap_or(kept(&self.password)),
        ];
        for string in strings {
            if string.len() > STRING_LENGTH_MAX || string.len() % unit != 0 {
                return Err(cursor.invalid("string length", string.len() as u64));
            }
            out.extend_from_slice(&(string.len() as u16).to_le_bytes());
        }
        cursor.skip(6)?;
        out.extend_from_slice(cursor.take(STRINGS_AT - LENGTHS_AT - 6)?);
        for string in strings {
            out.extend_from_slice(string);
            out.extend_from_slice(&[0, 0][..unit]);
        }
        let Some(cookie) = &self.reconnect_cookie else {
            out.extend_from_slice(payload.get(self.shell.start..).unwrap_or_default());
            return Ok(out);
        };
        out.extend_from_slice(payload.get(self.shell.start..cookie.start).unwrap_or_default());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(payload.get(cookie.end..).unwrap_or_default());
        Ok(out)
    }
}

/// Strings to put into a Client Info, in the encoding of its flags.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replacement<'a> {
    /// Another domain.
    pub domain: Option<&'a [u8]>,
    /// Another user name.
    pub user_name: Option<&'a [u8]>,
    /// Another password.
    pub password: Option<&'a [u8]>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn utf16(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn payload(strings: [&str; 5], tail: &[u8]) -> Vec<u8> {
        let mut payload = vec![0x40, 0, 0, 0, 9, 4, 9, 4, 0x10, 0, 0, 0];
        for string in strings {
            payload.extend((string.len() as u16 * 2).to_le_bytes());
        }
        for string in strings {
            payload.extend(utf16(string));
            payload.extend([0, 0]);
        }
        payload.extend(tail);
        payload
    }

    #[test]
    fn splice_changes_strings_and_lengths_only() {
        let before = payload(["DOM", "ann:lab", "pw", "shell", "dir"], b"the tail \x00\xFF stays");
        let info = ClientInfo::parse(&before).unwrap();
        assert_eq!(before[info.user_name.clone()], utf16("ann:lab"));
        let same = info.splice(&before, &Replacement::default()).unwrap();
        assert_eq!(same, before, "no replacement asked, same bytes");
        let name = utf16("ann");
        let domain = utf16("OTHER");
        let replacement = Replacement {
            domain: Some(&domain),
            user_name: Some(&name),
            password: None,
        };
        let after = info.splice(&before, &replacement).unwrap();
        assert_eq!(
            after,
            payload(["OTHER", "ann", "pw", "shell", "dir"], b"the tail \x00\xFF stays")
        );
        let odd = Replacement {
            user_name: Some(b"odd"),
            ..Replacement::default()
        };
        assert!(info.splice(&before, &odd).is_err());
    }

    #[test]
    fn a_reconnection_cookie_is_taken_out() {
        let strings = ["DOM", "ann", "pw", "shell", "dir"];
        let mut tail = vec![2, 0, 4, 0, 0x31, 0, 0, 0, 2, 0, 0, 0];
        tail.extend([7; 172 + 4 + 4]);
        let with = |cookie: &[u8], length: u16, rest: &[u8]| {
            payload(strings, &[&tail, &length.to_le_bytes()[..], cookie, rest].concat())
        };
        let rest = [0, 0, 0, 0, 9];
        let before = with(&[0x5A; 28], 28, &rest);
        let info = ClientInfo::parse(&before).unwrap();
        assert_eq!(info.performance_flags, Some(0x0707_0707));
        let after = info.splice(&before, &Replacement::default()).unwrap();
        assert_eq!(after, with(&[], 0, &rest), "nothing else is changed");
        let again = ClientInfo::parse(&after).unwrap();
        assert_eq!(again.reconnect_cookie, None);
        assert_eq!(again.splice(&after, &Replacement::default()).unwrap(), after);
        // a desktop might take what is there for a whole one
        let short = with(&[0x5A; 20], 28, &[]);
        let info = ClientInfo::parse(&short).unwrap();
        assert_eq!(info.splice(&short, &Replacement::default()).unwrap(), with(&[], 0, &[]));
    }

    #[test]
    fn ansi_strings_have_one_byte_terminators() {
        let mut bytes = vec![0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0];
        bytes.extend(b"\0ann\0p\0\0\0");
        let info = ClientInfo::parse(&bytes).unwrap();
        assert_eq!(&bytes[info.user_name.clone()], b"ann");
        assert_eq!(&bytes[info.password.clone()], b"p");
        assert_eq!(info.splice(&bytes, &Replacement::default()).unwrap(), bytes);
        // "ann\0" becomes "annX"
        bytes[26] = b'X';
        assert!(matches!(
            ClientInfo::parse(&bytes),
            Err(WireError::Invalid {
                field: "string terminator",
                ..
            })
        ));
        bytes[26] = 0;
        // "ann" becomes "a\0n", which is "a" to some; "an\0" is "an" to everybody
        bytes[24] = 0;
        assert!(ClientInfo::parse(&bytes).is_err());
        bytes[24..26].copy_from_slice(b"n\0");
        assert!(ClientInfo::parse(&bytes).is_ok());
        bytes.pop();
        assert!(ClientInfo::parse(&bytes).is_err());
    }
}
