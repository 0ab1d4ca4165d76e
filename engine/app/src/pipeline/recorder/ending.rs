//! Gaps, failures and the end of a recording.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use deskreel_rdp::tap::Decoded;
use deskreel_recording::event::{EndReason, Gap, GapReason, SessionEnd, SessionEvent};
use deskreel_recording::{Event, sha256};
use time::OffsetDateTime;
use tracing::debug;

use super::Work;
use super::moves::Moves;
use super::unpainted::Unpainted;
use crate::catalog::{self, Closed, GapRow, State};
use crate::pipeline::queue::What;
use crate::pipeline::session::Refresh;

/// A gap lasts at least so long: the repaint that ends it must not bring the next one about at once.
pub(super) const GAP_MIN: Duration = Duration::from_millis(500);

/// When so much of `recording.repaint_max` is over, the desktop is asked once more.
const REPAINT_ASKS: u32 = 4;

/// A gap that goes on.
pub(super) struct OpenGap {
    pub(super) from_ns: u64,
    pub(super) reason: GapReason,
    pub(super) detail: String,
    pub(super) began: Instant,
    /// Reads that the tap never saw.
    pub(super) dropped: u64,
    /// The recorder has caught up and waits for the desktop to paint the whole screen; until then, PDUs are skipped.
    pub(super) repaint: Option<Repaint>,
}

pub(super) struct Repaint {
    began: Instant,
    /// The desktop was asked once more for what it has not painted.
    asked_again: bool,
    unpainted: Unpainted,
}

impl OpenGap {
    /// PDUs are not decoded.
    pub(super) fn is_skipping(&self) -> bool {
        self.repaint.is_none()
    }
}

/// How a recording ended, as the thread learned it.
pub(super) struct Ending {
    pub(super) at_ns: u64,
    pub(super) end: SessionEnd,
    /// The recorder failed before; from then on nothing was recorded.
    pub(super) failed: Option<(u64, String)>,
}

impl Work {
    /// From now on PDUs are skipped.
    pub(super) fn open_gap(&mut self, reason: GapReason, detail: &str) -> anyhow::Result<()> {
        if let Some(gap) = &mut self.gap {
            if gap.repaint.take().is_some() {
                gap.began = Instant::now();
            }
            return Ok(());
        }
        self.flush_frame()?;
        self.flush_move()?;
        tracing::warn!(session = %self.shared.id, ?reason, detail, "gap in the recording");
        self.gap = Some(OpenGap {
            from_ns: self.seen_ns.max(self.last_ns),
            reason,
            detail: detail.to_owned(),
            began: Instant::now(),
            dropped: 0,
            repaint: None,
        });
        Ok(())
    }

    /// What the desktop has yet to paint before the gap is over.
    pub(super) fn unpainted(&mut self) -> Option<&mut Unpainted> {
        let repaint = self.gap.as_mut()?.repaint.as_mut()?;
        Some(&mut repaint.unpainted)
    }

    /// Goes on decoding when the cause of the gap is gone and the tap decodes rightly again. The gap itself lasts until the
    /// desktop has painted the whole screen: black is not what the user sees.
    pub(super) fn go_on_after_gap(&mut self) -> anyhow::Result<()> {
        let Some(gap) = &mut self.gap else { return Ok(()) };
        if let Some(repaint) = &mut gap.repaint {
            let waited = repaint.began.elapsed();
            if waited >= self.repaint_max {
                return self.give_up_repaint();
            }
            if waited >= self.repaint_max / REPAINT_ASKS && !std::mem::replace(&mut repaint.asked_again, true) {
                let missing = repaint.unpainted.area();
                self.ask_again(missing);
            }
            return Ok(());
        }
        self.writer.look()?;
        if gap.began.elapsed() < GAP_MIN || !self.writer.is_clear() || !self.tap.is_right() {
            return Ok(());
        }
        if let Some(gap) = &mut self.gap {
            gap.repaint = Some(Repaint {
                began: Instant::now(),
                asked_again: false,
                unpainted: Unpainted::default(),
            });
        }
        // The next picture is a key, and the desktop is asked to paint all of it.
        self.recorder()?.release_memory();
        let at = self.ns(Instant::now());
        let mut out = std::mem::take(&mut self.out);
        self.tap.restart(&mut out);
        let handled = out.drain(..).try_for_each(|event| self.event(at, event));
        self.out = out;
        handled?;
        self.shared.want_refresh(Refresh::Whole);
        // Without a picture there is nothing to wait for.
        self.close_gap_if_repainted(at)
    }

