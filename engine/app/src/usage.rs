//! The one kind of error that picks another exit code.

/// An error that the person at the keyboard mends: a wrong flag or a wrong configuration. Exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);
