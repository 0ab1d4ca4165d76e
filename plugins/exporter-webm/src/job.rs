//! One export: which pictures become part of the video, and when.

use deskreel_sdk::{Error, ExportJob, Frame, Marker, MarkerKind, Output, Result, Summary, VideoParams};

use crate::canvas::Canvas;
use crate::matroska::Muxer;
use crate::vp9::{Options, Vp9};

/// A keyframe at least this often, so that players seek well.
const KEY_INTERVAL_NS: u64 = 10_000_000_000;
/// How long the last picture stays when nobody knows when the session ends.
const TAIL_NS: u64 = 1_000_000_000;
/// Longest side and largest picture that libvpx is asked to encode.
const SIDE_MAX: u32 = 8192;

/// One export under way.
pub struct WebmJob {
    canvas: Canvas,
    encoder: Vp9,
    muxer: Muxer,
    interval_ns: u64,
    duration_ns: Option<u64>,
    /// When the last encoded picture is shown first.
    shown_ns: Option<u64>,
    key_ns: u64,
    /// Changes that are drawn but not encoded.
    pending: bool,
    last_ns: u64,
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
            interval_ns: 1_000_000_000 / u64::from(settings.fps_max.max(1)),
            duration_ns: video.duration_ns,
            shown_ns: None,
            key_ns: 0,
            pending: false,
            last_ns: 0,
        })
    }

    /// When the next picture may be shown.
    fn next_slot_ns(&self) -> u64 {
        self.shown_ns.map_or(0, |shown| shown.saturating_add(self.interval_ns))
    }

    /// Encodes the canvas as it is, to be shown from `time_ns` on.
    fn submit(&mut self, time_ns: u64) -> Result<()> {
        let key = self.shown_ns.is_none() || time_ns >= self.key_ns.saturating_add(KEY_INTERVAL_NS);
        let (bytes, key) = self.encoder.encode(self.canvas.planes(), key)?;
        if key {
            self.key_ns = time_ns;
        }
        self.shown_ns = Some(time_ns);
        self.pending = false;
        self.muxer.push(time_ns, key, bytes)
    }
}

impl ExportJob for WebmJob {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.last_ns = frame.time_ns;
        if self.shown_ns.is_none() && frame.time_ns >= self.interval_ns {
            // Nothing was on the screen yet, and the video starts when the session does.
            self.submit(0)?;
        }
        let slot = self.next_slot_ns();
        if self.pending && slot <= frame.time_ns {
            self.submit(slot)?;
        }
        self.pending |= self.canvas.draw(frame)?;
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
        let shown_ns = self.shown_ns.unwrap_or(0);
        if self.pending {
            let slot = self.next_slot_ns();
            self.submit(self.duration_ns.map_or(slot, |end| slot.min(end.max(shown_ns))))?;
        }
        let end_ns = self.duration_ns.unwrap_or(self.last_ns.saturating_add(TAIL_NS));
        let mut summary = Summary::default();
        (summary.frames, summary.bytes) = self.muxer.finish(end_ns)?;
        summary.files = 1;
        Ok(summary)
    }
}
