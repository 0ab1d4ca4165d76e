//! A stretch of a recording through an exporter.

use std::path::Path;

use anyhow::Context as _;
use deskreel_recording::event::{Clipboard, ClipboardKind, Gap, Transfer};
use deskreel_recording::{Event, Rect};
use deskreel_sdk::{Frame, Marker, MarkerKind, Region, Summary, VideoParams};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Index, Player, Source, Step};
use crate::host::{ExportJob, ExporterHandle};

/// From when to when, in nanoseconds since the session's start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stretch {
    /// Begin.
    pub(crate) from_ns: u64,
    /// End; the last picture stays until then.
    pub(crate) to_ns: u64,
}

/// What an export came to.
#[derive(Debug, Clone)]
pub(crate) struct Exported {
    /// What the exporter says.
    pub(crate) summary: Summary,
    /// Gaps in the stretch.
    pub(crate) gaps: u64,
    /// PDUs in the stretch that could not be decoded.
    pub(crate) undecoded: u64,
}

/// Exports a stretch into `output`, a path where nothing is yet (or an empty folder for a folder format). `progress` is told
/// how far it is, in nanoseconds of the stretch, and answers whether to go on; when it doesn't, the answer is `None`.
///
/// The caller removes `output` unless this succeeds.
///
/// # Errors
/// Objects that can't be read or are damaged, a stretch without any picture, what the exporter says.
pub(crate) fn export(
    source: &Source,
    index: &Index,
    exporter: &ExporterHandle,
    format: &str,
    stretch: Stretch,
    output: &Path,
    mut progress: impl FnMut(u64) -> bool,
) -> anyhow::Result<Option<Exported>> {
    let Some((width, height)) = index.size_between(source, stretch.from_ns, stretch.to_ns)? else {
        anyhow::bail!(
            "nothing to export: there is no picture before {}",
            super::clock(stretch.to_ns)
        );
    };
    let mut video = VideoParams::new(width.into(), height.into());
    video.duration_ns = Some(stretch.to_ns - stretch.from_ns);
    video.title = title(index);
    video.started = started(index, stretch.from_ns);
    let mut player = Player::before(source, index, stretch.from_ns);
    player.play_to(stretch.from_ns)?;
    let mut out = Out {
        job: exporter.start(format, &video, output)?,
        stretch,
        gaps: index
            .gaps
            .iter()
            .filter(|gap| gap.to_ns > stretch.from_ns && gap.from_ns < stretch.to_ns)
            .collect(),
        gaps_told: 0,
        undecoded: 0,
        first: true,
        wants: (exporter.wants_frames, exporter.wants_events),
    };
    out.frame(&player, 0, &[])?;
    while player.peek()?.is_some_and(|time_ns| time_ns <= stretch.to_ns) {
        let Some(step) = player.next()? else { break };
        out.step(&player, &step)?;
        if !progress(step.time_ns.saturating_sub(stretch.from_ns)) {
            return Ok(None);
        }
    }
    out.gaps_until(stretch.to_ns)?;
    let (gaps, undecoded) = (out.gaps.len() as u64, out.undecoded);
    let summary = out.job.finish()?;
    Ok(Some(Exported {
        summary,
        gaps,
        undecoded,
    }))
}

/// The exporter's side of an export.
struct Out<'a> {
    job: ExportJob,
    stretch: Stretch,
    gaps: Vec<&'a Gap>,
    gaps_told: usize,
    undecoded: u64,
    /// The next frame is the first, so all of it is new.
    first: bool,
    /// Whether the exporter needs frames, and whether it gets all events.
    wants: (bool, bool),
}

