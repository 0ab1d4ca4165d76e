//! Dynamic channels inside the static one ([MS-RDPEDYC]): follows the one of the graphics pipeline, and those of touch and of
//! the client's monitors.

use std::collections::BTreeMap;

use super::event::{Decoded, UndecodedKind};
use super::gfx::Graphics;
use super::screen::Screen;
use super::side::Sides;
use super::sink::Sink;
use super::unwrap::Loss;
use super::{InputLevel, TapConfig};
use crate::Direction;
use crate::wire::channel::{Chunk, Reassembler};
use crate::wire::dvc::DvcPdu;
use crate::wire::egfx;

/// Longest message of a channel, packed; the largest picture has less.
const MESSAGE_MAX_BYTES: usize = 48 << 20;
/// Longest PDU of the client that is looked at: whatever fits into one chunk, as all of those that matter do.
const CLIENT_PDU_MAX_BYTES: usize = 64 << 10;
/// Numbers whose requests are counted; the filter lets no more of them pass.
const AWAITED_MAX: usize = 1024;

/// What is known of the dynamic channels.
pub(super) struct Dynamic {
    /// From the client, from the desktop.
    chunks: [Reassembler; 2],
    /// Whether the desktop may use the graphics pipeline.
    may_draw: bool,
    graphics: Option<Channel>,
    sides: Sides,
    /// What of the user's input is reported.
    level: InputLevel,
    /// How many requests to open a channel the client has not answered yet, by number.
    awaited: BTreeMap<u32, u32>,
    /// Frames of channels that are closed by now.
    closed: Decoded,
    /// A request to open the channel may have been dropped, or its end can't be told from that of an earlier one.
    unknown: bool,
    /// Answers of the client were dropped: those that come may be of earlier channels.
    answers_lost: bool,
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
    /// Answers of the client were dropped before it was open: what the client says of this number may be of earlier ones.
    doubtful: bool,
    /// The message that is not whole yet, and its length.
    message: Vec<u8>,
    length: usize,
    /// How much is to come of a message of the client.
    client_rest: usize,
    graphics: Box<Graphics>,
}

impl Dynamic {
    pub(super) fn new(config: &TapConfig) -> Self {
        Self {
            chunks: chunks(),
            may_draw: config.graphics,
            graphics: None,
            sides: Sides::default(),
            level: config.input,
            awaited: BTreeMap::new(),
            closed: Decoded::default(),
            unknown: false,
            answers_lost: false,
            screen_max_pixels: config.screen_max_pixels,
        }
    }

