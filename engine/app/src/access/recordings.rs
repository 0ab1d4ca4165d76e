//! Access to recordings and running sessions: ruled here and nowhere else, for the command line as for the browser.
//!
//! A caller asks [`Ruler::visible`] for lists, and a [`Gate`] for the rest: [`Gate::look`] and [`Gate::begin`] for everything that shows,
//! hands out, ends or deletes something. `begin` writes the audit event and only then gives the [`Pass`] without which
//! there are no bytes; what can't be written is refused.

use deskreel_policy::{CatalogSession, Locks, Resource, RoleSet, RuleDecision, RuleQuery, UserFacts, Verb, may};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::audit::{Actor, Audit, AuditError, Event, Phase, RecordingAccess, RecordingAction};
use crate::catalog::{self, Catalog, SessionRow, State};

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asker {
    /// root, or the account that `data_dir` belongs to: it could read everything anyway.
    Local {
        /// Name of the account.
        os_user: String,
    },
    /// A Deskreel user, by whatever proved the name.
    User(UserFacts),
}

impl Asker {
    /// As the audit log names it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Local { os_user } => format!("local:{os_user}"),
            Self::User(user) => user.name.clone(),
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Purpose {
    /// The verb that rules know.
    pub(crate) verb: Verb,
    /// The event that tells of it.
    pub(crate) what: RecordingAction,
    /// What exactly, in the event's `action`.
    pub(crate) action: &'static str,
}

/// Why something is refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// No such recording, or none that this asker may know of.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The rules say no.
    #[error("{user} may not {action} recording {session}: {why}")]
    Denied {
        /// Who asked.
        user: String,
        /// What for.
        action: &'static str,
        /// Which recording.
        session: Uuid,
        /// The rule, or that there is none.
        why: String,
    },
    /// The audit log can't be written.
    #[error(transparent)]
    Audit(#[from] AuditError),
}

/// The rules as one asker meets them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ruler<'a> {
    /// Who asks.
    pub(crate) asker: &'a Asker,
    /// All roles.
    pub(crate) roles: &'a RoleSet,
    /// All locks.
    pub(crate) locks: &'a Locks,
    /// Why nothing can be ruled, if a resource that decides can't be read.
    pub(crate) unavailable: Option<&'a str>,
}

