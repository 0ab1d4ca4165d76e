//! The files of the log and how they end: what writers and readers both need to know.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::Access;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::LINE_MAX_BYTES;

/// The file that is written.
pub(super) const CURRENT: &str = "audit.jsonl";
pub(super) const LOCK: &str = "lock";
pub(super) const HEAD: &str = "head";
/// `prev` of the first line.
pub(super) const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// Bytes at a file's end that hold its last line and whatever a killed process left behind it: a batch, at most.
const TAIL_MAX_BYTES: usize = 4 * LINE_MAX_BYTES;
/// Where the chain stands: number and digest of the last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tail {
    pub(super) seq: u64,
    pub(super) sha256: String,
}

impl Tail {
    pub(super) fn genesis() -> Self {
        Self {
            seq: 0,
            sha256: GENESIS.to_owned(),
        }
    }
}

/// How a file ends.
#[derive(Debug)]
pub(super) struct End {
    /// Bytes of whole lines.
    pub(super) whole_bytes: u64,
    /// The last whole line, if there is one.
    pub(super) last: Option<LastLine>,
    /// What follows it.
    pub(super) torn: Vec<u8>,
}

/// The last whole line of a file.
#[derive(Debug)]
pub(super) struct LastLine {
    /// `None`: it is no line of this log.
    pub(super) tail: Option<Tail>,
}

impl End {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        let from = size.saturating_sub(TAIL_MAX_BYTES as u64);
        let mut bytes = vec![0; usize::try_from(size - from).unwrap_or(TAIL_MAX_BYTES)];
        file.read_exact_at(&mut bytes, from)?;
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
            if from > 0 {
                let message = format!("it ends with more than {TAIL_MAX_BYTES} bytes without a line feed");
                return Err(io::Error::new(io::ErrorKind::InvalidData, message));
            }
            return Ok(Self {
                whole_bytes: 0,
                last: None,
                torn: bytes,
            });
        };
        let torn = bytes.split_off(end + 1);
        bytes.pop();
        let start = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        let line = bytes.get(start..).unwrap_or(&[]);
        Ok(Self {
            whole_bytes: from + end as u64 + 1,
            last: Some(LastLine { tail: tail_after(line) }),
            torn,
        })
    }
}

/// The chain's state after a line.
fn tail_after(line: &[u8]) -> Option<Tail> {
    #[derive(Deserialize)]
    struct Numbered {
        seq: u64,
    }
    let numbered: Numbered = serde_json::from_slice(line).ok()?;
    Some(Tail {
        seq: numbered.seq,
        sha256: sha256(line),
    })
}

/// SHA-256, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// Keeps writers out until it is dropped.
pub(super) fn share(folder: &Path) -> anyhow::Result<File> {
    let path = folder.join(LOCK);
    let lock = File::open(&path).with_context(|| format!("open {}", path.display()))?;
    lock.lock_shared().with_context(|| format!("lock {}", path.display()))?;
    Ok(lock)
}

/// Number of the last line of the log; 0 = there is none.
pub(super) fn end(folder: &Path) -> anyhow::Result<u64> {
    let _lock = share(folder)?;
    let mut paths: Vec<PathBuf> = older(folder)?.into_iter().map(|(_, path)| path).collect();
    paths.push(folder.join(CURRENT));
    for path in paths.into_iter().rev() {
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            opened => opened.with_context(|| format!("open {}", path.display()))?,
        };
        let end = End::of(&file).with_context(|| format!("read {}", path.display()))?;
        if let Some(tail) = end.last.and_then(|last| last.tail) {
            return Ok(tail.seq);
        }
    }
    Ok(0)
}

/// The files that are full, oldest first, each with the number of its last line.
pub(super) fn older(folder: &Path) -> anyhow::Result<Vec<(u64, PathBuf)>> {
    let entries = fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("read {}", folder.display()))?;
        let name = entry.file_name();
        let number = name
            .to_str()
            .and_then(|name| name.strip_prefix("audit-")?.strip_suffix(".jsonl"))
            .and_then(|digits| digits.parse::<u64>().ok());
        if let Some(number) = number {
            files.push((number, entry.path()));
        }
    }
    files.sort();
    Ok(files)
}

/// What `head` says; `None` when there is none, or nothing that makes sense.
pub(super) fn read_head(folder: &Path) -> anyhow::Result<Option<Tail>> {
    let path = folder.join(HEAD);
    match fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("read {}", path.display())),
    }
}

/// Not synced: after a power cut `head` may be behind the log, never ahead of it.
pub(super) fn write_head(folder: &Path, tail: &Tail) -> anyhow::Result<()> {
    let path = folder.join(HEAD);
    let mut text = serde_json::to_vec(tail).context("encode the head of the audit log")?;
    text.push(b'\n');
    let (file, _) = open(&path, folder, false).with_context(|| format!("open {}", path.display()))?;
    // Never shorter than before, so one write replaces it whole.
    file.write_all_at(&text, 0)
        .with_context(|| format!("write {}", path.display()))
}

/// Opens a file for reading and writing (or appending); true when it is new.
pub(super) fn open(path: &Path, folder: &Path, append: bool) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).append(append).mode(0o600);
    match options.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Another process may be making it, too: not `create_new`.
            let file = options.create(true).open(path)?;
            crate::private::give_to_owner_of(folder, path)?;
            Ok((file, true))
        }
        opened => Ok((opened?, false)),
    }
}

/// Whether files of the folder can be made and appended to by this account.
pub(super) fn writable(folder: &Path) -> anyhow::Result<()> {
    let open = Access::WRITE_OK | Access::EXEC_OK;
    rustix::fs::access(folder, open).with_context(|| format!("write {}", folder.display()))?;
    for name in [CURRENT, LOCK, HEAD] {
        let path = folder.join(name);
        match OpenOptions::new().append(true).open(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("open {}", path.display()));
            }
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .with_context(|| format!("sync {}", folder.display()))
}
