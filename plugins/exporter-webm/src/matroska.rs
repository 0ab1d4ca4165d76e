//! The WebM file (RFC 9559, the subset that webmproject.org names): written front to back, with an index at the end that the
//! beginning points to.

use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write as _};

use deskreel_sdk::video::Container;
use deskreel_sdk::{Error, Output, Result, VideoParams};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::ebml::{element, header, identifier, master, number, size8, text};

/// The only track.
const TRACK: u64 = 1;
/// A block's time is 16 bits of milliseconds after its cluster's.
const CLUSTER_MAX_MS: u64 = 30_000;
/// A cluster waits in memory until it is whole; it ends after so many bytes.
const CLUSTER_MAX_BYTES: usize = 4 << 20;
/// Bytes kept free at the start for what points to the parts at the end.
const SEEK_HEAD_BYTES: usize = 128;
/// Chapters that begin within so long are one: nobody can choose between them.
const CHAPTERS_APART_NS: u64 = 500_000_000;
/// Most chapters of a file.
const CHAPTERS_MAX: usize = 10_000;
/// 2001-01-01T00:00:00Z, from which EBML counts, in seconds since 1970.
const EBML_EPOCH: i64 = 978_307_200;

mod id {
    pub(super) const HEADER: u32 = 0x1a45_dfa3;
    pub(super) const SEGMENT: u32 = 0x1853_8067;
    pub(super) const SEEK_HEAD: u32 = 0x114d_9b74;
    pub(super) const SEEK: u32 = 0x4dbb;
    pub(super) const SEEK_ID: u32 = 0x53ab;
    pub(super) const SEEK_POSITION: u32 = 0x53ac;
    pub(super) const VOID: u32 = 0xec;
    pub(super) const INFO: u32 = 0x1549_a966;
    pub(super) const DURATION: u32 = 0x4489;
    pub(super) const TRACKS: u32 = 0x1654_ae6b;
    pub(super) const CLUSTER: u32 = 0x1f43_b675;
    pub(super) const TIMESTAMP: u32 = 0xe7;
    pub(super) const SIMPLE_BLOCK: u32 = 0xa3;
    pub(super) const BLOCK_GROUP: u32 = 0xa0;
    pub(super) const BLOCK: u32 = 0xa1;
    pub(super) const BLOCK_DURATION: u32 = 0x9b;
    pub(super) const REFERENCE_BLOCK: u32 = 0xfb;
    pub(super) const CUES: u32 = 0x1c53_bb6b;
    pub(super) const CHAPTERS: u32 = 0x1043_a770;
    pub(super) const TAGS: u32 = 0x1254_c367;
}

/// One encoded picture that waits for the next: only then is known how long it is shown.
struct Held {
    ms: u64,
    key: bool,
    bytes: Vec<u8>,
}

/// Pictures that share a time.
struct Cluster {
    ms: u64,
    key: bool,
    blocks: Vec<u8>,
}

/// Writes the file.
pub struct Muxer {
    out: BufWriter<File>,
    /// Bytes written.
    at: u64,
    /// Where the segment's bytes begin: what points into the file counts from there.
    segment: u64,
    /// Where the eight bytes of the duration are.
    duration: u64,
    info: u64,
    tracks: u64,
    tags: Vec<u8>,
    cluster: Option<Cluster>,
    held: Option<Held>,
    /// When keyframes are shown, and where their clusters are in the segment.
    cues: Vec<(u64, u64)>,
    chapters: Vec<(u64, String)>,
    frames: u64,
}

