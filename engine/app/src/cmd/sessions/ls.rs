//! `sessions ls`.

use super::{problem, recording, span};
use crate::cmd::{Global, Listing, Outcome};
use crate::control::client::ask_once;
use crate::control::protocol::{Answer, Request};
use crate::output;

/// Arguments of `sessions ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel sessions ls\n  deskreel sessions ls --format json")]
pub(super) struct Args {
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let data_dir = global.load()?.config.data_dir;
    let sessions = match ask_once(&data_dir, &Request::List {})? {
        Answer::Sessions { sessions } => sessions,
        other => return Err(problem(other)),
    };
    output::print(args.listing.format, &sessions, |sessions| {
        let rows: Vec<Vec<String>> = sessions
            .iter()
            .map(|session| {
                vec![
                    session.id.to_string(),
                    session.user.clone(),
                    session.login.clone(),
                    session.desktop.clone(),
                    session.client_addr.clone(),
                    span(session.duration_ms),
                    span(session.idle_ms),
                    recording(session),
                ]
            })
            .collect();
        let header = ["ID", "USER", "LOGIN", "DESKTOP", "CLIENT", "RUNS", "IDLE", "RECORDING"];
        output::table(&header, &rows)
    })?;
    Ok(Outcome::Fine)
}
