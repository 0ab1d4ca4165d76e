//! The palette of one picture, and its pixels as indices into it.

use std::collections::HashMap;

use color_quant::NeuQuant;

/// A colour without alpha.
pub(crate) type Rgb = [u8; 3];

/// Colours that a picture may have beside the transparent one.
const COLORS_MAX: usize = 255;
/// Of a picture with more colours, so many of the most frequent stay exact, ...
const EXACT_MAX: usize = 160;
/// ... if they are this part of it at least.
const EXACT_SHARE: usize = 2048;
/// Pixels that the network learns from: one of so many.
const SAMPLE: i32 = 3;
/// Fewest pixels that it can learn from.
const LEARN_MIN: usize = 1024;

/// A picture with a palette.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Indexed {
    /// R, G, B of each colour; the last one is the transparent one.
    pub(crate) palette: Vec<u8>,
    /// Index of the transparent colour.
    pub(crate) transparent: u8,
    /// One a pixel.
    pub(crate) pixels: Vec<u8>,
    /// Whether all colours are what they were.
    pub(crate) exact: bool,
}

/// Finds a palette; `None` are pixels that stay as they are.
pub(crate) fn index(pixels: &[Option<Rgb>]) -> Indexed {
    let mut counts: HashMap<Rgb, usize> = HashMap::new();
    for color in pixels.iter().flatten() {
        *counts.entry(*color).or_default() += 1;
    }
    let exact = counts.len() <= COLORS_MAX;
    let (palette, map) = if exact { all(&counts) } else { nearest(&counts) };
    let transparent = u8::try_from(palette.len()).unwrap_or(u8::MAX);
    let pixels = pixels
        .iter()
        .map(|color| color.and_then(|color| map.get(&color).copied()).unwrap_or(transparent))
        .collect();
    let mut bytes = palette.concat();
    bytes.extend([0; 3]);
    Indexed {
        palette: bytes,
        transparent,
        pixels,
        exact,
    }
}

/// All colours, in an order that does not depend on chance: the same picture makes the same file.
fn all(counts: &HashMap<Rgb, usize>) -> (Vec<Rgb>, HashMap<Rgb, u8>) {
    let mut palette: Vec<Rgb> = counts.keys().copied().collect();
    palette.sort_unstable();
    let map = (0..=u8::MAX)
        .zip(&palette)
        .map(|(index, color)| (*color, index))
        .collect();
    (palette, map)
}

/// The most frequent colours as they are, the others as near as a palette that is made for them comes.
fn nearest(counts: &HashMap<Rgb, usize>) -> (Vec<Rgb>, HashMap<Rgb, u8>) {
    let mut colors: Vec<(Rgb, usize)> = counts.iter().map(|(color, count)| (*color, *count)).collect();
    colors.sort_unstable_by_key(|(color, count)| (usize::MAX - count, *color));
    let total: usize = colors.iter().map(|(_, count)| count).sum();
    let exact = colors
        .iter()
        .take(EXACT_MAX)
        .take_while(|(_, count)| *count >= total / EXACT_SHARE)
        .count();
    let (kept, rest) = colors.split_at(exact);
    let mut palette: Vec<Rgb> = kept.iter().map(|(color, _)| *color).collect();
    palette.extend(learn(rest, COLORS_MAX - exact));
    let mut map: HashMap<Rgb, u8> = (0..=u8::MAX)
        .zip(kept)
        .map(|(index, (color, _))| (*color, index))
        .collect();
    let mut by_green: Vec<(Rgb, u8)> = palette.iter().copied().zip(0..=u8::MAX).collect();
    by_green.sort_unstable_by_key(|([_, green, _], index)| (*green, *index));
    for (color, _) in rest {
        map.insert(*color, closest(&by_green, *color));
    }
    (palette, map)
}

/// Colours that stand for these, frequent ones more than others.
fn learn(colors: &[(Rgb, usize)], wanted: usize) -> Vec<Rgb> {
    let mut samples = Vec::new();
    for (color, count) in colors {
        // A large area of one colour must not be all that is learnt.
        let weight = count.ilog2() as usize + 1;
        samples.extend(std::iter::repeat_n(*color, weight));
    }
    while samples.len() < LEARN_MIN {
        samples.extend_from_within(..);
    }
    let rgba: Vec<u8> = samples.iter().flat_map(|[r, g, b]| [*r, *g, *b, 255]).collect();
    // It takes no fewer than 64.
    let network = NeuQuant::new(SAMPLE, wanted.max(64), &rgba);
    let learnt = network.color_map_rgb();
    learnt.as_chunks::<3>().0.iter().copied().take(wanted).collect()
}

