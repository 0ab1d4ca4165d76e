//! Every row of `tests/fixtures/policy.yaml`.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use deskreel_config::{
    ClipboardLevel, ClipboardRight, ClusterMode, DeviceTrust, InputLevel, Lock, LockTarget, LockingMode, Metadata,
    OnFailure, RecordSession, RecordVote, Role, RoleConditions, RoleOptions, SessionMfa, parse_duration,
};
use deskreel_policy::{
    Cluster, Decision, DesktopFacts, Locks, Resource, RoleSet, RuleQuery, Severity, UserFacts, Verb, Verdict, evaluate,
    may,
};
use serde_json::{Map, Value};

use crate::world;

struct Data {
    value: Value,
    cluster: Cluster,
    roles: RoleSet,
}

impl Data {
    fn load() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/policy.yaml");
        let value: Value = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        assert_eq!(text(&value["now"]), "2026-02-01T00:00:00Z");
        let roles: Vec<_> = object(&value["roles"])
            .iter()
            .map(|(name, spec)| role(name, spec))
            .collect();
        let (roles, problems) = RoleSet::compile(&roles);
        let errors: Vec<_> = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .collect();
        assert!(errors.is_empty(), "{errors:?}");
        let cluster = cluster(object(&value["cluster"]));
        Self { value, cluster, roles }
    }

    fn rows(&self, key: &str) -> Vec<Vec<Value>> {
        let rows = self.value[key].as_array().unwrap();
        rows.iter().map(|row| row.as_array().unwrap().clone()).collect()
    }

    fn user(&self, name: &str, roles: &str) -> UserFacts {
        let traits = object(&self.value["users"][name]);
        UserFacts {
            traits: traits
                .iter()
                .map(|(name, values)| (name.clone(), list(values)))
                .collect(),
            ..world::user(name, &roles.split_whitespace().collect::<Vec<_>>())
        }
    }

    fn desktop(&self, name: &str) -> Option<DesktopFacts> {
        let labels = self.value["desktops"].get(name)?;
        Some(DesktopFacts {
            labels: object(labels)
                .iter()
                .map(|(key, value)| (key.clone(), text(value)))
                .collect(),
            ..world::desktop(name, &[])
        })
    }

    /// User, roles, login@desktop.
    fn decide(&self, cells: &[Value], locks: &Locks) -> Decision {
        let target = text(&cells[2]);
        let (login, desktop) = target.rsplit_once('@').unwrap();
        let login = (login != "?").then_some(login);
        let user = self.user(&text(&cells[0]), &text(&cells[1]));
        let request = world::request(user, self.desktop(desktop), login);
        evaluate(&self.roles, &self.cluster, locks, &request)
    }
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no map: {value}"))
}

/// A scalar as text, whatever the parser took it for.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn list(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().map(text).collect(),
        one => vec![text(one)],
    }
}

fn truth(value: &Value) -> bool {
    match text(value).as_str() {
        "true" | "yes" | "on" => true,
        "false" | "no" | "off" => false,
        other => panic!("no bool: {other}"),
    }
}

fn role(name: &str, spec: &Value) -> Role {
    let mut role = world::role(name);
    for (key, value) in object(spec) {
        match key.as_str() {
            "A" => role.allow = conditions(value),
            "D" => role.deny = conditions(value),
            "O" => role.options = options(value),
            other => panic!("unknown part {other}"),
        }
    }
    role
}

fn conditions(spec: &Value) -> RoleConditions {
    let mut conditions = RoleConditions::default();
    for (key, value) in object(spec) {
        match key.as_str() {
            "L" => {
                let labels = object(value).iter().map(|(key, values)| (key.clone(), list(values)));
                conditions.windows_desktop_labels = labels.collect();
            }
            "X" => conditions.windows_desktop_labels_expression = Some(text(value)),
            "W" => conditions.windows_desktop_logins = list(value),
            "R" => {
                let rules = value.as_array().unwrap().iter().map(|rule| deskreel_config::Rule {
                    resources: list(&rule["resources"]),
                    verbs: list(&rule["verbs"]),
                    condition: rule.get("where").map(text),
                });
                conditions.rules = rules.collect();
            }
            other => panic!("unknown part {other}"),
        }
    }
    conditions
}

