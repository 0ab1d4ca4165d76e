//! One engine a `data_dir`, and one a spool: a lock file that the operating system releases when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::private;

const FILE_NAME: &str = "engine.lock";

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

impl FolderLock {
    /// Takes the lock on a folder, which is made if it is missing. `key` is its name in the configuration.
    ///
    /// # Errors
    /// Another engine that has it (its pid is in the message), a folder that can't be written.
    pub(crate) fn take(key: &str, folder: &Path) -> anyhow::Result<Self> {
        private::create_dir_all(folder).with_context(|| format!("create {key} {}", folder.display()))?;
        let path = folder.join(FILE_NAME);
        let mut file = private::open_options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut owner);
                bail!(
                    "{key} {} is in use by another deskreel (pid {})",
                    folder.display(),
                    owner.trim()
                );
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(|| format!("lock {}", path.display())),
        }
        // The pid is only for that message; the lock is what counts.
        let note = file
            .set_len(0)
            .and_then(|()| file.rewind())
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        note.with_context(|| format!("write {}", path.display()))?;
        Ok(Self { _file: file })
    }
}

/// Whether an engine has the lock right now.
pub(crate) fn is_held(data_dir: &Path) -> bool {
    let Ok(file) = File::open(data_dir.join(FILE_NAME)) else {
        return false;
    };
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn keeps_a_second_engine_out_until_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let lock = FolderLock::take("data_dir", folder.path()).unwrap();
        assert!(is_held(folder.path()));
        let error = FolderLock::take("data_dir", folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        assert!(!is_held(folder.path()));
        FolderLock::take("data_dir", folder.path()).unwrap();
    }
}
