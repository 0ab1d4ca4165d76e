//! From the relay's PDUs to stored segments: the bounded queue, the recorder thread of each session, the spool,
//! delivery to the storages, and recovery of what a crash left behind.
//!
//! The life of a PDU: `SessionRecorder::enqueue` -> `queue` -> `recorder` (tap, frames, segments) -> `spool` and
//! `delivery` -> `Storage::put` -> `Catalog::stored` -> gone from the spool.

mod session;
mod storage;

use std::sync::Arc;

use deskreel_config::Config;

pub(crate) use session::{RecorderFailed, SessionFacts, SessionRecorder};
pub(crate) use storage::{Storage, StorageError};

/// Why a session may not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OpenError {
    /// A sync storage does not answer and `session_recording.on_failure` is strict.
    #[error("storage {storage} can't take the recording: {error}")]
    Storage {
        /// Name in the configuration.
        storage: String,
        /// What it said.
        error: String,
    },
    /// The spool is full and `session_recording.on_failure` is strict.
    #[error("spool {0}")]
    Spool(String),
    /// The catalog or the recorder's thread could not be had.
    #[error("{0}")]
    Local(String),
    /// The gateway is shutting down.
    #[error("the gateway is shutting down")]
    ShuttingDown,
}

/// All sessions of this engine: opens recorders and delivers what they seal. One per process; cheap to clone.
#[derive(Clone)]
pub(crate) struct Sessions {
    inner: Arc<()>,
}

impl Sessions {
    /// Takes the lock on `data_dir`, opens key, catalog and spool, closes the recordings that a crash left open, and
    /// starts delivery. Call it before listening, inside the tokio runtime that is to run the delivery.
    ///
    /// # Errors
    /// Another engine that uses the same `data_dir`; a key, catalog or spool that can't be opened; recording without
    /// any storage.
    pub(crate) async fn start(config: &Config, storages: Vec<Arc<dyn Storage>>) -> anyhow::Result<Self> {
        let _ = (config, storages);
        anyhow::bail!("the recording pipeline is not built yet")
    }

    /// Opens the recording of a session; call it when the first Demand Active is seen, before it is forwarded.
    /// With `session_recording.mode: off` the recorder takes everything and records nothing
    /// ([`SessionRecorder::is_recording`] says so), and the catalog has the session as not recorded.
    ///
    /// Takes as long as an unreachable storage needs to say so, at most `recording.stall_max`.
    ///
    /// # Errors
    /// See [`OpenError`]; the session must then be refused. Cancel safe: a recorder that nobody got is closed again.
    pub(crate) async fn open(&self, facts: SessionFacts) -> Result<SessionRecorder, OpenError> {
        let _ = (&self.inner, facts);
        Err(OpenError::ShuttingDown)
    }

    /// Waits until what the sessions sealed is stored or safely in the spool, then stops. Sessions that still run are
    /// ended first (`GatewayStopped`).
    pub(crate) async fn shutdown(self) {}
}
