//! The columns of ClearCodec's second layer ([MS-RDPEGFX] 2.2.4.1.1.2 and 3.3.8.1), walked before they are decoded.
//!
//! The decoder passes over columns beside the rectangle, which clients keep, and paints kept ones whatever their height,
//! which clients cut. After such a band both would count columns otherwise, so it is refused here, and what is kept is known
//! by its heights.

use crate::tap::reader::Reader;
use crate::tap::work::Work;

/// Columns that are kept, and what of them is not background.
const KEPT: usize = 32_768;
const SHORT_KEPT: usize = 16_384;
/// Most rows of a band.
const ROWS_MAX: usize = 52;
/// What a column costs: decoded, kept and painted. A picture has 52 times fewer of them than pixels.
const COLUMN: u64 = 256;
/// Bits of a column's first word.
const HIT: u16 = 0x8000;
const SHORT_HIT: u16 = 0x4000;
/// Where a short column ends, in that word.
const OFF_MASK: u16 = 0x3F;
const ENDS_EARLY: &str = "ClearCodec band ends early";

/// Heights of the columns that a client keeps.
#[derive(Default)]
pub(super) struct Columns {
    whole: Ring<KEPT>,
    short: Ring<SHORT_KEPT>,
}

/// Heights by number. They are stored one after the other, from 0 on.
#[derive(Default)]
struct Ring<const LENGTH: usize> {
    heights: Vec<u8>,
    next: usize,
}

impl<const LENGTH: usize> Ring<LENGTH> {
    fn store(&mut self, height: u8) {
        match self.heights.get_mut(self.next) {
            Some(place) => *place = height,
            None => self.heights.push(height),
        }
        self.next = (self.next + 1) % LENGTH;
    }

    fn get(&self, index: u16) -> Option<usize> {
        self.heights.get(usize::from(index)).copied().map(usize::from)
    }
}

impl Columns {
    /// Counts from 0 again; what is kept stays.
    pub(super) fn reset(&mut self) {
        self.whole.next = 0;
        self.short.next = 0;
    }

    /// Takes the bands of a rectangle. After an error it is not known what a client has kept.
    pub(super) fn take(&mut self, bands: &[u8], (width, height): (u16, u16), work: &mut Work) -> Result<(), String> {
        let mut reader = Reader::new(bands);
        while !reader.is_empty() {
            let mut edges = || Some([reader.u16()?, reader.u16()?, reader.u16()?, reader.u16()?]);
            let [left, right, top, bottom] = edges().ok_or(ENDS_EARLY)?;
            // the colour of the background
            reader.skip(3).ok_or(ENDS_EARLY)?;
            if left > right || top > bottom || right >= width || bottom >= height {
                return Err(format!(
                    "ClearCodec band of columns {left} to {right}, rows {top} to {bottom} in {width}x{height}"
                ));
            }
            let rows = usize::from(bottom - top) + 1;
            if rows > ROWS_MAX {
                return Err(format!("ClearCodec band of {rows} rows"));
            }
            for _ in left..=right {
                work.spend(COLUMN)?;
                self.column(&mut reader, rows)?;
            }
        }
        Ok(())
    }

    fn column(&mut self, reader: &mut Reader<'_>, rows: usize) -> Result<(), String> {
        let word = reader.u16().ok_or(ENDS_EARLY)?;
        if word & HIT != 0 {
            let index = word & !HIT;
            return match self.whole.get(index) {
                Some(height) if height == rows => Ok(()),
                Some(height) => Err(format!("column {index} of {height} rows in a band of {rows}")),
                None => Err(format!("column {index} was never kept")),
            };
        }
        if word & SHORT_HIT != 0 {
            let index = word & !SHORT_HIT;
            let on = reader.u8().ok_or(ENDS_EARLY)?;
            let count = self.short.get(index);
            let count = count.ok_or_else(|| format!("short column {index} was never kept"))?;
            if usize::from(on) + count > rows {
                return Err(format!("short column of {count} rows from {on} in a band of {rows}"));
            }
        } else {
            let [on, off] = word.to_le_bytes();
            let off = off & OFF_MASK as u8;
            let count = off.checked_sub(on).filter(|_| usize::from(off) <= rows);
            let count = count.ok_or_else(|| format!("short column from {on} to {off} in a band of {rows}"))?;
            reader.skip(usize::from(count) * 3).ok_or(ENDS_EARLY)?;
            self.short.store(count);
        }
        self.whole.store(rows as u8);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn band(edges: [u16; 4], columns: &[u8]) -> Vec<u8> {
        let mut bytes: Vec<u8> = edges.iter().flat_map(|edge| edge.to_le_bytes()).collect();
        bytes.extend([0; 3]);
        bytes.extend(columns);
        bytes
    }

    fn take(columns: &mut Columns, bands: &[u8]) -> Result<(), String> {
        columns.take(bands, (8, 60), &mut Work::default())
    }

    #[test]
    fn bands_lie_inside_and_columns_have_their_height() {
        // two rows of pixels from row 1 on
        let miss = [&[1, 3][..], &[0; 6]].concat();
        for (edges, fits) in [
            ([0, 0, 0, 3], true),
            ([7, 7, 56, 59], true),
            ([8, 8, 0, 3], false),
            ([0, 0, 57, 60], false),
            ([1, 0, 0, 3], false),
            ([0, 0, 4, 3], false),
            ([0, 0, 0, 52], false),
            ([0, 0, 0, 1], false),
        ] {
            let result = take(&mut Columns::default(), &band(edges, &miss));
            assert_eq!(result.is_ok(), fits, "{edges:?} {result:?}");
        }
        let mut columns = Columns::default();
        take(&mut columns, &band([0, 0, 0, 3], &miss)).unwrap();
        assert_eq!(take(&mut columns, &band([2, 2, 4, 7], &[0, 0x80])), Ok(()));
        let short = take(&mut columns, &band([2, 2, 4, 6], &[0, 0x80]));
        assert_eq!(short.unwrap_err(), "column 0 of 4 rows in a band of 3");
        let never = take(&mut columns, &band([2, 2, 4, 7], &[1, 0x80]));
        assert_eq!(never.unwrap_err(), "column 1 was never kept");
        // the short one, further down
        assert_eq!(take(&mut columns, &band([2, 2, 0, 9], &[0, 0x40, 8])), Ok(()));
        assert!(take(&mut columns, &band([2, 2, 0, 9], &[0, 0x40, 9])).is_err());
        assert_eq!(take(&mut columns, &band([2, 2, 0, 9], &[1, 0x80])), Ok(()));
        // from 0 again: what is not replaced stays
        columns.reset();
        take(&mut columns, &band([0, 0, 0, 4], &miss)).unwrap();
        assert_eq!(take(&mut columns, &band([0, 0, 0, 4], &[0, 0x80])), Ok(()));
        assert_eq!(take(&mut columns, &band([2, 2, 0, 9], &[1, 0x80])), Ok(()));
        // cut off
        for cut in 1..band([0, 0, 0, 3], &miss).len() {
            let cut = &band([0, 0, 0, 3], &miss)[..cut];
            assert_eq!(take(&mut columns, cut).unwrap_err(), ENDS_EARLY);
        }
    }

    #[test]
    fn columns_cost_work() {
        let mut work = Work::default();
        let before = work.left();
        let hits = [[0, 0, 0, 0]; 2].map(|edges| band(edges, &[0, 0])).concat();
        Columns::default().take(&hits, (1, 1), &mut work).unwrap();
        assert_eq!(before - work.left(), 2 * COLUMN);
    }
}
