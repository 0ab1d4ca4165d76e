//! The desktop's output after decompression and reassembly, by kind of update.

use super::bitmap::{Bitmap, Bitmaps, bitmaps};
use super::color::Palette;
use super::event::{Decoded, Rect, TapEvent, UndecodedKind};
use super::framebuffer::Framebuffer;
use super::guard::guarded;
use super::layout::Layout;
use super::pending::{Paint, Pending, Stage, What};
use super::pointer::{Pointers, Update};
use super::reader::Reader;
use super::sink::Sink;
use super::surface::{Bits, Surfaces, commands};
use super::work::Work;
use crate::wire::fast_path::update;

/// Update types of the slow path, repeated at the front of fast-path bitmaps and palettes.
const ORDERS: u16 = 0;
const BITMAP: u16 = 1;
const PALETTE: u16 = 2;
const SYNCHRONIZE: u16 = 3;

/// What was read once can be read again.
const CUT: &str = "cut off since it was kept";

/// Picture, pointer and all that is needed to keep them.
#[derive(Default)]
pub(super) struct Screen {
    pub(super) picture: Option<Framebuffer>,
    pub(super) surfaces: Surfaces,
    pub(super) pointers: Pointers,
    pub(super) layout: Layout,
    bitmaps: Bitmaps,
    palette: Palette,
    /// What [`Screen::settle`] paints on the picture.
    pending: Pending,
    /// What paints is only kept.
    pub(super) deferring: bool,
    /// False during a gap: only what later updates refer to is kept.
    pub(super) painting: bool,
}

impl Screen {
    /// Nothing is shown yet.
    pub(super) fn new(layout: Layout) -> Self {
        Self {
            layout,
            ..Self::default()
        }
    }

    /// PDUs were dropped unseen: what later updates refer to is not known any more.
    pub(super) fn lose(&mut self) {
        self.pointers.lose();
        self.palette.lose();
    }

    pub(super) fn decoded(&self) -> Decoded {
        let (bitmaps, surfaces) = (self.bitmaps.decoded, self.surfaces.decoded);
        Decoded {
            raw: bitmaps.raw + surfaces.raw,
            remote_fx: surfaces.remote_fx,
            ns_codec: surfaces.ns_codec,
            ..bitmaps
        }
    }

    /// Begins a new, black picture; what is pending was for the one before.
    pub(super) fn resize(&mut self, width: u16, height: u16, sink: &mut Sink<'_>) -> Result<(), String> {
        self.pending.clear();
        self.picture = Framebuffer::new(width, height);
        if self.picture.is_none() {
            return Err(format!("desktop of {width}x{height}"));
        }
        sink.push(TapEvent::Resized { width, height });
        Ok(())
    }

    /// Takes one whole fast-path update.
    pub(super) fn fast_path_update(&mut self, code: u8, data: &[u8], sink: &mut Sink<'_>) {
        let pointer = match code {
            update::ORDERS => {
                self.orders(data, sink);
                return;
            }
            update::BITMAP | update::PALETTE => {
                self.update(data, sink);
                return;
            }
            update::SYNCHRONIZE => return,
            update::SURFACE_COMMANDS => {
                self.surface_commands(data, sink);
                return;
            }
            update::POINTER_HIDDEN => Update::Hidden,
            update::POINTER_DEFAULT => Update::Default,
            update::POINTER_POSITION => Update::Position,
            update::POINTER_COLOR => Update::Color,
            update::POINTER_CACHED => Update::Cached,
            update::POINTER_NEW => Update::New,
            update::POINTER_LARGE => Update::Large,
            _ => {
                sink.undecoded(UndecodedKind::FastPathUpdate, format!("update code {code:#x}"), data);
                return;
            }
        };
        self.pointers.update(pointer, &self.palette, data, sink);
    }

