//! Seals: what a segment states about itself, signed (docs/format.md section 6).

use std::collections::BTreeMap;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{Error, Result};

/// Put before the seal's text when it is signed, so that a signature can't be taken for one over something else.
pub const SEAL_DOMAIN: &[u8] = b"deskreel seal v1\0";
/// Name of the MCAP metadata record that holds a seal.
pub const SEAL_RECORD: &str = "deskreel.seal";
/// Largest text of a seal that a reader accepts, in bytes.
pub(crate) const SEAL_TEXT_MAX: usize = 1 << 20;

/// SHA-256 as 32 bytes.
pub type Sha256Bytes = [u8; 32];

/// SHA-256 of some bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Sha256Bytes {
    Sha256::digest(bytes).into()
}

/// Name of a key in seals, manifests and reports: the SHA-256 of the 32 key bytes, hex.
#[must_use]
pub fn key_id(key: &VerifyingKey) -> String {
    hex::encode(sha256(key.as_bytes()))
}

/// What a seal states; serialised once by the writer, and that text is what is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealBody {
    /// Recording id.
    pub recording: Uuid,
    /// Number of the segment, from 0.
    pub number: u32,
    /// SHA-256, hex, of all bytes of the segment before the seal record.
    pub digest: String,
    /// SHA-256, hex, of the previous segment's seal text; `None` for segment 0.
    pub previous: Option<String>,
    /// Time of the first event.
    pub first_ns: u64,
    /// Time of the last event.
    pub last_ns: u64,
    /// The first screen message of the segment is a key: decoding can begin with this segment alone.
    pub starts_with_key: bool,
    /// Times of the keyframes in this segment.
    pub keys_ns: Vec<u64>,
    /// Number of events a channel; channels without events are left out.
    pub events: BTreeMap<String, u64>,
    /// [`key_id`] of the signing key: a hint for people and rotation, never a reason to trust.
    pub key_id: String,
}

/// A seal: the exact text that was signed, its signature, and the text parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seal {
    text: String,
    signature: [u8; 64],
    body: SealBody,
}

impl Seal {
    /// Signs a body.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if JSON encoding fails.
    pub fn sign(body: SealBody, key: &SigningKey) -> Result<Self> {
        let text = serde_json::to_string(&body).map_err(|error| Error::internal("encode seal", error))?;
        let signature = sign_text(SEAL_DOMAIN, &text, key);
        Ok(Self { text, signature, body })
    }

    /// Reads a seal from its text and its signature in hex. Trusts nothing.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Malformed`] or [`crate::ErrorKind::TooLarge`].
    pub fn parse(text: &str, signature_hex: &str) -> Result<Self> {
        if text.len() > SEAL_TEXT_MAX {
            return Err(Error::too_large(format!("seal text of {} bytes", text.len())));
        }
        let body: SealBody = serde_json::from_str(text).map_err(|error| Error::malformed(format!("seal: {error}")))?;
        Ok(Self {
            text: text.to_owned(),
            signature: parse_signature("seal", signature_hex)?,
            body,
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Untrusted`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<()> {
        verify_text("seal", SEAL_DOMAIN, &self.text, &self.signature, key)
    }

    /// What the seal states.
    #[must_use]
    pub fn body(&self) -> &SealBody {
        &self.body
    }

    /// The text that was signed.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature in hex.
    #[must_use]
    pub fn signature_hex(&self) -> String {
        hex::encode(self.signature)
    }

    /// SHA-256, hex, of the text: what the next segment's seal names as `previous`.
    #[must_use]
    pub fn digest(&self) -> String {
        hex::encode(sha256(self.text.as_bytes()))
    }
}

pub(crate) fn sign_text(domain: &[u8], text: &str, key: &SigningKey) -> [u8; 64] {
    let mut message = Vec::with_capacity(domain.len() + text.len());
    message.extend_from_slice(domain);
    message.extend_from_slice(text.as_bytes());
    key.sign(&message).to_bytes()
}

pub(crate) fn verify_text(
    what: &str,
    domain: &[u8],
    text: &str,
    signature: &[u8; 64],
    key: &VerifyingKey,
) -> Result<()> {
    let mut message = Vec::with_capacity(domain.len() + text.len());
    message.extend_from_slice(domain);
    message.extend_from_slice(text.as_bytes());
    key.verify_strict(&message, &Signature::from_bytes(signature))
        .map_err(|_| Error::untrusted(format!("{what} is not signed by key {}", key_id(key))))
}

pub(crate) fn parse_signature(what: &str, signature_hex: &str) -> Result<[u8; 64]> {
    let mut signature = [0; 64];
    hex::decode_to_slice(signature_hex, &mut signature)
        .map_err(|error| Error::malformed(format!("{what} signature: {error}")))?;
    Ok(signature)
}
