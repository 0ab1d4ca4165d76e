//! The drives of a session that isn't recorded.

use super::Drives;
use super::event::DriveEvent;
use crate::Direction;
use crate::tap::event::TapEvent;
use crate::tap::sink::Sink;
use crate::tap::{TapConfig, guard::guarded};
use crate::wire::channel::Chunk;
use crate::wire::mcs::{self, DomainPdu};
use crate::wire::{find_pdu, rdpdr};

/// Follows the client's drives and nothing else; no file is hashed.
pub struct DriveTap {
    channel: Option<u16>,
    drives: Drives,
    out: Vec<TapEvent>,
}

impl DriveTap {
    /// A tap that waits for the first announcement.
    pub fn new(config: &TapConfig) -> Self {
        Self {
            channel: config.channel(rdpdr::STATIC_CHANNEL),
            drives: Drives::new(false),
            out: Vec::new(),
        }
    }

    /// Takes one or several whole PDUs and tells what was done with drives. Compressed chunks, which the filter lets
    /// nobody send, are not looked into.
    pub fn pdus(&mut self, direction: Direction, pdus: &[u8]) -> Vec<DriveEvent> {
        if self.channel.is_none() {
            return Vec::new();
        }
        let mut rest = pdus;
        while let Ok(Some(length)) = find_pdu(rest)
            && let Some((pdu, following)) = rest.split_at_checked(length)
            && !pdu.is_empty()
        {
            self.pdu(direction, pdu);
            rest = following;
        }
        let events = self.out.drain(..);
        events
            .filter_map(|event| match event {
                TapEvent::Drive(drive) => Some(drive),
                _ => None,
            })
            .collect()
    }

    fn pdu(&mut self, direction: Direction, pdu: &[u8]) {
        if let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(pdu)
            && Some(data.channel) == self.channel
            && let Some(payload) = pdu.get(data.payload)
            && let Ok(chunk) = Chunk::parse(payload)
            && !chunk.is_compressed()
        {
            let Self { drives, out, .. } = self;
            let mut sink = Sink::new(out, 0, false);
            // what panics tells nothing; the filter has judged the PDU already
            let _ = guarded("drives", || drives.chunk(direction, chunk.flags, chunk.data, &mut sink));
        }
    }
}
