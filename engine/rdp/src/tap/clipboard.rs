//! A copy of the clipboard channel, [MS-RDPECLIP], both ways.
//!
//! Data is hashed as it passes and never kept whole, so large copies cost no memory.

use sha2::{Digest, Sha256};

use super::event::{ClipboardContent, ClipboardEvent, ClipboardFormat, TapEvent, UndecodedKind};
use super::reader::{Reader, utf16};
use super::sink::Sink;
use crate::Direction;

const CHUNK_FIRST: u32 = 0x01;
const CHUNK_LAST: u32 = 0x02;
const HEADER_BYTES: usize = 8;

const FORMAT_LIST: u16 = 2;
const DATA_REQUEST: u16 = 4;
const DATA_RESPONSE: u16 = 5;
const CAPABILITIES: u16 = 7;
const FILE_REQUEST: u16 = 8;
const FILE_RESPONSE: u16 = 9;

const RESPONSE_FAIL: u16 = 0x0002;
const ASCII_NAMES: u16 = 0x0004;
const LONG_NAMES: u32 = 0x0000_0002;
const FILE_SIZE_REQUEST: u32 = 0x0000_0001;

const TEXT: u32 = 1;
const OEM_TEXT: u32 = 7;
const UNICODE_TEXT: u32 = 13;

const FORMATS_MAX: usize = 256;
const SHORT_NAME_BYTES: usize = 32;
/// Room for a format list; more of one is not looked at.
const LIST_BYTES_MAX: usize = 64 << 10;

/// Both directions of the channel.
pub(super) struct Clipboard {
    hashing: bool,
    sides: [Side; 2],
}

/// What one side sends.
#[derive(Default)]
struct Side {
    message: Option<Message>,
    long_names: bool,
    /// Format that this side asked for last.
    requested: Option<u32>,
}

/// A message that is arriving.
struct Message {
    kind: u16,
    flags: u16,
    /// Bytes that the header announces after itself.
    announced: u64,
    /// Bytes that came.
    length: u64,
    /// The first of them.
    head: Vec<u8>,
    head_max: usize,
    /// Of all of them, for the kinds that carry data.
    digest: Option<Sha256>,
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::ToDesktop => 0,
        Direction::ToClient => 1,
    }
}

impl Clipboard {
    /// `hashing`: whether what passes is hashed.
    pub(super) fn new(hashing: bool) -> Self {
        Self {
            hashing,
            sides: Default::default(),
        }
    }

    /// Chunks were dropped unseen: what is arriving has a hole, and what was asked for is not known.
    pub(super) fn lose(&mut self) {
        for side in &mut self.sides {
            side.message = None;
            side.requested = None;
        }
    }

    /// Takes one chunk: flags of the channel header, and the bytes after it.
    pub(super) fn chunk(
        &mut self,
        direction: Direction,
        flags: u32,
        data: &[u8],
        text_max_bytes: usize,
        sink: &mut Sink<'_>,
    ) {
        let side = &mut self.sides[index(direction)];
        let body = if flags & CHUNK_FIRST != 0 {
            if side.message.take().is_some() {
                sink.undecoded(UndecodedKind::Clipboard, "clipboard message without an end", &[]);
            }
            let mut reader = Reader::new(data);
            let Some((kind, message_flags, announced)) = header(&mut reader) else {
                sink.undecoded(UndecodedKind::Clipboard, "clipboard message without a header", data);
                return;
            };
            let carries_data = matches!(kind, DATA_RESPONSE | FILE_RESPONSE);
            side.message = Some(Message {
                kind,
                flags: message_flags,
                announced,
                length: 0,
                head: Vec::new(),
                head_max: if carries_data {
                    text_max_bytes.max(HEADER_BYTES)
                } else {
                    LIST_BYTES_MAX
                },
                digest: (carries_data && self.hashing).then(Sha256::new),
            });
            reader.rest()
        } else {
            data
        };
        let Some(message) = &mut side.message else {
            sink.undecoded(UndecodedKind::Clipboard, "clipboard chunk without a beginning", data);
            return;
        };
        message.append(body);
        if flags & CHUNK_LAST != 0
            && let Some(message) = side.message.take()
        {
            self.message(direction, message, text_max_bytes, sink);
        }
    }

