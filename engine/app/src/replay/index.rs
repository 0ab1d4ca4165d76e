//! What is where in a recording.

use std::collections::BTreeMap;

use anyhow::Context as _;
use deskreel_recording::event::{Gap, SessionEnd, SessionEvent, SessionStart};
use deskreel_recording::{Event, Manifest, SealBody, manifest_key};

use super::Source;

/// One segment, as its seal states it.
#[derive(Debug, Clone)]
pub(crate) struct IndexedSegment {
    /// Its number.
    pub(crate) number: u32,
    /// Time of its first event.
    pub(crate) first_ns: u64,
    /// Time of its last event.
    pub(crate) last_ns: u64,
    /// Times of its keyframes.
    pub(crate) keys_ns: Vec<u64>,
    /// Events a channel.
    pub(crate) events: BTreeMap<String, u64>,
    /// Size in bytes, where the manifest says it.
    pub(crate) bytes: u64,
}

impl IndexedSegment {
    fn new(seal: &SealBody, bytes: u64) -> Self {
        Self {
            number: seal.number,
            first_ns: seal.first_ns,
            last_ns: seal.last_ns,
            keys_ns: seal.keys_ns.clone(),
            events: seal.events.clone(),
            bytes,
        }
    }

    fn has(&self, channel: &str) -> bool {
        self.events.get(channel).is_some_and(|count| *count > 0)
    }
}

/// A size of the picture and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resize {
    /// Since when.
    pub(crate) time_ns: u64,
    /// Width in pixels.
    pub(crate) width: u16,
    /// Height in pixels.
    pub(crate) height: u16,
}

/// What is where in a recording. Trusts what the objects say about themselves: proof is the verifier's work.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// The segments in order.
    pub(crate) segments: Vec<IndexedSegment>,
    /// Time of the last event.
    pub(crate) duration_ns: u64,
    /// Facts of the session's start, unless they were lost.
    pub(crate) start: Option<SessionStart>,
    /// How the session ended; `None` while it runs.
    pub(crate) end: Option<SessionEnd>,
    /// Whether the recording was closed after a crash.
    pub(crate) recovered: bool,
    /// Stretches that are known to be unrecorded, by their begin.
    pub(crate) gaps: Vec<Gap>,
    /// PDUs that could not be decoded.
    pub(crate) undecoded: u64,
    /// Sizes of the picture, in order.
    pub(crate) resizes: Vec<Resize>,
}

impl Index {
    /// Reads the index: from the manifest where there is one, else from every segment that is there.
    ///
    /// # Errors
    /// Objects that can't be read or are damaged; no segment at all.
    pub(crate) fn read(source: &Source) -> anyhow::Result<Self> {
        let mut index = match source.manifest()? {
            Some(bytes) => Self::of_manifest(source, &bytes)?,
            None => Self::of_segments(source)?,
        };
        index.gaps.sort_by_key(|gap| (gap.from_ns, gap.to_ns));
        anyhow::ensure!(
            !index.segments.is_empty(),
            "recording {} has no sealed segment yet",
            source.recording()
        );
        Ok(index)
    }

    fn of_manifest(source: &Source, bytes: &[u8]) -> anyhow::Result<Self> {
        let key = manifest_key(source.recording());
        let damaged = || format!("manifest {key} is damaged");
        let manifest = Manifest::parse(bytes).with_context(damaged)?;
        let body = manifest.body();
        anyhow::ensure!(
            body.recording == source.recording(),
            "manifest {key} is damaged: it is of recording {}",
            body.recording
        );
        let mut index = Self {
            duration_ns: body.duration_ns,
            start: body.start.clone(),
            end: Some(body.end.clone()),
            recovered: body.recovered,
            gaps: body.gaps.clone(),
            undecoded: body.undecoded_count,
            ..Self::default()
        };
        for entry in &body.segments {
            let seal = entry.seal().with_context(damaged)?;
            index.segments.push(IndexedSegment::new(seal.body(), entry.bytes));
        }
        // The sizes are all that the manifest doesn't say: few segments have session events.
        let with_session = index.segments.iter().filter(|segment| segment.has("session"));
        let numbers: Vec<u32> = with_session.map(|segment| segment.number).collect();
        for number in numbers {
            index.scan(source, number, false)?;
        }
        Ok(index)
    }

    fn of_segments(source: &Source) -> anyhow::Result<Self> {
        let mut index = Self::default();
        for (expected, number) in (source.only().unwrap_or(0)..).zip(source.segments()?) {
            // What follows a hole can't be trusted to be the next: an open recording grows at its end only.
            anyhow::ensure!(
                number == expected,
                "segment {} is missing, and there is no manifest",
                deskreel_recording::segment_key(source.recording(), expected)
            );
            index.scan(source, number, true)?;
        }
        Ok(index)
    }

