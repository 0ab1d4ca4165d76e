//! What tests install for themselves, below the target folder.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

/// A folder below the target folder that `install` has filled with what is `wanted`, once for all tests and runs.
///
/// # Errors
/// It can't be installed.
pub(crate) fn installed(
    name: &str,
    wanted: &str,
    install: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("the test binary has a path")?;
    // target/debug/deps/all-0123 or target/debug/...
    let target = test
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .context("a target folder")?;
    let home = target.join("installed");
    fs::create_dir_all(&home)?;
    // Tests are processes and threads that come here at the same time.
    let lock = File::create(home.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let folder = home.join(name);
    let done = folder.join(".installed");
    if !fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        fs::create_dir_all(&folder)?;
        // what is broken off here is not whole
        fs::write(&done, "")?;
        install(&folder)?;
        fs::write(done, wanted)?;
    }
    Ok(folder)
}
