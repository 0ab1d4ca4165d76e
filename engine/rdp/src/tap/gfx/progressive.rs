//! RemoteFX progressive ([MS-RDPEGFX] 2.2.4.2 and 3.3.8.2): tiles that become better from pass to pass.
//!
//! Passes are decoded by ironrdp-graphics; the way from coefficients to pixels is gone here, in the fixed point of RemoteFX
//! (five bits behind the point, as clients do it): without these bits pixels come out up to eight levels off.

use std::collections::{BTreeMap, BTreeSet};

use ironrdp_graphics::progressive::{COEFFICIENTS_PER_COMPONENT, TileState};
use ironrdp_graphics::{dwt, dwt_extrapolate};
use ironrdp_pdu::codecs::rfx::RfxRectangle;
use ironrdp_pdu::codecs::rfx::progressive::{
    ComponentCodecQuant, ProgressiveBlock, ProgressiveCodecQuant, ProgressiveRegion, ProgressiveTile,
    decode_progressive_stream,
};

use super::surface::pixels_of;
use crate::tap::event::Rect;
use crate::tap::framebuffer::Framebuffer;
use crate::tap::guard::guarded;
use crate::tap::reader::Reader;
use crate::tap::rfx::color::rgba;
use crate::tap::work::{STEP, Work};

/// Edge of a tile.
const EDGE: usize = 64;
/// Most tiles of all surfaces: each keeps 37 KB from pass to pass, 300 MB in all.
const TILES_MAX: usize = 8192;
/// Blocks of one stream; a real one has a region or a few.
const BLOCKS_MAX: usize = 4096;
/// Tiles of one stream for each place on its surface, and some more.
const TILES_PER_PLACE: usize = 4;
/// Block that holds tiles, and how many bytes it has before their number.
const REGION: u16 = 0xCCC4;
const REGION_TILES_AT: usize = 6;
/// What a tile's pass costs, or what its pixels do: how many could be copied in that time.
const TILE: u64 = 4 * (EDGE * EDGE) as u64;
/// What a rectangle of a tile costs beside its pixels: it is kept until the tile is drawn.
const PART: u64 = 4 * STEP;
/// Tiles that one stream may turn into pixels.
const DRAWN_MAX: usize = 4 * TILES_MAX;
/// The tile adds to what its last passes have made.
const DIFFERENCE: u8 = 0x01;
/// Lowest base quantisation: none.
const QUANT_MIN: u8 = 6;
/// Quality that needs no table: all bits.
const WHOLE: u8 = 0xFF;

/// Coordinates of a tile: column and row.
type At = (u16, u16);

/// All surfaces that are painted progressively.
#[derive(Default)]
pub(super) struct Progressive {
    surfaces: BTreeMap<u16, Tiles>,
    in_frame: bool,
    /// Some surface has fresh tiles.
    any_fresh: bool,
    scratch: Scratch,
}

/// The tiles of one surface, whatever context they came in.
#[derive(Default)]
struct Tiles {
    all: BTreeMap<At, Box<TileState>>,
    /// Those that came in this frame: each of its regions may show them.
    fresh: BTreeSet<At>,
    /// They are from before the last reset of the output: the desktop may have forgotten the surface.
    old: bool,
}

/// Room for one tile.
struct Scratch {
    planes: [[i16; COEFFICIENTS_PER_COMPONENT]; 3],
    temp: [i16; COEFFICIENTS_PER_COMPONENT],
    rgba: Vec<u8>,
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            planes: [[0; COEFFICIENTS_PER_COMPONENT]; 3],
            temp: [0; COEFFICIENTS_PER_COMPONENT],
            rgba: vec![0; EDGE * EDGE * 4],
        }
    }
}

impl Progressive {
    pub(super) fn begin_frame(&mut self) {
        self.in_frame = true;
        self.forget_fresh();
    }