    fn message(&mut self, direction: Direction, message: Message, text_max_bytes: usize, sink: &mut Sink<'_>) {
        let kind = message.kind;
        let other = &mut self.sides[1 - index(direction)];
        if kind == DATA_RESPONSE {
            let format = other.requested.take();
            let content = if message.flags & RESPONSE_FAIL != 0 {
                ClipboardContent::Refused
            } else {
                message.data(format, text_max_bytes)
            };
            sink.push(TapEvent::Clipboard(ClipboardEvent { direction, content }));
            return;
        }
        let long_names = other.long_names;
        let side = &mut self.sides[index(direction)];
        let mut reader = Reader::new(&message.head);
        let content = match kind {
            CAPABILITIES => {
                side.long_names = general_flags(&mut reader).is_some_and(|flags| flags & LONG_NAMES != 0);
                return;
            }
            FORMAT_LIST => {
                let formats = if side.long_names && long_names {
                    long_formats(&mut reader)
                } else {
                    short_formats(&mut reader, message.flags & ASCII_NAMES != 0)
                };
                Some(ClipboardContent::Formats(formats))
            }
            DATA_REQUEST => reader.u32().map(|format| {
                side.requested = Some(format);
                ClipboardContent::Request { format }
            }),
            FILE_REQUEST => file_request(&mut reader),
            FILE_RESPONSE if message.flags & RESPONSE_FAIL != 0 => Some(ClipboardContent::Refused),
            FILE_RESPONSE => Some(message.file_data()),
            // Monitor ready, answers without content, locks, the temporary folder.
            _ => return,
        };
        match content {
            Some(content) => sink.push(TapEvent::Clipboard(ClipboardEvent { direction, content })),
            None => sink.undecoded(
                UndecodedKind::Clipboard,
                format!("malformed clipboard message {kind}"),
                &message.head,
            ),
        }
    }
}

impl Message {
    /// Takes more of the body; what the header did not announce is padding.
    fn append(&mut self, data: &[u8]) {
        let left = usize::try_from(self.announced - self.length).unwrap_or(usize::MAX);
        let mut data = &data[..data.len().min(left)];
        self.length += data.len() as u64;
        if self.kind == FILE_RESPONSE && self.length == data.len() as u64 {
            // The stream id in front is no part of the file. Chunks are far longer than it.
            data = data.get(4..).unwrap_or_default();
        }
        if let Some(digest) = &mut self.digest {
            digest.update(data);
        }
        let room = self.head_max.saturating_sub(self.head.len());
        self.head.extend_from_slice(&data[..data.len().min(room)]);
    }

    fn data(self, format: Option<u32>, text_max_bytes: usize) -> ClipboardContent {
        let whole = self.length == self.head.len() as u64 && self.head.len() <= text_max_bytes;
        let text = match format {
            Some(UNICODE_TEXT) if whole => Some(utf16(&self.head)),
            Some(TEXT | OEM_TEXT) if whole => {
                let end = self.head.iter().position(|byte| *byte == 0).unwrap_or(self.head.len());
                Some(String::from_utf8_lossy(&self.head[..end]).into_owned())
            }
            _ => None,
        };
        ClipboardContent::Data {
            format,
            length: self.length,
            sha256: self.digest.map(|digest| digest.finalize().into()),
            text,
        }
    }

    fn file_data(&self) -> ClipboardContent {
        ClipboardContent::FileData {
            length: self.length.saturating_sub(4),
            sha256: self.digest.clone().map(|digest| digest.finalize().into()),
        }
    }
}

