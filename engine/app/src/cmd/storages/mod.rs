//! `deskreel storages`: look after storages.

mod bench;
mod check;
mod copy;
mod ls;
mod scan;

use std::sync::Arc;

use clap::Subcommand;
use deskreel_config::Loaded;
use tokio::runtime::{Handle, Runtime};

use super::recordings::door::local;
use super::recordings::target::runtime;
use super::{Global, Outcome, UsageError};
use crate::audit::Actor;
use crate::catalog::Catalog;
use crate::host::{StorageHandle, return_large_buffers};
use crate::keep::{open_all, open_one};

/// Arguments of `deskreel storages`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the configured storages: whether they can be used now, what they have and what waits for them
    ///
    /// Exit code 3 when one of them can't be used.
    Ls(ls::Args),
    /// Write, read, list and delete an object: everything that Deskreel needs of a storage
    ///
    /// Exit code 3 when a storage doesn't do something; the last column says what it means.
    Check(check::Args),
    /// Measure throughput and latency with objects as large as segments
    Bench(bench::Args),
    /// Compare a storage with the catalog: objects that nobody knows, and what is missing or has the wrong size
    ///
    /// Exit code 3: something is there that should not be, or a storage could not be read. 4: something is missing or damaged.
    Scan(scan::ScanArgs),
    /// Compare digests of some objects, taken by chance, with what was sealed
    ///
    /// Exit code 3: a storage could not be read. 4: something is missing or damaged.
    Scrub(scan::ScrubArgs),
    /// Copy recordings from one storage to another; may be broken off and begun again
    ///
    /// Exit code 3: something could not be copied.
    Copy(copy::Args),
}

/// Runs the command.
///
/// # Errors
/// Configuration, catalog, storages, an account that may not.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    return_large_buffers();
    let loaded = global.load_quietly()?;
    let actor = local(&loaded, "look after storages")?;
    let at = At {
        loaded,
        actor,
        runtime: runtime()?,
    };
    match args.command {
        Command::Ls(args) => ls::run(&at, &args),
        Command::Check(args) => check::run(&at, &args),
        Command::Bench(args) => bench::run(&at, &args),
        Command::Scan(args) => scan::scan(&at, &args),
        Command::Scrub(args) => scan::scrub(&at, &args),
        Command::Copy(args) => copy::run(&at, &args),
    }
}

/// What these commands work with.
struct At {
    loaded: Loaded,
    actor: Actor,
    runtime: Arc<Runtime>,
}

impl At {
    fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    /// The storage of this name, open.
    fn storage(&self, name: &str) -> anyhow::Result<Arc<StorageHandle>> {
        let opened = open_one(&self.loaded, self.handle(), name).map_err(UsageError)?;
        opened.storage.map_err(|error| anyhow::anyhow!(error))
    }

    /// The storages of these names, or all where there are none.
    fn storages(&self, names: &[String]) -> anyhow::Result<Vec<crate::keep::Opened>> {
        if names.is_empty() {
            return Ok(open_all(&self.loaded, self.handle()));
        }
        let one = |name: &String| open_one(&self.loaded, self.handle(), name).map_err(|error| UsageError(error).into());
        names.iter().map(one).collect()
    }

    /// The catalog; an empty one where nothing was recorded yet.
    fn catalog(&self) -> anyhow::Result<Catalog> {
        Ok(Catalog::open_or_nothing(&self.loaded.config.data_dir)?)
    }
}

/// Milliseconds for people.
fn ms(micros: u64) -> String {
    format!("{}.{} ms", micros / 1000, micros % 1000 / 100)
}
