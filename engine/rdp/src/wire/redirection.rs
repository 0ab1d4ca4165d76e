//! Server redirection ([MS-RDPBCGR] 2.2.13.1): a desktop sends the client elsewhere. Read to say where to; written to lead a
//! client back to where it has connected.

use zeroize::Zeroizing;

use super::cursor::{Cursor, WireError, printable, utf16_text};

/// RedirFlags.
mod flags {
    pub(super) const TARGET_NET_ADDRESS: u32 = 0x1;
    pub(super) const LOAD_BALANCE_INFO: u32 = 0x2;
    pub(super) const USER_NAME: u32 = 0x4;
    pub(super) const DOMAIN: u32 = 0x8;
    pub(super) const PASSWORD: u32 = 0x10;
    pub(super) const DONT_STORE_USER_NAME: u32 = 0x20;
    pub(super) const NO_REDIRECT: u32 = 0x80;
    pub(super) const TARGET_FQDN: u32 = 0x100;
    pub(super) const TARGET_NETBIOS_NAME: u32 = 0x200;
}

/// Flags field of the packet: SEC_REDIRECTION_PKT.
const PACKET: u16 = 0x0400;
/// The longest name that is shown; DNS allows 255.
const NAME_CHARS_MAX: usize = 255;
/// The longest token that is passed on: the connection request counts its length in 8 bits.
pub const TOKEN_BYTES_MAX: usize = 200;

/// Where a desktop wants the client to go. Text is fit to be shown; the password in the packet is never read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Redirection {
    /// The machine's full name.
    pub fqdn: Option<String>,
    /// Its NetBIOS name.
    pub netbios_name: Option<String>,
    /// Its address.
    pub address: Option<String>,
    /// The user that the session there belongs to.
    pub user_name: Option<String>,
    /// It comes with a token for a load balancer.
    pub has_token: bool,
    /// That token without its line end, where it is one line of text that a connection request can carry.
    pub routing_token: Option<String>,
    /// It only tells the client something: it stays where it is.
    pub is_informational: bool,
}

impl Redirection {
    /// Reads the packet at the start of `bytes`.
    ///
    /// # Errors
    /// It is no such packet, or ends early.
    pub fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(bytes, "server redirection");
        let packet = cursor.u16()?;
        if packet & PACKET == 0 {
            return Err(cursor.invalid("flags", packet));
        }
        let length = usize::from(cursor.u16()?);
        // the session id
        cursor.skip(4)?;
        let flags = cursor.u32()?;
        let mut fields = Cursor::at(
            bytes.get(..length).unwrap_or(bytes),
            cursor.position(),
            "server redirection",
        );
        let mut field = |flag| -> Result<Option<&[u8]>, WireError> {
            if flags & flag == 0 {
                return Ok(None);
            }
            let length = fields.u32()? as usize;
            fields.take(length).map(Some)
        };
        let name = |bytes: Option<&[u8]>| {
            let text = bytes.map(|bytes| printable(&utf16_text(bytes)));
            text.map(|text| text.chars().take(NAME_CHARS_MAX).collect::<String>())
                .filter(|text| !text.is_empty())
        };
        let address = name(field(flags::TARGET_NET_ADDRESS)?);
        let token = field(flags::LOAD_BALANCE_INFO)?;
        let user_name = name(field(flags::USER_NAME)?);
        field(flags::DOMAIN)?;
        field(flags::PASSWORD)?;
        let fqdn = name(field(flags::TARGET_FQDN)?);
        let netbios_name = name(field(flags::TARGET_NETBIOS_NAME)?);
        Ok(Self {
            fqdn,
            netbios_name,
            address,
            user_name,
            has_token: token.is_some(),
            routing_token: token.and_then(one_line),
            is_informational: flags & flags::NO_REDIRECT != 0,
        })
    }

    /// The machine in a word, by the best name there is.
    #[must_use]
    pub fn target(&self) -> &str {
        let names = [&self.fqdn, &self.netbios_name, &self.address];
        let named = names.into_iter().flatten().next().map(String::as_str);
        named.unwrap_or(if self.has_token {
            "where its load balancer says"
        } else {
            "a machine that it doesn't name"
        })
    }
}

/// A token that can't be taken for anything else in a connection request.
fn one_line(token: &[u8]) -> Option<String> {
    let line = token.strip_suffix(b"\0").unwrap_or(token);
    let line = line.strip_suffix(b"\r\n").unwrap_or(line);
    let is_text = line.iter().all(|byte| (0x20..0x7F).contains(byte));
    let fits = (1..=TOKEN_BYTES_MAX).contains(&line.len());
    (is_text && fits).then(|| String::from_utf8_lossy(line).into_owned())
}

/// Leads a client back to the address that it has connected to.
#[derive(Clone, Copy)]
pub struct Return<'a> {
    /// What it says there before anything else: a routing token without its line end.
    pub routing_token: &'a str,
    /// The name that it logs on with there.
    pub user_name: &'a str,
    /// The domain of that name; `None` = the one that it has.
    pub domain: Option<&'a str>,
    /// The password that it logs on with there; `None` = the one that it has.
    pub password: Option<&'a str>,
}

