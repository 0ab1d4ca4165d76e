//! A tree against the registry: unknown keys, wrong types, missing keys; all of them, each with its place. What passes
//! is normalised (durations, sizes, booleans in one spelling) so that layers can be merged.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::error::{ConfigError, Origin};
use crate::scalar::printable;
use crate::schema::{Key, Kind, Schema, below, join};
use crate::value::{plain, scalar};
use crate::yaml::{Mark, Node, Pair, Style, Yaml};

/// Stands for a secret where a resource is shown.
pub(crate) const HIDDEN: &str = "[hidden]";

/// Checks one document or one value against a schema.
pub(crate) struct Checker<'a> {
    pub(crate) schema: &'static Schema,
    /// Where a mark of this source is.
    pub(crate) place: &'a dyn Fn(Mark) -> Origin,
    /// Stands before the key in messages, such as `windows_desktop/lab`.
    pub(crate) subject: String,
    pub(crate) errors: Vec<ConfigError>,
    /// Where each value stands, by path.
    pub(crate) origins: BTreeMap<String, Origin>,
    /// Paths whose values were refused: what is wrong because of them is not worth another message.
    pub(crate) poisoned: Vec<String>,
    pub(crate) warnings: Vec<ConfigError>,
    /// Fields of others that were met: accepted, unchecked, without effect.
    pub(crate) foreign: Vec<(String, Mark)>,
}

impl<'a> Checker<'a> {
    pub(crate) fn new(schema: &'static Schema, place: &'a dyn Fn(Mark) -> Origin) -> Self {
        Self {
            schema,
            place,
            subject: String::new(),
            errors: Vec::new(),
            origins: BTreeMap::new(),
            poisoned: Vec::new(),
            warnings: Vec::new(),
            foreign: Vec::new(),
        }
    }

    /// Checks a whole document or section.
    pub(crate) fn section(&mut self, path: &str, pattern: &str, node: &Node) -> Map<String, Value> {
        let mut out = Map::new();
        let pairs = match &node.value {
            Yaml::Mapping(pairs) => pairs,
            _ if node.is_null() => return out,
            other => {
                let names = self.schema.children(pattern).join(", ");
                let message = format!(
                    "must be a map of {}s, not {} (known: {names})",
                    self.schema.noun,
                    noun(other)
                );
                self.refuse(path, node.mark, message);
                return out;
            }
        };
        if !path.is_empty() {
            self.origins.insert(path.to_owned(), (self.place)(node.mark));
        }
        for pair in pairs {
            let (child, child_pattern) = (join(path, &pair.key), join(pattern, &pair.key));
            // a dot or an index inside one key is not a path
            let single = !pair.key.is_empty() && !pair.key.contains(['.', '[']);
            if single && self.schema.is_ignored(pattern, &pair.key) {
                continue;
            }
            if single && self.schema.is_foreign(pattern, &pair.key) {
                self.foreign.push((child, pair.key_mark));
            } else if !single || !self.schema.knows(&child_pattern) {
                self.unknown(pattern, path, &pair.key, pair.key_mark, &pair.value);
            } else if let Some(value) = self.value(&child, &child_pattern, pair.key_mark, &pair.value) {
                out.insert(pair.key.clone(), value);
            }
        }
        out
    }

    /// Checks the value of a known key or section; none when it is refused or says nothing.
    pub(crate) fn value(&mut self, path: &str, pattern: &str, key_mark: Mark, node: &Node) -> Option<Value> {
        if let Some(key) = self.schema.key(pattern) {
            return self.leaf(key, path, key_mark, node);
        }
        if node.is_null() {
            return None;
        }
        let form = self.schema.scalar_forms.iter().find(|(section, _)| *section == pattern);
        if let (Some((_, name)), Yaml::Scalar(..)) = (form, &node.value) {
            self.origins.insert(path.to_owned(), (self.place)(key_mark));
            let (path, pattern) = (join(path, name), join(pattern, name));
            let value = self.value(&path, &pattern, key_mark, node)?;
            return Some(Value::Object(Map::from_iter([((*name).to_owned(), value)])));
        }
        let section = self.section(path, pattern, node);
        self.origins.insert(path.to_owned(), (self.place)(key_mark));
        Some(Value::Object(section))
    }

