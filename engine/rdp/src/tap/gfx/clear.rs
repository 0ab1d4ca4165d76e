//! ClearCodec ([MS-RDPEGFX] 2.2.4.1 and 3.3.8.1), decoded by ironrdp-graphics.
//!
//! An alpha of 0 is its word for a pixel that no layer has painted, but NSCodec's alpha comes through too, which means nothing
//! here. And it keeps glyphs and columns of streams that paint in part or fail half-way, otherwise than clients do: what refers to
//! these is an error.

use std::collections::BTreeSet;

use ironrdp_graphics::clearcodec::ClearCodecDecoder;

use super::columns::Columns;
use crate::tap::event::Rect;
use crate::tap::framebuffer::Framebuffer;
use crate::tap::guard::guarded;
use crate::tap::reader::Reader;
use crate::tap::work::{STEP, Work};

/// A glyph may be kept under a number.
const GLYPH_INDEX: u8 = 0x01;
/// It is one that was kept.
const GLYPH_HIT: u8 = 0x02;
/// Columns are counted from 0 again.
const CACHE_RESET: u8 = 0x04;
/// Largest glyph that is kept, in pixels.
const GLYPH_PIXELS_MAX: usize = 1024;
/// Number of NSCodec among the codecs of the third layer.
const NSCODEC: u8 = 1;
/// What a region of the third layer costs beside its pixels, and how much dearer these are than copied ones: regions may
/// cover each other, and a few bytes paint a large one.
const REGION: u64 = 4 * STEP;
const REGION_PIXEL: u64 = 4;
const NSCODEC_PIXEL: u64 = 8;
const ENDS_EARLY: &str = "ClearCodec stream ends early";

/// The decoder, and what of its memory is not the client's.
#[derive(Default)]
pub(super) struct Clear {
    /// Some megabytes once it is used.
    decoder: Option<Box<ClearCodecDecoder>>,
    columns: Columns,
    wrong_glyphs: BTreeSet<u16>,
    /// A stream with columns has failed: nobody knows how many of them the client has kept.
    columns_lost: bool,
}

impl Clear {
    /// Paints a stream and tells what has changed, also before an error.
    pub(super) fn paint(
        &mut self,
        surface: &mut Framebuffer,
        rect: Rect,
        data: &[u8],
        (work, painted): (&mut Work, &mut Vec<Rect>),
    ) -> Result<(), String> {
        let stream = match Stream::read(data) {
            Ok(stream) => stream,
            Err(error) => {
                self.refuse(data);
                return Err(error.to_owned());
            }
        };
        let mut bgra = match self.decode(&stream, rect, data, work) {
            Ok(bgra) => bgra,
            Err(error) => {
                self.forget(&stream);
                return Err(error);
            }
        };
        let (width, height) = (usize::from(rect.width), usize::from(rect.height));
        let area = width * height;
        if bgra.len() < area * 4 {
            return Err("ClearCodec gave too few pixels".to_owned());
        }
        let nscodec = stream.regions().filter(|(_, codec)| *codec == NSCODEC);
        for ([x, y, columns, rows], _) in nscodec {
            for line in bgra.chunks_exact_mut(width * 4).skip(y).take(rows) {
                let pixels = line.as_chunks_mut::<4>().0.iter_mut();
                pixels.skip(x).take(columns).for_each(|[_, _, _, alpha]| *alpha = 255);
            }
        }
        let residual = stream.residual_pixels();
        let whole = stream.is_hit() || residual >= area as u64;
        let pixels = bgra.as_chunks::<4>().0;
        surface.paint(rect, |row, out| {
            let line = &pixels[row * width..];
            for (out, [blue, green, red, alpha]) in out.as_chunks_mut::<4>().0.iter_mut().zip(line) {
                // no layer has painted where alpha is 0: what was there stays
                if whole || *alpha != 0 {
                    *out = [*red, *green, *blue, 255];
                }
            }
        });
        painted.push(rect);
        if let Some(glyph) = stream.kept() {
            // a client keeps what was shown, the decoder what was painted
            let missing = !whole && pixels.iter().any(|[_, _, _, alpha]| *alpha == 0);
            if missing || area > GLYPH_PIXELS_MAX {
                self.wrong_glyphs.insert(glyph);
                return Err("glyph that isn't painted whole".to_owned());
            }
            self.wrong_glyphs.remove(&glyph);
        }
        if !whole && residual > 0 {
            return Err(format!("ClearCodec layer of {residual} pixels instead of {area}"));
        }
        Ok(())
    }