impl Ruler<'_> {
    /// Whether the asker may do that with a session, and which rule says so.
    pub(crate) fn may(&self, verb: Verb, session: &CatalogSession, now: OffsetDateTime) -> RuleDecision {
        let user = match self.asker {
            Asker::Local { .. } => {
                return RuleDecision {
                    allowed: true,
                    role: None,
                    rule: None,
                    why: "root and the owner of data_dir may do everything".to_owned(),
                };
            }
            Asker::User(user) => user,
        };
        self.ask(user, Resource::Session, verb, Some(session), now)
    }

    /// Whether the asker may read the audit log.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn may_audit(&self, now: OffsetDateTime) -> Result<(), String> {
        let Asker::User(user) = self.asker else { return Ok(()) };
        for verb in [Verb::List, Verb::Read] {
            let rule = self.ask(user, Resource::Event, verb, None, now);
            if !rule.allowed {
                return Err(format!("{} may not read the audit log: {}", user.name, rule.why));
            }
        }
        Ok(())
    }

    fn ask(
        &self,
        user: &UserFacts,
        resource: Resource,
        verb: Verb,
        session: Option<&CatalogSession>,
        now: OffsetDateTime,
    ) -> RuleDecision {
        if let Some(why) = self.shut_out(user, now) {
            return RuleDecision {
                allowed: false,
                role: None,
                rule: None,
                why,
            };
        }
        let query = RuleQuery {
            user,
            resource,
            verb,
            session,
            object: None,
            now,
        };
        may(self.roles, &query)
    }

    /// Why the asker may do nothing at all; `None` of local accounts.
    pub(crate) fn shuts_out(&self, now: OffsetDateTime) -> Option<String> {
        match self.asker {
            Asker::Local { .. } => None,
            Asker::User(user) => self.shut_out(user, now),
        }
    }

    /// Why this user may do nothing at all.
    fn shut_out(&self, user: &UserFacts, now: OffsetDateTime) -> Option<String> {
        if let Some(why) = self.unavailable {
            return Some(format!("nothing can be ruled: {why}"));
        }
        let name = &user.name;
        if !user.exists {
            return Some(format!("there is no user {name}"));
        }
        if user.expires.is_some_and(|expires| expires <= now) {
            return Some(format!("user {name} has expired"));
        }
        if user.is_locked && user.lock_expires.is_none_or(|expires| expires > now) {
            return Some(format!("user {name} is locked"));
        }
        let lock = self.locks.on_user(name, &user.roles, now)?;
        Some(format!("lock {} is in force", lock.metadata.name))
    }

    /// Whether the asker may see a session among the running ones.
    pub(crate) fn tracks(&self, verb: Verb, session: &CatalogSession, now: OffsetDateTime) -> bool {
        match self.asker {
            Asker::Local { .. } => true,
            Asker::User(user) => {
                self.ask(user, Resource::SessionTracker, verb, Some(session), now)
                    .allowed
            }
        }
    }

    /// The rows that the asker may see.
    pub(crate) fn visible(&self, mut rows: Vec<SessionRow>) -> Vec<SessionRow> {
        let now = OffsetDateTime::now_utc();
        rows.retain(|row| self.may(Verb::List, &facts(row), now).allowed);
        rows
    }

    /// The one session whose id begins with `prefix`, among those that the asker may know of.
    ///
    /// # Errors
    /// None, or several; a catalog that can't be read.
    pub(crate) fn known(&self, catalog: &Catalog, prefix: &str) -> catalog::Result<SessionRow> {
        let now = OffsetDateTime::now_utc();
        let mut rows = catalog.sessions_like(prefix)?;
        rows.retain(|row| self.knows(&facts(row), now));
        let prefix = prefix.to_owned();
        match (rows.len(), rows.pop()) {
            (1, Some(row)) => Ok(row),
            (0, _) => Err(catalog::Error::NotFound(prefix)),
            (count, _) => Err(catalog::Error::Ambiguous { prefix, count }),
        }
    }

    /// As [`Ruler::may`], of one session that was named: who may read it may see its row, too.
    fn may_by_id(&self, verb: Verb, session: &CatalogSession, now: OffsetDateTime) -> RuleDecision {
        let rule = self.may(verb, session, now);
        if verb == Verb::List && !rule.allowed {
            let read = self.may(Verb::Read, session, now);
            return if read.allowed { read } else { rule };
        }
        rule
    }

    /// Whether the asker may know that the session exists.
    pub(crate) fn knows(&self, session: &CatalogSession, now: OffsetDateTime) -> bool {
        [Verb::List, Verb::Read]
            .iter()
            .any(|verb| self.may(*verb, session, now).allowed)
    }
}

/// The facts of a session that rules are asked with.
pub(crate) fn facts(row: &SessionRow) -> CatalogSession {
    if row.unproven {
        // Whoever can write to a storage could say that it is anybody's.
        return CatalogSession {
            sid: row.id.to_string(),
            user: String::new(),
            participants: Vec::new(),
            roles: Vec::new(),
            desktop: String::new(),
            login: String::new(),
            domain: String::new(),
            desktop_labels: std::collections::BTreeMap::new(),
            start: row.started,
            end: row.ended,
            recorded: true,
            running: row.ended.is_none(),
            trusted: false,
        };
    }
    let (domain, login) = row.login.split_once('\\').unwrap_or(("", &row.login));
    CatalogSession {
        sid: row.id.to_string(),
        user: row.user.clone(),
        participants: vec![row.user.clone()],
        roles: row.roles.clone(),
        desktop: row.desktop.clone(),
        login: login.to_owned(),
        domain: domain.to_owned(),
        desktop_labels: row.labels.clone(),
        start: row.started,
        end: row.ended,
        recorded: row.state != State::NotRecorded,
        running: row.ended.is_none(),
        trusted: true,
    }
}