    fn unknown(&mut self, pattern: &str, path: &str, name: &str, mark: Mark, node: &Node) {
        if path.is_empty() && matches!(name, "auth_service" | "teleport") && self.teleport(name, node) {
            return;
        }
        let noun = self.schema.noun;
        let full = join(pattern, name);
        let message = if self.schema.later.contains(&full.as_str()) {
            format!("this version does not support the {noun} yet; remove it")
        } else {
            match self.schema.nearest(pattern, name) {
                Some(near) => {
                    // the key that was meant is not missing too
                    self.poisoned.push(join(path, &near));
                    format!("unknown {noun}, did you mean {near}?")
                }
                None => format!("unknown {noun} (known: {})", self.schema.children(pattern).join(", ")),
            }
        };
        self.refuse(&join(path, name), mark, message);
    }

    /// Teleport's file has our sections inside its services: says where they belong. False when there is nothing of ours.
    fn teleport(&mut self, service: &str, node: &Node) -> bool {
        let Yaml::Mapping(pairs) = &node.value else {
            return false;
        };
        let mut found = false;
        for pair in pairs {
            if self.schema.knows(&pair.key) {
                found = true;
                let message = format!("write {} at the top level, not inside {service}", pair.key);
                self.refuse(&join(service, &pair.key), pair.key_mark, message);
            }
        }
        found
    }

    fn leaf(&mut self, key: &Key, path: &str, key_mark: Mark, node: &Node) -> Option<Value> {
        // a list or map is where its key is, a single value is where it is itself
        let mark = if matches!(node.value, Yaml::Scalar(..)) {
            node.mark
        } else {
            key_mark
        };
        self.origins.insert(path.to_owned(), (self.place)(mark));
        if node.is_null() {
            let Some(default) = key.default else {
                self.refuse(path, node.mark, format!("{} is missing here", key.kind.phrase()));
                return None;
            };
            return Some(self.default(key, path, default));
        }
        match (key.kind, &node.value) {
            (Kind::Sections, Yaml::Sequence(items)) => {
                let items = items.iter().enumerate();
                Some(
                    items
                        .map(|(index, item)| self.entry(&format!("{path}[{index}]"), key.path, item))
                        .collect(),
                )
            }
            (Kind::Settings, Yaml::Mapping(_)) => {
                let settings = self.json(path, node);
                self.origins.insert(path.to_owned(), (self.place)(key_mark));
                Some(settings)
            }
            (Kind::Labels, Yaml::Mapping(pairs)) => {
                let mut out = Map::new();
                for pair in pairs {
                    let path = format!("{path}.{}", pair.key);
                    if let Some(text) = self.scalar(Kind::Text, &path, &pair.value) {
                        out.insert(pair.key.clone(), text);
                    }
                }
                Some(Value::Object(out))
            }
            (Kind::Patterns, Yaml::Mapping(pairs)) => Some(self.patterns(path, pairs)),
            (Kind::Secret, _) => self.secret(path, node),
            (Kind::Texts, Yaml::Sequence(items)) => Some(self.list(Kind::Text, path, items)),
            (Kind::Paths, Yaml::Sequence(items)) => Some(self.list(Kind::Path, path, items)),
            (Kind::Texts, Yaml::Scalar(..)) => Some(Value::Array(vec![self.scalar(Kind::Text, path, node)?])),
            (Kind::Words(words), Yaml::Sequence(items)) => Some(self.list(Kind::Word(words), path, items)),
            (Kind::Words(words), Yaml::Scalar(..)) => {
                Some(Value::Array(vec![self.scalar(Kind::Word(words), path, node)?]))
            }
            (Kind::Paths, Yaml::Scalar(..)) => Some(Value::Array(vec![self.scalar(Kind::Path, path, node)?])),
            (kind, Yaml::Scalar(..)) if kind.is_scalar() => self.scalar(kind, path, node),
            (kind, other) => {
                self.refuse(
                    path,
                    node.mark,
                    format!("must be {}, not {}", kind.phrase(), noun(other)),
                );
                None
            }
        }
    }

