//! The operator's settings and what they come to.

use std::time::Duration;

use deskreel_sdk::bucket::{answer_timeout, check_endpoint, key_prefix, set};
use deskreel_sdk::prelude::*;
use deskreel_sdk::serde_json::Value;

/// The largest file of credentials.
const CREDENTIALS_MAX_BYTES: u64 = 64 << 10;

deskreel_sdk::settings! {
    /// Settings of the storage plugin `gcs`.
    pub struct Settings {
        /// Bucket, prefix and more in one line, as Teleport has it: `gs://bucket/prefix?credentialsPath=/etc/key.json`.
        #[serde(default)]
        pub url: Option<String>,
        /// The bucket. It must exist.
        #[serde(default)]
        pub bucket: Option<String>,
        /// What the names of all objects start with; a slash follows it.
        #[serde(default)]
        pub prefix: Option<String>,
        /// File of credentials (JSON): a service account's key, workload identity federation, impersonation.
        #[serde(default)]
        pub credentials_file: Option<SettingPath>,
        /// What such a file holds.
        #[serde(default)]
        pub credentials_json: Option<Secret>,
        /// Send no credentials. Only with an `endpoint`: for emulators.
        #[serde(default)]
        pub anonymous: bool,
        /// Project that is billed for the requests.
        #[serde(default)]
        pub quota_project: Option<String>,
        /// Address of another server than Google's, `https://host:port`.
        #[serde(default)]
        pub endpoint: Option<String>,
        /// Key for encryption, `projects/P/locations/L/keyRings/R/cryptoKeys/K`. Without it: as the bucket does by itself.
        #[serde(default)]
        pub kms_key: Option<String>,
        /// Storage class, such as `NEARLINE`. Without it: the bucket's.
        #[serde(default)]
        pub storage_class: Option<String>,
        /// Take retention and legal hold from the engine, in this mode. The bucket must have object retention.
        #[serde(default)]
        pub object_lock: Option<ObjectLock>,
        /// How long the server may take to begin an answer, and between two parts of one; bodies have time of their own. Without
        /// it: 30s.
        #[serde(default)]
        pub answer_timeout: Option<SettingDuration>,
    }

    /// Modes of retention.
    #[derive(Clone, Copy, PartialEq, Eq)]
    #[serde(rename_all = "snake_case")]
    pub enum ObjectLock {
        /// Those with a special permission may lift it (Google: unlocked).
        Governance,
        /// Nobody may lift it (Google: locked).
        Compliance,
    }
}

/// Settings that make sense.
pub(crate) struct Resolved {
    pub(crate) bucket: String,
    /// Empty, or with a slash at its end.
    pub(crate) prefix: String,
    pub(crate) credentials: Credentials,
    pub(crate) quota_project: Option<String>,
    pub(crate) endpoint: Option<String>,
    pub(crate) kms_key: Option<String>,
    pub(crate) storage_class: Option<String>,
    pub(crate) object_lock: Option<ObjectLock>,
    pub(crate) answer_timeout: Duration,
}

/// Where credentials come from.
pub(crate) enum Credentials {
    /// Application default credentials: environment, well-known file, metadata service.
    Default,
    /// None. Never by accident.
    None,
    /// These, by their `type`. With what to call them in messages.
    Json { value: Value, kind: String },
}

