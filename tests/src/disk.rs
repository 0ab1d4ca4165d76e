//! Disks of one's own that fill up or hang. Only root may mount them.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use crate::process::run;
use crate::skip;

/// A mounted file system. Dropping it thaws it and takes it away, also from under those who still use it.
#[derive(Debug)]
pub struct Disk {
    mounted: PathBuf,
}

impl Disk {
    /// A disk of so many MiB in memory. `None`, and a line that says why, where this machine doesn't let one mount it.
    ///
    /// # Errors
    /// No folder can be made below `dir`.
    ///
    /// # Panics
    /// Instead of `None`, where a skip is a failure, see [`Peers::take`](crate::Peers::take).
    pub fn in_memory(dir: &Path, size: u64) -> anyhow::Result<Option<Self>> {
        Self::mount(dir, &["-t", "tmpfs", "-o", &format!("size={size}m"), "tmpfs"])
    }

    /// A disk of so many MiB that can be frozen. `None` as above.
    ///
    /// # Errors
    /// No file can be made below `dir`.
    ///
    /// # Panics
    /// As above.
    pub fn that_freezes(dir: &Path, size: u64) -> anyhow::Result<Option<Self>> {
        let image = dir.join("disk.img");
        File::create(&image)?.set_len(size << 20)?;
        let image = image.display().to_string();
        if let Err(error) = run("mkfs.ext4", &["-q", &image]) {
            skip(&format!("SKIPPED: {error:#}"));
            return Ok(None);
        }
        Self::mount(dir, &["-o", "loop", &image])
    }

    fn mount(dir: &Path, options: &[&str]) -> anyhow::Result<Option<Self>> {
        let mounted = dir.join("disk");
        fs::create_dir_all(&mounted)?;
        let place = mounted.display().to_string();
        if let Err(error) = run("mount", &[options, &[place.as_str()]].concat()) {
            skip(&format!(
                "SKIPPED: this machine doesn't let one mount a disk: {error:#}"
            ));
            return Ok(None);
        }
        Ok(Some(Self { mounted }))
    }

    /// Where it is mounted.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.mounted
    }

    fn filler(&self) -> PathBuf {
        self.mounted.join("filler")
    }

    /// Takes what is free now, to the last byte; what others give back meanwhile stays free.
    ///
    /// # Errors
    /// There is no room for the file that does it.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut file = File::options().append(true).create(true).open(self.filler())?;
        let disk = rustix::fs::statvfs(&self.mounted)?;
        let mut free = disk.f_bfree.saturating_mul(disk.f_frsize);
        for size in [1_u16 << 15, 1 << 12, 1] {
            while free >= u64::from(size) && file.write_all(&vec![1; usize::from(size)]).is_ok() {
                free -= u64::from(size);
            }
        }
        Ok(())
    }

    /// Gives back what [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// It is gone already.
    pub fn empty(&self) -> anyhow::Result<()> {
        fs::remove_file(self.filler()).context("empty the disk")
    }

    /// From now on whoever writes hangs, as with a disk that does not answer.
    ///
    /// # Errors
    /// The file system can't be frozen.
    pub fn freeze(&self) -> anyhow::Result<()> {
        run("fsfreeze", &["--freeze".as_ref(), self.mounted.as_os_str()]).map(drop)
    }

    /// The end of that: whoever hangs goes on.
    ///
    /// # Errors
    /// It isn't frozen.
    pub fn thaw(&self) -> anyhow::Result<()> {
        run("fsfreeze", &["--unfreeze".as_ref(), self.mounted.as_os_str()]).map(drop)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Err = it isn't frozen
        let _ = self.thaw();
        if let Err(error) = run("umount", &["--lazy".as_ref(), self.mounted.as_os_str()]) {
            eprintln!("{error:#}");
        }
    }
}
