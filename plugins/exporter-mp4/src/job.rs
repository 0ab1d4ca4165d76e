//! One export: which pictures become part of the video, and when.

use std::collections::VecDeque;

use deskreel_sdk::{Due, Error, ExportJob, Frame, Marker, MarkerKind, Output, Pace, Result, Summary, VideoParams};

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

/// One export under way.
pub struct Mp4Job {
    canvas: Canvas,
    encoders: Encoders,
    muxer: Muxer,
    /// When each submitted picture is shown, from the first that is not written yet.
    times: VecDeque<u64>,
    pace: Pace,
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
            pace: Pace::new(video, settings.fps_max, KEY_INTERVAL_NS).repeating(STILL_MAX_NS),
            notes,
        })
    }

    /// Submits the canvas as it is.
    fn submit(&mut self, due: Due) -> Result<()> {
        let patches = self.canvas.take_patches(due.key);
        self.times.push_back(due.time_ns);
        self.encoders.submit(due.key, patches)?;
        self.write_ready()
    }

    /// Whether a picture that is repeated up to `now_ns` makes sense.
    fn check_time(&self, now_ns: u64) -> Result<()> {
        if self.pace.stays_ns(now_ns) / STILL_MAX_NS > STILL_REPEATS_MAX {
            return Err(Error::invalid_input(
                "a picture stays for more than a year: the recording's times are wrong",
            ));
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
        while let Some(due) = self.pace.due(frame.time_ns) {
            self.submit(due)?;
            self.check_time(frame.time_ns)?;
        }
        let changed = self.canvas.draw(frame);
        match self.pace.drawn(frame.time_ns, changed) {
            Some(due) => self.submit(due),
            None => Ok(()),
        }
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.pace.passed(marker.time_ns);
        if let MarkerKind::Chapter { title } = &marker.kind {
            self.muxer.chapter(marker.time_ns, title);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        let end_ns = self.pace.end_ns();
        while let Some(due) = self.pace.rest() {
            self.submit(due)?;
            self.check_time(end_ns)?;
        }
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
