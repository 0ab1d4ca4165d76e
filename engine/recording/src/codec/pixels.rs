//! Rows of pixels: packing, comparing, and the residual transform.

use super::RGB_MASK;

#[inline]
pub(super) fn rgb(pixel: [u8; 4]) -> u32 {
    u32::from_le_bytes(pixel) & RGB_MASK
}

/// Appends RGBA pixels as RGB.
pub(super) fn pack(rgba: &[u8], out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + rgba.len() / 4 * 3, 0);
    let (quads, rest) = rgba.as_chunks::<16>();
    let (packed, packed_rest) = out[start..].as_chunks_mut::<12>();
    for (quad, packed) in quads.iter().zip(packed) {
        let q = u128::from_le_bytes(*quad);
        let [a, b, c, d] =
            [q as u32, (q >> 32) as u32, (q >> 64) as u32, (q >> 96) as u32].map(|pixel| pixel & RGB_MASK);
        packed[0..4].copy_from_slice(&(a | b << 24).to_le_bytes());
        packed[4..8].copy_from_slice(&(b >> 8 | c << 16).to_le_bytes());
        packed[8..12].copy_from_slice(&(c >> 16 | d << 8).to_le_bytes());
    }
    for (pixel, packed) in rest.as_chunks::<4>().0.iter().zip(packed_rest.as_chunks_mut::<3>().0) {
        packed.copy_from_slice(&pixel[..3]);
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
fn minus(c: [u8; 3], p: [u8; 3]) -> [u8; 3] {
    [
        c[0].wrapping_sub(p[0]),
        c[1].wrapping_sub(p[1]),
        c[2].wrapping_sub(p[2]),
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

/// Appends the residuals of one row of a rectangle; `above` is the row before it in the same rectangle.
pub(super) fn residuals(row: &[u8], above: Option<&[u8]>, out: &mut Vec<u8>) {
    let row = row.as_chunks::<4>().0;
    let start = out.len();
    out.resize(start + row.len() * 3, 0);
    let out = out[start..].as_chunks_mut::<3>().0;
    let mut left = [0; 3];
    if let Some(above) = above {
        let above = above.as_chunks::<4>().0;
        let mut above_left = [0; 3];
        for (i, ((pixel, above), out)) in row.iter().zip(above).zip(out).enumerate() {
            let (c, b) = (split(*pixel), split(*above));
            let prediction = if i == 0 { b } else { predict3(left, b, above_left) };
            *out = minus(c, prediction);
            (left, above_left) = (c, b);
        }
    } else {
        for (pixel, out) in row.iter().zip(out) {
            let c = split(*pixel);
            *out = minus(c, left);
            left = c;
        }
    }
}

/// Turns one row of residuals back into RGBA. The reverse of [`residuals`].
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

/// About how many bits a residual byte costs after entropy coding, times four.
const BITS_X4: [u16; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let magnitude: u32 = if i < 128 { i as u32 } else { 256 - i as u32 };
        // 1 bit for zero, then about 2 * log2 for small and log2 + 2 for large magnitudes.
        let log = (magnitude + 1).ilog2() as u16;
        table[i] = 4 + if magnitude == 0 { 0 } else { 5 * log };
        i += 1;
    }
    table
};

/// A row pair's evidence for or against residuals.
#[derive(Default)]
pub(super) struct Estimate {
    pixels: u32,
    repeats: u32,
    residual_bits_x4: u32,
}

impl Estimate {
    /// Looks at a row and the row above it.
    pub(super) fn look(&mut self, row: &[u8], above: &[u8]) {
        let row = row.as_chunks::<4>().0;
        let above = above.as_chunks::<4>().0;
        for (row, above) in row.windows(2).zip(above.windows(2)) {
            let ([left, pixel], [above_left, above]) = (row, above) else {
                continue;
            };
            self.pixels += 1;
            let value = rgb(*pixel);
            self.repeats += u32::from(value == rgb(*left) || value == rgb(*above));
            let residual = minus(split(*pixel), predict3(split(*left), split(*above), split(*above_left)));
            self.residual_bits_x4 += residual
                .iter()
                .map(|r| u32::from(BITS_X4[usize::from(*r)]))
                .sum::<u32>();
        }
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
        residuals(&rows[0], None, &mut out);
        residuals(&rows[1], Some(&rows[0]), &mut out);
        assert_eq!(hex::encode(&out), "14768a020000000000020000");
        let (mut first, mut second) = ([0; 8], [0; 8]);
        restore(&out[..6], None, &mut first);
        restore(&out[6..], Some(&first), &mut second);
        assert!(same(&first, &rows[0]) && same(&second, &rows[1]));
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
                }
            }
        }
    }
}
