//! The names in scope, and what they stand for.

use std::collections::BTreeMap;

use time::OffsetDateTime;

use crate::{CatalogSession, ObjectFacts, UserFacts};

/// Where an expression stands, which decides what it may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// `windows_desktop_labels_expression`
    Labels,
    /// `where` of a rule.
    Rule,
    /// A filter over sessions alone.
    Session,
}

/// All that an expression can read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    pub(crate) user: Option<&'a UserFacts>,
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) session: Option<&'a CatalogSession>,
    pub(crate) object: Option<&'a ObjectFacts>,
    pub(crate) now: OffsetDateTime,
}

/// What a name stands for, by its type.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Name {
    Bool(BoolName),
    Text(TextName),
    List(ListName),
    Time(TimeName),
    /// A map of texts.
    Texts(TextsName),
    /// A map of lists.
    Traits,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum BoolName {
    Recorded,
    Running,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum TextName {
    UserName,
    ObjectName,
    SessionSid,
    SessionUser,
    SessionDesktop,
    SessionLogin,
    SessionDomain,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum ListName {
    UserRoles,
    Participants,
    SessionRoles,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum TimeName {
    Start,
    End,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum TextsName {
    Labels,
    UserLabels,
    ObjectLabels,
    DesktopLabels,
}

const IN_LABELS: &[Scope] = &[Scope::Labels];
const IN_RULES: &[Scope] = &[Scope::Rule];
const IN_BOTH: &[Scope] = &[Scope::Labels, Scope::Rule];
const OF_SESSIONS: &[Scope] = &[Scope::Rule, Scope::Session];

/// Name, where it is known, meaning. The last five are Teleport's words for the same.
const NAMES: [(&str, &[Scope], Name); 24] = [
    ("labels", IN_LABELS, Name::Texts(TextsName::Labels)),
    ("user.metadata.name", IN_BOTH, Name::Text(TextName::UserName)),
    ("user.metadata.labels", IN_RULES, Name::Texts(TextsName::UserLabels)),
    ("user.spec.roles", IN_RULES, Name::List(ListName::UserRoles)),
    ("user.spec.traits", IN_BOTH, Name::Traits),
    ("resource.metadata.name", IN_RULES, Name::Text(TextName::ObjectName)),
    (
        "resource.metadata.labels",
        IN_RULES,
        Name::Texts(TextsName::ObjectLabels),
    ),
    ("session.sid", OF_SESSIONS, Name::Text(TextName::SessionSid)),
    ("session.user", OF_SESSIONS, Name::Text(TextName::SessionUser)),
    ("session.participants", OF_SESSIONS, Name::List(ListName::Participants)),
    ("session.roles", OF_SESSIONS, Name::List(ListName::SessionRoles)),
    ("session.desktop", OF_SESSIONS, Name::Text(TextName::SessionDesktop)),
    (
        "session.desktop_labels",
        OF_SESSIONS,
        Name::Texts(TextsName::DesktopLabels),
    ),
    ("session.login", OF_SESSIONS, Name::Text(TextName::SessionLogin)),
    ("session.domain", OF_SESSIONS, Name::Text(TextName::SessionDomain)),
    ("session.start", OF_SESSIONS, Name::Time(TimeName::Start)),
    ("session.end", OF_SESSIONS, Name::Time(TimeName::End)),
    ("session.recorded", OF_SESSIONS, Name::Bool(BoolName::Recorded)),
    ("session.running", OF_SESSIONS, Name::Bool(BoolName::Running)),
    (
        "session.desktop_name",
        OF_SESSIONS,
        Name::Text(TextName::SessionDesktop),
    ),
    ("session.windows_user", OF_SESSIONS, Name::Text(TextName::SessionLogin)),
    (
        "session.windows_domain",
        OF_SESSIONS,
        Name::Text(TextName::SessionDomain),
    ),
    ("session.session_start", OF_SESSIONS, Name::Time(TimeName::Start)),
    ("session.session_stop", OF_SESSIONS, Name::Time(TimeName::End)),
];

/// What `name` stands for in `scope`, else what is wrong with it.
pub(crate) fn resolve(name: &str, scope: Scope) -> Result<Name, String> {
    let in_scope = || NAMES.iter().filter(|(_, scopes, _)| scopes.contains(&scope));
    if let Some((_, _, meaning)) = in_scope().find(|(known, _, _)| *known == name) {
        return Ok(*meaning);
    }
    if let Some((map, key)) = name.rsplit_once('.') {
        let is_map = |meaning: Name| matches!(meaning, Name::Texts(_) | Name::Traits);
        if in_scope().any(|(known, _, meaning)| *known == map && is_map(*meaning)) {
            return Err(format!("{map} is a map: write {map}[\"{key}\"]"));
        }
    }
    if NAMES.iter().any(|(known, _, _)| *known == name) {
        return Err(format!("{name} is not known here"));
    }
    Err(format!(
        "unknown name {name}{}",
        hint(name, in_scope().map(|(known, _, _)| *known))
    ))
}

/// `, did you mean ...?` if something known is near.
pub(crate) fn hint<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> String {
    known
        .map(|known| (strsim::damerau_levenshtein(name, known), known))
        .filter(|(distance, known)| *distance <= 3 && *distance < known.len() / 2)
        .min()
        .map(|(_, known)| format!(", did you mean {known}?"))
        .unwrap_or_default()
}

impl<'a> Facts<'a> {
    fn session(&self) -> Result<&'a CatalogSession, String> {
        self.session.ok_or_else(|| "there is no session to look at".to_owned())
    }

    fn user(&self) -> Result<&'a UserFacts, String> {
        self.user.ok_or_else(|| "there is no user to look at".to_owned())
    }

    fn object(&self) -> Result<&'a ObjectFacts, String> {
        self.object.ok_or_else(|| "there is no resource to look at".to_owned())
    }

    pub(crate) fn bool(&self, name: BoolName) -> Result<bool, String> {
        let session = self.session()?;
        Ok(match name {
            BoolName::Recorded => session.recorded,
            BoolName::Running => session.running,
        })
    }

    pub(crate) fn text(&self, name: TextName) -> Result<&'a str, String> {
        Ok(match name {
            TextName::UserName => &self.user()?.name,
            TextName::ObjectName => &self.object()?.name,
            TextName::SessionSid => &self.session()?.sid,
            TextName::SessionUser => &self.session()?.user,
            TextName::SessionDesktop => &self.session()?.desktop,
            TextName::SessionLogin => &self.session()?.login,
            TextName::SessionDomain => &self.session()?.domain,
        })
    }

    pub(crate) fn list(&self, name: ListName) -> Result<&'a [String], String> {
        Ok(match name {
            ListName::UserRoles => &self.user()?.roles,
            ListName::Participants => &self.session()?.participants,
            ListName::SessionRoles => &self.session()?.roles,
        })
    }

    pub(crate) fn time(&self, name: TimeName) -> Result<OffsetDateTime, String> {
        let session = self.session()?;
        Ok(match name {
            TimeName::Start => session.start,
            // what still runs ends after everything
            TimeName::End => session.end.unwrap_or(time::PrimitiveDateTime::MAX.assume_utc()),
        })
    }

    pub(crate) fn texts(&self, name: TextsName) -> Result<&'a BTreeMap<String, String>, String> {
        match name {
            TextsName::Labels => self.labels.ok_or_else(|| "there is no desktop to look at".to_owned()),
            TextsName::UserLabels => Ok(&self.user()?.labels),
            TextsName::ObjectLabels => Ok(&self.object()?.labels),
            TextsName::DesktopLabels => Ok(&self.session()?.desktop_labels),
        }
    }

    pub(crate) fn values_of_trait(&self, name: &str) -> Result<&'a [String], String> {
        let values = self.user()?.traits.get(name);
        Ok(values.map(Vec::as_slice).unwrap_or_default())
    }
}
