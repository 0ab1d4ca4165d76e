//! One tile: 64 by 64 pixels from three components.

use ironrdp_pdu::codecs::rfx::{EntropyAlgorithm, Quant, Tile};

use super::{EDGE, TILE_PIXELS, color, entropy, wavelet};

/// Decodes tiles; its room is kept from tile to tile.
pub(super) struct TileDecoder {
    components: Box<[[i16; TILE_PIXELS]; 3]>,
    temp: Box<[i16; TILE_PIXELS]>,
    /// No component but the first has anything.
    gray: bool,
}

impl Default for TileDecoder {
    fn default() -> Self {
        Self {
            components: Box::new([[0; TILE_PIXELS]; 3]),
            temp: Box::new([0; TILE_PIXELS]),
            gray: true,
        }
    }
}

impl TileDecoder {
    /// Decodes a tile; its pixels are had from [`TileDecoder::pixels`] until the next one.
    pub(super) fn decode(
        &mut self,
        tile: &Tile<'_>,
        quants: &[Quant],
        algorithm: EntropyAlgorithm,
    ) -> Result<(), String> {
        let quant = |index: u8| {
            let quant = quants.get(usize::from(index));
            quant.ok_or_else(|| format!("quantisation {index} of {}", quants.len()))
        };
        let sources = [
            (quant(tile.y_quant_index)?, tile.y_data),
            (quant(tile.cb_quant_index)?, tile.cb_data),
            (quant(tile.cr_quant_index)?, tile.cr_data),
        ];
        let mut filled = [false; 3];
        for (((quant, data), samples), filled) in sources.into_iter().zip(self.components.iter_mut()).zip(&mut filled) {
            entropy::decode(algorithm, data, samples)?;
            // nothing but zeros stays nothing but zeros
            *filled = !wavelet::is_zero(samples);
            if *filled {
                wavelet::inverse(samples, &mut self.temp, quant);
            }
        }
        self.gray = matches!(filled, [_, false, false]);
        Ok(())
    }

