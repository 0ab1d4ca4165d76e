//! The storage trait: whole immutable objects under keys.

use std::future::Future;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;

use crate::context::Context;
use crate::error::{Error, ErrorKind, Result};
use crate::object::{Key, ObjectInfo, Page, Prefix, Profile, PutOptions};

/// A place that keeps whole immutable objects: a folder, a bucket.
///
/// Write the methods as `async fn`; they run on a tokio runtime (multi-threaded, with timers and I/O) that belongs to your
/// plugin. Code that blocks implements [`BlockingStorage`] instead.
///
/// Who does what:
/// - The engine retries, with backoff, whatever fails with a retryable [`ErrorKind`]. A plugin classifies; it may retry small
///   hiccups itself but must answer within the operation's time.
/// - The engine calls methods of one instance at the same time, from many tasks.
/// - When the engine gives up on an operation its future is dropped. Writing must stay whole or not at all even then.
/// - A panic becomes an error of kind `Panic`; the instance stays in use.
pub trait Storage: Send + Sync + Sized + 'static {
    /// The operator's settings; validated against their JSON Schema before [`open`](Self::open).
    type Settings: DeserializeOwned + JsonSchema + Send + 'static;

    /// Makes an instance. Reaching the service is the job of [`check`](Self::check): `open` should not need the network.
    ///
    /// # Errors
    /// `InvalidSettings` where the settings can't work.
    fn open(settings: Self::Settings, context: Context) -> impl Future<Output = Result<Self>> + Send;

    /// Stores an object under a new key: whole or not at all, and durably once this returns.
    ///
    /// The same key with the same bytes is a success (the engine repeats puts whose answer got lost).
    ///
    /// # Errors
    /// `AlreadyExists` when the key holds other bytes.
    fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> impl Future<Output = Result<()>> + Send;

    /// Reads the bytes `range.start..range.end` of an object.
    ///
    /// An end past the object's end reads up to that end, so the result may be shorter than the range; a start at the end gives
    /// no bytes.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` when the range starts past the object's end or is reversed.
    fn get(&self, key: &Key, range: Range<u64>) -> impl Future<Output = Result<Bytes>> + Send;

    /// Facts of one object.
    ///
    /// # Errors
    /// `NotFound`.
    fn stat(&self, key: &Key) -> impl Future<Output = Result<ObjectInfo>> + Send;

    /// Objects whose key starts with `prefix` and sorts after `after`, in key order, as many as suit one page.
    ///
    /// # Errors
    /// Whatever hinders the listing; no match is an empty page.
    fn list(&self, prefix: &Prefix, after: Option<&Key>) -> impl Future<Output = Result<Page>> + Send;

    /// Deletes an object. A missing key is a success.
    ///
    /// # Errors
    /// Whatever hinders the deletion.
    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send;

    /// Stores a large finished file of this machine, such as an export. The file stays.
    ///
    /// The default reads the file and puts it.
    ///
    /// # Errors
    /// As [`put`](Self::put).
    fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> impl Future<Output = Result<()>> + Send {
        async move {
            let bytes = tokio::fs::read(file)
                .await
                .map_err(|error| Error::from(error).with_context(file.display()))?;
            self.put(key, Bytes::from(bytes), options).await
        }
    }

    /// Whether the storage could be written now: reachability, credentials, permissions. Leaves nothing behind.
    ///
    /// # Errors
    /// What the operator has to mend.
    fn check(&self) -> impl Future<Output = Result<()>> + Send;

    /// What the storage is like with these settings.
    fn profile(settings: &Self::Settings) -> Profile {
        let _ = settings;
        Profile::default()
    }
}

/// The blocking twin of [`Storage`], for code that has no async client. Export it with `export_storage!(Blocking<Yours>)`.
///
/// The same contract; each call runs on a thread of a pool. A call whose operation was given up runs to its end unseen.
#[expect(missing_docs, reason = "each method is described at Storage")]
pub trait BlockingStorage: Send + Sync + Sized + 'static {
    /// The operator's settings.
    type Settings: DeserializeOwned + JsonSchema + Send + 'static;

    fn open(settings: Self::Settings, context: Context) -> Result<Self>;
    fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()>;
    fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes>;
    fn stat(&self, key: &Key) -> Result<ObjectInfo>;
    fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page>;
    fn delete(&self, key: &Key) -> Result<()>;
    fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        let bytes = std::fs::read(file).map_err(|error| Error::from(error).with_context(file.display()))?;
        self.put(key, Bytes::from(bytes), options)
    }
    fn check(&self) -> Result<()>;
    fn profile(settings: &Self::Settings) -> Profile {
        let _ = settings;
        Profile::default()
    }
}

/// Makes a [`Storage`] of a [`BlockingStorage`].
#[derive(Debug)]
pub struct Blocking<T>(Arc<T>);

impl<T: BlockingStorage> Blocking<T> {
    async fn run<R: Send + 'static>(&self, work: impl FnOnce(&T) -> Result<R> + Send + 'static) -> Result<R> {
        let this = Arc::clone(&self.0);
        joined(tokio::task::spawn_blocking(move || work(&this)).await)
    }
}

fn joined<R>(outcome: Result<Result<R>, tokio::task::JoinError>) -> Result<R> {
    match outcome {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(Error::new(
                ErrorKind::Cancelled,
                "the plugin's runtime is shutting down",
            )),
        },
    }
}

impl<T: BlockingStorage> Storage for Blocking<T> {
    type Settings = T::Settings;

    async fn open(settings: Self::Settings, context: Context) -> Result<Self> {
        joined(tokio::task::spawn_blocking(move || T::open(settings, context)).await).map(|inner| Self(Arc::new(inner)))
    }

    async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        let (key, options) = (key.clone(), options.clone());
        self.run(move |this| this.put(&key, bytes, &options)).await
    }

    async fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let key = key.clone();
        self.run(move |this| this.get(&key, range)).await
    }

    async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        let key = key.clone();
        self.run(move |this| this.stat(&key)).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        let (prefix, after) = (prefix.clone(), after.cloned());
        self.run(move |this| this.list(&prefix, after.as_ref())).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        let key = key.clone();
        self.run(move |this| this.delete(&key)).await
    }

    async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        let (key, file, options) = (key.clone(), file.to_owned(), options.clone());
        self.run(move |this| this.put_file(&key, &file, &options)).await
    }

    async fn check(&self) -> Result<()> {
        self.run(T::check).await
    }

    fn profile(settings: &Self::Settings) -> Profile {
        T::profile(settings)
    }
}
