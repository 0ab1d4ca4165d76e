//! The four layers: defaults, file, environment, flags. Each is checked by itself, then figment merges them; its tags
//! say which layer won, and the layer's own table says where in it the value stands.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Empty, Map as ProfileMap, Tag, Value as Merged};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::{Map, Value};

use crate::Sources;
use crate::check::{Checker, put};
use crate::error::{ConfigError, Origin};
use crate::scalar::printable;
use crate::schema::{CONFIG, Kind, Schema, pattern_of};
use crate::yaml::{self, FILE_MAX_BYTES, Mark, Node, Style, Yaml};

/// All layers, checked and merged.
pub(crate) struct Layers {
    pub(crate) figment: Figment,
    /// The merged values.
    pub(crate) values: Map<String, Value>,
    /// Where each merged value stands, by path.
    pub(crate) origins: BTreeMap<String, Origin>,
    pub(crate) errors: Vec<ConfigError>,
    pub(crate) poisoned: Vec<String>,
}

/// Start of every variable that sets a key.
const PREFIX: &str = "DESKREEL_";

/// Names the configuration file; sets no key.
const CONFIG_VARIABLE: &str = "DESKREEL_CONFIG";

impl Layers {
    pub(crate) fn read(sources: &Sources) -> Self {
        let mut layers = vec![defaults()];
        let mut errors = Vec::new();
        let mut poisoned = Vec::new();
        let mut take = |mut layer: Layer, errors: &mut Vec<ConfigError>| {
            errors.append(&mut layer.errors);
            poisoned.append(&mut layer.poisoned);
            layers.push(layer);
        };
        if let Some(path) = &sources.file {
            take(file(path, &sources.working_dir), &mut errors);
        }
        for variable in variables(&sources.env, &mut errors) {
            take(variable, &mut errors);
        }
        for (key, value, name) in &sources.flags {
            let origin = Origin::Flag { name: name.clone() };
            take(single(key, value, &origin, str::to_owned), &mut errors);
        }

        let mut figment = Figment::new();
        for (index, layer) in layers.iter().enumerate() {
            figment = figment.merge(Numbered { layer, index });
        }
        let mut values = Map::new();
        let mut origins = BTreeMap::new();
        for name in CONFIG.children("") {
            if let Ok(value) = figment.find_value(name) {
                let value = unmerge(&value, name, &figment, &layers, &mut origins);
                values.insert(name.to_owned(), value);
            }
        }
        Self {
            figment,
            values,
            origins,
            errors,
            poisoned,
        }
    }
}

/// One source of values, checked.
#[derive(Default)]
struct Layer {
    values: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    errors: Vec<ConfigError>,
    poisoned: Vec<String>,
}

impl Layer {
    fn of(values: Map<String, Value>, checker: Checker<'_>) -> Self {
        let Checker {
            errors,
            origins,
            poisoned,
            ..
        } = checker;
        Self {
            values,
            origins,
            errors,
            poisoned,
        }
    }

    fn failed(origin: Origin, key: &str, message: String) -> Self {
        Self {
            errors: vec![ConfigError {
                origin,
                key: printable(key),
                message,
            }],
            ..Self::default()
        }
    }
}

fn defaults() -> Layer {
    let place = |_| Origin::Default;
    let mut checker = Checker::new(&CONFIG, &place);
    let mut values = Map::new();
    checker.fill(&mut values, "", "", Mark::default());
    Layer::of(values, checker)
}

fn file(path: &Path, working_dir: &Path) -> Layer {
    let place = |mark: Mark| Origin::File {
        path: path.to_owned(),
        line: mark.line,
        column: mark.column,
    };
    let text = match read_text(&working_dir.join(path), FILE_MAX_BYTES) {
        Ok(text) => text,
        Err((mark, message)) => return Layer::failed(place(mark), "", message),
    };
    let parsed = yaml::parse(&text);
    let mut checker = Checker::new(&CONFIG, &place);
    let has_syntax_errors = !parsed.errors.is_empty();
    for (mark, message) in parsed.errors {
        checker.errors.push(ConfigError {
            origin: place(mark),
            key: String::new(),
            message,
        });
    }
    let mut documents = parsed.documents.into_iter();
    let root = documents.next().unwrap_or_else(|| Node::null(Mark::default()));
    if let Some(second) = documents.next() {
        let message = "a second document starts here; a configuration file is one document".to_owned();
        checker.errors.push(ConfigError {
            origin: place(second.mark),
            key: String::new(),
            message,
        });
    }
    let values = checker.section("", "", &root);
    if has_syntax_errors {
        // what was cut off or refused could be anything
        checker.poisoned.push(String::new());
    }
    Layer::of(values, checker)
}

