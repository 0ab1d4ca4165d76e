//! ZGFX, the compression of RDP 8 ([MS-RDPEGFX] 2.2.5 and 3.1.9.1): one history a channel, which plain segments enter too.
//!
//! Decoded here and not by ironrdp-graphics: what a segment may unpack to is bounded before it is unpacked, and a screen
//! full of pixels goes through a table instead of through a list of prefixes.

use std::sync::LazyLock;

use crate::tap::reader::Reader;

/// The sender's window.
const HISTORY_BYTES: usize = 2_500_000;
const SINGLE: u8 = 0xE0;
const MULTIPART: u8 = 0xE1;
/// Compression type of a segment, in the low four bits of its first byte.
const RDP8: u8 = 0x04;
const COMPRESSED: u8 = 0x20;
/// Most bytes that a compressed segment may unpack to; [MS-RDPEGFX] 3.1.9.1 allows one less. One that isn't compressed is as long
/// as it comes.
const SEGMENT_MAX_BYTES: usize = 1 << 16;
/// The longest prefix of a token.
const PREFIX_BITS_MAX: u32 = 9;

/// What begins with a prefix.
#[derive(Clone, Copy, Debug)]
enum Token {
    /// The prefix stands for no token.
    None,
    /// Eight bits follow: a byte.
    Byte,
    /// This byte.
    Literal(u8),
    /// A distance follows: so many bits, added to the base; then a length.
    Match { bits: u32, base: u32 },
}

/// Literals that are common enough to have a prefix of their own: prefix, its length, the byte.
const LITERALS: [(u32, u32, u8); 25] = [
    (0b11000, 5, 0x00),
    (0b11001, 5, 0x01),
    (0b11_0100, 6, 0x02),
    (0b11_0101, 6, 0x03),
    (0b11_0110, 6, 0xFF),
    (0b110_1110, 7, 0x04),
    (0b110_1111, 7, 0x05),
    (0b111_0000, 7, 0x06),
    (0b111_0001, 7, 0x07),
    (0b111_0010, 7, 0x08),
    (0b111_0011, 7, 0x09),
    (0b111_0100, 7, 0x0A),
    (0b111_0101, 7, 0x0B),
    (0b111_0110, 7, 0x3A),
    (0b111_0111, 7, 0x3B),
    (0b111_1000, 7, 0x3C),
    (0b111_1001, 7, 0x3D),
    (0b111_1010, 7, 0x3E),
    (0b111_1011, 7, 0x3F),
    (0b111_1100, 7, 0x40),
    (0b111_1101, 7, 0x80),
    (0b1111_1100, 8, 0x0C),
    (0b1111_1101, 8, 0x38),
    (0b1111_1110, 8, 0x39),
    (0b1111_1111, 8, 0x66),
];

/// Matches: prefix, its length, bits of the distance, base of the distance.
const MATCHES: [(u32, u32, u32, u32); 15] = [
    (0b10001, 5, 5, 0),
    (0b10010, 5, 7, 32),
    (0b10011, 5, 9, 160),
    (0b10100, 5, 10, 672),
    (0b10101, 5, 12, 1_696),
    (0b10_1100, 6, 14, 5_792),
    (0b10_1101, 6, 15, 22_176),
    (0b101_1100, 7, 18, 54_944),
    (0b101_1101, 7, 20, 317_088),
    (0b1011_1100, 8, 20, 1_365_664),
    (0b1011_1101, 8, 21, 2_414_240),
    (0b1_0111_1100, 9, 22, 4_511_392),
    (0b1_0111_1101, 9, 23, 8_705_696),
    (0b1_0111_1110, 9, 24, 17_094_304),
    (0b1_0111_1111, 9, 25, 33_871_520),
];

