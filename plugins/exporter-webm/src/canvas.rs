//! The video's picture now, as planes of green, blue and red, kept up to date from what changes in the frames.

use deskreel_sdk::{Error, Frame, Pointer, Region, Result};

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
    width: usize,
    height: usize,
    /// Green, blue and red, one plane after another, rows from the top: VP9's order of an RGB picture.
    planes: Vec<u8>,
    /// Size of the frames; they stand in the middle.
    source: Option<(u32, u32)>,
    pointer: Option<Drawn>,
    scratch: Vec<u8>,
}

impl Canvas {
    /// A black one.
    pub(crate) fn new(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        Self {
            width,
            height,
            planes: vec![0; width * height * 3],
            source: None,
            pointer: None,
            scratch: Vec::new(),
        }
    }

    /// The planes, one after another.
    pub(crate) fn planes(&self) -> &[u8] {
        &self.planes
    }

    /// Draws what a frame changed; tells whether that is anything.
    ///
    /// # Errors
    /// `InvalidInput` for a frame that is larger than the video.
    pub(crate) fn draw(&mut self, frame: &Frame<'_>) -> Result<bool> {
        let size = (frame.width, frame.height);
        let mut regions = Vec::with_capacity(frame.changed.len() + 2);
        if self.source == Some(size) {
            regions.extend_from_slice(frame.changed);
        } else {
            if size.0 as usize > self.width || size.1 as usize > self.height {
                return Err(Error::invalid_input(format!(
                    "the screen grew to {}x{} while it was exported as {}x{}: export again when the session has ended",
                    size.0, size.1, self.width, self.height
                )));
            }
            self.planes.fill(0);
            self.source = Some(size);
            self.pointer = None;
            regions.push(Region {
                x: 0,
                y: 0,
                width: size.0,
                height: size.1,
            });
        }
        self.move_pointer(frame, &mut regions);
        for region in &regions {
            self.compose(frame, *region);
        }
        Ok(!regions.is_empty())
    }

    /// Notes where the pointer goes, and adds the regions where it was and will be when that or its shape is new.
    fn move_pointer(&mut self, frame: &Frame<'_>, regions: &mut Vec<Region>) {
        let region = |pointer: &Pointer<'_>| pointer.region(frame.width, frame.height);
        let next = frame.pointer.and_then(|pointer| Some((pointer, region(&pointer)?)));
        let place = |p: &Pointer<'_>| (p.x, p.y, p.hotspot_x, p.hotspot_y, p.width, p.height);
        match (&self.pointer, &next) {
            (None, None) => return,
            (Some(old), Some((new, _))) if old.place == place(new) && old.rgba == new.rgba => return,
            _ => {}
        }
        regions.extend(self.pointer.as_ref().map(|old| old.region));
        regions.extend(next.as_ref().map(|(_, region)| *region));
        self.pointer = next.map(|(pointer, region)| Drawn {
            place: place(&pointer),
            rgba: pointer.rgba.to_vec(),
            region,
        });
    }

    /// Draws one region of the frame, row by row: picture and pointer as R, G, B, A, then taken apart.
    fn compose(&mut self, frame: &Frame<'_>, region: Region) {
        let left = (self.width - frame.width as usize) / 2;
        let top = (self.height - frame.height as usize) / 2;
        let (x, width) = (region.x as usize, region.width as usize);
        let area = self.width * self.height;
        for y in region.y..region.y + region.height {
            let Some(pixels) = frame.row(y).get(x * 4..(x + width) * 4) else {
                continue;
            };
            self.scratch.clear();
            self.scratch.extend_from_slice(pixels);
            if let Some(pointer) = frame.pointer {
                let moved = Pointer {
                    x: pointer.x.saturating_sub_unsigned(region.x),
                    y: pointer.y.saturating_sub_unsigned(y),
                    ..pointer
                };
                moved.draw(&mut self.scratch, region.width, 1, width * 4);
            }
            let at = (top + y as usize) * self.width + left + x;
            let (green, others) = self.planes.split_at_mut(area);
            let (blue, red) = others.split_at_mut(area);
            let planes = green[at..at + width]
                .iter_mut()
                .zip(&mut blue[at..at + width])
                .zip(&mut red[at..at + width]);
            for (((g, b), r), pixel) in planes.zip(self.scratch.as_chunks::<4>().0) {
                [*r, *g, *b, _] = *pixel;
            }
        }
    }
}
