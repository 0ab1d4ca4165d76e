//! `deskreel catalog`: the catalog from what storages have.

use anyhow::{Context as _, bail};
use clap::Subcommand;
use deskreel_config::Loaded;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::recordings::door::local;
use super::recordings::target::runtime;
use super::{Global, Listing, Outcome, UsageError, progress};
use crate::audit::{Audit, Event, Phase, Upkeep};
use crate::catalog::Catalog;
use crate::host::at_storage;
use crate::keep::sync::{Scope, Synced, Syncer};
use crate::keep::{self, Opened};
use crate::output;

/// Arguments of `deskreel catalog`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make the catalog anew from one storage: after data_dir was lost
    ///
    /// What the catalog knows already stays. Sessions that were not recorded are in no storage and can't be rebuilt. Exit code 3:
    /// something there could not be read.
    #[command(after_help = "Example:\n  deskreel catalog rebuild --storage disk")]
    Rebuild {
        /// The storage's name in the configuration
        #[arg(long, value_name = "NAME")]
        storage: String,
        #[command(flatten)]
        listing: Listing,
    },
    /// Bring the catalog in step with the storages: recordings of other nodes come and go
    ///
    /// `serve` does this by itself every catalog.sync_interval. Exit code 3: a storage or something there could not be read.
    #[command(after_help = "Example:\n  deskreel catalog sync")]
    Sync {
        /// Only this storage
        #[arg(long, value_name = "NAME")]
        storage: Option<String>,
        #[command(flatten)]
        listing: Listing,
    },
}

/// Runs the command.
///
/// # Errors
/// Configuration, catalog, storages, an account that may not.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    let loaded = global.load_quietly()?;
    match args.command {
        Command::Rebuild { storage, listing } => rebuild(&loaded, &storage, listing),
        Command::Sync { storage, listing } => sync(&loaded, storage.as_deref(), listing),
    }
}

fn rebuild(loaded: &Loaded, storage: &str, listing: Listing) -> anyhow::Result<Outcome> {
    let actor = local(loaded, "rebuild the catalog")?;
    let runtime = runtime()?;
    let opened = keep::open_one(loaded, runtime.handle(), storage).map_err(UsageError)?;
    let catalog = Catalog::open(&loaded.config.data_dir)?.relaxed()?;
    let audit = Audit::open(&loaded.config).context("open the audit log")?;
    let tell = |phase, error: Option<String>, details: Map<String, Value>| {
        let event = Event::CatalogRebuild(Upkeep {
            phase,
            storage: storage.to_owned(),
            success: error.is_none(),
            error,
            details,
        });
        audit.emit_or_fail(actor.clone(), &event)
    };
    tell(Phase::Begun, None, Map::new())?;
    let trust = crate::keys::trust(&loaded.config)?;
    let syncer = Syncer {
        handle: runtime.handle(),
        catalog: &catalog,
        trust: &trust,
        rebuild: true,
        now: OffsetDateTime::now_utc(),
    };
    let outcome = look(&syncer, &opened);
    let error = outcome.as_ref().err().map(|error| format!("{error:#}"));
    let details = outcome
        .as_ref()
        .ok()
        .and_then(|synced| serde_json::to_value(synced).ok());
    let details = match details {
        Some(Value::Object(mut details)) => {
            details.remove("storage");
            details
        }
        _ => Map::new(),
    };
    tell(Phase::Done, error, details)?;
    let synced = vec![outcome.with_context(|| format!("rebuild from storage {storage}"))?];
    output::print(listing.format, &synced, |synced| text(synced))?;
    if trust.own.is_none() {
        eprintln!(
            "deskreel: data_dir has no signing key, so every recording counts as another node's; see `recording.trusted_keys`"
        );
    }
    Ok(findings(&synced, 0))
}

fn sync(loaded: &Loaded, only: Option<&str>, listing: Listing) -> anyhow::Result<Outcome> {
    local(loaded, "change the catalog")?;
    let runtime = runtime()?;
    let opened = match only {
        Some(name) => vec![keep::open_one(loaded, runtime.handle(), name).map_err(UsageError)?],
        None => keep::open_all(loaded, runtime.handle()),
    };
    let catalog = Catalog::open(&loaded.config.data_dir)?.relaxed()?;
    let trust = crate::keys::trust(&loaded.config)?;
    let syncer = Syncer {
        handle: runtime.handle(),
        catalog: &catalog,
        trust: &trust,
        rebuild: false,
        now: OffsetDateTime::now_utc(),
    };
    let mut synced = Vec::new();
    let mut failed = 0;
    for opened in &opened {
        match look(&syncer, opened) {
            Ok(found) => synced.push(found),
            Err(error) => {
                failed += 1;
                let error = at_storage(&opened.name, &format!("{error:#}"));
                eprintln!("deskreel: {}", output::visible(&error));
            }
        }
    }
    output::print(listing.format, &synced, |synced| text(synced))?;
    if synced.is_empty() && failed > 0 {
        bail!("no storage could be looked at");
    }
    Ok(findings(&synced, failed))
}

fn look(syncer: &Syncer<'_>, opened: &Opened) -> anyhow::Result<Synced> {
    let bar = progress::spinner();
    let found = syncer.sync(opened, Scope::All, &mut |synced| {
        bar.set_message(format!(
            "{}: {} recordings, {} new",
            synced.storage, synced.recordings, synced.added
        ));
        bar.tick();
    });
    bar.finish_and_clear();
    found
}

fn findings(synced: &[Synced], failed: usize) -> Outcome {
    if failed > 0 || synced.iter().any(|synced| !synced.problems.is_empty()) {
        Outcome::Findings
    } else {
        Outcome::Fine
    }
}

fn text(synced: &[Synced]) -> String {
    let mut text = String::new();
    for synced in synced {
        text.push_str(&format!(
            "storage {}: {} recordings, {} new, {} updated, {} gone\n",
            synced.storage, synced.recordings, synced.added, synced.updated, synced.gone
        ));
        for (count, what) in [
            (synced.open, "have no manifest: they run, or their node crashed"),
            (
                synced.unproven,
                "are signed by nobody who is trusted (recording.trusted_keys)",
            ),
            (
                synced.leftover,
                "are deleted in the catalog, but something is left of them",
            ),
        ] {
            if count > 0 {
                text.push_str(&format!("  {count} {what}\n"));
            }
        }
        for problem in &synced.problems {
            text.push_str(&format!("  {}\n", output::visible(problem)));
        }
    }
    text
}
