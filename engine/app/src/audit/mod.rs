//! The audit log: who did what, when, and whether it was allowed. One JSON object a line in `data_dir/audit`, only ever
//! appended to; each line carries the SHA-256 of the line before it, so a changed or removed line is found
//! (`deskreel audit verify`).
//!
//! Several processes append to one log: the gateway and every command that changes something or shows a recording.
//! Whoever writes holds a lock on the folder, and looks where the log ends if another was there since.
//!
//! Durability: a write is one `write` and one `fdatasync` for all events that wait ([`writer`]); whoever waits for an
//! event is told after that. Events of a running session that nobody waits for ([`Audit::note`]) are written at once
//! too, but the session goes on meanwhile.
//!
//! When the log can't be written, `audit.on_failure` says what happens: strict = what the event is about does not happen
//! and running sessions end; best_effort = a warning in the engine's log, and the events are written later, as far as
//! `audit.queue_max` of them can wait.

mod event;
mod files;
mod log;
mod read;
mod scope;
mod syslog;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use deskreel_config::{Config, OnFailure};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::{oneshot, watch};
use uuid::Uuid;

pub(crate) use event::{
    Client, Directory, DirectoryAction, DisconnectReason, Event, Login, LoginVia, Phase, RecordingAccess,
    RecordingAction, ResourceChange, ResourceVerb, SessionEnd, SessionStart, Summary, Upkeep,
};
use read::LogFile;
pub(crate) use read::{Filter, Follow, Stored, last, read};
pub(crate) use scope::{Actor, Scope, SessionAudit, SessionScope};
pub(crate) use verify::{Report, verify};

/// The folder below `data_dir`.
const FOLDER: &str = "audit";
/// Events of one call that wait in the queue together.
const EVENTS_AT_ONCE: usize = 64;
/// Longest line. What is longer loses its own fields and says so.
const LINE_MAX_BYTES: usize = 256 << 10;

/// Whether there is a log in `data_dir`.
pub(crate) fn exists(data_dir: &Path) -> bool {
    data_dir.join(FOLDER).exists()
}

/// Whether this account could write the log now; nothing is written.
///
/// # Errors
/// What keeps it from being written.
pub(crate) fn writable(data_dir: &Path) -> anyhow::Result<()> {
    files::writable(&data_dir.join(FOLDER))
}

/// The event is not in the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the audit log can't be written: {reason}")]
pub(crate) struct AuditError {
    /// Why.
    pub(crate) reason: String,
}

/// The log, open for writing. Cheap to clone; what waits is written when the last clone is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Audit {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data_dir: PathBuf,
    stamp: Stamp,
    on_failure: OnFailure,
    /// `None` only while it is dropped, and in tests that want no log.
    queue: Option<SyncSender<Message>>,
    queue_max: u32,
    /// Events that will never be in the log; the log itself says how many as soon as it can.
    lost: Arc<AtomicU64>,
    writer: Mutex<Option<JoinHandle<()>>>,
    failing: watch::Sender<Option<String>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The writer writes what it has and ends when nobody can send it more.
        self.queue = None;
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if writer.is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the audit log's writer panicked");
        }
    }
}

/// Who is told when an event is durable, or that it is not.
type Done = Box<dyn FnOnce(Result<(), AuditError>) + Send>;

/// An event on its way to the writer.
struct Message {
    line: Line,
    /// Try again later if it can't be written: nobody takes back what it tells of.
    keep: bool,
    done: Option<Done>,
}

/// An event as JSON, without the closing brace and the members that chain it to the line before.
#[derive(Debug, Clone)]
struct Line {
    code: &'static str,
    body: String,
}

