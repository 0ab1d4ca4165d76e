//! What an NTLM client has proved, out of its messages ([MS-NLMP] 3.3.2 and 3.2.5.1.2).
//!
//! sspi has this too, but takes the time in the client's proof for the one that it has told the client: clients that put
//! their own clock there would never know the right password.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::Md5;
use zeroize::Zeroizing;

use super::seal::{Rc4, same};

/// Places in AUTHENTICATE ([MS-NLMP] 2.2.1.3) of length, room and offset of what lies behind its head; of its flags; of the
/// check of the three messages.
const NT_RESPONSE_AT: usize = 20;
const DOMAIN_AT: usize = 28;
const USER_AT: usize = 36;
const SESSION_KEY_AT: usize = 52;
const FLAGS_AT: usize = 60;
const MIC_AT: usize = 72;
/// Place of the server's number in CHALLENGE.
const SERVER_CHALLENGE_AT: usize = 24;
/// `NTLMSSP_NEGOTIATE_UNICODE` and `NTLMSSP_NEGOTIATE_KEY_EXCH`.
const UNICODE: u32 = 0x1;
const KEY_EXCHANGE: u32 = 0x4000_0000;
/// The proof in front of a response of version 2, and what of it precedes its pairs. One of version 1 has 24 bytes in all.
const PROOF_BYTES: usize = 16;
const PAIRS_AT: usize = PROOF_BYTES + 28;
/// Pairs of a response: their end, and flags, of which one says that the messages are checked.
const PAIR_END: u16 = 0;
const PAIR_FLAGS: u16 = 6;
const CHECKED: u32 = 0x2;

/// The three messages of a logon, as they were sent.
#[derive(Default)]
pub(super) struct Messages {
    pub(super) negotiate: Vec<u8>,
    pub(super) challenge: Vec<u8>,
    pub(super) authenticate: Vec<u8>,
}

impl Messages {
    /// The key of the session of a client that knows `secret`; `None` = it doesn't, or says so in a way that can't be read.
    pub(super) fn session_key(&self, secret: &[u8; 16]) -> Option<Zeroizing<[u8; 16]>> {
        let message = &self.authenticate[..];
        let flags = u32_at(message, FLAGS_AT)?;
        if flags & UNICODE == 0 {
            return None;
        }
        let user = String::from_utf16(&units(field(message, USER_AT)?)).ok()?;
        let domain = field(message, DOMAIN_AT)?;
        let response = field(message, NT_RESPONSE_AT)?;
        let (proof, answered) = response.split_at_checked(PROOF_BYTES)?;
        let challenge = self.challenge.get(SERVER_CHALLENGE_AT..SERVER_CHALLENGE_AT + 8)?;
        let checked = is_checked(response.get(PAIRS_AT..)?)?;
        let key = capitals(&user)
            .into_iter()
            .map(|user| keyed(secret, &[&wide(&user), domain]))
            .find(|key| same(keyed(key, &[challenge, answered]).as_ref(), proof))?;
        let mut session = keyed(&key, &[proof]);
        if flags & KEY_EXCHANGE != 0 {
            let mut sent = Zeroizing::new(<[u8; 16]>::try_from(field(message, SESSION_KEY_AT)?).ok()?);
            Rc4::new(session.as_ref()).apply(sent.as_mut());
            session = sent;
        }
        if checked {
            let mut unsigned = message.to_vec();
            let mic = unsigned.get_mut(MIC_AT..MIC_AT + 16)?;
            let told = mic.to_vec();
            mic.fill(0);
            let expected = keyed(&session, &[&self.negotiate, &self.challenge, &unsigned]);
            if !same(expected.as_ref(), &told) {
                return None;
            }
        }
        Some(session)
    }
}

/// A user's name as clients write it in capitals: Windows letter by letter (`ß` stays), FreeRDP only those of ASCII, others
/// by all rules of Unicode (`SS`).
fn capitals(user: &str) -> [String; 3] {
    let one = |letter: char| {
        let mut upper = letter.to_uppercase();
        match (upper.next(), upper.next()) {
            (Some(upper), None) => upper,
            _ => letter,
        }
    };
    [
        user.chars().map(one).collect(),
        user.to_ascii_uppercase(),
        user.to_uppercase(),
    ]
}

