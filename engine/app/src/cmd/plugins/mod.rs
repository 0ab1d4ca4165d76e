//! `deskreel plugins`: what plugins there are, and tools for those who write one.

mod check;
mod check_run;
mod ls;
mod new;

use clap::Subcommand;

use super::{Global, Outcome};

/// Arguments of `deskreel plugins`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the plugin files that are found and those that the configuration names, without running any
    ///
    /// Exit code 3 when one of them can't be used; the last column says why.
    Ls(ls::Args),
    /// Check that a built plugin keeps the contract of the SDK; for authors
    ///
    /// Runs the checks of `deskreel_sdk::testkit` on the file, each in a process of its own: a plugin that crashes or hangs
    /// fails that check and no other. A storage must be empty; what the checks write is deleted again. Exit code 0: it keeps the
    /// contract. 2: the file or its settings can't be used. 4: a check failed.
    Check(check::Args),
    /// Write a new plugin's crate, which builds and keeps the contract as it is
    New(new::Args),
}

/// Runs the command.
///
/// # Errors
/// A configuration or a file that can't be read or written, a closed stdout.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Ls(args) => ls::run(global, &args),
        Command::Check(args) => check::run(&args),
        Command::New(args) => new::run(&args),
    }
}
