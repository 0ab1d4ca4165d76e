//! What every storage must do, as tests for the author's crate.
//!
//! [`storage_tests!`](crate::storage_tests) writes one named `#[test]` for each check of [`storage`]. Each opens the storage
//! in a fresh folder (or bucket prefix: the settings are the author's to make). [`exporter_tests!`](crate::exporter_tests) does
//! the same with the checks of [`exporter`]. `deskreel plugins check` runs both lists on a built file.

#[macro_use]
mod macros;

pub mod exporter;
pub mod kills;
mod loaded;
pub mod open_close;
pub mod storage;

pub use loaded::Loaded;
pub use storage::bytes;

use std::future::Future;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use serde_json::Value;

use crate::{Context, Key, ObjectInfo, Page, Prefix, PutOptions, Result, Storage};

/// One check of a contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// Its name, which is also that of its test.
    pub name: &'static str,
    /// What it holds, in words.
    pub about: &'static str,
}

/// A storage under test: the author's type itself, or one that was loaded from a built file.
#[expect(missing_docs, reason = "as in Storage")]
pub trait Subject: Send + Sync + 'static {
    fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> impl Future<Output = Result<()>> + Send;
    fn get(&self, key: &Key, range: Range<u64>) -> impl Future<Output = Result<Bytes>> + Send;
    fn stat(&self, key: &Key) -> impl Future<Output = Result<ObjectInfo>> + Send;
    fn list(&self, prefix: &Prefix, after: Option<&Key>) -> impl Future<Output = Result<Page>> + Send;
    fn delete(&self, key: &Key) -> impl Future<Output = Result<()>> + Send;
    fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> impl Future<Output = Result<()>> + Send;
    fn check(&self) -> impl Future<Output = Result<()>> + Send;
    /// From the profile.
    fn max_object_bytes(&self) -> Option<u64>;
}

/// The author's type as a [`Subject`].
#[derive(Debug)]
pub struct Direct<S> {
    storage: S,
    max_object_bytes: Option<u64>,
}

impl<S: Storage> Direct<S> {
    /// Opens the storage with these settings.
    ///
    /// # Errors
    /// Settings that don't fit, and what the storage says.
    pub async fn open(settings: Value) -> Result<Self> {
        let settings: S::Settings = crate::abi::storage::settings(&settings.to_string())?;
        let max_object_bytes = S::profile(&settings).max_object_bytes;
        Ok(Self {
            storage: S::open(settings, Context::new("testkit")).await?,
            max_object_bytes,
        })
    }
}

impl<S: Storage> Subject for Direct<S> {
    async fn put(&self, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
        self.storage.put(key, bytes, options).await
    }

    async fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        self.storage.get(key, range).await
    }

    async fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        self.storage.stat(key).await
    }

    async fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        self.storage.list(prefix, after).await
    }

    async fn delete(&self, key: &Key) -> Result<()> {
        self.storage.delete(key).await
    }

    async fn put_file(&self, key: &Key, file: &Path, options: &PutOptions) -> Result<()> {
        self.storage.put_file(key, file, options).await
    }

    async fn check(&self) -> Result<()> {
        self.storage.check().await
    }

    fn max_object_bytes(&self) -> Option<u64> {
        self.max_object_bytes
    }
}

/// A new empty folder that goes with its value.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Makes one below the system's folder for temporary files.
    ///
    /// # Errors
    /// What the operating system says.
    pub fn new() -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "deskreel-testkit-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        // One of an earlier process with the same id.
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Settings with more fields, or other values, than these have: for the author's own tests.
///
/// # Panics
/// One of the two is no object.
#[must_use]
pub fn with(mut settings: Value, more: &Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut settings, more) else {
        panic!("settings are objects")
    };
    fields.extend(more.clone());
    settings
}

/// Runs a test on a runtime as plugins have it.
///
/// # Panics
/// No runtime can be had.
pub fn block_on<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(test)
}

/// A storage of the author's own type.
///
/// # Errors
/// Settings that don't fit, and what the storage says.
pub async fn open<S: Storage>(settings: &Value) -> Result<S> {
    let settings: S::Settings = crate::abi::storage::settings(&settings.to_string())?;
    S::open(settings, Context::new("testkit")).await
}

/// A key.
///
/// # Panics
/// The text is none.
#[must_use]
pub fn key(text: &str) -> Key {
    Key::new(text).expect("a key")
}

/// Puts bytes without options.
///
/// # Errors
/// What the storage says.
pub async fn put<S: Storage>(storage: &S, name: &str, bytes: Bytes) -> Result<()> {
    storage.put(&key(name), bytes, &PutOptions::default()).await
}

/// A whole object.
///
/// # Errors
/// What the storage says.
pub async fn whole<S: Storage>(storage: &S, name: &str) -> Result<Bytes> {
    storage.get(&key(name), 0..u64::MAX).await
}

/// Opens a storage in a fresh folder and runs a check on it.
///
/// # Panics
/// When the check fails.
pub fn run<S: Storage, F: Future<Output = ()>>(
    settings: impl FnOnce(&Path) -> Value,
    check: impl FnOnce(Arc<Direct<S>>) -> F,
) {
    let folder = Folder::new().expect("a temporary folder");
    block_on(async {
        let subject = Direct::<S>::open(settings(folder.path()))
            .await
            .expect("the storage opens");
        check(Arc::new(subject)).await;
    });
}
