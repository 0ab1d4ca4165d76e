//! Short ways to make roles, users, desktops and requests.

use std::collections::BTreeMap;

use deskreel_config::{Metadata, RecordSession, RecordVote, Role, RoleConditions, RoleOptions, Rule};
use deskreel_policy::{
    AccessRequest, CatalogSession, Cluster, Decision, DesktopFacts, Identity, Locks, ProvenBy, RoleSet, UserFacts,
    evaluate,
};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

pub(crate) fn time(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

pub(crate) fn now() -> OffsetDateTime {
    time("2026-02-01T00:00:00Z")
}

pub(crate) fn strings<S: AsRef<str>>(texts: &[S]) -> Vec<String> {
    texts.iter().map(|text| text.as_ref().to_owned()).collect()
}

pub(crate) fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

pub(crate) fn lists(pairs: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    pairs
        .iter()
        .map(|(key, values)| ((*key).to_owned(), strings(values)))
        .collect()
}

pub(crate) fn role(name: &str) -> Role {
    Role {
        metadata: Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        },
        ..Role::default()
    }
}

/// A role that opens these logins on the desktops with these labels.
pub(crate) fn opener(name: &str, labels: &[(&str, &[&str])], logins: &[&str]) -> Role {
    let mut role = role(name);
    role.allow = conditions(labels, logins);
    role
}

/// A role that denies these labels and these logins.
pub(crate) fn denier(name: &str, labels: &[(&str, &[&str])], logins: &[&str]) -> Role {
    let mut role = role(name);
    role.deny = conditions(labels, logins);
    role
}

fn conditions(labels: &[(&str, &[&str])], logins: &[&str]) -> RoleConditions {
    RoleConditions {
        windows_desktop_labels: lists(labels),
        windows_desktop_logins: strings(logins),
        ..RoleConditions::default()
    }
}

/// A role that opens login `root` on every desktop, with these options.
pub(crate) fn with_options(name: &str, options: RoleOptions) -> Role {
    Role {
        options,
        ..opener(name, &[("*", &["*"])], &["root"])
    }
}

pub(crate) fn recording(desktop: Option<RecordVote>) -> RoleOptions {
    RoleOptions {
        record_session: Some(RecordSession {
            desktop,
            ..RecordSession::default()
        }),
        ..RoleOptions::default()
    }
}

pub(crate) fn rule(resources: &[&str], verbs: &[&str], condition: Option<&str>) -> Rule {
    Rule {
        resources: strings(resources),
        verbs: strings(verbs),
        condition: condition.map(str::to_owned),
    }
}

pub(crate) fn user<S: AsRef<str>>(name: &str, roles: &[S]) -> UserFacts {
    UserFacts {
        name: name.to_owned(),
        roles: strings(roles),
        traits: lists(&[("windows_logins", &["alice", "root"])]),
        exists: true,
        ..UserFacts::default()
    }
}

pub(crate) fn desktop(name: &str, labels: &[(&str, &str)]) -> DesktopFacts {
    DesktopFacts {
        name: name.to_owned(),
        addr: "10.0.0.5:3389".to_owned(),
        labels: map(labels),
        domain: None,
        floor: None,
    }
}

pub(crate) fn no_locks() -> Locks {
    Locks {
        locks: Vec::new(),
        viewed_at: now(),
    }
}

pub(crate) fn request(user: UserFacts, desktop: Option<DesktopFacts>, login: Option<&str>) -> AccessRequest {
    AccessRequest {
        user,
        identity: Identity::Proven { by: ProvenBy::Password },
        desktop,
        login: login.map(str::to_owned),
        source: None,
        now: now(),
        mfa_verified: false,
        open_sessions: 0,
    }
}

pub(crate) fn set(roles: &[Role]) -> RoleSet {
    RoleSet::compile(roles).0
}

/// The decision on `root` for alice, who has all `roles`, on a desktop without labels.
pub(crate) fn decide(roles: &[Role], cluster: &Cluster) -> Decision {
    let names: Vec<_> = roles.iter().map(|role| role.metadata.name.as_str()).collect();
    let request = request(user("alice", &names), Some(desktop("d", &[])), Some("root"));
    evaluate(&set(roles), cluster, &no_locks(), &request)
}

pub(crate) fn session(sid: &str, login: &str, desktop: &str, env: &str, start: &str) -> CatalogSession {
    CatalogSession {
        sid: sid.to_owned(),
        user: "alice".to_owned(),
        participants: strings(&["alice"]),
        roles: strings(&["all"]),
        desktop: desktop.to_owned(),
        login: login.to_owned(),
        domain: String::new(),
        desktop_labels: map(&[("env", env)]),
        start: time(start),
        end: None,
        recorded: true,
        running: false,
        trusted: true,
    }
}
