//! Large files in parts: the object appears when the last step is done, and only under a free key.

use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{ChecksumAlgorithm, CompletedMultipartUpload, CompletedPart};
use aws_smithy_types::base64;
use deskreel_sdk::prelude::*;
use deskreel_sdk::tracing;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinSet;

use crate::client::{Bucket, patience};
use crate::error::{Action, Failure};
use crate::settings::CreateOnly;
use crate::write::{Content, Guard, Terms, is_there, put, settle};

/// Up to this size a file goes as one PUT.
const SINGLE_MAX_BYTES: u64 = 16 << 20;
/// The smallest part; they grow with the file. S3 allows 10,000 parts of 5 MiB to 5 GiB.
const PART_MIN_BYTES: u64 = 8 << 20;
const PARTS_MAX: u64 = 10_000;
/// Parts on their way at once, each in memory.
const PARTS_AT_ONCE: usize = 3;
const HASH_BYTES: usize = 1 << 20;

/// See [`Storage::put_file`].
pub(crate) async fn put_file(bucket: &Bucket, key: &Key, path: &Path, options: &PutOptions) -> Result<()> {
    let file = Arc::new(std::fs::File::open(path).context(path.display())?);
    let size = file.metadata().context(path.display())?.len();
    if size <= SINGLE_MAX_BYTES {
        let bytes = read(Arc::clone(&file), 0, size).await.context(path.display())?;
        return put(bucket, key, bytes, options).await;
    }
    let content = hash(Arc::clone(&file), size).await.context(path.display())?;
    let terms = Terms::new(bucket, &content, options)?;
    // Whatever the server does in the end: nothing is sent in vain.
    if is_there(bucket, key, &content).await? {
        return Ok(());
    }
    let upload = Upload::begin(bucket, key, &terms).await?;
    let parts = upload.send(bucket, file, &content, terms.checksum).await?;
    upload.complete(bucket, key, &content, parts).await
}

async fn read(file: Arc<std::fs::File>, from: u64, length: u64) -> Result<Bytes> {
    blocking(move || {
        let length = usize::try_from(length).map_err(|error| Error::invalid_input(error.to_string()))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, from)?;
        Ok(Bytes::from(bytes))
    })
    .await
}

async fn hash(file: Arc<std::fs::File>, size: u64) -> Result<Content> {
    blocking(move || {
        let mut sha256 = Sha256::new();
        let mut buffer = vec![0; HASH_BYTES];
        let mut from = 0;
        while from < size {
            let length = file.read_at(&mut buffer, from)?;
            if length == 0 {
                return Err(Error::invalid_input("the file became shorter while it was read"));
            }
            sha256.update(&buffer[..length]);
            from += length as u64;
        }
        Ok(Content {
            size: from,
            sha256: sha256.finalize().into(),
        })
    })
    .await
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|error| Err(Error::internal(error.to_string())))
}

/// An upload that is aborted unless it is completed, also when its future is dropped.
struct Upload {
    client: Client,
    bucket: String,
    name: String,
    id: String,
    answer_timeout: Duration,
    done: bool,
}

impl Upload {
    async fn begin(bucket: &Bucket, key: &Key, terms: &Terms) -> Result<Self> {
        let name = bucket.object(key);
        let (mode, until) = terms.lock.clone().unzip();
        let mut request = bucket
            .client
            .create_multipart_upload()
            .bucket(&bucket.name)
            .key(&name)
            .set_content_type(terms.content_type.clone())
            .set_server_side_encryption(terms.encryption.clone())
            .set_ssekms_key_id(terms.kms_key.clone())
            .set_storage_class(terms.storage_class.clone())
            .set_acl(terms.acl.clone())
            .set_object_lock_mode(mode)
            .set_object_lock_retain_until_date(until)
            .set_object_lock_legal_hold_status(terms.hold.clone())
            .set_checksum_algorithm(terms.checksum.then_some(ChecksumAlgorithm::Sha256));
        for (name, value) in &terms.metadata {
            request = request.metadata(name, value);
        }
        let answer = request
            .send()
            .await
            .map_err(|error| Failure::from(error).into_error(bucket, Action::Put))?;
        let id = answer
            .upload_id()
            .ok_or_else(|| Error::internal("the server gave the upload no id"))?;
        Ok(Self {
            client: bucket.client.clone(),
            bucket: bucket.name.clone(),
            name,
            id: id.to_owned(),
            answer_timeout: bucket.answer_timeout,
            done: false,
        })
    }

