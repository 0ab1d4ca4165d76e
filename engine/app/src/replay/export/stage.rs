//! The picture as an exporter gets it: scaled, with a bar below and with gaps marked. What nobody wants changed is handed on
//! where it lies.

use deskreel_recording::event::SessionStart;
use deskreel_recording::{Picture, Rect};
use deskreel_sdk::{Frame, Pointer, Region, Scaler};

use super::Options;
use super::bar::{Bar, draw_gap};
use super::text::Paper;

/// More separate regions than this are one: all.
const REGIONS_MAX: usize = 64;

/// Sizes of pictures on their way into the export.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Scale {
    from: u32,
    to: u32,
}

impl Scale {
    fn side(self, side: u32) -> u32 {
        let scaled = (u64::from(side) * u64::from(self.to) + u64::from(self.from) / 2) / u64::from(self.from.max(1));
        u32::try_from(scaled).unwrap_or(side).max(1)
    }
}

/// What is shown, and what of it is new.
pub(super) struct Stage {
    scale: Scale,
    scaler: Option<((u32, u32), Scaler)>,
    no_pointer: bool,
    pub(super) bar: Option<Bar>,
    /// The sign of the gap that is shown.
    gap: Option<Vec<String>>,
    /// The largest picture of the export, as it comes.
    size_max: (u32, u32),
    /// Regions that changed since the last frame, in the picture as it comes.
    changed: Vec<Rect>,
    /// All changed.
    all: bool,
    /// The composed picture; empty while pictures are handed on.
    out: Vec<u8>,
    out_size: (u32, u32),
}

impl Stage {
    /// For pictures of at most this size.
    pub(super) fn new(options: &Options, size_max: (u32, u32), start: Option<&SessionStart>) -> Self {
        let to = options
            .width
            .map_or(size_max.0, |width| width.clamp(1, size_max.0.max(1)));
        let scale = Scale { from: size_max.0, to };
        Self {
            scale,
            scaler: None,
            no_pointer: options.no_pointer,
            bar: Bar::new(options.overlay, scale.side(size_max.0), start),
            gap: None,
            size_max,
            changed: Vec::new(),
            all: true,
            out: Vec::new(),
            out_size: (0, 0),
        }
    }

    /// The largest frame that it makes.
    pub(super) fn size(&self) -> (u32, u32) {
        let (width, height) = self.size_max;
        (self.scale.side(width), self.scale.side(height) + self.bar_height())
    }

    fn bar_height(&self) -> u32 {
        self.bar.as_ref().map_or(0, Bar::height)
    }

    /// Notes what changed; tells whether that shows.
    pub(super) fn change(&mut self, rects: &[Rect], pointer: bool) -> bool {
        self.changed.extend_from_slice(rects);
        if self.changed.len() > REGIONS_MAX {
            let whole = self.changed.drain(..).reduce(around);
            self.changed.extend(whole);
        }
        !rects.is_empty() || (pointer && !self.no_pointer && self.gap.is_none())
    }

    /// Shows a gap's sign, or no more.
    pub(super) fn mark_gap(&mut self, sign: Option<Vec<String>>) {
        self.gap = sign;
        self.all = true;
    }

