//! The video's picture now, as planar Y, Cb, Cr, kept up to date from what changes in the frames.

use deskreel_sdk::{Frame, Pointer, Region, Scaler};

use crate::color::{self, BLACK, NEUTRAL};
use crate::geometry::{self, Placement};

/// Rows composed at once: they stay in the processor's cache.
const BAND: u32 = 16;
/// More separate regions than this are one: all.
const DIRTY_MAX: usize = 64;

/// Planar Y, Cb, Cr 4:2:0 of an even size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Planes {
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) y: Vec<u8>,
    pub(crate) cb: Vec<u8>,
    pub(crate) cr: Vec<u8>,
}

impl Planes {
    /// All black.
    pub(crate) fn black(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self {
            width,
            height,
            y: vec![BLACK; width * height],
            cb: vec![NEUTRAL; width * height / 4],
            cr: vec![NEUTRAL; width * height / 4],
        }
    }

    /// A copy of a region with even corners.
    pub(crate) fn cut(&self, region: Region) -> Patch {
        let mut bytes = Vec::with_capacity(region.width as usize * region.height as usize * 3 / 2);
        for (plane, stride, part) in [
            (&self.y, self.width, region),
            (&self.cb, self.width / 2, half(region)),
            (&self.cr, self.width / 2, half(region)),
        ] {
            let (x, width) = (part.x as usize, part.width as usize);
            for row in plane
                .chunks_exact(stride)
                .skip(part.y as usize)
                .take(part.height as usize)
            {
                bytes.extend_from_slice(&row[x..x + width]);
            }
        }
        Patch { region, bytes }
    }

    /// Puts a patch back.
    pub(crate) fn paste(&mut self, patch: &Patch) {
        let mut rest = patch.bytes.as_slice();
        for (plane, stride, part) in [
            (&mut self.y, self.width, patch.region),
            (&mut self.cb, self.width / 2, half(patch.region)),
            (&mut self.cr, self.width / 2, half(patch.region)),
        ] {
            let (x, width) = (part.x as usize, part.width as usize);
            for row in plane
                .chunks_exact_mut(stride)
                .skip(part.y as usize)
                .take(part.height as usize)
            {
                let (pixels, tail) = rest.split_at(width);
                row[x..x + width].copy_from_slice(pixels);
                rest = tail;
            }
        }
    }
}

fn half(region: Region) -> Region {
    Region {
        x: region.x / 2,
        y: region.y / 2,
        width: region.width / 2,
        height: region.height / 2,
    }
}

/// A region's planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Patch {
    region: Region,
    bytes: Vec<u8>,
}

