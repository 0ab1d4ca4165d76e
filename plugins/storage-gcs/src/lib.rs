//! Storage plugin `gcs`: objects in a bucket of Google Cloud Storage.
//!
//! An object's name is `<prefix>/<key>`; its SHA-256 lies beside it as metadata. `settings` makes sense of what the operator
//! wrote, `client` of the library's defaults, `error` of what comes back. Bytes go through the library (`write`, `read`); the small
//! requests of `json` (facts, listing, deletion) through the JSON API as well, with the library's credentials: its own way for them
//! is gRPC, which proxies for HTTP and most emulators don't pass.

mod check;
mod client;
mod error;
mod json;
mod list;
mod read;
mod settings;
mod write;

use std::time::Duration;

use deskreel_sdk::prelude::*;

pub use settings::{ObjectLock, Settings};

use client::Bucket;

/// The time that one operation may take with all its attempts.
const OP_TIMEOUT: Duration = Duration::from_secs(180);
/// Puts at once that keep a line busy; each holds one segment in memory.
const CONCURRENCY: u32 = 8;
/// The largest object that is put from memory: the library reads it twice and sends it in one go.
const PUT_MAX_BYTES: u64 = 5 << 30;

/// Objects in a bucket.
#[derive(Debug)]
pub struct Gcs {
    bucket: Bucket,
}

deskreel_sdk::export_storage!(Gcs);

impl Storage for Gcs {
    type Settings = Settings;

    async fn open(settings: Settings, _: Context) -> Result<Self> {
        let bucket = Box::pin(Bucket::open(settings.resolve()?)).await?;
        Ok(Self { bucket })
    }

    async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        Box::pin(write::put(&self.bucket, key, bytes, options))
            .await
            .context(key)
    }

    async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        Box::pin(write::put_file(&self.bucket, key, file, options))
            .await
            .context(key)
    }

    async fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        Box::pin(read::get(&self.bucket, key, range)).await.context(key)
    }

    async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        Box::pin(read::stat(&self.bucket, key)).await.context(key)
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        Box::pin(list::page(&self.bucket, prefix, after)).await.context("list")
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        Box::pin(write::delete(&self.bucket, key)).await.context(key)
    }

    async fn check(&self) -> Result<()> {
        Box::pin(check::check(&self.bucket)).await
    }

    fn profile(settings: &Settings) -> Profile {
        let mut profile = Profile::default();
        profile.max_object_bytes = Some(PUT_MAX_BYTES);
        profile.concurrency = CONCURRENCY;
        profile.op_timeout = OP_TIMEOUT;
        profile.object_lock = settings.object_lock.is_some();
        profile.recommended_mode = Some(Mode::Async);
        profile
    }
}

#[cfg(test)]
mod tests;
