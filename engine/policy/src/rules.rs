//! Access to recordings, running sessions and resources: the `rules` of roles.

use std::collections::{BTreeMap, BTreeSet};

use deskreel_config::Rule;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::expression::{Expression, Facts, Scope, hint};
use crate::roles::CompiledRole;
use crate::standing::standing;
use crate::{RoleSet, Severity, UserFacts};

/// May this user do that with this thing?
#[derive(Debug, Clone, Copy)]
pub struct RuleQuery<'a> {
    /// Who asks.
    pub user: &'a UserFacts,
    /// Kind of the thing.
    pub resource: Resource,
    /// What is to be done.
    pub verb: Verb,
    /// The session, if the thing is one: what `session.…` reads.
    pub session: Option<&'a CatalogSession>,
    /// The resource, if the thing is one: what `resource.…` reads.
    pub object: Option<&'a ObjectFacts>,
    /// The time.
    pub now: OffsetDateTime,
}

/// Kinds that rules speak of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    /// Recordings, and sessions as they run.
    Session,
    /// The audit log.
    Event,
    /// The list of running sessions; one's own are always in it.
    SessionTracker,
    /// Roles.
    Role,
    /// Users.
    User,
    /// Desktops.
    WindowsDesktop,
    /// Locks.
    Lock,
    /// Settings of session recording.
    SessionRecordingConfig,
}

/// What can be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// See that it is there.
    List,
    /// See it; of a session: play, frames, events, verify.
    Read,
    /// Add one.
    Create,
    /// Change it.
    Update,
    /// Remove it; of a session: from all storages.
    Delete,
    /// Video or frames of a session.
    Export,
    /// Segments and manifest of a session.
    Download,
    /// Live view of a session.
    Watch,
    /// End a running session.
    Terminate,
}

/// What the catalog knows of a session, from its start on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatalogSession {
    /// Id.
    pub sid: String,
    /// User of the Decision.
    pub user: String,
    /// Everybody who took part.
    pub participants: Vec<String>,
    /// Roles of the Decision.
    pub roles: Vec<String>,
    /// Name of the desktop.
    pub desktop: String,
    /// Account on the desktop; empty if not known.
    pub login: String,
    /// Domain of the account; empty if there is none.
    pub domain: String,
    /// Labels of the desktop at the start.
    pub desktop_labels: BTreeMap<String, String>,
    /// Start.
    #[serde(with = "time::serde::rfc3339")]
    pub start: OffsetDateTime,
    /// End; `None` while it runs: that lies ahead of any time.
    #[serde(with = "time::serde::rfc3339::option")]
    pub end: Option<OffsetDateTime>,
    /// It is or was recorded.
    pub recorded: bool,
    /// It runs.
    pub running: bool,
    /// The facts above are this node's, or signed by a key that it trusts. Otherwise every `where` over them fails, since
    /// they are not known: it matches in deny and grants nothing in allow.
    pub trusted: bool,
}

/// Metadata of a resource.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct ObjectFacts {
    /// `metadata.name`
    pub name: String,
    /// `metadata.labels`
    pub labels: BTreeMap<String, String>,
}

/// Answer to a [`RuleQuery`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RuleDecision {
    /// Whether it may.
    pub allowed: bool,
    /// Role that decided; `None` = none did.
    pub role: Option<String>,
    /// Its rule, such as `spec.deny.rules[0]`.
    pub rule: Option<String>,
    /// In words.
    pub why: String,
}

impl Resource {
    /// As rules write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Event => "event",
            Self::SessionTracker => "session_tracker",
            Self::Role => "role",
            Self::User => "user",
            Self::WindowsDesktop => "windows_desktop",
            Self::Lock => "lock",
            Self::SessionRecordingConfig => "session_recording_config",
        }
    }

    const ALL: [Self; 8] = [
        Self::Session,
        Self::Event,
        Self::SessionTracker,
        Self::Role,
        Self::User,
        Self::WindowsDesktop,
        Self::Lock,
        Self::SessionRecordingConfig,
    ];

    fn read(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|known| known.name() == word)
    }
}

impl Verb {
    /// As rules write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::List => "list",
            Self::Read => "read",
            Self::Create => "create",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Export => "export",
            Self::Download => "download",
            Self::Watch => "watch",
            Self::Terminate => "terminate",
        }
    }

    const ALL: [Self; 9] = [
        Self::List,
        Self::Read,
        Self::Create,
        Self::Update,
        Self::Delete,
        Self::Export,
        Self::Download,
        Self::Watch,
        Self::Terminate,
    ];

    fn read(word: &str) -> Option<Self> {
        match word {
            "readnosecrets" => Some(Self::Read),
            word => Self::ALL.into_iter().find(|known| known.name() == word),
        }
    }

    /// The verb that stands for this one too: who may play a recording may export it, who may not play it may not.
    const fn wider(self) -> Option<Self> {
        match self {
            Self::Export | Self::Download => Some(Self::Read),
            _ => None,
        }
    }
}

/// One entry of `rules`.
#[derive(Debug)]
pub(crate) struct CompiledRule {
    path: String,
    resources: Words<Resource>,
    verbs: Words<Verb>,
    /// `None` = always; an error if it can't be read.
    condition: Option<Result<Expression, String>>,
}

/// Some words, or `*`.
#[derive(Debug)]
enum Words<T> {
    Any,
    Of(Vec<T>),
}

impl<T: PartialEq> Words<T> {
    fn have(&self, word: &T) -> bool {
        match self {
            Self::Any => true,
            Self::Of(words) => words.contains(word),
        }
    }

