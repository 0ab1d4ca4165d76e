//! How full the spool is.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::{Limits, Spool};

/// Of `max_bytes`, this part is kept for closing recordings when the rest is used up, ...
const CLOSING_SHARE: u64 = 4;
/// ... but no more than this.
const CLOSING_MAX_BYTES: u64 = 16 << 20;
/// With less than this left, whoever shares the disk with the spool (catalog, audit log) can't write either.
const NOTHING_LEFT_BYTES: u64 = 1 << 20;

/// How full the spool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    /// Bytes that wait in it.
    pub(crate) used_bytes: u64,
    /// Bytes that its file system has left.
    pub(crate) free_bytes: u64,
    /// How near the nearest limit is; 100 = reached.
    pub(crate) percent: u8,
    /// The configuration's name of the nearest limit.
    pub(crate) limit: &'static str,
}

impl Fill {
    fn new(used_bytes: u64, free_bytes: u64, limits: Limits) -> Self {
        let max_bytes = usable(limits.max_bytes);
        let of_max = percent(used_bytes, max_bytes);
        // At 80 % a quarter more than what must stay free is left, at 90 % a ninth more.
        let of_free = match limits.min_free_bytes {
            0 => 0,
            min_free => percent(min_free, free_bytes),
        };
        let (percent, limit) = if of_max >= of_free {
            (of_max, "spool.max_bytes")
        } else {
            (of_free, "spool.min_free_bytes")
        };
        Self {
            used_bytes,
            free_bytes,
            percent,
            limit,
        }
    }

    /// As the files in a spool's folder say it, for those who aren't its engine. `None`: it can't be read.
    pub(crate) fn of_folder(config: &deskreel_config::Spool) -> Option<Self> {
        let mut used = 0;
        for recording in fs::read_dir(&config.path).ok()?.flatten() {
            // A folder may vanish meanwhile, and what isn't one holds nothing.
            for object in fs::read_dir(recording.path()).into_iter().flatten().flatten() {
                used += object.metadata().map_or(0, |metadata| metadata.len());
            }
        }
        Some(Self::new(used, free_bytes(&config.path).ok()?, Limits::from(config)))
    }
}

/// What of `max_bytes` sessions may use.
fn usable(max_bytes: u64) -> u64 {
    max_bytes - (max_bytes / CLOSING_SHARE).min(CLOSING_MAX_BYTES)
}

fn percent(part: u64, whole: u64) -> u8 {
    if part >= whole {
        return 100;
    }
    u8::try_from(u128::from(part) * 100 / u128::from(whole.max(1))).unwrap_or(100)
}

fn free_bytes(path: &Path) -> io::Result<u64> {
    let disk = rustix::fs::statvfs(path)?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

impl Spool {
    /// Whether new bytes may be added; what closes a recording always may.
    ///
    /// # Errors
    /// Which limit is reached, as text.
    pub(in crate::pipeline) fn room(&self) -> Result<(), String> {
        if !self.has_reserve() {
            self.tend_reserve();
        }
        let fill = self
            .fill()
            .map_err(|error| format!("{}: {error}", self.path.display()))?;
        let (path, limits) = (self.path.display(), self.limits);
        let Fill {
            used_bytes, free_bytes, ..
        } = fill;
        if fill.percent >= 100 && fill.limit == "spool.max_bytes" {
            return Err(format!(
                "{path} is full: {used_bytes} bytes wait there, spool.max_bytes is {}",
                limits.max_bytes
            ));
        }
        if free_bytes < limits.min_free_bytes {
            return Err(format!(
                "{path}: the disk has {free_bytes} bytes left, spool.min_free_bytes is {}",
                limits.min_free_bytes
            ));
        }
        if !self.has_reserve() {
            return Err(format!(
                "{path}: the disk is full, and the reserve for closing recordings (spool.reserve_bytes) is used"
            ));
        }
        Ok(())
    }

    /// How full it is.
    ///
    /// # Errors
    /// The disk's.
    pub(in crate::pipeline) fn fill(&self) -> io::Result<Fill> {
        let used = self.used.load(Ordering::Relaxed);
        let mut fill = Fill::new(used, free_bytes(&self.path)?, self.limits);
        if !self.has_reserve() {
            fill.percent = 100;
            fill.limit = "spool.reserve_bytes";
        }
        Ok(fill)
    }

    /// Gives the reserve up where nothing else is left on the disk, and takes it again where there is room for it and for
    /// what must stay free.
    pub(in crate::pipeline) fn tend_reserve(&self) {
        let Ok(free) = free_bytes(&self.path) else { return };
        if free < NOTHING_LEFT_BYTES {
            self.give_up_reserve();
        } else if !self.has_reserve() {
            // Taken too soon, it would be given up at once, again and again, and each time there would seem to be room.
            let enough = self.reserve_bytes().saturating_mul(2);
            if free >= self.limits.min_free_bytes.saturating_add(enough) {
                self.take_reserve();
            }
        }
    }
}
