//! Resource `windows_desktop`: where a desktop is and how the gateway talks to it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use time::OffsetDateTime;

use super::model::RecordVote;
use super::raw::{Findings, RawMetadata, vote};
use crate::layers::absolute;
use crate::scalar::quoted;

/// Port of a desktop whose `addr` names none.
const RDP_PORT: u16 = 3389;

/// Resource `windows_desktop`, version `v3`. Linux desktops that speak RDP too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WindowsDesktop {
    /// Unique name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
    /// Labels that roles select by, as written; the computed ones come on top.
    pub labels: BTreeMap<String, String>,
    /// `host:port`; the port is 3389 unless written. IPv6 hosts stand in brackets.
    pub addr: String,
    /// Active Directory domain of the desktop.
    pub domain: Option<String>,
    /// It is in no Active Directory domain.
    pub non_ad: bool,
    /// Size of the screen that sessions are asked to have.
    pub screen_size: Option<ScreenSize>,
    /// The desktop's vote on recording; never [`RecordVote::Off`].
    pub record: Option<RecordVote>,
    /// From then on the desktop is absent.
    pub expires: Option<OffsetDateTime>,
    /// How the gateway talks to it.
    pub gateway: DesktopGateway,
}

/// Width and height in pixels, up to 8192.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScreenSize {
    /// Pixels.
    pub width: u16,
    /// Pixels.
    pub height: u16,
}

/// `spec.gateway` of a desktop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesktopGateway {
    /// How the desktop's certificate is checked.
    pub tls: DesktopTls,
    /// How the desktop may secure its leg.
    pub security: DesktopSecurity,
    /// Whose credentials log on.
    pub credentials: Credentials,
    /// What happens to the desktop's bulk compression.
    pub bulk_compression: BulkCompression,
    /// How the desktop may send its picture; `None` = as `gateway.graphics` says.
    pub graphics: Option<Graphics>,
}

/// How a desktop's leg is secured. Whatever is not named is refused, never fallen back to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DesktopSecurity {
    /// Network level authentication or TLS, as the desktop prefers; TLS alone when there is nothing to log on with.
    #[default]
    Auto,
    /// Network level authentication alone.
    Nla,
    /// TLS alone.
    Tls,
}

/// `spec.gateway.tls` of a desktop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DesktopTls {
    /// The check.
    pub verify: Verify,
    /// SHA-256 of the certificate (DER), 64 lower-case hex digits; only with [`Verify::Pin`], where `None` = trust on first use.
    pub sha256: Option<String>,
    /// PEM file of trusted roots, absolute; only and always with [`Verify::Ca`].
    pub ca: Option<PathBuf>,
}

/// How a desktop's certificate is checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verify {
    /// It must be the one that is known: by `sha256`, else by the one first seen.
    #[default]
    Pin,
    /// It must be signed by the `ca` and bear the name of `addr`.
    Ca,
    /// Not at all. Must be written out.
    None,
}

/// Whose credentials log on to the desktop.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Credentials {
    /// The user's own, passed through.
    #[default]
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

impl fmt::Debug for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BulkCompression {
    /// Left as negotiated; the tap decompresses.
    #[default]
    Keep,
    /// Negotiated away.
    Clear,
}

