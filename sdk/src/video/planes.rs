//! A picture as three planes.

use crate::exporter::Region;

/// How many samples of a colour there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sampling {
    /// One for each pixel in each plane (4:4:4).
    Full,
    /// One for 2x2 pixels in the second and third plane (4:2:0).
    Half,
}

impl Sampling {
    /// What sizes and corners of regions are multiples of.
    pub(crate) fn align(self) -> u32 {
        match self {
            Self::Full => 1,
            Self::Half => 2,
        }
    }
}

/// How a video keeps colours: what its three planes are.
pub trait Colors: Send + 'static {
    /// Samples in the second and third plane.
    const SAMPLING: Sampling;
    /// A black pixel.
    const BLACK: [u8; 3];

    /// Puts rows of pixels (R, G, B, A; `width` in each row, all rows in one piece) into the planes, the first at column and row
    /// `at`. With [`Sampling::Half`], `at`, `width` and the number of rows are even.
    fn convert(&mut self, rows: &[u8], width: usize, at: (usize, usize), planes: &mut Planes);
}

/// A picture's three planes, rows from the top, without padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Planes {
    width: usize,
    height: usize,
    sampling: Sampling,
    planes: [Vec<u8>; 3],
}

impl Planes {
    /// All black.
    #[must_use]
    pub fn black<C: Colors>(width: u32, height: u32) -> Self {
        let (width, height) = (width as usize, height as usize);
        let align = C::SAMPLING.align() as usize;
        let [first, second, third] = C::BLACK;
        let part = width / align * (height / align);
        Self {
            width,
            height,
            sampling: C::SAMPLING,
            planes: [vec![first; width * height], vec![second; part], vec![third; part]],
        }
    }

    /// Width in pixels.
    #[must_use]
    pub fn width(&self) -> usize {
        self.width
    }

    /// Height in pixels.
    #[must_use]
    pub fn height(&self) -> usize {
        self.height
    }

    /// The three planes.
    #[must_use]
    pub fn planes(&self) -> &[Vec<u8>; 3] {
        &self.planes
    }

    /// The three planes, to be changed. Their lengths stay.
    pub fn planes_mut(&mut self) -> [&mut [u8]; 3] {
        self.planes.each_mut().map(Vec::as_mut_slice)
    }

    /// Samples in a row of each plane.
    #[must_use]
    pub fn strides(&self) -> [usize; 3] {
        let part = self.width / self.sampling.align() as usize;
        [self.width, part, part]
    }

    /// What of each plane belongs to a region.
    fn parts(&self, region: Region) -> [Region; 3] {
        let align = self.sampling.align();
        let part = Region {
            x: region.x / align,
            y: region.y / align,
            width: region.width / align,
            height: region.height / align,
        };
        [region, part, part]
    }

    /// A copy of a region, with aligned corners.
    pub(crate) fn cut(&self, region: Region) -> Patch {
        let parts = self.parts(region);
        let size: usize = parts
            .iter()
            .map(|part| part.width as usize * part.height as usize)
            .sum();
        let mut bytes = Vec::with_capacity(size);
        for ((plane, stride), part) in self.planes.iter().zip(self.strides()).zip(parts) {
            let (x, width) = (part.x as usize, part.width as usize);
            for row in plane
                .chunks_exact(stride.max(1))
                .skip(part.y as usize)
                .take(part.height as usize)
            {
                bytes.extend_from_slice(row.get(x..x + width).unwrap_or_default());
            }
        }
        Patch { region, bytes }
    }

    /// Puts a patch of a picture of this size back.
    pub(crate) fn paste(&mut self, patch: &Patch) {
        let mut rest = patch.bytes.as_slice();
        let (strides, parts) = (self.strides(), self.parts(patch.region));
        for ((plane, stride), part) in self.planes.iter_mut().zip(strides).zip(parts) {
            let (x, width) = (part.x as usize, part.width as usize);
            let rows = plane.chunks_exact_mut(stride.max(1));
            for row in rows.skip(part.y as usize).take(part.height as usize) {
                let (Some(to), Some((pixels, tail))) = (row.get_mut(x..x + width), rest.split_at_checked(width)) else {
                    continue;
                };
                to.copy_from_slice(pixels);
                rest = tail;
            }
        }
    }
}

/// A region's planes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    region: Region,
    bytes: Vec<u8>,
}

impl Patch {
    /// Bytes that it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether it holds nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
