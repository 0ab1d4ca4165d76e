//! Copy detection: which way did contents move? Runs of 16 pixels of the old picture vote, by content hash, for the
//! shift at which the new picture shows them. Only what changed is looked at, in the old and in the new picture.

use super::{TILE, diff::Changed, pixels};
use crate::{Picture, Rect};

/// Shifts that are tried on each tile.
const SHIFTS_MAX: usize = 4;
/// Fewer votes than this are chance.
const VOTES_MIN: u32 = 4;
/// Pixels in a run.
const RUN: usize = 16;

const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// `POWERS[i]` is `BASE^(RUN - 1 - i)`: the weight of pixel `i` in a run's hash.
const POWERS: [u64; RUN] = {
    let mut powers = [1; RUN];
    let mut i = RUN - 1;
    while i > 0 {
        powers[i - 1] = BASE.wrapping_mul(powers[i]);
        i -= 1;
    }
    powers
};
/// What the pixel that leaves the window weighs by then.
const LEAVING: u64 = BASE.wrapping_mul(POWERS[0]);

/// From where to where: source minus destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shift {
    pub(super) dx: i32,
    pub(super) dy: i32,
}

#[derive(Debug, Clone, Copy, Default)]
struct Run {
    hash: u32,
    /// 0 is a free place; else 1 + y * columns + column of the run.
    place: u32,
}

/// A run that stands in several places says nothing about a shift.
const AMBIGUOUS: u32 = u32::MAX;

#[derive(Debug, Clone, Copy, Default)]
struct Vote {
    shift: u64,
    count: u32,
}

const VOTES: usize = 4096;

/// Finds shifts; keeps its tables between frames.
#[derive(Debug, Default)]
pub(super) struct Shifts {
    runs: Vec<Run>,
    votes: Vec<Vote>,
    found: Vec<Shift>,
}

/// Spreads a polynomial hash, whose low bits know only the pixels' low bits.
#[inline]
fn spread(hash: u64) -> u64 {
    (hash ^ hash >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93)
}

/// The hash of an aligned run; `None` for one colour only, which would match everywhere.
#[inline]
fn run_hash(run: &[[u8; 4]; RUN]) -> Option<u64> {
    let first = pixels::rgb(run[0]);
    let mut differs = 0;
    let mut hash = 0_u64;
    for (pixel, power) in run.iter().zip(POWERS) {
        let value = pixels::rgb(*pixel);
        differs |= value ^ first;
        hash = hash.wrapping_add(u64::from(value).wrapping_mul(power));
    }
    (differs != 0).then(|| spread(hash))
}

impl Shifts {
    /// Up to four shifts at which much of the changed area equals the previous picture, the best first.
    pub(super) fn run(&mut self, picture: &Picture<'_>, previous: &[u8], changed: &[Changed]) -> &[Shift] {
        self.found.clear();
        let area: usize = changed.iter().map(|changed| changed.rect.area()).sum();
        // Sampling: of large areas only a part of the runs and of the rows is enough for the vote.
        let (skip_bits, row_step) = match area {
            0..0x8000 => (0, 1),
            0x8000..0x20000 => (1, 1),
            0x20000..0x80000 => (2, 2),
            _ => (2, 4),
        };
        let skip = (1_u64 << skip_bits) - 1;
        self.collect_runs(picture, previous, changed, skip, (area / RUN) >> skip_bits);
        self.vote(picture, changed, skip, row_step);
        self.elect();
        &self.found
    }

    fn collect_runs(
        &mut self,
        picture: &Picture<'_>,
        previous: &[u8],
        changed: &[Changed],
        skip: u64,
        expected: usize,
    ) {
        let size = (expected * 2 + changed.len() * 4)
            .next_power_of_two()
            .clamp(1 << 10, 1 << 18);
        self.runs.clear();
        self.runs.resize(size, Run::default());
        let width = usize::from(picture.width);
        let columns = width.div_ceil(RUN);
        for changed in changed {
            let rect = &changed.rect;
            let first = usize::from(rect.x) / RUN;
            let last = (rect.right() as usize).div_ceil(RUN).min(width / RUN);
            for y in usize::from(rect.y)..rect.bottom() as usize {
                for column in first..last {
                    let start = (y * width + column * RUN) * 4;
                    let Some(run) = previous[start..start + RUN * 4].as_chunks::<4>().0.first_chunk() else {
                        continue;
                    };
                    let Some(hash) = run_hash(run) else { continue };
                    if hash >> 16 & skip == 0 {
                        insert(&mut self.runs, hash, (y * columns + column + 1) as u32);
                    }
                }
            }
        }
    }