/// Each token by the next nine bits, with the length of its prefix.
static TOKENS: LazyLock<[(Token, u32); 1 << PREFIX_BITS_MAX]> = LazyLock::new(|| {
    let mut table = [(Token::None, 0); 1 << PREFIX_BITS_MAX];
    let mut enter = |prefix: u32, length: u32, token: Token| {
        let free = PREFIX_BITS_MAX - length;
        let first = (prefix << free) as usize;
        for entry in table.iter_mut().skip(first).take(1 << free) {
            *entry = (token, length);
        }
    };
    enter(0, 1, Token::Byte);
    for (prefix, length, byte) in LITERALS {
        enter(prefix, length, Token::Literal(byte));
    }
    for (prefix, length, bits, base) in MATCHES {
        enter(prefix, length, Token::Match { bits, base });
    }
    table
});

/// The decompressor of one channel.
#[derive(Default)]
pub(super) struct Zgfx {
    /// A ring, made on first use; `at` is where the next byte goes.
    history: Vec<u8>,
    at: usize,
}

impl Zgfx {
    /// Unpacks one message into `out`, which may have `max` bytes at most. After an error the history is not the sender's.
    pub(super) fn unpack(&mut self, message: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), String> {
        const SHORT: &str = "ends early";
        out.clear();
        let mut reader = Reader::new(message);
        match reader.u8() {
            Some(SINGLE) => self.segment(reader.rest(), out, max),
            Some(MULTIPART) => {
                let count = reader.u16().ok_or(SHORT)?;
                let size = reader.len32().ok_or(SHORT)?;
                if size > max {
                    return Err(format!("message of {size} bytes is above the limit of {max}"));
                }
                for _ in 0..count {
                    let length = reader.len32().ok_or(SHORT)?;
                    let segment = reader.take(length).ok_or(SHORT)?;
                    self.segment(segment, out, size)?;
                }
                if out.len() == size {
                    Ok(())
                } else {
                    Err(format!("{} bytes instead of {size}", out.len()))
                }
            }
            Some(other) => Err(format!("descriptor {other:#x}")),
            None => Err("empty message".to_owned()),
        }
    }

    fn segment(&mut self, segment: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), String> {
        let (&flags, data) = segment.split_first().ok_or("empty segment")?;
        if flags & 0x0F != RDP8 {
            return Err(format!("compression type {}", flags & 0x0F));
        }
        self.history.resize(HISTORY_BYTES, 0);
        if flags & COMPRESSED == 0 {
            self.plain(data, out, max)
        } else {
            self.compressed(data, out, max)
        }
    }

    fn plain(&mut self, data: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), String> {
        room(out, data.len(), max)?;
        out.extend_from_slice(data);
        // of more than a whole window only the end counts
        let mut rest = &data[data.len().saturating_sub(HISTORY_BYTES)..];
        while !rest.is_empty() {
            let (part, following) = rest.split_at(rest.len().min(HISTORY_BYTES - self.at));
            self.history[self.at..self.at + part.len()].copy_from_slice(part);
            self.at = (self.at + part.len()) % HISTORY_BYTES;
            rest = following;
        }
        Ok(())
    }

