//! Who and where an event is about.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;

use super::{Audit, AuditError, Event, Login, SessionStart};

/// The fields that an event shares with others of its session or of whoever acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Scope {
    /// A session.
    Session(Box<SessionScope>),
    /// Somebody at the command line (or, later, in the browser).
    Actor(Actor),
    /// The gateway itself.
    Node {},
}

impl Scope {
    pub(super) fn index(&self) -> u64 {
        match self {
            Self::Session(session) => session.ei,
            Self::Actor(_) | Self::Node {} => 0,
        }
    }
}

/// Who acts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Actor {
    /// The Deskreel user, or `local:<os user>`.
    pub(crate) user: String,
    /// Who became this account by sudo, as sudo says: told, not proved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) sudo_user: Option<String>,
}

impl From<Actor> for Scope {
    fn from(actor: Actor) -> Self {
        Self::Actor(actor)
    }
}

impl From<SessionScope> for Scope {
    fn from(session: SessionScope) -> Self {
        Self::Session(Box::new(session))
    }
}

/// What the events of a session share. What isn't known yet is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct SessionScope {
    /// Number of the event in its session; stands before the other fields.
    #[serde(skip)]
    pub(crate) ei: u64,
    /// Session id, which is the recording's.
    pub(crate) sid: String,
    /// Who asked.
    pub(crate) user: String,
    /// The account on the desktop.
    pub(crate) login: String,
    /// The same, under Teleport's name.
    pub(crate) windows_user: String,
    /// Its domain.
    pub(crate) windows_domain: String,
    /// Name of the desktop resource.
    pub(crate) desktop_name: String,
    /// Its address.
    pub(crate) desktop_addr: String,
    /// Its labels at the session's start.
    pub(crate) desktop_labels: BTreeMap<String, String>,
    /// Where the client is.
    #[serde(rename = "addr.remote")]
    pub(crate) addr_remote: String,
    /// Always `rdp`.
    pub(crate) proto: Rdp,
    /// The node's id: fingerprint of its signing key.
    pub(crate) windows_desktop_service: String,
    /// The user's roles.
    pub(crate) roles: Vec<String>,
    /// The session whose desktop sent the client on to this one's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) redirected_from: Option<String>,
}

/// The protocol of every session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Rdp {
    /// Remote Desktop Protocol.
    #[default]
    Rdp,
}

impl SessionScope {
    /// Sets the account on the desktop under both of its names.
    pub(crate) fn set_login(&mut self, login: &str, domain: Option<&str>) {
        login.clone_into(&mut self.login);
        login.clone_into(&mut self.windows_user);
        domain.unwrap_or_default().clone_into(&mut self.windows_domain);
    }
}

/// The audit log as one session sees it: events get the session's fields and are numbered. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SessionAudit {
    audit: Audit,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    scope: Mutex<SessionScope>,
    next: AtomicU64,
    /// The start was written.
    told: AtomicBool,
}

impl SessionAudit {
    pub(super) fn new(audit: Audit, scope: SessionScope) -> Self {
        let state = State {
            next: AtomicU64::new(scope.ei),
            scope: Mutex::new(scope),
            told: AtomicBool::new(false),
        };
        Self {
            audit,
            state: Arc::new(state),
        }
    }

    /// Corrects or adds what later events say of the session.
    pub(crate) fn update(&self, change: impl FnOnce(&mut SessionScope)) {
        change(&mut self.state.scope.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// What the next event will say of the session.
    pub(crate) fn scope(&self) -> SessionScope {
        self.state.scope.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn next_scope(&self) -> Scope {
        let mut scope = self.scope();
        scope.ei = self.state.next.fetch_add(1, Ordering::Relaxed);
        scope.into()
    }

    /// Writes the start of the session and waits until it is durable; see [`Audit::write`].
    ///
    /// # Errors
    /// See [`Audit::write`].
    pub(crate) async fn write_start(&self, start: SessionStart) -> Result<(), AuditError> {
        self.state.told.store(true, Ordering::Relaxed);
        self.write(Event::SessionStart(Box::new(start))).await
    }

    /// Whether the log was told that the session starts, or was refused.
    pub(crate) fn is_told(&self) -> bool {
        self.state.told.load(Ordering::Relaxed)
    }

    /// Tells that `user` logged on for this session, or failed to. It is no event of the session itself, which may never
    /// begin; see [`Audit::note`].
    pub(crate) fn login(&self, user: &str, login: Login) {
        let scope = self.scope();
        let login = Login {
            sid: Some(scope.sid),
            address: Some(scope.addr_remote),
            ..login
        };
        let actor = Actor {
            user: user.to_owned(),
            ..Actor::default()
        };
        self.audit.note(actor, Event::Login(login));
    }

    /// Writes an event and waits until it is durable; see [`Audit::write`].
    ///
    /// # Errors
    /// See [`Audit::write`].
    pub(crate) async fn write(&self, event: Event) -> Result<(), AuditError> {
        self.audit.write(self.next_scope(), event).await
    }

    /// Writes an event and blocks until it is durable; see [`Audit::emit`].
    ///
    /// # Errors
    /// See [`Audit::emit`].
    pub(crate) fn emit(&self, event: &Event) -> Result<(), AuditError> {
        self.audit.emit(self.next_scope(), event)
    }

    /// Writes an event when there is time; see [`Audit::note`].
    pub(crate) fn note(&self, event: Event) {
        self.audit.note(self.next_scope(), event);
    }

    /// The log itself.
    pub(crate) fn audit(&self) -> &Audit {
        &self.audit
    }
}
