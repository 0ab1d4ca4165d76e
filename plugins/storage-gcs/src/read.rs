//! Reading: whole objects, ranges and facts.

use std::sync::atomic::Ordering;

use deskreel_sdk::bytes::BytesMut;
use deskreel_sdk::prelude::*;
use google_cloud_storage::model_ext::ReadRange;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::client::Bucket;
use crate::error::{Action, Failure};
use crate::write::DIGEST;

/// How often a whole object whose bytes are wrong is asked for.
const READS_MAX: u32 = 2;
/// No object is longer; offsets behind it aren't sent to servers.
const OFFSET_MAX: u64 = 1 << 53;

/// See [`Storage::stat`].
pub(crate) async fn stat(bucket: &Bucket, key: &Key) -> Result<ObjectInfo> {
    let object = bucket
        .json
        .object(&bucket.object(key))
        .await
        .map_err(|failure| failure.into_error(bucket, Action::Get))?;
    let mut info = ObjectInfo::new(key.clone(), object.size());
    info.modified_unix_ms = object.modified_unix_ms();
    Ok(info)
}

/// See [`Storage::get`].
pub(crate) async fn get(bucket: &Bucket, key: &Key, range: Range<u64>) -> Result<Bytes> {
    let Range { start, end } = range;
    if start > end {
        return Err(Error::invalid_input(format!("range {start}..{end} is reversed")));
    }
    if start == end || start > OFFSET_MAX {
        return at_end(bucket, key, start..end).await;
    }
    for read in 1.. {
        match once(bucket, key, start..end).await {
            Ok(Some(bytes)) => return Ok(bytes),
            Ok(None) => return at_end(bucket, key, start..end).await,
            Err(error) if error.kind() == ErrorKind::Corrupt && read < READS_MAX => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::internal("no read was tried"))
}

/// The answer where a range has nothing to read: depends on the object's size alone.
async fn at_end(bucket: &Bucket, key: &Key, range: Range<u64>) -> Result<Bytes> {
    let size = stat(bucket, key).await?.size;
    let Range { start, end } = range;
    if start > size {
        return Err(Error::invalid_input(format!(
            "range {start}..{end} of an object of {size} bytes"
        )));
    }
    if start != end && start < size {
        return Err(Error::new(
            ErrorKind::Interrupted,
            "the object changed while it was read",
        ));
    }
    Ok(Bytes::new())
}

/// The bytes, or nothing where the range starts at or behind the object's end.
async fn once(bucket: &Bucket, key: &Key, range: Range<u64>) -> Result<Option<Bytes>> {
    if bucket.is_bare.load(Ordering::Relaxed) {
        return bare(bucket, key, range).await;
    }
    let failed = |failure: Failure| failure.into_error(bucket, Action::Get);
    let wanted = match (range.start, range.end) {
        (0, end) if end > OFFSET_MAX => ReadRange::all(),
        (start, end) if end > OFFSET_MAX => ReadRange::offset(start),
        (start, end) => ReadRange::segment(start, end - start),
    };
    let request = bucket
        .library
        .read_object(bucket.path(), bucket.object(key))
        .set_read_range(wanted);
    let mut answer = match bucket.within(0, Box::pin(request.send())).await {
        Ok(answer) => answer,
        Err(failure) if failure.is_bad_range() => return Ok(None),
        Err(failure) if failure.is_bare() && !bucket.is_google => {
            bucket.is_bare.store(true, Ordering::Relaxed);
            return bare(bucket, key, range).await;
        }
        Err(failure) => return Err(failed(failure)),
    };
    let facts = answer.object();
    let mut bytes = BytesMut::new();
    loop {
        match timeout(bucket.answer_timeout, answer.next()).await {
            Ok(Some(Ok(part))) => bytes.extend_from_slice(&part),
            Ok(Some(Err(error))) => return Err(failed(Failure::from(error))),
            Ok(None) => break,
            Err(_) => return Err(failed(Failure::late(bucket.answer_timeout))),
        }
    }
    let length = bytes.len() as u64;
    // Less than was asked for from the start on: all that there is.
    let is_whole = range.start == 0 && (length < range.end || u64::try_from(facts.size) == Ok(length));
    if is_whole && let Some(digest) = facts.metadata.get(DIGEST) {
        compare(digest, &bytes)?;
    }
    Ok(Some(bytes.freeze()))
}

/// [`once`] without the library, from a server that says nothing of an object beside its bytes: that is asked for before.
async fn bare(bucket: &Bucket, key: &Key, range: Range<u64>) -> Result<Option<Bytes>> {
    let name = bucket.object(key);
    let failed = |failure: Failure| failure.into_error(bucket, Action::Get);
    let facts = bucket.json.object(&name).await.map_err(failed)?;
    let range = range.start..range.end.min(facts.size());
    if range.is_empty() {
        return Ok(None);
    }
    let is_whole = range == (0..facts.size());
    let bytes = bucket.json.media(&name, range).await.map_err(failed)?;
    if is_whole && let Some(digest) = facts.metadata.get(DIGEST) {
        compare(digest, &bytes)?;
    }
    Ok(Some(bytes))
}

fn compare(digest: &str, bytes: &[u8]) -> Result<()> {
    if *digest == hex::encode(Sha256::digest(bytes)) {
        return Ok(());
    }
    let text = "the bytes are not those that were stored: their SHA-256 differs";
    Err(Error::new(ErrorKind::Corrupt, text))
}