/// Access to the recordings of one catalog, for one asker.
#[derive(Debug)]
pub(crate) struct Gate<'a> {
    /// The rules.
    pub(crate) ruler: Ruler<'a>,
    /// Where each access is told.
    pub(crate) audit: &'a Audit,
    /// The catalog.
    pub(crate) catalog: &'a Catalog,
    /// Who asks, for the events.
    pub(crate) actor: Actor,
    /// Where the request comes from, if not from this machine.
    pub(crate) address: Option<String>,
}

/// A recording that the asker may use for a purpose. Nothing is handed out before [`Gate::begin`].
#[derive(Debug, Clone)]
pub(crate) struct Looked {
    /// What the catalog says of it.
    pub(crate) row: SessionRow,
    /// What for.
    purpose: Purpose,
    /// What allows it.
    rule: String,
}

impl Gate<'_> {
    /// The one recording whose id begins with `prefix`, if the asker may use it for `purpose`. A refusal is told to the
    /// audit log. Blocks.
    ///
    /// # Errors
    /// See [`Refused`]. Who may neither list nor read a recording learns nothing of it, not even by an ambiguous id.
    pub(crate) fn look(&self, prefix: &str, purpose: Purpose) -> Result<Looked, Refused> {
        self.choose(self.catalog.sessions_like(prefix)?, prefix, purpose)
    }

    /// As [`Gate::look`], among the `candidates` whose ids begin with `prefix`. Blocks.
    ///
    /// # Errors
    /// As [`Gate::look`].
    pub(crate) fn choose(
        &self,
        candidates: Vec<SessionRow>,
        prefix: &str,
        purpose: Purpose,
    ) -> Result<Looked, Refused> {
        let now = OffsetDateTime::now_utc();
        let mut known = Vec::new();
        let mut hidden = Vec::new();
        for row in candidates {
            let session = facts(&row);
            let rule = self.ruler.may_by_id(purpose.verb, &session, now);
            if rule.allowed || self.ruler.knows(&session, now) {
                known.push((row, rule));
            } else {
                hidden.push((row, rule));
            }
        }
        let (row, rule) = match (known.len(), known.pop()) {
            (1, Some(found)) => found,
            (0, _) => {
                let several = hidden.len();
                if let Some((row, rule)) = hidden.pop() {
                    let mut event = self.event(&row, purpose, rule.why.clone(), Phase::Done);
                    if several > 1 {
                        event.of_several(prefix, several);
                    }
                    self.tell(&event, Some(rule.why))?;
                }
                return Err(catalog::Error::NotFound(prefix.to_owned()).into());
            }
            (count, _) => {
                let prefix = prefix.to_owned();
                return Err(catalog::Error::Ambiguous { prefix, count }.into());
            }
        };
        let decided = decided_by(&rule);
        if !rule.allowed {
            self.tell(&self.event(&row, purpose, decided, Phase::Done), Some(rule.why.clone()))?;
            return Err(Refused::Denied {
                user: self.ruler.asker.name(),
                action: purpose.action,
                session: row.id,
                why: rule.why,
            });
        }
        Ok(Looked {
            row,
            purpose,
            rule: decided,
        })
    }

    /// As [`Gate::look`], for a recording that the catalog doesn't know: another node's, in a storage that this node reads,
    /// too. Nobody but local accounts may use it, as there is nothing that a rule could be asked of.
    ///
    /// # Errors
    /// See [`Refused`].
    pub(crate) fn look_unlisted(&self, id: Uuid, purpose: Purpose) -> Result<Looked, Refused> {
        match self.ruler.asker {
            Asker::Local { .. } => Ok(Looked {
                row: SessionRow::unlisted(id),
                purpose,
                rule: "local account".to_owned(),
            }),
            Asker::User(_) => Err(catalog::Error::NotFound(id.to_string()).into()),
        }
    }

    /// Tells the audit log that something is handed out, and only then gives the right to do it. Blocks.
    ///
    /// # Errors
    /// The event can't be written, and `audit.on_failure` is strict.
    pub(crate) fn begin(&self, looked: &Looked, details: Map<String, Value>) -> Result<Pass, AuditError> {
        let mut event = self.event(&looked.row, looked.purpose, looked.rule.clone(), Phase::Begun);
        event.details = details;
        self.tell(&event, None)?;
        Ok(Pass {
            audit: self.audit.clone(),
            actor: self.actor.clone(),
            event: Some(event),
        })
    }

    /// Tells that something that the rules allow is refused for another reason. Blocks.
    ///
    /// # Errors
    /// As [`Gate::begin`].
    pub(crate) fn refuse(&self, looked: &Looked, why: &str) -> Result<(), AuditError> {
        let event = self.event(&looked.row, looked.purpose, looked.rule.clone(), Phase::Done);
        self.tell(&event, Some(why.to_owned()))
    }

    fn event(&self, row: &SessionRow, purpose: Purpose, rule: String, phase: Phase) -> RecordingAccess {
        RecordingAccess {
            what: purpose.what,
            sid: row.id,
            action: purpose.action.to_owned(),
            phase,
            success: true,
            error: None,
            rule,
            session_user: row.user.clone(),
            desktop_name: row.desktop.clone(),
            address: self.address.clone(),
            details: Map::new(),
        }
    }

    fn tell(&self, event: &RecordingAccess, error: Option<String>) -> Result<(), AuditError> {
        let mut event = event.clone();
        event.success = error.is_none();
        event.error = error;
        self.audit
            .emit_or_fail(self.actor.clone(), &Event::Recording(Box::new(event)))
    }
}