    /// The desktop has not painted so many pixels. If they fit into the last row and column, it takes the rectangle that it was
    /// asked for, whose edges belong to it, for one whose edges don't.
    fn ask_again(&self, missing: usize) {
        let Some((width, height)) = self.tap.size() else { return };
        let edges = usize::from(width) + usize::from(height);
        self.shared.want_refresh(if missing < edges {
            Refresh::WithEdges
        } else {
            Refresh::Whole
        });
    }

    /// Ends the gap if all of the screen is known again.
    pub(super) fn close_gap_if_repainted(&mut self, at: u64) -> anyhow::Result<()> {
        match self.unpainted() {
            Some(unpainted) if unpainted.is_empty() => {
                self.end_gap(at)?;
                self.flush_frame()
            }
            _ => Ok(()),
        }
    }

    /// The desktop doesn't paint all of the screen: the recording goes on and says what is not known.
    fn give_up_repaint(&mut self) -> anyhow::Result<()> {
        let pixels = self.unpainted().map_or(0, |unpainted| unpainted.area());
        let at = self.ns(Instant::now());
        self.end_gap(at)?;
        let detail = format!(
            "the desktop did not repaint {pixels} pixels within {:?} after a gap (recording.repaint_max): until it does, \
             they are black in the recording whatever the user sees",
            self.repaint_max
        );
        tracing::warn!(session = %self.shared.id, detail, "gap in the recording");
        let alert = SessionEvent::Alert {
            name: "not_repainted".to_owned(),
            detail,
        };
        self.push(at, &Event::Session(alert))?;
        self.flush_frame()
    }

    fn end_gap(&mut self, at: u64) -> anyhow::Result<()> {
        let Some(gap) = &self.gap else { return Ok(()) };
        tracing::info!(session = %self.shared.id, reason = ?gap.reason, "the gap is over");
        let detail = match gap.dropped {
            0 => gap.detail.clone(),
            dropped => format!("{}; {dropped} reads were dropped unseen", gap.detail),
        };
        let gap = Gap {
            from_ns: gap.from_ns,
            // what is recorded next has this time at least
            to_ns: at.max(self.last_ns),
            reason: gap.reason,
            detail: Some(detail),
        };
        self.push_gap(gap)?;
        self.gap = None;
        Ok(())
    }

    fn push_gap(&mut self, gap: Gap) -> anyhow::Result<()> {
        let row = gap_row(&gap);
        self.shared.trail.gap(&gap);
        self.push(gap.to_ns, &Event::Gap(gap))?;
        self.delivering = true;
        self.writer.gap(row)?;
        self.delivering = false;
        Ok(())
    }

    /// After a failure: nothing can be recorded any more, but the session (best effort) or its ending (strict) goes on
    /// until the gateway says that it is over.
    pub(super) fn give_up(&mut self, reason: &str) -> Ending {
        self.shared.fail(reason);
        if let Some(hand) = self.hand.take() {
            self.shared.queue.done(hand.cost);
        }
        // What was painted since then is not recorded any more.
        let from_ns = self.first_damage_ns.take().unwrap_or(self.seen_ns);
        let failed = Some((from_ns, reason.to_owned()));
        loop {
            // First what the recorder had taken already: the end may be there.
            while let Some(entry) = self.batch.pop_front() {
                self.shared.queue.done(entry.cost());
                if let What::End(end) = entry.what {
                    return Ending {
                        at_ns: self.ns(entry.at),
                        end,
                        failed,
                    };
                }
            }
            self.shared.queue.take(&mut self.batch, None, Duration::ZERO);
        }
    }

    fn tell_decoded(&self) {
        let Decoded {
            raw,
            rle,
            planar,
            remote_fx,
            ns_codec,
            progressive,
            clear,
        } = self.tap.decoded();
        debug!(session = %self.shared.id, raw, rle, planar, remote_fx, ns_codec, progressive, clear, "decoded");
    }

