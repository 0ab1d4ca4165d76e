//! One session's way through the RDP phases: patches in place, a verdict on each PDU, facts about the session.
//!
//! [`Phases`] sees every PDU of both directions from the MCS Connect Initial on (the X.224 negotiation and TLS come before
//! it), whole PDUs only, in the order in which they are relayed. It is the only part that changes what passes:
//!
//! - the GCC blocks of Connect Initial and Connect Response, the flags and the user name's selector of Client Info, the
//!   capability sets of every Demand Active and Confirm Active, the version of the drdynvc capabilities, what the client can
//!   do in the graphics pipeline, where that may be used ([`Graphics`]);
//! - dynamic channels that would carry the picture past the tap are refused in the client's name;
//! - channels, devices and clipboard directions that the session has no right to ([`ChannelRights`]) are taken out, and
//!   whoever asks for them is answered, so that nobody waits.
//!
//! It fails closed: what it can't walk where it would have to patch is a [`FilterError`], and the session ends.

mod activity;
mod channels;
mod clipboard;
mod devices;
mod error;
mod facts;
mod gate;
mod graphics;
mod handshake;
mod network;
mod pending;
mod rights;
mod share;
mod verdict;

pub use crate::wire::monitor::Monitor;
pub use error::FilterError;
pub use facts::{BitmapCodec, BulkType, Facts, Selector};
pub use network::Network;
pub use rights::{ChannelRights, Right};
pub use verdict::{ChannelOutcome, ClientLogon, LogonAs, Pass, PhaseEvent, Verdict};

pub use crate::Direction;
pub use crate::tap::ClipboardFormat;
use crate::wire::mcs::{self, DomainPdu};
use crate::wire::redirection::Return;
use crate::wire::share as wire_share;
use crate::wire::x224::protocol;
use crate::wire::{PduKind, WireError, fast_path};
use channels::Channels;

/// Default of [`FilterOptions::screen_max_pixels`]: one 8K screen, or four of 4K.
pub const SCREEN_MAX_PIXELS: u64 = 32 << 20;

/// Whether the desktop may compress in bulk towards the client. The tap decodes it, so keeping it saves the user's
/// bandwidth; clearing it gives a stream without history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BulkCompression {
    /// As client and desktop agree.
    #[default]
    Keep,
    /// Never: the client's offer is taken out of Client Info.
    Clear,
}

/// How the desktop may send its picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Graphics {
    /// Bitmaps alone, as all desktops can: no graphics pipeline, no codecs.
    #[default]
    Legacy,
    /// As client and desktop agree, but for what the tap doesn't decode: the graphics pipeline without H.264, RemoteFX, NSCodec.
    Gfx,
}

/// What the X.224 negotiation of both legs has settled, and the operator's settings for the desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterOptions {
    /// The protocols that the client requested of the gateway ([`crate::wire::x224::protocol`]).
    pub requested_protocols: u32,
    /// The protocols that the gateway requested of the desktop. A desktop that says it has read others was told so by
    /// somebody in between, who wants less security; `None` = not looked at.
    pub offered_protocols: Option<u32>,
    /// The protocol that the desktop selected on its leg.
    pub selected_protocol: u32,
    /// See [`BulkCompression`].
    pub bulk_compression: BulkCompression,
    /// See [`Graphics`].
    pub graphics: Graphics,
    /// Name of the desktop that the session is bound to. A user name `user:desktop[:login]` must name the same one.
    pub desktop: String,
    /// What the channels may do, if that is decided already; else see [`Phases::decide`].
    pub rights: Option<ChannelRights>,
    /// Upper bound for the MaxRequestSize of the Multifragment set: what the tap reassembles, 16 MiB.
    pub max_request_size: u32,
    /// Most pixels of a screen, all monitors together: what a client may ask for, and what a desktop may show.
    pub screen_max_pixels: u64,
}

