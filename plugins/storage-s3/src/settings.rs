//! The operator's settings and what they come to.

use std::time::Duration;

use deskreel_sdk::bucket::{answer_timeout, check_endpoint, key_prefix, set};
use deskreel_sdk::prelude::*;

/// The largest file of certificates.
const CA_MAX_BYTES: u64 = 1 << 20;

deskreel_sdk::settings! {
    /// Settings of the storage plugin `s3`.
    pub struct Settings {
        /// Bucket, prefix and more in one line, as Teleport has it: `s3://bucket/prefix?region=eu-west-1&endpoint=minio:9000`.
        #[serde(default)]
        pub url: Option<String>,
        /// The bucket. It must exist.
        #[serde(default)]
        pub bucket: Option<String>,
        /// What the names of all objects start with; a slash follows it.
        #[serde(default)]
        pub prefix: Option<String>,
        /// The bucket's region. Without it: what the credentials chain says, or `us-east-1` where there is an endpoint.
        #[serde(default)]
        pub region: Option<String>,
        /// Address of a server other than Amazon's, `https://host:port`.
        #[serde(default)]
        pub endpoint: Option<String>,
        /// Whether the bucket is named in the path and not in the host's name. Without it: as Amazon wants it, in the path where
        /// there is an endpoint.
        #[serde(default)]
        pub path_style: Option<bool>,
        /// Use Amazon's endpoints that are validated by FIPS 140.
        #[serde(default)]
        pub fips: bool,
        /// Access key. Without it: the credentials chain (environment, profile, web identity, container, instance).
        #[serde(default)]
        pub access_key_id: Option<Secret>,
        /// Secret of the access key.
        #[serde(default)]
        pub secret_access_key: Option<Secret>,
        /// Token of temporary credentials.
        #[serde(default)]
        pub session_token: Option<Secret>,
        /// Profile of the credentials chain's files.
        #[serde(default)]
        pub profile: Option<String>,
        /// Encryption by the server. Without it: as the bucket does by itself.
        #[serde(default)]
        pub encryption: Option<Encryption>,
        /// The key for `encryption: aws_kms`; without it Amazon's own key.
        #[serde(default)]
        pub kms_key: Option<String>,
        /// Storage class, such as `STANDARD_IA`. Without it: the bucket's.
        #[serde(default)]
        pub storage_class: Option<String>,
        /// Canned access list of new objects, for buckets that still have such lists.
        #[serde(default)]
        pub acl: Option<Acl>,
        /// Whether checksums go with requests that can do without.
        #[serde(default)]
        pub checksums: Checksums,
        /// How objects are kept from being overwritten.
        #[serde(default)]
        pub create_only: CreateOnly,
        /// Take retention and legal hold from the engine, in this mode. The bucket must have object lock.
        #[serde(default)]
        pub object_lock: Option<ObjectLock>,
        /// How long the server may take to begin an answer, and between two parts of one; bodies have time of their own. Without
        /// it: 30s.
        #[serde(default)]
        pub answer_timeout: Option<SettingDuration>,
        /// Proxy for all requests, `http://host:port`, with `user:password@` if it wants that. Without it: the environment's.
        #[serde(default)]
        pub proxy: Option<Secret>,
        /// Certificates (PEM) that are trusted instead of the system's.
        #[serde(default)]
        pub ca: Option<SettingPath>,
    }

    /// Encryption by the server.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[serde(rename_all = "snake_case")]
    pub enum Encryption {
        /// With keys of the service (SSE-S3).
        Aes256,
        /// With keys of the key management service (SSE-KMS).
        AwsKms,
        /// The same in two layers (DSSE-KMS).
        AwsKmsDsse,
    }

    /// Canned access lists. None that lets strangers read.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[serde(rename_all = "kebab-case")]
    pub enum Acl {
        /// The writer alone.
        Private,
        /// The bucket's owner may read.
        BucketOwnerRead,
        /// The bucket's owner may do everything.
        BucketOwnerFullControl,
    }

    /// Checksums beyond those of the signature.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    #[serde(rename_all = "snake_case")]
    pub enum Checksums {
        /// SHA-256 with every object, checked by the server.
        #[default]
        WhenSupported,
        /// Only where S3 refuses a request without one. For servers that don't know the newer headers.
        WhenRequired,
    }

    /// How objects are kept from being overwritten.
    #[derive(Clone, Copy, Default, PartialEq, Eq)]
    #[serde(rename_all = "snake_case")]
    pub enum CreateOnly {
        /// By `If-None-Match` where the server honours it, which the first put finds out; else as `check_first`.
        #[default]
        Auto,
        /// By `If-None-Match`, which the server is known to honour.
        IfNoneMatch,
        /// By a look before and after each put, for servers that ignore `If-None-Match`. Two writers at the same moment may both win.
        CheckFirst,
    }

    /// Modes of object lock.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[serde(rename_all = "snake_case")]
    pub enum ObjectLock {
        /// Those with a special permission may lift it.
        Governance,
        /// Nobody may lift it.
        Compliance,
    }
}

