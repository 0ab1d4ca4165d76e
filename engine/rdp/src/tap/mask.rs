//! Which pixels are painted: of a surface since the output was reset, of the picture by what came later.

use crate::tap::event::Rect;

const BITS: usize = u64::BITS as usize;

/// A bit a pixel, row by row.
pub(super) struct Mask {
    words: Vec<u64>,
    /// Words of a row.
    stride: usize,
    width: u16,
    missing: usize,
}

impl Mask {
    /// Nothing of so many pixels is painted.
    pub(super) fn new(width: u16, height: u16) -> Self {
        let stride = usize::from(width).div_ceil(BITS);
        Self {
            words: vec![0; stride * usize::from(height)],
            stride,
            width,
            missing: usize::from(width) * usize::from(height),
        }
    }

    /// Takes note of a rectangle inside; true once all is painted.
    pub(super) fn paint(&mut self, rect: Rect) -> bool {
        for (at, bits) in places(self.stride, rect) {
            if let Some(word) = self.words.get_mut(at) {
                self.missing -= (bits & !*word).count_ones() as usize;
                *word |= bits;
            }
        }
        self.missing == 0
    }

    pub(super) fn covers(&self, rect: Rect) -> bool {
        let mut places = places(self.stride, rect);
        places.all(|(at, bits)| self.words.get(at).is_some_and(|word| word & bits == bits))
    }

    /// What is painted, in rectangles of one row.
    pub(super) fn rows(&self) -> impl Iterator<Item = Rect> {
        let width = self.width;
        let rows = self.words.chunks_exact(self.stride.max(1)).enumerate();
        rows.flat_map(move |(y, words)| {
            let mut x = 0;
            std::iter::from_fn(move || {
                let start = next(words, x, true).filter(|start| *start < width)?;
                let end = next(words, start, false).unwrap_or(width).min(width);
                x = end;
                Some(Rect {
                    x: start,
                    y: y as u16,
                    width: end - start,
                    height: 1,
                })
            })
        })
    }
}

/// The first bit of a row from `x` on that is set, or is not.
fn next(words: &[u64], x: u16, set: bool) -> Option<u16> {
    let first = usize::from(x) / BITS;
    let mut mask = u64::MAX << (usize::from(x) % BITS);
    let mut words = words.iter().enumerate().skip(first);
    words.find_map(|(index, word)| {
        let bits = (if set { *word } else { !*word }) & std::mem::replace(&mut mask, u64::MAX);
        (bits != 0).then(|| (index * BITS) as u16 + bits.trailing_zeros() as u16)
    })
}

/// The words that hold a rectangle, and which of their bits do.
fn places(stride: usize, rect: Rect) -> impl Iterator<Item = (usize, u64)> {
    let (left, right) = (usize::from(rect.x), usize::from(rect.x) + usize::from(rect.width));
    let rows = usize::from(rect.y)..usize::from(rect.y) + usize::from(rect.height);
    rows.flat_map(move |y| {
        (left / BITS..right.div_ceil(BITS)).map(move |word| {
            let from = left.saturating_sub(word * BITS);
            let to = (right - word * BITS).min(BITS);
            (y * stride + word, u64::MAX << from & u64::MAX >> (BITS - to))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: u16, y: u16, width: u16, height: u16) -> Rect {
        Rect { x, y, width, height }
    }

    #[test]
    fn pixels_are_counted_once() {
        let mut mask = Mask::new(130, 3);
        assert!(!mask.covers(rect(0, 0, 1, 1)));
        assert!(!mask.paint(rect(10, 1, 100, 1)) && !mask.paint(rect(60, 1, 70, 2)));
        assert!(mask.covers(rect(10, 1, 120, 1)) && mask.covers(rect(60, 1, 70, 2)));
        for beside in [
            rect(9, 1, 2, 1),
            rect(129, 0, 1, 2),
            rect(59, 2, 2, 1),
            rect(60, 1, 1, 2),
        ] {
            assert_eq!(mask.covers(beside), beside == rect(60, 1, 1, 2), "{beside:?}");
        }
        let rows: Vec<Rect> = mask.rows().collect();
        assert_eq!(rows, [rect(10, 1, 120, 1), rect(60, 2, 70, 1)]);
        assert!(!mask.paint(rect(0, 0, 130, 1)) && !mask.paint(rect(0, 1, 10, 2)));
        assert!(mask.paint(rect(10, 2, 50, 1)));
        assert_eq!(mask.rows().count(), 3);
    }
}
