//! The spool: the local durable waiting room. One folder a recording:
//!
//! ```text
//! <spool>/<recording id>/00000007.open     the open segment, appended, synced about once a second
//! <spool>/<recording id>/00000006.mcap     sealed, not yet at every storage
//! <spool>/<recording id>/manifest.json     the recording is closed
//! ```
//! A name without `.open` or a leading dot means: whole, synced, never changed again.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use uuid::Uuid;

use super::delivery::ObjectId;
use crate::catalog::Object;
use crate::private;

/// Bytes of the spool that are kept for closing recordings when it is full.
const RESERVE_BYTES: u64 = 16 << 20;
/// Attempts at a file whose folder goes away meanwhile: whoever removes its last file takes the folder along.
const ATTEMPTS: u32 = 100;

/// The spool. All functions block on the disk.
#[derive(Debug)]
pub(super) struct Spool {
    path: PathBuf,
    max_bytes: u64,
    min_free_bytes: u64,
    used: AtomicU64,
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
    pub(super) fn open(path: &Path, max_bytes: u64, min_free_bytes: u64) -> io::Result<Self> {
        private::create_dir_all(path)?;
        let spool = Self {
            path: path.to_owned(),
            max_bytes,
            min_free_bytes,
            used: AtomicU64::new(0),
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
        Ok(spool)
    }

    /// Whether new bytes may be added; what closes a recording always may.
    ///
    /// # Errors
    /// Which limit is reached, as text.
    pub(super) fn room(&self) -> Result<(), String> {
        let used = self.used.load(Ordering::Relaxed);
        if used.saturating_add(RESERVE_BYTES) > self.max_bytes.max(RESERVE_BYTES * 2) {
            return Err(format!(
                "{} is full: {used} bytes wait there, spool.max_bytes is {}",
                self.path.display(),
                self.max_bytes
            ));
        }
        let disk = rustix::fs::statvfs(&self.path).map_err(|error| format!("{}: {error}", self.path.display()))?;
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        if free < self.min_free_bytes {
            return Err(format!(
                "{}: the disk has {free} bytes left, spool.min_free_bytes is {}",
                self.path.display(),
                self.min_free_bytes
            ));
        }
        Ok(())
    }

    /// Begins an open segment.
    ///
    /// # Errors
    /// Disk errors; a segment with this number that exists already.
    pub(super) fn begin(self: &Arc<Self>, recording: Uuid, number: u32) -> io::Result<OpenSegment> {
        let path = self.folder(recording).join(open_name(number));
        let create = || private::open_options().append(true).create_new(true).open(&path);
        let file = self.in_folder(recording, create)?;
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
        let mut file = self.in_folder(id.recording, create)?;
        let written = file
            .write_all(bytes)
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&temporary, &path));
        if let Err(error) = written {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
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

/// The open segment of a running session.
#[derive(Debug)]
pub(super) struct OpenSegment {
    spool: Arc<Spool>,
    id: ObjectId,
    file: File,
    path: PathBuf,
    length: u64,
}

impl OpenSegment {
    /// How many bytes were appended.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Appends and makes it durable. After an error nothing is known of what was appended since the last success: what is
    /// appended then may be lost though the disk calls it durable, so the segment has to be written anew.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        let added = match &written {
            Ok(()) => bytes.len() as u64,
            // A part of them, perhaps.
            Err(_) => fs::metadata(&self.path).map_or(0, |file| file.len().saturating_sub(self.length)),
        };
        self.length += added;
        self.spool.used.fetch_add(added, Ordering::Relaxed);
        written.and_then(|()| self.file.sync_data())
    }

    /// From now on writing seems to work and making it durable fails.
    #[cfg(test)]
    pub(super) fn fail_to_sync(&mut self) {
        // Takes everything, and can't be synced.
        self.file = File::options()
            .write(true)
            .open("/dev/null")
            .unwrap_or_else(|error| panic!("{error}"));
    }

