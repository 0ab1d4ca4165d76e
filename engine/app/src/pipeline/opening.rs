//! How a session gets its recorder: what is to be recorded, whether anything can take it, and the thread that does it.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use deskreel_config::{ClusterMode, Mode, OnFailure};
use deskreel_policy::{Level, NotRecorded, StorageMode};
use deskreel_rdp::tap::Tap;
use deskreel_recording::event::{EndReason, SessionEnd};
use deskreel_recording::{Recorder, RecorderOptions};
use time::OffsetDateTime;

use super::facts::{new_session, session_start};
use super::session::{Rules, Shared};
use super::sink::Sink;
use super::trail::Trail;
use super::writer::Writer;
use super::{Inner, OpenError, SessionFacts, SessionRecorder, drives, recorder};

/// A sync storage that stored something so recently needs no check before a session.
const HEALTHY_FOR: Duration = Duration::from_secs(10);
/// Why a session isn't recorded, as the catalog says it.
const CLUSTER_OFF: &str = "cluster_off";
const ROLES_OFF: &str = "roles_off";

/// How a session is recorded.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Why it isn't.
    pub(super) not_recorded: Option<&'static str>,
    pub(super) on_failure: OnFailure,
    /// Every required storage works as `mode: sync`.
    pub(super) all_sync: bool,
}

impl Inner {
    /// How a session is recorded: as its Decision says, else as the configuration does.
    pub(super) fn plan(&self, facts: &SessionFacts) -> Plan {
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
    pub(super) async fn unreachable(&self, all: bool) -> Option<(String, String)> {
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
    pub(super) async fn told(
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

    /// A session that isn't recorded.
    pub(super) async fn not_recorded(&self, facts: SessionFacts, why: String) -> Result<SessionRecorder, OpenError> {
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
                let noted = catalog.session_ended(facts.id, ended, duration_ms, &recorder::end_text(&end));
                if let Err(error) = noted {
                    tracing::error!(session = %facts.id, %error, "end a session");
                }
            });
        };
        Ok(SessionRecorder::not_recording(trail, drives, Box::new(on_end)))
    }

    /// Notes the session in the catalog and starts its recorder thread.
    pub(super) async fn begin(
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
        );
        let mut tap = facts.tap;
        tap.undecoded_max_bytes = usize::try_from(recording.undecoded_max_bytes).unwrap_or(usize::MAX);
        Ok(recorder::Setup {
            shared: Arc::clone(shared),
            tap: Tap::new(tap),
            recorder,
            writer: Writer::start(sink, recording.queue_max_bytes)?,
            frame_interval: recording.frame_interval,
            undecoded_max_bytes: recording.undecoded_max_bytes,
            repaint_max: recording.repaint_max,
            started,
        })
    }
}
