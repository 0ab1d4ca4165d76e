//! One export under way.

use std::collections::VecDeque;

use deskreel_recording::event::{Gap, GapReason, SessionEvent};
use deskreel_recording::{Channel, Event};
use deskreel_sdk::{ExportJob, Marker, MarkerKind};

use super::keys::{Keys, Pressed};
use super::stage::Stage;
use super::time_map::TimeMap;
use super::{Exported, Plan, Stretch, words};
use crate::replay::{Index, Player, Source, Step, clock};

const SECOND: u64 = 1_000_000_000;
/// Chapters that one export has at most.
const CHAPTERS_MAX: usize = 500;
/// Chapters of the same title are not repeated within so long.
const CHAPTER_REPEAT_NS: u64 = 10 * SECOND;
/// Damaged places that are told one by one.
const DAMAGE_TOLD_MAX: usize = 20;
/// The clock shows seconds of stretches that are not longer than this, else minutes.
const SECONDS_SHOWN_NS: u64 = 7 * 86_400 * SECOND;

/// A stretch of which there is no picture, why, and what it is called.
struct Stretched {
    gap: Gap,
    reason: String,
    title: &'static str,
    /// Whether it was recorded but can't be read any more.
    is_damage: bool,
}

/// One export under way.
pub(super) struct Run<'a, J> {
    index: &'a Index,
    player: Player<'a>,
    job: J,
    /// Whether the exporter needs frames, and whether it gets all events.
    wants: (bool, bool),
    stretch: Stretch,
    map: TimeMap,
    stage: Stage,
    speed: super::Speed,
    overlay: super::Overlay,
    keys: Keys,
    interval_ns: u64,
    /// When what changed since the last frame may be shown first, in the export's time.
    pending: Option<u64>,
    shown_ns: Option<u64>,
    /// Gaps to come, by their begin.
    gaps: VecDeque<Stretched>,
    /// Until when the gap lasts that is shown.
    gap_until: Option<u64>,
    next_tick: Option<u64>,
    /// What is shown already lies before this, in the session's time.
    floor_ns: u64,
    /// The picture's size; `None` before the first.
    size: Option<(u16, u16)>,
    last_chapter: Option<(u64, String)>,
    chapters: usize,
    exported: Exported,
}

impl<'a, J: ExportJob> Run<'a, J> {
    pub(super) fn new(
        source: &'a Source,
        index: &'a Index,
        plan: &Plan<'_>,
        (job, wants): (J, (bool, bool)),
        (map, stage): (TimeMap, Stage),
    ) -> Self {
        let Plan { stretch, options, .. } = *plan;
        let player = Player::before(source, index, stretch.from_ns);
        let within = |gap: &&Gap| gap.to_ns > stretch.from_ns && gap.from_ns < stretch.to_ns;
        let gaps: VecDeque<_> = index
            .gaps
            .iter()
            .filter(within)
            .map(|gap| Stretched {
                gap: gap.clone(),
                reason: words::reason(gap),
                title: "not recorded",
                is_damage: false,
            })
            .collect();
        let length_ns = map.at(stretch.to_ns);
        let exported = Exported {
            summary: deskreel_sdk::Summary::default(),
            length_ns,
            gaps: gaps.len() as u64,
            undecoded: 0,
            damage: index.damage.clone(),
        };
        Self {
            index,
            player: if wants.0 { player } else { player.without_pictures() },
            job,
            wants,
            stretch,
            map,
            stage,
            speed: options.speed,
            overlay: options.overlay,
            keys: Keys::default(),
            interval_ns: options.fps_max.map_or(0, |fps| SECOND / u64::from(fps.max(1))),
            pending: None,
            shown_ns: None,
            gaps,
            gap_until: None,
            next_tick: None,
            floor_ns: stretch.from_ns,
            size: None,
            last_chapter: None,
            chapters: 0,
            exported,
        }
    }

    /// Does it all; `None` when `progress` says so.
    pub(super) fn go(mut self, mut progress: impl FnMut(u64) -> bool) -> anyhow::Result<Option<Exported>> {
        self.begin()?;
        while let Some(time_ns) = self.peek() {
            self.until(time_ns)?;
            let step = match self.player.next() {
                Ok(Some(step)) => step,
                Ok(None) => break,
                Err(error) => {
                    self.damaged(&error);
                    continue;
                }
            };
            self.floor_ns = step.time_ns.saturating_add(1);
            self.take(&step)?;
            if !progress(step.time_ns.saturating_sub(self.stretch.from_ns)) {
                return Ok(None);
            }
        }
        self.end()
    }

