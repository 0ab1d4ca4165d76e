//! The recorder thread of one session: queue -> tap -> frames and events -> segments.
//!
//! Damage gathers until the desktop closes a frame or `frame_interval` has passed since the first of it, so that a
//! settled screen is always recorded exactly and a moving one at most 25 times a second. What is painted over in between the tap
//! does not even decode.

mod ending;
mod frames;
mod moves;
mod resume;
mod unpainted;

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use deskreel_rdp::Direction;
use deskreel_rdp::tap::{Tap, TapEvent, Undecoded};
use deskreel_recording::event::{Drive, GapReason, Input, SessionEnd, SessionEvent};
use deskreel_recording::{Event, Recorder, Rect};
use time::OffsetDateTime;

use super::convert;
use super::drives::Ranges;
use super::live::{Watchers, Wish};
use super::queue::{Entry, What};
use super::session::{Refresh, Shared};
use super::writer::Writer;
use ending::{Ending, GAP_MIN, OpenGap};
pub(crate) use ending::{end_text, gap_row};
use moves::Moves;
use resume::{Hand, Seen, pdu_length};
use unpainted::Unpainted;

/// How often the open segment is made durable: half of the two seconds that a crash may lose.
const APPEND_INTERVAL: Duration = Duration::from_secs(1);
const QUEUE_FULL: &str = "the recorder can't keep up (recording.queue_max_bytes)";
/// What an event of undecoded bytes costs beside them: a desktop can make many out of few bytes.
const UNDECODED_COST: u64 = 256;
/// Room for events that is kept from PDU to PDU.
const OUT_KEPT: usize = 1024;
/// After so long without a changed pixel the recorder gives its compressor's memory back.
const REST: Duration = Duration::from_secs(300);

/// What a recorder thread is made of.
pub(super) struct Setup {
    pub(super) shared: Arc<Shared>,
    pub(super) tap: Tap,
    pub(super) recorder: Recorder,
    pub(super) writer: Writer,
    pub(super) frame_interval: Duration,
    pub(super) undecoded_max_bytes: u64,
    /// How long the desktop may take to repaint its screen after a gap.
    pub(super) repaint_max: Duration,
    /// Wall-clock time of time 0.
    pub(super) started: OffsetDateTime,
}

#[derive(Default)]
struct UndecodedCount {
    count: u64,
    kept_bytes: u64,
    /// First and last of those whose bytes were not kept.
    over: Option<(u64, u64)>,
}

struct Work {
    shared: Arc<Shared>,
    tap: Tap,
    /// `None` only once it is finished.
    recorder: Option<Recorder>,
    writer: Writer,
    frame_interval: Duration,
    undecoded_max_bytes: u64,
    repaint_max: Duration,
    /// Taken from the queue and not yet worked through. Here, so that a failure loses none of it: the end may be among them.
    batch: VecDeque<Entry>,
    out: Vec<TapEvent>,
    damage: Vec<Rect>,
    first_damage_ns: Option<u64>,
    last_damage_ns: u64,
    last_frame_ns: u64,
    /// The latest move of mouse, finger or pen; earlier ones within a frame interval are dropped.
    moved: Moves,
    gap: Option<OpenGap>,
    /// Files of drives that are being read and written.
    ranges: Ranges,
    undecoded: UndecodedCount,
    error_info: Option<u32>,
    /// Time of the last thing recorded.
    last_ns: u64,
    /// Time of the last entry that was worked through: up to here nothing is missing.
    seen_ns: u64,
    /// Something was recorded since the last append.
    dirty: bool,
    /// Something was recorded since the last seal.
    unsealed: bool,
    next_append: Instant,
    rested: bool,
    watchers: Watchers,
    /// The entry at hand.
    hand: Option<Hand>,
    /// Segments are on their way to the writer.
    delivering: bool,
    /// How often it has panicked.
    panics: u32,
    #[cfg(test)]
    defect_in_frame: bool,
}

