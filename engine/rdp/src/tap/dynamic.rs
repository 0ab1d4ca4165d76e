//! Dynamic channels inside the static one ([MS-RDPEDYC]): follows the one of the graphics pipeline, and no other.

use std::collections::BTreeMap;

use super::event::{Decoded, UndecodedKind};
use super::gfx::Graphics;
use super::screen::Screen;
use super::sink::Sink;
use super::unwrap::Loss;
use crate::Direction;
use crate::wire::channel::{Chunk, Reassembler};
use crate::wire::dvc::DvcPdu;
use crate::wire::egfx;

/// Longest message of a channel, packed; the largest picture has less.
const MESSAGE_MAX_BYTES: usize = 48 << 20;
/// Longest PDU of the client that is looked at: only its answers matter.
const CLIENT_PDU_MAX_BYTES: usize = 4096;
/// Numbers whose requests are counted; the filter lets no more of them pass.
const AWAITED_MAX: usize = 1024;

/// What is known of the dynamic channels.
pub(super) struct Dynamic {
    /// From the client, from the desktop.
    chunks: [Reassembler; 2],
    graphics: Option<Channel>,
    /// How many requests to open a channel the client has not answered yet, by number.
    awaited: BTreeMap<u32, u32>,
    /// Frames of channels that are closed by now.
    closed: Decoded,
    /// A request to open the channel may have been dropped.
    unknown: bool,
    /// Most pixels of the desktop's output.
    screen_max_pixels: u64,
}

/// The channel of the graphics pipeline.
struct Channel {
    id: u32,
    /// Answers to come before its own: the number belonged to others, which the desktop has closed before they were answered.
    earlier: u32,
    /// The client has opened it.
    open: bool,
    /// The message that is not whole yet, and its length.
    message: Vec<u8>,
    length: usize,
    graphics: Box<Graphics>,
}

impl Dynamic {
    pub(super) fn new(screen_max_pixels: u64) -> Self {
        Self {
            chunks: chunks(),
            graphics: None,
            awaited: BTreeMap::new(),
            closed: Decoded::default(),
            unknown: false,
            screen_max_pixels,
        }
    }

    /// PDUs were dropped unseen.
    pub(super) fn lose(&mut self, loss: Loss) {
        if loss.channels {
            // whose answers are still to come is not known any more
            self.chunks[0] = Reassembler::new(CLIENT_PDU_MAX_BYTES);
            self.awaited.clear();
            if let Some(channel) = &mut self.graphics {
                channel.earlier = 0;
            }
        }
        if !loss.messages {
            return;
        }
        self.chunks = chunks();
        self.unknown |= loss.channels;
        if let Some(channel) = &mut self.graphics {
            channel.graphics.lose();
        }
    }

    pub(super) fn is_right(&self) -> bool {
        !self.unknown && self.graphics.as_ref().is_none_or(|channel| channel.graphics.is_right())
    }

    pub(super) fn decoded(&self) -> Decoded {
        let open = self.graphics.as_ref().map(|channel| channel.graphics.decoded());
        self.closed.and(open.unwrap_or_default())
    }

    /// Shows what is known on a picture that was begun anew.
    pub(super) fn show(&self, screen: &mut Screen, sink: &mut Sink<'_>) {
        if let Some(channel) = &self.graphics {
            channel.graphics.show(screen, sink);
        }
    }

    /// Takes a chunk of the static channel.
    pub(super) fn chunk(&mut self, direction: Direction, chunk: &Chunk<'_>, screen: &mut Screen, sink: &mut Sink<'_>) {
        let from_desktop = direction == Direction::ToClient;
        let Self { chunks, graphics, .. } = self;
        let pdu = match chunks[usize::from(from_desktop)].push(chunk) {
            Ok(Some(pdu)) => pdu,
            Ok(None) => return,
            Err(error) => {
                // whose message it was is not known; the client's mean nothing for the picture
                if let Some(channel) = graphics.as_mut().filter(|_| from_desktop) {
                    channel.graphics.lose();
                    sink.undecoded(UndecodedKind::Graphics, error.to_string(), chunk.data);
                }
                return;
            }
        };
        match DvcPdu::parse(pdu, from_desktop) {
            Ok(DvcPdu::DataFirst { id, length, data }) if from_desktop => {
                if let Some(channel) = graphics.as_mut().filter(|channel| channel.id == id) {
                    channel.first(length as usize, data, screen, sink);
                }
            }
            Ok(DvcPdu::Data { id, data }) if from_desktop => {
                if let Some(channel) = graphics.as_mut().filter(|channel| channel.id == id) {
                    channel.data(data, screen, sink);
                }
            }
            Ok(DvcPdu::CreateRequest { id, name }) => self.asked(id, &name),
            // an HRESULT: negative is failure
            Ok(DvcPdu::CreateResponse { id, status }) => self.answered(id, status & 0x8000_0000 == 0),
            Ok(DvcPdu::Close { id }) => self.closing(id, from_desktop),
            Ok(_) => {}
            Err(error) if from_desktop => {
                sink.undecoded(UndecodedKind::Graphics, error.to_string(), pdu);
            }
            Err(_) => {}
        }
    }