/// Reads a text file of at most `max` bytes.
pub(crate) fn read_text(path: &Path, max: u64) -> Result<String, (Mark, String)> {
    use std::io::Read as _;

    let whole = |message: String| (Mark::default(), message);
    let file = std::fs::File::open(path).map_err(|error| whole(format!("can't be opened: {error}")))?;
    let mut bytes = Vec::new();
    let read = file.take(max + 1).read_to_end(&mut bytes);
    read.map_err(|error| whole(format!("can't be read: {error}")))?;
    if bytes.len() as u64 > max {
        return Err(whole(format!("larger than {max} bytes")));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error
            .as_bytes()
            .get(..error.utf8_error().valid_up_to())
            .unwrap_or_default();
        let line = 1 + good.iter().filter(|byte| **byte == b'\n').count();
        let last = good.rsplit(|byte| *byte == b'\n').next().unwrap_or_default();
        let column = 1 + String::from_utf8_lossy(last).chars().count();
        (Mark { line, column }, "not UTF-8 from here on".to_owned())
    })
}

/// The layers of the environment, the most general key first, so that `DESKREEL_A__B` wins over `DESKREEL_A`.
fn variables(env: &[(String, String)], errors: &mut Vec<ConfigError>) -> Vec<Layer> {
    let mut found: Vec<(String, &str, &str)> = Vec::new();
    for (name, value) in env {
        let Some(rest) = name.strip_prefix(PREFIX).filter(|_| name != CONFIG_VARIABLE) else {
            continue;
        };
        let key = rest.to_lowercase().replace("__", ".");
        if let Some((_, other, _)) = found.iter().find(|(found, ..)| *found == key) {
            let message = format!("sets the same key as {other}");
            errors.push(ConfigError {
                origin: Origin::Variable { name: printable(name) },
                key,
                message,
            });
            continue;
        }
        found.push((key, name, value));
    }
    found.sort_by(|a, b| (a.0.matches('.').count(), &a.0).cmp(&(b.0.matches('.').count(), &b.0)));
    let layer = |(key, name, value): (String, &str, &str)| {
        single(&key, value, &Origin::Variable { name: printable(name) }, |key| {
            format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"))
        })
    };
    found.into_iter().map(layer).collect()
}

/// The layer of one variable or flag. `spell` says how a key is written there.
fn single(key: &str, text: &str, origin: &Origin, spell: impl Fn(&str) -> String) -> Layer {
    let schema: &'static Schema = &CONFIG;
    let pattern = pattern_of(key);
    if key.is_empty() || pattern != key || !schema.knows(key) {
        return Layer::failed(origin.clone(), key, unknown(schema, key, spell));
    }
    if text.len() as u64 > FILE_MAX_BYTES {
        return Layer::failed(origin.clone(), key, format!("larger than {FILE_MAX_BYTES} bytes"));
    }
    let is_scalar = schema.key(key).is_some_and(|key| key.kind.is_scalar());
    let node = if is_scalar && !text.starts_with(['"', '\'']) {
        Node {
            value: Yaml::Scalar(text.trim().to_owned(), Style::Bare),
            mark: Mark::default(),
        }
    } else {
        let parsed = yaml::parse(text);
        if let Some((mark, message)) = parsed.errors.into_iter().next() {
            let message = format!("{message} (line {}, column {} of the value)", mark.line, mark.column);
            return Layer::failed(origin.clone(), key, message);
        }
        let mut documents = parsed.documents.into_iter();
        let node = documents.next().unwrap_or_else(|| Node::null(Mark::default()));
        if documents.next().is_some() {
            return Layer::failed(origin.clone(), key, "more than one YAML document".to_owned());
        }
        node
    };
    let place = |_| origin.clone();
    let mut checker = Checker::new(schema, &place);
    let mut values = Map::new();
    if let Some(value) = checker.value(key, key, Mark::default(), &node) {
        put(&mut values, key, value);
    }
    Layer::of(values, checker)
}

