//! The exporter traits: frames in, a file out.

use std::fs::File;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, Result};

/// Turns recordings into files of another format.
pub trait Exporter: Send + Sync + Sized + 'static {
    /// The operator's settings; validated against their JSON Schema before [`open`](Self::open).
    type Settings: DeserializeOwned + JsonSchema + Send + 'static;
    /// One export under way.
    type Job: ExportJob;

    /// What it can make.
    const FORMATS: &'static [Format];

    /// Ids of the formats that can keep the picture without any loss, see [`VideoParams::lossless`].
    const LOSSLESS: &'static [&'static str] = &[];

    /// Ids of the formats that are one picture: the engine exports a moment then, not a stretch.
    const STILL: &'static [&'static str] = &[];

    /// Whether its jobs need frames. Where they don't, the engine spares decoding the screen, and no frame comes.
    const WANTS_FRAMES: bool = true;

    /// Whether its jobs get everything else that the recording holds, as [`MarkerKind::Event`].
    const WANTS_EVENTS: bool = false;

    /// Makes an instance.
    ///
    /// # Errors
    /// `InvalidSettings` where the settings can't work.
    fn open(settings: Self::Settings, context: Context) -> Result<Self>;

    /// Starts an export. Several may run at once, each on its own thread.
    ///
    /// # Errors
    /// Settings or sizes that can't work, an output that can't be written.
    fn start(&self, format: &str, video: &VideoParams, output: Output) -> Result<Self::Job>;
}

/// One export under way. CPU-bound and blocking, always called by one thread at a time.
///
/// Calls come in time order; the first frame's time may be later than 0. Dropped without [`finish`](Self::finish) means cancelled: close the output; the engine removes it.
pub trait ExportJob: Send + Sized + 'static {
    /// The screen from `frame.time_ns` on, until the next frame or the end of the export.
    ///
    /// # Errors
    /// Whatever ends the export.
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()>;

    /// Something that happened beside the picture; may come before the first frame. The default ignores it.
    ///
    /// # Errors
    /// Whatever ends the export.
    fn marker(&mut self, marker: &Marker) -> Result<()> {
        let _ = marker;
        Ok(())
    }

    /// Writes what is still open and closes the output, durably.
    ///
    /// # Errors
    /// An output that can't be completed.
    fn finish(self) -> Result<Summary>;
}

/// A format that an exporter can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Format {
    /// The word after `--format`, such as `mp4`.
    pub id: &'static str,
    /// The usual file name extension without a dot; empty for a folder.
    pub extension: &'static str,
    /// Media type.
    pub mime: &'static str,
    /// Whether writing goes back in the file, so a pipe can't take it.
    pub needs_seek: bool,
    /// Whether the output is a folder of files.
    pub folder: bool,
}

/// What is known about the picture before the first frame.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct VideoParams {
    /// The largest width of any frame of the export, in pixels, so that a canvas can be chosen before the first frame. Only
    /// where the session still runs may a later frame be wider.
    pub width: u32,
    /// The largest height of any frame, likewise.
    pub height: u32,
    /// Length of the export: the last frame stays until then. `None` while it can't be known (a session that still runs).
    pub duration_ns: Option<u64>,
    /// A title for formats that keep one.
    pub title: String,
    /// When time 0 was, as RFC 3339 in UTC, for formats that keep it.
    pub started: Option<String>,
    /// The recording's id.
    pub recording: Option<String>,
    /// Whose session it was.
    pub user: Option<String>,
    /// The account on the desktop.
    pub login: Option<String>,
    /// The desktop that was used.
    pub desktop: Option<String>,
    /// SHA-256 of the recording's manifest, hexadecimal: which recording this is, beyond doubt. `None` while it has none.
    pub digest: Option<String>,
    /// Where the export begins and ends in the session, in nanoseconds since the session's start.
    pub session_from_ns: u64,
    /// See `session_from_ns`.
    pub session_to_ns: u64,
    /// What the recording says of the session's start (user, desktop, client, node, ...), for formats that keep objects.
    pub facts: serde_json::Map<String, serde_json::Value>,
    /// Keep the picture without any loss; only asked of formats in [`Exporter::LOSSLESS`].
    pub lossless: bool,
    /// Threads that the job may keep busy; `None` leaves it to the exporter's settings.
    pub threads: Option<u32>,
    /// Name and version of the program that exports.
    pub product: String,
}

impl VideoParams {
    /// Parameters of a picture of this size.
    #[must_use]
    pub fn new(width: u32, height: u32) -> Self {
        Self {
            width,
            height,
            ..Self::default()
        }
    }

