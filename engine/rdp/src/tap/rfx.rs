//! RemoteFX messages in surface commands and the graphics pipeline, [MS-RDPRFX], composed tile by tile.

use std::error::Error;

use ironrdp_graphics::rfx::{Frame, MessageDecoder, TILE_SIZE, TileDecoder};
use ironrdp_pdu::codecs::rfx::{RfxRectangle, Tile};

use super::event::Rect;
use super::framebuffer::Framebuffer;
use super::guard::guarded;

const EDGE: usize = TILE_SIZE as usize;
/// Rectangles times tiles in one frame: what a real desktop sends stays a hundred times below.
const PAIRS_MAX: usize = 4 << 20;
/// How many tiles could be copied in the time that decoding one takes.
const DECODING: u64 = 4;
/// Pixels of a tile.
const TILE_PIXELS: u64 = (EDGE * EDGE) as u64;

/// The codec's state from message to message.
#[derive(Default)]
pub(super) struct RemoteFx {
    messages: MessageDecoder,
    tiles: TileDecoder,
    /// Scratch: what of a tile is shown, and where that starts in the tile's bytes.
    pieces: Vec<(Rect, usize)>,
    /// Pixels that may still be painted, where that is bounded; a message that wants more is an error and leaves 0.
    pub(super) pixels_left: Option<u64>,
}

impl RemoteFx {
    /// Whether bytes begin like a RemoteFX message. Desktops use the codec although its id was taken from the
    /// client's list; then nothing else says what the bytes are.
    pub(super) fn is_message(data: &[u8]) -> bool {
        matches!(data, [0xC0..=0xC7, 0xCC, ..])
    }

    /// Paints a message with its origin at `left`, `top` and tells what it has painted, also before an error.
    pub(super) fn paint(
        &mut self,
        screen: &mut Framebuffer,
        (left, top): (u16, u16),
        data: &[u8],
        damage: &mut impl FnMut(Rect),
    ) -> Result<(), String> {
        let messages = &mut self.messages;
        let message = guarded("RemoteFX parser", || messages.parse(data))?.map_err(|error| chain(&error))?;
        let mut result = Ok(());
        for frame in &message.frames {
            result = result.and(self.paint_frame(screen, (left, top), frame, damage));
        }
        result
    }

    fn paint_frame(
        &mut self,
        screen: &mut Framebuffer,
        (left, top): (u16, u16),
        frame: &Frame<'_>,
        damage: &mut impl FnMut(Rect),
    ) -> Result<(), String> {
        // No rectangle at all means the whole frame.
        let whole = [RfxRectangle {
            x: 0,
            y: 0,
            width: u16::MAX,
            height: u16::MAX,
        }];
        let rectangles = if frame.rectangles.is_empty() {
            &whole[..]
        } else {
            &frame.rectangles
        };
        let tiles = &frame.tile_set.tiles;
        let grid = usize::from(screen.width()).div_ceil(EDGE) * usize::from(screen.height()).div_ceil(EDGE);
        if tiles.len() > 4 * grid + 64 || tiles.len() * rectangles.len() > PAIRS_MAX {
            return Err(format!(
                "{} tiles and {} rectangles in a frame",
                tiles.len(),
                rectangles.len()
            ));
        }
        let mut result = Ok(());
        for tile in tiles {
            let x = usize::from(tile.x) * EDGE;
            let y = usize::from(tile.y) * EDGE;
            self.pieces.clear();
            self.pieces.extend(rectangles.iter().filter_map(|rectangle| {
                let (dx, dy, width, height) = overlap(x, y, rectangle)?;
                let at = (usize::from(left) + x + dx, usize::from(top) + y + dy);
                let rect = screen.clip(at.0, at.1, width, height)?;
                Some((rect, (dy * EDGE + dx) * 4))
            }));
            if self.pieces.is_empty() {
                continue;
            }
            if let Some(left) = &mut self.pixels_left {
                let cost = (DECODING + self.pieces.len() as u64) * TILE_PIXELS;
                let rest = left.checked_sub(cost);
                *left = rest.unwrap_or(0);
                if rest.is_none() {
                    return Err("more tiles than a message may have".to_owned());
                }
            }
            let pixels = match decode(&mut self.tiles, tile, frame) {
                Ok(pixels) => pixels,
                Err(error) => {
                    result = Err(format!("tile {}, {}: {error}", tile.x, tile.y));
                    continue;
                }
            };
            for &(rect, offset) in &self.pieces {
                screen.paint(rect, |row, out| {
                    let start = offset + row * EDGE * 4;
                    if let Some(line) = pixels.get(start..start + out.len()) {
                        out.copy_from_slice(line);
                    }
                });
                damage(rect);
            }
        }
        result
    }
}

fn decode<'a>(decoder: &'a mut TileDecoder, tile: &Tile<'_>, frame: &Frame<'_>) -> Result<&'a [u8], String> {
    let set = &frame.tile_set;
    guarded("RemoteFX decoder", || {
        decoder.decode(tile, &set.quants, set.entropy_algorithm)
    })?
    .map_err(|error| chain(&error))
}

/// The part of the tile at `x`, `y` that a rectangle covers: offset in the tile and size.
fn overlap(x: usize, y: usize, rectangle: &RfxRectangle) -> Option<(usize, usize, usize, usize)> {
    let span = |at: usize, start: u16, length: u16| {
        let from = usize::from(start).max(at);
        let to = (usize::from(start) + usize::from(length)).min(at + EDGE);
        (from < to).then(|| (from - at, to - from))
    };
    let (dx, width) = span(x, rectangle.x, rectangle.width)?;
    let (dy, height) = span(y, rectangle.y, rectangle.height)?;
    Some((dx, dy, width, height))
}

/// An error and its causes, in one line.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