    pub(super) fn end_frame(&mut self) {
        self.in_frame = false;
        self.forget_fresh();
    }

    fn forget_fresh(&mut self) {
        if std::mem::take(&mut self.any_fresh) {
            self.surfaces.values_mut().for_each(|tiles| tiles.fresh.clear());
        }
    }

    pub(super) fn delete_surface(&mut self, id: u16) {
        self.surfaces.remove(&id);
    }

    /// The output was reset.
    pub(super) fn age(&mut self) {
        self.surfaces.values_mut().for_each(|tiles| tiles.old = true);
    }

    /// Forgets tiles of other, old surfaces until so many have room beside the rest; how many have it then. What refines
    /// one of these later is an error.
    fn make_room(&mut self, id: u16, wanted: usize) -> usize {
        loop {
            let others = self.surfaces.iter().filter(|(other, _)| **other != id);
            let room = TILES_MAX.saturating_sub(others.map(|(_, tiles)| tiles.all.len()).sum());
            let mut old = self.surfaces.iter();
            match old.find(|(other, tiles)| **other != id && tiles.old) {
                Some((&old, _)) if room < wanted => self.surfaces.remove(&old),
                _ => return room,
            };
        }
    }

    /// Paints a stream onto a surface and tells what has changed, also before an error.
    pub(super) fn paint(
        &mut self,
        (id, pixels): (u16, &mut Framebuffer),
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<(), String> {
        match self.stream((id, pixels), data, (work, painted)) {
            Ok(failed) => failed.map_or(Ok(()), Err),
            Err(error) => {
                // which tiles it would have changed is not known: none of them may be refined later
                self.surfaces.remove(&id);
                Err(error)
            }
        }
    }

    /// Paints a stream. What it gives back is why a tile of it could not be decoded, which is forgotten then.
    fn stream(
        &mut self,
        (id, pixels): (u16, &mut Framebuffer),
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<Option<String>, String> {
        let grid = usize::from(pixels.width()).div_ceil(EDGE) * usize::from(pixels.height()).div_ceil(EDGE);
        let coming = bounded(data, TILES_PER_PLACE * grid + EDGE)?;
        let blocks = guarded("progressive parser", || decode_progressive_stream(data))?;
        let blocks = blocks.map_err(|error| error.to_string())?;
        let kept = self.surfaces.get(&id).map_or(0, |tiles| tiles.all.len());
        let room = self.make_room(id, grid.min(kept + coming));
        let tiles = self.surfaces.entry(id).or_default();
        if !self.in_frame {
            tiles.fresh.clear();
        }
        self.any_fresh = true;
        let mut budget = Budget {
            room,
            drawn: DRAWN_MAX,
            work,
        };
        let (mut begun, mut frames) = (false, 0);
        let mut failed = None;
        for block in &blocks {
            match block {
                // clients paint no stream of which they don't understand all
                ProgressiveBlock::FrameBegin(_) if frames > 0 => return Err("second progressive frame".to_owned()),
                ProgressiveBlock::FrameBegin(_) => (begun, frames) = (true, 1),
                ProgressiveBlock::FrameEnd(_) => begun = false,
                ProgressiveBlock::Region(region) if begun => {
                    fine_enough(region)?;
                    let error = tiles.decode(region, (pixels.width(), pixels.height()), &mut budget)?;
                    failed = failed.or(error);
                    tiles.show(&region.rects, pixels, &mut self.scratch, &mut budget, painted)?;
                }
                // which must be passed over ([MS-RDPEGFX] 2.2.4.2.1.5)
                ProgressiveBlock::Region(_) => {
                    failed.get_or_insert("progressive region outside of a frame".to_owned());
                }
                // A context says whether tiles may be differences, which each of them says too.
                _ => {}
            }
        }
        Ok(failed)
    }
}

/// A client decodes no quantisation below 6: there are no bits to the right of its coefficients.
fn fine_enough(region: &ProgressiveRegion<'_>) -> Result<(), String> {
    let mut values = region
        .quant_vals
        .iter()
        .flat_map(|quant| (0..BANDS.len()).map(|band| quant.for_band(band)));
    match values.find(|value| *value < QUANT_MIN) {
        Some(value) => Err(format!("progressive quantisation of {value}")),
        None => Ok(()),
    }
}

/// Refuses a stream of more blocks or tiles than one has use for, before anything is made of them; tells how many tiles.
fn bounded(data: &[u8], tiles_max: usize) -> Result<usize, String> {
    let mut reader = Reader::new(data);
    let (mut blocks, mut tiles) = (0, 0);
    let mut block = || {
        let (kind, length) = (reader.u16()?, reader.len32()?);
        let mut body = Reader::new(reader.take(length.checked_sub(size_of::<u16>() + size_of::<u32>())?)?);
        let count = match kind {
            REGION => body.skip(REGION_TILES_AT).and_then(|()| body.len16()),
            _ => None,
        };
        Some(count.unwrap_or(0))
    };
    // where this ends early, the parser says why
    while let Some(count) = block() {
        blocks += 1;
        tiles += count;
        if blocks > BLOCKS_MAX || tiles > tiles_max {
            return Err(format!(
                "progressive stream of more than {BLOCKS_MAX} blocks or {tiles_max} tiles"
            ));
        }
    }
    Ok(tiles)
}

/// What one stream may still do.
struct Budget<'a> {
    room: usize,
    drawn: usize,
    work: &'a mut Work,
}

impl Tiles {
    /// Takes a pass of each tile of a region. One that can't be decoded is forgotten, and why is told: what would refine it
    /// later must not refine what it was before.
    fn decode(
        &mut self,
        region: &ProgressiveRegion<'_>,
        size: (u16, u16),
        budget: &mut Budget<'_>,
    ) -> Result<Option<String>, String> {
        let mut failed = None;
        for tile in &region.tiles {
            budget.work.spend(TILE)?;
            let at = (tile.x_idx(), tile.y_idx());
            let inside = |index: u16, length: u16| usize::from(index) * EDGE < usize::from(length);
            if !inside(at.0, size.0) || !inside(at.1, size.1) {
                let error = format!("progressive tile {}, {} outside of the surface", at.0, at.1);
                failed.get_or_insert(error);
                continue;
            }
            if !self.all.contains_key(&at) && self.all.len() >= budget.room {
                return Err(format!("more than {TILES_MAX} progressive tiles"));
            }
            let all = &mut self.all;
            let passed = guarded("progressive decoder", || pass(all, at, tile, region)).and_then(|passed| passed);
            match passed {
                Ok(()) => {
                    self.fresh.insert(at);
                }
                Err(error) => {
                    self.all.remove(&at);
                    self.fresh.remove(&at);
                    failed.get_or_insert(format!("progressive tile {}, {}: {error}", at.0, at.1));
                }
            }
        }
        Ok(failed)
    }

