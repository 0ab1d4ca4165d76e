//! The video's picture now, kept up to date from what changes in the frames.

use crate::exporter::{Frame, Pointer, Region};
use crate::scale::Scaler;
use crate::video::place::{Placement, whole};
use crate::video::planes::{Colors, Patch, Planes};

/// Rows composed at once: they stay in the processor's cache.
const BAND: u32 = 16;
/// More separate regions than this are one: all.
const DIRTY_MAX: usize = 64;

/// The pointer as it was drawn last.
#[derive(Debug, PartialEq, Eq)]
struct Drawn {
    place: (i32, i32, u16, u16, u16, u16),
    rgba: Vec<u8>,
    region: Region,
}

/// The video's picture now: what was recorded, in the middle, scaled down where it doesn't fit, with the pointer drawn in.
#[derive(Debug)]
pub struct Canvas<C> {
    colors: C,
    planes: Planes,
    placement: Option<(Placement, Option<Scaler>)>,
    pointer: Option<Drawn>,
    dirty: Vec<Region>,
    scratch: Vec<u8>,
}

impl<C: Colors> Canvas<C> {
    /// A black one; a video whose colours are [`Sampling::Half`](super::Sampling::Half) has an even size.
    #[must_use]
    pub fn new(width: u32, height: u32, colors: C) -> Self {
        Self {
            planes: Planes::black::<C>(width, height),
            colors,
            placement: None,
            pointer: None,
            dirty: vec![whole((width, height))],
            scratch: Vec::new(),
        }
    }

    fn size(&self) -> (u32, u32) {
        // Made from two u32.
        (self.planes.width() as u32, self.planes.height() as u32)
    }

    /// Draws what a frame changed; tells whether that is anything.
    pub fn draw(&mut self, frame: &Frame<'_>) -> bool {
        let video = self.size();
        let mut regions = Vec::with_capacity(frame.changed.len() + 2);
        let fits = matches!(&self.placement, Some((placement, _)) if placement.source == (frame.width, frame.height));
        if !fits {
            let placement = Placement::new((frame.width, frame.height), video, C::SAMPLING.align());
            let scaler = placement
                .is_scaled()
                .then(|| Scaler::new(placement.source, (placement.target.width, placement.target.height)));
            self.placement = Some((placement, scaler));
            self.pointer = None;
            regions.push(whole(video));
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
        self.move_pointer(pointer, &placement, video, &mut regions);
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
    fn move_pointer(
        &mut self,
        pointer: Option<Pointer<'_>>,
        placement: &Placement,
        video: (u32, u32),
        regions: &mut Vec<Region>,
    ) {
        let next = pointer.and_then(|pointer| pointer.region(video.0, video.1).map(|region| (pointer, region)));
        let place = |p: &Pointer<'_>| (p.x, p.y, p.hotspot_x, p.hotspot_y, p.width, p.height);
        match (&self.pointer, &next) {
            (None, None) => return,
            (Some(old), Some((new, _))) if old.place == place(new) && old.rgba == new.rgba => return,
            _ => {}
        }
        regions.extend(self.pointer.as_ref().map(|old| placement.aligned(old.region, video)));
        regions.extend(next.as_ref().map(|(_, region)| placement.aligned(*region, video)));
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
            self.colors.convert(
                &self.scratch,
                region.width as usize,
                (region.x as usize, top as usize),
                &mut self.planes,
            );
            top += rows;
        }
    }

    /// Copies of what changed since the last call, or of all.
    pub fn take_patches(&mut self, all: bool) -> Vec<Patch> {
        let whole = whole(self.size());
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
    pub fn planes(&self) -> &Planes {
        &self.planes
    }
}

#[cfg(test)]
#[path = "canvas_tests.rs"]
mod tests;