    /// Takes one whole update that begins with its type.
    pub(super) fn update(&mut self, data: &[u8], sink: &mut Sink<'_>) {
        let Some((kind, body)) = data.split_first_chunk::<2>() else {
            sink.undecoded(UndecodedKind::ShareData, "update without a type", data);
            return;
        };
        match u16::from_le_bytes(*kind) {
            // Two bytes of padding before the count.
            ORDERS => self.orders(body.get(2..).unwrap_or_default(), sink),
            BITMAP => {
                if self.painting {
                    match self.picture {
                        Some(_) => bitmaps(body, sink, |bitmap, unit, sink| self.bitmap(bitmap, unit, sink)),
                        None => sink.undecoded(UndecodedKind::Bitmap, "no picture to paint on", body),
                    }
                }
            }
            PALETTE => {
                // what is pending has the colours of before
                self.settle(sink);
                if self.palette.update(body).is_none() {
                    sink.undecoded(UndecodedKind::Palette, "malformed palette", body);
                }
            }
            SYNCHRONIZE => {}
            kind => sink.undecoded(UndecodedKind::ShareData, format!("update type {kind}"), data),
        }
    }

    /// Takes a slow-path pointer update.
    pub(super) fn pointer(&mut self, data: &[u8], sink: &mut Sink<'_>) {
        let kind = data.first_chunk::<2>().map(|kind| u16::from_le_bytes(*kind));
        // Two bytes of padding after the type.
        let body = data.get(4..).unwrap_or_default();
        let kind = match kind {
            // A system pointer: none, or the default one.
            Some(1) => match body.first_chunk::<4>().map(|kind| u32::from_le_bytes(*kind)) {
                Some(0) => Some(Update::Hidden),
                Some(0x7F00) => Some(Update::Default),
                _ => None,
            },
            Some(3) => Some(Update::Position),
            Some(6) => Some(Update::Color),
            Some(7) => Some(Update::Cached),
            Some(8) => Some(Update::New),
            _ => None,
        };
        match kind {
            Some(kind) => self.pointers.update(kind, &self.palette, body, sink),
            None => sink.undecoded(UndecodedKind::Pointer, "unknown pointer update", data),
        }
    }

    fn surface_commands(&mut self, data: &[u8], sink: &mut Sink<'_>) {
        if !self.painting {
            return;
        }
        match &self.picture {
            Some(picture) => {
                let mut work = Work::of_update(picture);
                commands(data, sink, |bits, unit, sink| self.bits(bits, unit, &mut work, sink));
            }
            None => sink.undecoded(UndecodedKind::SurfaceCommand, "no picture to paint on", data),
        }
    }