impl Out<'_> {
    fn step(&mut self, player: &Player<'_>, step: &Step) -> anyhow::Result<()> {
        self.gaps_until(step.time_ns)?;
        let time_ns = step.time_ns.saturating_sub(self.stretch.from_ns);
        if self.wants.1 && !matches!(step.event, Event::Screen(_)) {
            let mut event = crate::event_row::row(step.time_ns, &step.event)?;
            for common in ["time", "time_ns", "channel"] {
                event.remove(common);
            }
            let kind = MarkerKind::Event {
                session_ns: step.time_ns,
                channel: step.event.channel().topic().to_owned(),
                event,
            };
            self.job.marker(&Marker { time_ns, kind })?;
        }
        match &step.event {
            Event::Undecoded(_) => self.undecoded += 1,
            Event::Session(deskreel_recording::event::SessionEvent::Resized { width, height }) => {
                let kind = MarkerKind::Resize {
                    width: (*width).into(),
                    height: (*height).into(),
                };
                self.job.marker(&Marker { time_ns, kind })?;
            }
            Event::Clipboard(clipboard) => {
                let kind = MarkerKind::Clipboard {
                    text: clipboard_words(clipboard),
                };
                self.job.marker(&Marker { time_ns, kind })?;
            }
            _ => {}
        }
        if !step.changed.is_empty() || step.pointer_changed {
            self.frame(player, time_ns, &step.changed)?;
        }
        Ok(())
    }

    fn frame(&mut self, player: &Player<'_>, time_ns: u64, changed: &[Rect]) -> anyhow::Result<()> {
        let Some(picture) = player.picture().filter(|_| self.wants.0) else {
            return Ok(());
        };
        let (width, height) = (u32::from(picture.width), u32::from(picture.height));
        let all = [Region {
            x: 0,
            y: 0,
            width,
            height,
        }];
        let regions: Vec<Region> = changed
            .iter()
            .map(|rect| Region {
                x: rect.x.into(),
                y: rect.y.into(),
                width: rect.width.into(),
                height: rect.height.into(),
            })
            .collect();
        let regions = if self.first { &all[..] } else { &regions };
        let frame = Frame::new(time_ns, width, height, picture.stride, picture.data, regions)?;
        self.job.frame(&frame.with_pointer(player.pointer())?)?;
        self.first = false;
        Ok(())
    }

    /// Tells of the gaps that begin up to a moment.
    fn gaps_until(&mut self, time_ns: u64) -> anyhow::Result<()> {
        while let Some(gap) = self.gaps.get(self.gaps_told).filter(|gap| gap.from_ns <= time_ns) {
            self.gaps_told += 1;
            let since = |time_ns: u64| time_ns.saturating_sub(self.stretch.from_ns);
            let kind = MarkerKind::Gap {
                until_ns: since(gap.to_ns.min(self.stretch.to_ns)),
                reason: reason(gap),
            };
            self.job.marker(&Marker {
                time_ns: since(gap.from_ns),
                kind,
            })?;
        }
        Ok(())
    }
}

/// A gap's reason in words.
fn reason(gap: &Gap) -> String {
    let word = serde_json::to_value(gap.reason).ok();
    let word = word
        .as_ref()
        .and_then(|word| word.as_str())
        .unwrap_or("unknown")
        .replace('_', " ");
    match &gap.detail {
        Some(detail) => format!("{word}: {detail}"),
        None => word,
    }
}

fn clipboard_words(clipboard: &Clipboard) -> String {
    let what = match clipboard.kind {
        ClipboardKind::Offered => "offered",
        ClipboardKind::Transferred => "transferred",
        ClipboardKind::Denied => "denied",
        ClipboardKind::Unknown => "event",
    };
    let to = match clipboard.direction {
        Transfer::ToClient => " to the client",
        Transfer::ToDesktop => " to the desktop",
        Transfer::Unknown => "",
    };
    let bytes = clipboard
        .length
        .map_or_else(String::new, |length| format!(", {length} bytes"));
    format!("clipboard {what}{to}{bytes}")
}

fn title(index: &Index) -> String {
    match &index.start {
        Some(start) => format!("{} on {} ({})", start.user.name, start.desktop.name, start.recording),
        None => String::new(),
    }
}

fn started(index: &Index, from_ns: u64) -> Option<String> {
    let micros = i128::from(index.start.as_ref()?.started_unix_us) + i128::from(from_ns / 1000);
    OffsetDateTime::from_unix_timestamp_nanos(micros * 1000)
        .context("start time")
        .ok()?
        .format(&Rfc3339)
        .ok()
}
