//! RemoteFX messages in surface commands and the graphics pipeline, [MS-RDPRFX], composed tile by tile.

pub(super) mod color;
mod cover;
mod entropy;
mod tile;
mod wavelet;

use std::error::Error;

use ironrdp_graphics::rfx::{Frame, MessageDecoder, TILE_SIZE};
use ironrdp_pdu::codecs::rfx::RfxRectangle;

use super::event::Rect;
use super::framebuffer::Framebuffer;
use super::guard::guarded;
use super::pending::Stage;
use super::work::{STEP, Work};
use cover::{Cover, Part};
use tile::TileDecoder;

const EDGE: usize = TILE_SIZE as usize;
/// How many tiles could be copied in the time that decoding one takes and making colours of it, beside its bytes: of these
/// there are only as many as have come.
const DECODING: u64 = 8;
/// What it costs to see whether a rectangle covers anything of a tile; that it does is a step.
const LOOK: u64 = 8;
/// What each part of a tile costs beside its pixels: it is kept until it is shown.
const PART: u64 = 4 * STEP;
/// Pixels of a tile.
const TILE_PIXELS: usize = EDGE * EDGE;

/// What a message refers to of those before it.
pub(super) type Context = MessageDecoder;

/// The codec's state from message to message.
#[derive(Default)]
pub(super) struct RemoteFx {
    context: Context,
    tiles: Tiles,
}

/// Paints tiles. All of it is scratch.
#[derive(Default)]
struct Tiles {
    decoder: TileDecoder,
    /// What of a tile is shown.
    cover: Cover,
    parts: Vec<Part>,
    rects: Vec<Rect>,
}

impl RemoteFx {
    /// Whether bytes begin like a RemoteFX message. Desktops use the codec although its id was taken from the
    /// client's list; then nothing else says what the bytes are.
    pub(super) fn is_message(data: &[u8]) -> bool {
        matches!(data, [0xC0..=0xC7, 0xCC, ..])
    }

    /// What the next message refers to.
    pub(super) fn context(&self) -> Context {
        self.context.clone()
    }

    /// Paints a message with its origin at `left`, `top` and tells what it has painted, also before an error; what there is no
    /// work for any more is one.
    pub(super) fn paint(
        &mut self,
        screen: &mut Framebuffer,
        at: (u16, u16),
        data: &[u8],
        (work, damage): (&mut Work, &mut impl FnMut(Rect)),
    ) -> Result<(), String> {
        self.go(screen, at, data, Stage::Now, (work, damage))
    }

    /// As [`RemoteFx::paint`], or a part of that. Each stage takes the same from `work` and tells the same rectangles, but
    /// [`Stage::Look`] also those of tiles that can't be decoded.
    pub(super) fn go(
        &mut self,
        screen: &mut Framebuffer,
        at: (u16, u16),
        data: &[u8],
        stage: Stage<'_>,
        (work, damage): (&mut Work, &mut impl FnMut(Rect)),
    ) -> Result<(), String> {
        let mut then = match stage {
            Stage::Later { context, .. } => Some(context.clone()),
            Stage::Now | Stage::Look => None,
        };
        let context = then.as_mut().unwrap_or(&mut self.context);
        let message = guarded("RemoteFX parser", || context.parse(data))?.map_err(|error| chain(&error))?;
        let mut result = Ok(());
        let mut told = 0;
        for frame in &message.frames {
            let painted = self
                .tiles
                .paint_frame(screen, at, frame, (stage, &mut told), (&mut *work, &mut *damage));
            result = result.and(painted);
        }
        result
    }
}

impl Tiles {
    /// Paints each tile where any rectangle covers it, and that once.
    fn paint_frame(
        &mut self,
        screen: &mut Framebuffer,
        (left, top): (u16, u16),
        frame: &Frame<'_>,
        (stage, told): (Stage<'_>, &mut usize),
        (work, damage): (&mut Work, &mut impl FnMut(Rect)),
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
        let set = &frame.tile_set;
        let mut result = Ok(());
        for tile in &set.tiles {
            work.spend(STEP)?;
            let (x, y) = (usize::from(tile.x) * EDGE, usize::from(tile.y) * EDGE);
            let at = (usize::from(left) + x, usize::from(top) + y);
            let Some(shown) = screen.clip(at.0, at.1, EDGE, EDGE) else {
                continue;
            };
            work.spend(self.find_parts((x, y), (shown.width.into(), shown.height.into()), rectangles))?;
            if self.parts.is_empty() {
                continue;
            }
            let pixels: usize = self.parts.iter().map(|(_, _, width, height)| width * height).sum();
            work.spend(DECODING * TILE_PIXELS as u64 + PART * self.parts.len() as u64 + pixels as u64)?;
            let parts = self.parts.iter();
            let rects =
                parts.filter_map(|&(column, row, width, height)| screen.clip(at.0 + column, at.1 + row, width, height));
            self.rects.clear();
            self.rects.extend(rects);
            let first = std::mem::replace(told, *told + self.rects.len());
            match stage {
                Stage::Look => {
                    self.rects.iter().for_each(|rect| damage(*rect));
                    continue;
                }
                Stage::Later { hidden, .. } => {
                    let hidden = hidden.get(first..*told).unwrap_or_default();
                    if !hidden.is_empty() && hidden.iter().all(|hidden| *hidden) {
                        continue;
                    }
                }
                Stage::Now => {}
            }
            if let Err(error) = self.decoder.decode(tile, &set.quants, set.entropy_algorithm) {
                result = Err(format!("tile {}, {}: {error}", tile.x, tile.y));
                continue;
            }
            for &rect in &self.rects {
                let (column, row) = (usize::from(rect.x) - at.0, usize::from(rect.y) - at.1);
                screen.paint(rect, |line, out| self.decoder.pixels(row + line, column, out));
                damage(rect);
            }
        }
        result
    }

    /// Finds what rectangles cover of the tile at `x`, `y`, of which `width` by `height` are shown; tells what that has cost.
    fn find_parts(
        &mut self,
        (x, y): (usize, usize),
        (width, height): (usize, usize),
        rectangles: &[RfxRectangle],
    ) -> u64 {
        self.cover.clear();
        let mut cost = 0;
        for rectangle in rectangles {
            cost += LOOK;
            let Some(part) = overlap((x, y), (width, height), rectangle) else {
                continue;
            };
            cost += STEP;
            if part == (0, 0, width, height) {
                self.parts.clear();
                self.parts.push(part);
                return cost;
            }
            self.cover.add(part);
            if self.cover.has_all(width, height) {
                break;
            }
        }
        self.cover.parts(&mut self.parts);
        cost
    }
}

/// What a rectangle covers of the shown part of the tile at `x`, `y`.
fn overlap((x, y): (usize, usize), shown: (usize, usize), rectangle: &RfxRectangle) -> Option<Part> {
    let span = |at: usize, shown: usize, start: u16, length: u16| {
        let from = usize::from(start).max(at);
        let to = (usize::from(start) + usize::from(length)).min(at + shown);
        (from < to).then(|| (from - at, to - from))
    };
    let (column, width) = span(x, shown.0, rectangle.x, rectangle.width)?;
    let (row, height) = span(y, shown.1, rectangle.y, rectangle.height)?;
    Some((column, row, width, height))
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
