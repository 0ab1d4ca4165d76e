//! Writing and deleting. An object is never overwritten; who put it first is settled by its SHA-256.

use std::collections::BTreeMap;

use aws_sdk_s3::operation::put_object::builders::PutObjectFluentBuilder;
use aws_sdk_s3::primitives::{ByteStream, DateTime};
use aws_sdk_s3::types::{
    ChecksumAlgorithm, ObjectCannedAcl, ObjectLockLegalHoldStatus, ObjectLockMode, ServerSideEncryption, StorageClass,
};
use aws_smithy_types::base64;
use deskreel_sdk::bucket::{self as shared, Unsettled};
use deskreel_sdk::prelude::*;
use deskreel_sdk::tracing;
use sha2::{Digest as _, Sha256};

use crate::client::Bucket;
use crate::error::{Action, Failure};
use crate::read::{Facts, facts, get};
use crate::settings::{Acl, Checksums, CreateOnly, Encryption, ObjectLock};

/// User metadata that holds an object's SHA-256 in hex.
pub(crate) const DIGEST: &str = "deskreel-sha256";
/// What may be kept as user metadata beside it: S3 allows 2 KiB in all.
const METADATA_MAX_BYTES: usize = 1536;
/// How much is read at once to compare an object of another writer.
const COMPARE_BYTES: u64 = 8 << 20;

/// The digest of what is to be stored.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
}

impl Content {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            sha256: Sha256::digest(bytes).into(),
        }
    }

    pub(crate) fn hex(&self) -> String {
        hex::encode(self.sha256)
    }
}

/// What goes with an object besides its bytes; the same for one PUT and for an upload in parts.
pub(crate) struct Terms {
    pub(crate) content_type: Option<String>,
    pub(crate) metadata: BTreeMap<String, String>,
    pub(crate) encryption: Option<ServerSideEncryption>,
    pub(crate) kms_key: Option<String>,
    pub(crate) storage_class: Option<StorageClass>,
    pub(crate) acl: Option<ObjectCannedAcl>,
    pub(crate) lock: Option<(ObjectLockMode, DateTime)>,
    pub(crate) hold: Option<ObjectLockLegalHoldStatus>,
    /// Whether a checksum goes with the bytes. S3 refuses a locked object without.
    pub(crate) checksum: bool,
}

impl Terms {
    /// # Errors
    /// `Unsupported` where a lock is asked for and the settings have none.
    pub(crate) fn new(bucket: &Bucket, content: &Content, options: &PutOptions) -> Result<Self> {
        let mut metadata = shared::header_metadata(&options.metadata, METADATA_MAX_BYTES);
        metadata.insert(DIGEST.to_owned(), content.hex());
        let wants_lock = options.retain_until_unix_s.is_some() || options.legal_hold;
        if wants_lock && bucket.object_lock.is_none() {
            return Err(Error::unsupported(
                "retention and legal hold need the setting `object_lock`",
            ));
        }
        let lock = bucket
            .object_lock
            .zip(options.retain_until_unix_s)
            .map(|(mode, until)| {
                let mode = match mode {
                    ObjectLock::Governance => ObjectLockMode::Governance,
                    ObjectLock::Compliance => ObjectLockMode::Compliance,
                };
                (mode, DateTime::from_secs(i64::try_from(until).unwrap_or(i64::MAX)))
            });
        Ok(Self {
            content_type: options.content_type.clone(),
            metadata,
            encryption: bucket.encryption.map(|encryption| match encryption {
                Encryption::Aes256 => ServerSideEncryption::Aes256,
                Encryption::AwsKms => ServerSideEncryption::AwsKms,
                Encryption::AwsKmsDsse => ServerSideEncryption::AwsKmsDsse,
            }),
            kms_key: bucket.kms_key.clone(),
            storage_class: bucket.storage_class.as_deref().map(StorageClass::from),
            acl: bucket.acl.map(|acl| match acl {
                Acl::Private => ObjectCannedAcl::Private,
                Acl::BucketOwnerRead => ObjectCannedAcl::BucketOwnerRead,
                Acl::BucketOwnerFullControl => ObjectCannedAcl::BucketOwnerFullControl,
            }),
            lock,
            hold: options.legal_hold.then_some(ObjectLockLegalHoldStatus::On),
            checksum: wants_lock || bucket.checksums == Checksums::WhenSupported,
        })
    }
}

