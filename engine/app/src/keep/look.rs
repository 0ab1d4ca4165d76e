//! What the objects of a recording say of it: its signed manifest, or, while there is none, its first segment.

use bytes::Bytes;
use deskreel_recording::event::{SessionEvent, SessionStart};
use deskreel_recording::{Event, Manifest, Segment, VerifyingKey, key_id, sha256};
use uuid::Uuid;

use crate::catalog::{self, Closed, Imported, SegmentRow, SessionRow, State};
use crate::pipeline::{end_text, gap_row, unknown_session};

/// The keys that count.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trust {
    /// This node's own.
    pub(crate) own: Option<VerifyingKey>,
    /// Other nodes'.
    pub(crate) others: Vec<VerifyingKey>,
}

/// Who signed something.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Signer {
    /// This node.
    Own,
    /// A node whose key is trusted, by its key's name.
    Trusted(String),
    /// Somebody else; the name is a claim.
    Stranger(String),
}

impl Trust {
    /// Whether more can be said of a closed recording now than when the catalog learned of it: its key has become trusted,
    /// or is this node's own (put back from a safe).
    pub(super) fn knows_better(&self, row: &SessionRow) -> bool {
        let Some(key) = &row.key_id else { return false };
        let is = |known: &VerifyingKey| key_id(known) == *key;
        self.own.as_ref().is_some_and(is) || row.unproven && self.others.iter().any(is)
    }

    fn signer(&self, claimed: &str, verifies: impl Fn(&VerifyingKey) -> bool) -> Signer {
        if self.own.as_ref().is_some_and(&verifies) {
            return Signer::Own;
        }
        match self.others.iter().find(|key| verifies(key)) {
            Some(key) => Signer::Trusted(key_id(key)),
            None => Signer::Stranger(claimed.to_owned()),
        }
    }
}

/// A closed recording, by its manifest.
///
/// # Errors
/// Bytes that are no manifest, or another recording's.
pub(super) fn closed(recording: Uuid, bytes: &Bytes, trust: &Trust) -> Result<Imported, String> {
    let manifest = Manifest::parse(bytes).map_err(|error| error.to_string())?;
    let body = manifest.body();
    if body.recording != recording {
        return Err(format!("it is the manifest of recording {}", body.recording));
    }
    let signer = trust.signer(&body.key_id, |key| manifest.verify(key).is_ok());
    let session = unknown_session(recording, body.start.as_ref());
    let mut segments = Vec::with_capacity(body.segments.len());
    for entry in &body.segments {
        let seal = entry.seal().map_err(|error| error.to_string())?;
        segments.push(SegmentRow {
            number: seal.body().number,
            bytes: entry.bytes,
            sha256: entry.sha256.clone(),
            first_ns: seal.body().first_ns,
            last_ns: seal.body().last_ns,
            starts_with_key: seal.body().starts_with_key,
        });
    }
    let duration_ms = catalog::duration_ms(body.duration_ns);
    let length = time::Duration::milliseconds(i64::try_from(duration_ms).unwrap_or(i64::MAX));
    let closed = Closed {
        state: if body.recovered {
            State::Recovered
        } else {
            State::Complete
        },
        ended: session.started.saturating_add(length),
        duration_ms,
        undecoded: body.undecoded_count,
        end_reason: end_text(&body.end),
        problem: None,
        manifest_sha256: Some(hex::encode(sha256(bytes))),
    };
    Ok(signed(
        signer,
        body.start.as_ref(),
        Imported {
            session,
            closed: Some(closed),
            note: None,
            segments,
            gaps: body.gaps.iter().map(gap_row).collect(),
            node: None,
            key_id: None,
            unproven: false,
        },
    ))
}

/// A recording without a manifest, by its first segment, if that is there.
///
/// # Errors
/// Bytes that are no segment, or another recording's.
pub(super) fn open(recording: Uuid, first: Option<Bytes>, trust: &Trust) -> Result<Imported, String> {
    let mut start: Option<SessionStart> = None;
    let mut signer = Signer::Stranger(String::new());
    if let Some(bytes) = first {
        let segment = Segment::open(bytes).map_err(|error| error.to_string())?;
        let header = segment.header();
        if (header.recording, header.number) != (recording, 0) {
            return Err(format!(
                "it is segment {} of recording {}",
                header.number, header.recording
            ));
        }
        let seal = segment.seal().ok_or("it has no seal")?;
        signer = trust.signer(&seal.body().key_id, |key| seal.verify(key).is_ok());
        let event = segment.events().next();
        if let Some(Ok((_, Event::Session(SessionEvent::Start(found))))) = event {
            start = Some(*found);
        }
    }
    let session = unknown_session(recording, start.as_ref());
    let imported = Imported {
        session,
        closed: None,
        note: None,
        segments: Vec::new(),
        gaps: Vec::new(),
        node: None,
        key_id: None,
        unproven: false,
    };
    Ok(signed(signer, start.as_ref(), imported))
}

/// A closed recording whose manifest can't be read: as an open one, and damaged.
pub(super) fn damaged(mut imported: Imported, problem: String) -> Imported {
    let started = imported.session.started;
    imported.closed = Some(Closed {
        state: State::Damaged,
        ended: started,
        duration_ms: 0,
        undecoded: 0,
        end_reason: "unknown".to_owned(),
        problem: Some(problem),
        manifest_sha256: None,
    });
    imported
}

fn signed(signer: Signer, start: Option<&SessionStart>, mut imported: Imported) -> Imported {
    let node = start.map(|start| start.node.clone()).filter(|node| !node.is_empty());
    let node = node.unwrap_or_else(|| "unknown".to_owned());
    match signer {
        Signer::Own => {}
        Signer::Trusted(key) => (imported.node, imported.key_id) = (Some(node), Some(key)),
        Signer::Stranger(key) => {
            (imported.node, imported.key_id) = (Some(node), Some(key).filter(|key| !key.is_empty()));
            imported.unproven = true;
        }
    }
    imported
}

/// As this node's own, but known from a storage only: while its own engine may still write it, nobody closes it.
pub(super) fn not_ours(mut imported: Imported, own: Option<&VerifyingKey>) -> Imported {
    if imported.node.is_none() {
        imported.node = Some(crate::node::name());
        imported.key_id = own.map(key_id);
    }
    imported
}
