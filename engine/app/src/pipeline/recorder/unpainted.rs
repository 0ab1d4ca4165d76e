//! What of a screen the desktop has not painted since a gap.

use deskreel_recording::Rect;

/// Rectangles that are kept apart; beyond, their union stands for them.
const RECTS_MAX: usize = 1024;

/// A region. It may be larger than what is really unpainted, never smaller.
#[derive(Debug, Default)]
pub(super) struct Unpainted {
    rects: Vec<Rect>,
}

impl Unpainted {
    /// Nothing is painted yet.
    pub(super) fn whole(screen: Rect) -> Self {
        Self { rects: vec![screen] }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rects.is_empty()
    }

    /// Number of pixels.
    pub(super) fn area(&self) -> usize {
        self.rects.iter().map(Rect::area).sum()
    }

    /// The desktop has painted this.
    pub(super) fn paint(&mut self, painted: Rect) {
        let mut left = Vec::with_capacity(self.rects.len());
        for rect in self.rects.drain(..) {
            subtract(rect, painted, &mut left);
        }
        if left.len() > RECTS_MAX {
            let all = left.drain(..).reduce(|all, rect| all.union(&rect));
            left.extend(all);
        }
        self.rects = left;
    }
}

/// Adds what of `rect` lies outside of `hole`: at most four rectangles.
fn subtract(rect: Rect, hole: Rect, out: &mut Vec<Rect>) {
    let (x, y) = (u32::from(rect.x), u32::from(rect.y));
    let left = u32::from(hole.x).clamp(x, rect.right());
    let right = hole.right().clamp(x, rect.right());
    let top = u32::from(hole.y).clamp(y, rect.bottom());
    let bottom = hole.bottom().clamp(y, rect.bottom());
    if left >= right || top >= bottom {
        out.push(rect);
        return;
    }
    let mut add = |x0: u32, y0: u32, x1: u32, y1: u32| {
        let fit = |value: u32| u16::try_from(value).unwrap_or(u16::MAX);
        let piece = Rect::new(fit(x0), fit(y0), fit(x1 - x0), fit(y1 - y0));
        if !piece.is_empty() {
            out.push(piece);
        }
    };
    add(x, y, rect.right(), top);
    add(x, top, left, bottom);
    add(right, top, rect.right(), bottom);
    add(x, bottom, rect.right(), rect.bottom());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_when_all_is_painted() {
        let mut unpainted = Unpainted::whole(Rect::new(0, 0, 100, 50));
        assert_eq!(unpainted.area(), 5000);
        unpainted.paint(Rect::new(200, 0, 10, 10));
        unpainted.paint(Rect::new(10, 10, 0, 10));
        assert_eq!(unpainted.area(), 5000);
        unpainted.paint(Rect::new(10, 10, 20, 20));
        unpainted.paint(Rect::new(15, 15, 20, 10));
        assert_eq!(unpainted.area(), 5000 - 400 - 5 * 10);
        unpainted.paint(Rect::new(0, 0, 65535, 65535));
        assert!(unpainted.is_empty());
        assert!(Unpainted::default().is_empty());
    }

    #[test]
    fn many_pieces_become_one_that_is_larger() {
        let mut unpainted = Unpainted::whole(Rect::new(0, 0, 200, 200));
        for at in 0..2000_u16 {
            unpainted.paint(Rect::new(at % 50 * 4 + 1, at / 50 * 4 + 1, 1, 1));
            assert!(unpainted.rects.len() <= RECTS_MAX);
        }
        assert!(unpainted.area() >= 200 * 200 - 2000);
        unpainted.paint(Rect::new(0, 0, 200, 199));
        assert_eq!(unpainted.area(), 200);
    }

    proptest! {
        #[test]
        fn as_painting_pixel_by_pixel(rects in prop::collection::vec((0_u16..20, 0_u16..20, 0_u16..12, 0_u16..12), 0..20)) {
            let mut unpainted = Unpainted::whole(Rect::new(0, 0, 20, 20));
            let mut pixels = [[true; 20]; 20];
            for (x, y, width, height) in rects {
                unpainted.paint(Rect::new(x, y, width, height));
                for row in pixels.iter_mut().skip(y.into()).take(height.into()) {
                    row.iter_mut().skip(x.into()).take(width.into()).for_each(|pixel| *pixel = false);
                }
                prop_assert_eq!(unpainted.area(), pixels.iter().flatten().filter(|pixel| **pixel).count());
            }
        }
    }
}
