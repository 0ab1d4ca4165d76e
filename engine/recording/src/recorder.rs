//! The recorder: events and pictures in, sealed segments and a manifest out.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;

use crate::{
    Event, Picture, Rect, Result, Seal,
    event::{SessionEnd, SessionStart},
};

/// Limits and intervals of a recorder.
#[derive(Debug, Clone, Copy)]
pub struct RecorderOptions {
    /// A segment is due for sealing at this age, if it holds an event.
    pub segment_max_age: Duration,
    /// A segment is due for sealing at this size.
    pub segment_max_bytes: u64,
    /// Activity after which the next changed frame becomes a key.
    pub keyframe_interval: Duration,
    /// Uncompressed bytes of a span (key included) after which the next frame becomes a key.
    pub key_max_raw_bytes: u64,
}

impl Default for RecorderOptions {
    fn default() -> Self {
        Self {
            segment_max_age: Duration::from_secs(60),
            segment_max_bytes: 4 << 20,
            keyframe_interval: Duration::from_secs(30),
            key_max_raw_bytes: 64 << 20,
        }
    }
}

/// A segment that never changes again.
#[derive(Debug, Clone)]
pub struct SealedSegment {
    /// Number of the segment, from 0.
    pub number: u32,
    /// The whole object.
    pub bytes: Bytes,
    /// Its seal.
    pub seal: Seal,
    /// How many bytes [`Recorder::take_open_bytes`] gave out already; they are the first bytes of `bytes`.
    pub taken: usize,
}

/// Writes one recording. Times are nanoseconds since the session's start; a time before the last one counts as the last.
pub struct Recorder {}

impl Recorder {
    /// A recorder whose first event is the start event at time 0.
    ///
    /// # Errors
    /// When the segment can't be begun.
    pub fn new(_start: SessionStart, _signing_key: SigningKey, _options: RecorderOptions) -> Result<Self> {
        todo!()
    }
    /// Records a picture. Only pixels inside `damage` are looked at, except for keys (the first picture, a new size,
    /// `keyframe_interval`, `key_max_raw_bytes`). Returns false when nothing changed and nothing was written.
    ///
    /// # Errors
    /// For a picture that contradicts itself or is above the limits; the recorder stays usable.
    pub fn frame(&mut self, _time_ns: u64, _picture: Picture<'_>, _damage: &[Rect]) -> Result<bool> {
        todo!()
    }
    /// Records any other event.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for [`Event::Screen`].
    pub fn push(&mut self, _time_ns: u64, _event: &Event) -> Result<()> {
        todo!()
    }
    /// Bytes appended to the open segment since the last call (whole chunks: a reader can use all of them).
    /// Empty when nothing happened. Call it about once a second and append to the spool file.
    ///
    /// # Errors
    /// When the MCAP writer fails.
    pub fn take_open_bytes(&mut self) -> Result<Bytes> {
        todo!()
    }
    /// Whether [`Recorder::seal`] should be called: the open segment is old or large enough.
    #[must_use]
    pub fn seal_due(&self, _time_ns: u64) -> bool {
        todo!()
    }
    /// Seals the open segment; `None` when it holds nothing.
    ///
    /// # Errors
    /// When the MCAP writer fails.
    pub fn seal(&mut self, _time_ns: u64) -> Result<Option<SealedSegment>> {
        todo!()
    }
    /// Number of the open segment (the next one that `seal` gives).
    #[must_use]
    pub fn open_number(&self) -> u32 {
        todo!()
    }
    /// Frees compressor and picture memory; the next picture becomes a key. For sessions that rest for minutes.
    pub fn release_memory(&mut self) {
        todo!()
    }
    /// Records the end, seals what is open and makes the manifest (`manifest.json`).
    ///
    /// # Errors
    /// When the MCAP writer fails.
    pub fn finish(self, _time_ns: u64, _end: SessionEnd) -> Result<(Option<SealedSegment>, Vec<u8>)> {
        todo!()
    }
}