/// How desktops may send their picture.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Graphics {
    /// As this version thinks best: [`Graphics::Gfx`].
    #[default]
    Auto,
    /// Bitmaps alone, for a desktop whose codecs make trouble.
    Legacy,
    /// The graphics pipeline, RemoteFX and NSCodec stay as negotiated; H.264 is negotiated away.
    Gfx,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawDesktop {
    #[serde(rename = "kind")]
    _kind: String,
    #[serde(rename = "version")]
    _version: String,
    #[serde(rename = "sub_kind")]
    _sub_kind: Option<String>,
    metadata: RawMetadata,
    spec: RawSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSpec {
    addr: String,
    domain: Option<String>,
    non_ad: bool,
    screen_size: RawSize,
    record_session: RawFloor,
    gateway: RawDesktopGateway,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSize {
    width: Option<u16>,
    height: Option<u16>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFloor {
    desktop: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDesktopGateway {
    tls: RawTls,
    security: DesktopSecurity,
    credentials: RawCredentials,
    bulk_compression: BulkCompression,
    graphics: Option<Graphics>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    verify: Verify,
    sha256: Option<String>,
    ca: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawCredentials {
    mode: Option<String>,
    logins: Vec<RawLogin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawLogin {
    login: String,
    domain: Option<String>,
    password: SecretSource,
}

/// The desktop; what is wrong with it goes to `findings`. Relative paths start at `base`.
pub(super) fn resolve(raw: RawDesktop, base: &Path, findings: &mut Findings) -> WindowsDesktop {
    let spec = raw.spec;
    let addr = host_and_port(&spec.addr).unwrap_or_else(|| {
        let message = format!(
            "{} is not an address: write host or host:port, an IPv6 host in brackets",
            quoted(&spec.addr)
        );
        findings.add("spec.addr", message);
        String::new()
    });
    let screen_size = match (
        spec.screen_size.width.unwrap_or(0),
        spec.screen_size.height.unwrap_or(0),
    ) {
        (0, 0) => None,
        (0, _) | (_, 0) => {
            findings.add("spec.screen_size", "needs both width and height");
            None
        }
        (width, height) => Some(ScreenSize { width, height }),
    };
    let record = spec.record_session.desktop.as_deref().map(vote);
    if record == Some(RecordVote::Off) {
        findings.add("spec.record_session.desktop", "a desktop can only raise recording");
    }
    WindowsDesktop {
        name: raw.metadata.name,
        description: raw.metadata.description.filter(|text| !text.is_empty()),
        labels: raw.metadata.labels,
        expires: raw.metadata.expires,
        addr,
        domain: spec.domain.filter(|domain| !domain.is_empty()),
        non_ad: spec.non_ad,
        screen_size,
        record,
        gateway: gateway(spec.gateway, base, findings),
    }
}

fn gateway(raw: RawDesktopGateway, base: &Path, findings: &mut Findings) -> DesktopGateway {
    let RawTls { verify, sha256, ca } = raw.tls;
    if sha256.is_some() && verify != Verify::Pin {
        findings.add("spec.gateway.tls.sha256", "belongs to verify: pin only");
    }
    match (verify, &ca) {
        (Verify::Ca, None) => {
            findings.add(
                "spec.gateway.tls.verify",
                "ca needs spec.gateway.tls.ca, a PEM file of trusted roots",
            );
        }
        (Verify::Pin | Verify::None, Some(_)) => {
            findings.add("spec.gateway.tls.ca", "belongs to verify: ca only");
        }
        _ => {}
    }
    DesktopGateway {
        tls: DesktopTls {
            verify,
            sha256,
            ca: ca.map(|ca| absolute(base, &ca)),
        },
        security: raw.security,
        credentials: credentials(raw.credentials, base, findings),
        bulk_compression: raw.bulk_compression,
        graphics: raw.graphics,
    }
}

/// Logins beyond this are not managed by hand.
const LOGINS_MAX: usize = 256;

fn credentials(raw: RawCredentials, base: &Path, findings: &mut Findings) -> Credentials {
    const LOGINS: &str = "spec.gateway.credentials.logins";
    if raw.logins.is_empty() {
        return Credentials::Passthrough;
    }
    if raw.mode.is_some() {
        findings.add("spec.gateway.credentials", "are either passthrough or logins, not both");
    }
    if raw.logins.len() > LOGINS_MAX {
        findings.add(LOGINS, format!("more than {LOGINS_MAX} entries"));
    }
    let mut logins: Vec<DesktopLogin> = Vec::new();
    for (index, raw) in raw.logins.into_iter().enumerate() {
        if logins.iter().any(|other| other.login.eq_ignore_ascii_case(&raw.login)) {
            let message = format!("{} stands there twice (case does not count)", quoted(&raw.login));
            findings.add(format!("{LOGINS}[{index}].login"), message);
        }
        logins.push(DesktopLogin {
            login: raw.login,
            domain: raw.domain.filter(|domain| !domain.is_empty()),
            password: match raw.password {
                SecretSource::File(path) => SecretSource::File(absolute(base, &path.to_string_lossy())),
                other => other,
            },
        });
    }
    Credentials::Logins(logins)
}

/// `host:port` of an address that may lack the port.
pub(super) fn host_and_port(addr: &str) -> Option<String> {
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
