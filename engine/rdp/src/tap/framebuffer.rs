//! The decoded screen and the ways to paint into it.

use super::event::{Picture, Rect};

/// No desktop of the field is larger; bounds the memory that a hostile desktop can ask for (256 MiB).
const PIXELS_MAX: usize = 64 << 20;

/// Largest width and height of a picture: what a recording can hold. The protocol's fields would allow 65535.
pub const DIMENSION_MAX: u16 = 16_384;

/// RGBA pixels; the fourth byte stays 255.
pub(super) struct Framebuffer {
    width: u16,
    height: u16,
    pixels: Vec<u8>,
}

impl Framebuffer {
    /// A black picture; `None` if it is empty or larger than the tap allows.
    pub(super) fn new(width: u16, height: u16) -> Option<Self> {
        let count = usize::from(width) * usize::from(height);
        let allowed = width.max(height) <= DIMENSION_MAX && (1..=PIXELS_MAX).contains(&count);
        allowed.then(|| Self {
            width,
            height,
            pixels: [0, 0, 0, 255].repeat(count),
        })
    }

    pub(super) fn width(&self) -> u16 {
        self.width
    }

    pub(super) fn height(&self) -> u16 {
        self.height
    }

    pub(super) fn picture(&self) -> Picture<'_> {
        Picture {
            width: self.width,
            height: self.height,
            stride: usize::from(self.width) * 4,
            rgba: &self.pixels,
        }
    }

    /// Row `0..height` of a rectangle that [`Framebuffer::clip`] gave; nothing of one that reaches beyond the picture.
    pub(super) fn row(&self, rect: Rect, row: usize) -> &[u8] {
        let start = ((usize::from(rect.y) + row) * usize::from(self.width) + usize::from(rect.x)) * 4;
        self.pixels
            .get(start..start + usize::from(rect.width) * 4)
            .unwrap_or_default()
    }

    /// The part of a rectangle that lies inside the picture.
    pub(super) fn clip(&self, x: usize, y: usize, width: usize, height: usize) -> Option<Rect> {
        let width = width.min(usize::from(self.width).saturating_sub(x));
        let height = height.min(usize::from(self.height).saturating_sub(y));
        if width == 0 || height == 0 {
            return None;
        }
        Some(Rect {
            x: u16::try_from(x).ok()?,
            y: u16::try_from(y).ok()?,
            width: u16::try_from(width).ok()?,
            height: u16::try_from(height).ok()?,
        })
    }

    /// Paints a rectangle that [`Framebuffer::clip`] gave: `row` fills row `0..height` (from the top) with RGBA.
    pub(super) fn paint(&mut self, rect: Rect, mut row: impl FnMut(usize, &mut [u8])) {
        let stride = usize::from(self.width) * 4;
        let left = usize::from(rect.x) * 4;
        let bytes = usize::from(rect.width) * 4;
        let rows = self.pixels.chunks_exact_mut(stride).skip(usize::from(rect.y));
        for (index, line) in rows.take(usize::from(rect.height)).enumerate() {
            if let Some(out) = line.get_mut(left..left + bytes) {
                row(index, out);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn refuses_empty_and_absurd_sizes() {
        assert!(Framebuffer::new(0, 5).is_none());
        assert!(Framebuffer::new(65535, 65535).is_none());
        assert!(Framebuffer::new(16_385, 1).is_none() && Framebuffer::new(1, 16_385).is_none());
        assert!(Framebuffer::new(16_384, 1).is_some() && Framebuffer::new(1, 16_384).is_some());
        assert_eq!(
            Framebuffer::new(2, 1).unwrap().picture().rgba,
            [0, 0, 0, 255, 0, 0, 0, 255]
        );
    }

    #[test]
    fn clips_to_the_picture() {
        let screen = Framebuffer::new(10, 8).unwrap();
        let rect = |x, y, width, height| Some(Rect { x, y, width, height });
        assert_eq!(screen.clip(0, 0, 10, 8), rect(0, 0, 10, 8));
        assert_eq!(screen.clip(8, 7, 64, 64), rect(8, 7, 2, 1));
        assert_eq!(screen.clip(10, 0, 1, 1), None);
        assert_eq!(screen.clip(0, 8, 1, 1), None);
        assert_eq!(screen.clip(70_000, 0, 1, 1), None);
        assert_eq!(screen.clip(3, 3, 0, 1), None);
    }
}
