//! Resources: a folder of YAML streams. The first kind is `windows_desktop`.

mod model;

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use crate::check::{Checker, is_poisoned};
use crate::error::{ConfigError, Errors, Origin};
use crate::layers::{absolute, read_text};
use crate::scalar::{printable, quoted};
use crate::schema::DESKTOP;
use crate::yaml::{Mark, Node, Yaml};

pub use model::{
    ClipboardLevel, ClipboardRight, ClusterMode, DeviceTrust, InputLevel, Lock, LockTarget, LockingMode, Metadata,
    RecordSession, RecordVote, RecordingSettings, Role, RoleConditions, RoleOptions, Rule, SessionMfa, User,
};

/// All resources of a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Desktops by name, sorted. Names are unique.
    pub desktops: Vec<WindowsDesktop>,
    /// The files that were read, sorted.
    pub files: Vec<PathBuf>,
    /// The folder does not exist, so there are no resources.
    pub folder_missing: bool,
}

impl Resources {
    /// The desktop of this name.
    #[must_use]
    pub fn desktop(&self, name: &str) -> Option<&WindowsDesktop> {
        self.desktops.iter().find(|desktop| desktop.name == name)
    }
}

/// Resource `windows_desktop`, version `v3`. Linux desktops that speak RDP too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowsDesktop {
    /// Unique name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Labels that roles will select by.
    pub labels: BTreeMap<String, String>,
    /// `host:port`; the port is 3389 unless written. IPv6 hosts stand in brackets.
    pub addr: String,
    /// How the gateway talks to it.
    pub gateway: DesktopGateway,
}

/// `spec.gateway` of a desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopGateway {
    /// How the desktop's certificate is checked.
    pub tls: DesktopTls,
    /// How the desktop may secure its leg.
    pub security: DesktopSecurity,
    /// Whose credentials log on.
    pub credentials: Credentials,
    /// What happens to the desktop's bulk compression.
    pub bulk_compression: BulkCompression,
}

/// `spec.gateway.tls` of a desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopTls {
    /// The check.
    pub verify: Verify,
    /// SHA-256 of the certificate (DER), 64 lower-case hex digits; only with [`Verify::Pin`], where `None` = trust on first use.
    pub sha256: Option<String>,
    /// PEM file of trusted roots, absolute; only and always with [`Verify::Ca`].
    pub ca: Option<PathBuf>,
}

/// How a desktop's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// It must be the one that is known: by `sha256`, else by the one first seen.
    Pin,
    /// It must be signed by the `ca` and bear the name of `addr`.
    Ca,
    /// Not at all. Must be written out.
    None,
}

/// How a desktop's leg is secured. Whatever is not named is refused, never fallen back to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesktopSecurity {
    /// Network level authentication or TLS, as the desktop prefers; TLS alone when there is nothing to log on with.
    Auto,
    /// Network level authentication alone.
    Nla,
    /// TLS alone.
    Tls,
}

/// Whose credentials log on to the desktop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credentials {
    /// The user's own, passed through.
    Passthrough,
    /// Those of an account that users never see the password of. Not empty; names differ, case ignored.
    Logins(Vec<DesktopLogin>),
}

/// One account of `spec.gateway.credentials.logins`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DesktopLogin {
    /// The account's name.
    pub login: String,
    /// Its domain, if the desktop wants one.
    pub domain: Option<String>,
    /// Its password.
    pub password: SecretSource,
}

/// Where a secret comes from. It is read each time it is needed, and nothing of it is kept.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretSource {
    /// An environment variable of the gateway.
    Env(String),
    /// A file, without the newline at its end. Absolute.
    File(PathBuf),
    /// What a program prints, without the newline at its end: the program and its arguments.
    Command(Vec<String>),
    /// The secret itself, where anybody who reads the configuration finds it.
    Plain(String),
}

impl std::fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Env(name) => f.debug_tuple("Env").field(name).finish(),
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            // arguments may be secrets too
            Self::Command(words) => f.debug_tuple("Command").field(&words.first()).finish(),
            Self::Plain(_) => f.write_str("Plain"),
        }
    }
}

/// What happens to the desktop's bulk compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkCompression {
    /// Left as negotiated; the tap decompresses.
    Keep,
    /// Negotiated away.
    Clear,
}

/// Kinds that Teleport knows and that this version would have to enforce: refused, never ignored.
const LATER_KINDS: [&str; 5] = [
    "role",
    "user",
    "lock",
    "session_recording_config",
    "dynamic_windows_desktop",
];

/// Resource files of one folder.
const FILES_MAX: usize = 4096;

/// Errors of one load that are kept; what is beyond is counted.
const ERRORS_MAX: usize = 100;

/// Port of a desktop whose `addr` names none.
const RDP_PORT: u16 = 3389;

