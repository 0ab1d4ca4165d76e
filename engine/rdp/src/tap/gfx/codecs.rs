//! Bits for surfaces: what the codecs of the graphics pipeline paint.

use std::collections::BTreeMap;

use ironrdp_graphics::clearcodec::ClearCodecDecoder;
use ironrdp_graphics::progressive::ProgressiveDecoder;

use super::surface::{Edges, Surface};
use crate::tap::event::{Decoded, Rect};
use crate::tap::framebuffer::Framebuffer;
use crate::tap::guard::guarded;
use crate::tap::planar::{PlanarDecoder, Rows};
use crate::tap::reader::Reader;
use crate::tap::rfx::RemoteFx;
use crate::wire::egfx::codec;

/// Edge of a tile.
const TILE: usize = 64;
/// Most tiles of surfaces that are painted progressively: each keeps 61 KB from pass to pass, 500 MB in all.
const PROGRESSIVE_TILES_MAX: usize = 8192;
/// A glyph of ClearCodec may be kept under a number.
const CLEAR_GLYPH_INDEX: u8 = 0x01;
/// It is one that was kept.
const CLEAR_GLYPH_HIT: u8 = 0x02;

/// Blocks of a progressive stream ([MS-RDPEGFX] 2.2.4.2).
mod block {
    pub(super) const FRAME_BEGIN: u16 = 0xCCC1;
    pub(super) const CONTEXT: u16 = 0xCCC3;
    pub(super) const REGION: u16 = 0xCCC4;
}
/// What ends a frame: nothing but its header.
const FRAME_END: [u8; 6] = [0xC2, 0xCC, 6, 0, 0, 0];

/// Decoders and what they keep.
pub(super) struct Codecs {
    remote_fx: RemoteFx,
    planar: PlanarDecoder,
    /// Some megabytes once it is used.
    clear: Option<Box<ClearCodecDecoder>>,
    progressive: ProgressiveDecoder,
    /// Tiles of each surface that was painted progressively, until it is deleted.
    grids: BTreeMap<u16, usize>,
    in_frame: bool,
    pub(super) decoded: Decoded,
}

impl Default for Codecs {
    fn default() -> Self {
        Self {
            remote_fx: RemoteFx::default(),
            planar: PlanarDecoder::default(),
            clear: None,
            progressive: ProgressiveDecoder::new(),
            grids: BTreeMap::new(),
            in_frame: false,
            decoded: Decoded::default(),
        }
    }
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
        self.in_frame = true;
        self.progressive.begin_frame();
    }

    pub(super) fn end_frame(&mut self) {
        self.in_frame = false;
        self.progressive.end_frame();
    }

    pub(super) fn delete_surface(&mut self, id: u16) {
        self.grids.remove(&id);
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

    /// Paints a progressive stream onto a surface, region by region: what one region unpacks to is bounded by the surface,
    /// what a stream of many may unpack to by nothing.
    pub(super) fn progressive(
        &mut self,
        (id, surface): (u16, &mut Surface),
        is_alive: impl Fn(u16) -> bool,
        data: &[u8],
        painted: &mut Vec<Rect>,
    ) -> Result<(), String> {
        let pixels = &mut surface.pixels;
        let grid = usize::from(pixels.width()).div_ceil(TILE) * usize::from(pixels.height()).div_ceil(TILE);
        self.make_room(id, grid, is_alive)?;
        self.decoded.progressive += 1;
        let regions = regions(data)?;
        let alone = !self.in_frame;
        if alone {
            self.progressive.begin_frame();
        }
        let mut result = Ok(());
        for region in regions {
            let progressive = &mut self.progressive;
            let (width, height) = (pixels.width(), pixels.height());
            let tiles = guarded("progressive decoder", || {
                progressive.decode_bitmap(id, 0, width, height, &region)
            });
            let tiles = match tiles {
                Ok(Ok(tiles)) => tiles,
                Ok(Err(error)) => {
                    result = Err(error.to_string());
                    break;
                }
                Err(error) => {
                    result = Err(error);
                    break;
                }
            };
            for tile in tiles {
                let (left, top) = (usize::from(tile.x_idx) * TILE, usize::from(tile.y_idx) * TILE);
                for edges in &tile.update_rectangles {
                    let (x, y) = (usize::from(edges.left), usize::from(edges.top));
                    let size = (
                        edges.right.saturating_sub(edges.left),
                        edges.bottom.saturating_sub(edges.top),
                    );
                    let Some(rect) = pixels.clip(x, y, size.0.into(), size.1.into()) else {
                        continue;
                    };
                    pixels.paint(rect, |row, out| {
                        let start = ((y - top + row) * TILE + (x - left)) * 4;
                        if let Some(line) = tile.pixels.get(start..start + out.len()) {
                            out.copy_from_slice(line);
                        }
                    });
                    painted.push(rect);
                }
            }
        }
        if alone {
            self.progressive.end_frame();
        }
        result
    }

    /// Tiles that have outlived their surface go first.
    fn make_room(&mut self, id: u16, grid: usize, is_alive: impl Fn(u16) -> bool) -> Result<(), String> {
        let room = |grids: &BTreeMap<u16, usize>| {
            let others = grids.iter().filter(|(other, _)| **other != id).map(|(_, tiles)| tiles);
            others.sum::<usize>() + grid <= PROGRESSIVE_TILES_MAX
        };
        if !room(&self.grids) {
            let gone: Vec<u16> = self
                .grids
                .keys()
                .copied()
                .filter(|other| *other != id && !is_alive(*other))
                .collect();
            gone.into_iter().for_each(|other| self.delete_surface(other));
        }
        if !room(&self.grids) {
            return Err(format!("more than {PROGRESSIVE_TILES_MAX} progressive tiles"));
        }
        self.grids.insert(id, grid);
        Ok(())
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

/// Takes a progressive stream apart: one stream a region. A stream without any still tells of its context.
fn regions(data: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let mut before = Vec::new();
    let mut streams = Vec::new();
    let mut rest = data;
    let mut begun = false;
    while rest.len() >= FRAME_END.len() {
        let (kind, length) = match rest {
            [a, b, c, d, e, f, ..] => (
                u16::from_le_bytes([*a, *b]),
                u32::from_le_bytes([*c, *d, *e, *f]) as usize,
            ),
            _ => break,
        };
        if length < FRAME_END.len() {
            return Err(format!("progressive block of {length} bytes"));
        }
        let (whole, following) = rest.split_at_checked(length).ok_or("progressive block ends early")?;
        match kind {
            block::REGION if begun => streams.push([&before, whole, &FRAME_END].concat()),
            block::REGION => return Err("progressive region outside of a frame".to_owned()),
            block::CONTEXT => before.extend_from_slice(whole),
            block::FRAME_BEGIN if !begun => {
                before.extend_from_slice(whole);
                begun = true;
            }
            _ => {}
        }
        rest = following;
    }
    if !rest.is_empty() {
        return Err("progressive stream ends within a block".to_owned());
    }
    if streams.is_empty() && !before.is_empty() {
        streams.push(before);
    }
    Ok(streams)
}
