//! Evaluation of roles: who may open which desktop, how that is recorded, who may see the recording.
//!
//! Pure and total: no clock, file, socket or randomness; equal inputs give equal bytes. [`RoleSet::compile`] reads the
//! languages inside roles once, [`evaluate()`] and [`may`] decide.

#![forbid(unsafe_code)]

mod decision;
mod dialect;
mod digest;
mod duration;
mod evaluate;
mod expression;
mod labels;
mod limits;
mod lints;
mod locks;
mod login;
mod options;
mod pattern;
mod presets;
mod problem;
mod recording;
mod render;
mod request;
mod roles;
mod rows;
mod rules;
mod standing;
mod subject;
mod template;
mod text;

pub use decision::{
    Decision, Level, Limits, Match, NotRecorded, Reason, RecordingDecision, Rights, RoleMatch, SideMatch, StorageMode,
    Verdict, Vote,
};
pub use evaluate::{Reachable, evaluate, reachable};
pub use expression::SessionFilter;
pub use limits::{EXPRESSION_DEPTH_MAX, EXPRESSION_MAX_BYTES, REGEX_MAX_BYTES, ROLES_PER_USER_MAX};
pub use lints::unused;
pub use locks::{LockedOut, lint_lock, locked_out};
pub use pattern::Patterns;
pub use presets::presets;
pub use problem::{Problem, Severity};
pub use render::render;
pub use request::{AccessRequest, Cluster, DesktopFacts, Identity, Locks, ProvenBy, UserFacts};
pub use roles::RoleSet;
pub use rules::{CatalogSession, ObjectFacts, Resource, RuleDecision, RuleQuery, Verb, may};