fn header(reader: &mut Reader<'_>) -> Option<(u16, u16, u64)> {
    Some((reader.u16()?, reader.u16()?, reader.u32()?.into()))
}

/// Flags of the general capability set, the only one there is.
fn general_flags(reader: &mut Reader<'_>) -> Option<u32> {
    // Count and padding, then type, length and version.
    reader.skip(4 + 8)?;
    reader.u32()
}

fn long_formats(reader: &mut Reader<'_>) -> Vec<ClipboardFormat> {
    let mut formats = Vec::new();
    while formats.len() < FORMATS_MAX {
        let Some(id) = reader.u32() else { break };
        let bytes = reader.rest();
        let units = bytes.as_chunks::<2>().0;
        let length = units
            .iter()
            .position(|unit| *unit == [0, 0])
            .map_or(bytes.len(), |end| end * 2);
        let name = utf16(&bytes[..length]);
        // A list cut at the limit has no last NUL.
        let _ = reader.skip((length + 2).min(bytes.len()));
        formats.push(ClipboardFormat { id, name });
    }
    formats
}

fn short_formats(reader: &mut Reader<'_>, ascii: bool) -> Vec<ClipboardFormat> {
    let mut formats = Vec::new();
    while formats.len() < FORMATS_MAX {
        let (Some(id), Some(name)) = (reader.u32(), reader.take(SHORT_NAME_BYTES)) else {
            break;
        };
        let name = if ascii {
            name.iter()
                .take_while(|byte| **byte != 0)
                .map(|byte| char::from(*byte))
                .collect()
        } else {
            utf16(name)
        };
        formats.push(ClipboardFormat { id, name });
    }
    formats
}

