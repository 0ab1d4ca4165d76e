//! The messages inside the chunks.

use std::collections::HashMap;

use bytes::Bytes;
use mcap::records::op;

use super::{Chunk, Segment, fields};
use crate::{Channel, Error, Event, Result, segment::Fields};

/// A message as it stands in a chunk.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// `None` for a topic of a later version.
    pub(crate) channel: Option<Channel>,
    /// The MCAP channel id.
    pub(crate) channel_id: u16,
    pub(crate) sequence: u32,
    pub(crate) time_ns: u64,
    pub(crate) payload: Bytes,
}

/// Iterator over messages. Ends after the first error; in a cut chunk it ends where the bytes do.
pub(crate) struct Messages<'a> {
    segment: &'a Segment,
    chunks: std::slice::Iter<'a, Chunk>,
    chunk: Option<(&'a Chunk, usize)>,
    channels: HashMap<u16, Option<Channel>>,
    done: bool,
}

impl<'a> Messages<'a> {
    pub(super) fn new(segment: &'a Segment) -> Self {
        Self {
            segment,
            chunks: segment.chunks.iter(),
            chunk: None,
            channels: HashMap::new(),
            done: false,
        }
    }

    fn advance(&mut self) -> Result<Option<Message>> {
        loop {
            let (chunk, at) = match self.chunk {
                Some((chunk, at)) if at < chunk.inner.end => (chunk, at),
                _ => match self.chunks.next() {
                    Some(chunk) => (chunk, chunk.inner.start),
                    None => return Ok(None),
                },
            };
            let bytes = self.segment.bytes.get(..chunk.inner.end).unwrap_or_default();
            let record = match fields::record(bytes, at) {
                Ok(Some(record)) => record,
                // An empty chunk, or the place where a crash cut it.
                Ok(None) if at >= chunk.inner.end => {
                    self.chunk = Some((chunk, chunk.inner.end));
                    continue;
                }
                Ok(None) | Err(_) if chunk.cut => return Ok(None),
                Ok(None) => return Err(Error::malformed(format!("record at {at} reaches over its chunk"))),
                Err(error) => return Err(error),
            };
            self.chunk = Some((chunk, record.place.end));
            match record.opcode {
                op::CHANNEL => self.channel(Fields(record.body))?,
                op::MESSAGE => {
                    let mut fields = Fields(record.body);
                    let (channel_id, sequence, time_ns) = (fields.u16()?, fields.u32()?, fields.u64()?);
                    fields.u64()?;
                    let payload = self
                        .segment
                        .bytes
                        .slice(record.place.end - fields.0.len()..record.place.end);
                    let channel = *self
                        .channels
                        .get(&channel_id)
                        .ok_or_else(|| Error::malformed(format!("message on the unknown channel {channel_id}")))?;
                    return Ok(Some(Message {
                        channel,
                        channel_id,
                        sequence,
                        time_ns,
                        payload,
                    }));
                }
                op::SCHEMA | 0x80.. => {}
                opcode => return Err(Error::malformed(format!("chunk has a record of kind {opcode}"))),
            }
        }
    }

    fn channel(&mut self, mut fields: Fields<'_>) -> Result<()> {
        let (id, _schema) = (fields.u16()?, fields.u16()?);
        let (topic, encoding) = (fields.string()?, fields.string()?);
        let channel = Channel::from_topic(topic);
        if let Some(channel) = channel
            && channel.encoding() != encoding
        {
            return Err(Error::unsupported(format!(
                "channel {topic} has the encoding {encoding:?}"
            )));
        }
        match self.channels.insert(id, channel) {
            Some(before) if before != channel => Err(Error::malformed(format!("channel {id} is defined twice"))),
            _ => Ok(()),
        }
    }
}

impl Iterator for Messages<'_> {
    type Item = Result<Message>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.done {
            return None;
        }
        let message = self.advance().transpose();
        self.done = !matches!(message, Some(Ok(_)));
        message
    }
}

/// Iterator over a segment's events: time in nanoseconds since the session's start, and event.
pub struct Events<'a>(Messages<'a>);

impl<'a> Events<'a> {
    pub(super) fn new(messages: Messages<'a>) -> Self {
        Self(messages)
    }
}

impl Iterator for Events<'_> {
    type Item = Result<(u64, Event)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.0.next()? {
                Ok(Message {
                    channel: Some(channel),
                    time_ns,
                    payload,
                    ..
                }) => {
                    return Some(Event::from_payload(channel, payload).map(|event| (time_ns, event)));
                }
                Ok(_) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}