fn options(spec: &Value) -> RoleOptions {
    let mut options = RoleOptions::default();
    for (key, value) in object(spec) {
        match key.as_str() {
            "record_session" => options.record_session = Some(record_session(value)),
            "desktop_clipboard" => options.desktop_clipboard = Some(clipboard(value)),
            "desktop_directory_sharing" => options.desktop_directory_sharing = Some(truth(value)),
            "desktop_printer" => options.desktop_printer = Some(truth(value)),
            "desktop_usb" => options.desktop_usb = Some(truth(value)),
            "max_session_ttl" => options.max_session_ttl = duration(value),
            "client_idle_timeout" => options.client_idle_timeout = duration(value),
            "max_connections" => options.max_connections = text(value).parse().ok(),
            "lock" => options.lock = Some(locking_mode(value)),
            "require_session_mfa" => {
                options.require_session_mfa = Some(if truth(value) { SessionMfa::Yes } else { SessionMfa::No });
            }
            "device_trust_mode" => {
                assert_eq!(text(value), "required");
                options.device_trust_mode = Some(DeviceTrust::Required);
            }
            other => panic!("unknown option {other}"),
        }
    }
    options
}

fn record_session(spec: &Value) -> RecordSession {
    let mut record = RecordSession::default();
    for (key, value) in object(spec) {
        match key.as_str() {
            "desktop" => record.desktop = Some(vote(value)),
            "default" => record.default = Some(on_failure(value)),
            "input" => record.input = Some(input(value)),
            "clipboard" => {
                record.clipboard = Some(match text(value).as_str() {
                    "text" => ClipboardLevel::Text,
                    other => panic!("unknown level {other}"),
                });
            }
            other => panic!("unknown key {other}"),
        }
    }
    record
}

fn vote(value: &Value) -> RecordVote {
    match text(value).as_str() {
        "strict" => RecordVote::Strict,
        "best_effort" => RecordVote::BestEffort,
        _ if truth(value) => RecordVote::On,
        _ => RecordVote::Off,
    }
}

fn input(value: &Value) -> InputLevel {
    match text(value).as_str() {
        "none" => InputLevel::None,
        "mouse" => InputLevel::Mouse,
        "all" => InputLevel::All,
        other => panic!("unknown level {other}"),
    }
}

fn clipboard(value: &Value) -> ClipboardRight {
    match text(value).as_str() {
        "both" | "true" => ClipboardRight::Both,
        "to_desktop" => ClipboardRight::ToDesktop,
        "from_desktop" => ClipboardRight::FromDesktop,
        "off" | "false" => ClipboardRight::Off,
        other => panic!("unknown direction {other}"),
    }
}

fn on_failure(value: &Value) -> OnFailure {
    match text(value).as_str() {
        "strict" => OnFailure::Strict,
        "best_effort" => OnFailure::BestEffort,
        other => panic!("unknown level {other}"),
    }
}

fn locking_mode(value: &Value) -> LockingMode {
    match text(value).as_str() {
        "strict" => LockingMode::Strict,
        "best_effort" => LockingMode::BestEffort,
        other => panic!("unknown mode {other}"),
    }
}

fn duration(value: &Value) -> Option<Duration> {
    let text = text(value);
    (text != "never").then(|| parse_duration(&text).unwrap())
}

/// Settings of the cluster; `desktop` and `open` in the same map belong to the request.
fn cluster(settings: &Map<String, Value>) -> Cluster {
    let mut cluster = Cluster::default();
    for (key, value) in settings {
        match key.as_str() {
            "mode" => {
                cluster.recording.mode = match text(value).as_str() {
                    "off" => ClusterMode::Off,
                    "on" | "node" | "proxy" => ClusterMode::On,
                    "node-sync" | "proxy-sync" => ClusterMode::Sync,
                    other => panic!("unknown mode {other}"),
                };
            }
            "on_failure" => cluster.recording.on_failure = on_failure(value),
            "input" => cluster.recording.input = input(value),
            "session_ttl_max" => cluster.session_ttl_max = duration(value),
            "client_idle_timeout" => cluster.client_idle_timeout = duration(value),
            "locking_mode" => cluster.locking_mode = locking_mode(value),
            "require_session_mfa" => cluster.require_session_mfa = truth(value),
            "desktop" | "open" => {}
            other => panic!("unknown setting {other}"),
        }
    }
    cluster
}

/// As the tables write it: `allow LOGIN`, `deny REASON`, `need_login LOGIN ...`.
fn outcome(decision: &Decision) -> String {
    match decision.verdict {
        Verdict::Allow => format!("allow {}", decision.login.as_deref().unwrap_or_default()),
        Verdict::Deny => format!("deny {}", decision.reason.unwrap().name()),
        Verdict::NeedLogin => format!("need_login {}", decision.logins.join(" ")),
    }
}