    /// Shows what the rectangles cover of the tiles of this frame.
    fn show(
        &self,
        rects: &[RfxRectangle],
        pixels: &mut Framebuffer,
        scratch: &mut Scratch,
        budget: &mut Budget<'_>,
        painted: &mut Vec<Rect>,
    ) -> Result<(), String> {
        let mut shown = Vec::new();
        for rect in rects {
            budget.work.spend(STEP)?;
            let places = |start: u16, length: u16| {
                let end = usize::from(start) + usize::from(length);
                (start / EDGE as u16, end.div_ceil(EDGE))
            };
            let ((left, right), (top, bottom)) = (places(rect.x, rect.width), places(rect.y, rect.height));
            let columns = usize::from(pixels.width()).div_ceil(EDGE).min(right);
            for column in left..columns as u16 {
                budget.work.spend(STEP)?;
                for at in self.fresh.range((column, top)..(column, bottom as u16)) {
                    budget.work.spend(PART)?;
                    shown.extend(covered(*at, rect, pixels).map(|rect| (*at, rect)));
                }
            }
        }
        // each tile is drawn once
        shown.sort_by_key(|(at, _)| *at);
        for parts in shown.chunk_by(|(one, _), (other, _)| one == other) {
            let Some((&(at, _), tile)) = parts.first().and_then(|part| Some((part, self.all.get(&part.0)?))) else {
                continue;
            };
            budget.drawn = budget.drawn.checked_sub(1).ok_or("too much in a progressive stream")?;
            budget.work.spend(TILE)?;
            guarded("progressive decoder", || scratch.draw(tile))??;
            let (left, top) = corner(at);
            for (_, rect) in parts {
                budget.work.spend(pixels_of(*rect))?;
                pixels.paint(*rect, |row, out| {
                    let start = ((usize::from(rect.y) - top + row) * EDGE + usize::from(rect.x) - left) * 4;
                    if let Some(line) = scratch.rgba.get(start..start + out.len()) {
                        out.copy_from_slice(line);
                    }
                });
                painted.push(*rect);
            }
        }
        Ok(())
    }
}

fn corner(at: At) -> (usize, usize) {
    (usize::from(at.0) * EDGE, usize::from(at.1) * EDGE)
}

/// What a rectangle covers of a tile, inside of the surface.
fn covered(at: At, rect: &RfxRectangle, pixels: &Framebuffer) -> Option<Rect> {
    let (left, top) = corner(at);
    let span = |at: usize, start: u16, length: u16| {
        let from = usize::from(start).max(at);
        let to = (usize::from(start) + usize::from(length)).min(at + EDGE);
        (from < to).then(|| (from, to - from))
    };
    let (x, width) = span(left, rect.x, rect.width)?;
    let (y, height) = span(top, rect.y, rect.height)?;
    pixels.clip(x, y, width, height)
}

/// Takes one pass of a tile.
fn pass(
    all: &mut BTreeMap<At, Box<TileState>>,
    at: At,
    tile: &ProgressiveTile<'_>,
    region: &ProgressiveRegion<'_>,
) -> Result<(), String> {
    // The region says so; the same bit of a context says something else ([MS-RDPEGFX] 2.2.4.2.1.4 and 2.2.4.2.1.5).
    let extrapolate = region.uses_reduce_extrapolate();
    let (quants, data, quality, flags) = match tile {
        ProgressiveTile::Simple(tile) => (
            [tile.quant_idx_y, tile.quant_idx_cb, tile.quant_idx_cr],
            [tile.y_data, tile.cb_data, tile.cr_data],
            WHOLE,
            tile.flags,
        ),
        ProgressiveTile::First(tile) => (
            [tile.quant_idx_y, tile.quant_idx_cb, tile.quant_idx_cr],
            [tile.y_data, tile.cb_data, tile.cr_data],
            tile.quality,
            tile.flags,
        ),
        ProgressiveTile::Upgrade(tile) => {
            let state = all.get_mut(&at).ok_or("refines a tile that never came")?;
            let base = base_quants([tile.quant_idx_y, tile.quant_idx_cb, tile.quant_idx_cr], region)?;
            same_layout(state, base, extrapolate)?;
            let srl = [tile.y_srl_data, tile.cb_srl_data, tile.cr_srl_data];
            let raw = [tile.y_raw_data, tile.cb_raw_data, tile.cr_raw_data];
            let bits = bit_positions(tile.quality, region)?;
            return state
                .decode_upgrade(srl, raw, bits, tile.quality)
                .map_err(|error| error.to_string());
        }
    };
    let base = base_quants(quants, region)?;
    let bits = bit_positions(quality, region)?;
    let mut state = Box::new(TileState::new());
    state
        .decode_first(data, base, bits, quants, quality, extrapolate)
        .map_err(|error| error.to_string())?;
    if flags & DIFFERENCE != 0 {
        let before = all.get(&at).ok_or("difference to a tile that never came")?;
        same_layout(before, base, extrapolate)?;
        state.is_difference = true;
        for (plane, before) in state.coefficients.iter_mut().zip(&before.coefficients) {
            for (value, before) in plane.iter_mut().zip(before) {
                *value = value.saturating_add(*before);
            }
        }
    }
    all.insert(at, state);
    Ok(())
}

/// The quantisations of the three components.
fn base_quants<'a>(quants: [u8; 3], region: &'a ProgressiveRegion<'_>) -> Result<[&'a ComponentCodecQuant; 3], String> {
    let quant = |index: u8| {
        let quant = region.quant_vals.get(usize::from(index));
        quant.ok_or_else(|| format!("no quantisation {index}"))
    };
    Ok([quant(quants[0])?, quant(quants[1])?, quant(quants[2])?])
}