/// How an object is to be kept from being overwritten, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Guard {
    /// The server refuses to overwrite.
    Server,
    /// It has to be looked first, and once more afterwards.
    Look,
    /// Both, until it is known what the server does.
    Both,
}

impl Bucket {
    pub(crate) fn guard(&self) -> Guard {
        match (self.create_only, self.conditions.get()) {
            (CreateOnly::IfNoneMatch, _) | (CreateOnly::Auto, Some(true)) => Guard::Server,
            (CreateOnly::CheckFirst, _) | (CreateOnly::Auto, Some(false)) => Guard::Look,
            (CreateOnly::Auto, None) => Guard::Both,
        }
    }

    pub(crate) fn learn_conditions(&self, honoured: bool) {
        if self.conditions.set(honoured).is_ok() && !honoured {
            tracing::warn!(
                bucket = self.name,
                "the server ignores If-None-Match: each put looks before and after, and two writers at the same moment may both win"
            );
        }
    }
}

/// See [`Storage::put`].
pub(crate) async fn put(bucket: &Bucket, key: &Key, bytes: Bytes, options: &PutOptions) -> Result<()> {
    let content = Content::of(&bytes);
    let terms = Terms::new(bucket, &content, options)?;
    let request = || request(bucket, key, &bytes, &content, &terms);
    let guard = bucket.guard();
    if guard != Guard::Server && is_there(bucket, key, &content).await? {
        return Ok(());
    }
    let patience = || bucket.patience(bytes.len());
    let mut conditional = guard != Guard::Look;
    let mut sent = request()
        .set_if_none_match(conditional.then(|| "*".to_owned()))
        .customize()
        .config_override(patience())
        .send()
        .await;
    if guard == Guard::Both
        && let Err(error) = sent
    {
        let failure = Failure::from(error);
        if !failure.is_not_implemented() {
            return settle(bucket, key, &content, failure).await;
        }
        conditional = false;
        sent = request().customize().config_override(patience()).send().await;
        // Where this is refused too, it was not for the condition.
        if sent.is_ok() {
            bucket.learn_conditions(false);
        }
    }
    if let Err(error) = sent {
        return settle(bucket, key, &content, Failure::from(error)).await;
    }
    if guard == Guard::Both && conditional {
        // The same bytes once more: whether this is refused tells what the server does, and changes nothing where it isn't.
        match request()
            .if_none_match("*")
            .customize()
            .config_override(patience())
            .send()
            .await
            .map_err(Failure::from)
        {
            Ok(_) => bucket.learn_conditions(false),
            Err(failure) if failure.is_conflict() => bucket.learn_conditions(true),
            // It is stored. The next put finds out.
            Err(_) => return Ok(()),
        }
    }
    if bucket.guard() == Guard::Look && !is_there(bucket, key, &content).await? {
        return Err(Error::new(ErrorKind::Interrupted, "stored, but not there any more"));
    }
    Ok(())
}

