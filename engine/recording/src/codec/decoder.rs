//! Screen messages to pictures.

use super::{
    FRAME_VERSION, HEADER_LENGTH, KIND_DELTA, KIND_KEY, MIB, OP_COPY, OP_RAW, OP_RESIDUAL, OPS_MAX, SPAN_MAX_MIB,
    pixels, stream::Decompressor,
};
use crate::{
    Error, Picture, Rect, Result, ScreenMessage,
    picture::{PIXELS_MAX, check_size},
};

/// Screen messages in, pictures out.
///
/// Takes any bytes without panicking. Memory is bounded by the limits of docs/format.md section 10: the picture, one
/// frame, the zstd window; all of it is taken only when a message's header asks for it within these limits.
#[derive(Default)]
pub struct ScreenDecoder {
    width: u16,
    height: u16,
    picture: Vec<u8>,
    /// False before the first key and after an error.
    whole: bool,
    decompressor: Option<Decompressor>,
    span_raw: u64,
    span_max: u64,
    frame: Vec<u8>,
    scratch: Vec<u8>,
    copies: Vec<Rect>,
    written: Vec<Rect>,
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy)]
struct Header {
    key: bool,
    width: u16,
    height: u16,
    span_max: u64,
    ops: usize,
    length: usize,
}

impl Header {
    /// Reads and checks the header; `None` while there are too few bytes.
    fn read(bytes: &[u8]) -> Result<Option<Self>> {
        let Some(header) = bytes.first_chunk::<HEADER_LENGTH>() else {
            return Ok(None);
        };
        let [kind, version, w0, w1, h0, h1, s0, s1, o0, o1, o2, o3, l0, l1, l2, l3] = *header;
        if version != FRAME_VERSION {
            return Err(Error::unsupported(format!(
                "frame version {version} (this reader knows {FRAME_VERSION})"
            )));
        }
        let key = match kind {
            KIND_KEY => true,
            KIND_DELTA => false,
            _ => return Err(Error::malformed(format!("frame kind {kind}"))),
        };
        let (width, height) = (u16::from_le_bytes([w0, w1]), u16::from_le_bytes([h0, h1]));
        check_size(width, height).map_err(|error| Error::malformed(error.to_string()))?;
        let span_mib = u16::from_le_bytes([s0, s1]);
        if (key && span_mib == 0) || (!key && span_mib != 0) || span_mib > SPAN_MAX_MIB {
            return Err(Error::malformed(format!("span limit of {span_mib} MiB")));
        }
        let ops = u32::from_le_bytes([o0, o1, o2, o3]) as usize;
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        if ops > OPS_MAX {
            return Err(Error::too_large(format!("frame has {ops} operations")));
        }
        let length_max = ops * super::COPY_LENGTH + usize::from(width) * usize::from(height) * 3;
        if length > length_max {
            return Err(Error::too_large(format!(
                "frame of {length} bytes for {width}x{height}"
            )));
        }
        Ok(Some(Self {
            key,
            width,
            height,
            span_max: u64::from(span_mib) * MIB,
            ops,
            length,
        }))
    }
}

impl ScreenDecoder {
    /// A decoder without a picture. It allocates when the first key comes.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies the next message of the recording in order, or any key. Returns the rectangles that it wrote, in order;
    /// they may overlap (a key: the whole picture).
    ///
    /// # Errors
    /// Malformed or too large; a delta before any key. After an error only a key is accepted.
    pub fn apply(&mut self, message: &ScreenMessage) -> Result<&[Rect]> {
        let result = self.try_apply(message);
        self.whole = result.is_ok();
        result?;
        Ok(&self.written)
    }