    /// Shows what is on the screen where the stretch begins.
    fn begin(&mut self) -> anyhow::Result<()> {
        let from_ns = self.stretch.from_ns;
        loop {
            match self.player.play_to(from_ns) {
                Ok(()) => break,
                Err(error) => self.damaged(&error),
            }
        }
        self.size = self.player.picture().map(|picture| (picture.width, picture.height));
        let title = self.index.start.as_ref().map_or_else(|| "begin".to_owned(), words::who);
        self.chapter(from_ns, title)?;
        if self.overlay.clock {
            self.next_tick = Some(from_ns);
        }
        self.until(from_ns)?;
        self.pending = Some(0);
        Ok(())
    }

    fn end(mut self) -> anyhow::Result<Option<Exported>> {
        let to_ns = self.stretch.to_ns;
        self.until(to_ns)?;
        self.flush_before(u64::MAX)?;
        self.exported.summary = self.job.finish()?;
        Ok(Some(self.exported))
    }

    /// When the next event of the stretch is.
    fn peek(&mut self) -> Option<u64> {
        loop {
            if self
                .player
                .next_segment_ns()
                .is_some_and(|first| first > self.stretch.to_ns)
            {
                return None;
            }
            match self.player.peek() {
                Ok(next) => return next.filter(|time_ns| *time_ns <= self.stretch.to_ns),
                Err(error) => self.damaged(&error),
            }
        }
    }

    /// Goes on after what could not be read; the picture is unknown until the next keyframe.
    fn damaged(&mut self, error: &anyhow::Error) {
        self.keys.release();
        let begun = self.player.segment_first_ns().unwrap_or(0);
        let from_ns = begun.max(self.floor_ns);
        let to_ns = self.player.skip_damaged().unwrap_or(self.stretch.to_ns);
        let told = format!("{error:#}");
        if from_ns < self.stretch.to_ns && to_ns > self.stretch.from_ns {
            let gap = Gap {
                from_ns,
                to_ns: to_ns.min(self.stretch.to_ns),
                reason: GapReason::Undecodable,
                detail: None,
            };
            let place = self.gaps.partition_point(|other| other.gap.from_ns <= from_ns);
            let recording = format!("{}/", self.player.recording());
            let lost = Stretched {
                gap,
                reason: error.to_string().replace(&recording, ""),
                title: "recording damaged",
                is_damage: true,
            };
            self.gaps.insert(place, lost);
            if self.exported.damage.len() < DAMAGE_TOLD_MAX && !self.exported.damage.contains(&told) {
                self.exported.damage.push(told);
            }
        }
    }

    /// Does what is due up to a moment of the session, and shows what changed before it.
    fn until(&mut self, time_ns: u64) -> anyhow::Result<()> {
        loop {
            let gap = self.gaps.front().map(|next| next.gap.from_ns.max(self.stretch.from_ns));
            let dues = [gap, self.gap_until, self.next_tick, self.keys.until_ns()];
            let Some(due) = dues.into_iter().flatten().min().filter(|due| *due <= time_ns) else {
                break;
            };
            self.flush_before(self.map.at(due))?;
            if self.next_tick == Some(due) {
                self.tick(due);
            } else if self.keys.until_ns() == Some(due) {
                self.keys.clear();
                self.caption(due);
            } else if self.gap_until == Some(due) {
                self.gap_until = None;
                self.stage.mark_gap(None);
                self.change(due);
            } else if let Some(begun) = self.gaps.pop_front() {
                self.gap(due, &begun)?;
            }
        }
        self.flush_before(self.map.at(time_ns))
    }

    fn tick(&mut self, now_ns: u64) {
        let length_ns = self.stretch.to_ns - self.stretch.from_ns;
        let period = if length_ns > SECONDS_SHOWN_NS {
            60 * SECOND
        } else {
            SECOND
        };
        self.next_tick = (now_ns / period + 1)
            .checked_mul(period)
            .filter(|next| *next <= self.stretch.to_ns);
        if let Some(bar) = &mut self.stage.bar {
            bar.tick(self.index.start.as_ref(), now_ns);
            self.change(now_ns);
        }
    }

    fn caption(&mut self, now_ns: u64) {
        if !self.overlay.keys {
            return;
        }
        let width = self.stage.size().0;
        if let Some(bar) = &mut self.stage.bar {
            bar.typed(self.keys.caption(bar.characters(width)));
            self.change(now_ns);
        }
    }

