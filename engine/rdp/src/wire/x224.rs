//! X.224 connection request and confirm with RDP's negotiation parts ([MS-RDPBCGR] 2.2.1.1, 2.2.1.2), and the
//! preconnection blob before it ([MS-RDPEPS]).

use super::cursor::{Cursor, WireError, printable, utf16_text};
use super::redirection::TOKEN_BYTES_MAX;

/// Security protocols as bits of the request and as the value of the confirm ([MS-RDPBCGR] 2.2.1.1.1).
pub mod protocol {
    /// Standard RDP security: what is left when no bit is set. Never accepted by the gateway.
    pub const STANDARD: u32 = 0;
    /// TLS.
    pub const SSL: u32 = 0x1;
    /// TLS and CredSSP ("NLA").
    pub const HYBRID: u32 = 0x2;
    /// RDSTLS.
    pub const RDSTLS: u32 = 0x4;
    /// CredSSP with the early user authorisation result.
    pub const HYBRID_EX: u32 = 0x8;
    /// Entra sign-on.
    pub const RDSAAD: u32 = 0x10;

    /// The names of all bits in `mask`, for logs: `ssl|hybrid`.
    #[must_use]
    pub fn names(mask: u32) -> String {
        let known = [
            (SSL, "ssl"),
            (HYBRID, "hybrid"),
            (RDSTLS, "rdstls"),
            (HYBRID_EX, "hybrid_ex"),
            (RDSAAD, "rdsaad"),
        ];
        let mut names: Vec<String> = known
            .iter()
            .filter(|(bit, _)| mask & bit != 0)
            .map(|&(_, name)| name.to_owned())
            .collect();
        let unknown = mask & !0x1F;
        if unknown != 0 {
            names.push(format!("{unknown:#x}"));
        }
        if names.is_empty() {
            "standard".to_owned()
        } else {
            names.join("|")
        }
    }
}

/// Flags of the confirm ([MS-RDPBCGR] 2.2.1.2.1).
pub mod confirm_flags {
    /// The client may send all optional GCC blocks. Without it mstsc leaves some out.
    pub const EXTENDED_CLIENT_DATA: u8 = 0x01;
    /// The graphics pipeline is available.
    pub const DYNVC_GFX: u8 = 0x02;
}

/// Codes of a negotiation failure ([MS-RDPBCGR] 2.2.1.2.2).
pub mod failure {
    /// The peer must offer TLS.
    pub const SSL_REQUIRED: u32 = 1;
    /// TLS is not allowed.
    pub const SSL_NOT_ALLOWED: u32 = 2;
    /// There is no certificate.
    pub const SSL_CERT_NOT_ON_SERVER: u32 = 3;
    /// The flags of the request contradict each other.
    pub const INCONSISTENT_FLAGS: u32 = 4;
    /// The peer must offer CredSSP (NLA).
    pub const HYBRID_REQUIRED: u32 = 5;
    /// Client authentication over TLS is wanted.
    pub const SSL_WITH_USER_AUTH_REQUIRED: u32 = 6;

    /// What `code` means, in words.
    #[must_use]
    pub fn meaning(code: u32) -> &'static str {
        match code {
            SSL_REQUIRED => "TLS required",
            SSL_NOT_ALLOWED => "TLS not allowed",
            SSL_CERT_NOT_ON_SERVER => "no certificate",
            INCONSISTENT_FLAGS => "inconsistent flags",
            HYBRID_REQUIRED => "NLA (CredSSP) required",
            SSL_WITH_USER_AUTH_REQUIRED => "TLS with user authentication required",
            _ => "unknown failure code",
        }
    }
}

/// Request flag: a correlation info follows the negotiation request.
const CORRELATION_INFO_PRESENT: u8 = 0x08;
/// Request flag: the client insists on Restricted Admin.
const RESTRICTED_ADMIN_MODE_REQUIRED: u8 = 0x01;
/// Request flag: the client insists on Remote Credential Guard.
const REDIRECTED_AUTHENTICATION_MODE_REQUIRED: u8 = 0x02;

/// The longest opening we read: preconnection blob and connection request together.
pub const OPENING_LENGTH_MAX: usize = 4096;
/// The longest preconnection blob. Its text is a name or an id, not a document.
const PRECONNECTION_LENGTH_MAX: usize = 2048;
/// The fixed part of a preconnection blob (version 1).
const PRECONNECTION_LENGTH_MIN: usize = 16;

