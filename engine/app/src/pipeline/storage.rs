//! What the pipeline asks of a storage. The plugin host's handle is one; tests fake it.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use deskreel_config::Mode;
use deskreel_sdk::{ErrorKind, Key, Prefix, PutOptions};

use crate::host::StorageHandle;

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

impl From<deskreel_sdk::Error> for StorageError {
    fn from(error: deskreel_sdk::Error) -> Self {
        let remedy = match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::Unsupported => Remedy::None,
            kind if kind.is_retryable() => Remedy::Retry,
            _ => Remedy::Operator,
        };
        Self {
            remedy,
            message: error.to_string(),
        }
    }
}

impl Storage for StorageHandle {
    fn name(&self) -> &str {
        &self.name
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn required(&self) -> bool {
        self.required
    }

    fn concurrency(&self) -> usize {
        usize::try_from(self.profile.concurrency).unwrap_or(1).max(1)
    }

    fn put(&self, key: String, bytes: Bytes) -> Answer<'_, ()> {
        Box::pin(async move {
            let key = Key::new(&key)?;
            Ok(Self::put(self, &key, bytes, &PutOptions::default()).await?)
        })
    }

    fn get(&self, key: String) -> Answer<'_, Bytes> {
        Box::pin(async move {
            let key = Key::new(&key)?;
            Ok(Self::get(self, &key).await?)
        })
    }

    fn list(&self, prefix: String) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let prefix = Prefix::new(&prefix)?;
            let objects = Self::list(self, &prefix).await?;
            Ok(objects.into_iter().map(|object| object.key.to_string()).collect())
        })
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async move { Ok(Self::check(self).await?) })
    }
}