impl Audit {
    /// Opens the log of `config.data_dir` for writing; makes the folder if there is none.
    ///
    /// # Errors
    /// A folder that can't be made or locked, a log that can't be read.
    pub(crate) fn open(config: &Config) -> anyhow::Result<Self> {
        let node = crate::node::name();
        let stamp = Stamp {
            cluster_name: config.audit.cluster_name.clone().unwrap_or_else(|| node.clone()),
            node,
            service: crate::keys::fingerprint(&config.data_dir),
        };
        let rules = log::Rules {
            file_max_bytes: config.audit.file_max_bytes,
            files_max: config.audit.files_max as usize,
            lock_wait_max: config.recording.stall_max,
        };
        let log = log::Log::open(&config.data_dir.join(FOLDER), rules, stamp.clone())?;
        let syslog = config
            .audit
            .syslog
            .as_deref()
            .map(|socket| syslog::Syslog::new(socket, &stamp.node));
        let failing = watch::Sender::new(None);
        let (queue, messages) = sync_channel(config.audit.queue_max as usize);
        let lost = Arc::new(AtomicU64::new(0));
        let backlog_max = config.audit.queue_max as usize;
        let writer = writer::Writer::new(log, syslog, failing.clone(), Arc::clone(&lost), backlog_max);
        let writer = std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.run(&messages))?;
        Ok(Self {
            inner: Arc::new(Inner {
                data_dir: config.data_dir.clone(),
                stamp,
                on_failure: config.audit.on_failure,
                queue: Some(queue),
                queue_max: config.audit.queue_max,
                lost,
                writer: Mutex::new(Some(writer)),
                failing,
            }),
        })
    }

    /// A log that is nowhere.
    #[cfg(test)]
    pub(crate) fn nowhere() -> Self {
        Self {
            inner: Arc::new(Inner {
                data_dir: PathBuf::new(),
                stamp: Stamp::default(),
                on_failure: OnFailure::BestEffort,
                queue: None,
                queue_max: 0,
                lost: Arc::default(),
                writer: Mutex::new(None),
                failing: watch::Sender::new(None),
            }),
        }
    }

    /// The scope of a session of which nothing else is known yet.
    pub(crate) fn scope(&self, session: Uuid, client: &str) -> SessionScope {
        SessionScope {
            sid: session.to_string(),
            addr_remote: client.to_owned(),
            windows_desktop_service: self.inner.stamp.service.clone(),
            ..SessionScope::default()
        }
    }

    /// The log as one session sees it.
    pub(crate) fn session(&self, scope: SessionScope) -> SessionAudit {
        SessionAudit::new(self.clone(), scope)
    }

    /// Writes an event and returns when it is durable. Blocks for as long as the disk needs: call it from a thread, not
    /// from async code (see [`Audit::write`]).
    ///
    /// # Errors
    /// It could not be written and `audit.on_failure` is strict: what it tells of must not happen.
    pub(crate) fn emit(&self, scope: impl Into<Scope>, event: &Event) -> Result<(), AuditError> {
        self.judge(self.emit_or_fail(scope, event))
    }

    /// As [`Audit::emit`], whatever `audit.on_failure` says: for what a command is about to do, whose process does not live
    /// long enough to write the event later.
    ///
    /// # Errors
    /// It could not be written: what it tells of must not happen.
    pub(crate) fn emit_or_fail(&self, scope: impl Into<Scope>, event: &Event) -> Result<(), AuditError> {
        let (done, written) = sync_channel(1);
        let done: Done = Box::new(move |result| {
            let _ = done.send(result);
        });
        self.submit(&scope.into(), event, Some(done));
        written.recv().unwrap_or_else(|_| Err(gone()))
    }

    /// As [`Audit::emit`], of several events: they share writes to the disk.
    ///
    /// # Errors
    /// As [`Audit::emit`]; those before the one that failed may be written.
    pub(crate) fn emit_all(&self, scope: impl Into<Scope>, events: &[Event]) -> Result<(), AuditError> {
        self.judge(self.emit_all_or_fail(scope, events))
    }

    /// As [`Audit::emit_all`], whatever `audit.on_failure` says; see [`Audit::emit_or_fail`].
    ///
    /// # Errors
    /// As [`Audit::emit_all`].
    pub(crate) fn emit_all_or_fail(&self, scope: impl Into<Scope>, events: &[Event]) -> Result<(), AuditError> {
        let scope = scope.into();
        let batch = EVENTS_AT_ONCE.min(self.inner.queue_max as usize).max(1);
        for some in events.chunks(batch) {
            let (done, written) = sync_channel(some.len());
            for event in some {
                let done = done.clone();
                let told: Done = Box::new(move |result| {
                    let _ = done.send(result);
                });
                self.submit(&scope, event, Some(told));
            }
            for _ in some {
                written.recv().unwrap_or_else(|_| Err(gone()))?;
            }
        }
        Ok(())
    }

    /// As [`Audit::emit`], for async code. Not cancel safe: a cancelled call may or may not have written the event.
    ///
    /// # Errors
    /// As [`Audit::emit`].
    pub(crate) async fn write(&self, scope: impl Into<Scope>, event: Event) -> Result<(), AuditError> {
        let (done, written) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            let _ = done.send(result);
        });
        self.submit(&scope.into(), &event, Some(done));
        self.judge(written.await.unwrap_or_else(|_| Err(gone())))
    }

    /// Writes an event when there is time, and returns at once. That it could not be written shows in
    /// [`Audit::failed`].
    #[expect(
        clippy::needless_pass_by_value,
        reason = "as the other two take it: nobody needs it afterwards"
    )]
    pub(crate) fn note(&self, scope: impl Into<Scope>, event: Event) {
        self.submit(&scope.into(), &event, None);
    }

    /// Whether the log has such an event.
    ///
    /// # Errors
    /// A log that can't be read.
    pub(crate) fn has(&self, filter: &Filter) -> anyhow::Result<bool> {
        if self.inner.queue.is_none() || !self.inner.data_dir.join(FOLDER).exists() {
            return Ok(false);
        }
        Ok(!last(&self.inner.data_dir, filter, 1)?.is_empty())
    }

    /// Resolves when the log can't be written and `audit.on_failure` is strict: sessions must end. Never else.
    pub(crate) async fn failed(&self) -> AuditError {
        if self.inner.on_failure == OnFailure::Strict {
            let mut failing = self.inner.failing.subscribe();
            if let Ok(reason) = failing.wait_for(Option::is_some).await {
                let reason = reason.clone().unwrap_or_default();
                return AuditError { reason };
            }
        }
        std::future::pending().await
    }

    fn submit(&self, scope: &Scope, event: &Event, done: Option<Done>) {
        let inner = &self.inner;
        let Some(queue) = &inner.queue else {
            if let Some(done) = done {
                done(Ok(()));
            }
            return;
        };
        let message = Message {
            line: inner.stamp.line(scope, event),
            keep: done.is_none() || inner.on_failure == OnFailure::BestEffort,
            done,
        };
        let (message, reason) = match queue.try_send(message) {
            Ok(()) => return,
            Err(TrySendError::Full(message)) => {
                let reason = format!("{} events wait already (audit.queue_max)", inner.queue_max);
                (message, reason)
            }
            Err(TrySendError::Disconnected(message)) => (message, gone().reason),
        };
        tracing::error!(reason, event = event.kind().0, "an event is not in the audit log");
        inner.lost.fetch_add(1, Ordering::Relaxed);
        inner.failing.send_if_modified(|failing| {
            let first = failing.is_none();
            failing.get_or_insert_with(|| reason.clone());
            first
        });
        if let Some(done) = message.done {
            done(Err(AuditError { reason }));
        }
    }

    /// What a failure means to who waits. The writer has logged it.
    fn judge(&self, written: Result<(), AuditError>) -> Result<(), AuditError> {
        match self.inner.on_failure {
            OnFailure::Strict => written,
            OnFailure::BestEffort => Ok(()),
        }
    }
}

