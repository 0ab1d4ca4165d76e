//! Whether and how a session is recorded: every role of the user votes, the maximum counts.

use std::cmp::max;

use deskreel_config::{
    ClipboardLevel, ClusterMode, InputLevel, OnFailure, RecordSession, RecordVote, RecordingSettings,
};

use crate::roles::CompiledRole;
use crate::{DesktopFacts, Level, NotRecorded, RecordingDecision, StorageMode, Vote};

/// Input that is recorded where nobody says.
const INPUT: InputLevel = InputLevel::Mouse;

/// What of the clipboard is recorded where nobody says.
const CLIPBOARD: ClipboardLevel = ClipboardLevel::Facts;

/// Nothing is recorded, for no reason of its own: the session is not allowed (yet).
pub(crate) fn nothing(because: Vec<Vote>) -> RecordingDecision {
    RecordingDecision {
        level: Level::Off,
        storage_mode: StorageMode::None,
        input: InputLevel::None,
        clipboard: ClipboardLevel::None,
        because,
        not_recorded: None,
    }
}

/// All votes, in the order in which they are told.
pub(crate) fn votes(
    cluster: &RecordingSettings,
    roles: &[&CompiledRole],
    implicit: &CompiledRole,
    desktop: Option<&DesktopFacts>,
) -> Vec<Vote> {
    let mut votes = vec![cluster_vote(cluster)];
    let name = |role: &CompiledRole| format!("role {}", role.name);
    votes.extend(
        roles
            .iter()
            .map(|role| role_vote(cluster, name(role), role.options.record_session)),
    );
    votes.push(role_vote(
        cluster,
        implicit.name.clone(),
        implicit.options.record_session,
    ));
    if let Some(desktop) = desktop
        && let Some(floor) = desktop.floor
    {
        // it says nothing of input and clipboard, so it votes on them as a role that says nothing: a role more must not record
        // less, and beside a desktop that makes the session recorded it would
        let level = level(cluster, floor, None);
        let says = format!("desktop: {}", word(floor));
        votes.push(vote(format!("desktop {}", desktop.name), says, level, INPUT, CLIPBOARD));
    }
    votes
}

/// What the votes come to. The first is the cluster's.
pub(crate) fn merge(cluster: &RecordingSettings, because: Vec<Vote>) -> RecordingDecision {
    let mut decision = nothing(because);
    if cluster.mode == ClusterMode::Off {
        decision.not_recorded = Some(NotRecorded::ClusterOff);
        return decision;
    }
    let votes = decision.because.iter().skip(1);
    decision.level = votes.clone().map(|vote| vote.level).fold(Level::Off, max);
    if decision.level == Level::Off {
        decision.not_recorded = Some(NotRecorded::RolesOff);
        return decision;
    }
    decision.storage_mode = match cluster.mode {
        ClusterMode::Sync => StorageMode::Sync,
        ClusterMode::On | ClusterMode::Off => StorageMode::AsConfigured,
    };
    let input = votes.clone().filter_map(|vote| vote.input).fold(InputLevel::None, max);
    let clipboard = votes.filter_map(|vote| vote.clipboard).fold(ClipboardLevel::None, max);
    decision.input = input.min(cluster.input);
    decision.clipboard = clipboard.min(cluster.clipboard);
    decision
}

fn cluster_vote(cluster: &RecordingSettings) -> Vote {
    let mode = match cluster.mode {
        ClusterMode::Off => "off",
        ClusterMode::On => "on",
        ClusterMode::Sync => "sync",
    };
    let on_failure = on_failure_word(cluster.on_failure);
    Vote {
        source: "cluster".to_owned(),
        says: format!(
            "mode: {mode}, on_failure: {on_failure}, input: at most {}, clipboard: at most {}",
            input_word(cluster.input),
            clipboard_word(cluster.clipboard)
        ),
        level: if cluster.mode == ClusterMode::Off {
            Level::Off
        } else {
            Level::Strict
        },
        input: Some(cluster.input),
        clipboard: Some(cluster.clipboard),
    }
}

fn role_vote(cluster: &RecordingSettings, source: String, says: Option<RecordSession>) -> Vote {
    let record = says.unwrap_or_default();
    let level = level(cluster, record.desktop.unwrap_or(RecordVote::On), record.default);
    let mut words = vec![match record.desktop {
        Some(vote) => format!("desktop: {}", word(vote)),
        None => "desktop: unset".to_owned(),
    }];
    words.extend(
        record
            .default
            .map(|default| format!("default: {}", on_failure_word(default))),
    );
    words.extend(record.input.map(|input| format!("input: {}", input_word(input))));
    words.extend(
        record
            .clipboard
            .map(|clipboard| format!("clipboard: {}", clipboard_word(clipboard))),
    );
    let (input, clipboard) = (record.input.unwrap_or(INPUT), record.clipboard.unwrap_or(CLIPBOARD));
    vote(source, words.join(", "), level, input, clipboard)
}

/// Who does not record has no say in what is recorded.
fn vote(source: String, says: String, level: Level, input: InputLevel, clipboard: ClipboardLevel) -> Vote {
    let records = level != Level::Off;
    Vote {
        source,
        says,
        level,
        input: records.then_some(input),
        clipboard: records.then_some(clipboard),
    }
}

/// `default: best_effort` is no vote: Teleport writes it into every role that it exports.
fn level(cluster: &RecordingSettings, vote: RecordVote, default: Option<OnFailure>) -> Level {
    let on = |on_failure| match on_failure {
        OnFailure::Strict => Level::Strict,
        OnFailure::BestEffort => Level::BestEffort,
    };
    match vote {
        RecordVote::Off => Level::Off,
        RecordVote::Strict => Level::Strict,
        RecordVote::BestEffort => Level::BestEffort,
        RecordVote::On if default == Some(OnFailure::Strict) => Level::Strict,
        RecordVote::On => on(cluster.on_failure),
    }
}

const fn word(vote: RecordVote) -> &'static str {
    match vote {
        RecordVote::Off => "false",
        RecordVote::On => "true",
        RecordVote::Strict => "strict",
        RecordVote::BestEffort => "best_effort",
    }
}

const fn on_failure_word(on_failure: OnFailure) -> &'static str {
    match on_failure {
        OnFailure::Strict => "strict",
        OnFailure::BestEffort => "best_effort",
    }
}

pub(crate) const fn input_word(level: InputLevel) -> &'static str {
    match level {
        InputLevel::None => "none",
        InputLevel::Mouse => "mouse",
        InputLevel::All => "all",
    }
}

pub(crate) const fn clipboard_word(level: ClipboardLevel) -> &'static str {
    match level {
        ClipboardLevel::None => "none",
        ClipboardLevel::Facts => "facts",
        ClipboardLevel::Text => "text",
    }
}
