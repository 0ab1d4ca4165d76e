//! Bitmap updates, [MS-RDPBCGR] 2.2.9.1.1.3.1.2: each rectangle decoded and reported by itself.

use super::color::{Depth, Palette};
use super::event::{Decoded, Rect, UndecodedKind};
use super::framebuffer::Framebuffer;
use super::pending::Stage;
use super::planar::{PlanarDecoder, Rows};
use super::reader::Reader;
use super::rle;
use super::sink::Sink;

const COMPRESSED: u16 = 0x0001;
const NO_HEADER: u16 = 0x0400;
/// Bounds the scratch space that one bitmap can ask for; larger ones do not fit their 16-bit lengths anyway.
const EDGE_MAX: usize = 8192;
const PIXELS_MAX: usize = 16 << 20;

/// Decoders of bitmap updates with their scratch space.
#[derive(Default)]
pub(super) struct Bitmaps {
    planar: PlanarDecoder,
    pixels: Vec<u32>,
    pub(super) decoded: Decoded,
}

/// One `TS_BITMAP_DATA`.
pub(super) struct Bitmap<'a> {
    left: u16,
    top: u16,
    right: u16,
    bottom: u16,
    width: usize,
    height: usize,
    bits: u16,
    flags: u16,
    data: &'a [u8],
}

impl<'a> Bitmap<'a> {
    pub(super) fn read(reader: &mut Reader<'a>) -> Option<Self> {
        Some(Self {
            left: reader.u16()?,
            top: reader.u16()?,
            right: reader.u16()?,
            bottom: reader.u16()?,
            width: reader.len16()?,
            height: reader.len16()?,
            bits: reader.u16()?,
            flags: reader.u16()?,
            data: {
                let length = reader.len16()?;
                reader.take(length)?
            },
        })
    }

    /// The columns and rows to show: the destination's edges are inclusive, the bitmap may be padded beyond them.
    fn shown(&self) -> Option<(usize, usize)> {
        let columns = usize::from(self.right.checked_sub(self.left)?) + 1;
        let rows = usize::from(self.bottom.checked_sub(self.top)?) + 1;
        Some((columns.min(self.width), rows.min(self.height)))
    }

    /// What of the picture it paints.
    pub(super) fn place(&self, screen: &Framebuffer) -> Option<Rect> {
        let (columns, rows) = self.shown()?;
        screen.clip(self.left.into(), self.top.into(), columns, rows)
    }
}

/// Takes an update after its type field apart: each bitmap, and the bytes that it was read from.
pub(super) fn bitmaps<'a>(
    data: &'a [u8],
    sink: &mut Sink<'_>,
    mut each: impl FnMut(&Bitmap<'a>, &'a [u8], &mut Sink<'_>),
) {
    let mut reader = Reader::new(data);
    let Some(count) = reader.u16() else {
        sink.undecoded(UndecodedKind::Bitmap, "bitmap update without a count", data);
        return;
    };
    for index in 0..count {
        let start = reader.rest();
        let Some(bitmap) = Bitmap::read(&mut reader) else {
            let error = format!("bitmap update ends in rectangle {} of {count}", index + 1);
            sink.undecoded(UndecodedKind::Bitmap, error, start);
            return;
        };
        each(&bitmap, &start[..start.len() - reader.rest().len()], sink);
    }
}

impl Bitmaps {
    /// Paints a bitmap, or with [`Stage::Look`] only looks at its header; tells what it paints.
    pub(super) fn paint(
        &mut self,
        screen: &mut Framebuffer,
        palette: &Palette,
        bitmap: &Bitmap<'_>,
        stage: Stage<'_>,
    ) -> Result<Option<Rect>, String> {
        let (width, height) = (bitmap.width, bitmap.height);
        if width == 0 || height == 0 || bitmap.shown().is_none() {
            return Err(format!("empty bitmap of {width}x{height}"));
        }
        if width > EDGE_MAX || height > EDGE_MAX || width * height > PIXELS_MAX {
            return Err(format!("bitmap of {width}x{height} is too large"));
        }
        let depth = Depth::from_bits(bitmap.bits).ok_or_else(|| format!("bitmap of {} bpp", bitmap.bits))?;
        // A rectangle beyond the picture is not worth decoding, and no fault.
        let Some(rect) = bitmap.place(screen) else {
            return Ok(None);
        };
        if depth == Depth::Rgb8 {
            palette.check()?;
        }
        let data = encoded(bitmap, rect, depth)?;
        if let Stage::Look = stage {
            return Ok(Some(rect));
        }
        self.decode(screen, palette, (bitmap, data), (rect, depth))?;
        Ok(Some(rect))
    }

