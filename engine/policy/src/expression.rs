//! The language of label expressions, of `where` and of filters over sessions: read and type-checked once, then
//! evaluated any number of times.

mod check;
mod names;
mod parse;
mod run;
mod tree;

pub(crate) use names::{Facts, Scope, hint};
pub(crate) use parse::{Node, Tree, parse};

use crate::CatalogSession;
use time::OffsetDateTime;

/// A compiled expression that is true or false.
#[derive(Debug, Clone)]
pub(crate) struct Expression(tree::Bool);

impl Expression {
    /// Reads `text`; the error says what is wrong at which character.
    pub(crate) fn compile(text: &str, scope: Scope) -> Result<Self, String> {
        let compiled = parse(text).and_then(|tree| check::Checker { scope }.bool(&tree));
        compiled.map(Self).map_err(|fault| fault.describe(text))
    }

    /// Whether it is true, or why that can't be told.
    pub(crate) fn holds(&self, facts: &Facts<'_>) -> Result<bool, String> {
        run::bool(&self.0, facts)
    }
}

/// A filter over sessions, as in `exporters[].when`.
#[derive(Debug, Clone)]
pub struct SessionFilter(Expression);

impl SessionFilter {
    /// Reads `text`, an expression over `session`.
    ///
    /// # Errors
    /// What is wrong with it, and at which character.
    pub fn compile(text: &str) -> Result<Self, String> {
        Expression::compile(text, Scope::Session).map(Self)
    }

    /// Whether `session` passes at the time `now`.
    ///
    /// # Errors
    /// Why that can't be told.
    pub fn passes(&self, session: &CatalogSession, now: OffsetDateTime) -> Result<bool, String> {
        self.0.holds(&Facts {
            user: None,
            labels: None,
            session: Some(session),
            object: None,
            now,
        })
    }
}

#[cfg(test)]
#[path = "expression/tests.rs"]
mod tests;
