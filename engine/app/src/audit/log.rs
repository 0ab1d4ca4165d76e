//! The files of the log: `audit.jsonl`, which is written, and `audit-<last seq>.jsonl`, which were full. A line is an
//! event's JSON with two more members: `seq`, its number from 1 on, and `prev`, the SHA-256 of the line before it
//! (without its line feed; 64 zeros before the first). The chain goes on over all files.
//!
//! `head` repeats number and digest of the last line, so that lines removed from the end are missed, too. `lock` is what
//! writers lock. Everything is readable by its owner only.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use super::event::{Event, LogEvent, RemovedFile};
use super::files::{CURRENT, End, LOCK, LastLine, Tail, older, open, read_head, sha256, sync_folder, write_head};
use super::{Line, Scope, Stamp};
use crate::private;

/// Between two attempts to get the lock.
const LOCK_INTERVAL: Duration = Duration::from_millis(2);
/// Of a torn line, so much is kept in the event that tells of it.
const TORN_KEPT_BYTES: usize = 4 << 10;

/// Limits of the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// `audit.file_max_bytes`
    pub(super) file_max_bytes: u64,
    /// `audit.files_max`
    pub(super) files_max: usize,
    /// `recording.stall_max`: how long another process may hold the lock.
    pub(super) lock_wait_max: Duration,
}

/// A line as it stands in the log.
#[derive(Debug, Clone)]
pub(super) struct Written {
    pub(super) code: &'static str,
    /// Without the line feed.
    pub(super) text: String,
}

/// The log of one folder, open for writing.
#[derive(Debug)]
pub(super) struct Log {
    folder: PathBuf,
    rules: Rules,
    stamp: Stamp,
    lock: File,
    current: Option<Current>,
    tail: Tail,
}

#[derive(Debug)]
struct Current {
    file: File,
    inode: u64,
    size: u64,
}

