//! The graphics pipeline ([MS-RDPEGFX]): messages of its dynamic channel go in, surfaces are painted and shown.
//!
//! A command that can't be decoded is evidence by itself, and the next one is looked at; only a message whose compression
//! can't be undone takes all that follow with it, because they refer to it.

mod clear;
mod codecs;
mod columns;
mod progressive;
mod surface;
mod zgfx;

use self::codecs::Codecs;
use self::surface::{Edges, Output, Place, Surfaces};
use self::zgfx::Zgfx;
use super::event::{Decoded, Rect, TapEvent, UndecodedKind};
use super::framebuffer::Framebuffer;
use super::reader::Reader;
use super::screen::Screen;
use super::sink::Sink;
use super::work::{STEP, Work};
use crate::wire::egfx::{self, Command, codec, command};

/// Most bytes of an unpacked message: an uncompressed picture of a 4K screen, and then some.
const MESSAGE_MAX_BYTES: usize = 48 << 20;
/// Commands of one message that are evidence one by one; after so many that can't be decoded nobody knows what is shown.
const FAILURES_MAX: usize = 256;
/// Room that is kept from message to message.
const KEPT_BYTES: usize = 1 << 20;

/// One channel, from its opening on.
#[derive(Default)]
pub(super) struct Graphics {
    /// Most pixels of the output.
    screen_max_pixels: u64,
    zgfx: Zgfx,
    plain: Vec<u8>,
    surfaces: Surfaces,
    codecs: Codecs,
    /// What the message at hand may still ask for.
    work: Work,
    /// Something is missing of what the sender refers to.
    lost: bool,
    /// Why is told at the end of a gap, which must come.
    untold: bool,
    /// How often the client has advertised its capabilities since the desktop confirmed them.
    advertised: u32,
    /// The desktop has confirmed them.
    confirmed: bool,
    /// It did so before the client's words were seen: both directions may overtake each other by a little.
    confirmed_early: bool,
    /// Rectangles that a command has painted.
    painted: Vec<Rect>,
}

/// Why a command painted nothing, or not all.
struct Failure {
    codec: Option<u16>,
    rect: Option<Rect>,
    error: String,
}

impl From<String> for Failure {
    fn from(error: String) -> Self {
        Self {
            codec: None,
            rect: None,
            error,
        }
    }
}

impl From<&str> for Failure {
    fn from(error: &str) -> Self {
        error.to_owned().into()
    }
}

/// What a client that begins anew costs: the memory of decoders.
const RESTART: u64 = 1 << 20;
const SHORT: &str = "command ends early";
const LOST: &str = "what it refers to is lost";

impl Graphics {
    /// A channel whose output may have so many pixels.
    pub(super) fn new(screen_max_pixels: u64) -> Self {
        Self {
            screen_max_pixels,
            surfaces: Surfaces::new(screen_max_pixels),
            ..Self::default()
        }
    }

