//! Closing what a crash left open (docs/format.md section 9). Never invents: only whole messages are kept.

use bytes::Bytes;
use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::{Result, Seal, SealedSegment, SegmentHeader};

/// Makes a sealed segment from the bytes of an open one, up to its last whole event. `previous` is the seal of the
/// segment before it. `None` when no whole event is left.
///
/// # Errors
/// When the bytes are of another recording or number than expected, or no segment at all.
pub fn reseal(
    _open: Bytes,
    _expected: SegmentHeader,
    _previous: Option<&Seal>,
    _signing_key: &SigningKey,
) -> Result<Option<SealedSegment>> {
    todo!()
}

/// Makes the manifest of a crashed recording from its sealed segments, given in order.
pub struct Closing {}

impl Closing {
    /// Begins; segments must be sealed by one of the trusted keys.
    #[must_use]
    pub fn new(_recording: uuid::Uuid, _trusted: Vec<VerifyingKey>) -> Self {
        Self {}
    }
    /// Adds the next segment, checked against the chain.
    ///
    /// # Errors
    /// When it is damaged, out of order, or not signed by a trusted key.
    pub fn segment(&mut self, _bytes: &Bytes) -> Result<()> {
        todo!()
    }
    /// Seal of the last segment added, for [`reseal`].
    #[must_use]
    pub fn last_seal(&self) -> Option<&Seal> {
        None
    }
    /// The manifest's bytes: recovered, ending with the last event that is there.
    ///
    /// # Errors
    /// When there is no segment.
    pub fn finish(self, _detail: &str, _signing_key: &SigningKey) -> Result<Vec<u8>> {
        todo!()
    }
}
