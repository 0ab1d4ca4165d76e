//! Closing what a crash left open (docs/format.md section 9). Never invents: only whole messages are kept.

use bytes::Bytes;
use ed25519_dalek::{SigningKey, VerifyingKey};
use uuid::Uuid;

use crate::{
    Channel, Error, Event, Result, Seal, SealedSegment, Segment, SegmentHeader,
    event::{EndReason, SessionEnd, SessionEvent, SessionStart},
    manifest::Tally,
    segment::SegmentWriter,
};

/// Makes a sealed segment from the bytes of an open one, up to its last whole event. `previous` is the seal of the
/// segment before it. `None` when no whole event is left.
///
/// # Errors
/// When the bytes are of another recording or number than expected, or no segment at all.
pub fn reseal(
    open: Bytes,
    expected: SegmentHeader,
    previous: Option<&Seal>,
    signing_key: &SigningKey,
) -> Result<Option<SealedSegment>> {
    let segment = Segment::open_truncated(open)?;
    if segment.header() != expected {
        let found = segment.header();
        return Err(Error::untrusted(format!(
            "open segment is number {} of recording {}, expected number {} of {}",
            found.number, found.recording, expected.number, expected.recording
        )));
    }
    let mut writer = SegmentWriter::new(expected)?;
    let mut last_ns = previous.map_or(0, |seal| seal.body().last_ns);
    for (sequence, message) in (0_u32..).zip(segment.messages()) {
        // A cut file may end in bytes that never were a message: an order that breaks, or JSON that is none, ends it.
        let Ok(message) = message else { break };
        if message.sequence != sequence || message.time_ns < last_ns {
            break;
        }
        // Events of a later version's channel can't be kept under a schema that we don't know; their loss would break
        // nothing but it would be silent.
        let channel = message
            .channel
            .ok_or_else(|| Error::unsupported("open segment has a channel of a later version"))?;
        if Event::from_payload(channel, message.payload.clone()).is_err() {
            break;
        }
        last_ns = message.time_ns;
        writer.write(channel, message.time_ns, &message.payload)?;
    }
    if writer.is_empty() {
        return Ok(None);
    }
    writer.seal(previous, signing_key).map(Some)
}

/// Makes the manifest of a crashed recording from its sealed segments, given in order.
pub struct Closing {
    recording: Uuid,
    trusted: Vec<VerifyingKey>,
    tally: Tally,
    last_seal: Option<Seal>,
    start: Option<SessionStart>,
    end: Option<SessionEnd>,
}

impl Closing {
    /// Begins; segments must be sealed by one of the trusted keys.
    #[must_use]
    pub fn new(recording: Uuid, trusted: Vec<VerifyingKey>) -> Self {
        Self {
            recording,
            trusted,
            tally: Tally::default(),
            last_seal: None,
            start: None,
            end: None,
        }
    }

    /// Adds the next segment, checked against the chain. On an error the recording can still be closed without it and
    /// what follows it.
    ///
    /// # Errors
    /// When it is damaged, out of order, of another recording, or not signed by a trusted key.
    pub fn segment(&mut self, bytes: &Bytes) -> Result<()> {
        let segment = Segment::open(bytes.clone())?;
        let seal = segment
            .seal()
            .cloned()
            .ok_or_else(|| Error::malformed("segment has no seal"))?;
        let body = seal.body();
        let number = self
            .last_seal
            .as_ref()
            .map_or(0, |last| last.body().number.saturating_add(1));
        if body.recording != self.recording || body.number != number {
            return Err(Error::untrusted(format!(
                "segment is number {} of recording {}, expected number {number} of {}",
                body.number, body.recording, self.recording
            )));
        }
        if body.previous != self.last_seal.as_ref().map(Seal::digest) {
            return Err(Error::untrusted(format!(
                "segment {number} does not continue the segment before it"
            )));
        }
        if !self.trusted.iter().any(|key| seal.verify(key).is_ok()) {
            return Err(Error::untrusted(format!(
                "segment {number} is not signed by a trusted key"
            )));
        }
        let mut kept = Vec::new();
        let (mut start, mut end) = (None, None);
        for message in segment.messages() {
            let message = message?;
            let Some(channel @ (Channel::Gap | Channel::Session)) = message.channel else {
                continue;
            };
            match Event::from_payload(channel, message.payload)? {
                Event::Session(SessionEvent::Start(facts)) => start = start.or(Some(*facts)),
                Event::Session(SessionEvent::End(facts)) => end = Some(facts),
                event => kept.push(event),
            }
        }
        for event in &kept {
            self.tally.event(event);
        }
        self.start = self.start.take().or(start);
        self.end = end.or(self.end.take());
        self.tally.segment(&seal, bytes);
        self.last_seal = Some(seal);
        Ok(())
    }

    /// Seal of the last segment added, for [`reseal`].
    #[must_use]
    pub fn last_seal(&self) -> Option<&Seal> {
        self.last_seal.as_ref()
    }

    /// Facts of the start event, once segment 0 is added.
    #[must_use]
    pub fn start(&self) -> Option<&SessionStart> {
        self.start.as_ref()
    }

    /// The manifest's bytes: marked recovered, ending with the last event that is there. When the session's end event is among
    /// them (the crash came between it and the manifest), its reason is kept.
    ///
    /// # Errors
    /// When there is no segment.
    pub fn finish(self, detail: &str, signing_key: &SigningKey) -> Result<Vec<u8>> {
        if self.tally.is_empty() {
            return Err(Error::input("a recording without segments can't be closed"));
        }
        let end = self.end.unwrap_or_else(|| SessionEnd {
            reason: EndReason::Recovered,
            detail: Some(detail.to_owned()),
            error_info: None,
        });
        self.tally
            .close(self.recording, self.start, end, true, signing_key)?
            .to_bytes()
    }
}
