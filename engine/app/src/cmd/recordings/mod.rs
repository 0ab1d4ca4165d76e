//! `deskreel recordings`: list, show, play, export, verify, copy and delete recordings.

mod copy;
pub(in crate::cmd) mod door;
mod download;
mod events;
mod export;
mod frame;
mod hold;
mod ls;
pub(in crate::cmd) mod moment;
mod output_file;
mod play;
mod purge;
mod rm;
mod show;
pub(in crate::cmd) mod target;
mod verify;

use clap::Subcommand;

use super::{Global, Outcome};
use crate::digest;

/// Arguments of `deskreel recordings`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List recordings, oldest first
    Ls(ls::Args),
    /// Show one recording: facts, gaps, where it is stored
    Show(show::Args),
    /// Play a recording in a browser, without a gateway
    Play(play::Args),
    /// Print the events of a recording
    Events(events::Args),
    /// Write the screen at a moment as PNG
    Frame(frame::Args),
    /// Export a recording as a video or as pictures
    Export(export::Args),
    /// Copy a recording's segments, manifest and exports, and verify the copy
    Download(download::Args),
    /// Delete a recording from all storages
    ///
    /// What the catalog knows of it stays, with the manifest's digest and who deleted it.
    Rm(rm::Args),
    /// Keep a recording from being deleted, by anybody and whatever retention says
    Hold(hold::HoldArgs),
    /// Lift a hold
    Release(hold::ReleaseArgs),
    /// Delete the recordings whose time is over
    ///
    /// `serve` does this by itself every retention.purge_interval. Exit code 3: a storage refused; it is tried again.
    Purge(purge::Args),
    /// Check that a recording is complete and unchanged
    ///
    /// Exit code 0: whole. 3: true, but with gaps, undecoded parts, a recovered end or no end yet, or a storage could not be
    /// checked. 4: changed, incomplete or not signed by a trusted key. Every storage's copy is reported; those that are not
    /// `required` count only as findings, and only where they are not what was written.
    Verify(verify::Args),
}

/// Runs the command.
///
/// # Errors
/// Configuration, catalog, storages, damaged recordings, files that can't be written.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Ls(args) => ls::run(global, &args),
        Command::Show(args) => show::run(global, &args),
        Command::Play(args) => play::run(global, &args),
        Command::Events(args) => events::run(global, &args),
        Command::Frame(args) => frame::run(global, &args),
        Command::Export(args) => export::run(global, &args),
        Command::Download(args) => download::run(global, &args),
        Command::Rm(args) => rm::run(global, &args),
        Command::Hold(args) => hold::hold(global, &args),
        Command::Release(args) => hold::release(global, &args),
        Command::Purge(args) => purge::run(global, &args),
        Command::Verify(args) => verify::run(global, &args),
    }
}

/// Bytes as people read them.
pub(in crate::cmd) fn size(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if bytes < 1000 {
        return format!("{bytes} B");
    }
    let (mut whole, mut rest, mut unit) = (bytes, 0, 0);
    for (number, _) in UNITS.iter().enumerate() {
        (rest, whole, unit) = (whole % 1000 / 100, whole / 1000, number);
        if whole < 1000 {
            break;
        }
    }
    format!("{whole}.{rest} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (1_990, "1.9 kB"),
            (34_500_000, "34.5 MB"),
            (u64::MAX, "18446744.0 TB"),
        ] {
            assert_eq!(super::size(bytes), text);
        }
    }
}
