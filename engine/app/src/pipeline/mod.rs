//! From the relay's PDUs to stored segments: the bounded queue, the recorder and the writer thread of each session, the
//! spool, delivery to the storages, and recovery of what a crash left behind.
//!
//! The life of a PDU: `SessionRecorder::enqueue` -> `queue` -> `recorder` (tap, frames, segments) -> `writer` (the thread
//! that may hang on a disk) -> `sink` (spool, catalog) -> `courier` (does what `delivery` decides) -> `Storage::put` ->
//! `Catalog::stored` -> gone from the spool.

mod convert;
mod courier;
mod delivery;
mod drives;
mod facts;
mod ground;
mod live;
mod lock;
mod opening;
mod queue;
mod recorder;
mod recovery;
mod session;
mod sink;
mod spool;
mod steps;
mod storage;
mod trail;
mod watch;
mod writer;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use deskreel_config::{ClusterMode, Config, Mode, OnFailure};
use deskreel_recording::event::{EndReason, SessionEnd};
use tokio::sync::{mpsc, oneshot, watch as watch_channel};
use tokio::time::Instant;

use crate::audit::{Audit, AuditError};
use crate::catalog::Catalog;
use crate::keep;
use crate::keys::NodeKey;
use courier::{Courier, Health, Links, Means, Order};
pub(crate) use facts::SessionFacts;
pub(crate) use live::{LiveEvent, Look};
pub(crate) use lock::{FolderLock, is_held as is_running};
pub(crate) use recorder::{end_text, gap_row};
use recovery::Recovery;
use recovery::run::Repair;
pub(crate) use recovery::unknown_session;
pub(crate) use session::SessionRecorder;
use session::Shared;
use sink::Target;
pub(crate) use spool::Fill;
pub(crate) use storage::Storage;
// For those who fake a storage.
#[cfg(test)]
pub(crate) use storage::Answer;

/// Orders that may wait for the courier; recorder threads wait for room.
const ORDERS_MAX: usize = 1024;
/// Recordings that may wait to be closed after their recorder failed.
const REPAIRS_MAX: usize = 1024;
/// How long a start waits for what the last run left to be recovered; what takes longer goes on beside the sessions.
const RECOVERY_PATIENCE: Duration = Duration::from_secs(1);

/// Why a session may not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// A sync storage does not answer and `session_recording.on_failure` is strict.
    #[error("storage {storage} can't take the recording: {error}")]
    Storage {
        /// Name in the configuration.
        storage: String,
        /// What it said.
        error: String,
    },
    /// The spool is full and `session_recording.on_failure` is strict.
    #[error("spool {0}")]
    Spool(String),
    /// The catalog or the recorder's thread could not be had.
    #[error("{0}")]
    Local(String),
    /// The start could not be written to the audit log, and `audit.on_failure` is strict.
    #[error("{0}")]
    Audit(AuditError),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

/// All sessions of this engine: opens recorders and delivers what they seal. One per process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    inner: Arc<Inner>,
}

struct Inner {
    config: Config,
    key: NodeKey,
    means: Means,
    targets: Arc<[Target]>,
    orders: mpsc::Sender<Order>,
    repairs: mpsc::Sender<Repair>,
    background: Mutex<Vec<tokio::task::JoinHandle<()>>>,
    /// Whether what the last run left was looked through.
    recovered: watch_channel::Receiver<bool>,
    shutting_down: AtomicBool,
    /// Last, so that they are released last.
    _locks: Vec<FolderLock>,
}

