//! The bucket as the operations see it: the library's client with time-outs, retries and credentials made explicit.

use std::future::Future;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use deskreel_sdk::prelude::*;
use deskreel_sdk::tracing;
use google_cloud_auth::credentials::{self, Builder, Credentials as Tokens};
use google_cloud_gax::exponential_backoff::ExponentialBackoffBuilder;
use google_cloud_gax::retry_policy::RetryPolicyExt as _;
use google_cloud_storage::client::Storage as Library;
use google_cloud_storage::read_resume_policy::{ReadResumePolicyExt as _, Recommended};
use google_cloud_storage::retry_policy::RetryableErrors;

use crate::error::{Failure, authority};
use crate::json::Json;
use crate::settings::{Credentials, ObjectLock, Resolved};

const GOOGLE: &str = "https://storage.googleapis.com";
/// The slowest line on which a body still counts as moving, in bytes a second.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// Attempts of one request. The engine tries again above them, for as long as it takes.
pub(crate) const ATTEMPTS: u32 = 3;
pub(crate) const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// How often a body that breaks off is taken up again.
const RESUMES_MAX: u32 = 5;
/// Objects up to this size go as one request.
pub(crate) const SINGLE_MAX_BYTES: u64 = 16 << 20;

/// A bucket, ready to use.
pub(crate) struct Bucket {
    pub(crate) library: Library,
    pub(crate) json: Json,
    pub(crate) name: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    pub(crate) kms_key: Option<String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) object_lock: Option<ObjectLock>,
    /// Until an answer begins, and between two parts of its body.
    pub(crate) answer_timeout: Duration,
    /// Where its server is, `host:port`.
    pub(crate) server: String,
    /// Whether the server is Google's, which honours preconditions. Of emulators some don't.
    pub(crate) is_google: bool,
    /// Whether the server was seen to send objects without the headers that the library needs, as some emulators do.
    pub(crate) is_bare: AtomicBool,
    /// Whether uploads in parts were seen to lead to an address where nobody is. Emulators may send them to one without their port.
    pub(crate) at_once: AtomicBool,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket(gs://{}/{})", self.name, self.prefix)
    }
}

impl Bucket {
    /// Makes the clients. Reaches no server.
    pub(crate) async fn open(resolved: Resolved) -> Result<Self> {
        // The libraries bring no cryptography of their own. Whoever was here before has the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tokens = tokens(&resolved)?;
        let endpoint = resolved.endpoint.as_deref().unwrap_or(GOOGLE);
        if endpoint.starts_with("http://") {
            tracing::warn!(endpoint, "recordings go to this endpoint without TLS");
        }
        let backoff = ExponentialBackoffBuilder::new()
            .with_initial_delay(BACKOFF_FIRST)
            .with_maximum_delay(BACKOFF_MAX)
            .clamp();
        let library = Library::builder()
            .with_endpoint(endpoint)
            .with_credentials(tokens.clone())
            .with_retry_policy(RetryableErrors.with_attempt_limit(ATTEMPTS))
            .with_backoff_policy(backoff)
            .with_read_resume_policy(Recommended.with_attempt_limit(RESUMES_MAX))
            .with_resumable_upload_threshold(usize::try_from(SINGLE_MAX_BYTES).unwrap_or(usize::MAX))
            // For requests that are not made here.
            .with_grpc_subchannel_count(1_usize);
        let library = Box::pin(library.build())
            .await
            .map_err(|error| Error::invalid_settings(format!("endpoint or credentials: {error}")))?;
        let host = endpoint.split("://").nth(1).unwrap_or_default();
        Ok(Self {
            library,
            json: Json::new(endpoint, &resolved.bucket, tokens, resolved.answer_timeout)?,
            name: resolved.bucket,
            prefix: resolved.prefix,
            kms_key: resolved.kms_key,
            storage_class: resolved.storage_class,
            object_lock: resolved.object_lock,
            answer_timeout: resolved.answer_timeout,
            server: reqwest::Url::parse(endpoint)
                .ok()
                .and_then(|url| authority(&url))
                .unwrap_or_default(),
            is_google: host == "googleapis.com" || host.ends_with(".googleapis.com"),
            is_bare: AtomicBool::new(false),
            at_once: AtomicBool::new(false),
        })
    }

    /// An object's name in the bucket.
    pub(crate) fn object(&self, key: impl AsRef<str>) -> String {
        format!("{}{}", self.prefix, key.as_ref())
    }

    /// The bucket's name as the library wants it.
    pub(crate) fn path(&self) -> String {
        format!("projects/_/buckets/{}", self.name)
    }

    /// Runs a request of the library, all attempts together, within the time that its bytes may take. The library itself would
    /// wait for ever for an answer.
    pub(crate) async fn within<T, E: Into<Failure>>(
        &self,
        bytes: u64,
        request: impl Future<Output = Result<T, E>>,
    ) -> Result<T, Failure> {
        let limit = patience(self.answer_timeout, bytes);
        match tokio::time::timeout(limit, request).await {
            Ok(outcome) => outcome.map_err(Into::into),
            Err(_) => Err(Failure::late(self.answer_timeout)),
        }
    }
}

/// The time for an answer and that many bytes.
pub(crate) fn patience(answer_timeout: Duration, bytes: u64) -> Duration {
    answer_timeout + Duration::from_secs(bytes / SLOWEST_BYTES_PER_SECOND)
}

fn tokens(resolved: &Resolved) -> Result<Tokens> {
    let project = &resolved.quota_project;
    let (key, built) = match &resolved.credentials {
        Credentials::None => return Ok(credentials::anonymous::Builder::new().build()),
        Credentials::Default => {
            let builder = Builder::default();
            let builder = match project {
                Some(project) => builder.with_quota_project_id(project),
                None => builder,
            };
            ("credentials", builder.build())
        }
        Credentials::Json { value, kind } => (kind.as_str(), of_kind(value.clone(), kind, project.as_deref())?),
    };
    built.map_err(|error| {
        let text = deskreel_sdk::bucket::chain(&error);
        Error::invalid_settings(format!("credentials of type {key}: {text}"))
    })
}

type Built = Result<Tokens, google_cloud_auth::build_errors::Error>;

fn of_kind(value: deskreel_sdk::serde_json::Value, kind: &str, project: Option<&str>) -> Result<Built> {
    macro_rules! built {
        ($module:ident) => {{
            let builder = credentials::$module::Builder::new(value);
            let builder = match project {
                Some(project) => builder.with_quota_project_id(project),
                None => builder,
            };
            builder.build()
        }};
    }
    Ok(match kind {
        "service_account" => built!(service_account),
        "authorized_user" => built!(user_account),
        "external_account" => built!(external_account),
        "impersonated_service_account" => built!(impersonated),
        _ => {
            let known = "service_account, authorized_user, external_account, impersonated_service_account";
            return Err(Error::invalid_settings(format!(
                "credentials: of unknown type, known are {known}"
            )));
        }
    })
}
