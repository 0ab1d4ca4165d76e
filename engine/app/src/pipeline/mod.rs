//! From the relay's PDUs to stored segments: the bounded queue, the recorder thread of each session, the spool,
//! delivery to the storages, and recovery of what a crash left behind.
//!
//! The life of a PDU: `SessionRecorder::enqueue` -> `queue` -> `recorder` (tap, frames, segments) -> `sink` (spool,
//! catalog) -> `courier` (does what `delivery` decides) -> `Storage::put` -> `Catalog::stored` -> gone from the spool.

mod convert;
mod courier;
mod delivery;
mod drives;
mod facts;
mod ground;
mod live;
mod lock;
mod queue;
mod recorder;
mod recovery;
mod session;
mod sink;
mod spool;
mod storage;
mod trail;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use deskreel_config::{ClusterMode, Config, Mode, OnFailure};
use deskreel_policy::{Level, NotRecorded, StorageMode};
use deskreel_rdp::tap::Tap;
use deskreel_recording::event::{EndReason, SessionEnd};
use deskreel_recording::{Recorder, RecorderOptions};
use time::OffsetDateTime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use uuid::Uuid;

use crate::audit::{Audit, AuditError};
use crate::catalog::Catalog;
use crate::keys::NodeKey;
use courier::{Courier, Health, Links, Means, Order};
use facts::{new_session, session_start};
pub(crate) use live::{LiveEvent, Look};
pub(crate) use lock::{FolderLock, is_held as is_running};
pub(crate) use recorder::{end_text, gap_row};
pub(crate) use recovery::unknown_session;
use recovery::{Outcome, Recovery, When};
use session::{Rules, Shared};
pub(crate) use session::{SessionFacts, SessionRecorder};
use sink::{Sink, Target};
pub(crate) use storage::Storage;
use trail::Trail;
// For those who fake a storage.
#[cfg(test)]
pub(crate) use storage::{Answer, Remedy, StorageError};

/// A sync storage that stored something so recently needs no check before a session.
const HEALTHY_FOR: Duration = Duration::from_secs(10);
/// Orders that may wait for the courier; recorder threads wait for room.
const ORDERS_MAX: usize = 1024;
/// Recordings that may wait to be closed after their recorder failed.
const REPAIRS_MAX: usize = 1024;
/// Between two attempts to recover a recording whose storage doesn't answer.
const RECOVERY_INTERVAL: Duration = Duration::from_secs(60);

/// Why a session isn't recorded, as the catalog says it.
const CLUSTER_OFF: &str = "cluster_off";
const ROLES_OFF: &str = "roles_off";

/// How a session is recorded.
#[derive(Debug, Clone, Copy)]
struct Plan {
    /// Why it isn't.
    not_recorded: Option<&'static str>,
    on_failure: OnFailure,
    /// Every required storage works as `mode: sync`.
    all_sync: bool,
}

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

