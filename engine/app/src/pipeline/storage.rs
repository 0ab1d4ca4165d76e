//! What the pipeline asks of a storage. The plugin host's handle is one; tests fake it.

use std::future::Future;
use std::ops::Range;
use std::pin::Pin;

use bytes::Bytes;
use deskreel_config::Mode;
use deskreel_sdk::{Error, ErrorKind, Key, Prefix, PutOptions};

use super::delivery::{Failure, Pace, Remedy};
use crate::host::StorageHandle;

/// A future that a storage returns.
pub(crate) type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// A configured storage. Every call ends within the storage's `op_timeout`.
pub(crate) trait Storage: Send + Sync {
    /// Name in the configuration.
    fn name(&self) -> &str;
    /// When a segment counts as recorded.
    fn mode(&self) -> Mode;
    /// Whether a recording is incomplete without it.
    fn required(&self) -> bool;
    /// How many puts at once it gets; at least 1.
    fn concurrency(&self) -> usize;
    /// How fast puts may follow each other.
    fn pace(&self) -> Pace {
        Pace::default()
    }
    /// Whether it is on this machine, so that reading from it costs least.
    fn is_local(&self) -> bool {
        false
    }
    /// Stores a whole object, create-only; the same bytes again are a success.
    fn put(&self, key: String, bytes: Bytes, options: PutOptions) -> Answer<'_, ()>;
    /// Reads a whole object.
    fn get(&self, key: String) -> Answer<'_, Bytes>;
    /// Reads a range of an object; an end past the object's end reads up to that.
    fn get_range(&self, key: String, range: Range<u64>) -> Answer<'_, Bytes>;
    /// All keys that start with `prefix`.
    fn list(&self, prefix: String) -> Answer<'_, Vec<String>>;
    /// Whether the storage can be used now.
    fn check(&self) -> Answer<'_, ()>;
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        let remedy = match error.kind() {
            ErrorKind::AlreadyExists | ErrorKind::InvalidInput | ErrorKind::Unsupported => Remedy::None,
            kind if kind.is_retryable() => Remedy::Retry,
            _ => Remedy::Operator,
        };
        Self {
            remedy,
            retry_after: error.retry_after(),
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
        let configured = self.concurrency_max.unwrap_or(self.profile.concurrency);
        usize::try_from(configured).unwrap_or(1).max(1)
    }

    fn pace(&self) -> Pace {
        Pace {
            puts_per_second_max: self.puts_per_second_max.map(u64::from),
            bytes_per_second_max: self.bytes_per_second_max,
        }
    }

    fn is_local(&self) -> bool {
        self.local
    }

    fn put(&self, key: String, bytes: Bytes, options: PutOptions) -> Answer<'_, ()> {
        Box::pin(async move { Self::put(self, &Key::new(&key)?, bytes, &options).await })
    }

    fn get(&self, key: String) -> Answer<'_, Bytes> {
        Box::pin(async move { Self::get(self, &Key::new(&key)?).await })
    }

    fn get_range(&self, key: String, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(async move { Self::get_range(self, &Key::new(&key)?, range).await })
    }

    fn list(&self, prefix: String) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            let objects = Self::list(self, &Prefix::new(&prefix)?).await?;
            Ok(objects.into_iter().map(|object| object.key.to_string()).collect())
        })
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async move { Self::check(self).await })
    }
}
