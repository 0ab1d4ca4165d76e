//! From the SDK's errors to those that the engine acts on and that people understand.

use std::error::Error as StdError;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use deskreel_sdk::bucket::{chain, foreign};
use deskreel_sdk::prelude::*;

use crate::client::Bucket;

/// What was asked for, by the permission that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Put,
    Get,
    List,
    Delete,
    DeleteVersion,
    Abort,
}

impl Action {
    pub(crate) fn permission(self) -> &'static str {
        match self {
            Self::Put => "s3:PutObject",
            Self::Get => "s3:GetObject",
            Self::List => "s3:ListBucket",
            Self::Delete => "s3:DeleteObject",
            Self::DeleteVersion => "s3:DeleteObjectVersion",
            Self::Abort => "s3:AbortMultipartUpload",
        }
    }
}

/// What came back instead of an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    status: u16,
    code: String,
    message: String,
    retry_after: Option<Duration>,
    /// Where the bucket is, if the server says.
    region: Option<String>,
    /// Set where no server answered.
    silence: Option<Error>,
}

impl Failure {
    /// The name is taken, or somebody else is about to take it.
    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.status, 412) || self.code == "ConditionalRequestConflict"
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.code == "NoSuchKey" || (self.status == 404 && self.code != "NoSuchBucket" && self.code != "NoSuchUpload")
    }

    /// The range starts at or behind the object's end.
    pub(crate) fn is_bad_range(&self) -> bool {
        self.status == 416
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.status == 403 && matches!(self.code.as_str(), "AccessDenied" | "403" | "Forbidden" | "")
    }

    /// A header that the server doesn't know, as far as one can tell: there is no code for that, and servers don't agree on one.
    pub(crate) fn is_not_implemented(&self) -> bool {
        let unspecific = [
            "InvalidArgument",
            "InvalidRequest",
            "NotSupported",
            "UnsupportedOperation",
            "",
        ];
        self.status == 501
            || self.code == "NotImplemented"
            || (self.status == 400 && unspecific.contains(&self.code.as_str()))
    }

    /// The bucket has no object lock.
    pub(crate) fn is_without_lock(&self) -> bool {
        self.code == "ObjectLockConfigurationNotFoundError"
    }

    /// The request may have been carried out all the same.
    pub(crate) fn is_unknown_outcome(&self) -> bool {
        self.silence.is_some() || self.status >= 500
    }

    /// The error for the engine.
    pub(crate) fn into_error(self, bucket: &Bucket, action: Action) -> Error {
        match self.silence {
            Some(error) => error,
            None => self.answered(bucket, action),
        }
    }

    fn answered(self, bucket: &Bucket, action: Action) -> Error {
        let said = self.said();
        let name = &bucket.name;
        let region_is_wrong = matches!(self.status, 301 | 307 | 308)
            || matches!(
                self.code.as_str(),
                "AuthorizationHeaderMalformed" | "IllegalLocationConstraintException" | "PermanentRedirect"
            );
        let (kind, text) = match self.code.as_str() {
            _ if region_is_wrong => {
                let used = bucket.client.config().region().map_or("none", |region| region.as_ref());
                let there = self
                    .region
                    .as_deref()
                    .map_or_else(String::new, |there| format!(", the bucket is in {there}"));
                (
                    ErrorKind::InvalidSettings,
                    format!("region: {used} is not the bucket's{there}, or `endpoint` is another region's: {said}"),
                )
            }
            "NoSuchBucket" => (
                ErrorKind::InvalidSettings,
                format!("bucket: there is no bucket `{name}`: {said}"),
            ),
            "InvalidBucketName" => (
                ErrorKind::InvalidSettings,
                format!("bucket: no bucket can be named `{name}`: {said}"),
            ),
            "InvalidStorageClass" => (ErrorKind::InvalidSettings, format!("storage_class: {said}")),
            code if code.starts_with("KMS.") => (ErrorKind::InvalidSettings, format!("kms_key: {said}")),
            "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidSecurity" | "NotSignedUp" => (
                ErrorKind::Unauthenticated,
                format!("the credentials are not valid here: {said}"),
            ),
            "ExpiredToken" | "ExpiredTokenException" | "InvalidToken" | "TokenRefreshRequired" => (
                ErrorKind::Unauthenticated,
                format!("the credentials have expired: {said}"),
            ),
            "RequestTimeTooSkewed" | "RequestExpired" => (
                ErrorKind::Unavailable,
                format!("the clocks of this machine and of the server differ too much: {said}"),
            ),
            "InvalidObjectState" => (
                ErrorKind::Unsupported,
                format!("the object is archived and has to be restored first: {said}"),
            ),
            "SlowDown"
            | "SlowDownRead"
            | "SlowDownWrite"
            | "Throttling"
            | "ThrottlingException"
            | "RequestLimitExceeded"
            | "TooManyRequests"
            | "BandwidthLimitExceeded" => (ErrorKind::RateLimited, said),
            "RequestTimeout" | "RequestTimeoutException" => (ErrorKind::Timeout, said),
            "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "BadDigest" | "InvalidDigest" => (
                ErrorKind::Interrupted,
                format!(
                    "other bytes arrived than were sent (a server that doesn't know the newer headers says so too: `checksums: when_required`): {said}"
                ),
            ),
            "QuotaExceeded"
            | "QuotaExceededException"
            | "InsufficientStorage"
            | "XMinioStorageFull"
            | "TotalSizeExceeded" => (ErrorKind::NoSpace, said),
            "EntityTooLarge" => (ErrorKind::InvalidInput, said),
            "NotImplemented" => (
                ErrorKind::InvalidSettings,
                format!("the server can't do what the settings ask for: {said}"),
            ),
            "InvalidRequest" if said.to_ascii_lowercase().contains("object lock") => {
                (ErrorKind::InvalidSettings, format!("object_lock: {said}"))
            }
            _ => match self.status {
                401 => (
                    ErrorKind::Unauthenticated,
                    format!("the credentials are not accepted: {said}"),
                ),
                403 => (
                    ErrorKind::PermissionDenied,
                    format!("{} is missing: {said}", permission_of(&said, action)),
                ),
                404 => (ErrorKind::NotFound, said),
                408 => (ErrorKind::Timeout, said),
                429 => (ErrorKind::RateLimited, said),
                507 => (ErrorKind::NoSpace, said),
                500.. => (ErrorKind::Unavailable, said),
                _ => (ErrorKind::Internal, said),
            },
        };
        let error = Error::new(kind, text);
        match self.retry_after {
            Some(after) if kind.is_retryable() => error.with_retry_after(after),
            _ => error,
        }
    }

    fn said(&self) -> String {
        let said = match (self.code.as_str(), self.message.as_str()) {
            ("", "") => "the server says no more".to_owned(),
            ("", text) => text.to_owned(),
            (code, "") => code.to_owned(),
            (code, text) => format!("{code}: {text}"),
        };
        foreign(&format!("HTTP {}, {said}", self.status))
    }
}

