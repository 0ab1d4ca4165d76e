//! The clients that people have: xfreerdp and rdesktop, each on a display of its own.

use std::path::Path;

use crate::display::Display;
use crate::process::Process;

/// One client without window decorations, filling its display.
#[derive(Debug)]
pub struct Client {
    /// What the user sees.
    pub display: Display,
    /// The client's process.
    pub process: Process,
}

impl Client {
    /// Connects to a port of this machine with a screen of 1024x768.
    ///
    /// # Errors
    /// The display or the program does not start; a refused connection shows later.
    pub fn start(dir: &Path, label: &str, port: u16, user: &str, options: &[&str]) -> anyhow::Result<Self> {
        let display = Display::start(dir, label, 1024, 768)?;
        Self::start_on(display, dir, label, port, user, options)
    }

    /// The same on a display that is already there.
    ///
    /// # Errors
    /// The program does not start.
    pub fn start_on(
        display: Display,
        dir: &Path,
        label: &str,
        port: u16,
        user: &str,
        options: &[&str],
    ) -> anyhow::Result<Self> {
        let mut command = display.command("xfreerdp");
        command.args([
            &format!("/v:127.0.0.1:{port}"),
            &format!("/u:{user}"),
            &format!("/p:{}", crate::desktop::PASSWORD),
            "/size:1024x768",
            "/cert:ignore",
            "-decorations",
            "-grab-keyboard",
            "/log-level:WARN",
        ]);
        command.args(options).env("HOME", dir);
        let process = Process::start(&format!("xfreerdp-{label}"), dir, &command)?;
        Ok(Self { display, process })
    }

    /// Connects rdesktop to a port of this machine, with a screen of 1024x768. Its drives reach xrdp, those of xfreerdp
    /// 2.11 don't: it waits for a message that xrdp 0.9 sends too early (neutrinolabs/xrdp issue 2971).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_rdesktop(dir: &Path, label: &str, port: u16, user: &str, options: &[&str]) -> anyhow::Result<Self> {
        let display = Display::start(dir, label, 1024, 768)?;
        // it asks whether the certificate is to be trusted
        let mut command = display.command("sh");
        command.args([
            "-c",
            "echo yes > \"$HOME/answer\"; exec \"$@\" < \"$HOME/answer\"",
            "sh",
            "rdesktop",
        ]);
        command.args([
            "-u",
            user,
            "-p",
            crate::desktop::PASSWORD,
            "-g",
            "1024x768",
            "-a",
            "32",
            "-D",
        ]);
        command.args(options).arg(format!("127.0.0.1:{port}")).env("HOME", dir);
        let process = Process::start(&format!("rdesktop-{label}"), dir, &command)?;
        Ok(Self { display, process })
    }

    /// Types into whatever has the focus on the desktop, key by key.
    ///
    /// # Errors
    /// xdotool fails.
    pub fn type_text(&self, text: &str) -> anyhow::Result<()> {
        self.display.xdotool(&["type", "--delay", "30", text])
    }

    /// Presses one key or chord, `Return` or `alt+F4`.
    ///
    /// # Errors
    /// xdotool fails.
    pub fn key(&self, key: &str) -> anyhow::Result<()> {
        self.display.xdotool(&["key", key])
    }

    /// Moves the mouse to a pixel and clicks with the left button.
    ///
    /// # Errors
    /// xdotool fails.
    pub fn click(&self, x: u16, y: u16) -> anyhow::Result<()> {
        self.display
            .xdotool(&["mousemove", &x.to_string(), &y.to_string(), "click", "1"])
    }
}
