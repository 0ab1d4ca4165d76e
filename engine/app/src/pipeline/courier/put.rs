//! One object on its way to one storage: read, checked, put, noted.

use std::sync::Arc;

use bytes::Bytes;
use deskreel_recording::sha256;
use deskreel_sdk::{ErrorKind, PutOptions};
use time::OffsetDateTime;

use super::{Done, Means, key};
use crate::audit::Event;
use crate::catalog::Object;
use crate::pipeline::delivery::{Failure, ObjectId, Remedy};
use crate::pipeline::storage::Storage;
use crate::pipeline::{steps, trail};

/// Puts one object and tells the catalog.
pub(super) async fn put(means: Means, storage: usize, id: ObjectId, payload: Option<Bytes>) -> Done {
    // A task of its own: a panic in there is an answer, not silence.
    let result = match tokio::spawn(store(means, storage, id, payload)).await {
        Ok(result) => result,
        Err(error) => Err(Failure::new(Remedy::Retry, format!("the put ended early: {error}"))),
    };
    Done::Put { storage, id, result }
}

async fn store(means: Means, storage: usize, id: ObjectId, payload: Option<Bytes>) -> Result<(), Failure> {
    let bytes = match payload {
        Some(bytes) => bytes,
        None => from_spool(&means, storage, id).await?,
    };
    steps::reached("put: begun");
    let target = &means.storages[storage];
    let options = options(&means, id).await;
    steps::taken("put", id);
    let put = target.put(key(id), bytes.clone(), options).await;
    steps::taken("answered", id);
    if let Err(failure) = put.map_err(Failure::from) {
        // An earlier put whose answer was lost may be why, whatever the plugin makes of that.
        if failure.remedy != Remedy::None || !is_there(target.as_ref(), id, &bytes, &failure).await? {
            return Err(failure);
        }
    }
    steps::reached("put: stored");
    let name = target.name().to_owned();
    let noted = tokio::task::spawn_blocking(move || note(&means, id, name)).await;
    match noted {
        Ok(Ok(())) => {
            steps::reached("put: in the catalog");
            steps::taken("stored", id);
            Ok(())
        }
        // Putting it again is harmless and gives the catalog another chance.
        Ok(Err(error)) => Err(Failure::new(Remedy::Here, error.to_string())),
        Err(error) => Err(Failure::new(Remedy::Here, format!("note it in the catalog: {error}"))),
    }
}

/// Until when a storage with object lock has to keep it.
async fn options(means: &Means, id: ObjectId) -> PutOptions {
    if means.retention.delete_nothing() {
        return PutOptions::default();
    }
    let means = means.clone();
    let now = OffsetDateTime::now_utc();
    let options = move || means.retention.put_options(&means.catalog, id.recording, now);
    // It fails only while the runtime is torn down, and then the put does, too.
    tokio::task::spawn_blocking(options).await.unwrap_or_default()
}

/// Whether the storage that refuses the object holds exactly these bytes.
async fn is_there(storage: &dyn Storage, id: ObjectId, bytes: &Bytes, refused: &Failure) -> Result<bool, Failure> {
    match storage.get(key(id)).await {
        Ok(there) => Ok(there == *bytes),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => {
            let mut failure = Failure::from(error);
            failure.remedy = match failure.remedy {
                Remedy::None => return Ok(false),
                other => other,
            };
            failure.message = format!("{refused}; whether it is there is not known: {}", failure.message);
            Err(failure)
        }
    }
}

/// The object as it was sealed: what the disk gives is not taken on trust, as the copy is dropped once it is stored.
async fn from_spool(means: &Means, storage: usize, id: ObjectId) -> Result<Bytes, Failure> {
    let (spool, catalog) = (Arc::clone(&means.spool), Arc::clone(&means.catalog));
    let read = move || (spool.read(id), catalog.sha256(id.recording, id.object));
    let (read, digest) = tokio::task::spawn_blocking(read)
        .await
        .map_err(|error| Failure::new(Remedy::Here, format!("read the spool: {error}")))?;
    let digest = digest.map_err(|error| Failure::new(Remedy::Here, error.to_string()))?;
    let as_sealed = |bytes: &Bytes| match &digest {
        Some(digest) => *digest == hex::encode(sha256(bytes)),
        // Nobody noted it: recovery took it as it was.
        None => true,
    };
    let problem = match read {
        Ok(bytes) if as_sealed(&bytes) => return Ok(bytes),
        Ok(_) => "what the spool has is not what was sealed".to_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => "the spool hasn't got it".to_owned(),
        Err(error) => {
            let message = format!("read {} from the spool: {error}", id.object);
            return Err(Failure::new(Remedy::Here, message));
        }
    };
    let others = means.storages.iter().enumerate().filter(|(index, _)| *index != storage);
    for (_, other) in others.filter(|_| digest.is_some()) {
        if let Ok(bytes) = other.get(key(id)).await
            && as_sealed(&bytes)
        {
            tracing::error!(session = %id.recording, object = %id.object, problem, from = other.name(), "taken from another storage");
            return Ok(bytes);
        }
    }
    Err(Failure::new(
        Remedy::None,
        format!("{problem}, and no other storage has it"),
    ))
}

fn note(means: &Means, id: ObjectId, name: String) -> Result<(), crate::catalog::Error> {
    let now = OffsetDateTime::now_utc();
    means.catalog.stored(id.recording, id.object, &name, now)?;
    if id.object == Object::Manifest {
        let row = means.catalog.session(&id.recording.to_string())?;
        let (url, storage) = (format!("{name}:{}", key(id)), name);
        let event = Event::SessionUpload { url, storage };
        means.audit.note(trail::scope(&means.audit, &row), event);
    }
    Ok(())
}
