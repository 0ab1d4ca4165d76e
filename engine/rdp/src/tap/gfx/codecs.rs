//! Bits for surfaces: what the codecs of the graphics pipeline paint.

use ironrdp_graphics::clearcodec::ClearCodecDecoder;

use super::progressive::Progressive;
use super::surface::{Edges, Surface};
use crate::tap::event::{Decoded, Rect};
use crate::tap::framebuffer::Framebuffer;
use crate::tap::guard::guarded;
use crate::tap::planar::{PlanarDecoder, Rows};
use crate::tap::reader::Reader;
use crate::tap::rfx::RemoteFx;
use crate::wire::egfx::codec;

/// A glyph of ClearCodec may be kept under a number.
const CLEAR_GLYPH_INDEX: u8 = 0x01;
/// It is one that was kept.
const CLEAR_GLYPH_HIT: u8 = 0x02;

/// Decoders and what they keep.
#[derive(Default)]
pub(super) struct Codecs {
    remote_fx: RemoteFx,
    planar: PlanarDecoder,
    /// Some megabytes once it is used.
    clear: Option<Box<ClearCodecDecoder>>,
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

    /// Paints a rectangle of a surface and tells what has changed, also before an error.
    pub(super) fn rectangle(
        &mut self,
        surface: &mut Surface,
        kind: u16,
        edges: Edges,
        data: &[u8],
        painted: &mut Vec<Rect>,
    ) -> Result<(), String> {
        let pixels = &mut surface.pixels;
        let rect = edges.inside(pixels)?;
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
                self.remote_fx.paint(pixels, at, data, &mut |rect| painted.push(rect))?;
            }
            codec::CLEAR => {
                self.decoded.clear += 1;
                self.clear(pixels, rect, data)?;
                painted.push(rect);
            }
            // The output shows no transparency; only the colours that come otherwise matter.
            codec::ALPHA => {}
            codec::AVC420 | codec::AVC444 | codec::AVC444_V2 => return Err("no decoder for H.264".to_owned()),
            other => return Err(format!("no decoder for codec {other:#x}")),
        }
        Ok(())
    }

    fn clear(&mut self, surface: &mut Framebuffer, rect: Rect, data: &[u8]) -> Result<(), String> {
        let clear = self.clear.get_or_insert_with(|| Box::new(ClearCodecDecoder::new()));
        let bgra = guarded("ClearCodec", || clear.decode(data, rect.width, rect.height))?
            .map_err(|error| error.to_string())?;
        let pixels = bgra.as_chunks::<4>().0;
        let width = usize::from(rect.width);
        if pixels.len() < width * usize::from(rect.height) {
            return Err("ClearCodec gave too few pixels".to_owned());
        }
        let covered = covers_all(data);
        surface.paint(rect, |row, out| {
            let line = &pixels[row * width..];
            for (out, [blue, green, red, alpha]) in out.as_chunks_mut::<4>().0.iter_mut().zip(line) {
                // no layer has painted where alpha is 0: what was there stays
                if covered || *alpha != 0 {
                    *out = [*red, *green, *blue, 255];
                }
            }
        });
        let flags = data.first().copied().unwrap_or_default();
        let is_kept = flags & (CLEAR_GLYPH_INDEX | CLEAR_GLYPH_HIT) == CLEAR_GLYPH_INDEX;
        if is_kept && !covered && pixels.iter().any(|[_, _, _, alpha]| *alpha == 0) {
            // the decoder has kept what was painted, a client what was shown
            return Err("glyph that isn't painted whole".to_owned());
        }
        Ok(())
    }

    /// Paints a progressive stream onto a surface.
    pub(super) fn progressive(
        &mut self,
        (id, surface): (u16, &mut Surface),
        data: &[u8],
        painted: &mut Vec<Rect>,
    ) -> Result<(), String> {
        self.decoded.progressive += 1;
        self.progressive.paint((id, &mut surface.pixels), data, painted)
    }
}

/// Whether a ClearCodec stream ([MS-RDPEGFX] 2.2.4.1) paints every pixel: by its residual layer, or as a glyph that was kept.
fn covers_all(data: &[u8]) -> bool {
    let mut reader = Reader::new(data);
    let mut residual_bytes = || {
        let flags = reader.u8()?;
        // a sequence number, and the glyph's number where there is one
        reader.skip(if flags & CLEAR_GLYPH_INDEX == 0 { 1 } else { 3 })?;
        if flags & CLEAR_GLYPH_HIT != 0 {
            return Some(1);
        }
        reader.u32()
    };
    residual_bytes().is_some_and(|bytes| bytes > 0)
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
