#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;

use deskreel_config::{Config, OnFailure, Role, Rule, Sources};
use time::Duration;
use time::format_description::well_known::Rfc3339;

use super::*;
use crate::audit::{Filter, Stored, last};
use crate::catalog::{Closed, IdentityKind, NewSession};

/// The page's recordings: r1 of alice as root on d-prod, r2 of alice as alice on d-dev.
struct Bed {
    folder: tempfile::TempDir,
    config: Config,
    catalog: Catalog,
    roles: RoleSet,
    locks: Locks,
    r1: Uuid,
    r2: Uuid,
    now: OffsetDateTime,
}

fn conformance() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy.yaml");
    serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(text).collect()
}

/// The rules of the page's roles; their other parts say nothing about recordings.
fn roles(data: &Value) -> Vec<Role> {
    let rules = |side: Option<&Value>| -> Vec<Rule> {
        let rules = side.and_then(|side| side.get("R")).and_then(Value::as_array);
        let rule = |rule: &Value| Rule {
            resources: texts(&rule["resources"]),
            verbs: texts(&rule["verbs"]),
            condition: rule.get("where").map(text),
        };
        rules.map(|rules| rules.iter().map(rule).collect()).unwrap_or_default()
    };
    let role = |(name, spec): (&String, &Value)| {
        let mut role = Role::default();
        role.metadata.name.clone_from(name);
        role.allow.rules = rules(spec.get("A"));
        role.deny.rules = rules(spec.get("D"));
        role
    };
    data["roles"].as_object().unwrap().iter().map(role).collect()
}

impl Bed {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sources = Sources {
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        };
        let mut config = deskreel_config::load(&sources).unwrap().config;
        config.audit.on_failure = OnFailure::Strict;
        let catalog = Catalog::open(&config.data_dir).unwrap();
        let data = conformance();
        let (roles, _) = RoleSet::compile(&roles(&data));
        let now = OffsetDateTime::parse(data["now"].as_str().unwrap(), &Rfc3339).unwrap();
        let [r1, r2] = [
            ("root", "d-prod", "prod", "2026-01-01T00:00:00Z", 1),
            ("LAB\\alice", "d-dev", "dev", "2026-01-31T00:00:00Z", 2),
        ]
        .map(|(login, desktop, env, started, number)| {
            let session = NewSession {
                id: Uuid::from_u128(number << 124),
                started: OffsetDateTime::parse(started, &Rfc3339).unwrap(),
                user: "alice".to_owned(),
                identity: IdentityKind::Proven,
                login: login.to_owned(),
                desktop: desktop.to_owned(),
                desktop_addr: String::new(),
                labels: BTreeMap::from([("env".to_owned(), env.to_owned())]),
                roles: vec!["all".to_owned()],
                decision: None,
                client_addr: String::new(),
                client_name: String::new(),
            };
            catalog.session_started(&session).unwrap();
            let closed = Closed {
                state: State::Delivering,
                ended: session.started + Duration::hours(1),
                duration_ms: 3_600_000,
                undecoded: 0,
                end_reason: "client_closed".to_owned(),
                problem: None,
                manifest_sha256: Some("ab".repeat(32)),
            };
            catalog.closed(session.id, &closed, &[]).unwrap();
            session.id
        });
        Self {
            folder,
            config,
            catalog,
            roles,
            locks: Locks {
                locks: Vec::new(),
                viewed_at: now,
            },
            r1,
            r2,
            now,
        }
    }

    fn user(name: &str, roles: &str) -> Asker {
        Asker::User(UserFacts {
            name: name.to_owned(),
            roles: roles.split_whitespace().map(str::to_owned).collect(),
            exists: true,
            ..UserFacts::default()
        })
    }

    fn ruler<'a>(&'a self, asker: &'a Asker) -> Ruler<'a> {
        Ruler {
            asker,
            roles: &self.roles,
            locks: &self.locks,
            unavailable: None,
        }
    }

    fn gate<'a>(&'a self, asker: &'a Asker, audit: &'a Audit) -> Gate<'a> {
        Gate {
            ruler: self.ruler(asker),
            audit,
            catalog: &self.catalog,
            actor: Actor {
                user: asker.name(),
                sudo_user: None,
            },
            address: None,
        }
    }

    fn events(&self) -> Vec<Stored> {
        last(&self.config.data_dir, &Filter::default(), 100).unwrap()
    }
}

const READ: Purpose = Purpose {
    verb: Verb::Read,
    what: RecordingAction::Access,
    action: "frame",
};

