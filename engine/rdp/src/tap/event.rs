//! What the tap reports: plain data, no protocol types.

use std::sync::Arc;

use super::drive::DriveEvent;
use crate::Direction;
use crate::wire::monitor::Monitor;
use crate::wire::touch::Contact;

/// A rectangle of pixels; covers `x..x + width` and `y..y + height`, always inside the picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rect {
    /// Left edge.
    pub x: u16,
    /// Upper edge.
    pub y: u16,
    /// Columns, at least 1.
    pub width: u16,
    /// Rows, at least 1.
    pub height: u16,
}

/// The tap's framebuffer: RGBA, 8 bits each, rows from the top; the fourth byte is always 255.
#[derive(Clone, Copy)]
pub struct Picture<'a> {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// `stride * height` bytes.
    pub rgba: &'a [u8],
}

/// One thing that happened in the session, in order of the PDUs.
#[derive(Clone, Debug, PartialEq)]
pub enum TapEvent {
    /// The picture has this size from now on and is black: session start, resize, reactivation, or a restart after a gap.
    Resized {
        /// Columns.
        width: u16,
        /// Rows.
        height: u16,
    },
    /// These pixels of [`Tap::picture`](super::Tap::picture) were painted, or are by the next
    /// [`Tap::settle`](super::Tap::settle); one event a rectangle. Parts beyond the picture are cut off.
    Damage(Rect),
    /// Of one PDU that paints more rectangles than are told one by one: the others lie in here, which need not all be painted.
    DamageWithin(Rect),
    /// The desktop closed a frame (frame marker): everything damaged so far belongs together. Many desktops never say so.
    FrameEnd,
    /// The mouse pointer's shape, place or visibility as the desktop wants it.
    Pointer(PointerEvent),
    /// What the user did.
    Input(InputEvent),
    /// Other monitors than before.
    Monitors {
        /// The client asks for them; else the desktop says that they are these.
        asked: bool,
        /// Each of them; the picture is what they make up together.
        monitors: Vec<Monitor>,
    },
    /// Something passed through the clipboard channel.
    Clipboard(ClipboardEvent),
    /// The desktop did something with a drive of the client.
    Drive(DriveEvent),
    /// The desktop says who logged on (Save Session Info).
    Logon(Logon),
    /// The desktop says that a logon did not go through, or not yet (Save Session Info, [MS-RDPBCGR] 2.2.10.1.1.4.1.1).
    LogonError {
        /// What comes next: ErrorNotificationType.
        notification: u32,
        /// What is wrong: ErrorNotificationData.
        data: u32,
    },
    /// The desktop explains an end or an error (Set Error Info, [MS-RDPBCGR] 2.2.5.1.1).
    ErrorInfo {
        /// Error code; 0 means none.
        code: u32,
    },
    /// The desktop shows (or hides) a connection's end state and stops drawing until it activates the session again.
    Deactivated,
    /// The picture may be stale, and the desktop has to repaint it all to make it right again.
    RefreshWanted {
        /// Why, in a few words.
        reason: &'static str,
    },
    /// The desktop shows more than [`TapConfig::screen_max_pixels`](super::TapConfig::screen_max_pixels): what it shows is not
    /// decoded from here on, and the session should end.
    ScreenTooLarge {
        /// Columns.
        width: u32,
        /// Rows.
        height: u32,
    },
    /// Evidence that this tap could not decode.
    Undecoded(Undecoded),
}

/// What the desktop wants of the mouse pointer.
#[derive(Clone, Debug, PartialEq)]
pub enum PointerEvent {
    /// Show this shape; one from the cache is the same allocation as before.
    Shape(Arc<PointerShape>),
    /// Show the client's own arrow.
    Default,
    /// Show no pointer.
    Hidden,
    /// The desktop moved the pointer itself.
    Position {
        /// Column of the hotspot.
        x: u16,
        /// Row of the hotspot.
        y: u16,
    },
}

