//! `deskreel sessions`: the sessions that run now, asked of the gateway over its control socket.

mod ls;
mod show;
mod terminate;
mod watch;

use clap::Subcommand;

use super::{Global, Outcome, UsageError};
use crate::control::protocol::{Answer, ErrorKind, RecordingState, Session};

/// Arguments of `sessions`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the running sessions
    Ls(ls::Args),
    /// Show one running session
    Show(show::Args),
    /// Follow a running session: what is recorded, as it is recorded
    Watch(watch::Args),
    /// End a running session
    Terminate(terminate::Args),
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Ls(args) => ls::run(global, args),
        Command::Show(args) => show::run(global, args),
        Command::Watch(args) => watch::run(global, args),
        Command::Terminate(args) => terminate::run(global, args),
    }
}

/// An answer that isn't the wanted one, as an error.
fn problem(answer: Answer) -> anyhow::Error {
    match answer {
        Answer::Error {
            kind: ErrorKind::Request,
            message,
        } => UsageError(message).into(),
        Answer::Error { message, .. } => anyhow::Error::msg(message),
        _ => anyhow::Error::msg("the gateway gave an answer to another question"),
    }
}

/// Milliseconds as people read them: `1:02:03`.
fn span(ms: u64) -> String {
    let seconds = ms / 1000;
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

fn recording(session: &Session) -> String {
    match session.recording {
        RecordingState::Starting => "starting".to_owned(),
        RecordingState::Recorded => session.level.clone(),
        RecordingState::NotRecorded => "not recorded".to_owned(),
    }
}