    /// What any format can keep that keeps names and values: `recording`, `manifest-sha256`, `user`, `login`, `desktop`, `started`
    /// and `stretch-seconds` (from when to when in the session), as far as known.
    #[must_use]
    pub fn details(&self) -> Vec<(&'static str, String)> {
        let seconds = |ns: u64| format!("{}.{:09}", ns / 1_000_000_000, ns % 1_000_000_000);
        let stretch = (self.session_to_ns > 0)
            .then(|| format!("{}-{}", seconds(self.session_from_ns), seconds(self.session_to_ns)));
        let details = [
            ("recording", self.recording.clone()),
            ("manifest-sha256", self.digest.clone()),
            ("user", self.user.clone()),
            ("login", self.login.clone()),
            ("desktop", self.desktop.clone()),
            ("started", self.started.clone()),
            ("stretch-seconds", stretch),
        ];
        let known = details.into_iter().filter_map(|(name, value)| Some((name, value?)));
        known.collect()
    }
}

/// Where an export goes: a path that is the job's alone.
///
/// For a file format nothing exists there yet. For a folder format an empty folder does. The engine moves a finished output to
/// its final name and removes one that wasn't finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    path: PathBuf,
}

impl Output {
    /// An output at a path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Creates the output of a file format: readable, writable, seekable, and not there before.
    ///
    /// # Errors
    /// What the operating system says, with the path.
    pub fn create(&self) -> Result<File> {
        create_new(&self.path)
    }

    /// Creates a file in the output of a folder format.
    ///
    /// # Errors
    /// What the operating system says, with the path; `InvalidInput` for a name that isn't a plain file name.
    pub fn create_in(&self, name: &str) -> Result<File> {
        if name.is_empty() || name == "." || name == ".." || name.contains(['/', '\0']) {
            return Err(Error::invalid_input(format!("{name:?} is not a file name")));
        }
        create_new(&self.path.join(name))
    }
}

fn create_new(path: &Path) -> Result<File> {
    File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(path)
        .map_err(|error| Error::from(error).with_context(path.display()))
}

/// A rectangle in pixels, inside its frame and never empty. Its end is `x + width`, exclusive.
#[repr(C)] // Crosses to the plugin as it lies in memory, see abi/types.rs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Region {
    pub x: u32,
    pub y: u32,
    pub width: u32,
    pub height: u32,
}

/// The screen at a moment. Borrowed for the call: copy what must stay.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Frame<'a> {
    /// Time since the start of the export in nanoseconds; never less than that of the frame before.
    pub time_ns: u64,
    /// Width in pixels. It may differ from that of the frame before: the session was resized.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Bytes from one row to the next, at least `width * 4`.
    pub stride: usize,
    /// Rows from the top, four bytes a pixel in the order R, G, B, A. A is meaningless. Checked to hold `height` rows (the last
    /// may lack what stands after its pixels).
    pub rgba: &'a [u8],
    /// What changed since the frame before; all of the picture in the first frame and after a resize. Empty when only the
    /// pointer moved.
    pub changed: &'a [Region],
    /// The pointer, which isn't part of the pixels; `None` while hidden or unknown.
    pub pointer: Option<Pointer<'a>>,
}

impl<'a> Frame<'a> {
    /// A frame whose buffer is big enough for its size.
    ///
    /// # Errors
    /// `InvalidInput` when it isn't, or a region doesn't lie inside the picture.
    pub fn new(
        time_ns: u64,
        width: u32,
        height: u32,
        stride: usize,
        rgba: &'a [u8],
        changed: &'a [Region],
    ) -> Result<Self> {
        let frame = Self {
            time_ns,
            width,
            height,
            stride,
            rgba,
            changed,
            pointer: None,
        };
        if !holds(width, height, stride, rgba.len()) {
            return Err(Error::invalid_input(format!(
                "frame of {width}x{height} with stride {stride} doesn't fit {} bytes",
                rgba.len()
            )));
        }
        let inside =
            |start: u32, length: u32, end: u32| length > 0 && start.checked_add(length).is_some_and(|to| to <= end);
        match changed
            .iter()
            .find(|r| !inside(r.x, r.width, width) || !inside(r.y, r.height, height))
        {
            Some(wrong) => Err(Error::invalid_input(format!(
                "changed region {wrong:?} outside a frame of {width}x{height}"
            ))),
            None => Ok(frame),
        }
    }

