//! R, G, B, A to planar Y, Cb, Cr: BT.709 matrix, limited range, one chroma sample a 2x2 block (its mean).
//!
//! Four pixels of different colours share one chroma sample, so none gets its own colour back. Where that is so, each pixel's luma
//! is chosen for what comes out in R, G, B after decoding rather than by the definition: coloured text keeps its edges, and is
//! about 2 dB nearer to the original.

use deskreel_sdk::video::{Colors, Planes, Sampling};

/// Fixed-point bits of the coefficients.
const BITS: i32 = 16;

/// BT.709 luma weights scaled to limited range (219/255).
const LUMA: [i32; 3] = [11966, 40254, 4064];
/// Cb weights scaled to limited range (224/255).
const CB: [i32; 3] = [-6596, -22188, 28784];
/// Cr weights scaled to limited range (224/255).
const CR: [i32; 3] = [28784, -26145, -2639];

/// What luma adds to R, G and B on decoding (255/219), and what Cb and Cr add.
const FROM_LUMA: i32 = 76_309;
const FROM_CB: [i32; 3] = [0, -13_975, 138_438];
const FROM_CR: [i32; 3] = [117_489, -34_925, 0];

/// What black is in limited range.
const BLACK: u8 = 16;
/// Chroma of grey.
const NEUTRAL: u8 = 128;

/// Blocks that are remembered, a power of two.
const CACHE_BLOCKS: usize = 4096;
/// Blocks whose colours differ less than this in each channel are converted by the definition: nobody sees the difference.
const FIT_FROM: i32 = 24;

/// Remembers how blocks of different colours were encoded: text has few such blocks, each of them many times.
#[derive(Debug)]
struct Cache {
    blocks: Vec<([u32; 4], Fit)>,
}

impl Cache {
    fn new() -> Self {
        let nothing = Fit {
            chroma: [NEUTRAL; 2],
            lumas: [BLACK; 4],
            error: 0,
        };
        // The key stands for a black block, for which this is right.
        Self {
            blocks: vec![([0; 4], nothing); CACHE_BLOCKS],
        }
    }

    fn get(&mut self, key: [u32; 4], fit: impl FnOnce() -> Fit) -> Fit {
        let mixed = key.iter().fold(0_u32, |mixed, pixel| {
            (mixed.rotate_left(7) ^ pixel).wrapping_mul(0x9e37_79b1)
        });
        let place = (mixed >> 16) as usize % CACHE_BLOCKS;
        let (known, remembered) = &mut self.blocks[place];
        if *known != key {
            *known = key;
            *remembered = fit();
        }
        *remembered
    }
}

/// The colours of the video.
#[derive(Debug)]
pub struct Yuv420(Cache);

impl Yuv420 {
    pub(crate) fn new() -> Self {
        Self(Cache::new())
    }
}

impl Colors for Yuv420 {
    const SAMPLING: Sampling = Sampling::Half;
    const BLACK: [u8; 3] = [BLACK, NEUTRAL, NEUTRAL];

    fn convert(&mut self, rows: &[u8], width: usize, (x, top): (usize, usize), planes: &mut Planes) {
        let [stride, half, _] = planes.strides();
        let [lumas, cb, cr] = planes.planes_mut();
        for (pair, y) in rows.chunks_exact(width * 8).zip((top..).step_by(2)) {
            let (above, below) = pair.split_at(width * 4);
            let (first, second) = lumas[y * stride..(y + 2) * stride].split_at_mut(stride);
            let at = y / 2 * half + x / 2;
            convert(
                &mut self.0,
                [above, below],
                [&mut first[x..x + width], &mut second[x..x + width]],
                &mut cb[at..at + width / 2],
                &mut cr[at..at + width / 2],
            );
        }
    }
}

