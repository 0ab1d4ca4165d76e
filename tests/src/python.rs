//! Programs that come as Python packages: test servers, and clients to compare with.

use std::fs::{self, File};
use std::path::PathBuf;

use anyhow::Context as _;
use rustix::fs::{FlockOperation, flock};

use crate::process::run;

/// A virtual environment below the target folder with these packages (`name==version`), made once.
///
/// # Errors
/// Python lacks `venv` (package python3-venv), or a package can't be installed.
pub fn environment(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe().context("the test binary has a path")?;
    // target/debug/deps/all-0123 or target/debug/...
    let target = test
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .context("a target folder")?;
    let home = target.join("python");
    fs::create_dir_all(&home)?;
    // Tests are processes and threads that come here at the same time.
    let lock = File::create(home.join(format!("{name}.lock")))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let folder = home.join(name);
    let done = folder.join("packages");
    let wanted = packages.join("\n");
    if fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        return Ok(folder);
    }
    let path = folder.display().to_string();
    run("python3", &["-m", "venv", "--clear", &path]).context("make a virtual environment (package python3-venv)")?;
    let pip = folder.join("bin/pip").display().to_string();
    run(
        &pip,
        &[&["install", "--quiet", "--disable-pip-version-check"], packages].concat(),
    )?;
    fs::write(done, wanted)?;
    Ok(folder)
}