    /// Hands over what only the recorder has: the recording is closed from what is in the spool.
    fn save_open_segment(&mut self, at_ns: u64) {
        let Some(recorder) = self.recorder.as_mut().filter(|_| self.unsealed) else {
            return;
        };
        let sealed = recorder.seal(at_ns.max(self.last_ns)).context("seal a segment");
        let saved = sealed.and_then(|segment| segment.map_or(Ok(()), |segment| self.writer.sealed(segment)));
        if let Err(error) = saved {
            tracing::error!(session = %self.shared.id, error = format!("{error:#}"), "the open segment is not kept whole");
        }
    }

    /// Closes the recording.
    pub(super) fn close(&mut self, ending: Ending, started: OffsetDateTime) -> anyhow::Result<()> {
        self.writer.closing();
        if let Err(error) = self.writer.settle() {
            self.save_open_segment(ending.at_ns);
            return Err(error);
        }
        let Ending { at_ns, mut end, failed } = ending;
        let mut drives = Vec::new();
        self.ranges.finish(&mut drives);
        match &failed {
            None => {
                self.flush_frame()?;
                self.flush_move()?;
                self.drives(at_ns, drives)?;
                self.end_gap(at_ns)?;
                if let Some((from_ns, to_ns)) = self.undecoded.over.filter(|(from, to)| to > from) {
                    let detail = Some("above recording.undecoded_max_bytes".to_owned());
                    self.push_gap(Gap {
                        from_ns,
                        to_ns,
                        reason: GapReason::Undecodable,
                        detail,
                    })?;
                }
            }
            Some((from_ns, reason)) => {
                self.moved = Moves::default();
                // what was done before the failure; the recording has it no more
                drives
                    .into_iter()
                    .for_each(|drive| self.shared.trail.event(&Event::Drive(drive)));
                let from_ns = self.gap.take().map_or(*from_ns, |gap| gap.from_ns);
                let detail = Some(reason.clone());
                self.push_gap(Gap {
                    from_ns,
                    to_ns: at_ns,
                    reason: GapReason::RecorderFailed,
                    detail,
                })?;
                if end.reason == EndReason::RecorderFailed && end.detail.is_none() {
                    end.detail = Some(reason.clone());
                }
            }
        }
        self.tell_decoded();
        end.error_info = end.error_info.or(self.error_info);
        let recorder = self.recorder.take().context("the recorder is gone")?;
        let (segment, manifest) = recorder.finish(at_ns, end.clone()).context("close the recording")?;
        if let Some(segment) = segment {
            self.writer.sealed(segment)?;
        }
        let duration_ms = catalog::duration_ms(at_ns);
        let closed = Closed {
            state: State::Delivering,
            ended: started + Duration::from_millis(duration_ms),
            duration_ms,
            undecoded: self.undecoded.count,
            end_reason: end_text(&end),
            problem: failed.map(|(_, reason)| reason),
            manifest_sha256: Some(hex::encode(sha256(&manifest))),
        };
        // A manifest may only state segments that are on their way to the storages.
        self.writer.settle()?;
        // Before the catalog knows that the session is over: recovery looks for this event only while it doesn't.
        self.shared.trail.end(Duration::from_millis(duration_ms), &end);
        self.writer.closed(manifest, closed)?;
        self.writer.settle()
    }
}

/// The end in words, for listings.
pub(crate) fn end_text(end: &SessionEnd) -> String {
    let reason = serde_json::to_value(end.reason)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned));
    let reason = reason.unwrap_or_else(|| format!("{:?}", end.reason));
    match &end.detail {
        // The gateway's own reasons are finer, and where they are the same word the detail has it already.
        Some(detail) if detail.starts_with(&reason) => detail.clone(),
        Some(detail) => format!("{reason}: {detail}"),
        None => reason,
    }
}

/// A gap in words, for listings.
pub(crate) fn gap_row(gap: &Gap) -> GapRow {
    let reason = serde_json::to_value(gap.reason)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned));
    let reason = reason.unwrap_or_else(|| format!("{:?}", gap.reason));
    GapRow {
        from_ns: gap.from_ns,
        to_ns: gap.to_ns,
        reason: match &gap.detail {
            Some(detail) => format!("{reason}: {detail}"),
            None => reason,
        },
    }
}
