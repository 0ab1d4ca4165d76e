//! Access to recordings and resources; what is told about roles.

use deskreel_config::{LockingMode, RoleOptions};
use deskreel_policy::{
    Cluster, ObjectFacts, Resource, RoleSet, RuleDecision, RuleQuery, Severity, UserFacts, Verb, Verdict, evaluate,
    may, presets, unused,
};

use crate::world::{
    denier, desktop, map, no_locks, now, opener, request, role, rule, session, set, user, with_options,
};

fn ask(roles: &RoleSet, user: &UserFacts, verb: Verb, resource: Resource) -> RuleDecision {
    may(
        roles,
        &RuleQuery {
            user,
            resource,
            verb,
            session: None,
            object: None,
            now: now(),
        },
    )
}

fn ask_session(roles: &RoleSet, user: &UserFacts, verb: Verb, resource: Resource) -> RuleDecision {
    let session = session("s", "root", "d-dev", "dev", "2026-01-31T00:00:00Z");
    may(
        roles,
        &RuleQuery {
            user,
            resource,
            verb,
            session: Some(&session),
            object: None,
            now: now(),
        },
    )
}

#[test]
fn the_presets() {
    let roles = RoleSet::default();
    assert_eq!(roles.names().collect::<Vec<_>>(), ["access", "auditor", "editor"]);
    let editor = user("e", &["editor"]);
    for resource in [
        Resource::User,
        Resource::Role,
        Resource::WindowsDesktop,
        Resource::Lock,
        Resource::SessionRecordingConfig,
    ] {
        for verb in [Verb::List, Verb::Read, Verb::Create, Verb::Update, Verb::Delete] {
            assert!(ask(&roles, &editor, verb, resource).allowed, "{verb:?} {resource:?}");
        }
    }
    for resource in [Resource::Session, Resource::Event, Resource::SessionTracker] {
        assert!(!ask(&roles, &editor, Verb::Read, resource).allowed, "{resource:?}");
        assert!(
            ask(&roles, &user("a", &["auditor"]), Verb::Read, resource).allowed,
            "{resource:?}"
        );
        assert!(
            !ask(&roles, &user("a", &["auditor"]), Verb::Delete, resource).allowed,
            "{resource:?}"
        );
    }
    // access opens desktops and one's own recordings
    let alice = user("alice", &["access"]);
    let decision = evaluate(
        &roles,
        &Cluster::default(),
        &no_locks(),
        &request(alice.clone(), Some(desktop("d", &[])), Some("root")),
    );
    assert_eq!(decision.verdict, Verdict::Allow);
    assert!(ask_session(&roles, &alice, Verb::Read, Resource::Session).allowed);
    assert!(!ask_session(&roles, &user("bob", &["access"]), Verb::Read, Resource::Session).allowed);
    assert!(ask(&roles, &alice, Verb::List, Resource::Event).allowed);
    // everybody lists desktops
    let nobody = UserFacts {
        exists: true,
        ..UserFacts::unknown("n")
    };
    let answer = ask(&roles, &nobody, Verb::List, Resource::WindowsDesktop);
    assert_eq!((answer.allowed, answer.role.as_deref()), (true, Some("implicit role")));
    assert!(!ask(&roles, &nobody, Verb::Update, Resource::WindowsDesktop).allowed);
}

#[test]
fn a_resource_takes_the_place_of_a_preset() {
    let roles = set(&[role("access")]);
    let alice = user("alice", &["access"]);
    let request = request(alice, Some(desktop("d", &[])), Some("root"));
    assert_eq!(
        evaluate(&roles, &Cluster::default(), &no_locks(), &request).verdict,
        Verdict::Deny
    );
    assert_eq!(
        presets().map(|role| role.metadata.name),
        ["access", "editor", "auditor"]
    );
    let (_, problems) = RoleSet::compile(&presets());
    assert_eq!(problems, []);
}