    fn asked(&mut self, id: u32, name: &str) {
        let earlier = self.awaited.get(&id).copied().unwrap_or(0);
        if earlier > 0 || self.awaited.len() < AWAITED_MAX {
            self.awaited.insert(id, earlier.saturating_add(1));
        }
        if name == egfx::CHANNEL {
            self.open(id, earlier);
        }
    }

    fn answered(&mut self, id: u32, opened: bool) {
        if let Some(count) = self.awaited.get_mut(&id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.awaited.remove(&id);
            }
        }
        let Some(channel) = self
            .graphics
            .as_mut()
            .filter(|channel| channel.id == id && !channel.open)
        else {
            return;
        };
        match channel.earlier.checked_sub(1) {
            Some(earlier) => channel.earlier = earlier,
            None if opened => channel.open = true,
            None => self.close(id),
        }
    }

    /// What a client closes before it has answered is an earlier channel of that number, which the desktop has closed
    /// ([MS-RDPEDYC] 3.3.5.2).
    fn closing(&mut self, id: u32, from_desktop: bool) {
        if from_desktop || self.graphics.as_ref().is_some_and(|channel| channel.open) {
            self.close(id);
        }
    }

    fn open(&mut self, id: u32, earlier: u32) {
        self.closed = self.decoded();
        self.unknown = false;
        self.graphics = Some(Channel {
            id,
            earlier,
            open: false,
            message: Vec::new(),
            length: 0,
            graphics: Box::new(Graphics::new(self.screen_max_pixels)),
        });
    }

    fn close(&mut self, id: u32) {
        if self.graphics.as_ref().is_some_and(|channel| channel.id == id) {
            self.closed = self.decoded();
            self.graphics = None;
        }
    }
}

/// Nothing from the client, nothing from the desktop.
fn chunks() -> [Reassembler; 2] {
    [CLIENT_PDU_MAX_BYTES, MESSAGE_MAX_BYTES].map(Reassembler::new)
}

impl Channel {
    fn first(&mut self, length: usize, data: &[u8], screen: &mut Screen, sink: &mut Sink<'_>) {
        let cut_off = self.length != 0;
        if cut_off || length > MESSAGE_MAX_BYTES || data.len() > length {
            let error = match cut_off {
                true => "message without its end".to_owned(),
                false => format!("message of {length} bytes, {} in its first part", data.len()),
            };
            self.broken(&error, data, sink);
            return;
        }
        if data.len() == length {
            self.graphics.message(data, screen, sink);
            return;
        }
        self.length = length;
        self.message.extend_from_slice(data);
    }

    fn data(&mut self, data: &[u8], screen: &mut Screen, sink: &mut Sink<'_>) {
        if self.length == 0 {
            self.graphics.message(data, screen, sink);
            return;
        }
        if self.message.len() + data.len() > self.length {
            let error = format!("more than the {} bytes of the message", self.length);
            self.broken(&error, data, sink);
            return;
        }
        self.message.extend_from_slice(data);
        if self.message.len() == self.length {
            let mut message = std::mem::take(&mut self.message);
            self.length = 0;
            self.graphics.message(&message, screen, sink);
            message.clear();
            message.shrink_to(1 << 20);
            self.message = message;
        }
    }

    /// What follows can't be told from what is missing.
    fn broken(&mut self, error: &str, data: &[u8], sink: &mut Sink<'_>) {
        self.graphics.lose();
        sink.undecoded(UndecodedKind::Graphics, error, data);
        self.message.clear();
        self.length = 0;
    }
}
