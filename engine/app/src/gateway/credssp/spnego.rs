//! SPNEGO around NTLM ([RFC 4178], [MS-SPNG]): read what a client wraps, wrap what it gets. Only what CredSSP needs: NTLM
//! is the one mechanism.

/// DER of the object identifiers, tag and length included.
const SPNEGO: &[u8] = &[0x06, 0x06, 0x2B, 0x06, 0x01, 0x05, 0x05, 0x02];
const NTLM: &[u8] = &[0x06, 0x0A, 0x2B, 0x06, 0x01, 0x04, 0x01, 0x82, 0x37, 0x02, 0x02, 0x0A];
/// negState.
const ACCEPT_COMPLETED: u8 = 0;
const ACCEPT_INCOMPLETE: u8 = 1;

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;

/// Why a token can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum SpnegoError {
    /// No DER, or not in this order.
    #[error("SPNEGO token is malformed")]
    Malformed,
    /// NTLM is not among the mechanisms.
    #[error("client offers no NTLM in SPNEGO")]
    NoNtlm,
}

/// The client's first token.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Init<'a> {
    /// DER of the list of mechanisms; what a `mechListMIC` signs.
    pub(super) mechanisms: &'a [u8],
    /// The first mechanism's first token, if it is NTLM's.
    pub(super) ntlm: Option<&'a [u8]>,
}

/// A later token of the client.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Response<'a> {
    /// The mechanism's token.
    pub(super) token: Option<&'a [u8]>,
    /// Signature of the list of mechanisms.
    pub(super) mic: Option<&'a [u8]>,
}

/// Reads a NegTokenInit.
pub(super) fn init(token: &[u8]) -> Result<Init<'_>, SpnegoError> {
    let (inner, _) = element(token, 0x60)?;
    let inner = inner.strip_prefix(SPNEGO).ok_or(SpnegoError::Malformed)?;
    let (init, _) = element(inner, 0xA0)?;
    let (mut fields, _) = element(init, SEQUENCE)?;
    let (mechanisms, rest) = element(fields, 0xA0)?;
    fields = rest;
    let (mut list, _) = element(mechanisms, SEQUENCE)?;
    let mut index = 0;
    let mut place = None;
    while !list.is_empty() {
        let (_, rest) = element(list, OBJECT_IDENTIFIER)?;
        let whole = list.get(..list.len() - rest.len()).unwrap_or_default();
        if whole == NTLM && place.is_none() {
            place = Some(index);
        }
        index += 1;
        list = rest;
    }
    let place = place.ok_or(SpnegoError::NoNtlm)?;
    // the flags, which say nothing
    if fields.first() == Some(&0xA1) {
        (_, fields) = element(fields, 0xA1)?;
    }
    let mut ntlm = None;
    if fields.first() == Some(&0xA2) {
        let (wrapped, _) = element(fields, 0xA2)?;
        let (first, _) = element(wrapped, OCTET_STRING)?;
        ntlm = (place == 0).then_some(first);
    }
    Ok(Init { mechanisms, ntlm })
}

/// Reads a NegTokenResp.
pub(super) fn response(token: &[u8]) -> Result<Response<'_>, SpnegoError> {
    let (inner, _) = element(token, 0xA1)?;
    let (mut fields, _) = element(inner, SEQUENCE)?;
    let mut response = Response { token: None, mic: None };
    while let Some(&tag) = fields.first() {
        let (field, rest) = element(fields, tag)?;
        match tag {
            0xA0 | 0xA1 => {}
            0xA2 => response.token = Some(element(field, OCTET_STRING)?.0),
            0xA3 => response.mic = Some(element(field, OCTET_STRING)?.0),
            _ => return Err(SpnegoError::Malformed),
        }
        fields = rest;
    }
    Ok(response)
}

/// NTLM it is: the answer to a NegTokenInit, with NTLM's challenge if the client had sent NTLM's first token.
pub(super) fn selected(challenge: Option<&[u8]>) -> Vec<u8> {
    let mut fields = wrap(0xA0, &[0x0A, 1, ACCEPT_INCOMPLETE]);
    fields.extend(wrap(0xA1, NTLM));
    if let Some(challenge) = challenge {
        fields.extend(wrap(0xA2, &wrap(OCTET_STRING, challenge)));
    }
    wrap(0xA1, &wrap(SEQUENCE, &fields))
}

