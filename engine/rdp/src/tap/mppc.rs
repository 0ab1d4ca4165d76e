//! MPPC, the bulk compression of RDP 4 and 5 ([MS-RDPBCGR] 3.1.8.4): the history, which is where the bytes come out too.
//!
//! Decoded here and not by ironrdp-bulk: its decompressor holds the contexts of all four types for both directions, some
//! megabytes, and most desktops use this one alone.

use super::bulk::{AT_FRONT, COMPRESSED, FLUSHED};

/// Which of the two, by size of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// 8 KiB, RDP 4.0.
    Short,
    /// 64 KiB, RDP 5.0.
    Long,
}

impl Variant {
    /// By the compression type of the flags' low four bits.
    pub(super) fn of(kind: u8) -> Option<Self> {
        match kind {
            0 => Some(Self::Short),
            1 => Some(Self::Long),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::Short => 8 << 10,
            Self::Long => 64 << 10,
        }
    }

    /// What begins a distance: bits of its prefix, bits of its value, and what that is added to.
    fn distance(self, ones: u32) -> (u32, u32, usize) {
        match (self, ones) {
            (Self::Short, 2) => (3, 13, 320),
            (Self::Short, 3) => (4, 8, 64),
            (Self::Short, _) => (4, 6, 0),
            (Self::Long, 2) => (3, 16, 2368),
            (Self::Long, 3) => (4, 11, 320),
            (Self::Long, 4) => (5, 8, 64),
            (Self::Long, _) => (5, 6, 0),
        }
    }

    /// Most ones that begin a length.
    fn length_ones_max(self) -> u32 {
        match self {
            Self::Short => 11,
            Self::Long => 14,
        }
    }
}

/// The receiver's history.
pub(super) struct Mppc {
    history: Vec<u8>,
    /// Where the next byte goes.
    end: usize,
}

impl Default for Mppc {
    fn default() -> Self {
        Self {
            history: vec![0; Variant::Long.size()],
            end: 0,
        }
    }
}

/// Bits, the most significant one of each byte first; behind their end there are zeros.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn left(&self) -> usize {
        (self.data.len() * 8).saturating_sub(self.at)
    }

    /// The next 32, which stay there.
    fn peek(&self) -> u32 {
        let rest = self.data.get(self.at / 8..).unwrap_or_default();
        let mut word = [0; 8];
        match rest.first_chunk() {
            Some(chunk) => word = *chunk,
            None => word.iter_mut().zip(rest).for_each(|(to, from)| *to = *from),
        }
        let bits = u64::from_be_bytes(word) << (self.at % 8);
        u32::try_from(bits >> 32).unwrap_or_default()
    }

    fn skip(&mut self, bits: u32) {
        self.at += bits as usize;
    }

    /// Skips a prefix and takes the value behind it; together they have at most 30 bits.
    fn value(&mut self, prefix: u32, bits: u32) -> usize {
        let value = self.peek() << prefix >> (32 - bits);
        self.skip(prefix + bits);
        value as usize
    }
}

impl Mppc {
    /// `flags` as on the wire: compressed, at front and flushed. What isn't compressed stays out of the history.
    pub(super) fn decompress<'a>(
        &'a mut self,
        variant: Variant,
        flags: u8,
        data: &'a [u8],
    ) -> Result<&'a [u8], &'static str> {
        if flags & (AT_FRONT | FLUSHED) != 0 {
            self.end = 0;
        }
        if flags & FLUSHED != 0 {
            self.history.fill(0);
        }
        if flags & COMPRESSED == 0 {
            return Ok(data);
        }
        let history = self.history.get_mut(..variant.size()).unwrap_or_default();
        let start = self.end;
        let mut end = start;
        let mut bits = Bits { data, at: 0 };
        // What is left in the last byte fills it up.
        while bits.left() >= 8 {
            let ones = bits.peek().leading_ones();
            if ones < 2 {
                let literal = bits.value(1 + ones, 7) | if ones == 1 { 0x80 } else { 0 };
                *history.get_mut(end).ok_or("history is full")? = u8::try_from(literal).unwrap_or_default();
                end += 1;
                continue;
            }
            let (prefix, size, base) = variant.distance(ones);
            let distance = bits.value(prefix, size) + base;
            let length = match bits.peek().leading_ones() {
                0 => {
                    bits.skip(1);
                    3
                }
                ones if ones <= variant.length_ones_max() => bits.value(ones + 1, ones + 1) + (2 << ones),
                _ => return Err("no such length"),
            };
            copy(history, end, distance, length).ok_or("copy beyond the history")?;
            end += length;
        }
        self.end = end;
        Ok(history.get(start..end).unwrap_or_default())
    }
}

