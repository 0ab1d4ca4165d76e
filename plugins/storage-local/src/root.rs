//! The folder of the objects: that it is still the one that was opened, and which folders below it are durable.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind as Io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deskreel_sdk::prelude::*;

/// Mode of folders that are made, before the umask.
const FOLDER_MODE: u32 = 0o750;
/// How many folders are remembered as durable. When it is reached all are forgotten and synced once more.
const DURABLE_MAX: usize = 4096;

/// The folder of the objects.
#[derive(Debug)]
pub(crate) struct Root {
    path: PathBuf,
    identity: Identity,
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
    pub(crate) fn open(path: PathBuf) -> Result<Self> {
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
            durable: Mutex::new(HashSet::new()),
        })
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Where an object's file is.
    pub(crate) fn file(&self, key: &Key) -> PathBuf {
        self.path.join(key.as_str())
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
    pub(crate) fn forget_empty_folders(&self, key: &Key) -> Result<()> {
        let path = self.file(key);
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
