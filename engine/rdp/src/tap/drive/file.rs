//! An open file: what of it has passed, and whether that is all of it.

use std::collections::{BTreeMap, VecDeque};

use sha2::{Digest, Sha256};

use super::event::DriveAction;
use super::request::text;
use crate::wire::{Cursor, WireError};

pub(super) const STATUS_END_OF_FILE: u32 = 0xC000_0011;
const STATUS_NO_SUCH_FILE: u32 = 0xC000_000F;
const STATUS_NO_MORE_FILES: u32 = 0x8000_0006;
const STATUS_OBJECT_NAME_NOT_FOUND: u32 = 0xC000_0034;
const STATUS_OBJECT_PATH_NOT_FOUND: u32 = 0xC000_003A;

/// Longest path and name that are kept, in bytes; of a longer one the begin.
const PATH_MAX_BYTES: usize = 2048;
/// Bytes of one file that wait for others before them. Read-ahead overtakes by a few hundred kilobytes.
const EARLY_MAX_BYTES: usize = 1 << 20;
/// The same in a session.
pub(super) const EARLY_MAX_BYTES_OF_ALL: usize = 8 << 20;
/// Lengths of files that listings told, the latest.
const SIZES_MAX: usize = 512;

/// Whether it says that there is no such file: programs ask for many that aren't there.
pub(super) fn is_not_found(status: u32) -> bool {
    matches!(
        status,
        STATUS_NO_SUCH_FILE | STATUS_NO_MORE_FILES | STATUS_OBJECT_NAME_NOT_FOUND | STATUS_OBJECT_PATH_NOT_FOUND
    )
}

/// A path as far as it is kept.
pub(super) fn shortened(path: &str) -> String {
    let end = path.floor_char_boundary(PATH_MAX_BYTES);
    if end == path.len() {
        path.to_owned()
    } else {
        format!("{}…", &path[..end])
    }
}

/// Bytes in order from the first one on. Requests overtake each other: what comes too early waits, within limits.
#[derive(Debug)]
struct Course {
    digest: Option<Sha256>,
    next: u64,
    /// What has come too early, by where it lies in the file.
    early: BTreeMap<u64, Vec<u8>>,
    /// Bytes in `early`.
    waiting: usize,
    /// The same bytes may come again; else they are other ones.
    repeats: bool,
}

impl Course {
    fn new(whole: bool, repeats: bool) -> Self {
        Self {
            digest: whole.then(Sha256::new),
            next: 0,
            early: BTreeMap::new(),
            waiting: 0,
            repeats,
        }
    }

    /// `room`: bytes that may wait in the whole session.
    fn feed(&mut self, at: u64, bytes: &[u8], room: &mut usize) {
        if bytes.is_empty() || self.digest.is_none() {
            return;
        }
        if at > self.next {
            return self.wait(at, bytes, room);
        }
        self.update(at, bytes, room);
        while let Some(entry) = self.early.first_entry().filter(|entry| *entry.key() <= self.next) {
            let (at, bytes) = entry.remove_entry();
            self.waiting -= bytes.len();
            *room += bytes.len();
            self.update(at, &bytes, room);
        }
    }

    fn update(&mut self, at: u64, bytes: &[u8], room: &mut usize) {
        let known = usize::try_from(self.next - at).unwrap_or(usize::MAX);
        if known > 0 && !self.repeats {
            return self.give_up(room);
        }
        let new = bytes.get(known..).unwrap_or_default();
        if let Some(digest) = &mut self.digest {
            digest.update(new);
            self.next += new.len() as u64;
        }
    }

    fn wait(&mut self, at: u64, bytes: &[u8], room: &mut usize) {
        if bytes.len() > *room || self.waiting + bytes.len() > EARLY_MAX_BYTES {
            return self.give_up(room);
        }
        *room -= bytes.len();
        self.waiting += bytes.len();
        // most come in many pieces
        if let Some((before, waiting)) = self.early.range_mut(..at).next_back()
            && before.checked_add(waiting.len() as u64) == Some(at)
        {
            waiting.extend_from_slice(bytes);
        } else if let Some(again) = self.early.insert(at, bytes.to_vec()) {
            self.waiting -= again.len();
            *room += again.len();
            if !self.repeats || again.len() > bytes.len() {
                self.give_up(room);
            }
        }
    }

    fn give_up(&mut self, room: &mut usize) {
        self.digest = None;
        self.early.clear();
        *room += std::mem::take(&mut self.waiting);
    }

    fn finish(self) -> Option<[u8; 32]> {
        let digest = self.digest.filter(|_| self.early.is_empty());
        digest.map(|digest| digest.finalize().into())
    }
}

/// An open file.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: String,
    /// Its length when it was opened, or as the client said later.
    pub(super) size: Option<u64>,
    /// An event told of the open.
    told: bool,
    reads: Course,
    writes: Course,
    read: u64,
    written: u64,
    /// A read has met the end here.
    end: Option<u64>,
    /// The length that it was given, after it was emptied.
    set: Option<u64>,
}

