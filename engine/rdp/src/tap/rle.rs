//! Interleaved run-length encoding of 8, 15, 16 and 24 bpp bitmaps, [MS-RDPBCGR] 2.2.9.1.1.3.1.2.4 and 3.1.9.
//!
//! Our own decoder rather than the one of ironrdp-graphics, because that one fails on the padding that xrdp appends to a
//! full bitmap and calls a bitmap whole whose stream ended early.

use super::color::Depth;
use super::reader::Reader;

/// Decodes into `pixels` (row after row as the stream has them, last row of the picture first).
pub(super) fn decode(source: &[u8], pixels: &mut [u32], width: usize, depth: Depth) -> Result<(), String> {
    let length = pixels.len();
    let mut decoder = Decoder {
        source: Reader::new(source),
        pixels,
        width,
        depth,
        position: 0,
        foreground: depth.white(),
    };
    decoder.run().map_err(|what| {
        let (at, of) = (decoder.position, source.len());
        let left = decoder.source.rest().len();
        format!("{what} after pixel {at} of {length}, {left} of {of} bytes left")
    })
}

struct Decoder<'a> {
    source: Reader<'a>,
    pixels: &'a mut [u32],
    width: usize,
    depth: Depth,
    position: usize,
    foreground: u32,
}

const SHORT: &str = "run-length stream ends";
const LONG: &str = "run-length order is longer than the bitmap";

