//! Rows of pixels: packing, comparing, and the residual transform.

use super::RGB_MASK;

#[inline]
pub(super) fn rgb(pixel: [u8; 4]) -> u32 {
    u32::from_le_bytes(pixel) & RGB_MASK
}

/// Appends RGBA pixels as RGB.
pub(super) fn pack(rgba: &[u8], out: &mut Vec<u8>) {
    pack_as(rgba, out, |pixel| pixel & RGB_MASK);
}

/// Appends three bytes a pixel, which `map` makes of it; it leaves the fourth, topmost one zero.
#[inline]
fn pack_as(rgba: &[u8], out: &mut Vec<u8>, map: impl Fn(u32) -> u32) {
    let start = out.len();
    out.resize(start + rgba.len() / 4 * 3, 0);
    let (quads, rest) = rgba.as_chunks::<16>();
    let (packed, packed_rest) = out[start..].as_chunks_mut::<12>();
    for (quad, packed) in quads.iter().zip(packed) {
        let q = u128::from_le_bytes(*quad);
        let [a, b, c, d] = [q as u32, (q >> 32) as u32, (q >> 64) as u32, (q >> 96) as u32].map(&map);
        packed[0..4].copy_from_slice(&(a | b << 24).to_le_bytes());
        packed[4..8].copy_from_slice(&(b >> 8 | c << 16).to_le_bytes());
        packed[8..12].copy_from_slice(&(c >> 16 | d << 8).to_le_bytes());
    }
    for (pixel, packed) in rest.as_chunks::<4>().0.iter().zip(packed_rest.as_chunks_mut::<3>().0) {
        packed.copy_from_slice(&map(u32::from_le_bytes(*pixel)).to_le_bytes()[..3]);
    }
}

/// Writes RGB pixels over RGBA ones, alpha 255.
pub(super) fn unpack(rgb: &[u8], rgba: &mut [u8]) {
    for (from, to) in rgb.as_chunks::<3>().0.iter().zip(rgba.as_chunks_mut::<4>().0) {
        *to = [from[0], from[1], from[2], 255];
    }
}

/// A pixel as (G, R - G + 128, B - G + 128).
#[inline]
fn split(pixel: [u8; 4]) -> [u8; 3] {
    let [r, g, b, _] = pixel;
    [
        g,
        r.wrapping_sub(g).wrapping_add(128),
        b.wrapping_sub(g).wrapping_add(128),
    ]
}

#[inline]
fn unsplit([g, r, b]: [u8; 3]) -> [u8; 4] {
    [
        r.wrapping_add(g).wrapping_sub(128),
        g,
        b.wrapping_add(g).wrapping_sub(128),
        255,
    ]
}

/// The median edge predictor: left, above, above left.
#[inline]
fn predict(a: u8, b: u8, d: u8) -> u8 {
    let (low, high) = (a.min(b), a.max(b));
    // Equal to the textbook's three cases: a + b - d, held between a and b.
    (i16::from(a) + i16::from(b) - i16::from(d)).clamp(i16::from(low), i16::from(high)) as u8
}

#[inline]
fn predict3(a: [u8; 3], b: [u8; 3], d: [u8; 3]) -> [u8; 3] {
    [
        predict(a[0], b[0], d[0]),
        predict(a[1], b[1], d[1]),
        predict(a[2], b[2], d[2]),
    ]
}

#[inline]
fn plus(c: [u8; 3], p: [u8; 3]) -> [u8; 3] {
    [
        c[0].wrapping_add(p[0]),
        c[1].wrapping_add(p[1]),
        c[2].wrapping_add(p[2]),
    ]
}

/// The predictor for many bytes at once: the same as [`predict`], held between `a` and `b` without leaving a byte.
#[inline]
fn predict_all(a: u8, b: u8, d: u8) -> u8 {
    let (low, high) = (a.min(b), a.max(b));
    high - d.saturating_sub(low).min(high - low)
}

/// Scratch space for rows of pixels split into green and two differences, three bytes a pixel.
#[derive(Debug, Default)]
pub(super) struct Rows {
    row: Vec<u8>,
    above: Vec<u8>,
    residuals: Vec<u8>,
}

/// Splits pixels: the same as [`split`].
fn split_all(rgba: &[u8], out: &mut Vec<u8>) {
    pack_as(rgba, out, |pixel| {
        let green = pixel >> 8 & 0xff;
        let red = pixel.wrapping_sub(green).wrapping_add(128) & 0xff;
        let blue = (pixel >> 16).wrapping_sub(green).wrapping_add(128) & 0xff;
        green | red << 8 | blue << 16
    });
}

