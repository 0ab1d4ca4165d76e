//! The events of a recording and the channels they travel on.
//!
//! Every event but [`ScreenMessage`] is a JSON object with a published schema (`schemas/`). Readers
//! tolerate fields and kinds they don't know.

mod base64_bytes;
mod io;
mod pointer;
mod session;

pub use io::{
    Button, Clipboard, ClipboardFormat, ClipboardKind, Contact, ContactState, Drive, DriveOperation, Input, KeyContent,
    Transfer,
};
pub use pointer::{Pointer, PointerShape, PointerState, Position};
pub use session::{
    ChannelFacts, ClientFacts, DesktopFacts, EndReason, Gap, GapReason, MonitorFacts, NetworkFacts, SessionEnd,
    SessionEvent, SessionStart, Undecoded, UserFacts,
};

use bytes::Bytes;

use crate::{Error, Result};

/// The bytes of one frame: flushed output of the span's zstd stream (docs/format.md section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScreenMessage {
    /// True for a keyframe: it starts a new zstd stream and holds the whole picture.
    pub key: bool,
    /// Compressed bytes, to be given to [`crate::ScreenDecoder::apply`] in order.
    pub bytes: Bytes,
}

/// One entry of a recording.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A changed frame or a keyframe. Written by [`crate::Recorder::frame`] only.
    Screen(ScreenMessage),
    /// Shape, position or visibility of the pointer.
    Pointer(Pointer),
    /// What the user did with mouse, keyboard, fingers and pens.
    Input(Input),
    /// Clipboard offers and transfers.
    Clipboard(Clipboard),
    /// File operations over directory sharing.
    Drive(Drive),
    /// Start, resize, monitors, channels, logon, alerts, end.
    Session(SessionEvent),
    /// A stretch that is known to be unrecorded.
    Gap(Gap),
    /// A PDU that the tap could not decode, kept raw.
    Undecoded(Undecoded),
}

/// The channels of a segment; each is an MCAP channel with the same name as its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Channel {
    /// Changed frames.
    Screen,
    /// Keyframes.
    Key,
    /// Pointer changes.
    Pointer,
    /// Mouse and keyboard.
    Input,
    /// Clipboard.
    Clipboard,
    /// Directory sharing.
    Drive,
    /// Session events.
    Session,
    /// Gaps.
    Gap,
    /// Undecoded PDUs.
    Undecoded,
}

impl Channel {
    /// All channels, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Screen,
        Self::Key,
        Self::Pointer,
        Self::Input,
        Self::Clipboard,
        Self::Drive,
        Self::Session,
        Self::Gap,
        Self::Undecoded,
    ];

    /// The MCAP topic.
    #[must_use]
    pub const fn topic(self) -> &'static str {
        match self {
            Self::Screen => "screen",
            Self::Key => "key",
            Self::Pointer => "pointer",
            Self::Input => "input",
            Self::Clipboard => "clipboard",
            Self::Drive => "drive",
            Self::Session => "session",
            Self::Gap => "gap",
            Self::Undecoded => "undecoded",
        }
    }

    /// The channel of a topic; `None` for topics of later versions.
    #[must_use]
    pub fn from_topic(topic: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|channel| channel.topic() == topic)
    }

    /// The MCAP message encoding of this channel.
    #[must_use]
    pub const fn encoding(self) -> &'static str {
        match self {
            Self::Screen | Self::Key => SCREEN_ENCODING,
            _ => "json",
        }
    }
}

/// Message encoding of the `screen` and `key` channels.
pub const SCREEN_ENCODING: &str = "deskreel-screen-1";

impl Event {
    /// The channel that carries this event.
    #[must_use]
    pub fn channel(&self) -> Channel {
        match self {
            Self::Screen(screen) if screen.key => Channel::Key,
            Self::Screen(_) => Channel::Screen,
            Self::Pointer(_) => Channel::Pointer,
            Self::Input(_) => Channel::Input,
            Self::Clipboard(_) => Channel::Clipboard,
            Self::Drive(_) => Channel::Drive,
            Self::Session(_) => Channel::Session,
            Self::Gap(_) => Channel::Gap,
            Self::Undecoded(_) => Channel::Undecoded,
        }
    }

    /// The message payload of this event.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Internal`] if JSON encoding fails.
    pub fn to_payload(&self) -> Result<Bytes> {
        let json = match self {
            Self::Screen(screen) => return Ok(screen.bytes.clone()),
            Self::Pointer(event) => serde_json::to_vec(event),
            Self::Input(event) => serde_json::to_vec(event),
            Self::Clipboard(event) => serde_json::to_vec(event),
            Self::Drive(event) => serde_json::to_vec(event),
            Self::Session(event) => serde_json::to_vec(event),
            Self::Gap(event) => serde_json::to_vec(event),
            Self::Undecoded(event) => serde_json::to_vec(event),
        };
        json.map(Bytes::from)
            .map_err(|error| Error::internal(&format!("encode {} event", self.channel().topic()), error))
    }

    /// Reads a message payload.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Malformed`] when the payload is not an event of that channel.
    pub fn from_payload(channel: Channel, payload: Bytes) -> Result<Self> {
        fn json<T: serde::de::DeserializeOwned>(channel: Channel, payload: &[u8]) -> Result<T> {
            serde_json::from_slice(payload)
                .map_err(|error| Error::malformed(format!("{} event: {error}", channel.topic())))
        }
        Ok(match channel {
            Channel::Screen => Self::Screen(ScreenMessage {
                key: false,
                bytes: payload,
            }),
            Channel::Key => Self::Screen(ScreenMessage {
                key: true,
                bytes: payload,
            }),
            Channel::Pointer => Self::Pointer(json(channel, &payload)?),
            Channel::Input => Self::Input(json(channel, &payload)?),
            Channel::Clipboard => Self::Clipboard(json(channel, &payload)?),
            Channel::Drive => Self::Drive(json(channel, &payload)?),
            Channel::Session => Self::Session(json(channel, &payload)?),
            Channel::Gap => Self::Gap(json(channel, &payload)?),
            Channel::Undecoded => Self::Undecoded(json(channel, &payload)?),
        })
    }
}
