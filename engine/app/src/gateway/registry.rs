//! The sessions that run: who is in, how many may be, and the way to end one from outside.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Instant, SystemTime};

use deskreel_policy::Decision;
use deskreel_recording::event::{self, SessionEnd};
use tokio::sync::watch;
use uuid::Uuid;

use super::end::{EndReason, Ended};
use crate::catalog::IdentityKind;
use crate::pipeline::SessionRecorder;

/// All sessions that were granted and aren't over. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Registry {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    per_desktop_max: usize,
    running: Mutex<BTreeMap<Uuid, Arc<Running>>>,
}

/// Who is in a session, where, since when.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// Session id and recording id.
    pub(crate) id: Uuid,
    /// Wall-clock time of the accept.
    pub(crate) started: SystemTime,
    /// The same moment on the monotonic clock.
    pub(crate) started_at: Instant,
    /// Where the client is.
    pub(crate) client_addr: SocketAddr,
    /// What the client calls its machine.
    pub(crate) client_name: String,
    /// Who is in.
    pub(crate) user: String,
    /// Whether that is proven.
    pub(crate) identity: IdentityKind,
    /// The account on the desktop.
    pub(crate) login: String,
    /// Name of the desktop.
    pub(crate) desktop: String,
    /// Where it is.
    pub(crate) desktop_addr: String,
    /// What rules the session.
    pub(crate) decision: Arc<Decision>,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Running {
    /// Known from the start.
    pub(crate) facts: Facts,
    /// Set when the picture begins.
    pub(crate) recorder: OnceLock<SessionRecorder>,
    /// Milliseconds from the start to the last input that was noticed.
    last_input_ms: AtomicU64,
    end: watch::Sender<Option<Ended>>,
    over: OnceLock<String>,
}

impl Running {
    pub(crate) fn new(facts: Facts) -> Arc<Self> {
        Arc::new(Self {
            facts,
            recorder: OnceLock::new(),
            last_input_ms: AtomicU64::new(0),
            end: watch::Sender::new(None),
            over: OnceLock::new(),
        })
    }

    /// Ends the session soon; the first reason stands.
    pub(crate) fn end(&self, ended: Ended) {
        self.end.send_if_modified(|end| {
            let first = end.is_none();
            end.get_or_insert(ended);
            first
        });
    }

    /// Resolves when somebody has ended the session from outside.
    pub(crate) async fn ended(&self) -> Ended {
        let mut end = self.end.subscribe();
        // the sender is in `self`, so it is there
        match end.wait_for(Option::is_some).await.map(|end| end.clone()) {
            Ok(Some(ended)) => ended,
            _ => std::future::pending().await,
        }
    }

    /// The session is over, for this reason.
    pub(crate) fn set_over(&self, ended: &Ended) {
        // Err = it was over already
        let _ = self.over.set(ended.to_string());
    }

    /// Why the session is over, if it is.
    pub(crate) fn over(&self) -> Option<&str> {
        self.over.get().map(String::as_str)
    }

