//! Pictures to screen messages.

use bytes::Bytes;

use super::{
    COPY_LENGTH, Copy, FRAME_VERSION, HEADER_LENGTH, KIND_DELTA, KIND_KEY, MIB, OP_COPY, OP_RAW, OP_RESIDUAL,
    RECT_LENGTH, SPAN_MAX_MIB, TILE,
    diff::{self, Changed, Diff, Difference},
    pixels, rects,
    shift::{self, Shift, Shifts},
    stream::Compressor,
};
use crate::{Picture, Rect, Result, ScreenMessage};

/// Changed pixels from which copy detection is worth its cost.
const COPY_AREA_MIN: usize = 4096;
/// Pixels from which a box can be photo-like.
const PHOTO_AREA_MIN: usize = 256;
/// Uncompressed bytes that gather before they are compressed: a frame is never there as a whole, and what was written last
/// is still in the processor's cache when it is read.
const PART: usize = 128 << 10;
/// Room for a compressed frame that is kept from frame to frame.
const OUT_KEPT: usize = 256 << 10;

/// Pictures in, screen messages out. Holds the previous picture (4 bytes a pixel) and, once it has encoded something, a
/// compressor of about 10 MiB.
#[derive(Default)]
pub struct ScreenEncoder {
    key_max_raw_bytes: u64,
    width: u16,
    height: u16,
    previous: Vec<u8>,
    compressor: Option<Compressor>,
    /// False until the open span has a key.
    span_open: bool,
    span_raw: u64,
    span_max: u64,
    diff: Diff,
    shifts: Shifts,
    changed: Vec<Changed>,
    plan: Plan,
    rows: pixels::Rows,
    raw: Vec<u8>,
    out: Vec<u8>,
}

/// What a frame will do, before it is serialised.
#[derive(Default)]
struct Plan {
    copies: Vec<Copy>,
    photo: Vec<bool>,
    raws: Vec<Rect>,
    residuals: Vec<Rect>,
    rows: Vec<(u16, Rect)>,
    split: pixels::Rows,
}

impl ScreenEncoder {
    /// An encoder whose spans have about `key_max_raw_bytes` uncompressed bytes at most.
    #[must_use]
    pub fn new(key_max_raw_bytes: u64) -> Self {
        Self {
            key_max_raw_bytes,
            ..Self::default()
        }
    }

    /// Whether the next picture of this size becomes a key in any case.
    #[must_use]
    pub fn needs_key(&self, width: u16, height: u16) -> bool {
        !self.span_open || (self.width, self.height) != (width, height)
    }

    /// Frees all memory; the next picture becomes a key.
    pub fn release(&mut self) {
        *self = Self::new(self.key_max_raw_bytes);
    }

    /// Encodes a picture. Only pixels inside `damage` are looked at, unless a key is due. `None` when nothing changed;
    /// with `key`, a change becomes a key (no change still gives `None`, unless the encoder needs one).
    ///
    /// # Errors
    /// For a picture that contradicts itself or is too large, and when the compressor fails; after that the next picture
    /// becomes a key.
    pub fn encode(&mut self, picture: Picture<'_>, damage: &[Rect], key: bool) -> Result<Option<ScreenMessage>> {
        let picture = picture.checked()?;
        if self.needs_key(picture.width, picture.height) {
            return self.encode_key(&picture).map(Some);
        }
        self.changed.clear();
        self.changed
            .extend_from_slice(self.diff.run(&picture, &self.previous, damage));
        if self.changed.is_empty() {
            return Ok(None);
        }
        if key {
            return self.encode_key(&picture).map(Some);
        }
        self.plan_delta(&picture);
        if self.span_raw + self.plan.bytes() > self.span_max {
            return self.encode_key(&picture).map(Some);
        }
        self.update_previous(&picture);
        self.compress(&picture, KIND_DELTA, 0).map(Some)
    }

    fn encode_key(&mut self, picture: &Picture<'_>) -> Result<ScreenMessage> {
        self.span_open = false;
        (self.width, self.height) = (picture.width, picture.height);
        let whole = [Rect {
            x: 0,
            y: 0,
            width: picture.width,
            height: picture.height,
        }];
        self.changed.clear();
        self.changed.extend(tiles(picture.width, picture.height));
        self.plan.copies.clear();
        self.plan.pixels(picture, &self.changed, |_| true);
        // Room for at least as many deltas as the key has bytes, however large the picture is.
        let raw_max = (HEADER_LENGTH + whole[0].area() * 3 + self.changed.len() * RECT_LENGTH) as u64;
        let span_mib = self
            .key_max_raw_bytes
            .max(raw_max * 2)
            .div_ceil(MIB)
            .min(u64::from(SPAN_MAX_MIB));
        self.span_max = span_mib * MIB;
        if self.previous.len() != whole[0].area() * 4 {
            self.previous = vec![0; whole[0].area() * 4];
        }
        copy_rect(picture, &whole[0], &mut self.previous);
        if self.compressor.is_none() {
            self.compressor = Some(Compressor::new()?);
        }
        if let Some(compressor) = &mut self.compressor {
            compressor.restart()?;
        }
        self.span_raw = 0;
        self.compress(picture, KIND_KEY, span_mib as u16)
    }

