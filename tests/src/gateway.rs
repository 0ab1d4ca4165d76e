//! The gateway under test and its command line, as an operator runs them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::picture::Picture;
use crate::process::{Process, free_port, wait_for};

/// The `deskreel` binary of the profile that this test was built with; built once if need be, so that a single test can
/// be run after a change without a second thought.
///
/// # Panics
/// The build fails.
pub fn deskreel() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("the test binary has a path");
        let profile = test
            .ancestors()
            .find(|folder| !folder.ends_with("deps") && folder.is_dir())
            .expect("a target folder");
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--workspace", "--locked", "--quiet", "--manifest-path"]);
        cargo.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"));
        if profile.ends_with("release") {
            cargo.arg("--release");
        }
        // What cargo tells a test of its package makes build scripts (ring's) run again, and with them half of the build.
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
                cargo.env_remove(&name);
            }
        }
        assert!(
            cargo.status().expect("cargo starts").success(),
            "the workspace does not build"
        );
        profile.join("deskreel")
    })
}

/// How a test wants its gateway.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the desktop listens on loopback.
    pub desktop_port: u16,
    /// `sync` or `async`.
    pub storage_mode: &'static str,
    /// More lines for `deskreel.yaml`, top level.
    pub more: String,
    /// More keys of its `gateway` section, each after a comma.
    pub gateway: String,
}

impl Settings {
    /// A gateway in front of this desktop, with nothing special.
    #[must_use]
    pub fn of(desktop_port: u16, storage_mode: &'static str) -> Self {
        Self {
            desktop_port,
            storage_mode,
            more: String::new(),
            gateway: String::new(),
        }
    }
}

/// A running `deskreel serve` with a folder of its own.
#[derive(Debug)]
pub struct Gateway {
    /// Holds deskreel.yaml, resources, data and recordings.
    pub dir: PathBuf,
    /// Where clients connect on loopback.
    pub port: u16,
    /// The process.
    pub process: Process,
}

impl Gateway {
    /// Writes the configuration below `dir` and starts the gateway.
    ///
    /// # Errors
    /// It does not listen in 30 s.
    pub fn start(dir: &Path, settings: &Settings) -> anyhow::Result<Self> {
        let port = free_port()?;
        fs::create_dir_all(dir.join("resources"))?;
        let yaml = format!(
            "data_dir: ./data\n\
             gateway: {{listen: '127.0.0.1:{port}', default_desktop: lab{}}}\n\
             storages:\n  - {{name: disk, plugin: local, mode: {}, settings: {{path: ./recordings}}}}\n\
             access: {{resources_dir: ./resources, claimed_identity: allow, claimed_roles: [access]}}\n{}",
            settings.gateway, settings.storage_mode, settings.more
        );
        fs::write(dir.join("deskreel.yaml"), yaml)?;
        let desktop = format!(
            "kind: windows_desktop\nversion: v3\nmetadata: {{name: lab, labels: {{env: test}}}}\n\
             spec: {{addr: '127.0.0.1:{}', gateway: {{tls: {{verify: pin}}, credentials: passthrough}}}}\n",
            settings.desktop_port
        );
        fs::write(dir.join("resources/lab.yaml"), desktop)?;
        Self::restart(dir, port)
    }

    /// Starts the gateway on a folder that has a configuration already.
    ///
    /// # Errors
    /// It does not listen in 30 s.
    pub fn restart(dir: &Path, port: u16) -> anyhow::Result<Self> {
        let mut command = Command::new(deskreel());
        command.arg("serve").arg("--config").arg(dir.join("deskreel.yaml"));
        let mut process = Process::start("deskreel", dir, &command)?;
        process.wait_listening(port, Duration::from_secs(30))?;
        Ok(Self {
            dir: dir.to_owned(),
            port,
            process,
        })
    }

    /// Runs another `deskreel` command against the same configuration.
    ///
    /// # Errors
    /// It can't be started; its own failure is in the output.
    pub fn run(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        run_in(&self.dir, arguments)
    }

    /// A command's JSON listing.
    ///
    /// # Errors
    /// It ends with another code than 0 or 3, or prints no JSON.
    pub fn json(&self, arguments: &[&str]) -> anyhow::Result<Value> {
        let output = self.run(&[arguments, &["--format", "json"]].concat())?;
        if !matches!(output.status.code(), Some(0 | 3)) {
            bail!(
                "deskreel {arguments:?}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("the JSON of deskreel {arguments:?}"))
    }

    /// The recordings that the catalog knows, newest last.
    ///
    /// # Errors
    /// As [`json`](Self::json).
    pub fn recordings(&self) -> anyhow::Result<Vec<Value>> {
        let rows = self.json(&["recordings", "ls"])?;
        rows.as_array().cloned().context("recordings ls prints a list")
    }

    /// Waits until the `index`-th recording is in one of `states` and gives its row.
    ///
    /// # Errors
    /// 180 s passed.
    pub fn wait_recording(&self, index: usize, states: &[&str]) -> anyhow::Result<Value> {
        let mut row = Value::Null;
        wait_for(
            Duration::from_secs(180),
            &format!("recording {index} to be one of {states:?}"),
            || {
                row = self.recordings()?.get(index).cloned().unwrap_or_default();
                Ok(row["state"].as_str().is_some_and(|state| states.contains(&state)))
            },
        )
        .with_context(|| format!("last seen as {row}; the gateway's log:\n{}", self.process.log()))?;
        Ok(row)
    }

    /// One frame of a recording, without the pointer.
    ///
    /// # Errors
    /// `recordings frame` fails.
    pub fn frame(&self, id: &str, seconds: f64) -> anyhow::Result<Picture> {
        let file = self.dir.join(format!("frame-{seconds:.3}.png"));
        let path = file.display().to_string();
        let at = format!("{seconds:.3}s");
        let output = self.run(&[
            "recordings",
            "frame",
            id,
            "--at",
            &at,
            "--no-pointer",
            "--force",
            "-o",
            &path,
        ])?;
        if !output.status.success() {
            bail!("recordings frame at {at}: {}", String::from_utf8_lossy(&output.stderr));
        }
        Picture::read_png(&file)
    }
}

/// The folder of a recording in the `local` storage whose folder is `recordings`, wherever that keeps it; one that isn't there
/// where it has none.
#[must_use]
pub fn recording_folder(recordings: &Path, id: &str) -> PathBuf {
    let direct = recordings.join(id);
    let entries = fs::read_dir(recordings).into_iter().flatten().flatten();
    let mut places = entries.map(|entry| entry.path().join(id));
    places.find(|path| path.is_dir()).unwrap_or(direct)
}

/// Runs a `deskreel` command against the configuration in `dir`.
///
/// # Errors
/// It can't be started.
pub fn run_in(dir: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    Command::new(deskreel())
        .args(arguments)
        .arg("--config")
        .arg(dir.join("deskreel.yaml"))
        .stdin(Stdio::null())
        .output()
        .context("start deskreel")
}
