//! The truth table of recording, row by row, and what stands around it.

use deskreel_config::{ClipboardLevel, ClusterMode, InputLevel, OnFailure, RecordSession, RecordVote, RoleOptions};
use deskreel_policy::{Cluster, Level, NotRecorded, StorageMode, Verdict, evaluate};

use crate::world::{decide, desktop, no_locks, recording, request, set, user, with_options};

/// What a role says; `None` = there is no such role.
type Says = Option<Option<RecordVote>>;

const UNSET: Says = Some(None);
const FALSE: Says = Some(Some(RecordVote::Off));
const TRUE: Says = Some(Some(RecordVote::On));
const STRICT: Says = Some(Some(RecordVote::Strict));
const BEST_EFFORT: Says = Some(Some(RecordVote::BestEffort));

fn cluster(mode: ClusterMode, on_failure: OnFailure) -> Cluster {
    let mut cluster = Cluster::default();
    cluster.recording.mode = mode;
    cluster.recording.on_failure = on_failure;
    cluster
}

fn level(mode: ClusterMode, on_failure: OnFailure, a: Says, b: Says) -> Level {
    let named = [("a", a), ("b", b)];
    let roles: Vec<_> = named
        .into_iter()
        .filter_map(|(name, says)| Some(with_options(name, recording(says?))))
        .collect();
    let decision = decide(&roles, &cluster(mode, on_failure));
    assert_eq!(decision.verdict, Verdict::Allow, "{}", decision.why);
    let recorded = decision.recording.level != Level::Off;
    assert_eq!(recorded, decision.recording.not_recorded.is_none());
    assert_eq!(recorded, decision.recording.storage_mode != StorageMode::None);
    decision.recording.level
}

#[test]
fn the_rows_of_the_page() {
    use ClusterMode::{Off, On, Sync};
    let (strict, best_effort) = (OnFailure::Strict, OnFailure::BestEffort);
    for (mode, on_failure, a, b, expected) in [
        (On, strict, UNSET, FALSE, Level::Strict),
        (On, strict, FALSE, FALSE, Level::Off),
        (On, strict, TRUE, FALSE, Level::Strict),
        (Sync, strict, UNSET, None, Level::Strict),
        (Off, strict, TRUE, STRICT, Level::Off),
        (On, strict, BEST_EFFORT, FALSE, Level::BestEffort),
        (On, strict, BEST_EFFORT, UNSET, Level::Strict),
        (On, best_effort, UNSET, TRUE, Level::BestEffort),
        (On, best_effort, UNSET, STRICT, Level::Strict),
    ] {
        assert_eq!(
            level(mode, on_failure, a, b),
            expected,
            "{mode:?} {on_failure:?} {a:?} {b:?}"
        );
        assert_eq!(level(mode, on_failure, b, a), expected, "the order does not count");
    }
}

/// Every pair of words, against the sentences of the page instead of the code's maximum.
#[test]
fn every_pair() {
    let all = [UNSET, FALSE, TRUE, STRICT, BEST_EFFORT];
    for on_failure in [OnFailure::Strict, OnFailure::BestEffort] {
        for a in all {
            for b in all {
                let says = [a, b];
                let records = says.iter().any(|one| *one != FALSE);
                let asks_strict = says.contains(&STRICT)
                    || (on_failure == OnFailure::Strict && (says.contains(&UNSET) || says.contains(&TRUE)));
                let expected = match (records, asks_strict) {
                    (false, _) => Level::Off,
                    (true, true) => Level::Strict,
                    (true, false) => Level::BestEffort,
                };
                assert_eq!(
                    level(ClusterMode::On, on_failure, a, b),
                    expected,
                    "{on_failure:?} {a:?} {b:?}"
                );
                assert_eq!(level(ClusterMode::Sync, on_failure, a, b), expected);
                assert_eq!(level(ClusterMode::Off, on_failure, a, b), Level::Off);
            }
        }
    }
}

