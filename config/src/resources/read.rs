//! From text to documents: kinds, versions, fields, names.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::desktop::{self, RawDesktop};
use super::raw::{self, Findings};
use super::schema::{DESKTOP, LOCK, RECORDING, ROLE, USER};
use super::{Document, RECORDING_CONFIG_NAME, Resource, ResourceKind};
use crate::check::{Checker, get, is_poisoned};
use crate::error::{ConfigError, Errors, Origin};
use crate::layers::read_text;
use crate::scalar::{printable, quoted};
use crate::schema::{Schema, likeness};
use crate::value::plain;
use crate::yaml::{Mark, Node, Pair, Style, Yaml};

/// Bytes of one file or text of resources.
const STREAM_MAX_BYTES: u64 = 16 << 20;

/// `resource_max_bytes`: bytes of one document, from its first value to the next document.
pub(super) const RESOURCE_MAX_BYTES: usize = 1 << 20;

/// How a stream is read.
#[derive(Debug, Clone, Copy)]
pub struct ReadOptions<'a> {
    /// What the stream is called in messages.
    pub file: &'a Path,
    /// Where relative paths in it start. Absolute.
    pub base: &'a Path,
    /// A kind that is not ours is a warning, not an error.
    pub skip_foreign: bool,
}

/// What was read so far.
#[derive(Debug, Default)]
pub struct Stream {
    /// The documents. Of a stream with errors some are wrong, and none is to be used but to find out what else is wrong.
    pub documents: Vec<Document>,
    /// What is wrong.
    pub errors: Vec<ConfigError>,
    /// What was accepted but is probably not meant.
    pub warnings: Vec<ConfigError>,
    /// Where each name was first used.
    names: HashMap<(ResourceKind, String), Origin>,
    skip_foreign: bool,
}

/// Reads the documents of `text`. Nothing is to be used of a stream with errors.
#[must_use]
pub fn read_resources(text: &str, options: &ReadOptions<'_>) -> Stream {
    read_with(text, options, &|_| ())
}

/// As [`read_resources`], with a change of each document before it is looked at.
pub(super) fn read_with(text: &str, options: &ReadOptions<'_>, change: &dyn Fn(&mut Node)) -> Stream {
    let mut stream = Stream {
        skip_foreign: options.skip_foreign,
        ..Stream::default()
    };
    if text.len() as u64 > STREAM_MAX_BYTES {
        let message = format!("larger than {STREAM_MAX_BYTES} bytes");
        stream.errors.push(ConfigError {
            origin: place(options.file, Mark::default()),
            key: String::new(),
            message,
        });
    } else {
        stream.read_text(text, options.file, options.base, change);
    }
    stream
}

/// Reads a resource that was [`Document::source`] once. Its errors name no file.
///
/// # Errors
/// What is wrong with it: it was written by another version, or damaged.
pub fn read_stored(source: &Value, base: &Path) -> Result<Document, Errors> {
    let mut stream = Stream::default();
    stream.document(&node_of(source), base, &|_| Origin::Default);
    match stream.documents.pop() {
        Some(document) if stream.errors.is_empty() => Ok(document),
        _ => Err(Errors::bounded(stream.errors)),
    }
}

/// Bytes of each document: of the lines from its first to that of the next one.
fn sizes(text: &str, documents: &[Node]) -> Vec<usize> {
    let mut sizes = vec![0; documents.len()];
    let mut next = documents
        .iter()
        .map(|document| document.mark.line)
        .enumerate()
        .peekable();
    let mut current = None;
    for (index, line) in text.split_inclusive('\n').enumerate() {
        while let Some((document, _)) = next.next_if(|(_, first)| *first <= index + 1) {
            current = Some(document);
        }
        if let Some(size) = current.and_then(|document| sizes.get_mut(document)) {
            *size += line.len();
        }
    }
    sizes
}

fn place(file: &Path, mark: Mark) -> Origin {
    Origin::File {
        path: file.to_owned(),
        line: mark.line,
        column: mark.column,
    }
}

impl Stream {
    pub(super) fn read_file(&mut self, path: &Path) {
        match read_text(path, STREAM_MAX_BYTES) {
            Ok(text) => self.read_text(&text, path, path.parent().unwrap_or(Path::new("")), &|_| ()),
            Err((mark, message)) => self.error(place(path, mark), "", message),
        }
    }