impl Return<'_> {
    /// The packet. Holds the password in clear, as the protocol wants it.
    #[must_use]
    pub fn packet(&self) -> Zeroizing<Vec<u8>> {
        let text = |text: &str| -> Zeroizing<Vec<u8>> {
            Zeroizing::new(text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect())
        };
        let token = Zeroizing::new(format!("{}\r\n", self.routing_token).into_bytes());
        let mut fields = vec![token, text(self.user_name)];
        let mut has = flags::LOAD_BALANCE_INFO | flags::USER_NAME | flags::DONT_STORE_USER_NAME;
        if let Some(domain) = self.domain {
            has |= flags::DOMAIN;
            fields.push(text(domain));
        }
        if let Some(password) = self.password {
            has |= flags::PASSWORD;
            fields.push(text(password));
        }
        let length = 12 + fields.iter().map(|field| field.len() + 4).sum::<usize>();
        let mut packet = Zeroizing::new(Vec::with_capacity(length));
        packet.extend_from_slice(&PACKET.to_le_bytes());
        packet.extend_from_slice(&(length as u16).to_le_bytes());
        // the session id
        packet.extend_from_slice(&[0; 4]);
        packet.extend_from_slice(&has.to_le_bytes());
        for field in fields {
            packet.extend_from_slice(&(field.len() as u32).to_le_bytes());
            packet.extend_from_slice(&field);
        }
        packet
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn packet(flags: u32, fields: &[&[u8]]) -> Vec<u8> {
        let mut body = 7_u32.to_le_bytes().to_vec();
        body.extend(flags.to_le_bytes());
        for field in fields {
            body.extend((field.len() as u32).to_le_bytes());
            body.extend(*field);
        }
        let mut packet = PACKET.to_le_bytes().to_vec();
        packet.extend((body.len() as u16 + 4).to_le_bytes());
        packet.extend(body);
        packet
    }

    fn text(text: &str) -> Vec<u8> {
        text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
    }

    #[test]
    fn where_to_and_for_whom_but_never_the_password() {
        let all = flags::TARGET_NET_ADDRESS
            | flags::LOAD_BALANCE_INFO
            | flags::USER_NAME
            | flags::DOMAIN
            | flags::PASSWORD
            | flags::TARGET_FQDN
            | flags::TARGET_NETBIOS_NAME;
        let fields = [
            text("10.0.0.7"),
            b"tsv://farm".to_vec(),
            text("ann"),
            text("CORP"),
            text("hunter2"),
            text("host\n7.corp.example"),
            text("HOST7"),
        ];
        let fields: Vec<&[u8]> = fields.iter().map(Vec::as_slice).collect();
        let bytes = packet(all, &fields);
        let redirection = Redirection::parse(&bytes).unwrap();
        assert_eq!(redirection.target(), "host\u{FFFD}7.corp.example");
        assert_eq!(redirection.address.as_deref(), Some("10.0.0.7"));
        assert_eq!(redirection.user_name.as_deref(), Some("ann"));
        assert!(redirection.has_token && !redirection.is_informational);
        assert_eq!(redirection.routing_token.as_deref(), Some("tsv://farm"));
        assert!(!format!("{redirection:?}").contains("hunter2"));
        for cut in 0..bytes.len() {
            assert!(Redirection::parse(&bytes[..cut]).is_err(), "{cut}");
        }
    }

    #[test]
    fn names_are_not_endless_and_may_be_missing() {
        let bytes = packet(flags::TARGET_FQDN, &[&text(&"x".repeat(5000))]);
        assert_eq!(Redirection::parse(&bytes).unwrap().target().len(), NAME_CHARS_MAX);
        let token = Redirection::parse(&packet(flags::LOAD_BALANCE_INFO, &[b"x"])).unwrap();
        assert_eq!(token.target(), "where its load balancer says");
        let info = Redirection::parse(&packet(flags::NO_REDIRECT, &[])).unwrap();
        assert!(info.is_informational && info.target().contains("doesn't name"));
        assert!(Redirection::parse(&[0; 12]).is_err(), "no packet");
        let long = packet(flags::USER_NAME, &[]);
        let long = [&long[..], &u32::MAX.to_le_bytes()].concat();
        assert!(Redirection::parse(&long).is_err());
    }

    #[test]
    fn a_token_is_one_line_of_text() {
        let token = |token: &[u8]| {
            let redirection = Redirection::parse(&packet(flags::LOAD_BALANCE_INFO, &[token])).unwrap();
            assert!(redirection.has_token);
            redirection.routing_token
        };
        assert_eq!(token(b"Cookie: msts=7\r\n").as_deref(), Some("Cookie: msts=7"));
        assert_eq!(
            token(&[b'x'; TOKEN_BYTES_MAX]).map(|token| token.len()),
            Some(TOKEN_BYTES_MAX)
        );
        for bad in [
            &b"a\r\nb"[..],
            b"\x01\0\x08\0",
            b"",
            b"\r\n",
            &[b'x'; TOKEN_BYTES_MAX + 1],
        ] {
            assert_eq!(token(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn the_way_back() {
        for password in [None, Some("hunter2")] {
            let back = Return {
                routing_token: "Cookie: msts=lab:1",
                user_name: "ann:lab",
                domain: Some("CORP"),
                password,
            };
            let packet = back.packet();
            let read = Redirection::parse(&packet).unwrap();
            assert_eq!(read.routing_token.as_deref(), Some("Cookie: msts=lab:1"));
            assert_eq!(read.user_name.as_deref(), Some("ann:lab"));
            assert!(!read.is_informational && read.address.is_none());
            let has = |word| {
                let wide = text(word);
                packet.windows(wide.len()).any(|window| window == wide)
            };
            assert!(has("CORP"));
            assert_eq!(has("hunter2"), password.is_some());
            assert_eq!(usize::from(u16::from_le_bytes([packet[2], packet[3]])), packet.len());
        }
    }
}
