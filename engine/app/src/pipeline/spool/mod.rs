//! The spool: the local durable waiting room. One folder a recording:
//!
//! ```text
//! <spool>/<recording id>/00000007.open     the open segment, appended, synced about once a second
//! <spool>/<recording id>/00000006.mcap     sealed, not yet at every storage
//! <spool>/<recording id>/manifest.json     the recording is closed
//! ```
//! A name without `.open` or a leading dot means: whole, synced, never changed again.

mod fill;
mod open_segment;
mod reserve;

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use uuid::Uuid;

use super::delivery::ObjectId;
use super::steps;
use crate::catalog::Object;
use crate::private;
pub(crate) use fill::Fill;
pub(super) use open_segment::OpenSegment;
use reserve::Reserve;

/// Attempts at a file whose folder goes away meanwhile: whoever removes its last file takes the folder along.
const ATTEMPTS: u32 = 100;

/// The spool. All functions block on the disk.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    limits: Limits,
    used: AtomicU64,
    reserve: Mutex<Reserve>,
    /// What the disk is to answer next.
    #[cfg(test)]
    troubles: Mutex<std::collections::VecDeque<io::Error>>,
}

/// How much the spool may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes of everything in it.
    pub(super) max_bytes: u64,
    /// Free bytes of the file system below which the spool counts as full.
    pub(super) min_free_bytes: u64,
    /// Bytes of the file system that are held ready to close recordings with.
    pub(super) reserve_bytes: u64,
}

impl From<&deskreel_config::Spool> for Limits {
    fn from(config: &deskreel_config::Spool) -> Self {
        Self {
            max_bytes: config.max_bytes,
            min_free_bytes: config.min_free_bytes,
            reserve_bytes: config.reserve_bytes,
        }
    }
}

/// What lies in the folder of one recording.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    /// Numbers of open segments (one, unless somebody meddled).
    pub(super) open: Vec<u32>,
    /// Sealed segments and the manifest, with their sizes.
    pub(super) sealed: Vec<(Object, u64)>,
}

impl Found {
    pub(super) fn has(&self, object: Object) -> bool {
        self.sealed.iter().any(|(sealed, _)| *sealed == object)
    }
}