impl File {
    pub(super) fn new(path: String, empty: bool, told: bool, size: Option<u64>) -> Self {
        Self {
            path,
            size: if empty { Some(0) } else { size },
            told,
            reads: Course::new(true, true),
            writes: Course::new(empty, false),
            read: 0,
            written: 0,
            end: None,
            set: None,
        }
    }

    /// Something passed unseen, or the end is near.
    pub(super) fn lose(&mut self, room: &mut usize) {
        self.reads.give_up(room);
        self.writes.give_up(room);
    }

    /// Bytes go to the desktop. What was read before is not counted twice. `room`: bytes that may wait in the session.
    pub(super) fn reading(&mut self, at: u64, bytes: &[u8], room: &mut usize) {
        self.reads.feed(at, bytes, room);
    }

    /// A read is over.
    pub(super) fn was_read(&mut self, offset: u64, length: u64, asked: u32) {
        self.read += length;
        if length < u64::from(asked) {
            self.end = Some(offset.saturating_add(length));
        }
    }

    /// Bytes go to the client.
    pub(super) fn writing(&mut self, at: u64, bytes: &[u8], room: &mut usize) {
        self.writes.feed(at, bytes, room);
    }

    /// A write is over.
    pub(super) fn was_written(&mut self, length: u64, all: bool, room: &mut usize) {
        self.written += length;
        // a read course is of the file as it was
        self.size = None;
        if !all {
            self.writes.give_up(room);
        }
    }

    pub(super) fn resized(&mut self, length: u64, room: &mut usize) {
        if length < self.writes.next || length == 0 {
            self.writes.give_up(room);
        }
        if length == 0 {
            self.writes = Course::new(true, false);
        }
        self.set = Some(length);
        self.size = Some(length);
    }

    /// Its length, if that is known.
    pub(super) fn length_now(&self) -> Option<u64> {
        if self.written == 0 { self.size } else { None }
    }

    /// What its end tells, if anything.
    pub(super) fn close(self, file: u32, path: String, room: &mut usize) -> Option<DriveAction> {
        *room += self.reads.waiting + self.writes.waiting;
        if !self.told && self.read == 0 && self.written == 0 {
            return None;
        }
        let next = self.reads.next;
        let read_whole = self.end == Some(next) || self.size == Some(next) && self.set.is_none();
        let write_whole = self.set.unwrap_or(0) <= self.writes.next;
        Some(DriveAction::Closed {
            file,
            path,
            read: self.read,
            written: self.written,
            read_sha256: self.reads.finish().filter(|_| self.read > 0 && read_whole),
            written_sha256: self.writes.finish().filter(|_| self.written > 0 && write_whole),
        })
    }
}

/// Lengths of files, as listings told them.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    /// Drive, path, length.
    known: VecDeque<(u32, String, u64)>,
}

impl Sizes {
    pub(super) fn of(&self, drive: u32, path: &str) -> Option<u64> {
        let found = self
            .known
            .iter()
            .rev()
            .find(|(known, name, _)| *known == drive && name == path);
        found.map(|(_, _, size)| *size)
    }

    pub(super) fn forget(&mut self, drive: u32, path: &str) {
        self.known.retain(|(known, name, _)| *known != drive || name != path);
    }

    pub(super) fn set(&mut self, drive: u32, path: &str, size: u64) {
        self.forget(drive, path);
        if self.known.len() >= SIZES_MAX {
            self.known.pop_front();
        }
        self.known.push_back((drive, path.to_owned(), size));
    }

    /// Takes the lengths out of a listing; `pattern`: what was asked for. What can't be read tells nothing.
    pub(super) fn entries(&mut self, drive: u32, pattern: &str, class: u32, answer: &[u8]) {
        let folder = pattern.rfind('/').map_or("", |end| &pattern[..end]);
        let mut rest = answer.get(4..).unwrap_or_default();
        while let Ok((next, name, size)) = entry(class, rest) {
            let path = if folder.is_empty() {
                name
            } else {
                format!("{folder}/{name}")
            };
            self.set(drive, &path, size);
            if next == 0 {
                break;
            }
            rest = rest.get(next as usize..).unwrap_or_default();
        }
    }
}

/// One entry of a listing ([MS-FSCC] 2.4): where the next one is, its name, its length.
fn entry(class: u32, bytes: &[u8]) -> Result<(u32, String, u64), WireError> {
    let mut cursor = Cursor::new(bytes, "directory entry");
    let next = cursor.u32()?;
    // index, four times
    cursor.skip(4 + 32)?;
    let size = u64::from(cursor.u32()?) | u64::from(cursor.u32()?) << 32;
    // allocation size, attributes
    cursor.skip(8 + 4)?;
    let length = cursor.u32()? as usize;
    match class {
        1 => {}
        2 => cursor.skip(4)?,
        3 => cursor.skip(4 + 1 + 24)?,
        class => return Err(cursor.invalid("class", class)),
    }
    Ok((next, text(cursor.take(length)?), size))
}
