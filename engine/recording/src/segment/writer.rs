//! Writes one segment: an MCAP file that ends with a seal.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use ed25519_dalek::SigningKey;
use mcap::{
    WriteOptions, Writer,
    records::{MessageHeader, Metadata},
    write::NoSeek,
};
use sha2::{Digest as _, Sha256};

use super::{FORMAT_PROFILE, SEGMENT_RECORD, SegmentHeader};
use crate::{
    Channel, Error, Result, Seal, SealBody, SealedSegment, schema,
    seal::{SEAL_RECORD, key_id},
};

/// Bytes after which a chunk ends by itself.
const CHUNK_BYTES: u64 = 256 << 10;
/// What a message costs beside its payload: record header and message index entry.
const MESSAGE_OVERHEAD: u64 = 47;

/// Where the MCAP writer writes to; it keeps the writer, so the bytes are shared with us.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Written>>);

#[derive(Default)]
struct Written {
    bytes: Vec<u8>,
    digest: Sha256,
}

impl Sink {
    fn with<T>(&self, act: impl FnOnce(&mut Written) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.with(|written| {
            written.bytes.extend_from_slice(bytes);
            written.digest.update(bytes);
        });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A segment being written, in memory.
pub(crate) struct SegmentWriter {
    header: SegmentHeader,
    writer: Writer<NoSeek<Sink>>,
    sink: Sink,
    channels: [Option<u16>; Channel::ALL.len()],
    sequence: u32,
    events: BTreeMap<String, u64>,
    first_ns: Option<u64>,
    last_ns: u64,
    starts_with_key: Option<bool>,
    keys_ns: Vec<u64>,
    /// Bytes in the chunk that is not yet in the sink, about.
    pending: u64,
    taken: usize,
}

impl SegmentWriter {
    pub(crate) fn new(header: SegmentHeader) -> Result<Self> {
        let sink = Sink::default();
        let options = WriteOptions::new()
            .compression(None)
            .profile(FORMAT_PROFILE)
            .library(concat!("deskreel-recording/", env!("CARGO_PKG_VERSION")))
            .chunk_size(Some(CHUNK_BYTES))
            .disable_seeking(true);
        let mut writer = Writer::with_options(NoSeek::new(sink.clone()), options).map_err(failed)?;
        let metadata = [
            ("recording", header.recording.to_string()),
            ("number", header.number.to_string()),
        ];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into();
        writer
            .write_metadata(&Metadata {
                name: SEGMENT_RECORD.to_owned(),
                metadata,
            })
            .map_err(failed)?;
        Ok(Self {
            header,
            writer,
            sink,
            channels: [None; Channel::ALL.len()],
            sequence: 0,
            events: BTreeMap::new(),
            first_ns: None,
            last_ns: 0,
            starts_with_key: None,
            keys_ns: Vec::new(),
            pending: 0,
            taken: 0,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.first_ns.is_none()
    }

    /// Time of the first event.
    pub(crate) fn first_ns(&self) -> Option<u64> {
        self.first_ns
    }

    /// Size so far, about.
    pub(crate) fn size(&self) -> u64 {
        self.sink.with(|written| written.bytes.len() as u64) + self.pending
    }

    /// Appends a message; the caller keeps times in order.
    pub(crate) fn write(&mut self, channel: Channel, time_ns: u64, payload: &[u8]) -> Result<()> {
        let channel_id = self.channel(channel)?;
        let header = MessageHeader {
            channel_id,
            sequence: self.sequence,
            log_time: time_ns,
            publish_time: time_ns,
        };
        let before = self.sink.with(|written| written.bytes.len());
        self.writer.write_to_known_channel(&header, payload).map_err(failed)?;
        if self.sink.with(|written| written.bytes.len()) != before {
            self.pending = 0;
        }
        self.pending += payload.len() as u64 + MESSAGE_OVERHEAD;
        self.sequence = self.sequence.wrapping_add(1);
        self.first_ns.get_or_insert(time_ns);
        self.last_ns = time_ns;
        match self.events.get_mut(channel.topic()) {
            Some(count) => *count += 1,
            None => {
                self.events.insert(channel.topic().to_owned(), 1);
            }
        }
        match channel {
            Channel::Key => {
                self.starts_with_key.get_or_insert(true);
                self.keys_ns.push(time_ns);
            }
            Channel::Screen => {
                self.starts_with_key.get_or_insert(false);
            }
            _ => {}
        }
        Ok(())
    }

    /// Ends the chunk and returns what was appended since the last call.
    pub(crate) fn take(&mut self) -> Result<Bytes> {
        self.writer.flush().map_err(failed)?;
        self.pending = 0;
        let (taken, end) = self.sink.with(|written| {
            (
                Bytes::copy_from_slice(written.bytes.get(self.taken..).unwrap_or_default()),
                written.bytes.len(),
            )
        });
        self.taken = end;
        Ok(taken)
    }

    /// Writes the seal and the summary. The segment must not be empty.
    pub(crate) fn seal(mut self, previous: Option<&Seal>, key: &SigningKey) -> Result<SealedSegment> {
        self.writer.flush().map_err(failed)?;
        let digest = self.sink.with(|written| written.digest.clone().finalize());
        let body = SealBody {
            recording: self.header.recording,
            number: self.header.number,
            digest: hex::encode(digest),
            previous: previous.map(Seal::digest),
            first_ns: self.first_ns.unwrap_or(self.last_ns),
            last_ns: self.last_ns,
            starts_with_key: self.starts_with_key == Some(true),
            keys_ns: self.keys_ns,
            events: self.events,
            key_id: key_id(&key.verifying_key()),
        };
        let seal = Seal::sign(body, key)?;
        let metadata = [("seal", seal.text().to_owned()), ("signature", seal.signature_hex())];
        let metadata = metadata.map(|(name, value)| (name.to_owned(), value)).into();
        self.writer
            .write_metadata(&Metadata {
                name: SEAL_RECORD.to_owned(),
                metadata,
            })
            .map_err(failed)?;
        self.writer.finish().map_err(failed)?;
        let bytes = self.sink.with(|written| std::mem::take(&mut written.bytes));
        Ok(SealedSegment {
            number: self.header.number,
            bytes: bytes.into(),
            seal,
            taken: self.taken,
        })
    }

    fn channel(&mut self, channel: Channel) -> Result<u16> {
        if let Some(id) = self.channels[channel as usize] {
            return Ok(id);
        }
        let schema = match schema::compact(channel) {
            Some((name, text)) => self.writer.add_schema(name, "jsonschema", text).map_err(failed)?,
            None => 0,
        };
        let id = self
            .writer
            .add_channel(schema, channel.topic(), channel.encoding(), &BTreeMap::new())
            .map_err(failed)?;
        self.channels[channel as usize] = Some(id);
        Ok(id)
    }
}

fn failed(error: mcap::McapError) -> Error {
    Error::internal("write segment", error)
}
