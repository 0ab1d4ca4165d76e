//! Where a recording's objects are read from.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use deskreel_recording::{Segment, segment_key};
use tokio::runtime::{Handle, Runtime};
use uuid::Uuid;

use super::library::{Place, Shelf};
use super::objects::{Found, Known, Objects};

/// File name extension of segments.
const SEGMENT: &str = "mcap";
/// File name of the manifest.
pub(super) const MANIFEST: &str = "manifest.json";

/// A recording's objects for those who wait for them: each from the nearest place that has it whole. Where no place has an
/// object whole, it is given as it is: who reads it finds out, and evidence is not hidden.
#[derive(Clone)]
pub(crate) struct Source {
    objects: Arc<Objects>,
    /// The one segment that was asked for.
    only: Option<u32>,
    /// Storages are asynchronous, reading a recording is not.
    runtime: Blocking,
}

/// Where the futures of storages run while a thread waits for them.
#[derive(Debug, Clone)]
pub(crate) enum Blocking {
    /// A command's own runtime.
    Own(Arc<Runtime>),
    /// The engine's; never waited for on one of its own threads but in `spawn_blocking`.
    Engine(Handle),
}

impl Blocking {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        match self {
            Self::Own(runtime) => runtime.block_on(future),
            Self::Engine(handle) => handle.block_on(future),
        }
    }
}

impl From<Arc<Runtime>> for Blocking {
    fn from(runtime: Arc<Runtime>) -> Self {
        Self::Own(runtime)
    }
}

impl From<Handle> for Blocking {
    fn from(handle: Handle) -> Self {
        Self::Engine(handle)
    }
}

impl Source {
    /// A recording in some places.
    pub(crate) fn new(recording: Uuid, places: Vec<Place>, runtime: impl Into<Blocking>) -> Self {
        Self::known(recording, places, Known::default(), runtime)
    }

    /// A recording in some places, of which digests are known.
    pub(crate) fn known(recording: Uuid, places: Vec<Place>, known: Known, runtime: impl Into<Blocking>) -> Self {
        let shelves = places.into_iter().map(Shelf::new).collect();
        Self::shared(Arc::new(Objects::new(recording, shelves, known)), runtime)
    }

    /// A recording that others read, too.
    pub(crate) fn shared(objects: Arc<Objects>, runtime: impl Into<Blocking>) -> Self {
        Self {
            objects,
            only: None,
            runtime: runtime.into(),
        }
    }