/// Runs the session to its end and closes the recording. Returns false when it could not be closed and has to be closed
/// like after a crash.
pub(super) fn run(setup: Setup) -> bool {
    let started = setup.started;
    let shared = Arc::clone(&setup.shared);
    let mut work = Work::new(setup);
    let ending = loop {
        let reason = match catch_unwind(AssertUnwindSafe(|| work.work())) {
            Ok(Ok((at_ns, end))) => {
                break Ending {
                    at_ns,
                    end,
                    failed: None,
                };
            }
            Ok(Err(error)) => break work.give_up(&format!("{error:#}")),
            Err(panic) => format!("the recorder panicked: {}", panic_text(&*panic)),
        };
        if !matches!(catch_unwind(AssertUnwindSafe(|| work.resume(&reason))), Ok(true)) {
            break work.give_up(&reason);
        }
    };
    let closed = catch_unwind(AssertUnwindSafe(|| work.close(ending, started)));
    let error = match closed {
        Ok(Ok(())) => return true,
        Ok(Err(error)) => format!("{error:#}"),
        Err(panic) => format!("the recorder panicked: {}", panic_text(&*panic)),
    };
    shared.fail(&error);
    tracing::error!(session = %shared.id, error, "the recording could not be closed; it is recovered from what is durable");
    false
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}

impl Work {
    fn new(setup: Setup) -> Self {
        Self {
            shared: setup.shared,
            tap: setup.tap,
            recorder: Some(setup.recorder),
            writer: setup.writer,
            frame_interval: setup.frame_interval,
            undecoded_max_bytes: setup.undecoded_max_bytes,
            repaint_max: setup.repaint_max,
            batch: VecDeque::new(),
            out: Vec::new(),
            damage: Vec::new(),
            first_damage_ns: None,
            last_damage_ns: 0,
            last_frame_ns: 0,
            moved: Moves::default(),
            gap: None,
            ranges: Ranges::default(),
            undecoded: UndecodedCount::default(),
            error_info: None,
            last_ns: 0,
            seen_ns: 0,
            // The start event is there.
            dirty: true,
            unsealed: true,
            next_append: Instant::now(),
            rested: false,
            watchers: Watchers::default(),
            hand: None,
            delivering: false,
            panics: 0,
            #[cfg(test)]
            defect_in_frame: false,
        }
    }