impl Sessions {
    /// Takes the lock on `data_dir`, opens key, catalog and spool, closes the recordings that a crash left open, and
    /// starts delivery. Call it before listening, inside the tokio runtime that is to run the delivery.
    ///
    /// # Errors
    /// Another engine that uses the same `data_dir`; a key, catalog or spool that can't be opened; recording without
    /// any required storage.
    pub(crate) async fn start(config: &Config, storages: Vec<Arc<dyn Storage>>) -> anyhow::Result<Self> {
        let recording = config.session_recording.mode != ClusterMode::Off;
        if recording && !storages.iter().any(|storage| storage.required()) {
            bail!(
                "session_recording.mode is on, but no entry of storages is required: nothing would keep the recordings"
            );
        }
        let retention = keep::retention::Rules::new(&config.retention).map_err(anyhow::Error::msg)?;
        let local = config.clone();
        let open = move || -> anyhow::Result<_> {
            let locks = ground::lock_folders(&local.data_dir, &local.spool.path)?;
            let catalog = Catalog::open(&local.data_dir)?;
            let spool = spool::Spool::open(&local.spool.path, (&local.spool).into());
            let spool = spool.with_context(|| format!("open the spool {} (spool.path)", local.spool.path.display()))?;
            let key = ground::node_key(&local.data_dir, &catalog, &spool)?;
            // After the key, whose fingerprint is in the events.
            let audit = Audit::open(&local).context("open the audit log")?;
            Ok((locks, key, catalog, spool, audit))
        };
        let (locks, key, catalog, spool, audit) =
            tokio::task::spawn_blocking(open).await.context("open data_dir")??;
        let targets = storages
            .iter()
            .map(|storage| Target {
                name: storage.name().to_owned(),
                required: storage.required(),
            })
            .collect();
        let means = Means {
            health: Arc::new(Mutex::new(vec![Health::default(); storages.len()])),
            storages: storages.into(),
            spool: Arc::new(spool),
            catalog: Arc::new(catalog),
            retention: Arc::new(retention),
            audit,
            links: Arc::new(Links::new(HashMap::new())),
        };
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (repairs, to_repair) = mpsc::channel(REPAIRS_MAX);
        let courier = Courier::new(means.clone(), config.recording.stall_max, received, rand::random());
        let courier = tokio::spawn(courier.run());
        let watch = watch::watch(Arc::clone(&means.spool), means.audit.clone(), orders.clone());
        let watch = tokio::spawn(watch);
        let (first_pass, recovered) = watch_channel::channel(false);
        let inner = Arc::new(Inner {
            config: config.clone(),
            key,
            means,
            targets,
            orders,
            repairs,
            background: Mutex::new(vec![courier, watch]),
            recovered,
            shutting_down: AtomicBool::new(false),
            _locks: locks,
        });
        inner
            .end_unrecorded()
            .await
            .context("end the sessions of the last run")?;
        // Before any session is opened: those that are open now are the last run's.
        let found = inner.recovery().list().await?;
        let recovery = tokio::spawn(recovery::run::run(inner.recovery(), found, to_repair, first_pass));
        inner
            .background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(recovery);
        let mut recovered = inner.recovered.clone();
        if tokio::time::timeout(RECOVERY_PATIENCE, recovered.wait_for(|done| *done))
            .await
            .is_err()
        {
            tracing::info!("what the last run left is recovered beside the sessions");
        }
        Ok(Self { inner })
    }

    /// Resolves when what the last run left was looked through.
    #[cfg(test)]
    pub(crate) async fn recovered(&self) {
        let mut recovered = self.inner.recovered.clone();
        // An error is a recovery that is gone, which is over as well.
        let _ = recovered.wait_for(|done| *done).await;
    }

    /// The folder that all of it lies in.
    #[cfg(test)]
    pub(crate) fn data_dir(&self) -> &std::path::Path {
        &self.inner.config.data_dir
    }