/// Why the first bytes of a client are no RDP connection request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpeningError {
    /// Plain HTTP.
    #[error("client speaks plain HTTP, not RDP")]
    Http,
    /// A TLS client hello without the X.224 request before it.
    #[error("client starts with a TLS hello, not with an RDP connection request")]
    TlsHello,
    /// An SSH banner.
    #[error("client speaks SSH, not RDP")]
    Ssh,
    /// Something else.
    #[error("client's first byte {0:#04x} starts no RDP connection request")]
    Garbage(u8),
    /// A length above [`OPENING_LENGTH_MAX`].
    #[error("client's connection request is {0} bytes long")]
    TooLong(usize),
    /// A PDU of another kind.
    #[error("client's first PDU is not a connection request (X.224 code {0:#04x})")]
    NotARequest(u8),
    /// A request whose inside does not hold together.
    #[error("connection request is malformed: {0}")]
    Malformed(#[from] WireError),
}

impl OpeningError {
    /// A short stable word for logs and counters.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::TlsHello => "tls-hello",
            Self::Ssh => "ssh",
            Self::Garbage(_) => "not-rdp",
            Self::TooLong(_) => "request-too-long",
            Self::NotARequest(_) => "not-a-request",
            Self::Malformed(_) => "malformed-request",
        }
    }
}

/// What a client says before anything else. All of it is clear text and merely claimed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConnectionRequest {
    /// The preconnection blob, if one came first.
    pub preconnection: Option<Preconnection>,
    /// The routing token, without its CR LF: `loadbalanceinfo:s:` of an .rdp file.
    pub routing_token: Option<String>,
    /// The value of `Cookie: mstshash=`; mstsc cuts it to nine characters.
    pub cookie: Option<String>,
    /// The negotiation request; `None` from clients that only know standard RDP security.
    pub negotiation: Option<Negotiation>,
    /// The id with which a client's operator correlates logs.
    pub correlation_id: Option<[u8; 16]>,
}

/// The preconnection blob ([MS-RDPEPS] 2.2.1).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Preconnection {
    /// Its number.
    pub id: u32,
    /// Its text (version 2).
    pub text: Option<String>,
}

/// The negotiation request ([MS-RDPBCGR] 2.2.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Negotiation {
    /// Raw flags.
    pub flags: u8,
    /// Bits of [`protocol`].
    pub protocols: u32,
}

impl Negotiation {
    /// Whether the client insists on Restricted Admin or Remote Credential Guard, which the gateway refuses.
    #[must_use]
    pub fn wants_delegated_credentials(&self) -> bool {
        self.flags & (RESTRICTED_ADMIN_MODE_REQUIRED | REDIRECTED_AUTHENTICATION_MODE_REQUIRED) != 0
    }
}

/// The length of the whole opening (an optional preconnection blob and the connection request) that `bytes` starts
/// with, `None` if more bytes are needed to tell. As with [`super::find_pdu`], compare with `bytes.len()`.
///
/// # Errors
/// Each kind of stranger has its own [`OpeningError`], as soon as the first bytes give it away.
pub fn find_opening(bytes: &[u8]) -> Result<Option<usize>, OpeningError> {
    let Some(before) = preconnection_length(bytes)? else {
        return Ok(None);
    };
    let Some(request) = bytes.get(before..) else {
        return Ok(None);
    };
    let length = match request {
        [] | [3] | [3, _] | [3, _, _] => return Ok(None),
        [3, _, high, low, ..] => usize::from(u16::from_be_bytes([*high, *low])),
        [first, ..] => return Err(OpeningError::Garbage(*first)),
    };
    // TPKT header and the fixed part of the X.224 request
    if length < 11 {
        return Err(WireError::Invalid {
            what: "TPKT header",
            field: "length",
            value: length as u64,
            offset: 4,
        }
        .into());
    }
    let length = before + length;
    if length > OPENING_LENGTH_MAX {
        return Err(OpeningError::TooLong(length));
    }
    Ok(Some(length))
}

