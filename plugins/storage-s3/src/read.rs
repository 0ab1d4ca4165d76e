//! Reading: whole objects and ranges, taken up again where they broke off, and facts.

use std::ops::Range;
use std::time::Duration;

use aws_sdk_s3::operation::get_object::GetObjectOutput;
use deskreel_sdk::bytes::BytesMut;
use deskreel_sdk::prelude::*;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use crate::client::Bucket;
use crate::error::{Action, Failure, broken_body};
use crate::write::DIGEST;

/// How often a body that breaks off is taken up again.
const RESUMES_MAX: u32 = 5;
const RESUME_PAUSE: Duration = Duration::from_millis(200);
/// What an answer may make us set aside in one go, before its bytes are there.
const RESERVE_MAX_BYTES: u64 = 64 << 20;
/// No object is longer; offsets behind it aren't sent to servers, some of which read them as negative.
const OFFSET_MAX: u64 = 1 << 53;

/// What a server knows of an object.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    pub(crate) size: u64,
    pub(crate) modified_unix_ms: Option<u64>,
    /// SHA-256 in hex, if we stored it.
    pub(crate) digest: Option<String>,
    pub(crate) version: Option<String>,
    /// Until when it may not be deleted, in words.
    pub(crate) locked: Option<String>,
}

/// Asks for an object's facts.
pub(crate) async fn facts(bucket: &Bucket, name: &str) -> Result<Facts, Failure> {
    let head = bucket
        .client
        .head_object()
        .bucket(&bucket.name)
        .key(name)
        .send()
        .await?;
    let retained = head
        .object_lock_retain_until_date()
        .map(|until| format!("retained until {until}"));
    let held = head
        .object_lock_legal_hold_status()
        .is_some_and(|status| status.as_str() == "ON");
    Ok(Facts {
        size: head
            .content_length()
            .and_then(|size| u64::try_from(size).ok())
            .unwrap_or(0),
        modified_unix_ms: head
            .last_modified()
            .and_then(|at| at.to_millis().ok())
            .and_then(|ms| u64::try_from(ms).ok()),
        digest: head.metadata().and_then(|metadata| metadata.get(DIGEST)).cloned(),
        version: head
            .version_id()
            .filter(|version| *version != "null")
            .map(str::to_owned),
        locked: if held {
            Some("under a legal hold".to_owned())
        } else {
            retained
        },
    })
}

/// See [`Storage::stat`].
pub(crate) async fn stat(bucket: &Bucket, key: &Key) -> Result<ObjectInfo> {
    let facts = facts(bucket, &bucket.object(key))
        .await
        .map_err(|failure| failure.into_error(bucket, Action::Get))?;
    let mut info = ObjectInfo::new(key.clone(), facts.size);
    info.modified_unix_ms = facts.modified_unix_ms;
    Ok(info)
}

/// See [`Storage::get`].
pub(crate) async fn get(bucket: &Bucket, key: &Key, range: Range<u64>) -> Result<Bytes> {
    if range.start > range.end {
        return Err(Error::invalid_input(format!(
            "range {}..{} is reversed",
            range.start, range.end
        )));
    }
    if range.is_empty() || range.start > OFFSET_MAX {
        return at_end(bucket, key, &range).await;
    }
    let mut reading = Reading {
        name: bucket.object(key),
        bytes: BytesMut::new(),
        range,
        tag: None,
        expected: None,
        digest: None,
        surplus: false,
    };
    let mut resumes = 0;
    loop {
        let error = match reading.go_on(bucket).await {
            Ok(Step::Done) => return Ok(reading.bytes.freeze()),
            Ok(Step::BehindEnd) => return at_end(bucket, key, &reading.range).await,
            Ok(Step::Again(error)) => error,
            Err(error) => return Err(error),
        };
        resumes += 1;
        if resumes > RESUMES_MAX {
            return Err(error);
        }
        tokio::time::sleep(RESUME_PAUSE * resumes).await;
    }
}

/// The answer where a range has nothing to read: depends on the object's size alone.
async fn at_end(bucket: &Bucket, key: &Key, range: &Range<u64>) -> Result<Bytes> {
    let size = stat(bucket, key).await?.size;
    if range.start > size {
        let Range { start, end } = range;
        return Err(Error::invalid_input(format!(
            "range {start}..{end} of an object of {size} bytes"
        )));
    }
    if !range.is_empty() && range.start < size {
        return Err(Error::new(
            ErrorKind::Interrupted,
            "the object changed while it was read",
        ));
    }
    Ok(Bytes::new())
}

enum Step {
    Done,
    BehindEnd,
    /// What went wrong, and may go right the next time.
    Again(Error),
}

