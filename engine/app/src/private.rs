//! Files and folders of the gateway's own: for the account that it runs as, and nobody else.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::Path;

const FOLDER: u32 = 0o700;
const FILE: u32 = 0o600;
/// What group and others may do.
const OTHERS: u32 = 0o077;

/// Makes a folder, and those above it that are missing. One that is there keeps its mode: its owner chose it.
///
/// # Errors
/// The disk's.
pub(crate) fn create_dir_all(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(FOLDER).create(path)
}

/// Makes one folder.
///
/// # Errors
/// The disk's, `AlreadyExists` among them.
pub(crate) fn create_dir(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(FOLDER).create(path)
}

/// How a file is made: add what is to be done with it.
pub(crate) fn open_options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(FILE);
    options
}

/// Makes an empty private file if there is none; one that is there is restricted, and never opened.
///
/// # Errors
/// The disk's; a file of somebody else that others may read.
pub(crate) fn ensure_file(path: &Path) -> io::Result<()> {
    match open_options().write(true).create_new(true).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => restrict_if_there(path),
        Err(error) => Err(error),
    }
}

/// Takes a file from group and others; one that doesn't exist is fine. The file is never opened: closing it would drop
/// the locks that this process has on it by way of SQLite (POSIX).
///
/// # Errors
/// The disk's; a file of somebody else that others may read.
pub(crate) fn restrict_if_there(path: &Path) -> io::Result<()> {
    let mode = match fs::metadata(path) {
        Ok(metadata) => metadata.permissions().mode(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if mode & OTHERS == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode & !OTHERS & 0o777))
}

/// What root makes in another account's folder must belong to that account, or the gateway can't use it.
///
/// # Errors
/// The disk's.
pub(crate) fn give_to_owner_of(folder: &Path, path: &Path) -> io::Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Ok(());
    }
    let owner = fs::metadata(folder)?;
    chown(path, Some(owner.uid()), Some(owner.gid()))
}

/// The mode of a folder that group or others may enter, list or write; `None` if it is private.
pub(crate) fn open_to_others(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & OTHERS != 0).then_some(mode)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn made_for_the_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("a/b");
        create_dir_all(&inner).unwrap();
        create_dir_all(&inner).unwrap();
        create_dir(&inner.join("c")).unwrap();
        for path in ["a", "a/b", "a/b/c"] {
            assert_eq!(mode(&folder.path().join(path)), 0o700, "{path}");
        }
        let file = inner.join("file");
        ensure_file(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
    }

    #[test]
    fn files_of_an_older_version_are_taken_from_others_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        fs::write(&file, "content").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
        ensure_file(&file).unwrap();
        assert_eq!(
            (mode(&file), fs::read_to_string(&file).unwrap().as_str()),
            (0o600, "content")
        );
        fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
        restrict_if_there(&file).unwrap();
        assert_eq!(mode(&file), 0o600);
        restrict_if_there(&folder.path().join("none")).unwrap();
        assert!(!folder.path().join("none").exists());

        // A folder keeps the mode that its owner gave it.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        create_dir_all(folder.path()).unwrap();
        assert_eq!(open_to_others(folder.path()), Some(0o750));
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(open_to_others(folder.path()), None);
    }
}
