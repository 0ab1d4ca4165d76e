//! Node and Chromium: the scripts in `tests/web`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::bail;
use serde_json::Value;

use crate::installed::installed;
use crate::process::run;

/// The path of a script in `tests/web`.
#[must_use]
pub fn script(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("web").join(name);
    path.display().to_string()
}

/// Where playwright-core and axe-core are; installed once a target folder.
fn modules() -> anyhow::Result<PathBuf> {
    let wanted = fs::read_to_string(script("package.json"))?;
    installed("web-tests", &wanted, |folder| {
        fs::write(folder.join("package.json"), &wanted)?;
        let prefix = folder.display().to_string();
        let install = [
            "install",
            "--no-audit",
            "--no-fund",
            "--no-package-lock",
            "--prefix",
            &prefix,
        ];
        run("npm", &install)?;
        Ok(())
    })
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
