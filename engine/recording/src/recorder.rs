//! The recorder: events and pictures in, sealed segments and a manifest out.

use std::time::Duration;

use bytes::Bytes;
use ed25519_dalek::SigningKey;

use crate::{
    Error, Event, Picture, Rect, Result, ScreenEncoder, ScreenMessage, Seal,
    event::{PointerState, SessionEnd, SessionEvent, SessionStart},
    manifest::Tally,
    segment::{SegmentHeader, SegmentWriter},
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

/// Writes one recording.
///
/// Times are nanoseconds since the session's start; a time before the last one counts as the last one.
/// Memory: the open segment (up to `segment_max_bytes` and one event), the previous picture, about 10 MiB of compressor
/// from the first picture on.
pub struct Recorder {
    start: SessionStart,
    signing_key: SigningKey,
    options: RecorderOptions,
    encoder: ScreenEncoder,
    pointer: PointerState,
    pointer_known: bool,
    segment: SegmentWriter,
    last_seal: Option<Seal>,
    tally: Tally,
    now_ns: u64,
    activity_ns: u64,
    last_frame_ns: u64,
    size: (u16, u16),
    /// The segment is being written to.
    writing: bool,
}

impl Recorder {
    /// A recorder whose first event is the start event at time 0.
    ///
    /// # Errors
    /// When the segment can't be begun.
    pub fn new(start: SessionStart, signing_key: SigningKey, options: RecorderOptions) -> Result<Self> {
        let segment = SegmentWriter::new(SegmentHeader {
            recording: start.recording,
            number: 0,
        })?;
        let mut recorder = Self {
            signing_key,
            options,
            encoder: ScreenEncoder::new(options.key_max_raw_bytes),
            pointer: PointerState::default(),
            pointer_known: false,
            segment,
            last_seal: None,
            tally: Tally::default(),
            now_ns: 0,
            activity_ns: 0,
            last_frame_ns: 0,
            size: (0, 0),
            writing: false,
            start: start.clone(),
        };
        recorder.write(&Event::Session(SessionEvent::Start(Box::new(start))))?;
        Ok(recorder)
    }

    /// Records a picture. Only pixels inside `damage` are looked at, except for keys (the first picture, a new size,
    /// `keyframe_interval`, `key_max_raw_bytes`). Returns false when nothing changed and nothing was written.
    ///
    /// # Errors
    /// For a picture that contradicts itself or is above the limits; the recorder stays usable.
    pub fn frame(&mut self, time_ns: u64, picture: Picture<'_>, damage: &[Rect]) -> Result<bool> {
        self.advance(time_ns);
        let interval_ns = nanos(self.options.keyframe_interval);
        // A pause counts as little activity: a clock that ticks once a minute shall not cause a key each time.
        let since_last = (self.now_ns - self.last_frame_ns).min(interval_ns / 4);
        let key_due = self.activity_ns.saturating_add(since_last) >= interval_ns;
        let Some(message) = self.encoder.encode(picture, damage, key_due)? else {
            return Ok(false);
        };
        self.last_frame_ns = self.now_ns;
        self.activity_ns = if message.key {
            0
        } else {
            self.activity_ns.saturating_add(since_last)
        };
        if message.key {
            self.key(message, (picture.width, picture.height))?;
        } else {
            self.write(&Event::Screen(message))?;
        }
        Ok(true)
    }

    fn key(&mut self, message: ScreenMessage, (width, height): (u16, u16)) -> Result<()> {
        if self.size != (width, height) {
            self.size = (width, height);
            self.write(&Event::Session(SessionEvent::Resized { width, height }))?;
        }
        self.write(&Event::Screen(message))?;
        // With the pointer's whole state behind it, a key is a complete place to seek to.
        if self.pointer_known {
            self.write(&Event::Pointer(self.pointer.to_event()))?;
        }
        Ok(())
    }

    /// Records any other event.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] for [`Event::Screen`], which only [`Recorder::frame`] makes.
    pub fn push(&mut self, time_ns: u64, event: &Event) -> Result<()> {
        if matches!(event, Event::Screen(_)) {
            return Err(Error::input("screen events are made by frame()"));
        }
        self.advance(time_ns);
        if self.pointer.apply(event) || matches!(event, Event::Pointer(_)) {
            self.pointer_known = true;
        }
        self.write(event)
    }

    /// Bytes appended to the open segment since the last call (whole chunks: a reader can use all of them).
    /// Empty when nothing happened. Call it about once a second and append to the spool file. The first bytes of a segment
    /// follow the seal of the one before, so call it before [`Recorder::seal`] or use [`SealedSegment::taken`].
    ///
    /// # Errors
    /// When the MCAP writer fails.
    pub fn take_open_bytes(&mut self) -> Result<Bytes> {
        self.written(|recorder| recorder.segment.take())
    }

    /// False once a panic has cut off what was being written. After one in a picture's encoding
    /// [`Recorder::release_memory`] makes a new beginning.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        !self.writing
    }

    /// Number of the open segment: the one that the next [`Recorder::seal`] gives.
    #[must_use]
    pub fn open_number(&self) -> u32 {
        self.next_number()
    }

    /// Whether [`Recorder::seal`] should be called: the open segment is old or large enough.
    #[must_use]
    pub fn seal_due(&self, time_ns: u64) -> bool {
        let Some(first_ns) = self.segment.first_ns() else {
            return false;
        };
        time_ns.saturating_sub(first_ns) >= nanos(self.options.segment_max_age)
            || self.segment.size() >= self.options.segment_max_bytes
    }

    /// Seals the open segment; `None` when it holds nothing.
    ///
    /// # Errors
    /// When the MCAP writer fails; the recording can't go on then.
    pub fn seal(&mut self, time_ns: u64) -> Result<Option<SealedSegment>> {
        self.advance(time_ns);
        self.written(Self::seal_open)
    }

    fn seal_open(&mut self) -> Result<Option<SealedSegment>> {
        if self.segment.is_empty() {
            return Ok(None);
        }
        let number = self
            .next_number()
            .checked_add(1)
            .ok_or_else(|| Error::too_large("recording has too many segments"))?;
        let next = SegmentWriter::new(SegmentHeader {
            recording: self.start.recording,
            number,
        })?;
        let segment = std::mem::replace(&mut self.segment, next);
        let sealed = segment.seal(self.last_seal.as_ref(), &self.signing_key)?;
        self.tally.segment(&sealed.seal, &sealed.bytes);
        self.last_seal = Some(sealed.seal.clone());
        Ok(Some(sealed))
    }

    /// Frees compressor and picture memory; the next changed picture becomes a key. For sessions that rest for minutes.
    pub fn release_memory(&mut self) {
        self.encoder.release();
    }

    /// Records the end, seals what is open and makes the manifest (`manifest.json`).
    ///
    /// # Errors
    /// When the MCAP writer fails.
    pub fn finish(mut self, time_ns: u64, end: SessionEnd) -> Result<(Option<SealedSegment>, Vec<u8>)> {
        self.push(time_ns, &Event::Session(SessionEvent::End(end.clone())))?;
        let sealed = self.seal(time_ns)?;
        let manifest = self
            .tally
            .close(self.start.recording, Some(self.start), end, false, &self.signing_key)?;
        Ok((sealed, manifest.to_bytes()?))
    }

    fn next_number(&self) -> u32 {
        self.last_seal
            .as_ref()
            .map_or(0, |seal| seal.body().number.saturating_add(1))
    }

    fn advance(&mut self, time_ns: u64) {
        self.now_ns = self.now_ns.max(time_ns);
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        let payload = event.to_payload()?;
        self.written(|recorder| {
            recorder.tally.event(event);
            recorder.segment.write(event.channel(), recorder.now_ns, &payload)
        })
    }

    fn written<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.writing = true;
        let done = act(self);
        self.writing = false;
        done
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
