//! What both pumps of a session share: the filter, the recorder, and what is known about an end.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use deskreel_config::{BulkCompression, Graphics, OnFailure, WindowsDesktop};
use deskreel_rdp::Direction;
use deskreel_rdp::phase::{self, ClientLogon, FilterOptions, LogonAs, PhaseEvent, Phases};
use deskreel_rdp::tap::{ClipboardLevel, TapConfig};
use deskreel_rdp::wire::redirection::Redirection;
use deskreel_rdp::wire::x224::ConnectionRequest;
use deskreel_recording::event::{self, SessionEnd};
use tokio::sync::{SetOnce, mpsc, watch};
use tokio::time::timeout;
use tracing::{debug, info};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::Mail;
use super::ends::recorded_reason;
use crate::audit::SessionAudit;
use crate::gateway::Shared;
use crate::gateway::desktop::{Desktop, DesktopLeg};
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::grant::{Grant, claimed_user};
use crate::gateway::handover::Handover;
use crate::gateway::judge::{DesktopAccount, Refusal, client_info};
use crate::gateway::limits::Permit;
use crate::gateway::registry::{self, Entered, Running};
use crate::gateway::session::{Account, Admitted, Entry};
use crate::gateway::{locks, rights};
use crate::pipeline::{SessionFacts, SessionRecorder, Sessions};

/// Set Error Info of a desktop whose user has logged off ([MS-RDPBCGR] 2.2.5.1.1).
const LOGOFF_BY_USER: u32 = 0xC;

/// One session's shared state. The lock on the filter is never held across an `.await`.
pub(super) struct Relay {
    phases: Mutex<Phases>,
    /// Set before the first Demand Active goes to the client.
    pub(super) recorder: SetOnce<SessionRecorder>,
    sessions: Sessions,
    pub(super) id: Uuid,
    pub(super) peer: SocketAddr,
    started: SystemTime,
    started_at: Instant,
    audit: SessionAudit,
    pub(super) desktop: String,
    desktop_addr: String,
    /// The desktop as it was connected to.
    pub(super) resource: Arc<WindowsDesktop>,
    /// A certificate of it that was never seen before.
    first_use: Option<String>,
    /// How its picture may come.
    graphics: phase::Graphics,
    pub(super) shared: Arc<Shared>,
    /// Set before Client Info goes on.
    pub(super) grant: SetOnce<Arc<Grant>>,
    /// What the desktop is logged on with, where that is known before Client Info; taken when that goes on.
    logon: Mutex<Option<DesktopAccount>>,
    permit: Arc<Permit>,
    /// What the client came back with.
    pub(super) handover: Option<Handover>,
    /// Closed when the session is over.
    pub(super) before: watch::Receiver<()>,
    /// Where the desktop wants the client to go.
    pub(super) redirected: OnceLock<Redirection>,
    /// The session among the running ones; set with the grant.
    pub(super) running: SetOnce<(Arc<Running>, Entered)>,
    activation_timeout: Duration,
    to_client_bytes: AtomicU64,
    to_desktop_bytes: AtomicU64,
    /// Who has said first that it leaves, by a Disconnect Provider Ultimatum; what breaks afterwards is no fault.
    pub(super) leaves: OnceLock<Direction>,
    /// The desktop has asked for a channel beside this connection.
    side_channel: OnceLock<()>,
    /// The last Set Error Info of the desktop, 0 = none.
    pub(super) desktop_error: AtomicU32,
}

