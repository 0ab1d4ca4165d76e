//! Programs that come as Python packages: test servers, and clients to compare with.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::installed::installed;
use crate::process::run;

/// A virtual environment below the target folder with these packages (`name==version`), made once.
///
/// # Errors
/// Python lacks `venv` (package python3-venv), or a package can't be installed.
pub fn environment(name: &str, packages: &[&str]) -> anyhow::Result<PathBuf> {
    installed(name, &packages.join("\n"), |folder| {
        let path = folder.display().to_string();
        run("python3", &["-m", "venv", "--clear", &path])
            .context("make a virtual environment (package python3-venv)")?;
        let pip = folder.join("bin/pip").display().to_string();
        let install = ["install", "--quiet", "--disable-pip-version-check"];
        run(&pip, &[&install, packages].concat())?;
        Ok(())
    })
}