fn decided_by(rule: &RuleDecision) -> String {
    match (&rule.role, &rule.rule) {
        (Some(role), Some(rule)) => format!("role {role}: {rule}"),
        _ => rule.why.clone(),
    }
}

/// The right to hand out what was asked for. Its end is told, too: by [`Pass::done`], else as broken off.
#[derive(Debug)]
pub(crate) struct Pass {
    audit: Audit,
    actor: Actor,
    event: Option<RecordingAccess>,
}

impl Pass {
    /// Tells how it ended: what was handed out, or why not. Blocks.
    ///
    /// # Errors
    /// The event can't be written, and `audit.on_failure` is strict. What was prepared must not be given its name then.
    pub(crate) fn done(mut self, outcome: Result<Map<String, Value>, String>) -> Result<(), AuditError> {
        match self.event.take() {
            Some(event) => tell_end(&self.audit, &self.actor, event, outcome),
            None => Ok(()),
        }
    }

    /// As [`Pass::done`], with what is known of a failure, too. Blocks.
    ///
    /// # Errors
    /// As [`Pass::done`].
    pub(crate) fn done_with(mut self, details: Map<String, Value>, error: Option<String>) -> Result<(), AuditError> {
        let Some(mut event) = self.event.take() else {
            return Ok(());
        };
        event.details.extend(details);
        tell_end(&self.audit, &self.actor, event, error.map_or(Ok(Map::new()), Err))
    }

    /// There is nothing to tell of the end: everything was in the first event.
    pub(crate) fn shown(mut self) {
        self.event = None;
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let Some(event) = self.event.take() else { return };
        if let Err(error) = tell_end(&self.audit, &self.actor, event, Err("broken off".to_owned())) {
            tracing::error!(%error, "the end of an access to a recording");
        }
    }
}

fn tell_end(
    audit: &Audit,
    actor: &Actor,
    mut event: RecordingAccess,
    outcome: Result<Map<String, Value>, String>,
) -> Result<(), AuditError> {
    event.phase = Phase::Done;
    match outcome {
        Ok(details) => event.details.extend(details),
        Err(error) => {
            event.success = false;
            event.error = Some(error);
        }
    }
    audit.emit_or_fail(actor.clone(), &Event::Recording(Box::new(event)))
}

#[cfg(test)]
#[path = "recordings_tests.rs"]
mod tests;
