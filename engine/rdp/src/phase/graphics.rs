//! The graphics pipeline's channel: one at a time, where it may be used at all, and what the client says in it is patched.

use super::{ChannelOutcome, Direction, FilterError, Graphics, Phases, Verdict, malformed};
use crate::patch::{self, Patched};
use crate::wire::channel::{Chunk, FLAG_FIRST, FLAG_LAST};
use crate::wire::dvc::{self, DvcPdu, command};
use crate::wire::{egfx, mcs};

/// Longest message of a client: the offer of a cache of 5462 pictures has 65 KiB.
const CLIENT_MESSAGE_MAX: usize = 256 << 10;

/// State of the channel.
#[derive(Debug, Default)]
pub(super) struct Filter {
    graphics: Graphics,
    /// Its number, while it is open or about to be.
    channel: Option<u32>,
    /// A message of the client that is not whole yet, and how many bytes it will have.
    held: Option<(Vec<u8>, usize)>,
}

impl Filter {
    pub(super) fn new(graphics: Graphics) -> Self {
        Self {
            graphics,
            ..Self::default()
        }
    }

    /// Whether the pipeline may be used.
    pub(super) fn is_on(&self) -> bool {
        self.graphics != Graphics::Legacy
    }

    /// Judges a request to open a channel, if that is this one's concern. A second one beside the first, or one that takes
    /// the first one's number, would be drawn by the client and missed by the tap.
    pub(super) fn judge(&mut self, id: u32, name: &str) -> Option<Result<(), ChannelOutcome>> {
        if !self.is_on() {
            return None;
        }
        if self.channel == Some(id) || self.channel.is_some() && name == egfx::CHANNEL {
            return Some(Err(ChannelOutcome::Forbidden));
        }
        if name != egfx::CHANNEL {
            return None;
        }
        self.channel = Some(id);
        self.held = None;
        Some(Ok(()))
    }

    pub(super) fn closed(&mut self, id: u32) {
        if self.channel == Some(id) {
            self.channel = None;
            self.held = None;
        }
    }

    /// Takes a part of a message of the client; the message, once it is whole.
    fn collect(&mut self, part: &DvcPdu<'_>) -> Result<Option<Vec<u8>>, &'static str> {
        let (mut message, length) = match (part, self.held.take()) {
            (DvcPdu::DataFirst { length, data, .. }, None) => (data.to_vec(), *length as usize),
            (DvcPdu::Data { data, .. }, None) => (data.to_vec(), data.len()),
            (DvcPdu::Data { data, .. }, Some((mut message, length))) => {
                message.extend_from_slice(data);
                (message, length)
            }
            _ => return Err("begins a message inside of another one"),
        };
        if length > CLIENT_MESSAGE_MAX {
            return Err("begins a message above the limit");
        }
        match message.len().cmp(&length) {
            std::cmp::Ordering::Equal => Ok(Some(message)),
            std::cmp::Ordering::Greater => Err("is longer than its message"),
            std::cmp::Ordering::Less => {
                message.shrink_to_fit();
                self.held = Some((message, length));
                Ok(None)
            }
        }
    }
}

impl Phases {
    /// Data of a dynamic channel in the first chunk of a static channel's message.
    pub(super) fn graphics_data(
        &mut self,
        data: &mcs::Data,
        pdu: &mut Vec<u8>,
        verdict: &mut Verdict,
    ) -> Result<(), FilterError> {
        let Some(channel) = self
            .channels
            .graphics
            .channel
            .filter(|_| data.direction == Direction::ToDesktop)
        else {
            return Ok(());
        };
        let direction = data.direction;
        let payload = pdu.get(data.payload.clone()).unwrap_or_default();
        let chunk = Chunk::parse(payload).map_err(malformed(direction))?;
        let part = DvcPdu::parse(chunk.data, false).map_err(malformed(direction))?;
        let (DvcPdu::Data { id, .. } | DvcPdu::DataFirst { id, .. }) = part else {
            return Ok(());
        };
        if id != channel {
            return Ok(());
        }
        let refuse = |problem| FilterError::DynamicChannel {
            direction,
            command: chunk
                .data
                .first()
                .map_or(command::DATA, |&first| dvc::command_of(first)),
            problem,
        };
        if !chunk.is_last() || chunk.message_length as usize != chunk.data.len() {
            return Err(refuse("is split into chunks"));
        }
        let single = matches!(part, DvcPdu::Data { .. }) && self.channels.graphics.held.is_none();
        let Some(message) = self.channels.graphics.collect(&part).map_err(refuse)? else {
            verdict.forward = false;
            verdict.tap = false;
            return Ok(());
        };
        let patched = match patch::client_message(&message).map_err(malformed(direction))? {
            Patched::Same if single => return Ok(()),
            Patched::Same => message,
            Patched::Other(patched) => patched,
            Patched::NothingLeft => return Err(refuse("offers no graphics without H.264")),
        };
        if patched.is_empty() {
            verdict.forward = false;
            verdict.tap = false;
            return Ok(());
        }
        // flags that say nothing about the place of a chunk
        let flags = (chunk.flags | FLAG_FIRST | FLAG_LAST).to_le_bytes();
        let mut pdus = Vec::with_capacity(patched.len() + 64);
        for part in dvc::data(channel, &patched) {
            let mut payload = (part.len() as u32).to_le_bytes().to_vec();
            payload.extend_from_slice(&flags);
            payload.extend_from_slice(&part);
            pdus.extend_from_slice(&mcs::send_data(direction, data.initiator, data.channel, &payload));
        }
        *pdu = pdus;
        Ok(())
    }
}
