//! What an operator asks first: is this node as it should be? Looks at everything that a start needs and that goes wrong
//! unseen, changes nothing, and says of each finding what to do.

mod certificates;
mod disk;
mod files;
mod net;
mod resources;
mod storages;
mod stores;

use deskreel_config::Loaded;
use serde::Serialize;
use time::OffsetDateTime;

use crate::pipeline;

/// How one thing stands, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum State {
    /// As it should be.
    Ok,
    /// It works, and an operator should know.
    Warning,
    /// It does not work, or will not at the next start.
    Error,
    /// What was written is not there as it was written.
    Broken,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What was looked at: `configuration`, `resources`, `storage` ...
    pub(crate) check: &'static str,
    /// How it stands.
    pub(crate) state: State,
    /// What was found, naming the file, key or resource.
    pub(crate) what: String,
    /// What to do about it; of what is as it should be nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) remedy: Option<String>,
}

/// Everything that was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Version of this program.
    pub(crate) version: &'static str,
    /// A gateway runs on this `data_dir`.
    pub(crate) running: bool,
    /// What was found, in the order in which it was looked at.
    pub(crate) findings: Vec<Finding>,
}

impl Report {
    /// Nothing was looked at yet.
    pub(crate) fn new() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            ..Self::default()
        }
    }

    /// How many findings are in this state.
    pub(crate) fn count(&self, state: State) -> usize {
        self.findings.iter().filter(|finding| finding.state == state).count()
    }

    pub(crate) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.add(check, State::Ok, what, None);
    }

    pub(crate) fn warn(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Warning, what, Some(remedy.into()));
    }

    pub(crate) fn error(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Error, what, Some(remedy.into()));
    }

    pub(crate) fn broken(&mut self, check: &'static str, what: impl Into<String>, remedy: impl Into<String>) {
        self.add(check, State::Broken, what, Some(remedy.into()));
    }

    fn add(&mut self, check: &'static str, state: State, what: impl Into<String>, remedy: Option<String>) {
        self.findings.push(Finding {
            check,
            state,
            what: what.into(),
            remedy,
        });
    }
}

/// Looks at everything but the configuration itself, which is loaded.
pub(crate) fn examine(loaded: &Loaded, report: &mut Report) {
    let config = &loaded.config;
    report.running = pipeline::is_running(&config.data_dir);
    let now = OffsetDateTime::now_utc();
    resources::examine(loaded, report);
    files::examine(loaded, report);
    disk::examine(config, report);
    stores::examine(config, now, report);
    certificates::examine(loaded, now, report);
    net::examine(config, report);
    storages::examine(loaded, report);
}
