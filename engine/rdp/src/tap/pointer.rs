//! Pointer updates, [MS-RDPBCGR] 2.2.9.1.1.4 and 2.2.9.1.2.1.5 to 11.

use std::collections::HashMap;
use std::sync::Arc;

use ironrdp_graphics::pointer::{DecodedPointer, PointerBitmapTarget};
use ironrdp_pdu::pointer::{LargePointerAttribute, Point16};

use super::color::Palette;
use super::event::{PointerEvent, PointerShape, TapEvent, UndecodedKind};
use super::guard::guarded;
use super::reader::Reader;
use super::sink::Sink;

/// The largest pointer that can be negotiated.
const EDGE_MAX: u16 = 384;
/// Bounds what a desktop can make us keep; the caches that clients announce hold 20 to 128 shapes.
const CACHE_BYTES_MAX: usize = 32 << 20;

/// A pointer update by its layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Update {
    Hidden,
    Default,
    Position,
    /// 24 bpp, without saying so.
    Color,
    Cached,
    /// With its depth.
    New,
    /// With its depth and 32-bit lengths.
    Large,
}

/// The shapes that the client caches, and the state that it shows.
#[derive(Default)]
pub(super) struct Pointers {
    cache: HashMap<u16, Arc<PointerShape>>,
    cache_bytes: usize,
    /// Last shape or visibility, for a recording that has to start over.
    current: Option<PointerEvent>,
}

impl Pointers {
    /// What the pointer looks like now, if the desktop ever said so.
    pub(super) fn current(&self) -> Option<PointerEvent> {
        self.current.clone()
    }

    /// Updates were dropped unseen: what is cached may be older than what the client has.
    pub(super) fn lose(&mut self) {
        *self = Self::default();
    }

    pub(super) fn update(&mut self, update: Update, palette: &Palette, data: &[u8], sink: &mut Sink<'_>) {
        match self.read(update, palette, data) {
            Ok(event) => {
                if update != Update::Position {
                    self.current = Some(event.clone());
                }
                sink.push(TapEvent::Pointer(event));
            }
            Err(error) => sink.undecoded(UndecodedKind::Pointer, format!("{update:?} pointer: {error}"), data),
        }
    }

    fn read(&mut self, update: Update, palette: &Palette, data: &[u8]) -> Result<PointerEvent, String> {
        const SHORT: &str = "update is too short";
        let mut reader = Reader::new(data);
        match update {
            Update::Hidden => Ok(PointerEvent::Hidden),
            Update::Default => Ok(PointerEvent::Default),
            Update::Position => {
                let x = reader.u16().ok_or(SHORT)?;
                let y = reader.u16().ok_or(SHORT)?;
                Ok(PointerEvent::Position { x, y })
            }
            Update::Cached => {
                let index = reader.u16().ok_or(SHORT)?;
                let shape = self
                    .cache
                    .get(&index)
                    .ok_or_else(|| format!("nothing cached at {index}"))?;
                Ok(PointerEvent::Shape(Arc::clone(shape)))
            }
            Update::Color | Update::New | Update::Large => {
                let attributes = read_shape(update, &mut reader).ok_or(SHORT)?;
                if attributes.xor_bpp == 8 {
                    palette.check()?;
                }
                let index = attributes.cache_index;
                // A shape that fails must not leave its predecessor behind.
                if let Some(old) = self.cache.remove(&index) {
                    self.cache_bytes = self.cache_bytes.saturating_sub(old.rgba.len());
                }
                let shape = Arc::new(decode(attributes, palette)?);
                if self.cache_bytes + shape.rgba.len() > CACHE_BYTES_MAX {
                    self.cache.clear();
                    self.cache_bytes = 0;
                }
                self.cache_bytes += shape.rgba.len();
                self.cache.insert(index, Arc::clone(&shape));
                Ok(PointerEvent::Shape(shape))
            }
        }
    }
}

fn read_shape<'a>(update: Update, reader: &mut Reader<'a>) -> Option<LargePointerAttribute<'a>> {
    let xor_bpp = if update == Update::Color { 24 } else { reader.u16()? };
    let cache_index = reader.u16()?;
    let hot_spot = Point16 {
        x: reader.u16()?,
        y: reader.u16()?,
    };
    let width = reader.u16()?;
    let height = reader.u16()?;
    let (and, xor) = match update {
        Update::Large => (reader.len32()?, reader.len32()?),
        _ => (reader.len16()?, reader.len16()?),
    };
    Some(LargePointerAttribute {
        xor_bpp,
        cache_index,
        hot_spot,
        width,
        height,
        xor_mask: reader.take(xor)?,
        and_mask: reader.take(and)?,
    })
}

fn decode(mut source: LargePointerAttribute<'_>, palette: &Palette) -> Result<PointerShape, String> {
    let (width, height) = (source.width, source.height);
    if width > EDGE_MAX || height > EDGE_MAX {
        return Err(format!("shape of {width}x{height}"));
    }
    // Masks may be longer than the shape needs; rows are whole 16-bit words.
    let needed = |bits: u16| (usize::from(width) * usize::from(bits)).div_ceil(16) * 2 * usize::from(height);
    source.xor_mask = source.xor_mask.get(..needed(source.xor_bpp)).unwrap_or(source.xor_mask);
    source.and_mask = source.and_mask.get(..needed(1)).unwrap_or(source.and_mask);
    let decoded = guarded("decoder", || {
        DecodedPointer::decode_large_pointer_attribute_with_palette(
            &source,
            PointerBitmapTarget::Accelerated,
            Some(&palette.colors),
        )
    })?
    .map_err(|error| error.to_string())?;
    if decoded.bitmap_data.len() != 4 * usize::from(decoded.width) * usize::from(decoded.height) {
        return Err(format!("decoder gave {} bytes", decoded.bitmap_data.len()));
    }
    Ok(PointerShape {
        width: decoded.width,
        height: decoded.height,
        hotspot_x: decoded.hotspot_x,
        hotspot_y: decoded.hotspot_y,
        rgba: decoded.bitmap_data,
    })
}