#[test]
fn every_vote_is_told() {
    let mut options = recording(Some(RecordVote::On));
    options.record_session = options.record_session.map(|record| RecordSession {
        default: Some(OnFailure::BestEffort),
        input: Some(InputLevel::All),
        clipboard: Some(ClipboardLevel::Text),
        ..record
    });
    let roles = [
        with_options("a", options),
        with_options("b", RoleOptions::default()),
        with_options("c", recording(Some(RecordVote::Off))),
    ];
    let decision = decide(&roles, &Cluster::default());
    let votes: Vec<_> = decision
        .recording
        .because
        .iter()
        .map(|vote| (vote.source.as_str(), vote.says.as_str(), vote.level))
        .collect();
    assert_eq!(
        votes,
        [
            (
                "cluster",
                "mode: on, on_failure: strict, input: at most all, clipboard: at most text",
                Level::Strict
            ),
            (
                "role a",
                "desktop: true, default: best_effort, input: all, clipboard: text",
                Level::Strict
            ),
            ("role b", "desktop: unset", Level::Strict),
            ("role c", "desktop: false", Level::Off),
            ("implicit role", "desktop: false", Level::Off),
        ]
    );
    assert_eq!(
        (decision.recording.input, decision.recording.clipboard),
        (InputLevel::All, ClipboardLevel::Text)
    );
    let off = decide(&roles[2..], &Cluster::default());
    assert_eq!(off.recording.not_recorded, Some(NotRecorded::RolesOff));
    assert_eq!(
        (off.recording.input, off.recording.clipboard),
        (InputLevel::None, ClipboardLevel::None)
    );
}

#[test]
fn the_cluster_caps_what_roles_ask_for() {
    let mut options = recording(None);
    options.record_session = options.record_session.map(|record| RecordSession {
        input: Some(InputLevel::All),
        clipboard: Some(ClipboardLevel::Text),
        ..record
    });
    let roles = [with_options("a", options)];
    for (input, clipboard) in [
        (InputLevel::None, ClipboardLevel::Text),
        (InputLevel::Mouse, ClipboardLevel::Facts),
        (InputLevel::All, ClipboardLevel::None),
    ] {
        let mut cluster = Cluster::default();
        cluster.recording.input = input;
        cluster.recording.clipboard = clipboard;
        let recording = decide(&roles, &cluster).recording;
        assert_eq!((recording.input, recording.clipboard), (input, clipboard));
    }
}

/// A desktop that asks for recording says no more about input than a role that says nothing.
#[test]
fn a_desktop_votes_as_a_role_that_says_nothing() {
    let mut quiet = recording(None);
    quiet.record_session = quiet.record_session.map(|record| RecordSession {
        input: Some(InputLevel::None),
        clipboard: Some(ClipboardLevel::None),
        ..record
    });
    let decide_with = |floor| {
        let mut desktop = desktop("d", &[]);
        desktop.floor = floor;
        let request = request(user("alice", &["a"]), Some(desktop), Some("root"));
        let roles = set(&[with_options("a", quiet.clone())]);
        let recording = evaluate(&roles, &Cluster::default(), &no_locks(), &request).recording;
        (recording.input, recording.clipboard)
    };
    assert_eq!(decide_with(None), (InputLevel::None, ClipboardLevel::None));
    assert_eq!(
        decide_with(Some(RecordVote::On)),
        (InputLevel::Mouse, ClipboardLevel::Facts)
    );
}

/// Who asks why a session would not be recorded is told also when it would not be let in.
#[test]
fn denied_decisions_tell_the_votes() {
    let role = with_options("a", recording(Some(RecordVote::Off)));
    let ask = request(user("alice", &["a"]), Some(desktop("d", &[])), Some("admin"));
    let decision = evaluate(&set(&[role]), &Cluster::default(), &no_locks(), &ask);
    assert_eq!(decision.verdict, Verdict::Deny);
    let sources: Vec<_> = decision
        .recording
        .because
        .iter()
        .map(|vote| vote.source.as_str())
        .collect();
    assert_eq!(sources, ["cluster", "role a", "implicit role"]);
    assert_eq!(
        (decision.recording.level, decision.recording.not_recorded),
        (Level::Off, None)
    );
}
