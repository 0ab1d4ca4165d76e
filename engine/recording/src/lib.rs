//! The recording format of Deskreel: events, segments, manifest; writer, reader and verifier.
//!
//! A recording is a row of immutable segment objects (each a complete MCAP file, sealed and signed) closed by a
//! manifest. `docs/format.md` specifies every byte. This crate is pure: time is an argument (nanoseconds since the
//! session's start), keys are arguments, bytes go in and out; it opens no file and no socket and starts no thread.
//!
//! Writing: [`Recorder`]. Reading: [`Segment`] and [`ScreenDecoder`]. Proof: [`Verifier`]. After a crash: [`recover`].

#![forbid(unsafe_code)]

mod codec;
mod error;
pub mod event;
mod manifest;
mod picture;
mod recorder;
pub mod recover;
pub mod schema;
mod seal;
mod segment;
mod verify;

pub use codec::{ScreenDecoder, ScreenEncoder};
pub use ed25519_dalek::{SigningKey, VerifyingKey};
pub use error::{Error, ErrorKind, Result};
pub use event::{Channel, Event, ScreenMessage};
pub use manifest::{MANIFEST_DOMAIN, MANIFEST_VERSION, Manifest, ManifestBody, SegmentEntry};
pub use picture::{DIMENSION_MAX, PIXELS_MAX, Picture, Rect, Size};
pub use recorder::{Recorder, RecorderOptions, SealedSegment};
pub use seal::{SEAL_DOMAIN, SEAL_RECORD, Seal, SealBody, Sha256Bytes, key_id, sha256};
pub use segment::{Events, FORMAT_PROFILE, Segment, SegmentHeader};
pub use verify::{Finding, FindingKind, Outcome, Report, Verifier, VerifyOptions};

/// Object key of a segment: `<id>/00000000.mcap`.
#[must_use]
pub fn segment_key(recording: uuid::Uuid, number: u32) -> String {
    format!("{recording}/{number:08}.mcap")
}

/// Object key of the manifest: `<id>/manifest.json`.
#[must_use]
pub fn manifest_key(recording: uuid::Uuid) -> String {
    format!("{recording}/manifest.json")
}