#[test]
fn the_pages_rows_decide_here_too() {
    let bed = Bed::new();
    let data = conformance();
    let rows = data["recordings"].as_array().unwrap();
    assert!(rows.len() >= 21);
    let mut wrong = Vec::new();
    for row in rows {
        let asker = Bed::user(&text(&row[0]), &text(&row[1]));
        let asked = text(&row[2]);
        let (verb, recording) = asked.split_once(' ').unwrap();
        let id = if recording == "r1" { bed.r1 } else { bed.r2 };
        let verb: Verb = serde_json::from_value(verb.into()).unwrap();
        let session = facts(&bed.catalog.session(&id.to_string()).unwrap());
        let answer = bed.ruler(&asker).may(verb, &session, bed.now);
        if answer.allowed.to_string() != text(&row[3]) {
            wrong.push(format!("{row}: {answer:?}"));
        }
        let visible = bed.ruler(&asker).visible(bed.catalog.sessions().unwrap());
        if verb == Verb::List && visible.iter().any(|row| row.id == id) != answer.allowed {
            wrong.push(format!("{row}: the list says something else"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn nothing_is_handed_out_before_the_event_is_written() {
    let bed = Bed::new();
    let audit = Audit::open(&bed.config).unwrap();
    let bob = Bed::user("bob", "auditor");
    let gate = bed.gate(&bob, &audit);
    let looked = gate.look(&bed.r1.to_string(), READ).unwrap();
    assert!(!bed.config.data_dir.join("audit/audit.jsonl").exists());
    let pass = gate
        .begin(&looked, Map::from_iter([("from".to_owned(), "12.5s".into())]))
        .unwrap();
    let events = bed.events();
    assert_eq!(events.len(), 1);
    let begun = &events[0];
    for (name, value) in [
        ("event", "session.recording.access"),
        ("code", "T2012I"),
        ("user", "bob"),
        ("sid", bed.r1.to_string().as_str()),
        ("session_user", "alice"),
        ("desktop_name", "d-prod"),
        ("action", "frame"),
        ("phase", "begun"),
        ("from", "12.5s"),
    ] {
        assert_eq!(begun.text(name), value, "{name}");
    }
    assert!(begun.text("rule").contains("role auditor"), "{}", begun.text);
    pass.done(Ok(Map::from_iter([("sha256".to_owned(), "00".into())])))
        .unwrap();
    // Whoever breaks off says so, too.
    drop(gate.begin(&looked, Map::new()).unwrap());
    let events = bed.events();
    assert_eq!(events[1].text("phase"), "done");
    assert_eq!(events[1].text("sha256"), "00");
    assert_eq!(events.last().unwrap().text("error"), "broken off");
    assert_eq!(events.last().unwrap().text("code"), "DRA00W");
    drop(bed.folder);
}

#[test]
fn a_log_that_fails_refuses() {
    let bed = Bed::new();
    let audit = Audit::open(&bed.config).unwrap();
    std::fs::create_dir_all(bed.config.data_dir.join("audit/audit.jsonl")).unwrap();
    let root = Asker::Local {
        os_user: "root".to_owned(),
    };
    let gate = bed.gate(&root, &audit);
    let looked = gate.look(&bed.r1.to_string(), READ).unwrap();
    assert!(gate.begin(&looked, Map::new()).is_err());
}

#[test]
fn who_may_neither_list_nor_read_gets_the_answer_of_an_unknown_id() {
    let bed = Bed::new();
    let audit = Audit::open(&bed.config).unwrap();
    let bob = Bed::user("bob", "access");
    let gate = bed.gate(&bob, &audit);
    let said = |error: Refused| error.to_string();
    let unknown = said(gate.look("3", READ).unwrap_err());
    let hidden = said(gate.look(&bed.r1.to_string()[..1], READ).unwrap_err());
    assert_eq!(hidden.replace('1', "3"), unknown);
    // but the log knows
    let told = bed.events();
    assert_eq!((told.len(), told[0].text("code")), (1, "DRA00W"));
    assert_eq!(told[0].text("sid"), bed.r1.to_string());
    // also where several were meant, of which it names none
    let both = bed.catalog.sessions().unwrap();
    let of_both = said(gate.choose(both, "3", READ).unwrap_err());
    assert_eq!(of_both, unknown);
    let told = bed.events();
    let last = told.last().unwrap();
    assert_eq!((told.len(), last.text("code"), last.text("prefix")), (2, "DRA00W", "3"));
    assert_eq!(
        (last.text("sid"), &last.fields["sessions"]),
        (Uuid::nil().to_string().as_str(), &2.into())
    );
    // Another's recordings don't make one's own id ambiguous: prod-only sees r1 alone, and every id begins with 0 hidden ones.
    let carol = Bed::user("carol", "prod-only");
    let gate = bed.gate(&carol, &audit);
    assert_eq!(gate.look(&bed.r1.to_string()[..1], READ).unwrap().row.id, bed.r1);
    // Who may list it learns why he may not more.
    let dave = Bed::user("dave", "auditor");
    let delete = Purpose {
        verb: Verb::Delete,
        what: RecordingAction::Delete,
        action: "delete",
    };
    let gate = bed.gate(&dave, &audit);
    let refused = gate.look(&bed.r1.to_string(), delete).unwrap_err();
    assert!(matches!(refused, Refused::Denied { .. }), "{refused}");
    assert_eq!(bed.events().last().unwrap().text("code"), "DRA03W");
    // An exporter who may not even list exports by id.
    let erin = Bed::user("erin", "exporter");
    let export = Purpose {
        verb: Verb::Export,
        what: RecordingAction::Export,
        action: "export",
    };
    let gate = bed.gate(&erin, &audit);
    assert!(gate.look(&bed.r1.to_string(), export).is_ok());
    assert!(gate.look(&bed.r1.to_string(), READ).is_err());
}

#[test]
fn local_accounts_may_everything_and_locked_users_nothing() {
    let mut bed = Bed::new();
    let session = facts(&bed.catalog.session(&bed.r1.to_string()).unwrap());
    let root = Asker::Local {
        os_user: "root".to_owned(),
    };
    assert_eq!(root.name(), "local:root");
    for verb in [Verb::Delete, Verb::Terminate, Verb::Watch, Verb::List] {
        assert!(bed.ruler(&root).may(verb, &session, bed.now).allowed);
    }
    let fit = UserFacts {
        name: "bob".to_owned(),
        roles: vec!["god".to_owned()],
        exists: true,
        ..UserFacts::default()
    };
    let may = |bed: &Bed, user: UserFacts| {
        let asker = Asker::User(user);
        bed.ruler(&asker).may(Verb::Read, &session, bed.now)
    };
    assert!(may(&bed, fit.clone()).allowed);
    let unfit = [
        UserFacts {
            exists: false,
            ..fit.clone()
        },
        UserFacts {
            expires: Some(bed.now),
            ..fit.clone()
        },
        UserFacts {
            is_locked: true,
            ..fit.clone()
        },
    ];
    for user in unfit {
        let answer = may(&bed, user.clone());
        assert!(!answer.allowed && answer.role.is_none(), "{user:?}: {answer:?}");
    }
    let mut lock = deskreel_config::Lock::default();
    lock.metadata.name = "l1".to_owned();
    lock.target.user = Some("bob".to_owned());
    bed.locks.locks.push(lock);
    let answer = may(&bed, fit);
    assert_eq!((answer.allowed, answer.why.as_str()), (false, "lock l1 is in force"));
}

#[test]
fn the_audit_log_is_for_whom_the_rules_name() {
    let bed = Bed::new();
    let may = |asker: &Asker| bed.ruler(asker).may_audit(bed.now);
    assert_eq!(may(&Bed::user("bob", "auditor")), Ok(()));
    assert!(may(&Bed::user("bob", "exporter")).unwrap_err().contains("bob may not"));
    let root = Asker::Local {
        os_user: "root".to_owned(),
    };
    assert_eq!(may(&root), Ok(()));
}

#[test]
fn domains_stand_apart_from_logins() {
    let bed = Bed::new();
    let session = facts(&bed.catalog.session(&bed.r2.to_string()).unwrap());
    assert_eq!((session.domain.as_str(), session.login.as_str()), ("LAB", "alice"));
    assert!(session.recorded && !session.running);
}

#[test]
fn a_recording_is_found_only_by_who_may_know_of_it() {
    let bed = Bed::new();
    let found = |user: &str, roles: &str, prefix: &str| {
        let asker = Bed::user(user, roles);
        let found = bed.ruler(&asker).known(&bed.catalog, prefix);
        found.map(|row| row.id).map_err(|error| error.to_string())
    };
    let r1 = bed.r1.to_string();
    assert_eq!(found("bob", "auditor", &r1), Ok(bed.r1));
    assert_eq!(
        found("bob", "access", &r1),
        Err(catalog::Error::NotFound(r1.clone()).to_string())
    );
    let r2 = bed.r2.to_string();
    assert_eq!(found("bob", "prod-only", &r1[..1]), Ok(bed.r1));
    assert_eq!(
        found("bob", "prod-only", &r2),
        Err(catalog::Error::NotFound(r2.clone()).to_string())
    );
}