    /// The catalog.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.inner.means.catalog
    }

    /// The audit log.
    pub(crate) fn audit(&self) -> &Audit {
        &self.inner.means.audit
    }

    /// Opens the recording of a session; call it when the first Demand Active is seen, before it is forwarded.
    /// A session that isn't to be recorded gets a recorder that takes everything and records nothing
    /// ([`SessionRecorder::is_recording`] says so), and the catalog has the session as not recorded.
    ///
    /// Takes as long as an unreachable storage needs to say so, at most `recording.stall_max`.
    ///
    /// # Errors
    /// See [`OpenError`]; the session must then be refused. Cancel safe: a recorder that nobody got is closed again.
    pub(crate) async fn open(&self, facts: SessionFacts) -> Result<SessionRecorder, OpenError> {
        let inner = &self.inner;
        if inner.shutting_down.load(Ordering::Acquire) {
            return Err(OpenError::ShuttingDown);
        }
        let plan = inner.plan(&facts);
        if let Some(why) = plan.not_recorded {
            return inner.not_recorded(facts, why.to_owned()).await;
        }
        if !inner.means.storages.iter().any(|storage| storage.required()) {
            return Err(OpenError::Local("no entry of storages is required".to_owned()));
        }
        let strict = plan.on_failure == OnFailure::Strict;
        let is_sync = |storage: &Arc<dyn Storage>| storage.mode() == Mode::Sync || plan.all_sync && storage.required();
        let any_sync = inner.means.storages.iter().any(is_sync);
        let any_async = inner.means.storages.iter().any(|storage| !is_sync(storage));
        let unreachable = inner.unreachable(plan.all_sync).await;
        if let Some((storage, error)) = &unreachable
            && strict
        {
            return Err(OpenError::Storage {
                storage: storage.clone(),
                error: error.clone(),
            });
        }
        if let Some((storage, error)) = &unreachable {
            tracing::error!(session = %facts.id, storage, error, "recording to the spool");
        }
        let spooled = any_async || unreachable.is_some();
        if spooled
            && strict
            && let Err(full) = inner.means.spool.room()
        {
            return Err(OpenError::Spool(full));
        }
        let live = any_sync && unreachable.is_none();
        match Inner::begin(inner, facts.clone(), plan, spooled, live).await {
            Ok(recorder) => inner.told(recorder, &facts, strict).await,
            Err(error) if strict => Err(OpenError::Local(format!("{error:#}"))),
            Err(error) => {
                tracing::error!(session = %facts.id, error = format!("{error:#}"), "the session is not recorded");
                inner.not_recorded(facts, format!("{error:#}")).await
            }
        }
    }

    /// Waits until what the sessions sealed is stored or safely in the spool, then stops. Sessions that still run are
    /// ended first (`GatewayStopped`); no session can be opened any more.
    pub(crate) async fn shutdown(self) {
        let inner = self.inner;
        if inner.shutting_down.swap(true, Ordering::AcqRel) {
            return;
        }
        let running: Vec<Arc<Shared>> = inner
            .means
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect();
        for shared in &running {
            let end = SessionEnd {
                reason: EndReason::GatewayStopped,
                detail: None,
                error_info: None,
            };
            shared.queue.push_always(queue::Entry {
                at: std::time::Instant::now(),
                what: queue::What::End(end),
            });
        }
        let grace = inner.config.gateway.shutdown_timeout;
        let deadline = Instant::now() + grace;
        for shared in &running {
            // A recorder that waits for a storage is let go by the courier's stall, later than this perhaps.
            if tokio::time::timeout_at(deadline, shared.wait_closed()).await.is_err() {
                shared.spooled.store(true, Ordering::Release);
            }
        }
        for shared in &running {
            if tokio::time::timeout_at(deadline + grace, shared.wait_closed())
                .await
                .is_err()
            {
                tracing::warn!(session = %shared.id, "its recorder does not end; the next start closes the recording");
            }
        }
        let (done, stopped) = oneshot::channel();
        if inner.orders.send(Order::Stop { deadline, done }).await.is_ok() {
            let _ = stopped.await;
        }
        for task in inner
            .background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            task.abort();
        }
    }
}

impl Inner {
    fn recovery(&self) -> Recovery {
        Recovery {
            means: self.means.clone(),
            key: self.key.signing().clone(),
            targets: Arc::clone(&self.targets),
            orders: self.orders.clone(),
            silent: Arc::default(),
        }
    }

    /// Ends the sessions that weren't recorded and that a killed gateway left open.
    async fn end_unrecorded(&self) -> anyhow::Result<()> {
        let means = self.means.clone();
        let end = move || trail::end_unrecorded(&means.audit, &means.catalog);
        tokio::task::spawn_blocking(end).await.context("end sessions")?
    }
}

#[cfg(test)]
mod tests;