impl Relay {
    pub(super) fn new(
        admitted: &Admitted,
        request: &ConnectionRequest,
        desktop: &Desktop,
        leg: &DesktopLeg,
        entry: Option<Entry>,
    ) -> Arc<Self> {
        let (grant, logon) = match entry {
            Some(Entry { grant, logon }) => (Some(grant), Some(logon)),
            None => (None, None),
        };
        let resource = &desktop.resource;
        let options = FilterOptions {
            requested_protocols: request.protocols(),
            offered_protocols: Some(leg.offered_protocols),
            selected_protocol: leg.selected_protocol,
            bulk_compression: match resource.gateway.bulk_compression {
                BulkCompression::Keep => phase::BulkCompression::Keep,
                BulkCompression::Clear => phase::BulkCompression::Clear,
            },
            graphics: match resource.gateway.graphics.unwrap_or(admitted.shared.graphics) {
                Graphics::Legacy => phase::Graphics::Legacy,
                Graphics::Auto | Graphics::Gfx => phase::Graphics::Gfx,
            },
            desktop: resource.name.clone(),
            screen_max_pixels: admitted.shared.screen_max_pixels,
            rights: grant
                .as_ref()
                .map(|grant| rights::channel_rights(&grant.decision.rights)),
            ..FilterOptions::default()
        };
        let shared = &admitted.shared;
        Arc::new(Self {
            graphics: options.graphics,
            phases: Mutex::new(Phases::new(options)),
            recorder: SetOnce::new(),
            sessions: shared.sessions.clone(),
            id: admitted.id,
            peer: admitted.peer,
            started: admitted.started,
            started_at: admitted.started_at,
            audit: admitted.audit.clone(),
            desktop: resource.name.clone(),
            desktop_addr: resource.addr.clone(),
            first_use: leg.first_use.clone(),
            resource: Arc::clone(resource),
            shared: Arc::clone(shared),
            grant: SetOnce::new_with(grant),
            logon: Mutex::new(logon),
            permit: Arc::clone(&admitted.permit),
            handover: admitted.handover.get().cloned(),
            before: admitted.over.subscribe(),
            redirected: OnceLock::new(),
            running: SetOnce::new(),
            activation_timeout: shared.activation_timeout,
            to_client_bytes: AtomicU64::new(0),
            to_desktop_bytes: AtomicU64::new(0),
            leaves: OnceLock::new(),
            side_channel: OnceLock::new(),
            desktop_error: AtomicU32::new(0),
        })
    }

    /// The filter. A panic inside it poisons nothing that matters: the session of that pump has ended.
    pub(super) fn phases(&self) -> MutexGuard<'_, Phases> {
        self.phases.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes a second and direction.
    pub(super) fn bandwidth_max(&self) -> Option<u64> {
        self.shared.bandwidth_max
    }

    /// Opens the recording, or the catalog's entry of a session that isn't recorded. Call it before the first Demand Active
    /// is forwarded.
    ///
    /// # Errors
    /// [`EndReason::RecordingRefused`]
    pub(super) async fn open_recording(&self) -> Result<(), Ended> {
        let facts = self.session_facts(&self.grant.wait().await.clone());
        info!(
            user = facts.user,
            login = facts.login,
            desktop = facts.desktop,
            client_name = facts.client_name,
            "session started"
        );
        let recorder = self
            .sessions
            .open(facts)
            .await
            .map_err(|error| Ended::new(EndReason::RecordingRefused, format!("open the recording: {error}")))?;
        if let Some((running, _)) = self.running.get() {
            // Err = it was opened before, which the next line tells
            let _ = running.recorder.set(recorder.clone());
        }
        if self.recorder.set(recorder).is_err() {
            return Err(Ended::new(EndReason::Internal, "the recording was opened twice"));
        }
        Ok(())
    }

    fn session_facts(&self, grant: &Arc<Grant>) -> SessionFacts {
        let phases = self.phases();
        let facts = phases.facts();
        let (login, domain) = grant.account(&facts.user_name, &facts.domain);
        SessionFacts {
            id: self.id,
            started: self.started,
            started_at: self.started_at,
            user: grant.user.clone(),
            identity: grant.identity(),
            login,
            domain,
            desktop: self.desktop.clone(),
            desktop_addr: self.desktop_addr.clone(),
            client_addr: self.peer,
            client_name: facts.client_name.clone(),
            monitors: facts.monitors.clone(),
            redirected_from: self.handover.as_ref().map(|handover| handover.session),
            desktop_labels: grant.labels.clone(),
            audit: self.audit.clone(),
            client_build: Some(facts.client_build).filter(|build| *build != 0),
            decision: Some(Arc::new(grant.decision.clone())),
            tap: TapConfig {
                io_channel: facts.io_channel,
                channels: facts.static_channels.clone(),
                graphics: self.graphics == phase::Graphics::Gfx,
                monitors: facts.monitors.clone(),
                screen_max_pixels: self.shared.screen_max_pixels,
                input: rights::input_level(&grant.decision.recording),
                clipboard: rights::clipboard_level(&grant.decision.recording),
                ..TapConfig::default()
            },
        }
    }

