//! `recordings rm`.

use std::io::{BufRead as _, IsTerminal as _};
use std::sync::Arc;

use anyhow::{Context as _, bail};
use deskreel_config::Loaded;
use deskreel_policy::Verb;
use deskreel_sdk::{Key, Prefix};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::runtime::Runtime;

use super::door::Door;
use super::ls;
use super::target::{details, quiet_log, runtime};
use crate::access::recordings::{Looked, Purpose};
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, SessionRow, State};
use crate::cmd::{Global, Outcome, UsageError};
use crate::host::{Plugins, StorageHandle};

/// Name of the manifest below a recording's prefix.
const MANIFEST: &str = "manifest.json";

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

/// What became of the copy at one storage.
struct Removed {
    storage: String,
    objects: u64,
    /// Why something is left there.
    error: Option<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    quiet_log(loaded.config.log);
    let door = Door::open(&loaded)?;
    let purpose = Purpose {
        verb: Verb::Delete,
        what: RecordingAction::Delete,
        action: "delete",
    };
    let looked = door.gate().look(&args.recording, purpose)?;
    if let Some(why) = untouchable(&looked.row) {
        door.gate().refuse(&looked, &why)?;
        bail!(why);
    }
    if !args.yes && !confirmed(&looked.row)? {
        bail!("nothing was deleted");
    }
    let catalog = Catalog::open_beside(&loaded.config.data_dir)?;
    let digest = details([("digest", looked.row.manifest_sha256.clone().into())]);
    let pass = door.gate().begin(&looked, digest.clone())?;
    let removed = remove(&loaded, &catalog, &looked)?;
    let outcome = settle(&loaded, &catalog, &looked, &removed, &door);
    let storages: Vec<Value> = removed
        .iter()
        .map(|removed| json!({"storage": removed.storage, "objects": removed.objects, "error": removed.error}))
        .collect();
    let mut told = digest;
    told.insert("storages".to_owned(), storages.into());
    for removed in &removed {
        match &removed.error {
            None => println!("storage {}: {} objects deleted", removed.storage, removed.objects),
            Some(error) => eprintln!("deskreel: storage {}: {error}", removed.storage),
        }
    }
    let failed = outcome.as_ref().err().map(|error| format!("{error:#}"));
    pass.done_with(told, failed)?;
    outcome?;
    println!(
        "recording {} is deleted; the catalog keeps that it was there",
        looked.row.id
    );
    Ok(Outcome::Fine)
}

/// Why a recording can't be deleted now, whoever asks.
fn untouchable(row: &SessionRow) -> Option<String> {
    let id = row.id;
    if let Some(hold) = &row.hold {
        return Some(format!("recording {id} is held: {hold}"));
    }
    match row.state {
        State::Recording => Some(format!("session {id} still runs: end it first")),
        State::Delivering => Some(format!(
            "recording {id} is being delivered: not every required storage has all of it yet"
        )),
        State::NotRecorded => Some(format!("session {id} was not recorded: there is nothing to delete")),
        State::Deleted => Some(format!("recording {id} is deleted already")),
        State::Complete | State::Recovered | State::Damaged => None,
    }
}

fn confirmed(row: &SessionRow) -> anyhow::Result<bool> {
    if !std::io::stdin().is_terminal() {
        return Err(UsageError("nobody can be asked here: add --yes".to_owned()).into());
    }
    eprint!(
        "Delete recording {} of {} on {}, {}, from all storages? [y/N] ",
        row.id,
        row.user,
        row.desktop,
        ls::started(row)
    );
    let mut answer = String::new();
    std::io::stdin()
        .lock()
        .read_line(&mut answer)
        .context("read the answer")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Deletes at every storage that may have objects of it. A storage that refuses keeps none of the others from it.
fn remove(loaded: &Loaded, catalog: &Catalog, looked: &Looked) -> anyhow::Result<Vec<Removed>> {
    let runtime = runtime()?;
    let plugins = Plugins::new(loaded);
    let mut removed = Vec::new();
    for config in &loaded.config.storages {
        let mut here = Removed {
            storage: config.name.clone(),
            objects: 0,
            error: None,
        };
        let done = match runtime.block_on(plugins.open_storage(config)) {
            Ok(storage) => empty(&runtime, &storage, looked, &mut here.objects),
            Err(error) => Err(error),
        };
        match done {
            Ok(()) => catalog.deleted_from(looked.row.id, &config.name)?,
            Err(error) => here.error = Some(format!("{error:#}")),
        }
        removed.push(here);
    }
    // Storages that are no longer configured.
    for placed in catalog.placements(looked.row.id)? {
        let known = removed.iter().any(|removed| removed.storage == placed.storage);
        if !known && placed.stored.is_some() {
            removed.push(Removed {
                storage: placed.storage,
                objects: 0,
                error: Some("is not configured any more: its copy stays".to_owned()),
            });
        }
    }
    Ok(removed)
}

/// Deletes everything of a recording at one storage, the manifest last: segments without one look like a session whose
/// gateway died.
fn empty(runtime: &Arc<Runtime>, storage: &StorageHandle, looked: &Looked, objects: &mut u64) -> anyhow::Result<()> {
    let prefix = Prefix::new(format!("{}/", looked.row.id))?;
    let mut keys: Vec<Key> = runtime
        .block_on(storage.list(&prefix))?
        .into_iter()
        .map(|object| object.key)
        .collect();
    keys.sort_by_key(|key| key.as_str().ends_with(MANIFEST));
    for key in keys {
        runtime
            .block_on(storage.delete(&key))
            .with_context(|| format!("delete {key}"))?;
        *objects += 1;
    }
    Ok(())
}

/// Makes the row a tombstone once nothing is left anywhere.
fn settle(loaded: &Loaded, catalog: &Catalog, looked: &Looked, removed: &[Removed], door: &Door) -> anyhow::Result<()> {
    let left: Vec<&str> = removed
        .iter()
        .filter(|removed| removed.error.is_some())
        .map(|removed| removed.storage.as_str())
        .collect();
    if !left.is_empty() {
        bail!(
            "recording {} is not deleted: storage {} still has objects of it",
            looked.row.id,
            left.join(", ")
        );
    }
    let spooled = loaded.config.spool.path.join(looked.row.id.to_string());
    match std::fs::remove_dir_all(&spooled) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("remove {}", spooled.display()));
        }
        _ => {}
    }
    let by = door.gate().actor.user;
    catalog.deleted(looked.row.id, OffsetDateTime::now_utc(), &by)?;
    Ok(())
}
