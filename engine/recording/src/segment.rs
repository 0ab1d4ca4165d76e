//! Segments: complete MCAP files with a seal (docs/format.md section 3).

mod fields;
mod messages;
mod summary;
mod writer;

pub use messages::Events;
pub(crate) use writer::SegmentWriter;

use std::ops::Range;

use bytes::Bytes;
use fields::{Fields, Record, records};
use mcap::records::op;
use uuid::Uuid;

use crate::{
    Error, ErrorKind, Result, Seal,
    seal::{SEAL_RECORD, sha256},
};

/// MCAP profile of segments; the number is the major format version.
pub const FORMAT_PROFILE: &str = "deskreel/1";
/// Name of the metadata record at a segment's begin.
const SEGMENT_RECORD: &str = "deskreel.segment";

/// What a segment says at its begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Recording id.
    pub recording: Uuid,
    /// Number of the segment.
    pub number: u32,
}

/// A segment, parsed; its bytes are shared, not copied.
#[derive(Debug, Clone)]
pub struct Segment {
    bytes: Bytes,
    header: SegmentHeader,
    chunks: Vec<Chunk>,
    metadata: Vec<MetadataPlace>,
    seal: Option<Seal>,
    /// Offset of the Data End record of a sealed segment.
    data_end: usize,
}

/// Where a chunk is.
#[derive(Debug, Clone)]
struct Chunk {
    record: Range<usize>,
    /// The records inside.
    inner: Range<usize>,
    start_ns: u64,
    end_ns: u64,
    crc: u32,
    /// Message index records behind it: channel and offset.
    indexes: Vec<(u16, usize)>,
    indexes_end: usize,
    /// The file ends inside of it.
    cut: bool,
}

/// Where a metadata record is.
#[derive(Debug, Clone)]
struct MetadataPlace {
    record: Range<usize>,
    name: String,
}

impl Segment {
    /// Opens a sealed segment: checks its structure and its digest against its seal (not the signature: see
    /// [`Seal::verify`] and [`crate::Verifier`]). Never trusts the summary.
    ///
    /// # Errors
    /// [`ErrorKind::Malformed`], [`ErrorKind::Unsupported`] (another major version), [`ErrorKind::Untrusted`] (digest).
    pub fn open(bytes: Bytes) -> Result<Self> {
        let mut walk = Walk::begin(&bytes)?;
        let mut seal_at = None;
        loop {
            let record = walk
                .next()?
                .ok_or_else(|| Error::malformed("segment is cut: it has no end"))?;
            if record.opcode == op::DATA_END {
                break;
            }
            if seal_at.is_some() {
                return Err(Error::malformed("segment has records between its seal and its end"));
            }
            if walk.take(&record)? {
                seal_at = Some(record.place.start);
            }
        }
        let seal_at = seal_at.ok_or_else(|| Error::malformed("segment has no seal"))?;
        let data_end = walk.last;
        let tail = bytes.get(data_end..).unwrap_or_default();
        let ends_well = tail.len() >= mcap::MAGIC.len() * 2 && tail.ends_with(mcap::MAGIC);
        if !ends_well {
            return Err(Error::malformed("segment is cut: it does not end with its magic"));
        }
        let mut segment = walk.finish(data_end)?;
        let digest = hex::encode(sha256(bytes.get(..seal_at).unwrap_or_default()));
        if segment.seal.as_ref().is_none_or(|seal| seal.body().digest != digest) {
            return Err(Error::untrusted(
                "segment was changed: its digest is not the one in its seal",
            ));
        }
        segment.bytes = bytes;
        Ok(segment)
    }

