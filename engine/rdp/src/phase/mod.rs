//! One session's way through the RDP phases: patches in place, a verdict on each PDU, facts about the session.
//!
//! [`Phases`] sees every PDU of both directions from the MCS Connect Initial on (the X.224 negotiation and TLS come before
//! it), whole PDUs only, in the order in which they are relayed. It is the only part that changes what passes:
//!
//! - the GCC blocks of Connect Initial and Connect Response, the flags and the user name's selector of Client Info, the
//!   capability sets of every Demand Active and Confirm Active (profile L), the version of the drdynvc capabilities;
//! - dynamic channels that would carry the picture past the tap are refused in the client's name.
//!
//! It fails closed: what it can't walk where it would have to patch is a [`FilterError`], and the session ends.

mod error;
mod facts;
mod verdict;

pub use error::FilterError;
pub use facts::{BitmapCodec, BulkType, Facts, Monitor, Selector};
pub use verdict::{ChannelOutcome, Pass, PhaseEvent, Verdict};

pub use crate::Direction;
use crate::wire::x224::protocol;

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

/// What the X.224 negotiation of both legs has settled, and the operator's settings for the desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FilterOptions {
    /// The protocols that the client requested of the gateway ([`crate::wire::x224::protocol`]).
    pub requested_protocols: u32,
    /// The protocol that the desktop selected on its leg.
    pub selected_protocol: u32,
    /// See [`BulkCompression`].
    pub bulk_compression: BulkCompression,
    /// Name of the desktop that the session is bound to. A user name `user:desktop[:login]` must name the same one.
    pub desktop: String,
    /// Upper bound for the MaxRequestSize of the Multifragment set: what the tap reassembles, 16 MiB.
    pub max_request_size: u32,
}

impl Default for FilterOptions {
    fn default() -> Self {
        Self {
            requested_protocols: protocol::SSL,
            selected_protocol: protocol::SSL,
            bulk_compression: BulkCompression::Keep,
            desktop: String::new(),
            max_request_size: 16 << 20,
        }
    }
}

/// The phase machine of one session. Shared by both pumps behind a lock; a call never blocks.
#[derive(Debug)]
pub struct Phases {
    options: FilterOptions,
    facts: Facts,
}

impl Phases {
    /// A session that is about to send its Connect Initial.
    #[must_use]
    pub fn new(options: FilterOptions) -> Self {
        Self {
            options,
            facts: Facts::default(),
        }
    }

    /// Takes one whole PDU, patches it in place (Client Info may change its length) and says what to do with it.
    ///
    /// # Errors
    /// [`FilterError`]: the session has to end; the PDU must not be forwarded.
    pub fn pdu(&mut self, direction: Direction, pdu: &mut Vec<u8>) -> Result<Verdict, FilterError> {
        let _ = (direction, pdu, &self.options);
        Ok(Verdict {
            forward: true,
            ..Verdict::default()
        })
    }

    /// The quick way for the bulk of a session: `Some` if the PDU surely passes unchanged, without a reply or an event
    /// (fast path, plain share data, static channels other than drdynvc). `None`, with nothing taken note of: call
    /// [`Phases::pdu`].
    ///
    /// # Errors
    /// As [`Phases::pdu`].
    pub fn passes(&mut self, direction: Direction, pdu: &[u8]) -> Result<Option<Pass>, FilterError> {
        let _ = (direction, pdu);
        Ok(None)
    }

    /// Whether an injected `pdu` may be written towards `direction` now: `false` while the peer's own chunks of the same
    /// static channel stand between FIRST and LAST there.
    #[must_use]
    pub fn may_inject(&self, direction: Direction, pdu: &[u8]) -> bool {
        let _ = (direction, pdu);
        true
    }

    /// What is known about the session so far.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// PDUs towards the client that end its session with a code of [`crate::wire::error_info`]: Set Error Info (if the
    /// client can read it) and Disconnect Provider Ultimatum. Empty before the client has seen the Connect Response: then
    /// only closing is left.
    #[must_use]
    pub fn error_info(&self, code: u32) -> Vec<Vec<u8>> {
        let _ = code;
        Vec::new()
    }

    /// PDUs towards the desktop that make it repaint the whole desktop of `width` x `height`: a Suppress Output toggle, or
    /// a Refresh Rect where only that is supported. Empty if the desktop announced neither, no activation is complete, or
    /// the client itself has suppressed output (then the desktop repaints by itself when the client wants output again).
    #[must_use]
    pub fn refresh(&self, width: u16, height: u16) -> Vec<Vec<u8>> {
        let _ = (width, height);
        Vec::new()
    }
}