    /// Messages were dropped: what follows refers to them.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    pub(super) fn is_right(&self) -> bool {
        !self.lost || self.untold
    }

    /// Takes what begins a message of the client, who doesn't compress.
    pub(super) fn client_message(&mut self, message: &[u8]) {
        let mut kinds = egfx::commands(message)
            .map_while(Result::ok)
            .map(|command| command.kind);
        let cut = message.first_chunk::<2>().map(|kind| u16::from_le_bytes(*kind));
        if cut == Some(command::CAPS_ADVERTISE) || kinds.any(|kind| kind == command::CAPS_ADVERTISE) {
            let answered = std::mem::take(&mut self.confirmed_early);
            self.advertised = self.advertised.saturating_add(u32::from(!answered));
        }
    }

    pub(super) fn decoded(&self) -> Decoded {
        self.codecs.decoded
    }

    /// Shows all that is known on a picture that was begun anew.
    pub(super) fn show(&self, screen: &mut Screen, sink: &mut Sink<'_>) {
        if self.lost {
            return;
        }
        let mut work = Work::default();
        let mut damage = |rect| sink.damage(rect);
        self.surfaces.show(&mut Output {
            picture: screen.picture.as_mut(),
            damage: &mut damage,
            work: &mut work,
        });
        if work.is_over() {
            sink.undecoded(UndecodedKind::Graphics, "surfaces that show too much", &[]);
        }
    }

    /// Takes one whole message of the desktop.
    pub(super) fn message(&mut self, data: &[u8], screen: &mut Screen, sink: &mut Sink<'_>) {
        self.untold &= sink.is_silent();
        // what these commands show is painted at once, and after all that came before
        screen.settle(sink);
        if self.lost {
            sink.undecoded(UndecodedKind::Graphics, LOST, data);
            return;
        }
        let mut plain = std::mem::take(&mut self.plain);
        match self.zgfx.unpack(data, &mut plain, MESSAGE_MAX_BYTES) {
            Ok(()) => self.commands(&plain, screen, sink),
            Err(error) => {
                self.lost = true;
                sink.undecoded(UndecodedKind::Graphics, format!("ZGFX: {error}"), data);
            }
        }
        plain.clear();
        plain.shrink_to(KEPT_BYTES);
        self.plain = plain;
    }

    fn commands(&mut self, message: &[u8], screen: &mut Screen, sink: &mut Sink<'_>) {
        self.work = Work::default();
        let (mut walked, mut failures) = (0, 0);
        for item in egfx::commands(message) {
            let rest = message.get(walked..).unwrap_or_default();
            if self.lost {
                sink.undecoded(UndecodedKind::GraphicsCommand, LOST, rest);
                return;
            }
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    sink.undecoded(UndecodedKind::GraphicsCommand, error.to_string(), rest);
                    return;
                }
            };
            walked += item.whole.len();
            let result = match self.work.spend(STEP) {
                Ok(()) => self.command(&item, screen, sink),
                Err(error) => Err(error.into()),
            };
            let too_many = result.is_err() && failures >= FAILURES_MAX;
            if too_many || self.work.is_over() {
                self.lost = true;
                let error = match too_many {
                    true => "message of which too much can't be decoded",
                    false => "message that asks for too much",
                };
                sink.undecoded(UndecodedKind::GraphicsCommand, error, rest);
                return;
            }
            if let Err(Failure { codec, rect, error }) = result {
                failures += 1;
                let codec = codec.and_then(|codec| u8::try_from(codec).ok());
                let kind = UndecodedKind::GraphicsCommand;
                sink.undecoded_at(kind, codec, rect, error, item.whole);
            }
        }
    }

    fn command(&mut self, item: &Command<'_>, screen: &mut Screen, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let mut reader = Reader::new(item.body);
        match item.kind {
            command::START_FRAME => self.codecs.begin_frame(),
            command::END_FRAME => {
                self.codecs.end_frame();
                sink.frame_end();
            }
            command::RESET_GRAPHICS => {
                let (width, height) = pair32(&mut reader).ok_or(SHORT)?;
                let limit = self.screen_max_pixels;
                if u64::from(width) * u64::from(height) > limit {
                    self.lost = true;
                    self.untold = sink.is_silent();
                    sink.push(TapEvent::ScreenTooLarge { width, height });
                    return Err(format!("output of {width}x{height} is above the limit of {limit} pixels").into());
                }
                // Only the output is begun anew ([MS-RDPEGFX] 2.2.2.14): clients keep surfaces and where they are shown, and
                // some wipe them. A desktop that counts on their end would fill the memory, so they make room for others.
                self.surfaces.age(&mut self.work)?;
                self.codecs.age();
                resize(screen, (width, height), &mut self.work, sink)?;
                // some desktops end the command here
                if !reader.is_empty() {
                    let result = screen.layout.set(reader.rest(), sink);
                    result.map_err(|error| Failure::from(error.to_string()))?;
                }
            }
            command::CAPS_CONFIRM => self.confirmed()?,
            command::CACHE_IMPORT_REPLY => {
                // what is in these slots now is the client's
                match list(&mut reader, slot) {
                    Some(slots) => slots.into_iter().for_each(|slot| self.surfaces.evict(slot)),
                    None => self.surfaces.evict_all(),
                }
                return Err("pictures out of a cache that the client has kept".into());
            }
            command::CREATE_SURFACE => {
                let id = reader.u16().ok_or(SHORT)?;
                let (width, height) = pair(&mut reader).ok_or(SHORT)?;
                self.codecs.delete_surface(id);
                self.surfaces.delete(id);
                for old in self.surfaces.make_room(width, height) {
                    self.codecs.delete_surface(old);
                }
                self.work.spend(u64::from(width) * u64::from(height))?;
                self.surfaces.create(id, width, height)?;
            }
            command::DELETE_SURFACE => {
                let id = reader.u16().ok_or(SHORT)?;
                self.codecs.delete_surface(id);
                self.surfaces.delete(id);
            }
            command::EVICT_CACHE_ENTRY => self.surfaces.evict(reader.u16().ok_or(SHORT)?),
            // Tiles belong to the surface and outlive contexts.
            command::DELETE_ENCODING_CONTEXT => {}
            command::SURFACE_TO_CACHE => {
                let from = reader.u16().ok_or(SHORT)?;
                reader.skip(8).ok_or(SHORT)?;
                let slot = reader.u16().ok_or(SHORT)?;
                let source = edges(&mut reader).ok_or(SHORT)?;
                self.surfaces.keep(slot, (from, source), &mut self.work)?;
            }
            command::WIRE_TO_SURFACE_1 => return self.rectangle(&mut reader, screen, sink),
            command::WIRE_TO_SURFACE_2 => return self.progressive(&mut reader, screen, sink),
            command::MAP_SURFACE_TO_OUTPUT
            | command::MAP_SURFACE_TO_SCALED_OUTPUT
            | command::SOLID_FILL
            | command::SURFACE_TO_SURFACE
            | command::CACHE_TO_SURFACE => {
                let mut damage = |rect| sink.damage(rect);
                let mut output = Output {
                    picture: screen.picture.as_mut(),
                    damage: &mut damage,
                    work: &mut self.work,
                };
                paint(&mut self.surfaces, item.kind, &mut reader, &mut output)?;
            }
            // The windows of RemoteApp, which the filter has turned off.
            command::MAP_SURFACE_TO_WINDOW | command::MAP_SURFACE_TO_SCALED_WINDOW => {
                return Err("surface of a window".into());
            }
            other => return Err(format!("unknown graphics command {other:#06x}").into()),
        }
        Ok(())
    }

    /// A client that advertises what it can a second time forgets all ([MS-RDPEGFX] 3.3.5.19), and the answer is where the
    /// desktop begins anew. What the desktop says unasked changes nothing in clients, or whatever they like.
    fn confirmed(&mut self) -> Result<(), String> {
        let asked = std::mem::take(&mut self.advertised);
        let again = std::mem::replace(&mut self.confirmed, true);
        if again && asked == 0 {
            self.lost = true;
            return Err("confirms capabilities that no client has advertised since".to_owned());
        }
        self.confirmed_early = asked == 0;
        if again || asked > 1 {
            self.work.spend(RESTART)?;
            self.surfaces = Surfaces::new(self.screen_max_pixels);
            self.codecs.restart();
        }
        Ok(())
    }

    fn rectangle(&mut self, reader: &mut Reader<'_>, screen: &mut Screen, sink: &mut Sink<'_>) -> Result<(), Failure> {
        let mut head = || Some((reader.u16()?, reader.u16()?, reader.u8()?, edges(reader)?));
        let Self {
            surfaces,
            codecs,
            painted,
            work,
            ..
        } = self;
        let Some(((id, codec, _format, edges), data)) = head().and_then(|head| Some((head, bits(reader)?))) else {
            codecs.refuse(codec::CLEAR, &[]);
            return Err(SHORT.into());
        };
        let surface = surfaces.find(id).inspect_err(|_| codecs.refuse(codec, data))?;
        painted.clear();
        let result = codecs.rectangle(&mut surface.pixels, codec, edges, data, (&mut *work, &mut *painted));
        let mut damage = |rect| sink.damage(rect);
        let mut output = Output {
            picture: screen.picture.as_mut(),
            damage: &mut damage,
            work,
        };
        for rect in painted.drain(..) {
            surface.show_part(rect, &mut output);
        }
        result.map_err(|error| Failure {
            codec: Some(codec),
            rect: edges.inside(&surface.pixels).ok(),
            error,
        })
    }

    fn progressive(
        &mut self,
        reader: &mut Reader<'_>,
        screen: &mut Screen,
        sink: &mut Sink<'_>,
    ) -> Result<(), Failure> {
        let mut head = || Some((reader.u16()?, reader.u16()?, reader.u32()?, reader.u8()?));
        let (id, codec, _context, _format) = head().ok_or(SHORT)?;
        let data = bits(reader).ok_or(SHORT)?;
        let failed = |error| Failure {
            codec: Some(codec),
            rect: None,
            error,
        };
        if codec != codec::PROGRESSIVE {
            // it may have refined tiles
            self.codecs.delete_surface(id);
            return Err(failed(format!("no decoder for codec {codec:#x}")));
        }
        let Self {
            surfaces,
            codecs,
            painted,
            work,
            ..
        } = self;
        let surface = surfaces.find(id)?;
        painted.clear();
        let result = codecs.progressive((id, surface), data, (&mut *work, &mut *painted));
        let mut damage = |rect| sink.damage(rect);
        let mut output = Output {
            picture: screen.picture.as_mut(),
            damage: &mut damage,
            work,
        };
        for rect in painted.drain(..) {
            surface.show_part(rect, &mut output);
        }
        result.map_err(failed)
    }
}

