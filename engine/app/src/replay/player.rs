//! Goes through a recording's events and keeps picture and pointer.

use std::collections::VecDeque;

use anyhow::Context as _;
use deskreel_recording::{Event, Picture, Rect, ScreenDecoder, segment_key};

use super::pointer::PointerView;
use super::{Index, Source};

/// One step of a player: an event, after picture and pointer took it in.
pub(crate) struct Step {
    /// When, in nanoseconds since the session's start.
    pub(crate) time_ns: u64,
    /// What happened. A screen event's bytes are decoded already.
    pub(crate) event: Event,
    /// What it changed in the picture; empty for events that don't change it.
    pub(crate) changed: Vec<Rect>,
    /// Whether the pointer is another, or elsewhere.
    pub(crate) pointer_changed: bool,
}

/// Goes through a recording's events from any moment on. One segment is in memory at a time.
pub(crate) struct Player<'a> {
    source: &'a Source,
    index: &'a Index,
    /// Place of the next segment to read in the index.
    next: usize,
    events: VecDeque<(u64, Event)>,
    /// The object that `events` are from.
    current: String,
    decoder: ScreenDecoder,
    pointer: PointerView,
    /// Screen events before this moment belong to an older keyframe.
    key_ns: u64,
    /// Events before this moment are passed over.
    events_ns: u64,
    has_key: bool,
    /// Whether pictures are decoded.
    pictures: bool,
}

impl<'a> Player<'a> {
    /// At the begin of the recording.
    pub(crate) fn start(source: &'a Source, index: &'a Index) -> Self {
        Self {
            source,
            index,
            next: 0,
            events: VecDeque::new(),
            current: String::new(),
            decoder: ScreenDecoder::new(),
            pointer: PointerView::default(),
            key_ns: 0,
            events_ns: 0,
            has_key: false,
            pictures: true,
        }
    }

    /// The same without decoding any picture; screen events don't come up.
    pub(crate) fn without_pictures(mut self) -> Self {
        self.pictures = false;
        self
    }

    /// At the last keyframe at or before a moment, or at the begin where there is none. Events between that keyframe and
    /// the moment come first.
    pub(crate) fn before(source: &'a Source, index: &'a Index, time_ns: u64) -> Self {
        let mut player = Self::start(source, index);
        if let Some((place, key_ns)) = index.key_before(time_ns) {
            player.next = place;
            player.key_ns = key_ns;
            player.events_ns = key_ns;
        }
        player
    }

    /// The recording's id.
    pub(crate) fn recording(&self) -> uuid::Uuid {
        self.source.recording()
    }

    /// The picture after the last step; `None` before the first keyframe.
    pub(crate) fn picture(&self) -> Option<Picture<'_>> {
        self.decoder.picture()
    }

    /// The pointer after the last step; `None` while hidden or unknown.
    pub(crate) fn pointer(&self) -> Option<deskreel_sdk::Pointer<'_>> {
        self.pointer.shown()
    }

    /// When the next event is; `None` at the end of what is sealed.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn peek(&mut self) -> anyhow::Result<Option<u64>> {
        loop {
            let front = self.events.front();
            match front.map(|(time_ns, event)| (*time_ns, self.is_left_out(*time_ns, event))) {
                Some((time_ns, false)) => return Ok(Some(time_ns)),
                Some((_, true)) => drop(self.events.pop_front()),
                None => {
                    if !self.read()? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Whether an event does not come up: pictures that are not wanted or can't be decoded, and what lies before the begin.
    fn is_left_out(&self, time_ns: u64, event: &Event) -> bool {
        match event {
            Event::Screen(_) if !self.pictures => true,
            Event::Screen(message) => !self.has_key && (!message.key || time_ns < self.key_ns),
            _ => time_ns < self.events_ns,
        }
    }

    /// Takes all events up to and including a moment.
    ///
    /// # Errors
    /// As [`next`](Self::next).
    pub(crate) fn play_to(&mut self, time_ns: u64) -> anyhow::Result<()> {
        while self.peek()?.is_some_and(|next| next <= time_ns) {
            self.next()?;
        }
        Ok(())
    }

    /// The next event; `None` at the end of what is sealed.
    ///
    /// # Errors
    /// Objects that are missing, unreadable or damaged; the error names the object.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Step>> {
        loop {
            let Some((time_ns, event)) = self.events.pop_front() else {
                if self.read()? {
                    continue;
                }
                return Ok(None);
            };
            if self.is_left_out(time_ns, &event) {
                continue;
            }
            let mut changed = Vec::new();
            let mut pointer_changed = false;
            match &event {
                Event::Screen(message) => {
                    self.has_key = true;
                    let rects = self
                        .decoder
                        .apply(message)
                        .with_context(|| format!("segment {} is damaged at {}", self.current, super::clock(time_ns)))?;
                    changed.extend_from_slice(rects);
                }
                other => {
                    pointer_changed = self
                        .pointer
                        .apply(other)
                        .with_context(|| format!("segment {} is damaged at {}", self.current, super::clock(time_ns)))?;
                }
            }
            return Ok(Some(Step {
                time_ns,
                event,
                changed,
                pointer_changed,
            }));
        }
    }

    /// When the segment begins that is read next; `None` when there is none, or when another is still being gone through.
    pub(crate) fn next_segment_ns(&self) -> Option<u64> {
        let next = self.index.segments.get(self.next)?;
        self.events.is_empty().then_some(next.first_ns)
    }

    /// When the segment began that was read last.
    pub(crate) fn segment_first_ns(&self) -> Option<u64> {
        let last = self.next.checked_sub(1)?;
        Some(self.index.segments.get(last)?.first_ns)
    }

    /// After an error: goes on with the segment that follows. The picture stays as it was until the next keyframe; tells
    /// when that is, `None` where there is none.
    pub(crate) fn skip_damaged(&mut self) -> Option<u64> {
        self.events.clear();
        self.has_key = false;
        let rest = self.index.segments.get(self.next..).unwrap_or(&[]);
        let key_ns = rest.iter().find_map(|segment| segment.keys_ns.first()).copied();
        self.key_ns = key_ns.unwrap_or(u64::MAX);
        key_ns
    }

    /// Reads the next segment; false when there is none.
    fn read(&mut self) -> anyhow::Result<bool> {
        let Some(segment) = self.index.segments.get(self.next) else {
            return Ok(false);
        };
        self.next += 1;
        self.current = segment_key(self.source.recording(), segment.number);
        let opened = self.source.open_segment(segment.number)?;
        for event in opened.events() {
            self.events
                .push_back(event.with_context(|| format!("segment {} is damaged", self.current))?);
        }
        Ok(true)
    }
}