/// Appends residuals of a split row; its first pixel is predicted by the one above it alone.
fn residuals_of(row: &[u8], above: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + row.len(), 0);
    let out = &mut out[start..];
    let ([row0, row1, row2, row_rest @ ..], [above0, above1, above2, above_rest @ ..]) = (row, above) else {
        return;
    };
    let [out0, out1, out2, out_rest @ ..] = out else { return };
    *out0 = row0.wrapping_sub(*above0);
    *out1 = row1.wrapping_sub(*above1);
    *out2 = row2.wrapping_sub(*above2);
    let neighbours = row.iter().zip(above_rest).zip(above);
    for ((out, value), ((left, above), above_left)) in out_rest.iter_mut().zip(row_rest).zip(neighbours) {
        *out = value.wrapping_sub(predict_all(*left, *above, *above_left));
    }
}

impl Rows {
    /// Appends the residuals of a rectangle's next row; `first` begins a rectangle.
    pub(super) fn residuals(&mut self, rgba: &[u8], first: bool, out: &mut Vec<u8>) {
        self.row.clear();
        split_all(rgba, &mut self.row);
        if first {
            let start = out.len();
            out.extend_from_slice(&self.row);
            let later = self.row.iter().zip(out[start..].iter_mut().skip(3));
            later.for_each(|(left, out)| *out = out.wrapping_sub(*left));
        } else {
            residuals_of(&self.row, &self.above, out);
        }
        std::mem::swap(&mut self.row, &mut self.above);
    }
}

/// Turns one row of residuals back into RGBA. The reverse of [`Rows::residuals`].
pub(super) fn restore(residuals: &[u8], above: Option<&[u8]>, row: &mut [u8]) {
    let residuals = residuals.as_chunks::<3>().0;
    let row = row.as_chunks_mut::<4>().0;
    let mut left = [0; 3];
    if let Some(above) = above {
        let above = above.as_chunks::<4>().0;
        let mut above_left = [0; 3];
        for (i, ((residual, above), pixel)) in residuals.iter().zip(above).zip(row).enumerate() {
            let b = split(*above);
            let prediction = if i == 0 { b } else { predict3(left, b, above_left) };
            let c = plus(*residual, prediction);
            *pixel = unsplit(c);
            (left, above_left) = (c, b);
        }
    } else {
        for (residual, pixel) in residuals.iter().zip(row) {
            left = plus(*residual, left);
            *pixel = unsplit(left);
        }
    }
}

/// About how many bits residual bytes cost after entropy coding, times four, in all: 1 bit for zero, then about 2 * log2 for
/// small and log2 + 2 for large magnitudes.
fn bits_x4(residuals: &[u8]) -> u32 {
    /// Bytes that are looked at side by side.
    const LANES: usize = 16;
    /// Rows of them whose logarithms fit in a byte when added.
    const DEEP: usize = u8::MAX as usize / 7;
    let mut logarithms = 0;
    for group in residuals.chunks(LANES * DEEP) {
        let (rows, rest) = group.as_chunks::<LANES>();
        let mut sums = [0; LANES];
        for row in rows {
            for (sum, residual) in sums.iter_mut().zip(row) {
                *sum += logarithm(*residual);
            }
        }
        logarithms += sums.into_iter().map(u32::from).sum::<u32>();
        logarithms += rest.iter().map(|residual| u32::from(logarithm(*residual))).sum::<u32>();
    }
    4 * residuals.len() as u32 + 5 * logarithms
}

/// Of a residual's magnitude and one, rounded down; by comparing, which goes for many at once.
#[inline]
fn logarithm(residual: u8) -> u8 {
    let magnitude = residual.min(residual.wrapping_neg());
    let at_least = |step: u8| u8::from(magnitude >= step);
    at_least(1) + at_least(3) + at_least(7) + at_least(15) + at_least(31) + at_least(63) + at_least(127)
}

/// A row pair's evidence for or against residuals.
#[derive(Default)]
pub(super) struct Estimate {
    pixels: u32,
    repeats: u32,
    residual_bits_x4: u32,
}

