//! RDP 6.0 planar bitmaps, [MS-RDPEGDI] 2.2.2.5.1: the usual 32 bpp codec, so decoded here, without a copy too many.
//!
//! Streams with colour loss or subsampled chroma (AYCoCg), which only some desktops send, go through ironrdp-graphics.

use ironrdp_graphics::rdp6::BitmapStreamDecoder;

use super::color::interleave;
use super::event::Rect;
use super::framebuffer::Framebuffer;
use super::guard::guarded;

const COLOR_LOSS: u8 = 0x07;
const SUBSAMPLED: u8 = 0x08;
const RLE: u8 = 0x10;
const NO_ALPHA: u8 = 0x20;

/// Pixels that one segment can make at most: a segment takes a byte, so this bounds what a short stream can claim.
const SEGMENT_PIXELS_MAX: usize = 47;
/// Pixels of a plane that are made at once.
const STEP: usize = 16;

/// The order of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rows {
    /// From the last one up, as in bitmap updates.
    Up,
    /// From the first one down, as in the graphics pipeline.
    Down,
}

impl Rows {
    /// Where row `row` of the picture stands.
    fn of(self, row: usize, height: usize) -> usize {
        match self {
            Self::Up => height - 1 - row,
            Self::Down => row,
        }
    }
}

/// Scratch space, kept from bitmap to bitmap.
#[derive(Default)]
pub(super) struct PlanarDecoder {
    planes: Vec<u8>,
    rgb: Vec<u8>,
    loss: BitmapStreamDecoder,
}

impl PlanarDecoder {
    /// Decodes a bitmap of `width` by `height` pixels and paints its upper left part into `rect`.
    pub(super) fn paint(
        &mut self,
        screen: &mut Framebuffer,
        rect: Rect,
        (width, height): (usize, usize),
        rows: Rows,
        data: &[u8],
    ) -> Result<(), String> {
        let (&header, body) = data.split_first().ok_or("empty planar stream")?;
        if header & (COLOR_LOSS | SUBSAMPLED) != 0 {
            return self.paint_lossy(screen, rect, (width, height), rows, data);
        }
        let plane = width * height;
        let alpha = header & NO_ALPHA == 0;
        let planes: &[u8] = if header & RLE == 0 {
            let skipped = if alpha { plane } else { 0 };
            body.get(skipped..skipped + 3 * plane)
                .ok_or_else(|| format!("planar stream of {} bytes is too short", data.len()))?
        } else {
            let least = (3 + usize::from(alpha)) * height * width.div_ceil(SEGMENT_PIXELS_MAX);
            if body.len() < least {
                return Err(format!("planar stream of {} bytes is too short", data.len()));
            }
            let room = 3 * plane + STEP;
            if self.planes.len() < room {
                self.planes.resize(room, 0);
            }
            let mut source = body;
            if alpha {
                // Of no use, but its length is only known after decoding; the first colour plane overwrites it.
                source = decode_plane(source, &mut self.planes[..plane + STEP], width)?;
            }
            for index in 0..3 {
                source = decode_plane(source, &mut self.planes[index * plane..][..plane + STEP], width)?;
            }
            &self.planes[..3 * plane]
        };
        let (red, rest) = planes.split_at(plane);
        let (green, blue) = rest.split_at(plane);
        screen.paint(rect, |row, out| {
            let start = rows.of(row, height) * width;
            let span = start..start + out.len() / 4;
            interleave(&red[span.clone()], &green[span.clone()], &blue[span], out);
        });
        Ok(())
    }

    fn paint_lossy(
        &mut self,
        screen: &mut Framebuffer,
        rect: Rect,
        (width, height): (usize, usize),
        rows: Rows,
        data: &[u8],
    ) -> Result<(), String> {
        self.rgb.clear();
        let (loss, rgb) = (&mut self.loss, &mut self.rgb);
        guarded("planar decoder", || {
            loss.decode_bitmap_stream_to_rgb24(data, rgb, width, height)
        })?
        .map_err(|error| error.to_string())?;
        let rgb = &self.rgb;
        if rgb.len() < 3 * width * height {
            return Err("planar stream gave too few pixels".to_owned());
        }
        screen.paint(rect, |row, out| {
            let start = rows.of(row, height) * width * 3;
            let pixels = rgb[start..].as_chunks::<3>().0;
            for (pixel, [red, green, blue]) in out.as_chunks_mut::<4>().0.iter_mut().zip(pixels) {
                *pixel = [*red, *green, *blue, 255];
            }
        });
        Ok(())
    }
}

