//! `deskreel demo`: the main job with nothing installed.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::{Outcome, UsageError};
use crate::catalog::State;
use crate::demo::{Demo, Shown};
use crate::output::visible;

/// Where `--wait` listens: a port that needs no root and is not taken by a desktop.
const LISTEN_WAITING: &str = "127.0.0.1:33890";
const LISTEN_ONCE: &str = "127.0.0.1:0";

/// Record a session of a built-in desktop, verify it and export it to a video
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel demo\n  deskreel demo --wait        connect by hand, as often as you like"
)]
pub(crate) struct Args {
    /// Folder for configuration, data and recordings; kept
    #[arg(long, value_name = "DIR", default_value = "deskreel-demo")]
    data_dir: PathBuf,
    /// Length of the session in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 8, value_parser = clap::value_parser!(u64).range(2..=3600))]
    seconds: u64,
    /// Where the gateway listens [default: a free port; with --wait 127.0.0.1:33890]
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Serve the pages there, too; `deskreel users add` and `users passwd` let somebody in
    #[arg(long, value_name = "ADDR:PORT")]
    web: Option<SocketAddr>,
    /// Keep desktop and gateway up afterwards, to connect by hand
    #[arg(long)]
    wait: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let listen = match args.listen {
        Some(listen) => listen,
        None => if args.wait { LISTEN_WAITING } else { LISTEN_ONCE }
            .parse()
            .map_err(|error| UsageError(format!("--listen: {error}")))?,
    };
    println!("A desktop, the gateway and a client, for {} seconds.", args.seconds);
    let demo = Demo {
        folder: args.data_dir.clone(),
        listen,
        duration: Duration::from_secs(args.seconds),
        web: args.web,
    };
    let mut shown = demo.show()?;
    let id = shown.session.id.to_string();
    let folder = shown.config.parent().unwrap_or(Path::new(".")).to_owned();
    let video = folder.join(format!("{id}.mp4"));
    let path = video.display().to_string();
    let mut outcome = Outcome::Fine;
    for command in [
        &["recordings", "ls"][..],
        &["recordings", "verify", &id],
        &["recordings", "export", &id, "--format", "mp4", "-o", &path],
    ] {
        match deskreel(&shown, command)? {
            Some(0) => {}
            Some(3) => outcome = Outcome::Findings,
            code => anyhow::bail!("deskreel {} ended with {code:?}", command.join(" ")),
        }
    }
    anyhow::ensure!(
        shown.session.state == State::Complete,
        "the recording is {}",
        shown.session.state
    );
    println!();
    println!("The video:     {}", quoted(&path));
    println!(
        "The recording: {}",
        quoted_path(&place_of(&folder.join("recordings"), &id))
    );
    println!("Last screen that the client saw: {}", quoted_path(&shown.last_screen));
    println!(
        "Look further with DESKREEL_CONFIG={} and deskreel recordings show {id}",
        quoted_path(&shown.config)
    );
    if args.wait {
        wait(&mut shown)?;
    }
    Ok(outcome)
}

/// Runs a command as a person would, on the demo's configuration, and shows it.
fn deskreel(shown: &Shown, arguments: &[&str]) -> anyhow::Result<Option<i32>> {
    let words: Vec<String> = arguments.iter().map(|argument| quoted(argument)).collect();
    println!("\n$ deskreel {}", words.join(" "));
    let own = std::env::current_exe().context("find the own program")?;
    let mut command = Command::new(own);
    command.args(arguments).arg("--config").arg(&shown.config);
    // The demo's configuration is the whole of it.
    without_settings(&mut command, std::env::vars_os().map(|(name, _)| name));
    let status = command
        .status()
        .with_context(|| format!("run deskreel {}", words.join(" ")))?;
    Ok(status.code())
}

/// Takes the variables that are configuration out of a command's environment.
fn without_settings(command: &mut Command, names: impl Iterator<Item = OsString>) {
    for name in names.filter(|name| name.as_encoded_bytes().starts_with(b"DESKREEL_")) {
        command.env_remove(name);
    }
}

/// Where the storage keeps a recording: it may sort them into folders.
fn place_of(recordings: &Path, id: &str) -> PathBuf {
    let entries = std::fs::read_dir(recordings).into_iter().flatten().flatten();
    let mut places = entries.map(|entry| entry.path().join(id));
    places.find(|path| path.is_dir()).unwrap_or_else(|| recordings.join(id))
}

fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// A word as a shell takes it, to be copied from the terminal.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:=,@+%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    visible(&format!("'{}'", word.replace('\'', r"'\''"))).into_owned()
}

fn wait(shown: &mut Shown) -> anyhow::Result<()> {
    let (host, port) = (shown.address.ip(), shown.address.port());
    println!();
    println!("Connect by hand, user demo, password demo; Ctrl-C ends:");
    println!("  xfreerdp /v:{host}:{port} /u:demo /p:demo /sec:tls /cert:tofu");
    println!("  mstsc /v:{host}:{port}      (in the .rdp file: enablecredsspsupport:i:0)");
    while shown.is_serving()? {
        std::thread::sleep(Duration::from_millis(200));
    }
    println!("The gateway has ended.");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_can_be_copied_into_a_shell() {
        for (word, expected) in [
            ("/tmp/deskreel-demo/a.mp4", "/tmp/deskreel-demo/a.mp4"),
            ("/tmp/my demo/a.mp4", "'/tmp/my demo/a.mp4'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot)", "'$(reboot)'"),
            ("~/x", "'~/x'"),
            ("", "''"),
        ] {
            assert_eq!(quoted(word), expected);
        }
    }

    #[test]
    fn settings_of_the_environment_do_not_reach_the_commands() {
        let mut command = Command::new("deskreel");
        let names = ["DESKREEL_DATA_DIR", "PATH", "DESKREEL_CONFIG", "MY_DESKREEL_X"];
        without_settings(&mut command, names.into_iter().map(OsString::from));
        let removed: Vec<_> = command.get_envs().collect();
        assert_eq!(
            removed,
            [("DESKREEL_CONFIG".as_ref(), None), ("DESKREEL_DATA_DIR".as_ref(), None)]
        );
    }
}
