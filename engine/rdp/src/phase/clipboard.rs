//! The clipboard channel ([MS-RDPECLIP]) of a session that may use it in part.
//!
//! What a side may not give away is never offered: its format lists are answered in the other side's name, questions for
//! it are answered with "failed". So neither side waits for anything.

use super::gate::Judgement;
use super::{ChannelRights, ClipboardFormat, Direction, PhaseEvent};
use crate::wire::{Cursor, printable, utf16_text};

const MONITOR_READY: u16 = 1;
const FORMAT_LIST: u16 = 2;
const FORMAT_LIST_RESPONSE: u16 = 3;
const DATA_REQUEST: u16 = 4;
const DATA_RESPONSE: u16 = 5;
const TEMPORARY_FOLDER: u16 = 6;
const CAPABILITIES: u16 = 7;
const FILE_REQUEST: u16 = 8;
const FILE_RESPONSE: u16 = 9;
const LOCK: u16 = 10;
const UNLOCK: u16 = 11;

const RESPONSE_OK: u16 = 0x0001;
const RESPONSE_FAIL: u16 = 0x0002;
const ASCII_NAMES: u16 = 0x0004;

/// Type, flags, length.
const HEADER: usize = 8;
/// The general capability set's flags, from the message's start: header, count and padding, type, length, version.
const GENERAL_FLAGS_AT: usize = HEADER + 4 + 8;
const LONG_NAMES: u32 = 0x0002;
/// STREAM_FILECLIP_ENABLED, FILECLIP_NO_FILE_PATHS, CAN_LOCK_CLIPDATA, HUGE_FILE_SUPPORT.
const FILE_FLAGS: u32 = 0x0004 | 0x0008 | 0x0010 | 0x0020;
const SHORT_NAME_BYTES: usize = 32;
/// What may stand behind a short message: some peers pad to a multiple of eight.
const PADDING_MAX: usize = 8;

/// Formats that an event names.
const EVENT_FORMATS_MAX: usize = 64;
/// Events of one session; after that the session is known to try.
const EVENTS_MAX: u32 = 1000;

/// CF_HDROP, the one predefined format that is a list of files.
const FILES: u32 = 15;
/// Registered formats that are files, or lists of them.
const FILE_FORMATS: [&str; 10] = [
    "filecontents",
    "filegroupdescriptor",
    "filegroupdescriptorw",
    "filename",
    "filenamew",
    "filenamemap",
    "filenamemapw",
    "shell idlist array",
    "text/uri-list",
    "x-special/gnome-copied-files",
];
/// A short name holds so many units: a longer one is cut there.
const SHORT_NAME_UNITS: usize = 15;

/// What the filter knows of the channel.
#[derive(Debug)]
pub(super) struct Filter {
    rights: ChannelRights,
    sides: [Side; 2],
    /// The client's first list since the desktop's Monitor Ready has gone out: the desktop counts on one.
    primed: bool,
    events: u32,
}

#[derive(Debug, Default)]
struct Side {
    long_names: bool,
    /// Formats that were taken out of its last list.
    withheld: Vec<u32>,
}

/// One entry of a format list.
struct Entry<'a> {
    bytes: &'a [u8],
    id: u32,
    name: String,
}

fn index(direction: Direction) -> usize {
    match direction {
        Direction::ToDesktop => 0,
        Direction::ToClient => 1,
    }
}

impl Filter {
    pub(super) fn new(rights: ChannelRights) -> Self {
        Self {
            rights,
            sides: <[Side; 2]>::default(),
            primed: false,
            events: 0,
        }
    }

    /// Whether a session with these rights needs no filter.
    pub(super) fn is_needless(rights: &ChannelRights) -> bool {
        rights.clipboard_to_desktop && rights.clipboard_to_client && rights.clipboard_files
    }

    fn is_off(&self) -> bool {
        !self.rights.clipboard_to_desktop && !self.rights.clipboard_to_client
    }

    /// Judges a message that the sender of `direction` sends.
    pub(super) fn judge(
        &mut self,
        direction: Direction,
        message: &[u8],
        whole: bool,
        events: &mut Vec<PhaseEvent>,
    ) -> Judgement {
        let mut cursor = Cursor::new(message, "clipboard message");
        let (Ok(kind), Ok(flags), Ok(length)) = (cursor.u16(), cursor.u16(), cursor.u32()) else {
            return if whole { Judgement::Drop } else { Judgement::Hold };
        };
        let body = cursor.rest();
        // whose content a message brings, or asks for
        let brings = self.rights.clipboard(direction);
        let asks = self.rights.clipboard(direction.opposite());
        let files = self.rights.clipboard_files;
        match kind {
            DATA_RESPONSE if brings => Judgement::Pass,
            FILE_RESPONSE if brings && files => Judgement::Pass,
            DATA_RESPONSE | FILE_RESPONSE => Judgement::Drop,
            FORMAT_LIST if brings && files => {
                self.side(direction).withheld.clear();
                self.primed |= direction == Direction::ToDesktop;
                Judgement::Pass
            }
            // all others are short, or must be seen whole
            _ if !whole => Judgement::Hold,
            FORMAT_LIST => self.format_list(direction, flags, body, events),
            DATA_REQUEST => self.data_request(direction, body, events),
            FILE_REQUEST if asks && files => Judgement::Pass,
            FILE_REQUEST => {
                let stream = body.get(..4).unwrap_or(&[0; 4]);
                self.blocked(direction.opposite(), Vec::new(), events);
                Judgement::Answer(short_message(FILE_RESPONSE, RESPONSE_FAIL, stream))
            }
            // two messages in one
            _ if message.len() > HEADER + length as usize + PADDING_MAX => Judgement::Drop,
            _ if self.is_off() => Judgement::Drop,
            CAPABILITIES => self.capabilities(direction, message),
            MONITOR_READY if direction == Direction::ToClient => {
                self.primed = false;
                Judgement::Pass
            }
            FORMAT_LIST_RESPONSE => Judgement::Pass,
            TEMPORARY_FOLDER if files => Judgement::Pass,
            LOCK | UNLOCK if asks && files => Judgement::Pass,
            _ => Judgement::Drop,
        }
    }

