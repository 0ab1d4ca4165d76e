//! How far a command is, on stderr where that is a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A bar of this length; `template` as in [`ProgressStyle`].
pub(super) fn bar(length: u64, template: &str) -> ProgressBar {
    ProgressBar::new(length)
        .with_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A spinner before a message, where nobody knows how much there is to do.
pub(super) fn spinner() -> ProgressBar {
    ProgressBar::new_spinner().with_style(
        ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
    )
}