    /// The same frame with a pointer.
    ///
    /// # Errors
    /// `InvalidInput` when the shape's bytes don't match its size.
    pub fn with_pointer(mut self, pointer: Option<Pointer<'a>>) -> Result<Self> {
        if let Some(pointer) = &pointer
            && pointer.rgba.len() != pointer.width as usize * pointer.height as usize * 4
        {
            return Err(Error::invalid_input(format!(
                "pointer of {}x{} with {} bytes",
                pointer.width,
                pointer.height,
                pointer.rgba.len()
            )));
        }
        self.pointer = pointer;
        Ok(self)
    }

    /// One row of pixels, without what stands after them; empty when there is no such row.
    #[must_use]
    pub fn row(&self, y: u32) -> &'a [u8] {
        if y >= self.height {
            return &[];
        }
        let start = y as usize * self.stride;
        self.rgba.get(start..start + self.width as usize * 4).unwrap_or(&[])
    }
}

fn holds(width: u32, height: u32, stride: usize, len: usize) -> bool {
    let row = width as usize * 4;
    let needed = (height as usize)
        .checked_sub(1)
        .and_then(|rows| rows.checked_mul(stride))
        .and_then(|all| all.checked_add(row));
    width > 0 && stride >= row && needed.is_some_and(|needed| needed <= len)
}

/// The pointer as the user saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pointer<'a> {
    /// Where its hot spot is, in pixels of the frame.
    pub x: i32,
    /// Where its hot spot is, in pixels of the frame.
    pub y: i32,
    /// The hot spot's place inside the shape.
    pub hotspot_x: u16,
    /// The hot spot's place inside the shape.
    pub hotspot_y: u16,
    /// Width of the shape in pixels.
    pub width: u16,
    /// Height of the shape in pixels.
    pub height: u16,
    /// The shape: rows from the top without padding, R, G, B and straight (not premultiplied) alpha.
    pub rgba: &'a [u8],
}

impl Pointer<'_> {
    /// Draws the pointer over a picture in R, G, B, A; the part outside is left out. Alpha of the picture stays as it is.
    pub fn draw(&self, picture: &mut [u8], width: u32, height: u32, stride: usize) {
        let (left, top) = (
            i64::from(self.x) - i64::from(self.hotspot_x),
            i64::from(self.y) - i64::from(self.hotspot_y),
        );
        for (row, y) in self.rgba.chunks_exact((usize::from(self.width) * 4).max(1)).zip(top..) {
            let Some(y) = usize::try_from(y).ok().filter(|y| *y < height as usize) else {
                continue;
            };
            for (&[r, g, b, a], x) in row.as_chunks::<4>().0.iter().zip(left..) {
                let Some(x) = usize::try_from(x).ok().filter(|x| *x < width as usize) else {
                    continue;
                };
                if let Some(pixel) = picture
                    .get_mut(y * stride + x * 4..)
                    .and_then(<[u8]>::first_chunk_mut::<4>)
                {
                    for (under, over) in pixel.iter_mut().zip([r, g, b]) {
                        *under = blend(*under, over, a);
                    }
                }
            }
        }
    }

    /// The part of a picture that [`draw`](Self::draw) would touch; `None` when that is nothing.
    #[must_use]
    pub fn region(&self, width: u32, height: u32) -> Option<Region> {
        let span = |at: i32, hot: u16, length: u16, end: u32| {
            let start = i64::from(at) - i64::from(hot);
            let (from, to) = (start.max(0), (start + i64::from(length)).min(i64::from(end)));
            Some((
                u32::try_from(from).ok()?,
                u32::try_from(to - from).ok().filter(|length| *length > 0)?,
            ))
        };
        let (x, w) = span(self.x, self.hotspot_x, self.width, width)?;
        let (y, h) = span(self.y, self.hotspot_y, self.height, height)?;
        Some(Region {
            x,
            y,
            width: w,
            height: h,
        })
    }
}

fn blend(under: u8, over: u8, alpha: u8) -> u8 {
    let (under, over, alpha) = (u32::from(under), u32::from(over), u32::from(alpha));
    // At most 255 * 255 + 127, divided by 255: fits a byte.
    u8::try_from((over * alpha + under * (255 - alpha) + 127) / 255).unwrap_or(u8::MAX)
}

