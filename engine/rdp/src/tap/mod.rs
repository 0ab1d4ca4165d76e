//! The screen tap: a copy of the session's PDUs goes in, decoded pixels and events come out.
//!
//! Bytes in, events out; no clock, no IO, no errors: what cannot be decoded is an [`TapEvent::Undecoded`] that holds the
//! deepest layer reached. The tap starts at the first Demand Active and must see every PDU of both directions from then
//! on, in order; during a gap [`Tap::skip`] keeps the histories running without decoding. Whoever looks at the picture now and
//! then only need not have all decoded that was on it: [`Tap::defer`].

mod bitmap;
mod bulk;
mod clipboard;
mod color;
mod drive;
mod dynamic;
mod event;
mod facts;
mod fragments;
mod framebuffer;
mod gfx;
mod guard;
mod input;
mod layout;
mod mask;
mod mppc;
mod nsc;
mod pending;
mod planar;
mod pointer;
mod reader;
mod rfx;
mod rle;
mod screen;
mod session;
mod side;
mod sink;
mod surface;
mod unwrap;
mod work;

#[cfg(test)]
mod tests;

pub use drive::{DriveAction, DriveEvent};
pub use event::{
    ClipboardContent, ClipboardEvent, ClipboardFormat, Decoded, InputEvent, KeyCode, Logon, MouseButton, Picture,
    PointerEvent, PointerShape, Rect, TapEvent, Undecoded, UndecodedKind,
};

pub use facts::FactsTap;
pub use framebuffer::DIMENSION_MAX;
pub use unwrap::Loss;

use self::guard::guarded;
use self::sink::Sink;
use self::unwrap::Session;
use crate::Direction;
use crate::wire::dvc;
use crate::wire::monitor::Monitor;

/// What is told at most of what was pending when a gap began and can't be decoded.
const LATE_MAX: usize = 64;
/// Name of the clipboard's channel, [MS-RDPECLIP] 1.3.
const CLIPBOARD_CHANNEL: &str = "cliprdr";

/// A static virtual channel, as the handshake numbered it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticChannel {
    /// MCS channel id.
    pub id: u16,
    /// Name of at most seven letters, as `cliprdr`.
    pub name: String,
}

/// What the tap must know from before the first Demand Active. Share id, desktop size and codec ids it reads itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapConfig {
    /// MCS channel of screen and input (1003 nearly always).
    pub io_channel: u16,
    /// Static channels; only `cliprdr`, `rdpdr` and `drdynvc` are looked into.
    pub channels: Vec<StaticChannel>,
    /// Whether the desktop may use the graphics pipeline; else its channel is not followed.
    pub graphics: bool,
    /// The client's monitors, as it listed them when it connected; empty for one.
    pub monitors: Vec<Monitor>,
    /// Most pixels of the graphics pipeline's output; the filter sees the size of an activation alone.
    pub screen_max_pixels: u64,
    /// Largest fast-path update or clipboard message that is reassembled, in bytes.
    pub max_request_size: usize,
    /// Most bytes that one [`Undecoded`] keeps.
    pub undecoded_max_bytes: usize,
    /// What of the user's input is reported.
    pub input: InputLevel,
    /// What of the clipboard is reported.
    pub clipboard: ClipboardLevel,
    /// Longest clipboard text that is reported itself, in bytes on the wire; of a longer one length and hash are reported.
    pub clipboard_text_max_bytes: usize,
}

impl TapConfig {
    /// MCS channel of the dynamic channels.
    fn dynamic_channel(&self) -> Option<u16> {
        self.channel(dvc::STATIC_CHANNEL)
    }

    /// MCS channel of a static channel.
    fn channel(&self, name: &str) -> Option<u16> {
        let mut channels = self.channels.iter();
        let channel = channels.find(|channel| channel.name.eq_ignore_ascii_case(name));
        channel.map(|channel| channel.id)
    }
}

/// What of the user's input is reported, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum InputLevel {
    /// Nothing.
    None,
    /// Movement, buttons, wheel.
    #[default]
    Mouse,
    /// Keys too, and so passwords.
    All,
}

/// What of the clipboard is reported, least first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClipboardLevel {
    /// Direction, formats and length, for the audit log: none of it is to be recorded.
    None,
    /// Direction, formats, length, hash.
    #[default]
    Facts,
    /// The text too.
    Text,
}

impl Default for TapConfig {
    fn default() -> Self {
        Self {
            io_channel: 1003,
            channels: Vec::new(),
            graphics: false,
            monitors: Vec::new(),
            screen_max_pixels: 64 << 20,
            max_request_size: 16 << 20,
            undecoded_max_bytes: 1 << 20,
            input: InputLevel::default(),
            clipboard: ClipboardLevel::default(),
            clipboard_text_max_bytes: 256 << 10,
        }
    }
}

/// Decodes one session. See the module's page for the rules.
pub struct Tap {
    session: Session,
    /// What of a gap is told at its end.
    unheard: Vec<TapEvent>,
    /// What was pending when a gap began and could not be decoded; told at its end.
    late: Vec<TapEvent>,
}

impl Tap {
    /// A tap that waits for the first Demand Active.
    pub fn new(config: TapConfig) -> Self {
        Self {
            session: Session::new(config),
            unheard: Vec::new(),
            late: Vec::new(),
        }
    }

    /// Whether what is told of the clipboard may be recorded, and not only told.
    pub fn keeps_clipboard(&self) -> bool {
        self.session.config().clipboard != ClipboardLevel::None
    }