/// A pointer's picture; may be 0 by 0 (invisible).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PointerShape {
    /// Columns, at most 384.
    pub width: u16,
    /// Rows, at most 384.
    pub height: u16,
    /// Column of the pixel that points.
    pub hotspot_x: u16,
    /// Row of the pixel that points.
    pub hotspot_y: u16,
    /// Rows from the top, `4 * width * height` bytes, alpha not multiplied in. Pixels that invert the screen are drawn as
    /// a black and white check.
    pub rgba: Vec<u8>,
}

/// A mouse button.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MouseButton {
    /// The first.
    Left,
    /// The second.
    Right,
    /// The wheel, pressed.
    Middle,
    /// The fourth ("back").
    X1,
    /// The fifth ("forward").
    X2,
}

/// A key, as the client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyCode {
    /// Scan code of a keyboard, with the prefix that extends it (0, 0xE0 or 0xE1).
    Scan {
        /// The code.
        code: u16,
        /// 0, 0xE0 or 0xE1.
        prefix: u8,
    },
    /// A UTF-16 unit.
    Unicode(u16),
}

/// What the user did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InputEvent {
    /// The mouse moved here.
    Move {
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// The mouse moved by this much (relative mouse).
    MoveBy {
        /// Columns.
        dx: i16,
        /// Rows.
        dy: i16,
    },
    /// A button went down or up.
    Button {
        /// Which one.
        button: MouseButton,
        /// Down rather than up.
        down: bool,
        /// Column; 0 with a relative mouse.
        x: u16,
        /// Row; 0 with a relative mouse.
        y: u16,
    },
    /// A wheel turned.
    Wheel {
        /// The horizontal one.
        horizontal: bool,
        /// 120 a notch; positive is away from the user, or to the right.
        units: i16,
        /// Column.
        x: u16,
        /// Row.
        y: u16,
    },
    /// A key went down or up; only with [`InputLevel::All`](super::InputLevel::All).
    Key {
        /// Down rather than up.
        down: bool,
        /// Which one.
        code: KeyCode,
    },
    /// A finger or a pen.
    Contact(Contact),
    /// State of the lock keys, sent when the client gets the focus; only with
    /// [`InputLevel::All`](super::InputLevel::All).
    Locks {
        /// Bits: 1 scroll, 2 num, 4 caps, 8 kana.
        flags: u8,
    },
}

/// Something that passed through the clipboard channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipboardEvent {
    /// Which way the PDU went: `ToDesktop` means that the client offers, asks or gives.
    pub direction: Direction,
    /// What it says.
    pub content: ClipboardContent,
}

/// What a clipboard PDU says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClipboardContent {
    /// The sender's clipboard changed and now offers these formats (at most 256 are listed).
    Formats(Vec<ClipboardFormat>),
    /// The sender asks for the data of this format.
    Request {
        /// Format id.
        format: u32,
    },
    /// The sender gives the data that the other side asked for.
    Data {
        /// Format that was asked for, if the question was seen.
        format: Option<u32>,
        /// Bytes.
        length: u64,
        /// SHA-256 of the bytes, from [`ClipboardLevel::Facts`](super::ClipboardLevel::Facts) on.
        sha256: Option<[u8; 32]>,
        /// The text itself, when it is text (formats 1, 7 and 13), whole, not longer than
        /// [`TapConfig::clipboard_text_max_bytes`](super::TapConfig::clipboard_text_max_bytes), and asked for by
        /// [`ClipboardLevel::Text`](super::ClipboardLevel::Text).
        text: Option<String>,
    },
    /// The sender can't give the data.
    Refused,
    /// The sender asks for a part of a file that the other side offered.
    FileRequest {
        /// Index in the file list.
        index: u32,
        /// First byte asked for.
        offset: u64,
        /// Bytes asked for; `None` asks for the size only.
        length: Option<u32>,
    },
    /// The sender gives a part of a file.
    FileData {
        /// Bytes.
        length: u64,
        /// SHA-256 of the bytes, from [`ClipboardLevel::Facts`](super::ClipboardLevel::Facts) on.
        sha256: Option<[u8; 32]>,
    },
}