/// Something that happened beside the picture, for captions and chapter marks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marker {
    /// Time since the start of the export in nanoseconds.
    pub time_ns: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: MarkerKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum MarkerKind {
    /// The screen has another size from here on.
    Resize {
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// Nothing was recorded until `until_ns`. Frames from the gap's begin to its end show that already.
    Gap {
        /// When recording went on, since the start of the export.
        until_ns: u64,
        /// Why.
        reason: String,
    },
    /// The user pressed a key.
    Key {
        /// What it writes, or its name: `h`, `Enter`, `Ctrl+C`. Where only scan codes are recorded, as on a US keyboard.
        text: String,
    },
    /// The clipboard was used.
    Clipboard {
        /// What passed, in words.
        text: String,
    },
    /// Something that a viewer may want to jump to: the session's begin, a logon, a transfer, an alert, a gap.
    Chapter {
        /// What it is, in words.
        title: String,
    },
    /// Any event of the recording but pixels, for exporters with [`Exporter::WANTS_EVENTS`]. What has a kind of its own here
    /// comes that way as well.
    Event {
        /// Time since the session's start in nanoseconds; [`Marker::time_ns`] is the time in the export.
        session_ns: u64,
        /// The channel, such as `input`: docs/format.md section 4.
        channel: String,
        /// What the recording says; big binary parts are left out.
        event: serde_json::Map<String, serde_json::Value>,
    },
    /// From a newer engine; ignore it.
    #[serde(other)]
    Unknown,
}

/// What an export came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Summary {
    /// Frames written.
    pub frames: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Files written.
    pub files: u64,
    /// What the person who asked should know, such as `scaled to 3840x2160`.
    pub notes: Vec<String>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn details_are_what_is_known() {
        let mut video = VideoParams::new(2, 2);
        assert_eq!(video.details(), []);
        video.user = Some("eve".to_owned());
        (video.session_from_ns, video.session_to_ns) = (1_500_000_000, 2_000_000_001);
        let stretch = "1.500000000-2.000000001".to_owned();
        assert_eq!(
            video.details(),
            [("user", "eve".to_owned()), ("stretch-seconds", stretch)]
        );
    }

    #[test]
    fn a_frame_is_never_bigger_than_its_buffer() {
        let bytes = [0; 2 * 3 * 4];
        assert!(Frame::new(0, 2, 3, 8, &bytes, &[]).is_ok());
        assert!(Frame::new(0, 2, 3, 9, &bytes, &[]).is_err());
        assert!(Frame::new(0, 3, 3, 8, &bytes, &[]).is_err());
        assert!(Frame::new(0, 0, 0, 0, &bytes, &[]).is_err());
        assert!(Frame::new(0, u32::MAX, u32::MAX, usize::MAX, &bytes, &[]).is_err());
        let outside = [Region {
            x: 1,
            y: 0,
            width: u32::MAX,
            height: 1,
        }];
        assert!(Frame::new(0, 2, 3, 8, &bytes, &outside).is_err());
    }

    #[test]
    fn the_pointer_is_clipped_and_blended() {
        let shape = [255, 0, 0, 255, 0, 255, 0, 128, 0, 0, 255, 0, 9, 9, 9, 255];
        let pointer = Pointer {
            x: 0,
            y: 0,
            hotspot_x: 1,
            hotspot_y: 0,
            width: 2,
            height: 2,
            rgba: &shape,
        };
        let mut picture = [100_u8; 2 * 2 * 4];
        pointer.draw(&mut picture, 2, 2, 8);
        assert_eq!(picture[..4], [50, 178, 50, 100]);
        assert_eq!(picture[8..12], [9, 9, 9, 100]);
        assert_eq!(picture[4..8], [100; 4]);
        assert_eq!(
            pointer.region(2, 2),
            Some(Region {
                x: 0,
                y: 0,
                width: 1,
                height: 2
            })
        );
        let away = Pointer {
            x: i32::MIN,
            y: i32::MAX,
            ..pointer
        };
        away.draw(&mut picture, 2, 2, 8);
        assert_eq!(away.region(2, 2), None);
    }

    #[test]
    fn a_marker_of_a_newer_engine_is_unknown() {
        let marker: Marker = serde_json::from_str(r#"{"time_ns":5,"kind":"speech","text":"x"}"#).unwrap();
        assert_eq!(marker.kind, MarkerKind::Unknown);
        let gap = Marker {
            time_ns: 1,
            kind: MarkerKind::Gap {
                until_ns: 2,
                reason: "queue full".into(),
            },
        };
        assert_eq!(
            serde_json::from_str::<Marker>(&serde_json::to_string(&gap).unwrap()).unwrap(),
            gap
        );
    }
}