    fn read_text(&mut self, text: &str, file: &Path, base: &Path, change: &dyn Fn(&mut Node)) {
        let place = |mark: Mark| place(file, mark);
        let mut parsed = crate::yaml::parse(text);
        parsed.documents.iter_mut().for_each(change);
        let (first, first_warning) = (self.errors.len(), self.warnings.len());
        for (mark, message) in parsed.errors {
            self.error(place(mark), "", message);
        }
        let sizes = sizes(text, &parsed.documents);
        for (document, bytes) in parsed.documents.iter().zip(sizes) {
            if bytes > RESOURCE_MAX_BYTES {
                let message = format!("larger than {RESOURCE_MAX_BYTES} bytes (resource_max_bytes)");
                self.error(place(document.mark), "", message);
            } else if !document.is_null() {
                self.document(document, base, &place);
            }
        }
        if let Some(new) = self.errors.get_mut(first..) {
            new.sort_by(|a, b| a.origin.cmp(&b.origin));
        }
        if let Some(new) = self.warnings.get_mut(first_warning..) {
            new.sort_by(|a, b| a.origin.cmp(&b.origin));
        }
    }

    fn error(&mut self, origin: Origin, key: &str, message: String) {
        self.errors.push(ConfigError {
            origin,
            key: key.to_owned(),
            message,
        });
    }

    fn document(&mut self, document: &Node, base: &Path, place: &dyn Fn(Mark) -> Origin) {
        if !matches!(document.value, Yaml::Mapping(_)) {
            let message = "a resource must be a map with kind, version, metadata and spec".to_owned();
            return self.error(place(document.mark), "", message);
        }
        let text = |node: Option<&Node>| match node.map(|node| &node.value) {
            Some(Yaml::Scalar(text, _)) => Some(text.clone()),
            _ => None,
        };
        let name = text(document.child("metadata").and_then(|metadata| metadata.child("name")));
        let kind_node = document.child("kind");
        let kind_mark = kind_node.map_or(document.mark, |node| node.mark);
        let Some(word) = text(kind_node).filter(|kind| !kind.is_empty()) else {
            return self.error(
                place(kind_mark),
                "",
                format!("kind is missing: write one of {}", known()),
            );
        };
        let subject = printable(&match &name {
            Some(name) => format!("{word}/{name}"),
            None => word.clone(),
        });
        let kind = ResourceKind::ALL.into_iter().find(|kind| kind.as_str() == word);
        match kind {
            Some(kind) => self.known(kind, document, &subject, base, place),
            None if word == "dynamic_windows_desktop" => match text(document.child("version")).as_deref() {
                Some("v1") => {
                    let desktop = as_desktop(document.clone());
                    self.known(ResourceKind::WindowsDesktop, &desktop, &subject, base, place);
                }
                _ => self.error(
                    place(document.child("version").map_or(document.mark, |node| node.mark)),
                    &format!("{subject}: version"),
                    "is not one of: v1".to_owned(),
                ),
            },
            None => self.unknown_kind(&word, place(kind_mark), subject),
        }
    }

    fn unknown_kind(&mut self, word: &str, origin: Origin, key: String) {
        let near = ResourceKind::ALL
            .into_iter()
            .find(|kind| likeness(kind.as_str(), word) >= 0.7);
        let mut finding = ConfigError {
            origin,
            key,
            message: match near {
                Some(near) => format!("unknown kind, did you mean {near}?"),
                None => format!("unsupported kind (known: {})", known()),
            },
        };
        if self.skip_foreign {
            finding.message = "unsupported kind, skipped".to_owned();
            self.warnings.push(finding);
        } else {
            self.errors.push(finding);
        }
    }