    fn decode(
        &mut self,
        screen: &mut Framebuffer,
        palette: &Palette,
        (bitmap, data): (&Bitmap<'_>, &[u8]),
        (rect, depth): (Rect, Depth),
    ) -> Result<(), String> {
        let (width, height) = (bitmap.width, bitmap.height);
        if bitmap.flags & COMPRESSED == 0 {
            self.decoded.raw += 1;
            return paint_raw(screen, palette, rect, depth, (height, stride(width, depth)), data);
        }
        if depth == Depth::Xrgb8888 {
            self.decoded.planar += 1;
            return self.planar.paint(screen, rect, (width, height), Rows::Up, data);
        }
        self.pixels.clear();
        self.pixels.resize(width * height, 0);
        rle::decode(data, &mut self.pixels, width, depth)?;
        self.decoded.rle += 1;
        let pixels = &self.pixels;
        screen.paint(rect, |row, out| {
            let start = (height - 1 - row) * width;
            depth.paint(&pixels[start..], palette, out);
        });
        Ok(())
    }
}

/// Bytes of a row of a bitmap that is not compressed.
fn stride(width: usize, depth: Depth) -> usize {
    (width * depth.bytes()).next_multiple_of(4)
}

/// The bytes that make up the pixels, if there can be enough of them: what has too few paints nothing.
fn encoded<'a>(bitmap: &Bitmap<'a>, rect: Rect, depth: Depth) -> Result<&'a [u8], String> {
    let (width, height) = (bitmap.width, bitmap.height);
    if bitmap.flags & COMPRESSED == 0 {
        has_rows(rect, depth, (height, stride(width, depth)), bitmap.data)?;
        return Ok(bitmap.data);
    }
    let data = if bitmap.flags & NO_HEADER == 0 {
        body_after_header(bitmap.data).ok_or("bitmap is shorter than its compression header says")?
    } else {
        bitmap.data
    };
    // No order makes more pixels from a byte.
    if depth != Depth::Xrgb8888 && data.len().saturating_mul(65535) < width * height {
        return Err(format!("bitmap of {width}x{height} in {} bytes", data.len()));
    }
    Ok(data)
}

/// Skips `TS_CD_HEADER` and keeps what it counts.
fn body_after_header(data: &[u8]) -> Option<&[u8]> {
    let mut reader = Reader::new(data);
    reader.skip(2)?;
    let length = reader.len16()?;
    reader.skip(4)?;
    reader.take(length)
}

/// Whether a bitmap that is not compressed has the rows that `rect` shows; gives the bytes that are shown of each.
pub(super) fn has_rows(
    rect: Rect,
    depth: Depth,
    (height, stride): (usize, usize),
    data: &[u8],
) -> Result<usize, String> {
    let row_bytes = usize::from(rect.width) * depth.bytes();
    let needed = (height.saturating_sub(1)) * stride + row_bytes;
    if data.len() < needed || usize::from(rect.height) > height || row_bytes > stride {
        return Err(format!("bitmap of {} bytes, needs {}", data.len(), height * stride));
    }
    Ok(row_bytes)
}

/// Paints a bitmap that is not compressed, rows from the last up, `stride` bytes each.
pub(super) fn paint_raw(
    screen: &mut Framebuffer,
    palette: &Palette,
    rect: Rect,
    depth: Depth,
    (height, stride): (usize, usize),
    data: &[u8],
) -> Result<(), String> {
    let row_bytes = has_rows(rect, depth, (height, stride), data)?;
    screen.paint(rect, |row, out| {
        let start = (height - 1 - row) * stride;
        let line = &data[start..start + row_bytes];
        let out = out.as_chunks_mut::<4>().0;
        if depth == Depth::Xrgb8888 {
            for (out, [blue, green, red, _]) in out.iter_mut().zip(line.as_chunks::<4>().0) {
                *out = [*red, *green, *blue, 255];
            }
        } else {
            for (out, bytes) in out.iter_mut().zip(line.chunks_exact(depth.bytes())) {
                *out = depth.rgba(depth.read(bytes), palette);
            }
        }
    });
    Ok(())
}