/// The length of the preconnection blob, 0 if there is none, `None` if it can't be told yet.
fn preconnection_length(bytes: &[u8]) -> Result<Option<usize>, OpeningError> {
    const HTTP: [&[u8]; 8] = [b"GET", b"POST", b"HEAD", b"PUT", b"OPTI", b"CONN", b"DELE", b"PRI "];
    let Some(&first) = bytes.first() else { return Ok(None) };
    if first == 3 {
        return Ok(Some(0));
    }
    let starts = |word: &[u8]| bytes.starts_with(word.get(..bytes.len().min(word.len())).unwrap_or_default());
    // a prefix of such a word is not judged before three bytes are there
    if bytes.len() >= 3 {
        if starts(&[0x16, 0x03]) {
            return Err(OpeningError::TlsHello);
        }
        if HTTP.iter().any(|word| starts(word)) {
            return Err(OpeningError::Http);
        }
        if starts(b"SSH-") {
            return Err(OpeningError::Ssh);
        }
    }
    let Some(&[a, b, c, d]) = bytes.get(..4) else {
        return Ok(None);
    };
    let size = u32::from_le_bytes([a, b, c, d]) as usize;
    if !(PRECONNECTION_LENGTH_MIN..=PRECONNECTION_LENGTH_MAX).contains(&size) {
        return Err(OpeningError::Garbage(first));
    }
    Ok(Some(size))
}

impl ConnectionRequest {
    /// Reads a whole opening, as [`find_opening`] has measured it.
    ///
    /// # Errors
    /// [`OpeningError`]
    pub fn parse(bytes: &[u8]) -> Result<Self, OpeningError> {
        let before = preconnection_length(bytes)?.unwrap_or_default();
        let mut request = Self::default();
        if before > 0 {
            request.preconnection = Some(Preconnection::parse(bytes.get(..before).unwrap_or(bytes))?);
        }
        let mut cursor = Cursor::new(bytes.get(before..).unwrap_or_default(), "connection request");
        cursor.skip(2)?;
        let length = usize::from(cursor.u16_be()?);
        let Some(inside) = bytes.get(before..).and_then(|tpkt| tpkt.get(4..length)) else {
            return Err(cursor.invalid("TPKT length", length as u64).into());
        };
        let mut cursor = Cursor::new(inside, "connection request");
        let indicator = usize::from(cursor.u8()?);
        let code = cursor.u8()?;
        if code & 0xF0 != 0xE0 {
            return Err(OpeningError::NotARequest(code));
        }
        // The length indicator has 8 bits and counts all but itself; long routing tokens are sent all the same, so only a
        // claim of more than there is counts as wrong.
        if indicator > inside.len().saturating_sub(1) {
            return Err(cursor.invalid("length indicator", indicator as u64).into());
        }
        cursor.skip(5)?;
        request.read_text(&mut cursor);
        request.read_negotiation(&mut cursor)?;
        Ok(request)
    }

    /// Routing token or cookie: text up to CR LF. Binary that starts a negotiation request is none.
    fn read_text(&mut self, cursor: &mut Cursor<'_>) {
        let rest = cursor.rest();
        let Some(end) = rest.windows(2).position(|pair| pair == b"\r\n") else {
            return;
        };
        let Some(line) = rest.get(..end) else { return };
        if line.first().is_some_and(|byte| *byte < 0x20) {
            return;
        }
        let text = printable(&String::from_utf8_lossy(line));
        match text.strip_prefix("Cookie: mstshash=") {
            Some(user) => self.cookie = Some(user.to_owned()),
            None => self.routing_token = Some(text),
        }
        // cannot fail: the position came from these bytes
        let _ = cursor.skip(end + 2);
    }

    fn read_negotiation(&mut self, cursor: &mut Cursor<'_>) -> Result<(), WireError> {
        // fewer than 8 bytes are padding of very old clients
        if cursor.left() < 8 {
            return Ok(());
        }
        let kind = cursor.u8()?;
        if kind != 1 {
            return Err(cursor.invalid("negotiation type", kind));
        }
        let flags = cursor.u8()?;
        let length = cursor.u16()?;
        if length != 8 {
            return Err(cursor.invalid("negotiation length", length));
        }
        let protocols = cursor.u32()?;
        self.negotiation = Some(Negotiation { flags, protocols });
        if flags & CORRELATION_INFO_PRESENT != 0 {
            cursor.expect_u8("correlation info type", 6)?;
            cursor.skip(1)?;
            let length = cursor.u16()?;
            if length != 36 {
                return Err(cursor.invalid("correlation info length", length));
            }
            self.correlation_id = Some(cursor.array()?);
            cursor.skip(16)?;
        }
        Ok(())
    }

