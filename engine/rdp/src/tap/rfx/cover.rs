//! What rectangles cover of a tile, each pixel once however many of them there are.

use super::EDGE;

/// Column and row in the tile, width and height.
pub(super) type Part = (usize, usize, usize, usize);

/// The covered pixels of a tile.
pub(super) struct Cover {
    /// Bit 0 is the leftmost column.
    rows: [u64; EDGE],
}

// a row has a bit for each column
const _: () = assert!(EDGE == u64::BITS as usize);

impl Default for Cover {
    fn default() -> Self {
        Self { rows: [0; EDGE] }
    }
}

impl Cover {
    pub(super) fn clear(&mut self) {
        self.rows.fill(0);
    }

    /// Adds a part that lies in the tile.
    pub(super) fn add(&mut self, (column, row, width, height): Part) {
        let columns = bits(width) << column;
        self.rows
            .iter_mut()
            .skip(row)
            .take(height)
            .for_each(|row| *row |= columns);
    }

    /// Whether the first so many columns of the first so many rows are covered.
    pub(super) fn has_all(&self, width: usize, height: usize) -> bool {
        let columns = bits(width);
        self.rows.iter().take(height).all(|row| row & columns == columns)
    }

    /// Takes what is covered apart: parts that have no pixel in common, from the top and from the left.
    pub(super) fn parts(&self, parts: &mut Vec<Part>) {
        parts.clear();
        let mut row = 0;
        for equal in self.rows.chunk_by(|one, other| one == other) {
            let mut columns = equal.first().copied().unwrap_or_default();
            while columns != 0 {
                let column = columns.trailing_zeros() as usize;
                let width = (columns >> column).trailing_ones() as usize;
                parts.push((column, row, width, equal.len()));
                columns &= !(bits(width) << column);
            }
            row += equal.len();
        }
    }
}

/// As many bits as there are columns, of which there are 1 to 64.
fn bits(width: usize) -> u64 {
    u64::MAX >> (EDGE - width)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(of: &[Part]) -> Vec<Part> {
        let (mut cover, mut parts) = (Cover::default(), Vec::new());
        of.iter().for_each(|part| cover.add(*part));
        cover.parts(&mut parts);
        parts
    }

    #[test]
    fn parts_have_no_pixel_in_common() {
        let whole = (0, 0, EDGE, EDGE);
        assert_eq!(parts(&[]), []);
        assert_eq!(parts(&[whole, whole, (3, 3, 5, 5)]), [whole]);
        assert_eq!(
            parts(&[(60, 40, 4, 24), (5, 6, 20, 10)]),
            [(5, 6, 20, 10), (60, 40, 4, 24)]
        );
        assert_eq!(
            parts(&[(0, 0, 10, 10), (5, 5, 10, 10), (40, 5, 24, 1)]),
            [
                (0, 0, 10, 5),
                (0, 5, 15, 1),
                (40, 5, 24, 1),
                (0, 6, 15, 4),
                (5, 10, 10, 5)
            ]
        );
    }

    #[test]
    fn knows_when_all_that_is_shown_is_covered() {
        let mut cover = Cover::default();
        cover.add((0, 0, 30, 20));
        assert!(cover.has_all(30, 20) && !cover.has_all(31, 20) && !cover.has_all(30, 21));
        cover.add((0, 0, EDGE, EDGE));
        assert!(cover.has_all(EDGE, EDGE));
        cover.clear();
        assert!(!cover.has_all(1, 1));
    }
}
