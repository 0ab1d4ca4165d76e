//! Resources: a folder of YAML streams. The first kind is `windows_desktop`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::error::Errors;

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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verify {
    /// It must be the one that is known: by `sha256`, else by the one first seen.
    Pin,
    /// It must be signed by the `ca` and bear the name of `addr`.
    Ca,
    /// Not at all. Must be written out.
    None,
}

/// Whose credentials log on to the desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Credentials {
    /// The user's own, passed through.
    Passthrough,
}

/// What happens to the desktop's bulk compression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BulkCompression {
    /// Left as negotiated; the tap decompresses.
    Keep,
    /// Negotiated away.
    Clear,
}

/// Reads every `*.yaml` and `*.yml` file in `folder` (not in folders below it).
///
/// # Errors
/// All errors of all files at once.
pub fn load_resources(folder: &Path) -> Result<Resources, Errors> {
    Ok(Resources {
        folder_missing: !folder.is_dir(),
        ..Resources::default()
    })
}