/// Converts two rows of the same even number of pixels.
///
/// `rows` are R, G, B, A; `luma` are their two rows of Y; `cb` and `cr` are half as long. What does not fit the shortest is left out.
fn convert(cache: &mut Cache, rows: [&[u8]; 2], luma: [&mut [u8]; 2], cb: &mut [u8], cr: &mut [u8]) {
    let [top, bottom] = rows;
    let [luma_top, luma_bottom] = luma;
    luma_row(top, luma_top);
    luma_row(bottom, luma_bottom);
    let blocks = top.as_chunks::<8>().0.iter().zip(bottom.as_chunks::<8>().0);
    let lumas = luma_top
        .as_chunks_mut::<2>()
        .0
        .iter_mut()
        .zip(luma_bottom.as_chunks_mut::<2>().0);
    for (((above, below), (cb, cr)), lumas) in blocks.zip(cb.iter_mut().zip(cr)).zip(lumas) {
        let sum =
            |c: usize| i32::from(above[c]) + i32::from(above[c + 4]) + i32::from(below[c]) + i32::from(below[c + 4]);
        let mean4 = [sum(0), sum(1), sum(2)];
        *cb = chroma(CB, mean4);
        *cr = chroma(CR, mean4);
        let colour = |pixel: &[u8]| [pixel[0], pixel[1], pixel[2]].map(i32::from);
        let pixels = [&above[..4], &above[4..], &below[..4], &below[4..]].map(colour);
        if differ(&pixels) {
            let defined = [lumas.0[0], lumas.0[1], lumas.1[0], lumas.1[1]];
            let key = pixels.map(|[r, g, b]| (r << 16 | g << 8 | b).unsigned_abs());
            let best = cache.get(key, || Fit::best(pixels, [*cb, *cr], defined));
            [*cb, *cr] = best.chroma;
            *lumas.0 = [best.lumas[0], best.lumas[1]];
            *lumas.1 = [best.lumas[2], best.lumas[3]];
        }
    }
}

/// Whether a block has colours that can't share a chroma sample unseen.
fn differ(pixels: &[[i32; 3]; 4]) -> bool {
    let [first, rest @ ..] = pixels;
    rest.iter().any(|pixel| {
        let far = |c: usize| (pixel[c] - first[c]).abs() >= FIT_FROM;
        far(0) || far(1) || far(2)
    })
}

/// What a block of four pixels is encoded as, and how far it is from them.
#[derive(Debug, Clone, Copy)]
struct Fit {
    chroma: [u8; 2],
    lumas: [u8; 4],
    error: i32,
}

impl Fit {
    /// The nearest of a few: the mean's chroma as defined, and that of the bright pixels, which count more because dark ones clip
    /// what they can't show.
    fn best(pixels: [[i32; 3]; 4], mean: [u8; 2], defined: [u8; 4]) -> Self {
        if mean == [NEUTRAL; 2] && pixels.iter().all(|[r, g, b]| r == g && g == b) {
            // Grey on grey: the definition is right.
            return Self {
                chroma: mean,
                lumas: defined,
                error: 0,
            };
        }
        let by_mean = Self::new(pixels, mean, defined);
        let weights = pixels.map(|pixel| pixel.iter().sum::<i32>() + 1);
        let total: i32 = weights.iter().sum();
        let bright4 = [0, 1, 2].map(|c| {
            let sum: i32 = pixels
                .iter()
                .zip(weights)
                .map(|(pixel, weight)| pixel[c] * weight)
                .sum();
            4 * sum / total
        });
        let by_bright = Self::new(pixels, [chroma(CB, bright4), chroma(CR, bright4)], defined);
        if by_bright.error < by_mean.error {
            by_bright
        } else {
            by_mean
        }
    }

    /// The lumas that go best with a chroma.
    fn new(pixels: [[i32; 3]; 4], chroma: [u8; 2], defined: [u8; 4]) -> Self {
        let [cb, cr] = chroma.map(|value| i32::from(value) - i32::from(NEUTRAL));
        let offsets = [0, 1, 2].map(|c| (FROM_CB[c] * cb + FROM_CR[c] * cr + (1 << (BITS - 1))) >> BITS);
        let mut fit = Self {
            chroma,
            lumas: defined,
            error: 0,
        };
        for (pixel, luma) in pixels.into_iter().zip(&mut fit.lumas) {
            let (error, best) = fit_luma(pixel, offsets, *luma);
            *luma = best;
            fit.error += error;
        }
        fit
    }
}

