//! Pixel formats of bitmaps and their way to RGBA.

/// How a bitmap's pixels are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Depth {
    /// Index into the palette.
    Rgb8,
    /// 5 bits each.
    Rgb555,
    /// 5, 6 and 5 bits.
    Rgb565,
    /// Blue, green, red.
    Rgb888,
    /// Blue, green, red and a byte of no meaning.
    Xrgb8888,
}

impl Depth {
    pub(super) fn from_bits(bits: u16) -> Option<Self> {
        match bits {
            8 => Some(Self::Rgb8),
            15 => Some(Self::Rgb555),
            16 => Some(Self::Rgb565),
            24 => Some(Self::Rgb888),
            32 => Some(Self::Xrgb8888),
            _ => None,
        }
    }

    /// Bytes a pixel.
    pub(super) fn bytes(self) -> usize {
        match self {
            Self::Rgb8 => 1,
            Self::Rgb555 | Self::Rgb565 => 2,
            Self::Rgb888 => 3,
            Self::Xrgb8888 => 4,
        }
    }

    /// All bits set.
    pub(super) fn white(self) -> u32 {
        match self {
            Self::Rgb8 => 0xFF,
            Self::Rgb555 => 0x7FFF,
            Self::Rgb565 => 0xFFFF,
            Self::Rgb888 | Self::Xrgb8888 => 0x00FF_FFFF,
        }
    }

    /// One pixel from its little-endian bytes.
    #[inline]
    pub(super) fn read(self, bytes: &[u8]) -> u32 {
        bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte))
    }

    /// One pixel as RGBA.
    #[inline]
    pub(super) fn rgba(self, pixel: u32, palette: &Palette) -> [u8; 4] {
        let [low, middle, high, _] = pixel.to_le_bytes();
        let bits = |shift: u32, mask: u32| pixel >> shift & mask;
        let [red, green, blue] = match self {
            Self::Rgb8 => palette.colors[usize::from(low)],
            Self::Rgb555 => [widen5(bits(10, 31)), widen5(bits(5, 31)), widen5(bits(0, 31))],
            Self::Rgb565 => [widen5(bits(11, 31)), widen6(bits(5, 63)), widen5(bits(0, 31))],
            Self::Rgb888 | Self::Xrgb8888 => [high, middle, low],
        };
        [red, green, blue, 255]
    }
}

impl Depth {
    /// Pixels from their bytes, as many as there are of both. The depth is looked at once, so that what is done a pixel is
    /// the compiler's to do for several at a time; so below, too.
    pub(super) fn read_all(self, bytes: &[u8], out: &mut [u32]) {
        match self {
            Self::Rgb8 => bytes.iter().zip(out).for_each(|(byte, out)| *out = u32::from(*byte)),
            Self::Rgb555 | Self::Rgb565 => {
                let pixels = bytes.as_chunks::<2>().0.iter();
                pixels
                    .zip(out)
                    .for_each(|(bytes, out)| *out = u32::from(u16::from_le_bytes(*bytes)));
            }
            Self::Rgb888 => {
                let pixels = bytes.as_chunks::<3>().0.iter();
                pixels
                    .zip(out)
                    .for_each(|([a, b, c], out)| *out = u32::from_le_bytes([*a, *b, *c, 0]));
            }
            Self::Xrgb8888 => {
                let pixels = bytes.as_chunks::<4>().0.iter();
                pixels
                    .zip(out)
                    .for_each(|(bytes, out)| *out = u32::from_le_bytes(*bytes));
            }
        }
    }

    /// Pixels as RGBA, as many as there are of both.
    pub(super) fn paint(self, pixels: &[u32], palette: &Palette, out: &mut [u8]) {
        let each = pixels.iter().zip(out.as_chunks_mut::<4>().0);
        match self {
            Self::Rgb8 => each.for_each(|(pixel, out)| *out = Self::Rgb8.rgba(*pixel, palette)),
            Self::Rgb555 => each.for_each(|(pixel, out)| *out = Self::Rgb555.rgba(*pixel, palette)),
            Self::Rgb565 => each.for_each(|(pixel, out)| *out = Self::Rgb565.rgba(*pixel, palette)),
            Self::Rgb888 | Self::Xrgb8888 => each.for_each(|(pixel, out)| *out = Self::Rgb888.rgba(*pixel, palette)),
        }
    }
}

/// A pixel that hides what is behind it.
#[inline]
pub(super) fn opaque(red: u8, green: u8, blue: u8) -> [u8; 4] {
    (u32::from(red) | u32::from(green) << 8 | u32::from(blue) << 16 | 0xFF00_0000).to_le_bytes()
}

/// Pixels from their colours, as many as there are of all four. Never inlined: by the function's arguments the compiler knows
/// that writing pixels doesn't change colours, and makes several at once.
#[inline(never)]
pub(super) fn interleave(red: &[u8], green: &[u8], blue: &[u8], out: &mut [u8]) {
    let colors = red.iter().zip(green).zip(blue);
    for (out, ((red, green), blue)) in out.as_chunks_mut::<4>().0.iter_mut().zip(colors) {
        *out = opaque(*red, *green, *blue);
    }
}

