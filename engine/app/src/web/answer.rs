//! What a request that can't be fulfilled is told.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::access::recordings::Refused;
use crate::catalog;

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nobody is signed in, or not any more.
    SignedOut,
    /// No such thing, or none that this user may know of: both look the same.
    NotFound,
    /// The rules say no, of something that this user may know of.
    Forbidden(String),
    /// The recording has to be opened first.
    Closed,
    /// The request makes no sense.
    Request(&'static str),
    /// Too many of something.
    TooMany(&'static str),
    /// Our fault; the log has the rest.
    Internal(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self::Internal(error)
    }
}

impl From<catalog::Error> for Failure {
    fn from(error: catalog::Error) -> Self {
        match error {
            catalog::Error::NotFound(_) | catalog::Error::Ambiguous { .. } => Self::NotFound,
            other => Self::Internal(other.into()),
        }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Catalog(error) => error.into(),
            denied @ Refused::Denied { .. } => Self::Forbidden(denied.to_string()),
            Refused::Audit(error) => Self::Internal(error.into()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, text) = match self {
            Self::SignedOut => (StatusCode::UNAUTHORIZED, "nobody is signed in".to_owned()),
            Self::NotFound => (StatusCode::NOT_FOUND, "there is no such thing".to_owned()),
            Self::Closed => (StatusCode::CONFLICT, "open the recording first".to_owned()),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, why),
            Self::Request(why) => (StatusCode::BAD_REQUEST, why.to_owned()),
            Self::TooMany(why) => (StatusCode::TOO_MANY_REQUESTS, why.to_owned()),
            Self::Internal(error) => {
                tracing::warn!(error = format!("{error:#}"), "a request of the pages failed");
                let text = "the server could not do that; its log says why".to_owned();
                (StatusCode::INTERNAL_SERVER_ERROR, text)
            }
        };
        (status, Json(json!({"error": text}))).into_response()
    }
}

/// No page, no file, no call has this name.
pub(super) async fn nothing_here() -> Failure {
    Failure::NotFound
}

/// Runs what blocks on the disk, the database or a storage where it may.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(Failure::Internal(
            anyhow::Error::new(error).context("a request's work panicked"),
        )),
    }
}
