//! The properties P1 to P12 of the page, over generated roles, users and desktops. P13 is in `junk`.

use std::time::Duration;

use deskreel_config::{
    ClipboardLevel, ClipboardRight, ClusterMode, DeviceTrust, InputLevel, Lock, LockTarget, LockingMode, Metadata,
    OnFailure, RecordSession, RecordVote, RecordingSettings, Role, RoleConditions, RoleOptions, Rule, SessionMfa,
};
use deskreel_policy::{
    AccessRequest, Cluster, Decision, DesktopFacts, Level, Locks, Match, NotRecorded, Resource, RoleSet, RuleQuery,
    UserFacts, Verb, Verdict, evaluate, may, reachable,
};
use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;

use crate::world::{desktop, lists, no_locks, now, request, role, session, user};

#[derive(Debug, Clone)]
struct World {
    roles: Vec<Role>,
    extra: Role,
    cluster: Cluster,
    locks: Locks,
    request: AccessRequest,
}

impl World {
    fn decide(&self) -> Decision {
        evaluate(
            &RoleSet::compile(&self.roles).0,
            &self.cluster,
            &self.locks,
            &self.request,
        )
    }

    /// With one more role, which the user has.
    fn with(&self, role: Role) -> Self {
        let mut world = self.clone();
        world.request.user.roles.push(role.metadata.name.clone());
        world.roles.push(role);
        world
    }
}

const LOGINS: [&str; 7] = [
    "root",
    "ROOT",
    "alice",
    "{{internal.windows_logins}}",
    "svc@corp.example",
    "{{external.nope}}",
    "a*",
];
const ASKED: [&str; 9] = [
    "root",
    "Root",
    "alice",
    "ALICE",
    r".\root",
    r"CORP\alice",
    r"x\root",
    "svc@corp.example",
    "nobody",
];
const VALUES: [&str; 7] = ["dev", "prod", "d*", "*", "^(dev|blue)$", "{{external.teams}}", "nope"];
const EXPRESSIONS: [&str; 5] = [
    r#"labels["env"] == "dev""#,
    r#"contains(user.spec.traits["teams"], labels["team"])"#,
    r#"contains(email.local(labels["team"]), "x")"#,
    r#"user.metadata.name == "alice" && labels["env"] != "prod""#,
    r#"!regexp.match(labels["env"], "p*")"#,
];
const CONDITIONS: [&str; 4] = [
    r#"contains(session.participants, user.metadata.name)"#,
    r#"session.login == "root""#,
    r#"older(session.start, "24h")"#,
    r#"contains(email.local(session.user), "x")"#,
];
const RESOURCES: [&str; 4] = ["session", "event", "*", "role"];
const VERBS: [&str; 6] = ["list", "read", "export", "delete", "*", "watch"];

fn texts(from: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<String>> {
    vec(select(from).prop_map(str::to_owned), 0..=most)
}

fn conditions() -> impl Strategy<Value = RoleConditions> {
    let labels = prop_oneof![
        2 => btree_map(select(&["env", "team", "{{external.keys}}"][..]).prop_map(str::to_owned), texts(&VALUES, 3), 0..=2),
        1 => Just(lists(&[("*", &["*"])])),
    ];
    let expression = option::weighted(0.2, select(&EXPRESSIONS[..]).prop_map(str::to_owned));
    (labels, expression, texts(&LOGINS, 3), rules()).prop_map(|(labels, expression, logins, rules)| RoleConditions {
        windows_desktop_labels: labels,
        windows_desktop_labels_expression: expression,
        windows_desktop_logins: logins,
        rules,
    })
}

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let condition = option::of(select(&CONDITIONS[..]).prop_map(str::to_owned));
    let one = (texts(&RESOURCES, 2), texts(&VERBS, 3), condition);
    vec(
        one.prop_map(|(resources, verbs, condition)| Rule {
            resources,
            verbs,
            condition,
        }),
        0..=2,
    )
}

