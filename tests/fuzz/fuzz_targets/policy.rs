//! The languages inside roles: the input is split at newlines into a label key and value, an expression, a login, a
//! `where`, a trait value and a login of the client. None may panic, and what does not compile grants nothing.
#![no_main]

use std::collections::BTreeMap;

use deskreel_config::{Metadata, Role, RoleConditions, Rule};
use deskreel_policy::{
    AccessRequest, CatalogSession, Cluster, DesktopFacts, Identity, Locks, ProvenBy, Resource, RoleSet, RuleQuery,
    SessionFilter, Severity, UserFacts, Verb, Verdict, evaluate, may, render,
};
use time::OffsetDateTime;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let mut lines = text.split('\n').chain(std::iter::repeat("")).map(str::to_owned);
    let mut next = || lines.next().unwrap_or_default();
    let (key, value, expression, login, condition) = (next(), next(), next(), next(), next());
    let (trait_value, asked) = (next(), next());
    let conditions = RoleConditions {
        windows_desktop_labels: BTreeMap::from([(key.clone(), vec![value.clone()])]),
        windows_desktop_labels_expression: (!expression.is_empty()).then_some(expression),
        windows_desktop_logins: vec![login],
        rules: vec![Rule {
            resources: vec!["session".to_owned()],
            verbs: vec!["read".to_owned()],
            condition: Some(condition.clone()),
        }],
    };
    let named = |name: &str| Role {
        metadata: Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        },
        ..Role::default()
    };
    let allow = Role {
        allow: conditions.clone(),
        ..named("allow")
    };
    let deny = Role {
        deny: conditions,
        ..named("deny")
    };
    let (roles, problems) = RoleSet::compile([&allow, &deny]);
    let unreadable = problems
        .iter()
        .any(|problem| problem.severity == Severity::Error && problem.path.ends_with(".where"));
    let request = AccessRequest {
        user: UserFacts {
            name: "alice".to_owned(),
            roles: vec!["allow".to_owned()],
            traits: BTreeMap::from([("x".to_owned(), vec![trait_value.clone()])]),
            exists: true,
            ..UserFacts::default()
        },
        identity: Identity::Proven { by: ProvenBy::Password },
        desktop: Some(DesktopFacts {
            name: "d".to_owned(),
            labels: BTreeMap::from([(key, trait_value.clone()), ("env".to_owned(), value)]),
            ..DesktopFacts::default()
        }),
        login: (!asked.is_empty()).then_some(asked),
        source: None,
        now: OffsetDateTime::UNIX_EPOCH,
        mfa_verified: false,
        open_sessions: 0,
    };
    let locks = Locks {
        locks: Vec::new(),
        viewed_at: OffsetDateTime::UNIX_EPOCH,
    };
    let decision = evaluate(&roles, &Cluster::default(), &locks, &request);
    let _ = render(&decision);
    let mut denied = request.clone();
    denied.user.roles.push("deny".to_owned());
    let narrower = evaluate(&roles, &Cluster::default(), &locks, &denied);
    assert!(decision.verdict != Verdict::Deny || narrower.verdict == Verdict::Deny);
    let session = CatalogSession {
        sid: "s".to_owned(),
        user: trait_value.clone(),
        participants: vec![trait_value],
        roles: Vec::new(),
        desktop: String::new(),
        login: String::new(),
        domain: String::new(),
        desktop_labels: BTreeMap::new(),
        start: OffsetDateTime::UNIX_EPOCH,
        end: None,
        recorded: true,
        running: true,
        trusted: true,
    };
    let ask = |user: &UserFacts| {
        let query = RuleQuery {
            user,
            resource: Resource::Session,
            verb: Verb::Read,
            session: Some(&session),
            object: None,
            now: OffsetDateTime::UNIX_EPOCH,
        };
        may(&roles, &query).allowed
    };
    assert!(!(unreadable && ask(&denied.user)), "a deny that can't be read is a deny");
    let _ = SessionFilter::compile(&condition).map(|filter| filter.passes(&session, OffsetDateTime::UNIX_EPOCH));
});