    /// The protocols the client offers; [`protocol::STANDARD`] without a negotiation request.
    #[must_use]
    pub fn protocols(&self) -> u32 {
        self.negotiation
            .map_or(protocol::STANDARD, |negotiation| negotiation.protocols)
    }
}

impl Preconnection {
    fn parse(bytes: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(bytes, "preconnection blob");
        cursor.skip(8)?;
        let version = cursor.u32()?;
        let id = cursor.u32()?;
        let text = match version {
            1 => None,
            2 => {
                let units = usize::from(cursor.u16()?);
                Some(printable(&utf16_text(cursor.take(units * 2)?)))
            }
            other => return Err(cursor.invalid("version", other)),
        };
        Ok(Self { id, text })
    }
}

/// The desktop that a client asks for before it has said who it is, most telling first: routing token
/// (`loadbalanceinfo:s:NAME`, or the value of a `msts=` cookie), preconnection text, then the desktop part of a cookie
/// of the form `user:desktop[:login]`. Merely claimed, and a cookie may be cut short.
#[must_use]
pub fn requested_desktop(request: &ConnectionRequest) -> Option<&str> {
    let token = token(request).map(|(desktop, _)| desktop);
    let text = request.preconnection.as_ref().and_then(|blob| blob.text.as_deref());
    let cookie = request.cookie.as_deref().and_then(|cookie| cookie.split(':').nth(1));
    [token, text, cookie]
        .into_iter()
        .flatten()
        .map(str::trim)
        .find(|name| !name.is_empty())
}

/// The number behind the desktop in a routing token of the gateway's own making, `NAME:NUMBER` with 32 hexadecimal digits; see
/// [`return_token`].
#[must_use]
pub fn returning(request: &ConnectionRequest) -> Option<&str> {
    token(request)
        .map(|(_, number)| number)
        .filter(|number| !number.is_empty())
}

/// The routing token for a client that comes back for `desktop`; without its line end.
#[must_use]
pub fn return_token(desktop: &str, number: &str) -> String {
    format!("{TOKEN_PREFIX}{desktop}:{number}")
}

/// How load balancers' tokens often begin.
const TOKEN_PREFIX: &str = "Cookie: msts=";

/// Hexadecimal digits of the number in a routing token of the gateway's own making.
const NUMBER_DIGITS: usize = 32;

/// Desktop and number of the routing token.
fn token(request: &ConnectionRequest) -> Option<(&str, &str)> {
    let token = request.routing_token.as_deref()?;
    let Some(own) = token.strip_prefix(TOKEN_PREFIX) else {
        return Some((token, ""));
    };
    let is_number = |text: &str| text.len() == NUMBER_DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    // A desktop's name may have a colon, too.
    let parts = own.rsplit_once(':').filter(|(_, number)| is_number(number));
    Some(parts.unwrap_or((own, "")))
}

/// What a desktop answers to our connection request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionConfirm {
    /// It chose a protocol. A confirm without a negotiation part means [`protocol::STANDARD`].
    Selected {
        /// Value of [`protocol`].
        protocol: u32,
        /// Bits of [`confirm_flags`].
        flags: u8,
    },
    /// It refuses, with a code of [`failure`].
    Failure(u32),
}

/// Why a desktop's answer ends the attempt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// A negotiation failure.
    #[error("desktop refuses the security protocol: {meaning} (code {code})", meaning = failure::meaning(*.0), code = .0)]
    Refused(u32),
    /// Standard RDP security, which the gateway never speaks.
    #[error("desktop selects standard RDP security, which is refused")]
    StandardSecurity,
    /// A protocol that was not offered.
    #[error("desktop selects {}, which was not offered", protocol::names(*.0))]
    NotOffered(u32),
    /// Bytes that are no confirm.
    #[error("desktop's connection confirm is malformed: {0}")]
    Malformed(#[from] WireError),
}

