//! What the channels of a session may do.

use super::ChannelOutcome;
use crate::Direction;
use crate::wire::dvc;
use crate::wire::rdpdr::{self, device};

/// A right over channels that a session may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// The clipboard, in one or both directions.
    Clipboard,
    /// Drives of the client.
    Drives,
    /// Printers of the client.
    Printers,
    /// Smart cards of the client.
    SmartCards,
    /// Serial and parallel ports of the client.
    Ports,
    /// USB devices of the client.
    Usb,
    /// Sound of the desktop.
    AudioOutput,
    /// Microphones of the client.
    AudioInput,
    /// Cameras of the client.
    Cameras,
    /// Everything else that isn't screen, pointer or input: `WebAuthn`, location, telemetry, `RemoteApp`, remote assistance,
    /// unknown devices.
    Other,
}

/// What the channels of a session may do; [`ChannelRights::default`] allows all. No right opens a channel that would
/// carry screen, pointer or input past the tap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelRights {
    /// The client's clipboard may be pasted on the desktop.
    pub clipboard_to_desktop: bool,
    /// The desktop's clipboard may be pasted at the client.
    pub clipboard_to_client: bool,
    /// Files may go through the clipboard, where its direction is open.
    pub clipboard_files: bool,
    /// See [`Right::Drives`].
    pub drives: bool,
    /// See [`Right::Printers`].
    pub printers: bool,
    /// See [`Right::SmartCards`].
    pub smart_cards: bool,
    /// See [`Right::Ports`].
    pub ports: bool,
    /// See [`Right::Usb`].
    pub usb: bool,
    /// See [`Right::AudioOutput`].
    pub audio_output: bool,
    /// See [`Right::AudioInput`].
    pub audio_input: bool,
    /// See [`Right::Cameras`].
    pub cameras: bool,
    /// See [`Right::Other`].
    pub other: bool,
}

impl Default for ChannelRights {
    fn default() -> Self {
        Self::of(true)
    }
}

impl ChannelRights {
    /// No channel may do anything.
    #[must_use]
    pub fn none() -> Self {
        Self::of(false)
    }

    fn of(allowed: bool) -> Self {
        Self {
            clipboard_to_desktop: allowed,
            clipboard_to_client: allowed,
            clipboard_files: allowed,
            drives: allowed,
            printers: allowed,
            smart_cards: allowed,
            ports: allowed,
            usb: allowed,
            audio_output: allowed,
            audio_input: allowed,
            cameras: allowed,
            other: allowed,
        }
    }

    /// Whether the sender of `direction` may give its clipboard away.
    pub(super) fn clipboard(&self, direction: Direction) -> bool {
        match direction {
            Direction::ToDesktop => self.clipboard_to_desktop,
            Direction::ToClient => self.clipboard_to_client,
        }
    }

    /// Whether a right is given, at least in part.
    pub(super) fn has(&self, right: Right) -> bool {
        match right {
            Right::Clipboard => self.clipboard_to_desktop || self.clipboard_to_client,
            Right::Drives => self.drives,
            Right::Printers => self.printers,
            Right::SmartCards => self.smart_cards,
            Right::Ports => self.ports,
            Right::Usb => self.usb,
            Right::AudioOutput => self.audio_output,
            Right::AudioInput => self.audio_input,
            Right::Cameras => self.cameras,
            Right::Other => self.other,
        }
    }

    /// The right of a kind of redirected device ([MS-RDPEFS] 2.2.1.3).
    pub(super) fn of_device(kind: u32) -> Right {
        match kind {
            device::SERIAL | device::PARALLEL => Right::Ports,
            device::PRINTER => Right::Printers,
            device::DRIVE => Right::Drives,
            device::SMART_CARD => Right::SmartCards,
            _ => Right::Other,
        }
    }

    /// Whether any kind of device is allowed.
    fn any_device(&self) -> bool {
        self.drives || self.printers || self.smart_cards || self.ports || self.other
    }

    /// Whether every kind of device is allowed.
    pub(super) fn all_devices(&self) -> bool {
        self.drives && self.printers && self.smart_cards && self.ports && self.other
    }

    /// Why a static channel is denied as a whole; `None` if it may be used, at least in part. Names that are not known are
    /// denied: nobody could say what passes there (xrdp's `xrdpvr` carries video, `rdp2tcp` whole networks).
    pub(super) fn denies_static(&self, name: &str) -> Option<ChannelOutcome> {
        let right = match name.to_ascii_lowercase().as_str() {
            dvc::STATIC_CHANNEL => return None,
            rdpdr::STATIC_CHANNEL if self.any_device() => return None,
            rdpdr::STATIC_CHANNEL => Right::Drives,
            "cliprdr" => Right::Clipboard,
            "rdpsnd" => Right::AudioOutput,
            // RemoteApp, whose pictures come as all others; who takes part, and remote assistance ([MS-RA])
            "rail" | "rail_wi" | "rail_ri" | "encomsp" | "remdesk" => Right::Other,
            "xrdpvr" => return Some(ChannelOutcome::Forbidden),
            _ => return Some(ChannelOutcome::Unknown),
        };
        (!self.has(right)).then_some(ChannelOutcome::Denied(right))
    }
}
