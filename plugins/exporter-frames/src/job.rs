//! One export: a PNG for each change or for each interval, and the index.

use std::fs::File;
use std::io::{BufWriter, Write as _};

use deskreel_sdk::prelude::*;
use deskreel_sdk::serde_json::{Map, Value};

use crate::picture::{Facts, Picture, flatten};

/// Name of the index in the folder.
const INDEX: &str = "index.json";
/// Version of the index.
const INDEX_VERSION: u32 = 1;

/// The index: what is in the folder.
#[derive(Debug, Serialize)]
struct Index {
    deskreel_frames: u32,
    title: String,
    /// Wall time of time 0.
    started: Option<String>,
    recording: Option<String>,
    user: Option<String>,
    login: Option<String>,
    desktop: Option<String>,
    /// SHA-256 of the recording's manifest.
    digest: Option<String>,
    /// Where time 0 and the end are in the session.
    session_from_ns: u64,
    session_to_ns: u64,
    product: String,
    /// What the recording says of the session's start.
    facts: Map<String, Value>,
    duration_ns: u64,
    interval_ns: Option<u64>,
    frames: Vec<Entry>,
    /// Gaps, resizes and the like, as the engine told them.
    markers: Vec<Marker>,
}

#[derive(Debug, Clone, Serialize)]
struct Entry {
    file: String,
    time_ns: u64,
    width: u32,
    height: u32,
}

/// One export under way.
#[derive(Debug)]
pub struct FramesJob {
    output: Output,
    interval_ns: Option<u64>,
    duration_ns: Option<u64>,
    picture: Option<Picture>,
    /// When the next file is due, with an interval.
    due_ns: u64,
    last_ns: u64,
    bytes: u64,
    facts: Facts,
    index: Index,
}

impl FramesJob {
    pub(crate) fn new(interval_ns: Option<u64>, video: &VideoParams, output: Output) -> Self {
        Self {
            output,
            interval_ns,
            duration_ns: video.duration_ns,
            picture: None,
            due_ns: 0,
            last_ns: 0,
            bytes: 0,
            facts: Facts::new(video),
            index: Index {
                deskreel_frames: INDEX_VERSION,
                title: video.title.clone(),
                started: video.started.clone(),
                recording: video.recording.clone(),
                user: video.user.clone(),
                login: video.login.clone(),
                desktop: video.desktop.clone(),
                digest: video.digest.clone(),
                session_from_ns: video.session_from_ns,
                session_to_ns: video.session_to_ns,
                product: video.product.clone(),
                facts: video.facts.clone(),
                duration_ns: 0,
                interval_ns,
                frames: Vec::new(),
                markers: Vec::new(),
            },
        }
    }

    /// Writes the files that are due before `now_ns` with the picture as it is.
    fn write_due(&mut self, now_ns: u64) -> Result<()> {
        let Some(interval_ns) = self.interval_ns else {
            return Ok(());
        };
        while self.due_ns < now_ns {
            let due_ns = self.due_ns;
            if self.picture.is_some() {
                self.write(due_ns)?;
            }
            self.due_ns = due_ns.saturating_add(interval_ns);
        }
        Ok(())
    }

    /// Writes one file; the picture is encoded once however often it is written.
    fn write(&mut self, time_ns: u64) -> Result<()> {
        let Some(picture) = &mut self.picture else {
            return Ok(());
        };
        if picture.png.is_empty() {
            picture.png = picture.encode(&self.facts)?;
        }
        let file = file_name(self.index.frames.len(), time_ns);
        let written = self.output.create_in(&file)?.write_all(&picture.png);
        written.with_context(|| self.output.path().join(&file).display().to_string())?;
        self.bytes += picture.png.len() as u64;
        self.index.frames.push(Entry {
            file,
            time_ns,
            width: picture.width,
            height: picture.height,
        });
        Ok(())
    }

    /// Makes the files and their names durable: all at the end, when the disk has most of it already.
    fn make_durable(&self) -> Result<()> {
        let folder = self.output.path();
        for entry in &self.index.frames {
            sync(&folder.join(&entry.file))?;
        }
        sync(&folder.join(INDEX))?;
        sync(folder)
    }
}

impl ExportJob for FramesJob {
    fn frame(&mut self, frame: &Frame<'_>) -> Result<()> {
        self.write_due(frame.time_ns)?;
        self.last_ns = frame.time_ns;
        let rgb = flatten(frame);
        match &self.picture {
            // A pointer that left the screen, or a change that is none.
            Some(now) if (now.width, now.height) == (frame.width, frame.height) && now.rgb == rgb => return Ok(()),
            _ => {}
        }
        self.picture = Some(Picture {
            width: frame.width,
            height: frame.height,
            rgb,
            png: Vec::new(),
        });
        if self.interval_ns.is_none() {
            self.write(frame.time_ns)?;
        }
        Ok(())
    }

    fn marker(&mut self, marker: &Marker) -> Result<()> {
        self.last_ns = self.last_ns.max(marker.time_ns);
        self.index.markers.push(marker.clone());
        Ok(())
    }

    fn finish(mut self) -> Result<Summary> {
        let end_ns = self.duration_ns.unwrap_or(self.last_ns);
        // What is due at the very end is still written when nothing else would show the last picture.
        self.write_due(end_ns.saturating_add(1))?;
        if self.index.frames.is_empty() && self.picture.is_some() {
            self.write(end_ns)?;
        }
        if self.index.frames.is_empty() {
            return Err(Error::invalid_input(
                "nothing to export: the recording has no picture in this stretch",
            ));
        }
        self.index.duration_ns = end_ns;
        let mut file = BufWriter::new(self.output.create_in(INDEX)?);
        let json =
            serde_json::to_vec_pretty(&self.index).map_err(|error| Error::internal(format!("{INDEX}: {error}")))?;
        file.write_all(&json)
            .and_then(|()| file.write_all(b"\n"))
            .and_then(|()| file.flush())
            .with_context(|| self.output.path().join(INDEX).display().to_string())?;
        drop(file);
        self.make_durable()?;
        let mut summary = Summary::default();
        summary.frames = self.index.frames.len() as u64;
        summary.files = summary.frames + 1;
        summary.bytes = self.bytes + json.len() as u64 + 1;
        Ok(summary)
    }
}

/// Makes a file's bytes, or a folder's names, durable.
pub(crate) fn sync(path: &Path) -> Result<()> {
    #[cfg(test)]
    tests::SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("fsync {}", path.display()))
}

/// Sorts by name in time order, and tells the time: `000012_00h01m02.345s.png`.
fn file_name(number: usize, time_ns: u64) -> String {
    let ms = time_ns / 1_000_000;
    let (hours, minutes, seconds) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{number:06}_{hours:02}h{minutes:02}m{seconds:02}.{:03}s.png", ms % 1000)
}

#[cfg(test)]
#[path = "job_tests.rs"]
mod tests;
