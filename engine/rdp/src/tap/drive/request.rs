//! What the desktop asks of a drive ([MS-RDPEFS] 2.2.3.3).

use super::file::shortened;
use crate::wire::rdpdr::{REQUEST_HEAD, RequestHead, major};
use crate::wire::{Cursor, WireError, printable, utf16_text};

const QUERY_DIRECTORY: u32 = 1;
const STANDARD_INFORMATION: u32 = 5;
const RENAME_INFORMATION: u32 = 10;
const DISPOSITION_INFORMATION: u32 = 13;
const END_OF_FILE_INFORMATION: u32 = 20;

/// Access to the bytes of a file, or to the names in a folder: read, write, append, execute, and the generic rights that
/// hold them.
const ACCESS_TO_DATA: u32 = 0x1 | 0x2 | 0x4 | 0x20 | 0x1000_0000 | 0x2000_0000 | 0x4000_0000 | 0x8000_0000;
const FOLDER: u32 = 0x0000_0001;
const DELETE_ON_CLOSE: u32 = 0x0000_1000;

const SUPERSEDE: u32 = 0;
const CREATE: u32 = 2;
const OPEN_IF: u32 = 3;
const OVERWRITE: u32 = 4;
const OVERWRITE_IF: u32 = 5;

/// A request that waits for its answer.
#[derive(Debug)]
pub(super) struct Request {
    /// Number of the open file; of no meaning for an open.
    pub(super) file: u32,
    pub(super) call: Call,
}

/// What is asked.
#[derive(Debug)]
pub(super) enum Call {
    Open(Open),
    Close,
    Read { offset: u64, asked: u32 },
    Write { offset: u64, sent: u64 },
    List { pattern: String, class: u32, first: bool },
    Standard,
    Rename { path: String },
    Delete { delete: bool },
    Resize { length: u64 },
}

/// An open.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) path: String,
    access: u32,
    disposition: u32,
    options: u32,
}

impl Open {
    pub(super) fn is_folder(&self) -> bool {
        self.options & FOLDER != 0
    }

    /// The file may be new, or is empty afterwards.
    pub(super) fn makes(&self) -> bool {
        self.empties() || self.disposition == OPEN_IF
    }

    /// The file is new or empty afterwards.
    pub(super) fn empties(&self) -> bool {
        matches!(self.disposition, SUPERSEDE | CREATE | OVERWRITE | OVERWRITE_IF)
    }

    pub(super) fn deletes(&self) -> bool {
        self.options & DELETE_ON_CLOSE != 0
    }

    /// More than a look at attributes, or at a folder (whose listing is told).
    pub(super) fn tells(&self) -> bool {
        if self.is_folder() {
            self.empties()
        } else {
            self.empties() || self.access & ACCESS_TO_DATA != 0
        }
    }
}

/// What a request asks; `None` for what is not followed.
///
/// # Errors
/// [`WireError`]
pub(super) fn call(head: &RequestHead, message: &[u8]) -> Result<Option<Call>, WireError> {
    let mut cursor = Cursor::at(message, REQUEST_HEAD, "device request");
    Ok(Some(match (head.major, head.minor) {
        (major::CREATE, _) => {
            let access = cursor.u32()?;
            // allocation size, attributes, sharing
            cursor.skip(8 + 4 + 4)?;
            let (disposition, options) = (cursor.u32()?, cursor.u32()?);
            Call::Open(Open {
                path: path(&mut cursor)?,
                access,
                disposition,
                options,
            })
        }
        (major::CLOSE, _) => Call::Close,
        (major::READ, _) => {
            let asked = cursor.u32()?;
            let offset = u64_of(&mut cursor)?;
            Call::Read { offset, asked }
        }
        (major::DIRECTORY_CONTROL, QUERY_DIRECTORY) => {
            let class = cursor.u32()?;
            let first = cursor.u8()? != 0;
            let length = cursor.u32()?;
            cursor.skip(23)?;
            let pattern = text(cursor.take(length as usize)?);
            Call::List { pattern, class, first }
        }
        (major::QUERY_INFORMATION, _) => match cursor.u32()? {
            STANDARD_INFORMATION => Call::Standard,
            _ => return Ok(None),
        },
        (major::SET_INFORMATION, _) => {
            let class = cursor.u32()?;
            let length = cursor.u32()?;
            cursor.skip(24)?;
            match class {
                RENAME_INFORMATION => {
                    // replace if it exists, root
                    cursor.skip(2)?;
                    Call::Rename {
                        path: path(&mut cursor)?,
                    }
                }
                DISPOSITION_INFORMATION => Call::Delete {
                    // no byte means yes
                    delete: length == 0 || cursor.u8() != Ok(0),
                },
                END_OF_FILE_INFORMATION => Call::Resize {
                    length: u64_of(&mut cursor)?,
                },
                _ => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

/// Whether a listing's pattern asks for more than one name.
pub(super) fn is_list(pattern: &str) -> bool {
    pattern.contains(['*', '?', '<', '>', '"'])
}

fn u64_of(cursor: &mut Cursor<'_>) -> Result<u64, WireError> {
    Ok(u64::from(cursor.u32()?) | u64::from(cursor.u32()?) << 32)
}

/// A length in bytes, and a path.
fn path(cursor: &mut Cursor<'_>) -> Result<String, WireError> {
    let length = cursor.u32()? as usize;
    Ok(text(cursor.take(length)?))
}

/// A path as events have it: `/` between names.
pub(super) fn text(bytes: &[u8]) -> String {
    let path = printable(&utf16_text(bytes)).replace('\\', "/");
    shortened(path.trim_start_matches('/'))
}