impl Muxer {
    pub(crate) fn new(output: &Output, video: &VideoParams, size: (u32, u32)) -> Result<Self> {
        let mut muxer = Self {
            out: BufWriter::with_capacity(1 << 16, output.create()?),
            at: 0,
            segment: 0,
            duration: 0,
            info: 0,
            tracks: 0,
            tags: tags(video),
            cluster: None,
            held: None,
            cues: Vec::new(),
            chapters: Vec::new(),
            frames: 0,
        };
        let head = master(
            id::HEADER,
            &[
                number(0x4286, 1),
                number(0x42f7, 1),
                number(0x42f2, 4),
                number(0x42f3, 8),
                text(0x4282, "webm"),
                number(0x4287, 4),
                number(0x4285, 2),
            ],
        );
        muxer.write(&head)?;
        muxer.write(&identifier(id::SEGMENT))?;
        muxer.write(&size8(0))?;
        muxer.segment = muxer.at;
        // Two bytes of the element's own, then the room.
        muxer.write(&element(id::VOID, &[0; SEEK_HEAD_BYTES - 2]))?;
        muxer.info = muxer.at;
        let info = info(video);
        muxer.write(&info)?;
        // The duration is the last element.
        muxer.duration = muxer.at - 8;
        muxer.tracks = muxer.at;
        muxer.write(&tracks(size))?;
        Ok(muxer)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(write_failed)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    fn block(&mut self, held: &Held, end_ms: Option<u64>) -> Result<()> {
        let fits = |cluster: &Cluster| {
            !held.key && held.ms - cluster.ms <= CLUSTER_MAX_MS && cluster.blocks.len() < CLUSTER_MAX_BYTES
        };
        if !self.cluster.as_ref().is_some_and(fits) {
            self.flush()?;
        }
        let cluster = self.cluster.get_or_insert_with(|| Cluster {
            ms: held.ms,
            key: held.key,
            blocks: Vec::new(),
        });
        let relative = u16::try_from(held.ms - cluster.ms).unwrap_or(u16::MAX).to_be_bytes();
        let flags = if held.key && end_ms.is_none() { 0x80 } else { 0 };
        // The track's number as a length is written.
        let mut block = vec![0x80 | TRACK as u8, relative[0], relative[1], flags];
        block.extend_from_slice(&held.bytes);
        let block = match end_ms {
            None => element(id::SIMPLE_BLOCK, &block),
            Some(end_ms) => {
                let length = number(id::BLOCK_DURATION, end_ms.saturating_sub(held.ms).max(1));
                let mut parts = vec![element(id::BLOCK, &block), length];
                if !held.key {
                    // The picture before, one tick back: that there is one is what counts.
                    parts.push(element(id::REFERENCE_BLOCK, &[0xff]));
                }
                master(id::BLOCK_GROUP, &parts)
            }
        };
        cluster.blocks.extend(block);
        self.frames += 1;
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        let Some(cluster) = self.cluster.take() else {
            return Ok(());
        };
        if cluster.key {
            self.cues.push((cluster.ms, self.at - self.segment));
        }
        let time = number(id::TIMESTAMP, cluster.ms);
        self.write(&header(id::CLUSTER, (time.len() + cluster.blocks.len()) as u64))?;
        self.write(&time)?;
        self.write(&cluster.blocks)
    }

    fn patch(&mut self, at: u64, bytes: &[u8]) -> Result<()> {
        self.out.seek(SeekFrom::Start(at)).map_err(write_failed)?;
        self.out.write_all(bytes).map_err(write_failed)
    }
}

impl Container for Muxer {
    fn push(&mut self, time_ns: u64, key: bool, bytes: Vec<u8>) -> Result<()> {
        let ms = milliseconds(time_ns);
        let held = self.held.replace(Held { ms, key, bytes });
        held.map_or(Ok(()), |held| self.block(&held, None))
    }

    /// A name for a moment. Those that nobody could choose between are one.
    fn chapter(&mut self, time_ns: u64, title: &str) {
        let apart = |(last, _): &(u64, String)| time_ns.saturating_sub(*last) >= CHAPTERS_APART_NS;
        if self.chapters.len() < CHAPTERS_MAX && self.chapters.last().is_none_or(apart) {
            self.chapters.push((time_ns, title.to_owned()));
        }
    }

