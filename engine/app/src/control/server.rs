//! The gateway's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deskreel_policy::{Level, Verb};
use time::OffsetDateTime;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::protocol::{
    Answer, ErrorKind, FRAME_INTERVAL_MIN_MS, REASON_MAX_CHARS, REQUEST_MAX_BYTES, RecordingState, Request, Session,
};
use super::{SOCKET, watch};
use crate::access::recordings::{Asker, Gate, Looked, Purpose, Refused, Ruler, facts};
use crate::access::{Access, View, Who, withdrawn};
use crate::audit::{Audit, RecordingAction};
use crate::catalog::{self, Catalog, SessionRow};
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::registry::{Facts, Registry, Running};

/// Connections at once.
const CONNECTIONS_MAX: usize = 64;
/// How long a client may take for its request, or to take an answer.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The bound socket; its file goes when this does.
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
    desk: Desk,
}

/// What every connection works with.
#[derive(Clone)]
struct Desk {
    registry: Registry,
    audit: Audit,
    access: Arc<Access>,
    catalog: Arc<Catalog>,
}

impl Server {
    /// Binds the socket below `data_dir`, whose lock the caller holds: a socket that is there is a dead gateway's.
    ///
    /// # Errors
    /// The path is too long for a socket, the folder can't be written, or it has no catalog.
    pub(crate) fn bind(data_dir: &Path, registry: Registry, audit: Audit, access: Arc<Access>) -> anyhow::Result<Self> {
        let catalog = Arc::new(Catalog::open_read_only(data_dir)?);
        let path = data_dir.join(SOCKET);
        // It gets its name when only its owner may use it.
        let fresh = data_dir.join(format!("{SOCKET}.new"));
        for old in [&path, &fresh] {
            match std::fs::remove_file(old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).with_context(|| format!("remove the old {}", old.display()));
                }
                _ => {}
            }
        }
        let listener = UnixListener::bind(&fresh).with_context(|| format!("bind {}", fresh.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(&fresh, mode)
            .and_then(|()| std::fs::rename(&fresh, &path))
            .with_context(|| format!("set up {}", path.display()))?;
        Ok(Self {
            listener,
            path,
            desk: Desk {
                registry,
                audit,
                access,
                catalog,
            },
        })
    }

    /// An account at the other end of a connection.
    #[cfg(test)]
    pub(super) fn visitor(&self, who: Who) -> Visitor {
        let desk = self.desk.clone();
        Visitor {
            desk,
            who,
            sudo_user: None,
        }
    }

    /// Answers until it is dropped.
    pub(crate) async fn run(self) {
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        // ends what still answers when this future is dropped
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            match accepted {
                Ok((stream, _)) => {
                    let room = Arc::clone(&room);
                    let desk = self.desk.clone();
                    connections.spawn(async move {
                        let permit = room.try_acquire_owned().ok();
                        if let Err(error) = serve(stream, &desk, permit.is_some()).await {
                            debug!(%error, "control connection");
                        }
                    });
                }
                Err(error) => {
                    warn!(%error, "accept on the control socket failed");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may be gone already; a next gateway removes it otherwise.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// One connection: one request and its answers.
async fn serve(stream: UnixStream, desk: &Desk, has_room: bool) -> io::Result<()> {
    let mut visitor = Visitor {
        desk: desk.clone(),
        sudo_user: None,
        who: Who::of(stream.peer_cred()?.uid(), rustix::process::geteuid().as_raw()),
    };
    let (reader, mut writer) = stream.into_split();
    if !has_room {
        let full = error(ErrorKind::Busy, "too many connections to the control socket");
        return answer(&mut writer, &full).await;
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX_BYTES));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let done = match serde_json::from_slice(&line) {
        Ok(Request::List {}) => visitor.list().await,
        Ok(Request::Show { id }) => visitor.show(id).await,
        Ok(Request::Terminate { id, reason, sudo_user }) => {
            visitor.sudo_user = sudo_user;
            visitor.terminate(id, &reason).await
        }
        Ok(Request::Watch {
            id,
            frame_interval_ms,
            sudo_user,
        }) => {
            visitor.sudo_user = sudo_user;
            match visitor.watch(id, frame_interval_ms).await {
                Ok((running, looked)) => {
                    let every = frame_interval_ms.map(Duration::from_millis);
                    return watch::run(&mut writer, &running, every, visitor.withdrawn(looked)).await;
                }
                Err(problem) => Err(problem),
            }
        }
        Err(problem) => {
            let problem = format!("the request can't be read: {problem}");
            Err(error(ErrorKind::Request, &problem))
        }
    };
    answer(&mut writer, &done.unwrap_or_else(|problem| problem)).await
}

/// One account at the other end, and what it may do here.
#[derive(Clone)]
pub(super) struct Visitor {
    desk: Desk,
    who: Who,
    /// Whom the account was before sudo, as it says itself.
    sudo_user: Option<String>,
}

impl Visitor {
    /// The sessions that run, as far as the account may know of them.
    pub(super) async fn list(&self) -> Result<Answer, Answer> {
        let running = self.tracked(Verb::List, |_| true).await?;
        let sessions = running.iter().map(|running| session(running)).collect();
        Ok(Answer::Sessions { sessions })
    }

    /// One of them.
    pub(super) async fn show(&self, id: String) -> Result<Answer, Answer> {
        let mut found = self.tracked(Verb::Read, begins(&id)).await?;
        match (found.len(), found.pop()) {
            (1, Some(running)) => Ok(Answer::Session {
                session: Box::new(session(&running)),
            }),
            (0, _) => Err(unknown(&id)),
            _ => Err(several(&id)),
        }
    }

    pub(super) async fn terminate(&self, id: String, reason: &str) -> Result<Answer, Answer> {
        let reason = reason.trim();
        let long = reason.chars().count() > REASON_MAX_CHARS;
        if reason.is_empty() || long || reason.chars().any(char::is_control) {
            let problem =
                format!("the reason has 1 to {REASON_MAX_CHARS} characters, none of them a control character");
            return Err(error(ErrorKind::Request, &problem));
        }
        let purpose = Purpose {
            verb: Verb::Terminate,
            what: RecordingAction::Terminate,
            action: "terminate",
        };
        let (running, _) = self.permitted(id, purpose, Some(reason)).await?;
        info!(session = %running.facts.id, by = self.who.name(), reason, "terminating");
        running.end(Ended::new(EndReason::Terminated, reason));
        Ok(Answer::Terminating { id: running.facts.id })
    }

    /// The session that is to be watched, and the right to it, which may be [withdrawn](Self::withdrawn).
    pub(super) async fn watch(
        &self,
        id: String,
        frame_interval_ms: Option<u64>,
    ) -> Result<(Arc<Running>, Looked), Answer> {
        if frame_interval_ms.is_some_and(|every| every < FRAME_INTERVAL_MIN_MS) {
            let problem = format!("pictures come at most every {FRAME_INTERVAL_MIN_MS} ms");
            return Err(error(ErrorKind::Request, &problem));
        }
        let purpose = Purpose {
            verb: Verb::Watch,
            what: RecordingAction::Watch,
            action: "watch",
        };
        let found = self.permitted(id, purpose, None).await?;
        info!(session = %found.0.facts.id, by = self.who.name(), "watched");
        Ok(found)
    }

    /// Resolves when the account may not watch any more; why. The audit log has been told then.
    pub(super) async fn withdrawn(&self, looked: Looked) -> String {
        let session = facts(&looked.row);
        let asker = |view: &View| self.who.asker(view);
        let why = withdrawn(&self.desk.access, asker, Verb::Watch, &session).await;
        warn!(session = %looked.row.id, by = self.who.name(), why, "not watched any more");
        let (visitor, error) = (self.clone(), why.clone());
        let told = tokio::task::spawn_blocking(move || visitor.with_gate(|gate| gate.refuse(&looked, &error)));
        if let Ok(Err(error)) = told.await {
            // it has ended, so there is nothing left to refuse
            warn!(%error, "the end of watching a session");
        }
        why
    }

    /// The running sessions that the account may see and that are `wanted`.
    async fn tracked(
        &self,
        verb: Verb,
        wanted: impl Fn(&Running) -> bool + Send + 'static,
    ) -> Result<Vec<Arc<Running>>, Answer> {
        self.ruled(move |gate, mut running| {
            let now = OffsetDateTime::now_utc();
            running.retain(|running| {
                wanted(running) && row(gate, running).is_some_and(|row| gate.ruler.tracks(verb, &facts(&row), now))
            });
            Ok(running)
        })
        .await
    }

    /// The one session whose id begins so, if the account may use it so; the audit log has been told, of a refusal too.
    async fn permitted(
        &self,
        id: String,
        purpose: Purpose,
        reason: Option<&str>,
    ) -> Result<(Arc<Running>, Looked), Answer> {
        let reason = reason.map(|reason| ("reason".to_owned(), reason.into()));
        self.ruled(move |gate, mut running| {
            running.retain(|running| begins(&id)(running));
            let rows = running.iter().filter_map(|running| row(gate, running)).collect();
            let looked = gate
                .choose(rows, &id, purpose)
                .map_err(|refused| refusal(&id, &refused))?;
            let pass = gate.begin(&looked, reason.into_iter().collect());
            pass.map_err(|failed| error(ErrorKind::Audit, &failed.to_string()))?
                .shown();
            let chosen = running.into_iter().find(|running| running.facts.id == looked.row.id);
            chosen.map(|running| (running, looked)).ok_or_else(|| unknown(&id))
        })
        .await
    }

    /// Asks the rules as they are now, on a thread that may block.
    async fn ruled<T: Send + 'static>(
        &self,
        ask: impl FnOnce(&Gate<'_>, Vec<Arc<Running>>) -> Result<T, Answer> + Send + 'static,
    ) -> Result<T, Answer> {
        let visitor = self.clone();
        let asked = tokio::task::spawn_blocking(move || {
            visitor.with_gate(|gate| match (&visitor.who, gate.ruler.unavailable) {
                (Who::User(_), Some(why)) => Err(error(ErrorKind::Denied, &format!("nothing can be ruled: {why}"))),
                _ => ask(gate, visitor.desk.registry.list()),
            })
        });
        asked.await.unwrap_or_else(|failed| {
            Err(error(
                ErrorKind::Denied,
                &format!("the rules could not be asked: {failed}"),
            ))
        })
    }
}

impl Visitor {
    /// The rules as they are now. Blocks.
    fn with_gate<T>(&self, work: impl FnOnce(&Gate<'_>) -> T) -> T {
        let Self { desk, who, sudo_user } = self;
        let view = desk.access.view();
        let (asker, locks) = (who.asker(&view), view.locks());
        work(&Gate {
            ruler: Ruler {
                asker: &asker,
                roles: &view.roles,
                locks: &locks,
                unavailable: view.unavailable.as_deref(),
            },
            audit: &desk.audit,
            catalog: &desk.catalog,
            actor: who.actor_from(sudo_user.clone()),
            address: None,
        })
    }
}

/// What the catalog says of a running session. Of one that it doesn't know yet only local accounts hear: there are no facts
/// that a rule could be asked of.
fn row(gate: &Gate<'_>, running: &Running) -> Option<SessionRow> {
    let Facts {
        id,
        user,
        login,
        desktop,
        ..
    } = &running.facts;
    match (gate.catalog.session(&id.to_string()), gate.ruler.asker) {
        (Ok(row), _) => Some(row),
        (Err(_), Asker::Local { .. }) => Some(SessionRow {
            user: user.clone(),
            login: login.clone(),
            desktop: desktop.clone(),
            ..SessionRow::unlisted(*id)
        }),
        (Err(_), Asker::User(_)) => None,
    }
}

/// Whether a session's id begins so.
fn begins(id: &str) -> impl Fn(&Running) -> bool + Send + 'static {
    let id = id.to_ascii_lowercase();
    move |running| !id.is_empty() && running.facts.id.to_string().starts_with(&id)
}

fn unknown(id: &str) -> Answer {
    error(ErrorKind::NotFound, &format!("no running session {id:?}"))
}

fn several(id: &str) -> Answer {
    error(
        ErrorKind::NotFound,
        &format!("several running sessions begin with {id:?}"),
    )
}

fn refusal(id: &str, refused: &Refused) -> Answer {
    match refused {
        Refused::Catalog(catalog::Error::NotFound(_)) => unknown(id),
        Refused::Catalog(catalog::Error::Ambiguous { .. }) => several(id),
        Refused::Audit(_) => error(ErrorKind::Audit, &refused.to_string()),
        Refused::Catalog(_) | Refused::Denied { .. } => error(ErrorKind::Denied, &refused.to_string()),
    }
}

pub(super) fn error(kind: ErrorKind, message: &str) -> Answer {
    Answer::Error {
        kind,
        message: message.to_owned(),
    }
}

/// Sends one answer.
pub(super) async fn answer(writer: &mut OwnedWriteHalf, answer: &Answer) -> io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    timeout(PATIENCE, writer.write_all(&line))
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

pub(super) fn session(running: &Running) -> Session {
    let recording = match running.recorder.get() {
        None => RecordingState::Starting,
        Some(recorder) if recorder.is_recording() => RecordingState::Recorded,
        Some(_) => RecordingState::NotRecorded,
    };
    let level = match running.facts.decision.recording.level {
        Level::Off => "off",
        Level::BestEffort => "best_effort",
        Level::Strict => "strict",
    };
    Session {
        id: running.facts.id,
        user: running.facts.user.clone(),
        identity: running.facts.identity,
        roles: running.facts.decision.roles.clone(),
        login: running.facts.login.clone(),
        desktop: running.facts.desktop.clone(),
        desktop_addr: running.facts.desktop_addr.clone(),
        client_addr: running.facts.client_addr.to_string(),
        client_name: running.facts.client_name.clone(),
        started: OffsetDateTime::from(running.facts.started),
        duration_ms: running.elapsed_ms(),
        idle_ms: running.idle_ms(),
        recording,
        level: level.to_owned(),
    }
}
