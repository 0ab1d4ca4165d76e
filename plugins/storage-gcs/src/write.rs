//! Writing and deleting. An object is never overwritten; who put it first is settled by its SHA-256.

use std::sync::atomic::Ordering;

use deskreel_sdk::bucket::{self as shared, Unsettled};
use deskreel_sdk::prelude::*;
use google_cloud_storage::builder::storage::WriteObject;
use google_cloud_storage::model::object::{Retention, retention};
use google_cloud_wkt::Timestamp;
use sha2::{Digest as _, Sha256};

use crate::client::{Bucket, SINGLE_MAX_BYTES};
use crate::error::{Action, Failure};
use crate::read::get;
use crate::settings::ObjectLock;

/// Metadata that holds an object's SHA-256 in hex.
pub(crate) const DIGEST: &str = "deskreel-sha256";
/// What may be kept as metadata beside it: Google allows 8 KiB in all.
const METADATA_MAX_BYTES: usize = 4096;
/// How much is read at once to compare an object of another writer.
const COMPARE_BYTES: u64 = 8 << 20;
const HASH_BYTES: usize = 1 << 20;

/// The digest of what is to be stored.
#[derive(Debug, Clone)]
struct Content {
    size: u64,
    sha256: [u8; 32],
    crc32c: u32,
}

/// See [`Storage::put`].
pub(crate) async fn put(bucket: &Bucket, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
    let content = Content {
        size: bytes.len() as u64,
        sha256: Sha256::digest(&bytes).into(),
        crc32c: crc32c::crc32c(&bytes),
    };
    let length = content.size;
    // Boxed: the library's futures are large, and compiled for each place that they are in.
    store(bucket, key, &content, |at_once| {
        let request = bucket
            .library
            .write_object(bucket.path(), bucket.object(key), bytes.clone());
        let request = with_terms(request, bucket, &content, options, at_once)?;
        Ok(Box::pin(async move {
            bucket
                .within(length, Box::pin(request.send_unbuffered()))
                .await
                .map(drop)
        }))
    })
    .await
}

/// See [`Storage::put_file`].
pub(crate) async fn put_file(bucket: &Bucket, key: &Key, path: &Path, options: &PutOptions) -> Result<()> {
    let size = tokio::fs::metadata(path).await.context(path.display())?.len();
    if size <= SINGLE_MAX_BYTES {
        let bytes = tokio::fs::read(path).await.context(path.display())?;
        return put(bucket, key, bytes.into(), options).await;
    }
    let content = hash(path.to_owned()).await.context(path.display())?;
    let length = content.size;
    store(bucket, key, &content, |at_once| {
        let file = std::fs::File::open(path).context(path.display())?;
        let file = tokio::fs::File::from_std(file);
        let request = bucket.library.write_object(bucket.path(), bucket.object(key), file);
        let request = with_terms(request, bucket, &content, options, at_once)?;
        Ok(Box::pin(async move {
            bucket
                .within(length, Box::pin(request.send_unbuffered()))
                .await
                .map(drop)
        }))
    })
    .await
}

type Sending<'a> = std::pin::Pin<Box<dyn Future<Output = Result<(), Failure>> + Send + 'a>>;

/// Sends an object and settles what became of it. `send` is told whether to send it at once, however large it is.
async fn store<'a>(
    bucket: &Bucket,
    key: &Key,
    content: &Content,
    mut send: impl FnMut(bool) -> Result<Sending<'a>>,
) -> Result<()> {
    // Emulators may ignore the precondition; Google doesn't.
    if !bucket.is_google && is_there(bucket, key, content).await? {
        return Ok(());
    }
    let at_once = bucket.at_once.load(Ordering::Relaxed);
    let mut sent = send(at_once)?.await;
    let in_parts = content.size > SINGLE_MAX_BYTES && !bucket.is_google && !at_once;
    if let Err(failure) = &sent
        && in_parts
        && failure.is_silence()
    {
        let leads_nowhere = failure.leads_nowhere(&bucket.server);
        sent = send(true)?.await;
        // A server that was silent for once may still take parts another time.
        if leads_nowhere && sent.is_ok() {
            bucket.at_once.store(true, Ordering::Relaxed);
        }
    }
    match sent {
        Ok(()) if bucket.is_google => Ok(()),
        Ok(()) => match is_there(bucket, key, content).await? {
            true => Ok(()),
            false => Err(Error::new(ErrorKind::Interrupted, "stored, but not there any more")),
        },
        Err(failure) => settle(bucket, key, content, failure).await,
    }
}