    fn known(&mut self, kind: ResourceKind, node: &Node, subject: &str, base: &Path, place: &dyn Fn(Mark) -> Origin) {
        let schema = match kind {
            ResourceKind::Role => &ROLE,
            ResourceKind::User => &USER,
            ResourceKind::WindowsDesktop => &DESKTOP,
            ResourceKind::SessionRecordingConfig => &RECORDING,
            ResourceKind::Lock => &LOCK,
        };
        let checked = Checked::new(schema, node, subject, place);
        let mut findings = Findings::default();
        let metadata = metadata(kind, &checked.values, &mut findings);
        let values = Value::Object(checked.values.clone());
        let resource = match kind {
            ResourceKind::Role => typed(values).map(|raw| Resource::Role(raw::role(raw, &mut findings))),
            ResourceKind::User => typed(values).map(|raw| Resource::User(raw::user(raw))),
            ResourceKind::WindowsDesktop => {
                typed(values).map(|raw: RawDesktop| Resource::Desktop(desktop::resolve(raw, base, &mut findings)))
            }
            ResourceKind::SessionRecordingConfig => {
                typed(values).map(|raw| Resource::Recording(raw::recording(&raw, &mut findings)))
            }
            ResourceKind::Lock => typed(values).map(|raw| Resource::Lock(raw::lock(raw, &mut findings))),
        };
        let name_origin = checked.origin("metadata.name");
        let spans = checked.spans();
        let refused = checked.report(findings, self);
        if let Some(message) = self.taken(kind, &metadata.name, name_origin.clone()) {
            return self.error(name_origin, &format!("{subject}: metadata.name"), message);
        }
        match resource {
            Ok(resource) => self.documents.push(Document {
                kind,
                name: metadata.name,
                resource,
                source: source(kind, node),
                expires: metadata.expires,
                revision: metadata.revision,
                place: place(node.mark),
                base: base.to_owned(),
                spans,
            }),
            // the registry and the raw type disagree; a test holds that they don't
            Err(error) if !refused => self.error(place(node.mark), subject, format!("can't be read: {error}")),
            _ => {}
        }
    }

    /// Says where `name` was used before, else notes that it is used.
    fn taken(&mut self, kind: ResourceKind, name: &str, origin: Origin) -> Option<String> {
        if name.is_empty() {
            return None;
        }
        match self.names.entry((kind, name.to_owned())) {
            Entry::Occupied(first) => Some(format!("used twice, first at {}", first.get())),
            Entry::Vacant(free) => {
                free.insert(origin);
                None
            }
        }
    }
}

/// A document against its registry.
struct Checked<'a> {
    values: Map<String, Value>,
    checker: Checker<'a>,
    mark: Mark,
}

impl<'a> Checked<'a> {
    fn new(schema: &'static Schema, node: &Node, subject: &str, place: &'a dyn Fn(Mark) -> Origin) -> Self {
        let mut checker = Checker::new(schema, place);
        subject.clone_into(&mut checker.subject);
        let mut values = checker.section("", "", node);
        checker.fill(&mut values, "", "", node.mark);
        Self {
            values,
            checker,
            mark: node.mark,
        }
    }

    /// Where the value at `path` stands, or the nearest thing around it.
    fn origin(&self, path: &str) -> Origin {
        match crate::nearest_origin(&self.checker.origins, path) {
            Origin::Default => (self.checker.place)(self.mark),
            origin => origin,
        }
    }

    fn spans(&self) -> Vec<(String, Mark)> {
        let origins = self.checker.origins.iter();
        let mark = |origin: &Origin| match origin {
            Origin::File { line, column, .. } => Some(Mark {
                line: *line,
                column: *column,
            }),
            _ => None,
        };
        origins
            .filter_map(|(path, origin)| Some((path.clone(), mark(origin)?)))
            .collect()
    }

    /// Moves everything that is wrong or odd to `stream`; true when something is wrong.
    fn report(mut self, findings: Findings, stream: &mut Stream) -> bool {
        for (path, message) in findings.errors {
            if !is_poisoned(&self.checker.poisoned, &path) {
                let error = self.finding(&path, message);
                self.checker.errors.push(error);
            }
        }
        for (path, message) in findings.warnings {
            let warning = self.finding(&path, message);
            self.checker.warnings.push(warning);
        }
        if let Some((_, mark)) = self.checker.foreign.first() {
            let paths: Vec<String> = self.checker.foreign.iter().map(|(path, _)| printable(path)).collect();
            let message = format!("no effect here: {}", paths.join(", "));
            let mark = *mark;
            self.checker.warn("", mark, message);
        }
        let refused = !self.checker.errors.is_empty();
        stream.errors.append(&mut self.checker.errors);
        stream.warnings.append(&mut self.checker.warnings);
        refused
    }

    fn finding(&self, path: &str, message: String) -> ConfigError {
        ConfigError {
            origin: self.origin(path),
            key: format!("{}: {path}", self.checker.subject),
            message,
        }
    }
}