impl Settings {
    /// # Errors
    /// `InvalidSettings` that names the key.
    pub(crate) fn resolve(mut self) -> Result<Resolved> {
        if let Some(url) = self.url.take() {
            self.read_url(StorageUrl::parse("url", &url)?)?;
        }
        let wrong = |text: &str| Error::invalid_settings(text);
        let bucket = self.bucket.take().ok_or_else(|| wrong("bucket: is missing"))?;
        let strange = |c: char| !(c.is_ascii_alphanumeric() || "._-".contains(c));
        if bucket.is_empty() || bucket.contains(strange) {
            return Err(wrong("bucket: is not the name of a bucket"));
        }
        if let Some(endpoint) = &mut self.endpoint {
            check_endpoint(endpoint)?;
            endpoint.truncate(endpoint.trim_end_matches('/').len());
        }
        for (key, value) in [
            ("kms_key", &self.kms_key),
            ("storage_class", &self.storage_class),
            ("quota_project", &self.quota_project),
        ] {
            let odd = |value: &str| value.is_empty() || value.contains(|c: char| !c.is_ascii_graphic());
            if value.as_deref().is_some_and(odd) {
                return Err(Error::invalid_settings(format!("{key}: is empty or has a space in it")));
            }
        }
        if self.kms_key.as_ref().is_some_and(|key| !key.starts_with("projects/")) {
            return Err(wrong("kms_key: is not projects/P/locations/L/keyRings/R/cryptoKeys/K"));
        }
        Ok(Resolved {
            bucket,
            prefix: key_prefix(self.prefix.as_deref().unwrap_or(""))?,
            credentials: self.credentials()?,
            quota_project: self.quota_project,
            endpoint: self.endpoint,
            kms_key: self.kms_key,
            storage_class: self.storage_class,
            object_lock: self.object_lock,
            answer_timeout: answer_timeout(self.answer_timeout)?,
        })
    }

    /// Takes over what Teleport's one-line form says. What is said twice is refused, even if it is the same.
    fn read_url(&mut self, url: StorageUrl) -> Result<()> {
        if !matches!(url.scheme.as_str(), "gs" | "gcs") {
            return Err(Error::invalid_settings("url: doesn't start with gs://"));
        }
        set("bucket", &mut self.bucket, url.host)?;
        if !url.path.is_empty() {
            set("prefix", &mut self.prefix, url.path)?;
        }
        for (name, value) in url.parameters {
            match name.as_str() {
                "credentialsPath" => {
                    let path = PathBuf::from(value);
                    if !path.is_absolute() {
                        return Err(Error::invalid_settings("url: credentialsPath: is not an absolute path"));
                    }
                    set("credentials_file", &mut self.credentials_file, SettingPath(path))?;
                }
                "endpoint" => {
                    let whole = if value.contains("://") {
                        value
                    } else {
                        format!("https://{value}")
                    };
                    set("endpoint", &mut self.endpoint, whole)?;
                }
                "keyName" => set("kms_key", &mut self.kms_key, value)?,
                // Teleport makes the bucket in it; here the bucket is there.
                "projectID" => {}
                other => {
                    return Err(Error::invalid_settings(format!("url: unknown parameter `{other}`")));
                }
            }
        }
        Ok(())
    }

    fn credentials(&mut self) -> Result<Credentials> {
        let wrong = |text: &str| Err(Error::invalid_settings(text));
        let (file, json) = (self.credentials_file.take(), self.credentials_json.take());
        match (file, json, self.anonymous) {
            (Some(_), Some(_), _) => wrong("credentials_json: is of no use beside credentials_file"),
            (Some(_), _, true) | (_, Some(_), true) => wrong("anonymous: contradicts the credentials beside it"),
            (None, None, true) if self.endpoint.is_none() => wrong("anonymous: is only for an `endpoint` of your own"),
            (None, None, true) => Ok(Credentials::None),
            (None, None, false) => Ok(Credentials::Default),
            (Some(file), None, false) => read_credentials("credentials_file", &read(&file)?),
            (None, Some(json), false) => read_credentials("credentials_json", json.expose()),
        }
    }
}

fn read(path: &Path) -> Result<String> {
    let wrong = |why: String| Error::invalid_settings(format!("credentials_file: {}: {why}", path.display()));
    let size = path.metadata().map_err(|error| wrong(error.to_string()))?.len();
    if size > CREDENTIALS_MAX_BYTES {
        return Err(wrong(format!("{size} bytes are too many for credentials")));
    }
    std::fs::read_to_string(path).map_err(|error| wrong(error.to_string()))
}

/// What is read is in no message.
fn read_credentials(key: &str, text: &str) -> Result<Credentials> {
    let wrong = |why: &str| Error::invalid_settings(format!("{key}: {why}"));
    let value: Value = deskreel_sdk::serde_json::from_str(text).map_err(|_| wrong("is not JSON"))?;
    let kind = value["type"].as_str().ok_or_else(|| wrong("has no `type`"))?.to_owned();
    Ok(Credentials::Json { value, kind })
}
