//! Storage plugin `s3`: objects in a bucket of Amazon S3 or of a server that speaks its protocol.
//!
//! An object's key is `<prefix>/<key>`; its SHA-256 lies beside it as user metadata, so that a put whose answer was lost can be
//! told from a conflict. `settings` makes sense of what the operator wrote, `client` of the SDK's many defaults, `error` of what
//! comes back; `write`, `upload`, `read`, `list` and `check` are the operations.

mod check;
mod client;
mod error;
mod list;
mod read;
mod settings;
mod upload;
mod write;

use std::time::Duration;

use deskreel_sdk::prelude::*;

pub use settings::{Acl, Checksums, CreateOnly, Encryption, ObjectLock, Settings};

use client::Bucket;

/// The largest object that one PUT takes, by S3's own limit. Larger files go in parts.
const PUT_MAX_BYTES: u64 = 5 << 30;
/// The time that one operation may take with all its attempts: three of a segment of a few MiB on a slow line.
const OP_TIMEOUT: Duration = Duration::from_secs(180);
/// Puts at once that keep a line busy; each holds one segment in memory.
const CONCURRENCY: u32 = 8;

/// Objects in a bucket.
#[derive(Debug)]
pub struct S3 {
    bucket: Bucket,
}

deskreel_sdk::export_storage!(S3);

impl Storage for S3 {
    type Settings = Settings;

    async fn open(settings: Settings, context: Context) -> Result<Self> {
        let resolved = settings.resolve()?;
        let bucket = Box::pin(Bucket::open(resolved, &context)).await?;
        Ok(Self { bucket })
    }

    async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        Box::pin(write::put(&self.bucket, key, bytes, options))
            .await
            .context(key)
    }

    async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        Box::pin(upload::put_file(&self.bucket, key, file, options))
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
