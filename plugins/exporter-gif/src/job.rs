//! One export: pictures in, an animated GIF out.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use deskreel_sdk::prelude::*;
use gif::{AnyExtension, DisposalMethod, Encoder, EncodingError, Repeat};

use crate::canvas::Canvas;
use crate::palette::index;

/// A hundredth of a second.
const TICK_NS: u64 = 10_000_000;
/// The shortest that a picture is shown, in hundredths: browsers show what is shorter for a tenth of a second.
const SHORTEST: u64 = 2;
/// GIF's block for comments.
const COMMENT: u8 = 0xfe;
/// Longest piece of a comment.
const COMMENT_PIECE: usize = 255;

/// One export under way.
pub struct GifJob {
    encoder: Encoder<BufWriter<File>>,
    path: PathBuf,
    interval_ns: u64,
    limit_ns: u64,
    duration_ns: Option<u64>,
    canvas: Canvas,
    size: Option<(u32, u32)>,
    /// Since when the canvas shows something that is not written.
    changed_ns: Option<u64>,
    /// The picture that was encoded last, which waits for its length.
    waiting: Option<(gif::Frame<'static>, u64)>,
    last_ns: u64,
    frames: u64,
    reduced: u64,
}

impl std::fmt::Debug for GifJob {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("GifJob")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl GifJob {
    pub(crate) fn new(interval_ns: u64, seconds_max: u32, video: &VideoParams, output: &Output) -> Result<Self> {
        let side = |pixels: u32| {
            u16::try_from(pixels)
                .ok()
                .filter(|pixels| *pixels > 0)
                .ok_or_else(|| Error::invalid_input(format!("{}x{}: no size for a GIF", video.width, video.height)))
        };
        let (width, height) = (side(video.width)?, side(video.height)?);
        let limit_ns = u64::from(seconds_max) * 1_000_000_000;
        if let Some(duration_ns) = video.duration_ns {
            short_enough(duration_ns, limit_ns)?;
        }
        let path = output.path().to_owned();
        let failed = |error: EncodingError| wrap(error, &path);
        let mut encoder = Encoder::new(BufWriter::new(output.create()?), width, height, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        let comment = comment(video);
        let pieces: Vec<&[u8]> = comment.as_bytes().chunks(COMMENT_PIECE).collect();
        if !pieces.is_empty() {
            let extension = AnyExtension(COMMENT);
            encoder.write_raw_extension(extension, &pieces).map_err(failed)?;
        }
        Ok(Self {
            encoder,
            interval_ns,
            limit_ns,
            duration_ns: video.duration_ns,
            canvas: Canvas::new(width, height),
            size: None,
            changed_ns: None,
            waiting: None,
            last_ns: 0,
            frames: 0,
            reduced: 0,
            path,
        })
    }

    /// Encodes what changed, as a picture that begins at `latest` at the latest, in hundredths.
    fn encode(&mut self, latest: u64) -> Result<()> {
        let Some(since_ns) = self.changed_ns.take() else {
            return Ok(());
        };
        let Some(change) = self.canvas.take() else {
            return Ok(());
        };
        let start = latest.min(since_ns / TICK_NS);
        self.release(start)?;
        let indexed = index(&change.pixels);
        self.reduced += u64::from(!indexed.exact);
        let frame = gif::Frame {
            left: change.left,
            top: change.top,
            width: change.width,
            height: change.height,
            dispose: DisposalMethod::Keep,
            transparent: Some(indexed.transparent),
            palette: Some(indexed.palette),
            buffer: indexed.pixels.into(),
            ..gif::Frame::default()
        };
        self.waiting = Some((frame, start));
        Ok(())
    }

    /// Writes the picture that waits: it stays until `until`, in hundredths.
    fn release(&mut self, until: u64) -> Result<()> {
        let Some((mut frame, start)) = self.waiting.take() else {
            return Ok(());
        };
        frame.delay = u16::try_from(until.saturating_sub(start)).unwrap_or(u16::MAX);
        self.frames += 1;
        self.encoder
            .write_frame(&frame)
            .map_err(|error| wrap(error, &self.path))
    }
}

impl ExportJob for GifJob {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        short_enough(frame.time_ns, self.limit_ns)?;
        self.last_ns = self.last_ns.max(frame.time_ns);
        if self
            .changed_ns
            .is_some_and(|since_ns| frame.time_ns >= since_ns.saturating_add(self.interval_ns))
        {
            self.encode(u64::MAX)?;
        }
        let size = (frame.width, frame.height);
        let all = self.size != Some(size);
        self.size = Some(size);
        self.canvas.show(frame, all);
        // The first picture is that of the beginning: there is nothing before it.
        let from_ns = if self.frames == 0 && self.waiting.is_none() {
            0
        } else {
            frame.time_ns
        };
        self.changed_ns.get_or_insert(from_ns);
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        let end = self.duration_ns.unwrap_or(self.last_ns) / TICK_NS;
        // For a change at the very end the picture before gives way, as far as it is long enough itself.
        let after = self.waiting.as_ref().map_or(0, |(_, start)| start + SHORTEST);
        self.encode(end.saturating_sub(SHORTEST).max(after))?;
        if self.waiting.is_none() && self.frames == 0 {
            return Err(Error::invalid_input(
                "nothing to export: the recording has no picture in this stretch",
            ));
        }
        let least = self.waiting.as_ref().map_or(0, |(_, start)| start + SHORTEST);
        self.release(end.max(least))?;
        let shown = self.path.display().to_string();
        let mut writer = self.encoder.into_inner().map_err(|error| wrap(error, &self.path))?;
        writer.flush().with_context(|| shown.clone())?;
        let file = writer
            .into_inner()
            .map_err(|error| Error::from(error.into_error()).with_context(&shown))?;
        file.sync_all().with_context(|| format!("fsync {shown}"))?;
        let mut summary = Summary::default();
        summary.frames = self.frames;
        summary.files = 1;
        summary.bytes = file.metadata().with_context(|| shown)?.len();
        if self.reduced > 0 {
            summary.notes.push(format!(
                "{} of {} pictures have more than 255 new colours: the rarer ones are not exact",
                self.reduced, self.frames
            ));
        }
        Ok(summary)
    }
}

/// The title, and a line for each fact.
fn comment(video: &VideoParams) -> String {
    let mut comment = video.title.clone();
    for (name, value) in video.details() {
        comment.push_str(&format!("\n{name}: {value}"));
    }
    comment
}

fn short_enough(length_ns: u64, limit_ns: u64) -> Result<()> {
    if length_ns <= limit_ns {
        return Ok(());
    }
    let seconds = |ns: u64| format!("{} s", ns.div_ceil(1_000_000_000));
    Err(Error::invalid_input(format!(
        "the stretch is {} long, a GIF of more than {} gets too large (settings.seconds_max): choose a shorter one with --from \
         and --to, or mp4",
        seconds(length_ns),
        seconds(limit_ns)
    )))
}

fn wrap(error: EncodingError, path: &Path) -> Error {
    match error {
        EncodingError::Io(error) => Error::from(error).with_context(path.display()),
        error => Error::internal(format!("GIF: {error}")),
    }
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