/// A further token of NTLM.
pub(super) fn incomplete(challenge: &[u8]) -> Vec<u8> {
    let mut fields = wrap(0xA0, &[0x0A, 1, ACCEPT_INCOMPLETE]);
    fields.extend(wrap(0xA2, &wrap(OCTET_STRING, challenge)));
    wrap(0xA1, &wrap(SEQUENCE, &fields))
}

/// The end of the negotiation.
pub(super) fn completed(mic: Option<&[u8]>) -> Vec<u8> {
    let mut fields = wrap(0xA0, &[0x0A, 1, ACCEPT_COMPLETED]);
    if let Some(mic) = mic {
        fields.extend(wrap(0xA3, &wrap(OCTET_STRING, mic)));
    }
    wrap(0xA1, &wrap(SEQUENCE, &fields))
}

/// Content of the element of this tag at the start of `bytes`, and what stands behind it.
fn element(bytes: &[u8], tag: u8) -> Result<(&[u8], &[u8]), SpnegoError> {
    let header = length(bytes).filter(|_| bytes.first() == Some(&tag));
    let (start, length) = header.ok_or(SpnegoError::Malformed)?;
    bytes
        .get(start..)
        .and_then(|rest| rest.split_at_checked(length))
        .ok_or(SpnegoError::Malformed)
}

/// Where the content of the DER element at the start of `bytes` begins and how long it is; `None` if the header is not
/// there as a whole, or longer than any token.
pub(super) fn length(bytes: &[u8]) -> Option<(usize, usize)> {
    match *bytes.get(1..)? {
        [length @ 0..=0x7F, ..] => Some((2, usize::from(length))),
        [0x81, length, ..] => Some((3, usize::from(length))),
        [0x82, high, low, ..] => Some((4, usize::from(u16::from_be_bytes([high, low])))),
        _ => None,
    }
}

fn wrap(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    // tokens of ours are far below 64 KiB
    match u16::try_from(content.len()).unwrap_or(u16::MAX).to_be_bytes() {
        [0, length @ 0..=0x7F] => out.push(length),
        [0, length] => out.extend([0x81, length]),
        [high, low] => out.extend([0x82, high, low]),
    }
    out.extend_from_slice(content);
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const KERBEROS: &[u8] = &[0x06, 0x09, 0x2A, 0x86, 0x48, 0x86, 0xF7, 0x12, 0x01, 0x02, 0x02];

    fn token(mechanisms: &[&[u8]], first: Option<&[u8]>) -> Vec<u8> {
        let mut fields = wrap(0xA0, &wrap(SEQUENCE, &mechanisms.concat()));
        if let Some(first) = first {
            fields.extend(wrap(0xA2, &wrap(OCTET_STRING, first)));
        }
        wrap(0x60, &[SPNEGO, &wrap(0xA0, &wrap(SEQUENCE, &fields))].concat())
    }

    #[test]
    fn reads_what_clients_offer() {
        let first = [0x5A; 300];
        let ntlm_first = token(&[NTLM, KERBEROS], Some(&first));
        let read = init(&ntlm_first).unwrap();
        assert_eq!(read.ntlm, Some(&first[..]));
        assert_eq!(read.mechanisms, wrap(SEQUENCE, &[NTLM, KERBEROS].concat()));
        // the first token then belongs to Kerberos
        let kerberos_first = token(&[KERBEROS, NTLM], Some(&first));
        assert_eq!(init(&kerberos_first).unwrap().ntlm, None);
        assert_eq!(init(&token(&[KERBEROS], None)), Err(SpnegoError::NoNtlm));
    }

    #[test]
    fn reads_what_it_writes() {
        let read = selected(Some(b"challenge"));
        assert_eq!(response(&read).unwrap().token, Some(&b"challenge"[..]));
        let read = completed(Some(&[9; 16]));
        assert_eq!(response(&read).unwrap().mic, Some(&[9; 16][..]));
        assert_eq!(response(&incomplete(b"x")).unwrap().token, Some(&b"x"[..]));
    }

    #[test]
    fn nothing_makes_it_panic() {
        let whole = token(&[KERBEROS, NTLM], Some(&[1; 200]));
        for cut in 0..whole.len() {
            assert_eq!(init(&whole[..cut]), Err(SpnegoError::Malformed), "{cut}");
            let _ = response(&whole[..cut]);
        }
        for at in 0..whole.len() {
            for value in [0, 0x30, 0x7F, 0x80, 0x82, 0x84, 0xA1, 0xFF] {
                let mut broken = whole.clone();
                broken[at] = value;
                let _ = init(&broken);
                broken[0] = 0xA1;
                let _ = response(&broken);
            }
        }
    }
}