    /// Takes note of a stream that is not decoded, but may be by clients.
    pub(super) fn refuse(&mut self, data: &[u8]) {
        match Stream::read(data) {
            Ok(stream) => self.forget(&stream),
            Err(_) => {
                self.columns_lost = true;
                self.wrong_glyphs.extend(glyph(data));
            }
        }
    }

    /// What a stream has changed of the client's memory is not known.
    fn forget(&mut self, stream: &Stream<'_>) {
        self.columns_lost |= !stream.bands.is_empty() || stream.resets();
        self.wrong_glyphs.extend(stream.kept());
    }

    fn decode(&mut self, stream: &Stream<'_>, rect: Rect, data: &[u8], work: &mut Work) -> Result<Vec<u8>, String> {
        if stream.resets() {
            if std::mem::take(&mut self.columns_lost) {
                // a client's columns keep their places, but nobody knows which: none of these may be taken for one of them
                self.decoder = None;
                self.columns = Columns::default();
            }
            self.columns.reset();
        }
        if stream.is_hit() && stream.glyph.is_some_and(|glyph| self.wrong_glyphs.contains(&glyph)) {
            return Err("glyph that isn't known whole".to_owned());
        }
        if self.columns_lost && !stream.bands.is_empty() {
            return Err("the columns that it refers to are lost".to_owned());
        }
        self.columns.take(stream.bands, (rect.width, rect.height), work)?;
        stream.spend_regions(rect, work)?;
        let decoder = self.decoder.get_or_insert_with(|| Box::new(ClearCodecDecoder::new()));
        guarded("ClearCodec", || decoder.decode(data, rect.width, rect.height))
            .and_then(|decoded| decoded.map_err(|error| error.to_string()))
    }
}

/// The number under which a stream, whatever follows, keeps a glyph.
fn glyph(data: &[u8]) -> Option<u16> {
    match *data {
        [flags, _, low, high, ..] if flags & (GLYPH_INDEX | GLYPH_HIT) == GLYPH_INDEX => {
            Some(u16::from_le_bytes([low, high]))
        }
        _ => None,
    }
}

/// A stream's header and layers.
struct Stream<'a> {
    flags: u8,
    glyph: Option<u16>,
    residual: &'a [u8],
    bands: &'a [u8],
    subcodecs: &'a [u8],
}

