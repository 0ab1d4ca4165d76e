//! What the desktop has found out about the network ([MS-RDPBCGR] 2.2.14.1.5): told at the start and when it changes.

use std::ops::Range;

use super::{PhaseEvent, Phases, Verdict};
use crate::wire::{Cursor, WireError};

/// Events of one session; a desktop measures every few seconds at most.
const EVENTS_MAX: u32 = 1000;
/// The security header in front.
const SECURITY_HEADER: usize = 4;
/// TYPE_ID_AUTODETECT_REQUEST
const REQUEST: u8 = 0;

/// Network characteristics, as the desktop tells the client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Network {
    /// Shortest round trip, in milliseconds.
    pub round_trip_min_ms: Option<u32>,
    /// Average round trip, in milliseconds.
    pub round_trip_ms: Option<u32>,
    /// Bandwidth, in kilobits a second.
    pub bandwidth_kbit: Option<u32>,
}

/// The result in an auto-detect PDU of the desktop, if it is one.
pub(super) fn characteristics(pdu: &[u8], payload: &Range<usize>) -> Option<Network> {
    let payload = pdu.get(payload.clone())?;
    let read = || -> Result<Option<Network>, WireError> {
        let mut cursor = Cursor::at(payload, SECURITY_HEADER, "auto-detect request");
        // length of the header
        cursor.skip(1)?;
        if cursor.u8()? != REQUEST {
            return Ok(None);
        }
        // number
        cursor.skip(2)?;
        let kind = cursor.u16()?;
        let (minimum, bandwidth) = match kind {
            0x0840 => (true, false),
            0x0880 => (false, true),
            0x08C0 => (true, true),
            _ => return Ok(None),
        };
        let mut next = |is_there: bool| is_there.then(|| cursor.u32()).transpose();
        Ok(Some(Network {
            round_trip_min_ms: next(minimum)?,
            bandwidth_kbit: next(bandwidth)?,
            round_trip_ms: next(true)?,
        }))
    };
    read().ok().flatten()
}

/// What was told of the network.
#[derive(Debug, Default)]
pub(super) struct Told {
    last: Option<Network>,
    /// Found out before there was anybody to tell.
    waits: bool,
    events: u32,
}

impl Told {
    /// The event that waits, now that there is somebody to tell.
    pub(super) fn waiting(&mut self) -> Option<PhaseEvent> {
        let waits = std::mem::take(&mut self.waits);
        self.last.filter(|_| waits).map(PhaseEvent::Network)
    }
}

impl Phases {
    pub(super) fn network(&mut self, network: Network, verdict: &mut Verdict) {
        let told = &mut self.network;
        if told.last == Some(network) || told.events >= EVENTS_MAX {
            return;
        }
        told.last = Some(network);
        told.events += 1;
        told.waits = !self.reported;
        if self.reported {
            verdict.events.push(PhaseEvent::Network(network));
        }
    }
}
