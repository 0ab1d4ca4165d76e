//! The verifier (docs/format.md section 8).

use bytes::Bytes;
use ed25519_dalek::VerifyingKey;
use serde::Serialize;
use uuid::Uuid;

/// What to verify against.
#[derive(Debug, Clone, Default)]
pub struct VerifyOptions {
    /// The recording that is asked for; `None` takes the id of the first segment or manifest.
    pub recording: Option<Uuid>,
    /// Keys that are trusted. With none, everything is `Broken`.
    pub trusted: Vec<VerifyingKey>,
    /// Decode the whole screen stream and every event as well.
    pub deep: bool,
}

/// The overall result; maps to the exit codes 0, 3 and 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything is there and unchanged.
    Whole,
    /// True, but with gaps, undecoded PDUs, a recovered end, or not closed yet.
    Findings,
    /// Changed, incomplete, or not signed by a trusted key.
    Broken,
}

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FindingKind {
    /// There are gaps (finding).
    Gaps,
    /// There are undecoded PDUs (finding).
    Undecoded,
    /// Closed after a crash (finding).
    Recovered,
    /// No manifest: still open, or the gateway crashed (finding).
    StillOpen,
    /// A segment is missing (broken).
    Missing,
    /// A segment's bytes are damaged, cut or changed (broken).
    Damaged,
    /// A segment is in another place than it was written for (broken).
    Order,
    /// The chain of seals is interrupted: replaced or spliced (broken).
    Chain,
    /// Belongs to another recording (broken).
    OtherRecording,
    /// Not signed by a trusted key (broken).
    Signature,
    /// Contents contradict what the seal states (broken).
    Contents,
    /// The manifest is malformed or contradicts the segments (broken).
    Manifest,
    /// More segments exist than the manifest lists (broken).
    RolledBack,
    /// The screen stream or an event does not decode (broken, `deep` only).
    Undecodable,
}

/// One finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What it is about.
    pub kind: FindingKind,
    /// True when it breaks the recording; false for a finding that leaves it true.
    pub broken: bool,
    /// The segment, where one is to blame.
    pub segment: Option<u32>,
    /// One line for people.
    pub text: String,
}

/// The result of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The recording.
    pub recording: Option<Uuid>,
    /// Overall result.
    pub outcome: Outcome,
    /// Segments that were looked at.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Time of the last event.
    pub duration_ns: u64,
    /// Screen messages decoded (`deep`).
    pub frames: u64,
    /// What was found.
    pub findings: Vec<Finding>,
}

/// Verifies a recording, one segment at a time.
pub struct Verifier {}

impl Verifier {
    /// A verifier.
    #[must_use]
    pub fn new(_options: VerifyOptions) -> Self {
        Self {}
    }
    /// Looks at a segment object; call it in order of the numbers in the object keys.
    pub fn segment(&mut self, _number: u32, _bytes: &Bytes) {
        todo!()
    }
    /// Looks at the manifest (`None` when there is none) and reports.
    #[must_use]
    pub fn finish(self, _manifest: Option<&[u8]>) -> Report {
        todo!()
    }
}