/// A recording whose recorder failed, and why.
type Repair = (Uuid, String);

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
        let local = config.clone();
        let open = move || -> anyhow::Result<_> {
            let locks = ground::lock_folders(&local.data_dir, &local.spool.path)?;
            let catalog = Catalog::open(&local.data_dir)?;
            let spool = spool::Spool::open(&local.spool.path, local.spool.max_bytes, local.spool.min_free_bytes);
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
            audit,
            links: Arc::new(Links::new(HashMap::new())),
        };
        let (orders, received) = mpsc::channel(ORDERS_MAX);
        let (repairs, to_repair) = mpsc::channel(REPAIRS_MAX);
        let courier = Courier::new(means.clone(), config.recording.stall_max, received, rand::random());
        let courier = tokio::spawn(courier.run());
        let inner = Arc::new(Inner {
            config: config.clone(),
            key,
            means,
            targets,
            orders,
            repairs,
            background: Mutex::new(vec![courier]),
            shutting_down: AtomicBool::new(false),
            _locks: locks,
        });
        inner
            .end_unrecorded()
            .await
            .context("end the sessions of the last run")?;
        let postponed = inner.recover().await?;
        let repair = tokio::spawn(repair(inner.recovery(), to_repair, postponed));
        inner
            .background
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(repair);
        Ok(Self { inner })
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
                let _ = tokio::time::timeout(grace, shared.wait_closed()).await;
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
        }
    }

    /// Closes what a crash left; answers with the recordings whose storage does not answer now.
    async fn recover(&self) -> anyhow::Result<Vec<Uuid>> {
        let recovery = self.recovery();
        let mut postponed = Vec::new();
        for recording in recovery.list().await? {
            if !recover_one(&recovery, recording, &When::Start).await {
                postponed.push(recording);
            }
        }
        Ok(postponed)
    }

    /// How a session is recorded: as its Decision says, else as the configuration does.
    fn plan(&self, facts: &SessionFacts) -> Plan {
        let settings = &self.config.session_recording;
        let Some(decision) = &facts.decision else {
            return Plan {
                not_recorded: (settings.mode == ClusterMode::Off).then_some(CLUSTER_OFF),
                on_failure: settings.on_failure,
                all_sync: settings.mode == ClusterMode::Sync,
            };
        };
        let recording = &decision.recording;
        let off = || match recording.not_recorded {
            Some(NotRecorded::RolesOff) => ROLES_OFF,
            Some(NotRecorded::ClusterOff) => CLUSTER_OFF,
            None => "the decision records nothing",
        };
        Plan {
            not_recorded: (recording.level == Level::Off).then(off),
            on_failure: match recording.level {
                Level::BestEffort => OnFailure::BestEffort,
                Level::Off | Level::Strict => OnFailure::Strict,
            },
            all_sync: recording.storage_mode == StorageMode::Sync,
        }
    }

    /// The first required sync storage that can't be used now, and what it says; `all`: every required one counts as sync.
    async fn unreachable(&self, all: bool) -> Option<(String, String)> {
        for (index, storage) in self.means.storages.iter().enumerate() {
            if !storage.required() || storage.mode() != Mode::Sync && !all {
                continue;
            }
            let health = self
                .means
                .health
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get(index)
                .cloned();
            let health = health.unwrap_or_default();
            if health.error.is_none() && health.stored.is_some_and(|at| at.elapsed() < HEALTHY_FOR) {
                continue;
            }
            let stall_max = self.config.recording.stall_max;
            let error = match tokio::time::timeout(stall_max, storage.check()).await {
                Ok(Ok(())) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer for {stall_max:?} (recording.stall_max)"),
            };
            return Some((storage.name().to_owned(), error));
        }
        None
    }

    /// Tells the audit log that a recorded session starts. What can't be told must not go on.
    async fn told(
        &self,
        recorder: SessionRecorder,
        facts: &SessionFacts,
        strict: bool,
    ) -> Result<SessionRecorder, OpenError> {
        if let Err(error) = recorder.trail().start(facts).await {
            recorder.ended(SessionEnd {
                reason: EndReason::RecorderFailed,
                detail: Some(error.to_string()),
                error_info: None,
            });
            return Err(OpenError::Audit(error));
        }
        let storages = self.targets.iter().map(|target| target.name.clone()).collect();
        let mode = facts.decision.as_ref().map(|decision| decision.recording.storage_mode);
        let mode = match mode {
            Some(StorageMode::Sync) => "sync",
            _ => "as_configured",
        };
        recorder
            .trail()
            .recording(if strict { "strict" } else { "best_effort" }, mode, storages);
        Ok(recorder)
    }

    /// Ends the sessions that weren't recorded and that a killed gateway left open.
    async fn end_unrecorded(&self) -> anyhow::Result<()> {
        let means = self.means.clone();
        let end = move || trail::end_unrecorded(&means.audit, &means.catalog);
        tokio::task::spawn_blocking(end).await.context("end sessions")?
    }

    /// A session that isn't recorded.
    async fn not_recorded(&self, facts: SessionFacts, why: String) -> Result<SessionRecorder, OpenError> {
        let session = new_session(&facts);
        let reason = why.clone();
        let catalog = Arc::clone(&self.means.catalog);
        let noted = tokio::task::spawn_blocking(move || catalog.session_not_recorded(&session, &why)).await;
        let error = match noted {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(error) = error {
            // Strict or not: a session of which not even the catalog knows is let through only where nothing is recorded
            // by the operator's own wish, and then the log has it.
            tracing::error!(session = %facts.id, error, "the catalog doesn't know of this session");
        }
        let trail = Arc::new(Trail::new(&facts, Some(reason)));
        let drives = drives::Unrecorded::new(facts.started_at, &facts.tap);
        trail.start(&facts).await.map_err(OpenError::Audit)?;
        let catalog = Arc::clone(&self.means.catalog);
        let runtime = tokio::runtime::Handle::current();
        let told = Arc::clone(&trail);
        let on_end = move |end| {
            let length = facts.started_at.elapsed();
            runtime.spawn_blocking(move || {
                // Before the catalog: at the next start only sessions without an end there are looked for.
                told.end(length, &end);
                let ended = OffsetDateTime::from(facts.started) + length;
                let duration_ms = u64::try_from(length.as_millis()).unwrap_or(u64::MAX);
                let noted = catalog.session_ended(facts.id, ended, duration_ms, &end_text(&end));
                if let Err(error) = noted {
                    tracing::error!(session = %facts.id, %error, "end a session");
                }
            });
        };
        Ok(SessionRecorder::not_recording(trail, drives, Box::new(on_end)))
    }

    /// Notes the session in the catalog and starts its recorder thread.
    async fn begin(
        inner: &Arc<Self>,
        facts: SessionFacts,
        plan: Plan,
        spooled: bool,
        live: bool,
    ) -> anyhow::Result<SessionRecorder> {
        let session = new_session(&facts);
        let catalog = Arc::clone(&inner.means.catalog);
        tokio::task::spawn_blocking(move || catalog.session_started(&session)).await??;
        let recording = &inner.config.recording;
        let rules = Rules {
            on_failure: plan.on_failure,
            all_sync: plan.all_sync,
            stall_max: recording.stall_max,
            queue_max_bytes: recording.queue_max_bytes,
        };
        let shared = Arc::new(Shared::new(&facts, &rules, spooled, live));
        inner
            .means
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(facts.id, Arc::clone(&shared));
        // From here on the handle's drop ends the session, whatever happens.
        let handle = SessionRecorder::recording(Arc::clone(&shared));
        let thread = {
            let (inner, shared) = (Arc::clone(inner), Arc::clone(&shared));
            move || {
                let links = Arc::clone(&inner.means.links);
                inner.record(&shared, facts);
                // In this order: whoever sees no running session, or sees it closed, may count on the lock being free.
                drop(inner);
                links.lock().unwrap_or_else(PoisonError::into_inner).remove(&shared.id);
                shared.set_closed();
            }
        };
        let name = format!("recorder-{}", shared.id.simple());
        let spawned = std::thread::Builder::new().name(name).spawn(thread);
        if let Err(error) = spawned {
            inner
                .means
                .links
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .remove(&shared.id);
            let problem = format!("start the recorder thread: {error}");
            inner.means.catalog.damaged(shared.id, &problem)?;
            bail!(problem);
        }
        Ok(handle)
    }

    /// The recorder thread.
    fn record(&self, shared: &Arc<Shared>, facts: SessionFacts) {
        let closed = match self.setup(shared, facts) {
            Ok(setup) => recorder::run(setup),
            Err(error) => {
                shared.fail(&format!("{error:#}"));
                false
            }
        };
        if closed {
            return;
        }
        let reason = shared.failure().unwrap_or_default();
        if self.repairs.blocking_send((shared.id, reason)).is_err() {
            tracing::error!(session = %shared.id, "the recording is closed at the next start");
        }
    }

    fn setup(&self, shared: &Arc<Shared>, facts: SessionFacts) -> anyhow::Result<recorder::Setup> {
        let recording = &self.config.recording;
        let options = RecorderOptions {
            segment_max_age: self.config.segment_max_age(),
            segment_max_bytes: recording.segment_max_bytes,
            keyframe_interval: recording.keyframe_interval,
            ..RecorderOptions::default()
        };
        let started = OffsetDateTime::from(facts.started);
        let start = session_start(&facts);
        let recorder = Recorder::new(start, self.key.signing().clone(), options).context("begin the recording")?;
        let sink = Sink::new(
            Arc::clone(shared),
            Arc::clone(&self.means.spool),
            Arc::clone(&self.means.catalog),
            self.orders.clone(),
            Arc::clone(&self.targets),
            recording.queue_max_bytes,
        );
        let mut tap = facts.tap;
        tap.undecoded_max_bytes = usize::try_from(recording.undecoded_max_bytes).unwrap_or(usize::MAX);
        Ok(recorder::Setup {
            shared: Arc::clone(shared),
            tap: Tap::new(tap),
            recorder,
            sink,
            frame_interval: recording.frame_interval,
            undecoded_max_bytes: recording.undecoded_max_bytes,
            repaint_max: recording.repaint_max,
            started,
        })
    }
}

