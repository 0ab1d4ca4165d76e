//! Resources: YAML streams from a folder, a file or a text. Each document is checked by itself, with the place of every
//! value; what they say together (a user's roles exist) is for whoever knows all of them.

mod desktop;
mod edit;
mod model;
mod raw;
mod read;
pub(crate) mod schema;

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;

use crate::error::{ConfigError, Errors, Origin};
use crate::yaml::Mark;

pub use desktop::{
    BulkCompression, Credentials, DesktopGateway, DesktopLogin, DesktopSecurity, DesktopTls, Graphics, ScreenSize,
    SecretSource, Verify, WindowsDesktop,
};
pub use edit::read_edited;
pub use model::{
    ClipboardLevel, ClipboardRight, ClusterMode, DeviceTrust, InputLevel, Lock, LockTarget, LockingMode, Metadata,
    RecordSession, RecordVote, RecordingSettings, Role, RoleConditions, RoleOptions, Rule, SessionMfa, User,
};
pub use read::{ReadOptions, Stream, read_resources, read_stored};

/// Name that the one `session_recording_config` has.
pub const RECORDING_CONFIG_NAME: &str = "session-recording-config";

/// Kinds of resources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResourceKind {
    /// `role`
    Role,
    /// `user`
    User,
    /// `windows_desktop`: any RDP desktop, Linux too.
    WindowsDesktop,
    /// `session_recording_config`: there is one.
    SessionRecordingConfig,
    /// `lock`
    Lock,
}

impl ResourceKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 5] = [
        Self::Role,
        Self::User,
        Self::WindowsDesktop,
        Self::SessionRecordingConfig,
        Self::Lock,
    ];

    /// The word of `kind`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Role => "role",
            Self::User => "user",
            Self::WindowsDesktop => "windows_desktop",
            Self::SessionRecordingConfig => "session_recording_config",
            Self::Lock => "lock",
        }
    }

    /// The kind that a word stands for, as people type it: `roles`, `desktop`, `dynamic_windows_desktop` too.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        let word = word.to_ascii_lowercase().replace('-', "_");
        let one = word.strip_suffix('s').unwrap_or(&word);
        match one {
            "role" => Some(Self::Role),
            "user" => Some(Self::User),
            "windows_desktop" | "dynamic_windows_desktop" | "desktop" => Some(Self::WindowsDesktop),
            "session_recording_config" | "session_recording" | "recording_config" => Some(Self::SessionRecordingConfig),
            "lock" => Some(Self::Lock),
            _ => None,
        }
    }

    /// The version in which resources of this kind are written.
    #[must_use]
    pub fn version(self) -> &'static str {
        match self {
            Self::Role => "v7",
            Self::WindowsDesktop => "v3",
            Self::User | Self::SessionRecordingConfig | Self::Lock => "v2",
        }
    }
}

impl fmt::Display for ResourceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A resource as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resource {
    /// A role.
    Role(Role),
    /// A user.
    User(User),
    /// A desktop.
    Desktop(WindowsDesktop),
    /// Whether and how sessions are recorded.
    Recording(RecordingSettings),
    /// A lock.
    Lock(Lock),
}

/// One document of a stream: a resource, what was written, and where.
#[derive(Clone, PartialEq)]
pub struct Document {
    /// Which kind.
    pub kind: ResourceKind,
    /// `metadata.name`
    pub name: String,
    /// What it says.
    pub resource: Resource,
    /// As it was written, as JSON, without what is computed (`status`, revision, origin). Holds secrets that were
    /// written in clear text.
    pub source: Value,
    /// From then on the resource is absent: `metadata.expires`.
    pub expires: Option<OffsetDateTime>,
    /// `metadata.revision` as written.
    pub revision: Option<u64>,
    /// Where the document starts.
    pub place: Origin,
    /// Where relative paths in it start.
    pub base: PathBuf,
    /// Places of the values, by path, sorted.
    spans: Vec<(String, Mark)>,
}

impl fmt::Debug for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} at {}", self.kind, self.name, self.place)
    }
}

impl Document {
    /// `kind/name`
    #[must_use]
    pub fn subject(&self) -> String {
        format!("{}/{}", self.kind, self.name)
    }

    /// Where the value at `path`, such as `spec.allow.rules[0].where`, stands; else the nearest thing around it.
    #[must_use]
    pub fn origin(&self, path: &str) -> Origin {
        let Origin::File { path: file, .. } = &self.place else {
            return self.place.clone();
        };
        let mut path = path;
        loop {
            let found = self.spans.binary_search_by(|(known, _)| known.as_str().cmp(path));
            if let Some((_, mark)) = found.ok().and_then(|index| self.spans.get(index)) {
                return Origin::File {
                    path: file.clone(),
                    line: mark.line,
                    column: mark.column,
                };
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = path.get(..end).unwrap_or_default(),
                None => return self.place.clone(),
            }
        }
    }

    /// An error about the value at `path`.
    #[must_use]
    pub fn error(&self, path: &str, message: impl Into<String>) -> ConfigError {
        let subject = crate::scalar::printable(&self.subject());
        ConfigError {
            origin: self.origin(path),
            key: if path.is_empty() {
                subject
            } else {
                format!("{subject}: {path}")
            },
            message: message.into(),
        }
    }
}

/// All resources of a folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Resources {
    /// Everything that was read, in the order of files and documents. Names are unique within a kind.
    pub documents: Vec<Document>,
    /// The desktops among them by name, sorted.
    pub desktops: Vec<WindowsDesktop>,
    /// The files that were read, sorted.
    pub files: Vec<PathBuf>,
    /// What was accepted but is probably not meant.
    pub warnings: Vec<ConfigError>,
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

/// Resource files of one folder.
const FILES_MAX: usize = 4096;

/// Reads every `*.yaml` and `*.yml` file in `folder` (not in folders below it, nor hidden files). All or nothing.
///
/// # Errors
/// All errors of all files at once, each as `FILE:LINE:COLUMN: KIND/NAME: FIELD: what is wrong`.
pub fn load_resources(folder: &Path) -> Result<Resources, Errors> {
    let (resources, errors) = read_folder(folder);
    if errors.is_empty() {
        return Ok(resources);
    }
    Err(Errors::bounded(errors))
}

/// As [`load_resources`], with what is right beside what is wrong, so that a caller can say all that is wrong at once.
/// Nothing is to be used of resources with errors.
#[must_use]
pub fn read_folder(folder: &Path) -> (Resources, Vec<ConfigError>) {
    let mut resources = Resources::default();
    let mut stream = Stream::default();
    match files(folder) {
        Ok(None) => resources.folder_missing = true,
        Ok(Some(files)) => {
            for file in &files {
                stream.read_file(file);
            }
            resources.files = files;
        }
        Err(message) => stream.errors.push(ConfigError {
            origin: Origin::File {
                path: folder.to_owned(),
                line: 0,
                column: 0,
            },
            key: String::new(),
            message,
        }),
    }
    resources.warnings = stream.warnings;
    resources.documents = stream.documents;
    let desktops = resources
        .documents
        .iter()
        .filter_map(|document| match &document.resource {
            Resource::Desktop(desktop) => Some(desktop.clone()),
            _ => None,
        });
    resources.desktops = desktops.collect();
    resources.desktops.sort_by(|a, b| a.name.cmp(&b.name));
    (resources, stream.errors)
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

#[cfg(test)]
mod kind_tests;
#[cfg(test)]
mod tests;