/// What to say about a key that no variable or flag can set.
fn unknown(schema: &Schema, key: &str, spell: impl Fn(&str) -> String) -> String {
    let list = schema.keys.iter().find(|known| {
        let inside = key
            .strip_prefix(known.path)
            .is_some_and(|rest| rest.starts_with(['.', '[']));
        matches!(known.kind, Kind::Sections | Kind::Texts | Kind::Words(_) | Kind::Paths) && inside
    });
    if let Some(list) = list {
        let spelled = spell(list.path);
        return format!("{} is a list, set it as a whole: {spelled}='[..]'", list.path);
    }
    if schema.later.contains(&pattern_of(key).as_str()) {
        return "this version does not support the key yet; remove it".to_owned();
    }
    let (section, name) = key.rsplit_once('.').unwrap_or(("", key));
    let in_section = if schema.is_section(section) {
        schema.nearest(section, name)
    } else {
        None
    };
    let full = in_section.map(|near| {
        if near.contains('.') {
            near
        } else {
            crate::schema::join(section, &near)
        }
    });
    let nearest = full.or_else(|| {
        let paths = schema
            .keys
            .iter()
            .map(|key| key.path)
            .filter(|path| !path.contains("[]"));
        let sections = schema.children("").into_iter();
        let scored = paths
            .chain(sections)
            .map(|path| (crate::schema::likeness(path, key), path));
        let best = scored.reduce(|best, next| if next.0 > best.0 { next } else { best });
        best.filter(|(score, _)| *score >= 0.4).map(|(_, path)| path.to_owned())
    });
    match nearest {
        Some(near) => format!("unknown key, did you mean {}?", spell(&near)),
        None => format!("unknown key (known sections: {})", schema.children("").join(", ")),
    }
}

/// A layer as figment's provider; the name of its metadata is the layer's number.
struct Numbered<'a> {
    layer: &'a Layer,
    index: usize,
}

impl Provider for Numbered<'_> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.index.to_string())
    }

    fn data(&self) -> Result<ProfileMap<Profile, Dict>, figment::Error> {
        let dict = self
            .layer
            .values
            .iter()
            .map(|(key, value)| (key.clone(), merged(value)))
            .collect();
        Ok(ProfileMap::from_iter([(Profile::Default, dict)]))
    }
}

/// JSON as figment's value. By hand, as serde_json's own features change what it serialises numbers to.
fn merged(value: &Value) -> Merged {
    match value {
        Value::Null => Merged::Empty(Tag::Default, Empty::None),
        Value::Bool(value) => Merged::from(*value),
        Value::Number(number) => match (number.as_u64(), number.as_i64()) {
            (Some(number), _) => Merged::from(number),
            (None, Some(number)) => Merged::from(number),
            (None, None) => Merged::from(number.as_f64().unwrap_or_default()),
        },
        Value::String(text) => Merged::from(text.clone()),
        Value::Array(items) => Merged::from(items.iter().map(merged).collect::<Vec<_>>()),
        Value::Object(map) => Merged::from(
            map.iter()
                .map(|(key, value)| (key.clone(), merged(value)))
                .collect::<Dict>(),
        ),
    }
}

/// Figment's merged value as JSON again, while the tags fill the table of origins.
fn unmerge(
    value: &Merged,
    path: &str,
    figment: &Figment,
    layers: &[Layer],
    origins: &mut BTreeMap<String, Origin>,
) -> Value {
    let layer = figment
        .get_metadata(value.tag())
        .and_then(|metadata| metadata.name.parse::<usize>().ok());
    if let Some(origin) = layer
        .and_then(|layer| layers.get(layer))
        .and_then(|layer| layer.origins.get(path))
    {
        origins.insert(path.to_owned(), origin.clone());
    }
    match value {
        Merged::String(_, text) => Value::String(text.clone()),
        Merged::Char(_, c) => Value::String(c.to_string()),
        Merged::Bool(_, value) => Value::Bool(*value),
        Merged::Num(_, number) => {
            let whole = number
                .to_u128()
                .and_then(|number| u64::try_from(number).ok())
                .map(Value::from);
            let negative = || {
                number
                    .to_i128()
                    .and_then(|number| i64::try_from(number).ok())
                    .map(Value::from)
            };
            whole
                .or_else(negative)
                .or_else(|| number.to_f64().map(Value::from))
                .unwrap_or(Value::Null)
        }
        Merged::Empty(..) => Value::Null,
        Merged::Dict(_, dict) => dict
            .iter()
            .map(|(key, value)| {
                (
                    key.clone(),
                    unmerge(value, &format!("{path}.{key}"), figment, layers, origins),
                )
            })
            .collect(),
        Merged::Array(_, items) => items
            .iter()
            .enumerate()
            .map(|(index, item)| unmerge(item, &format!("{path}[{index}]"), figment, layers, origins))
            .collect(),
    }
}

/// `path` without `.` steps, absolute from `base`.
pub(crate) fn absolute(base: &Path, path: &str) -> PathBuf {
    base.join(path).components().collect()
}