/// Settings that make sense.
pub(crate) struct Resolved {
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    pub(crate) region: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) path_style: bool,
    pub(crate) fips: bool,
    pub(crate) credentials: Credentials,
    pub(crate) encryption: Option<Encryption>,
    pub(crate) kms_key: Option<String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) acl: Option<Acl>,
    pub(crate) checksums: Checksums,
    pub(crate) create_only: CreateOnly,
    pub(crate) object_lock: Option<ObjectLock>,
    pub(crate) answer_timeout: Duration,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) ca: Option<Vec<u8>>,
}

/// Where credentials come from. None is never a choice: a bucket that everybody may write isn't a storage.
pub(crate) enum Credentials {
    Chain {
        profile: Option<String>,
    },
    Explicit {
        id: Secret,
        secret: Secret,
        token: Option<Secret>,
    },
}

/// A proxy and who uses it.
pub(crate) struct Proxy {
    pub(crate) url: String,
    pub(crate) user: Option<(String, Secret)>,
}

impl Settings {
    /// # Errors
    /// `InvalidSettings` that names the key.
    pub(crate) fn resolve(mut self) -> Result<Resolved> {
        if let Some(url) = self.url.take() {
            self.read_url(&StorageUrl::parse("url", &url)?)?;
        }
        let wrong = Error::invalid_settings;
        let bucket = self.bucket.take().ok_or_else(|| wrong("bucket: is missing"))?;
        let strange = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
        if bucket.is_empty() || bucket.contains(strange) {
            return Err(wrong("bucket: is not the name of a bucket"));
        }
        if let Some(endpoint) = &self.endpoint {
            check_endpoint(endpoint)?;
        }
        if self.endpoint.is_some() && self.fips {
            return Err(wrong("fips: chooses Amazon's own endpoint, and `endpoint` another one"));
        }
        if self.kms_key.is_some() && !matches!(self.encryption, Some(Encryption::AwsKms | Encryption::AwsKmsDsse)) {
            return Err(wrong("kms_key: needs `encryption: aws_kms` beside it"));
        }
        for (key, value) in [
            ("region", &self.region),
            ("storage_class", &self.storage_class),
            ("profile", &self.profile),
        ] {
            if value
                .as_deref()
                .is_some_and(|value| value.is_empty() || value.contains(|c: char| !c.is_ascii_graphic()))
            {
                return Err(Error::invalid_settings(format!("{key}: is empty or has a space in it")));
            }
        }
        let credentials = credentials(&mut self)?;
        if self.region.is_none() && self.endpoint.is_none() && matches!(credentials, Credentials::Explicit { .. }) {
            return Err(wrong("region: is missing"));
        }
        Ok(Resolved {
            bucket,
            prefix: key_prefix(self.prefix.as_deref().unwrap_or(""))?,
            path_style: self.path_style.unwrap_or(self.endpoint.is_some()),
            region: self.region,
            endpoint: self.endpoint,
            fips: self.fips,
            credentials,
            encryption: self.encryption,
            kms_key: self.kms_key,
            storage_class: self.storage_class,
            acl: self.acl,
            checksums: self.checksums,
            create_only: self.create_only,
            object_lock: self.object_lock,
            answer_timeout: answer_timeout(self.answer_timeout)?,
            proxy: self.proxy.as_ref().map(proxy).transpose()?,
            ca: self.ca.as_ref().map(|path| certificates(path)).transpose()?,
        })
    }

