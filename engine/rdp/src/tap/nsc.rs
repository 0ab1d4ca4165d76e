//! NSCodec in surface commands, [MS-RDPNSC] 2.2: four planes (luma, two of chroma, alpha), each a row of runs.

use super::event::Rect;
use super::framebuffer::Framebuffer;
use super::reader::Reader;

/// The bytes at the end of a plane that are never part of a run.
const END_BYTES: usize = 4;
/// A run whose length stands in four bytes instead of one.
const LONG_RUN: u8 = 0xFF;
/// What a run's length of one byte begins at.
const RUN_MIN: usize = 2;
/// Rounds up the sides of a picture whose chroma has half of its columns and rows.
const COLUMNS: usize = 8;
const ROWS: usize = 2;
/// A picture may be larger than the screen by what is missing to a whole tile.
const TILE: u16 = 64;
/// Room of a plane that is kept from picture to picture.
const KEPT_BYTES: usize = 1 << 20;

/// The decoder with its scratch space.
#[derive(Default)]
pub(super) struct NsCodec {
    planes: [Vec<u8>; 3],
}

/// What precedes the planes.
struct Head {
    /// Bytes of luma, both chromas and alpha.
    lengths: [usize; 4],
    /// How far chroma was shifted to the right.
    shift: u8,
    subsampled: bool,
}

impl Head {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        let lengths = [reader.len32()?, reader.len32()?, reader.len32()?, reader.len32()?];
        let [loss, subsampling] = [reader.u8()?, reader.u8()?];
        // reserved
        reader.skip(2)?;
        Some(Self {
            lengths,
            shift: loss.checked_sub(1).filter(|shift| *shift < 7)?,
            subsampled: match subsampling {
                0 => false,
                1 => true,
                _ => return None,
            },
        })
    }
}

impl NsCodec {
    /// Paints a picture of `width` by `height` whose visible part is `rect`; its rows come from the last up.
    pub(super) fn paint(
        &mut self,
        screen: &mut Framebuffer,
        rect: Rect,
        (width, height): (usize, usize),
        data: &[u8],
    ) -> Result<(), String> {
        if usize::from(rect.width) > width || usize::from(rect.height) > height {
            return Err("NSCodec picture that is smaller than its place".to_owned());
        }
        let whole = |length: u16| usize::from(length).next_multiple_of(TILE.into());
        if width > whole(screen.width()) || height > whole(screen.height()) {
            return Err(format!("NSCodec picture of {width}x{height} is larger than the screen"));
        }
        let result = self.paint_planes(screen, rect, (width, height), data);
        for plane in &mut self.planes {
            plane.clear();
            plane.shrink_to(KEPT_BYTES);
        }
        result
    }

    fn paint_planes(
        &mut self,
        screen: &mut Framebuffer,
        rect: Rect,
        (width, height): (usize, usize),
        data: &[u8],
    ) -> Result<(), String> {
        let mut reader = Reader::new(data);
        let Head {
            lengths,
            shift,
            subsampled,
        } = Head::read(&mut reader).ok_or("malformed NSCodec header")?;
        let luma_width = if subsampled {
            width.next_multiple_of(COLUMNS)
        } else {
            width
        };
        let half = |length: usize| if subsampled { length / 2 } else { length };
        let chroma_width = half(luma_width);
        let chroma_rows = half(if subsampled {
            height.next_multiple_of(ROWS)
        } else {
            height
        });
        let sizes = [
            luma_width * height,
            chroma_width * chroma_rows,
            chroma_width * chroma_rows,
        ];
        for ((plane, size), length) in self.planes.iter_mut().zip(sizes).zip(lengths) {
            let data = reader.take(length).ok_or("NSCodec plane that ends early")?;
            unpack(data, size, plane).ok_or_else(|| format!("NSCodec plane of {length} bytes for {size}"))?;
        }
        // alpha means nothing on a screen, but it has to be there
        reader.skip(lengths[3]).ok_or("NSCodec plane that ends early")?;
        let [luma, orange, green] = &self.planes;
        screen.paint(rect, |row, out| {
            let row = height - 1 - row;
            let luma = luma.get(row * luma_width..).unwrap_or_default();
            let start = half(row) * chroma_width;
            let (orange, green) = (
                orange.get(start..).unwrap_or_default(),
                green.get(start..).unwrap_or_default(),
            );
            for (column, (out, luma)) in out.as_chunks_mut::<4>().0.iter_mut().zip(luma).enumerate() {
                let chroma = |plane: &[u8]| {
                    let value = plane.get(half(column)).copied().unwrap_or_default();
                    i16::from(value.wrapping_shl(shift.into()).cast_signed())
                };
                *out = rgba(i16::from(*luma), chroma(orange), chroma(green));
            }
        });
        Ok(())
    }
}