impl Spool {
    /// Opens the spool, makes its folder, counts what is in it and removes half-written files.
    ///
    /// # Errors
    /// A folder that can't be made or read.
    pub(super) fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        private::create_dir_all(path)?;
        let spool = Self {
            path: path.to_owned(),
            limits,
            used: AtomicU64::new(0),
            reserve: Mutex::new(Reserve::new(path, limits.reserve_bytes)),
            #[cfg(test)]
            troubles: Mutex::default(),
        };
        let mut used = 0;
        for recording in spool.recordings()? {
            for entry in fs::read_dir(spool.folder(recording))? {
                let entry = entry?;
                if entry.file_name().to_string_lossy().starts_with('.') {
                    // Never got its name, so nothing counts on it.
                    fs::remove_file(entry.path())?;
                } else {
                    used += entry.metadata()?.len();
                }
            }
        }
        spool.used.store(used, Ordering::Relaxed);
        // Where there is no room for it now, there may be later; until then `room` says so.
        spool.take_reserve();
        Ok(spool)
    }

    /// Begins an open segment.
    ///
    /// # Errors
    /// Disk errors; a segment with this number that exists already.
    pub(super) fn begin(self: &Arc<Self>, recording: Uuid, number: u32) -> io::Result<OpenSegment> {
        let path = self.folder(recording).join(open_name(number));
        let create = || private::open_options().append(true).create_new(true).open(&path);
        let file = self.or_give_up_reserve(|| {
            self.trouble()?;
            self.in_folder(recording, create)
        })?;
        sync_folder(&self.folder(recording))?;
        Ok(OpenSegment {
            spool: Arc::clone(self),
            id: ObjectId {
                recording,
                object: Object::Segment(number),
            },
            file,
            path,
            length: 0,
        })
    }

    /// Writes a whole object; it is durable and has its name when this returns. The same object again is replaced.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn write(&self, id: ObjectId, bytes: &[u8]) -> io::Result<()> {
        let path = self.file(id);
        let temporary = self.folder(id.recording).join(format!(".{}", name(id.object)));
        let before = fs::metadata(&path).map_or(0, |metadata| metadata.len());
        let create = || {
            let mut options = private::open_options();
            options.write(true).create(true).truncate(true).open(&temporary)
        };
        let write = || {
            self.trouble()?;
            let mut file = self.in_folder(id.recording, create)?;
            let written = file.write_all(bytes).and_then(|()| file.sync_all());
            steps::reached("write: synced");
            let written = written.and_then(|()| fs::rename(&temporary, &path));
            steps::reached("write: named");
            written.inspect_err(|_| drop(fs::remove_file(&temporary)))
        };
        self.or_give_up_reserve(write)?;
        self.freed(before);
        self.used.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        sync_folder(&self.folder(id.recording))
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// Disk errors, `NotFound` among them.
    pub(super) fn read(&self, id: ObjectId) -> io::Result<Bytes> {
        fs::read(self.file(id)).map(Bytes::from)
    }

    /// Drops an object; one that is gone already is fine.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn remove(&self, id: ObjectId) -> io::Result<()> {
        self.remove_path(&self.file(id))
    }

    /// Removes the folder of a recording if nothing is in it any more.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn remove_folder(&self, recording: Uuid) -> io::Result<()> {
        match fs::remove_dir(self.folder(recording)) {
            Err(error) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// The recordings that have a folder, oldest first.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn recordings(&self) -> io::Result<Vec<Uuid>> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            if let Some(id) = entry?.file_name().to_str().and_then(|name| Uuid::try_parse(name).ok()) {
                found.push(id);
            }
        }
        found.sort_unstable();
        Ok(found)
    }

    /// What lies in the folder of a recording; nothing if there is none. Names that are not ours are left alone.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn look(&self, recording: Uuid) -> io::Result<Found> {
        let mut found = Found::default();
        let entries = match fs::read_dir(self.folder(recording)) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let entry = entry?;
            let file_name = entry.file_name();
            let Some(text) = file_name.to_str() else { continue };
            let number = |suffix| {
                let digits: &str = text.strip_suffix(suffix)?;
                (digits.len() >= 8).then(|| digits.parse::<u32>().ok()).flatten()
            };
            if text == "manifest.json" {
                found.sealed.push((Object::Manifest, entry.metadata()?.len()));
            } else if let Some(number) = number(".mcap") {
                found.sealed.push((Object::Segment(number), entry.metadata()?.len()));
            } else if let Some(number) = number(".open") {
                found.open.push(number);
            }
        }
        found.open.sort_unstable();
        found.sealed.sort_unstable();
        Ok(found)
    }

    /// The bytes of an open segment that a crash left.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn read_open(&self, recording: Uuid, number: u32) -> io::Result<Bytes> {
        fs::read(self.folder(recording).join(open_name(number))).map(Bytes::from)
    }

    /// Removes an open segment whose sealed form is durable, or that holds no whole event.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn remove_open(&self, recording: Uuid, number: u32) -> io::Result<()> {
        self.remove_path(&self.folder(recording).join(open_name(number)))
    }

    /// Puts an open segment aside that can't be closed, under a name that nothing touches again.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn set_aside(&self, recording: Uuid, number: u32) -> io::Result<PathBuf> {
        let folder = self.folder(recording);
        let aside = folder.join(format!("{number:08}.unreadable"));
        fs::rename(folder.join(open_name(number)), &aside)?;
        sync_folder(&folder)?;
        Ok(aside)
    }

    fn remove_path(&self, path: &Path) -> io::Result<()> {
        let length = match fs::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        fs::remove_file(path)?;
        self.freed(length);
        Ok(())
    }

    fn freed(&self, bytes: u64) {
        let less = |used: u64| Some(used.saturating_sub(bytes));
        let _ = self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What a test wants the disk to answer.
    fn trouble(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(error) = self
            .troubles
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .pop_front()
        {
            return Err(error);
        }
        Ok(())
    }

    /// The next writes fail so.
    #[cfg(test)]
    pub(super) fn make_trouble(&self, errors: impl IntoIterator<Item = io::Error>) {
        self.troubles
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .extend(errors);
    }

    /// Makes a file in the folder of a recording, and the folder first where there is none. The courier removes a folder
    /// that it has emptied at any moment, so what is there now may be gone when the file is made; with a file in it, the
    /// folder stays.
    fn in_folder(&self, recording: Uuid, create: impl Fn() -> io::Result<File>) -> io::Result<File> {
        let mut made = false;
        for attempt in 1.. {
            match private::create_dir(&self.folder(recording)) {
                Ok(()) => made = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            match create() {
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
                Ok(file) if made => return sync_folder(&self.path).map(|()| file),
                file => return file,
            }
        }
        Err(io::ErrorKind::NotFound.into())
    }

    fn folder(&self, recording: Uuid) -> PathBuf {
        self.path.join(recording.to_string())
    }

    fn file(&self, id: ObjectId) -> PathBuf {
        self.folder(id.recording).join(name(id.object))
    }
}

fn open_name(number: u32) -> String {
    format!("{number:08}.open")
}

fn name(object: Object) -> String {
    match object {
        Object::Segment(number) => format!("{number:08}.mcap"),
        Object::Manifest => "manifest.json".to_owned(),
    }
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
