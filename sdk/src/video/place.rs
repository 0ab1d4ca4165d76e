//! Where a picture lies in the video: the video's size is fixed, a picture's is not.

use crate::exporter::Region;

/// How pictures of one size are put into the video: in the middle, scaled down if they don't fit, never up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Placement {
    align: u32,
    /// Size of the picture.
    pub(crate) source: (u32, u32),
    /// Where it goes; its corner is a multiple of `align`.
    pub(crate) target: Region,
}

impl Placement {
    /// `align`: what corners of regions are multiples of, 1 or 2.
    pub(crate) fn new(source: (u32, u32), video: (u32, u32), align: u32) -> Self {
        let (width, height) = if source.0 <= video.0 && source.1 <= video.1 {
            source
        } else {
            // The tighter side decides.
            let by_width = u64::from(video.0) * u64::from(source.1) <= u64::from(video.1) * u64::from(source.0);
            let scale = |side: u32| {
                let (to, from) = if by_width {
                    (video.0, source.0)
                } else {
                    (video.1, source.1)
                };
                u32::try_from(u64::from(side) * u64::from(to) / u64::from(from.max(1)))
                    .unwrap_or(1)
                    .max(1)
            };
            (scale(source.0).min(video.0), scale(source.1).min(video.1))
        };
        let target = Region {
            x: (video.0 - width) / 2 / align * align,
            y: (video.1 - height) / 2 / align * align,
            width,
            height,
        };
        Self { align, source, target }
    }

    pub(crate) fn is_scaled(&self) -> bool {
        self.source != (self.target.width, self.target.height)
    }

    /// What part of the video a region of the picture touches; its corners are aligned, it lies inside `video`.
    pub(crate) fn region(&self, region: Region, video: (u32, u32)) -> Region {
        let along = |start: u32, length: u32, from: u32, to: u32| {
            if from == to {
                return (start, start + length);
            }
            let scale = |at: u64| at * u64::from(to) / u64::from(from.max(1));
            // One pixel more at each side: a neighbour mixes in.
            let begin = scale(u64::from(start)).saturating_sub(1);
            let end = (scale(u64::from(start) + u64::from(length)) + 2).min(u64::from(to));
            (u32::try_from(begin).unwrap_or(0), u32::try_from(end).unwrap_or(to))
        };
        let (x0, x1) = along(region.x, region.width, self.source.0, self.target.width);
        let (y0, y1) = along(region.y, region.height, self.source.1, self.target.height);
        self.aligned(
            Region {
                x: self.target.x + x0,
                y: self.target.y + y0,
                width: x1.saturating_sub(x0),
                height: y1.saturating_sub(y0),
            },
            video,
        )
    }

    /// A point of the picture in the video.
    pub(crate) fn point(&self, x: i32, y: i32) -> (i32, i32) {
        let along = |at: i32, from: u32, to: u32, offset: u32| {
            let scaled = i64::from(at) * i64::from(to) / i64::from(from.max(1));
            i32::try_from(scaled + i64::from(offset)).unwrap_or(i32::MAX)
        };
        (
            along(x, self.source.0, self.target.width, self.target.x),
            along(y, self.source.1, self.target.height, self.target.y),
        )
    }

    /// A region grown to aligned corners, inside a video whose size is aligned.
    pub(crate) fn aligned(&self, region: Region, video: (u32, u32)) -> Region {
        let x = (region.x / self.align * self.align).min(video.0);
        let y = (region.y / self.align * self.align).min(video.1);
        let right = (region.x + region.width).next_multiple_of(self.align).min(video.0);
        let bottom = (region.y + region.height).next_multiple_of(self.align).min(video.1);
        Region {
            x,
            y,
            width: right.saturating_sub(x),
            height: bottom.saturating_sub(y),
        }
    }
}

/// All of a video.
pub(crate) fn whole(video: (u32, u32)) -> Region {
    Region {
        x: 0,
        y: 0,
        width: video.0,
        height: video.1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(x: u32, y: u32, width: u32, height: u32) -> Region {
        Region { x, y, width, height }
    }

    #[test]
    fn smaller_pictures_stand_in_the_middle() {
        let placement = Placement::new((800, 601), (1024, 768), 2);
        assert_eq!(placement.target, region(112, 82, 800, 601));
        assert!(!placement.is_scaled());
        assert_eq!(placement.region(region(1, 1, 1, 1), (1024, 768)), region(112, 82, 2, 2));
        assert_eq!(placement.point(10, 10), (122, 92));
    }

    #[test]
    fn larger_pictures_are_scaled_to_fit() {
        let placement = Placement::new((2048, 768), (1024, 768), 2);
        assert_eq!(placement.target, region(0, 192, 1024, 384));
        assert!(placement.is_scaled());
        assert_eq!(placement.point(2047, 767), (1023, 575));
        let touched = placement.region(region(100, 100, 10, 10), (1024, 768));
        assert!(touched.x <= 49 && touched.x + touched.width >= 56, "{touched:?}");
        let all = placement.region(region(0, 0, 2048, 768), (1024, 768));
        assert_eq!(all, region(0, 192, 1024, 384));
    }

    #[test]
    fn without_alignment_nothing_grows() {
        let placement = Placement::new((800, 601), (1023, 767), 1);
        assert_eq!(placement.target, region(111, 83, 800, 601));
        assert_eq!(placement.region(region(1, 1, 1, 1), (1023, 767)), region(112, 84, 1, 1));
    }

    #[test]
    fn odd_edges_stay_inside() {
        let placement = Placement::new((1023, 767), (1024, 768), 2);
        assert_eq!(
            placement.region(region(1022, 766, 1, 1), (1024, 768)),
            region(1022, 766, 2, 2)
        );
        assert_eq!(
            placement.aligned(region(1000, 0, 500, 3), (1024, 2)),
            region(1000, 0, 24, 2)
        );
    }
}
