//! When a video shows its pictures.

use crate::exporter::VideoParams;

/// How long the last picture stays when nobody knows when the session ends.
const TAIL_NS: u64 = 1_000_000_000;

/// A picture that is due: the canvas as it is, shown from `time_ns` on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    /// Nanoseconds from the start of the export.
    pub time_ns: u64,
    /// Whether it is to be a keyframe.
    pub key: bool,
}

/// Chooses the pictures of a video with a variable frame rate: one for each change, but no more a second than asked for, and
/// none is lost that stays. The first is shown from 0 on, as the video starts when the session does.
///
/// ```
/// # use deskreel_sdk::{ExportJob, Frame, Result, Summary};
/// # use deskreel_sdk::video::{Due, Pace};
/// # struct Job { pace: Pace }
/// # impl Job { fn draw(&mut self, _: &Frame<'_>) -> bool { true } fn encode(&mut self, _: Due) -> Result<()> { Ok(()) } }
/// impl ExportJob for Job {
///     fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
///         while let Some(due) = self.pace.due(frame.time_ns) {
///             self.encode(due)?; // what was on the canvas before
///         }
///         let changed = self.draw(frame);
///         match self.pace.drawn(frame.time_ns, changed) {
///             Some(due) => self.encode(due),
///             None => Ok(()),
///         }
///     }
///
///     fn finish(mut self) -> Result<Summary> {
///         while let Some(due) = self.pace.rest() {
///             self.encode(due)?;
///         }
///         let end_ns = self.pace.end_ns();
/// #       let _ = end_ns;
///         Ok(Summary::default())
///     }
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Pace {
    interval_ns: u64,
    key_ns: u64,
    repeat_ns: Option<u64>,
    duration_ns: Option<u64>,
    /// When the last picture is shown first.
    shown_ns: Option<u64>,
    last_key_ns: u64,
    /// Changes that are drawn and not shown.
    pending: bool,
    last_ns: u64,
}

impl Pace {
    /// At most `fps_max` pictures a second (0 counts as 1), and a keyframe at least every `key_ns` nanoseconds.
    #[must_use]
    pub fn new(video: &VideoParams, fps_max: u32, key_ns: u64) -> Self {
        Self {
            interval_ns: 1_000_000_000 / u64::from(fps_max.max(1)),
            key_ns,
            repeat_ns: None,
            duration_ns: video.duration_ns,
            shown_ns: None,
            last_key_ns: 0,
            pending: false,
            last_ns: 0,
        }
    }

    /// Shows a picture that stays again every `repeat_ns` nanoseconds, for formats that limit how long one may be shown.
    #[must_use]
    pub fn repeating(mut self, repeat_ns: u64) -> Self {
        self.repeat_ns = Some(repeat_ns.max(1));
        self
    }

    /// What is to be shown of the canvas as it was before `now_ns`, the time of the frame that comes; call it until there is
    /// nothing more.
    pub fn due(&mut self, now_ns: u64) -> Option<Due> {
        self.passed(now_ns);
        self.due_before(now_ns)
    }

    fn due_before(&mut self, now_ns: u64) -> Option<Due> {
        let slot = self.slot_ns();
        if self.shown_ns.is_none() {
            return (now_ns >= self.interval_ns).then(|| self.show(0));
        }
        if self.pending && slot <= now_ns {
            return Some(self.show(slot));
        }
        let repeat_ns = self.repeat_ns?;
        (self.stays_ns(now_ns) > repeat_ns).then(|| self.show(self.shown_ns.unwrap_or(0).saturating_add(repeat_ns)))
    }

    /// The frame of `now_ns` was drawn; `changed`: the canvas is another one now. Tells whether it is to be shown at once.
    pub fn drawn(&mut self, now_ns: u64, changed: bool) -> Option<Due> {
        self.passed(now_ns);
        self.pending |= changed;
        let time_ns = self.shown_ns.map_or(0, |_| now_ns);
        (self.pending && self.slot_ns() <= now_ns).then(|| self.show(time_ns))
    }

    /// Something happened at `now_ns` that is no picture: the video is at least as long.
    pub fn passed(&mut self, now_ns: u64) {
        self.last_ns = self.last_ns.max(now_ns);
    }

