//! Segments: complete MCAP files with a seal.

use bytes::Bytes;
use uuid::Uuid;

use crate::{Event, Result, Seal};

/// MCAP profile of segments; the number is the major format version.
pub const FORMAT_PROFILE: &str = "deskreel/1";

/// What a segment says at its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Recording id.
    pub recording: Uuid,
    /// Number of the segment.
    pub number: u32,
}

/// A segment, parsed; its bytes are shared, not copied.
#[derive(Debug, Clone)]
pub struct Segment {}

impl Segment {
    /// Opens a sealed segment: checks its structure and its digest against its seal (not the signature: see
    /// [`Seal::verify`] and [`crate::Verifier`]). Never trusts the summary.
    ///
    /// # Errors
    /// Malformed, Unsupported (other major version), Untrusted (digest).
    pub fn open(_bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// Opens an open or cut segment: all events up to the last whole one, no seal required.
    ///
    /// # Errors
    /// When not even the header is there, or the major version is another one.
    pub fn open_truncated(_bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// Recording id and number.
    #[must_use]
    pub fn header(&self) -> SegmentHeader {
        todo!()
    }
    /// The seal; `None` for an open segment.
    #[must_use]
    pub fn seal(&self) -> Option<&Seal> {
        todo!()
    }
    /// The events in order of arrival with their times; channels that this version doesn't know are skipped.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        todo!()
    }
}

/// Iterator over a segment's events.
pub struct Events<'a>(std::marker::PhantomData<&'a ()>);

impl Iterator for Events<'_> {
    type Item = Result<(u64, Event)>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}