/// Whether the pairs say that the messages are checked; `None` = they have no end.
fn is_checked(mut pairs: &[u8]) -> Option<bool> {
    let mut checked = false;
    loop {
        let (kind, length) = (u16_at(pairs, 0)?, usize::from(u16_at(pairs, 2)?));
        let value = pairs.get(4..4 + length)?;
        match kind {
            PAIR_END => return Some(checked),
            PAIR_FLAGS => checked = u32_at(value, 0)? & CHECKED != 0,
            _ => (),
        }
        pairs = pairs.get(4 + length..)?;
    }
}

/// What a length and an offset in the head stand for.
fn field(message: &[u8], at: usize) -> Option<&[u8]> {
    let length = usize::from(u16_at(message, at)?);
    let start = usize::try_from(u32_at(message, at + 4)?).ok()?;
    message.get(start..start.checked_add(length)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn units(bytes: &[u8]) -> Vec<u16> {
    bytes
        .as_chunks::<2>()
        .0
        .iter()
        .map(|unit| u16::from_le_bytes(*unit))
        .collect()
}

fn wide(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_le_bytes).collect()
}

/// HMAC-MD5 over all parts.
fn keyed(key: &[u8; 16], parts: &[&[u8]]) -> Zeroizing<[u8; 16]> {
    let mut out = Zeroizing::new([0; 16]);
    if let Ok(mut mac) = Hmac::<Md5>::new_from_slice(key) {
        parts.iter().for_each(|part| mac.update(part));
        for (to, from) in out.iter_mut().zip(mac.finalize().into_bytes()) {
            *to = from;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// The hash of "Password", [MS-NLMP] 4.2.2.1.2.
    const SECRET: [u8; 16] = [
        0xA4, 0xF4, 0x9C, 0x40, 0x65, 0x10, 0xBD, 0xCA, 0xB6, 0x82, 0x4E, 0xE7, 0xC3, 0x0F, 0xD8, 0x52,
    ];

    /// An AUTHENTICATE of user `User` in `Domain`, with these pairs; the response's own time is 0.
    fn authenticate(pairs: &[u8], proof: Option<&[u8]>, flags: u32, mic: [u8; 16]) -> Vec<u8> {
        authenticate_as("User", pairs, proof, flags, mic)
    }

    fn authenticate_as(user: &str, pairs: &[u8], proof: Option<&[u8]>, flags: u32, mic: [u8; 16]) -> Vec<u8> {
        let mut response = proof.unwrap_or(&[0; 16]).to_vec();
        response.extend([1, 1, 0, 0, 0, 0, 0, 0]);
        response.extend([0; 8]);
        response.extend([0xAA; 8]);
        response.extend([0; 4]);
        response.extend(pairs);
        let parts = [vec![], response, wide("Domain"), wide(user), vec![], vec![0x55; 16]];
        let mut head = b"NTLMSSP\0\x03\0\0\0".to_vec();
        let mut offset = 88;
        for part in &parts {
            head.extend((part.len() as u16).to_le_bytes());
            head.extend((part.len() as u16).to_le_bytes());
            head.extend((offset as u32).to_le_bytes());
            offset += part.len();
        }
        head.extend(flags.to_le_bytes());
        head.extend([0; 8]);
        head.extend(mic);
        head.extend(parts.concat());
        head
    }

    fn messages(authenticate: Vec<u8>) -> Messages {
        let mut challenge = vec![0; 24];
        challenge.extend([0x01, 0x23, 0x45, 0x67, 0x89, 0xAB, 0xCD, 0xEF]);
        Messages {
            negotiate: vec![1, 2, 3],
            challenge,
            authenticate,
        }
    }

    /// `Domain` and `Server`, as the specification's example has them.
    fn pairs() -> Vec<u8> {
        let mut pairs = vec![2, 0, 12, 0];
        pairs.extend(wide("Domain"));
        pairs.extend([1, 0, 12, 0]);
        pairs.extend(wide("Server"));
        pairs.extend([0; 8]);
        pairs
    }

    /// [MS-NLMP] 4.2.4.2.2 and 4.2.4.1.2.
    const PROOF: [u8; 16] = [
        0x68, 0xCD, 0x0A, 0xB8, 0x51, 0xE5, 0x1C, 0x96, 0xAA, 0xBC, 0x92, 0x7B, 0xEB, 0xEF, 0x6A, 0x1C,
    ];
    const SESSION: [u8; 16] = [
        0x8D, 0xE4, 0x0C, 0xCA, 0xDB, 0xC1, 0x4A, 0x82, 0xF1, 0x5C, 0xB0, 0xAD, 0x0D, 0xE9, 0x5C, 0xA3,
    ];

    #[test]
    fn the_example_of_the_specification() {
        let whole = messages(authenticate(&pairs(), Some(&PROOF), UNICODE, [0; 16]));
        assert_eq!(whole.session_key(&SECRET).as_deref(), Some(&SESSION));
        assert_eq!(whole.session_key(&[0; 16]), None);
        let exchanged = messages(authenticate(&pairs(), Some(&PROOF), UNICODE | KEY_EXCHANGE, [0; 16]));
        // 4.2.4.2.3: the encrypted session key of the example is that of 16 times 0x55
        let encrypted = [
            0xC5, 0xDA, 0xD2, 0x54, 0x4F, 0xC9, 0x79, 0x90, 0x94, 0xCE, 0x1C, 0xE9, 0x0B, 0xC9, 0xD0, 0x3E,
        ];
        let mut text = exchanged.authenticate.clone();
        let at = text.len() - 16;
        text[at..].copy_from_slice(&encrypted);
        assert_eq!(messages(text).session_key(&SECRET).as_deref(), Some(&[0x55; 16]));
        assert_eq!(
            messages(authenticate(&pairs(), Some(&PROOF), 0, [0; 16])).session_key(&SECRET),
            None
        );
    }

    #[test]
    fn messages_that_say_so_are_checked() {
        let mut pairs = vec![6, 0, 4, 0, 2, 0, 0, 0];
        pairs.extend([0; 8]);
        let owner = [wide("USER"), wide("Domain")].concat();
        let key = keyed(&SECRET, &[&owner]);
        let draft = messages(authenticate(&pairs, None, UNICODE, [0; 16]));
        let answered = &field(&draft.authenticate, NT_RESPONSE_AT).unwrap()[PROOF_BYTES..];
        let proof = keyed(&key, &[&draft.challenge[24..32], answered]);
        let session = keyed(&key, &[proof.as_ref()]);
        let unsigned = messages(authenticate(&pairs, Some(proof.as_ref()), UNICODE, [0; 16]));
        assert_eq!(unsigned.session_key(&SECRET), None);
        let mic = keyed(
            &session,
            &[&unsigned.negotiate, &unsigned.challenge, &unsigned.authenticate],
        );
        let signed = messages(authenticate(&pairs, Some(proof.as_ref()), UNICODE, *mic));
        assert_eq!(signed.session_key(&SECRET), Some(session));
        let other = Messages {
            negotiate: vec![1, 2, 4],
            ..signed
        };
        assert_eq!(other.session_key(&SECRET), None);
    }

    #[test]
    fn names_in_capitals_of_windows_freerdp_and_others() {
        for owner in ["GROßER-ÄRGER", "GROßER-äRGER", "GROSSER-ÄRGER"] {
            let owner = [wide(owner), wide("Domain")].concat();
            let draft = messages(authenticate(&pairs(), None, UNICODE, [0; 16]));
            let answered = &field(&draft.authenticate, NT_RESPONSE_AT).unwrap()[PROOF_BYTES..];
            let proof = keyed(&keyed(&SECRET, &[&owner]), &[&draft.challenge[24..32], answered]);
            let proves = |user| {
                messages(authenticate_as(user, &pairs(), Some(proof.as_ref()), UNICODE, [0; 16]))
                    .session_key(&SECRET)
                    .is_some()
            };
            assert!(proves("großer-ärger"));
            assert!(!proves("grober-ärger"));
        }
    }

    #[test]
    fn nothing_that_is_cut_proves_anything() {
        let whole = authenticate(&pairs(), Some(&PROOF), UNICODE | KEY_EXCHANGE, [0; 16]);
        for length in 0..whole.len() {
            assert_eq!(
                messages(whole[..length].to_vec()).session_key(&SECRET),
                None,
                "{length}"
            );
        }
        for index in 0..whole.len() {
            let mut changed = whole.clone();
            changed[index] ^= 0x80;
            // nothing panics
            let _ = messages(changed).session_key(&SECRET);
        }
        // a response of version 1
        let mut short = whole;
        short[20..24].copy_from_slice(&[24, 0, 24, 0]);
        assert_eq!(messages(short).session_key(&SECRET), None);
    }
}
