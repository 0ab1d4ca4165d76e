//! Legal holds: in the catalog, and as an object beside the recording, so that another node or a rebuilt catalog knows of
//! them too.

use bytes::Bytes;
use deskreel_sdk::{Error, ErrorKind, Key, PutOptions};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::Opened;
use crate::host::StorageHandle;

/// Name of the object below the recording's prefix.
pub(crate) const NAME: &str = "hold.json";
/// A longer object is no hold of ours.
const MARK_MAX_BYTES: u64 = 64 << 10;
/// Longest reason that is kept.
pub(crate) const REASON_MAX_BYTES: usize = 4096;

/// What stands in the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// The recording.
    pub(crate) recording: Uuid,
    /// Why it must not be deleted.
    pub(crate) reason: String,
    /// Who said so.
    pub(crate) by: String,
    /// When.
    #[serde(with = "time::serde::rfc3339")]
    pub(crate) at: OffsetDateTime,
}

/// Key of the object.
pub(crate) fn key(recording: Uuid) -> Result<Key, Error> {
    Key::new(format!("{recording}/{NAME}"))
}

/// Puts the mark at every storage; what can't be marked is told by name. The hold in the catalog counts all the same.
pub(crate) fn put(handle: &Handle, storages: &[Opened], mark: &Mark) -> Vec<(String, String)> {
    each(storages, |storage| {
        let bytes = serde_json::to_vec_pretty(mark).map_err(|error| Error::invalid_input(error.to_string()))?;
        let key = key(mark.recording)?;
        let put = handle.block_on(storage.put(&key, Bytes::from(bytes), &PutOptions::default()));
        match put {
            // Another hold is there already, and holds.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
            put => put,
        }
    })
}

/// Removes the mark from every storage; where that fails is told by name.
pub(crate) fn remove(handle: &Handle, storages: &[Opened], recording: Uuid) -> Vec<(String, String)> {
    each(storages, |storage| handle.block_on(storage.delete(&key(recording)?)))
}

/// Reads the mark of a recording; one that can't be read holds, too.
pub(crate) fn read(handle: &Handle, storage: &StorageHandle, recording: Uuid, at: OffsetDateTime) -> Mark {
    let found = key(recording).and_then(|key| handle.block_on(storage.get_range(&key, 0..MARK_MAX_BYTES)));
    let mark = found
        .map_err(|error| error.to_string())
        .and_then(|bytes| serde_json::from_slice::<Mark>(&bytes).map_err(|error| error.to_string()));
    mark.unwrap_or_else(|error| Mark {
        recording,
        reason: format!("a hold at storage {} that can't be read: {error}", storage.name),
        by: format!("storage {}", storage.name),
        at,
    })
}

fn each(storages: &[Opened], mut act: impl FnMut(&StorageHandle) -> Result<(), Error>) -> Vec<(String, String)> {
    let mut failed = Vec::new();
    for opened in storages {
        let done = match &opened.storage {
            Ok(storage) => act(storage).map_err(|error| error.to_string()),
            Err(error) => Err(error.clone()),
        };
        failed.extend(done.err().map(|error| (opened.name.clone(), error)));
    }
    failed
}
