use deskreel_config::{ClaimedIdentity, DeviceTrust, RoleOptions, SessionMfa};
use deskreel_policy::{
    AccessRequest, Cluster, Decision, Identity, Match, Reason, RoleSet, UserFacts, Verdict, evaluate, reachable, render,
};

use crate::world::{
    denier, desktop, lists, no_locks, now, opener, request, role, set, strings, time, user, with_options,
};

fn run(roles: &RoleSet, request: &AccessRequest) -> Decision {
    evaluate(roles, &Cluster::default(), &no_locks(), request)
}

fn all() -> RoleSet {
    set(&[opener(
        "all",
        &[("*", &["*"])],
        &["root", "{{internal.windows_logins}}"],
    )])
}

fn ask(user: UserFacts, login: &str) -> AccessRequest {
    request(user, Some(desktop("d", &[])), Some(login))
}

#[test]
fn the_user_must_count() {
    let roles = all();
    let reason = |change: fn(&mut UserFacts)| {
        let mut alice = user("alice", &["all"]);
        change(&mut alice);
        run(&roles, &ask(alice, "root")).reason
    };
    assert_eq!(reason(|_| {}), None);
    assert_eq!(reason(|user| user.exists = false), Some(Reason::UserUnknown));
    assert_eq!(reason(|user| user.expires = Some(now())), Some(Reason::UserExpired));
    assert_eq!(reason(|user| user.expires = Some(time("2026-02-01T00:00:01Z"))), None);
    assert_eq!(reason(|user| user.is_locked = true), Some(Reason::UserLocked));
    assert_eq!(
        reason(|user| {
            user.is_locked = true;
            user.lock_expires = Some(now());
        }),
        None
    );
    assert_eq!(
        reason(|user| {
            user.is_locked = true;
            user.lock_expires = Some(time("2026-02-01T00:00:01Z"));
        }),
        Some(Reason::UserLocked)
    );
    assert_eq!(
        reason(|user| user.roles.push("ghost".to_owned())),
        Some(Reason::RoleUnknown)
    );
    assert_eq!(
        reason(|user| user.roles.push("implicit role".to_owned())),
        Some(Reason::RoleUnknown)
    );
    assert_eq!(reason(|user| user.roles.clear()), Some(Reason::NoDesktop));
}

#[test]
fn two_to_six_look_alike_to_the_client() {
    let roles = all();
    let denied = set(&[denier("no", &[("*", &["*"])], &[])]);
    let mut messages = vec![
        run(&roles, &ask(UserFacts::unknown("x"), "root")).message,
        run(&roles, &ask(user("alice", &["ghost"]), "root")).message,
        run(&roles, &request(user("alice", &["all"]), None, Some("root"))).message,
        run(&roles, &ask(user("alice", &["all"]), "nobody")).message,
        run(&roles, &ask(user("alice", &["editor"]), "root")).message,
        run(&denied, &ask(user("alice", &["no"]), "root")).message,
    ];
    messages.sort();
    messages.dedup();
    assert_eq!(messages, ["access denied"]);
}

#[test]
fn too_many_roles() {
    let many: Vec<_> = (0..257)
        .map(|index| opener(&format!("r{index}"), &[("*", &["*"])], &["root"]))
        .collect();
    let names: Vec<_> = many.iter().map(|role| role.metadata.name.clone()).collect();
    let roles = set(&many);
    assert_eq!(
        run(&roles, &ask(user("alice", &names), "root")).reason,
        Some(Reason::TooManyRoles)
    );
    assert_eq!(
        run(&roles, &ask(user("alice", &names[1..]), "root")).verdict,
        Verdict::Allow
    );
    let repeated: Vec<_> = names[..2].iter().cycle().take(300).collect();
    assert_eq!(
        run(&roles, &ask(user("alice", &repeated), "root")).verdict,
        Verdict::Allow
    );
}

