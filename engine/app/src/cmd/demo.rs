//! `deskreel demo`: the main job with nothing installed.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::{Outcome, UsageError};
use crate::catalog::State;
use crate::demo::{Demo, Shown};

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
    println!("The video:     {path}");
    println!("The recording: {}", folder.join("recordings").join(&id).display());
    println!("Last screen that the client saw: {}", shown.last_screen.display());
    println!(
        "Look further with DESKREEL_CONFIG={} and deskreel recordings show {id}",
        shown.config.display()
    );
    if args.wait {
        wait(&mut shown)?;
    }
    Ok(outcome)
}

/// Runs a command as a person would, on the demo's configuration, and shows it.
fn deskreel(shown: &Shown, arguments: &[&str]) -> anyhow::Result<Option<i32>> {
    println!("\n$ deskreel {}", arguments.join(" "));
    let own = std::env::current_exe().context("find the own program")?;
    let status = Command::new(own)
        .args(arguments)
        .arg("--config")
        .arg(&shown.config)
        .status()
        .with_context(|| format!("run deskreel {}", arguments.join(" ")))?;
    Ok(status.code())
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
