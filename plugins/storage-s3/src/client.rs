//! The bucket as the operations see it: the SDK's client with time-outs, retries, TLS and credentials made explicit.

use std::sync::OnceLock;
use std::time::Duration;

use aws_credential_types::Credentials as Keys;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    AppName, BehaviorVersion, Builder, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use aws_sdk_s3::{Client, Config};
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, TrustStore, rustls_provider::CryptoMode};
use deskreel_sdk::prelude::*;
use deskreel_sdk::tracing;

use crate::settings::{Acl, Checksums, CreateOnly, Credentials, Encryption, ObjectLock, Proxy, Resolved};

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// The slowest line on which a body still counts as moving, in bytes a second.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 << 10;
/// Attempts of the SDK. The engine tries again above them, for as long as it takes.
pub(crate) const ATTEMPTS: u32 = 3;
const BACKOFF_FIRST: Duration = Duration::from_millis(200);
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// Below what servers wait before they close an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
const IDLE_CONNECTIONS_MAX: usize = 16;
/// The region of servers that have none.
const NO_REGION: &str = "us-east-1";
/// Where instances and containers get credentials. No proxy leads there.
const METADATA_HOSTS: &str = "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,fd00:ec2::23";

/// A bucket, ready to use.
pub(crate) struct Bucket {
    pub(crate) client: Client,
    pub(crate) name: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) kms_key: Option<String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) acl: Option<Acl>,
    pub(crate) checksums: Checksums,
    pub(crate) create_only: CreateOnly,
    pub(crate) object_lock: Option<ObjectLock>,
    /// Until an answer begins, for a request without much of a body; and between two parts of an answer's body.
    pub(crate) answer_timeout: Duration,
    /// Whether the server honours `If-None-Match`, once known.
    pub(crate) conditions: OnceLock<bool>,
    /// Whether the server lists keys in the order of their bytes, once known.
    pub(crate) byte_order: OnceLock<bool>,
}

impl std::fmt::Debug for Bucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket(s3://{}/{})", self.name, self.prefix)
    }
}

impl Bucket {
    /// Makes the client. Reaches no server but, where neither settings nor files name a region, the instance's metadata.
    pub(crate) async fn open(resolved: Resolved, context: &Context) -> Result<Self> {
        let (config, amazon) = config(&resolved, context).await?;
        let known = |value: bool| if value { OnceLock::from(true) } else { OnceLock::new() };
        Ok(Self {
            client: Client::from_conf(config),
            conditions: known(
                resolved.create_only == CreateOnly::IfNoneMatch || (amazon && resolved.create_only == CreateOnly::Auto),
            ),
            byte_order: known(amazon),
            name: resolved.bucket,
            prefix: resolved.prefix,
            encryption: resolved.encryption,
            kms_key: resolved.kms_key,
            storage_class: resolved.storage_class,
            acl: resolved.acl,
            checksums: resolved.checksums,
            create_only: resolved.create_only,
            object_lock: resolved.object_lock,
            answer_timeout: resolved.answer_timeout,
        })
    }

    /// An object's name in the bucket.
    pub(crate) fn object(&self, key: impl AsRef<str>) -> String {
        format!("{}{}", self.prefix, key.as_ref())
    }

    /// Time-outs for a request with this body.
    pub(crate) fn patience(&self, bytes: usize) -> Builder {
        patience(self.answer_timeout, bytes)
    }
}

/// As [`Bucket::patience`].
pub(crate) fn patience(answer_timeout: Duration, bytes: usize) -> Builder {
    Config::builder().timeout_config(time_outs(answer_timeout, bytes as u64))
}

fn time_outs(answer: Duration, body_bytes: u64) -> TimeoutConfig {
    // A read time-out would count from the request's first byte, and so end slow uploads: the attempt's time covers both.
    TimeoutConfig::builder()
        .connect_timeout(CONNECT_TIMEOUT)
        .operation_attempt_timeout(answer + Duration::from_secs(body_bytes / SLOWEST_BYTES_PER_SECOND))
        .build()
}

