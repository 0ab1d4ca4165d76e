//! Whether a plugin's file may be run at all: it becomes part of this process.

use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// Refuses a file that somebody else could have written or put there, or whose digest isn't the configured one. Returns the file
/// that was checked, without links: what is loaded must be that one, wherever a link leads by then.
pub(crate) fn check(path: &Path, sha256: Option<&str>) -> Result<PathBuf, String> {
    let real = path.canonicalize().map_err(|error| error.to_string())?;
    let facts = fs::metadata(&real).map_err(|error| error.to_string())?;
    if !facts.is_file() {
        return Err("is not a file".to_owned());
    }
    owned(&facts, "the file")?;
    safe_folder(&real, "its folder")?;
    // Who may change a link chooses among all plugins of the machine.
    if path.is_symlink() {
        safe_folder(path, "the folder of its link")?;
    }
    if let Some(expected) = sha256 {
        digest(&real, expected)?;
    }
    Ok(real)
}

fn safe_folder(path: &Path, what: &str) -> Result<(), String> {
    let Some(folder) = path.parent() else { return Ok(()) };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let facts = fs::metadata(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    // In a sticky folder only the owner can replace a file.
    if facts.mode() & STICKY == 0 {
        owned(&facts, &format!("{what} {}", folder.display()))?;
    }
    Ok(())
}

const STICKY: u32 = 0o1000;
const GROUP_WRITE: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

fn owned(facts: &fs::Metadata, what: &str) -> Result<(), String> {
    let user = rustix::process::geteuid().as_raw();
    if facts.uid() != 0 && facts.uid() != user {
        return Err(format!(
            "{what} belongs to user {}, not to root or the user that runs deskreel",
            facts.uid()
        ));
    }
    // A group of the owner's number is the owner's private group: where those exist, files are group-writable by habit.
    let group_write = facts.mode() & GROUP_WRITE != 0 && facts.gid() != facts.uid();
    if facts.mode() & OTHERS_WRITE != 0 || group_write {
        let mode = facts.mode() & 0o7777;
        return Err(format!(
            "{what} can be written by others (mode {mode:o}); take that away with chmod go-w"
        ));
    }
    Ok(())
}

fn digest(path: &Path, expected: &str) -> Result<(), String> {
    let mut file = File::open(path).map_err(|error| error.to_string())?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let length = file.read(&mut buffer).map_err(|error| error.to_string())?;
        let Some(bytes) = buffer.get(..length).filter(|bytes| !bytes.is_empty()) else {
            break;
        };
        hasher.update(bytes);
    }
    let found = hex::encode(hasher.finalize());
    if found == expected {
        Ok(())
    } else {
        Err(format!("sha256 is {found}, the configuration wants {expected}"))
    }
}
