//! The pointer: what it looks like and where it is.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{Event, base64_bytes};
use crate::{Error, Result};

/// Largest pointer side in pixels ([MS-RDPBCGR] large pointers: 384).
pub(crate) const POINTER_DIMENSION_MAX: u16 = 384;

/// A point on the screen, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Column.
    pub x: u16,
    /// Row.
    pub y: u16,
}

/// What the pointer looks like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PointerShape {
    /// The viewer's own arrow.
    Default,
    /// A picture; see [`PointerShape::image`] and [`PointerShape::rgba`].
    Image {
        /// Width in pixels, at most 384.
        width: u16,
        /// Height in pixels, at most 384.
        height: u16,
        /// Column of the hot spot.
        hotspot_x: u16,
        /// Row of the hot spot.
        hotspot_y: u16,
        /// Rows of RGBA (straight alpha), one zstd frame.
        #[serde(with = "base64_bytes")]
        rgba_zstd: Bytes,
    },
    /// A kind of a later version.
    #[serde(other)]
    Unknown,
}

impl PointerShape {
    /// A shape from rows of RGBA with straight alpha, `width * 4` bytes each.
    ///
    /// # Errors
    /// [`crate::ErrorKind::InvalidInput`] when sizes do not fit, [`crate::ErrorKind::Internal`] when compression fails.
    pub fn image(width: u16, height: u16, hotspot_x: u16, hotspot_y: u16, rgba: &[u8]) -> Result<Self> {
        let needed = usize::from(width) * usize::from(height) * 4;
        if width > POINTER_DIMENSION_MAX || height > POINTER_DIMENSION_MAX || rgba.len() != needed {
            return Err(Error::input(format!(
                "pointer of {width}x{height} with {} bytes",
                rgba.len()
            )));
        }
        let packed = zstd::bulk::compress(rgba, 3).map_err(|error| Error::internal("compress pointer", error))?;
        Ok(Self::Image {
            width,
            height,
            hotspot_x,
            hotspot_y,
            rgba_zstd: packed.into(),
        })
    }

    /// The rows of RGBA of an image; `None` for the other kinds.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Malformed`] when size and bytes do not fit.
    pub fn rgba(&self) -> Result<Option<Vec<u8>>> {
        let Self::Image {
            width,
            height,
            rgba_zstd,
            ..
        } = self
        else {
            return Ok(None);
        };
        if *width > POINTER_DIMENSION_MAX || *height > POINTER_DIMENSION_MAX {
            return Err(Error::malformed(format!(
                "pointer of {width}x{height} is above {POINTER_DIMENSION_MAX}"
            )));
        }
        let needed = usize::from(*width) * usize::from(*height) * 4;
        // One byte more, so that a frame that is too long is noticed rather than an error of the library.
        let rgba = zstd::bulk::decompress(rgba_zstd, needed + 1)
            .map_err(|error| Error::malformed(format!("pointer shape: {error}")))?;
        if rgba.len() != needed {
            return Err(Error::malformed(format!(
                "pointer of {width}x{height} has {} bytes",
                rgba.len()
            )));
        }
        Ok(Some(rgba))
    }
}

/// A change of the pointer; what is absent stays as it was.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Pointer {
    /// New position of the hot spot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub position: Option<Position>,
    /// Shown or hidden.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub visible: Option<bool>,
    /// New shape.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shape: Option<PointerShape>,
}

/// The pointer as a viewer has to draw it: the sum of all pointer events and of the positions in input events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PointerState {
    /// Hot spot; `None` until an event told it.
    pub position: Option<Position>,
    /// Shown or hidden.
    pub visible: bool,
    /// What it looks like.
    pub shape: PointerShape,
}

impl Default for PointerState {
    fn default() -> Self {
        Self {
            position: None,
            visible: true,
            shape: PointerShape::Default,
        }
    }
}

impl PointerState {
    /// Applies an event; returns whether the pointer changed.
    pub fn apply(&mut self, event: &Event) -> bool {
        let before_position = self.position;
        match event {
            Event::Pointer(pointer) => {
                let mut changed = false;
                if let Some(position) = pointer.position {
                    self.position = Some(position);
                }
                if let Some(visible) = pointer.visible {
                    changed |= self.visible != visible;
                    self.visible = visible;
                }
                if let Some(shape) = &pointer.shape {
                    changed |= self.shape != *shape;
                    self.shape.clone_from(shape);
                }
                changed || self.position != before_position
            }
            Event::Input(input) => {
                if let Some(position) = input.position() {
                    self.position = Some(position);
                }
                self.position != before_position
            }
            _ => false,
        }
    }

    /// The event that sets a viewer to exactly this state; follows each keyframe.
    #[must_use]
    pub fn to_event(&self) -> Pointer {
        Pointer {
            position: self.position,
            visible: Some(self.visible),
            shape: Some(self.shape.clone()),
        }
    }
}
