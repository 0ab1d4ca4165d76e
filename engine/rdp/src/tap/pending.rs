//! What paints and is not decoded yet. Pictures are recorded 25 times a second at most: what is painted over before that need
//! not be decoded.

use super::event::Rect;
use super::framebuffer::Framebuffer;
use super::mask::Mask;
use super::rfx::Context;
use super::surface::Codec;
use super::work::Work;

/// Most bytes that are kept encoded: what comes in 40 ms, if that is not beyond 600 MB a second.
const BYTES_MAX: usize = 24 << 20;
/// Most bitmaps and surface commands.
const PAINTS_MAX: usize = 16 << 10;
/// Rectangles of all that but the last; it may have as many again, and one of which more is known is always decoded.
const RECTS_MAX: usize = 64 << 10;
/// To see what is painted over takes a bit for each pixel of the picture: too dear where less than this part of it is painted.
const WORTHWHILE: u64 = 16;
/// Pixels of rectangles of which that is looked at: sizes on the wire are cheap, and each costs a walk over its part of those bits.
const COMPARED_MAX: u64 = 4 << 30;

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

    /// There is another one at hand. Nothing is left of one that was never kept: what it would have covered must stay.
    pub(super) fn begin(&mut self) {
        self.cut = false;
        self.rects.truncate(self.known());
    }

    /// How many rectangles belong to what was kept.
    fn known(&self) -> usize {
        self.paints.last().map_or(0, |last| last.rects.1)
    }

    /// The one at hand paints this.
    pub(super) fn add_rect(&mut self, rect: Rect) {
        self.cut |= self.rects.len() >= 2 * RECTS_MAX;
        if !self.cut {
            self.rects.push(rect);
        }
    }

    /// Keeps the one at hand, which paints what was added since the last one; false if that is nothing. One that is not
    /// `sound` would have painted more: it is never hidden.
    pub(super) fn keep(&mut self, what: What, context: Context, unit: &[u8], sound: bool) -> bool {
        let first = self.known();
        let whole = !std::mem::take(&mut self.cut) && sound;
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
        // not those of one that was never kept
        let rects = self.rects.get(..self.known()).unwrap_or_default();
        let mut hidden = vec![false; rects.len()];
        let pixels = |rect: &Rect| u64::from(rect.width) * u64::from(rect.height);
        let painted: u64 = rects.iter().map(pixels).sum();
        let (width, height) = (picture.width(), picture.height());
        if painted < u64::from(width) * u64::from(height) / WORTHWHILE {
            return hidden;
        }
        let mut mask = Mask::new(width, height);
        let mut all = false;
        let mut left = COMPARED_MAX;
        for (rect, hidden) in rects.iter().zip(&mut hidden).rev() {
            if !all {
                let Some(less) = left.checked_sub(pixels(rect)) else {
                    break;
                };
                left = less;
            }
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn only_what_was_kept_covers() {
        let picture = Framebuffer::new(64, 64).unwrap();
        let rect = |width, height| Rect {
            x: 0,
            y: 0,
            width,
            height,
        };
        let mut pending = Pending::default();
        let mut keep = |rects: &[Rect], kept: bool| {
            pending.begin();
            rects.iter().for_each(|rect| pending.add_rect(*rect));
            if kept {
                assert_eq!(
                    pending.keep(What::Bitmap, Context::default(), b"unit", true),
                    !rects.is_empty()
                );
            }
            pending.hidden(&picture)
        };
        assert_eq!(keep(&[rect(64, 32)], true), [false]);
        // a decoder panicked
        assert_eq!(keep(&[rect(64, 64)], false), [false]);
        assert_eq!(keep(&[], true), [false]);
        assert_eq!(keep(&[rect(64, 31)], true), [false, false]);
        assert_eq!(
            keep(&[rect(1, 32), rect(64, 32)], true),
            [true, true, true, false],
            "of one, too"
        );
    }

    #[test]
    fn one_with_too_many_rectangles_is_never_hidden() {
        let picture = Framebuffer::new(64, 64).unwrap();
        let small = Rect {
            x: 0,
            y: 0,
            width: 1,
            height: 1,
        };
        let whole = Rect {
            width: 64,
            height: 64,
            ..small
        };
        let mut pending = Pending::default();
        for rects in [RECTS_MAX, 2 * RECTS_MAX + 1] {
            pending.begin();
            (0..rects).for_each(|_| pending.add_rect(small));
            assert!(pending.keep(What::Bitmap, Context::default(), &[], true));
            assert!(!pending.has_room(0));
        }
        pending.begin();
        // there is no room for it, either
        pending.add_rect(whole);
        assert!(!pending.keep(What::Bitmap, Context::default(), &[], true));
        assert_eq!(pending.rects.len(), 2 * RECTS_MAX);
        let hidden = vec![true; 2 * RECTS_MAX];
        assert!(pending.hidden(&picture).len() == hidden.len());
        let seen: Vec<bool> = pending
            .paints(&hidden)
            .map(|(paint, _, hidden)| !paint.is_hidden(hidden))
            .collect();
        assert_eq!(seen, [false, true]);
        pending.clear();
        assert!(pending.is_empty() && pending.has_room(BYTES_MAX) && !pending.has_room(BYTES_MAX + 1));
    }
}