    /// A map whose values are one text or a list of them; in one spelling, lists.
    fn patterns(&mut self, path: &str, pairs: &[Pair]) -> Value {
        let mut out = Map::new();
        for pair in pairs {
            let path = format!("{path}.{}", pair.key);
            self.origins.insert(path.clone(), (self.place)(pair.key_mark));
            let values = match &pair.value.value {
                Yaml::Sequence(items) => self.list(Kind::Free, &path, items),
                _ if pair.value.is_null() => Value::Array(Vec::new()),
                _ => self.scalar(Kind::Free, &path, &pair.value).into_iter().collect(),
            };
            out.insert(pair.key.clone(), values);
        }
        Value::Object(out)
    }

    /// A secret: where it comes from, or itself. What is wrong is said without repeating the value.
    fn secret(&mut self, path: &str, node: &Node) -> Option<Value> {
        const FORMS: &str = "{env: NAME}, {file: PATH} or {command: [PROGRAM, ARGUMENT]}";
        let only = |key: &str, value: Value| Some(Value::Object(Map::from_iter([(key.to_owned(), value)])));
        match &node.value {
            Yaml::Scalar(text, _) if text == HIDDEN => {
                let message = "is what get and edit show in place of a secret; write the secret itself, also when spec.addr changes";
                self.refuse(path, node.mark, message.to_owned());
            }
            Yaml::Scalar(text, _) if !text.is_empty() => {
                let message = format!("a secret in clear text; better write where it comes from: {FORMS}");
                self.warn(path, node.mark, message);
                return only("plain", text.as_str().into());
            }
            Yaml::Mapping(pairs) if let [pair] = pairs.as_slice() => {
                let below = format!("{path}.{}", pair.key);
                match (pair.key.as_str(), &pair.value.value) {
                    ("env", Yaml::Scalar(..)) => return only("env", self.scalar(Kind::Text, &below, &pair.value)?),
                    ("file", Yaml::Scalar(..)) => return only("file", self.scalar(Kind::Path, &below, &pair.value)?),
                    ("command", Yaml::Sequence(items)) if !items.is_empty() => {
                        return only("command", self.list(Kind::Free, &below, items));
                    }
                    _ => self.refuse(path, pair.key_mark, format!("must be one of {FORMS}")),
                }
            }
            _ => self.refuse(path, node.mark, format!("must be one of {FORMS}")),
        }
        None
    }

    fn list(&mut self, kind: Kind, path: &str, items: &[Node]) -> Value {
        let items = items.iter().enumerate();
        items
            .filter_map(|(index, item)| self.scalar(kind, &format!("{path}[{index}]"), item))
            .collect()
    }

    /// One entry of a list of sections, with its defaults filled in.
    fn entry(&mut self, path: &str, list: &str, node: &Node) -> Value {
        let pattern = format!("{list}[]");
        if !matches!(node.value, Yaml::Mapping(_)) {
            let names = self.schema.children(&pattern).join(", ");
            self.refuse(
                path,
                node.mark,
                format!("must be a map of keys ({names}), not {}", noun(&node.value)),
            );
        }
        let mut entry = match &node.value {
            Yaml::Mapping(_) => self.section(path, &pattern, node),
            _ => Map::new(),
        };
        self.fill(&mut entry, &pattern, path, node.mark);
        Value::Object(entry)
    }

    /// Adds the defaults of all keys below `pattern` that are not there, and says which must be written.
    pub(crate) fn fill(&mut self, section: &mut Map<String, Value>, pattern: &str, path: &str, mark: Mark) {
        let schema = self.schema;
        for key in schema.keys {
            let name = if pattern.is_empty() {
                Some(key.path)
            } else {
                below(key.path, pattern)
            };
            let Some(name) = name.filter(|name| !name.contains("[]")) else {
                continue;
            };
            if get(section, name).is_some() {
                continue;
            }
            let path = join(path, name);
            let value = match key.default {
                // most have this one, and a folder may have thousands of roles
                Some("null") => {
                    self.origins.insert(path, Origin::Default);
                    Value::Null
                }
                Some(default) => {
                    let value = self.default(key, &path, default);
                    self.origins.insert(path, Origin::Default);
                    value
                }
                None => {
                    if !self.is_poisoned(&path) {
                        let message = format!("missing, it must be written ({})", key.kind.phrase());
                        self.refuse(&path, mark, message);
                    }
                    // a stand-in, so that everything else can be checked; there is an error, so nobody sees it
                    Value::String(format!("?{}", self.errors.len()))
                }
            };
            put(section, name, value);
        }
    }