    /// Takes over what Teleport's one-line form says. What is said twice is refused, even if it is the same.
    fn read_url(&mut self, url: &StorageUrl) -> Result<()> {
        if url.scheme != "s3" {
            return Err(Error::invalid_settings("url: doesn't start with s3://"));
        }
        set("bucket", &mut self.bucket, url.host.clone())?;
        if !url.path.is_empty() {
            set("prefix", &mut self.prefix, url.path.clone())?;
        }
        let flag = |name: &str| {
            let value = url
                .parameters
                .iter()
                .find(|(known, _)| known == name)
                .map(|(_, value)| value.as_str());
            match value {
                None | Some("false") => Ok(false),
                Some("true" | "") => Ok(true),
                Some(_) => Err(Error::invalid_settings(format!(
                    "url: {name}: is neither true nor false"
                ))),
            }
        };
        let insecure = flag("insecure")?;
        if flag("disablesse")? && self.encryption.is_some() {
            return Err(Error::invalid_settings(
                "encryption: `disablesse` in url says the contrary",
            ));
        }
        for (name, value) in &url.parameters {
            match name.as_str() {
                "region" => set("region", &mut self.region, value.clone())?,
                "endpoint" => {
                    let scheme = if insecure { "http" } else { "https" };
                    let whole = if value.contains("://") {
                        value.clone()
                    } else {
                        format!("{scheme}://{value}")
                    };
                    set("endpoint", &mut self.endpoint, whole)?;
                }
                "use_fips_endpoint" => self.fips |= flag(name)?,
                "use_s3_virtual_style_addressing" => set("path_style", &mut self.path_style, !flag(name)?)?,
                "sse_kms_key" => {
                    set("kms_key", &mut self.kms_key, value.clone())?;
                    self.encryption.get_or_insert(Encryption::AwsKms);
                }
                "acl" => {
                    let acl = deskreel_sdk::serde_json::from_value(value.as_str().into()).map_err(|_| {
                        Error::invalid_settings(
                            "url: acl: only private, bucket-owner-read and bucket-owner-full-control",
                        )
                    })?;
                    set("acl", &mut self.acl, acl)?;
                }
                // Read above, or about how Teleport lists uploads, which is not done here.
                "insecure" | "disablesse" | "complete_initiators" => {}
                other => return Err(Error::invalid_settings(format!("url: unknown parameter `{other}`"))),
            }
        }
        if insecure && !url.parameters.iter().any(|(name, _)| name == "endpoint") {
            return Err(Error::invalid_settings("url: insecure: needs an endpoint beside it"));
        }
        Ok(())
    }
}

fn credentials(settings: &mut Settings) -> Result<Credentials> {
    let wrong = |text: &str| Err(Error::invalid_settings(text));
    let (id, secret, token) = (
        settings.access_key_id.take(),
        settings.secret_access_key.take(),
        settings.session_token.take(),
    );
    for (name, value) in [
        ("access_key_id", &id),
        ("secret_access_key", &secret),
        ("session_token", &token),
    ] {
        let text = value.as_ref().map(Secret::expose);
        if text.is_some_and(|text| text.is_empty() || text.contains(|c: char| !c.is_ascii_graphic())) {
            return wrong(&format!("{name}: is empty or has a character that no key has"));
        }
    }
    let profile = settings.profile.take();
    match (id, secret) {
        (Some(_), Some(_)) if profile.is_some() => wrong("profile: is of no use beside access_key_id"),
        (Some(id), Some(secret)) => Ok(Credentials::Explicit { id, secret, token }),
        (Some(_), None) => wrong("secret_access_key: is missing beside access_key_id"),
        (None, Some(_)) => wrong("access_key_id: is missing beside secret_access_key"),
        (None, None) if token.is_some() => wrong("session_token: is of no use without access_key_id"),
        (None, None) => Ok(Credentials::Chain { profile }),
    }
}

/// The address without user and password, and these. The address may hold a secret and is in no message.
fn proxy(setting: &Secret) -> Result<Proxy> {
    let wrong = |why: &str| Error::invalid_settings(format!("proxy: {why}"));
    let (scheme, rest) = setting
        .expose()
        .split_once("://")
        .ok_or_else(|| wrong("needs http:// in front"))?;
    if !matches!(scheme, "http" | "https") {
        return Err(wrong("is neither http:// nor https://"));
    }
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => {
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            (Some((name.to_owned(), Secret::from(password.to_owned()))), host)
        }
        None => (None, rest),
    };
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#', ' ']) {
        return Err(wrong("is not just a host and a port"));
    }
    Ok(Proxy {
        url: format!("{scheme}://{host}"),
        user,
    })
}

/// Reads certificates and looks at each: the HTTP client panics over one that it can't read.
fn certificates(path: &Path) -> Result<Vec<u8>> {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject as _;
    let wrong = |why: String| Error::invalid_settings(format!("ca: {}: {why}", path.display()));
    let size = path.metadata().map_err(|error| wrong(error.to_string()))?.len();
    if size > CA_MAX_BYTES {
        return Err(wrong(format!("{size} bytes are too many for certificates")));
    }
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
    }
    if roots.is_empty() {
        return Err(wrong("has no certificate in it".to_owned()));
    }
    Ok(pem)
}
