//! Samples to colours, [MS-RDPRFX] 3.1.8.1.3: luma and two differences with five bits behind the point.
//!
//! The factors of the standard in 65536ths, split so that every product fits 16-bit multiplications; the result is the same to
//! the last bit as in 32-bit arithmetic.

use crate::tap::color::opaque;

/// 1.402525 less 1.
const RED_CR: i16 = 26_379;
/// 1 less 0.714401.
const GREEN_CR: i16 = 18_718;
/// 0.343730.
const GREEN_CB: i16 = 22_526;
/// 2 less 1.769905.
const BLUE_CB: i16 = 15_080;
/// What makes luma positive.
const OFFSET: i16 = 4096;

/// Converts samples to RGBA, as many as there is room for.
#[inline(never)]
pub(in crate::tap) fn rgba(luma: &[i16], cb: &[i16], cr: &[i16], out: &mut [u8]) {
    for (out, ((luma, cb), cr)) in out.as_chunks_mut::<4>().0.iter_mut().zip(luma.iter().zip(cb).zip(cr)) {
        let luma = luma.wrapping_add(OFFSET);
        let red = luma.wrapping_add(*cr).wrapping_add(part(RED_CR, *cr));
        let differences = i32::from(GREEN_CR) * i32::from(*cr) - i32::from(GREEN_CB) * i32::from(*cb);
        let green = luma.wrapping_sub(*cr).wrapping_add((differences >> 16) as i16);
        let blue = luma.wrapping_add(*cb << 1).wrapping_add(part(-BLUE_CB, *cb));
        *out = opaque(level(red), level(green), level(blue));
    }
}

/// Converts luma alone.
#[inline(never)]
pub(super) fn gray(luma: &[i16], out: &mut [u8]) {
    for (out, luma) in out.as_chunks_mut::<4>().0.iter_mut().zip(luma) {
        let level = level(luma.wrapping_add(OFFSET));
        *out = opaque(level, level, level);
    }
}

/// So many 65536ths of it.
#[inline]
fn part(factor: i16, of: i16) -> i16 {
    ((i32::from(factor) * i32::from(of)) >> 16) as i16
}

#[inline]
fn level(value: i16) -> u8 {
    (value >> 5).clamp(0, 255) as u8
}