    fn ns(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.shared.started_at).as_nanos()).unwrap_or(u64::MAX)
    }

    fn frame_interval_ns(&self) -> u64 {
        u64::try_from(self.frame_interval.as_nanos()).unwrap_or(u64::MAX)
    }

    fn instant(&self, ns: u64) -> Instant {
        self.shared.started_at + Duration::from_nanos(ns)
    }

    fn recorder(&mut self) -> anyhow::Result<&mut Recorder> {
        self.recorder.as_mut().context("the recorder is gone")
    }

    /// Works until the session's end arrives.
    fn work(&mut self) -> anyhow::Result<(u64, SessionEnd)> {
        self.tick(Instant::now())?;
        loop {
            // what a panic has left comes first, and belongs to its gap
            let leftover = !self.batch.is_empty();
            let (deadline, gather) = if leftover {
                (Some(Instant::now()), Duration::ZERO)
            } else {
                (self.deadline(), self.frame_interval)
            };
            let shed = self.shared.queue.take(&mut self.batch, deadline, gather);
            if shed {
                self.open_gap(GapReason::QueueFull, QUEUE_FULL)?;
            } else if !leftover {
                self.go_on_after_gap()?;
            }
            while let Some(entry) = self.batch.pop_front() {
                let (cost, at) = (entry.cost(), self.ns(entry.at));
                self.hand = Some(Hand::new(cost, at));
                let end = self.entry(entry);
                self.hand = None;
                self.shared.queue.done(cost);
                if let Some(end) = end? {
                    return Ok((at, end));
                }
                self.seen_ns = self.seen_ns.max(at);
                // A long backlog must neither grow the segment beyond its size nor keep it from the disk.
                self.seal_if_due(self.last_ns)?;
                let now = Instant::now();
                if self.dirty && now >= self.next_append {
                    self.tick(now)?;
                }
            }
            self.tick(Instant::now())?;
        }
    }

    /// When there is something to do even if nothing arrives.
    fn deadline(&self) -> Option<Instant> {
        let frame = self.first_damage_ns.filter(|_| self.gap.is_none());
        let frame = frame.map(|at| self.instant(at) + self.frame_interval);
        let moved = self.moved.since_ns().map(|at| self.instant(at) + self.frame_interval);
        // A segment that holds something grows old.
        let segment = self.unsealed.then_some(self.next_append);
        let gap = self
            .gap
            .as_ref()
            .map(|_| Instant::now() + GAP_MIN.min(self.repaint_max));
        let rest = (!self.rested).then(|| self.instant(self.last_frame_ns) + REST);
        let range = self.ranges.deadline_ns().map(|at| self.instant(at));
        let stall = self.writer.watch_at();
        [frame, moved, segment, gap, rest, range, stall]
            .into_iter()
            .flatten()
            .min()
    }

    fn entry(&mut self, entry: Entry) -> anyhow::Result<Option<SessionEnd>> {
        let at = self.ns(entry.at);
        match entry.what {
            What::Pdus(direction, bytes) => {
                if let Some(hand) = &mut self.hand {
                    hand.pdus = Some((direction, bytes.clone()));
                }
                let mut rest = &bytes[..];
                while !rest.is_empty() {
                    let (pdu, following) = rest.split_at(pdu_length(rest));
                    if let Some(hand) = &mut self.hand {
                        (hand.offset, hand.seen) = (bytes.len() - rest.len(), Seen::No);
                    }
                    self.pdu(at, direction, pdu)?;
                    rest = following;
                }
                Ok(None)
            }
            What::Note(note) => {
                if let Some(hand) = &mut self.hand {
                    hand.note = Some(note.clone());
                }
                self.flush_frame()?;
                if let Some(hand) = &mut self.hand {
                    hand.note = None;
                }
                self.push(at, &note)?;
                Ok(None)
            }
            What::Lost(lost) => {
                if let Some(hand) = &mut self.hand {
                    hand.lost = Some(lost);
                }
                self.open_gap(GapReason::QueueFull, QUEUE_FULL)?;
                if let Some(gap) = &mut self.gap {
                    gap.dropped += lost.reads;
                }
                self.tap.lost(lost.loss);
                Ok(None)
            }
            What::Wish(Wish::Watch(watcher)) => {
                self.watchers.add(watcher);
                Ok(None)
            }
            What::Wish(Wish::Look(asked)) => {
                // Err = it is not wanted any more
                let look = self.look(at)?;
                let _ = asked.send(look);
                Ok(None)
            }
            What::End(end) => Ok(Some(end)),
            #[cfg(test)]
            What::Panic => panic!("a defect"),
            #[cfg(test)]
            What::PanicInFrame => {
                self.defect_in_frame = true;
                Ok(None)
            }
        }
    }

    fn pdu(&mut self, at: u64, direction: Direction, pdu: &[u8]) -> anyhow::Result<()> {
        if self.gap.as_ref().is_some_and(OpenGap::is_skipping) {
            self.seen(Seen::Perhaps);
            self.tap.skip(direction, pdu);
            return Ok(());
        }
        // The picture as it is now is the last one of its interval: record it before the tap paints over it.
        if self
            .first_damage_ns
            .is_some_and(|first| at >= first.saturating_add(self.frame_interval_ns()))
        {
            self.flush_frame()?;
        }
        let mut out = std::mem::take(&mut self.out);
        self.seen(Seen::Perhaps);
        if self.gap.is_some() {
            // what can't be decoded is not painted: the gap goes on
            self.tap.pdu(direction, pdu, &mut out);
        } else {
            self.tap.defer(direction, pdu, &mut out);
        }
        self.seen(Seen::Yes);
        let handled = out.drain(..).try_for_each(|event| self.event(at, event));
        out.shrink_to(OUT_KEPT);
        self.out = out;
        handled?;
        self.close_gap_if_repainted(at)
    }

    /// How far the PDU at hand has come.
    fn seen(&mut self, seen: Seen) {
        if let Some(hand) = &mut self.hand {
            hand.seen = seen;
        }
    }

    fn event(&mut self, at: u64, event: TapEvent) -> anyhow::Result<()> {
        match event {
            TapEvent::Damage(rect) => {
                let rect = convert::rect(rect);
                if let Some(unpainted) = self.unpainted() {
                    unpainted.paint(rect);
                }
                self.damaged(at, rect);
            }
            // not all of it is painted
            TapEvent::DamageWithin(rect) => self.damaged(at, convert::rect(rect)),
            TapEvent::Resized { width, height } => {
                let whole = Rect::new(0, 0, width, height);
                if let Some(unpainted) = self.unpainted() {
                    *unpainted = Unpainted::whole(whole);
                }
                self.damage.clear();
                self.damaged(at, whole);
            }
            TapEvent::FrameEnd => {
                if at >= self.last_frame_ns.saturating_add(self.frame_interval_ns()) {
                    self.flush_frame()?;
                }
            }
            TapEvent::Pointer(pointer) => {
                let pointer = convert::pointer(&pointer).context("record the pointer")?;
                self.push(at, &Event::Pointer(pointer))?;
            }
            TapEvent::Input(input) => self.input(at, convert::input(input))?,
            TapEvent::Monitors { asked, monitors } => {
                let monitors = convert::monitors(&monitors);
                self.push(at, &Event::Session(SessionEvent::Monitors { asked, monitors }))?;
            }
            TapEvent::Clipboard(clipboard) => {
                if let Some(clipboard) = convert::clipboard(clipboard) {
                    let event = Event::Clipboard(clipboard);
                    self.shared.trail.event(&event);
                    if self.tap.keeps_clipboard() {
                        self.push(at, &event)?;
                    }
                }
            }
            TapEvent::Drive(drive) => {
                let mut told = Vec::new();
                self.ranges.take(at, drive, &mut told);
                self.drives(at, told)?;
            }
            TapEvent::Logon(logon) => {
                let login = match (logon.domain.is_empty(), logon.user.is_empty()) {
                    (_, true) => None,
                    (true, false) => Some(logon.user),
                    (false, false) => Some(format!("{}\\{}", logon.domain, logon.user)),
                };
                self.push(
                    at,
                    &Event::Session(SessionEvent::Logon {
                        ok: true,
                        login,
                        detail: None,
                    }),
                )?;
            }
            TapEvent::LogonError { notification, data } => {
                self.push(at, &Event::Session(convert::logon_error(notification, data)))?;
            }
            TapEvent::ErrorInfo { code } => self.desktop_error(at, code)?,
            TapEvent::Deactivated => self.flush_frame()?,
            TapEvent::RefreshWanted { reason } => {
                tracing::debug!(session = %self.shared.id, reason, "asking the desktop for a repaint");
                self.shared.want_refresh(Refresh::Whole);
            }
            TapEvent::ScreenTooLarge { width, height } => {
                self.shared.fail(&format!(
                    "the desktop's screen of {width}x{height} is above the limit (gateway.screen_max_pixels)"
                ));
            }
            TapEvent::Undecoded(undecoded) => self.undecoded(at, undecoded)?,
        }
        Ok(())
    }

    /// The desktop explains an end or an error; some repeat it with every PDU.
    fn desktop_error(&mut self, at: u64, code: u32) -> anyhow::Result<()> {
        let code = (code != 0).then_some(code);
        if std::mem::replace(&mut self.error_info, code) == code {
            return Ok(());
        }
        let Some(code) = code else { return Ok(()) };
        let alert = SessionEvent::Alert {
            name: "desktop_error".to_owned(),
            detail: format!("the desktop's error code is {code:#x}"),
        };
        self.push(at, &Event::Session(alert))
    }

    /// Records what was done with drives, and tells the audit log.
    pub(super) fn drives(&mut self, at: u64, told: Vec<Drive>) -> anyhow::Result<()> {
        told.into_iter().try_for_each(|drive| {
            let event = Event::Drive(drive);
            self.shared.trail.event(&event);
            self.push(at, &event)
        })
    }

    fn input(&mut self, at: u64, input: Option<Input>) -> anyhow::Result<()> {
        match input {
            None => Ok(()),
            Some(input) => match self.moved.take_in(at, input) {
                Some(input) => self.push(at, &Event::Input(input)),
                None => Ok(()),
            },
        }
    }

    fn undecoded(&mut self, at: u64, undecoded: Undecoded) -> anyhow::Result<()> {
        self.undecoded.count += 1;
        let cost = UNDECODED_COST + undecoded.data.len() as u64;
        let kept = self.undecoded.kept_bytes.saturating_add(cost);
        if kept <= self.undecoded_max_bytes {
            self.undecoded.kept_bytes = kept;
            return self.push(at, &Event::Undecoded(convert::undecoded(undecoded, true)));
        }
        match &mut self.undecoded.over {
            // what waited for a picture has that one's time, which may be before the last
            Some((first, last)) => {
                (*first, *last) = ((*first).min(at), (*last).max(at));
                Ok(())
            }
            None => {
                self.undecoded.over = Some((at, at));
                let detail = format!(
                    "more than {} bytes could not be decoded (recording.undecoded_max_bytes); further ones are only counted",
                    self.undecoded_max_bytes
                );
                tracing::error!(session = %self.shared.id, detail, "undecoded");
                self.push(at, &Event::Undecoded(convert::undecoded(undecoded, false)))?;
                let alert = SessionEvent::Alert {
                    name: "undecoded".to_owned(),
                    detail: detail.clone(),
                };
                self.push(at, &Event::Session(alert))?;
                if self.shared.is_strict() {
                    self.shared.fail(&detail);
                }
                Ok(())
            }
        }
    }

    /// Records an event that isn't a picture.
    fn push(&mut self, at: u64, event: &Event) -> anyhow::Result<()> {
        self.flush_move()?;
        self.watchers.tell(at, event);
        self.recorder()?.push(at, event).context("record an event")?;
        self.shared.trail.recorded(event);
        self.recorded(at);
        Ok(())
    }

    fn recorded(&mut self, at: u64) {
        self.last_ns = self.last_ns.max(at);
        self.dirty = true;
        self.unsealed = true;
    }

    fn flush_move(&mut self) -> anyhow::Result<()> {
        for (at, input) in self.moved.drain() {
            let event = Event::Input(input);
            self.watchers.tell(at, &event);
            self.recorder()?.push(at, &event).context("record an event")?;
            self.shared.trail.recorded(&event);
            self.recorded(at);
        }
        Ok(())
    }

    /// What is due by time: a frame, a seal, an append, rest.
    fn tick(&mut self, now: Instant) -> anyhow::Result<()> {
        let now_ns = self.ns(now);
        let interval = self.frame_interval_ns();
        if self
            .first_damage_ns
            .is_some_and(|first| now_ns >= first.saturating_add(interval))
        {
            self.flush_frame()?;
        }
        if self
            .moved
            .since_ns()
            .is_some_and(|at| now_ns >= at.saturating_add(interval))
        {
            self.flush_move()?;
        }
        if self.ranges.deadline_ns().is_some_and(|due| now_ns >= due) {
            let mut told = Vec::new();
            self.ranges.due(now_ns, &mut told);
            self.drives(now_ns, told)?;
        }
        self.seal_if_due(now_ns)?;
        self.delivering = true;
        if now >= self.next_append && self.unsealed {
            self.next_append = now + APPEND_INTERVAL;
            match self.recorder.as_mut() {
                Some(recorder) if self.dirty => self.dirty = !self.writer.append(recorder)?,
                _ => self.writer.look()?,
            }
        }
        self.writer.check()?;
        self.writer.watch();
        self.delivering = false;
        if !self.shared.is_strict()
            && let Some((reason, detail)) = self.writer.obstacle()
        {
            self.open_gap(reason, &detail)?;
        }
        if !self.rested && now >= self.instant(self.last_frame_ns) + REST {
            self.rested = true;
            self.tap.release_memory();
            self.recorder()?.release_memory();
        }
        Ok(())
    }

    fn seal_if_due(&mut self, now_ns: u64) -> anyhow::Result<()> {
        let due = self.recorder()?.seal_due(now_ns) && !(self.gap.is_some() && self.writer.is_behind());
        let due = self.writer.wants_seal() || due;
        if !self.unsealed || !due {
            return Ok(());
        }
        self.shared.queue.tell_room();
        self.delivering = true;
        self.writer.limit_memory();
        let segment = self.recorder()?.seal(now_ns).context("seal a segment")?;
        self.unsealed = false;
        self.dirty = false;
        segment.map_or(Ok(()), |segment| self.writer.sealed(segment))?;
        self.delivering = false;
        Ok(())
    }
}