/// Decodes one run-length encoded plane and returns what follows it in the source. The plane has [`STEP`] bytes of room behind
/// it, which are written, too: where there is room, 16 pixels are made at once however many are wanted, and the
/// next ones overwrite what was too much.
fn decode_plane<'a>(mut source: &'a [u8], plane: &mut [u8], width: usize) -> Result<&'a [u8], &'static str> {
    const SHORT: &str = "planar stream ends within a plane";
    const WIDE: &str = "planar run is longer than its row";
    // The first row differs from nothing, and has its values as they are.
    let first = plane.get_mut(..width).ok_or(WIDE)?;
    let mut column = 0;
    let mut value = 0u8;
    while column < width {
        let (raw, run, after) = segment(source).ok_or(SHORT)?;
        source = after;
        let end = column + raw.len();
        first.get_mut(column..end).ok_or(WIDE)?.copy_from_slice(raw);
        if let Some(&last) = raw.last() {
            value = last;
        }
        column = end + run;
        first.get_mut(end..column).ok_or(WIDE)?.fill(value);
    }
    let mut start = width;
    while start + STEP < plane.len() {
        let end = start + width;
        let mut at = start;
        let mut delta = 0u8;
        while at < end {
            let (&control, rest) = source.split_first().ok_or(SHORT)?;
            let high = usize::from(control >> 4);
            let (raw, run) = match control & 0x0F {
                1 => (0, 16 + high),
                2 => (0, 32 + high),
                run => (high, usize::from(run)),
            };
            if at + raw + run > end {
                return Err(WIDE);
            }
            if raw > 0 {
                let (deltas, after) = chunk(rest, raw).ok_or(SHORT)?;
                source = after;
                let deltas = deltas.map(unfold);
                add(plane, at, width, &deltas);
                delta = deltas[raw - 1];
                at += raw;
            } else {
                source = rest;
            }
            let mut done = 0;
            while done < run {
                add(plane, at + done, width, &[delta; STEP]);
                done += STEP;
            }
            at += run;
        }
        start = end;
    }
    Ok(source)
}

/// The next `length` bytes, at most 15, followed by whatever; and the source behind them.
#[inline]
fn chunk(source: &[u8], length: usize) -> Option<([u8; STEP], &[u8])> {
    let rest = source.get(length..)?;
    let chunk = source.first_chunk::<STEP>().copied().unwrap_or_else(|| {
        let mut chunk = [0; STEP];
        chunk[..length].copy_from_slice(&source[..length]);
        chunk
    });
    Some((chunk, rest))
}

/// Makes the pixels from `at` on: those a row above and what they differ by.
#[inline]
fn add(plane: &mut [u8], at: usize, width: usize, deltas: &[u8; STEP]) {
    let above = plane.get(at - width..).and_then(|above| above.first_chunk::<STEP>());
    let Some(above) = above.copied() else { return };
    if let Some(out) = plane.get_mut(at..).and_then(|out| out.first_chunk_mut::<STEP>()) {
        for ((out, above), delta) in out.iter_mut().zip(above).zip(deltas) {
            *out = above.wrapping_add(*delta);
        }
    }
}

/// One segment: raw bytes, length of the run after them, and the rest of the source.
#[inline]
fn segment(source: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let (&control, rest) = source.split_first()?;
    let high = usize::from(control >> 4);
    let (raw, run) = match control & 0x0F {
        1 => (0, 16 + high),
        2 => (0, 32 + high),
        run => (high, usize::from(run)),
    };
    let (raw, rest) = rest.split_at_checked(raw)?;
    Some((raw, run, rest))
}