#[test]
fn one_s_own_sessions_are_always_listed() {
    let mut deny = role("deny");
    deny.deny.rules.push(rule(&["*"], &["*"], None));
    let roles = set(&[deny]);
    assert!(ask_session(&roles, &user("alice", &["deny"]), Verb::List, Resource::SessionTracker).allowed);
    assert!(!ask_session(&roles, &user("bob", &["deny"]), Verb::List, Resource::SessionTracker).allowed);
    assert!(
        !ask_session(
            &roles,
            &user("alice", &["deny"]),
            Verb::Terminate,
            Resource::SessionTracker
        )
        .allowed
    );
    assert!(!ask_session(&roles, &user("alice", &["deny"]), Verb::Read, Resource::Session).allowed);
}

#[test]
fn who_does_not_count_may_nothing() {
    let mut god = role("god");
    god.allow.rules.push(rule(&["*"], &["*"], None));
    let roles = set(&[god]);
    let mut alice = user("alice", &["god"]);
    assert!(ask(&roles, &alice, Verb::Delete, Resource::Session).allowed);
    alice.is_locked = true;
    let answer = ask(&roles, &alice, Verb::Delete, Resource::Session);
    assert_eq!(
        (answer.allowed, answer.why.as_str()),
        (false, "user alice is locked (status.is_locked)")
    );
    assert!(!ask(&roles, &user("alice", &["god", "ghost"]), Verb::Read, Resource::Session).allowed);
    assert!(!ask(&roles, &UserFacts::unknown("x"), Verb::Read, Resource::Session).allowed);
}

/// Whoever can write to a storage can write anybody's name into a recording.
#[test]
fn a_where_over_facts_that_nothing_proves_matches_in_deny_only() {
    let mine = r#"session.user == "bob""#;
    let mut allow = role("allow");
    allow.allow.rules.push(rule(&["session"], &["read"], Some(mine)));
    let mut auditor = role("everything");
    auditor.allow.rules.push(rule(&["session"], &["read"], None));
    let mut deny = role("deny");
    let root = r#"session.login == "root""#;
    deny.deny.rules.push(rule(&["session"], &["read"], Some(root)));
    let roles = set(&[allow, auditor, deny]);
    let mut session = session("s", "nobody", "d", "dev", "2026-01-01T00:00:00Z");
    session.user = "bob".to_owned();
    for (trusted, names, allowed) in [
        (true, vec!["allow"], true),
        (false, vec!["allow"], false),
        (true, vec!["everything", "deny"], true),
        (false, vec!["everything", "deny"], false),
        (false, vec!["everything"], true),
    ] {
        session.trusted = trusted;
        let query = RuleQuery {
            user: &user("bob", &names),
            resource: Resource::Session,
            verb: Verb::Read,
            session: Some(&session),
            object: None,
            now: now(),
        };
        let answer = may(&roles, &query);
        assert_eq!(answer.allowed, allowed, "{trusted} {names:?}: {}", answer.why);
    }
}

#[test]
fn a_where_that_fails_matches_in_deny_only() {
    let fails = r#"contains(email.local(session.user), "x")"#;
    let mut allow = role("allow");
    allow.allow.rules.push(rule(&["session"], &["read"], Some(fails)));
    let mut god = role("god");
    god.allow.rules.push(rule(&["*"], &["*"], None));
    let mut deny = role("deny");
    deny.deny.rules.push(rule(&["session"], &["read"], Some(fails)));
    let mut broken = role("broken");
    broken.deny.rules.push(rule(&["session"], &["read"], Some("oops(")));
    broken.allow.rules.push(rule(&["event"], &["read"], Some("oops(")));
    let roles = set(&[allow, god, deny, broken]);
    let ask = |names: &[&str], verb| ask_session(&roles, &user("bob", names), verb, Resource::Session);
    let answer = ask(&["allow"], Verb::Read);
    assert!(
        !answer.allowed && answer.why.contains("spec.allow.rules[0] of role allow fails"),
        "{}",
        answer.why
    );
    assert!(ask(&["god"], Verb::Read).allowed);
    let answer = ask(&["god", "deny"], Verb::Read);
    assert_eq!(
        (answer.allowed, answer.role.as_deref(), answer.rule.as_deref()),
        (false, Some("deny"), Some("spec.deny.rules[0]"))
    );
    assert!(ask(&["god", "deny"], Verb::List).allowed);
    assert!(!ask(&["god", "broken"], Verb::Read).allowed);
    assert!(!ask_session(&roles, &user("bob", &["broken"]), Verb::Read, Resource::Event).allowed);
    // no session to look at
    let query = RuleQuery {
        user: &user("bob", &["allow"]),
        resource: Resource::Session,
        verb: Verb::Read,
        session: None,
        object: None,
        now: now(),
    };
    assert!(!may(&roles, &query).allowed);
}

