//! `deskreel exports`: what exporters with `mode: async` make of recordings, beside the sessions.

mod add;
mod ls;
mod retry;
mod run;

use clap::Subcommand;
use deskreel_config::Loaded;
use deskreel_policy::Verb;
use time::OffsetDateTime;

use super::recordings::door::Door;
use super::recordings::target::details;
use super::{Global, Outcome};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, ExportRow, SessionRow, State};

/// Arguments of `deskreel exports`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List exports: which are done, wait or have failed, and why
    Ls(ls::Args),
    /// Have a recording exported in the background, and the output stored beside it
    Add(add::Args),
    /// Begin exports anew that have failed for good
    Retry(retry::Args),
    /// Make one export; the gateway calls this
    #[command(hide = true)]
    Run(run::Args),
}

pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Ls(args) => ls::run(global, &args),
        Command::Add(args) => add::run(global, &args),
        Command::Retry(args) => retry::run(global, &args),
        Command::Run(args) => run::run(global, &args),
    }
}

/// Asks for exports of a recording as whoever is at the keyboard, if the rules allow it. `choose` says by which exporters.
///
/// # Errors
/// Configuration, catalog, a refusal, an event that can't be written, what `choose` says.
fn ask(
    global: &Global,
    recording: &str,
    choose: impl FnOnce(&Loaded, &SessionRow, &[ExportRow]) -> anyhow::Result<Vec<String>>,
) -> anyhow::Result<Vec<(SessionRow, String, bool)>> {
    let loaded = global.load_quietly()?;
    let door = Door::open(&loaded)?;
    let purpose = Purpose {
        verb: Verb::Export,
        what: RecordingAction::Export,
        action: "queue",
    };
    let looked = door.gate().look(recording, purpose)?;
    let row = looked.row.clone();
    if let Some(why) = never(&row) {
        door.gate().refuse(&looked, &why)?;
        anyhow::bail!(why);
    }
    let catalog = Catalog::open_beside(&loaded.config.data_dir)?;
    let exporters = choose(&loaded, &row, &catalog.exports(row.id)?)?;
    let told = details([("exporters", exporters.clone().into())]);
    let pass = door.gate().begin(&looked, told.clone())?;
    let by = door.gate().actor.user;
    let now = OffsetDateTime::now_utc();
    let mut asked = Vec::new();
    for exporter in exporters {
        let new = catalog.ask_export(row.id, &exporter, &by, now)?;
        asked.push((row.clone(), exporter, new));
    }
    pass.done(Ok(told))?;
    Ok(asked)
}

/// Why a recording will never be exported by this node's gateway.
fn never(row: &SessionRow) -> Option<String> {
    let id = row.id;
    match (&row.node, row.state) {
        (Some(node), _) => Some(format!("recording {id} is of node {node}: ask there")),
        (None, State::NotRecorded) => Some(format!("session {id} was not recorded")),
        (None, State::Deleted) => Some(format!("recording {id} is deleted")),
        (None, _) => None,
    }
}