    /// Opens an open or cut segment: all events up to the last whole one, no seal required. Whole chunks count only with a
    /// right CRC. Also opens whole segments; their digest is not checked.
    ///
    /// # Errors
    /// When not even the header is there, or the major version is another one.
    pub fn open_truncated(bytes: Bytes) -> Result<Self> {
        let mut walk = Walk::begin(&bytes)?;
        loop {
            match walk.next() {
                Ok(Some(record)) if record.opcode == op::DATA_END => break,
                Ok(Some(record)) => {
                    if walk.take(&record).is_err() {
                        break;
                    }
                    let crc_wrong = record.opcode == op::CHUNK
                        && walk.chunks.last().is_some_and(|chunk| {
                            crc32fast::hash(bytes.get(chunk.inner.clone()).unwrap_or_default()) != chunk.crc
                        });
                    if crc_wrong {
                        walk.chunks.pop();
                        break;
                    }
                }
                Ok(None) | Err(_) => {
                    walk.take_cut_chunk();
                    break;
                }
            }
        }
        let mut segment = walk.finish(bytes.len())?;
        segment.bytes = bytes;
        Ok(segment)
    }

    /// Recording id and number.
    #[must_use]
    pub fn header(&self) -> SegmentHeader {
        self.header
    }

    /// The seal; `None` for an open segment.
    #[must_use]
    pub fn seal(&self) -> Option<&Seal> {
        self.seal.as_ref()
    }

    /// The whole object.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The events in order of arrival with their times; channels that this version doesn't know are skipped.
    #[must_use]
    pub fn events(&self) -> Events<'_> {
        Events::new(self.messages())
    }

    pub(crate) fn messages(&self) -> messages::Messages<'_> {
        messages::Messages::new(self)
    }

    /// Checks the CRC of each chunk.
    pub(crate) fn check_crcs(&self) -> Result<()> {
        for chunk in &self.chunks {
            let inner = self.bytes.get(chunk.inner.clone()).unwrap_or_default();
            if crc32fast::hash(inner) != chunk.crc {
                return Err(Error::malformed(format!(
                    "chunk at {} does not match its CRC",
                    chunk.record.start
                )));
            }
        }
        Ok(())
    }

    /// Checks that what stands behind the seal agrees with what stands before it.
    pub(crate) fn check_summary(&self) -> Result<()> {
        summary::check(self)
    }
}

/// A walk over the records of the data section.
struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Where the last record began.
    last: usize,
    header: Option<SegmentHeader>,
    chunks: Vec<Chunk>,
    metadata: Vec<MetadataPlace>,
    seal: Option<Seal>,
}

impl<'a> Walk<'a> {
    /// Checks magic and header record.
    fn begin(bytes: &'a [u8]) -> Result<Self> {
        if !bytes.starts_with(mcap::MAGIC) {
            return Err(Error::malformed("not a segment: no MCAP magic"));
        }
        let at = mcap::MAGIC.len();
        let mut walk = Self {
            bytes,
            at,
            last: at,
            header: None,
            chunks: Vec::new(),
            metadata: Vec::new(),
            seal: None,
        };
        let header = walk.next()?.filter(|record| record.opcode == op::HEADER);
        let header = header.ok_or_else(|| Error::malformed("segment has no MCAP header"))?;
        let profile = Fields(header.body).string()?;
        if profile != FORMAT_PROFILE {
            return Err(match profile.strip_prefix("deskreel/") {
                Some(version) => Error::unsupported(format!("format version {version} (this reader knows 1)")),
                None => Error::malformed(format!("not a segment: MCAP profile {profile:?}")),
            });
        }
        Ok(walk)
    }