/// What Amazon says is missing (`not authorized to perform: kms:GenerateDataKey`), else what the action needs.
fn permission_of(said: &str, action: Action) -> String {
    let named = said
        .split("to perform: ")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    match (named, action) {
        (Some(named), _) => named.to_owned(),
        // Without the right to list, Amazon says "denied" of what doesn't exist.
        (None, Action::Get) => "s3:GetObject (or, if there is no such object, s3:ListBucket)".to_owned(),
        (None, action) => action.permission().to_owned(),
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        let (code, message) = error
            .as_service_error()
            .map_or((None, None), |error| (error.meta().code(), error.meta().message()));
        let header = |name: &str| {
            error
                .raw_response()
                .and_then(|response| response.headers().get(name))
                .map(str::to_owned)
        };
        let answered = matches!(&error, SdkError::ServiceError(_));
        Self {
            status: error.raw_response().map_or(0, |response| response.status().as_u16()),
            code: code.unwrap_or_default().to_owned(),
            message: message.unwrap_or_default().to_owned(),
            retry_after: header("retry-after")
                .and_then(|text| text.parse().ok())
                .map(Duration::from_secs),
            region: header("x-amz-bucket-region"),
            silence: if answered {
                None
            } else {
                Some(silence(
                    &error,
                    matches!(&error, SdkError::TimeoutError(_)),
                    timed_out(&error),
                ))
            },
        }
    }
}

fn timed_out<E>(error: &SdkError<E, HttpResponse>) -> bool {
    matches!(error, SdkError::DispatchFailure(failure) if failure.is_timeout())
}

/// The error for a request that got no answer, or none that can be read.
fn silence(error: &(dyn StdError + 'static), attempt_over: bool, connect_over: bool) -> Error {
    let mut credentials = None;
    let mut next = Some(error);
    while let Some(error) = next {
        credentials = credentials.or_else(|| error.downcast_ref::<CredentialsError>());
        next = error.source();
    }
    let said = chain(error);
    match credentials {
        Some(CredentialsError::CredentialsNotLoaded(_)) => {
            let text = format!(
                "no credentials: neither settings nor environment, profile, container or instance have any: {said}"
            );
            return Error::new(ErrorKind::Unauthenticated, text);
        }
        Some(CredentialsError::InvalidConfiguration(_)) => {
            return Error::new(ErrorKind::Unauthenticated, format!("credentials: {said}"));
        }
        Some(_) => return Error::new(ErrorKind::Unavailable, format!("credentials can't be had now: {said}")),
        None => {}
    }
    if attempt_over {
        return Error::new(ErrorKind::Timeout, format!("no answer in time: {said}"));
    }
    if connect_over {
        return Error::new(ErrorKind::Timeout, format!("no connection in time: {said}"));
    }
    let lower = said.to_ascii_lowercase();
    if lower.contains("invalidcontenttype") {
        let text =
            format!("the server does not speak TLS there (setting `endpoint`: http:// or another port?): {said}");
        return Error::new(ErrorKind::Unavailable, text);
    }
    if lower.contains("certificate") {
        return Error::new(
            ErrorKind::Unavailable,
            format!("the server's certificate is not trusted (setting `ca`): {said}"),
        );
    }
    Error::new(ErrorKind::Unavailable, format!("the server can't be reached: {said}"))
}

/// The error for a body that broke off.
pub(crate) fn broken_body(error: &(dyn StdError + 'static)) -> Error {
    let error = silence(error, false, false);
    Error::new(
        ErrorKind::Interrupted,
        format!("the answer broke off: {}", error.message()),
    )
}
