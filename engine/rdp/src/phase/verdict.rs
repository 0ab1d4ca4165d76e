//! What becomes of one PDU.

use zeroize::Zeroizing;

/// What to do with one PDU.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Send the (patched) PDU on; it may have become several, back to back. `false`: it ends here, or is held back until
    /// a later one.
    pub forward: bool,
    /// A PDU to send back on the leg that the PDU came from. It belongs to a static channel: hold it back while
    /// [`super::Phases::may_inject`] says so.
    pub reply: Option<Vec<u8>>,
    /// Give a copy of the (patched) PDU to the tap. From the first Demand Active on; never Client Info or licensing.
    pub tap: bool,
    /// The PDU holds credentials: overwrite its buffers once it is sent.
    pub sensitive: bool,
    /// The PDU is a Client Info and waits for a decision: keep it, then hand it to [`super::Phases::log_on`] or end the
    /// session. Nothing of it was forwarded.
    pub logon: Option<ClientLogon>,
    /// What the PDU means for the session, in order. Empty for nearly all PDUs.
    pub events: Vec<PhaseEvent>,
}

/// Who wants to log on, as Client Info says. All of it is merely claimed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct ClientLogon {
    /// The user name, without its selector (see [`super::Facts::selector`]).
    pub user_name: String,
    /// The domain.
    pub domain: String,
    /// The password; empty if the client sends none.
    pub password: Zeroizing<String>,
}

impl std::fmt::Debug for ClientLogon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientLogon")
            .field("user_name", &self.user_name)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// What the desktop gets to see in place of the client's own credentials.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct LogonAs<'a> {
    /// The account.
    pub login: &'a str,
    /// Its domain; empty for none.
    pub domain: &'a str,
    /// Its password. `None` = none, and the desktop asks for it.
    pub password: Option<&'a str>,
}

/// What to do with a PDU that surely passes unchanged and means nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pass {
    /// Give a copy to the tap.
    pub tap: bool,
}

/// What one PDU means for the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhaseEvent {
    /// Connect Initial passes: client name, build, requested size, monitors are in [`super::Facts`].
    ClientDescribed,
    /// Connect Response passes: static channels have their ids.
    ChannelsNumbered,
    /// Client Info passes: user, domain, selector, compression are in [`super::Facts`].
    ClientInfo,
    /// A Demand Active is about to pass: share id and desktop size are in [`super::Facts`]. The tap starts at the first one.
    Activating {
        /// 1 for the first; more are reactivations (a resize, as a rule).
        activation: u32,
    },
    /// A Confirm Active has been patched and is about to pass.
    Confirmed {
        /// As in the `Activating` before it.
        activation: u32,
    },
    /// The activation is complete: the desktop's Font Map passes.
    Active,
    /// The desktop ends the activation with a Deactivate All; a new Demand Active or the end follows.
    Deactivated,
    /// A dynamic channel was asked for by the desktop, and this is what became of it.
    DynamicChannel {
        /// Its name.
        name: String,
        /// Its number.
        id: u32,
        /// Open, or refused by whom.
        outcome: ChannelOutcome,
    },
    /// The client has named this static channel; told once, after the first Confirm Active.
    StaticChannel {
        /// Its name.
        name: String,
        /// Why the session may not use it at all.
        denied: Option<ChannelOutcome>,
    },
    /// The client has redirected a device that the session has no right to; the desktop does not hear of it.
    DeviceDenied {
        /// Its name as the client gave it; at most eight letters, but for drives.
        name: String,
        /// [`crate::wire::rdpdr::device`].
        kind: u32,
        /// Its number.
        id: u32,
        /// The right that is lacking.
        right: super::Right,
    },
    /// The clipboard of the sender of `direction` was kept from the other side.
    ClipboardBlocked {
        /// Which way it would have gone.
        direction: crate::Direction,
        /// The formats in question; empty for a part of a file.
        formats: Vec<super::ClipboardFormat>,
    },
    /// A dynamic channel was closed.
    DynamicChannelClosed {
        /// Its name.
        name: String,
        /// Its number.
        id: u32,
    },
    /// A redirection that moves nobody, but only tells the client something, was dropped.
    RedirectionDropped {
        /// The machine in it, as the desktop names it.
        target: String,
    },
    /// The desktop has measured the network. Told after the first Confirm Active at the earliest, and when it changes.
    Network(super::Network),
    /// The desktop's offer of a UDP side channel was dropped.
    MultitransportDropped,
    /// The desktop explains an end or an error: Set Error Info with a code that is not 0. Not told if the desktop
    /// compresses that PDU.
    DesktopError {
        /// [MS-RDPBCGR] 2.2.5.1.1.
        code: u32,
    },
    /// A Disconnect Provider Ultimatum passes: the sender ends the session.
    Disconnected {
        /// MCS reason: 1 provider initiated, 3 user requested; 0 for an X.224 Disconnect Request.
        reason: u8,
    },
}

/// What became of a dynamic channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelOutcome {
    /// The client opened it.
    Open,
    /// The client refused with this status.
    RefusedByClient(u32),
    /// We refused: it would carry screen, pointer or input past the tap.
    Forbidden,
    /// We refused: the name is not on the allow list.
    Unknown,
    /// We refused: the session lacks this right.
    Denied(super::Right),
}