    fn plan_delta(&mut self, picture: &Picture<'_>) {
        let plan = &mut self.plan;
        plan.copies.clear();
        let area: usize = self.changed.iter().map(|changed| changed.rect.area()).sum();
        let shifts: &[Shift] = if area < COPY_AREA_MIN {
            &[]
        } else {
            self.shifts.run(picture, &self.previous, &self.changed)
        };
        if !shifts.is_empty() {
            // The neighbour's shift is tried first: it is nearly always this tile's too.
            let mut likely = 0;
            self.changed.retain_mut(|changed| {
                let mut best = None;
                // Where less than half of a tile differs, the copy is made all the same and the rest painted over it.
                let mut area_max = changed.rect.area() / 2;
                for i in std::iter::once(likely).chain((0..shifts.len()).filter(|&i| i != likely)) {
                    let Some(source) = shift::source(picture, &changed.rect, shifts[i]) else {
                        continue;
                    };
                    match diff::difference(picture, &self.previous, &changed.rect, source, area_max) {
                        Difference::None => {
                            best = Some((i, source, None));
                            break;
                        }
                        Difference::Box(rest) => {
                            area_max = rest.area();
                            best = Some((i, source, Some(rest)));
                        }
                        Difference::TooMuch => {}
                    }
                }
                let Some((i, (source_x, source_y), rest)) = best else {
                    return true;
                };
                likely = i;
                plan.copies.push(Copy {
                    to: changed.rect,
                    source_x,
                    source_y,
                });
                changed.rect = rest.unwrap_or_default();
                rest.is_some()
            });
            rects::merge_copies(&mut plan.copies);
        }
        plan.pixels(picture, &self.changed, |rect| rect.area() >= PHOTO_AREA_MIN);
    }

    /// Makes `previous` what a decoder will have.
    fn update_previous(&mut self, picture: &Picture<'_>) {
        let plan = &self.plan;
        let written = plan
            .copies
            .iter()
            .map(|copy| &copy.to)
            .chain(&plan.raws)
            .chain(&plan.residuals);
        for rect in written {
            copy_rect(picture, rect, &mut self.previous);
        }
    }

    /// Writes the planned frame through the compressor.
    fn compress(&mut self, picture: &Picture<'_>, kind: u8, span_mib: u16) -> Result<ScreenMessage> {
        // A failure in the middle leaves the stream in doubt: no delta may follow.
        self.span_open = false;
        let Some(compressor) = &mut self.compressor else {
            return Err(crate::Error::internal("compress frame", "no compressor"));
        };
        let plan = &self.plan;
        let (raw, out) = (&mut self.raw, &mut self.out);
        raw.clear();
        out.clear();
        let bytes = plan.bytes();
        raw.extend_from_slice(&[kind, FRAME_VERSION]);
        raw.extend_from_slice(&picture.width.to_le_bytes());
        raw.extend_from_slice(&picture.height.to_le_bytes());
        raw.extend_from_slice(&span_mib.to_le_bytes());
        raw.extend_from_slice(&(plan.ops() as u32).to_le_bytes());
        raw.extend_from_slice(&((bytes - HEADER_LENGTH as u64) as u32).to_le_bytes());
        let mut parts = Parts {
            compressor,
            raw,
            out,
            bytes: 0,
        };
        for copy in &plan.copies {
            op(parts.raw, OP_COPY, &copy.to);
            parts.raw.extend_from_slice(&copy.source_x.to_le_bytes());
            parts.raw.extend_from_slice(&copy.source_y.to_le_bytes());
            parts.written()?;
        }
        for rect in &plan.raws {
            op(parts.raw, OP_RAW, rect);
            for y in usize::from(rect.y)..rect.bottom() as usize {
                pixels::pack(picture.span(usize::from(rect.x), y, usize::from(rect.width)), parts.raw);
                parts.written()?;
            }
        }
        for rect in &plan.residuals {
            op(parts.raw, OP_RESIDUAL, rect);
            let top = usize::from(rect.y);
            for y in top..rect.bottom() as usize {
                let row = picture.span(usize::from(rect.x), y, usize::from(rect.width));
                self.rows.residuals(row, y == top, parts.raw);
                parts.written()?;
            }
        }
        let written = parts.finish()?;
        debug_assert_eq!(written, bytes, "the plan knows a frame's length");
        self.span_raw += bytes;
        self.span_open = true;
        let bytes = if self.out.len() > OUT_KEPT {
            Bytes::from(std::mem::take(&mut self.out))
        } else {
            Bytes::copy_from_slice(&self.out)
        };
        Ok(ScreenMessage {
            key: kind == KIND_KEY,
            bytes,
        })
    }
}

