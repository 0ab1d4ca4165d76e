//! An X display without a screen (Xvfb), its programs and its screenshots.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::Context as _;

use crate::picture::Picture;
use crate::process::{Process, run, wait_for};

/// An Xvfb of its own number. Dropping it ends it and all that draws on it.
#[derive(Debug)]
pub struct Display {
    /// As `DISPLAY` wants it, `:3`.
    pub name: String,
    server: Process,
}

impl Display {
    /// Starts an Xvfb with 24-bit colours.
    ///
    /// # Errors
    /// It does not come up in 20 s.
    pub fn start(dir: &Path, label: &str, width: u16, height: u16) -> anyhow::Result<Self> {
        // Without -noreset the server starts anew whenever its last client leaves, which each screenshot would bring about
        // while the first program is still on its way. The server itself picks a free number and says it on its standard output, which is the log.
        let mut command = Command::new("Xvfb");
        command.args([
            "-displayfd",
            "1",
            "-screen",
            "0",
            &format!("{width}x{height}x24"),
            "-noreset",
            "-nolisten",
            "tcp",
            "-ac",
        ]);
        let mut server = Process::start(&format!("xvfb-{label}"), dir, &command)?;
        let mut name = String::new();
        wait_for(Duration::from_secs(60), "Xvfb", || {
            let log = server.log();
            if let Some(number) = log.lines().find_map(|line| line.trim().parse::<u32>().ok()) {
                name = format!(":{number}");
            }
            Ok(!name.is_empty() || !server.is_running())
        })?;
        anyhow::ensure!(!name.is_empty(), "Xvfb ended: {}", server.log());
        Ok(Self { name, server })
    }

    /// Makes two monitors of the screen, side by side.
    ///
    /// # Errors
    /// xrandr fails.
    pub fn split(&self, width: u16, height: u16) -> anyhow::Result<()> {
        let half = width / 2;
        for (name, output, left) in [("left", "screen", 0), ("right", "none", half)] {
            let geometry = format!("{half}/130x{height}/200+{left}+0");
            run(
                "xrandr",
                &["--display", &self.name, "--setmonitor", name, &geometry, output],
            )?;
        }
        Ok(())
    }

    /// A command that draws here.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("DISPLAY", &self.name).stdin(Stdio::null());
        command
    }

    /// What is on the screen, pointer aside.
    ///
    /// # Errors
    /// The display is gone.
    pub fn screenshot(&self) -> anyhow::Result<Picture> {
        let take = || run("xwd", &["-root", "-silent", "-display", &self.name]);
        // It fails over a window that is closed while it looks at all of them.
        for _ in 0..5 {
            if let Ok(taken) = take() {
                return Picture::from_xwd(&taken);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Picture::from_xwd(&take()?)
    }

    /// Drives keyboard and mouse: the arguments of one `xdotool` call.
    ///
    /// # Errors
    /// xdotool fails.
    pub fn xdotool(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let output = self
            .command("xdotool")
            .args(arguments)
            .output()
            .context("start xdotool")?;
        anyhow::ensure!(
            output.status.success(),
            "xdotool: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    /// Waits until more than `pixels` differ from a screen that was there before.
    ///
    /// # Errors
    /// 60 s passed.
    pub fn wait_changed(&self, before: &Picture, pixels: usize, what: &str) -> anyhow::Result<()> {
        wait_for(Duration::from_secs(60), what, || {
            Ok(self.screenshot()?.differing(before, 0) > pixels)
        })
    }

    /// Waits until at least `colours` colours are on the screen and gives the picture.
    ///
    /// # Errors
    /// 120 s passed.
    pub fn wait_painted(&self, colours: usize) -> anyhow::Result<Picture> {
        let mut picture = self.screenshot()?;
        wait_for(Duration::from_secs(120), "a painted screen", || {
            picture = self.screenshot()?;
            Ok(picture.colours() >= colours)
        })?;
        Ok(picture)
    }

    /// Waits until the screen has not changed for a second and a half and gives the picture.
    ///
    /// # Errors
    /// It never rests within 120 s.
    pub fn wait_settled(&self) -> anyhow::Result<Picture> {
        let mut picture = self.screenshot()?;
        let mut since = std::time::Instant::now();
        wait_for(Duration::from_secs(120), "a settled screen", || {
            let now = self.screenshot()?;
            if now != picture {
                picture = now;
                since = std::time::Instant::now();
            }
            Ok(since.elapsed() > Duration::from_millis(1500))
        })?;
        Ok(picture)
    }

    /// The server's process, for its CPU time.
    #[must_use]
    pub fn server(&self) -> &Process {
        &self.server
    }
}