/// The difference to the row above: even codes go up, odd codes down.
#[inline]
fn unfold(code: u8) -> u8 {
    (code >> 1) ^ 0u8.wrapping_sub(code & 1)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use ironrdp_graphics::rdp6::{BitmapStreamEncoder, RgbAChannels, RgbChannels};
    use proptest::prelude::*;

    use super::*;

    fn decode(width: u16, height: u16, data: &[u8]) -> Result<Vec<u8>, String> {
        let mut screen = Framebuffer::new(width, height).unwrap();
        let rect = screen.clip(0, 0, width.into(), height.into()).unwrap();
        PlanarDecoder::default().paint(&mut screen, rect, (width.into(), height.into()), Rows::Up, data)?;
        Ok(screen.picture().rgba.to_vec())
    }

    fn flipped_rgba(width: usize, rgb: &[u8]) -> Vec<u8> {
        rgb.chunks_exact(width * 3)
            .rev()
            .flat_map(|row| row.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], 255]))
            .collect()
    }

    #[test]
    fn unfolds_differences() {
        let expected: [(u8, i8); 6] = [(0, 0), (2, 1), (1, -1), (3, -2), (254, 127), (255, -128)];
        for (code, value) in expected {
            assert_eq!(unfold(code), value.cast_unsigned(), "code {code}");
        }
    }

    #[test]
    fn names_what_is_wrong() {
        assert_eq!(decode(4, 4, &[]), Err("empty planar stream".to_owned()));
        assert!(decode(4, 4, &[NO_ALPHA, 1, 2, 3]).unwrap_err().contains("too short"));
        // A run of 5 in a row of 4.
        let mut long = vec![NO_ALPHA | RLE];
        long.extend([0x05; 30]);
        assert_eq!(decode(4, 4, &long), Err("planar run is longer than its row".to_owned()));
    }

    proptest! {
        #[test]
        fn decodes_what_ironrdp_encodes(width in 1u16..70, height in 1u16..20, seed: u64, rle: bool, smooth: bool) {
            let mut state = seed;
            let rgb: Vec<u8> = (0..usize::from(width) * usize::from(height) * 3)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let byte = u8::try_from(state >> 56).unwrap();
                    if smooth { byte & 0xC1 } else { byte }
                })
                .collect();
            let mut data = vec![0; rgb.len() * 2 + 64];
            let length = BitmapStreamEncoder::new(width.into(), height.into())
                .encode_bitmap::<RgbChannels>(&rgb, &mut data, rle)
                .unwrap();
            prop_assert_eq!(decode(width, height, &data[..length]).unwrap(), flipped_rgba(width.into(), &rgb));
            // With an alpha plane in front, which is dropped.
            let rgba: Vec<u8> = rgb.chunks_exact(3).flat_map(|p| [p[0], p[1], p[2], p[1]]).collect();
            let mut data = vec![0; rgba.len() * 2 + 64];
            let length = BitmapStreamEncoder::new(width.into(), height.into())
                .encode_bitmap_alpha::<RgbAChannels>(&rgba, &mut data, rle)
                .unwrap();
            // The encoder forgets to say that there is one.
            data[0] &= !NO_ALPHA;
            prop_assert_eq!(decode(width, height, &data[..length]).unwrap(), flipped_rgba(width.into(), &rgb));
        }

        #[test]
        fn agrees_with_ironrdp_on_noise(width in 1u16..20, height in 1u16..6, header: u8, noise: Vec<u8>) {
            let data: Vec<u8> = [header].into_iter().chain(noise.iter().map(|byte| byte & 0x73 | 0x10)).collect();
            let mut rgb = Vec::new();
            let theirs = BitmapStreamDecoder::default()
                .decode_bitmap_stream_to_rgb24(&data, &mut rgb, width.into(), height.into());
            let ours = decode(width, height, &data);
            if theirs.is_ok() {
                prop_assert_eq!(ours.unwrap(), flipped_rgba(width.into(), &rgb));
            }
        }
    }
}