/// A frame on its way through the compressor.
struct Parts<'a> {
    compressor: &'a mut Compressor,
    raw: &'a mut Vec<u8>,
    out: &'a mut Vec<u8>,
    /// What went through.
    bytes: u64,
}

impl Parts<'_> {
    /// Something was appended to `raw`.
    fn written(&mut self) -> Result<()> {
        if self.raw.len() < PART {
            return Ok(());
        }
        self.pass()
    }

    fn pass(&mut self) -> Result<()> {
        self.bytes += self.raw.len() as u64;
        let passed = self.compressor.part(self.raw, self.out);
        self.raw.clear();
        passed
    }

    /// All is written; gives its length.
    fn finish(mut self) -> Result<u64> {
        self.pass()?;
        self.compressor.flush(self.out)?;
        Ok(self.bytes)
    }
}

impl Plan {
    fn ops(&self) -> usize {
        self.copies.len() + self.raws.len() + self.residuals.len()
    }

    /// How long the frame is, uncompressed.
    fn bytes(&self) -> u64 {
        let painted = self.raws.iter().chain(&self.residuals);
        let painted: usize = painted.map(|rect| RECT_LENGTH + rect.area() * 3).sum();
        (HEADER_LENGTH + self.copies.len() * COPY_LENGTH + painted) as u64
    }

    /// Sorts the tiles into raw and photo-like ones and merges each sort to rectangles.
    fn pixels(&mut self, picture: &Picture<'_>, tiles: &[Changed], may_be_photo: impl Fn(&Rect) -> bool) {
        let Self { photo, split, .. } = self;
        photo.clear();
        photo.extend(
            tiles
                .iter()
                .map(|tile| may_be_photo(&tile.rect) && photo_like(picture, &tile.rect, split)),
        );
        self.raws.clear();
        self.residuals.clear();
        for (photo, out) in [(false, &mut self.raws), (true, &mut self.residuals)] {
            let chosen = tiles
                .iter()
                .zip(&self.photo)
                .filter(|(_, is_photo)| **is_photo == photo);
            rects::merge(chosen.map(|(tile, _)| *tile), &mut self.rows, out);
        }
        let area: usize = self.raws.iter().chain(&self.residuals).map(Rect::area).sum();
        if area > usize::from(picture.width) * usize::from(picture.height) {
            // Unions may overlap; the format allows a picture's worth of pixels in all.
            self.residuals.clear();
            self.raws.clear();
            self.raws.push(Rect {
                x: 0,
                y: 0,
                width: picture.width,
                height: picture.height,
            });
        }
    }
}

/// Whether residuals of this box are likely smaller than raw rows; looks at every eighth row.
fn photo_like(picture: &Picture<'_>, rect: &Rect, scratch: &mut pixels::Rows) -> bool {
    let row = |y: usize| picture.span(usize::from(rect.x), y, usize::from(rect.width));
    let mut estimate = pixels::Estimate::default();
    for y in (usize::from(rect.y) + 1..rect.bottom() as usize).step_by(8) {
        estimate.look(row(y), row(y - 1), scratch);
    }
    estimate.photo_like()
}

fn tiles(width: u16, height: u16) -> impl Iterator<Item = Changed> {
    let side = TILE as u16;
    (0..height.div_ceil(side)).flat_map(move |row| {
        (0..width.div_ceil(side)).map(move |column| Changed {
            column,
            row,
            rect: Rect {
                x: column * side,
                y: row * side,
                width: side,
                height: side,
            }
            .clipped(width, height),
        })
    })
}

fn op(raw: &mut Vec<u8>, op: u8, rect: &Rect) {
    raw.push(op);
    for value in [rect.x, rect.y, rect.width, rect.height] {
        raw.extend_from_slice(&value.to_le_bytes());
    }
}

fn copy_rect(picture: &Picture<'_>, rect: &Rect, previous: &mut [u8]) {
    let stride = usize::from(picture.width) * 4;
    let (x, width) = (usize::from(rect.x), usize::from(rect.width));
    for y in usize::from(rect.y)..rect.bottom() as usize {
        previous[y * stride + x * 4..][..width * 4].copy_from_slice(picture.span(x, y, width));
    }
}