    /// PDUs were dropped unseen.
    pub(super) fn lose(&mut self, loss: Loss) {
        if let Some(channel) = &mut self.graphics {
            channel.client_rest = 0;
        }
        self.sides.lose();
        if loss.channels {
            self.sides.forget();
            // whose answers are still to come is not known any more
            self.chunks[0] = Reassembler::new(CLIENT_PDU_MAX_BYTES);
            self.awaited.clear();
            self.answers_lost = true;
            if let Some(channel) = self.graphics.as_mut().filter(|channel| !channel.open) {
                channel.earlier = 0;
                channel.doubtful = true;
            }
        }
        if !loss.messages {
            return;
        }
        self.chunks = chunks();
        self.unknown |= loss.channels && self.may_draw;
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
        let Self {
            chunks,
            graphics,
            sides,
            level,
            ..
        } = self;
        let pdu = match chunks[usize::from(from_desktop)].push(chunk) {
            Ok(Some(pdu)) => pdu,
            Ok(None) => return,
            Err(error) => {
                // whose message it was is not known; the client's mean nothing for the picture, and what is followed of them
                // comes in one chunk, or the filter ends the session
                if let Some(channel) = graphics.as_mut().filter(|_| from_desktop) {
                    channel.graphics.lose();
                    sink.undecoded(UndecodedKind::Graphics, error.to_string(), chunk.data);
                }
                return;
            }
        };
        match DvcPdu::parse(pdu, from_desktop) {
            Ok(DvcPdu::DataFirst { id, length, data }) => {
                if let Some(channel) = graphics.as_mut().filter(|channel| channel.id == id) {
                    match from_desktop {
                        true => channel.first(length as usize, data, screen, sink),
                        false => channel.client_data(Some(length as usize), data),
                    }
                } else if !from_desktop {
                    sides.data((id, Some(length)), data, (*level, &mut screen.layout), sink);
                }
            }
            Ok(DvcPdu::Data { id, data }) => {
                if let Some(channel) = graphics.as_mut().filter(|channel| channel.id == id) {
                    match from_desktop {
                        true => channel.data(data, screen, sink),
                        false => channel.client_data(None, data),
                    }
                } else if !from_desktop {
                    sides.data((id, None), data, (*level, &mut screen.layout), sink);
                }
            }
            Ok(DvcPdu::CreateRequest { id, name }) => {
                sides.open(id, &name, sink);
                self.asked(id, &name);
            }
            // an HRESULT: negative is failure
            Ok(DvcPdu::CreateResponse { id, status }) => self.answered(id, status & 0x8000_0000 == 0, sink),
            Ok(DvcPdu::Close { id }) if from_desktop => {
                sides.close(id);
                self.close(id);
            }
            Ok(DvcPdu::Close { id }) => self.closed_by_client(id, sink),
            Ok(_) => {}
            Err(error) if from_desktop && self.may_draw => {
                sink.undecoded(UndecodedKind::Graphics, error.to_string(), pdu);
            }
            Err(error) if !from_desktop => sink.undecoded(UndecodedKind::Input, error.to_string(), pdu),
            Err(_) => {}
        }
    }

    /// A gap ends.
    pub(super) fn restart(&mut self, sink: &mut Sink<'_>) {
        self.sides.restart(sink);
    }

    fn asked(&mut self, id: u32, name: &str) {
        let earlier = self.awaited.get(&id).copied().unwrap_or(0);
        if earlier > 0 || self.awaited.len() < AWAITED_MAX {
            self.awaited.insert(id, earlier.saturating_add(1));
        }
        if name == egfx::CHANNEL && self.may_draw {
            self.open(id, earlier);
        } else {
            // the filter lets no number pass that is in use
            self.close(id);
        }
    }

    fn answered(&mut self, id: u32, opened: bool, sink: &mut Sink<'_>) {
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
            None => self.end_by_client(id, sink),
        }
    }

    /// What a client closes before it has answered is an earlier channel of that number, which the desktop has closed
    /// ([MS-RDPEDYC] 3.3.5.2).
    fn closed_by_client(&mut self, id: u32, sink: &mut Sink<'_>) {
        if self.graphics.as_ref().is_some_and(|channel| channel.open) {
            self.end_by_client(id, sink);
        }
    }

    /// Ends a channel, unless it was perhaps an earlier one of its number: then it goes on, and what it shows is not known.
    fn end_by_client(&mut self, id: u32, sink: &mut Sink<'_>) {
        let doubtful = |channel: &Channel| channel.id == id && channel.doubtful;
        if !self.graphics.as_ref().is_some_and(doubtful) {
            self.close(id);
        } else if !std::mem::replace(&mut self.unknown, true) {
            let error = "the client closes this channel, or an earlier one: what it said before is lost";
            sink.undecoded(UndecodedKind::Graphics, error, &[]);
        }
    }

    fn open(&mut self, id: u32, earlier: u32) {
        self.closed = self.decoded();
        self.unknown = false;
        self.graphics = Some(Channel {
            id,
            earlier,
            open: false,
            doubtful: self.answers_lost,
            message: Vec::new(),
            length: 0,
            client_rest: 0,
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

    /// A part of a message of the client, and the message's length if it is the first one.
    fn client_data(&mut self, length: Option<usize>, data: &[u8]) {
        let begins = length.is_some() || self.client_rest == 0;
        self.client_rest = match length {
            Some(length) => length.saturating_sub(data.len()),
            None => self.client_rest.saturating_sub(data.len()),
        };
        if begins {
            self.graphics.client_message(data);
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