/// Reads every `*.yaml` and `*.yml` file in `folder` (not in folders below it, nor hidden files). All or nothing.
///
/// # Errors
/// All errors of all files at once, each as `FILE:LINE:COLUMN: KIND/NAME: FIELD: what is wrong`.
pub fn load_resources(folder: &Path) -> Result<Resources, Errors> {
    let mut load = Load::default();
    match files(folder) {
        Ok(None) => load.resources.folder_missing = true,
        Ok(Some(files)) => {
            for file in &files {
                load.file(file);
            }
            load.resources.files = files;
        }
        Err(message) => load.error(
            Origin::File {
                path: folder.to_owned(),
                line: 0,
                column: 0,
            },
            "",
            message,
        ),
    }
    if !load.errors.is_empty() {
        return Err(Errors::bounded(load.errors, ERRORS_MAX));
    }
    load.resources.desktops.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(load.resources)
}

/// The resource files of `folder`, sorted; none when there is no such folder.
fn files(folder: &Path) -> Result<Option<Vec<PathBuf>>, String> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("can't be listed: {error}")),
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|error| format!("can't be listed: {error}"))?.path();
        let hidden = path
            .file_name()
            .is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if yaml && !hidden && !path.is_dir() {
            files.push(path);
        }
        if files.len() > FILES_MAX {
            return Err(format!("holds more than {FILES_MAX} resource files"));
        }
    }
    files.sort();
    Ok(Some(files))
}

#[derive(Default)]
struct Load {
    resources: Resources,
    /// Where each name was first used.
    names: HashMap<String, Origin>,
    errors: Vec<ConfigError>,
}

impl Load {
    fn error(&mut self, origin: Origin, key: &str, message: String) {
        self.errors.push(ConfigError {
            origin,
            key: key.to_owned(),
            message,
        });
    }

    fn file(&mut self, path: &Path) {
        let place = |mark: Mark| Origin::File {
            path: path.to_owned(),
            line: mark.line,
            column: mark.column,
        };
        let text = match read_text(path) {
            Ok(text) => text,
            Err((mark, message)) => return self.error(place(mark), "", message),
        };
        let parsed = crate::yaml::parse(&text);
        let first = self.errors.len();
        for (mark, message) in parsed.errors {
            self.error(place(mark), "", message);
        }
        for document in parsed.documents.iter().filter(|document| !document.is_null()) {
            self.document(path, document, &place);
        }
        if let Some(new) = self.errors.get_mut(first..) {
            new.sort_by(|a, b| a.origin.cmp(&b.origin));
        }
    }

