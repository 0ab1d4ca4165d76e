//! The desktop's output after decompression and reassembly, by kind of update.

use super::bitmap::Bitmaps;
use super::color::Palette;
use super::event::{Decoded, TapEvent, UndecodedKind};
use super::framebuffer::Framebuffer;
use super::layout::Layout;
use super::pointer::{Pointers, Update};
use super::sink::Sink;
use super::surface::Surfaces;
use crate::wire::fast_path::update;

/// Update types of the slow path, repeated at the front of fast-path bitmaps and palettes.
const ORDERS: u16 = 0;
const BITMAP: u16 = 1;
const PALETTE: u16 = 2;
const SYNCHRONIZE: u16 = 3;

/// Picture, pointer and all that is needed to keep them.
#[derive(Default)]
pub(super) struct Screen {
    pub(super) picture: Option<Framebuffer>,
    pub(super) surfaces: Surfaces,
    pub(super) pointers: Pointers,
    pub(super) layout: Layout,
    bitmaps: Bitmaps,
    palette: Palette,
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

    /// Begins a new, black picture.
    pub(super) fn resize(&mut self, width: u16, height: u16, sink: &mut Sink<'_>) -> Result<(), String> {
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
                    match &mut self.picture {
                        Some(picture) => self.bitmaps.update(picture, &self.palette, body, sink),
                        None => sink.undecoded(UndecodedKind::Bitmap, "no picture to paint on", body),
                    }
                }
            }
            PALETTE => {
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
        match &mut self.picture {
            Some(picture) => self.surfaces.update(picture, &self.palette, data, sink),
            None => sink.undecoded(UndecodedKind::SurfaceCommand, "no picture to paint on", data),
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
