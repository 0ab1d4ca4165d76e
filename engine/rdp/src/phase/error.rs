//! Why the filter ends a session.

use crate::Direction;
use crate::wire::redirection::Redirection;
use crate::wire::{FrameError, WireError, error_info};

/// Why a session must end. Nothing of the PDU in question may be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FilterError {
    /// No PDU at all.
    #[error("bytes {}: {error}", sender(*.direction))]
    Frame {
        /// Which way it came.
        direction: Direction,
        /// What is wrong.
        error: FrameError,
    },
    /// A PDU that can't be walked.
    #[error("malformed PDU {}: {error}", sender(*.direction))]
    Malformed {
        /// Which way it came.
        direction: Direction,
        /// What is wrong.
        error: WireError,
    },
    /// A PDU that has no place in this phase.
    #[error("unexpected {pdu} {} (phase: {phase})", sender(*.direction))]
    Unexpected {
        /// Which way it came.
        direction: Direction,
        /// What it was.
        pdu: &'static str,
        /// The phase.
        phase: &'static str,
    },
    /// Encryption by standard RDP security.
    #[error("desktop wants standard RDP security (encryption method {0:#x}), which is refused")]
    StandardSecurity(u32),
    /// Standard RDP security in the middle of a session that negotiated none.
    #[error("PDU {} is encrypted by standard RDP security, which is refused", sender(*.0))]
    Encrypted(Direction),
    /// The desktop has read another X.224 request than the gateway has sent.
    #[error(
        "desktop was asked for security protocols {offered:#x} and has read {read:#x}: somebody in between changed the negotiation"
    )]
    Downgrade {
        /// What was sent.
        offered: u32,
        /// What has arrived.
        read: u32,
    },
    /// The desktop refused at the MCS level.
    #[error("desktop refuses the MCS connection (result {0})")]
    ConnectRefused(u8),
    /// A redirection: the client would leave the gateway.
    #[error("desktop redirects the client to {}", .0.target())]
    Redirection(Box<Redirection>),
    /// A Confirm Active whose drawing orders can't be turned off.
    #[error("client's Confirm Active has no Order capability set")]
    NoOrderSet,
    /// Compressed chunks, though compression was negotiated away.
    #[error("compressed data on static channel {channel} {}", sender(*.direction))]
    CompressedChannel {
        /// Which way it came.
        direction: Direction,
        /// The static channel.
        channel: String,
    },
    /// A drdynvc PDU that the filter can't judge.
    #[error("dynamic channel command {command} {} {problem}", sender(*.direction))]
    DynamicChannel {
        /// Which way it came.
        direction: Direction,
        /// Command number.
        command: u8,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Data on an MCS channel that nobody has numbered.
    #[error("data on unknown MCS channel {channel} {}", sender(*.direction))]
    UnknownChannel {
        /// Which way it came.
        direction: Direction,
        /// MCS channel id.
        channel: u16,
    },
    /// The user name asks for another desktop than the one that the session is bound to.
    #[error("user name asks for desktop {wanted:?}, but the session is bound to {bound:?}")]
    OtherDesktop {
        /// What the user name says.
        wanted: String,
        /// Where the session goes.
        bound: String,
    },
    /// More of something than any peer needs.
    #[error("too many {what} {} (limit {limit})", sender(*.direction))]
    TooMany {
        /// Which way it came.
        direction: Direction,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A picture that would take more memory than a session may.
    #[error("screen of {width}x{height} {} is above the limit of {limit} pixels", sender(*.direction))]
    ScreenTooLarge {
        /// Who wants it.
        direction: Direction,
        /// Its width.
        width: u64,
        /// Its height.
        height: u64,
        /// The most pixels.
        limit: u64,
    },
}

/// The sender's name in messages.
fn sender(direction: Direction) -> &'static str {
    match direction {
        Direction::ToDesktop => "from the client",
        Direction::ToClient => "from the desktop",
    }
}

impl FilterError {
    /// A short stable word for logs and counters, distinct for each kind.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Frame { .. } => "not-a-pdu",
            Self::Malformed { .. } => "malformed-pdu",
            Self::Unexpected { .. } => "unexpected-pdu",
            Self::StandardSecurity(_) => "standard-security",
            Self::Encrypted(_) => "encrypted-pdu",
            Self::ConnectRefused(_) => "mcs-refused",
            Self::Downgrade { .. } => "downgrade",
            Self::Redirection(_) => "redirection",
            Self::NoOrderSet => "no-order-set",
            Self::CompressedChannel { .. } => "compressed-channel",
            Self::DynamicChannel { .. } => "dynamic-channel",
            Self::UnknownChannel { .. } => "unknown-channel",
            Self::OtherDesktop { .. } => "other-desktop",
            Self::TooMany { .. } => "too-many",
            Self::ScreenTooLarge { .. } => "screen-too-large",
        }
    }

    /// The code that tells the client best, for [`super::Phases::error_info`].
    #[must_use]
    pub fn error_info_code(&self) -> u32 {
        match self {
            Self::OtherDesktop { .. } | Self::Redirection(_) => error_info::DENIED,
            _ => error_info::RPC_INITIATED_DISCONNECT,
        }
    }
}