    fn compressed(&mut self, data: &[u8], out: &mut Vec<u8>, max: usize) -> Result<(), String> {
        // The last byte says how many bits of the one before it are of no use.
        let Some((&unused, data)) = data.split_last() else {
            return Ok(());
        };
        let max = max.min(out.len() + SEGMENT_MAX_BYTES);
        let mut bits = Bits::new(data, unused & 0b111)?;
        while bits.left() > 0 {
            let (token, length) = TOKENS[bits.peek(PREFIX_BITS_MAX) as usize];
            bits.skip(length)?;
            match token {
                Token::None => return Err("no token".to_owned()),
                Token::Byte => {
                    let byte = bits.take(8)?.to_le_bytes()[0];
                    self.byte(byte, out, max)?;
                }
                Token::Literal(byte) => self.byte(byte, out, max)?,
                Token::Match { bits: width, base } => {
                    let distance = (base + bits.take(width)?) as usize;
                    if distance == 0 {
                        let length = bits.take(15)? as usize;
                        self.plain(bits.bytes(length)?, out, max)?;
                    } else {
                        let length = match_length(&mut bits)?;
                        self.copy(distance, length, out, max)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn byte(&mut self, byte: u8, out: &mut Vec<u8>, max: usize) -> Result<(), String> {
        room(out, 1, max)?;
        self.push(byte);
        out.push(byte);
        Ok(())
    }

    fn push(&mut self, byte: u8) {
        self.history[self.at] = byte;
        self.at += 1;
        if self.at == HISTORY_BYTES {
            self.at = 0;
        }
    }

    fn copy(&mut self, distance: usize, length: usize, out: &mut Vec<u8>, max: usize) -> Result<(), String> {
        if distance > HISTORY_BYTES {
            return Err(format!("distance of {distance}"));
        }
        room(out, length, max)?;
        let mut from = (self.at + HISTORY_BYTES - distance) % HISTORY_BYTES;
        for _ in 0..length {
            // what is copied may have been written a moment ago
            let byte = self.history[from];
            from += 1;
            if from == HISTORY_BYTES {
                from = 0;
            }
            self.push(byte);
            out.push(byte);
        }
        Ok(())
    }
}

/// Three bytes at least; each leading one doubles what can be said.
fn match_length(bits: &mut Bits<'_>) -> Result<usize, String> {
    let mut width = 0;
    while bits.take(1)? == 1 {
        width += 1;
        if width > 24 {
            return Err("length of a match".to_owned());
        }
    }
    if width == 0 {
        return Ok(3);
    }
    width += 1;
    Ok((1 << width) + bits.take(width)? as usize)
}

fn room(out: &[u8], more: usize, max: usize) -> Result<(), String> {
    if out.len().saturating_add(more) > max {
        return Err(format!("more than {max} bytes"));
    }
    Ok(())
}

/// Bits from the highest of each byte down.
struct Bits<'a> {
    data: &'a [u8],
    /// Bits read.
    at: usize,
    end: usize,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8], unused: u8) -> Result<Self, String> {
        let end = (data.len() * 8).checked_sub(usize::from(unused)).ok_or("unused bits")?;
        Ok(Self { data, at: 0, end })
    }

    fn left(&self) -> usize {
        self.end - self.at
    }

    /// The next `count` bits, at most 25; zeros beyond the end.
    fn peek(&self, count: u32) -> u32 {
        let start = self.at / 8;
        let byte = |offset: usize| u32::from(self.data.get(start + offset).copied().unwrap_or(0));
        let word = byte(0) << 24 | byte(1) << 16 | byte(2) << 8 | byte(3);
        let word = word << (self.at % 8);
        if count == 0 { 0 } else { word >> (32 - count) }
    }

    fn skip(&mut self, count: u32) -> Result<(), String> {
        let count = count as usize;
        if count > self.left() {
            return Err("segment ends early".to_owned());
        }
        self.at += count;
        Ok(())
    }

    /// The next `count` bits, at most 25.
    fn take(&mut self, count: u32) -> Result<u32, String> {
        let value = self.peek(count);
        self.skip(count)?;
        Ok(value)
    }

    /// Whole bytes from the next byte on.
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], String> {
        let start = self.at.div_ceil(8);
        let bytes = self.data.get(start..start + count).ok_or("segment ends early")?;
        self.at = (start + count) * 8;
        if self.at > self.end {
            return Err("segment ends early".to_owned());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ironrdp_graphics::zgfx::{
        CompressionMode, Compressor, Decompressor, compress_and_wrap_egfx, wrap_uncompressed_recorded,
    };

    use super::*;

    const MAX: usize = 1 << 20;

    /// Bytes that repeat themselves near and far, and some that don't.
    fn sample(seed: u32) -> Vec<u8> {
        let mut state = seed | 1;
        let mut bytes: Vec<u8> = Vec::new();
        while bytes.len() < 40_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let length = (state >> 20) as usize % 300 + 1;
            match state >> 30 {
                0 => bytes.extend((0..length as u32).map(|n| (n.wrapping_mul(state) >> 13) as u8)),
                1 => bytes.extend(std::iter::repeat_n((state >> 16) as u8, length)),
                _ if bytes.is_empty() => bytes.push(1),
                _ => {
                    let from = (state >> 3) as usize % bytes.len();
                    let copy: Vec<u8> = bytes[from..].iter().copied().cycle().take(length).collect();
                    bytes.extend(copy);
                }
            }
        }
        bytes
    }

    #[test]
    fn unpacks_what_is_packed_and_keeps_the_history() {
        let mut compressor = Compressor::new();
        let (mut zgfx, mut other) = (Zgfx::default(), Decompressor::new());
        let (mut out, mut theirs) = (Vec::new(), Vec::new());
        let (mut packed_bytes, mut bytes) = (0, 0);
        for seed in 0..120 {
            // more than the window in all; every third repeats an old one
            let plain = sample(if seed % 3 == 2 { seed / 2 } else { seed });
            let packed = match seed % 5 {
                4 => wrap_uncompressed_recorded(&plain, &mut compressor),
                _ => compress_and_wrap_egfx(&plain, &mut compressor, CompressionMode::Always).unwrap(),
            };
            zgfx.unpack(&packed, &mut out, MAX).unwrap();
            theirs.clear();
            other.decompress(&packed, &mut theirs).unwrap();
            assert!(out == plain && theirs == plain, "message {seed}");
            packed_bytes += packed.len();
            bytes += plain.len();
        }
        assert!(
            bytes > HISTORY_BYTES && packed_bytes < bytes / 2,
            "{packed_bytes} of {bytes}"
        );
    }

    #[test]
    fn several_segments_are_one_message() {
        let plain = sample(7);
        let mut compressor = Compressor::new();
        let mut message = vec![MULTIPART, 0, 0];
        message.extend(u32::try_from(plain.len()).unwrap().to_le_bytes());
        let mut count = 0_u16;
        for part in plain.chunks(9_999) {
            let packed = compress_and_wrap_egfx(part, &mut compressor, CompressionMode::Always).unwrap();
            assert_eq!(packed[0], SINGLE);
            message.extend(u32::try_from(packed.len() - 1).unwrap().to_le_bytes());
            message.extend(&packed[1..]);
            count += 1;
        }
        message[1..3].copy_from_slice(&count.to_le_bytes());
        let mut out = Vec::new();
        Zgfx::default().unpack(&message, &mut out, MAX).unwrap();
        assert!(out == plain);
        // cut anywhere it is an error, or never more than what it says
        for length in 0..message.len() {
            assert!(
                Zgfx::default().unpack(&message[..length], &mut out, MAX).is_err(),
                "{length}"
            );
        }
        let limited = Zgfx::default().unpack(&message, &mut out, plain.len() - 1);
        assert!(limited.unwrap_err().contains("above the limit"));
    }

    /// A message of one compressed segment.
    fn segment(mut bits: String) -> Vec<u8> {
        let unused = (8 - bits.len() % 8) % 8;
        bits.push_str(&"0".repeat(unused));
        let mut message = vec![SINGLE, RDP8 | COMPRESSED];
        message.extend(
            bits.as_bytes()
                .chunks(8)
                .map(|byte| byte.iter().fold(0_u8, |value, bit| value << 1 | (bit - b'0'))),
        );
        message.push(u8::try_from(unused).unwrap());
        message
    }

    #[test]
    fn a_small_segment_cannot_become_a_large_one() {
        let byte = "000000001";
        // the last byte again and again: a match of distance 1, whose length has so many leading ones
        let again = |ones: usize| format!("1000100001{}0{}", "1".repeat(ones), "1".repeat(ones + 1));
        let unpacked = |bits: String| {
            let mut out = Vec::new();
            let result = Zgfx::default().unpack(&segment(bits), &mut out, MAX);
            assert!(out.len() <= SEGMENT_MAX_BYTES);
            result.map(|()| out.len())
        };
        assert_eq!(unpacked(format!("{byte}{}", again(14))), Ok(SEGMENT_MAX_BYTES));
        for bits in [
            format!("{byte}{}{byte}", again(14)),
            format!("{byte}{}", again(15)),
            format!("{byte}{}", again(24)),
            format!("{byte}{}", again(20).repeat(40)),
        ] {
            assert!(unpacked(bits).unwrap_err().contains("more than"));
        }
    }
}
