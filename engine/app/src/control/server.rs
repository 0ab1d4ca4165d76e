//! The gateway's side of the control socket.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deskreel_policy::Level;
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
use crate::access::Who;
use crate::audit::{Actor, Audit, Event, Phase, RecordingAccess, RecordingAction};
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::registry::{Registry, Running};

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
#[derive(Debug, Clone)]
struct Desk {
    registry: Registry,
    audit: Audit,
}

/// Who is at the other end: an account.
#[derive(Debug, Clone, Copy)]
struct Peer {
    uid: u32,
}

impl Server {
    /// Binds the socket below `data_dir`, whose lock the caller holds: a socket that is there is a dead gateway's.
    ///
    /// # Errors
    /// The path is too long for a socket, or the folder can't be written.
    pub(crate) fn bind(data_dir: &Path, registry: Registry, audit: Audit) -> anyhow::Result<Self> {
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
            desk: Desk { registry, audit },
        })
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

/// Whether this account may use the socket.
fn is_allowed(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}

/// One connection: one request and its answers.
async fn serve(stream: UnixStream, desk: &Desk, has_room: bool) -> io::Result<()> {
    let peer = Peer {
        uid: stream.peer_cred()?.uid(),
    };
    let (reader, mut writer) = stream.into_split();
    let refusal = if !is_allowed(peer.uid) {
        warn!(
            uid = peer.uid,
            "an account without the right to it tried the control socket"
        );
        Some((ErrorKind::Denied, "only root and the gateway's own account may do this"))
    } else if !has_room {
        Some((ErrorKind::Busy, "too many connections to the control socket"))
    } else {
        None
    };
    if let Some((kind, message)) = refusal {
        return answer(&mut writer, &error(kind, message)).await;
    }
    let mut line = Vec::new();
    let mut reader = BufReader::new(reader.take(REQUEST_MAX_BYTES));
    timeout(PATIENCE, reader.read_until(b'\n', &mut line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let request = match serde_json::from_slice(&line) {
        Ok(request) => request,
        Err(problem) => {
            let problem = format!("the request can't be read: {problem}");
            return answer(&mut writer, &error(ErrorKind::Request, &problem)).await;
        }
    };
    let registry = &desk.registry;
    match request {
        Request::List {} => {
            let sessions = registry.list().iter().map(|running| session(running)).collect();
            answer(&mut writer, &Answer::Sessions { sessions }).await
        }
        Request::Show { id } => match find(registry, &id) {
            Ok(running) => {
                let session = Box::new(session(&running));
                answer(&mut writer, &Answer::Session { session }).await
            }
            Err(missing) => answer(&mut writer, &missing).await,
        },
        Request::Terminate { id, reason } => {
            let done = match find(registry, &id) {
                Ok(running) => desk.terminate(&running, &reason, peer).await,
                Err(missing) => Err(missing),
            };
            answer(&mut writer, &done.unwrap_or_else(|problem| problem)).await
        }
        Request::Watch { id, frame_interval_ms } => match find(registry, &id) {
            Ok(_) if frame_interval_ms.is_some_and(|every| every < FRAME_INTERVAL_MIN_MS) => {
                let problem = format!("pictures come at most every {FRAME_INTERVAL_MIN_MS} ms");
                answer(&mut writer, &error(ErrorKind::Request, &problem)).await
            }
            Ok(running) => {
                info!(session = %running.facts.id, uid = peer.uid, "watched");
                if let Err(problem) = desk.tell(&running, RecordingAction::Watch, "watch", None, peer).await {
                    return answer(&mut writer, &problem).await;
                }
                watch::run(&mut writer, &running, frame_interval_ms.map(Duration::from_millis)).await
            }
            Err(missing) => answer(&mut writer, &missing).await,
        },
    }
}

impl Desk {
    async fn terminate(&self, running: &Running, reason: &str, peer: Peer) -> Result<Answer, Answer> {
        let reason = reason.trim();
        let long = reason.chars().count() > REASON_MAX_CHARS;
        if reason.is_empty() || long || reason.chars().any(char::is_control) {
            let problem =
                format!("the reason has 1 to {REASON_MAX_CHARS} characters, none of them a control character");
            return Err(error(ErrorKind::Request, &problem));
        }
        self.tell(running, RecordingAction::Terminate, "terminate", Some(reason), peer)
            .await?;
        info!(session = %running.facts.id, uid = peer.uid, reason, "terminating");
        running.end(Ended::new(EndReason::Terminated, reason));
        Ok(Answer::Terminating { id: running.facts.id })
    }

    /// Writes into the audit log what is about to be done.
    async fn tell(
        &self,
        running: &Running,
        what: RecordingAction,
        action: &str,
        reason: Option<&str>,
        peer: Peer,
    ) -> Result<(), Answer> {
        let actor = Actor {
            user: Who::local(peer.uid).name(),
            ..Actor::default()
        };
        let mut details = serde_json::Map::new();
        details.extend(reason.map(|reason| ("reason".to_owned(), reason.into())));
        let event = Event::Recording(Box::new(RecordingAccess {
            what,
            sid: running.facts.id,
            action: action.to_owned(),
            phase: Phase::Begun,
            success: true,
            error: None,
            rule: "local account".to_owned(),
            session_user: running.facts.user.clone(),
            desktop_name: running.facts.desktop.clone(),
            address: None,
            details,
        }));
        let written = self.audit.write(actor, event).await;
        written.map_err(|failed| error(ErrorKind::Audit, &failed.to_string()))
    }
}

/// The one session whose id begins so.
fn find(registry: &Registry, id: &str) -> Result<Arc<Running>, Answer> {
    let id = id.to_ascii_lowercase();
    let mut found: Vec<_> = registry
        .list()
        .into_iter()
        .filter(|running| !id.is_empty() && running.facts.id.to_string().starts_with(&id))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(running), true) => Ok(running),
        (Some(_), false) => Err(error(
            ErrorKind::NotFound,
            &format!("several running sessions begin with {id:?}"),
        )),
        (None, _) => Err(error(ErrorKind::NotFound, &format!("no running session {id:?}"))),
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
