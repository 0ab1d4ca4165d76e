//! A picture as a PNG that says where it is from.

use deskreel_sdk::prelude::*;

/// Longest text that a PNG keeps of one fact.
const TEXT_MAX_BYTES: usize = 4096;

/// What each PNG says of the session beside its pixels.
#[derive(Debug, Clone, Default)]
pub(crate) struct Facts(Vec<(String, String)>);

impl Facts {
    pub(crate) fn new(video: &VideoParams) -> Self {
        let named = [("Title", &video.title), ("Software", &video.product)];
        let named = named.into_iter().filter(|(_, text)| !text.is_empty());
        let named = named.map(|(name, text)| (name.to_owned(), text.clone()));
        let details = video.details().into_iter();
        let details = details.map(|(name, value)| (format!("deskreel:{name}"), value));
        let bounded = |(name, mut text): (String, String)| {
            text.truncate(text.floor_char_boundary(TEXT_MAX_BYTES));
            // A zero ends a text of PNG.
            (name, text.replace('\0', " "))
        };
        Self(named.chain(details).map(bounded).collect())
    }
}

/// What a file shows.
#[derive(Debug, Default)]
pub(crate) struct Picture {
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// R, G, B rows without padding.
    pub(crate) rgb: Vec<u8>,
    /// The same encoded, once it was needed.
    pub(crate) png: Vec<u8>,
}

impl Picture {
    /// The PNG.
    pub(crate) fn encode(&self, facts: &Facts) -> Result<Vec<u8>> {
        let failed = |error: png::EncodingError| Error::internal(format!("PNG: {error}"));
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, self.width, self.height);
        encoder.set_color(png::ColorType::Rgb);
        encoder.set_depth(png::BitDepth::Eight);
        encoder.set_source_srgb(png::SrgbRenderingIntent::Perceptual);
        // Five times faster than the default, and twice as large: exports are looked at and thrown away.
        encoder.set_compression(png::Compression::Fast);
        for (name, text) in &facts.0 {
            encoder.add_itxt_chunk(name.clone(), text.clone()).map_err(failed)?;
        }
        let mut writer = encoder.write_header().map_err(failed)?;
        writer.write_image_data(&self.rgb).map_err(failed)?;
        writer.finish().map_err(failed)?;
        Ok(bytes)
    }
}

/// The frame with its pointer, as R, G, B.
pub(crate) fn flatten(frame: &Frame<'_>) -> Vec<u8> {
    let row_bytes = frame.width as usize * 4;
    let mut rgba = Vec::with_capacity(row_bytes * frame.height as usize);
    for y in 0..frame.height {
        rgba.extend_from_slice(frame.row(y));
    }
    if let Some(pointer) = &frame.pointer {
        pointer.draw(&mut rgba, frame.width, frame.height, row_bytes);
    }
    rgba.as_chunks::<4>()
        .0
        .iter()
        .flat_map(|&[r, g, b, _]| [r, g, b])
        .collect()
}
