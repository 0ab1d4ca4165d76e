//! What is where in a recording.

use std::collections::BTreeMap;

use anyhow::Context as _;
use deskreel_recording::event::{Gap, SessionEnd, SessionEvent, SessionStart};
use deskreel_recording::{Event, Manifest, SealBody, Segment, manifest_key, segment_key};
use sha2::{Digest as _, Sha256};

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
}

impl IndexedSegment {
    fn new(seal: &SealBody) -> Self {
        Self {
            number: seal.number,
            first_ns: seal.first_ns,
            last_ns: seal.last_ns,
            keys_ns: seal.keys_ns.clone(),
            events: seal.events.clone(),
        }
    }

    /// Whether it has events of a channel.
    pub(crate) fn has(&self, channel: &str) -> bool {
        self.events.get(channel).is_some_and(|count| *count > 0)
    }
}

/// A size of the picture and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Resize {
    time_ns: u64,
    width: u16,
    height: u16,
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
    /// Largest width and height of the picture in all of the recording, where the manifest says it.
    pub(crate) size_max: Option<(u16, u16)>,
    /// SHA-256 of the manifest, hexadecimal, where there is one.
    pub(crate) manifest_sha256: Option<String>,
    /// Objects that [`read_whole`](Self::read_whole) could not read.
    pub(crate) damage: Vec<String>,
    /// Sizes of the picture, in order; `None` while nobody looked for them.
    resizes: Option<Vec<Resize>>,
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

    /// As [`read`](Self::read), but what is damaged or missing is passed over: [`damage`](Self::damage) tells of it. A segment
    /// that can't be read stays in the list, without keyframes.
    ///
    /// # Errors
    /// No segment that can be read.
    pub(crate) fn read_whole(source: &Source) -> anyhow::Result<Self> {
        let damage = match Self::read(source) {
            Ok(index) => return Ok(index),
            Err(error) => format!("{error:#}"),
        };
        let mut index = Self {
            damage: vec![damage],
            ..Self::default()
        };
        let segments = source.segments()?;
        let (first, last) = match source.only() {
            Some(only) => (only, only),
            None => (0, segments.last().copied().unwrap_or(0)),
        };
        let mut readable = false;
        for number in first..=last {
            match index.scan(source, number) {
                Ok(()) => readable = true,
                // Its seal was read, but not all that it seals.
                Err(_) if index.segments.last().is_some_and(|segment| segment.number == number) => {}
                Err(_) => {
                    let at_ns = index.duration_ns;
                    index.segments.push(IndexedSegment {
                        number,
                        first_ns: at_ns,
                        last_ns: at_ns,
                        keys_ns: Vec::new(),
                        events: BTreeMap::new(),
                    });
                }
            }
        }
        anyhow::ensure!(readable, "{}", index.damage.join("; "));
        index.gaps.sort_by_key(|gap| (gap.from_ns, gap.to_ns));
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
            size_max: body.screen_max.map(|size| (size.width, size.height)),
            manifest_sha256: Some(hex::encode(Sha256::digest(bytes))),
            ..Self::default()
        };
        for entry in &body.segments {
            let seal = entry.seal().with_context(damaged)?;
            index.segments.push(IndexedSegment::new(seal.body()));
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
                segment_key(source.recording(), expected)
            );
            index.scan(source, number)?;
        }
        Ok(index)
    }

    /// Reads one segment for all that a manifest would say.
    fn scan(&mut self, source: &Source, number: u32) -> anyhow::Result<()> {
        let segment = source.open_segment(number)?;
        if let Some(seal) = segment.seal() {
            self.segments.push(IndexedSegment::new(seal.body()));
            self.duration_ns = self.duration_ns.max(seal.body().last_ns);
        }
        self.resizes.get_or_insert_default().extend(resizes(source, &segment)?);
        for event in segment.events() {
            let (_, event) =
                event.with_context(|| format!("segment {} is damaged", segment_key(source.recording(), number)))?;
            match event {
                Event::Session(SessionEvent::Start(start)) => self.start = Some(*start),
                Event::Session(SessionEvent::End(end)) => self.end = Some(end),
                Event::Gap(gap) => self.gaps.push(gap),
                Event::Undecoded(_) => self.undecoded += 1,
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

    /// The largest width and the largest height between two moments; `None` where there is no picture. Of segments that can't
    /// be read it takes the largest of all of the recording, where the manifest says it.
    pub(crate) fn size_between(&self, source: &Source, from_ns: u64, to_ns: u64) -> Option<(u16, u16)> {
        if self.size_max.is_some() && from_ns == 0 && to_ns >= self.duration_ns {
            return self.size_max;
        }
        if let Some(known) = &self.resizes {
            return largest(known, from_ns, to_ns);
        }
        // Few segments have session events, and sizes are among these.
        let mut found = Vec::new();
        for segment in self
            .segments
            .iter()
            .filter(|segment| segment.first_ns <= to_ns && segment.has("session"))
        {
            let read = source.open_segment(segment.number);
            match read.and_then(|segment| resizes(source, &segment)) {
                Ok(sizes) => found.extend(sizes),
                Err(_) => return self.size_max,
            }
        }
        largest(&found, from_ns, to_ns)
    }
}

/// The sizes that a segment tells of.
fn resizes(source: &Source, segment: &Segment) -> anyhow::Result<Vec<Resize>> {
    let number = segment.header().number;
    let mut found = Vec::new();
    for event in segment.events() {
        let (time_ns, event) =
            event.with_context(|| format!("segment {} is damaged", segment_key(source.recording(), number)))?;
        if let Event::Session(SessionEvent::Resized { width, height }) = event {
            found.push(Resize { time_ns, width, height });
        }
    }
    Ok(found)
}

fn largest(resizes: &[Resize], from_ns: u64, to_ns: u64) -> Option<(u16, u16)> {
    // The last size before the stretch holds in it, until another follows at its very begin.
    let after = resizes.partition_point(|resize| resize.time_ns <= from_ns);
    let until = resizes.partition_point(|resize| resize.time_ns <= to_ns);
    let within = resizes.get(after.saturating_sub(1)..until).unwrap_or(&[]);
    let sizes = within.iter().map(|resize| (resize.width, resize.height));
    sizes.reduce(|a, b| (a.0.max(b.0), a.1.max(b.1)))
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
    }

    #[test]
    fn the_largest_size_of_a_stretch() {
        let resize = |time_ns, width, height| Resize { time_ns, width, height };
        let resizes = [resize(5, 800, 600), resize(10, 400, 900), resize(20, 1000, 100)];
        assert_eq!(largest(&resizes, 0, 4), None);
        assert_eq!(largest(&resizes, 0, 9), Some((800, 600)));
        assert_eq!(largest(&resizes, 7, 12), Some((800, 900)));
        assert_eq!(largest(&resizes, 12, 15), Some((400, 900)));
        assert_eq!(largest(&resizes, 20, 99), Some((1000, 100)));
        assert_eq!(largest(&resizes, 0, 99), Some((1000, 900)));
    }
}
