//! Bits for surfaces: what the codecs of the graphics pipeline paint.

use super::clear::Clear;
use super::progressive::Progressive;
use super::surface::{Edges, Surface, pixels_of};
use crate::tap::event::{Decoded, Rect};
use crate::tap::framebuffer::Framebuffer;
use crate::tap::planar::{PlanarDecoder, Rows};
use crate::tap::rfx::RemoteFx;
use crate::tap::work::{STEP, Work};
use crate::wire::egfx::codec;

/// Decoders and what they keep.
#[derive(Default)]
pub(super) struct Codecs {
    remote_fx: RemoteFx,
    planar: PlanarDecoder,
    clear: Clear,
    progressive: Progressive,
    pub(super) decoded: Decoded,
}

impl Codecs {
    /// Forgets all but how much was decoded.
    pub(super) fn restart(&mut self) {
        *self = Self {
            decoded: self.decoded,
            ..Self::default()
        };
    }

    pub(super) fn begin_frame(&mut self) {
        self.progressive.begin_frame();
    }

    pub(super) fn end_frame(&mut self) {
        self.progressive.end_frame();
    }

    pub(super) fn delete_surface(&mut self, id: u16) {
        self.progressive.delete_surface(id);
    }

    /// The output was reset.
    pub(super) fn age(&mut self) {
        self.progressive.age();
    }

    /// Takes note of bits that are not decoded.
    pub(super) fn refuse(&mut self, kind: u16, data: &[u8]) {
        if kind == codec::CLEAR {
            self.clear.refuse(data);
        }
    }

    /// Paints a rectangle of a surface and tells what has changed, also before an error.
    pub(super) fn rectangle(
        &mut self,
        pixels: &mut Framebuffer,
        kind: u16,
        edges: Edges,
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<(), String> {
        let inside = edges.inside(pixels);
        let paid = |rect: Rect| work.spend(pixels_of(rect) + data.len() as u64).map(|()| rect);
        match inside.and_then(paid) {
            Ok(rect) => self.bits(pixels, kind, (edges, rect), data, (work, painted)),
            Err(_) if edges.overhang(pixels) => self.overhanging(pixels, kind, edges, data, (work, painted)),
            Err(error) => {
                self.refuse(kind, data);
                Err(error)
            }
        }
    }

    /// Paints what lies inside of a rectangle that doesn't.
    fn overhanging(
        &mut self,
        pixels: &mut Framebuffer,
        kind: u16,
        edges: Edges,
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<(), String> {
        let (width, height) = (edges.right - edges.left, edges.bottom - edges.top);
        work.spend(u64::from(width) * u64::from(height))?;
        let inside = pixels.clip(edges.left.into(), edges.top.into(), width.into(), height.into());
        let room = Framebuffer::new(width, height);
        let (Some(inside), Some(mut room)) = (inside, room) else {
            self.refuse(kind, data);
            return Err(format!("bits for {width}x{height} beside the surface"));
        };
        let corner = Rect { x: 0, y: 0, ..inside };
        room.paint(corner, |row, out| out.copy_from_slice(pixels.row(inside, row)));
        let all = Edges {
            left: 0,
            top: 0,
            right: width,
            bottom: height,
        };
        let mut parts = Vec::new();
        let result = self.rectangle(&mut room, kind, all, data, (&mut *work, &mut parts));
        for part in parts {
            let shown = pixels.clip(
                usize::from(inside.x) + usize::from(part.x),
                usize::from(inside.y) + usize::from(part.y),
                part.width.into(),
                part.height.into(),
            );
            let Some(shown) = shown else { continue };
            work.spend(STEP + pixels_of(shown))?;
            pixels.paint(shown, |row, out| out.copy_from_slice(&room.row(part, row)[..out.len()]));
            painted.push(shown);
        }
        result
    }

    fn bits(
        &mut self,
        pixels: &mut Framebuffer,
        kind: u16,
        (edges, rect): (Edges, Rect),
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<(), String> {
        let size = (edges.width(), edges.height());
        match kind {
            codec::UNCOMPRESSED => {
                self.decoded.raw += 1;
                paint_bgrx(pixels, rect, data)?;
                painted.push(rect);
            }
            codec::PLANAR => {
                self.decoded.planar += 1;
                self.planar.paint(pixels, rect, size, Rows::Down, data)?;
                painted.push(rect);
            }
            codec::REMOTE_FX => {
                self.decoded.remote_fx += 1;
                let at = (edges.left, edges.top);
                let mut paint = |rect| painted.push(rect);
                self.remote_fx.paint(pixels, at, data, (work, &mut paint))?;
            }
            codec::CLEAR => {
                self.decoded.clear += 1;
                self.clear.paint(pixels, rect, data, (work, painted))?;
            }
            // The output shows no transparency; only the colours that come otherwise matter.
            codec::ALPHA => {}
            codec::AVC420 | codec::AVC444 | codec::AVC444_V2 => return Err("no decoder for H.264".to_owned()),
            other => return Err(format!("no decoder for codec {other:#x}")),
        }
        Ok(())
    }

    /// Paints a progressive stream onto a surface.
    pub(super) fn progressive(
        &mut self,
        (id, surface): (u16, &mut Surface),
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<(), String> {
        self.decoded.progressive += 1;
        work.spend(data.len() as u64)?;
        self.progressive.paint((id, &mut surface.pixels), data, (work, painted))
    }
}

/// Paints rows from the top, blue, green, red and a byte of no meaning.
fn paint_bgrx(surface: &mut Framebuffer, rect: Rect, data: &[u8]) -> Result<(), String> {
    let stride = usize::from(rect.width) * 4;
    let needed = stride * usize::from(rect.height);
    if data.len() < needed {
        return Err(format!("{} bytes of pixels, needs {needed}", data.len()));
    }
    surface.paint(rect, |row, out| {
        let line = data[row * stride..].as_chunks::<4>().0;
        for (out, [blue, green, red, _]) in out.as_chunks_mut::<4>().0.iter_mut().zip(line) {
            *out = [*red, *green, *blue, 255];
        }
    });
    Ok(())
}
