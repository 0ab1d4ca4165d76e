//! One resource that is in force, where it comes from, and what is built in.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use deskreel_config::{Document, ReadOptions, ResourceKind, read_resources, read_stored};
use serde_json::{Map, Value};

use crate::catalog::{StoredOrigin, StoredResource};

/// Who says a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ResourceOrigin {
    /// Built in.
    Defaults,
    /// The resource folder, or a key of the configuration.
    ConfigFile,
    /// A command.
    Dynamic,
}

impl ResourceOrigin {
    /// The word in the label `teleport.dev/origin`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Defaults => "defaults",
            Self::ConfigFile => "config-file",
            Self::Dynamic => "dynamic",
        }
    }
}

impl From<StoredOrigin> for ResourceOrigin {
    fn from(origin: StoredOrigin) -> Self {
        match origin {
            StoredOrigin::ConfigFile => Self::ConfigFile,
            StoredOrigin::Dynamic => Self::Dynamic,
        }
    }
}

/// The label that says where a resource comes from.
pub(crate) const ORIGIN_LABEL: &str = "teleport.dev/origin";

/// A resource in force.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    /// Who says it.
    pub(crate) origin: ResourceOrigin,
    /// Revision; 0 of what is built in.
    pub(crate) revision: u64,
    /// Where it was read, for people; empty of what is built in.
    pub(crate) place: String,
    /// What it says.
    pub(crate) document: Arc<Document>,
    /// Why the stored version can't be read; `document` is an earlier one then.
    pub(crate) problem: Option<String>,
}

/// A stored resource that can't be read and of which no earlier version is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unreadable {
    /// Which kind.
    pub(crate) kind: ResourceKind,
    /// Its name.
    pub(crate) name: String,
    /// What is wrong.
    pub(crate) problem: String,
}

impl Entry {
    /// Reads a stored resource.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(stored: &StoredResource) -> Result<Self, Unreadable> {
        let unreadable = |problem: String| Unreadable {
            kind: stored.kind,
            name: stored.name.clone(),
            problem,
        };
        let value: Value =
            serde_json::from_str(&stored.document).map_err(|error| unreadable(format!("not JSON: {error}")))?;
        let document = read_stored(&value, &stored.base).map_err(|errors| unreadable(errors.to_string()))?;
        if (document.kind, document.name.as_str()) != (stored.kind, stored.name.as_str()) {
            return Err(unreadable(format!("holds {}", document.subject())));
        }
        Ok(Self {
            origin: stored.origin.into(),
            revision: stored.revision,
            place: stored.place.clone(),
            document: Arc::new(document),
            problem: None,
        })
    }

    /// A resource that is only proposed.
    pub(crate) fn proposed(document: Document, origin: ResourceOrigin) -> Self {
        Self {
            origin,
            revision: 0,
            place: document.place.to_string(),
            document: Arc::new(document),
            problem: None,
        }
    }

    /// Which kind.
    pub(crate) fn kind(&self) -> ResourceKind {
        self.document.kind
    }

    /// Unique within its kind.
    pub(crate) fn name(&self) -> &str {
        &self.document.name
    }

    /// The resource as it is shown: what was written, with origin and revision, without secrets.
    pub(crate) fn shown(&self) -> Value {
        let mut value = self.document.source.clone();
        hide(&mut value);
        let Value::Object(document) = &mut value else {
            return value;
        };
        let metadata = document.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            if self.revision > 0 {
                metadata.insert("revision".to_owned(), self.revision.to_string().into());
            }
            let labels = metadata.entry("labels").or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(labels) = labels {
                labels.insert(ORIGIN_LABEL.to_owned(), self.origin.as_str().into());
            }
        }
        value
    }
}

/// What stands in place of a secret; a document that says it is refused.
pub(crate) const HIDDEN: &str = "[hidden]";

/// The passwords of `spec.gateway.credentials.logins` that are written in clear text: whatever does not say where the secret
/// is, a number too.
fn passwords(document: &mut Value) -> impl Iterator<Item = &mut Value> {
    let logins = document.pointer_mut("/spec/gateway/credentials/logins");
    let logins = match logins {
        Some(Value::Array(logins)) => logins.iter_mut().collect(),
        Some(one @ Value::Object(_)) => vec![one],
        _ => Vec::new(),
    };
    logins.into_iter().filter_map(|login| {
        let password = login.get_mut("password")?;
        let clear = !matches!(password, Value::Object(_) | Value::Null);
        clear.then_some(password)
    })
}

/// Takes secrets out of a document.
pub(crate) fn hide(document: &mut Value) {
    for password in passwords(document) {
        *password = HIDDEN.into();
    }
}

/// What is built in: the presets and the settings of recording.
pub(crate) fn defaults() -> &'static [Arc<Entry>] {
    static DEFAULTS: LazyLock<Vec<Arc<Entry>>> = LazyLock::new(|| {
        let options = ReadOptions {
            file: Path::new("presets"),
            base: Path::new("/"),
            skip_foreign: false,
        };
        let stream = read_resources(include_str!("presets.yaml"), &options);
        debug_assert!(stream.errors.is_empty(), "{:?}", stream.errors);
        let entry = |document| {
            Arc::new(Entry {
                origin: ResourceOrigin::Defaults,
                revision: 0,
                place: String::new(),
                document: Arc::new(document),
                problem: None,
            })
        };
        stream.documents.into_iter().map(entry).collect()
    });
    &DEFAULTS
}