    /// How far to go with something of so many bytes that paints. Where there is no room for it, room is made.
    fn stage(&mut self, length: usize, sink: &mut Sink<'_>) -> Stage<'static> {
        if !self.deferring {
            return Stage::Now;
        }
        if !self.pending.has_room(length) {
            self.settle(sink);
        }
        if self.pending.has_room(length) {
            self.pending.begin();
            Stage::Look
        } else {
            Stage::Now
        }
    }

    fn bitmap(&mut self, bitmap: &Bitmap<'_>, unit: &[u8], sink: &mut Sink<'_>) {
        let stage = self.stage(unit.len(), sink);
        let Some(picture) = &mut self.picture else { return };
        match self.bitmaps.paint(picture, &self.palette, bitmap, stage) {
            Ok(None) => {}
            Ok(Some(rect)) => {
                sink.damage(rect);
                if let Stage::Look = stage {
                    self.pending.add_rect(rect);
                    self.pending.keep(What::Bitmap, self.surfaces.context(), unit, true);
                }
            }
            Err(error) => sink.undecoded_at(UndecodedKind::Bitmap, None, bitmap.place(picture), error, unit),
        }
    }

    fn bits(&mut self, bits: &Bits<'_>, unit: &[u8], work: &mut Work, sink: &mut Sink<'_>) {
        let stage = self.stage(unit.len(), sink);
        let Self {
            picture: Some(picture),
            surfaces,
            pending,
            palette,
            ..
        } = self
        else {
            return;
        };
        let codec = surfaces.codecs.of(bits.codec_id, bits.data);
        let (context, work_before) = (surfaces.context(), *work);
        let look = matches!(stage, Stage::Look);
        let mut damage = |rect| {
            sink.damage(rect);
            if look {
                pending.add_rect(rect);
            }
        };
        let result = surfaces.paint(picture, palette, (bits, codec), stage, (work, &mut damage));
        let what = What::Surface {
            codec,
            work: work_before,
        };
        // what fails half-way fails again, and is told then
        if look && pending.keep(what, context, unit, result.is_ok()) {
            return;
        }
        if let Err(error) = result {
            let rect = bits.place(picture);
            sink.undecoded_at(UndecodedKind::SurfaceCommand, Some(bits.codec_id), rect, error, unit);
        }
    }

    /// Decodes what is pending, and paints it. What is painted over by what came later is not decoded, unless something can't
    /// be: then all is, in order, and whatever can't be is told.
    pub(super) fn settle(&mut self, sink: &mut Sink<'_>) {
        if self.pending.is_empty() {
            // nothing of one that was never kept stays
            self.pending.begin();
            return;
        }
        let mut pending = std::mem::take(&mut self.pending);
        if let Some(picture) = &self.picture {
            let hidden = pending.hidden(picture);
            let fine = pending
                .paints(&hidden)
                .all(|(paint, unit, hidden)| paint.is_hidden(hidden) || self.paint(paint, unit, hidden).is_ok());
            if !fine {
                for (paint, unit, _) in pending.paints(&[]) {
                    if let Err(error) = self.paint(paint, unit, &[]) {
                        let (kind, codec_id, rect) = self.place(paint, unit);
                        sink.undecoded_at(kind, codec_id, rect, error, unit);
                    }
                }
            }
        }
        pending.clear();
        self.pending = pending;
    }

    /// Gives back room that nothing waits in.
    pub(super) fn release_memory(&mut self) {
        if self.pending.is_empty() {
            self.pending = Pending::default();
        }
    }

    /// Paints something that was pending, except where it is hidden.
    fn paint(&mut self, paint: &Paint, unit: &[u8], hidden: &[bool]) -> Result<(), String> {
        let Some(picture) = &mut self.picture else {
            return Ok(());
        };
        let context = &paint.context;
        let stage = Stage::Later { context, hidden };
        guarded("tap", || match paint.what {
            What::Bitmap => {
                let bitmap = Bitmap::read(&mut Reader::new(unit)).ok_or(CUT)?;
                self.bitmaps.paint(picture, &self.palette, &bitmap, stage).map(drop)
            }
            What::Surface { codec, mut work } => {
                let bits = Bits::of_command(unit).ok_or(CUT)?;
                let damage = (&mut work, &mut |_: Rect| {});
                self.surfaces
                    .paint(picture, &self.palette, (&bits, codec), stage, damage)
            }
        })
        .flatten()
    }

    /// What is told of something pending beside its bytes: kind, codec and what of the picture it is for.
    fn place(&self, paint: &Paint, unit: &[u8]) -> (UndecodedKind, Option<u8>, Option<Rect>) {
        let picture = self.picture.as_ref();
        match paint.what {
            What::Bitmap => {
                let bitmap = Bitmap::read(&mut Reader::new(unit));
                let rect = bitmap.zip(picture).and_then(|(bitmap, picture)| bitmap.place(picture));
                (UndecodedKind::Bitmap, None, rect)
            }
            What::Surface { .. } => {
                let bits = Bits::of_command(unit);
                let codec_id = bits.as_ref().map(|bits| bits.codec_id);
                let rect = bits.zip(picture).and_then(|(bits, picture)| bits.place(picture));
                (UndecodedKind::SurfaceCommand, codec_id, rect)
            }
        }
    }

    /// Orders should have been negotiated away; an update without any is harmless.
    fn orders(&mut self, data: &[u8], sink: &mut Sink<'_>) {
        let count = data.first_chunk::<2>().map_or(0, |count| u16::from_le_bytes(*count));
        if self.painting && count > 0 {
            sink.undecoded(UndecodedKind::Orders, format!("{count} drawing orders"), data);
        }
    }
}