    fn document(&mut self, path: &Path, document: &Node, place: &dyn Fn(Mark) -> Origin) {
        if !matches!(document.value, Yaml::Mapping(_)) {
            return self.error(
                place(document.mark),
                "",
                "a resource must be a map with kind, version, metadata and spec".to_owned(),
            );
        }
        let text = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Yaml::Scalar(text, _)) => Some(text.clone()),
            _ => None,
        };
        let name = text(document.child("metadata").and_then(|metadata| metadata.child("name")));
        let kind_node = document.child("kind");
        let kind = text(kind_node).filter(|kind| !kind.is_empty());
        let Some(kind) = kind else {
            let mark = kind_node.map_or(document.mark, |node| node.mark);
            return self.error(place(mark), "", "kind is missing: write windows_desktop".to_owned());
        };
        let subject = match &name {
            Some(name) => printable(&format!("{kind}/{name}")),
            None => printable(&kind),
        };
        if kind != "windows_desktop" {
            let message = if LATER_KINDS.contains(&kind.as_str()) {
                "this version does not enforce resources of this kind, so it refuses them; remove it".to_owned()
            } else {
                "unknown kind (known: windows_desktop)".to_owned()
            };
            return self.error(
                place(kind_node.map_or(document.mark, |node| node.mark)),
                &subject,
                message,
            );
        }
        self.desktop(path, document, &subject, place);
    }

    fn desktop(&mut self, path: &Path, document: &Node, subject: &str, place: &dyn Fn(Mark) -> Origin) {
        let mut checker = Checker::new(&DESKTOP, place);
        subject.clone_into(&mut checker.subject);
        let mut values = checker.section("", "", document);
        checker.fill(&mut values, "", "", document.mark);
        let Checker {
            mut errors,
            origins,
            poisoned,
            ..
        } = checker;
        if let Ok(raw) = serde_json::from_value::<RawDesktop>(Value::Object(values)) {
            let folder = path.parent().unwrap_or(Path::new(""));
            let (desktop, findings) = resolve(raw, folder);
            for (field, message) in findings {
                if !is_poisoned(&poisoned, field) {
                    let origin = crate::nearest_origin(&origins, field);
                    let origin = if origin == Origin::Default {
                        place(document.mark)
                    } else {
                        origin
                    };
                    errors.push(ConfigError {
                        origin,
                        key: format!("{subject}: {field}"),
                        message,
                    });
                }
            }
            let origin = crate::nearest_origin(&origins, "metadata.name");
            if !is_poisoned(&poisoned, "metadata.name") {
                match self.names.entry(desktop.name.clone()) {
                    Entry::Occupied(first) => errors.push(ConfigError {
                        origin,
                        key: format!("{subject}: metadata.name"),
                        message: format!("used twice, first at {}", first.get()),
                    }),
                    Entry::Vacant(free) => {
                        free.insert(origin);
                    }
                }
            }
            self.resources.desktops.push(desktop);
        } else if errors.is_empty() {
            // the registry and the raw type disagree; a test holds that they don't
            self.error(place(document.mark), subject, "can't be read".to_owned());
        }
        self.errors.append(&mut errors);
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDesktop {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: String,
    metadata: RawMetadata,
    spec: RawSpec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMetadata {
    name: String,
    description: Option<String>,
    labels: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    addr: String,
    gateway: RawDesktopGateway,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDesktopGateway {
    tls: RawTls,
    security: DesktopSecurity,
    credentials: RawCredentials,
    bulk_compression: BulkCompression,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredentials {
    /// Where the word `passthrough` lands; it is what an empty list of logins means anyway.
    #[serde(rename = "mode")]
    _mode: String,
    logins: Vec<RawLogin>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLogin {
    login: String,
    domain: Option<String>,
    password: SecretSource,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    verify: Verify,
    sha256: Option<String>,
    ca: Option<String>,
}

/// The desktop, and what is wrong with it: field and message.
fn resolve(raw: RawDesktop, folder: &Path) -> (WindowsDesktop, Vec<(&'static str, String)>) {
    let mut findings = Vec::new();
    let RawTls { verify, sha256, ca } = raw.spec.gateway.tls;
    if sha256.is_some() && verify != Verify::Pin {
        findings.push(("spec.gateway.tls.sha256", "belongs to verify: pin only".to_owned()));
    }
    match (verify, &ca) {
        (Verify::Ca, None) => {
            findings.push((
                "spec.gateway.tls.verify",
                "ca needs spec.gateway.tls.ca, a PEM file of trusted roots".to_owned(),
            ));
        }
        (Verify::Pin | Verify::None, Some(_)) => {
            findings.push(("spec.gateway.tls.ca", "belongs to verify: ca only".to_owned()));
        }
        _ => {}
    }
    let name = raw.metadata.name;
    if name.len() > 255 || name.contains('/') || name.chars().any(char::is_control) {
        findings.push((
            "metadata.name",
            "must be 1 to 255 bytes without / and control characters".to_owned(),
        ));
    }
    let addr = host_and_port(&raw.spec.addr).unwrap_or_else(|| {
        let message = format!(
            "{} is not an address: write host or host:port, an IPv6 host in brackets",
            quoted(&raw.spec.addr)
        );
        findings.push(("spec.addr", message));
        String::new()
    });
    let desktop = WindowsDesktop {
        name,
        description: raw.metadata.description,
        labels: raw.metadata.labels,
        addr,
        gateway: DesktopGateway {
            tls: DesktopTls {
                verify,
                sha256,
                ca: ca.map(|ca| absolute(folder, &ca)),
            },
            security: raw.spec.gateway.security,
            credentials: credentials(raw.spec.gateway.credentials, folder, &mut findings),
            bulk_compression: raw.spec.gateway.bulk_compression,
        },
    };
    (desktop, findings)
}

/// Logins beyond this are not managed by hand.
const LOGINS_MAX: usize = 256;

fn credentials(raw: RawCredentials, folder: &Path, findings: &mut Vec<(&'static str, String)>) -> Credentials {
    const LOGINS: &str = "spec.gateway.credentials.logins";
    if raw.logins.is_empty() {
        return Credentials::Passthrough;
    }
    if raw.logins.len() > LOGINS_MAX {
        findings.push((LOGINS, format!("more than {LOGINS_MAX} entries")));
    }
    let mut logins: Vec<DesktopLogin> = Vec::new();
    for raw in raw.logins {
        if logins.iter().any(|other| other.login.eq_ignore_ascii_case(&raw.login)) {
            findings.push((LOGINS, format!("{} stands there twice", quoted(&raw.login))));
        }
        let password = match raw.password {
            SecretSource::File(path) => SecretSource::File(absolute(folder, &path.to_string_lossy())),
            other => other,
        };
        logins.push(DesktopLogin {
            login: raw.login,
            domain: raw.domain,
            password,
        });
    }
    Credentials::Logins(logins)
}

/// `host:port` of an address that may lack the port.
fn host_and_port(addr: &str) -> Option<String> {
    let (host, port) = match addr.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']')?;
            host.parse::<Ipv6Addr>().ok()?;
            (format!("[{host}]"), rest)
        }
        None => {
            let (host, rest) = addr.split_at(addr.find(':').unwrap_or(addr.len()));
            let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
            if host.is_empty() || host.len() > 253 || !host.chars().all(fits) {
                return None;
            }
            (host.to_owned(), rest)
        }
    };
    let port = match port.strip_prefix(':') {
        None if port.is_empty() => RDP_PORT,
        None => return None,
        Some(port) if port.starts_with('+') => return None,
        Some(port) => port.parse().ok().filter(|port| *port != 0)?,
    };
    Some(format!("{host}:{port}"))
}

#[cfg(test)]
#[path = "resource_tests.rs"]
mod tests;