/// A `dynamic_windows_desktop` says the same as a `windows_desktop`.
fn as_desktop(mut document: Node) -> Node {
    if let Yaml::Mapping(pairs) = &mut document.value {
        for pair in pairs {
            let word = match pair.key.as_str() {
                "kind" => ResourceKind::WindowsDesktop.as_str(),
                "version" => ResourceKind::WindowsDesktop.version(),
                _ => continue,
            };
            pair.value.value = Yaml::Scalar(word.to_owned(), Style::Quoted);
        }
    }
    document
}

fn typed<T: DeserializeOwned>(values: Value) -> Result<T, serde_json::Error> {
    serde_json::from_value(values)
}

/// The words of all kinds.
fn known() -> String {
    ResourceKind::ALL.map(ResourceKind::as_str).join(", ")
}

/// What all kinds have in common.
struct Metadata {
    name: String,
    expires: Option<OffsetDateTime>,
    revision: Option<u64>,
}

fn metadata(kind: ResourceKind, values: &Map<String, Value>, findings: &mut Findings) -> Metadata {
    let text = |path: &str| get(values, path).and_then(Value::as_str).unwrap_or_default();
    let mut name = text("metadata.name").to_owned();
    if kind == ResourceKind::SessionRecordingConfig {
        name = RECORDING_CONFIG_NAME.to_owned();
    }
    if name.len() > 255 || name.contains('/') || name.chars().any(char::is_control) {
        findings.add(
            "metadata.name",
            "must be 1 to 255 bytes without / and control characters",
        );
    }
    if kind == ResourceKind::User && name.contains(':') {
        findings.add("metadata.name", "must have no colon: people log on as user:desktop");
    }
    if !matches!(text("metadata.namespace"), "" | "default") {
        findings.add("metadata.namespace", "only default is known");
    }
    if !text("sub_kind").is_empty() {
        findings.add("sub_kind", format!("{} is not known", quoted(text("sub_kind"))));
    }
    let written = text("metadata.revision");
    Metadata {
        name,
        expires: OffsetDateTime::parse(text("metadata.expires"), &Rfc3339).ok(),
        revision: written.parse().ok(),
    }
}

/// The document as JSON, without what is computed.
fn source(kind: ResourceKind, node: &Node) -> Value {
    let mut value = value_of(node);
    if let Value::Object(document) = &mut value {
        document.remove("status");
        document.remove("sub_kind");
        // another system's password hashes and second factors: of no use here, and nobody's to read
        if let Some(Value::Object(spec)) = document.get_mut("spec").filter(|_| kind == ResourceKind::User) {
            spec.remove("local_auth");
        }
        let metadata = document.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            metadata.remove("revision");
            metadata.remove("id");
            if kind == ResourceKind::SessionRecordingConfig {
                metadata.insert("name".to_owned(), RECORDING_CONFIG_NAME.into());
            }
            if let Some(Value::Object(labels)) = metadata.get_mut("labels") {
                labels.remove("teleport.dev/origin");
            }
            if metadata
                .get("labels")
                .is_some_and(|labels| labels == &Value::Object(Map::new()))
            {
                metadata.remove("labels");
            }
        }
    }
    value
}

fn value_of(node: &Node) -> Value {
    match &node.value {
        _ if node.is_null() => Value::Null,
        Yaml::Scalar(text, Style::Plain) => plain(text).unwrap_or_else(|_| Value::String(text.clone())),
        Yaml::Scalar(text, _) => Value::String(text.clone()),
        Yaml::Sequence(items) => items.iter().map(value_of).collect(),
        Yaml::Mapping(pairs) => pairs
            .iter()
            .map(|pair| (pair.key.clone(), value_of(&pair.value)))
            .collect(),
    }
}

/// The tree of a JSON value, without places.
pub(super) fn node_of(value: &Value) -> Node {
    let mark = Mark::default();
    let value = match value {
        Value::Null => return Node::null(mark),
        Value::Bool(value) => Yaml::Scalar(value.to_string(), Style::Plain),
        Value::Number(number) => Yaml::Scalar(number.to_string(), Style::Plain),
        Value::String(text) => Yaml::Scalar(text.clone(), Style::Quoted),
        Value::Array(items) => Yaml::Sequence(items.iter().map(node_of).collect()),
        Value::Object(map) => Yaml::Mapping(
            map.iter()
                .map(|(key, value)| Pair {
                    key: key.clone(),
                    key_mark: mark,
                    value: node_of(value),
                })
                .collect(),
        ),
    };
    Node { value, mark }
}
