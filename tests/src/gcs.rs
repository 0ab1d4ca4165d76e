//! A Google Cloud Storage server of our own: strict where the registries' emulators aren't. See gcs_server.py.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::time::Duration;

use anyhow::Context as _;
use tempfile::TempDir;

use crate::http;
use crate::process::{Process, free_port, wait_for};
use crate::python;

/// The only bucket.
pub const BUCKET: &str = "recordings";

const SERVER: &str = include_str!("gcs_server.py");

/// A server. Dropping it ends it.
#[derive(Debug)]
pub struct Gcs {
    /// Where clients connect on loopback.
    pub port: u16,
    dir: PathBuf,
    process: Process,
}

impl Gcs {
    /// Starts a server that keeps its state below `dir`.
    ///
    /// # Errors
    /// It can't be installed or does not answer.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(dir)?;
        let port = free_port()?;
        let process = spawn(dir, port)?;
        let mut server = Self {
            port,
            dir: dir.to_owned(),
            process,
        };
        server.wait_ready()?;
        Ok(server)
    }

    /// One server for all tests of this process, which lives as long as that.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn shared() -> anyhow::Result<u16> {
        static PORT: OnceLock<Result<u16, String>> = OnceLock::new();
        let port = PORT.get_or_init(|| {
            let (tell, told) = mpsc::channel();
            // A child ends with the thread that started it: one that never does.
            std::thread::spawn(move || {
                static KEPT: Mutex<Option<(Gcs, TempDir)>> = Mutex::new(None);
                let started = TempDir::new()
                    .map_err(anyhow::Error::from)
                    .and_then(|dir| Ok((Self::start(dir.path())?, dir)));
                let _ = tell.send(
                    started
                        .as_ref()
                        .map(|(server, _)| server.port)
                        .map_err(|error| format!("{error:#}")),
                );
                *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = started.ok();
                loop {
                    std::thread::park();
                }
            });
            told.recv().unwrap_or_else(|error| Err(error.to_string()))
        });
        port.clone().map_err(anyhow::Error::msg)
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// A start on the same state and port after [`kill`](Self::kill).
    ///
    /// # Errors
    /// It does not answer.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.process = spawn(&self.dir, self.port)?;
        self.wait_ready()
    }

    fn wait_ready(&mut self) -> anyhow::Result<()> {
        let port = self.port;
        wait_for(Duration::from_secs(60), "the GCS server to answer", || {
            anyhow::ensure!(self.process.is_running(), "it ended");
            Ok(http::get(port, "/healthz").is_ok_and(|status| status == 200))
        })
        .with_context(|| self.process.log())
    }
}

/// Credentials of an account of the server at `port`: `writer` may do everything, `reader` only read and list.
#[must_use]
pub fn credentials(port: u16, account: &str) -> String {
    format!(
        r#"{{"type": "authorized_user", "client_id": "test", "client_secret": "hush-client", "refresh_token": "refresh-{account}", "token_uri": "http://127.0.0.1:{port}/token"}}"#
    )
}

fn spawn(dir: &Path, port: u16) -> anyhow::Result<Process> {
    let python = python::environment("gcs", &["google-crc32c==1.8.0"])?.join("bin/python");
    let script = dir.join("server.py");
    fs::write(&script, SERVER)?;
    let mut command = Command::new(python);
    command
        .arg(script)
        .arg(port.to_string())
        .arg(dir.join("state"))
        .arg(BUCKET);
    Process::start("gcs", dir, &command)
}