#[test]
fn claimed_names() {
    let roles = set(&[opener(
        "guests",
        &[("*", &["*"])],
        &["guest", "{{internal.windows_logins}}"],
    )]);
    let mut claim = ask(UserFacts::unknown("bob"), "bob");
    claim.identity = Identity::Claimed;
    let mut cluster = Cluster {
        claimed_roles: strings(&["guests"]),
        ..Cluster::default()
    };
    let decide = |cluster: &Cluster, claim: &AccessRequest| evaluate(&roles, cluster, &no_locks(), claim);
    assert_eq!(decide(&cluster, &claim).reason, Some(Reason::UserUnknown));
    let mut known = claim.clone();
    known.user = user("bob", &["guests"]);
    assert_eq!(decide(&cluster, &known).reason, Some(Reason::IdentityNotProven));

    cluster.claimed_identity = ClaimedIdentity::Allow;
    let open = decide(&cluster, &claim);
    assert_eq!((open.verdict, open.user.as_str()), (Verdict::Allow, "bob"));
    assert_eq!((open.roles, open.login.as_deref()), (strings(&["guests"]), Some("bob")));
    claim.login = Some("root".to_owned());
    assert_eq!(decide(&cluster, &claim).reason, Some(Reason::NoLogin));
    // a user's own roles and traits don't count for a name that is merely claimed
    known.user.roles = strings(&["ghost"]);
    known.user.traits = lists(&[("windows_logins", &["root"])]);
    known.user.is_locked = true;
    known.login = Some("root".to_owned());
    assert_eq!(decide(&cluster, &known).reason, Some(Reason::NoLogin));
    cluster.claimed_roles = strings(&["ghost"]);
    assert_eq!(decide(&cluster, &known).reason, Some(Reason::RoleUnknown));
}

#[test]
fn the_login_has_the_spelling_of_the_role() {
    let roles = set(&[
        opener("a", &[("*", &["*"])], &["root", "Root"]),
        opener("b", &[("*", &["*"])], &["ROOT"]),
        opener("elsewhere", &[("env", &["x"])], &["rooT"]),
    ]);
    let login =
        |roles_of_user: &[&str], login: &str| run(&roles, &ask(user("alice", roles_of_user), login)).login.unwrap();
    assert_eq!(login(&["a", "b", "elsewhere"], "root"), "root");
    assert_eq!(login(&["a", "b", "elsewhere"], "rOOt"), "ROOT");
    assert_eq!(login(&["a", "elsewhere"], "rooT"), "Root");
    let open = run(
        &roles,
        &request(user("alice", &["a", "b"]), Some(desktop("d", &[])), None),
    );
    assert_eq!(open.logins, ["ROOT"], "one account, one line");
}

#[test]
fn domains_of_the_desktop() {
    let roles = set(&[opener("a", &[("*", &["*"])], &["root", "ops@corp.example"])]);
    let mut target = desktop("d", &[]);
    target.domain = Some("corp.example".to_owned());
    let decide = |login: &str| {
        run(
            &roles,
            &request(user("alice", &["a"]), Some(target.clone()), Some(login)),
        )
    };
    for login in [
        r".\root",
        r"D\ROOT",
        r"corp\root",
        r"corp.example\root",
        "root@corp",
        "root@d",
    ] {
        assert_eq!(decide(login).login.as_deref(), Some("root"), "{login}");
    }
    assert_eq!(
        decide("ops@corp.example").login.as_deref(),
        Some("ops@corp.example"),
        "granted as a whole"
    );
    assert_eq!(decide("root@other").reason, Some(Reason::NoLogin));
    assert_eq!(decide("").reason, Some(Reason::NoLogin));
}