/// Recovers one recording and says so in the log. False: try again later.
async fn recover_one(recovery: &Recovery, recording: Uuid, when: &When) -> bool {
    match recovery.recover(recording, when).await {
        Ok(Outcome::Resumed) => tracing::info!(session = %recording, "going on with the delivery of a recording"),
        Ok(Outcome::Recovered) => tracing::warn!(session = %recording, "closed a recording that a crash had left open"),
        Ok(Outcome::Damaged) => {
            tracing::error!(session = %recording, "a recording is damaged; `deskreel recordings show` says how");
        }
        Err(error) => {
            tracing::error!(session = %recording, error = format!("{error:#}"), "recovery has to wait");
            return false;
        }
    }
    true
}

/// Closes recordings whose recorder failed, and tries again where a storage did not answer.
async fn repair(recovery: Recovery, mut arriving: mpsc::Receiver<Repair>, postponed: Vec<Uuid>) {
    let mut postponed: Vec<_> = postponed
        .into_iter()
        .map(|recording| (recording, When::Start))
        .collect();
    loop {
        let wait = if postponed.is_empty() {
            Duration::MAX
        } else {
            RECOVERY_INTERVAL
        };
        match tokio::time::timeout(wait, arriving.recv()).await {
            Ok(Some((recording, reason))) => postponed.push((recording, When::Running { reason })),
            Ok(None) => return,
            Err(_) => {}
        }
        for (recording, when) in std::mem::take(&mut postponed) {
            if !recover_one(&recovery, recording, &when).await {
                postponed.push((recording, when));
            }
        }
    }
}

#[cfg(test)]
mod tests;
