//! One export: which pictures become part of the video, and when.

use std::collections::VecDeque;

use deskreel_sdk::{Error, ExportJob, Frame, Marker, MarkerKind, Output, Result, Summary, VideoParams};

use crate::canvas::Canvas;
use crate::describe::Facts;
use crate::encode::{Encoders, Options};
use crate::geometry;
use crate::mux::Muxer;

/// A keyframe at least this often, so that players seek well.
const KEY_INTERVAL_NS: u64 = 10_000_000_000;
/// A picture that stays is submitted again this often: how long a picture is shown is 32 bits of ticks in the file, 13 hours,
/// and players seek to pictures.
const STILL_MAX_NS: u64 = 3_600_000_000_000;
/// How often at most: more than a year without any change is no recording of a screen but wrong times.
const STILL_REPEATS_MAX: u64 = 10_000;
/// How long the last picture stays when nobody knows when the session ends.
const TAIL_NS: u64 = 1_000_000_000;

/// One export under way.
pub struct Mp4Job {
    canvas: Canvas,
    encoders: Encoders,
    muxer: Muxer,
    /// When each submitted picture is shown, from the first that is not written yet.
    times: VecDeque<u64>,
    interval_ns: u64,
    duration_ns: Option<u64>,
    /// When the last submitted picture is shown first.
    shown_ns: Option<u64>,
    key_ns: u64,
    /// Changes that are drawn but not submitted.
    pending: bool,
    last_ns: u64,
    notes: Vec<String>,
}

impl Mp4Job {
    pub(crate) fn start(settings: &crate::Settings, video: &VideoParams, output: Output) -> Result<Self> {
        let (width, height, scaled) = geometry::video_size(video.width, video.height);
        let mut notes = Vec::new();
        if scaled {
            notes.push(format!(
                "scaled from {}x{} to {width}x{height}: H.264 encoders take no more",
                video.width, video.height
            ));
        }
        let facts = Facts::new(video, (width, height));
        let threads = video.threads.and_then(|threads| usize::try_from(threads).ok());
        let options = Options {
            width,
            height,
            frame_rate_max: settings.fps_max,
            quantizer: settings.quantizer,
            threads: threads
                .filter(|threads| *threads > 0)
                .unwrap_or_else(|| settings.threads()),
        };
        Ok(Self {
            canvas: Canvas::new(width, height),
            encoders: Encoders::new(options),
            muxer: Muxer::new(output, facts)?,
            times: VecDeque::new(),
            interval_ns: 1_000_000_000 / u64::from(settings.fps_max.max(1)),
            duration_ns: video.duration_ns,
            shown_ns: None,
            key_ns: 0,
            pending: false,
            last_ns: 0,
            notes,
        })
    }

    /// When the next picture may be shown.
    fn next_slot_ns(&self) -> u64 {
        self.shown_ns.map_or(0, |shown| shown.saturating_add(self.interval_ns))
    }

    /// Submits the canvas as it is, to be shown from `time_ns` on.
    fn submit(&mut self, time_ns: u64) -> Result<()> {
        let key = self.shown_ns.is_none() || time_ns >= self.key_ns.saturating_add(KEY_INTERVAL_NS);
        if key {
            self.key_ns = time_ns;
        }
        let patches = self.canvas.take_patches(key);
        self.times.push_back(time_ns);
        self.encoders.submit(key, patches)?;
        self.shown_ns = Some(time_ns);
        self.pending = false;
        self.write_ready()
    }

    /// Submits what is shown first before `now_ns`: pending changes whose slot has come, and the same picture again while it
    /// stays for long.
    fn submit_due(&mut self, now_ns: u64) -> Result<()> {
        let slot = self.next_slot_ns();
        if self.pending && slot <= now_ns {
            self.submit(slot)?;
        }
        let stays = |job: &Self| now_ns.saturating_sub(job.shown_ns.unwrap_or(now_ns));
        if stays(self) / STILL_MAX_NS > STILL_REPEATS_MAX {
            return Err(Error::invalid_input(
                "a picture stays for more than a year: the recording's times are wrong",
            ));
        }
        while stays(self) > STILL_MAX_NS {
            self.submit(self.shown_ns.unwrap_or(0).saturating_add(STILL_MAX_NS))?;
        }
        Ok(())
    }

    fn write_ready(&mut self) -> Result<()> {
        for packet in self.encoders.ready()? {
            let time_ns = self.times.pop_front().unwrap_or(0);
            self.muxer.push(time_ns, packet.key, &packet.bytes)?;
        }
        Ok(())
    }
}

impl ExportJob for Mp4Job {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.last_ns = frame.time_ns;
        if self.shown_ns.is_none() && frame.time_ns >= self.interval_ns {
            // Nothing was on the screen yet, and the video starts when the session does.
            self.submit(0)?;
        }
        self.submit_due(frame.time_ns)?;
        self.pending |= self.canvas.draw(frame);
        if self.pending && self.next_slot_ns() <= frame.time_ns {
            self.submit(frame.time_ns)?;
        }
        Ok(())
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.last_ns = self.last_ns.max(marker.time_ns);
        if let MarkerKind::Chapter { title } = &marker.kind {
            self.muxer.chapter(marker.time_ns, title);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        if self.pending {
            let slot = self.next_slot_ns();
            self.submit(
                self.duration_ns
                    .map_or(slot, |end| slot.min(end.max(self.shown_ns.unwrap_or(0)))),
            )?;
        }
        let end_ns = self.duration_ns.unwrap_or(self.last_ns.saturating_add(TAIL_NS));
        self.submit_due(end_ns)?;
        for packet in self.encoders.finish()? {
            let time_ns = self.times.pop_front().unwrap_or(0);
            self.muxer.push(time_ns, packet.key, &packet.bytes)?;
        }
        let (frames, bytes) = self.muxer.finish(end_ns)?;
        let mut summary = Summary::default();
        summary.frames = frames;
        summary.bytes = bytes;
        summary.files = 1;
        summary.notes = self.notes;
        Ok(summary)
    }
}