impl Default for FilterOptions {
    fn default() -> Self {
        Self {
            requested_protocols: protocol::SSL,
            offered_protocols: None,
            selected_protocol: protocol::SSL,
            bulk_compression: BulkCompression::Keep,
            graphics: Graphics::Legacy,
            desktop: String::new(),
            rights: None,
            max_request_size: 16 << 20,
            screen_max_pixels: SCREEN_MAX_PIXELS,
        }
    }
}

/// Where a session stands. Licensing and finalisation are relayed as they come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// The client's Connect Initial is next.
    ConnectInitial,
    /// The desktop's Connect Response is next.
    ConnectResponse,
    /// Attach, joins, until the Client Info.
    Attach,
    /// Client Info has passed: licensing, until the first Demand Active.
    Licensing,
    /// From the first Demand Active to the end, reactivations included.
    Active,
}

impl Phase {
    fn name(self) -> &'static str {
        match self {
            Self::ConnectInitial => "connect initial",
            Self::ConnectResponse => "connect response",
            Self::Attach => "attach",
            Self::Licensing => "licensing",
            Self::Active => "active",
        }
    }
}

/// The phase machine of one session. Shared by both pumps behind a lock; a call never blocks.
#[derive(Debug)]
pub struct Phases {
    options: FilterOptions,
    facts: Facts,
    phase: Phase,
    channels: Channels,
    /// User channel with which the desktop signs MCS data; not always the one in its share control headers.
    desktop_initiator: u16,
    /// The client has confirmed the current activation.
    confirmed: bool,
    /// The static channels have been reported.
    reported: bool,
    network: network::Told,
    /// PDUs in which the user did something.
    inputs: u64,
}

impl Phases {
    /// A session that is about to send its Connect Initial.
    #[must_use]
    pub fn new(options: FilterOptions) -> Self {
        let mut channels = Channels::new(options.graphics);
        channels.decide(options.rights.unwrap_or_default());
        Self {
            options,
            facts: Facts::default(),
            phase: Phase::ConnectInitial,
            channels,
            desktop_initiator: 1002,
            confirmed: false,
            reported: false,
            network: network::Told::default(),
            inputs: 0,
        }
    }

    /// Says what the channels may do, where that was not known at the start. Call it before Client Info goes on: until
    /// then no channel can hold data.
    pub fn decide(&mut self, rights: ChannelRights) {
        self.options.rights = Some(rights);
        self.channels.decide(rights);
    }

    /// How many PDUs held a key, a click, a move of the mouse, a finger or a pen. A client that is left alone sends none,
    /// so a number that stands still means that the user is idle.
    #[must_use]
    pub fn inputs(&self) -> u64 {
        self.inputs
    }

    /// Takes one whole PDU, patches it in place (a selector spliced out of Client Info shortens it) and says what to do
    /// with it.
    ///
    /// # Errors
    /// [`FilterError`]: the session has to end; the PDU must not be forwarded.
    pub fn pdu(&mut self, direction: Direction, pdu: &mut Vec<u8>) -> Result<Verdict, FilterError> {
        let mut verdict = Verdict {
            forward: true,
            ..Verdict::default()
        };
        match PduKind::of(pdu.first().copied().unwrap_or(0xFF)) {
            Ok(PduKind::FastPath) => self.fast_path(direction, pdu, &mut verdict)?,
            Ok(PduKind::SlowPath) => self.slow_path(direction, pdu, &mut verdict)?,
            Err(error) => return Err(FilterError::Frame { direction, error }),
        }
        Ok(verdict)
    }

