//! Weston with its RDP back end: a desktop that is neither xrdp's nor FreeRDP's own, and sends its picture as surface commands.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::desktop::make_certificate;
use crate::process::{Process, free_port, wait_for};

/// Plain blue, nothing that ticks.
const CONFIG: &str = "[core]\nidle-time=0\n[shell]\nbackground-color=0xff204a87\npanel-position=none\nlocking=false\n\
                      animation=none\nstartup-animation=none\n[keyboard]\nkeymap_layout=us\n";

/// The name of its socket.
const SOCKET: &str = "peer";

/// A Weston that shows a terminal. Each client has its own view of the same screen. Dropping it ends it.
#[derive(Debug)]
pub struct Weston {
    /// Where it listens on loopback.
    pub port: u16,
    server: Process,
    _terminal: Process,
}

impl Weston {
    /// Starts the server and its terminal. It takes every user.
    ///
    /// # Errors
    /// Something does not come up.
    pub fn start(dir: &Path) -> anyhow::Result<Self> {
        let home = dir.join("weston");
        fs::create_dir_all(&home)?;
        // as Wayland wants its folder
        fs::set_permissions(&home, Permissions::from_mode(0o700))?;
        fs::write(home.join("weston.ini"), CONFIG)?;
        let (certificate, key) = make_certificate(&home, "weston")?;
        let port = free_port()?;
        let mut command = Command::new("weston");
        command
            .args([
                "--backend=rdp-backend.so",
                "--address=127.0.0.1",
                "--width=1024",
                "--height=768",
            ])
            .arg(format!("--socket={SOCKET}"))
            .arg(format!("--port={port}"))
            .arg(format!("--config={}", home.join("weston.ini").display()))
            .arg(format!("--rdp-tls-cert={}", certificate.display()))
            .arg(format!("--rdp-tls-key={}", key.display()))
            .env("XDG_RUNTIME_DIR", &home)
            .env("HOME", &home);
        let mut server = Process::start("weston", dir, &command)?;
        server.wait_listening(port, Duration::from_secs(60))?;
        let socket = home.join(SOCKET);
        wait_for(Duration::from_secs(60), "Weston's socket", || Ok(socket.exists()))
            .with_context(|| format!("Weston says: {}", server.log()))?;
        let mut command = Command::new("weston-terminal");
        command
            .arg("--shell=/bin/sh")
            .env("WAYLAND_DISPLAY", SOCKET)
            .env("XDG_RUNTIME_DIR", &home)
            .env("PS1", "$ ")
            .env("HOME", &home);
        let terminal = Process::start("weston-terminal", dir, &command)?;
        Ok(Self {
            port,
            server,
            _terminal: terminal,
        })
    }

    /// The server's process, for its CPU time.
    #[must_use]
    pub fn server(&self) -> &Process {
        &self.server
    }
}
