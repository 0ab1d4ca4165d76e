//! A storage of a built file, as a subject of the checks.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;

use crate::abi::host::{StorageInstance, timed_out};
use crate::testkit::Subject;
use crate::{Error, Key, ObjectInfo, Page, Prefix, Profile, PutOptions, Result};

/// A storage that was opened from a built file. Every operation must end within the time that its profile names, and nothing over
/// the profile's limit reaches it: as in the engine.
pub struct Loaded {
    instance: StorageInstance,
    op_timeout: Duration,
    max_object_bytes: Option<u64>,
}

impl Loaded {
    /// An open storage and what it says about itself.
    #[must_use]
    pub fn new(instance: StorageInstance, profile: &Profile) -> Self {
        Self {
            instance,
            op_timeout: profile.op_timeout,
            max_object_bytes: profile.max_object_bytes,
        }
    }

    async fn within<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        match tokio::time::timeout(self.op_timeout, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(timed_out(what, self.op_timeout)),
        }
    }

    fn too_large(&self, size: u64) -> Result<()> {
        match self.max_object_bytes {
            Some(limit) if size > limit => Err(Error::invalid_input(format!("{size} bytes, at most {limit}"))),
            _ => Ok(()),
        }
    }
}

impl Subject for Loaded {
    async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        self.too_large(bytes.len() as u64)?;
        self.within("put", self.instance.put(key, bytes, options)).await
    }

    async fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.within("get", self.instance.get(key, range)).await
    }

    async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        self.within("stat", self.instance.stat(key)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        self.within("list", self.instance.list(prefix, after)).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.within("delete", self.instance.delete(key)).await
    }

    async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        self.within("put_file", self.instance.put_file(key, file, options))
            .await
    }

    async fn check(&self) -> Result<()> {
        self.within("check", self.instance.check()).await
    }

    fn max_object_bytes(&self) -> Option<u64> {
        self.max_object_bytes
    }
}
