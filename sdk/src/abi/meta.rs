//! What a plugin says about itself: in a section of its file, readable without running it, and by a call once loaded.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::abi::{ABI_MAJOR, RUSTC_VERSION, SDK_VERSION};

/// The section of a plugin's file that holds [`Meta`] as JSON.
pub const SECTION: &str = ".deskreel.meta";

/// The most that a reader takes of [`SECTION`], in bytes.
pub const SECTION_MAX_BYTES: usize = 4096;

/// What kind of plugin it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Keeps objects.
    Storage,
    /// Makes other formats of recordings.
    Exporter,
}

impl Kind {
    /// The word in file names and messages.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Storage => "storage",
            Self::Exporter => "exporter",
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The facts in [`SECTION`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// ABI major.
    pub abi: u32,
    /// Storage or exporter.
    pub kind: Kind,
    /// The plugin's name, as in `plugin: NAME`.
    pub name: String,
    /// Version of the author's crate.
    pub version: String,
    /// Version of the SDK.
    pub sdk: String,
    /// The compiler.
    pub rustc: String,
}

/// What a loaded plugin says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Info {
    /// The plugin's name.
    pub name: String,
    /// Version of the author's crate.
    pub version: String,
    /// JSON Schema of the settings.
    pub settings_schema: Value,
    /// What an exporter can make.
    #[serde(default)]
    pub formats: Vec<FormatInfo>,
    /// Whether an exporter's jobs need frames.
    #[serde(default = "yes")]
    pub wants_frames: bool,
    /// Whether an exporter's jobs get all events.
    #[serde(default)]
    pub wants_events: bool,
}

/// Exporters built before there was a choice need frames.
const fn yes() -> bool {
    true
}

/// [`crate::Format`], owned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as in Format")]
pub struct FormatInfo {
    pub id: String,
    #[serde(default)]
    pub extension: String,
    #[serde(default)]
    pub mime: String,
    #[serde(default)]
    pub needs_seek: bool,
    #[serde(default)]
    pub folder: bool,
    #[serde(default)]
    pub lossless: bool,
    #[serde(default)]
    pub still: bool,
}

impl FormatInfo {
    /// `lossless`, `still`: ids of the exporter's formats that can be, or are so.
    pub(crate) fn new(format: &crate::Format, lossless: &[&str], still: &[&str]) -> Self {
        Self {
            id: format.id.to_owned(),
            extension: format.extension.to_owned(),
            mime: format.mime.to_owned(),
            needs_seek: format.needs_seek,
            folder: format.folder,
            lossless: lossless.contains(&format.id),
            still: still.contains(&format.id),
        }
    }
}

/// The author's package, as the macro sees it.
#[doc(hidden)]
#[derive(Clone, Copy)]
pub struct Package {
    pub name: &'static str,
    pub version: &'static str,
}

impl Package {
    /// The plugin's name: the package's without `deskreel_<kind>_`, whichever of `-` and `_` it is written with.
    #[must_use]
    pub const fn plugin(self, kind: Kind) -> &'static str {
        let prefix = match kind {
            Kind::Storage => "deskreel_storage_",
            Kind::Exporter => "deskreel_exporter_",
        };
        let (name, prefix) = (self.name.as_bytes(), prefix.as_bytes());
        let mut at = 0;
        while at < prefix.len() {
            if at >= name.len() || (name[at] != prefix[at] && !(name[at] == b'-' && prefix[at] == b'_')) {
                return self.name;
            }
            at += 1;
        }
        match self.name.as_bytes().split_at_checked(at) {
            Some((_, rest)) => match std::str::from_utf8(rest) {
                Ok(rest) => rest,
                Err(_) => self.name,
            },
            None => self.name,
        }
    }
}

const fn digit() -> &'static str {
    match ABI_MAJOR {
        1 => "1",
        2 => "2",
        _ => panic!("write this major's digit here"),
    }
}

const fn parts(package: Package, kind: Kind) -> [&'static str; 13] {
    [
        "{\"abi\":",
        digit(),
        ",\"kind\":\"",
        kind.as_str(),
        "\",\"name\":\"",
        package.plugin(kind),
        "\",\"version\":\"",
        package.version,
        "\",\"sdk\":\"",
        SDK_VERSION,
        "\",\"rustc\":\"",
        RUSTC_VERSION,
        "\"}",
    ]
}

/// Length of the section, for the macro.
#[doc(hidden)]
#[must_use]
pub const fn section_len(package: Package, kind: Kind) -> usize {
    let parts = parts(package, kind);
    let (mut length, mut part) = (0, 0);
    while part < parts.len() {
        length += parts[part].len();
        part += 1;
    }
    length
}

/// The section's bytes, for the macro.
#[doc(hidden)]
#[must_use]
pub const fn section<const N: usize>(package: Package, kind: Kind) -> [u8; N] {
    assert!(N <= SECTION_MAX_BYTES, "package name or version is too long");
    let parts = parts(package, kind);
    let mut bytes = [0; N];
    let (mut at, mut part) = (0, 0);
    while part < parts.len() {
        let text = parts[part].as_bytes();
        let mut index = 0;
        while index < text.len() {
            // Versions and names of packages have no such characters; the first and last parts' quotes are ours.
            let ours = part % 2 == 0;
            assert!(
                ours || (text[index] != b'"' && text[index] != b'\\' && text[index] >= b' '),
                "character in a package fact"
            );
            bytes[at] = text[index];
            at += 1;
            index += 1;
        }
        part += 1;
    }
    bytes
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_section_is_json_with_the_plugins_name() {
        const PACKAGE: Package = Package {
            name: "deskreel-storage_s3",
            version: "1.2.3-rc.1+x",
        };
        const N: usize = section_len(PACKAGE, Kind::Storage);
        let meta: Meta = serde_json::from_slice(&section::<N>(PACKAGE, Kind::Storage)).unwrap();
        assert_eq!(
            (meta.name.as_str(), meta.version.as_str(), meta.abi),
            ("s3", "1.2.3-rc.1+x", ABI_MAJOR)
        );
        assert_eq!(
            Package {
                name: "other",
                ..PACKAGE
            }
            .plugin(Kind::Exporter),
            "other"
        );
        assert_eq!(SDK_VERSION.split('.').next(), Some(ABI_MAJOR.to_string().as_str()));
        assert!(crate::abi::STORAGE_SYMBOL.ends_with(&format!("_v{ABI_MAJOR}")));
    }
}
