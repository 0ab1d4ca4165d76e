//! The manifest: the signed document that closes a recording (docs/format.md section 7).

use std::collections::BTreeMap;

use ed25519_dalek::{SigningKey, VerifyingKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Error, Event, Result, Size,
    event::{Gap, SessionEnd, SessionEvent, SessionStart},
    seal::{Seal, key_id, parse_signature, sign_text, verify_text},
};

/// Put before the manifest's text when it is signed.
pub const MANIFEST_DOMAIN: &[u8] = b"deskreel manifest v1\0";
/// Major version of manifests; readers refuse others.
pub const MANIFEST_VERSION: u32 = 1;
/// Largest manifest that a reader accepts, in bytes.
pub(crate) const MANIFEST_MAX: usize = 256 << 20;
/// Gaps that a manifest lists one by one; more are only counted.
pub(crate) const MANIFEST_GAPS_MAX: usize = 1000;

/// One segment as the manifest repeats it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentEntry {
    /// The seal's exact text.
    pub seal: String,
    /// The seal's signature, hex.
    pub signature: String,
    /// Size of the whole object in bytes.
    pub bytes: u64,
    /// SHA-256 of the whole object, hex.
    pub sha256: String,
}

impl SegmentEntry {
    /// The entry's seal, parsed.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Malformed`] naming what is wrong.
    pub fn seal(&self) -> Result<Seal> {
        Seal::parse(&self.seal, &self.signature)
    }
}

/// What a manifest states; serialised once by the writer, and that text is what is signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ManifestBody {
    /// Recording id.
    pub recording: Uuid,
    /// Facts at the start; `None` when a crashed recording lost segment 0.
    pub start: Option<SessionStart>,
    /// The role decision, as the policy printed it.
    pub decision: Option<serde_json::Value>,
    /// Time of the last event.
    pub duration_ns: u64,
    /// How it ended.
    pub end: SessionEnd,
    /// True when the recording was closed after a crash.
    pub recovered: bool,
    /// All segments in order.
    pub segments: Vec<SegmentEntry>,
    /// Number of events a channel.
    pub events: BTreeMap<String, u64>,
    /// The first 1000 gaps.
    pub gaps: Vec<Gap>,
    /// Number of all gaps.
    pub gaps_count: u64,
    /// Time in all gaps.
    pub gaps_ns: u64,
    /// PDUs that could not be decoded.
    pub undecoded_count: u64,
    /// Largest width and largest height that the screen had (perhaps at different times); `None` without a picture.
    #[serde(default)]
    pub screen_max: Option<Size>,
    /// Size of all segments in bytes.
    pub bytes: u64,
    /// [`key_id`] of the signing key; a hint, never a reason to trust.
    pub key_id: String,
}

/// The file around the body: the body's exact text as a string, so that any JSON parser yields the signed bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ManifestFile {
    deskreel_manifest: u32,
    manifest: String,
    signature: String,
    #[serde(default)]
    attestations: Vec<serde_json::Value>,
}

/// A manifest: the exact text that was signed, its signature, and the text parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct Manifest {
    text: String,
    signature: [u8; 64],
    attestations: Vec<serde_json::Value>,
    body: ManifestBody,
}

impl Manifest {
    /// Signs a body; sets its `key_id`.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if JSON encoding fails.
    pub fn sign(mut body: ManifestBody, key: &SigningKey) -> Result<Self> {
        body.key_id = key_id(&key.verifying_key());
        let text = serde_json::to_string(&body).map_err(|error| Error::internal("encode manifest", error))?;
        let signature = sign_text(MANIFEST_DOMAIN, &text, key);
        Ok(Self {
            text,
            signature,
            attestations: Vec::new(),
            body,
        })
    }