/// A clipboard format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipboardFormat {
    /// Number; below 0xC000 it is one of the standard formats.
    pub id: u32,
    /// Name; empty for a standard format.
    pub name: String,
}

/// Who logged on, as the desktop says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Logon {
    /// Account; empty when the desktop only notifies that somebody did.
    pub user: String,
    /// Domain or computer.
    pub domain: String,
    /// Windows session number.
    pub session_id: u32,
}

/// Bytes that could not be decoded, from the deepest layer that was reached: after decompression and reassembly, one
/// bitmap or one surface command, if it came so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Undecoded {
    /// The layer reached.
    pub kind: UndecodedKind,
    /// Codec of a surface command, as the client numbered it, or of a command of the graphics pipeline.
    pub codec_id: Option<u8>,
    /// Where it would have been painted, if that is known.
    pub rect: Option<Rect>,
    /// Why not.
    pub error: String,
    /// The bytes, cut to [`TapConfig::undecoded_max_bytes`](super::TapConfig::undecoded_max_bytes).
    pub data: Vec<u8>,
    /// How many bytes there were.
    pub length: usize,
}

/// The layer that an [`Undecoded`] was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum UndecodedKind {
    /// A whole PDU whose framing is broken.
    Pdu,
    /// Data compressed with a bulk history that is not there; `error` begins with the type.
    Bulk,
    /// A fast-path update, or a part of one (reassembly failed), after decompression.
    FastPathUpdate,
    /// Share data on the slow path, after decompression.
    ShareData,
    /// Drawing orders, which should have been negotiated away.
    Orders,
    /// One bitmap of a bitmap update (`TS_BITMAP_DATA`).
    Bitmap,
    /// A palette update.
    Palette,
    /// One surface command, header included.
    SurfaceCommand,
    /// A message of the graphics pipeline, or a part of one, as it came.
    Graphics,
    /// One command of the graphics pipeline, after decompression, header included.
    GraphicsCommand,
    /// A pointer update, after its header.
    Pointer,
    /// Input of the client.
    Input,
    /// A chunk or message of the clipboard channel.
    Clipboard,
    /// A chunk or message of the device channel; never its bytes, which may be a file's.
    Drive,
}

impl UndecodedKind {
    /// The name that recordings and reports show.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pdu => "pdu",
            Self::Bulk => "bulk",
            Self::FastPathUpdate => "fast_path_update",
            Self::ShareData => "share_data",
            Self::Orders => "orders",
            Self::Bitmap => "bitmap",
            Self::Palette => "palette",
            Self::SurfaceCommand => "surface_command",
            Self::Graphics => "graphics",
            Self::GraphicsCommand => "graphics_command",
            Self::Pointer => "pointer",
            Self::Input => "input",
            Self::Clipboard => "clipboard",
            Self::Drive => "drive",
        }
    }
}

/// How many bitmaps, tiles and surface commands were decoded, by their encoding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// Uncompressed bitmaps and surface bits.
    pub raw: u64,
    /// Interleaved RLE bitmaps.
    pub rle: u64,
    /// RDP 6.0 planar bitmaps.
    pub planar: u64,
    /// RemoteFX surface commands, and commands of the graphics pipeline.
    pub remote_fx: u64,
    /// NSCodec surface commands.
    pub ns_codec: u64,
    /// Progressive commands of the graphics pipeline.
    pub progressive: u64,
    /// ClearCodec commands of the graphics pipeline.
    pub clear: u64,
}

impl Decoded {
    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            raw: self.raw + other.raw,
            rle: self.rle + other.rle,
            planar: self.planar + other.planar,
            remote_fx: self.remote_fx + other.remote_fx,
            ns_codec: self.ns_codec + other.ns_codec,
            progressive: self.progressive + other.progressive,
            clear: self.clear + other.clear,
        }
    }
}
