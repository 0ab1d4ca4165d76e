//! What the breaking, the closing and the refusing of a leg mean for the session.

use std::fmt::Write as _;
use std::io;
use std::sync::atomic::Ordering;

use deskreel_rdp::Direction;
use deskreel_rdp::phase::FilterError;
use deskreel_rdp::wire::FrameError;
use deskreel_recording::event;

use super::state::Relay;
use crate::gateway::end::{EndReason, Ended};

impl Relay {
    /// The end of the stream that `direction` reads from, with `left` bytes of a PDU still in hand.
    pub(super) fn closed(&self, direction: Direction, left: usize) -> Ended {
        let leaver = self.leaves.get().copied();
        if left > 0 && leaver.is_none() {
            return Ended::new(
                lost(direction),
                format!("{} closed in the middle of a PDU", sender(direction)),
            );
        }
        // A side that closes because the other one said goodbye did not end the session.
        let ender = leaver.unwrap_or(direction);
        let reason = match ender {
            Direction::ToDesktop => EndReason::ClientClosed,
            Direction::ToClient => EndReason::DesktopClosed,
        };
        let mut detail = match leaver {
            Some(_) => format!("{} disconnected", sender(ender)),
            None => format!("{} closed the connection without a word", sender(ender)),
        };
        if self.recorder.get().is_none() {
            detail.push_str(", before the session was active");
        }
        let code = self.desktop_error.load(Ordering::Relaxed);
        if code != 0 {
            let _ = write!(detail, ", the desktop's error code is {code:#x}");
        }
        Ended::new(reason, detail)
    }

    /// Reading from the sender of `direction` failed.
    pub(super) fn reading_failed(&self, direction: Direction, error: &io::Error) -> Ended {
        if self.leaves.get().is_some() {
            return self.closed(direction, 0);
        }
        Ended::new(lost(direction), format!("read from the {}: {error}", sender(direction)))
    }

    /// Writing to the receiver of `direction` failed.
    pub(super) fn writing_failed(&self, direction: Direction, error: &io::Error) -> Ended {
        let receiver = match direction {
            Direction::ToDesktop => Direction::ToClient,
            Direction::ToClient => Direction::ToDesktop,
        };
        if self.leaves.get().is_some() {
            return self.closed(receiver, 0);
        }
        Ended::new(lost(receiver), format!("write to the {}: {error}", sender(receiver)))
    }

    /// Bytes from the sender of `direction` that start no PDU.
    pub(super) fn not_a_pdu(&self, direction: Direction, error: &FrameError) -> Ended {
        let reason = match direction {
            Direction::ToDesktop => EndReason::ClientPduInvalid,
            Direction::ToClient => EndReason::DesktopPduInvalid,
        };
        Ended::new(reason, format!("{}: {error}", sender(direction)))
    }

    pub(super) fn filter_failed(&self, error: &FilterError) -> Ended {
        let reason = match error {
            FilterError::Redirection(redirection) => {
                self.alert("redirection", error.to_string());
                // Err = the other pump met one before
                let _ = self.redirected.set((**redirection).clone());
                EndReason::RedirectRefused
            }
            FilterError::OtherDesktop { .. } => EndReason::OtherDesktop,
            FilterError::Downgrade { .. } => EndReason::DesktopDowngrade,
            FilterError::ConnectRefused(_) => EndReason::DesktopRefusedMcs,
            FilterError::Frame { direction, error } => return self.not_a_pdu(*direction, error),
            _ => EndReason::FilterError,
        };
        Ended::new(reason, format!("{}: {error}", error.reason()))
    }

    /// Whether the other pump may know better: a broken connection is often one that was just closed.
    pub(super) fn may_be_mistaken(&self, ended: &Ended) -> bool {
        matches!(ended.reason, EndReason::ClientLost | EndReason::DesktopLost)
    }
}

fn sender(direction: Direction) -> &'static str {
    match direction {
        Direction::ToDesktop => "client",
        Direction::ToClient => "desktop",
    }
}

fn lost(direction: Direction) -> EndReason {
    match direction {
        Direction::ToDesktop => EndReason::ClientLost,
        Direction::ToClient => EndReason::DesktopLost,
    }
}

/// The recording format's word for an end.
pub(super) fn recorded_reason(reason: EndReason) -> event::EndReason {
    match reason {
        EndReason::ClientClosed => event::EndReason::ClientClosed,
        EndReason::DesktopClosed | EndReason::Redirected => event::EndReason::DesktopClosed,
        EndReason::GatewayShutdown => event::EndReason::GatewayStopped,
        EndReason::RecorderFailed | EndReason::RecordingRefused => event::EndReason::RecorderFailed,
        EndReason::Terminated => event::EndReason::OperatorEnded,
        EndReason::IdentityDenied
        | EndReason::Denied(_)
        | EndReason::OtherDesktop
        | EndReason::DesktopChanged
        | EndReason::RedirectRefused
        | EndReason::TooManyOfUser
        | EndReason::TooManyOnDesktop
        | EndReason::IdleTimeout
        | EndReason::SessionExpired
        | EndReason::Locked
        | EndReason::LockViewStale => event::EndReason::PolicyEnded,
        _ => event::EndReason::ProtocolError,
    }
}
