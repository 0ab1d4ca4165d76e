//! One export of a video.

use crate::error::{Error, Result};
use crate::exporter::{ExportJob, Frame, Marker, MarkerKind, Summary, VideoParams};
use crate::video::canvas::Canvas;
use crate::video::encoders::{Encode, Encoders, Packet};
use crate::video::pace::{Due, Pace};
use crate::video::planes::Colors;

/// How often a picture that stays is shown again at most: more is no recording of a screen but wrong times.
const REPEATS_MAX: u64 = 10_000;

/// The file that a video is written to.
pub trait Container: Send + 'static {
    /// Adds the next picture, shown from `time_ns` on.
    ///
    /// # Errors
    /// An output that can't be written.
    fn push(&mut self, time_ns: u64, key: bool, bytes: Vec<u8>) -> Result<()>;

    /// Notes a moment that is worth jumping to.
    fn chapter(&mut self, time_ns: u64, title: &str);

    /// Completes the file durably; the last picture is shown until `end_ns`. Gives the numbers of pictures and bytes.
    ///
    /// # Errors
    /// An output that can't be completed.
    fn finish(self, end_ns: u64) -> Result<(u64, u64)>;
}

/// An [`ExportJob`] that makes a video with a codec and a container.
pub struct VideoJob<C, E, F> {
    canvas: Canvas<C>,
    encoders: Encoders<E>,
    container: F,
    pace: Pace,
    notes: Vec<String>,
}

impl<C: Colors, E: Encode + 'static, F: Container> VideoJob<C, E, F> {
    /// Pictures chosen by `pace` and drawn on `canvas` go through encoders that `make` makes, on `threads` threads.
    pub fn new(
        canvas: Canvas<C>,
        pace: Pace,
        threads: usize,
        make: impl Fn() -> Result<E> + Send + Sync + 'static,
        container: F,
    ) -> Self {
        let encoders = Encoders::new(canvas.planes().clone(), threads, make);
        Self {
            canvas,
            encoders,
            container,
            pace,
            notes: Vec::new(),
        }
    }

    /// Something that the person should know of the finished video.
    #[must_use]
    pub fn with_note(mut self, note: String) -> Self {
        self.notes.push(note);
        self
    }

    /// Submits the canvas as it is; `now_ns`: until when it may be shown again and again.
    fn submit(&mut self, due: Due, now_ns: u64) -> Result<()> {
        if self.pace.repeats(now_ns) > REPEATS_MAX {
            let message = "a picture stays longer than any session: the recording's times are wrong";
            return Err(Error::invalid_input(message));
        }
        let patches = self.canvas.take_patches(due.key);
        self.encoders.submit(due, patches)?;
        let ready = self.encoders.ready()?;
        write(&mut self.container, ready)
    }
}

fn write(container: &mut impl Container, packets: Vec<Packet>) -> Result<()> {
    for packet in packets {
        container.push(packet.time_ns, packet.key, packet.bytes)?;
    }
    Ok(())
}

impl<C: Colors, E: Encode + 'static, F: Container> ExportJob for VideoJob<C, E, F> {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        let now_ns = frame.time_ns;
        while let Some(due) = self.pace.due(now_ns) {
            self.submit(due, now_ns)?;
        }
        let changed = self.canvas.draw(frame);
        match self.pace.drawn(now_ns, changed) {
            Some(due) => self.submit(due, now_ns),
            None => Ok(()),
        }
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.pace.passed(marker.time_ns);
        if let MarkerKind::Chapter { title } = &marker.kind {
            self.container.chapter(marker.time_ns, title);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        let end_ns = self.pace.end_ns();
        while let Some(due) = self.pace.rest() {
            self.submit(due, end_ns)?;
        }
        if self.encoders.is_empty() {
            let message = "nothing to export: the recording has no picture in this stretch";
            return Err(Error::invalid_input(message));
        }
        let rest = self.encoders.finish()?;
        write(&mut self.container, rest)?;
        let mut summary = Summary::default();
        (summary.frames, summary.bytes) = self.container.finish(end_ns)?;
        summary.files = 1;
        summary.notes = self.notes;
        Ok(summary)
    }
}

/// Threads to encode with: what the person asked for, else the settings (0 leaves it open), else one a processor but no more than
/// `auto_max`.
#[must_use]
pub fn threads(video: &VideoParams, settings: u32, auto_max: usize) -> usize {
    let asked = video.threads.filter(|threads| *threads > 0).unwrap_or(settings);
    match usize::try_from(asked) {
        Ok(threads @ 1..) => threads,
        _ => std::thread::available_parallelism()
            .map_or(1, usize::from)
            .min(auto_max),
    }
}