/// The index of the nearest colour of a palette that is sorted by green; the eye sees green best and blue least.
fn closest(by_green: &[(Rgb, u8)], [r, g, b]: Rgb) -> u8 {
    let square = |a: u8, b: u8| u32::from(a.abs_diff(b)).pow(2);
    let mut best = (u32::MAX, 0);
    let middle = by_green.partition_point(|([_, green, _], _)| *green < g);
    let (below, above) = by_green.split_at(middle);
    let mut near = |(other, index): &(Rgb, u8)| {
        // Those further on differ more in green alone.
        if 4 * square(g, other[1]) > best.0 {
            return false;
        }
        let distance = 2 * square(r, other[0]) + 4 * square(g, other[1]) + square(b, other[2]);
        best = best.min((distance, *index));
        true
    };
    let _ = above.iter().all(&mut near);
    let _ = below.iter().rev().all(&mut near);
    best.1
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn color(indexed: &Indexed, pixel: usize) -> Rgb {
        let index = usize::from(indexed.pixels[pixel]);
        indexed.palette.as_chunks::<3>().0[index]
    }

    #[test]
    fn few_colours_are_exact() {
        let mut pixels: Vec<Option<Rgb>> = (0..=254).map(|at| Some([at, 255 - at, 7])).collect();
        pixels.push(None);
        let indexed = index(&pixels);
        assert!(indexed.exact);
        assert_eq!(indexed.palette.len(), 256 * 3);
        assert_eq!(indexed.pixels[255], indexed.transparent);
        for (at, pixel) in pixels.iter().enumerate().take(255) {
            assert_eq!(Some(color(&indexed, at)), *pixel);
        }
        assert!(index(&[]).pixels.is_empty());
    }

    #[test]
    fn the_nearest_is_the_nearest() {
        let noise = |at: u32| {
            let [_, a, b, c] = at.wrapping_mul(2_654_435_761).to_be_bytes();
            [a, b, c]
        };
        let mut palette: Vec<(Rgb, u8)> = (0..200).map(noise).zip(0..=u8::MAX).collect();
        palette.sort_unstable_by_key(|([_, green, _], index)| (*green, *index));
        for color in (500..3000).map(noise) {
            let square = |at: usize, other: &Rgb| u32::from(color[at].abs_diff(other[at])).pow(2);
            let distance = |other: &Rgb| 2 * square(0, other) + 4 * square(1, other) + square(2, other);
            let want = palette
                .iter()
                .min_by_key(|(other, index)| (distance(other), *index))
                .unwrap();
            assert_eq!(closest(&palette, color), want.1);
        }
    }

    #[test]
    fn of_many_the_frequent_are_exact_and_the_others_near() {
        // A page with a photo in it.
        let mut pixels = vec![Some([255, 255, 255]); 50_000];
        pixels.extend(vec![Some([0, 0, 0]); 5000]);
        pixels.extend((0..20_000_u32).map(|at| {
            let [_, a, b, c] = at.wrapping_mul(2_654_435_761).to_be_bytes();
            Some([a, b / 2, c / 4])
        }));
        let indexed = index(&pixels);
        assert!(!indexed.exact);
        assert!(indexed.palette.len() <= 256 * 3);
        assert_eq!(color(&indexed, 0), [255, 255, 255]);
        assert_eq!(color(&indexed, 50_000), [0, 0, 0]);
        let error: f64 = (55_000..75_000)
            .map(|at| {
                let (was, is) = (pixels[at].unwrap(), color(&indexed, at));
                was.iter()
                    .zip(is)
                    .map(|(a, b)| f64::from(a.abs_diff(b)).powi(2))
                    .sum::<f64>()
                    / 3.0
            })
            .sum::<f64>()
            / 20_000.0;
        let psnr = 10.0 * (255.0_f64.powi(2) / error).log10();
        assert!(psnr > 26.0, "the noise is {psnr:.1} dB from what it was");
    }
}