    /// The value of a key's default.
    fn default(&mut self, key: &Key, path: &str, default: &str) -> Value {
        let parsed = crate::yaml::parse(default);
        let node = parsed
            .documents
            .into_iter()
            .next()
            .unwrap_or_else(|| Node::null(Mark::default()));
        if node.is_null() {
            return Value::Null;
        }
        let place = |_| Origin::Default;
        let mut checker = Checker::new(self.schema, &place);
        let value = checker.leaf(key, path, node.mark, &node).unwrap_or(Value::Null);
        self.errors.append(&mut checker.errors);
        for (path, origin) in checker.origins {
            self.origins.entry(path).or_insert(origin);
        }
        value
    }

    fn scalar(&mut self, kind: Kind, path: &str, node: &Node) -> Option<Value> {
        self.origins.insert(path.to_owned(), (self.place)(node.mark));
        let read = match &node.value {
            _ if node.is_null() => Err(format!("{} is missing here", kind.phrase())),
            Yaml::Scalar(text, style) => scalar(kind, text, *style),
            other => Err(format!("must be {}, not {}", kind.phrase(), noun(other))),
        };
        read.map_err(|message| self.refuse(path, node.mark, message)).ok()
    }

    /// A plugin's settings, as JSON.
    fn json(&mut self, path: &str, node: &Node) -> Value {
        self.origins.insert(path.to_owned(), (self.place)(node.mark));
        match &node.value {
            Yaml::Sequence(items) => items
                .iter()
                .enumerate()
                .map(|(index, item)| self.json(&format!("{path}[{index}]"), item))
                .collect(),
            Yaml::Mapping(pairs) => {
                let pairs = pairs.iter();
                pairs
                    .map(|pair| {
                        (
                            pair.key.clone(),
                            self.json(&format!("{path}.{}", pair.key), &pair.value),
                        )
                    })
                    .collect()
            }
            Yaml::Scalar(..) if node.is_null() => Value::Null,
            Yaml::Scalar(text, Style::Plain) => plain(text).unwrap_or_else(|message| {
                self.refuse(path, node.mark, message);
                Value::Null
            }),
            Yaml::Scalar(text, _) => Value::String(text.clone()),
        }
    }

    /// Notes an error about `path`.
    pub(crate) fn refuse(&mut self, path: &str, mark: Mark, message: String) {
        self.poisoned.push(path.to_owned());
        let error = self.finding(path, mark, message);
        self.errors.push(error);
    }

    /// Notes something about `path` that is no error.
    pub(crate) fn warn(&mut self, path: &str, mark: Mark, message: String) {
        let warning = self.finding(path, mark, message);
        self.warnings.push(warning);
    }

    fn finding(&self, path: &str, mark: Mark, message: String) -> ConfigError {
        let path = printable(path);
        let key = match (self.subject.as_str(), path.as_str()) {
            ("", _) => path,
            (subject, "") => subject.to_owned(),
            (subject, path) => format!("{subject}: {path}"),
        };
        ConfigError {
            origin: (self.place)(mark),
            key,
            message,
        }
    }

    fn is_poisoned(&self, path: &str) -> bool {
        is_poisoned(&self.poisoned, path)
    }
}

/// Whether `path`, something in it or something around it was refused. The empty path stands for everything.
pub(crate) fn is_poisoned(poisoned: &[String], path: &str) -> bool {
    let holds = |outer: &str, inner: &str| {
        inner
            .strip_prefix(outer)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    poisoned
        .iter()
        .any(|bad| bad.is_empty() || holds(bad, path) || holds(path, bad))
}

/// What a value is, for a message.
fn noun(value: &Yaml) -> &'static str {
    match value {
        Yaml::Scalar(..) => "a single value",
        Yaml::Sequence(_) => "a list",
        Yaml::Mapping(_) => "a map",
    }
}

/// The value at a dotted `name` inside `section`.
pub(crate) fn get<'a>(section: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    match name.split_once('.') {
        None => section.get(name),
        Some((outer, rest)) => get(section.get(outer)?.as_object()?, rest),
    }
}

/// Sets the value at a dotted `name` inside `section`, with the sections on the way.
pub(crate) fn put(section: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            section.insert(name.to_owned(), value);
        }
        Some((outer, rest)) => {
            let inner = section.entry(outer).or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}
