//! A defect costs a gap, not the rest of the session: where the recorder panics it goes on, in best effort, as long as nothing
//! that is being written or delivered was cut off.

use std::time::Instant;

use bytes::Bytes;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::Loss;
use deskreel_rdp::wire::find_pdu;
use deskreel_recording::event::GapReason;
use deskreel_recording::{Event, Recorder};

use super::Work;
use super::ending::OpenGap;
use crate::pipeline::queue::Lost;

/// In one session; then the rest of it is one gap.
const PANICS_MAX: u32 = 3;

/// The entry at hand, so that what is left of it is known when its work breaks off.
pub(super) struct Hand {
    pub(super) cost: usize,
    at: u64,
    pub(super) pdus: Option<(Direction, Bytes)>,
    /// Where in `pdus` the PDU at hand begins.
    pub(super) offset: usize,
    pub(super) seen: Seen,
    /// A fact that is not recorded yet.
    pub(super) note: Option<Box<Event>>,
    /// What the tap may not have been told.
    pub(super) lost: Option<Lost>,
}

/// Whether the tap has seen the PDU at hand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    No,
    /// It was at it.
    Perhaps,
    Yes,
}

impl Hand {
    pub(super) fn new(cost: usize, at: u64) -> Self {
        Self {
            cost,
            at,
            pdus: None,
            offset: 0,
            seen: Seen::No,
            note: None,
            lost: None,
        }
    }
}

/// How long the PDU is that these bytes begin with.
pub(super) fn pdu_length(bytes: &[u8]) -> usize {
    match find_pdu(bytes) {
        Ok(Some(length)) if length > 0 => length.min(bytes.len()),
        // Not a PDU: the tap says what it thinks of it.
        _ => bytes.len(),
    }
}

impl Work {
    /// After a panic: opens a gap and goes on, if that may be. What of the entry at hand was not worked through passes the tap as
    /// the PDUs of a gap do.
    pub(super) fn resume(&mut self, reason: &str) -> bool {
        let whole = self.recorder.as_ref().is_some_and(Recorder::is_whole);
        if self.shared.is_strict() || self.delivering || !whole || self.panics >= PANICS_MAX {
            return false;
        }
        self.panics += 1;
        self.shared.trail.fail(reason, false);
        tracing::error!(session = %self.shared.id, reason, "the recorder goes on behind a gap");
        let painted_ns = self.first_damage_ns.take().unwrap_or(self.seen_ns);
        let from_ns = self.moved.since_ns().map_or(painted_ns, |at| at.min(painted_ns));
        self.damage.clear();
        match &mut self.gap {
            Some(gap) => {
                gap.detail = format!("{}; {reason}", gap.detail);
                if gap.repaint.take().is_some() {
                    gap.began = Instant::now();
                }
            }
            None => {
                self.gap = Some(OpenGap {
                    from_ns,
                    reason: GapReason::RecorderFailed,
                    detail: reason.to_owned(),
                    began: Instant::now(),
                    dropped: 0,
                    repaint: None,
                });
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.release_memory();
        }
        let Some(hand) = self.hand.take() else { return true };
        self.shared.queue.done(hand.cost);
        if let Some((direction, bytes)) = hand.pdus {
            self.skip(direction, bytes.get(hand.offset..).unwrap_or_default(), hand.seen);
        }
        if let Some(lost) = hand.lost {
            if let Some(gap) = &mut self.gap {
                gap.dropped += lost.reads;
            }
            self.tap.lost(lost.loss);
        }
        hand.note.is_none_or(|note| self.push(hand.at, &note).is_ok())
    }

    fn skip(&mut self, direction: Direction, mut rest: &[u8], mut seen: Seen) {
        while !rest.is_empty() {
            let (pdu, following) = rest.split_at(pdu_length(rest));
            match std::mem::replace(&mut seen, Seen::No) {
                Seen::No => self.tap.skip(direction, pdu),
                Seen::Perhaps => self.tap.lost(Loss {
                    activation: true,
                    messages: true,
                    channels: true,
                }),
                Seen::Yes => {}
            }
            rest = following;
        }
    }
}