/// The squared error and the luma that brings a pixel nearest to its colour when chroma adds `offsets`.
fn fit_luma(pixel: [i32; 3], offsets: [i32; 3], defined: u8) -> (i32, u8) {
    // Without clipping it is the mean of what each of the three wants; where some clip, it is the mean of the others.
    const SUBSETS: [[i32; 3]; 7] = [
        [1, 1, 1],
        [1, 1, 0],
        [1, 0, 1],
        [0, 1, 1],
        [1, 0, 0],
        [0, 1, 0],
        [0, 0, 1],
    ];
    let wanted = [0, 1, 2].map(|c| pixel[c] - offsets[c]);
    let error = |luma: i32| -> i32 {
        let grey = (FROM_LUMA * (luma - i32::from(BLACK)) + (1 << (BITS - 1))) >> BITS;
        (0..3)
            .map(|c| ((grey + offsets[c]).clamp(0, 255) - pixel[c]).pow(2))
            .sum()
    };
    let mut best = (error(i32::from(defined)), i32::from(defined));
    for subset in SUBSETS {
        let count: i32 = subset.iter().sum();
        let grey = (0..3).map(|c| subset[c] * wanted[c]).sum::<i32>() / count;
        // 219/255 in 16 bits.
        let luma = (i32::from(BLACK) + ((grey * 56_284 + (1 << (BITS - 1))) >> BITS)).clamp(16, 235);
        best = best.min((error(luma), luma));
        if best.0 <= 3 {
            break;
        }
    }
    (best.0, best.1 as u8)
}

fn luma_row(pixels: &[u8], luma: &mut [u8]) {
    for (pixel, luma) in pixels.as_chunks::<4>().0.iter().zip(luma) {
        let weighted = i32::from(pixel[0]) * LUMA[0] + i32::from(pixel[1]) * LUMA[1] + i32::from(pixel[2]) * LUMA[2];
        // At most 235.
        *luma = BLACK + ((weighted + (1 << (BITS - 1))) >> BITS) as u8;
    }
}