/// Commands that paint with what is there already.
fn paint(surfaces: &mut Surfaces, kind: u16, reader: &mut Reader<'_>, output: &mut Output<'_>) -> Result<(), Failure> {
    match kind {
        command::SOLID_FILL => {
            let id = reader.u16().ok_or(SHORT)?;
            let color = reader.u32().ok_or(SHORT)?.to_le_bytes();
            let rects = list(reader, edges).ok_or(SHORT)?;
            let [blue, green, red, _] = color;
            surfaces.fill(id, [red, green, blue, 255], &rects, output)?;
        }
        command::SURFACE_TO_SURFACE => {
            let (from, to) = pair(reader).ok_or(SHORT)?;
            let source = edges(reader).ok_or(SHORT)?;
            let points = list(reader, pair).ok_or(SHORT)?;
            surfaces.copy((from, source), to, &points, output)?;
        }
        command::CACHE_TO_SURFACE => {
            let (slot, to) = pair(reader).ok_or(SHORT)?;
            let points = list(reader, pair).ok_or(SHORT)?;
            surfaces.recall(slot, to, &points, output)?;
        }
        _ => {
            let id = reader.u16().ok_or(SHORT)?;
            reader.skip(2).ok_or(SHORT)?;
            let (x, y) = pair32(reader).ok_or(SHORT)?;
            let pixels = &surfaces.find(id)?.pixels;
            let size = (u32::from(pixels.width()), u32::from(pixels.height()));
            let (width, height) = match kind {
                command::MAP_SURFACE_TO_SCALED_OUTPUT => pair32(reader).ok_or(SHORT)?,
                _ => size,
            };
            let place = Place { x, y, width, height };
            surfaces.map(
                id,
                Some(place).filter(|place| place.width > 0 && place.height > 0),
                output,
            )?;
        }
    }
    Ok(())
}