impl<'a> Stream<'a> {
    fn read(data: &'a [u8]) -> Result<Self, &'static str> {
        let mut reader = Reader::new(data);
        let mut head = || {
            let flags = reader.u8()?;
            // a sequence number
            reader.skip(1)?;
            match flags & GLYPH_INDEX {
                0 => Some((flags, None)),
                _ => Some((flags, Some(reader.u16()?))),
            }
        };
        let (flags, glyph) = head().ok_or(ENDS_EARLY)?;
        let mut stream = Self {
            flags,
            glyph,
            residual: &[],
            bands: &[],
            subcodecs: &[],
        };
        if reader.is_empty() {
            return Ok(stream);
        }
        if stream.is_hit() {
            // there must be none; some clients paint them all the same, and keep their columns
            return Err("ClearCodec glyph with layers");
        }
        let mut layers = || {
            let [residual, bands, subcodecs] = [reader.len32()?, reader.len32()?, reader.len32()?];
            Some([reader.take(residual)?, reader.take(bands)?, reader.take(subcodecs)?])
        };
        [stream.residual, stream.bands, stream.subcodecs] = layers().ok_or(ENDS_EARLY)?;
        Ok(stream)
    }

    fn resets(&self) -> bool {
        self.flags & CACHE_RESET != 0
    }

    fn is_hit(&self) -> bool {
        self.flags & GLYPH_HIT != 0
    }

    /// The number under which the client keeps what the stream paints.
    fn kept(&self) -> Option<u16> {
        self.glyph.filter(|_| !self.is_hit())
    }

    /// How many pixels the first layer paints.
    fn residual_pixels(&self) -> u64 {
        let mut reader = Reader::new(self.residual);
        let run = || {
            reader.skip(3)?;
            match reader.u8()? {
                0xFF => match reader.u16()? {
                    0xFFFF => reader.u32().map(u64::from),
                    run => Some(run.into()),
                },
                run => Some(run.into()),
            }
        };
        std::iter::from_fn(run).sum()
    }

    /// The regions of the third layer: column, row, columns, rows, and the codec.
    fn regions(&self) -> impl Iterator<Item = ([usize; 4], u8)> {
        let mut reader = Reader::new(self.subcodecs);
        std::iter::from_fn(move || {
            let region = [reader.len16()?, reader.len16()?, reader.len16()?, reader.len16()?];
            let length = reader.len32()?;
            let codec = reader.u8()?;
            reader.skip(length)?;
            Some((region, codec))
        })
    }

    /// Pays for the third layer, as far as it lies inside.
    fn spend_regions(&self, rect: Rect, work: &mut Work) -> Result<(), String> {
        for ([x, y, columns, rows], codec) in self.regions() {
            if x + columns > usize::from(rect.width) || y + rows > usize::from(rect.height) {
                return Err(format!(
                    "ClearCodec region of {columns}x{rows} at {x}, {y} in {}x{}",
                    rect.width, rect.height
                ));
            }
            let pixel = if codec == NSCODEC { NSCODEC_PIXEL } else { REGION_PIXEL };
            work.spend(REGION + pixel * (columns as u64 * rows as u64))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// What was on the surface before.
    const BEFORE: [u8; 4] = [9, 9, 9, 255];
    const EDGE: usize = 8;

    /// Streams on one surface of 8 by 8 pixels.
    struct Test {
        clear: Clear,
        surface: Framebuffer,
    }

    impl Test {
        fn new() -> Self {
            let edge = EDGE as u16;
            let mut test = Self {
                clear: Clear::default(),
                surface: Framebuffer::new(edge, edge).unwrap(),
            };
            test.wipe();
            test
        }

        fn whole() -> Rect {
            let edge = EDGE as u16;
            Rect {
                x: 0,
                y: 0,
                width: edge,
                height: edge,
            }
        }

        fn wipe(&mut self) {
            self.surface
                .paint(Self::whole(), |_, out| out.as_chunks_mut().0.fill(BEFORE));
        }

        /// The error, and whether something was painted.
        fn paint(&mut self, data: &[u8]) -> (Option<String>, bool) {
            let mut painted = Vec::new();
            let budget = (&mut Work::default(), &mut painted);
            let result = self.clear.paint(&mut self.surface, Self::whole(), data, budget);
            (result.err(), !painted.is_empty())
        }

        fn pixel(&self, x: usize, y: usize) -> [u8; 4] {
            *self.surface.row(Self::whole(), y).as_chunks::<4>().0.get(x).unwrap()
        }
    }

    fn layers(head: &[u8], residual: &[u8], bands: &[u8], subcodecs: &[u8]) -> Vec<u8> {
        let lengths = [residual, bands, subcodecs].map(|layer| u32::try_from(layer.len()).unwrap().to_le_bytes());
        [head, &lengths.concat(), residual, bands, subcodecs].concat()
    }

    /// Runs of white pixels.
    fn white(pixels: u8) -> Vec<u8> {
        vec![255, 255, 255, pixels]
    }

    /// A region of the third layer.
    fn region(rect: [u16; 4], codec: u8, data: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = rect.iter().flat_map(|field| field.to_le_bytes()).collect();
        bytes.extend(u32::try_from(data.len()).unwrap().to_le_bytes());
        bytes.push(codec);
        bytes.extend(data);
        bytes
    }

    #[test]
    fn glyphs_that_are_painted_in_part_are_not_taken_for_whole_ones() {
        let mut test = Test::new();
        let part = region([2, 3, 1, 1], 0, &[30, 20, 10]);
        let (error, painted) = test.paint(&layers(&[GLYPH_INDEX, 0, 5, 0], &[], &[], &part));
        assert_eq!(error.as_deref(), Some("glyph that isn't painted whole"));
        assert!(painted, "what was painted is shown");
        assert_eq!((test.pixel(2, 3), test.pixel(0, 0)), ([10, 20, 30, 255], BEFORE));
        test.wipe();
        let hit = [GLYPH_INDEX | GLYPH_HIT, 1, 5, 0];
        let (error, painted) = test.paint(&hit);
        assert_eq!(error.as_deref(), Some("glyph that isn't known whole"));
        assert!(!painted && test.pixel(2, 3) == BEFORE);
        // another one in its place
        assert_eq!(
            test.paint(&layers(&[GLYPH_INDEX, 2, 5, 0], &white(64), &[], &[])),
            (None, true)
        );
        test.wipe();
        assert_eq!(test.paint(&hit), (None, true));
        assert_eq!(test.pixel(7, 7), [255; 4]);
    }

    #[test]
    fn a_first_layer_that_ends_early_leaves_the_rest_as_it_was() {
        let mut test = Test::new();
        let (error, painted) = test.paint(&layers(&[0, 0], &white(10), &[], &[]));
        assert_eq!(error.as_deref(), Some("ClearCodec layer of 10 pixels instead of 64"));
        assert!(painted);
        assert_eq!((test.pixel(1, 1), test.pixel(2, 1)), ([255; 4], BEFORE));
        // longer than the area
        assert_eq!(
            test.paint(&layers(&[0, 1], &[1, 2, 3, 0xFF, 0, 1], &[], &[])),
            (None, true)
        );
        assert_eq!(test.pixel(7, 7), [3, 2, 1, 255]);
    }

    #[test]
    fn the_alpha_of_nscodec_hides_nothing() {
        // runs of 60 and four plain bytes: luma, both chromas, alpha
        let planes = [100_u8, 0, 0, 0].map(|value| vec![value, value, 58, value, value, value, value]);
        let mut data: Vec<u8> = planes
            .iter()
            .flat_map(|plane| (plane.len() as u32).to_le_bytes())
            .collect();
        data.extend([1, 0, 0, 0]);
        data.extend(planes.concat());
        let mut test = Test::new();
        let stream = layers(&[GLYPH_INDEX, 0, 1, 0], &[], &[], &region([0, 0, 8, 8], NSCODEC, &data));
        assert_eq!(test.paint(&stream), (None, true));
        assert_eq!(
            (test.pixel(0, 0), test.pixel(7, 7)),
            ([100, 100, 100, 255], [100, 100, 100, 255])
        );
        test.wipe();
        assert_eq!(test.paint(&[GLYPH_INDEX | GLYPH_HIT, 1, 1, 0]), (None, true));
        assert_eq!(test.pixel(4, 4), [100, 100, 100, 255]);
    }

    #[test]
    fn columns_are_lost_with_a_stream_that_fails_half_way() {
        // two columns of four pixels: a new one of two pixels, and one of the cache
        let band = |index: u16| {
            let mut band: Vec<u8> = [0_u16, 1, 0, 3].iter().flat_map(|field| field.to_le_bytes()).collect();
            band.extend([10, 20, 30]);
            band.extend(0x0200_u16.to_le_bytes());
            band.extend([1, 2, 3, 4, 5, 6]);
            band.extend((0x8000 | index).to_le_bytes());
            band
        };
        let mut test = Test::new();
        assert_eq!(test.paint(&layers(&[0, 0], &[], &band(0), &[])), (None, true));
        assert_eq!(
            (test.pixel(0, 0), test.pixel(1, 3)),
            ([3, 2, 1, 255], [30, 20, 10, 255])
        );
        let (error, painted) = test.paint(&layers(&[0, 1], &[], &band(999), &[]));
        assert!(error.is_some() && !painted);
        let (error, _) = test.paint(&layers(&[0, 2], &[], &band(0), &[]));
        assert_eq!(error.as_deref(), Some("the columns that it refers to are lost"));
        // what has none goes on
        assert_eq!(test.paint(&layers(&[0, 3], &white(64), &[], &[])), (None, true));
        assert_eq!(test.paint(&layers(&[CACHE_RESET, 4], &[], &band(0), &[])), (None, true));
        assert_eq!(test.paint(&layers(&[0, 5], &[], &band(0), &[])), (None, true));
    }
}
