//! The pointer as pixels.

use deskreel_recording::event::{PointerShape, PointerState};
use deskreel_recording::{Event, Result};

use super::arrow;

/// A shape's pixels: R, G, B and straight alpha.
#[derive(Debug, Clone)]
struct Pixels {
    width: u16,
    height: u16,
    hotspot_x: u16,
    hotspot_y: u16,
    rgba: Vec<u8>,
}

/// The pointer's state and its shape, unpacked once a change.
#[derive(Debug)]
pub(super) struct PointerView {
    state: PointerState,
    pixels: Pixels,
}

impl Default for PointerView {
    fn default() -> Self {
        Self {
            state: PointerState::default(),
            pixels: default_shape(),
        }
    }
}

impl PointerView {
    /// Takes an event in; tells whether the pointer looks different or is elsewhere.
    pub(super) fn apply(&mut self, event: &Event) -> Result<bool> {
        let had = self.state.shape.clone();
        let changed = self.state.apply(event);
        if self.state.shape != had {
            self.pixels = match (&self.state.shape, self.state.shape.rgba()?) {
                (
                    &PointerShape::Image {
                        width,
                        height,
                        hotspot_x,
                        hotspot_y,
                        ..
                    },
                    Some(rgba),
                ) => Pixels {
                    width,
                    height,
                    hotspot_x,
                    hotspot_y,
                    rgba,
                },
                _ => default_shape(),
            };
        }
        Ok(changed)
    }

    /// The pointer to draw.
    pub(super) fn shown(&self) -> Option<deskreel_sdk::Pointer<'_>> {
        let position = self.state.position.filter(|_| self.state.visible)?;
        Some(deskreel_sdk::Pointer {
            x: position.x.into(),
            y: position.y.into(),
            hotspot_x: self.pixels.hotspot_x,
            hotspot_y: self.pixels.hotspot_y,
            width: self.pixels.width,
            height: self.pixels.height,
            rgba: &self.pixels.rgba,
        })
    }
}

/// An arrow like that of the client, which draws its own.
fn default_shape() -> Pixels {
    let (width, height, rgba) = arrow::pixels();
    Pixels {
        width,
        height,
        hotspot_x: 0,
        hotspot_y: 0,
        rgba,
    }
}