    /// Sends all parts, a few at once, and makes sure that they are what was hashed.
    async fn send(
        &self,
        bucket: &Bucket,
        file: Arc<std::fs::File>,
        content: &Content,
        checksum: bool,
    ) -> Result<Vec<CompletedPart>> {
        let part_bytes = content.size.div_ceil(PARTS_MAX).max(PART_MIN_BYTES);
        let mut sha256 = Sha256::new();
        let mut sending = JoinSet::new();
        let mut parts = Vec::new();
        let mut from = 0;
        for number in 1.. {
            while sending.len() >= PARTS_AT_ONCE || (from >= content.size && !sending.is_empty()) {
                if let Some(sent) = sending.join_next().await {
                    let sent: Result<CompletedPart, Failure> =
                        sent.map_err(|error| Error::internal(error.to_string()))?;
                    parts.push(sent.map_err(|failure| failure.into_error(bucket, Action::Put))?);
                }
            }
            if from >= content.size {
                break;
            }
            let bytes = read(Arc::clone(&file), from, part_bytes.min(content.size - from)).await?;
            from += bytes.len() as u64;
            sha256.update(&bytes);
            sending.spawn(self.part(number, bytes, checksum));
        }
        if <[u8; 32]>::from(sha256.finalize()) != content.sha256 {
            return Err(Error::invalid_input("the file changed while it was read"));
        }
        parts.sort_by_key(CompletedPart::part_number);
        Ok(parts)
    }

    fn part(
        &self,
        number: i32,
        bytes: Bytes,
        checksum: bool,
    ) -> impl Future<Output = Result<CompletedPart, Failure>> + Send + use<> {
        let checksum = checksum.then(|| base64::encode(Sha256::digest(&bytes)));
        let patience = patience(self.answer_timeout, bytes.len());
        let request = self
            .client
            .upload_part()
            .bucket(&self.bucket)
            .key(&self.name)
            .upload_id(&self.id)
            .part_number(number)
            .set_checksum_sha256(checksum.clone())
            .body(ByteStream::from(bytes));
        async move {
            let answer = Box::pin(request.customize().config_override(patience).send()).await?;
            Ok(CompletedPart::builder()
                .part_number(number)
                .set_e_tag(answer.e_tag().map(str::to_owned))
                .set_checksum_sha256(checksum)
                .build())
        }
    }

    async fn complete(
        mut self,
        bucket: &Bucket,
        key: &Key,
        content: &Content,
        parts: Vec<CompletedPart>,
    ) -> Result<()> {
        let guard = bucket.guard();
        if guard != Guard::Server && is_there(bucket, key, content).await? {
            return Ok(());
        }
        let parts = CompletedMultipartUpload::builder().set_parts(Some(parts)).build();
        let request = |conditional: bool| {
            self.client
                .complete_multipart_upload()
                .bucket(&self.bucket)
                .key(&self.name)
                .upload_id(&self.id)
                .set_if_none_match(conditional.then(|| "*".to_owned()))
                .multipart_upload(parts.clone())
                .send()
        };
        let conditional = guard != Guard::Look;
        let mut completed = request(conditional).await.map_err(Failure::from);
        let refused = |completed: &Result<_, Failure>| completed.as_ref().is_err_and(Failure::is_not_implemented);
        // Even servers that know the condition of a PUT may not know it here.
        let looks = conditional && bucket.create_only == CreateOnly::Auto && refused(&completed);
        if looks {
            if guard == Guard::Server && is_there(bucket, key, content).await? {
                return Ok(());
            }
            completed = request(false).await.map_err(Failure::from);
        }
        if let Err(failure) = completed {
            return settle(bucket, key, content, failure).await;
        }
        self.done = true;
        if (guard == Guard::Server && !looks) || is_there(bucket, key, content).await? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Interrupted, "stored, but not there any more"))
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let request = self
            .client
            .abort_multipart_upload()
            .bucket(&self.bucket)
            .key(&self.name)
            .upload_id(&self.id);
        let name = self.name.clone();
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        runtime.spawn(async move {
            if let Err(error) = request.send().await {
                let permission = Action::Abort.permission();
                tracing::warn!(name, permission, error = ?Failure::from(error), "parts of an upload that failed stay in the bucket until its lifecycle rule removes them");
            }
        });
    }
}
