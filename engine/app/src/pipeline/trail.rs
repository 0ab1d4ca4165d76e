//! What the pipeline tells the audit log of one session.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deskreel_recording::Event;
use deskreel_recording::event::{
    Clipboard, ClipboardKind, Drive, DriveOperation, Gap, SessionEnd, SessionEvent, Transfer,
};
use time::OffsetDateTime;

use super::facts::SessionFacts;
use super::recorder::{end_text, gap_row};
use crate::audit::{
    self, Audit, AuditError, Client, Directory, DirectoryAction, Filter, SessionAudit, SessionScope, Summary,
};
use crate::catalog::{Catalog, SessionRow, State};

/// The start of a session in the catalog may be so much later than in the log's clock.
const CLOCK_TOLERANCE: Duration = Duration::from_secs(3600);

/// The session's part of the audit log, and what its last event adds up.
#[derive(Debug)]
pub(super) struct Trail {
    audit: SessionAudit,
    started: OffsetDateTime,
    recorded: bool,
    not_recorded: Option<String>,
    gaps: AtomicU32,
    bytes: AtomicU64,
    summary: Mutex<Summary>,
    ended: AtomicBool,
}

impl Trail {
    /// `not_recorded`: why, if it isn't.
    pub(super) fn new(facts: &SessionFacts, not_recorded: Option<String>) -> Self {
        facts.audit.update(|scope| {
            scope.user.clone_from(&facts.user);
            scope.set_login(&facts.login, facts.domain.as_deref());
            scope.desktop_name.clone_from(&facts.desktop);
            scope.desktop_addr.clone_from(&facts.desktop_addr);
            scope.desktop_labels.clone_from(&facts.desktop_labels);
            scope.addr_remote = facts.client_addr.to_string();
            scope.roles = roles(facts);
        });
        Self {
            audit: facts.audit.clone(),
            started: OffsetDateTime::from(facts.started),
            recorded: not_recorded.is_none(),
            not_recorded,
            gaps: AtomicU32::new(0),
            bytes: AtomicU64::new(0),
            summary: Mutex::default(),
            ended: AtomicBool::new(false),
        }
    }

    /// The session starts.
    ///
    /// # Errors
    /// The event could not be written, and `audit.on_failure` is strict.
    pub(super) async fn start(&self, facts: &SessionFacts) -> Result<(), AuditError> {
        let start = audit::SessionStart {
            success: true,
            error: None,
            message: None,
            decision: super::facts::decision(facts),
            client: Client {
                name: facts.client_name.clone(),
                build: facts.client_build,
            },
            identity: facts.identity.to_string(),
            recorded: self.recorded,
            not_recorded: self.not_recorded.clone(),
        };
        self.audit.write_start(start).await
    }

    /// The recording begins.
    pub(super) fn recording(&self, level: &str, storage_mode: &str, storages: Vec<String>) {
        self.audit.note(audit::Event::RecordingStart {
            level: level.to_owned(),
            storage_mode: storage_mode.to_owned(),
            storages,
        });
    }

    /// The recorder can't do its work.
    pub(super) fn fail(&self, error: &str, strict: bool) {
        self.audit.note(audit::Event::RecordingFail {
            error: error.to_owned(),
            strict,
        });
    }

    /// A fact that the gateway states of the session, or the tap of its clipboard and drives.
    pub(super) fn event(&self, event: &Event) {
        self.learn(event);
        let told = match event {
            Event::Session(SessionEvent::ChannelOpened(channel)) => audit::Event::ChannelOpen {
                channel: channel.name.clone(),
            },
            Event::Session(SessionEvent::ChannelDenied(channel)) => {
                let reason = channel.reason.clone().unwrap_or_default();
                audit::Event::ChannelDenied {
                    channel: channel.name.clone(),
                    reason,
                }
            }
            Event::Clipboard(clipboard) => match told_of(clipboard) {
                Some(told) => told,
                None => return,
            },
            Event::Drive(drive) => match directory(drive) {
                Some(directory) => audit::Event::Directory(Box::new(directory)),
                None => return,
            },
            _ => return,
        };
        self.audit.note(told);
    }

    /// An event stands in the recording.
    pub(super) fn recorded(&self, event: &Event) {
        self.learn(event);
        let mut summary = self.summary();
        *summary.events.entry(event.channel().topic()).or_default() += 1;
    }

    /// Keeps what the session's last event will tell.
    fn learn(&self, event: &Event) {
        match event {
            Event::Session(SessionEvent::Logon { ok: true, login, .. }) => self.summary().logon = login.clone(),
            Event::Session(SessionEvent::Network(network)) => self.summary().network = Some(*network),
            _ => {}
        }
    }

    fn summary(&self) -> MutexGuard<'_, Summary> {
        self.summary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something was not recorded.
    pub(super) fn gap(&self, gap: &Gap) {
        self.gaps.fetch_add(1, Ordering::Relaxed);
        self.audit.note(audit::Event::RecordingGap {
            from: self.started + Duration::from_nanos(gap.from_ns),
            to: self.started + Duration::from_nanos(gap.to_ns),
            reason: gap_row(gap).reason,
        });
    }

