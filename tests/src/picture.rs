//! Screenshots and PNG files as RGB pixels, and how far two of them differ.

use std::fs::File;
use std::io::{BufReader, BufWriter};
use std::path::Path;

use anyhow::{Context as _, bail};

/// An RGB picture, three bytes a pixel, rows without padding.
#[derive(Clone, PartialEq, Eq)]
pub struct Picture {
    /// Pixels a row.
    pub width: usize,
    /// Rows.
    pub height: usize,
    /// `width * height * 3` bytes.
    pub rgb: Vec<u8>,
}

impl std::fmt::Debug for Picture {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{}x{} picture of {} colours",
            self.width,
            self.height,
            self.colours()
        )
    }
}

impl Picture {
    /// Reads a PNG file.
    ///
    /// # Errors
    /// No such file, or not an 8-bit RGB or RGBA PNG.
    pub fn read_png(path: &Path) -> anyhow::Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let mut decoder = png::Decoder::new(BufReader::new(file));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder
            .read_info()
            .with_context(|| format!("read {}", path.display()))?;
        let mut bytes = vec![0; reader.output_buffer_size().context("the picture is too large")?];
        let info = reader
            .next_frame(&mut bytes)
            .with_context(|| format!("read {}", path.display()))?;
        let rgb = match info.color_type {
            png::ColorType::Rgb => bytes,
            png::ColorType::Rgba => bytes
                .chunks_exact(4)
                .flat_map(|pixel| pixel.iter().take(3).copied().collect::<Vec<_>>())
                .collect(),
            other => bail!("{} is {other:?}, not RGB", path.display()),
        };
        Ok(Self {
            width: info.width as usize,
            height: info.height as usize,
            rgb,
        })
    }

    /// Writes a PNG file, for the eyes of whoever looks into a failed test.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write_png(&self, path: &Path) -> anyhow::Result<()> {
        let file = BufWriter::new(File::create(path).with_context(|| format!("create {}", path.display()))?);
        let mut encoder = png::Encoder::new(file, u32::try_from(self.width)?, u32::try_from(self.height)?);
        encoder.set_color(png::ColorType::Rgb);
        encoder.write_header()?.write_image_data(&self.rgb)?;
        Ok(())
    }

    /// Reads an X window dump (`xwd`): version 7, 24-bit colours in 32-bit little-endian pixels, as Xvfb gives.
    ///
    /// # Errors
    /// Another kind of dump, or a cut one.
    pub fn from_xwd(dump: &[u8]) -> anyhow::Result<Self> {
        let word = |index: usize| -> anyhow::Result<usize> {
            let bytes = dump.get(index * 4..index * 4 + 4).context("the dump is cut")?;
            Ok(u32::from_be_bytes(bytes.try_into()?) as usize)
        };
        let (header, version, width, height) = (word(0)?, word(1)?, word(4)?, word(5)?);
        let (bits, stride, colours) = (word(11)?, word(12)?, word(19)?);
        if version != 7 || bits != 32 {
            bail!("an X window dump of version {version} with {bits} bits a pixel");
        }
        let pixels = dump.get(header + colours * 12..).context("the dump is cut")?;
        let mut rgb = Vec::with_capacity(width * height * 3);
        for row in 0..height {
            let row = pixels
                .get(row * stride..row * stride + width * 4)
                .context("the dump is cut")?;
            for pixel in row.chunks_exact(4) {
                rgb.extend(pixel.iter().take(3).rev());
            }
        }
        Ok(Self { width, height, rgb })
    }

    /// Its upper left part.
    #[must_use]
    pub fn corner(&self, width: usize, height: usize) -> Self {
        let (width, height) = (width.min(self.width), height.min(self.height));
        let rows = self.rgb.chunks_exact(self.width * 3).take(height);
        Self {
            width,
            height,
            rgb: rows.flat_map(|row| &row[..width * 3]).copied().collect(),
        }
    }

    /// How many colours it has, counted up to 256.
    #[must_use]
    pub fn colours(&self) -> usize {
        let mut seen = std::collections::HashSet::new();
        for pixel in self.rgb.chunks_exact(3) {
            seen.insert(pixel);
            if seen.len() == 256 {
                break;
            }
        }
        seen.len()
    }

    /// Pixels of one colour, each channel at most `tolerance` of 255 away from it.
    #[must_use]
    pub fn count(&self, rgb: [u8; 3], tolerance: u8) -> usize {
        let near = |pixel: &&[u8]| pixel.iter().zip(rgb).all(|(a, b)| a.abs_diff(b) <= tolerance);
        self.rgb.chunks_exact(3).filter(near).count()
    }

    /// Pixels of which some colour channel differs by more than `tolerance` of 255; all of them if the sizes differ.
    #[must_use]
    pub fn differing(&self, other: &Self, tolerance: u8) -> usize {
        if (self.width, self.height) != (other.width, other.height) {
            return self.width * self.height;
        }
        let pairs = self.rgb.chunks_exact(3).zip(other.rgb.chunks_exact(3));
        pairs
            .filter(|(a, b)| a.iter().zip(*b).any(|(a, b)| a.abs_diff(*b) > tolerance))
            .count()
    }

    /// Peak signal-to-noise ratio in dB, infinite for equal pictures.
    ///
    /// # Panics
    /// The sizes differ.
    #[must_use]
    pub fn psnr(&self, other: &Self) -> f64 {
        assert_eq!(
            (self.width, self.height),
            (other.width, other.height),
            "pictures of different sizes"
        );
        let squares: u64 = self
            .rgb
            .iter()
            .zip(&other.rgb)
            .map(|(a, b)| u64::from(a.abs_diff(*b)).pow(2))
            .sum();
        #[expect(clippy::cast_precision_loss, reason = "a ratio for people, not an exact sum")]
        let mean = squares as f64 / self.rgb.len() as f64;
        10.0 * (255.0 * 255.0 / mean).log10()
    }
}