#[test]
fn the_denial_that_got_furthest() {
    let mfa = RoleOptions {
        require_session_mfa: Some(SessionMfa::HardwareKey),
        ..RoleOptions::default()
    };
    let trust = RoleOptions {
        device_trust_mode: Some(DeviceTrust::Required),
        ..RoleOptions::default()
    };
    let with = |name: &str, logins: &[&str], options: RoleOptions| {
        let mut role = opener(name, &[("*", &["*"])], logins);
        role.options = options;
        role
    };
    let roles = set(&[
        with("mfa", &["m"], mfa),
        with("trust", &["t"], trust),
        with("plain", &["p"], RoleOptions::default()),
        denier("no-p", &[], &["p"]),
    ]);
    let reason = |names: &[&str]| run(&roles, &request(user("alice", names), Some(desktop("d", &[])), None)).reason;
    assert_eq!(reason(&["plain", "no-p"]), Some(Reason::DenyLogin));
    assert_eq!(reason(&["plain", "no-p", "mfa"]), Some(Reason::MfaUnavailable));
    assert_eq!(
        reason(&["plain", "no-p", "mfa", "trust"]),
        Some(Reason::DeviceTrustUnavailable)
    );
    assert_eq!(reason(&["plain", "mfa", "trust"]), None);
}

/// A desktop that is denied is denied, whether or not anything would open it.
#[test]
fn a_denied_desktop_needs_no_login() {
    let roles = set(&[
        opener("no-login", &[("*", &["*"])], &[]),
        opener("elsewhere", &[("env", &["prod"])], &["root"]),
        denier("no", &[("*", &["*"])], &[]),
    ]);
    for names in [&["no-login", "no"][..], &["elsewhere", "no"], &["no"]] {
        let open = request(user("alice", names), Some(desktop("d", &[])), None);
        assert_eq!(run(&roles, &open).reason, Some(Reason::DenyLabels), "{names:?}");
    }
}

#[test]
fn a_factor_that_was_checked() {
    for (factor, verified, verdict) in [
        (SessionMfa::No, false, Verdict::Allow),
        (SessionMfa::Yes, false, Verdict::Deny),
        (SessionMfa::Yes, true, Verdict::Allow),
        (SessionMfa::HardwareKeyTouch, true, Verdict::Deny),
    ] {
        let options = RoleOptions {
            require_session_mfa: Some(factor),
            ..RoleOptions::default()
        };
        let roles = set(&[with_options("a", options)]);
        let mut request = ask(user("alice", &["a"]), "root");
        request.mfa_verified = verified;
        let decision = run(&roles, &request);
        assert_eq!(decision.verdict, verdict, "{factor:?} {verified}");
        if verdict == Verdict::Deny {
            assert_eq!(
                decision.message,
                "role a requires MFA, which this gateway can't check yet"
            );
        }
        let cluster = Cluster {
            require_session_mfa: true,
            ..Cluster::default()
        };
        let decision = evaluate(
            &all(),
            &cluster,
            &no_locks(),
            &AccessRequest {
                user: user("a", &["all"]),
                ..request
            },
        );
        assert_eq!(decision.verdict == Verdict::Allow, verified);
    }
}

/// What can't be read never widens access.
#[test]
fn broken_roles_close() {
    let mut broken_labels = opener("labels", &[("env", &["dev", "^($"])], &["root"]);
    let mut broken_expression = opener("expression", &[("env", &["dev"])], &["root"]);
    broken_expression.allow.windows_desktop_labels_expression = Some("oops(".to_owned());
    let broken_login = opener("login", &[("env", &["dev"])], &["root", "{{"]);
    let good = opener("good", &[("env", &["dev"])], &["root"]);
    let deny_labels = denier("deny-labels", &[("env", &["prod", "^($"])], &[]);
    let mut deny_expression = role("deny-expression");
    deny_expression.deny.windows_desktop_labels_expression = Some("labels[".to_owned());
    let deny_login = denier("deny-login", &[], &["{{nope}}"]);
    let roles = set(&[
        broken_labels.clone(),
        broken_expression,
        broken_login,
        good.clone(),
        deny_labels,
        deny_expression,
        deny_login,
        opener("twice", &[("*", &["*"])], &["root"]),
        opener("twice", &[("*", &["*"])], &["root"]),
    ]);
    let reason = |names: &[&str]| {
        let on_dev = Some(desktop("d", &[("env", "dev")]));
        run(&roles, &request(user("alice", names), on_dev, Some("root"))).reason
    };
    assert_eq!(reason(&["good"]), None);
    assert_eq!(reason(&["labels"]), Some(Reason::NoDesktop));
    assert_eq!(reason(&["expression"]), Some(Reason::NoDesktop));
    assert_eq!(reason(&["login"]), None, "the other login stands");
    assert_eq!(reason(&["good", "deny-labels"]), Some(Reason::DenyLabels));
    assert_eq!(reason(&["good", "deny-expression"]), Some(Reason::DenyLabels));
    assert_eq!(reason(&["good", "deny-login"]), Some(Reason::DenyLogin));
    assert_eq!(reason(&["good", "twice"]), Some(Reason::DenyLabels));
    broken_labels.allow.windows_desktop_labels.clear();
    assert_eq!(RoleSet::compile([&broken_labels, &good]).1, []);
}

