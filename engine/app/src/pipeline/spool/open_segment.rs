//! The open segment of a running session: a file that grows.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Spool, sync_folder};
use crate::pipeline::delivery::ObjectId;
use crate::pipeline::steps;

/// The open segment of a running session.
#[derive(Debug)]
pub(in crate::pipeline) struct OpenSegment {
    pub(super) spool: Arc<Spool>,
    pub(super) id: ObjectId,
    pub(super) file: File,
    pub(super) path: PathBuf,
    pub(super) length: u64,
}

impl OpenSegment {
    /// How many bytes were appended.
    pub(in crate::pipeline) fn length(&self) -> u64 {
        self.length
    }

    /// Appends and makes it durable. After an error nothing is known of what was appended since the last success: what is
    /// appended then may be lost though the disk calls it durable, so the segment has to be written anew.
    ///
    /// # Errors
    /// Disk errors.
    pub(in crate::pipeline) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut written = 0;
        // When the disk is full, the reserve is given up and the rest follows.
        let result = self.spool.or_give_up_reserve(|| {
            while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
                self.spool.trouble()?;
                match self.file.write(rest) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(count) => written += count,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            steps::reached("append: written");
            self.file.sync_data()
        });
        steps::reached("append: synced");
        self.length += written as u64;
        self.spool.used.fetch_add(written as u64, Ordering::Relaxed);
        result
    }

    /// From now on writing seems to work and making it durable fails.
    #[cfg(test)]
    pub(in crate::pipeline) fn fail_to_sync(&mut self) {
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
    pub(in crate::pipeline) fn seal(mut self, rest: &[u8]) -> io::Result<()> {
        self.append(rest)?;
        self.file.sync_all()?;
        steps::reached("seal: synced");
        fs::rename(&self.path, self.spool.file(self.id))?;
        steps::reached("seal: named");
        sync_folder(&self.spool.folder(self.id.recording))
    }
}
