#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{Expression, Facts, Scope, SessionFilter};
use crate::{CatalogSession, ObjectFacts, UserFacts};

fn time(text: &str) -> OffsetDateTime {
    OffsetDateTime::parse(text, &Rfc3339).unwrap()
}

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn user() -> UserFacts {
    UserFacts {
        name: "alice".to_owned(),
        labels: map(&[("team", "sre")]),
        roles: strings(&["access", "dev"]),
        traits: BTreeMap::from([
            ("teams".to_owned(), strings(&["blue", "red"])),
            ("email".to_owned(), strings(&["alice@example.com"])),
            ("broken".to_owned(), strings(&["no-at-sign"])),
            ("regex".to_owned(), strings(&["^("])),
            ("none".to_owned(), Vec::new()),
        ]),
        exists: true,
        ..UserFacts::default()
    }
}

fn session() -> CatalogSession {
    CatalogSession {
        sid: "s1".to_owned(),
        user: "alice".to_owned(),
        participants: strings(&["alice", "bob"]),
        roles: strings(&["dev"]),
        desktop: "d-dev".to_owned(),
        login: "root".to_owned(),
        domain: "CORP".to_owned(),
        desktop_labels: map(&[("env", "prod")]),
        start: time("2026-01-01T00:00:00Z"),
        end: None,
        recorded: true,
        running: true,
        trusted: true,
    }
}

fn run(text: &str, scope: Scope) -> Result<bool, String> {
    let (user, session) = (user(), session());
    let labels = map(&[("env", "stage"), ("env-2", "dev"), ("team", "blue")]);
    let object = ObjectFacts {
        name: "d-dev".to_owned(),
        labels: map(&[("env", "dev")]),
    };
    let expression = Expression::compile(text, scope).unwrap_or_else(|fault| panic!("{text}: {fault}"));
    let rule = scope == Scope::Rule;
    expression.holds(&Facts {
        user: Some(&user),
        labels: (scope == Scope::Labels).then_some(&labels),
        session: rule.then_some(&session),
        object: rule.then_some(&object),
        now: time("2026-02-01T00:00:00Z"),
    })
}

