//! Signing and sealing of an NTLM session ([MS-NLMP] 3.4), with extended session security, key exchange and 128 bits: what
//! every CredSSP client of this century negotiates.
//!
//! sspi has this too, but keeps the sequence number to itself: it can't take a `mechListMIC` of a user who was not known
//! when the negotiation began.

use hmac::{Hmac, KeyInit as _, Mac as _};
use md5::{Digest as _, Md5};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Version, checksum and sequence number in front of every message.
const SIGNATURE_BYTES: usize = 16;
const VERSION: [u8; 4] = [1, 0, 0, 0];
const CLIENT_SIGN: &[u8] = b"session key to client-to-server signing key magic constant\0";
const SERVER_SIGN: &[u8] = b"session key to server-to-client signing key magic constant\0";
const CLIENT_SEAL: &[u8] = b"session key to client-to-server sealing key magic constant\0";
const SERVER_SEAL: &[u8] = b"session key to server-to-client sealing key magic constant\0";

/// Both directions of one session, as the server sees them.
#[derive(Clone)]
pub(super) struct Seal {
    send: Direction,
    receive: Direction,
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
struct Direction {
    signing: [u8; 16],
    cipher: Rc4,
    sequence: u32,
}

impl Seal {
    pub(super) fn server(session_key: &[u8]) -> Self {
        Self {
            send: Direction::new(session_key, SERVER_SIGN, SERVER_SEAL),
            receive: Direction::new(session_key, CLIENT_SIGN, CLIENT_SEAL),
        }
    }

    /// Signature and ciphertext.
    pub(super) fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let digest = self.send.digest(plain);
        let mut cipher = plain.to_vec();
        self.send.cipher.apply(&mut cipher);
        let mut sealed = self.send.signature(digest).to_vec();
        sealed.append(&mut cipher);
        sealed
    }

    /// What the client has sealed; `None` = with another key, out of order, or altered. After `None` nothing opens any more.
    pub(super) fn open(&mut self, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (signature, cipher) = sealed.split_at_checked(SIGNATURE_BYTES)?;
        let mut plain = Zeroizing::new(cipher.to_vec());
        self.receive.cipher.apply(&mut plain);
        let digest = self.receive.digest(&plain);
        let expected = self.receive.signature(digest);
        same(&expected, signature).then_some(plain)
    }

    /// The signature of SPNEGO's list of mechanisms. It takes a number, but leaves the cipher where it is ([MS-SPNG] 3.3.5.1).
    pub(super) fn mic(&mut self, mechanisms: &[u8]) -> [u8; SIGNATURE_BYTES] {
        self.send.mic(mechanisms)
    }

    /// Whether the client's signature of the list of mechanisms is right.
    pub(super) fn check_mic(&mut self, mechanisms: &[u8], mic: &[u8]) -> bool {
        same(&self.receive.mic(mechanisms), mic)
    }

    #[cfg(test)]
    pub(super) fn client(session_key: &[u8]) -> Self {
        let Self { send, receive } = Self::server(session_key);
        Self {
            send: receive,
            receive: send,
        }
    }
}

impl Direction {
    fn new(session_key: &[u8], sign: &[u8], seal: &[u8]) -> Self {
        let sealing = Zeroizing::new(keyed(session_key, seal));
        Self {
            signing: keyed(session_key, sign),
            cipher: Rc4::new(sealing.as_ref()),
            sequence: 0,
        }
    }

    /// HMAC-MD5 over number and text.
    fn digest(&self, plain: &[u8]) -> [u8; 8] {
        let mut first = [0; 8];
        if let Ok(mut mac) = Hmac::<Md5>::new_from_slice(&self.signing) {
            mac.update(&self.sequence.to_le_bytes());
            mac.update(plain);
            for (to, from) in first.iter_mut().zip(mac.finalize().into_bytes()) {
                *to = from;
            }
        }
        first
    }

    /// The signature with the next number.
    fn signature(&mut self, mut checksum: [u8; 8]) -> [u8; SIGNATURE_BYTES] {
        self.cipher.apply(&mut checksum);
        let mut signature = [0; SIGNATURE_BYTES];
        let parts = VERSION.into_iter().chain(checksum).chain(self.sequence.to_le_bytes());
        for (to, from) in signature.iter_mut().zip(parts) {
            *to = from;
        }
        self.sequence = self.sequence.wrapping_add(1);
        signature
    }

    fn mic(&mut self, text: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let cipher = self.cipher.clone();
        let digest = self.digest(text);
        let signature = self.signature(digest);
        self.cipher = cipher;
        signature
    }
}

fn keyed(session_key: &[u8], magic: &[u8]) -> [u8; 16] {
    Md5::new()
        .chain_update(session_key)
        .chain_update(magic)
        .finalize()
        .into()
}

/// In the same time wherever the first difference is.
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |differences, (a, b)| differences | (a ^ b)) == 0
}

#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(super) struct Rc4 {
    state: [u8; 256],
    i: u8,
    j: u8,
}

impl Rc4 {
    pub(super) fn new(key: &[u8]) -> Self {
        let mut state = [0; 256];
        for (place, value) in state.iter_mut().zip(0..=u8::MAX) {
            *place = value;
        }
        let mut j = 0_u8;
        for (i, key) in (0..state.len()).zip(key.iter().cycle()) {
            j = j.wrapping_add(state[i]).wrapping_add(*key);
            state.swap(i, usize::from(j));
        }
        Self { state, i: 0, j: 0 }
    }

    pub(super) fn apply(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.i = self.i.wrapping_add(1);
            let a = self.state[usize::from(self.i)];
            self.j = self.j.wrapping_add(a);
            let b = self.state[usize::from(self.j)];
            self.state.swap(usize::from(self.i), usize::from(self.j));
            *byte ^= self.state[usize::from(a.wrapping_add(b))];
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// [MS-NLMP] 4.2.4.4: the sealed message of the NTLMv2 example.
    #[test]
    fn the_example_of_the_specification() {
        let plain: Vec<u8> = "Plaintext".encode_utf16().flat_map(u16::to_le_bytes).collect();
        let mut client = Seal::client(&[0x55; 16]);
        assert_eq!(
            hex::encode(client.seal(&plain)),
            "010000007fb38ec5c55d497600000000\
             54e50165bf1936dc996020c1811b0f06fb5f"
        );
    }

    #[test]
    fn what_one_side_seals_the_other_opens_once_and_in_order() {
        let (mut server, mut client) = (Seal::server(&[7; 16]), Seal::client(&[7; 16]));
        let mic = client.mic(b"mechanisms");
        assert!(!server.clone().check_mic(b"mechanism", &mic));
        assert!(server.check_mic(b"mechanisms", &mic));
        let (first, second) = (client.seal(b"one"), client.seal(b"two"));
        assert!(server.clone().open(&second).is_none());
        assert_eq!(server.open(&first).unwrap().as_slice(), b"one");
        assert!(server.clone().open(&first).is_none());
        assert_eq!(server.open(&second).unwrap().as_slice(), b"two");
        assert!(Seal::server(&[8; 16]).open(&first).is_none());
        assert!(server.open(&[0; 15]).is_none());
    }
}
