//! Entropy coding of RemoteFX, [MS-RDPRFX] 3.1.8.1.7.3: adaptive runs and Golomb-Rice codes, RLGR1 and RLGR3.
//!
//! Our own, as this is where most of a tile's time goes: a symbol is looked at in one 64-bit window of the stream, and only
//! one that doesn't fit there is read piece by piece.

use ironrdp_pdu::codecs::rfx::EntropyAlgorithm;

use super::TILE_PIXELS;

/// The adaptive parameters are kept with three more bits than they are used with.
const SCALE: u32 = 3;
/// Their largest value.
const PARAMETER_MAX: u32 = 80;
/// What a whole run adds to the run's parameter, and what its end takes.
const RUN_UP: i8 = 4;
const RUN_DOWN: i8 = -6;
/// What a zero adds to the run's parameter outside of runs, and what another value takes.
const ZERO_UP: i8 = 3;
const VALUE_DOWN: i8 = 3;

const TOO_LARGE: &str = "coefficient beyond 16 bits";

/// Reads bits, the highest of each byte first.
struct Bits<'a> {
    rest: &'a [u8],
    /// The next bits, from the top; those below `count` of them are either right, too, or zero.
    window: u64,
    /// Bits that were taken from `rest`; at most 63.
    count: u32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            rest: data,
            window: 0,
            count: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.count == 0 && self.rest.is_empty()
    }

    /// Makes 56 bits or more of the window good, if there are so many.
    #[inline]
    fn refill(&mut self) {
        if let Some(bytes) = self.rest.first_chunk::<8>() {
            self.window |= u64::from_be_bytes(*bytes) >> self.count;
            let whole = (63 - self.count) >> 3;
            self.rest = &self.rest[whole as usize..];
            self.count += whole << 3;
            return;
        }
        while self.count < 56
            && let Some((&byte, rest)) = self.rest.split_first()
        {
            self.window |= u64::from(byte) << (56 - self.count);
            self.rest = rest;
            self.count += 8;
        }
    }

    /// Drops bits, as many as are good at most.
    #[inline]
    fn consume(&mut self, bits: u32) {
        self.window <<= bits;
        self.count -= bits;
    }

    /// The topmost bits, 0 to 32 of them.
    #[inline]
    fn top(&self, bits: u32) -> u32 {
        (self.window >> 1 >> (63 - bits)) as u32
    }

    /// Takes up to 32 bits; `None`, and nothing taken, if there are fewer.
    #[inline]
    fn read(&mut self, bits: u32) -> Option<u32> {
        if self.count < bits {
            self.refill();
            if self.count < bits {
                return None;
            }
        }
        let value = self.top(bits);
        self.consume(bits);
        Some(value)
    }

    /// Takes all bits up to the next one that isn't `bit`, and that one, too; how many there were before it. `None` at the end.
    #[cold]
    fn count_slowly(&mut self, bit: bool) -> Option<u32> {
        let mut total = 0;
        loop {
            self.refill();
            let word = if bit { !self.window } else { self.window };
            let run = word.leading_zeros().min(self.count);
            total += run;
            if run < self.count {
                self.consume(run + 1);
                return Some(total);
            }
            self.consume(run);
            if self.rest.is_empty() {
                return None;
            }
        }
    }

    /// The zeros before the next one, which is taken with them.
    #[inline]
    fn zeros(&mut self) -> Option<u32> {
        let zeros = self.window.leading_zeros();
        if zeros < self.count {
            self.consume(zeros + 1);
            return Some(zeros);
        }
        self.count_slowly(false)
    }

    /// A Golomb-Rice code: ones, a zero, as many bits as the parameter says, which follows how many ones there were.
    #[inline]
    fn code(&mut self, parameter: &mut u32) -> Option<u32> {
        let low = *parameter >> SCALE;
        let ones = (!self.window).leading_zeros();
        if ones + 1 + low <= self.count {
            let value = (self.window << (ones + 1)) >> 1 >> (63 - low);
            self.consume(ones + 1 + low);
            *parameter = moved(*parameter, ONES[ones as usize]);
            return Some((ones << low) + value as u32);
        }
        self.code_slowly(parameter)
    }

    #[cold]
    fn code_slowly(&mut self, parameter: &mut u32) -> Option<u32> {
        let low = *parameter >> SCALE;
        let ones = self.count_slowly(true)?;
        let value = self.read(low)?;
        *parameter = match ONES.get(ones as usize) {
            Some(step) => moved(*parameter, *step),
            None => (*parameter + ones).min(PARAMETER_MAX),
        };
        Some((ones << low) + value)
    }
}