#[test]
fn the_decision_says_what_matched() {
    let mut expression = opener("x", &[("env", &["dev"])], &["root"]);
    expression.allow.windows_desktop_labels_expression = Some(r#"contains(email.local("x"), "y")"#.to_owned());
    let roles = set(&[
        expression,
        opener("dev", &[("env", &["dev"])], &["Root"]),
        denier("no", &[("team", &["red"])], &["admin"]),
    ]);
    let on_dev = Some(desktop("d", &[("env", "dev")]));
    let decision = run(
        &roles,
        &request(user("alice", &["x", "dev", "no"]), on_dev, Some("root")),
    );
    assert_eq!(decision.verdict, Verdict::Allow);
    assert_eq!(decision.why, "opened by dev");
    let [dev, no, x] = decision.matched.as_slice() else {
        panic!()
    };
    assert_eq!(dev.allow.labels, Some(Match::Matched("every key matches".to_owned())));
    assert_eq!(dev.allow.login, Some(Match::Matched("Root".to_owned())));
    assert_eq!(dev.deny, deskreel_policy::SideMatch::default());
    assert_eq!(
        no.deny.labels,
        Some(Match::Not("the desktop has no label team".to_owned()))
    );
    assert_eq!(no.deny.login, Some(Match::Not("no such login".to_owned())));
    assert_eq!(
        x.allow.expression,
        Some(Match::Failed("\"x\" is no mail address".to_owned()))
    );
}

#[test]
fn denied_means_nothing_is_open() {
    let denied = run(&all(), &ask(user("alice", &["all"]), "nobody"));
    let open = run(&all(), &request(user("alice", &["all"]), Some(desktop("d", &[])), None));
    for decision in [denied, open] {
        let json = serde_json::to_value(&decision).unwrap();
        assert_eq!(json["recording"]["level"], "off");
        assert_eq!(json["recording"]["storage_mode"], "none");
        assert_eq!(json["recording"]["not_recorded"], serde_json::Value::Null);
        let rights = json["rights"].as_object().unwrap();
        assert!(
            rights
                .iter()
                .all(|(name, value)| name == "because" || *value == false || value == "off"),
            "{rights:?}"
        );
    }
}

#[test]
fn json_reads_back() {
    let decision = run(&all(), &ask(user("alice", &["all"]), "root"));
    let json = serde_json::to_string(&decision).unwrap();
    assert_eq!(serde_json::from_str::<Decision>(&json).unwrap(), decision);
    assert!(
        json.starts_with(r#"{"verdict":"allow","reason":null,"message":"","why":"opened by all","user":"alice""#),
        "{json}"
    );
    assert!(json.contains(r#""evaluated_at":"2026-02-01T00:00:00Z""#), "{json}");
    assert!(
        json.contains(r#""identity":{"kind":"proven","by":"password"}"#),
        "{json}"
    );
    assert!(json.contains(r#""ends_after":"1d6h""#), "{json}");
}

#[test]
fn the_digest_follows_the_inputs() {
    let digest = |roles: &RoleSet, cluster: &Cluster, request: &AccessRequest| {
        evaluate(roles, cluster, &no_locks(), request).inputs_digest
    };
    let request = ask(user("alice", &["all"]), "root");
    let base = digest(&all(), &Cluster::default(), &request);
    assert_eq!(base.len(), 64);
    assert_eq!(base, digest(&all(), &Cluster::default(), &request.clone()));
    let cluster = Cluster {
        require_session_mfa: true,
        ..Cluster::default()
    };
    let others = [
        digest(&RoleSet::default(), &Cluster::default(), &request),
        digest(&all(), &cluster, &request),
        digest(
            &all(),
            &Cluster::default(),
            &AccessRequest {
                open_sessions: 1,
                ..request.clone()
            },
        ),
        digest(
            &all(),
            &Cluster::default(),
            &AccessRequest {
                source: "10.0.0.1".parse().ok(),
                ..request
            },
        ),
    ];
    assert!(others.iter().all(|other| *other != base));
}

#[test]
fn lists_of_desktops() {
    let roles = set(&[
        opener("dev", &[("env", &["dev"])], &["b", "a"]),
        opener("prod", &[("env", &["prod"])], &["ops"]),
        denier("no-red", &[("team", &["red"])], &[]),
    ]);
    let desktops = [
        desktop("d0", &[("env", "dev")]),
        desktop("d1", &[("env", "dev"), ("team", "red")]),
        desktop("d2", &[("env", "prod")]),
        desktop("d3", &[]),
    ];
    let request = request(user("alice", &["dev", "prod", "no-red"]), None, None);
    let found = reachable(&roles, &Cluster::default(), &no_locks(), &request, &desktops);
    let found: Vec<_> = found
        .iter()
        .map(|one| (one.index, one.desktop.as_str(), one.logins.join(" ")))
        .collect();
    assert_eq!(found, [(0, "d0", "a b".to_owned()), (2, "d2", "ops".to_owned())]);
}

#[test]
fn in_words() {
    let roles = set(&[
        opener("dev", &[("env", &["dev"])], &["root"]),
        denier("no-prod", &[("env", &["prod"])], &[]),
    ]);
    let on_dev = Some(desktop("d-dev", &[("env", "dev")]));
    let mut decision = run(
        &roles,
        &request(user("alice", &["dev", "no-prod"]), on_dev, Some("ROOT")),
    );
    decision.inputs_digest = "0".to_owned();
    let expected = "\
allow: opened by dev
user       alice (proven by password)
roles      dev, no-prod
desktop    d-dev
login      root
recording  strict, storages as configured, input mouse, clipboard facts
  cluster: mode: on, on_failure: strict, input: at most all, clipboard: at most text -> strict
  role dev: desktop: unset -> strict
  role no-prod: desktop: unset -> strict
  implicit role: desktop: false -> off
rights
  clipboard      both (default)
  drives         yes (default)
  printer        yes (default)
  smart_card     yes (default)
  serial_port    yes (default)
  usb            yes (default)
  audio_output   yes (default)
  audio_input    yes (default)
  camera         yes (default)
  other_channels yes (default)
limits
  ends_after     1d6h (default)
  idle_timeout   never (default)
  sessions_max   any number (default)
  lock_mode      best_effort (access.locking_mode)
matched
  role dev
    allow labels: match (every key matches); login: match (root)
  role no-prod
    deny  labels: no (label env has another value)
inputs     0
";
    assert_eq!(render(&decision), expected);
    let evil = run(&roles, &ask(user("alice\u{1b}[2J\n", &["dev"]), "root\u{7}"));
    assert!(!render(&evil).contains(['\u{1b}', '\u{7}']));
    assert!(render(&evil).starts_with("deny no_desktop: no role of alice"));
}