#[test]
fn truth() {
    for (text, expected) in [
        (r#"labels["env"] == "stage""#, true),
        (r#"labels["env"] != "stage""#, false),
        (r#"labels["nope"] == """#, true),
        (r#"labels[labels["team"]] == """#, true),
        (r#"contains(user.spec.traits["teams"], labels["team"])"#, true),
        (r#"contains(user.spec.traits["nope"], "x")"#, false),
        (r#"contains("a", "a")"#, true),
        (r#"contains(set("a", "b"), "ab")"#, false),
        (r#"contains_any(user.spec.traits["teams"], set("green", "red"))"#, true),
        (r#"contains_any(user.spec.traits["teams"], set())"#, false),
        (r#"contains_all(user.spec.traits["teams"], set("blue", "red"))"#, true),
        (
            r#"contains_all(user.spec.traits["teams"], set("blue", "green"))"#,
            false,
        ),
        (
            r#"contains_all(user.spec.traits["teams"], user.spec.traits["none"])"#,
            false,
        ),
        (r#"equals(user.metadata.name, "alice")"#, true),
        (r#"has_prefix(labels["env"], "st")"#, true),
        (r#"has_prefix(labels["env"], "St")"#, false),
        (r#"all_equal(user.spec.traits["none"], "x")"#, true),
        (r#"all_equal(user.spec.traits["teams"], "blue")"#, false),
        (r#"all_end_with(user.spec.traits["email"], "@example.com")"#, true),
        (r#"all_end_with(user.spec.traits["teams"], "e")"#, false),
        (r#"is_subset(user.spec.traits["teams"], "red", "blue", "green")"#, true),
        (r#"is_subset(user.spec.traits["teams"], "red")"#, false),
        (r#"is_subset(user.spec.traits["none"], "red")"#, true),
        (r#"regexp.match(user.spec.traits["teams"], "r*")"#, true),
        (r#"regexp.match(user.spec.traits["teams"], "^(r|x)e.$")"#, true),
        (r#"regexp.match(user.spec.traits["teams"], "e")"#, false),
        (r#"regexp.match(labels["nope"], "*")"#, true),
        (r#"contains(labels_matching("env*"), "dev")"#, true),
        (r#"contains(labels_matching("^env$"), "dev")"#, false),
        (
            r#"contains(regexp.replace(user.spec.traits["email"], "^(.*)@.*$", "${1}x"), "alicex")"#,
            true,
        ),
        (
            r#"contains(regexp.replace(user.spec.traits["email"], "q", "x"), "alice@example.com")"#,
            false,
        ),
        (r#"contains(email.local(user.spec.traits["email"]), "alice")"#, true),
        (r#"contains(email.local(user.spec.traits["none"]), "alice")"#, false),
        (r#"contains(strings.upper(user.spec.traits["teams"]), "RED")"#, true),
        (r#"contains(strings.lower("RED"), "red")"#, true),
        (r#"!contains("a", "b") && !(labels["env"] == "x")"#, true),
        (r#"!labels["env"] == "x""#, true),
        (
            r#"labels["a"] == "b" || labels["env"] == "stage" && labels["team"] == "red""#,
            false,
        ),
        (
            r#"(labels["a"] == "b" || labels["env"] == "stage") && labels["team"] == "blue""#,
            true,
        ),
        (r#"before("2026-01-01T00:00:00Z", "2026-01-01T02:00:00+01:00")"#, true),
        (r#"after("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z")"#, false),
    ] {
        assert_eq!(run(text, Scope::Labels), Ok(expected), "{text}");
    }
}

#[test]
fn names_of_rules() {
    for (text, expected) in [
        ("contains(session.participants, user.metadata.name)", true),
        (r#"contains(session.roles, "dev")"#, true),
        (
            r#"session.user == "alice" && session.sid == "s1" && session.domain == "CORP""#,
            true,
        ),
        (
            r#"session.desktop == session.desktop_name && session.login == session.windows_user"#,
            true,
        ),
        (r#"session.windows_domain == session.domain"#, true),
        (r#"session.desktop_labels["env"] == "prod""#, true),
        ("session.recorded && session.running", true),
        ("!session.recorded", false),
        (r#"older(session.start, "31d")"#, true),
        (r#"older(session.start, "744h1ns")"#, false),
        (r#"younger(session.start, "744h")"#, false),
        (r#"younger(session.start, "745h")"#, true),
        (r#"older(session.end, "0")"#, false),
        (r#"younger(session.session_stop, "1h")"#, true),
        (r#"before(session.session_start, session.end)"#, true),
        (r#"after(session.end, "9999-01-01T00:00:00Z")"#, true),
        (r#"user.metadata.labels["team"] == "sre""#, true),
        (r#"contains(user.spec.roles, "access")"#, true),
        (
            r#"resource.metadata.name == "d-dev" && resource.metadata.labels["env"] == "dev""#,
            true,
        ),
    ] {
        assert_eq!(run(text, Scope::Rule), Ok(expected), "{text}");
    }
}

#[test]
fn failures() {
    for (text, why) in [
        (
            r#"contains(email.local(user.spec.traits["broken"]), "x")"#,
            "\"no-at-sign\" is no mail address",
        ),
        (
            r#"before(labels["env"], "2026-01-01T00:00:00Z")"#,
            "\"stage\" is no time",
        ),
        (r#"older("2026-01-01T00:00:00Z", labels["env"])"#, "is not a duration"),
        (
            r#"regexp.match("x", labels["bad"]) && contains(email.local("x"), "x")"#,
            "",
        ),
    ] {
        match run(text, Scope::Labels) {
            Err(message) => assert!(message.contains(why), "{text}: {message}"),
            Ok(value) => assert!(why.is_empty() && !value, "{text}: {value}"),
        }
    }
    // the left side decides before the right one can fail
    let fails = r#"contains(email.local("x"), "x")"#;
    assert_eq!(
        run(&format!(r#"labels["env"] == "stage" || {fails}"#), Scope::Labels),
        Ok(true)
    );
    assert_eq!(
        run(&format!(r#"labels["env"] == "x" && {fails}"#), Scope::Labels),
        Ok(false)
    );
    assert!(run(&format!(r#"{fails} || labels["env"] == "stage""#), Scope::Labels).is_err());
    assert!(run(&format!("!{fails}"), Scope::Labels).is_err());
}

#[test]
fn what_does_not_compile() {
    for (text, scope, why) in [
        (
            r#"label["env"] == "x""#,
            Scope::Labels,
            "at character 1: unknown name label, did you mean labels?",
        ),
        (
            r#"labels.env == "x""#,
            Scope::Labels,
            "at character 1: labels is a map: write labels[\"env\"]",
        ),
        (
            r#"labels == "x""#,
            Scope::Labels,
            "at character 1: labels is a map: write labels[\"key\"]",
        ),
        (
            r#"labels["a"]["b"] == "x""#,
            Scope::Labels,
            "at character 1: labels has no such keys",
        ),
        (
            r#"session.user == "x""#,
            Scope::Labels,
            "at character 1: session.user is not known here",
        ),
        (
            r#"labels["env"] == "x""#,
            Scope::Rule,
            "at character 1: labels is not known here",
        ),
        (
            r#"user.spec.roles == "x""#,
            Scope::Session,
            "at character 1: user.spec.roles is not known here",
        ),
        (
            "contain(\"a\", \"b\")",
            Scope::Labels,
            "at character 1: unknown function contain, did you mean contains?",
        ),
        (
            "contains(\"a\")",
            Scope::Labels,
            "at character 1: it must be contains(list, string), not with 1 arguments",
        ),
        (
            "is_subset(\"a\")",
            Scope::Labels,
            "at character 1: it must be is_subset(list, string, ...), not with 1 arguments",
        ),
        (
            "\"a\"",
            Scope::Labels,
            "at character 1: this must be true or false, but it is a string",
        ),
        (
            "user.spec.roles",
            Scope::Rule,
            "at character 1: this must be true or false, but it is a list",
        ),
        (
            "session.start",
            Scope::Rule,
            "at character 1: this must be true or false, but it is a time",
        ),
        (
            "set(\"a\")",
            Scope::Labels,
            "at character 1: this must be true or false, but it is a list",
        ),
        (
            "session.recorded == \"x\"",
            Scope::Rule,
            "at character 1: this must be a string, but it is true or false",
        ),
        (
            "equals(user.spec.traits[\"a\"], \"x\")",
            Scope::Labels,
            "at character 8: this must be a string, but it is a list",
        ),
        (
            "contains(session.recorded, \"x\")",
            Scope::Rule,
            "at character 10: this must be a list, but it is true or false",
        ),
        (
            "older(session.user == \"a\", \"1h\")",
            Scope::Rule,
            "at character 7: this must be a time, but it is true or false",
        ),
        (
            "older(session.start, \"1\")",
            Scope::Rule,
            "at character 22: \"1\" is not a duration",
        ),
        (
            "older(\"noon\", \"1h\")",
            Scope::Rule,
            "at character 7: \"noon\" is no time",
        ),
        (
            "regexp.match(\"a\", \"^($\")",
            Scope::Labels,
            "at character 19: bad regex",
        ),
        (
            "contains(labels_matching(\"a\"), \"b\")",
            Scope::Rule,
            "labels_matching is known in label expressions only",
        ),
        ("", Scope::Rule, "at character 1: something is missing at the end"),
    ] {
        let fault = Expression::compile(text, scope).unwrap_err();
        assert!(fault.contains(why), "{text}: {fault}");
    }
}

#[test]
fn filters_over_sessions() {
    let filter = SessionFilter::compile(r#"session.recorded && session.desktop_labels["env"] == "prod""#).unwrap();
    assert_eq!(filter.passes(&session(), time("2026-02-01T00:00:00Z")), Ok(true));
    assert!(SessionFilter::compile("contains(user.spec.roles, \"a\")").is_err());
}
