//! The reserve: disk space that is taken when there is enough and given up when there is none, so that a full disk can still
//! close every open recording. It is a file without a name, so that a killed engine leaves nothing of it.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::Spool;
use crate::private;

/// The reserve takes at most this part of the file system.
const SHARE_MAX: u64 = 16;
/// The name that it has for a moment.
const NAME: &str = ".reserve";

/// Space that is held, or should be.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    wanted: u64,
    held: Option<File>,
}

impl Reserve {
    pub(super) fn new(spool: &Path, bytes: u64) -> Self {
        let total = rustix::fs::statvfs(spool).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
        Self {
            path: spool.join(NAME),
            wanted: bytes.min(total / SHARE_MAX),
            held: None,
        }
    }

    fn take(&mut self) -> io::Result<()> {
        if self.held.is_some() || self.wanted == 0 {
            return Ok(());
        }
        let file = private::open_options()
            .write(true)
            .create(true)
            .truncate(true)
            .open(&self.path)?;
        fs::remove_file(&self.path)?;
        let taken = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, self.wanted);
        match taken.map_err(io::Error::from) {
            Ok(()) => {}
            // A file system that can't promise space gets it used.
            Err(error) if error.kind() == io::ErrorKind::Unsupported => fill(&file, self.wanted)?,
            Err(error) => return Err(error),
        }
        self.held = Some(file);
        Ok(())
    }
}

fn fill(mut file: &File, mut bytes: u64) -> io::Result<()> {
    let zeros = [0; 1 << 16];
    while bytes > 0 {
        let part = zeros.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
        file.write_all(zeros.get(..part).unwrap_or(&zeros))?;
        bytes -= part as u64;
    }
    file.sync_all()
}

/// Errors that may say that the disk, or what one may use of it, is full.
pub(in crate::pipeline) trait DiskFull {
    /// Whether this one does.
    fn is_disk_full(&self) -> bool;
}

impl DiskFull for io::Error {
    fn is_disk_full(&self) -> bool {
        matches!(self.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }
}

impl DiskFull for crate::catalog::Error {
    fn is_disk_full(&self) -> bool {
        Self::is_disk_full(self)
    }
}

impl Spool {
    /// Takes the reserve if it isn't held. False where there is no room for it.
    pub(super) fn take_reserve(&self) -> bool {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = reserve.take();
        if let Err(error) = &taken
            && !error.is_disk_full()
        {
            tracing::warn!(spool = %self.path.display(), %error, "no reserve (spool.reserve_bytes)");
        }
        reserve.held.is_some() || reserve.wanted == 0
    }

    /// Gives the reserve up. False when it isn't held.
    pub(super) fn give_up_reserve(&self) -> bool {
        let mut reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        let held = reserve.held.take().is_some();
        if held {
            tracing::error!(
                spool = %self.path.display(), bytes = reserve.wanted,
                "the disk is full: giving up the reserve to close recordings (spool.reserve_bytes)"
            );
        }
        held
    }

    /// How large the reserve is, or should be.
    pub(super) fn reserve_bytes(&self) -> u64 {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner).wanted
    }

    /// Whether the reserve is held.
    pub(super) fn has_reserve(&self) -> bool {
        let reserve = self.reserve.lock().unwrap_or_else(PoisonError::into_inner);
        reserve.held.is_some() || reserve.wanted == 0
    }

    /// Tries again without the reserve when the disk is full, also when another thread has just given it up.
    pub(in crate::pipeline) fn or_give_up_reserve<T, E: DiskFull>(
        &self,
        mut attempt: impl FnMut() -> Result<T, E>,
    ) -> Result<T, E> {
        let held = self.has_reserve();
        match attempt() {
            Err(error) if held && error.is_disk_full() => {
                self.give_up_reserve();
                attempt()
            }
            result => result,
        }
    }
}