/// Full stays full: the high bits are repeated below. Clients of FreeRDP show the same.
#[inline]
fn widen5(value: u32) -> u8 {
    low_byte(value << 3 | value >> 2)
}

/// As FreeRDP shows it, pixel for pixel. Other clients may repeat the bits, which is at most 4 darker.
#[inline]
fn widen6(value: u32) -> u8 {
    low_byte(((value << 2) + (value >> 3)).min(255))
}

#[inline]
fn low_byte(value: u32) -> u8 {
    value.to_le_bytes()[0]
}

/// Colours of 8 bpp pixels.
pub(super) struct Palette {
    pub(super) colors: [[u8; 3]; 256],
    /// A later one may have been dropped unseen.
    lost: bool,
}

impl Default for Palette {
    /// The twenty colours that Windows reserves; the rest black until the desktop sends a palette.
    fn default() -> Self {
        const LOW: [[u8; 3]; 10] = [
            [0, 0, 0],
            [128, 0, 0],
            [0, 128, 0],
            [128, 128, 0],
            [0, 0, 128],
            [128, 0, 128],
            [0, 128, 128],
            [192, 192, 192],
            [192, 220, 192],
            [166, 202, 240],
        ];
        const HIGH: [[u8; 3]; 10] = [
            [255, 251, 240],
            [160, 160, 164],
            [128, 128, 128],
            [255, 0, 0],
            [0, 255, 0],
            [255, 255, 0],
            [0, 0, 255],
            [255, 0, 255],
            [0, 255, 255],
            [255, 255, 255],
        ];
        let mut colors = [[0; 3]; 256];
        colors[..10].copy_from_slice(&LOW);
        colors[246..].copy_from_slice(&HIGH);
        Self { colors, lost: false }
    }
}

impl Palette {
    /// Updates were dropped unseen.
    pub(super) fn lose(&mut self) {
        self.lost = true;
    }

    /// # Errors
    /// The colours are not known.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.lost {
            return Err("the palette is not known since reads were dropped".to_owned());
        }
        Ok(())
    }

    /// Takes a palette update (`TS_UPDATE_PALETTE_DATA` after its type field, [MS-RDPBCGR] 2.2.9.1.1.3.1.1).
    pub(super) fn update(&mut self, data: &[u8]) -> Option<()> {
        let (count, colors) = data.get(2..)?.split_first_chunk::<4>()?;
        if u32::from_le_bytes(*count) != 256 {
            return None;
        }
        let (colors, _) = colors.as_chunks::<3>();
        self.colors = *colors.first_chunk::<256>()?;
        self.lost = false;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_stays_full_and_black_stays_black() {
        let palette = Palette::default();
        for depth in [
            Depth::Rgb8,
            Depth::Rgb555,
            Depth::Rgb565,
            Depth::Rgb888,
            Depth::Xrgb8888,
        ] {
            assert_eq!(depth.rgba(depth.white(), &palette), [255; 4], "{depth:?}");
            assert_eq!(depth.rgba(0, &palette), [0, 0, 0, 255], "{depth:?}");
        }
        assert_eq!(Depth::Rgb565.rgba(0x8021, &palette), [132, 4, 8, 255]);
        assert_eq!(Depth::Rgb565.rgba(62 << 5, &palette), [0, 255, 0, 255]);
        assert_eq!(Depth::Rgb565.rgba(61 << 5, &palette), [0, 251, 0, 255]);
        assert_eq!(Depth::Rgb555.rgba(0x4021, &palette), [132, 8, 8, 255]);
        assert_eq!(
            Depth::Rgb888.rgba(Depth::Rgb888.read(&[1, 2, 3]), &palette),
            [3, 2, 1, 255]
        );
        assert_eq!(Depth::Rgb8.rgba(249, &palette), [255, 0, 0, 255]);
    }

    #[test]
    fn many_at_once_are_as_one_by_one() {
        let palette = Palette::default();
        let bytes: Vec<u8> = (0..4 * 77_u32)
            .map(|index| low_byte(index * index * 7 + index / 3))
            .collect();
        for depth in [
            Depth::Rgb8,
            Depth::Rgb555,
            Depth::Rgb565,
            Depth::Rgb888,
            Depth::Xrgb8888,
        ] {
            let mut pixels = [0; 77];
            depth.read_all(&bytes[..77 * depth.bytes()], &mut pixels);
            let mut rgba = [0; 77 * 4];
            depth.paint(&pixels, &palette, &mut rgba);
            for (index, bytes) in bytes.chunks_exact(depth.bytes()).take(77).enumerate() {
                assert_eq!(pixels[index], depth.read(bytes), "{depth:?}");
                assert_eq!(rgba[index * 4..][..4], depth.rgba(pixels[index], &palette), "{depth:?}");
            }
        }
    }

    #[test]
    fn takes_whole_palettes_only() {
        let mut palette = Palette::default();
        let mut data = vec![0, 0, 0, 1, 0, 0];
        data.extend((0..768u32).map(low_byte));
        assert_eq!(palette.update(&data[..773]), None);
        assert_eq!(palette.colors[249], [255, 0, 0]);
        assert_eq!(palette.update(&data), Some(()));
        assert_eq!(palette.colors[1], [3, 4, 5]);
    }
}