impl Log {
    /// Makes the folder if there is none. Nothing is written yet.
    ///
    /// # Errors
    /// A folder or lock file that can't be made or opened.
    pub(super) fn open(folder: &Path, rules: Rules, stamp: Stamp) -> anyhow::Result<Self> {
        let parent = folder.parent().unwrap_or_else(|| Path::new("."));
        fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
        match DirBuilder::new().mode(0o700).create(folder) {
            Ok(()) => private::give_to_owner_of(parent, folder)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error).with_context(|| format!("create {}", folder.display())),
        }
        let path = folder.join(LOCK);
        let (lock, _) = open(&path, folder, false).with_context(|| format!("open {}", path.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            rules,
            stamp,
            lock,
            current: None,
            tail: Tail::genesis(),
        })
    }

    /// Appends events, all or none, and returns when they are durable.
    ///
    /// # Errors
    /// A lock that another process keeps, a disk that fails or is full, an end of the log that can't be read.
    pub(super) fn append(&mut self, lines: &[Line]) -> anyhow::Result<Vec<Written>> {
        self.take_lock()?;
        let appended = self.append_locked(lines);
        if appended.is_err() {
            // Look again what is there before the next attempt.
            self.current = None;
        }
        let unlocked = self.lock.unlock().context("unlock the audit log");
        let written = appended?;
        unlocked?;
        Ok(written)
    }

    fn append_locked(&mut self, lines: &[Line]) -> anyhow::Result<Vec<Written>> {
        let mut written = Vec::with_capacity(lines.len() + 1);
        let found = self.catch_up()?;
        if !found.is_empty() {
            self.put(&self.own(found), &mut written)?;
        }
        let bytes: usize = lines.iter().map(|line| line.body.len() + CHAIN_MAX_BYTES).sum();
        let size = self.current.as_ref().map_or(0, |current| current.size);
        if size > 0 && size + bytes as u64 > self.rules.file_max_bytes {
            self.rotate(&mut written)?;
        }
        self.put(lines, &mut written)?;
        Ok(written)
    }

    /// The log's own events as lines.
    fn own(&self, events: Vec<LogEvent>) -> Vec<Line> {
        let line = |event| self.stamp.line(&Scope::Node {}, &Event::Log(event));
        events.into_iter().map(line).collect()
    }

    pub(super) fn stamp(&self) -> &Stamp {
        &self.stamp
    }

    fn take_lock(&self) -> anyhow::Result<()> {
        let deadline = Instant::now() + self.rules.lock_wait_max;
        loop {
            match self.lock.try_lock() {
                Ok(()) => return Ok(()),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOCK_INTERVAL),
                Err(TryLockError::WouldBlock) => bail!(
                    "another process holds {} for longer than {:?} (recording.stall_max)",
                    self.folder.join(LOCK).display(),
                    self.rules.lock_wait_max
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("lock {}", self.folder.join(LOCK).display()));
                }
            }
        }
    }

    /// Finds the end of the log anew if another process wrote to it, and mends what a killed one left. Answers with what
    /// was found wrong.
    fn catch_up(&mut self) -> anyhow::Result<Vec<LogEvent>> {
        let path = self.folder.join(CURRENT);
        if let Some(current) = &self.current
            && let Ok(metadata) = fs::metadata(&path)
            && (metadata.ino(), metadata.len()) == (current.inode, current.size)
        {
            return Ok(Vec::new());
        }
        let (file, made) = open(&path, &self.folder, true).with_context(|| format!("open {}", path.display()))?;
        if made {
            sync_folder(&self.folder)?;
        }
        let metadata = file.metadata().with_context(|| format!("look at {}", path.display()))?;
        let end = End::of(&file).with_context(|| format!("read {}", path.display()))?;
        let mut found = Vec::new();
        if !end.torn.is_empty() {
            file.set_len(end.whole_bytes)
                .and_then(|()| file.sync_all())
                .with_context(|| format!("remove the torn line at the end of {}", path.display()))?;
            found.push(torn(&end.torn));
        }
        let last = match end.last {
            Some(last) => Some(last),
            None => self.last_of_older()?,
        };
        self.tail = self.agree(last, &mut found)?;
        self.current = Some(Current {
            file,
            inode: metadata.ino(),
            size: end.whole_bytes,
        });
        Ok(found)
    }

    /// The last line of the newest file that is full.
    fn last_of_older(&self) -> anyhow::Result<Option<LastLine>> {
        let Some((_, path)) = older(&self.folder)?.pop() else {
            return Ok(None);
        };
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let end = End::of(&file).with_context(|| format!("read {}", path.display()))?;
        Ok(end.last)
    }

    /// Where the chain goes on: after the last line, unless `head` knows of later ones.
    fn agree(&self, last: Option<LastLine>, found: &mut Vec<LogEvent>) -> anyhow::Result<Tail> {
        let head = read_head(&self.folder)?;
        let repaired = |message: &str| LogEvent::Repaired {
            message: message.to_owned(),
            torn: None,
            missing_from: None,
            missing_to: None,
        };
        let tail = match (last, head) {
            (None, None) => return Ok(Tail::genesis()),
            (Some(LastLine { tail: Some(tail), .. }), None) => {
                found.push(repaired("the file head was missing"));
                return Ok(tail);
            }
            (Some(LastLine { tail: None, .. }), None) => bail!(
                "the last line of the log in {} has no seq and the file head is missing: move the folder away",
                self.folder.display()
            ),
            (None, Some(head)) => (Tail::genesis(), head),
            (Some(LastLine { tail: Some(tail), .. }), Some(head)) => (tail, head),
            (Some(LastLine { tail: None, .. }), Some(head)) => {
                found.push(repaired("the last line is not as it was written"));
                return Ok(head);
            }
        };
        let (tail, head) = tail;
        if tail.seq > head.seq || tail == head {
            // A process was killed between the line and head, or nothing is wrong at all.
            return Ok(tail);
        }
        if tail.seq == head.seq {
            found.push(repaired("the last line is not as it was written"));
        } else {
            found.push(LogEvent::Repaired {
                message: "lines are missing at the end".to_owned(),
                torn: None,
                missing_from: Some(tail.seq + 1),
                missing_to: Some(head.seq),
            });
        }
        Ok(head)
    }

    /// Gives the full file its name, begins the next one and removes the oldest.
    fn rotate(&mut self, written: &mut Vec<Written>) -> anyhow::Result<()> {
        let name = format!("audit-{:012}.jsonl", self.tail.seq);
        let (path, full) = (self.folder.join(CURRENT), self.folder.join(&name));
        if full.exists() {
            bail!("{} is in the way", full.display());
        }
        fs::rename(&path, &full).with_context(|| format!("rename {} to {}", path.display(), full.display()))?;
        let (file, _) = open(&path, &self.folder, true).with_context(|| format!("open {}", path.display()))?;
        sync_folder(&self.folder)?;
        let inode = file.metadata()?.ino();
        self.current = Some(Current { file, inode, size: 0 });
        let mut files = older(&self.folder)?;
        // The one that was just begun counts.
        let surplus = (files.len() + 1).saturating_sub(self.rules.files_max);
        let oldest: Vec<PathBuf> = files.drain(..surplus).map(|(_, path)| path).collect();
        let removed = oldest.iter().map(|path| removed(path)).collect::<anyhow::Result<_>>()?;
        let event = LogEvent::Rotated { file: name, removed };
        self.put(&self.own(vec![event]), written)?;
        for path in oldest {
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        Ok(())
    }

    /// Writes lines to the current file.
    fn put(&mut self, lines: &[Line], written: &mut Vec<Written>) -> anyhow::Result<()> {
        let current = self.current.as_mut().context("the log is not open")?;
        let mut tail = self.tail.clone();
        let mut bytes = Vec::new();
        let mut done = Vec::with_capacity(lines.len());
        for line in lines {
            let text = format!(r#"{},"seq":{},"prev":"{}"}}"#, line.body, tail.seq + 1, tail.sha256);
            tail = Tail {
                seq: tail.seq + 1,
                sha256: sha256(text.as_bytes()),
            };
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(b'\n');
            done.push(Written { code: line.code, text });
        }
        let put = current.file.write_all(&bytes).and_then(|()| current.file.sync_data());
        if let Err(error) = put {
            // What nobody was told of goes again; if even that fails, the next writer sees a torn line, or whole lines
            // that continue the chain.
            let undone = current.file.set_len(current.size);
            let path = self.folder.join(CURRENT);
            let also = undone.err().map(|error| format!("; and shorten it again: {error}"));
            return Err(error).with_context(|| format!("write {}{}", path.display(), also.unwrap_or_default()));
        }
        current.size += bytes.len() as u64;
        self.tail = tail;
        written.append(&mut done);
        if let Err(error) = write_head(&self.folder, &self.tail) {
            // The events are written; verify will say what is missing.
            tracing::warn!(error = format!("{error:#}"), "note where the audit log ends");
        }
        Ok(())
    }
}

/// `,"seq":<20 digits>,"prev":"<64 digits>"}` and a line feed.
const CHAIN_MAX_BYTES: usize = 106;

fn torn(bytes: &[u8]) -> LogEvent {
    let kept = bytes.get(..TORN_KEPT_BYTES).unwrap_or(bytes);
    LogEvent::Repaired {
        message: format!(
            "a process was killed while it wrote a line: its {} bytes were removed",
            bytes.len()
        ),
        torn: Some(String::from_utf8_lossy(kept).into_owned()),
        missing_from: None,
        missing_to: None,
    }
}

fn removed(path: &Path) -> anyhow::Result<RemovedFile> {
    let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    let end = End::of(&file).with_context(|| format!("read {}", path.display()))?;
    let tail = end.last.and_then(|last| last.tail).unwrap_or_else(Tail::genesis);
    Ok(RemovedFile {
        file: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        last_seq: tail.seq,
        last_sha256: tail.sha256,
    })
}