    /// The next record; `None` where the bytes end, in the middle of a record too.
    fn next(&mut self) -> Result<Option<Record<'a>>> {
        self.last = self.at;
        let record = fields::record(self.bytes, self.at)?;
        if let Some(record) = &record {
            self.at = record.place.end;
        }
        Ok(record)
    }

    /// Takes a record of the data section; true for the seal.
    fn take(&mut self, record: &Record<'a>) -> Result<bool> {
        match record.opcode {
            op::METADATA => {
                let mut fields = Fields(record.body);
                let name = fields.string()?;
                self.metadata.push(MetadataPlace {
                    record: record.place.clone(),
                    name: name.to_owned(),
                });
                match name {
                    SEGMENT_RECORD => self.take_header(fields).map(|()| false),
                    SEAL_RECORD => self.take_seal(fields).map(|()| true),
                    _ => Ok(false),
                }
            }
            op::CHUNK => {
                let chunk = chunk(record.body, record.place.clone(), false)?;
                self.chunks.push(chunk);
                Ok(false)
            }
            op::MESSAGE_INDEX => {
                let channel = Fields(record.body).u16()?;
                let chunk = self.chunks.last_mut();
                let chunk = chunk.ok_or_else(|| Error::malformed("message index before any chunk"))?;
                chunk.indexes.push((channel, record.place.start));
                chunk.indexes_end = record.place.end;
                Ok(false)
            }
            0x80.. => Ok(false),
            opcode => Err(Error::malformed(format!(
                "segment has a record of kind {opcode} outside its chunks"
            ))),
        }
    }

    fn take_header(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let metadata = fields.string_map()?;
        let value = |name: &str| {
            let value = metadata.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            value.ok_or_else(|| Error::malformed(format!("{SEGMENT_RECORD} has no {name}")))
        };
        let recording = Uuid::try_parse(value("recording")?)
            .map_err(|error| Error::malformed(format!("{SEGMENT_RECORD}: recording: {error}")))?;
        let number = value("number")?
            .parse()
            .map_err(|error| Error::malformed(format!("{SEGMENT_RECORD}: number: {error}")))?;
        if self.header.replace(SegmentHeader { recording, number }).is_some() {
            return Err(Error::malformed(format!("segment has two {SEGMENT_RECORD} records")));
        }
        Ok(())
    }

    fn take_seal(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let metadata = fields.string_map()?;
        let value = |name: &str| {
            let value = metadata.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
            value.ok_or_else(|| Error::malformed(format!("{SEAL_RECORD} has no {name}")))
        };
        self.seal = Some(Seal::parse(value("seal")?, value("signature")?)?);
        Ok(())
    }

    /// Takes what is there of a chunk in which the file ends.
    fn take_cut_chunk(&mut self) {
        let Some((&op::CHUNK, rest)) = self.bytes.get(self.last..).and_then(<[u8]>::split_first) else {
            return;
        };
        let Some((_, body)) = rest.split_at_checked(8) else {
            return;
        };
        if let Ok(chunk) = chunk(body, self.last..self.bytes.len(), true) {
            self.chunks.push(chunk);
        }
    }

    /// What was found; the bytes are still to be put in.
    fn finish(self, data_end: usize) -> Result<Segment> {
        let header = self
            .header
            .ok_or_else(|| Error::malformed(format!("segment has no {SEGMENT_RECORD}")))?;
        Ok(Segment {
            bytes: Bytes::new(),
            header,
            chunks: self.chunks,
            metadata: self.metadata,
            seal: self.seal,
            data_end,
        })
    }
}

/// Reads a chunk's fixed part. `body` ends with the record, or with the file when it is cut.
fn chunk(body: &[u8], record: Range<usize>, cut: bool) -> Result<Chunk> {
    let mut fields = Fields(body);
    let (start_ns, end_ns) = (fields.u64()?, fields.u64()?);
    let (size, crc) = (fields.u64()?, fields.u32()?);
    let compression = fields.string()?;
    if !compression.is_empty() {
        return Err(Error::new(
            ErrorKind::Unsupported,
            format!("chunk is compressed with {compression:?}"),
        ));
    }
    let length = fields.u64()?;
    let whole = fields.0.len() as u64 == length && size == length;
    if !cut && !whole {
        return Err(Error::malformed("chunk has a wrong length"));
    }
    let start = record.end - fields.0.len();
    let inner = start..start + fields.0.len().min(usize::try_from(length).unwrap_or(usize::MAX));
    let indexes_end = record.end;
    Ok(Chunk {
        record,
        inner,
        start_ns,
        end_ns,
        crc,
        indexes: Vec::new(),
        indexes_end,
        cut,
    })
}