impl Patch {
    /// Bytes that it holds.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The pointer as it was drawn last.
#[derive(Debug, PartialEq, Eq)]
struct Drawn {
    place: (i32, i32, u16, u16, u16, u16),
    rgba: Vec<u8>,
    region: Region,
}

/// The video's picture now.
#[derive(Debug)]
pub(crate) struct Canvas {
    planes: Planes,
    placement: Option<(Placement, Option<Scaler>)>,
    pointer: Option<Drawn>,
    dirty: Vec<Region>,
    scratch: Vec<u8>,
    cache: color::Cache,
}

impl Canvas {
    /// A black one of an even size.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        Self {
            planes: Planes::black(width, height),
            placement: None,
            pointer: None,
            dirty: vec![geometry::whole((width, height))],
            scratch: Vec::new(),
            cache: color::Cache::new(),
        }
    }

    fn size(&self) -> (u32, u32) {
        // Made from two u32.
        (self.planes.width as u32, self.planes.height as u32)
    }

    /// Draws what a frame changed; tells whether that is anything.
    pub(crate) fn draw(&mut self, frame: &Frame<'_>) -> bool {
        let video = self.size();
        let mut regions = Vec::with_capacity(frame.changed.len() + 2);
        let fits = matches!(&self.placement, Some((placement, _)) if placement.source == (frame.width, frame.height));
        if !fits {
            let placement = Placement::new((frame.width, frame.height), video);
            let scaler = placement
                .is_scaled()
                .then(|| Scaler::new(placement.source, (placement.target.width, placement.target.height)));
            self.placement = Some((placement, scaler));
            self.pointer = None;
            regions.push(geometry::whole(video));
        }
        let Some((placement, scaler)) = self.placement.take() else {
            return false;
        };
        if fits {
            regions.extend(frame.changed.iter().map(|region| placement.region(*region, video)));
        }
        // The shape is drawn in its own size, whatever the picture's scale: it is there to be seen.
        let pointer = frame.pointer.map(|pointer| {
            let (x, y) = placement.point(pointer.x, pointer.y);
            Pointer { x, y, ..pointer }
        });
        self.move_pointer(pointer, video, &mut regions);
        regions.retain(|region| region.width > 0 && region.height > 0);
        for region in &regions {
            self.compose(frame, &placement, scaler.as_ref(), pointer.as_ref(), *region);
        }
        self.placement = Some((placement, scaler));
        let changed = !regions.is_empty();
        self.dirty.append(&mut regions);
        changed
    }

    /// Notes where the pointer goes, and adds the regions where it was and will be when that or its shape is new.
    fn move_pointer(&mut self, pointer: Option<Pointer<'_>>, video: (u32, u32), regions: &mut Vec<Region>) {
        let next = pointer.and_then(|pointer| pointer.region(video.0, video.1).map(|region| (pointer, region)));
        let place = |p: &Pointer<'_>| (p.x, p.y, p.hotspot_x, p.hotspot_y, p.width, p.height);
        match (&self.pointer, &next) {
            (None, None) => return,
            (Some(old), Some((new, _))) if old.place == place(new) && old.rgba == new.rgba => return,
            _ => {}
        }
        regions.extend(self.pointer.as_ref().map(|old| geometry::even(old.region, video)));
        regions.extend(next.as_ref().map(|(_, region)| geometry::even(*region, video)));
        self.pointer = next.map(|(pointer, region)| Drawn {
            place: place(&pointer),
            rgba: pointer.rgba.to_vec(),
            region,
        });
    }

    /// Draws one region of the video, band by band: bars, picture and pointer as R, G, B, A, then converted.
    fn compose(
        &mut self,
        frame: &Frame<'_>,
        placement: &Placement,
        scaler: Option<&Scaler>,
        pointer: Option<&Pointer<'_>>,
        region: Region,
    ) {
        let row_bytes = region.width as usize * 4;
        let target = placement.target;
        // The columns of the region that the picture covers.
        let from = region.x.max(target.x);
        let to = (region.x + region.width).min(target.x + target.width);
        let mut top = region.y;
        while top < region.y + region.height {
            let rows = BAND.min(region.y + region.height - top);
            self.scratch.clear();
            self.scratch.resize(row_bytes * rows as usize, 0);
            for (y, row) in (top..).zip(self.scratch.chunks_exact_mut(row_bytes)) {
                if from >= to || y < target.y || y >= target.y + target.height {
                    continue;
                }
                let part = &mut row[(from - region.x) as usize * 4..(to - region.x) as usize * 4];
                match scaler {
                    Some(scaler) => scaler.row(frame, y - target.y, from - target.x, part),
                    None => {
                        let start = (from - target.x) as usize * 4;
                        let source = frame.row(y - target.y);
                        if let Some(source) = source.get(start..start + part.len()) {
                            part.copy_from_slice(source);
                        }
                    }
                }
            }
            if let Some(pointer) = pointer {
                let moved = Pointer {
                    x: pointer.x.saturating_sub_unsigned(region.x),
                    y: pointer.y.saturating_sub_unsigned(top),
                    ..*pointer
                };
                moved.draw(&mut self.scratch, region.width, rows, row_bytes);
            }
            self.convert(region, top, row_bytes);
            top += rows;
        }
    }

    /// Converts the composed band whose first row is `top`; an even number of rows.
    fn convert(&mut self, region: Region, top: u32, row_bytes: usize) {
        let (x, width, stride) = (region.x as usize, region.width as usize, self.planes.width);
        for (pair, y) in self
            .scratch
            .chunks_exact(row_bytes * 2)
            .zip((top as usize..).step_by(2))
        {
            let (above, below) = pair.split_at(row_bytes);
            let (first, second) = self.planes.y[y * stride..(y + 2) * stride].split_at_mut(stride);
            let chroma = y / 2 * (stride / 2) + x / 2;
            color::convert(
                &mut self.cache,
                [above, below],
                [&mut first[x..x + width], &mut second[x..x + width]],
                &mut self.planes.cb[chroma..chroma + width / 2],
                &mut self.planes.cr[chroma..chroma + width / 2],
            );
        }
    }

    /// Copies of what changed since the last call, or of all.
    pub(crate) fn take_patches(&mut self, all: bool) -> Vec<Patch> {
        let whole = geometry::whole(self.size());
        let area = |region: &Region| u64::from(region.width) * u64::from(region.height);
        let much = self.dirty.len() > DIRTY_MAX || self.dirty.iter().map(area).sum::<u64>() > area(&whole);
        let patches = if all || much {
            vec![self.planes.cut(whole)]
        } else {
            self.dirty.iter().map(|region| self.planes.cut(*region)).collect()
        };
        self.dirty.clear();
        patches
    }

    /// The planes now.
    #[cfg(test)]
    pub(crate) fn planes(&self) -> &Planes {
        &self.planes
    }
}

#[cfg(test)]
#[path = "canvas_tests.rs"]
mod tests;
