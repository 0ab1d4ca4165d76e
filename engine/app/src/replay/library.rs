//! Where objects are read back from, and which place is asked first.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_sdk::{Error, ErrorKind};
use uuid::Uuid;

use super::objects::{Known, Objects};
use crate::pipeline::Storage;

/// So long after a failure a place is asked last.
const FAILING_FOR: Duration = Duration::from_secs(30);

/// One place that may hold objects of a recording.
#[derive(Clone)]
pub(crate) enum Place {
    /// A configured storage.
    Storage(Arc<dyn Storage>),
    /// A spool: one folder a recording.
    Spool(PathBuf),
    /// A folder that holds the objects of one recording: segments and manifest by their file names.
    Folder(PathBuf),
}

/// A place, and how it did lately.
pub(super) struct Shelf {
    place: Place,
    standing: Mutex<Standing>,
}

#[derive(Default)]
struct Standing {
    failed: Option<Instant>,
    /// A moving average of how long a read takes.
    latency: Option<Duration>,
}

/// All places that this engine reads back from. Objects leave the spool when a storage has them, so the spool is asked
/// first: asked afterwards, it may have nothing any more. Then come storages on this machine, then the others, the
/// quickest first; one that failed within the last 30 seconds is asked last.
pub(crate) struct Library {
    shelves: Vec<Arc<Shelf>>,
}

impl Library {
    /// The spool, and storages in the order of the configuration.
    pub(crate) fn new(spool: &Path, storages: Vec<Arc<dyn Storage>>) -> Arc<Self> {
        let spool = Place::Spool(spool.to_owned());
        let places = std::iter::once(spool).chain(storages.into_iter().map(Place::Storage));
        Arc::new(Self {
            shelves: places.map(Shelf::new).collect(),
        })
    }

    /// The objects of one recording. `known`: what is known of their digests.
    pub(crate) fn objects(&self, recording: Uuid, known: Known) -> Arc<Objects> {
        Arc::new(Objects::new(recording, self.shelves.clone(), known))
    }
}

impl Shelf {
    pub(super) fn new(place: Place) -> Arc<Self> {
        Arc::new(Self {
            place,
            standing: Mutex::default(),
        })
    }

    /// For messages.
    pub(super) fn name(&self) -> String {
        match &self.place {
            Place::Storage(storage) => format!("storage {}", storage.name()),
            Place::Spool(folder) | Place::Folder(folder) => folder.display().to_string(),
        }
    }

    /// Lower goes first.
    pub(super) fn rank(&self) -> (bool, u8, Duration) {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = standing.failed.is_some_and(|at| at.elapsed() < FAILING_FOR);
        match &self.place {
            Place::Spool(_) | Place::Folder(_) => (false, 0, Duration::ZERO),
            Place::Storage(storage) if storage.is_local() => (failing, 1, Duration::ZERO),
            // One that was never asked goes first, and is measured by that.
            Place::Storage(_) => (failing, 2, standing.latency.unwrap_or_default()),
        }
    }

    /// Whether it may take long to say that it has nothing.
    pub(super) fn is_far(&self) -> bool {
        matches!(&self.place, Place::Storage(storage) if !storage.is_local())
    }

    /// It did not answer, or with an error.
    pub(super) fn failed(&self) {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(Instant::now());
    }

    /// A whole object; `None` when it isn't there.
    pub(super) async fn get(&self, recording: Uuid, name: &str) -> Result<Option<Bytes>, String> {
        let begun = Instant::now();
        let found = match &self.place {
            Place::Storage(storage) => storage.get(format!("{recording}/{name}")).await,
            Place::Spool(root) => read(root.join(recording.to_string()).join(name)).await,
            Place::Folder(folder) => read(folder.join(name)).await,
        };
        self.judge(begun, found)
    }

    /// A part of an object; `None` when the object isn't there.
    pub(super) async fn get_range(
        &self,
        recording: Uuid,
        name: &str,
        range: std::ops::Range<u64>,
    ) -> Result<Option<Bytes>, String> {
        let begun = Instant::now();
        let found = match &self.place {
            Place::Storage(storage) => storage.get_range(format!("{recording}/{name}"), range).await,
            Place::Spool(_) | Place::Folder(_) => {
                let whole = self.get(recording, name).await?;
                return Ok(whole.map(|whole| super::objects::slice(&whole, &range)));
            }
        };
        self.judge(begun, found)
    }

    /// The names of a recording's objects.
    pub(super) async fn names(&self, recording: Uuid) -> anyhow::Result<Vec<String>> {
        let folder = match &self.place {
            Place::Storage(storage) => {
                let prefix = format!("{recording}/");
                let keys = storage.list(prefix.clone()).await?;
                return Ok(keys
                    .iter()
                    .filter_map(|key| Some(key.strip_prefix(&prefix)?.to_owned()))
                    .collect());
            }
            Place::Spool(root) => root.join(recording.to_string()),
            Place::Folder(folder) => folder.clone(),
        };
        tokio::task::spawn_blocking(move || list(&folder)).await?
    }

    fn judge(&self, begun: Instant, found: Result<Bytes, Error>) -> Result<Option<Bytes>, String> {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(bytes) => {
                standing.failed = None;
                let took = begun.elapsed();
                standing.latency = Some(standing.latency.map_or(took, |before| (before * 3 + took) / 4));
                Ok(Some(bytes))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => {
                standing.failed = Some(Instant::now());
                Err(error.to_string())
            }
        }
    }
}

async fn read(path: PathBuf) -> Result<Bytes, Error> {
    let shown = path.display().to_string();
    let read = tokio::task::spawn_blocking(move || std::fs::read(path)).await;
    let read = read.map_err(|error| Error::internal(error.to_string()))?;
    read.map(Bytes::from)
        .map_err(|error| Error::from(error).with_context(shown))
}

fn list(folder: &Path) -> anyhow::Result<Vec<String>> {
    use anyhow::Context as _;
    let what = || format!("read {}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        // The spool has no folder for what it has delivered.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(what),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.with_context(what)?.file_name().into_string());
    }
    Ok(names)
}
