//! The folder of the objects: that it is still the one that was opened, and which folders below it are durable.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind as Io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deskreel_sdk::prelude::*;

/// Mode of folders that are made, before the umask.
const FOLDER_MODE: u32 = 0o750;
/// Of a file system this much is left free, where the settings don't say how much.
const MIN_FREE_PER_CENT: u64 = 1;
/// The most of it.
const MIN_FREE_MAX_BYTES: u64 = 1 << 30;
/// How many characters of a recording's id name the folder that it is in. The ids begin with their time, so that is a new folder
/// every four and a half hours, and the order of the folders is that of the keys.
const SHARD_CHARACTERS: usize = 6;
/// How many folders are remembered as durable. When it is reached all are forgotten and synced once more.
const DURABLE_MAX: usize = 4096;

/// The folder of the objects.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    identity: Identity,
    min_free_bytes: Option<u64>,
    /// Folders whose entry in the folder above is on the disk, as are those of all folders above it.
    durable: Mutex<HashSet<PathBuf>>,
}

/// Which folder a path names: where a file system isn't mounted, the same path names another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Opened, not only looked at: that mounts what an automounter holds ready.
    fn of(path: &Path) -> std::io::Result<Self> {
        let facts = File::open(path)?.metadata()?;
        if !facts.is_dir() {
            return Err(Io::NotADirectory.into());
        }
        Ok(Self {
            device: facts.dev(),
            inode: facts.ino(),
        })
    }
}