impl Estimate {
    /// Looks at a row and the row above it.
    pub(super) fn look(&mut self, row: &[u8], above: &[u8], scratch: &mut Rows) {
        let pixels = row.as_chunks::<4>().0;
        let pixels_above = above.as_chunks::<4>().0;
        let (Some(later), Some(later_above)) = (pixels.get(1..), pixels_above.get(1..)) else {
            return;
        };
        self.pixels += later.len() as u32;
        let neighbours = later.iter().zip(pixels).zip(later_above);
        let repeats = neighbours.map(|((pixel, left), above)| {
            let value = rgb(*pixel);
            u32::from(value == rgb(*left) || value == rgb(*above))
        });
        self.repeats += repeats.sum::<u32>();
        let Rows {
            row: split,
            above: split_above,
            residuals,
        } = scratch;
        split.clear();
        split_all(row, split);
        split_above.clear();
        split_all(above, split_above);
        residuals.clear();
        residuals_of(split, split_above, residuals);
        // the first pixel has no neighbour to the left
        self.residual_bits_x4 += bits_x4(residuals.get(3..).unwrap_or_default());
    }

    /// Whether residuals are likely to be smaller than raw rows.
    pub(super) fn photo_like(&self) -> bool {
        // Where every fourth pixel repeats a neighbour, zstd's matches win.
        if self.pixels == 0 || self.repeats * 4 > self.pixels {
            return false;
        }
        let raw_bits_x4 = (self.pixels - self.repeats) * 24 * 4;
        self.residual_bits_x4 < raw_bits_x4 / 8 * 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &[u8], b: &[u8]) -> bool {
        let rgbs = |row: &[u8]| {
            row.as_chunks::<4>()
                .0
                .iter()
                .map(|pixel| rgb(*pixel))
                .collect::<Vec<_>>()
        };
        rgbs(a) == rgbs(b)
    }

    #[test]
    fn residuals_match_the_documented_vector() {
        let rows = [[10, 20, 30, 0, 12, 22, 32, 9], [10, 20, 30, 1, 14, 24, 34, 7]];
        let mut out = Vec::new();
        let mut scratch = Rows::default();
        for (index, row) in rows.iter().enumerate() {
            scratch.residuals(row, index == 0, &mut out);
        }
        assert_eq!(hex::encode(&out), "14768a020000000000020000");
        let (mut first, mut second) = ([0; 8], [0; 8]);
        restore(&out[..6], None, &mut first);
        restore(&out[6..], Some(&first), &mut second);
        assert!(same(&first, &rows[0]) && same(&second, &rows[1]));
    }

    #[test]
    fn residuals_are_restored_at_every_width() {
        let mut state = 9_u32;
        let mut rows = Rows::default();
        for width in 1..40 {
            let picture: Vec<u8> = (0..width * 4 * 5)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8
                })
                .collect();
            let mut out = vec![1, 2, 3];
            for (index, row) in picture.chunks(width * 4).enumerate() {
                rows.residuals(row, index == 0, &mut out);
            }
            assert_eq!(out.len(), 3 + width * 3 * 5);
            let mut above: Option<Vec<u8>> = None;
            for (row, residuals) in picture.chunks(width * 4).zip(out[3..].chunks(width * 3)) {
                let mut restored = vec![0; width * 4];
                restore(residuals, above.as_deref(), &mut restored);
                assert!(same(&restored, row), "{width}");
                above = Some(restored);
            }
        }
    }

    #[test]
    fn a_residual_costs_more_the_larger_it_is() {
        for residual in 0..=255_u8 {
            let magnitude = u32::from(residual.min(residual.wrapping_neg()));
            let bits = 4 + 5 * (magnitude + 1).ilog2();
            assert_eq!(bits_x4(&[residual]), bits, "{residual}");
            assert_eq!(bits_x4(&[residual; 5000]), bits * 5000, "{residual}");
        }
    }

    #[test]
    fn pack_drops_alpha_at_every_length() {
        for pixels in 0..11_u8 {
            let rgba: Vec<u8> = (0..pixels * 4).collect();
            let mut packed = vec![7];
            pack(&rgba, &mut packed);
            let expected: Vec<u8> = std::iter::once(7)
                .chain((0..pixels * 4).filter(|i| i % 4 != 3))
                .collect();
            assert_eq!(packed, expected);
            let mut back = vec![0; rgba.len()];
            unpack(&packed[1..], &mut back);
            assert!(same(&back, &rgba));
        }
    }

    #[test]
    fn predictor_is_the_median_edge_predictor() {
        for a in (0..=255_u8).step_by(5) {
            for b in (0..=255_u8).step_by(3) {
                for d in (0..=255_u8).step_by(7) {
                    let expected = if d >= a.max(b) {
                        a.min(b)
                    } else if d <= a.min(b) {
                        a.max(b)
                    } else {
                        (i16::from(a) + i16::from(b) - i16::from(d)) as u8
                    };
                    assert_eq!(predict(a, b, d), expected, "{a} {b} {d}");
                    assert_eq!(predict_all(a, b, d), expected, "{a} {b} {d}");
                }
            }
        }
    }
}
