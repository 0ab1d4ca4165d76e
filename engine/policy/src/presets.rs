//! Roles that are there without being written: the presets, and the implicit role that every user has.

use std::collections::BTreeMap;

use deskreel_config::{Metadata, RecordSession, RecordVote, Role, RoleConditions, RoleOptions, Rule};

/// Name of the role that every user has. No resource may have it.
pub(crate) const IMPLICIT_ROLE: &str = "implicit role";

/// `access`, `editor`, `auditor`: a resource of such a name takes the preset's place.
#[must_use]
pub fn presets() -> [Role; 3] {
    let own_recordings = "contains(session.participants, user.metadata.name)";
    let access = role(
        "access",
        RecordVote::On,
        RoleConditions {
            windows_desktop_labels: BTreeMap::from([("*".to_owned(), vec!["*".to_owned()])]),
            windows_desktop_labels_expression: None,
            windows_desktop_logins: vec!["{{internal.windows_logins}}".to_owned()],
            rules: vec![
                rule(&["event"], &["list", "read"], None),
                rule(&["session"], &["list", "read"], Some(own_recordings)),
            ],
        },
    );
    let resources = ["user", "role", "windows_desktop", "lock", "session_recording_config"];
    let verbs = ["list", "read", "create", "update", "delete"];
    let editor = role("editor", RecordVote::Off, rules(vec![rule(&resources, &verbs, None)]));
    let watched = ["session", "event", "session_tracker"];
    let auditor = role(
        "auditor",
        RecordVote::Off,
        rules(vec![rule(&watched, &["list", "read"], None)]),
    );
    [access, editor, auditor]
}

/// The role that is in every set.
pub(crate) fn implicit() -> Role {
    let lists_desktops = rule(&["windows_desktop"], &["list", "read"], None);
    role(IMPLICIT_ROLE, RecordVote::Off, rules(vec![lists_desktops]))
}

fn role(name: &str, desktop: RecordVote, allow: RoleConditions) -> Role {
    Role {
        metadata: Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        },
        allow,
        deny: RoleConditions::default(),
        options: RoleOptions {
            record_session: Some(RecordSession {
                desktop: Some(desktop),
                ..RecordSession::default()
            }),
            ..RoleOptions::default()
        },
    }
}

fn rules(rules: Vec<Rule>) -> RoleConditions {
    RoleConditions {
        rules,
        ..RoleConditions::default()
    }
}

fn rule(resources: &[&str], verbs: &[&str], condition: Option<&str>) -> Rule {
    let list = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    Rule {
        resources: list(resources),
        verbs: list(verbs),
        condition: condition.map(str::to_owned),
    }
}
