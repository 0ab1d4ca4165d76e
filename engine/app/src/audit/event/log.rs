//! Own fields of events about the log itself and about upkeep.

use serde::Serialize;
use serde_json::Value;

use super::Phase;

/// Own fields of `catalog.rebuild`, `storage.copy` and `storage.scrub`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Upkeep {
    /// `begun` is written before anything is done, `done` when the outcome is known.
    pub(crate) phase: Phase,
    /// The storage that it is about: where a copy goes.
    pub(crate) storage: String,
    /// Whether it did what it should.
    pub(crate) success: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<String>,
    /// Where a copy comes from, how much was found, copied or compared.
    #[serde(flatten)]
    pub(crate) details: serde_json::Map<String, Value>,
}

/// Events about the log itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum LogEvent {
    /// A file was full; the next one begins with this line.
    Rotated {
        /// The full file's new name.
        file: String,
        /// Older files that are removed, for `audit.files_max`.
        removed: Vec<RemovedFile>,
    },
    /// The log did not end as it was left.
    Repaired {
        /// What was found and done.
        message: String,
        /// What a process that was killed had written of its line.
        #[serde(skip_serializing_if = "Option::is_none")]
        torn: Option<String>,
        /// First line that is missing, by its `seq`.
        #[serde(skip_serializing_if = "Option::is_none")]
        missing_from: Option<u64>,
        /// Last line that is missing.
        #[serde(skip_serializing_if = "Option::is_none")]
        missing_to: Option<u64>,
    },
    /// Events could not be written and are not in the log.
    Lost {
        /// How many.
        count: u64,
        /// Why.
        error: String,
    },
}

/// A file that is removed, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(crate) struct RemovedFile {
    /// Its name.
    pub(crate) file: String,
    /// `seq` of its last line.
    pub(crate) last_seq: u64,
    /// SHA-256 of its last line, hexadecimal.
    pub(crate) last_sha256: String,
}