    /// Reads one segment's session events, and all else that a manifest would say.
    fn scan(&mut self, source: &Source, number: u32, all: bool) -> anyhow::Result<()> {
        let segment = source.open_segment(number)?;
        if all && let Some(seal) = segment.seal() {
            self.segments.push(IndexedSegment::new(seal.body(), 0));
            self.duration_ns = self.duration_ns.max(seal.body().last_ns);
        }
        for event in segment.events() {
            let (time_ns, event) = event.with_context(|| {
                format!(
                    "segment {} is damaged",
                    deskreel_recording::segment_key(source.recording(), number)
                )
            })?;
            match event {
                Event::Session(SessionEvent::Resized { width, height }) => {
                    self.resizes.push(Resize { time_ns, width, height })
                }
                Event::Session(SessionEvent::Start(start)) if all => self.start = Some(*start),
                Event::Session(SessionEvent::End(end)) if all => self.end = Some(end),
                Event::Gap(gap) if all => self.gaps.push(gap),
                Event::Undecoded(_) if all => self.undecoded += 1,
                _ => {}
            }
        }
        Ok(())
    }

    /// The last keyframe at or before a moment: place in [`segments`](Self::segments) and its time.
    pub(crate) fn key_before(&self, time_ns: u64) -> Option<(usize, u64)> {
        let until = self.segments.partition_point(|segment| segment.first_ns <= time_ns);
        let candidates = self.segments.get(..until).unwrap_or(&[]).iter().enumerate().rev();
        candidates
            .filter_map(|(place, segment)| {
                let key = segment.keys_ns.iter().rev().find(|key| **key <= time_ns)?;
                Some((place, *key))
            })
            .next()
    }

    /// The time of the first keyframe: before it there is no picture.
    pub(crate) fn first_key(&self) -> Option<u64> {
        self.segments
            .iter()
            .find_map(|segment| segment.keys_ns.first())
            .copied()
    }

    /// The largest width and the largest height between two moments.
    pub(crate) fn size_max(&self, from_ns: u64, to_ns: u64) -> Option<(u16, u16)> {
        // The last size before the stretch holds in it, until another follows at its very begin.
        let after = self.resizes.partition_point(|resize| resize.time_ns <= from_ns);
        let until = self.resizes.partition_point(|resize| resize.time_ns <= to_ns);
        let within = self.resizes.get(after.saturating_sub(1)..until).unwrap_or(&[]);
        within
            .iter()
            .map(|resize| (resize.width, resize.height))
            .reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
    }

    /// Size of the segments that a player reads for a stretch, as far as it is known.
    pub(crate) fn bytes_between(&self, from_ns: u64, to_ns: u64) -> u64 {
        let first = self.key_before(from_ns).map_or(0, |(place, _)| place);
        let segments = self.segments.get(first..).unwrap_or(&[]).iter();
        segments
            .filter(|segment| segment.first_ns <= to_ns)
            .map(|segment| segment.bytes)
            .sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u32, first_ns: u64, last_ns: u64, keys_ns: &[u64]) -> IndexedSegment {
        IndexedSegment {
            number,
            first_ns,
            last_ns,
            keys_ns: keys_ns.to_vec(),
            events: BTreeMap::new(),
            bytes: 10,
        }
    }

    #[test]
    fn the_nearest_key_before_is_found() {
        let index = Index {
            segments: vec![
                segment(0, 0, 9, &[3, 7]),
                segment(1, 10, 19, &[]),
                segment(2, 20, 29, &[20, 25]),
            ],
            ..Index::default()
        };
        for (time, expected) in [
            (0, None),
            (2, None),
            (3, Some((0, 3))),
            (8, Some((0, 7))),
            (15, Some((0, 7))),
            (20, Some((2, 20))),
            (24, Some((2, 20))),
            (99, Some((2, 25))),
        ] {
            assert_eq!(index.key_before(time), expected, "{time}");
        }
        assert_eq!(index.first_key(), Some(3));
        assert_eq!(index.bytes_between(15, 19), 20);
    }

    #[test]
    fn the_largest_size_of_a_stretch() {
        let resize = |time_ns, width, height| Resize { time_ns, width, height };
        let index = Index {
            resizes: vec![resize(5, 800, 600), resize(10, 400, 900), resize(20, 1000, 100)],
            ..Index::default()
        };
        assert_eq!(index.size_max(0, 4), None);
        assert_eq!(index.size_max(0, 9), Some((800, 600)));
        assert_eq!(index.size_max(7, 12), Some((800, 900)));
        assert_eq!(index.size_max(12, 15), Some((400, 900)));
        assert_eq!(index.size_max(20, 99), Some((1000, 100)));
        assert_eq!(index.size_max(0, 99), Some((1000, 900)));
    }
}
