//! `recordings rm`.

use std::io::{BufRead as _, IsTerminal as _};

use anyhow::{Context as _, bail};
use deskreel_policy::Verb;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::door::Door;
use super::ls;
use super::target::{details, runtime};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, SessionRow};
use crate::cmd::{Global, Outcome, UsageError};
use crate::host::at_storage;
use crate::keep::erase::{Eraser, Removed, Warrant, untouchable};
use crate::keep::open_all;
use crate::keep::retention::Rules;

/// Arguments of `recordings rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel recordings rm 01902b6e --yes")]
pub(super) struct Args {
    /// Id of a recording (a unique begin is enough)
    #[arg(value_name = "ID")]
    recording: String,
    /// Don't ask
    #[arg(long)]
    yes: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load_quietly()?;
    let rules = Rules::new(&loaded.config.retention).map_err(UsageError)?;
    let door = Door::open(&loaded)?;
    let purpose = Purpose {
        verb: Verb::Delete,
        what: RecordingAction::Delete,
        action: "delete",
    };
    let looked = door.gate().look(&args.recording, purpose)?;
    let now = OffsetDateTime::now_utc();
    if let Some(why) = untouchable(&looked.row).or_else(|| rules.too_early(&looked.row, now)) {
        door.gate().refuse(&looked, &why)?;
        bail!(why);
    }
    if !args.yes && !confirmed(&looked.row)? {
        bail!("nothing was deleted");
    }
    let catalog = Catalog::open_beside(&loaded.config.data_dir)?;
    let digest = details([("digest", looked.row.manifest_sha256.clone().into())]);
    let pass = door.gate().begin(&looked, digest.clone())?;
    let runtime = runtime()?;
    let storages = open_all(&loaded, runtime.handle());
    let eraser = Eraser {
        handle: runtime.handle(),
        catalog: &catalog,
        storages: &storages,
        spool: &loaded.config.spool.path,
    };
    let by = door.gate().actor.user;
    let warrant = Warrant {
        by: &by,
        why: "recordings rm",
        now,
    };
    // A hold may have come since the look: the eraser asks once more.
    let (removed, outcome) = match eraser.erase(&looked.row, warrant) {
        Ok((removed, settled)) => (removed, settled),
        Err(error) => (Vec::new(), Err(error)),
    };
    let mut told = digest;
    told.insert("storages".to_owned(), tell(&removed));
    let failed = outcome.as_ref().err().map(|error| format!("{error:#}"));
    pass.done_with(told, failed)?;
    outcome?;
    println!(
        "recording {} is deleted; the catalog keeps that it was there",
        looked.row.id
    );
    Ok(Outcome::Fine)
}

/// Says what each storage did, here and for the audit log.
fn tell(removed: &[Removed]) -> Value {
    for removed in removed {
        match &removed.error {
            None => println!("storage {}: {} objects deleted", removed.storage, removed.objects),
            Some(error) => eprintln!("deskreel: {}", at_storage(&removed.storage, error)),
        }
    }
    json!(removed)
}

fn confirmed(row: &SessionRow) -> anyhow::Result<bool> {
    let question = format!(
        "Delete recording {} of {} on {}, {}, from all storages?",
        row.id,
        row.user,
        row.desktop,
        ls::started(row)
    );
    asked(&question)
}

/// Asks whoever is at the terminal.
///
/// # Errors
/// Nobody is.
pub(super) fn asked(question: &str) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(UsageError("nobody can be asked here: add --yes".to_owned()).into());
    }
    eprint!("{} [y/N] ", crate::output::visible(question));
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