    fn is_empty(&self) -> bool {
        matches!(self, Self::Of(words) if words.is_empty())
    }
}

impl CompiledRule {
    pub(crate) fn compile(rule: &Rule, path: &str, find: &mut impl FnMut(String, Severity, String)) -> Self {
        let mut foreign = |kind: &str, index: usize, word: &str, hint: String| {
            let message = format!("{word:?} is not known here and has no effect{hint}");
            find(format!("{path}.{kind}[{index}]"), Severity::Warning, message);
        };
        let resources = words(&rule.resources, Resource::read, |index, word| {
            foreign(
                "resources",
                index,
                word,
                hint(word, Resource::ALL.iter().map(|known| known.name())),
            );
        });
        let verbs = words(&rule.verbs, Verb::read, |index, word| {
            foreign(
                "verbs",
                index,
                word,
                hint(word, Verb::ALL.iter().map(|known| known.name())),
            );
        });
        // a rule about what is not known here has no effect, so its where may speak of that too
        let severity = match resources.is_empty() || verbs.is_empty() {
            true => Severity::Warning,
            false => Severity::Error,
        };
        let condition = rule.condition.as_ref().map(|text| {
            Expression::compile(text, Scope::Rule)
                .inspect_err(|message| find(format!("{path}.where"), severity, message.clone()))
        });
        Self {
            path: path.to_owned(),
            resources,
            verbs,
            condition,
        }
    }

    /// A rule whose condition always fails: in deny it matches whatever is asked.
    pub(crate) fn everything(why: &str) -> Self {
        Self {
            path: "metadata.name".to_owned(),
            resources: Words::Any,
            verbs: Words::Any,
            condition: Some(Err(why.to_owned())),
        }
    }

    /// Whether it speaks of what is asked, and if so whether its condition holds.
    fn matches(&self, query: &RuleQuery<'_>) -> Option<Result<bool, String>> {
        let verb = self.verbs.have(&query.verb) || query.verb.wider().is_some_and(|wider| self.verbs.have(&wider));
        if !(verb && self.resources.have(&query.resource)) {
            return None;
        }
        Some(match &self.condition {
            None => Ok(true),
            Some(Err(message)) => Err(message.clone()),
            Some(Ok(_)) if query.session.is_some_and(|session| !session.trusted) => {
                Err("what the session was is signed by a key that is not trusted".to_owned())
            }
            Some(Ok(condition)) => condition.holds(&Facts {
                user: Some(query.user),
                labels: None,
                session: query.session,
                object: query.object,
                now: query.now,
            }),
        })
    }
}

fn words<T>(words: &[String], read: impl Fn(&str) -> Option<T>, mut foreign: impl FnMut(usize, &str)) -> Words<T> {
    let mut known = Vec::with_capacity(words.len());
    let mut any = false;
    for (index, word) in words.iter().enumerate() {
        match read(word) {
            _ if word == "*" => any = true,
            Some(word) => known.push(word),
            None => foreign(index, word),
        }
    }
    if any { Words::Any } else { Words::Of(known) }
}

/// A matching deny rule of any role wins, else a matching allow rule of any role, else no. A `where` that fails matches
/// in deny only. Who is unknown, expired, locked or has a role that does not exist may nothing. Locks are not looked
/// at: [`Locks::on_user`](crate::Locks::on_user).
#[must_use]
pub fn may(roles: &RoleSet, query: &RuleQuery<'_>) -> RuleDecision {
    let answer = |allowed, role: Option<&CompiledRole>, rule: Option<&CompiledRule>, why: String| RuleDecision {
        allowed,
        role: role.map(|role| role.name.clone()),
        rule: rule.map(|rule| rule.path.clone()),
        why,
    };
    let user = query.user;
    if let Some((_, why)) = standing(user, roles, query.now) {
        return answer(false, None, None, why);
    }
    let what = format!("{} {}", query.verb.name(), query.resource.name());
    if query.resource == Resource::SessionTracker
        && matches!(query.verb, Verb::List | Verb::Read)
        && query.session.is_some_and(|session| session.user == user.name)
    {
        return answer(true, None, None, format!("{what}: one's own session"));
    }
    let of_user: BTreeSet<&str> = user.roles.iter().map(String::as_str).collect();
    let of_user: Vec<_> = of_user.into_iter().filter_map(|name| roles.role(name)).collect();
    for role in &of_user {
        for rule in &role.deny.rules {
            match rule.matches(query) {
                Some(Ok(true)) => return answer(false, Some(role), Some(rule), format!("denied: {what}")),
                Some(Err(message)) => {
                    let why = format!("denied: {what}: its where fails: {message}");
                    return answer(false, Some(role), Some(rule), why);
                }
                Some(Ok(false)) | None => {}
            }
        }
    }
    let mut failed = None;
    for role in of_user.into_iter().chain([roles.implicit()]) {
        for rule in &role.allow.rules {
            match rule.matches(query) {
                Some(Ok(true)) => return answer(true, Some(role), Some(rule), format!("allowed: {what}")),
                Some(Err(message)) if failed.is_none() => failed = Some((role, rule, message)),
                _ => {}
            }
        }
    }
    let why = format!("no role of {} allows it: {what}", user.name);
    match failed {
        Some((role, rule, message)) => {
            let why = format!("{why} ({} of role {} fails: {message})", rule.path, role.name);
            answer(false, None, None, why)
        }
        None => answer(false, None, None, why),
    }
}