impl ConnectionConfirm {
    /// Reads a whole TPKT with a connection confirm in it.
    ///
    /// # Errors
    /// [`WireError`]
    pub fn parse(pdu: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(pdu, "connection confirm");
        cursor.expect_u8("TPKT version", 3)?;
        cursor.skip(4)?;
        let code = cursor.u8()?;
        if code & 0xF0 != 0xD0 {
            return Err(cursor.invalid("X.224 code", code));
        }
        cursor.skip(5)?;
        if cursor.is_empty() {
            return Ok(Self::Selected {
                protocol: protocol::STANDARD,
                flags: 0,
            });
        }
        let kind = cursor.u8()?;
        let flags = cursor.u8()?;
        let length = cursor.u16()?;
        if length != 8 {
            return Err(cursor.invalid("negotiation length", length));
        }
        let value = cursor.u32()?;
        match kind {
            2 => Ok(Self::Selected { protocol: value, flags }),
            3 => Ok(Self::Failure(value)),
            other => Err(cursor.invalid("negotiation type", other)),
        }
    }

    /// The selected protocol, if it is exactly one of those in `offered`. A desktop that answers with what it was not
    /// asked for (xrdp selects 0 when asked for CredSSP alone) is an error, never a downgrade.
    ///
    /// # Errors
    /// [`ConfirmError`]
    pub fn selected(self, offered: u32) -> Result<u32, ConfirmError> {
        match self {
            Self::Failure(code) => Err(ConfirmError::Refused(code)),
            Self::Selected {
                protocol: protocol::STANDARD,
                ..
            } => Err(ConfirmError::StandardSecurity),
            Self::Selected { protocol, .. } if protocol.is_power_of_two() && offered & protocol != 0 => Ok(protocol),
            Self::Selected { protocol, .. } => Err(ConfirmError::NotOffered(protocol)),
        }
    }
}

/// A connection request towards a desktop, with `protocols` and, if given, a `Cookie: mstshash=` line. The cookie is cut
/// at 64 bytes, and control characters are left out of it.
#[must_use]
pub fn connection_request(protocols: u32, cookie: Option<&str>) -> Vec<u8> {
    let mut variable = Vec::new();
    if let Some(cookie) = cookie {
        let clean: String = cookie.chars().filter(char::is_ascii_graphic).take(64).collect();
        variable.extend_from_slice(b"Cookie: mstshash=");
        variable.extend_from_slice(clean.as_bytes());
        variable.extend_from_slice(b"\r\n");
    }
    negotiation(&mut variable, 1, 0, protocols);
    x224_pdu(0xE0, [0, 0, 0, 0], &variable)
}

/// A connection request towards a desktop's load balancer, with the token that it has handed out. Anything but printable ASCII
/// is left out of it, and it is cut at [`TOKEN_BYTES_MAX`].
#[must_use]
pub fn routed_request(protocols: u32, token: &str) -> Vec<u8> {
    let is_printable = |byte: &char| matches!(byte, ' '..='~');
    let clean: String = token.chars().filter(is_printable).take(TOKEN_BYTES_MAX).collect();
    let mut variable = clean.into_bytes();
    variable.extend_from_slice(b"\r\n");
    negotiation(&mut variable, 1, 0, protocols);
    x224_pdu(0xE0, [0, 0, 0, 0], &variable)
}

/// A connection confirm towards a client: `selected` is one value of [`protocol`], `flags` are [`confirm_flags`].
#[must_use]
pub fn connection_confirm(selected: u32, flags: u8) -> Vec<u8> {
    let mut variable = Vec::new();
    negotiation(&mut variable, 2, flags, selected);
    x224_pdu(0xD0, [0, 0, 0x12, 0x34], &variable)
}

/// A connection confirm towards a client that refuses with a code of [`failure`].
#[must_use]
pub fn connection_failure(code: u32) -> Vec<u8> {
    let mut variable = Vec::new();
    negotiation(&mut variable, 3, 0, code);
    x224_pdu(0xD0, [0, 0, 0x12, 0x34], &variable)
}

fn negotiation(out: &mut Vec<u8>, kind: u8, flags: u8, value: u32) {
    out.extend_from_slice(&[kind, flags, 8, 0]);
    out.extend_from_slice(&value.to_le_bytes());
}

/// `variable` is at most some 220 bytes, so both lengths fit.
fn x224_pdu(code: u8, references: [u8; 4], variable: &[u8]) -> Vec<u8> {
    let length = u8::try_from(variable.len() + 6).unwrap_or(u8::MAX);
    let mut pdu = vec![3, 0, 0, length.saturating_add(5), length, code];
    pdu.extend_from_slice(&references);
    pdu.push(0);
    pdu.extend_from_slice(variable);
    pdu
}

#[cfg(test)]
mod tests;