    fn vote(&mut self, picture: &Picture<'_>, changed: &[Changed], skip: u64, row_step: usize) {
        self.votes.clear();
        self.votes.resize(VOTES, Vote::default());
        let columns = usize::from(picture.width).div_ceil(RUN);
        let mut strip = changed;
        while let Some(first) = strip.first() {
            // Tiles side by side are walked as one strip, so that runs across their borders count.
            let length = strip
                .windows(2)
                .take_while(|pair| pair[0].row == pair[1].row && pair[0].column + 1 == pair[1].column)
                .count()
                + 1;
            let (here, rest) = strip.split_at(length);
            strip = rest;
            let left = usize::from(first.rect.x);
            let right = here.last().map_or(left, |last| last.rect.right() as usize);
            let top = here.iter().map(|tile| usize::from(tile.rect.y)).min().unwrap_or(0);
            let bottom = here.iter().map(|tile| tile.rect.bottom() as usize).max().unwrap_or(0);
            // A strip narrower than a run looks a little further to the right.
            let right = right.max(left + RUN).min(usize::from(picture.width));
            for y in (top..bottom).step_by(row_step) {
                self.vote_row(picture.span(left, y, right - left), left, y, columns, skip);
            }
        }
    }

    fn vote_row(&mut self, row: &[u8], left: usize, y: usize, columns: usize, skip: u64) {
        let row = row.as_chunks::<4>().0;
        let mut hash = 0_u64;
        let mut equal = 0;
        let mut before = u32::MAX;
        for (i, pixel) in row.iter().enumerate() {
            let value = pixels::rgb(*pixel);
            equal = if value == before { equal + 1 } else { 0 };
            before = value;
            hash = hash.wrapping_mul(BASE).wrapping_add(u64::from(value));
            if i >= RUN {
                hash = hash.wrapping_sub(u64::from(pixels::rgb(row[i - RUN])).wrapping_mul(LEAVING));
            }
            if i + 1 < RUN || equal + 1 >= RUN {
                continue;
            }
            let spread = spread(hash);
            if spread >> 16 & skip != 0 {
                continue;
            }
            if let Some(place) = look_up(&self.runs, spread) {
                let (source_y, column) = (place as usize / columns, place as usize % columns);
                let dx = (column * RUN) as i32 - (left + i + 1 - RUN) as i32;
                let dy = source_y as i32 - y as i32;
                if (dx, dy) != (0, 0) {
                    self.count(dx, dy);
                }
            }
        }
    }

    fn count(&mut self, dx: i32, dy: i32) {
        let shift = (u64::from(dx as u32) << 32) | u64::from(dy as u32);
        let start = (spread(shift) >> 32) as usize;
        for probe in 0..8 {
            let vote = &mut self.votes[(start + probe) % VOTES];
            if vote.count == 0 || vote.shift == shift {
                vote.shift = shift;
                vote.count += 1;
                return;
            }
        }
    }

    fn elect(&mut self) {
        let best = self.votes.iter().map(|vote| vote.count).max().unwrap_or(0);
        let enough = VOTES_MIN.max(best / 32);
        self.votes.retain(|vote| vote.count >= enough);
        self.votes
            .sort_unstable_by_key(|vote| (std::cmp::Reverse(vote.count), vote.shift));
        self.found.extend(self.votes.iter().take(SHIFTS_MAX).map(|vote| Shift {
            dx: (vote.shift >> 32) as u32 as i32,
            dy: vote.shift as u32 as i32,
        }));
    }
}

fn insert(runs: &mut [Run], hash: u64, place: u32) {
    let mask = runs.len() - 1;
    let short = (hash >> 32) as u32;
    for probe in 0..8 {
        let run = &mut runs[((hash >> 24) as usize + probe) & mask];
        if run.place == 0 {
            *run = Run { hash: short, place };
            return;
        }
        if run.hash == short {
            run.place = AMBIGUOUS;
            return;
        }
    }
}

