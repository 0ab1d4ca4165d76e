//! One export: which pictures become part of the video, and when.

use deskreel_sdk::{Due, Error, ExportJob, Frame, Marker, MarkerKind, Output, Pace, Result, Summary, VideoParams};

use crate::canvas::Canvas;
use crate::matroska::Muxer;
use crate::vp9::{Options, Vp9};

/// A keyframe at least this often, so that players seek well.
const KEY_INTERVAL_NS: u64 = 10_000_000_000;
/// Longest side and largest picture that libvpx is asked to encode.
const SIDE_MAX: u32 = 8192;

/// One export under way.
pub struct WebmJob {
    canvas: Canvas,
    encoder: Vp9,
    muxer: Muxer,
    pace: Pace,
}

impl WebmJob {
    pub(crate) fn start(settings: &crate::Settings, video: &VideoParams, output: &Output) -> Result<Self> {
        let (width, height) = (video.width.max(1), video.height.max(1));
        if width > SIDE_MAX || height > SIDE_MAX {
            return Err(Error::invalid_input(format!(
                "{width}x{height} is more than a WebM takes, {SIDE_MAX} a side: export with --width"
            )));
        }
        let lossless = video.lossless || settings.quantizer == 0;
        let options = Options {
            width,
            height,
            quantizer: (!lossless).then_some(settings.quantizer),
            threads: video
                .threads
                .filter(|threads| *threads > 0)
                .unwrap_or_else(|| settings.threads()),
        };
        Ok(Self {
            canvas: Canvas::new(width, height),
            encoder: Vp9::new(options)?,
            muxer: Muxer::new(output, video, (width, height))?,
            pace: Pace::new(video, settings.fps_max, KEY_INTERVAL_NS),
        })
    }

    /// Encodes the canvas as it is.
    fn submit(&mut self, due: Due) -> Result<()> {
        let (bytes, key) = self.encoder.encode(self.canvas.planes(), due.key)?;
        self.muxer.push(due.time_ns, key, bytes)
    }
}

impl ExportJob for WebmJob {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        while let Some(due) = self.pace.due(frame.time_ns) {
            self.submit(due)?;
        }
        let changed = self.canvas.draw(frame)?;
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
        while let Some(due) = self.pace.rest() {
            self.submit(due)?;
        }
        let mut summary = Summary::default();
        (summary.frames, summary.bytes) = self.muxer.finish(self.pace.end_ns())?;
        summary.files = 1;
        Ok(summary)
    }
}
