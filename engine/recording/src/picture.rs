//! Rectangles and borrowed pictures.

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Largest width and height of a picture, in pixels.
pub const DIMENSION_MAX: u16 = 16_384;
/// Largest number of pixels in a picture (8192 x 8192, or 16384 x 4096).
pub const PIXELS_MAX: usize = 1 << 26;

/// Width and height of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Size {
    /// Width.
    pub width: u16,
    /// Height.
    pub height: u16,
}

/// A rectangle in pixels; `x + width` and `y + height` are exclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Rect {
    /// Left edge.
    pub x: u16,
    /// Top edge.
    pub y: u16,
    /// Width; 0 is an empty rectangle.
    pub width: u16,
    /// Height; 0 is an empty rectangle.
    pub height: u16,
}

impl Rect {
    /// A rectangle from its edges' origin and size.
    #[must_use]
    pub const fn new(x: u16, y: u16, width: u16, height: u16) -> Self {
        Self { x, y, width, height }
    }

    /// First column right of the rectangle.
    #[must_use]
    pub const fn right(&self) -> u32 {
        self.x as u32 + self.width as u32
    }

    /// First row below the rectangle.
    #[must_use]
    pub const fn bottom(&self) -> u32 {
        self.y as u32 + self.height as u32
    }

    /// Number of pixels.
    #[must_use]
    pub const fn area(&self) -> usize {
        self.width as usize * self.height as usize
    }

    /// True when it holds no pixel.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.width == 0 || self.height == 0
    }

    /// The part inside a picture of this size; empty when outside.
    #[must_use]
    pub fn clipped(&self, width: u16, height: u16) -> Self {
        let x = self.x.min(width);
        let y = self.y.min(height);
        let right = self.right().min(u32::from(width));
        let bottom = self.bottom().min(u32::from(height));
        Self {
            x,
            y,
            width: u16::try_from(right.saturating_sub(u32::from(x))).unwrap_or(0),
            height: u16::try_from(bottom.saturating_sub(u32::from(y))).unwrap_or(0),
        }
    }

    /// The smallest rectangle that holds both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let x = self.x.min(other.x);
        let y = self.y.min(other.y);
        let right = self.right().max(other.right());
        let bottom = self.bottom().max(other.bottom());
        Self {
            x,
            y,
            width: u16::try_from(right - u32::from(x)).unwrap_or(u16::MAX),
            height: u16::try_from(bottom - u32::from(y)).unwrap_or(u16::MAX),
        }
    }
}

/// A borrowed picture: rows of RGBA bytes (red first); the fourth byte is ignored everywhere.
#[derive(Debug, Clone, Copy)]
pub struct Picture<'a> {
    /// Width in pixels.
    pub width: u16,
    /// Height in pixels.
    pub height: u16,
    /// Bytes from one row's start to the next; at least `width * 4`.
    pub stride: usize,
    /// The rows; the last one needs no padding.
    pub data: &'a [u8],
}

impl<'a> Picture<'a> {
    /// Checks size, stride and length of the data against each other and the format's limits.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] or [`crate::ErrorKind::TooLarge`] naming the value at fault.
    pub fn checked(self) -> Result<Self> {
        check_size(self.width, self.height)?;
        let row = usize::from(self.width) * 4;
        if self.stride < row {
            return Err(Error::input(format!(
                "picture stride {} is less than its row of {row} bytes",
                self.stride
            )));
        }
        let needed = self
            .stride
            .checked_mul(usize::from(self.height) - 1)
            .and_then(|bytes| bytes.checked_add(row))
            .ok_or_else(|| Error::input(format!("picture stride {} is absurd", self.stride)))?;
        if self.data.len() < needed {
            return Err(Error::input(format!(
                "picture has {} bytes, its size needs {needed}",
                self.data.len()
            )));
        }
        Ok(self)
    }

    /// Pixels `x .. x + width` of row `y`, 4 bytes each; the caller keeps them inside the picture.
    #[inline]
    pub(crate) fn span(&self, x: usize, y: usize, width: usize) -> &'a [u8] {
        let start = y * self.stride + x * 4;
        &self.data[start..start + width * 4]
    }
}

pub(crate) fn check_size(width: u16, height: u16) -> Result<()> {
    if width == 0 || height == 0 {
        return Err(Error::input(format!("picture size {width}x{height} is empty")));
    }
    if width > DIMENSION_MAX || height > DIMENSION_MAX || usize::from(width) * usize::from(height) > PIXELS_MAX {
        return Err(Error::too_large(format!(
            "picture size {width}x{height} is above the limit of {DIMENSION_MAX} a side and {PIXELS_MAX} pixels"
        )));
    }
    Ok(())
}