    /// The quick way for the bulk of a session: `Some` if the PDU surely passes unchanged, without a reply or an event
    /// (fast path, plain share data, static channels other than drdynvc). `None`, with nothing taken note of: call
    /// [`Phases::pdu`], which also has the errors.
    ///
    /// # Errors
    /// None at present; the type leaves room for those of [`Phases::pdu`].
    pub fn passes(&mut self, direction: Direction, pdu: &[u8]) -> Result<Option<Pass>, FilterError> {
        if self.phase != Phase::Active {
            return Ok(None);
        }
        Ok(match pdu.first() {
            Some(&first) if first & 0b11 == 0 => {
                let encrypted = direction == Direction::ToClient && fast_path::is_encrypted(first);
                if direction == Direction::ToDesktop && activity::in_fast_path(pdu) {
                    self.inputs += 1;
                }
                (!encrypted).then_some(Pass { tap: true })
            }
            Some(3) => match mcs::domain_pdu(pdu) {
                Ok(DomainPdu::Data(data)) if data.direction != direction => None,
                Ok(DomainPdu::Data(data)) if data.channel == self.facts.io_channel => {
                    let plain = share::is_plain(direction, pdu, data.payload.clone());
                    if plain && direction == Direction::ToDesktop && activity::in_share(pdu, data.payload) {
                        self.inputs += 1;
                    }
                    plain.then_some(Pass { tap: true })
                }
                Ok(DomainPdu::Data(data)) => self.channels.plain(&data, pdu),
                _ => None,
            },
            _ => None,
        })
    }

    /// Whether an injected `pdu` may be written towards `direction` now: `false` while the peer's own chunks of the same
    /// static channel stand between FIRST and LAST there.
    #[must_use]
    pub fn may_inject(&self, direction: Direction, pdu: &[u8]) -> bool {
        match mcs::domain_pdu(pdu) {
            Ok(DomainPdu::Data(data)) => !self.channels.is_inside_message(direction, data.channel),
            _ => true,
        }
    }

    /// What is known about the session so far.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// PDUs towards the client that end its session with a code of [`crate::wire::error_info`]: Set Error Info (if the
    /// client can read it by now) and Disconnect Provider Ultimatum. Empty before the client has seen the Connect
    /// Response: then only closing is left.
    #[must_use]
    pub fn error_info(&self, code: u32) -> Vec<Vec<u8>> {
        let mut pdus = Vec::new();
        if self.phase >= Phase::Attach {
            if self.phase >= Phase::Licensing && self.facts.supports_error_info() {
                pdus.push(wire_share::set_error_info(self.sender(Direction::ToClient), code));
            }
            pdus.push(mcs::disconnect_ultimatum());
        }
        pdus
    }

    /// PDUs towards the client that lead it back to where it has connected; empty before it has logged on. Nothing else may
    /// follow: the client leaves.
    #[must_use]
    pub fn redirect(&self, back: &Return<'_>) -> Vec<Vec<u8>> {
        if self.phase < Phase::Licensing {
            return Vec::new();
        }
        vec![wire_share::redirection(
            self.sender(Direction::ToClient),
            &back.packet(),
        )]
    }

    /// PDUs towards the desktop that make it repaint the whole desktop of `width` x `height`: a Suppress Output toggle, or
    /// a Refresh Rect where only that is supported. Empty if the desktop announced neither, no activation is complete, or
    /// the client itself has suppressed output (then the desktop repaints by itself when the client wants output again).
    #[must_use]
    pub fn refresh(&self, width: u16, height: u16) -> Vec<Vec<u8>> {
        let sender = self.sender(Direction::ToDesktop);
        if !self.confirmed || self.facts.output_suppressed {
            Vec::new()
        } else if self.facts.suppress_output_support {
            let off = wire_share::suppress_output(sender, None);
            vec![off, wire_share::suppress_output(sender, Some((width, height)))]
        } else if self.facts.refresh_rect_support {
            vec![wire_share::refresh_rect(sender, width, height)]
        } else {
            Vec::new()
        }
    }

    fn sender(&self, direction: Direction) -> wire_share::Sender {
        let (initiator, source) = match direction {
            Direction::ToDesktop => (self.facts.user_channel, self.facts.user_channel),
            Direction::ToClient if self.facts.originator != 0 => (self.desktop_initiator, self.facts.originator),
            Direction::ToClient => (self.desktop_initiator, self.desktop_initiator),
        };
        let Facts {
            io_channel, share_id, ..
        } = self.facts;
        wire_share::Sender {
            direction,
            initiator,
            source,
            io_channel,
            share_id,
        }
    }

