//! Dynamic channels beside the graphics pipeline that the recording tells of: fingers and pens, and the monitors that the
//! client asks for. What counts is what the desktop takes a number for, so that only its words open and close them.

use std::collections::BTreeMap;

use super::InputLevel;
use super::event::{InputEvent, TapEvent, UndecodedKind};
use super::layout::Layout;
use super::sink::Sink;
use crate::wire::monitor;
use crate::wire::touch::{self, MESSAGE_MAX_BYTES};

/// Most of them at a time; a desktop has one of each.
const SIDES_MAX: usize = 16;

/// Those that are open.
#[derive(Default)]
pub(super) struct Sides {
    open: BTreeMap<u32, Side>,
    /// It was lost which number is which, or that one was opened.
    forgotten: bool,
}

#[derive(Clone, Copy)]
enum Kind {
    Touch,
    Display,
}

struct Side {
    kind: Kind,
    /// What there is of a message of several parts.
    message: Vec<u8>,
    /// How much is to come of it.
    rest: usize,
    /// It is too long to be looked at.
    skips: bool,
}

impl Sides {
    /// The desktop opens a channel.
    pub(super) fn open(&mut self, id: u32, name: &str, sink: &mut Sink<'_>) {
        self.open.remove(&id);
        let kind = match name {
            touch::CHANNEL => Kind::Touch,
            monitor::DISPLAY_CHANNEL => Kind::Display,
            _ => return,
        };
        if self.open.len() >= SIDES_MAX {
            let error = format!("more than {SIDES_MAX} channels for touch and monitors");
            sink.undecoded(UndecodedKind::Input, error, &[]);
            return;
        }
        let side = Side {
            kind,
            message: Vec::new(),
            rest: 0,
            skips: false,
        };
        self.open.insert(id, side);
    }

    /// The desktop closes one.
    pub(super) fn close(&mut self, id: u32) {
        self.open.remove(&id);
    }

    /// PDUs were dropped unseen, of those that open channels too: which number is which is not known any more.
    pub(super) fn forget(&mut self) {
        self.forgotten = true;
        self.open.clear();
    }

    /// A gap ends: whether something is missing behind it, too.
    pub(super) fn restart(&mut self, sink: &mut Sink<'_>) {
        if std::mem::take(&mut self.forgotten) {
            let error =
                "touch and monitors, if there are any, are not followed until the desktop opens their channels anew";
            sink.undecoded(UndecodedKind::Input, error, &[]);
        }
    }

    /// PDUs were dropped unseen.
    pub(super) fn lose(&mut self) {
        for side in self.open.values_mut() {
            side.message.clear();
            (side.rest, side.skips) = (0, false);
        }
    }

    /// A part of a message of the client, and the message's length if it is the first one.
    pub(super) fn data(
        &mut self,
        (id, length): (u32, Option<u32>),
        data: &[u8],
        (level, layout): (InputLevel, &mut Layout),
        sink: &mut Sink<'_>,
    ) {
        let Some(side) = self.open.get_mut(&id) else { return };
        let kind = side.kind;
        side.part(length, data, sink, |message, sink| match kind {
            Kind::Touch if level == InputLevel::None => {}
            Kind::Touch => contacts(message, sink),
            Kind::Display => layout.message(message, sink),
        });
    }
}

impl Side {
    fn part(
        &mut self,
        length: Option<u32>,
        data: &[u8],
        sink: &mut Sink<'_>,
        whole: impl FnOnce(&[u8], &mut Sink<'_>),
    ) {
        match length {
            None if self.rest == 0 => return whole(data, sink),
            None => {}
            Some(length) => {
                self.message.clear();
                self.rest = length as usize;
                self.skips = self.rest > MESSAGE_MAX_BYTES;
                if self.skips {
                    let error = format!("message of {length} bytes");
                    sink.undecoded(UndecodedKind::Input, error, &[]);
                }
            }
        }
        if data.len() > self.rest {
            sink.undecoded(UndecodedKind::Input, "more than the message has", data);
            self.rest = 0;
            return;
        }
        self.rest -= data.len();
        if !self.skips {
            self.message.extend_from_slice(data);
        }
        if self.rest == 0 && !self.skips {
            whole(&std::mem::take(&mut self.message), sink);
        }
    }
}

fn contacts(message: &[u8], sink: &mut Sink<'_>) {
    let each = |contact| sink.push(TapEvent::Input(InputEvent::Contact(contact)));
    if let Err(error) = touch::contacts(message, each) {
        sink.undecoded(UndecodedKind::Input, error.to_string(), message);
    }
}