/// One pixel of luma, orange and green chroma.
fn rgba(luma: i16, orange: i16, green: i16) -> [u8; 4] {
    let level = |value: i16| value.clamp(0, 255).to_le_bytes()[0];
    let rest = luma - green;
    [level(rest + orange), level(luma + green), level(rest - orange), 255]
}

/// Fills `out` with a plane of `size` bytes; `None` if `data` makes another number of them.
fn unpack(data: &[u8], size: usize, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    if data.len() >= size {
        out.extend_from_slice(data.get(..size).filter(|_| data.len() == size)?);
        return Some(());
    }
    out.reserve(size);
    let mut reader = Reader::new(data);
    while size - out.len() > END_BYTES {
        let value = reader.u8()?;
        // what follows the last value is not compared: it is the end
        let run = size - out.len() > END_BYTES + 1 && reader.rest().first() == Some(&value);
        let length = if run {
            reader.skip(1)?;
            match reader.u8()? {
                LONG_RUN => reader.len32()?,
                short => usize::from(short) + RUN_MIN,
            }
        } else {
            1
        };
        if length > size - out.len() - END_BYTES {
            return None;
        }
        out.resize(out.len() + length, value);
    }
    out.extend_from_slice(reader.take(size - out.len())?);
    reader.is_empty().then_some(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn stream(planes: [&[u8]; 4], loss: u8, subsampling: u8) -> Vec<u8> {
        let mut data: Vec<u8> = planes
            .iter()
            .flat_map(|plane| (plane.len() as u32).to_le_bytes())
            .collect();
        data.extend([loss, subsampling, 0, 0]);
        data.extend(planes.concat());
        data
    }

    /// What becomes of a black screen of 4 by 2 pixels.
    fn painted(size: (usize, usize), data: &[u8]) -> Result<Vec<[u8; 4]>, String> {
        let mut screen = Framebuffer::new(4, 2).unwrap();
        let rect = screen.clip(0, 0, size.0, size.1).unwrap();
        NsCodec::default().paint(&mut screen, rect, size, data)?;
        Ok(screen.picture().rgba.as_chunks().0.to_vec())
    }

    #[test]
    fn rows_come_from_the_last_up() {
        let luma = [1, 2, 3, 4, 50, 60, 70, 80];
        // a run of four, and four plain ones at the end
        let zero = [0, 0, 2, 0, 0, 0, 0];
        let pixels = painted((4, 2), &stream([&luma, &zero, &zero, &[]], 1, 0)).unwrap();
        let grey: Vec<[u8; 4]> = [50, 60, 70, 80, 1, 2, 3, 4].map(|luma| [luma, luma, luma, 255]).into();
        assert_eq!(pixels, grey);
    }

    #[test]
    fn chroma_is_shifted_and_shared() {
        // 4 by 2 pixels take 8 by 2 of luma and 4 by 1 of chroma
        let luma = [100; 16];
        let (orange, green) = ([10, 0xF6, 0, 0], [0, 0, 5, 0]);
        let pixels = painted((4, 2), &stream([&luma, &orange, &green, &[]], 3, 1)).unwrap();
        let left = [140, 100, 60, 255];
        let right = [60, 100, 140, 255];
        assert_eq!(pixels, [left, left, right, right, left, left, right, right]);
        let pixels = painted((4, 2), &stream([&luma, &[0; 4], &[50, 0, 0, 0], &[]], 1, 1)).unwrap();
        assert_eq!(pixels[0], [50, 150, 50, 255]);
        // both ends of the range
        let pixels = painted((4, 2), &stream([&luma, &[0x7F, 0x80, 0, 0], &[0; 4], &[]], 1, 1)).unwrap();
        assert_eq!((pixels[0], pixels[2]), ([227, 100, 0, 255], [0, 100, 228, 255]));
    }

    #[test]
    fn planes_fill_their_place_and_no_more() {
        let zero = [0; 8];
        for (luma, right) in [
            (&[7, 7, 2, 7, 7, 7, 7][..], true),
            (&[7, 7, 0xFF, 4, 0, 0, 0, 7, 7, 7, 7], false),
            (&[7, 7, 0, 8, 9, 1, 2, 3], true),
            (&[7, 7, 1, 8, 1, 2, 3, 4], true),
            (&[7, 7, 3, 1, 2, 3, 4], false),
            (&[7, 7, 2, 1, 2, 3], false),
            (&[7, 7, 2, 1, 2, 3, 4, 5], true),
            (&[], false),
            (&[7], false),
        ] {
            let result = painted((4, 2), &stream([luma, &zero, &zero, &[]], 1, 0));
            // eight bytes are plain, whatever they look like
            assert_eq!(result.is_ok(), right, "{luma:?}");
        }
        // a long run
        let mut out = Vec::new();
        let data = [9, 9, 0xFF, 44, 1, 0, 0, 1, 2, 3, 4];
        assert_eq!(unpack(&data, 304, &mut out), Some(()));
        assert_eq!((out[299], &out[300..]), (9, &[1, 2, 3, 4][..]));
        // the fifth last byte never begins a run
        assert_eq!(unpack(&[3, 3, 1, 6, 6, 6, 6, 6], 8, &mut out), Some(()));
        assert_eq!(out, [3, 3, 1, 6, 6, 6, 6, 6]);
        assert_eq!(unpack(&[3, 3, 1, 6, 6, 6, 6, 6], 9, &mut out), None);
        assert_eq!(unpack(&[3, 3, 2, 6, 6, 6, 6, 6], 9, &mut out), Some(()));
        assert_eq!(out, [3, 3, 3, 3, 6, 6, 6, 6, 6]);
    }

    #[test]
    fn no_picture_takes_more_than_the_screen() {
        let mut screen = Framebuffer::new(1920, 1080).unwrap();
        let mut decoder = NsCodec::default();
        let mut paint = |width: u16, height: u16| {
            let size = usize::from(width) * usize::from(height);
            let plane = [&[9, 9, LONG_RUN][..], &((size - 4) as u32).to_le_bytes(), &[9; 4]].concat();
            let rect = screen.clip(0, 0, width.into(), height.into()).unwrap();
            let data = stream([&plane, &plane, &plane, &[]], 1, 0);
            let result = decoder.paint(&mut screen, rect, (width.into(), height.into()), &data);
            let kept: usize = decoder.planes.iter().map(Vec::capacity).sum();
            assert!(kept <= 3 * KEPT_BYTES, "{kept} bytes are kept");
            result
        };
        assert_eq!(paint(1920, 1088), Ok(()));
        for (width, height) in [(1921, 64), (64, 1089), (60_000, 60_000)] {
            let error = paint(width, height).unwrap_err();
            assert!(error.ends_with("is larger than the screen"), "{error}");
        }
    }

    #[test]
    fn cut_and_absurd_streams_are_refused() {
        let zero = [0; 8];
        let whole = stream([&zero, &zero, &zero, &zero], 7, 0);
        assert!(painted((4, 2), &whole).is_ok());
        assert!((0..whole.len()).all(|length| painted((4, 2), &whole[..length]).is_err()));
        for (loss, subsampling) in [(0, 0), (8, 0), (1, 2)] {
            assert!(painted((4, 2), &stream([&zero, &zero, &zero, &[]], loss, subsampling)).is_err());
        }
    }
}