fn file_request(reader: &mut Reader<'_>) -> Option<ClipboardContent> {
    // Stream id.
    reader.skip(4)?;
    let index = reader.u32()?;
    let size_only = reader.u32()? & FILE_SIZE_REQUEST != 0;
    let (low, high) = (reader.u32()?, reader.u32()?);
    let length = reader.u32()?;
    Some(ClipboardContent::FileRequest {
        index,
        offset: u64::from(high) << 32 | u64::from(low),
        length: (!size_only).then_some(length),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    const BOTH: u32 = CHUNK_FIRST | CHUNK_LAST;

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend(flags.to_le_bytes());
        bytes.extend(u32::try_from(body.len()).unwrap().to_le_bytes());
        bytes.extend(body);
        bytes
    }

    fn wide(text: &str) -> Vec<u8> {
        text.encode_utf16().flat_map(u16::to_le_bytes).collect()
    }

    fn feed(clipboard: &mut Clipboard, direction: Direction, bytes: &[u8], text_max: usize) -> Vec<TapEvent> {
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out, 1000, false);
        let chunks = bytes.chunks(1600).count();
        for (number, chunk) in bytes.chunks(1600).enumerate() {
            let first = if number == 0 { CHUNK_FIRST } else { 0 };
            let last = if number + 1 == chunks { CHUNK_LAST } else { 0 };
            clipboard.chunk(direction, first | last, chunk, text_max, &mut sink);
        }
        out
    }

    fn content(events: &[TapEvent]) -> &ClipboardContent {
        match events {
            [TapEvent::Clipboard(event)] => &event.content,
            other => panic!("unexpected {other:?}"),
        }
    }

    #[test]
    fn a_copy_of_text_from_client_to_desktop() {
        let (mut clipboard, client, desktop) = (Clipboard::new(true), Direction::ToDesktop, Direction::ToClient);
        let capabilities = [1, 0, 0, 0, 1, 0, 12, 0, 2, 0, 0, 0, 2, 0, 0, 0];
        for direction in [client, desktop] {
            let bytes = message(CAPABILITIES, 0, &capabilities);
            assert_eq!(feed(&mut clipboard, direction, &bytes, 0), []);
        }
        let mut list = vec![13, 0, 0, 0, 0, 0, 0x10, 0xC0, 0, 0];
        list.extend(wide("HTML Format\0"));
        let events = feed(&mut clipboard, client, &message(FORMAT_LIST, 0, &list), 0);
        let named = |id, name: &str| ClipboardFormat {
            id,
            name: name.to_owned(),
        };
        assert_eq!(
            content(&events),
            &ClipboardContent::Formats(vec![named(13, ""), named(0xC010, "HTML Format")])
        );
        let text = "straße ".repeat(700);
        let data = wide(&format!("{text}\0"));
        for text_max in [0, data.len() - 1, data.len()] {
            let ask = feed(
                &mut clipboard,
                desktop,
                &message(DATA_REQUEST, 0, &[13, 0, 0, 0]),
                text_max,
            );
            assert_eq!(content(&ask), &ClipboardContent::Request { format: 13 });
            let events = feed(&mut clipboard, client, &message(DATA_RESPONSE, 1, &data), text_max);
            assert_eq!(
                content(&events),
                &ClipboardContent::Data {
                    format: Some(13),
                    length: data.len() as u64,
                    sha256: Some(Sha256::digest(&data).into()),
                    text: (text_max == data.len()).then(|| text.clone()),
                }
            );
        }
        let refused = feed(&mut clipboard, client, &message(DATA_RESPONSE, RESPONSE_FAIL, &[]), 0);
        assert_eq!(content(&refused), &ClipboardContent::Refused);
    }

    #[test]
    fn short_names_and_files() {
        let mut clipboard = Clipboard::new(true);
        let mut list = vec![1, 0, 0, 0];
        list.extend([0; 32]);
        list.extend([0x11, 0xC0, 0, 0]);
        list.extend(wide("FileGroupDescr\0\0"));
        let events = feed(&mut clipboard, Direction::ToClient, &message(FORMAT_LIST, 0, &list), 0);
        let ClipboardContent::Formats(formats) = content(&events) else {
            panic!()
        };
        assert_eq!(formats[1].name, "FileGroupDescr");

        let mut ask = vec![7, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0];
        ask.extend([5, 0, 0, 0, 1, 0, 0, 0, 0, 16, 0, 0]);
        let events = feed(&mut clipboard, Direction::ToDesktop, &message(FILE_REQUEST, 0, &ask), 0);
        assert_eq!(
            content(&events),
            &ClipboardContent::FileRequest {
                index: 2,
                offset: (1 << 32) + 5,
                length: Some(4096)
            }
        );
        let mut answer = vec![7, 0, 0, 0];
        answer.extend([0xAB; 5000]);
        let events = feed(
            &mut clipboard,
            Direction::ToClient,
            &message(FILE_RESPONSE, 1, &answer),
            0,
        );
        assert_eq!(
            content(&events),
            &ClipboardContent::FileData {
                length: 5000,
                sha256: Some(Sha256::digest([0xAB; 5000]).into())
            }
        );
    }

    #[test]
    fn broken_chunks_are_reported() {
        let mut clipboard = Clipboard::new(true);
        let mut out = Vec::new();
        let mut sink = Sink::new(&mut out, 1000, false);
        let direction = Direction::ToClient;
        clipboard.chunk(direction, CHUNK_LAST, b"lost", 0, &mut sink);
        clipboard.chunk(direction, BOTH, b"short", 0, &mut sink);
        clipboard.chunk(direction, BOTH, &message(DATA_REQUEST, 0, &[1]), 0, &mut sink);
        clipboard.chunk(direction, CHUNK_FIRST, &message(DATA_RESPONSE, 0, b"abc"), 0, &mut sink);
        clipboard.chunk(direction, CHUNK_FIRST, &message(DATA_RESPONSE, 0, b"abc"), 0, &mut sink);
        assert_eq!(out.len(), 4, "{out:?}");
        assert!(out.iter().all(|event| matches!(event, TapEvent::Undecoded(_))));
    }
}