fn vote() -> impl Strategy<Value = RecordVote> {
    select(
        &[
            RecordVote::Off,
            RecordVote::On,
            RecordVote::Strict,
            RecordVote::BestEffort,
        ][..],
    )
}

fn on_failure() -> impl Strategy<Value = OnFailure> {
    select(&[OnFailure::Strict, OnFailure::BestEffort][..])
}

fn input() -> impl Strategy<Value = InputLevel> {
    select(&[InputLevel::None, InputLevel::Mouse, InputLevel::All][..])
}

fn clipboard() -> impl Strategy<Value = ClipboardLevel> {
    select(&[ClipboardLevel::None, ClipboardLevel::Facts, ClipboardLevel::Text][..])
}

fn record_session() -> impl Strategy<Value = RecordSession> {
    (
        option::of(vote()),
        option::of(on_failure()),
        option::of(input()),
        option::of(clipboard()),
    )
        .prop_map(|(desktop, default, input, clipboard)| RecordSession {
            desktop,
            default,
            input,
            clipboard,
        })
}

fn locking() -> impl Strategy<Value = LockingMode> {
    select(&[LockingMode::Strict, LockingMode::BestEffort][..])
}

fn rights() -> impl Strategy<Value = RoleOptions> {
    let directions = [
        ClipboardRight::Both,
        ClipboardRight::ToDesktop,
        ClipboardRight::FromDesktop,
        ClipboardRight::Off,
    ];
    let right = || option::of(any::<bool>());
    let rights = (
        right(),
        right(),
        right(),
        right(),
        right(),
        right(),
        right(),
        right(),
        right(),
    );
    (option::of(select(directions.to_vec())), rights).prop_map(|(clipboard, rights)| RoleOptions {
        desktop_clipboard: clipboard,
        desktop_directory_sharing: rights.0,
        desktop_printer: rights.1,
        desktop_smart_card: rights.2,
        desktop_serial_port: rights.3,
        desktop_usb: rights.4,
        desktop_audio_output: rights.5,
        desktop_audio_input: rights.6,
        desktop_camera: rights.7,
        desktop_other_channels: rights.8,
        ..RoleOptions::default()
    })
}

fn options() -> impl Strategy<Value = RoleOptions> {
    let seconds = || option::of((0_u64..200_000).prop_map(Duration::from_secs));
    let factor = option::weighted(0.1, select(&[SessionMfa::No, SessionMfa::Yes][..]));
    let trust = option::weighted(0.1, select(&[DeviceTrust::Off, DeviceTrust::Required][..]));
    let limits = (
        seconds(),
        seconds(),
        option::of(0_u32..4),
        option::of(locking()),
        factor,
        trust,
    );
    (rights(), option::of(record_session()), limits).prop_map(|(rights, record_session, limits)| RoleOptions {
        record_session,
        max_session_ttl: limits.0,
        client_idle_timeout: limits.1,
        max_connections: limits.2,
        lock: limits.3,
        require_session_mfa: limits.4,
        device_trust_mode: limits.5,
        ..rights
    })
}

fn any_role(name: &'static str) -> impl Strategy<Value = Role> {
    let deny = prop_oneof![4 => Just(RoleConditions::default()), 1 => conditions()];
    (conditions(), deny, options()).prop_map(move |(allow, deny, options)| Role {
        metadata: Metadata {
            name: name.to_owned(),
            ..Metadata::default()
        },
        allow,
        deny,
        options,
    })
}

fn any_desktop() -> impl Strategy<Value = DesktopFacts> {
    let value = || option::of(select(&["dev", "prod", "blue", "a@b"][..]));
    (value(), value(), option::of(vote())).prop_map(|(env, team, floor)| {
        let pairs = [("env", env), ("team", team)];
        let labels: Vec<_> = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        DesktopFacts {
            domain: Some("corp.example".to_owned()),
            floor: floor.filter(|floor| *floor != RecordVote::Off),
            ..desktop("d", &labels)
        }
    })
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    let mode = select(&[ClusterMode::On, ClusterMode::Sync, ClusterMode::On, ClusterMode::Off][..]);
    (mode, on_failure(), input(), clipboard(), locking()).prop_map(
        |(mode, on_failure, input, clipboard, locking_mode)| Cluster {
            recording: RecordingSettings {
                mode,
                on_failure,
                input,
                clipboard,
            },
            locking_mode,
            ..Cluster::default()
        },
    )
}

