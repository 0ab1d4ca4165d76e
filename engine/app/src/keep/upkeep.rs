//! What goes on beside the gateway: deleting what retention no longer keeps, and looking at the storages for what other
//! nodes recorded. Both block, so each look is a thread of the pool, one after the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deskreel_config::Config;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::Opened;
use super::erase::Eraser;
use super::look::Trust;
use super::purge::{due, purge};
use super::retention::Rules;
use super::sync::{Scope, Syncer};
use crate::audit::{Actor, Audit};
use crate::catalog::Catalog;

/// Who deletes what retention no longer keeps, as the audit log names it.
pub(crate) const ACTOR: &str = "deskreel:retention";
/// Before the first looks, so that they don't slow the start.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// Between two looks at all that a storage has; those in between look at what is new.
const WHOLE_INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// What it works with.
pub(crate) struct Upkeep {
    rules: Rules,
    trust: Trust,
    storages: Vec<Opened>,
    catalog: Arc<Catalog>,
    audit: Audit,
    spool: PathBuf,
    data_dir: PathBuf,
    purge_interval: Duration,
    purge_batch_max: usize,
    sync_interval: Duration,
    /// Whoever runs the gateway wants it to end: begin nothing more.
    stopping: AtomicBool,
}

/// The task; it ends when this is dropped or told to.
pub(crate) struct Running {
    upkeep: Arc<Upkeep>,
    task: tokio::task::JoinHandle<()>,
}

impl Running {
    /// Begins nothing more. What is being done is finished by whoever waits for the runtime, or taken up at the next start.
    pub(crate) fn stop(&self) {
        self.upkeep.stopping.store(true, Ordering::Release);
        self.task.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Upkeep {
    /// Takes what it needs. `catalog` and `audit` are the engine's own.
    ///
    /// # Errors
    /// A section `retention` or a trusted key that can't be read.
    pub(crate) fn new(
        config: &Config,
        storages: Vec<Opened>,
        catalog: Arc<Catalog>,
        audit: Audit,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            rules: Rules::new(&config.retention).map_err(|error| anyhow::anyhow!(error))?,
            trust: crate::keys::trust(config)?,
            storages,
            catalog,
            audit,
            spool: config.spool.path.clone(),
            data_dir: config.data_dir.clone(),
            purge_interval: config.retention.purge_interval,
            purge_batch_max: config.retention.purge_batch_max as usize,
            sync_interval: config.catalog.sync_interval,
            stopping: AtomicBool::new(false),
        })
    }

    /// Starts, inside the runtime that it is to run in.
    pub(crate) fn start(self) -> Running {
        let upkeep = Arc::new(self);
        let task = tokio::spawn(run(Arc::clone(&upkeep)));
        Running { upkeep, task }
    }

    fn purge(&self, handle: &Handle) -> anyhow::Result<()> {
        let now = OffsetDateTime::now_utc();
        let eraser = Eraser {
            handle,
            catalog: &self.catalog,
            storages: &self.storages,
            spool: &self.spool,
        };
        let actor = Actor {
            user: ACTOR.to_owned(),
            sudo_user: None,
        };
        for due in due(&self.catalog, &self.rules, now, self.purge_batch_max, |_| true)? {
            if self.stopping.load(Ordering::Acquire) {
                break;
            }
            let session = due.id;
            match purge(&eraser, &self.audit, &actor, due, now)?.error {
                None => tracing::info!(%session, "deleted a recording whose time is over"),
                Some(error) => tracing::warn!(%session, error, "a recording whose time is over is not deleted yet"),
            }
        }
        Ok(())
    }

    fn sync(&self, handle: &Handle, scope: Scope) -> anyhow::Result<()> {
        // A connection of its own: what a storage can tell again needs no fsync for each row.
        let catalog = Catalog::open_beside(&self.data_dir)?.relaxed()?;
        let syncer = Syncer {
            handle,
            catalog: &catalog,
            trust: &self.trust,
            rebuild: false,
            now: OffsetDateTime::now_utc(),
        };
        for opened in &self.storages {
            if self.stopping.load(Ordering::Acquire) {
                return Ok(());
            }
            match syncer.sync(opened, scope, &mut |_| {}) {
                Ok(synced) if synced.added + synced.updated + synced.gone > 0 => tracing::info!(
                    storage = opened.name,
                    added = synced.added,
                    updated = synced.updated,
                    gone = synced.gone,
                    "looked at the storage for what other nodes recorded"
                ),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(
                        storage = opened.name,
                        error = format!("{error:#}"),
                        "the catalog is not in step with the storage"
                    );
                }
            }
        }
        Ok(())
    }
}

async fn run(upkeep: Arc<Upkeep>) {
    let started = Instant::now() + FIRST_AFTER;
    let (mut purge_at, mut sync_at, mut whole_at) = (started, started, started);
    loop {
        tokio::time::sleep_until(purge_at.min(sync_at)).await;
        let now = Instant::now();
        if purge_at <= now {
            let this = Arc::clone(&upkeep);
            let handle = Handle::current();
            match tokio::task::spawn_blocking(move || this.purge(&handle)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "retention deletes nothing now"),
                Err(error) => tracing::error!(%error, "retention ended early"),
            }
            purge_at = Instant::now() + upkeep.purge_interval;
        }
        if sync_at <= now {
            let scope = if whole_at <= now { Scope::All } else { Scope::Recent };
            if scope == Scope::All {
                whole_at = now + WHOLE_INTERVAL;
            }
            let this = Arc::clone(&upkeep);
            let handle = Handle::current();
            match tokio::task::spawn_blocking(move || this.sync(&handle, scope)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(error = format!("{error:#}"), "the catalog is not in step"),
                Err(error) => tracing::error!(%error, "a look at the storages ended early"),
            }
            sync_at = Instant::now() + upkeep.sync_interval;
        }
    }
}