    /// One segment of a recording, a file of its own.
    ///
    /// # Errors
    /// A file that isn't named as a segment or isn't one.
    pub(crate) fn segment_file(path: &Path, runtime: Arc<Runtime>) -> anyhow::Result<Self> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or("");
        let Some(number) = segment_number(name) else {
            bail!("{} is not named as a segment is: 00000000.{SEGMENT}", path.display());
        };
        let bytes = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        let segment = Segment::open(bytes.into()).with_context(|| format!("{} is damaged", path.display()))?;
        let folder = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let mut source = Self::new(segment.header().recording, vec![Place::Folder(folder)], runtime);
        source.only = Some(number);
        Ok(source)
    }

    /// The one segment that this is about, when it is about one.
    pub(crate) fn only(&self) -> Option<u32> {
        self.only
    }

    /// A recording in a folder: the folder of its objects, or one above it that holds no other recording.
    ///
    /// # Errors
    /// A folder that can't be read or holds no recording, or several.
    pub(crate) fn folder(path: &Path, runtime: Arc<Runtime>) -> anyhow::Result<Self> {
        let folder = find_folder(path)?;
        let recording = recording_of(&folder)?;
        Ok(Self::new(recording, vec![Place::Folder(folder)], runtime))
    }

    /// The recording's id.
    pub(crate) fn recording(&self) -> Uuid {
        self.objects.recording()
    }

    /// The numbers of the segments that are there.
    ///
    /// # Errors
    /// No place that can be listed.
    pub(crate) fn segments(&self) -> anyhow::Result<BTreeSet<u32>> {
        if let Some(only) = self.only {
            return Ok(BTreeSet::from([only]));
        }
        self.runtime.block_on(self.objects.segments())
    }

    /// A segment's bytes.
    ///
    /// # Errors
    /// A segment that no place has, or that could not be read.
    pub(crate) fn segment(&self, number: u32) -> anyhow::Result<Bytes> {
        match self.find_segment(number)? {
            Some(bytes) => Ok(bytes),
            None => bail!("segment {} is missing", segment_key(self.recording(), number)),
        }
    }

    /// A segment's bytes; `None` when no place has it.
    ///
    /// # Errors
    /// A place that could not be read, when no other has it.
    pub(crate) fn find_segment(&self, number: u32) -> anyhow::Result<Option<Bytes>> {
        let found = self.runtime.block_on(self.objects.find_segment(number))?;
        Ok(found.map(Found::bytes))
    }

    /// A segment, its structure and digest checked.
    ///
    /// # Errors
    /// As [`segment`](Self::segment), and damage; the error names the object.
    pub(crate) fn open_segment(&self, number: u32) -> anyhow::Result<Segment> {
        let bytes = self.segment(number)?;
        let key = segment_key(self.recording(), number);
        let segment = Segment::open(bytes).with_context(|| format!("segment {key} is damaged"))?;
        let header = segment.header();
        if (header.recording, header.number) != (self.recording(), number) {
            bail!(
                "segment {key} is damaged: it says that it is segment {} of {}",
                header.number,
                header.recording
            );
        }
        Ok(segment)
    }

    /// The names of what exporters have stored beside the recording, such as `exports/session.mp4`.
    ///
    /// # Errors
    /// No place that can be listed.
    pub(crate) fn exports(&self) -> anyhow::Result<BTreeSet<String>> {
        self.runtime.block_on(self.objects.exports())
    }

    /// A part of such an object; `None` when no place has it.
    ///
    /// # Errors
    /// Places that could not be read, when no other has it.
    pub(crate) fn file_range(&self, name: &str, range: Range<u64>) -> anyhow::Result<Option<Bytes>> {
        self.runtime.block_on(self.objects.file_range(name, range))
    }

    /// The manifest's bytes; `None` when there is none yet.
    ///
    /// # Errors
    /// A place that could not be read, when no other has it.
    pub(crate) fn manifest(&self) -> anyhow::Result<Option<Bytes>> {
        if self.only.is_some() {
            return Ok(None);
        }
        let found = self.runtime.block_on(self.objects.find_manifest())?;
        Ok(found.map(Found::bytes))
    }
}

/// The file name of a segment, `00000012.mcap`.
pub(super) fn segment_name(number: u32) -> String {
    format!("{number:08}.{SEGMENT}")
}

/// The number in a segment's file name, `00000012.mcap`.
pub(super) fn segment_number(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SEGMENT)?.strip_suffix('.')?;
    (digits.len() == 8 && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| digits.parse().ok())
        .flatten()
}

fn find_folder(path: &Path) -> anyhow::Result<PathBuf> {
    let mut below = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry.with_context(|| format!("read {}", path.display()))?;
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        if segment_number(name).is_some() || name == MANIFEST {
            return Ok(path.to_owned());
        }
        if name.parse::<Uuid>().is_ok() && entry.path().is_dir() {
            below.push(entry.path());
        }
    }
    match below.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!("{} holds no recording: no segment, no manifest", path.display()),
        many => bail!(
            "{} holds {} recordings: name the folder of one",
            path.display(),
            many.len()
        ),
    }
}

/// The id of the recording in a folder: what its name says, else what its first object says.
fn recording_of(folder: &Path) -> anyhow::Result<Uuid> {
    let canonical = folder
        .canonicalize()
        .with_context(|| format!("read {}", folder.display()))?;
    let named = canonical.file_name().and_then(|name| name.to_str());
    if let Some(id) = named.and_then(|name| name.parse().ok()) {
        return Ok(id);
    }
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("read {}", path.display()));
    let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("read {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.file_name()
                .and_then(|name| segment_number(name.to_str()?))
                .is_some()
        })
        .collect();
    names.sort();
    if let Some(first) = names.first() {
        let segment =
            Segment::open_truncated(read(first)?.into()).with_context(|| format!("{} is damaged", first.display()))?;
        return Ok(segment.header().recording);
    }
    let path = folder.join(MANIFEST);
    let manifest =
        deskreel_recording::Manifest::parse(&read(&path)?).with_context(|| format!("{} is damaged", path.display()))?;
    Ok(manifest.body().recording)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_segments_have_numbers() {
        assert_eq!(segment_number("00000012.mcap"), Some(12));
        for name in [
            "12.mcap",
            "00000012.mcap.tmp",
            "+0000012.mcap",
            "00000012mcap",
            "manifest.json",
            "",
        ] {
            assert_eq!(segment_number(name), None, "{name}");
        }
    }
}