struct Reading {
    name: String,
    range: Range<u64>,
    bytes: BytesMut,
    /// The first answer's entity tag: what follows must be of the same object.
    tag: Option<String>,
    /// How many bytes there are to be.
    expected: Option<u64>,
    /// SHA-256 of the whole object, if the range is all of it.
    digest: Option<String>,
    /// Whether the answer has more than was asked for, as of servers that know no ranges.
    surplus: bool,
}

impl Reading {
    async fn go_on(&mut self, bucket: &Bucket) -> Result<Step> {
        let from = self.range.start + self.bytes.len() as u64;
        let request = bucket
            .client
            .get_object()
            .bucket(&bucket.name)
            .key(&self.name)
            .set_if_match(self.tag.clone());
        let request = match (from, self.range.end) {
            (0, end) if end > OFFSET_MAX => request,
            (from, end) if end > OFFSET_MAX => request.range(format!("bytes={from}-")),
            (from, end) => request.range(format!("bytes={from}-{}", end - 1)),
        };
        let mut answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let failure = Failure::from(error);
                if failure.is_bad_range() && self.bytes.is_empty() {
                    return Ok(Step::BehindEnd);
                }
                if failure.is_conflict() {
                    return Err(Error::new(
                        ErrorKind::Interrupted,
                        "the object changed while it was read",
                    ));
                }
                let error = failure.into_error(bucket, Action::Get);
                // The SDK has tried already; a body that has begun is worth more.
                return if error.kind().is_retryable() && !self.bytes.is_empty() {
                    Ok(Step::Again(error))
                } else {
                    Err(error)
                };
            }
        };
        let mut skip = match self.begin(&answer, from) {
            Ok(skip) => skip,
            Err(step) => return Ok(step),
        };
        loop {
            let chunk = match timeout(bucket.answer_timeout, answer.body.next()).await {
                Ok(Some(Ok(chunk))) => chunk,
                Ok(Some(Err(error))) => return Ok(Step::Again(broken_body(&error))),
                Ok(None) => return Ok(self.end()),
                Err(_) => {
                    return Ok(Step::Again(Error::new(
                        ErrorKind::Timeout,
                        format!("no more of the answer for {:?}", bucket.answer_timeout),
                    )));
                }
            };
            let cut = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
            skip -= cut as u64;
            self.bytes.extend_from_slice(&chunk[cut..]);
            // Else the body is read to its end, which keeps the connection.
            if self.surplus
                && self
                    .expected
                    .is_some_and(|expected| self.bytes.len() as u64 >= expected)
            {
                return Ok(self.end());
            }
        }
    }

    /// Reads an answer's headers; gives the bytes to skip where the server didn't honour the range.
    fn begin(&mut self, answer: &GetObjectOutput, from: u64) -> Result<u64, Step> {
        let sent = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let part = answer.content_range().and_then(|text| {
            let (place, total) = text.strip_prefix("bytes ")?.split_once('/')?;
            Some((place.split_once('-')?.0.parse::<u64>().ok()?, total.parse::<u64>().ok()))
        });
        let (at, total) = match part {
            Some((at, total)) => (at, total),
            None => (0, sent),
        };
        if at > from {
            return Err(Step::Again(Error::new(
                ErrorKind::Interrupted,
                "the server sent another range than asked for",
            )));
        }
        if total.is_some_and(|total| self.range.start > total || (self.range.start == total && total > 0)) {
            return Err(Step::BehindEnd);
        }
        if self.expected.is_none() {
            self.expected = total.map(|total| self.range.end.min(total) - self.range.start);
            if self.range.start == 0 && total.is_some_and(|total| self.range.end >= total) {
                self.digest = answer.metadata().and_then(|metadata| metadata.get(DIGEST)).cloned();
            }
            let reserve = self.expected.unwrap_or(0).min(RESERVE_MAX_BYTES);
            self.bytes.reserve(usize::try_from(reserve).unwrap_or(0));
        }
        let wanted = self.expected.map(|expected| self.range.start + expected);
        self.surplus = wanted.zip(sent).is_some_and(|(wanted, sent)| at + sent > wanted);
        self.tag = self.tag.take().or_else(|| answer.e_tag().map(str::to_owned));
        Ok(from - at)
    }

    fn end(&mut self) -> Step {
        if let Some(expected) = self.expected {
            let expected = usize::try_from(expected).unwrap_or(usize::MAX);
            if self.bytes.len() < expected {
                return Step::Again(Error::new(
                    ErrorKind::Interrupted,
                    "the answer was shorter than announced",
                ));
            }
            self.bytes.truncate(expected);
        }
        if self
            .digest
            .as_ref()
            .is_some_and(|digest| *digest != hex::encode(Sha256::digest(&self.bytes)))
        {
            self.start_over();
            return Step::Again(Error::new(
                ErrorKind::Corrupt,
                "the bytes are not those that were stored: their SHA-256 differs",
            ));
        }
        Step::Done
    }

    fn start_over(&mut self) {
        self.bytes.clear();
        self.expected = None;
    }
}