/// What so many ones do to the parameter of their code; more of them than the table has add their number.
const ONES: [i8; 64] = {
    let mut steps = [0; 64];
    let mut ones = 2;
    while ones < steps.len() {
        steps[ones] = ones as i8;
        ones += 1;
    }
    steps[0] = -2;
    steps
};

/// What a pair of values does to the run's parameter, by how many of them are zero.
const ZEROS: [i8; 3] = [-2 * VALUE_DOWN, 0, 2 * ZERO_UP];

/// A parameter after a step.
#[inline]
fn moved(parameter: u32, step: i8) -> u32 {
    parameter.saturating_add_signed(step.into()).min(PARAMETER_MAX)
}

/// Decodes a component's coefficients; those that the stream doesn't have are 0.
pub(super) fn decode(
    algorithm: EntropyAlgorithm,
    data: &[u8],
    out: &mut [i16; TILE_PIXELS],
) -> Result<(), &'static str> {
    if data.is_empty() {
        return Err("component without data");
    }
    out.fill(0);
    let bits = Bits::new(data);
    match algorithm {
        EntropyAlgorithm::Rlgr1 => component::<false>(bits, out),
        EntropyAlgorithm::Rlgr3 => component::<true>(bits, out),
    }
}

/// Decodes until there is no room or nothing to decode; with `PAIRS`, RLGR3.
fn component<const PAIRS: bool>(mut bits: Bits<'_>, out: &mut [i16; TILE_PIXELS]) -> Result<(), &'static str> {
    let mut at = 0;
    // parameter of runs; below 8 there are none
    let mut run = 1 << SCALE;
    // parameter of Golomb-Rice codes
    let mut value = 1 << SCALE;
    while at < TILE_PIXELS && !bits.is_empty() {
        bits.refill();
        if run >> SCALE != 0 {
            let Some((length, negative)) = run_of_zeros(&mut bits, &mut run) else {
                return Ok(());
            };
            if bits.count < 32 {
                bits.refill();
            }
            let Some(code) = bits.code(&mut value) else {
                return Ok(());
            };
            run = moved(run, RUN_DOWN);
            let magnitude = i16::try_from(code + 1).map_err(|_| TOO_LARGE)?;
            at += length;
            if let Some(out) = out.get_mut(at) {
                *out = if negative { -magnitude } else { magnitude };
            }
            at += 1;
        } else if PAIRS {
            let Some(sum) = bits.code(&mut value) else {
                return Ok(());
            };
            let Some(first) = bits.read(32 - sum.leading_zeros()) else {
                return Ok(());
            };
            let second = sum.checked_sub(first).ok_or("value larger than its pair")?;
            run = moved(run, ZEROS[usize::from(first == 0) + usize::from(second == 0)]);
            let values = [signed(first)?, signed(second)?];
            if let Some(out) = out.get_mut(at..at + 2) {
                out.copy_from_slice(&values);
            } else if let Some(out) = out.last_mut() {
                *out = values[0];
            }
            at += 2;
        } else {
            let Some(code) = bits.code(&mut value) else {
                return Ok(());
            };
            run = moved(run, if code == 0 { ZERO_UP } else { -VALUE_DOWN });
            out[at] = signed(code)?;
            at += 1;
        }
    }
    Ok(())
}

/// How many zeros there are in a run, and whether the value after it is negative. `None`: the stream ends within.
#[inline]
fn run_of_zeros(bits: &mut Bits<'_>, run: &mut u32) -> Option<(usize, bool)> {
    let wholes = bits.zeros()?;
    let mut length = 0;
    for _ in 0..wholes {
        length += 1 << (*run >> SCALE);
        *run = moved(*run, RUN_UP);
    }
    // the rest of the length, and the sign
    let rest = bits.read((*run >> SCALE) + 1)?;
    Some((length + (rest >> 1) as usize, rest & 1 == 1))
}

/// Even codes go up, odd ones down.
#[inline]
fn signed(code: u32) -> Result<i16, &'static str> {
    // the largest negative value has no code, as in other decoders
    let magnitude = i16::try_from(code.div_ceil(2)).map_err(|_| TOO_LARGE)?;
    Ok(if code & 1 == 0 { magnitude } else { -magnitude })
}
