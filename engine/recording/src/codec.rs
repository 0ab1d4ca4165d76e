//! The picture codec (docs/format.md section 5): one zstd stream from keyframe to keyframe.

mod decoder;
mod diff;
mod encoder;
mod pixels;
mod rects;
mod shift;
mod stream;

pub use decoder::ScreenDecoder;
pub use encoder::ScreenEncoder;

/// Side of the tiles that pictures are compared by. Not visible in the format.
const TILE: usize = 64;

const FRAME_VERSION: u8 = 1;
const KIND_KEY: u8 = 1;
const KIND_DELTA: u8 = 2;
const HEADER_LENGTH: usize = 16;

const OP_COPY: u8 = 1;
const OP_RAW: u8 = 2;
const OP_RESIDUAL: u8 = 3;
const COPY_LENGTH: usize = 13;
const RECT_LENGTH: usize = 9;

const OPS_MAX: usize = 65_536;
const WINDOW_LOG: u32 = 23;
const SPAN_MAX_MIB: u16 = 1024;
const MIB: u64 = 1 << 20;

/// Only red, green and blue count: the fourth byte of a pixel is whatever the tap's decoder left there.
const RGB_MASK: u32 = 0x00ff_ffff;

/// A copy of `to`'s size from the previous picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Copy {
    to: crate::Rect,
    source_x: u16,
    source_y: u16,
}
