//! The courier: the one task that does what `delivery` decides. Puts run beside it, at most as many as the storages
//! allow; everything else happens here, one after the other.

mod put;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use deskreel_recording::{manifest_key, segment_key};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use uuid::Uuid;

use super::delivery::{Action, Delivery, Failure, Held, Live, ObjectId, Rules};
use super::session::Shared;
use super::spool::Spool;
use super::storage::Storage;
use super::{steps, trail};
use crate::audit::{Audit, Event};
use crate::catalog::{Catalog, Object};
use crate::host::at_storage;
use crate::keep::retention::Rules as Retention;

/// Between two attempts to write to the spool what it did not take.
const SPILL_INTERVAL: Duration = Duration::from_secs(1);

/// What the courier is told.
#[derive(Debug)]
pub(super) enum Order {
    /// An object is to go to all storages, or to those in `missing`.
    Deliver {
        /// The object.
        id: ObjectId,
        /// Its size.
        size: u64,
        /// Its bytes; `None`: they are in the spool.
        payload: Option<Bytes>,
        /// Which storages its session waits for.
        live: Live,
        /// Indexes of the storages that don't have it; `None`: all.
        missing: Option<BTreeSet<usize>>,
    },
    /// Whether the spool fills up.
    Pressed(bool),
    /// Get everything out of memory, to the storages until `deadline` and then to the spool, answer, and stop.
    Stop {
        /// Until when the storages may take what is in memory.
        deadline: Instant,
        /// Answered when nothing is in memory any more.
        done: oneshot::Sender<()>,
    },
}

/// How a storage does, for those who want to open a session.
#[derive(Debug, Clone, Default)]
pub(super) struct Health {
    /// When it last stored something.
    pub(super) stored: Option<Instant>,
    /// Its error, while it fails.
    pub(super) error: Option<String>,
}

/// Sessions whose objects may be in memory.
pub(super) type Links = Mutex<HashMap<Uuid, Arc<Shared>>>;

/// What the courier works with; shared with the tasks that it starts.
#[derive(Clone)]
pub(super) struct Means {
    pub(super) storages: Arc<[Arc<dyn Storage>]>,
    pub(super) spool: Arc<Spool>,
    pub(super) catalog: Arc<Catalog>,
    /// How long storages with object lock have to keep what they get.
    pub(super) retention: Arc<Retention>,
    pub(super) audit: Audit,
    pub(super) links: Arc<Links>,
    pub(super) health: Arc<Mutex<Vec<Health>>>,
}

enum Done {
    Put {
        storage: usize,
        id: ObjectId,
        result: Result<(), Failure>,
    },
    Spilled {
        id: ObjectId,
        result: Result<(), String>,
    },
}

/// The task's state.
pub(super) struct Courier {
    means: Means,
    delivery: Delivery,
    orders: mpsc::Receiver<Order>,
    /// Bytes of the objects that are held in memory.
    payloads: BTreeMap<ObjectId, Bytes>,
    tasks: JoinSet<Done>,
    started: Instant,
    stop: Option<(Instant, oneshot::Sender<()>)>,
    spilled_all: bool,
    /// Objects that are being written to the spool: never two writers for one file.
    spilling: BTreeSet<ObjectId>,
    /// Objects that the spool did not take, and when to try again.
    unspilled: BTreeSet<ObjectId>,
    spill_at: Option<Instant>,
}

impl Courier {
    pub(super) fn new(means: Means, stall_max: Duration, orders: mpsc::Receiver<Order>, seed: u64) -> Self {
        let rules = means.storages.iter().map(|storage| Rules {
            required: storage.required(),
            sync: storage.mode() == deskreel_config::Mode::Sync,
            concurrency: storage.concurrency(),
            pace: storage.pace(),
        });
        Self {
            delivery: Delivery::new(rules.collect(), stall_max, seed),
            means,
            orders,
            payloads: BTreeMap::new(),
            tasks: JoinSet::new(),
            started: Instant::now(),
            stop: None,
            spilled_all: false,
            spilling: BTreeSet::new(),
            unspilled: BTreeSet::new(),
            spill_at: None,
        }
    }