    /// Reads a manifest file. Trusts nothing: see [`Manifest::verify`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Malformed`], [`crate::ErrorKind::TooLarge`], or [`crate::ErrorKind::Unsupported`] for another major version.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            deskreel_manifest: u32,
        }
        if bytes.len() > MANIFEST_MAX {
            return Err(Error::too_large(format!("manifest of {} bytes", bytes.len())));
        }
        let malformed = |error: serde_json::Error| Error::malformed(format!("manifest: {error}"));
        let version: Version = serde_json::from_slice(bytes).map_err(malformed)?;
        if version.deskreel_manifest != MANIFEST_VERSION {
            return Err(Error::unsupported(format!(
                "manifest version {} (this reader knows {MANIFEST_VERSION})",
                version.deskreel_manifest
            )));
        }
        let file: ManifestFile = serde_json::from_slice(bytes).map_err(malformed)?;
        let body: ManifestBody = serde_json::from_str(&file.manifest).map_err(malformed)?;
        let signature = parse_signature("manifest", &file.signature)?;
        Ok(Self {
            text: file.manifest,
            signature,
            attestations: file.attestations,
            body,
        })
    }

    /// Checks the signature.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Untrusted`].
    pub fn verify(&self, key: &VerifyingKey) -> Result<()> {
        verify_text("manifest", MANIFEST_DOMAIN, &self.text, &self.signature, key)
    }

    /// What the manifest states.
    #[must_use]
    pub fn body(&self) -> &ManifestBody {
        &self.body
    }

    /// Statements of others over the signed text (time stamps); none are defined yet.
    #[must_use]
    pub fn attestations(&self) -> &[serde_json::Value] {
        &self.attestations
    }

    /// The file's bytes.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if JSON encoding fails.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let file = ManifestFile {
            deskreel_manifest: MANIFEST_VERSION,
            manifest: self.text.clone(),
            signature: hex::encode(self.signature),
            attestations: self.attestations.clone(),
        };
        let mut bytes = serde_json::to_vec_pretty(&file).map_err(|error| Error::internal("encode manifest", error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// Collects what a manifest repeats, segment by segment and event by event.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    segments: Vec<SegmentEntry>,
    events: BTreeMap<String, u64>,
    gaps: Vec<Gap>,
    gaps_count: u64,
    gaps_ns: u64,
    screen_max: Option<Size>,
    last_ns: u64,
    bytes: u64,
}

impl Tally {
    /// Takes what a manifest repeats of single events: gaps and sizes.
    pub(crate) fn event(&mut self, event: &Event) {
        match event {
            Event::Gap(gap) => self.gap(gap),
            Event::Session(SessionEvent::Resized { width, height }) => {
                let max = self.screen_max.get_or_insert_default();
                max.width = max.width.max(*width);
                max.height = max.height.max(*height);
            }
            _ => {}
        }
    }

    fn gap(&mut self, gap: &Gap) {
        self.gaps_count += 1;
        self.gaps_ns = self.gaps_ns.saturating_add(gap.to_ns.saturating_sub(gap.from_ns));
        if self.gaps.len() < MANIFEST_GAPS_MAX {
            self.gaps.push(gap.clone());
        }
    }

    pub(crate) fn segment(&mut self, seal: &Seal, object: &[u8]) {
        for (channel, count) in &seal.body().events {
            let total = self.events.entry(channel.clone()).or_default();
            *total = total.saturating_add(*count);
        }
        self.last_ns = self.last_ns.max(seal.body().last_ns);
        self.bytes += object.len() as u64;
        self.segments.push(SegmentEntry {
            seal: seal.text().to_owned(),
            signature: seal.signature_hex(),
            bytes: object.len() as u64,
            sha256: hex::encode(crate::seal::sha256(object)),
        });
    }

    pub(crate) fn close(
        self,
        recording: Uuid,
        start: Option<SessionStart>,
        end: SessionEnd,
        recovered: bool,
        key: &SigningKey,
    ) -> Result<Manifest> {
        let undecoded_count = self.undecoded();
        let body = ManifestBody {
            recording,
            decision: start.as_ref().and_then(|start| start.decision.clone()),
            start,
            duration_ns: self.last_ns,
            end,
            recovered,
            segments: self.segments,
            events: self.events,
            gaps: self.gaps,
            gaps_count: self.gaps_count,
            gaps_ns: self.gaps_ns,
            undecoded_count,
            screen_max: self.screen_max,
            bytes: self.bytes,
            key_id: String::new(),
        };
        Manifest::sign(body, key)
    }

    /// Where a manifest disagrees with what was collected; empty when it does not.
    pub(crate) fn disagreements(&self, body: &ManifestBody) -> Vec<&'static str> {
        let undecoded = self.undecoded();
        let mut wrong = Vec::new();
        for (agrees, what) in [
            (body.events == self.events, "event counts"),
            (
                body.gaps_count == self.gaps_count && body.gaps_ns == self.gaps_ns && body.gaps == self.gaps,
                "gaps",
            ),
            (body.undecoded_count == undecoded, "undecoded count"),
            (body.screen_max == self.screen_max, "size of the screen"),
            (body.duration_ns == self.last_ns, "duration"),
            (body.bytes == self.bytes, "size"),
        ] {
            if !agrees {
                wrong.push(what);
            }
        }
        wrong
    }

    pub(crate) fn undecoded(&self) -> u64 {
        self.events.get(crate::Channel::Undecoded.topic()).copied().unwrap_or(0)
    }

    /// Number of gaps and the time in them.
    pub(crate) fn gaps(&self) -> (u64, u64) {
        (self.gaps_count, self.gaps_ns)
    }

    pub(crate) fn last_ns(&self) -> u64 {
        self.last_ns
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }
}