/// Begins a new picture where the size of the output changes.
fn resize(
    screen: &mut Screen,
    (width, height): (u32, u32),
    work: &mut Work,
    sink: &mut Sink<'_>,
) -> Result<(), String> {
    let size = (u16::try_from(width), u16::try_from(height));
    let (Ok(width), Ok(height)) = size else {
        return Err(format!("output of {width}x{height}"));
    };
    let old = screen
        .picture
        .as_ref()
        .map(|picture| (picture.width(), picture.height()));
    if old == Some((width, height)) {
        return Ok(());
    }
    work.spend(u64::from(width) * u64::from(height))?;
    if Framebuffer::new(width, height).is_none() {
        // what is shown stays: without a picture nothing that follows would be seen
        return Err(format!("output of {width}x{height}"));
    }
    screen.resize(width, height, sink)
}

fn pair(reader: &mut Reader<'_>) -> Option<(u16, u16)> {
    Some((reader.u16()?, reader.u16()?))
}

fn pair32(reader: &mut Reader<'_>) -> Option<(u32, u32)> {
    Some((reader.u32()?, reader.u32()?))
}

fn edges(reader: &mut Reader<'_>) -> Option<Edges> {
    let (left, top) = pair(reader)?;
    let (right, bottom) = pair(reader)?;
    Some(Edges {
        left,
        top,
        right,
        bottom,
    })
}

fn slot(reader: &mut Reader<'_>) -> Option<u16> {
    reader.u16()
}

/// A count and so many of these.
fn list<T>(reader: &mut Reader<'_>, read: impl Fn(&mut Reader<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = reader.u16()?;
    (0..count).map(|_| read(reader)).collect()
}

fn bits<'a>(reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    let length = reader.len32()?;
    reader.take(length)
}