/// Coefficients of another quantisation or another layout of bands can't be added to these: clients do so in ways of their own.
fn same_layout(before: &TileState, base: [&ComponentCodecQuant; 3], extrapolate: bool) -> Result<(), String> {
    let mut quants = before.base_quant.iter().zip(base);
    if before.use_reduce_extrapolate != extrapolate || quants.any(|(before, now)| before != now) {
        return Err("its quantisation or its bands are others than before".to_owned());
    }
    Ok(())
}

/// The bits that are still missing, by component.
fn bit_positions(quality: u8, region: &ProgressiveRegion<'_>) -> Result<[ComponentCodecQuant; 3], String> {
    if quality == WHOLE {
        return Ok([ComponentCodecQuant::LOSSLESS; 3]);
    }
    let quants: Option<&ProgressiveCodecQuant> = region.quant_prog_vals.get(usize::from(quality));
    let quants = quants.ok_or_else(|| format!("no progressive quantisation {quality}"))?;
    Ok([quants.y_quant, quants.cb_quant, quants.cr_quant])
}

/// Bands of a plane in their order: first coefficient and how many, with and without extrapolation.
const BANDS_EXTRAPOLATED: [(usize, usize); 10] = [
    (0, 1023),
    (1023, 1023),
    (2046, 961),
    (3007, 272),
    (3279, 272),
    (3551, 256),
    (3807, 72),
    (3879, 72),
    (3951, 64),
    (4015, 81),
];
const BANDS: [(usize, usize); 10] = [
    (0, 1024),
    (1024, 1024),
    (2048, 1024),
    (3072, 256),
    (3328, 256),
    (3584, 256),
    (3840, 64),
    (3904, 64),
    (3968, 64),
    (4032, 64),
];

impl Scratch {
    /// Turns a tile into pixels.
    fn draw(&mut self, tile: &TileState) -> Result<(), String> {
        let bands = if tile.use_reduce_extrapolate {
            BANDS_EXTRAPOLATED
        } else {
            BANDS
        };
        let components = tile.coefficients.iter().zip(&tile.base_quant).zip(&mut self.planes);
        for ((coefficients, quant), plane) in components {
            for (band, (start, count)) in bands.into_iter().enumerate() {
                // a quantisation of 6 is none; five bits stand behind the point
                let shift = u32::from(quant.for_band(band)).saturating_sub(1);
                let values = coefficients.iter().zip(plane.iter_mut()).skip(start).take(count);
                for (value, out) in values {
                    let shifted = (i32::from(*value) << shift).clamp(i16::MIN.into(), i16::MAX.into());
                    *out = shifted as i16;
                }
            }
            if tile.use_reduce_extrapolate {
                dwt_extrapolate::decode(plane, &mut self.temp);
            } else {
                dwt::decode(plane, &mut self.temp);
            }
        }
        let [y, cb, cr] = &self.planes;
        rgba(y, cb, cr, &mut self.rgba);
        Ok(())
    }
}
