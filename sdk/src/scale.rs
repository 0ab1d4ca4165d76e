//! Scaling down by area: each pixel is the mean of what it covers.

use crate::exporter::Frame;

/// Fixed-point bits of a weight.
const BITS: u32 = 12;

/// The source pixels that one target pixel covers along one side, and how much of each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    start: usize,
    /// Sum is `1 << BITS`.
    weights: Vec<u32>,
}

/// Scales pictures of one size to another that is not larger: each pixel is the mean of what it covers.
#[derive(Debug, Clone)]
pub struct Scaler {
    columns: Vec<Span>,
    rows: Vec<Span>,
}

impl Scaler {
    /// A scaler from one size to another; sizes are width and height, and not 0.
    #[must_use]
    pub fn new(source: (u32, u32), target: (u32, u32)) -> Self {
        Self {
            columns: spans(source.0, target.0),
            rows: spans(source.1, target.1),
        }
    }

    /// Pixels of the scaled row `y` from column `x` on, R, G, B, A, as many as `out` holds. What lies outside stays as it is.
    pub fn row(&self, frame: &Frame<'_>, y: u32, x: u32, out: &mut [u8]) {
        let Some(vertical) = self.rows.get(y as usize) else {
            return;
        };
        let columns = self.columns.get(x as usize..).unwrap_or(&[]);
        for (pixel, horizontal) in out.as_chunks_mut::<4>().0.iter_mut().zip(columns) {
            let mut sums = [0_u64; 3];
            for (row_weight, source_y) in vertical.weights.iter().zip(vertical.start..) {
                let row = frame.row(u32::try_from(source_y).unwrap_or(u32::MAX));
                let covered = row.as_chunks::<4>().0.get(horizontal.start..).unwrap_or(&[]);
                for (weight, source) in horizontal.weights.iter().zip(covered) {
                    let weight = u64::from(weight * row_weight);
                    for (sum, value) in sums.iter_mut().zip(source) {
                        *sum += weight * u64::from(*value);
                    }
                }
            }
            let round = |sum: u64| u8::try_from((sum + (1 << (2 * BITS - 1))) >> (2 * BITS)).unwrap_or(u8::MAX);
            *pixel = [round(sums[0]), round(sums[1]), round(sums[2]), 255];
        }
    }
}

fn spans(source: u32, target: u32) -> Vec<Span> {
    let (source, target) = (u64::from(source), u64::from(target.max(1)));
    let one = 1_u64 << BITS;
    (0..target)
        .map(|at| {
            // In units of 1/target of a source pixel.
            let (begin, end) = (at * source, (at + 1) * source);
            let start = begin / target;
            let last = (end - 1) / target;
            let covered = |pixel: u64| (end.min((pixel + 1) * target)) - begin.max(pixel * target);
            let mut weights: Vec<u32> = (start..=last)
                .map(|pixel| u32::try_from(covered(pixel) * one / source).unwrap_or(0))
                .collect();
            // Rounding goes to the first, so that white stays white.
            let sum: u32 = weights.iter().sum();
            if let Some(first) = weights.first_mut() {
                *first += (1 << BITS) - sum;
            }
            Span {
                start: usize::try_from(start).unwrap_or(usize::MAX),
                weights,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn weights_cover_everything_once() {
        for (source, target) in [(5120, 3840), (7, 7), (10, 3), (1000, 999), (16384, 16)] {
            let spans = spans(source, target);
            assert_eq!(spans.len(), target as usize);
            assert_eq!(spans[0].start, 0);
            let last = spans.last().unwrap();
            assert_eq!(last.start + last.weights.len(), source as usize);
            assert!(spans.iter().all(|span| span.weights.iter().sum::<u32>() == 1 << BITS));
        }
    }

    #[test]
    fn a_pixel_is_the_mean_of_what_it_covers() {
        let rgba: Vec<u8> = [[0, 0, 0, 0], [100, 200, 40, 0], [255; 4], [255; 4]].concat();
        let frame = Frame::new(0, 4, 1, 16, &rgba, &[]).unwrap();
        let mut out = [0; 8];
        Scaler::new((4, 1), (2, 1)).row(&frame, 0, 0, &mut out);
        assert_eq!(out, [50, 100, 20, 255, 255, 255, 255, 255]);
    }
}
