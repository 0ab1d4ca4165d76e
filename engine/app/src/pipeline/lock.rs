//! One engine a `data_dir`: a lock file that the operating system releases when the process ends, however it ends.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, bail};

const FILE_NAME: &str = "engine.lock";

/// The lock, held until it is dropped.
#[derive(Debug)]
pub(super) struct DataDirLock {
    _file: File,
}

impl DataDirLock {
    /// Takes the lock.
    ///
    /// # Errors
    /// Another engine that has it (its pid is in the message), a folder that can't be written.
    pub(super) fn take(data_dir: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(data_dir).with_context(|| format!("create data_dir {}", data_dir.display()))?;
        let path = data_dir.join(FILE_NAME);
        let mut file = OpenOptions::new()
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
                    "data_dir {} is in use by another deskreel (pid {})",
                    data_dir.display(),
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
        let lock = DataDirLock::take(folder.path()).unwrap();
        assert!(is_held(folder.path()));
        let error = DataDirLock::take(folder.path()).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", std::process::id())), "{error}");
        drop(lock);
        assert!(!is_held(folder.path()));
        DataDirLock::take(folder.path()).unwrap();
    }
}
