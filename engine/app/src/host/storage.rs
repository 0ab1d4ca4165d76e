//! A configured storage, open.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use deskreel_config::{Mode, StorageConfig};
use deskreel_sdk::abi::host::{StorageInstance, timed_out};
use deskreel_sdk::{Error, Key, ObjectInfo, Page, Prefix, Profile, PutOptions, Result};

use super::shortened;

/// The plugin whose storages are folders of this machine.
const LOCAL: &str = "local";
/// What a storage must manage of a file within its `op_timeout`.
const FILE_STEP_BYTES: u64 = 16 << 20;
/// The most objects that one listing gives: far more than a recording can have.
const LISTED_MAX: usize = 1 << 20;

/// A configured storage, open. Every operation ends within the storage's `op_timeout`; one that doesn't is given up and is a
/// `Timeout` error. Errors say the storage's name.
pub(crate) struct StorageHandle {
    /// Name in the configuration.
    pub(crate) name: String,
    /// When a segment counts as recorded.
    pub(crate) mode: Mode,
    /// Whether a recording is complete only when this storage has it.
    pub(crate) required: bool,
    /// What the plugin says about itself with these settings.
    pub(crate) profile: Profile,
    /// Puts at once, where the configuration says it.
    pub(crate) concurrency_max: Option<u32>,
    /// Puts a second that it is asked for.
    pub(crate) puts_per_second_max: Option<u32>,
    /// Bytes of puts a second that it is asked for.
    pub(crate) bytes_per_second_max: Option<u64>,
    /// Whether it is a folder of this machine.
    pub(crate) local: bool,
    op_timeout: Duration,
    instance: StorageInstance,
}

impl StorageHandle {
    pub(super) fn new(config: &StorageConfig, profile: Profile, instance: StorageInstance) -> Self {
        let wanted = profile.recommended_mode.map(|mode| match mode {
            deskreel_sdk::Mode::Sync => Mode::Sync,
            deskreel_sdk::Mode::Async => Mode::Async,
        });
        if wanted.is_some_and(|wanted| wanted != config.mode) {
            tracing::info!(storage = config.name, mode = ?config.mode, recommended = ?wanted, "the plugin recommends another mode");
        }
        Self {
            name: config.name.clone(),
            mode: config.mode,
            required: config.required,
            op_timeout: config.op_timeout.unwrap_or(profile.op_timeout),
            concurrency_max: config.concurrency_max,
            puts_per_second_max: config.puts_per_second_max,
            bytes_per_second_max: config.bytes_per_second_max,
            local: config.plugin == LOCAL,
            profile,
            instance,
        }
    }

    async fn within<T>(&self, what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
        self.within_time(what, self.op_timeout, work).await
    }

    async fn within_time<T>(&self, what: &str, limit: Duration, work: impl Future<Output = Result<T>>) -> Result<T> {
        let outcome = match tokio::time::timeout(limit, work).await {
            Ok(outcome) => outcome,
            Err(_) => Err(timed_out(what, limit)),
        };
        outcome.map_err(|error| bounded(error).with_context(format_args!("storage {}", self.name)))
    }

    fn too_large(&self, key: &Key, size: u64) -> Result<()> {
        match self.profile.max_object_bytes {
            Some(limit) if size > limit => Err(Error::invalid_input(format!(
                "{key}: {size} bytes, the storage takes at most {limit}"
            ))),
            _ => Ok(()),
        }
    }

    /// Retention and legal hold are for storages that say that they know them.
    fn understood(&self, options: &PutOptions) -> PutOptions {
        let mut options = options.clone();
        if !self.profile.object_lock {
            options.retain_until_unix_s = None;
            options.legal_hold = false;
        }
        options
    }

    /// Stores a whole object: create-only; the same bytes again are a success.
    pub(crate) async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        self.within("put", async {
            self.too_large(key, bytes.len() as u64)?;
            self.instance.put(key, bytes, &self.understood(options)).await
        })
        .await
    }

    /// Stores a finished file of this machine. It has `op_timeout` for each [`FILE_STEP_BYTES`] of it that are begun.
    pub(crate) async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        let size = tokio::fs::metadata(file).await?.len();
        self.too_large(key, size)?;
        let steps = u32::try_from(size / FILE_STEP_BYTES)
            .unwrap_or(u32::MAX)
            .saturating_add(1);
        let limit = self.op_timeout.saturating_mul(steps);
        let options = self.understood(options);
        self.within_time("put_file", limit, self.instance.put_file(key, file, &options))
            .await
    }

    /// Reads a whole object.
    pub(crate) async fn get(&self, key: &Key) -> Result<Bytes> {
        self.within("get", self.instance.get(key, 0..u64::MAX)).await
    }

    /// Reads a range of an object; an end past the object's end reads up to that.
    pub(crate) async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.within("get", self.instance.get(key, range)).await
    }

    /// Facts of one object.
    pub(crate) async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        self.within("stat", self.instance.stat(key)).await
    }

    /// One page of the objects whose keys start with `prefix`, in key order.
    pub(crate) async fn list_page(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        self.within("list", self.instance.list(prefix, after)).await
    }

    /// All objects whose keys start with `prefix`, in key order. Each page has its own `op_timeout`.
    pub(crate) async fn list(&self, prefix: &Prefix) -> Result<Vec<ObjectInfo>> {
        let mut all: Vec<ObjectInfo> = Vec::new();
        loop {
            let page = self.list_page(prefix, all.last().map(|object| &object.key)).await?;
            all.extend(page.objects);
            if all.len() > LISTED_MAX {
                let text = format!("storage {}: more than {LISTED_MAX} objects below `{prefix}`", self.name);
                return Err(Error::internal(text));
            }
            if !page.more {
                return Ok(all);
            }
        }
    }

    /// Deletes an object. A missing key is a success.
    pub(crate) async fn delete(&self, key: &Key) -> Result<()> {
        self.within("delete", self.instance.delete(key)).await
    }

    /// Whether the storage could be written now.
    pub(crate) async fn check(&self) -> Result<()> {
        self.within("check", self.instance.check()).await
    }
}

/// What went wrong at a storage, which is named once.
pub(crate) fn at_storage(name: &str, error: &str) -> String {
    let place = format!("storage {name}: ");
    if error.starts_with(&place) {
        return error.to_owned();
    }
    place + error
}

/// The error with as much of its message as is taken of a plugin's words.
fn bounded(error: Error) -> Error {
    let message = shortened(error.message());
    if message.len() == error.message().len() {
        return error;
    }
    let cut = Error::new(error.kind(), message);
    match error.retry_after() {
        Some(after) => cut.with_retry_after(after),
        None => cut,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_storage_is_named_once() {
        for error in ["is gone", "storage disk: is gone"] {
            assert_eq!(super::at_storage("disk", error), "storage disk: is gone");
        }
        assert_eq!(
            super::at_storage("disk", "storage disk2: is gone"),
            "storage disk: storage disk2: is gone"
        );
    }
}
