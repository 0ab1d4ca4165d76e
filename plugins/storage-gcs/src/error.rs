//! From the library's errors to those that the engine acts on and that people understand.

use std::error::Error as StdError;
use std::time::Duration;

use deskreel_sdk::bucket::{chain, foreign};
use deskreel_sdk::prelude::*;
use deskreel_sdk::serde_json::{self, Value};
use google_cloud_gax::error::{CredentialsError, Error as LibraryError};
use google_cloud_storage::error::{ReadError, WriteError};

use crate::client::Bucket;

/// What was asked for, by the permission that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Create,
    Get,
    List,
    Delete,
}

impl Action {
    pub(crate) fn permission(self) -> &'static str {
        match self {
            Self::Create => "storage.objects.create",
            Self::Get => "storage.objects.get",
            Self::List => "storage.objects.list",
            Self::Delete => "storage.objects.delete",
        }
    }
}

/// What came back instead of an answer.
#[derive(Debug)]
pub(crate) struct Failure {
    /// 0 where no server answered.
    status: u16,
    reason: String,
    message: String,
    retry_after: Option<Duration>,
    /// Set where no server answered.
    silence: Option<Box<Error>>,
    /// An object came without the headers that the library needs to read it.
    bare: bool,
    /// Where no connection could be made to: `host:port`.
    unreached: Option<String>,
}

