//! What a GIF shows, and what of it changed since it was last written.

use deskreel_sdk::prelude::*;

use crate::palette::Rgb;

/// The screen with its pointer, on a canvas that holds every size that it has in the export.
#[derive(Debug)]
pub(crate) struct Canvas {
    width: usize,
    height: usize,
    /// R, G, B, A without padding: the screen alone, ...
    screen: Vec<u8>,
    /// ... and what a person saw.
    shown: Vec<Rgb>,
    /// What was written last; nothing at first.
    written: Vec<Option<Rgb>>,
    /// Where the pointer was drawn.
    pointer: Option<Region>,
    /// Where `shown` may differ from `written`: left, top, right, bottom.
    dirty: Option<[usize; 4]>,
}

/// The changed part of a canvas.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    /// Left edge.
    pub(crate) left: u16,
    /// Top edge.
    pub(crate) top: u16,
    /// Width in pixels.
    pub(crate) width: u16,
    /// Height in pixels.
    pub(crate) height: u16,
    /// Its pixels, row by row; `None` = as it was.
    pub(crate) pixels: Vec<Option<Rgb>>,
}

impl Canvas {
    pub(crate) fn new(width: u16, height: u16) -> Self {
        let (width, height) = (usize::from(width), usize::from(height));
        Self {
            width,
            height,
            screen: vec![0; width * height * 4],
            shown: vec![[0; 3]; width * height],
            written: vec![None; width * height],
            pointer: None,
            dirty: Some([0, 0, width, height]),
        }
    }

    /// Shows a frame from now on. `all`: not only what it says that it changed.
    pub(crate) fn show(&mut self, frame: &Frame<'_>, all: bool) {
        let (width, height) = (
            self.width.min(frame.width as usize),
            self.height.min(frame.height as usize),
        );
        let whole = [Region {
            x: 0,
            y: 0,
            width: frame.width,
            height: frame.height,
        }];
        if all {
            self.screen.fill(0);
            self.refresh([0, 0, self.width, self.height]);
        }
        for region in if all { &whole } else { frame.changed } {
            let (left, top) = (region.x as usize, region.y as usize);
            let right = (left + region.width as usize).min(width);
            let bottom = (top + region.height as usize).min(height);
            if left >= right {
                continue;
            }
            for y in top..bottom {
                let Ok(row) = u32::try_from(y) else { continue };
                let from = frame.row(row).get(left * 4..right * 4);
                let at = (y * self.width + left) * 4;
                let to = self.screen.get_mut(at..at + (right - left) * 4);
                if let (Some(from), Some(to)) = (from, to) {
                    to.copy_from_slice(from);
                }
            }
            self.refresh([left, top, right, bottom]);
        }
        self.point(frame);
    }

    /// Draws the pointer where it is now, and the screen where it was.
    fn point(&mut self, frame: &Frame<'_>) {
        let size = (
            u32::try_from(self.width).unwrap_or(u32::MAX),
            u32::try_from(self.height).unwrap_or(u32::MAX),
        );
        if let Some(before) = self.pointer.take() {
            self.refresh(edges(&before));
        }
        let Some(pointer) = &frame.pointer else { return };
        let Some(now) = pointer.region(size.0, size.1) else {
            return;
        };
        // Drawn on a piece of the screen that is as large as the canvas is wide: the rows that it touches.
        let [left, top, right, bottom] = edges(&now);
        let mut rows = self
            .screen
            .get(top * self.width * 4..bottom * self.width * 4)
            .unwrap_or(&[])
            .to_vec();
        let mut moved = *pointer;
        moved.y -= i32::try_from(top).unwrap_or(0);
        moved.draw(&mut rows, size.0, now.height, self.width * 4);
        for (y, row) in (top..bottom).zip(rows.as_chunks::<4>().0.chunks_exact(self.width.max(1))) {
            for x in left..right {
                if let (Some(&[r, g, b, _]), Some(pixel)) = (row.get(x), self.shown.get_mut(y * self.width + x)) {
                    *pixel = [r, g, b];
                }
            }
        }
        self.soil([left, top, right, bottom]);
        self.pointer = Some(now);
    }

    /// Shows the screen without a pointer in a part.
    fn refresh(&mut self, [left, top, right, bottom]: [usize; 4]) {
        let pixels = self.screen.as_chunks::<4>().0;
        for y in top..bottom.min(self.height) {
            for at in y * self.width + left..y * self.width + right.min(self.width) {
                if let (Some(&[r, g, b, _]), Some(pixel)) = (pixels.get(at), self.shown.get_mut(at)) {
                    *pixel = [r, g, b];
                }
            }
        }
        self.soil([left, top, right.min(self.width), bottom.min(self.height)]);
    }

    fn soil(&mut self, [left, top, right, bottom]: [usize; 4]) {
        if left >= right || top >= bottom {
            return;
        }
        self.dirty = Some(match self.dirty {
            Some([l, t, r, b]) => [l.min(left), t.min(top), r.max(right), b.max(bottom)],
            None => [left, top, right, bottom],
        });
    }

    /// What differs from what was written last, which it now is; `None`: nothing does.
    pub(crate) fn take(&mut self) -> Option<Change> {
        let [left, top, right, bottom] = self.dirty.take()?;
        let (mut l, mut t, mut r, mut b) = (usize::MAX, usize::MAX, 0, 0);
        for y in top..bottom {
            for x in left..right {
                let at = y * self.width + x;
                if self.written.get(at) != self.shown.get(at).map(|pixel| Some(*pixel)).as_ref() {
                    (l, r) = (l.min(x), r.max(x + 1));
                    (t, b) = (t.min(y), b.max(y + 1));
                }
            }
        }
        if l >= r {
            return None;
        }
        let mut pixels = Vec::with_capacity((r - l) * (b - t));
        for y in t..b {
            for at in y * self.width + l..y * self.width + r {
                let (Some(now), Some(before)) = (self.shown.get(at), self.written.get_mut(at)) else {
                    continue;
                };
                pixels.push((*before != Some(*now)).then_some(*now));
                *before = Some(*now);
            }
        }
        let short = |value: usize| u16::try_from(value).unwrap_or(u16::MAX);
        Some(Change {
            left: short(l),
            top: short(t),
            width: short(r - l),
            height: short(b - t),
            pixels,
        })
    }
}

fn edges(region: &Region) -> [usize; 4] {
    let (x, y) = (region.x as usize, region.y as usize);
    [x, y, x + region.width as usize, y + region.height as usize]
}