    /// Hands over the picture as it is now; `None` while there is nothing to show.
    ///
    /// # Errors
    /// What `take` says.
    pub(super) fn show(
        &mut self,
        time_ns: u64,
        picture: Option<Picture<'_>>,
        pointer: Option<Pointer<'_>>,
        take: impl FnOnce(&Frame<'_>) -> deskreel_sdk::Result<()>,
    ) -> deskreel_sdk::Result<bool> {
        let size = match &picture {
            Some(picture) => (u32::from(picture.width), u32::from(picture.height)),
            None if self.gap.is_some() => self.size_max,
            None => return Ok(false),
        };
        let pointer = pointer.filter(|_| !self.no_pointer && self.gap.is_none());
        let is_same = self.scale.side(size.0) == size.0 && self.bar.is_none() && self.gap.is_none();
        match picture {
            Some(picture) if is_same => {
                let regions = if self.all || self.out_size != size {
                    vec![whole(size)]
                } else {
                    self.changed.iter().filter_map(|rect| region(*rect, size)).collect()
                };
                self.out_size = size;
                let frame = Frame::new(time_ns, size.0, size.1, picture.stride, picture.data, &regions)?;
                take(&frame.with_pointer(pointer)?)?;
            }
            picture => {
                let regions = self.compose(picture.as_ref(), size)?;
                let (width, height) = self.out_size;
                let pointer = pointer.map(|pointer| Pointer {
                    x: scaled(pointer.x, self.scale),
                    y: scaled(pointer.y, self.scale),
                    ..pointer
                });
                let frame = Frame::new(time_ns, width, height, width as usize * 4, &self.out, &regions)?;
                take(&frame.with_pointer(pointer)?)?;
            }
        }
        self.changed.clear();
        self.all = false;
        Ok(true)
    }

    /// Brings the composed picture up to date; returns what of it is new.
    fn compose(&mut self, picture: Option<&Picture<'_>>, source: (u32, u32)) -> deskreel_sdk::Result<Vec<Region>> {
        let target = (self.scale.side(source.0), self.scale.side(source.1));
        let size = (target.0, target.1 + self.bar_height());
        let row_bytes = size.0 as usize * 4;
        let bytes = row_bytes * size.1 as usize;
        if self.out_size != size || self.out.len() != bytes {
            self.out = vec![0; bytes];
            self.out_size = size;
            self.all = true;
        }
        let mut regions = Vec::new();
        if self.all || self.gap.is_some() {
            regions.push(whole(target));
        } else {
            regions.extend(
                self.changed
                    .iter()
                    .filter_map(|rect| self.placed(*rect, source, target)),
            );
        }
        match picture {
            Some(picture) => self.copy(picture, source, target, &regions)?,
            None => self.out.fill(0),
        }
        let (above, below) = self.out.split_at_mut(row_bytes * target.1 as usize);
        if let Some(lines) = &self.gap {
            let mut paper = Paper {
                rgba: above,
                width: target.0 as usize,
                height: target.1 as usize,
            };
            draw_gap(&mut paper, lines);
        }
        if let Some(bar) = &mut self.bar
            && (bar.is_new || self.all)
        {
            bar.draw(&mut Paper {
                rgba: below,
                width: size.0 as usize,
                height: (size.1 - target.1) as usize,
            });
            regions.push(Region {
                x: 0,
                y: target.1,
                width: size.0,
                height: size.1 - target.1,
            });
        }
        Ok(regions)
    }

    /// Copies regions, scaled where need be.
    fn copy(
        &mut self,
        picture: &Picture<'_>,
        source: (u32, u32),
        target: (u32, u32),
        regions: &[Region],
    ) -> deskreel_sdk::Result<()> {
        let frame = Frame::new(0, source.0, source.1, picture.stride, picture.data, &[])?;
        let row_bytes = target.0 as usize * 4;
        if source != target && self.scaler.as_ref().is_none_or(|(of, _)| *of != source) {
            self.scaler = Some((source, Scaler::new(source, target)));
        }
        for region in regions {
            let (from, length) = (region.x as usize * 4, region.width as usize * 4);
            for y in region.y..region.y + region.height {
                let start = y as usize * row_bytes + from;
                let Some(part) = self.out.get_mut(start..start + length) else {
                    continue;
                };
                match &self.scaler {
                    Some((_, scaler)) if source != target => scaler.row(&frame, y, region.x, part),
                    _ => {
                        if let Some(row) = frame.row(y).get(from..from + length) {
                            part.copy_from_slice(row);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// What part of the target a part of the source touches.
    fn placed(&self, rect: Rect, source: (u32, u32), target: (u32, u32)) -> Option<Region> {
        if source == target {
            return region(rect, target);
        }
        let along = |start: u32, end: u32, from: u32, to: u32| {
            let scale = |at: u32| u64::from(at) * u64::from(to) / u64::from(from.max(1));
            // One pixel more at each side: a neighbour mixes in.
            let begin = u32::try_from(scale(start).saturating_sub(1)).unwrap_or(0);
            let end = u32::try_from(scale(end) + 2).unwrap_or(to).min(to);
            (begin, end)
        };
        let (x0, x1) = along(rect.x.into(), rect.right(), source.0, target.0);
        let (y0, y1) = along(rect.y.into(), rect.bottom(), source.1, target.1);
        (x0 < x1 && y0 < y1).then(|| Region {
            x: x0,
            y: y0,
            width: x1 - x0,
            height: y1 - y0,
        })
    }
}

fn scaled(at: i32, scale: Scale) -> i32 {
    let moved = i64::from(at) * i64::from(scale.to) / i64::from(scale.from.max(1));
    i32::try_from(moved).unwrap_or(at)
}

fn whole((width, height): (u32, u32)) -> Region {
    Region {
        x: 0,
        y: 0,
        width,
        height,
    }
}

/// A rectangle inside a picture; `None` where nothing of it is.
fn region(rect: Rect, (width, height): (u32, u32)) -> Option<Region> {
    let (right, bottom) = (rect.right().min(width), rect.bottom().min(height));
    let (x, y) = (u32::from(rect.x), u32::from(rect.y));
    (x < right && y < bottom).then(|| Region {
        x,
        y,
        width: right - x,
        height: bottom - y,
    })
}

/// The rectangle around two.
fn around(a: Rect, b: Rect) -> Rect {
    let (x, y) = (a.x.min(b.x), a.y.min(b.y));
    let side = |end: u32, start: u16| u16::try_from(end - u32::from(start)).unwrap_or(u16::MAX);
    Rect {
        x,
        y,
        width: side(a.right().max(b.right()), x),
        height: side(a.bottom().max(b.bottom()), y),
    }
}

#[cfg(test)]
#[path = "stage_tests.rs"]
mod tests;