fn any_lock() -> impl Strategy<Value = Lock> {
    let word = |words: &'static [&'static str]| option::weighted(0.2, select(words).prop_map(str::to_owned));
    let target = (
        word(&["alice", "bob"]),
        word(&["a", "z"]),
        word(&["d", "e"]),
        word(&["root", "ALICE", "nobody"]),
    );
    target.prop_map(|(user, role, windows_desktop, login)| Lock {
        metadata: Metadata {
            name: "l".to_owned(),
            ..Metadata::default()
        },
        target: LockTarget {
            user,
            role,
            windows_desktop,
            login,
        },
        ..Lock::default()
    })
}

fn any_user() -> impl Strategy<Value = UserFacts> {
    let teams = vec(select(&["dev", "blue", "x"][..]).prop_map(str::to_owned), 0..=2);
    (teams, any::<bool>()).prop_map(|(teams, keys)| {
        let mut user = user("alice", &["a", "b"]);
        user.traits.insert("teams".to_owned(), teams);
        if keys {
            user.traits.insert("keys".to_owned(), vec!["env".to_owned()]);
        }
        user
    })
}

prop_compose! {
    fn worlds()(
        a in any_role("a"),
        b in any_role("b"),
        extra in any_role("z"),
        cluster in any_cluster(),
        locks in vec(any_lock(), 0..=1),
        user in any_user(),
        desktop in any_desktop(),
        login in option::weighted(0.7, select(&ASKED[..])),
        open in 0_u32..3,
    ) -> World {
        let mut request = request(user, Some(desktop), login);
        request.open_sessions = open;
        World { roles: vec![a, b], extra, cluster, locks: Locks { locks, ..no_locks() }, request }
    }
}

fn rank(right: ClipboardRight) -> (bool, bool) {
    match right {
        ClipboardRight::Both => (true, true),
        ClipboardRight::ToDesktop => (true, false),
        ClipboardRight::FromDesktop => (false, true),
        ClipboardRight::Off => (false, false),
    }
}

fn flags(decision: &Decision) -> Vec<bool> {
    let rights = &decision.rights;
    let (to_desktop, from_desktop) = rank(rights.clipboard);
    vec![
        to_desktop,
        from_desktop,
        rights.drives,
        rights.printer,
        rights.smart_card,
        rights.serial_port,
        rights.usb,
        rights.audio_output,
        rights.audio_input,
        rights.camera,
        rights.other_channels,
    ]
}