/// The client's configuration, and whether the server is Amazon's own.
async fn config(resolved: &Resolved, context: &Context) -> Result<(Config, bool)> {
    let http = http_client(resolved)?;
    let region = resolved
        .region
        .clone()
        .or_else(|| resolved.endpoint.is_some().then(|| NO_REGION.to_owned()));
    let (builder, amazon) = match &resolved.credentials {
        Credentials::Explicit { id, secret, token } => {
            let token = token.as_ref().map(|token| token.expose().to_owned());
            let keys = Keys::new(id.expose(), secret.expose(), token, None, "deskreel settings");
            let builder = Config::builder()
                .behavior_version(BehaviorVersion::latest())
                .credentials_provider(keys);
            (builder, resolved.endpoint.is_none())
        }
        Credentials::Chain { profile } => {
            let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http.clone());
            loader = loader.timeout_config(time_outs(resolved.answer_timeout, 0));
            if let Some(region) = &region {
                loader = loader.region(Region::new(region.clone()));
            }
            if let Some(profile) = profile {
                loader = loader.profile_name(profile);
            }
            let shared = Box::pin(loader.load()).await;
            if shared.region().is_none() {
                let text = "region: is missing, and neither environment nor profile nor instance names one";
                return Err(Error::invalid_settings(text));
            }
            let elsewhere = shared.endpoint_url().is_some() || std::env::var_os("AWS_ENDPOINT_URL_S3").is_some();
            (Builder::from(&shared), resolved.endpoint.is_none() && !elsewhere)
        }
    };
    let mut builder = builder
        .http_client(http)
        .force_path_style(resolved.path_style)
        .use_fips(resolved.fips)
        .timeout_config(time_outs(resolved.answer_timeout, 0))
        .retry_config(
            RetryConfig::standard()
                .with_max_attempts(ATTEMPTS)
                .with_initial_backoff(BACKOFF_FIRST)
                .with_max_backoff(BACKOFF_MAX),
        );
    if let Some(region) = region {
        builder = builder.region(Region::new(region));
    }
    if let Some(endpoint) = &resolved.endpoint {
        builder = builder.endpoint_url(endpoint);
        if endpoint.starts_with("http://") {
            tracing::warn!(endpoint, "recordings go to this endpoint without TLS");
        }
    }
    let checksums = match resolved.checksums {
        Checksums::WhenSupported => RequestChecksumCalculation::WhenSupported,
        Checksums::WhenRequired => RequestChecksumCalculation::WhenRequired,
    };
    builder = builder
        .request_checksum_calculation(checksums)
        // Whole objects are compared with their SHA-256 here; some servers send the whole object's checksum with a part of it.
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired);
    if let Ok(name) = AppName::new(format!("deskreel-{}", context.engine_version)) {
        builder = builder.app_name(name);
    }
    Ok((builder.build(), amazon))
}

fn http_client(resolved: &Resolved) -> Result<SharedHttpClient> {
    let proxy = match &resolved.proxy {
        Some(proxy) => through(proxy)?,
        None => ProxyConfig::from_env(),
    };
    let plain = resolved
        .endpoint
        .as_deref()
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    let own = matches!(resolved.credentials, Credentials::Explicit { .. });
    let trusted = match &resolved.ca {
        Some(pem) => TrustStore::empty().with_pem_certificate(pem.clone()),
        // Nobody is asked by TLS: reading the system's certificates would be a waste.
        None if plain && own && resolved.proxy.is_none() => TrustStore::empty(),
        None => TrustStore::default(),
    };
    let tls = TlsContext::builder()
        .with_trust_store(trusted)
        .build()
        .map_err(|error| Error::invalid_settings(format!("ca: {error}")))?;
    Ok(
        aws_smithy_http_client::Builder::new().build_with_connector_fn(move |settings, _| {
            let mut connector = Connector::builder()
                .tls_provider(Provider::Rustls(CryptoMode::Ring))
                .tls_context(tls.clone())
                .proxy_config(proxy.clone())
                .pool_idle_timeout(IDLE_TIMEOUT)
                .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX);
            if let Some(settings) = settings {
                connector = connector.connector_settings(settings.clone());
            }
            connector.build()
        }),
    )
}

fn through(proxy: &Proxy) -> Result<ProxyConfig> {
    let config = ProxyConfig::all(proxy.url.as_str())
        .map_err(|_| Error::invalid_settings("proxy: is not an address"))?
        .no_proxy(METADATA_HOSTS);
    Ok(match &proxy.user {
        Some((name, password)) => config.with_basic_auth(name, password.expose()),
        None => config,
    })
}
