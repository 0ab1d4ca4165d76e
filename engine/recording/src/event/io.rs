//! Input, clipboard and directory sharing.

use serde::{Deserialize, Serialize};

use super::Position;

/// Mouse buttons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Button {
    /// Left.
    Left,
    /// Right.
    Right,
    /// Middle.
    Middle,
    /// First extra button.
    X1,
    /// Second extra button.
    X2,
    /// A button of a later version.
    #[serde(other)]
    Unknown,
}

/// What a key press was; recorded only where the role's `input` option says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyContent {
    /// Scan code (set 1, without the extended prefix).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scancode: Option<u16>,
    /// The scan code carries the E0 prefix.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub extended: bool,
    /// UTF-16 unit of a Unicode key event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unicode: Option<u16>,
}

/// What the user did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Input {
    /// The mouse moved. Callers should coalesce moves to about one a recorded frame.
    MouseMove {
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// A mouse button went down or up.
    MouseButton {
        /// Which.
        button: Button,
        /// Down or up.
        down: bool,
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// The wheel turned.
    Wheel {
        /// Horizontal wheel.
        #[serde(default)]
        horizontal: bool,
        /// Rotation in the protocol's units, 120 a notch; positive is up or right.
        delta: i16,
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// A key went down or up. Which one is not recorded unless asked for.
    Key {
        /// Down or up.
        down: bool,
        /// The key itself; `None` unless the role's `input` option asks for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        content: Option<KeyContent>,
    },
    /// A finger on the screen.
    Touch(Contact),
    /// A pen on the screen, or near it.
    Pen(Contact),
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// What became of a finger or a pen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ContactState {
    /// It touches from now on.
    Down,
    /// It moves, touching.
    Move,
    /// It touches no more.
    Up,
    /// It is near.
    Hover,
    /// It is near no more.
    Leave,
    /// The client takes it back: it does not count.
    Canceled,
    /// A state of a later version.
    #[serde(other)]
    Unknown,
}

/// A finger or a pen at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contact {
    /// Which of them.
    pub id: u8,
    /// What became of it. Callers should coalesce moves to about one a recorded frame.
    pub state: ContactState,
    /// Column; fingers may be outside of the picture.
    pub x: i32,
    /// Row.
    pub y: i32,
    /// How hard, where told; 1024 is the hardest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<u32>,
    /// The pen's other end: it rubs out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub eraser: bool,
    /// The button of the pen is pressed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub barrel: bool,
}

impl Input {
    /// Where the mouse was, for the kinds that say it.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        match *self {
            Self::MouseMove { x, y } | Self::MouseButton { x, y, .. } | Self::Wheel { x, y, .. } => {
                Some(Position { x, y })
            }
            Self::Key { .. } | Self::Touch(_) | Self::Pen(_) | Self::Unknown => None,
        }
    }
}

/// Which way content went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// From the desktop to the client.
    ToClient,
    /// From the client to the desktop.
    ToDesktop,
    /// A direction of a later version.
    #[serde(other)]
    Unknown,
}

/// What happened on the clipboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClipboardKind {
    /// One side told which formats it has.
    Offered,
    /// Content went over.
    Transferred,
    /// The gateway's policy stopped it.
    Denied,
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

/// A clipboard format ([MS-RDPECLIP] 2.2.3.1).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClipboardFormat {
    /// Format id.
    pub id: u32,
    /// Registered name, or the name of a predefined id; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A clipboard event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clipboard {
    /// What happened.
    pub kind: ClipboardKind,
    /// Which way.
    pub direction: Transfer,
    /// Formats offered, or the one format transferred.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub formats: Vec<ClipboardFormat>,
    /// Bytes transferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// SHA-256 of the bytes transferred, hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// The text; only where the policy says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// An operation on a shared directory ([MS-RDPEFS]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DriveOperation {
    /// A drive was announced, and the desktop took or refused it.
    Announce,
    /// A drive was taken away.
    Remove,
    /// A file was opened or made, or a folder was made.
    Open,
    /// A folder was listed.
    List,
    /// Bytes were read (they went to the desktop).
    Read,
    /// Bytes were written (they went to the client).
    Write,
    /// Renamed.
    Rename,
    /// A file got another length.
    Resize,
    /// Deleted.
    Delete,
    /// Closed; carries the totals.
    Close,
    /// The gateway's policy stopped it.
    Denied,
    /// An operation of a later version.
    #[serde(other)]
    Unknown,
}

/// An event of directory sharing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Drive {
    /// What was done.
    pub operation: DriveOperation,
    /// Path inside the share, with the drive's name first and `/` between names.
    pub path: String,
    /// New path of a rename.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_path: Option<String>,
    /// Number of the drive in the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drive: Option<u32>,
    /// First byte that was read or written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// Bytes that went over; the new length of a resize.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
    /// Of a close: bytes that were read in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// Of a close: bytes that were written in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub written: Option<u64>,
    /// Which way the file of `sha256` went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Transfer>,
    /// SHA-256 of the file, hex, when all of it was seen from its start to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// Why it failed, as the client says it ([MS-ERREF] NTSTATUS); `None` if it didn't.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u32>,
    /// One line for people, of what was denied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Touching reads, or writes, are one event: time of the first of them. The event's own time is that of the last, or
    /// a little later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since_ns: Option<u64>,
}

impl Drive {
    /// An event without details.
    #[must_use]
    pub fn new(operation: DriveOperation, path: String) -> Self {
        Self {
            operation,
            path,
            new_path: None,
            drive: None,
            offset: None,
            bytes: None,
            read: None,
            written: None,
            direction: None,
            sha256: None,
            status: None,
            detail: None,
            since_ns: None,
        }
    }
}