/// What a decision opens: the login, or those to choose from, as they compare.
fn opened(decision: &Decision) -> Vec<String> {
    let logins = match decision.verdict {
        Verdict::Allow => decision.login.iter().cloned().collect(),
        Verdict::NeedLogin => decision.logins.clone(),
        Verdict::Deny => Vec::new(),
    };
    logins.iter().map(|login| login.to_lowercase()).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn p1_a_matching_deny_or_lock_denies(world in worlds(), every in any::<bool>()) {
        let decision = world.decide();
        if decision.verdict == Verdict::Allow {
            for role in &decision.matched {
                for found in [&role.deny.labels, &role.deny.expression, &role.deny.login].into_iter().flatten() {
                    prop_assert!(matches!(found, Match::Not(_)), "{role:?}");
                }
            }
            let mut deny = role("deny");
            if every {
                deny.deny.windows_desktop_labels = lists(&[("*", &["*"])]);
            } else {
                deny.deny.windows_desktop_logins = decision.login.into_iter().collect();
            }
            prop_assert_eq!(world.with(deny).decide().verdict, Verdict::Deny);
            let mut locked = world.clone();
            let target = LockTarget { role: Some("b".to_owned()), ..LockTarget::default() };
            locked.locks.locks.push(Lock { target, ..Lock::default() });
            prop_assert_eq!(locked.decide().verdict, Verdict::Deny);
        }
    }

    #[test]
    fn p2_more_denies_never_add_access(world in worlds(), deny in conditions(), lock in any_lock()) {
        let before = opened(&world.decide());
        let mut role = role("deny");
        role.deny = deny.clone();
        let mut inside = world.clone();
        inside.roles[0].deny.windows_desktop_logins.extend(deny.windows_desktop_logins);
        let mut locked = world.clone();
        locked.locks.locks.push(lock);
        for narrower in [world.with(role), inside, locked] {
            let after = opened(&narrower.decide());
            prop_assert!(after.iter().all(|login| before.contains(login)), "{before:?} {after:?}");
        }
    }

    #[test]
    fn p3_p4_more_roles_record_no_less_and_open_no_more(world in worlds()) {
        let (before, after) = (world.decide(), world.with(world.extra.clone()).decide());
        if before.verdict == Verdict::Allow && after.verdict == Verdict::Allow {
            prop_assert!(after.recording.level >= before.recording.level);
            prop_assert!(after.recording.input >= before.recording.input);
            prop_assert!(after.recording.clipboard >= before.recording.clipboard);
            prop_assert!(flags(&after).iter().zip(flags(&before)).all(|(after, before)| *after <= before));
            let most = |decision: &Decision| (
                decision.limits.ends_after,
                decision.limits.idle_timeout.unwrap_or(Duration::MAX),
                decision.limits.sessions_max.unwrap_or(u32::MAX),
            );
            let (after, before) = (most(&after), most(&before));
            prop_assert!(after.0 <= before.0 && after.1 <= before.1 && after.2 <= before.2);
        }
    }

    #[test]
    fn p5_an_allow_only_role_takes_nothing(world in worlds()) {
        let mut extra = world.extra.clone();
        extra.deny = RoleConditions::default();
        extra.options.require_session_mfa = None;
        extra.options.device_trust_mode = None;
        extra.options.max_connections = None;
        extra.options.lock = None;
        let mut unlocked = world.clone();
        unlocked.locks.locks.retain(|lock| lock.target.role.is_none());
        let before = opened(&unlocked.decide());
        let after = opened(&unlocked.with(extra).decide());
        prop_assert!(before.iter().all(|login| after.contains(login)), "{before:?} {after:?}");
    }

    #[test]
    fn p6_order_and_repetition_are_irrelevant(world in worlds()) {
        let mut turned = world.clone();
        turned.roles.reverse();
        let names = &mut turned.request.user.roles;
        names.reverse();
        names.extend_from_within(..);
        for role in &mut turned.roles {
            for side in [&mut role.allow, &mut role.deny] {
                for values in side.windows_desktop_labels.values_mut() {
                    values.reverse();
                    values.extend_from_within(..);
                }
                side.windows_desktop_logins.reverse();
                side.windows_desktop_logins.extend_from_within(..);
                side.rules.reverse();
            }
        }
        // what comes of a template twice comes once
        let (before, after) = (world.decide(), turned.decide());
        prop_assert_eq!(serde_json::to_string(&before).unwrap(), serde_json::to_string(&after).unwrap());
    }

    #[test]
    fn p7_p8_off_is_off(world in worlds()) {
        let mut off = world.clone();
        off.cluster.recording.mode = ClusterMode::Off;
        let decision = off.decide();
        prop_assert_eq!(decision.recording.level, Level::Off);
        if decision.verdict == Verdict::Allow {
            prop_assert_eq!(decision.recording.not_recorded, Some(NotRecorded::ClusterOff));
        }
        let mut silent = world;
        for role in &mut silent.roles {
            role.options.record_session.get_or_insert_default().desktop = Some(RecordVote::Off);
        }
        silent.request.desktop.as_mut().unwrap().floor = None;
        let decision = silent.decide();
        prop_assert_eq!(decision.recording.level, Level::Off);
        prop_assert_eq!(decision.recording.input, InputLevel::None);
    }

    #[test]
    fn p9_an_allowed_login_stands_in_a_matching_role(world in worlds()) {
        let decision = world.decide();
        if decision.verdict == Verdict::Allow {
            let wanted = decision.login.unwrap().to_lowercase();
            // the login is the smallest spelling of those that open; the role may have matched with its own
            let matching = decision.matched.iter().any(|role| {
                let side = &role.allow;
                let selectors = [&side.labels, &side.expression];
                matches!(&side.login, Some(Match::Matched(login)) if login.to_lowercase() == wanted)
                    && selectors.iter().any(|found| found.is_some())
                    && selectors.into_iter().flatten().all(|found| matches!(found, Match::Matched(_)))
            });
            prop_assert!(matching, "{wanted}: {:?}", decision.matched);
        }
    }

    #[test]
    fn p10_need_login_lists_what_evaluates_to_allow(world in worlds()) {
        let mut open = world.clone();
        open.request.login = None;
        let decision = open.decide();
        prop_assert_ne!(decision.verdict, Verdict::Allow);
        let listed = opened(&decision);
        let roles = RoleSet::compile(&open.roles).0;
        let desktops = [open.request.desktop.clone().unwrap()];
        let reach = reachable(&roles, &open.cluster, &open.locks, &open.request, &desktops);
        prop_assert_eq!(reach.first().map(|one| one.logins.clone()).unwrap_or_default(), decision.logins.clone());
        for login in &decision.logins {
            open.request.login = Some(login.clone());
            prop_assert_eq!(open.decide().verdict, Verdict::Allow, "{}", login);
        }
        for login in ["root", "ROOT", "alice", "svc@corp.example", "nobody"] {
            open.request.login = Some(login.to_owned());
            let allowed = open.decide().verdict == Verdict::Allow;
            prop_assert_eq!(allowed, listed.contains(&login.to_lowercase()), "{}", login);
        }
    }

    #[test]
    fn p11_strict_never_lowers(world in worlds()) {
        let before = world.decide().recording.level;
        let mut strict = world.clone();
        strict.cluster.recording.on_failure = OnFailure::Strict;
        let raise = |vote: &mut Option<RecordVote>| {
            if *vote == Some(RecordVote::BestEffort) {
                *vote = Some(RecordVote::Strict);
            }
        };
        raise(&mut strict.request.desktop.as_mut().unwrap().floor);
        for record in strict.roles.iter_mut().filter_map(|role| role.options.record_session.as_mut()) {
            raise(&mut record.desktop);
            record.default = record.default.map(|_| OnFailure::Strict);
        }
        prop_assert!(strict.decide().recording.level >= before);
    }

    #[test]
    fn p12_a_deny_rule_never_allows(world in worlds(), deny in rules(), verb in select(&[Verb::List, Verb::Read, Verb::Export, Verb::Delete][..])) {
        let session = session("s", "root", "d", "dev", "2026-01-31T12:00:00Z");
        let mut narrower = world.clone();
        narrower.roles[1].deny.rules.extend(deny);
        let ask = |world: &World, user: &UserFacts| {
            let query = RuleQuery { user, resource: Resource::Session, verb, session: Some(&session), object: None, now: now() };
            may(&RoleSet::compile(&world.roles).0, &query).allowed
        };
        prop_assert!(ask(&narrower, &world.request.user) <= ask(&world, &world.request.user));
    }

    #[test]
    fn equal_inputs_give_equal_bytes(world in worlds()) {
        let text = |world: &World| serde_json::to_string(&world.decide()).unwrap();
        prop_assert_eq!(text(&world), text(&world.clone()));
    }
}