    /// What is to be shown before the end when no frame comes any more; call it until there is nothing more.
    pub fn rest(&mut self) -> Option<Due> {
        if self.pending {
            let slot = self.slot_ns();
            let shown_ns = self.shown_ns.unwrap_or(0);
            // Where the end comes before its time, it shares what is left with the picture before: both are seen.
            let shared = |end: u64| shown_ns + end.saturating_sub(shown_ns) / 2;
            let time_ns = match self.duration_ns {
                Some(end) if slot >= end => shared(end),
                _ => slot,
            };
            return Some(self.show(time_ns));
        }
        self.shown_ns?;
        self.due_before(self.end_ns())
    }

    /// How often the last picture would be shown again until `now_ns`.
    pub(crate) fn repeats(&self, now_ns: u64) -> u64 {
        self.repeat_ns.map_or(0, |repeat_ns| self.stays_ns(now_ns) / repeat_ns)
    }

    /// How long the last picture has been shown at `now_ns`; 0 where there is none.
    fn stays_ns(&self, now_ns: u64) -> u64 {
        now_ns.saturating_sub(self.shown_ns.unwrap_or(now_ns))
    }

    /// When the video ends.
    #[must_use]
    pub fn end_ns(&self) -> u64 {
        self.duration_ns.unwrap_or(self.last_ns.saturating_add(TAIL_NS))
    }

    /// When the next picture may be shown.
    fn slot_ns(&self) -> u64 {
        self.shown_ns.map_or(0, |shown| shown.saturating_add(self.interval_ns))
    }

    fn show(&mut self, time_ns: u64) -> Due {
        let key = self.shown_ns.is_none() || time_ns >= self.last_key_ns.saturating_add(self.key_ns);
        if key {
            self.last_key_ns = time_ns;
        }
        self.shown_ns = Some(time_ns);
        self.pending = false;
        Due { time_ns, key }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn pace(duration_ms: Option<u64>) -> Pace {
        let mut video = VideoParams::new(64, 48);
        video.duration_ns = duration_ms.map(|ms| ms * MS);
        Pace::new(&video, 10, 1_000 * MS)
    }

    /// The times in milliseconds at which frames that change the canvas at `frames` are shown, keyframes negative.
    fn shown(mut pace: Pace, frames: &[u64]) -> Vec<i64> {
        let mut shown = Vec::new();
        let mut show = |due: Due| {
            let ms = (due.time_ns / MS).cast_signed();
            shown.push(if due.key { -ms } else { ms });
        };
        for ms in frames {
            while let Some(due) = pace.due(ms * MS) {
                show(due);
            }
            if let Some(due) = pace.drawn(ms * MS, true) {
                show(due);
            }
        }
        while let Some(due) = pace.rest() {
            show(due);
        }
        shown
    }

    #[test]
    fn changes_that_come_fast_are_shown_together_and_the_last_is_kept() {
        assert_eq!(shown(pace(None), &[0, 10, 20, 90, 150, 160]), [0, 100, 200]);
        assert_eq!(shown(pace(Some(170)), &[0, 10, 20, 90, 150, 160]), [0, 100, 135]);
        assert_eq!(shown(pace(Some(210)), &[0, 10, 20, 90, 150, 160]), [0, 100, 200]);
    }

    #[test]
    fn a_late_first_picture_leaves_the_start_as_it_was() {
        assert_eq!(shown(pace(None), &[2_500]), [0, -2_500]);
        assert_eq!(shown(pace(None), &[99]), [0]);
    }

    #[test]
    fn keyframes_come_when_they_are_due() {
        assert_eq!(
            shown(pace(None), &[0, 900, 1_000, 1_900, 2_100]),
            [0, 900, -1_000, 1_900, -2_100]
        );
    }

    #[test]
    fn pictures_that_stay_are_repeated_where_that_is_needed() {
        let repeating = pace(Some(2_400)).repeating(1_000 * MS);
        assert_eq!(shown(repeating, &[0]), [0, -1_000, -2_000]);
        assert_eq!(shown(pace(Some(2_400)), &[0]), [0]);
    }

    #[test]
    fn without_any_picture_there_is_an_end_all_the_same() {
        let mut pace = pace(None);
        pace.passed(5 * MS);
        assert_eq!(pace.rest(), None);
        assert_eq!(pace.end_ns(), 1_005 * MS);
    }

    #[test]
    fn what_is_shown_at_last_does_not_move_the_end() {
        let mut pace = pace(None).repeating(300 * MS);
        assert!(pace.drawn(0, true).is_some());
        let mut times = Vec::new();
        while let Some(due) = pace.rest() {
            times.push(due.time_ns / MS);
        }
        assert_eq!((times, pace.end_ns()), (vec![300, 600, 900], 1_000 * MS));
    }
}