    /// A segment is sealed.
    pub(super) fn sealed(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The session is over. Only the first call counts. Blocks until it is written.
    pub(super) fn end(&self, length: Duration, end: &SessionEnd) {
        if self.ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let event = audit::Event::SessionEnd(Box::new(audit::SessionEnd {
            session_start: self.started,
            session_stop: self.started + length,
            participants: vec![self.audit.scope().user],
            recorded: self.recorded,
            not_recorded: self.not_recorded.clone(),
            end_reason: end_text(end),
            gaps: self.gaps.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            recovered: false,
            summary: Summary {
                error_info: end.error_info,
                ..self.summary().clone()
            },
        }));
        if let Err(error) = self.audit.emit(&event) {
            // There is nothing left that could be refused; the log says later that it is missing.
            tracing::error!(%error, "the end of a session");
        }
    }

    /// Resolves when the audit log can't be written and sessions must end.
    pub(super) async fn failed(&self) -> AuditError {
        self.audit.audit().failed().await
    }
}

/// Roles of the Decision; none while nobody decided.
pub(super) fn roles(facts: &SessionFacts) -> Vec<String> {
    let decision = facts.decision.as_deref();
    decision.map(|decision| decision.roles.clone()).unwrap_or_default()
}

/// Transfers and what was blocked; an offer is none of them.
fn told_of(clipboard: &Clipboard) -> Option<audit::Event> {
    let to_desktop = clipboard.direction == Transfer::ToDesktop;
    let names = clipboard.formats.iter().map(|format| {
        if format.name.is_empty() {
            format.id.to_string()
        } else {
            format.name.clone()
        }
    });
    let formats = names.collect();
    match clipboard.kind {
        ClipboardKind::Transferred => Some(audit::Event::Clipboard {
            to_desktop,
            length: clipboard.length.unwrap_or(0),
            formats,
            sha256: clipboard.sha256.clone(),
        }),
        ClipboardKind::Denied => Some(audit::Event::ClipboardBlocked {
            direction: if to_desktop { "to_desktop" } else { "from_desktop" },
            formats,
        }),
        _ => None,
    }
}

/// What the log tells of drives: that they were shared, what was read and written.
fn directory(drive: &Drive) -> Option<Directory> {
    let (action, denied) = match drive.operation {
        DriveOperation::Announce => (DirectoryAction::Share, false),
        DriveOperation::Denied => (DirectoryAction::Share, true),
        DriveOperation::Read => (DirectoryAction::Read, false),
        DriveOperation::Write => (DirectoryAction::Write, false),
        _ => return None,
    };
    let (name, path) = match drive.path.split_once('/') {
        Some((name, path)) => (name, Some(path)),
        None => (drive.path.as_str(), None),
    };
    let is_transfer = action != DirectoryAction::Share;
    Some(Directory {
        action,
        success: !denied && drive.status.is_none(),
        directory_id: drive.drive.unwrap_or_default(),
        directory_name: name.to_owned(),
        file_path: is_transfer.then(|| path.unwrap_or_default().to_owned()),
        offset: drive.offset.filter(|_| is_transfer),
        length: is_transfer.then(|| drive.bytes.unwrap_or_default()),
        error: match drive.status {
            Some(status) => Some(format!("status {status:#010x}")),
            None => drive.detail.clone(),
        },
    })
}

/// A session as the catalog knows it, for events after it is over.
pub(super) fn scope(audit: &Audit, row: &SessionRow) -> SessionScope {
    let mut scope = audit.scope(row.id, &row.client_addr);
    scope.user.clone_from(&row.user);
    let (domain, login) = row.login.split_once('\\').unwrap_or(("", &row.login));
    scope.set_login(login, Some(domain));
    scope.desktop_name.clone_from(&row.desktop);
    scope.desktop_addr.clone_from(&row.desktop_addr);
    scope.desktop_labels.clone_from(&row.labels);
    scope.roles.clone_from(&row.roles);
    scope
}

/// Tells of a session that a killed gateway left open, unless its end was written before. Blocks.
pub(super) fn recovered(audit: &Audit, row: &SessionRow, recording: Option<audit::Event>) -> anyhow::Result<()> {
    let filter = Filter {
        from: Some(row.started - CLOCK_TOLERANCE),
        events: vec!["windows.desktop.session.end".to_owned()],
        session: Some(row.id.to_string()),
        ..Filter::default()
    };
    let known = audit.has(&filter)?;
    let recorded = row.state != State::NotRecorded;
    let end = (!known).then(|| {
        audit::Event::SessionEnd(Box::new(audit::SessionEnd {
            session_start: row.started,
            session_stop: row.ended.unwrap_or(row.started),
            participants: vec![row.user.clone()],
            recorded,
            not_recorded: row.problem.clone().filter(|_| !recorded),
            end_reason: row.end_reason.clone().unwrap_or_default(),
            gaps: row.gaps,
            bytes: row.bytes,
            recovered: true,
            summary: Summary::default(),
        }))
    });
    for event in recording.into_iter().chain(end) {
        audit.emit(scope(audit, row), &event)?;
    }
    Ok(())
}

/// Ends the sessions that weren't recorded and that a killed gateway left open. Blocks.
pub(super) fn end_unrecorded(audit: &Audit, catalog: &Catalog) -> anyhow::Result<()> {
    for mut row in catalog.unrecorded_without_end()? {
        let now = OffsetDateTime::now_utc();
        let why = "recovered: the gateway stopped during the session".to_owned();
        row.ended = Some(now);
        row.end_reason = Some(why.clone());
        recovered(audit, &row, None)?;
        catalog.session_ended(row.id, now, 0, &why)?;
    }
    Ok(())
}
