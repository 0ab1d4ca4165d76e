//! Chunks of one direction: messages that are kept whole, and files' bytes that are not.

use std::borrow::Cow;

use crate::wire::channel::{FLAG_FIRST, FLAG_LAST};
use crate::wire::rdpdr::{COMPLETION_HEAD, CompletionHead, REQUEST_HEAD, RequestHead};
use crate::wire::{Cursor, WireError};

/// Length, offset and padding behind the head of a write.
const WRITE_HEAD: usize = REQUEST_HEAD + 4 + 8 + 20;
/// Length behind the head of a read's completion.
const READ_HEAD: usize = COMPLETION_HEAD + 4;
/// Longest message that is looked into; of a longer one the begin. Paths have at most 64 kB.
const KEPT_MAX: usize = 80 << 10;

/// A file's bytes, passing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) device: u32,
    pub(super) file: u32,
    pub(super) completion: u32,
    pub(super) is_write: bool,
    pub(super) offset: u64,
    /// Bytes that have passed.
    pub(super) passed: u64,
    /// Bytes that are announced.
    announced: u64,
    /// Where they begin in the message.
    begin: usize,
}

impl Stream {
    /// A request to write.
    pub(super) fn write(request: RequestHead, message: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::at(message, REQUEST_HEAD, "write request");
        let mut fields = || Ok::<_, WireError>((cursor.u32()?, cursor.u32()?, cursor.u32()?));
        let (length, low, high) = fields().ok()?;
        Some(Self {
            device: request.device,
            file: request.file,
            completion: request.completion,
            is_write: true,
            offset: u64::from(high) << 32 | u64::from(low),
            passed: 0,
            announced: length.into(),
            begin: WRITE_HEAD,
        })
    }

    /// The answer to a request to read.
    pub(super) fn read(head: CompletionHead, file: u32, offset: u64, message: &[u8]) -> Option<Self> {
        let length = Cursor::at(message, COMPLETION_HEAD, "read completion").u32().ok()?;
        Some(Self {
            device: head.device,
            file,
            completion: head.completion,
            is_write: false,
            offset,
            passed: 0,
            announced: length.into(),
            begin: READ_HEAD,
        })
    }

    /// Takes bytes as far as they are announced; the rest is padding. Where the first of them lies in the file.
    fn take<'a>(&mut self, data: &'a [u8]) -> (u64, &'a [u8]) {
        let left = usize::try_from(self.announced - self.passed).unwrap_or(usize::MAX);
        let data = data.get(..left).unwrap_or(data);
        let at = self.offset.saturating_add(self.passed);
        self.passed += data.len() as u64;
        (at, data)
    }
}

/// One direction.
#[derive(Debug, Default)]
pub(super) enum Assembly {
    /// Between messages.
    #[default]
    Idle,
    /// The begin of a message; `true`: it is known to be no stream.
    Kept(Vec<u8>, bool),
    /// The rest of a message is a file's.
    Streaming(Stream),
    /// The rest of a message is unknown.
    Skipping,
}

/// What a chunk brought.
#[derive(Debug, Default)]
pub(super) struct Fed<'a> {
    /// Bytes of a file, and where they lie in it.
    pub(super) data: Vec<(Stream, u64, Cow<'a, [u8]>)>,
    /// A stream is over.
    pub(super) ended: Option<Stream>,
    /// A message is whole.
    pub(super) message: Option<Vec<u8>>,
    /// The chunk belongs to no message.
    pub(super) orphan: bool,
}

impl Assembly {
    /// A direction of which an unknown part is missing.
    pub(super) fn lost() -> Self {
        Self::Skipping
    }

    /// Takes a chunk. `stream` says whether a message that begins so carries a file's bytes.
    pub(super) fn chunk<'a>(
        &mut self,
        flags: u32,
        data: &'a [u8],
        stream: impl FnOnce(&[u8]) -> Option<Stream>,
    ) -> Fed<'a> {
        let mut fed = Fed::default();
        let (first, last) = (flags & FLAG_FIRST != 0, flags & FLAG_LAST != 0);
        let state = match std::mem::take(self) {
            _ if first => Self::Kept(Vec::new(), false),
            state => state,
        };
        *self = match state {
            Self::Idle => {
                // nothing but a wish to pause or go on comes outside of messages
                fed.orphan = !data.is_empty();
                Self::Skipping
            }
            Self::Skipping => Self::Skipping,
            Self::Streaming(mut going) => {
                let (at, bytes) = going.take(data);
                fed.data.push((going, at, Cow::Borrowed(bytes)));
                Self::Streaming(going)
            }
            Self::Kept(mut kept, true) => {
                keep(&mut kept, data);
                Self::Kept(kept, true)
            }
            Self::Kept(mut kept, false) => {
                let missing = WRITE_HEAD - kept.len();
                let (head, rest) = data.split_at_checked(missing).unwrap_or((data, &[]));
                kept.extend_from_slice(head);
                let known = kept.len() >= WRITE_HEAD;
                match (known || last).then(|| stream(&kept)).flatten() {
                    Some(mut going) => {
                        let bytes = kept.split_off(going.begin.min(kept.len()));
                        let (at, taken) = going.take(&bytes);
                        fed.data.push((going, at, Cow::Owned(taken.to_vec())));
                        let (at, taken) = going.take(rest);
                        fed.data.push((going, at, Cow::Borrowed(taken)));
                        Self::Streaming(going)
                    }
                    None => {
                        keep(&mut kept, rest);
                        Self::Kept(kept, known)
                    }
                }
            }
        };
        if last {
            match std::mem::take(self) {
                Self::Kept(message, _) => fed.message = Some(message),
                Self::Streaming(stream) => fed.ended = Some(stream),
                Self::Idle | Self::Skipping => {}
            }
        }
        fed
    }
}

fn keep(kept: &mut Vec<u8>, data: &[u8]) {
    let room = KEPT_MAX.saturating_sub(kept.len());
    kept.extend_from_slice(data.get(..room).unwrap_or(data));
}