    /// The picture now, alpha 255; `None` before the first key and after an error.
    #[must_use]
    pub fn picture(&self) -> Option<Picture<'_>> {
        self.whole.then(|| Picture {
            width: self.width,
            height: self.height,
            stride: usize::from(self.width) * 4,
            data: &self.picture,
        })
    }

    fn try_apply(&mut self, message: &ScreenMessage) -> Result<()> {
        self.written.clear();
        if !message.key && !self.whole {
            return Err(Error::malformed("screen message without a key before it"));
        }
        let mut decompressor = match self.decompressor.take() {
            Some(decompressor) => decompressor,
            None => Decompressor::new()?,
        };
        if message.key {
            decompressor.restart()?;
            self.span_raw = 0;
        }
        let mut frame = std::mem::take(&mut self.frame);
        let result = decompressor
            .message(&message.bytes, &mut frame, |bytes| {
                Ok(Header::read(bytes)?.map_or(HEADER_LENGTH, |header| HEADER_LENGTH + header.length))
            })
            .and_then(|()| self.draw(&frame, message.key));
        self.frame = frame;
        self.decompressor = Some(decompressor);
        result
    }

    fn draw(&mut self, frame: &[u8], key: bool) -> Result<()> {
        let header = Header::read(frame)?.ok_or_else(|| Error::malformed("screen message: no frame header"))?;
        if header.key != key {
            return Err(Error::malformed("screen message: frame kind and channel disagree"));
        }
        if frame.len() != HEADER_LENGTH + header.length {
            return Err(Error::malformed("screen message: frame is shorter than it states"));
        }
        let area = usize::from(header.width) * usize::from(header.height);
        if key {
            self.span_max = header.span_max;
            (self.width, self.height) = (header.width, header.height);
            self.picture.clear();
            self.picture.resize(area * 4, 0);
            for pixel in self.picture.as_chunks_mut::<4>().0 {
                pixel[3] = 255;
            }
        } else if (self.width, self.height) != (header.width, header.height) {
            return Err(Error::malformed("screen message: another size than its key"));
        }
        self.span_raw += frame.len() as u64;
        if self.span_raw > self.span_max {
            return Err(Error::too_large("screen message: span is longer than its key states"));
        }
        let mut ops = Ops {
            bytes: &frame[HEADER_LENGTH..],
            width: header.width,
            height: header.height,
        };
        let (mut copied, mut painted) = (0, 0);
        let mut pending_copies = true;
        self.scratch.clear();
        self.copies.clear();
        for _ in 0..header.ops {
            let (op, rect) = ops.next()?;
            if op == OP_COPY {
                copied += rect.area();
                if key || !pending_copies || copied > area {
                    return Err(Error::malformed("screen message: copy out of place"));
                }
                let (x, y) = (ops.u16()?, ops.u16()?);
                ops.check(&Rect { x, y, ..rect })?;
                self.lift(&Rect { x, y, ..rect });
                self.copies.push(rect);
                continue;
            }
            if pending_copies {
                pending_copies = false;
                self.put_copies();
            }
            painted += rect.area();
            if painted > area {
                return Err(Error::malformed("screen message: more pixels than the picture has"));
            }
            let data = ops.take(rect.area() * 3)?;
            match op {
                OP_RAW => self.paint(&rect, data),
                OP_RESIDUAL => self.paint_residuals(&rect, data),
                _ => return Err(Error::unsupported(format!("screen message: operation {op}"))),
            }
            self.written.push(rect);
        }
        if pending_copies {
            self.put_copies();
        }
        if !ops.bytes.is_empty() {
            return Err(Error::malformed("screen message: bytes after the last operation"));
        }
        if key {
            self.written.clear();
            self.written.push(Rect {
                x: 0,
                y: 0,
                width: header.width,
                height: header.height,
            });
        }
        Ok(())
    }

    /// Bytes of the part of row `y` of the picture that lies in `rect`, which was checked against the picture.
    fn span(&self, rect: &Rect, y: usize) -> std::ops::Range<usize> {
        let start = (y * usize::from(self.width) + usize::from(rect.x)) * 4;
        start..start + usize::from(rect.width) * 4
    }

    /// Takes a copy's source aside: all sources are of the picture before the frame.
    fn lift(&mut self, source: &Rect) {
        for y in usize::from(source.y)..source.bottom() as usize {
            let span = self.span(source, y);
            self.scratch.extend_from_slice(&self.picture[span]);
        }
    }

    fn put_copies(&mut self) {
        let mut at = 0;
        for i in 0..self.copies.len() {
            let rect = self.copies[i];
            for y in usize::from(rect.y)..rect.bottom() as usize {
                let span = self.span(&rect, y);
                let length = span.len();
                self.picture[span].copy_from_slice(&self.scratch[at..at + length]);
                at += length;
            }
        }
        self.written.extend_from_slice(&self.copies);
    }

    fn paint(&mut self, rect: &Rect, data: &[u8]) {
        for (row, y) in data
            .chunks_exact(usize::from(rect.width) * 3)
            .zip(usize::from(rect.y)..)
        {
            let span = self.span(rect, y);
            pixels::unpack(row, &mut self.picture[span]);
        }
    }

    fn paint_residuals(&mut self, rect: &Rect, data: &[u8]) {
        let mut above: Option<std::ops::Range<usize>> = None;
        for (residuals, y) in data
            .chunks_exact(usize::from(rect.width) * 3)
            .zip(usize::from(rect.y)..)
        {
            let span = self.span(rect, y);
            // The row above in the same rectangle ends before this row begins.
            let (before, here) = self.picture.split_at_mut(span.start);
            let row = &mut here[..span.len()];
            pixels::restore(residuals, above.map(|above| &before[above]), row);
            above = Some(span);
        }
    }
}

/// Walks a frame's operations; everything is checked before it is used.
struct Ops<'a> {
    bytes: &'a [u8],
    width: u16,
    height: u16,
}

impl<'a> Ops<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| Error::malformed("screen message: cut operation"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn u16(&mut self) -> Result<u16> {
        let bytes = self.take(2)?;
        Ok(bytes.first_chunk().map_or(0, |bytes| u16::from_le_bytes(*bytes)))
    }

    fn next(&mut self) -> Result<(u8, Rect)> {
        let op = self.take(1)?.first().copied().unwrap_or(0);
        let rect = Rect {
            x: self.u16()?,
            y: self.u16()?,
            width: self.u16()?,
            height: self.u16()?,
        };
        self.check(&rect)?;
        Ok((op, rect))
    }

    fn check(&self, rect: &Rect) -> Result<()> {
        let inside = rect.right() <= u32::from(self.width) && rect.bottom() <= u32::from(self.height);
        if rect.is_empty() || !inside {
            return Err(Error::malformed(format!(
                "screen message: rectangle {},{} {}x{} outside {}x{}",
                rect.x, rect.y, rect.width, rect.height, self.width, self.height
            )));
        }
        Ok(())
    }
}

const _: () = assert!(
    PIXELS_MAX * 3 + OPS_MAX * super::COPY_LENGTH < u32::MAX as usize,
    "a frame's length is a u32"
);
