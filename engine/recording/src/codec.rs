//! The picture codec (docs/format.md section 5).
use crate::{Picture, Rect, Result, ScreenMessage};

/// Pictures in, screen messages out.
pub struct ScreenEncoder {}

/// Decodes screen messages to pictures. Memory is bounded by the format's limits; never panics on any bytes.
pub struct ScreenDecoder {}

impl Default for ScreenDecoder {
    fn default() -> Self {
        Self::new()
    }
}

impl ScreenDecoder {
    /// A decoder without a picture. It allocates when the first key comes.
    #[must_use]
    pub fn new() -> Self {
        Self {}
    }
    /// Applies the next message of the recording in order, or any key. Returns the rectangles that it wrote
    /// (a key: the whole picture).
    ///
    /// # Errors
    /// Malformed or too large; a delta before any key. After an error only a key is accepted.
    pub fn apply(&mut self, _message: &ScreenMessage) -> Result<&[Rect]> {
        todo!()
    }
    /// The picture now, alpha 255; `None` before the first key and after an error.
    #[must_use]
    pub fn picture(&self) -> Option<Picture<'_>> {
        todo!()
    }
}