    fn finish(mut self, end_ns: u64) -> Result<(u64, u64)> {
        let end_ms = milliseconds(end_ns);
        if let Some(held) = self.held.take() {
            self.block(&held, Some(end_ms))?;
        }
        self.flush()?;
        let mut parts = vec![(id::INFO, self.info), (id::TRACKS, self.tracks)];
        let tags = std::mem::take(&mut self.tags);
        for (id, bytes) in [
            (id::CUES, cues(&self.cues)),
            (id::CHAPTERS, chapters(&self.chapters, end_ns)),
            (id::TAGS, tags),
        ] {
            if !bytes.is_empty() {
                parts.push((id, self.at));
                self.write(&bytes)?;
            }
        }
        let bytes = self.at;
        let mut head = seek_head(&parts, self.segment);
        // At least the two bytes of an empty element are left.
        let room = SEEK_HEAD_BYTES - head.len() - 2;
        head.extend(element(id::VOID, &vec![0; room]));
        self.patch(self.segment, &head)?;
        self.patch(self.duration, &(end_ms as f64).to_be_bytes())?;
        self.patch(self.segment - 8, &size8(bytes - self.segment))?;
        let file = self
            .out
            .into_inner()
            .map_err(|error| write_failed(error.into_error()))?;
        file.sync_all().map_err(write_failed)?;
        Ok((self.frames, bytes))
    }
}

fn milliseconds(ns: u64) -> u64 {
    ns.saturating_add(500_000) / 1_000_000
}

fn write_failed(error: std::io::Error) -> Error {
    Error::from(error).with_context("write the video")
}

fn info(video: &VideoParams) -> Vec<u8> {
    let product = format!("Deskreel exporter-webm {}", env!("CARGO_PKG_VERSION"));
    let mut parts = vec![number(0x2a_d7b1, 1_000_000)];
    let started = video
        .started
        .as_deref()
        .and_then(|text| OffsetDateTime::parse(text, &Rfc3339).ok());
    if let Some(started) = started {
        let ns = (started.unix_timestamp() - EBML_EPOCH).saturating_mul(1_000_000_000);
        parts.push(element(0x4461, &ns.to_be_bytes()));
    }
    if !video.title.is_empty() {
        parts.push(text(0x7ba9, &video.title));
    }
    parts.push(text(0x4d80, &product));
    parts.push(text(
        0x5741,
        if video.product.is_empty() {
            &product
        } else {
            &video.product
        },
    ));
    // Eight bytes that are put right at the end, so the last element.
    parts.push(element(id::DURATION, &[0; 8]));
    master(id::INFO, &parts)
}

fn tracks((width, height): (u32, u32)) -> Vec<u8> {
    // Red, green and blue as they are, in full range, with the transfer function and primaries of sRGB (ITU-T H.273).
    let colour = master(
        0x55b0,
        &[
            number(0x55b1, 0),
            number(0x55b2, 8),
            number(0x55b9, 2),
            number(0x55ba, 13),
            number(0x55bb, 1),
        ],
    );
    let video = master(0xe0, &[number(0xb0, width.into()), number(0xba, height.into()), colour]);
    // VP9's features as webmproject.org/docs/container says: profile 1, 8 bits a sample, no colour samples shared.
    let private = element(0x63a2, &[1, 1, 1, 3, 1, 8, 4, 1, 3]);
    let track = master(
        0xae,
        &[
            number(0xd7, TRACK),
            number(0x73c5, TRACK),
            number(0x83, 1),
            number(0x9c, 0),
            text(0x22_b59c, "und"),
            text(0x86, "V_VP9"),
            private,
            video,
        ],
    );
    master(id::TRACKS, &[track])
}

fn tags(video: &VideoParams) -> Vec<u8> {
    let simple = |(name, value): (&str, String)| {
        let name = name.to_uppercase().replace('-', "_");
        master(
            0x67c8,
            &[text(0x45a3, &format!("DESKREEL_{name}")), text(0x4487, &value)],
        )
    };
    let mut parts = vec![master(0x63c0, &[])];
    parts.extend(video.details().into_iter().map(simple));
    if parts.len() == 1 {
        return Vec::new();
    }
    master(id::TAGS, &[master(0x7373, &parts)])
}

fn cues(cues: &[(u64, u64)]) -> Vec<u8> {
    let point = |(ms, position): &(u64, u64)| {
        let place = master(0xb7, &[number(0xf7, TRACK), number(0xf1, *position)]);
        master(0xbb, &[number(0xb3, *ms), place])
    };
    if cues.is_empty() {
        return Vec::new();
    }
    master(id::CUES, &cues.iter().map(point).collect::<Vec<_>>())
}

fn chapters(chapters: &[(u64, String)], end_ns: u64) -> Vec<u8> {
    if chapters.is_empty() {
        return Vec::new();
    }
    let ends = chapters.iter().skip(1).map(|(start, _)| *start).chain([end_ns]);
    let atom = |(index, ((start, title), end)): (usize, (&(u64, String), u64))| {
        let display = master(0x80, &[text(0x85, title), text(0x437c, "und")]);
        master(
            0xb6,
            &[
                number(0x73c4, index as u64 + 1),
                number(0x91, *start),
                number(0x92, end.max(*start)),
                display,
            ],
        )
    };
    let atoms = chapters.iter().zip(ends).enumerate().map(atom);
    let edition: Vec<_> = [number(0x45bc, 1)].into_iter().chain(atoms).collect();
    master(id::CHAPTERS, &[master(0x45b9, &edition)])
}

fn seek_head(parts: &[(u32, u64)], segment: u64) -> Vec<u8> {
    let seek = |(id, at): &(u32, u64)| {
        let position = element(id::SEEK_POSITION, &(at - segment).to_be_bytes());
        master(id::SEEK, &[element(id::SEEK_ID, &identifier(*id)), position])
    };
    master(id::SEEK_HEAD, &parts.iter().map(seek).collect::<Vec<_>>())
}