fn look_up(runs: &[Run], hash: u64) -> Option<u32> {
    let mask = runs.len() - 1;
    let short = (hash >> 32) as u32;
    for probe in 0..8 {
        let run = &runs[((hash >> 24) as usize + probe) & mask];
        if run.place == 0 {
            return None;
        }
        if run.hash == short {
            return (run.place != AMBIGUOUS).then(|| run.place - 1);
        }
    }
    None
}

/// The source of `rect` under a shift, if all of it lies in the picture.
pub(super) fn source(picture: &Picture<'_>, rect: &Rect, shift: Shift) -> Option<(u16, u16)> {
    let x = u16::try_from(i32::from(rect.x) + shift.dx).ok()?;
    let y = u16::try_from(i32::from(rect.y) + shift.dy).ok()?;
    let moved = Rect { x, y, ..*rect };
    (moved.right() <= u32::from(picture.width) && moved.bottom() <= u32::from(picture.height)).then_some((x, y))
}

const _: () = assert!(TILE.is_multiple_of(RUN), "runs must not cross tiles");

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::codec::diff::{Difference, difference};

    const WIDTH: usize = 256;
    const HEIGHT: usize = 128;

    fn noise() -> Vec<u8> {
        let mut state = 7_u64;
        (0..WIDTH * HEIGHT * 4)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 56) as u8
            })
            .collect()
    }

    fn all_tiles() -> Vec<Changed> {
        let tile = |column: u16, row: u16| Changed {
            column,
            row,
            rect: Rect::new(column * 64, row * 64, 64, 64),
        };
        (0..2)
            .flat_map(|row| (0..4).map(move |column| tile(column, row)))
            .collect()
    }

    #[test]
    fn finds_any_shift() {
        let old = noise();
        for (dx, dy) in [(0, 13), (0, -16), (5, 0), (-37, 21), (1, 1)] {
            let mut new = old.clone();
            for y in 0..HEIGHT as i32 {
                for x in 0..WIDTH as i32 {
                    let (sx, sy) = (x + dx, y + dy);
                    if (0..WIDTH as i32).contains(&sx) && (0..HEIGHT as i32).contains(&sy) {
                        let (to, from) = (
                            (y as usize * WIDTH + x as usize) * 4,
                            (sy as usize * WIDTH + sx as usize) * 4,
                        );
                        new[to..to + 4].copy_from_slice(&old[from..from + 4]);
                    }
                }
            }
            let picture = Picture {
                width: WIDTH as u16,
                height: HEIGHT as u16,
                stride: WIDTH * 4,
                data: &new,
            };
            let mut shifts = Shifts::default();
            let found = shifts.run(&picture, &old, &all_tiles());
            assert_eq!(found.first(), Some(&Shift { dx, dy }));
            let inside = Rect::new(100, 60, 20, 20);
            let from = source(&picture, &inside, Shift { dx, dy }).unwrap();
            assert_eq!(from, ((100 + dx) as u16, (60 + dy) as u16));
            assert_eq!(difference(&picture, &old, &inside, from, 0), Difference::None);
            assert_eq!(
                difference(&picture, &old, &inside, (from.0, from.1 - 1), 100),
                Difference::TooMuch
            );
        }
    }

    #[test]
    fn a_source_outside_the_picture_is_none() {
        let old = noise();
        let picture = Picture {
            width: WIDTH as u16,
            height: HEIGHT as u16,
            stride: WIDTH * 4,
            data: &old,
        };
        let rect = Rect::new(0, 0, 16, 16);
        assert_eq!(source(&picture, &rect, Shift { dx: -1, dy: 0 }), None);
        assert_eq!(source(&picture, &rect, Shift { dx: 0, dy: 113 }), None);
        assert_eq!(source(&picture, &rect, Shift { dx: 0, dy: 0 }), Some((0, 0)));
    }

    #[test]
    fn blank_pictures_do_not_vote() {
        let old = vec![255; WIDTH * HEIGHT * 4];
        let picture = Picture {
            width: WIDTH as u16,
            height: HEIGHT as u16,
            stride: WIDTH * 4,
            data: &old,
        };
        assert_eq!(Shifts::default().run(&picture, &old, &all_tiles()), []);
    }
}