#[test]
fn access() {
    let data = Data::load();
    let rows = data.rows("access");
    assert_eq!(rows.len(), 60);
    let mut wrong = Vec::new();
    for row in rows {
        let decision = data.decide(&row, &world::no_locks());
        if outcome(&decision) != text(&row[3]) {
            wrong.push(format!("{row:?}: {}: {}", outcome(&decision), decision.why));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn locks() {
    let data = Data::load();
    let rows = data.rows("locks");
    assert_eq!(rows.len(), 9);
    for row in rows {
        let field = |name: &str| row[0].get(name).map(text);
        let target = LockTarget {
            user: field("user"),
            role: field("role"),
            windows_desktop: field("windows_desktop"),
            login: field("login"),
        };
        let lock = Lock {
            metadata: Metadata {
                name: "l1".to_owned(),
                ..Metadata::default()
            },
            target,
            ..Lock::default()
        };
        let locks = Locks {
            locks: vec![lock],
            ..world::no_locks()
        };
        assert_eq!(outcome(&data.decide(&row[1..], &locks)), text(&row[4]), "{row:?}");
    }
}

#[test]
fn option_rows() {
    let data = Data::load();
    let rows = data.rows("options");
    assert_eq!(rows.len(), 37);
    let mut wrong = Vec::new();
    for row in rows {
        let settings = object(&row[0]);
        let mut base = object(&data.value["cluster"]).clone();
        base.extend(settings.clone());
        let cluster = cluster(&base);
        let of_roles = row[1].as_array().unwrap().iter().enumerate();
        let roles: Vec<_> = of_roles
            .map(|(index, spec)| world::with_options(&format!("r{index}"), options(spec)))
            .collect();
        let names: Vec<_> = roles.iter().map(|role| role.metadata.name.clone()).collect();
        let mut desktop = world::desktop("d", &[]);
        desktop.floor = settings.get("desktop").map(vote);
        let mut request = world::request(world::user("alice", &names), Some(desktop), Some("root"));
        request.open_sessions = settings.get("open").map_or(0, |open| text(open).parse().unwrap());
        let decision = evaluate(&world::set(&roles), &cluster, &world::no_locks(), &request);
        let facts = facts(&decision);
        for (key, expected) in object(&row[2]) {
            let expected = match key.as_str() {
                "ends_after" | "idle" => format!("{:?}", duration(expected)),
                _ => text(expected),
            };
            let found = facts.get(key.as_str()).unwrap_or_else(|| panic!("unknown fact {key}"));
            if *found != expected {
                wrong.push(format!("{row:?}: {key} is {found}"));
            }
        }
        if !object(&row[2]).contains_key("deny") {
            assert_eq!(decision.verdict, Verdict::Allow, "{row:?}: {}", decision.why);
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the rows name, as they write it.
fn facts(decision: &Decision) -> BTreeMap<&'static str, String> {
    let json = serde_json::to_value(decision).unwrap();
    let (recording, rights) = (&json["recording"], &json["rights"]);
    BTreeMap::from([
        ("deny", json["reason"].as_str().unwrap_or_default().to_owned()),
        ("level", text(&recording["level"])),
        ("storage_mode", text(&recording["storage_mode"])),
        ("input", text(&recording["input"])),
        ("text", text(&recording["clipboard"])),
        ("not_recorded", text(&recording["not_recorded"])),
        ("clipboard", text(&rights["clipboard"])),
        ("drives", text(&rights["drives"])),
        ("printer", text(&rights["printer"])),
        ("usb", text(&rights["usb"])),
        ("smart_card", text(&rights["smart_card"])),
        ("ends_after", format!("{:?}", Some(decision.limits.ends_after))),
        ("idle", format!("{:?}", decision.limits.idle_timeout)),
        (
            "sessions",
            decision
                .limits
                .sessions_max
                .map(|most| most.to_string())
                .unwrap_or_default(),
        ),
        ("lock", text(&json["limits"]["lock_mode"])),
    ])
}

#[test]
fn recordings() {
    let data = Data::load();
    let rows = data.rows("recordings");
    assert_eq!(rows.len(), 21);
    let mut wrong = Vec::new();
    for row in rows {
        let user = data.user(&text(&row[0]), &text(&row[1]));
        let asked = text(&row[2]);
        let (verb, sid) = asked.split_once(' ').unwrap();
        let session = match sid {
            "r1" => world::session("r1", "root", "d-prod", "prod", "2026-01-01T00:00:00Z"),
            _ => world::session("r2", "alice", "d-dev", "dev", "2026-01-31T00:00:00Z"),
        };
        let verb: Verb = serde_json::from_value(Value::String(verb.to_owned())).unwrap();
        let query = RuleQuery {
            user: &user,
            resource: Resource::Session,
            verb,
            session: Some(&session),
            object: None,
            now: world::now(),
        };
        let answer = may(&data.roles, &query);
        if answer.allowed != truth(&row[3]) {
            wrong.push(format!("{row:?}: {answer:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
