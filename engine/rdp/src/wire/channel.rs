//! Static virtual channel chunks ([MS-RDPBCGR] 2.2.6.1).

use super::cursor::{Cursor, WireError};

/// First chunk of a message.
pub const FLAG_FIRST: u32 = 0x1;
/// Last chunk of a message.
pub const FLAG_LAST: u32 = 0x2;
/// The chunk is compressed.
pub const FLAG_COMPRESSED: u32 = 0x0020_0000;

/// One chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// Length of the whole message that the chunk belongs to.
    pub message_length: u32,
    /// `FLAG_*` and others.
    pub flags: u32,
    /// Its bytes.
    pub data: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Reads a chunk off the MCS payload of a static channel.
    ///
    /// # Errors
    /// [`WireError::Short`]
    pub fn parse(payload: &'a [u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor::new(payload, "static channel chunk");
        Ok(Self {
            message_length: cursor.u32()?,
            flags: cursor.u32()?,
            data: cursor.rest(),
        })
    }

    /// Whether it starts a message.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.flags & FLAG_FIRST != 0
    }

    /// Whether it ends a message.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.flags & FLAG_LAST != 0
    }

    /// Whether it is compressed. Patched capabilities forbid that.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.flags & FLAG_COMPRESSED != 0
    }
}

/// A message of one chunk, header included.
#[must_use]
pub fn single_chunk(message: &[u8]) -> Vec<u8> {
    let mut chunk = Vec::with_capacity(8 + message.len());
    chunk.extend_from_slice(&(message.len() as u32).to_le_bytes());
    chunk.extend_from_slice(&(FLAG_FIRST | FLAG_LAST).to_le_bytes());
    chunk.extend_from_slice(message);
    chunk
}

/// Puts the chunks of one channel and direction together to messages, up to a limit.
#[derive(Debug, Clone)]
pub struct Reassembler {
    buffer: Vec<u8>,
    length_max: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Between messages.
    Idle,
    /// Inside one.
    Collecting,
    /// Inside one that was given up: skip to the next FIRST.
    Skipping,
}

/// A message that can't be put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReassemblyError {
    /// Above the limit.
    #[error("message of {0} bytes is above the limit")]
    TooLong(u64),
    /// A chunk in the middle without one before it.
    #[error("chunk without the first one")]
    NoFirst,
}

impl Reassembler {
    /// Messages of up to `length_max` bytes. What is longer is reported once and skipped.
    #[must_use]
    pub fn new(length_max: usize) -> Self {
        Self {
            buffer: Vec::new(),
            length_max,
            state: State::Idle,
        }
    }

    /// Takes a chunk and returns the message that it completes, `None` if more is to come. The message lasts until the
    /// next call.
    ///
    /// # Errors
    /// [`ReassemblyError`]; the rest of the message is skipped, the next one starts afresh.
    pub fn push<'a>(&'a mut self, chunk: &Chunk<'a>) -> Result<Option<&'a [u8]>, ReassemblyError> {
        if chunk.is_first() {
            self.buffer.clear();
            self.state = State::Collecting;
        }
        match self.state {
            State::Collecting => (),
            State::Skipping => return Ok(None),
            State::Idle => {
                self.state = State::Skipping;
                return Err(ReassemblyError::NoFirst);
            }
        }
        let length = self.buffer.len().saturating_add(chunk.data.len());
        if length > self.length_max {
            self.state = State::Skipping;
            self.buffer = Vec::new();
            return Err(ReassemblyError::TooLong(
                u64::from(chunk.message_length).max(length as u64),
            ));
        }
        if !chunk.is_last() {
            self.buffer.extend_from_slice(chunk.data);
            return Ok(None);
        }
        self.state = State::Idle;
        if chunk.is_first() {
            return Ok(Some(chunk.data));
        }
        self.buffer.extend_from_slice(chunk.data);
        Ok(Some(&self.buffer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(flags: u32, data: &[u8]) -> Chunk<'_> {
        Chunk {
            message_length: 0,
            flags,
            data,
        }
    }

    #[test]
    fn messages_are_put_together() {
        let mut reassembler = Reassembler::new(4);
        assert_eq!(reassembler.push(&chunk(3, b"abcd")), Ok(Some(&b"abcd"[..])));
        assert_eq!(reassembler.push(&chunk(1, b"ab")), Ok(None));
        assert_eq!(reassembler.push(&chunk(0, b"c")), Ok(None));
        assert_eq!(reassembler.push(&chunk(2, b"d")), Ok(Some(&b"abcd"[..])));
        assert_eq!(reassembler.push(&chunk(2, b"x")), Err(ReassemblyError::NoFirst));
        assert_eq!(reassembler.push(&chunk(2, b"x")), Ok(None));
        assert_eq!(reassembler.push(&chunk(1, b"abc")), Ok(None));
        assert_eq!(reassembler.push(&chunk(0, b"de")), Err(ReassemblyError::TooLong(5)));
        assert_eq!(reassembler.push(&chunk(2, b"f")), Ok(None));
        assert_eq!(reassembler.push(&chunk(3, b"g")), Ok(Some(&b"g"[..])));
    }

    #[test]
    fn a_single_chunk_reads_back() {
        let bytes = single_chunk(b"hello");
        let chunk = Chunk::parse(&bytes).expect("whole chunk");
        assert!(chunk.is_first() && chunk.is_last() && !chunk.is_compressed());
        assert_eq!((chunk.message_length, chunk.data), (5, &b"hello"[..]));
    }
}
