//! Few large rectangles from many tile boxes.

use crate::Rect;

use super::{Copy, diff::Changed};

/// Joins two boxes when the union holds little that neither of them holds.
fn joined(a: &Rect, b: &Rect) -> Option<Rect> {
    let union = a.union(b);
    let sum = a.area() + b.area();
    (union.area() <= sum + sum / 8 + 32).then_some(union)
}

/// Merges the boxes of tiles (in rows from left to right): first along each row of tiles, then downwards.
/// Unions may cover pixels of other boxes; that is harmless, as all of them hold the new picture's pixels.
pub(super) fn merge(tiles: impl Iterator<Item = Changed>, rows: &mut Vec<(u16, Rect)>, out: &mut Vec<Rect>) {
    rows.clear();
    let mut last: Option<Changed> = None;
    for tile in tiles {
        let next_to_last = last.is_some_and(|last| last.row == tile.row && last.column + 1 == tile.column);
        let union = if next_to_last {
            rows.last().and_then(|(_, rect)| joined(rect, &tile.rect))
        } else {
            None
        };
        match (union, rows.last_mut()) {
            (Some(union), Some((_, rect))) => *rect = union,
            _ => rows.push((tile.row, tile.rect)),
        }
        last = Some(tile);
    }
    let start = out.len();
    // Rectangles of `out` that end in the row of tiles above the current one are open for joining.
    let (mut open, mut grown) = (start, start);
    let mut current = None;
    for &(row, rect) in rows.iter() {
        if current != Some(row) {
            open = if current.is_some_and(|current| current + 1 == row) {
                grown
            } else {
                out.len()
            };
            grown = out.len();
            current = Some(row);
        }
        let above = (open..grown).find_map(|i| {
            let above = out.get(i)?;
            let near = above.x.abs_diff(rect.x) < 64 && above.right().abs_diff(rect.right()) < 64;
            if near {
                joined(above, &rect).map(|union| (i, union))
            } else {
                None
            }
        });
        if let Some((i, union)) = above {
            // It ends in this row now: keep it open for the next one.
            out.remove(i);
            grown -= 1;
            out.push(union);
        } else {
            out.push(rect);
        }
    }
}

/// Merges copies with the same shift that meet exactly.
pub(super) fn merge_copies(copies: &mut Vec<Copy>) {
    let mut kept: Vec<Copy> = Vec::new();
    std::mem::swap(&mut kept, copies);
    for copy in kept {
        // Tiles come row by row, so a neighbour to the left is the last one.
        if let Some(last) = copies.last_mut()
            && same_shift(last, &copy)
            && last.to.y == copy.to.y
            && last.to.height == copy.to.height
            && last.to.right() == u32::from(copy.to.x)
        {
            last.to.width += copy.to.width;
        } else {
            copies.push(copy);
        }
        // A finished strip may continue one above it; looking back a few is enough for real screens.
    }
    let mut i = 0;
    while i < copies.len() {
        let strip = copies[i];
        let from = i.saturating_sub(32);
        let above = (from..i).rev().find(|&j| {
            let above = &copies[j];
            same_shift(above, &strip)
                && above.to.x == strip.to.x
                && above.to.width == strip.to.width
                && above.to.bottom() == u32::from(strip.to.y)
        });
        if let Some(j) = above {
            copies[j].to.height += strip.to.height;
            copies.remove(i);
        } else {
            i += 1;
        }
    }
}

fn same_shift(a: &Copy, b: &Copy) -> bool {
    let shift = |copy: &Copy| {
        (
            i32::from(copy.source_x) - i32::from(copy.to.x),
            i32::from(copy.source_y) - i32::from(copy.to.y),
        )
    };
    shift(a) == shift(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(tiles: &[(u16, u16, Rect)]) -> Vec<Rect> {
        let mut out = Vec::new();
        let tiles = tiles.iter().map(|&(column, row, rect)| Changed { column, row, rect });
        merge(tiles, &mut Vec::new(), &mut out);
        out
    }

    #[test]
    fn full_tiles_become_one_rectangle() {
        let tiles: Vec<_> = (0..3)
            .flat_map(|row| (0..4).map(move |column| (column, row, Rect::new(column * 64, row * 64, 64, 64))))
            .collect();
        assert_eq!(merged(&tiles), [Rect::new(0, 0, 256, 192)]);
    }

    #[test]
    fn far_boxes_stay_apart() {
        let tiles = [
            (0, 0, Rect::new(0, 0, 4, 4)),
            (1, 0, Rect::new(124, 60, 4, 4)),
            (0, 2, Rect::new(0, 130, 4, 4)),
        ];
        assert_eq!(merged(&tiles), tiles.map(|(_, _, rect)| rect));
    }

    #[test]
    fn copies_merge_only_when_they_meet() {
        let tile = |x, y| Copy {
            to: Rect::new(x, y, 64, 64),
            source_x: x,
            source_y: y + 10,
        };
        let mut copies = vec![tile(0, 0), tile(64, 0), tile(0, 64), tile(64, 64), tile(0, 192)];
        merge_copies(&mut copies);
        let to: Vec<_> = copies.iter().map(|copy| copy.to).collect();
        assert_eq!(to, [Rect::new(0, 0, 128, 128), Rect::new(0, 192, 64, 64)]);
    }
}