impl Failure {
    /// A server's refusal.
    pub(crate) fn answered(status: u16, headers: &http::HeaderMap, body: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(body).unwrap_or_default();
        let error = &value["error"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let plain = || String::from_utf8_lossy(body).into_owned();
        Self {
            status,
            reason: text(&error["errors"][0]["reason"]),
            message: error["message"].as_str().map_or_else(plain, str::to_owned),
            retry_after: retry_after(headers),
            silence: None,
            bare: false,
            unreached: None,
        }
    }

    /// No answer.
    pub(crate) fn silence(error: Error) -> Self {
        Self {
            status: 0,
            reason: String::new(),
            message: String::new(),
            retry_after: None,
            silence: Some(Box::new(error)),
            bare: false,
            unreached: None,
        }
    }

    /// No answer in time.
    pub(crate) fn late(after: Duration) -> Self {
        Self::silence(Error::new(
            ErrorKind::Timeout,
            format!("no answer within {after:?} (setting `answer_timeout`) and the time of the bytes"),
        ))
    }

    pub(crate) fn is_conflict(&self) -> bool {
        matches!(self.status, 409 | 412)
    }

    pub(crate) fn is_missing(&self) -> bool {
        self.status == 404
    }

    /// Nobody answered.
    pub(crate) fn is_silence(&self) -> bool {
        self.silence.is_some()
    }

    /// Whether no connection could be made to another address than `server` (`host:port`), as one that the server itself named.
    pub(crate) fn leads_nowhere(&self, server: &str) -> bool {
        self.unreached.as_ref().is_some_and(|address| address != server)
    }

    /// The server sent the bytes, but not what the library must know of them.
    pub(crate) fn is_bare(&self) -> bool {
        self.bare
    }

    pub(crate) fn is_bad_range(&self) -> bool {
        self.status == 416
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.status == 403 && !self.is_rate() && !self.is_locked()
    }

    pub(crate) fn is_transient(&self) -> bool {
        let retryable = |error: &Error| error.kind().is_retryable();
        self.silence
            .as_ref()
            .map_or(matches!(self.status, 408 | 429 | 500..), |error| retryable(error))
    }

    /// The request may have been carried out all the same.
    pub(crate) fn is_unknown_outcome(&self) -> bool {
        self.silence.is_some() || self.status >= 500
    }

    fn is_rate(&self) -> bool {
        matches!(self.reason.as_str(), "rateLimitExceeded" | "userRateLimitExceeded")
    }

    fn is_locked(&self) -> bool {
        self.reason == "retentionPolicyNotMet" || self.message.contains("hold") || self.message.contains("retention")
    }

    /// The error for the engine.
    pub(crate) fn into_error(self, bucket: &Bucket, action: Action) -> Error {
        let said = self.said();
        if let Some(error) = self.silence {
            return *error;
        }
        let name = &bucket.name;
        let no_bucket = self.status == 404
            && (matches!(action, Action::Create | Action::List) || self.message.contains("bucket does not exist"));
        let (kind, text) = match self.status {
            _ if no_bucket => (
                ErrorKind::InvalidSettings,
                format!("bucket: there is no bucket `{name}`: {said}"),
            ),
            404 => (ErrorKind::NotFound, said),
            400 if said.contains("CRC32C") || said.contains("MD5") => (
                ErrorKind::Interrupted,
                format!("other bytes arrived than were sent: {said}"),
            ),
            400 => (
                ErrorKind::InvalidSettings,
                format!("the server refuses what the settings ask for: {said}"),
            ),
            401 => (
                ErrorKind::Unauthenticated,
                format!("the credentials are not accepted: {said}"),
            ),
            403 if self.is_rate() => (ErrorKind::RateLimited, said),
            403 if self.is_locked() => (ErrorKind::PermissionDenied, format!("held or retained: {said}")),
            403 => (
                ErrorKind::PermissionDenied,
                format!("{} is missing: {said}", permission_of(&said, action)),
            ),
            408 => (ErrorKind::Timeout, said),
            409 | 412 => (ErrorKind::Interrupted, said),
            413 => (ErrorKind::InvalidInput, said),
            429 => (ErrorKind::RateLimited, said),
            507 => (ErrorKind::NoSpace, said),
            500.. => (ErrorKind::Unavailable, said),
            _ => (ErrorKind::Internal, said),
        };
        let error = Error::new(kind, text);
        match self.retry_after {
            Some(after) if kind.is_retryable() => error.with_retry_after(after),
            _ => error,
        }
    }

    fn said(&self) -> String {
        let said = match (self.reason.as_str(), self.message.as_str()) {
            ("", "") => "the server says no more".to_owned(),
            ("", text) => text.to_owned(),
            (reason, text) => format!("{reason}: {text}"),
        };
        foreign(&format!("HTTP {}, {said}", self.status))
    }
}

impl From<LibraryError> for Failure {
    fn from(error: LibraryError) -> Self {
        // The errors of retry loops wrap those that matter.
        let mut next: Option<&(dyn StdError + 'static)> = Some(&error);
        while let Some(inner) = next {
            if let Some(error) = inner.downcast_ref::<LibraryError>()
                && let Some(status) = error.http_status_code()
            {
                return of_library(error, status);
            }
            if let Some(ReadError::MissingHeader(_)) = inner.downcast_ref::<ReadError>() {
                let mut failure = Self::silence(unanswered(&error));
                failure.bare = true;
                return failure;
            }
            next = inner.source();
        }
        let mut failure = Self::silence(unanswered(&error));
        failure.unreached = unreached(&error);
        failure
    }
}

/// Where no connection could be made to, if that is what an error says.
fn unreached(error: &(dyn StdError + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(inner) = next {
        if let Some(error) = inner.downcast_ref::<reqwest::Error>()
            && error.is_connect()
        {
            return error.url().and_then(authority);
        }
        next = inner.source();
    }
    None
}

/// The `host:port` of an address.
pub(crate) fn authority(url: &reqwest::Url) -> Option<String> {
    let (host, port) = (url.host_str()?, url.port_or_known_default()?);
    Some(format!("{host}:{port}"))
}

fn of_library(error: &LibraryError, status: u16) -> Failure {
    let empty = http::HeaderMap::new();
    let headers = error.http_headers().unwrap_or(&empty);
    if let Some(payload) = error.http_payload() {
        return Failure::answered(status, headers, payload);
    }
    let mut failure = Failure::answered(status, headers, b"");
    failure.message = error
        .status()
        .map_or_else(|| chain(error), |status| status.message.clone());
    failure
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get("retry-after")?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// The error for a request that got no answer, or none that can be read.
pub(crate) fn unanswered(error: &(dyn StdError + 'static)) -> Error {
    let said = chain(error);
    let mut next = Some(error);
    while let Some(inner) = next {
        if let Some(error) = inner.downcast_ref::<CredentialsError>() {
            return if error.is_transient() {
                Error::new(ErrorKind::Unavailable, format!("credentials can't be had now: {said}"))
            } else {
                Error::new(ErrorKind::Unauthenticated, format!("no credentials: {said}"))
            };
        }
        if let Some(ReadError::ChecksumMismatch(_)) = inner.downcast_ref::<ReadError>() {
            return Error::new(
                ErrorKind::Corrupt,
                format!("the bytes are not those that were stored: {said}"),
            );
        }
        if let Some(WriteError::ChecksumMismatch { .. }) = inner.downcast_ref::<WriteError>() {
            return Error::new(
                ErrorKind::Interrupted,
                format!("other bytes arrived than were sent: {said}"),
            );
        }
        next = inner.source();
    }
    let lower = said.to_ascii_lowercase();
    if lower.contains("certificate") {
        return Error::new(
            ErrorKind::Unavailable,
            format!("the server's certificate is not trusted: {said}"),
        );
    }
    if lower.contains("timed out") || lower.contains("timeout") {
        return Error::new(ErrorKind::Timeout, format!("no answer in time: {said}"));
    }
    Error::new(ErrorKind::Unavailable, format!("the server can't be reached: {said}"))
}

/// What Google says is missing (`Permission 'storage.objects.create' denied`), else what the action needs.
fn permission_of(said: &str, action: Action) -> String {
    let named = said
        .split('\'')
        .find(|word| word.split('.').count() > 2 && !word.contains(' '));
    named.unwrap_or(action.permission()).to_owned()
}