fn gone() -> AuditError {
    AuditError {
        reason: "its writer is gone".to_owned(),
    }
}

/// What every event of this process says of where it comes from.
#[derive(Debug, Clone, Default)]
struct Stamp {
    cluster_name: String,
    node: String,
    /// The node's id: fingerprint of its signing key, once it has one.
    service: String,
}

#[derive(Serialize)]
struct Body<'a> {
    ei: u64,
    event: &'static str,
    code: &'static str,
    time: &'a str,
    uid: Uuid,
    cluster_name: &'a str,
    node: &'a str,
    #[serde(flatten)]
    scope: &'a Scope,
    #[serde(flatten)]
    own: Own<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Own<'a> {
    Event(&'a Event),
    TooLong { truncated: bool, bytes: usize },
}

impl Stamp {
    fn line(&self, scope: &Scope, event: &Event) -> Line {
        let (name, code) = event.kind();
        let mut body = Body {
            ei: scope.index(),
            event: name,
            code,
            time: &timestamp(OffsetDateTime::now_utc()),
            uid: Uuid::now_v7(),
            cluster_name: &self.cluster_name,
            node: &self.node,
            scope,
            own: Own::Event(event),
        };
        let mut text = text_of(&body);
        if text.len() > LINE_MAX_BYTES {
            let bytes = text.len();
            body.own = Own::TooLong { truncated: true, bytes };
            text = text_of(&body);
            if text.len() > LINE_MAX_BYTES {
                body.scope = &Scope::Node {};
                text = text_of(&body);
            }
        }
        Line { code, body: text }
    }
}

/// JSON without its closing brace.
fn text_of(body: &Body<'_>) -> String {
    // Maps with text keys, numbers and text: there is nothing in it that JSON can't say.
    let mut text = serde_json::to_string(body).unwrap_or_else(|_| "{\"event\":\"\"}".to_owned());
    text.pop();
    text
}

/// RFC 3339 in UTC, to the millisecond.
fn timestamp(at: OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second, ms) = at.to_hms_milli();
    format!(
        "{year:04}-{:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z",
        u8::from(month)
    )
}

#[cfg(test)]
mod tests;