    /// Appends the rest and gives the segment its final name; durable when this returns.
    ///
    /// # Errors
    /// Disk errors.
    pub(super) fn seal(mut self, rest: &[u8]) -> io::Result<()> {
        self.append(rest)?;
        self.file.sync_all()?;
        fs::rename(&self.path, self.spool.file(self.id))?;
        sync_folder(&self.spool.folder(self.id.recording))
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
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const RECORDING: Uuid = Uuid::from_u128(7);

    fn segment(number: u32) -> ObjectId {
        ObjectId {
            recording: RECORDING,
            object: Object::Segment(number),
        }
    }

    fn manifest() -> ObjectId {
        ObjectId {
            recording: RECORDING,
            object: Object::Manifest,
        }
    }

    #[test]
    fn an_open_segment_becomes_a_sealed_one() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(folder.path(), 1 << 30, 0).unwrap());
        let mut open = spool.begin(RECORDING, 3).unwrap();
        open.append(b"abc").unwrap();
        assert_eq!(
            spool.look(RECORDING).unwrap(),
            Found {
                open: vec![3],
                sealed: vec![]
            }
        );
        assert_eq!(spool.read_open(RECORDING, 3).unwrap(), "abc");
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let inside = folder.path().join(RECORDING.to_string());
        assert_eq!((mode(&inside), mode(&inside.join("00000003.open"))), (0o700, 0o600));
        spool.write(manifest(), b"{}").unwrap();
        assert_eq!(mode(&inside.join("manifest.json")), 0o600);
        spool.remove(manifest()).unwrap();
        assert!(spool.begin(RECORDING, 3).is_err(), "never two writers");
        open.seal(b"def").unwrap();
        assert_eq!(
            spool.look(RECORDING).unwrap(),
            Found {
                open: vec![],
                sealed: vec![(Object::Segment(3), 6)]
            }
        );
        assert_eq!(spool.read(segment(3)).unwrap(), "abcdef");
        spool.remove(segment(3)).unwrap();
        spool.remove(segment(3)).unwrap();
        spool.remove_folder(RECORDING).unwrap();
        assert!(spool.recordings().unwrap().is_empty());
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
    }

    /// The courier takes the folder along with the last file in it, at any moment of a running session.
    #[test]
    fn a_folder_that_is_removed_meanwhile_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(folder.path(), 1 << 30, 0).unwrap());
        let over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    spool.remove_folder(RECORDING).unwrap();
                    // without a pause it stands in the kernel's queue for the folder's lock, and every attempt loses
                    std::thread::sleep(std::time::Duration::from_micros(100));
                }
            });
            for number in 0..300 {
                let begun = spool.begin(RECORDING, number).map(|mut open| open.append(b"a"));
                let removed = spool.remove_open(RECORDING, number);
                let written = spool.write(segment(number), b"b");
                let gone = spool.remove(segment(number));
                if begun.is_err() || written.is_err() || removed.is_err() || gone.is_err() {
                    over.store(true, Ordering::Relaxed);
                }
                begun.unwrap().unwrap();
                removed.unwrap();
                written.unwrap();
                gone.unwrap();
            }
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(spool.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn half_written_objects_are_gone_after_a_restart_and_foreign_files_stay() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(folder.path(), 1 << 30, 0).unwrap());
        spool.write(segment(0), b"whole").unwrap();
        spool.write(manifest(), b"{}").unwrap();
        let inside = folder.path().join(RECORDING.to_string());
        fs::write(inside.join(".00000001.mcap"), "half").unwrap();
        fs::write(inside.join("notes.txt"), "an operator's").unwrap();
        fs::write(folder.path().join("lost+found"), "").unwrap();
        let again = Spool::open(folder.path(), 1 << 30, 0).unwrap();
        let found = again.look(RECORDING).unwrap();
        assert_eq!(found.sealed, [(Object::Segment(0), 5), (Object::Manifest, 2)]);
        assert!(inside.join("notes.txt").exists() && !inside.join(".00000001.mcap").exists());
        again.remove(segment(0)).unwrap();
        again.remove(manifest()).unwrap();
        again.remove_folder(RECORDING).unwrap();
        assert!(inside.exists(), "what isn't ours keeps the folder");
    }

    #[test]
    fn limits_are_named_when_reached() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 64 << 20, 0).unwrap();
        spool.room().unwrap();
        spool.write(segment(0), &vec![0; 49 << 20]).unwrap();
        assert!(spool.room().unwrap_err().contains("spool.max_bytes"));
        // Replacing does not count twice, and what is removed no longer counts.
        spool.write(segment(0), b"small").unwrap();
        spool.room().unwrap();
        let spool = Spool::open(folder.path(), 64 << 20, u64::MAX).unwrap();
        assert!(spool.room().unwrap_err().contains("spool.min_free_bytes"));
    }

    #[test]
    fn an_unreadable_open_segment_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Arc::new(Spool::open(folder.path(), 1 << 30, 0).unwrap());
        spool.begin(RECORDING, 0).unwrap().append(b"junk").unwrap();
        let aside = spool.set_aside(RECORDING, 0).unwrap();
        assert_eq!(fs::read(aside).unwrap(), b"junk");
        assert_eq!(spool.look(RECORDING).unwrap(), Found::default());
    }
}
