//! Files that appear whole, once, and durably.
//!
//! The order is: write a temporary file, fsync it, give it its name unless that is taken, fsync the folder and, where that was
//! not done before, the folders above it. Temporary files lie
//! in one folder of their own, so that leftovers of a crash are found without a walk over everything.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind as Io, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use deskreel_sdk::prelude::*;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::root::Root;

/// The folder of temporary files. Not a key, by its first character.
pub(crate) const TEMPORARY: &str = "~tmp";
/// Temporary files of this age belong to nobody any more: no put takes as long.
const LEFTOVER_AGE: Duration = Duration::from_hours(24);
/// Attempts at a name whose folders go away meanwhile (a deletion takes empty ones along).
const ATTEMPTS: u32 = 100;
const COPY_BYTES: usize = 256 << 10;

/// What to write.
pub(crate) enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a File),
}

impl Source<'_> {
    fn size(&self) -> io::Result<u64> {
        match self {
            Self::Bytes(bytes) => Ok(bytes.len() as u64),
            Self::File(file) => Ok(file.metadata()?.len()),
        }
    }

    fn write_to(&self, to: &mut File) -> io::Result<()> {
        match self {
            Self::Bytes(bytes) => to.write_all(bytes),
            Self::File(file) => {
                let mut from: &File = file;
                from.rewind()?;
                io::copy(&mut from, to).map(drop)
            }
        }
    }

    /// Whether a file that is there has these bytes.
    fn equals(&self, there: &mut File) -> io::Result<bool> {
        match self {
            Self::Bytes(bytes) => Ok(there.metadata()?.len() == bytes.len() as u64 && same(*bytes, there)?),
            Self::File(file) => {
                let mut from: &File = file;
                from.rewind()?;
                Ok(there.metadata()?.len() == from.metadata()?.len() && same(from, there)?)
            }
        }
    }
}

fn same(mut left: impl io::Read, right: &mut File) -> io::Result<bool> {
    let (mut ours, mut theirs) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    loop {
        let length = fill(&mut left, &mut ours)?;
        if fill(right, &mut theirs)? != length || ours[..length] != theirs[..length] {
            return Ok(false);
        }
        if length == 0 {
            return Ok(true);
        }
    }
}

fn fill(from: &mut impl io::Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while let Some(rest) = buffer.get_mut(length..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == Io::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}

/// Stores an object; see [`Storage::put`].
pub(crate) fn put(root: &Root, key: &Key, source: &Source<'_>) -> Result<()> {
    root.ensure_same()?;
    let path = root.find(key);
    let folder = path.parent().unwrap_or(root.path());
    if path.symlink_metadata().is_ok() {
        return settle(root, &path, folder, source);
    }
    root.ensure_room(source.size()?)?;
    let mut temporary = Temporary::new(root)?;
    source.write_to(&mut temporary.file)?;
    temporary.file.sync_all()?;
    for _ in 0..ATTEMPTS {
        // Again: between the first look and the temporary file it may have changed. From here on the open file keeps its file
        // system mounted.
        root.ensure_same()?;
        root.make_folders(folder)?;
        match rename_new(&temporary.path, &path) {
            Ok(()) => {
                temporary.renamed = true;
                return root.settle_folder(folder);
            }
            Err(error) if error.kind() == Io::AlreadyExists => return settle(root, &path, folder, source),
            Err(error) if error.kind() == Io::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::new(
        ErrorKind::Interrupted,
        "its folder is deleted again and again",
    ))
}

/// The name is taken: the same bytes are a success, and as durable as if written now.
fn settle(root: &Root, path: &Path, folder: &Path, source: &Source<'_>) -> Result<()> {
    let mut there = match File::open(path) {
        // Deleted in between: the engine tries again.
        Err(error) if error.kind() == Io::NotFound => {
            return Err(Error::new(ErrorKind::Interrupted, "deleted meanwhile"));
        }
        there => there?,
    };
    if !there.metadata()?.is_file() {
        return Err(Error::invalid_input("the key is a folder of other keys"));
    }
    if !source.equals(&mut there)? {
        return Err(Error::new(
            ErrorKind::AlreadyExists,
            "an object with other bytes is there",
        ));
    }
    there.sync_all()?;
    root.settle_folder(folder)
}

/// Renames unless the new name exists.
fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // A file system without this flag: a hard link doesn't replace either.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            fs::hard_link(from, to)?;
            fs::remove_file(from)
        }
        outcome => outcome.map_err(io::Error::from),
    }
}

struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    fn new(root: &Root) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = root.path().join(TEMPORARY);
        let nanos = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos());
        let name = format!(
            "{}-{nanos:x}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = folder.join(name);
        let create = || OpenOptions::new().write(true).create_new(true).mode(0o640).open(&path);
        let file = match create() {
            Err(error) if error.kind() == Io::NotFound => {
                root.make_folders(&folder)?;
                create()
            }
            file => file,
        };
        Ok(Self {
            file: file.with_context(|| path.display().to_string())?,
            path,
            renamed: false,
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // What stays is removed when it is old.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes temporary files that a crash left. Failing to is no reason not to work.
pub(crate) fn remove_leftovers(root: &Root) {
    let Ok(entries) = fs::read_dir(root.path().join(TEMPORARY)) else {
        return;
    };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|facts| facts.modified())
            .ok()
            .and_then(|modified| modified.elapsed().ok());
        if age.is_some_and(|age| age > LEFTOVER_AGE) && fs::remove_file(entry.path()).is_ok() {
            tracing_removed(&entry.path());
        }
    }
}

fn tracing_removed(path: &Path) {
    deskreel_sdk::tracing::info!(path = %path.display(), "removed a temporary file that a crash had left");
}

/// Whether a file can be written, made durable and removed.
pub(crate) fn probe(root: &Root) -> Result<()> {
    root.ensure_same()?;
    root.ensure_room(0)?;
    let mut temporary = Temporary::new(root)?;
    temporary.file.write_all(b"deskreel")?;
    temporary.file.sync_all()?;
    fs::remove_file(&temporary.path)?;
    temporary.renamed = true;
    Ok(())
}
