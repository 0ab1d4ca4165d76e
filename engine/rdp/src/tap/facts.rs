//! What passes beside the screen of a session that isn't recorded: for the audit log, which hears of it all the same.

use super::clipboard::Clipboard;
use super::drive::Drives;
use super::event::TapEvent;
use super::sink::Sink;
use super::{TapConfig, guard::guarded};
use crate::Direction;
use crate::wire::channel::Chunk;
use crate::wire::mcs::{self, DomainPdu};
use crate::wire::{find_pdu, rdpdr};

/// Follows the client's drives and the clipboard and nothing else; nothing is hashed, and no text is kept.
pub struct FactsTap {
    device_channel: Option<u16>,
    clipboard_channel: Option<u16>,
    drives: Drives,
    clipboard: Clipboard,
    out: Vec<TapEvent>,
}

impl FactsTap {
    /// A tap that waits for the first announcement.
    pub fn new(config: &TapConfig) -> Self {
        Self {
            device_channel: config.channel(rdpdr::STATIC_CHANNEL),
            clipboard_channel: config.channel(super::CLIPBOARD_CHANNEL),
            drives: Drives::new(false),
            clipboard: Clipboard::new(false),
            out: Vec::new(),
        }
    }

    /// Takes one or several whole PDUs and tells what was done with drives and the clipboard: [`TapEvent::Drive`] and
    /// [`TapEvent::Clipboard`]. Compressed chunks, which the filter lets nobody send, are not looked into.
    pub fn pdus(&mut self, direction: Direction, pdus: &[u8]) -> Vec<TapEvent> {
        if self.device_channel.is_none() && self.clipboard_channel.is_none() {
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
        let mut events = std::mem::take(&mut self.out);
        events.retain(|event| matches!(event, TapEvent::Drive(_) | TapEvent::Clipboard(_)));
        events
    }

    fn pdu(&mut self, direction: Direction, pdu: &[u8]) {
        if let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(pdu)
            && let channel = Some(data.channel)
            && (channel == self.device_channel || channel == self.clipboard_channel)
            && let Some(payload) = pdu.get(data.payload)
            && let Ok(chunk) = Chunk::parse(payload)
            && !chunk.is_compressed()
        {
            let is_device = channel == self.device_channel;
            let Self {
                drives, clipboard, out, ..
            } = self;
            let mut sink = Sink::new(out, 0, false);
            // what panics tells nothing; the filter has judged the PDU already
            let _ = guarded("facts", || match is_device {
                true => drives.chunk(direction, chunk.flags, chunk.data, &mut sink),
                false => clipboard.chunk(direction, chunk.flags, chunk.data, 0, &mut sink),
            });
        }
    }
}
