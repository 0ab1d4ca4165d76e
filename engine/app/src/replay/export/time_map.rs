//! From the session's time to the export's.

use deskreel_recording::event::Gap;

use super::{Speed, Stretch};
use crate::replay::{Index, Source, Summary, Timeline};

/// So much of a gap is shown where idle stretches are left out: long enough to be seen.
const GAP_SHOWN_NS: u64 = 3_000_000_000;

/// A stretch of the session that is left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cut {
    from_ns: u64,
    to_ns: u64,
    /// What the cuts before it leave out.
    before_ns: u64,
}

/// From the session's time to the export's: begins at 0, runs at the wanted speed, stands still while the session idles.
#[derive(Debug, Clone)]
pub(super) struct TimeMap {
    stretch: Stretch,
    speed: Speed,
    cuts: Vec<Cut>,
}

impl TimeMap {
    /// `idle`: what is left out, in order and disjoint.
    pub(super) fn new(stretch: Stretch, speed: Speed, idle: &[[u64; 2]]) -> Self {
        let mut cuts = Vec::new();
        let mut before_ns = 0;
        for [from_ns, to_ns] in idle {
            let (from_ns, to_ns) = ((*from_ns).max(stretch.from_ns), (*to_ns).min(stretch.to_ns));
            if from_ns < to_ns {
                cuts.push(Cut {
                    from_ns,
                    to_ns,
                    before_ns,
                });
                before_ns += to_ns - from_ns;
            }
        }
        Self { stretch, speed, cuts }
    }

    /// A moment of the session in the export.
    pub(super) fn at(&self, session_ns: u64) -> u64 {
        let time_ns = session_ns.clamp(self.stretch.from_ns, self.stretch.to_ns);
        let begun = self.cuts.partition_point(|cut| cut.from_ns < time_ns);
        let left_out = begun.checked_sub(1).and_then(|last| self.cuts.get(last));
        let left_out = left_out.map_or(0, |cut| cut.before_ns + (time_ns.min(cut.to_ns) - cut.from_ns));
        self.speed.shorten(time_ns - self.stretch.from_ns - left_out)
    }
}

/// The stretches of a recording in which nothing happens; of gaps and damaged segments the first seconds count as happening.
pub(super) fn idle(source: &Source, index: &Index, stretch: Stretch) -> Vec<[u64; 2]> {
    let mut parts = Vec::new();
    let mut shown: Vec<[u64; 2]> = index.gaps.iter().map(kept).collect();
    let near = |segment: &&crate::replay::IndexedSegment| {
        segment.first_ns <= stretch.to_ns && segment.last_ns >= stretch.from_ns
    };
    for segment in index.segments.iter().filter(near) {
        let read = source.open_segment(segment.number);
        match read.and_then(|segment| Ok(Summary::of(&segment)?)) {
            Ok(part) => parts.push(part),
            Err(_) => shown.push([segment.first_ns, segment.first_ns.saturating_add(GAP_SHOWN_NS)]),
        }
    }
    shown.sort_unstable();
    let timeline = Timeline::of(&parts, index.duration_ns);
    without(timeline.idle(), &shown)
}

fn kept(gap: &Gap) -> [u64; 2] {
    [gap.from_ns, gap.to_ns.min(gap.from_ns.saturating_add(GAP_SHOWN_NS))]
}

/// Stretches without others, all in order.
fn without(stretches: &[[u64; 2]], others: &[[u64; 2]]) -> Vec<[u64; 2]> {
    let mut left = Vec::new();
    for [from, to] in stretches {
        let mut from = *from;
        for [other_from, other_to] in others {
            if *other_to > from && other_from < to {
                if from < *other_from {
                    left.push([from, *other_from]);
                }
                from = from.max(*other_to);
            }
        }
        if from < *to {
            left.push([from, *to]);
        }
    }
    left
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const STRETCH: Stretch = Stretch {
        from_ns: 100,
        to_ns: 1100,
    };

    #[test]
    fn time_runs_from_the_begin_and_stands_still_in_cuts() {
        let plain = TimeMap::new(STRETCH, Speed::default(), &[]);
        assert_eq!([0, 100, 600, 9999].map(|at| plain.at(at)), [0, 0, 500, 1000]);
        let cut = TimeMap::new(STRETCH, "2".parse().unwrap(), &[[0, 200], [300, 500], [1000, 2000]]);
        let times = [100, 200, 250, 300, 400, 500, 600, 1000, 1100];
        assert_eq!(times.map(|at| cut.at(at)), [0, 0, 25, 50, 50, 50, 100, 300, 300]);
        assert!((0..1200).all(|at| cut.at(at) <= cut.at(at + 1)));
    }

    #[test]
    fn what_is_shown_is_not_left_out() {
        assert_eq!(without(&[[10, 20], [30, 40]], &[]), [[10, 20], [30, 40]]);
        let others = [[0, 12], [15, 16], [18, 35], [36, 36]];
        assert_eq!(
            without(&[[10, 20], [30, 40]], &others),
            [[12, 15], [16, 18], [35, 36], [36, 40]]
        );
        assert_eq!(without(&[[10, 20]], &[[5, 25]]), [[0; 2]; 0]);
    }
}