    /// Lets the session in among the running ones.
    ///
    /// # Errors
    /// Its user or its desktop has too many.
    fn enter(&self, grant: &Grant) -> Result<(), Ended> {
        let running = Running::new(registry::Facts {
            id: self.id,
            started: self.started,
            started_at: self.started_at,
            client_addr: self.peer,
            client_name: self.phases().facts().client_name.clone(),
            user: grant.user.clone(),
            identity: grant.identity(),
            login: grant.login.clone(),
            desktop: self.desktop.clone(),
            desktop_addr: self.desktop_addr.clone(),
            decision: Arc::new(grant.decision.clone()),
        });
        self.permit.enter().map_err(|ended| ended.by(&grant.decision))?;
        let entered = self.shared.registry.enter(&running);
        let entered = entered.map_err(|ended| ended.by(&grant.decision))?;
        // between the decision and now; those that come later find the session among the running ones
        if let Some(ended) = locks::end_of(&self.shared.access.view(), &running.facts) {
            return Err(ended.by(&grant.decision));
        }
        // Err = a second Client Info, which the filter refuses
        let _ = self.running.set((running, entered));
        Ok(())
    }

    /// Why the session lacks a right.
    pub(super) fn why_not(&self, right: phase::Right) -> String {
        self.grant
            .get()
            .map_or_else(String::new, |grant| rights::why_not(&grant.decision.rights, right))
    }

    /// Whether the recorder comes before the client.
    pub(super) fn on_failure(&self) -> OnFailure {
        self.grant
            .get()
            .map_or(OnFailure::Strict, |grant| rights::on_failure(&grant.decision.recording))
    }

    /// What of the clipboard is recorded.
    pub(super) fn clipboard_level(&self) -> ClipboardLevel {
        self.grant.get().map_or(ClipboardLevel::None, |grant| {
            rights::clipboard_level(&grant.decision.recording)
        })
    }

    /// Hands PDUs to the recorder. What comes before the recording is open waits for it.
    ///
    /// # Errors
    /// [`EndReason::RecorderFailed`], with strict only.
    pub(super) async fn record(&self, direction: Direction, tap: Vec<Bytes>) -> Result<(), Ended> {
        if tap.is_empty() {
            return Ok(());
        }
        let recorder = self.recorder.wait().await;
        for pdus in tap {
            recorder
                .enqueue(direction, pdus)
                .await
                .map_err(|failed| Ended::new(EndReason::RecorderFailed, failed.to_string()))?;
        }
        Ok(())
    }

