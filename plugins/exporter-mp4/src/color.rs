//! R, G, B, A to planar Y, Cb, Cr: BT.709 matrix, limited range, one chroma sample a 2x2 block (its mean).

/// Fixed-point bits of the coefficients.
const BITS: i32 = 16;

/// BT.709 luma weights scaled to limited range (219/255).
const LUMA: [i32; 3] = [11966, 40254, 4064];
/// Cb weights scaled to limited range (224/255).
const CB: [i32; 3] = [-6596, -22188, 28784];
/// Cr weights scaled to limited range (224/255).
const CR: [i32; 3] = [28784, -26145, -2639];

/// What black is in limited range.
pub(crate) const BLACK: u8 = 16;
/// Chroma of grey.
pub(crate) const NEUTRAL: u8 = 128;

/// Converts two rows of the same even number of pixels.
///
/// `rows` are R, G, B, A; `luma` are their two rows of Y; `cb` and `cr` are half as long. What does not fit the shortest is left out.
pub(crate) fn convert(rows: [&[u8]; 2], luma: [&mut [u8]; 2], cb: &mut [u8], cr: &mut [u8]) {
    let [top, bottom] = rows;
    let [luma_top, luma_bottom] = luma;
    luma_row(top, luma_top);
    luma_row(bottom, luma_bottom);
    let blocks = top.as_chunks::<8>().0.iter().zip(bottom.as_chunks::<8>().0);
    for ((above, below), (cb, cr)) in blocks.zip(cb.iter_mut().zip(cr)) {
        let sum =
            |c: usize| i32::from(above[c]) + i32::from(above[c + 4]) + i32::from(below[c]) + i32::from(below[c + 4]);
        let mean4 = [sum(0), sum(1), sum(2)];
        *cb = chroma(CB, mean4);
        *cr = chroma(CR, mean4);
    }
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
                    convert([&row, &row], [&mut top, &mut bottom], &mut cb, &mut cr);
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
        let top = [255, 0, 0, 0, 0, 0, 0, 0];
        let bottom = [0; 8];
        let (mut a, mut b, mut cb, mut cr) = ([0; 2], [0; 2], [0; 1], [0; 1]);
        convert([&top, &bottom], [&mut a, &mut b], &mut cb, &mut cr);
        assert_eq!(a, [63, 16]);
        assert_eq!(b, [16, 16]);
        let [_, full_cb, full_cr] = expected([255, 0, 0]);
        assert!((f64::from(cb[0]) - (128.0 + (full_cb - 128.0) / 4.0)).abs() < 0.51);
        assert!((f64::from(cr[0]) - (128.0 + (full_cr - 128.0) / 4.0)).abs() < 0.51);
    }
}
