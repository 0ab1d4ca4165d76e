//! The summary section stands behind the seal, so nothing signs it: it must say what the chunks say and nothing else.

use std::collections::BTreeMap;

use mcap::records::op;

use super::{Chunk, Fields, MetadataPlace, Record, Segment, records};
use crate::{Error, Result};

pub(super) fn check(segment: &Segment) -> Result<()> {
    let bytes: &[u8] = &segment.bytes;
    let facts = Facts::collect(segment)?;
    let wrong = |what: &str| Error::malformed(format!("summary disagrees with the chunks: {what}"));

    let end = bytes.len().saturating_sub(mcap::MAGIC.len());
    let mut records = records(bytes, segment.data_end..end);
    let data_end = records.next().ok_or_else(|| wrong("no data end"))??;
    let data_crc = Fields(data_end.body).u32()?;
    if data_crc != 0 && data_crc != crc32fast::hash(bytes.get(..segment.data_end).unwrap_or_default()) {
        return Err(wrong("CRC of the data"));
    }
    let summary_start = data_end.place.end;

    let mut schemas: Vec<&[u8]> = Vec::new();
    let mut channels: Vec<&[u8]> = Vec::new();
    let mut chunks = segment.chunks.iter();
    let mut metadata = segment.metadata.iter();
    let mut statistics = 0;
    // Opcode, start and end of each run of records of one kind.
    let mut groups: Vec<(u8, usize, usize)> = Vec::new();
    let mut offsets = Vec::new();
    let mut offsets_start = 0;
    let mut footer = None;
    for record in records {
        let record = record?;
        if footer.is_some() {
            return Err(wrong("records behind the footer"));
        }
        match record.opcode {
            op::FOOTER => footer = Some(record),
            op::SUMMARY_OFFSET => {
                if offsets.is_empty() {
                    offsets_start = record.place.start;
                }
                let mut fields = Fields(record.body);
                offsets.push((fields.u8()?, fields.u64()?, fields.u64()?));
            }
            _ if !offsets.is_empty() => return Err(wrong("records behind the summary offsets")),
            opcode => {
                match groups.last_mut() {
                    Some((last, _, end)) if *last == opcode => *end = record.place.end,
                    _ => groups.push((opcode, record.place.start, record.place.end)),
                }
                match opcode {
                    op::SCHEMA => schemas.push(record.body),
                    op::CHANNEL => channels.push(record.body),
                    op::STATISTICS => {
                        statistics += 1;
                        facts.check_statistics(segment, &record)?;
                    }
                    op::CHUNK_INDEX => {
                        let chunk = chunks.next().ok_or_else(|| wrong("too many chunk indexes"))?;
                        check_chunk_index(chunk, &record)?;
                    }
                    op::METADATA_INDEX => {
                        let place = metadata.next().ok_or_else(|| wrong("too many metadata indexes"))?;
                        check_metadata_index(place, &record)?;
                    }
                    _ => return Err(wrong("a record that does not belong there")),
                }
            }
        }
    }
    let footer = footer.ok_or_else(|| wrong("no footer"))?;
    if schemas != facts.schemas || channels != facts.channels {
        return Err(wrong("schemas or channels"));
    }
    if statistics != 1 || chunks.next().is_some() || metadata.next().is_some() {
        return Err(wrong("an index or the statistics are missing"));
    }
    for (opcode, start, length) in offsets {
        let listed = groups
            .iter()
            .any(|&(group, from, to)| group == opcode && from as u64 == start && (to - from) as u64 == length);
        if !listed {
            return Err(wrong("summary offsets"));
        }
    }
    check_footer(bytes, &footer, summary_start, offsets_start)
}

fn check_footer(bytes: &[u8], footer: &Record<'_>, summary_start: usize, offsets_start: usize) -> Result<()> {
    let mut fields = Fields(footer.body);
    let (start, offsets, crc) = (fields.u64()?, fields.u64()?, fields.u32()?);
    // The CRC covers everything from the summary's start to itself.
    let covered = bytes
        .get(summary_start..footer.place.end - fields.0.len() - 4)
        .unwrap_or_default();
    let right = start == summary_start as u64
        && offsets == offsets_start as u64
        && fields.0.is_empty()
        && (crc == 0 || crc == crc32fast::hash(covered));
    if right {
        Ok(())
    } else {
        Err(Error::malformed("summary disagrees with the chunks: footer"))
    }
}