impl Root {
    /// Makes the folder if it is missing, durably, and remembers which one it is.
    pub(crate) fn open(path: PathBuf, min_free_bytes: Option<u64>) -> Result<Self> {
        let missing: Vec<&Path> = path.ancestors().take_while(|folder| !folder.exists()).collect();
        DirBuilder::new()
            .recursive(true)
            .mode(FOLDER_MODE)
            .create(&path)
            .with_context(|| format!("path: make the folder {}", path.display()))?;
        for made in missing {
            sync_folder(parent_of(made))?;
        }
        let identity = Identity::of(&path).with_context(|| format!("path: {}", path.display()))?;
        Ok(Self {
            path,
            identity,
            min_free_bytes,
            durable: Mutex::new(HashSet::new()),
        })
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the files of an object may be: where it is put now, and where versions put it that did not shard.
    pub(crate) fn places(&self, key: &Key) -> impl Iterator<Item = PathBuf> {
        let below = shard(key).map(|shard| self.path.join(shard).join(key.as_str()));
        below.into_iter().chain([self.path.join(key.as_str())])
    }

    /// Where an object's file is, or will be if there is none.
    pub(crate) fn find(&self, key: &Key) -> PathBuf {
        let mut places = self.places(key);
        let first = places.next().unwrap_or_else(|| self.path.clone());
        match places.next() {
            Some(old) if fs::symlink_metadata(&first).is_err() && old.is_file() => old,
            _ => first,
        }
    }

    /// Refuses to use the last of the file system.
    pub(crate) fn ensure_room(&self, bytes: u64) -> Result<()> {
        let facts = rustix::fs::statvfs(&self.path)
            .map_err(std::io::Error::from)
            .with_context(|| self.path.display().to_string())?;
        let size = |blocks: u64| blocks.saturating_mul(facts.f_frsize);
        let share = (size(facts.f_blocks) / 100 * MIN_FREE_PER_CENT).min(MIN_FREE_MAX_BYTES);
        let (free, reserve) = (size(facts.f_bavail), self.min_free_bytes.unwrap_or(share));
        if free.saturating_sub(bytes) >= reserve {
            return Ok(());
        }
        let message = format!("{free} bytes are free, {reserve} are to stay free (setting `min_free`)");
        Err(Error::new(ErrorKind::NoSpace, message))
    }

    /// Refuses to work in another folder than the one that was opened: below a mount point whose file system isn't mounted,
    /// objects would land on the wrong disk and seem to be missing.
    pub(crate) fn ensure_same(&self) -> Result<()> {
        let why = match Identity::of(&self.path) {
            Ok(identity) if identity == self.identity => return Ok(()),
            Ok(_) => "is another one than at the start: is its file system mounted?",
            // Not made here again, for the same reason.
            Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => "is gone",
            Err(error) => return Err(Error::from(error).with_context(self.path.display())),
        };
        let message = format!("the folder {} {why}", self.path.display());
        Err(Error::new(ErrorKind::Unavailable, message))
    }

    /// Makes a folder below the root and those above it. They are durable after [`Self::settle_folder`].
    pub(crate) fn make_folders(&self, folder: &Path) -> Result<()> {
        if folder == self.path || folder.is_dir() {
            return Ok(());
        }
        self.make_folders(folder.parent().unwrap_or(&self.path))?;
        match DirBuilder::new().mode(FOLDER_MODE).create(folder) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == Io::AlreadyExists && folder.is_dir() => Ok(()),
            Err(error) if matches!(error.kind(), Io::AlreadyExists | Io::NotADirectory) => {
                Err(Error::invalid_input("a part of the key is an object itself"))
            }
            // The parent went away: the caller tries again.
            Err(error) if error.kind() == Io::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Makes the names in a folder durable, and the folder's own name and those above it, up to the root. Whoever finds a folder
    /// can't know that its maker has done so: it may have been killed in between.
    pub(crate) fn settle_folder(&self, folder: &Path) -> Result<()> {
        sync_folder(folder)?;
        // Held while syncing: nobody removes a folder between the look at it and the note that it is durable.
        let mut durable = self.durable();
        let mut settled = Vec::new();
        for above in folder.ancestors().take_while(|above| *above != self.path) {
            if durable.contains(above) {
                break;
            }
            settled.extend(above.is_dir().then(|| above.to_owned()));
            sync_folder(parent_of(above))?;
        }
        if durable.len() >= DURABLE_MAX {
            durable.clear();
        }
        durable.extend(settled);
        Ok(())
    }

    /// After a deletion: makes it durable and removes the folders that it emptied.
    pub(crate) fn forget_empty_folders(&self, path: &Path) -> Result<()> {
        let mut left = self.path.as_path();
        let mut durable = self.durable();
        for folder in path.ancestors().skip(1).take_while(|folder| *folder != self.path) {
            if fs::remove_dir(folder).is_err() {
                left = folder;
                break;
            }
            durable.remove(folder);
        }
        drop(durable);
        sync_folder(left)
    }

    fn durable(&self) -> MutexGuard<'_, HashSet<PathBuf>> {
        // At worst a folder is synced once more.
        self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The folder of an object of a recording. Not a key, by its first character.
fn shard(key: &Key) -> Option<String> {
    let mut parts = key.parts();
    let id = parts.next().filter(|part| is_id(part))?;
    parts.next()?;
    Some(format!("~{}", id.get(..SHARD_CHARACTERS)?))
}

/// What the keys in a folder of the root start with, if it is one that shards.
pub(crate) fn of_shard(name: &str) -> Option<&str> {
    let start = name.strip_prefix('~')?;
    (start.len() == SHARD_CHARACTERS && start.bytes().all(is_digit)).then_some(start)
}

/// Whether a text is a recording's id, `8-4-4-4-12` hex digits.
pub(crate) fn is_id(text: &str) -> bool {
    let groups = text.split('-').map(str::len);
    groups.eq([8, 4, 4, 4, 12]) && text.bytes().all(|byte| byte == b'-' || is_digit(byte))
}

fn is_digit(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

fn parent_of(folder: &Path) -> &Path {
    match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => folder,
    }
}

fn sync_folder(folder: &Path) -> Result<()> {
    #[cfg(test)]
    SYNCED.with_borrow_mut(|synced| synced.push(folder.to_owned()));
    match File::open(folder).and_then(|folder| folder.sync_all()) {
        // A deletion took the folder along, so there is nothing left to make durable.
        Err(error) if error.kind() == Io::NotFound => Ok(()),
        outcome => outcome.with_context(|| format!("fsync {}", folder.display())),
    }
}

#[cfg(test)]
thread_local! {
    /// The folders that this thread has synced: what fsync did shows only after a power cut.
    pub(crate) static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
}