/// A chroma sample from four pixels' sums: two bits more to shift away. The result lies in 16..=240.
fn chroma(weights: [i32; 3], sum4: [i32; 3]) -> u8 {
    let weighted = weights[0] * sum4[0] + weights[1] * sum4[1] + weights[2] * sum4[2];
    (i32::from(NEUTRAL) + ((weighted + (1 << (BITS + 1))) >> (BITS + 2))) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The definition in BT.709-6 section 3, in floating point.
    fn expected(rgb: [u8; 3]) -> [f64; 3] {
        let [r, g, b] = rgb.map(|c| f64::from(c) / 255.0);
        let y = 0.2126 * r + 0.7152 * g + 0.0722 * b;
        [
            16.0 + 219.0 * y,
            128.0 + 224.0 * (b - y) / 1.8556,
            128.0 + 224.0 * (r - y) / 1.5748,
        ]
    }

    #[test]
    fn matches_the_definition() {
        let levels = [0, 1, 17, 64, 127, 128, 200, 254, 255];
        for r in levels {
            for g in levels {
                for b in levels {
                    let row: Vec<u8> = [r, g, b, 77].repeat(2);
                    let (mut top, mut bottom, mut cb, mut cr) = ([0; 2], [0; 2], [0; 1], [0; 1]);
                    convert(
                        &mut Cache::new(),
                        [&row, &row],
                        [&mut top, &mut bottom],
                        &mut cb,
                        &mut cr,
                    );
                    let got = [top[0], cb[0], cr[0]].map(f64::from);
                    for (got, expected) in got.iter().zip(expected([r, g, b])) {
                        assert!((got - expected).abs() <= 0.51, "{r},{g},{b}: {got} for {expected}");
                    }
                    assert_eq!((top, top[0]), (bottom, top[1]));
                }
            }
        }
    }

    #[test]
    fn chroma_is_the_mean_of_four() {
        let top = [20, 20, 20, 0, 12, 12, 32, 0];
        let bottom = [20; 8];
        let (mut a, mut b, mut cb, mut cr) = ([0; 2], [0; 2], [0; 1], [0; 1]);
        convert(&mut Cache::new(), [&top, &bottom], [&mut a, &mut b], &mut cb, &mut cr);
        let [_, full_cb, full_cr] = expected([12, 12, 32]);
        assert!((f64::from(cb[0]) - (128.0 + (full_cb - 128.0) / 4.0)).abs() < 0.51);
        assert!((f64::from(cr[0]) - (128.0 + (full_cr - 128.0) / 4.0)).abs() < 0.51);
    }

    /// Squared error of a block after decoding by the definition.
    fn block_error(rows: [&[u8]; 2], lumas: [[u8; 2]; 2], cb: u8, cr: u8) -> f64 {
        let (cb, cr) = (f64::from(cb) - 128.0, f64::from(cr) - 128.0);
        let mut sum = 0.0;
        for (row, lumas) in rows.iter().zip(lumas) {
            for (pixel, luma) in row.chunks_exact(4).zip(lumas) {
                let l = 1.164_384 * (f64::from(luma) - 16.0);
                let rgb = [
                    l + 1.792_741 * cr,
                    l - 0.213_249 * cb - 0.532_909 * cr,
                    l + 2.112_402 * cb,
                ];
                for (got, value) in rgb.iter().zip(pixel) {
                    sum += (got.round().clamp(0.0, 255.0) - f64::from(*value)).powi(2);
                }
            }
        }
        sum
    }

    #[test]
    fn fitted_lumas_are_never_worse_and_mostly_better() {
        let (mut by_definition, mut fitted) = (0.0, 0.0);
        let mut seed = 9_u32;
        for _ in 0..2000 {
            let mut colour = || {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                [(seed >> 8) as u8, (seed >> 16) as u8, (seed >> 24) as u8, 0]
            };
            // Two colours, as at the edge of a glyph.
            let (ground, ink) = (colour(), colour());
            let (top, bottom) = ([ground, ink].concat(), [ground, ground].concat());
            let (mut a, mut b, mut cb, mut cr) = ([0; 2], [0; 2], [0; 1], [0; 1]);
            convert(&mut Cache::new(), [&top, &bottom], [&mut a, &mut b], &mut cb, &mut cr);
            let mut defined = [[0; 2]; 2];
            luma_row(&top, &mut defined[0]);
            luma_row(&bottom, &mut defined[1]);
            let before = block_error([&top, &bottom], defined, cb[0], cr[0]);
            let after = block_error([&top, &bottom], [a, b], cb[0], cr[0]);
            // Rounding of the fixed-point offsets.
            assert!(
                after <= before * 1.02 + 60.0,
                "{ground:?} {ink:?}: {after} for {before}"
            );
            by_definition += before;
            fitted += after;
        }
        assert!(fitted < by_definition * 0.8, "{fitted} for {by_definition}");
    }

    #[test]
    fn black_text_on_white_is_by_the_definition() {
        let (top, bottom) = ([0, 0, 0, 0, 255, 255, 255, 0], [255, 255, 255, 0, 255, 255, 255, 0]);
        let (mut a, mut b, mut cb, mut cr) = ([0; 2], [0; 2], [0; 1], [0; 1]);
        convert(&mut Cache::new(), [&top, &bottom], [&mut a, &mut b], &mut cb, &mut cr);
        assert_eq!((a, b, cb, cr), ([16, 235], [235, 235], [128], [128]));
    }
}
