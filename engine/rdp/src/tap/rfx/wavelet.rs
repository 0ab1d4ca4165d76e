//! From coefficients to samples, [MS-RDPRFX] 3.1.8.1.5 and 3.1.8.2.4: differences, quantisation and the inverse wavelet
//! transform over three levels, row after row, so that the compiler can take eight samples at once.

use ironrdp_pdu::codecs::rfx::Quant;

use super::TILE_PIXELS;

/// Half a row of the largest level, a neighbour, and what fills the last eight.
const PADDED: usize = 40;

/// Turns a component's coefficients into its samples; `temp` is scratch space.
pub(super) fn inverse(samples: &mut [i16; TILE_PIXELS], temp: &mut [i16; TILE_PIXELS], quant: &Quant) {
    let mut sum = 0_i16;
    for value in &mut samples[4032..] {
        sum = sum.wrapping_add(*value);
        *value = sum;
    }
    let shifts = |bands: [u8; 4]| bands.map(|band| band.saturating_sub(1).into());
    let third = shifts([quant.hl3, quant.lh3, quant.hh3, quant.ll3]);
    level::<8, 16>(&mut samples[3840..], temp, third);
    let second = shifts([quant.hl2, quant.lh2, quant.hh2, 0]);
    level::<16, 32>(&mut samples[3072..], temp, second);
    let first = shifts([quant.hl1, quant.lh1, quant.hh1, 0]);
    level::<32, 64>(&mut samples[..], temp, first);
}

/// One level: the four bands of `HALF` by `HALF` coefficients become one of `WHOLE` by `WHOLE`, in their place.
fn level<const HALF: usize, const WHOLE: usize>(block: &mut [i16], temp: &mut [i16], shifts: [u32; 4]) {
    let [hl_shift, lh_shift, hh_shift, ll_shift] = shifts;
    let flat = {
        let (bands, _) = block.as_chunks::<HALF>();
        let (details, ll) = bands.split_at(3 * HALF);
        let (hl, rest) = details.split_at(HALF);
        let (lh, hh) = rest.split_at(HALF);
        let (rows, _) = temp.as_chunks_mut::<WHOLE>();
        let (low, high) = rows.split_at_mut(HALF);
        let flat = is_zero(lh.as_flattened()) && is_zero(hh.as_flattened());
        for ((ll, hl), out) in ll.iter().zip(hl).zip(low) {
            across::<HALF, WHOLE>((ll, ll_shift), (hl, hl_shift), out);
        }
        if !flat {
            for ((lh, hh), out) in lh.iter().zip(hh).zip(high) {
                across::<HALF, WHOLE>((lh, lh_shift), (hh, hh_shift), out);
            }
        }
        flat
    };
    let (rows, _) = temp.as_chunks::<WHOLE>();
    let (low, high) = rows.split_at(HALF);
    let (out, _) = block.as_chunks_mut::<WHOLE>();
    if flat {
        down_flat(low, out);
    } else {
        down(low, &high[..HALF], out);
    }
}

/// Whether there is nothing but zeros.
pub(super) fn is_zero(values: &[i16]) -> bool {
    values.iter().fold(0, |all, value| all | value) == 0
}

/// Average, rounded up.
#[inline]
fn above(a: i16, b: i16) -> i16 {
    (a | b).wrapping_sub((a ^ b) >> 1)
}

/// Average, rounded down.
#[inline]
fn below(a: i16, b: i16) -> i16 {
    (a & b).wrapping_add((a ^ b) >> 1)
}

/// One row from its low and its high half.
#[inline]
fn across<const HALF: usize, const WHOLE: usize>(
    (low, low_shift): (&[i16; HALF], u32),
    (high, high_shift): (&[i16; HALF], u32),
    out: &mut [i16; WHOLE],
) {
    // shifted by one, its first element twice: its own left neighbour
    let mut details = [0_i16; PADDED];
    for (to, from) in details[1..=HALF].iter_mut().zip(high) {
        *to = from << high_shift;
    }
    details[0] = details[1];
    // the last element twice: its own right neighbour
    let mut even = [0_i16; PADDED];
    for n in 0..HALF {
        even[n] = (low[n] << low_shift).wrapping_sub(above(details[n], details[n + 1]));
    }
    even[HALF] = even[HALF - 1];
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (n, pair) in pairs.iter_mut().enumerate().take(HALF) {
        let odd = (details[n + 1] << 1).wrapping_add(below(even[n], even[n + 1]));
        *pair = [even[n], odd];
    }
}

/// All rows from the low and the high half of them.
fn down<const WHOLE: usize>(low: &[[i16; WHOLE]], high: &[[i16; WHOLE]], out: &mut [[i16; WHOLE]]) {
    let ([first_low, low @ ..], [first_high, ..], [first, out @ ..]) = (low, high, out) else {
        return;
    };
    let mut even = [0; WHOLE];
    for n in 0..WHOLE {
        even[n] = first_low[n].wrapping_sub(first_high[n]);
    }
    *first = even;
    let (pairs, last) = out.as_chunks_mut::<2>();
    for (([odd, next], low), high) in pairs.iter_mut().zip(low).zip(high.array_windows::<2>()) {
        for n in 0..WHOLE {
            let (before, after) = (high[0][n], high[1][n]);
            let value = low[n].wrapping_sub(above(before, after));
            odd[n] = (before << 1).wrapping_add(below(even[n], value));
            even[n] = value;
        }
        *next = even;
    }
    if let (Some(odd), Some(high)) = (last.first_mut(), high.last()) {
        for n in 0..WHOLE {
            odd[n] = (high[n] << 1).wrapping_add(even[n]);
        }
    }
}

/// The same, without any detail in the high half.
fn down_flat<const WHOLE: usize>(low: &[[i16; WHOLE]], out: &mut [[i16; WHOLE]]) {
    let (pairs, _) = out.as_chunks_mut::<2>();
    for (index, [even, odd]) in pairs.iter_mut().enumerate() {
        let Some(here) = low.get(index) else { return };
        let after = low.get(index + 1).unwrap_or(here);
        *even = *here;
        for n in 0..WHOLE {
            odd[n] = below(here[n], after[n]);
        }
    }
}