fn with_terms<P>(
    request: WriteObject<P>,
    bucket: &Bucket,
    content: &Content,
    options: &PutOptions,
    at_once: bool,
) -> Result<WriteObject<P>> {
    if (options.retain_until_unix_s.is_some() || options.legal_hold) && bucket.object_lock.is_none() {
        return Err(Error::unsupported(
            "retention and legal hold need the setting `object_lock`",
        ));
    }
    let mut metadata = shared::header_metadata(&options.metadata, METADATA_MAX_BYTES);
    metadata.insert(DIGEST.to_owned(), hex::encode(content.sha256));
    // Known before, the checksum goes with the description: emulators don't understand one that follows the bytes.
    let request = request.with_known_crc32c(content.crc32c);
    let mut request = request.set_if_generation_match(0).set_metadata(metadata);
    if at_once {
        request = request.with_resumable_upload_threshold(usize::MAX);
    }
    if let Some(content_type) = &options.content_type {
        request = request.set_content_type(content_type);
    }
    if let Some(class) = &bucket.storage_class {
        request = request.set_storage_class(class);
    }
    if let Some(key) = &bucket.kms_key {
        request = request.set_kms_key(key);
    }
    if options.legal_hold {
        request = request.set_temporary_hold(true);
    }
    if let Some((mode, until)) = bucket.object_lock.zip(options.retain_until_unix_s) {
        let mode = match mode {
            ObjectLock::Governance => retention::Mode::Unlocked,
            ObjectLock::Compliance => retention::Mode::Locked,
        };
        let until = i64::try_from(until)
            .ok()
            .and_then(|until| Timestamp::new(until, 0).ok());
        let until = until.ok_or_else(|| Error::invalid_input("the end of the retention is out of range"))?;
        request = request.set_retention(Retention::new().set_mode(mode).set_retain_until_time(until));
    }
    Ok(request)
}

/// A put was refused or its answer got lost: success if the object is there as it should be.
async fn settle(bucket: &Bucket, key: &Key, content: &Content, failure: Failure) -> Result<()> {
    let unknown = failure.is_unknown_outcome();
    let put = if failure.is_conflict() {
        Unsettled::Taken
    } else if unknown {
        Unsettled::Unknown(failure.into_error(bucket, Action::Create))
    } else {
        Unsettled::Refused(failure.into_error(bucket, Action::Create))
    };
    shared::settle(put, is_there(bucket, key, content)).await
}

/// Whether the object is there with these bytes.
///
/// # Errors
/// `AlreadyExists` if it is there with others.
async fn is_there(bucket: &Bucket, key: &Key, content: &Content) -> Result<bool> {
    let there = match bucket.json.object(&bucket.object(key)).await {
        Ok(there) => there,
        Err(failure) if failure.is_missing() => return Ok(false),
        Err(failure) => return Err(failure.into_error(bucket, Action::Get)),
    };
    let same = there.size() == content.size
        && match there.metadata.get(DIGEST) {
            Some(digest) => *digest == hex::encode(content.sha256),
            // Of another writer, or copied without its metadata.
            None => digest(bucket, key, there.size()).await? == content.sha256,
        };
    if same {
        return Ok(true);
    }
    Err(shared::other_bytes())
}

async fn digest(bucket: &Bucket, key: &Key, size: u64) -> Result<[u8; 32]> {
    let mut sha256 = Sha256::new();
    let mut from = 0;
    while from < size {
        let to = size.min(from + COMPARE_BYTES);
        sha256.update(Box::pin(get(bucket, key, from..to)).await?);
        from = to;
    }
    Ok(sha256.finalize().into())
}

async fn hash(path: PathBuf) -> Result<Content> {
    let hashed = tokio::task::spawn_blocking(move || {
        use std::io::Read as _;
        let mut file = std::fs::File::open(path)?;
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; HASH_BYTES];
        let (mut size, mut crc32c) = (0, 0);
        loop {
            let length = file.read(&mut buffer)?;
            if length == 0 {
                let sha256 = sha256.finalize().into();
                return Ok(Content { size, sha256, crc32c });
            }
            sha256.update(&buffer[..length]);
            crc32c = crc32c::crc32c_append(crc32c, &buffer[..length]);
            size += length as u64;
        }
    });
    hashed
        .await
        .unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}

/// See [`Storage::delete`].
pub(crate) async fn delete(bucket: &Bucket, key: &Key) -> Result<()> {
    match bucket.json.delete(&bucket.object(key)).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.is_missing() => Ok(()),
        Err(failure) => Err(failure.into_error(bucket, Action::Delete)),
    }
}
