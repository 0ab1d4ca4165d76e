//! P13: nothing that is thrown at policy makes it panic or grow without bound.

use std::collections::BTreeMap;

use deskreel_config::{Role, RoleConditions, Rule};
use deskreel_policy::{
    CatalogSession, Cluster, Resource, RoleSet, RuleQuery, SessionFilter, Verb, Verdict, evaluate, may, render,
};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::{desktop, no_locks, now, opener, request, role, session, set, user};

/// Pieces that the languages are made of, so that junk gets past the first character.
const PIECES: [&str; 46] = [
    "labels",
    "[",
    "]",
    "\"env\"",
    "(",
    ")",
    "!",
    "&&",
    "||",
    "==",
    "!=",
    ",",
    ".",
    "user.spec.traits",
    "contains",
    "set",
    "regexp.match",
    "regexp.replace",
    "email.local",
    "strings.upper",
    "labels_matching",
    "older",
    "session.start",
    "\"720h\"",
    "`",
    "\"",
    "\\",
    "{{",
    "}}",
    "{",
    "}",
    "external.",
    "internal.windows_logins",
    "^",
    "$",
    "*",
    "|",
    "?",
    "\\d",
    "(?i)",
    "[[:alpha:]]",
    "{2,}",
    "$1",
    "é",
    "\u{0}",
    "\\x{",
];

fn junk() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => vec(select(&PIECES[..]), 0..16).prop_map(|pieces| pieces.concat()),
        1 => "\\PC{0,40}",
        1 => "\\^[^\\n]{0,20}\\$",
    ]
}

fn junk_conditions() -> impl Strategy<Value = RoleConditions> {
    let labels = btree_map(junk(), vec(junk(), 0..3), 0..3);
    let rule = (vec(junk(), 1..2), vec(select(&["*", "read"][..]), 1..2), junk());
    let rules = vec(
        rule.prop_map(|(mut resources, verbs, condition)| {
            resources.push("session".to_owned());
            Rule {
                resources,
                verbs: verbs.into_iter().map(str::to_owned).collect(),
                condition: Some(condition),
            }
        }),
        0..2,
    );
    (labels, proptest::option::of(junk()), vec(junk(), 0..3), rules).prop_map(|(labels, expression, logins, rules)| {
        RoleConditions {
            windows_desktop_labels: labels,
            windows_desktop_labels_expression: expression,
            windows_desktop_logins: logins,
            rules,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_panics(
        allow in junk_conditions(),
        deny in junk_conditions(),
        traits in btree_map(select(&["windows_logins", "teams", ""][..]).prop_map(str::to_owned), vec(junk(), 0..3), 0..3),
        label in junk(),
        login in proptest::option::of(junk()),
        name in junk(),
    ) {
        let role = Role { allow, deny, ..role("junk") };
        let good = opener("good", &[("*", &["*"])], &["root"]);
        let roles = set(&[role, good]);
        let mut user = user(&name, &["junk", "good"]);
        user.traits = traits;
        let target = desktop(&name, &[("env", &label)]);
        let request = request(user.clone(), Some(target), login.as_deref());
        let decision = evaluate(&roles, &Cluster::default(), &no_locks(), &request);
        let text = serde_json::to_string(&decision).unwrap();
        prop_assert!(text.len() < 100_000);
        prop_assert!(!render(&decision).chars().any(|c| c.is_control() && c != '\n'));
        let session = session(&name, &label, &name, &label, "2026-01-31T00:00:00Z");
        let query = RuleQuery { user: &user, resource: Resource::Session, verb: Verb::Read, session: Some(&session), object: None, now: now() };
        let _ = may(&roles, &query);
    }

    #[test]
    fn filters_do_not_panic(text in junk()) {
        if let Ok(filter) = SessionFilter::compile(&text) {
            let _ = filter.passes(&facts(), now());
        }
    }
}

fn facts() -> CatalogSession {
    session("s", "root", "d", "dev", "2026-01-31T00:00:00Z")
}

/// Regexes that a backtracking engine would not survive.
#[test]
fn catastrophic_regexes_take_linear_time() {
    let value = format!("{}!", "a".repeat(4000));
    for pattern in [
        "^(a+)+$",
        "^(a|a)*$",
        "^(a|aa)+$",
        "^(.*a){20}$",
        "^(([a-z])+.)+[A-Z]([a-z])+$",
    ] {
        let roles = set(&[opener("r", &[("env", &[pattern])], &["root"])]);
        let target = desktop("d", &[("env", &value)]);
        let request = request(user("alice", &["r"]), Some(target), Some("root"));
        let decision = evaluate(&roles, &Cluster::default(), &no_locks(), &request);
        assert_eq!(decision.verdict, Verdict::Deny, "{pattern}");
    }
}

/// Each replacement may double its input: 64 of them would not fit anywhere.
#[test]
fn replacing_does_not_multiply_without_bound() {
    let mut inner = "labels[\"env\"]".to_owned();
    let mut template = "external.teams".to_owned();
    for _ in 0..40 {
        inner = format!(r#"regexp.replace({inner}, "a", "aa")"#);
        template = format!(r#"regexp.replace({template}, "a", "aa")"#);
    }
    let mut bomb = opener("bomb", &[], &["root", &format!("{{{{{template}}}}}")]);
    bomb.allow.windows_desktop_labels_expression = Some(format!(r#"contains({inner}, "x")"#));
    let mut deny = role("deny");
    deny.deny = bomb.allow.clone();
    let (roles, problems) = RoleSet::compile([&bomb, &deny]);
    assert_eq!(problems, []);
    let mut alice = user("alice", &["bomb"]);
    alice.traits = BTreeMap::from([("teams".to_owned(), vec!["a".to_owned()])]);
    let target = desktop("d", &[("env", "a")]);
    let mut ask = request(alice, Some(target), Some("root"));
    let decision = evaluate(&roles, &Cluster::default(), &no_locks(), &ask);
    assert_eq!(decision.reason.unwrap().name(), "no_desktop");
    ask.user.roles = vec!["deny".to_owned()];
    let decision = evaluate(&roles, &Cluster::default(), &no_locks(), &ask);
    assert_eq!(decision.reason.unwrap().name(), "deny_labels");
}