    /// Runs until it is told to stop, or nobody is left to tell it anything.
    pub(super) async fn run(mut self) {
        loop {
            while let Some(action) = self.delivery.next(self.started.elapsed()) {
                self.act(action).await;
            }
            if self.finished() {
                break;
            }
            let wake = self.delivery.wake_at().map(|at| self.started + at);
            let deadline = self
                .stop
                .as_ref()
                .filter(|_| !self.spilled_all)
                .map(|(deadline, _)| *deadline);
            let wake = wake.into_iter().chain(deadline).chain(self.spill_at).min();
            tokio::select! {
                order = self.orders.recv(), if !self.orders.is_closed() || !self.orders.is_empty() => match order {
                    Some(order) => self.order(order),
                    None => {
                        self.orders.close();
                        self.spilled_all = true;
                        self.spill(None);
                    }
                },
                Some(done) = self.tasks.join_next() => match done {
                    Ok(done) => self.done(done).await,
                    // The tasks' own work is in a task of its own, which is where a panic ends.
                    Err(error) => tracing::error!(%error, "a delivery task ended early"),
                },
                () = sleep_until(wake) => {
                    if self.spill_at.is_some_and(|at| Instant::now() >= at) {
                        self.spill_at = None;
                        let again = std::mem::take(&mut self.unspilled);
                        self.spill_objects(again);
                    }
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.spilled_all = true;
                        self.spill(None);
                    }
                }
            }
        }
        if let Some((_, done)) = self.stop.take() {
            let _ = done.send(());
        }
    }

    /// Told to stop (or abandoned), with nothing in memory and nothing under way.
    fn finished(&self) -> bool {
        let told = self.stop.is_some() || (self.orders.is_closed() && self.orders.is_empty());
        // A put that is under way is waited for, so that the catalog learns of it; the storage's op_timeout bounds it.
        told && self.orders.is_empty() && self.payloads.is_empty() && self.tasks.is_empty()
    }

    fn order(&mut self, order: Order) {
        match order {
            Order::Deliver {
                id,
                size,
                payload,
                live,
                missing,
            } => {
                let held = if payload.is_some() { Held::Memory } else { Held::Spool };
                if let Some(payload) = payload {
                    self.payloads.insert(id, payload);
                }
                let missing = missing.unwrap_or_else(|| (0..self.means.storages.len()).collect());
                self.delivery
                    .add(self.started.elapsed(), id, size, held, live, &missing);
                let stalled = held == Held::Memory
                    && self
                        .link(id.recording)
                        .is_some_and(|link| link.spooled.load(Ordering::Acquire));
                if stalled || self.spilled_all {
                    // It was on its way here when its session went over to the spool.
                    self.spill(Some(id.recording));
                }
            }
            Order::Pressed(pressed) => self.delivery.pressed(pressed),
            Order::Stop { deadline, done } => {
                // What is in the spool goes at the next start.
                self.delivery.stop();
                self.stop = Some((deadline, done));
            }
        }
    }

    fn link(&self, recording: Uuid) -> Option<Arc<Shared>> {
        self.means
            .links
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&recording)
            .cloned()
    }

    async fn act(&mut self, action: Action) {
        match action {
            Action::Put { storage, id } => {
                let payload = self.payloads.get(&id).cloned();
                self.tasks.spawn(put::put(self.means.clone(), storage, id, payload));
            }
            Action::Stalled {
                recording,
                storage,
                error,
            } => self.stalled(recording, storage, &error),
            Action::Release { id } => self.release(id).await,
            Action::Complete { recording } => {
                let result = self.blocking(move |means| complete(&means, recording)).await;
                log(result, "mark a recording as complete");
                tracing::info!(session = %recording, "recording is complete");
            }
            Action::Lost { storage, id, error } => self.lost(storage, id, error).await,
        }
    }

    fn stalled(&mut self, recording: Uuid, storage: usize, error: &str) {
        let storage = &self.means.storages[storage];
        let reason = at_storage(storage.name(), error);
        if let Some(link) = self.link(recording) {
            link.live.store(false, Ordering::Release);
            link.spooled.store(true, Ordering::Release);
            if storage.required() && link.is_strict() {
                link.fail(&reason);
            } else {
                tracing::error!(session = %recording, reason, "going on with the spool");
            }
        } else {
            tracing::error!(session = %recording, reason, "the rest of the recording waits in the spool");
        }
        self.spill(Some(recording));
    }

    /// Writes what is in memory to the spool.
    fn spill(&mut self, recording: Option<Uuid>) {
        let held = self.delivery.in_memory(recording);
        self.spill_objects(held);
    }

    fn spill_objects(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        for id in objects {
            let Some(bytes) = self.payloads.get(&id).cloned() else {
                continue;
            };
            if !self.spilling.insert(id) {
                continue;
            }
            let means = self.means.clone();
            self.tasks.spawn(async move {
                let write = move || means.spool.write(id, &bytes).map_err(|error| error.to_string());
                let result = tokio::task::spawn_blocking(write).await;
                Done::Spilled {
                    id,
                    result: result.unwrap_or_else(|error| Err(error.to_string())),
                }
            });
        }
    }

    async fn done(&mut self, done: Done) {
        let now = self.started.elapsed();
        match done {
            Done::Put { storage, id, result } => {
                let result = result.map_err(|failure| {
                    tracing::warn!(
                        storage = self.means.storages[storage].name(), session = %id.recording, object = %id.object,
                        error = %failure, "not stored"
                    );
                    self.delivery.failed(now, storage, id, &failure);
                });
                if result.is_ok() {
                    self.delivery.stored(now, storage, id);
                }
                let mut health = self.means.health.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(health) = health.get_mut(storage) {
                    health.error = self.delivery.failing(storage).map(str::to_owned);
                    if result.is_ok() {
                        health.stored = Some(Instant::now());
                    }
                }
            }
            Done::Spilled { id, result: Ok(()) } => {
                self.spilling.remove(&id);
                if self.payloads.contains_key(&id) {
                    self.forget(id);
                    self.delivery.spilled(id);
                } else {
                    // It arrived everywhere while it was being written.
                    let result = self.blocking(move |means| remove(&means, id)).await;
                    log(result, "remove an object from the spool");
                }
            }
            Done::Spilled { id, result: Err(error) } => {
                self.spilling.remove(&id);
                tracing::error!(
                    session = %id.recording, object = %id.object, error,
                    "an object could not be written to the spool; it is in memory only"
                );
                if self.spilled_all {
                    // The last attempt: there is nowhere left to put it.
                    self.forget(id);
                    self.delivery.spilled(id);
                } else if self.payloads.contains_key(&id) {
                    self.unspilled.insert(id);
                    self.spill_at.get_or_insert_with(|| Instant::now() + SPILL_INTERVAL);
                }
            }
        }
    }

    /// Drops the bytes in memory.
    fn forget(&mut self, id: ObjectId) -> bool {
        let Some(payload) = self.payloads.remove(&id) else {
            return false;
        };
        if let Some(link) = self.link(id.recording) {
            link.release(payload.len() as u64);
        }
        true
    }

    async fn release(&mut self, id: ObjectId) {
        // In the spool as well if it was spilled, so look there in any case once it isn't in memory.
        if !self.forget(id) {
            let result = self.blocking(move |means| remove(&means, id)).await;
            log(result, "remove an object from the spool");
        }
    }

    async fn lost(&mut self, storage: usize, id: ObjectId, error: String) {
        let name = self.means.storages[storage].name().to_owned();
        let required = self.means.storages[storage].required();
        tracing::error!(storage = name, session = %id.recording, object = %id.object, error, "will not be stored");
        let result = self.blocking(move |means| {
            means.catalog.not_stored(id.recording, id.object, &name, &error)?;
            if required {
                means.catalog.damaged(
                    id.recording,
                    &format!("{} is not at storage {name}: {error}", id.object),
                )?;
            }
            Ok(())
        });
        let result: Result<(), crate::catalog::Error> = result.await;
        log(result, "note a refused object");
    }

    async fn blocking<T, F>(&self, work: F) -> T
    where
        T: Send + 'static,
        F: FnOnce(Means) -> T + Send + 'static,
    {
        let means = self.means.clone();
        match tokio::task::spawn_blocking(move || work(means)).await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // Only while the runtime is torn down, and then nobody waits for an answer.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn log<E: std::fmt::Display>(result: Result<(), E>, what: &str) {
    if let Err(error) = result {
        tracing::error!(%error, "{what}");
    }
}

fn remove(means: &Means, id: ObjectId) -> std::io::Result<()> {
    means.spool.remove(id)?;
    steps::reached("release: removed");
    means.spool.remove_folder(id.recording)
}

/// Every required storage has all of a recording.
fn complete(means: &Means, recording: Uuid) -> Result<(), crate::catalog::Error> {
    means.catalog.delivered(recording)?;
    steps::reached("complete: in the catalog");
    let row = means.catalog.session(&recording.to_string())?;
    let placed = means.catalog.placements(recording)?;
    let manifests = placed
        .into_iter()
        .filter(|placed| placed.object == Object::Manifest && placed.stored.is_some());
    let event = Event::RecordingComplete {
        segments: row.segments,
        digest: row.manifest_sha256.clone(),
        storages: manifests.map(|placed| placed.storage).collect(),
    };
    means.audit.note(trail::scope(&means.audit, &row), event);
    Ok(())
}

/// The storage's key of an object.
pub(super) fn key(id: ObjectId) -> String {
    match id.object {
        Object::Segment(number) => segment_key(id.recording, number),
        Object::Manifest => manifest_key(id.recording),
    }
}
