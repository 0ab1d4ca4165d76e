//! What changed: tiles inside the damage, each with the tight box of the pixels that differ.

use super::{TILE, pixels};
use crate::{Picture, Rect};

/// A tile with the part of it that differs from the previous picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) column: u16,
    pub(super) row: u16,
    pub(super) rect: Rect,
}

/// Finds changed tiles; keeps its tables between frames.
#[derive(Debug, Default)]
pub(super) struct Diff {
    /// One a tile: the box of the damage in it, or an empty rectangle.
    damage: Vec<Rect>,
    touched: Vec<u32>,
    changed: Vec<Changed>,
}

impl Diff {
    /// The tiles that changed, in rows from left to right. Looks only at pixels inside the damage's box in each tile.
    pub(super) fn run(&mut self, picture: &Picture<'_>, previous: &[u8], damage: &[Rect]) -> &[Changed] {
        let columns = usize::from(picture.width).div_ceil(TILE);
        let rows = usize::from(picture.height).div_ceil(TILE);
        if self.damage.len() != columns * rows {
            self.damage.clear();
            self.damage.resize(columns * rows, Rect::default());
        }
        self.touched.clear();
        self.changed.clear();
        for rect in damage {
            self.mark(&rect.clipped(picture.width, picture.height), columns);
        }
        self.touched.sort_unstable();
        for &tile in &self.touched {
            let damage = std::mem::take(&mut self.damage[tile as usize]);
            let difference = difference(picture, previous, &damage, (damage.x, damage.y), usize::MAX);
            if let Difference::Box(rect) = difference {
                let (row, column) = (tile as usize / columns, tile as usize % columns);
                self.changed.push(Changed {
                    column: column as u16,
                    row: row as u16,
                    rect,
                });
            }
        }
        &self.changed
    }

    fn mark(&mut self, rect: &Rect, columns: usize) {
        if rect.is_empty() {
            return;
        }
        let (left, top) = (usize::from(rect.x), usize::from(rect.y));
        let (right, bottom) = (rect.right() as usize, rect.bottom() as usize);
        for row in top / TILE..bottom.div_ceil(TILE) {
            for column in left / TILE..right.div_ceil(TILE) {
                let x = left.max(column * TILE);
                let y = top.max(row * TILE);
                let part = Rect {
                    x: x as u16,
                    y: y as u16,
                    width: (right.min((column + 1) * TILE) - x) as u16,
                    height: (bottom.min((row + 1) * TILE) - y) as u16,
                };
                let tile = row * columns + column;
                let marked = &mut self.damage[tile];
                if marked.is_empty() {
                    self.touched.push(tile as u32);
                    *marked = part;
                } else {
                    *marked = marked.union(&part);
                }
            }
        }
    }
}

/// How a part of the picture compares to a part of the previous one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Difference {
    /// Every pixel shows the same.
    None,
    /// The box of the pixels that differ.
    Box(Rect),
    /// More pixels lie in that box than were asked for.
    TooMuch,
}

/// Compares `area` of the picture with the area of the same size at `source` in the previous picture; both lie inside.
/// Stops as soon as the box of the differing pixels is larger than `area_max` pixels.
pub(super) fn difference(
    picture: &Picture<'_>,
    previous: &[u8],
    area: &Rect,
    source: (u16, u16),
    area_max: usize,
) -> Difference {
    let (x, y, width) = (usize::from(area.x), usize::from(area.y), usize::from(area.width));
    let (source_x, source_y) = (usize::from(source.0), usize::from(source.1));
    let stride = usize::from(picture.width) * 4;
    let (mut left, mut right) = (width, 0);
    let (mut top, mut bottom) = (None, 0);
    for row in 0..usize::from(area.height) {
        let new = picture.span(x, y + row, width);
        let old = &previous[(source_y + row) * stride + source_x * 4..][..width * 4];
        if new == old {
            continue;
        }
        let (new, old) = (new.as_chunks::<4>().0, old.as_chunks::<4>().0);
        let differs = |i: &usize| pixels::rgb(new[*i]) != pixels::rgb(old[*i]);
        // Rows that differ in the ignored fourth byte only.
        let Some(first) = (0..width).find(differs) else {
            continue;
        };
        left = left.min(first);
        // Inside the box so far nothing is to be learned.
        if let Some(last) = (right.max(first)..width).rev().find(differs) {
            right = right.max(last + 1);
        }
        let top = *top.get_or_insert(row);
        bottom = row + 1;
        if (right - left) * (bottom - top) > area_max {
            return Difference::TooMuch;
        }
    }
    let Some(top) = top else { return Difference::None };
    Difference::Box(Rect {
        x: (x + left) as u16,
        y: (y + top) as u16,
        width: (right - left) as u16,
        height: (bottom - top) as u16,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(width: u16, height: u16, dots: &[(u16, u16)], damage: &[Rect]) -> Vec<Rect> {
        let previous = vec![0; usize::from(width) * usize::from(height) * 4];
        let mut data = previous.clone();
        for &(x, y) in dots {
            data[(usize::from(y) * usize::from(width) + usize::from(x)) * 4] = 1;
        }
        let picture = Picture {
            width,
            height,
            stride: usize::from(width) * 4,
            data: &data,
        };
        Diff::default()
            .run(&picture, &previous, damage)
            .iter()
            .map(|changed| changed.rect)
            .collect()
    }

    #[test]
    fn finds_tight_boxes_a_tile() {
        let all = [Rect::new(0, 0, 200, 100)];
        assert_eq!(run(200, 100, &[(3, 4), (10, 9)], &all), [Rect::new(3, 4, 8, 6)]);
        assert_eq!(
            run(200, 100, &[(63, 0), (64, 99)], &all),
            [Rect::new(63, 0, 1, 1), Rect::new(64, 99, 1, 1)]
        );
        assert_eq!(
            run(200, 100, &[(10, 5), (2, 6), (20, 7)], &all),
            [Rect::new(2, 5, 19, 3)]
        );
        assert_eq!(run(200, 100, &[], &all), []);
    }

    #[test]
    fn never_looks_outside_the_damage() {
        let dots = [(3, 4), (150, 80)];
        assert_eq!(run(200, 100, &dots, &[Rect::new(0, 0, 4, 4)]), []);
        assert_eq!(
            run(200, 100, &dots, &[Rect::new(0, 0, 4, 5), Rect::new(190, 90, 500, 500)]),
            [Rect::new(3, 4, 1, 1)]
        );
        assert_eq!(run(200, 100, &dots, &[Rect::new(0, 0, 0, 50)]), []);
    }
}