    /// The user did something just now.
    pub(crate) fn touch(&self) {
        self.last_input_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    /// Milliseconds since the start.
    pub(crate) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.facts.started_at.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Milliseconds since the last input that was noticed, or since the start.
    pub(crate) fn idle_ms(&self) -> u64 {
        self.elapsed_ms()
            .saturating_sub(self.last_input_ms.load(Ordering::Relaxed))
    }
}

/// A session's place among the running ones; given back on drop.
#[derive(Debug)]
pub(crate) struct Entered {
    registry: Registry,
    id: Uuid,
}

impl Drop for Entered {
    fn drop(&mut self) {
        let removed = self.registry.lock().remove(&self.id);
        // A session that ended by a defect: whoever still watches must not keep its recording open.
        if let Some(session) = removed.filter(|session| session.over().is_none()) {
            let ended = Ended::new(EndReason::Internal, "the session ended without saying why");
            session.set_over(&ended);
            if let Some(recorder) = session.recorder.get() {
                recorder.ended(SessionEnd {
                    reason: event::EndReason::ProtocolError,
                    detail: Some(ended.to_string()),
                    error_info: None,
                });
            }
        }
    }
}

impl Registry {
    /// Nobody is in; `per_desktop_max` is `gateway.sessions_per_desktop_max`.
    pub(crate) fn new(per_desktop_max: usize) -> Self {
        Self {
            inner: Arc::new(Inner {
                per_desktop_max,
                running: Mutex::default(),
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Arc<Running>>> {
        self.inner.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a session in, if neither its user nor its desktop has too many already.
    ///
    /// # Errors
    /// The limit that is reached.
    pub(crate) fn enter(&self, session: &Arc<Running>) -> Result<Entered, Ended> {
        let mut running = self.lock();
        let of_user = open_sessions(&running, &session.facts.user, session.facts.identity);
        if let Some(max) = session.facts.decision.limits.sessions_max
            && of_user >= max as usize
        {
            return Err(Ended::new(
                EndReason::TooManyOfUser,
                format!(
                    "user {:?} has {of_user} open sessions (max_connections is {max})",
                    session.facts.user
                ),
            ));
        }
        let on_desktop = running
            .values()
            .filter(|other| other.facts.desktop == session.facts.desktop)
            .count();
        if on_desktop >= self.inner.per_desktop_max {
            return Err(Ended::new(
                EndReason::TooManyOnDesktop,
                format!(
                    "desktop {:?} has {on_desktop} open sessions (gateway.sessions_per_desktop_max is {})",
                    session.facts.desktop, self.inner.per_desktop_max
                ),
            ));
        }
        running.insert(session.facts.id, Arc::clone(session));
        Ok(Entered {
            registry: self.clone(),
            id: session.facts.id,
        })
    }

    /// How many sessions a user has open. Who merely claims a name takes nothing from the one that it belongs to.
    pub(crate) fn open_sessions(&self, user: &str, identity: IdentityKind) -> u32 {
        u32::try_from(open_sessions(&self.lock(), user, identity)).unwrap_or(u32::MAX)
    }

    /// All sessions, oldest first (ids are UUIDv7).
    pub(crate) fn list(&self) -> Vec<Arc<Running>> {
        self.lock().values().cloned().collect()
    }
}

fn open_sessions(running: &BTreeMap<Uuid, Arc<Running>>, user: &str, identity: IdentityKind) -> usize {
    let of_user = |session: &&Arc<Running>| session.facts.user == user && session.facts.identity == identity;
    running.values().filter(of_user).count()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::gateway::grant::testing::everything;

    fn session(user: &str, desktop: &str, sessions_max: Option<u32>) -> Arc<Running> {
        identified(user, IdentityKind::Claimed, desktop, sessions_max)
    }

    fn identified(user: &str, identity: IdentityKind, desktop: &str, sessions_max: Option<u32>) -> Arc<Running> {
        let mut decision = everything(deskreel_config::ClusterMode::Off, deskreel_config::OnFailure::Strict);
        decision.limits.sessions_max = sessions_max;
        Running::new(Facts {
            id: Uuid::now_v7(),
            started: SystemTime::now(),
            started_at: Instant::now(),
            client_addr: "127.0.0.1:1".parse().unwrap(),
            client_name: String::new(),
            user: user.to_owned(),
            identity,
            login: user.to_owned(),
            desktop: desktop.to_owned(),
            desktop_addr: String::new(),
            decision: Arc::new(decision),
        })
    }

    #[test]
    fn users_and_desktops_have_limits() {
        let registry = Registry::new(2);
        let first = registry.enter(&session("ann", "a", Some(2))).unwrap();
        let _second = registry.enter(&session("ann", "b", Some(2))).unwrap();
        let third = registry.enter(&session("ann", "c", Some(2))).unwrap_err();
        assert_eq!(third.reason, EndReason::TooManyOfUser);
        assert!(third.detail.contains("max_connections is 2"), "{}", third.detail);
        let open = |user| registry.open_sessions(user, IdentityKind::Claimed);
        assert_eq!((open("ann"), open("bob")), (2, 0));
        // somebody else's limit is not ann's
        let _bob = registry.enter(&session("bob", "b", Some(1))).unwrap();
        let full = registry.enter(&session("eve", "b", None)).unwrap_err();
        assert_eq!(full.reason, EndReason::TooManyOnDesktop);
        drop(first);
        assert_eq!(registry.list().len(), 2);
        registry.enter(&session("ann", "c", Some(2))).unwrap();
    }

    #[test]
    fn who_claims_a_name_takes_no_session_from_the_one_that_it_belongs_to() {
        let registry = Registry::new(9);
        let _claimed = registry.enter(&session("ann", "a", Some(1))).unwrap();
        registry.enter(&session("ann", "b", Some(1))).unwrap_err();
        assert_eq!(registry.open_sessions("ann", IdentityKind::Proven), 0);
        let proven = identified("ann", IdentityKind::Proven, "a", Some(1));
        let _proven = registry.enter(&proven).unwrap();
        assert_eq!(registry.open_sessions("ann", IdentityKind::Proven), 1);
        registry
            .enter(&identified("ann", IdentityKind::Proven, "b", Some(1)))
            .unwrap_err();
    }

    #[tokio::test]
    async fn the_first_to_end_a_session_says_why() {
        let session = session("ann", "a", None);
        session.end(Ended::new(EndReason::Locked, "first"));
        session.end(Ended::new(EndReason::Terminated, "second"));
        assert_eq!(session.ended().await, Ended::new(EndReason::Locked, "first"));
    }
}