    fn side(&mut self, direction: Direction) -> &mut Side {
        let [client, desktop] = &mut self.sides;
        match direction {
            Direction::ToDesktop => client,
            Direction::ToClient => desktop,
        }
    }

    fn capabilities(&mut self, direction: Direction, message: &[u8]) -> Judgement {
        let flags: Option<[u8; 4]> = message
            .get(GENERAL_FLAGS_AT..)
            .and_then(|rest| rest.first_chunk().copied());
        let flags = u32::from_le_bytes(flags.unwrap_or_default());
        self.side(direction).long_names = flags & LONG_NAMES != 0;
        let mut patched = message.to_vec();
        match patched.get_mut(GENERAL_FLAGS_AT..GENERAL_FLAGS_AT + 4) {
            Some(place) if !self.rights.clipboard_files && flags & FILE_FLAGS != 0 => {
                place.copy_from_slice(&(flags & !FILE_FLAGS).to_le_bytes());
                Judgement::Replace(patched)
            }
            _ => Judgement::Pass,
        }
    }

    fn format_list(
        &mut self,
        direction: Direction,
        flags: u16,
        body: &[u8],
        events: &mut Vec<PhaseEvent>,
    ) -> Judgement {
        let long = self.sides.iter().all(|side| side.long_names);
        let entries = entries(body, long, flags & ASCII_NAMES != 0);
        let brings = self.rights.clipboard(direction);
        let (kept, withheld): (Vec<_>, Vec<_>) = entries
            .into_iter()
            .partition(|entry| brings && (self.rights.clipboard_files || !is_file(entry.id, &entry.name)));
        self.side(direction).withheld = withheld.iter().map(|entry| entry.id).collect();
        if !withheld.is_empty() {
            let formats = withheld.iter().take(EVENT_FORMATS_MAX);
            let formats = formats.map(|entry| ClipboardFormat {
                id: entry.id,
                name: printable(&entry.name),
            });
            self.blocked(direction, formats.collect(), events);
        }
        let first = direction == Direction::ToDesktop && !self.is_off() && !std::mem::replace(&mut self.primed, true);
        if brings && withheld.is_empty() {
            return Judgement::Pass;
        }
        if brings || first {
            let kept: Vec<u8> = kept.iter().flat_map(|entry| entry.bytes).copied().collect();
            return Judgement::Replace(short_message(FORMAT_LIST, flags, &kept));
        }
        Judgement::Answer(short_message(FORMAT_LIST_RESPONSE, RESPONSE_OK, &[]))
    }

    fn data_request(&mut self, direction: Direction, body: &[u8], events: &mut Vec<PhaseEvent>) -> Judgement {
        let owner = direction.opposite();
        let format = body.first_chunk().copied().map(u32::from_le_bytes);
        let withheld = &self.sides[index(owner)].withheld;
        match format {
            Some(format)
                if self.rights.clipboard(owner)
                    && (self.rights.clipboard_files || format != FILES && !withheld.contains(&format)) =>
            {
                Judgement::Pass
            }
            _ => {
                let formats = format.map(|id| ClipboardFormat {
                    id,
                    name: String::new(),
                });
                self.blocked(owner, formats.into_iter().collect(), events);
                Judgement::Answer(short_message(DATA_RESPONSE, RESPONSE_FAIL, &[]))
            }
        }
    }

    fn blocked(&mut self, direction: Direction, formats: Vec<ClipboardFormat>, events: &mut Vec<PhaseEvent>) {
        self.events = self.events.saturating_add(1);
        if self.events <= EVENTS_MAX {
            events.push(PhaseEvent::ClipboardBlocked { direction, formats });
        }
    }
}

/// The whole entries of a list; what is cut off at its end is none.
fn entries(body: &[u8], long: bool, ascii: bool) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let mut rest = body;
    while let Some(id) = rest.first_chunk().copied().map(u32::from_le_bytes) {
        let names = rest.get(4..).unwrap_or_default();
        let (name, length) = if long {
            let units = names.as_chunks::<2>().0;
            let Some(end) = units.iter().position(|unit| *unit == [0, 0]) else {
                break;
            };
            (utf16_text(names), end * 2 + 2)
        } else {
            let Some(name) = names.get(..SHORT_NAME_BYTES) else {
                break;
            };
            let name = if ascii {
                name.iter()
                    .take_while(|byte| **byte != 0)
                    .map(|byte| char::from(*byte))
                    .collect()
            } else {
                utf16_text(name)
            };
            (name, SHORT_NAME_BYTES)
        };
        let Some((bytes, others)) = rest.split_at_checked(4 + length) else {
            break;
        };
        entries.push(Entry { bytes, id, name });
        rest = others;
    }
    entries
}

/// Whether a format is a file or a list of files.
fn is_file(id: u32, name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let cut = name.chars().count() >= SHORT_NAME_UNITS;
    id == FILES
        || FILE_FORMATS
            .iter()
            .any(|format| *format == name || cut && format.starts_with(&name))
}

/// A message of which the whole fits into one chunk, or is cut to chunks later.
fn short_message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend_from_slice(&kind.to_le_bytes());
    message.extend_from_slice(&flags.to_le_bytes());
    message.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
    message.extend_from_slice(body);
    message
}