    /// Pixels of a row from column `left` on, as many as there is room for.
    #[inline]
    pub(super) fn pixels(&self, row: usize, left: usize, out: &mut [u8]) {
        let from = row * EDGE + left;
        let [Some(luma), Some(cb), Some(cr)] = self
            .components
            .each_ref()
            .map(|samples| samples.get(from..from + out.len() / 4))
        else {
            return;
        };
        if self.gray {
            color::gray(luma, out);
        } else {
            color::rgba(luma, cb, cr, out);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::panic::{AssertUnwindSafe, catch_unwind};

    use ironrdp_graphics::rfx_encode_component;
    use proptest::prelude::*;

    use super::*;

    const ALGORITHMS: [EntropyAlgorithm; 2] = [EntropyAlgorithm::Rlgr1, EntropyAlgorithm::Rlgr3];

    /// What ironrdp-graphics decodes; `None` where it refuses or, with checks for overflow, panics.
    fn theirs(tile: &Tile<'_>, quants: &[Quant], algorithm: EntropyAlgorithm) -> Option<Option<Vec<u8>>> {
        let mut decoder = ironrdp_graphics::rfx::TileDecoder::new();
        let result = catch_unwind(AssertUnwindSafe(|| {
            decoder.decode(tile, quants, algorithm).map(<[u8]>::to_vec)
        }));
        result.ok().map(Result::ok)
    }

    fn ours(
        decoder: &mut TileDecoder,
        tile: &Tile<'_>,
        quants: &[Quant],
        algorithm: EntropyAlgorithm,
    ) -> Option<Vec<u8>> {
        decoder.decode(tile, quants, algorithm).ok()?;
        let mut pixels = vec![0; TILE_PIXELS * 4];
        for (row, out) in pixels.chunks_exact_mut(EDGE * 4).enumerate() {
            // in two pieces, as rectangles cut tiles
            let (left, right) = out.split_at_mut(5 * 4);
            decoder.pixels(row, 0, left);
            decoder.pixels(row, 5, right);
        }
        Some(pixels)
    }

    fn tile<'a>(indices: [u8; 3], data: [&'a [u8]; 3]) -> Tile<'a> {
        Tile {
            y_quant_index: indices[0],
            cb_quant_index: indices[1],
            cr_quant_index: indices[2],
            x: 0,
            y: 0,
            y_data: data[0],
            cb_data: data[1],
            cr_data: data[2],
        }
    }

    fn quant(bands: [u8; 10]) -> Quant {
        let [ll3, lh3, hl3, hh3, lh2, hl2, hh2, lh1, hl1, hh1] = bands;
        Quant {
            ll3,
            lh3,
            hl3,
            hh3,
            lh2,
            hl2,
            hh2,
            lh1,
            hl1,
            hh1,
        }
    }

    /// Samples with edges, slopes and noise, or flat.
    fn samples(seed: u64, kind: u8, amplitude: i16) -> [i16; TILE_PIXELS] {
        let mut state = seed | 1;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 48) as i16
        };
        let mut all = [0; TILE_PIXELS];
        for (index, sample) in all.iter_mut().enumerate() {
            let (x, y) = (index % EDGE, index / EDGE);
            let noise = if amplitude == 0 { 0 } else { next() % amplitude };
            *sample = match kind % 4 {
                0 => noise,
                1 => (x as i16 - 32) * 40 + noise / 8,
                2 if (x / 5 + y / 7) % 3 == 0 => 3000,
                2 => -3000 + noise / 16,
                _ => 0,
            };
        }
        all
    }

    #[test]
    fn refuses_what_is_missing() {
        let mut decoder = TileDecoder::default();
        let quants = [Quant::default()];
        for algorithm in ALGORITHMS {
            assert!(
                decoder
                    .decode(&tile([0, 1, 0], [&[1], &[1], &[1]]), &quants, algorithm)
                    .is_err()
            );
            assert!(
                decoder
                    .decode(&tile([0; 3], [&[1], &[], &[1]]), &quants, algorithm)
                    .is_err()
            );
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]

        #[test]
        fn agrees_with_ironrdp_on_pictures(
            seeds: [u64; 3],
            kinds: [u8; 3],
            amplitude in 0i16..4000,
            chroma in 0i16..800,
            bands in prop::array::uniform10(6u8..16),
            rlgr3: bool,
            cut in prop_oneof![4 => Just(None), 1 => (1usize..400).prop_map(Some)],
        ) {
            let algorithm = ALGORITHMS[usize::from(rlgr3)];
            let quants = [Quant::default(), quant(bands)];
            let mut data = Vec::new();
            for (index, (seed, kind)) in seeds.into_iter().zip(kinds).enumerate() {
                let mut plane = samples(seed, kind, if index == 0 { amplitude } else { chroma });
                let mut bytes = vec![0; 64 << 10];
                let length = rfx_encode_component(&mut plane, &mut bytes, &quants[1], algorithm).unwrap();
                bytes.truncate(cut.unwrap_or(length).min(length));
                data.push(bytes);
            }
            let tile = tile([1; 3], [&data[0], &data[1], &data[2]]);
            if let Some(theirs) = theirs(&tile, &quants, algorithm) {
                prop_assert!(theirs == ours(&mut TileDecoder::default(), &tile, &quants, algorithm));
            }
        }

        #[test]
        fn agrees_with_ironrdp_on_noise(
            data in prop::array::uniform3(prop::collection::vec(prop_oneof![any::<u8>(), Just(0u8), Just(255u8), 0u8..16], 0..300)),
            bands in prop::array::uniform10(0u8..16),
            rlgr3: bool,
        ) {
            let algorithm = ALGORITHMS[usize::from(rlgr3)];
            let quants = [quant(bands)];
            let tile = tile([0; 3], [&data[0], &data[1], &data[2]]);
            // what an earlier tile left must not matter
            let mut decoder = TileDecoder::default();
            decoder.components[2].fill(77);
            let ours = ours(&mut decoder, &tile, &quants, algorithm);
            if let Some(theirs) = theirs(&tile, &quants, algorithm) {
                prop_assert!(theirs == ours);
            }
        }
    }
}
