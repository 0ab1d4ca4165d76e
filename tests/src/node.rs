//! Node and Chromium: the scripts in `tests/web`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::process::run;

/// The path of a script in `tests/web`.
#[must_use]
pub fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("web").join(name);
    path.display().to_string()
}

/// Where playwright-core and axe-core are; installed once a target folder.
fn modules() -> anyhow::Result<PathBuf> {
    let test = std::env::current_exe()?;
    let target = test
        .ancestors()
        .find(|folder| folder.join("CACHEDIR.TAG").exists())
        .context("a target folder")?;
    let folder = target.join("web-tests");
    fs::create_dir_all(&folder)?;
    // Tests come here at the same time.
    let lock = File::create(folder.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    let wanted = fs::read_to_string(script("package.json"))?;
    let done = folder.join("packages");
    if !fs::read_to_string(&done).is_ok_and(|there| there == wanted) {
        fs::write(folder.join("package.json"), &wanted)?;
        let prefix = folder.display().to_string();
        run(
            "npm",
            &[
                "install",
                "--no-audit",
                "--no-fund",
                "--no-package-lock",
                "--prefix",
                &prefix,
            ],
        )?;
        fs::write(done, wanted)?;
    }
    Ok(folder)
}

/// One of the steps of browser.mjs; gives what it found.
///
/// # Errors
/// The step fails: its own words.
pub fn browse(step: &str, mut settings: Value) -> anyhow::Result<Value> {
    settings["modules"] = modules()?.display().to_string().into();
    let output = Command::new("node")
        .args([&script("browser.mjs"), step])
        .env("WEB_TEST", settings.to_string())
        .output()?;
    if !output.status.success() {
        bail!("{step}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}
