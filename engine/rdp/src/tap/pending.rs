//! What paints and is not decoded yet. Pictures are recorded 25 times a second at most: what is painted over before that need
//! not be decoded.

use super::event::Rect;
use super::framebuffer::Framebuffer;
use super::mask::Mask;
use super::rfx::Context;
use super::surface::Codec;
use super::work::Work;

/// Most bytes that are kept encoded: a dozen screens of 1024x768 as planar bitmaps.
const BYTES_MAX: usize = 8 << 20;
/// Most bitmaps and surface commands.
const PAINTS_MAX: usize = 16 << 10;
/// Rectangles of all that but the last; it may have as many again, and one of which more is known is always decoded.
const RECTS_MAX: usize = 64 << 10;
/// To see what is painted over takes a bit for each pixel of the picture: too dear where less than this part of it is painted.
const WORTHWHILE: u64 = 16;

/// How far to go with what paints.
#[derive(Clone, Copy)]
pub(super) enum Stage<'a> {
    /// Decode it and paint.
    Now,
    /// Only tell what it would paint, and take along what later ones refer to.
    Look,
    /// Decode it and paint, after [`Stage::Look`].
    Later {
        /// The state of RemoteFX when it came.
        context: &'a Context,
        /// Of each rectangle that it told: it is painted over later.
        hidden: &'a [bool],
    },
}

/// What is pending, in the order in which it came.
#[derive(Default)]
pub(super) struct Pending {
    bytes: Vec<u8>,
    rects: Vec<Rect>,
    paints: Vec<Paint>,
    /// The one at hand paints more than `rects` says.
    cut: bool,
}

/// One bitmap or surface command.
pub(super) struct Paint {
    pub(super) what: What,
    pub(super) context: Context,
    /// Its bytes, header included.
    unit: (usize, usize),
    rects: (usize, usize),
    /// It paints no more than its rectangles.
    whole: bool,
}

/// What it is, beside its bytes.
pub(super) enum What {
    Bitmap,
    Surface {
        codec: Option<Codec>,
        /// What its update could still ask for.
        work: Work,
    },
}

impl Pending {
    pub(super) fn is_empty(&self) -> bool {
        self.paints.is_empty()
    }

    pub(super) fn has_room(&self, length: usize) -> bool {
        self.bytes.len() + length <= BYTES_MAX && self.paints.len() < PAINTS_MAX && self.rects.len() < RECTS_MAX
    }

    /// The one at hand paints this.
    pub(super) fn add_rect(&mut self, rect: Rect) {
        self.cut |= self.rects.len() >= 2 * RECTS_MAX;
        if !self.cut {
            self.rects.push(rect);
        }
    }

    /// Keeps the one at hand, which paints what was added since the last one; false if that is nothing.
    pub(super) fn keep(&mut self, what: What, context: Context, unit: &[u8]) -> bool {
        let first = self.paints.last().map_or(0, |last| last.rects.1);
        let whole = !std::mem::take(&mut self.cut);
        if first == self.rects.len() {
            return false;
        }
        let (start, end) = (self.bytes.len(), self.bytes.len() + unit.len());
        if end > self.bytes.capacity() {
            // no more than may be needed
            let room = end.next_power_of_two().min(BYTES_MAX.max(end));
            self.bytes.reserve_exact(room - start);
        }
        self.bytes.extend_from_slice(unit);
        self.paints.push(Paint {
            what,
            context,
            unit: (start, end),
            rects: (first, self.rects.len()),
            whole,
        });
        true
    }

    /// Each with its bytes and those of `of_rects` that belong to its rectangles.
    pub(super) fn paints<'a>(
        &'a self,
        of_rects: &'a [bool],
    ) -> impl Iterator<Item = (&'a Paint, &'a [u8], &'a [bool])> {
        self.paints.iter().map(|paint| {
            let unit = self.bytes.get(paint.unit.0..paint.unit.1);
            let rects = of_rects.get(paint.rects.0..paint.rects.1);
            (paint, unit.unwrap_or_default(), rects.unwrap_or_default())
        })
    }

    /// Of each rectangle: whether those that came later cover it. All that aren't covered have to be painted for that.
    pub(super) fn hidden(&self, picture: &Framebuffer) -> Vec<bool> {
        let mut hidden = vec![false; self.rects.len()];
        let pixels = |rect: &Rect| u64::from(rect.width) * u64::from(rect.height);
        let painted: u64 = self.rects.iter().map(pixels).sum();
        let (width, height) = (picture.width(), picture.height());
        if painted < u64::from(width) * u64::from(height) / WORTHWHILE {
            return hidden;
        }
        let mut mask = Mask::new(width, height);
        let mut all = false;
        for (rect, hidden) in self.rects.iter().zip(&mut hidden).rev() {
            *hidden = all || mask.covers(*rect);
            if !*hidden {
                all = mask.paint(*rect);
            }
        }
        hidden
    }

    /// Forgets all; of its room it keeps what may soon be needed again.
    pub(super) fn clear(&mut self) {
        let Self {
            bytes,
            rects,
            paints,
            cut,
        } = self;
        *cut = false;
        let used = (bytes.len(), rects.len(), paints.len());
        bytes.clear();
        rects.clear();
        paints.clear();
        bytes.shrink_to(2 * used.0);
        rects.shrink_to(2 * used.1);
        paints.shrink_to(2 * used.2);
    }
}

impl Paint {
    /// Whether all that it paints is painted over.
    pub(super) fn is_hidden(&self, hidden: &[bool]) -> bool {
        self.whole && hidden.iter().all(|hidden| *hidden)
    }
}