    /// Watches the recorder and asks the desktop to repaint when a gap is over. Resolves when the session has to end.
    pub(super) async fn watch(&self, desktop_mail: &mpsc::Sender<Mail>) -> Ended {
        let Ok(recorder) = timeout(self.activation_timeout, self.recorder.wait()).await else {
            return Ended::new(
                EndReason::ActivationTimeout,
                format!(
                    "no Demand Active within gateway.activation_timeout ({:?})",
                    self.activation_timeout
                ),
            );
        };
        loop {
            tokio::select! {
                biased;
                failed = recorder.failed() => return Ended::new(EndReason::RecorderFailed, failed.to_string()),
                refresh = recorder.wants_refresh() => {
                    let pdus = {
                        let phases = self.phases();
                        let facts = phases.facts();
                        let edge = |length: u16| length.saturating_add(refresh.beyond());
                        phases.refresh(edge(facts.desktop_width), edge(facts.desktop_height))
                    };
                    debug!(pdus = pdus.len(), "asking the desktop to repaint");
                    if pdus.is_empty() {
                        let detail = "the desktop can't be asked to repaint its screen: it does not offer that, or the \
                                      client is minimised";
                        self.alert("no_repaint", detail.to_owned());
                    }
                    for pdu in pdus {
                        if desktop_mail.send(Mail::Inject(pdu)).await.is_err() {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Decides about a Client Info that was held back; the one that goes to the desktop.
    ///
    /// # Errors
    /// The session must end; nothing may be forwarded.
    pub(super) async fn log_on(
        &self,
        logon: ClientLogon,
        mut pdu: Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, Ended> {
        let (grant, account) = match self.grant.get() {
            Some(grant) => {
                let mut known = self.logon.lock().unwrap_or_else(PoisonError::into_inner);
                (Arc::clone(grant), known.take())
            }
            None => {
                let selector = self.phases().facts().selector.clone();
                let (shared, resource) = (&self.shared, &self.resource);
                let judged = client_info(shared, &self.audit, resource, self.peer.ip(), &logon, selector.as_ref());
                judged.await.map_err(Refusal::ended)?
            }
        };
        drop(logon);
        if let Some(handover) = &self.handover {
            handover.is_for(&grant.user)?;
        }
        self.enter(&grant)?;
        // Whoever only looks in doesn't choose the moment at which a certificate is trusted.
        if let Some(sha256) = &self.first_use {
            self.shared.desktops.trust(&self.resource, sha256).await?;
        }
        self.phases().decide(rights::channel_rights(&grant.decision.rights));
        // Err = it was decided before the relay began
        let _ = self.grant.set(grant);
        let account = account.as_ref().map(|account| LogonAs {
            login: &account.login,
            domain: account.domain.as_deref().unwrap_or_default(),
            password: account.password.as_ref().map(|password| password.as_str()),
        });
        self.phases()
            .log_on(&mut pdu, account.as_ref())
            .map_err(|error| self.filter_failed(&error))?;
        Ok(pdu)
    }

    /// Takes note of what a PDU means.
    ///
    /// # Errors
    /// The session must end; the PDU must not be forwarded.
    pub(super) fn take_note(&self, direction: Direction, event: PhaseEvent) -> Result<(), Ended> {
        match event {
            PhaseEvent::DynamicChannel { name, outcome, .. } => self.note_dynamic_channel(&name, outcome),
            PhaseEvent::StaticChannel { name, denied } => self.note_static_channel(&name, denied),
            PhaseEvent::DeviceDenied { name, kind, id, right } => self.note_device(name, kind, id, right),
            PhaseEvent::Network(network) => self.note_network(network),
            PhaseEvent::ClipboardBlocked { direction, formats } => self.note_blocked(direction, formats),
            PhaseEvent::MultitransportDropped => {
                // some desktops ask for two
                if self.side_channel.set(()).is_ok() {
                    self.note_side_channel();
                }
            }
            PhaseEvent::RedirectionDropped { target } => {
                info!(
                    target_name = target,
                    "desktop's redirection was dropped: it moves nobody"
                );
                let detail =
                    format!("desktop told the client of {target}, without sending it there; the client did not get it");
                self.alert("redirection", detail);
            }
            PhaseEvent::DesktopError { code } => {
                // Some desktops repeat it with every PDU.
                if self.desktop_error.swap(code, Ordering::Relaxed) != code {
                    info!(code, "desktop sent Set Error Info");
                }
            }
            PhaseEvent::Disconnected { .. } => {
                // Err = the other side was first
                let _ = self.leaves.set(direction);
            }
            event => debug!(?event, "phase"),
        }
        Ok(())
    }

    /// Counts what was forwarded.
    pub(super) fn count(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::ToDesktop => &self.to_desktop_bytes,
            Direction::ToClient => &self.to_client_bytes,
        };
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Closes the recording, if one was opened.
    pub(super) fn close_recording(&self, ended: &Ended) {
        if let Some((running, _)) = self.running.get() {
            running.set_over(ended);
        }
        let Some(recorder) = self.recorder.get() else { return };
        let code = self.desktop_error.load(Ordering::Relaxed);
        let reason = match ended.reason {
            EndReason::DesktopClosed if code == LOGOFF_BY_USER => event::EndReason::LoggedOff,
            reason => recorded_reason(reason),
        };
        recorder.ended(SessionEnd {
            reason,
            // the recording's words are coarser than ours: where they are the same, once is enough
            detail: Some(match ended.reason {
                EndReason::ClientClosed | EndReason::DesktopClosed | EndReason::RecorderFailed => ended.detail.clone(),
                _ => ended.to_string(),
            }),
            error_info: ended.reason.error_info().or(Some(code).filter(|code| *code != 0)),
        });
    }

    /// Fills in what the end's log line tells.
    pub(super) fn settle(&self, account: &mut Account) {
        account.user = match self.grant.get() {
            Some(grant) => grant.user.clone(),
            None => claimed_user(self.phases().facts()).to_owned(),
        };
        account.to_client_bytes = self.to_client_bytes.load(Ordering::Relaxed);
        account.to_desktop_bytes = self.to_desktop_bytes.load(Ordering::Relaxed);
    }
}