    fn gap(&mut self, now_ns: u64, begun: &Stretched) -> anyhow::Result<()> {
        let Stretched { gap, reason, title, .. } = begun;
        let to_ns = gap.to_ns.min(self.stretch.to_ns);
        let kind = MarkerKind::Gap {
            until_ns: self.map.at(to_ns),
            reason: reason.clone(),
        };
        self.marker(now_ns, kind)?;
        if self.wants.1 && begun.is_damage {
            // The recording can't tell of it itself.
            let event =
                serde_json::json!({"from_ns": gap.from_ns, "to_ns": to_ns, "reason": "damaged", "detail": reason});
            if let serde_json::Value::Object(event) = event {
                let channel = Channel::Gap.topic().to_owned();
                let session_ns = now_ns;
                let kind = MarkerKind::Event {
                    session_ns,
                    channel,
                    event,
                };
                self.marker(now_ns, kind)?;
            }
        }
        self.chapter(now_ns, format!("{title}: {reason}"))?;
        if to_ns <= now_ns {
            return Ok(());
        }
        self.gap_until = Some(self.gap_until.map_or(to_ns, |until| until.max(to_ns)));
        // The end of the export is no end of the gap.
        self.gap_until = self.gap_until.filter(|until| *until < self.stretch.to_ns);
        let stretch = format!("{} - {}", clock(gap.from_ns), clock(gap.to_ns));
        let sign = vec![title.to_uppercase(), stretch, words::one_line(reason)];
        self.stage.mark_gap(Some(sign));
        self.change(now_ns);
        Ok(())
    }

    /// Notes that the picture is another from a moment of the session on.
    fn change(&mut self, session_ns: u64) {
        self.pending.get_or_insert(self.map.at(session_ns));
    }

    /// Shows what changed, if its time comes before a moment of the export.
    fn flush_before(&mut self, export_ns: u64) -> anyhow::Result<()> {
        let Some(pending) = self.pending else { return Ok(()) };
        let slot = self.shown_ns.map_or(0, |shown| shown.saturating_add(self.interval_ns));
        let is_last = export_ns == u64::MAX;
        let mut time_ns = pending.max(slot);
        if is_last {
            time_ns = time_ns.min(self.exported.length_ns.max(self.shown_ns.unwrap_or(0)));
        }
        if time_ns >= export_ns {
            return Ok(());
        }
        self.pending = None;
        if !self.wants.0 {
            return Ok(());
        }
        let (job, player) = (&mut self.job, &self.player);
        let shown = self
            .stage
            .show(time_ns, player.picture(), player.pointer(), |frame| job.frame(frame))?;
        if shown {
            self.shown_ns = Some(time_ns);
        }
        Ok(())
    }

    /// Takes in what happened.
    fn take(&mut self, step: &Step) -> anyhow::Result<()> {
        let now_ns = step.time_ns;
        self.tell(step)?;
        if let Event::Gap(_) = &step.event {
            self.keys.release();
        }
        if let Event::Input(input) = &step.event {
            let speed = self.speed;
            let pressed = self.keys.apply(now_ns, input, |stays| speed.lengthen(stays));
            if pressed.is_some() {
                self.caption(now_ns);
            }
            if let Some(Pressed::Known(text)) = pressed {
                self.marker(now_ns, MarkerKind::Key { text })?;
            }
        }
        if self.stage.change(&step.changed, step.pointer_changed) {
            self.change(now_ns);
        }
        Ok(())
    }

    /// Tells the exporter what happened.
    fn tell(&mut self, step: &Step) -> anyhow::Result<()> {
        let now_ns = step.time_ns;
        if self.wants.1 && !matches!(step.event, Event::Screen(_)) {
            let mut event = crate::event_row::row(now_ns, &step.event)?;
            for common in ["time", "time_ns", "channel"] {
                event.remove(common);
            }
            let kind = MarkerKind::Event {
                session_ns: now_ns,
                channel: step.event.channel().topic().to_owned(),
                event,
            };
            self.marker(now_ns, kind)?;
        }
        match &step.event {
            Event::Undecoded(_) => self.exported.undecoded += 1,
            Event::Session(SessionEvent::Resized { width, height }) => {
                let before = self.size.replace((*width, *height));
                let (width, height) = ((*width).into(), (*height).into());
                self.marker(now_ns, MarkerKind::Resize { width, height })?;
                if before.is_some() {
                    self.chapter(now_ns, format!("{width}x{height}"))?;
                }
            }
            Event::Clipboard(clipboard) => {
                let text = words::clipboard(clipboard);
                self.marker(now_ns, MarkerKind::Clipboard { text })?;
            }
            _ => {}
        }
        match words::chapter(&step.event) {
            Some(title) => self.chapter(now_ns, title),
            None => Ok(()),
        }
    }

    fn marker(&mut self, session_ns: u64, kind: MarkerKind) -> anyhow::Result<()> {
        let time_ns = self.map.at(session_ns);
        Ok(self.job.marker(&Marker { time_ns, kind })?)
    }

    fn chapter(&mut self, session_ns: u64, title: String) -> anyhow::Result<()> {
        let is_repeated =
            |(at, last): &(u64, String)| *last == title && session_ns.saturating_sub(*at) < CHAPTER_REPEAT_NS;
        if self.chapters >= CHAPTERS_MAX || self.last_chapter.as_ref().is_some_and(is_repeated) {
            return Ok(());
        }
        self.chapters += 1;
        self.last_chapter = Some((session_ns, title.clone()));
        self.marker(session_ns, MarkerKind::Chapter { title })
    }
}