fn request(bucket: &Bucket, key: &Key, bytes: &Bytes, content: &Content, terms: &Terms) -> PutObjectFluentBuilder {
    let (mode, until) = terms.lock.clone().unzip();
    let mut request = bucket
        .client
        .put_object()
        .bucket(&bucket.name)
        .key(bucket.object(key))
        .body(ByteStream::from(bytes.clone()))
        .set_content_type(terms.content_type.clone())
        .set_server_side_encryption(terms.encryption.clone())
        .set_ssekms_key_id(terms.kms_key.clone())
        .set_storage_class(terms.storage_class.clone())
        .set_acl(terms.acl.clone())
        .set_object_lock_mode(mode)
        .set_object_lock_retain_until_date(until)
        .set_object_lock_legal_hold_status(terms.hold.clone());
    for (name, value) in &terms.metadata {
        request = request.metadata(name, value);
    }
    if terms.checksum {
        // Of what was hashed anyway: the SDK then computes none of its own.
        request = request
            .checksum_sha256(base64::encode(content.sha256))
            // Some servers take this header alone for a checksum, and none else for locked objects.
            .checksum_algorithm(ChecksumAlgorithm::Sha256);
    }
    request
}

/// A put was refused or its answer got lost: success if the object is there as it should be.
pub(crate) async fn settle(bucket: &Bucket, key: &Key, content: &Content, failure: Failure) -> Result<()> {
    let unknown = failure.is_unknown_outcome();
    let put = if failure.is_conflict() {
        Unsettled::Taken
    } else if unknown {
        Unsettled::Unknown(failure.into_error(bucket, Action::Put))
    } else {
        Unsettled::Refused(failure.into_error(bucket, Action::Put))
    };
    shared::settle(put, is_there(bucket, key, content)).await
}

/// Whether the object is there with these bytes.
///
/// # Errors
/// `AlreadyExists` if it is there with others.
pub(crate) async fn is_there(bucket: &Bucket, key: &Key, content: &Content) -> Result<bool> {
    let there = match facts(bucket, &bucket.object(key)).await {
        Ok(there) => there,
        Err(failure) if failure.is_missing() => return Ok(false),
        Err(failure) => {
            let denied = failure.is_denied() && bucket.guard() == Guard::Both;
            let error = failure.into_error(bucket, Action::Get);
            let hint =
                "look whether the object exists (credentials that may only write need `create_only: if_none_match`)";
            return Err(if denied { error.with_context(hint) } else { error });
        }
    };
    let same = there.size == content.size
        && match &there.digest {
            Some(digest) => *digest == content.hex(),
            // Of another writer, or copied without its metadata.
            None => digest(bucket, key, &there).await? == content.sha256,
        };
    if same { Ok(true) } else { Err(shared::other_bytes()) }
}

async fn digest(bucket: &Bucket, key: &Key, there: &Facts) -> Result<[u8; 32]> {
    let mut sha256 = Sha256::new();
    let mut from = 0;
    while from < there.size {
        let to = there.size.min(from + COMPARE_BYTES);
        sha256.update(Box::pin(get(bucket, key, from..to)).await?);
        from = to;
    }
    Ok(sha256.finalize().into())
}

/// See [`Storage::delete`].
pub(crate) async fn delete(bucket: &Bucket, key: &Key) -> Result<()> {
    let name = bucket.object(key);
    let mut version = None;
    let mut locked = None;
    if bucket.object_lock.is_some() {
        // Without its version, a locked object is only hidden: nothing would refuse, and its bytes would stay for ever.
        match facts(bucket, &name).await {
            Ok(facts) => (version, locked) = (facts.version, facts.locked),
            Err(failure) if failure.is_missing() => return Ok(()),
            Err(failure) => return Err(failure.into_error(bucket, Action::Get)),
        }
    }
    let action = if version.is_some() {
        Action::DeleteVersion
    } else {
        Action::Delete
    };
    match bucket
        .client
        .delete_object()
        .bucket(&bucket.name)
        .key(name)
        .set_version_id(version)
        .send()
        .await
    {
        Ok(_) => Ok(()),
        Err(error) => match Failure::from(error) {
            failure if failure.is_missing() => Ok(()),
            failure => {
                let error = failure.into_error(bucket, action);
                Err(match locked {
                    Some(locked) if error.kind() == ErrorKind::PermissionDenied => error.with_context(locked),
                    _ => error,
                })
            }
        },
    }
}