    fn fast_path(&mut self, direction: Direction, pdu: &[u8], verdict: &mut Verdict) -> Result<(), FilterError> {
        match direction {
            // a picture before the tap has begun
            Direction::ToClient if self.phase != Phase::Active => {
                return Err(self.unexpected(direction, "fast-path output"));
            }
            // Input that the tap would not see, of a client that nobody may have heard yet. Old FreeRDP sends some when the mouse
            // moves over its window meanwhile; a desktop has no use for it.
            Direction::ToDesktop if self.phase != Phase::Active => {
                verdict.forward = false;
                return Ok(());
            }
            Direction::ToClient if pdu.first().is_some_and(|&first| fast_path::is_encrypted(first)) => {
                return Err(FilterError::Encrypted(direction));
            }
            _ => verdict.tap = true,
        }
        if direction == Direction::ToDesktop && activity::in_fast_path(pdu) {
            self.inputs += 1;
        }
        Ok(())
    }

    fn slow_path(&mut self, direction: Direction, pdu: &mut Vec<u8>, verdict: &mut Verdict) -> Result<(), FilterError> {
        match (self.phase, direction) {
            (Phase::ConnectInitial, Direction::ToDesktop) => return self.connect_initial(pdu, verdict),
            (Phase::ConnectResponse, Direction::ToClient) => return self.connect_response(pdu, verdict),
            (Phase::ConnectInitial | Phase::ConnectResponse, _) => return Err(self.unexpected(direction, "PDU")),
            _ => (),
        }
        match mcs::domain_pdu(pdu).map_err(malformed(direction))? {
            DomainPdu::Disconnect { reason } => verdict.events.push(PhaseEvent::Disconnected { reason }),
            DomainPdu::X224Disconnect => verdict.events.push(PhaseEvent::Disconnected { reason: 0 }),
            DomainPdu::AttachUserConfirm { user_channel, .. } if direction == Direction::ToClient => {
                // Only the first one counts: later ids would be those of another user.
                if self.facts.user_channel == 0 {
                    self.facts.user_channel = user_channel.unwrap_or_default();
                }
            }
            DomainPdu::ChannelJoinConfirm { .. } if direction == Direction::ToClient => (),
            DomainPdu::ErectDomain | DomainPdu::AttachUserRequest | DomainPdu::ChannelJoinRequest { .. }
                if direction == Direction::ToDesktop => {}
            DomainPdu::Data(data) if data.direction == direction => self.data(&data, pdu, verdict)?,
            _ => return Err(self.unexpected(direction, "MCS PDU of the other direction")),
        }
        Ok(())
    }

    fn data(&mut self, data: &mcs::Data, pdu: &mut Vec<u8>, verdict: &mut Verdict) -> Result<(), FilterError> {
        let direction = data.direction;
        if data.channel == self.facts.io_channel {
            return match (self.phase, direction) {
                (Phase::Active, _) => self.share(data, pdu, verdict),
                (Phase::Attach, Direction::ToDesktop) => self.client_info(data, pdu, verdict),
                (Phase::Licensing, _) => self.licensing(data, pdu, verdict),
                _ => Err(self.unexpected(direction, "IO channel data")),
            };
        }
        if Some(data.channel) == self.facts.message_channel {
            return self.message(data, pdu, verdict);
        }
        if self.phase < Phase::Licensing {
            return Err(self.unexpected(direction, "channel data"));
        }
        self.static_channel(data, pdu, verdict)
    }

    /// # Errors
    /// [`FilterError::ScreenTooLarge`]
    fn check_screen(&self, direction: Direction, width: u64, height: u64) -> Result<(), FilterError> {
        let limit = self.options.screen_max_pixels;
        if width.saturating_mul(height) <= limit {
            return Ok(());
        }
        Err(FilterError::ScreenTooLarge {
            direction,
            width,
            height,
            limit,
        })
    }

    fn unexpected(&self, direction: Direction, pdu: &'static str) -> FilterError {
        FilterError::Unexpected {
            direction,
            pdu,
            phase: self.phase.name(),
        }
    }
}

fn malformed(direction: Direction) -> impl Fn(WireError) -> FilterError {
    move |error| FilterError::Malformed { direction, error }
}

#[cfg(test)]
mod tests;
