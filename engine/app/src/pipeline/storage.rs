//! What the pipeline asks of a storage. The plugin host implements it; tests fake it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use deskreel_config::Mode;

/// A future that a storage returns.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StorageError>> + Send + 'a>>;

/// What class of failure a storage reports, by what helps against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Trying again helps: unreachable, slow, rate limited.
    Retry,
    /// The operator has to mend something (permission, settings, full disk); then trying again helps.
    Operator,
    /// Nothing helps this object: the storage holds other bytes under the key, or refuses the key or the size.
    None,
}

/// A storage's error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct StorageError {
    /// What helps.
    pub(crate) remedy: Remedy,
    /// What the plugin said.
    pub(crate) message: String,
    /// There is no such object (`get`, `stat`).
    pub(crate) not_found: bool,
}

/// A configured storage.
pub(crate) trait Storage: Send + Sync {
    /// Name in the configuration.
    fn name(&self) -> &str;
    /// When a segment counts as recorded.
    fn mode(&self) -> Mode;
    /// Whether a recording is incomplete without it.
    fn required(&self) -> bool;
    /// How many puts at once the plugin likes; at least 1.
    fn concurrency(&self) -> usize;
    /// Stores a whole object, create-only; the same bytes again are a success. Ends within the storage's `op_timeout`.
    fn put(&self, key: String, bytes: Bytes) -> Answer<'_, ()>;
    /// Reads a whole object.
    fn get(&self, key: String) -> Answer<'_, Bytes>;
    /// All keys that start with `prefix`.
    fn list(&self, prefix: String) -> Answer<'_, Vec<String>>;
    /// Whether the storage can be used now.
    fn check(&self) -> Answer<'_, ()>;
}