#[test]
fn rules_on_resources() {
    let mut own = role("own");
    own.allow.rules.push(rule(
        &["windows_desktop"],
        &["readnosecrets", "update"],
        Some(r#"resource.metadata.labels["team"] == "sre" && resource.metadata.name != "d0""#),
    ));
    let roles = set(&[own]);
    let bob = user("bob", &["own"]);
    for (name, team, verb, allowed) in [
        ("d1", "sre", Verb::Update, true),
        ("d1", "dev", Verb::Update, false),
        ("d0", "sre", Verb::Update, false),
        ("d0", "dev", Verb::Read, true),
    ] {
        let object = ObjectFacts {
            name: name.to_owned(),
            labels: map(&[("team", team)]),
        };
        let query = RuleQuery {
            user: &bob,
            resource: Resource::WindowsDesktop,
            verb,
            session: None,
            object: Some(&object),
            now: now(),
        };
        assert_eq!(may(&roles, &query).allowed, allowed, "{name} {team} {verb:?}");
    }
}

/// As Teleport's own roles have them: what they say of its other kinds must not keep them from being loaded.
#[test]
fn a_rule_about_what_is_not_known_here_may_ask_for_it_too() {
    let participants = Some("contains(ssh_session.participants, user.metadata.name)");
    let compile = |resources: &[&str], verbs: &[&str]| {
        let mut one = role("one");
        one.allow.rules = vec![rule(resources, verbs, participants)];
        one.deny.rules = vec![rule(resources, verbs, Some("can_view()"))];
        let (roles, problems) = RoleSet::compile(&[one]);
        let of_where = problems.iter().filter(|problem| problem.path.ends_with(".where"));
        let severities: Vec<_> = of_where.map(|problem| problem.severity).collect();
        (roles, severities)
    };
    let alice = user("alice", &["one", "auditor"]);
    for (resources, verbs) in [(&["ssh_session", "app"][..], &["*"][..]), (&["*"], &["use", "enroll"])] {
        let (roles, severities) = compile(resources, verbs);
        assert_eq!(severities, [Severity::Warning; 2], "{resources:?} {verbs:?}");
        let answer = ask_session(&roles, &alice, Verb::Read, Resource::Session);
        assert!(answer.allowed, "it denies nothing: {}", answer.why);
        assert!(!ask_session(&roles, &alice, Verb::Delete, Resource::Session).allowed);
    }
    for (resources, verbs) in [
        (&["ssh_session", "session"][..], &["*"][..]),
        (&["session"], &["use", "read"]),
    ] {
        let (roles, severities) = compile(resources, verbs);
        assert_eq!(severities, [Severity::Error; 2], "{resources:?} {verbs:?}");
        assert!(!ask_session(&roles, &alice, Verb::Read, Resource::Session).allowed);
    }
}

#[test]
fn problems_say_where() {
    let mut bad = opener(
        "bad",
        &[("*", &["prod"]), ("env", &["ok", "^dev|test$", "^($"])],
        &["ok", "a*b", "{{x}}", "*"],
    );
    bad.allow.windows_desktop_labels_expression = Some("labels[\"a\"] = \"b\"".to_owned());
    bad.allow.rules = vec![
        rule(&["session", "node"], &["list", "reed"], Some("session.nope == \"\"")),
        rule(&["*"], &["*"], None),
    ];
    bad.deny.windows_desktop_logins = vec!["*".to_owned()];
    let relaxed = with_options(
        "relaxed",
        RoleOptions {
            lock: Some(LockingMode::BestEffort),
            ..RoleOptions::default()
        },
    );
    let (roles, problems) = RoleSet::compile([&relaxed, &bad]);
    let told: Vec<_> = problems.iter().map(ToString::to_string).collect();
    let expected = [
        (
            "role/bad: spec.allow.rules[0].where: ",
            "at character 1: unknown name session.nope",
        ),
        (
            "warning: role/bad: spec.allow.rules[0].resources[1]: ",
            "\"node\" is not known here and has no effect",
        ),
        (
            "warning: role/bad: spec.allow.rules[0].verbs[1]: ",
            "did you mean read?",
        ),
        (
            "role/bad: spec.allow.windows_desktop_labels.*: ",
            "the key * needs the value *",
        ),
        (
            "lint: role/bad: spec.allow.windows_desktop_labels.*: ",
            "the other keys don't count",
        ),
        (
            "lint: role/bad: spec.allow.windows_desktop_labels.env[1]: ",
            "^dev|test$ is not anchored",
        ),
        ("role/bad: spec.allow.windows_desktop_labels.env[2]: ", "bad regex"),
        (
            "role/bad: spec.allow.windows_desktop_labels_expression: ",
            "at character 13",
        ),
        (
            "warning: role/bad: spec.allow.windows_desktop_logins[1]: ",
            "never matches",
        ),
        ("role/bad: spec.allow.windows_desktop_logins[2]: ", "x is not known"),
        (
            "warning: role/bad: spec.allow.windows_desktop_logins[3]: ",
            "never matches",
        ),
        ("lint: role/relaxed: spec.options.lock: ", "relaxes the lock mode"),
    ];
    for (start, part) in expected {
        assert!(
            told.iter().any(|line| line.starts_with(start) && line.contains(part)),
            "{start} {part}: {told:#?}"
        );
    }
    assert_eq!(told.len(), expected.len(), "{told:#?}");
    assert!(problems.is_sorted());
    assert_eq!(
        problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .count(),
        5
    );
    assert!(roles.contains("bad") && roles.contains("relaxed") && !roles.contains("implicit role"));
    let (_, problems) = RoleSet::compile(&[role("a"), role("a"), role("implicit role")]);
    assert_eq!(problems.len(), 2, "{problems:?}");
}

#[test]
fn roles_that_do_nothing() {
    let mut by_expression = opener("by-expression", &[], &["root"]);
    by_expression.allow.windows_desktop_labels_expression =
        Some(r#"contains(user.spec.traits["teams"], labels["env"])"#.to_owned());
    let roles = set(&[
        opener("good", &[("env", &["dev"])], &["root"]),
        opener("nowhere", &[("env", &["prod"])], &["root"]),
        opener("no-login", &[("env", &["dev"])], &[]),
        opener("dead-login", &[("env", &["dev"])], &["{{external.nope}}"]),
        opener("nobody-has-it", &[("env", &["dev"])], &["{{external.nope}}"]),
        opener("only-logins", &[], &["root"]),
        denier("denies-nothing", &[("env", &["prod"])], &["{{external.nope}}"]),
        denier("denies", &[("env", &["d*"])], &["*"]),
        by_expression,
        role("empty"),
    ]);
    let alice = user("alice", &["dead-login", "by-expression", "denies-nothing"]);
    let desktops = [desktop("d", &[("env", "dev")])];
    let found = unused(&roles, std::slice::from_ref(&alice), &desktops, now());
    let found: Vec<_> = found
        .iter()
        .map(|problem| (problem.role.as_str(), problem.path.as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("by-expression", "spec.allow"),
            ("dead-login", "spec.allow.windows_desktop_logins"),
            ("denies-nothing", "spec.deny"),
            ("denies-nothing", "spec.deny.windows_desktop_logins"),
            ("no-login", "spec.allow.windows_desktop_logins"),
            ("nowhere", "spec.allow"),
            ("only-logins", "spec.allow.windows_desktop_logins"),
        ]
    );
    let mut member = alice;
    member.traits.insert("teams".to_owned(), vec!["dev".to_owned()]);
    let found = unused(&roles, &[member], &desktops, now());
    assert!(!found.iter().any(|problem| problem.role == "by-expression"));
    assert!(
        unused(&RoleSet::default(), &[], &desktops, now()).is_empty(),
        "presets are ours"
    );
}