    /// Takes one whole PDU (TPKT or fast-path) and appends what it means to `out`.
    pub fn pdu(&mut self, direction: Direction, pdu: &[u8], out: &mut Vec<TapEvent>) {
        self.settle(out);
        self.take(direction, pdu, false, out);
    }

    /// Takes one whole PDU as [`Tap::pdu`] does, but keeps bitmaps and surface bits as they came until [`Tap::settle`]: what is
    /// painted over before that is not decoded. [`TapEvent::Damage`] is told at once, for something that can't be decoded, too;
    /// that it can't be is told when it is tried. What is kept is bounded: where there is no room, it is decoded in here.
    pub fn defer(&mut self, direction: Direction, pdu: &[u8], out: &mut Vec<TapEvent>) {
        self.take(direction, pdu, true, out);
    }

    /// Decodes what [`Tap::defer`] has kept, so that [`Tap::picture`] shows it, and appends a [`TapEvent::Undecoded`] of what
    /// can't be decoded; there are no other events. Nothing is told of what was painted over: nobody could have seen it.
    pub fn settle(&mut self, out: &mut Vec<TapEvent>) {
        let undecoded_max_bytes = self.session.config().undecoded_max_bytes;
        let mut sink = Sink::new(out, undecoded_max_bytes, false);
        let session = &mut self.session;
        if let Err(error) = guarded("tap", || session.settle(&mut sink)) {
            Sink::new(out, undecoded_max_bytes, false).undecoded(UndecodedKind::Pdu, error, &[]);
        }
    }

    /// Gives back the room that [`Tap::defer`] keeps from one time to the next. For sessions that rest for minutes.
    pub fn release_memory(&mut self) {
        self.session.release_memory();
    }

    fn take(&mut self, direction: Direction, pdu: &[u8], deferring: bool, out: &mut Vec<TapEvent>) {
        self.session.set_painting(true, deferring);
        let undecoded_max_bytes = self.session.config().undecoded_max_bytes;
        let mut sink = Sink::new(out, undecoded_max_bytes, false);
        let session = &mut self.session;
        // Decoders of other people are guarded one by one; this is the net below our own code.
        if let Err(error) = guarded("tap", || session.pdu(direction, pdu, &mut sink)) {
            let mut sink = Sink::new(out, undecoded_max_bytes, false);
            sink.set_redact(direction == Direction::ToDesktop);
            sink.undecoded(UndecodedKind::Pdu, error, pdu);
        }
    }

    /// Takes one whole PDU of a gap: nothing is reported, and only what later ones refer to is decoded: decompression
    /// history, codec tables, pointer cache, desktop size and all of the graphics pipeline stay in step. Call
    /// [`Tap::restart`] when the gap ends.
    pub fn skip(&mut self, direction: Direction, pdu: &[u8]) {
        self.settle_before_gap();
        self.session.set_painting(false, false);
        let mut sink = Sink::new(&mut self.unheard, 0, true);
        let session = &mut self.session;
        // That something is missing is what a gap says, but what outlives it is told at its end.
        if let Err(error) = guarded("tap", || session.pdu(direction, pdu, &mut sink))
            && self.unheard.is_empty()
        {
            Sink::new(&mut self.unheard, 0, false).undecoded(UndecodedKind::Pdu, error, &[]);
        }
    }

    /// PDUs were dropped and this tap never saw them, not even in [`Tap::skip`]. What follows refers to them: it is not
    /// decoded until the sender starts its history anew, and [`Tap::is_right`] says when that is.
    pub fn lost(&mut self, loss: Loss) {
        self.settle_before_gap();
        self.session.lost(loss);
    }

    /// Whether what comes from the desktop decodes to what the client shows. False after [`Tap::lost`], until the
    /// compression's history is flushed and, where an activation was lost, until a whole new one has passed; where a message
    /// of the graphics pipeline was lost or can't be decompressed, until its channel is opened anew. What is not repainted
    /// since then is not known all the same.
    pub fn is_right(&self) -> bool {
        self.session.is_right()
    }

    /// Ends a gap: the picture is black (nobody knows what it is) but for the surfaces of the graphics pipeline; its size, the
    /// pointer and the wish for a full repaint are reported, and whether something on these surfaces could not be decoded.
    pub fn restart(&mut self, out: &mut Vec<TapEvent>) {
        self.settle_before_gap();
        self.session.restart(&mut Sink::new(out, 0, false));
        out.append(&mut self.late);
        out.append(&mut self.unheard);
    }

    /// What is pending refers to what a gap may change; whatever of it can't be decoded is told when the gap ends.
    fn settle_before_gap(&mut self) {
        let mut late = std::mem::take(&mut self.late);
        let before = late.len();
        self.settle(&mut late);
        if late.len() > LATE_MAX && late.len() > before {
            late.truncate(LATE_MAX);
            let error = format!("more than {LATE_MAX} pictures that waited when a gap began");
            Sink::new(&mut late, 0, false).undecoded(UndecodedKind::Pdu, error, &[]);
        }
        self.late = late;
    }

    /// What was decoded so far, by encoding.
    pub fn decoded(&self) -> Decoded {
        self.session.decoded()
    }

    /// The picture's columns and rows; `None` before the first Demand Active.
    pub fn size(&self) -> Option<(u16, u16)> {
        self.session.picture().map(|picture| (picture.width, picture.height))
    }

    /// The picture as decoded so far, and so without what [`Tap::settle`] would decode; `None` before the first Demand Active.
    pub fn picture(&self) -> Option<Picture<'_>> {
        self.session.picture()
    }
}