/// Copies what stands `distance` before `end`, which may overlap with what it becomes; before the start lies the end.
fn copy(history: &mut [u8], end: usize, distance: usize, length: usize) -> Option<()> {
    let size = history.len();
    if end + length > size {
        return None;
    }
    let from = end.wrapping_sub(distance) & (size - 1);
    if distance >= length && from + length <= size {
        history.copy_within(from..from + length, end);
        return Some(());
    }
    for index in 0..length {
        let byte = *history.get((from + index) & (size - 1))?;
        *history.get_mut(end + index)? = byte;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ironrdp_bulk::{BulkCompressor, CompressionType};

    use super::*;

    const KINDS: [CompressionType; 2] = [CompressionType::Rdp4, CompressionType::Rdp5];

    /// Numbers that look random and are the same each time.
    fn numbers(mut state: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            usize::try_from(state >> 33).unwrap() % below
        }
    }

    /// [MS-RDPBCGR] 3.1.8.4.1.4 has no test vector; RFC 2118 describes the bits of the short variant.
    #[test]
    fn bits_as_described() {
        let mut mppc = Mppc::default();
        // "for.whom" as literals, then distance 8 (1111 and six bits) with length 4 (10 and two bits), filled up
        let mut data = b"for.whom".to_vec();
        data.extend([0b1111_0010, 0b0010_0000]);
        let flags = COMPRESSED | FLUSHED;
        assert_eq!(mppc.decompress(Variant::Short, flags, &data).unwrap(), b"for.whomfor.");
        // 10 and seven bits: a byte above 127
        let high = [0b1011_1111, 0b1000_0000];
        assert_eq!(mppc.decompress(Variant::Short, COMPRESSED, &high).unwrap(), [0xFF]);
        assert_eq!(mppc.decompress(Variant::Short, AT_FRONT, b"plain").unwrap(), b"plain");
        assert_eq!(mppc.end, 0);
    }

    /// What another implementation compresses, of every kind of match: near and far, short, long and overlapping.
    #[test]
    fn what_another_one_compresses_comes_out() {
        for kind in KINDS {
            let (mut sender, mut mppc, mut number) = (BulkCompressor::new(kind), Mppc::default(), numbers(5));
            let (mut seen, mut compressed) = (Vec::new(), 0);
            for _ in 0..600 {
                let mut text = Vec::new();
                while text.len() < 100 + number(7000) {
                    match number(4) {
                        0 => text.extend((0..number(40)).map(|_| u8::try_from(number(256)).unwrap())),
                        1 => text.extend(std::iter::repeat_n(7, number(3000))),
                        _ if seen.is_empty() => text.extend(b"something to begin with"),
                        _ => {
                            let from = number(seen.len());
                            text.extend(&seen[from..seen.len().min(from + number(300))]);
                        }
                    }
                }
                let (length, flags) = sender.compress(&text).unwrap();
                let flags = u8::try_from(flags).unwrap();
                let variant = Variant::of(kind as u8).unwrap();
                let is_compressed = flags & COMPRESSED != 0;
                let data = if is_compressed {
                    sender.compressed_data(length)
                } else {
                    &text
                };
                assert_eq!(mppc.decompress(variant, flags, data).unwrap(), text, "{kind:?}");
                compressed += usize::from(is_compressed);
                seen.extend(&text);
                seen.drain(..seen.len().saturating_sub(60_000));
            }
            assert!(compressed > 200, "{kind:?}: {compressed} were compressed");
        }
    }

    /// Bytes that nobody compressed: both say the same of them, an error or what comes out.
    #[test]
    fn another_one_says_the_same_of_noise() {
        for (kind, mut number) in KINDS.into_iter().zip([numbers(1), numbers(2)]) {
            let (mut other, mut mppc) = (BulkCompressor::new(kind), Mppc::default());
            let (mut fine, mut wrong) = (0, 0);
            for _ in 0..2000 {
                let length = number(200);
                // Ones begin matches, and the longer ones the more there are.
                let byte = |_| [0xFF, u8::try_from(number(256)).unwrap()][number(2)];
                let data: Vec<u8> = (0..length).map(byte).collect();
                let flags = COMPRESSED | [0, 0, 0, AT_FRONT, FLUSHED, AT_FRONT | FLUSHED][number(6)];
                let theirs = other.decompress(&data, u32::from(flags | kind as u8));
                let ours = mppc.decompress(Variant::of(kind as u8).unwrap(), flags, &data);
                match theirs {
                    Ok(theirs) => assert_eq!(ours, Ok(theirs)),
                    Err(error) => assert!(ours.is_err(), "{error}: {ours:?}"),
                }
                if ours.is_ok() {
                    fine += 1;
                } else {
                    // What an error leaves of the history is nobody's concern: begin anew.
                    (other, mppc) = (BulkCompressor::new(kind), Mppc::default());
                    wrong += 1;
                }
            }
            assert!(fine > 100 && wrong > 10, "{kind:?}: {fine} fine, {wrong} wrong");
        }
    }
}