fn check_chunk_index(chunk: &Chunk, record: &Record<'_>) -> Result<()> {
    let mut fields = Fields(record.body);
    let (start_ns, end_ns) = (fields.u64()?, fields.u64()?);
    let (offset, length) = (fields.u64()?, fields.u64()?);
    let mut part = fields.part()?;
    let mut indexes = Vec::new();
    while !part.0.is_empty() {
        indexes.push((part.u16()?, part.u64()?));
    }
    let indexes_length = fields.u64()?;
    let compression = fields.string()?;
    let (compressed, uncompressed) = (fields.u64()?, fields.u64()?);
    let mut expected: Vec<(u16, u64)> = chunk.indexes.iter().map(|&(id, at)| (id, at as u64)).collect();
    expected.sort_unstable();
    indexes.sort_unstable();
    let right = (start_ns, end_ns) == (chunk.start_ns, chunk.end_ns)
        && (offset, length) == (chunk.record.start as u64, chunk.record.len() as u64)
        && indexes == expected
        && indexes_length == (chunk.indexes_end - chunk.record.end) as u64
        && compression.is_empty()
        && compressed == chunk.inner.len() as u64
        && uncompressed == compressed
        && fields.0.is_empty();
    if right {
        Ok(())
    } else {
        Err(Error::malformed("summary disagrees with the chunks: chunk index"))
    }
}

fn check_metadata_index(place: &MetadataPlace, record: &Record<'_>) -> Result<()> {
    let mut fields = Fields(record.body);
    let right = fields.u64()? == place.record.start as u64
        && fields.u64()? == place.record.len() as u64
        && fields.string()? == place.name
        && fields.0.is_empty();
    if right {
        Ok(())
    } else {
        Err(Error::malformed("summary disagrees with the chunks: metadata index"))
    }
}

/// What the chunks say.
struct Facts<'a> {
    /// Bodies of the schema records, by id.
    schemas: Vec<&'a [u8]>,
    channels: Vec<&'a [u8]>,
    counts: BTreeMap<u16, u64>,
    first_ns: u64,
    last_ns: u64,
}

impl<'a> Facts<'a> {
    fn collect(segment: &'a Segment) -> Result<Self> {
        let mut schemas = BTreeMap::new();
        let mut channels = BTreeMap::new();
        for chunk in &segment.chunks {
            let bounds = chunk_bounds(segment, chunk)?;
            if bounds.is_some_and(|bounds| bounds != (chunk.start_ns, chunk.end_ns)) {
                return Err(Error::malformed("chunk states other times than its messages have"));
            }
            for record in records(&segment.bytes, chunk.inner.clone()) {
                let record = record?;
                let into = match record.opcode {
                    op::SCHEMA => &mut schemas,
                    op::CHANNEL => &mut channels,
                    _ => continue,
                };
                into.insert(Fields(record.body).u16()?, record.body);
            }
        }
        let mut counts = BTreeMap::new();
        let (mut first_ns, mut last_ns) = (u64::MAX, 0);
        for message in segment.messages() {
            let message = message?;
            *counts.entry(message.channel_id).or_insert(0) += 1;
            first_ns = first_ns.min(message.time_ns);
            last_ns = last_ns.max(message.time_ns);
        }
        Ok(Self {
            schemas: schemas.into_values().collect(),
            channels: channels.into_values().collect(),
            first_ns: if counts.is_empty() { 0 } else { first_ns },
            counts,
            last_ns,
        })
    }

    fn check_statistics(&self, segment: &Segment, record: &Record<'_>) -> Result<()> {
        let mut fields = Fields(record.body);
        let (messages, schemas, channels) = (fields.u64()?, fields.u16()?, fields.u32()?);
        let (attachments, metadata, chunks) = (fields.u32()?, fields.u32()?, fields.u32()?);
        let (first_ns, last_ns) = (fields.u64()?, fields.u64()?);
        let mut part = fields.part()?;
        let mut counts = BTreeMap::new();
        while !part.0.is_empty() {
            let (id, count) = (part.u16()?, part.u64()?);
            // Channels without messages may be listed with zero.
            if count != 0 && counts.insert(id, count).is_some() {
                return Err(Error::malformed("summary counts a channel twice"));
            }
        }
        let right = messages == self.counts.values().sum::<u64>()
            && usize::from(schemas) == self.schemas.len()
            && channels as usize == self.channels.len()
            && attachments == 0
            && metadata as usize == segment.metadata.len()
            && chunks as usize == segment.chunks.len()
            && (first_ns, last_ns) == (self.first_ns, self.last_ns)
            && counts == self.counts
            && fields.0.is_empty();
        if right {
            Ok(())
        } else {
            Err(Error::malformed("summary disagrees with the chunks: statistics"))
        }
    }
}

/// First and last time of a chunk's messages.
fn chunk_bounds(segment: &Segment, chunk: &Chunk) -> Result<Option<(u64, u64)>> {
    let mut bounds: Option<(u64, u64)> = None;
    for record in records(&segment.bytes, chunk.inner.clone()) {
        let record = record?;
        if record.opcode == op::MESSAGE {
            let mut fields = Fields(record.body);
            fields.bytes(6)?;
            let time = fields.u64()?;
            bounds = Some(bounds.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
        }
    }
    Ok(bounds)
}