impl Decoder<'_> {
    fn run(&mut self) -> Result<(), &'static str> {
        // A background run right after another one begins with a pixel of the foreground.
        let mut after_background = false;
        let mut first_row = true;
        // What follows the last pixel is padding.
        while self.position < self.pixels.len() {
            if first_row && self.position >= self.width {
                first_row = false;
                after_background = false;
            }
            let header = self.source.u8().ok_or(SHORT)?;
            let background = matches!(header, 0x00..=0x1F | 0xF0);
            let length = self.run_length(header).ok_or(SHORT)?;
            match header {
                0x00..=0x1F | 0xF0 => self.background(length, first_row, after_background)?,
                0x20..=0x3F | 0xF1 => self.foreground(length, first_row)?,
                0xC0..=0xCF | 0xF6 => {
                    self.foreground = self.pixel()?;
                    self.foreground(length, first_row)?;
                }
                0x40..=0x5F | 0xF2 => self.image(length, first_row)?,
                0xD0..=0xDF | 0xF7 => {
                    self.foreground = self.pixel()?;
                    self.image(length, first_row)?;
                }
                0x60..=0x7F | 0xF3 => {
                    let color = self.pixel()?;
                    self.next(length)?.fill(color);
                }
                0x80..=0x9F | 0xF4 => self.colors(length)?,
                0xE0..=0xEF | 0xF8 => {
                    let pair = [self.pixel()?, self.pixel()?];
                    self.next(length * 2)?.as_chunks_mut().0.fill(pair);
                }
                0xF9 => self.mask(0x03, 8, first_row)?,
                0xFA => self.mask(0x05, 8, first_row)?,
                0xFD => {
                    let white = self.depth.white();
                    self.next(1)?.fill(white);
                }
                0xFE => self.next(1)?.fill(0),
                _ => return Err("unknown run-length order"),
            }
            after_background = background;
        }
        Ok(())
    }

    /// Length of an order: in the header, in the byte after it, or in two bytes.
    fn run_length(&mut self, header: u8) -> Option<usize> {
        let extended = |source: &mut Reader<'_>, length: u8, more: usize| match length {
            0 => source.u8().map(|byte| usize::from(byte) + more),
            length => Some(usize::from(length)),
        };
        match header {
            // Foreground/background images count in bytes of eight pixels, unless the length is extended.
            0x40..=0x5F | 0xD0..=0xDF => {
                let bits = if header < 0x80 { header & 0x1F } else { header & 0x0F };
                match bits {
                    0 => extended(&mut self.source, 0, 1),
                    bytes => Some(usize::from(bytes) * 8),
                }
            }
            0x00..=0x9F => extended(&mut self.source, header & 0x1F, 32),
            0xC0..=0xEF => extended(&mut self.source, header & 0x0F, 16),
            0xF0..=0xF4 | 0xF6..=0xF8 => self.source.len16(),
            _ => Some(0),
        }
    }

    fn pixel(&mut self) -> Result<u32, &'static str> {
        let bytes = self.source.take(self.depth.bytes()).ok_or(SHORT)?;
        Ok(self.depth.read(bytes))
    }

    /// The next `length` pixels of the output.
    fn next(&mut self, length: usize) -> Result<&mut [u32], &'static str> {
        let start = self.position;
        let out = self.pixels.get_mut(start..start + length).ok_or(LONG)?;
        self.position += length;
        Ok(out)
    }

    /// The next `length` pixels and those right above them; not for the first row.
    fn next_and_above(&mut self, length: usize) -> Result<(&mut [u32], usize), &'static str> {
        let start = self.position;
        let above = start.checked_sub(self.width).ok_or(LONG)?;
        let out = self.pixels.get_mut(above..start + length).ok_or(LONG)?;
        self.position += length;
        Ok((out, self.width))
    }

    fn background(&mut self, length: usize, first_row: bool, after_background: bool) -> Result<(), &'static str> {
        let mut length = length;
        if after_background && length > 0 {
            self.foreground(1, first_row)?;
            length -= 1;
        }
        if first_row {
            self.next(length)?.fill(0);
            return Ok(());
        }
        let (out, width) = self.next_and_above(length)?;
        // A run longer than a row copies what it wrote itself.
        let mut done = 0;
        while done < length {
            let step = (length - done).min(width);
            out.copy_within(done..done + step, done + width);
            done += step;
        }
        Ok(())
    }

    fn foreground(&mut self, length: usize, first_row: bool) -> Result<(), &'static str> {
        let foreground = self.foreground;
        if first_row {
            self.next(length)?.fill(foreground);
            return Ok(());
        }
        let (mut out, width) = self.next_and_above(length)?;
        // A run longer than a row builds on what it wrote itself.
        while let Some((above, below)) = out.split_at_mut_checked(width)
            && !below.is_empty()
        {
            for (out, above) in below.iter_mut().zip(&*above) {
                *out = above ^ foreground;
            }
            out = below;
        }
        Ok(())
    }

    fn image(&mut self, mut length: usize, first_row: bool) -> Result<(), &'static str> {
        while length > 0 {
            let mask = self.source.u8().ok_or(SHORT)?;
            let count = length.min(8);
            self.mask(mask, count, first_row)?;
            length -= count;
        }
        Ok(())
    }

    /// Up to eight pixels: the foreground where the mask has a bit, the background elsewhere.
    fn mask(&mut self, mask: u8, count: usize, first_row: bool) -> Result<(), &'static str> {
        let foreground = self.foreground;
        let color = |bit: usize| if mask >> bit & 1 == 1 { foreground } else { 0 };
        if first_row {
            for (bit, out) in self.next(count)?.iter_mut().enumerate() {
                *out = color(bit);
            }
            return Ok(());
        }
        let (out, width) = self.next_and_above(count)?;
        for bit in 0..count {
            out[bit + width] = out[bit] ^ color(bit);
        }
        Ok(())
    }

    fn colors(&mut self, length: usize) -> Result<(), &'static str> {
        let depth = self.depth;
        let bytes = self.source.take(length * depth.bytes()).ok_or(SHORT)?;
        depth.read_all(bytes, self.next(length)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn pixels(source: &[u8], width: usize, height: usize, depth: Depth) -> Result<Vec<u32>, String> {
        let mut out = vec![0; width * height];
        decode(source, &mut out, width, depth).map(|()| out)
    }

    #[test]
    fn each_order_once() {
        let (w, white) = (8, 0xFFFF);
        // First row: 8 black; second: the row above, its first pixel xor white because two background runs meet is
        // reset at the end of the first row.
        assert_eq!(pixels(&[0x08, 0x08], w, 2, Depth::Rgb565).unwrap(), vec![0; 16]);
        // Two background runs within a row: the second begins with a foreground pixel.
        assert_eq!(
            pixels(&[0x03, 0x05], w, 1, Depth::Rgb565).unwrap(),
            [0, 0, 0, white, 0, 0, 0, 0]
        );
        // Foreground run, then set-foreground run, then colour run of the rest.
        assert_eq!(
            pixels(&[0x22, 0xC2, 0x34, 0x12, 0x64, 0xCD, 0xAB], w, 1, Depth::Rgb565).unwrap(),
            [white, white, 0x1234, 0x1234, 0xABCD, 0xABCD, 0xABCD, 0xABCD]
        );
        // A masked image of one byte on the first row, then the same on top of it clears it.
        assert_eq!(
            pixels(&[0x41, 0b0000_0101, 0x41, 0b0000_0101], w, 2, Depth::Rgb565).unwrap(),
            [white, 0, white, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        );
        // Dithered pairs, colours one by one, white, black.
        assert_eq!(
            pixels(&[0xE2, 1, 0, 2, 0, 0x82, 3, 0, 4, 0, 0xFD, 0xFE], w, 1, Depth::Rgb565).unwrap(),
            [1, 2, 1, 2, 3, 4, white, 0]
        );
        // The special masks.
        assert_eq!(
            pixels(&[0xF9, 0xFA], w, 2, Depth::Rgb8).unwrap(),
            [255, 255, 0, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0, 0, 0, 0]
        );
        // 24 bpp is three bytes a pixel, blue first.
        assert_eq!(
            pixels(&[0x81, 0x11, 0x22, 0x33], 1, 1, Depth::Rgb888).unwrap(),
            [0x33_22_11]
        );
    }

    #[test]
    fn a_foreground_run_builds_on_its_own_rows() {
        // A row of one colour, a foreground run over two rows and a half, and the rest.
        let source = [0x64, 0x0F, 0xCA, 0x55, 0x62, 1];
        assert_eq!(
            pixels(&source, 4, 4, Depth::Rgb8).unwrap(),
            [[0x0F; 4], [0x5A; 4], [0x0F; 4], [0x5A, 0x5A, 1, 1]].concat()
        );
    }

    #[test]
    fn lengths_in_one_and_two_more_bytes() {
        assert_eq!(pixels(&[0x20, 8], 40, 1, Depth::Rgb8).unwrap(), vec![255; 40]);
        assert_eq!(pixels(&[0xC0, 24, 7], 40, 1, Depth::Rgb8).unwrap(), vec![7; 40]);
        assert_eq!(pixels(&[0xF3, 40, 0, 9], 40, 1, Depth::Rgb8).unwrap(), vec![9; 40]);
        assert_eq!(
            pixels(&[0x40, 9, 0xFF, 0x03], 10, 1, Depth::Rgb8).unwrap(),
            vec![255; 10]
        );
    }

    #[test]
    fn padding_is_no_fault_but_a_hole_is() {
        assert_eq!(pixels(&[0x64, 5, 0, 0, 0], 4, 1, Depth::Rgb8).unwrap(), [5; 4]);
        let error = pixels(&[0x63, 5], 4, 1, Depth::Rgb8).unwrap_err();
        assert_eq!(error, "run-length stream ends after pixel 3 of 4, 0 of 2 bytes left");
        assert!(
            pixels(&[0x65, 5], 4, 1, Depth::Rgb8)
                .unwrap_err()
                .contains("longer than the bitmap")
        );
        assert!(pixels(&[0xFF], 4, 1, Depth::Rgb8).unwrap_err().contains("unknown"));
    }

    proptest! {
        /// Whatever ironrdp-graphics decodes whole, we decode to the same pixels.
        #[test]
        fn agrees_with_ironrdp_on_noise(
            width in 1usize..24,
            height in 1usize..6,
            depth in prop::sample::select(vec![Depth::Rgb8, Depth::Rgb555, Depth::Rgb565, Depth::Rgb888]),
            source in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..8, 0x20u8..0x28, 0x40u8..0x42, 0x60u8..0x66], 0..200),
        ) {
            let bits = match depth {
                Depth::Rgb8 => 8,
                Depth::Rgb555 => 15,
                Depth::Rgb565 => 16,
                Depth::Rgb888 | Depth::Xrgb8888 => 24,
            };
            let mut theirs = Vec::new();
            let result = ironrdp_graphics::rle::decompress(&source, &mut theirs, width, height, bits);
            let ours = pixels(&source, width, height, depth);
            if let (Ok(_), Ok(ours)) = (result, &ours) {
                let theirs: Vec<u32> = theirs.chunks_exact(depth.bytes()).map(|bytes| depth.read(bytes)).collect();
                prop_assert_eq!(ours, &theirs);
            }
        }
    }
}
