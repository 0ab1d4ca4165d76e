//! From the operator's settings to those that a plugin gets: paths made absolute, secrets fetched, all of it checked against
//! the plugin's JSON Schema.

use std::env::VarError;
use std::path::Path;

use serde_json::{Map, Value};

/// How deep schemas and settings may nest.
const DEPTH_MAX: usize = 32;
/// Of how many parts the schema of one value may consist; the rest is not looked at.
const PARTS_MAX: usize = 1000;
/// Largest secret in a file.
const SECRET_MAX_BYTES: u64 = 64 << 10;

/// What is wrong with one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SettingError {
    /// The key below `settings`, as it follows there: `.path`, `.hosts[2].name`, or nothing.
    pub(crate) key: String,
    /// What is wrong.
    pub(crate) message: String,
}

/// Makes the settings that the plugin gets.
///
/// # Errors
/// Everything that is wrong.
pub(crate) fn resolve(settings: &Value, schema: &Value, base_dir: &Path) -> Result<Value, Vec<SettingError>> {
    let validator = jsonschema::validator_for(schema).map_err(|error| {
        vec![SettingError {
            key: String::new(),
            message: format!("the plugin's schema is wrong: {error}"),
        }]
    })?;
    let mut resolved = if settings.is_null() {
        Value::Object(Map::new())
    } else {
        settings.clone()
    };
    let mut errors = Vec::new();
    let mut visit = |found: Found<'_>, value: &mut Value, key: &str| match found {
        Found::Format("path") => make_absolute(value, base_dir),
        Found::Format("password") => {
            if let Err(message) = fetch_secret(value, base_dir) {
                errors.push(SettingError {
                    key: key.to_owned(),
                    message,
                });
            }
        }
        Found::Format(_) | Found::Unknown => {}
    };
    Walk { root: schema }.value(&[schema], &mut resolved, "", 0, &mut visit);
    for error in validator.iter_errors(&resolved) {
        let key = key_of(error.instance_path().as_str());
        if errors.iter().any(|known| known.key == key) {
            continue;
        }
        // Values stay out of messages: one may be a secret.
        let message = match error.kind() {
            jsonschema::error::ValidationErrorKind::AdditionalProperties { unexpected } => {
                let parent = resolved.pointer(error.instance_path().as_str());
                errors.extend(unexpected.iter().map(|name| SettingError {
                    key: format!("{key}.{name}"),
                    message: unknown(schema, &key, name, parent),
                }));
                continue;
            }
            jsonschema::error::ValidationErrorKind::Required { property } => {
                let property = property.as_str().unwrap_or_default();
                errors.push(SettingError {
                    key: format!("{key}.{property}"),
                    message: "is missing".to_owned(),
                });
                continue;
            }
            _ => error.masked().to_string(),
        };
        errors.push(SettingError { key, message });
    }
    if errors.is_empty() { Ok(resolved) } else { Err(errors) }
}

fn unknown(schema: &Value, key: &str, name: &str, parent: Option<&Value>) -> String {
    let mut known: Vec<&str> = Vec::new();
    if key.is_empty()
        && let Some(properties) = schema["properties"].as_object()
    {
        known = properties.keys().map(String::as_str).collect();
    }
    let free = |known: &&str| parent.is_none_or(|parent| parent.get(known).is_none());
    let distance = |known: &&str| strsim::damerau_levenshtein(known, name);
    match known
        .iter()
        .copied()
        .filter(free)
        .min_by_key(distance)
        .filter(|known| distance(known) <= 2)
    {
        Some(close) => format!("unknown setting, did you mean `{close}`?"),
        None if known.is_empty() => "unknown setting".to_owned(),
        None => format!("unknown setting, the plugin knows {}", known.join(", ")),
    }
}

/// A JSON pointer as it is written in the configuration.
fn key_of(pointer: &str) -> String {
    let mut key = String::new();
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        if part.bytes().all(|byte| byte.is_ascii_digit()) {
            key.push_str(&format!("[{part}]"));
        } else {
            key.push_str(&format!(".{part}"));
        }
    }
    key
}

/// Replaces every secret by a word, for output: the values of secret settings, and of those that the schema does not know (a
/// secret under a misspelt key is one too). Where to find a secret, `{env: NAME}` or `{file: PATH}`, is none.
pub(crate) fn conceal(settings: &mut Value, schema: &Value) {
    if !settings.is_object() {
        return hide(settings);
    }
    let mut visit = |found: Found<'_>, value: &mut Value, _: &str| match found {
        Found::Format("password") if !is_reference(value) => hide(value),
        Found::Format(_) => {}
        Found::Unknown => hide(value),
    };
    Walk { root: schema }.value(&[schema], settings, "", 0, &mut visit);
}

fn hide(value: &mut Value) {
    if !value.is_null() {
        *value = Value::String(CONCEALED.to_owned());
    }
}

/// Whether a value says where a secret is, and not what it is.
fn is_reference(value: &Value) -> bool {
    value.as_object().is_some_and(|fields| {
        fields.len() == 1
            && ["env", "file"]
                .iter()
                .any(|name| fields.get(*name).is_some_and(Value::is_string))
    })
}

/// Replaces every value by a word, for output: where the schema isn't known, any may be a secret.
pub(crate) fn conceal_all(settings: &mut Value) {
    match settings {
        Value::Object(fields) => fields.values_mut().for_each(hide),
        other => hide(other),
    }
}

/// What stands where a secret is.
const CONCEALED: &str = "(hidden)";

/// What a walk finds out about a value.
#[derive(Debug, Clone, Copy)]
enum Found<'a> {
    /// A schema gives it this format.
    Format(&'a str),
    /// No schema describes it. What is in it is not looked at.
    Unknown,
}

/// What happens to a value: what was found, the value, its key.
type Visit<'a> = &'a mut dyn FnMut(Found<'_>, &mut Value, &str);

struct Walk<'a> {
    root: &'a Value,
}

impl<'a> Walk<'a> {
    /// Finds the formats that schemas, and those that they consist of, give to a value and to what is in it.
    fn value(&self, schemas: &[&'a Value], value: &mut Value, key: &str, depth: usize, visit: Visit<'_>) {
        let mut all = Vec::new();
        for &schema in schemas {
            self.parts(schema, 0, &mut all);
        }
        if depth > DEPTH_MAX || all.is_empty() {
            return visit(Found::Unknown, value, key);
        }
        let formats: Vec<&str> = all.iter().filter_map(|schema| schema["format"].as_str()).collect();
        for format in &formats {
            visit(Found::Format(format), value, key);
        }
        if formats.contains(&"password") {
            // A secret is one, whatever it is made of.
            return;
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let schemas: Vec<&Value> = all.iter().flat_map(|&schema| of_field(schema, name)).collect();
                    self.value(&schemas, field, &format!("{key}.{name}"), depth + 1, visit);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let schemas: Vec<&Value> = all.iter().filter_map(|&schema| of_item(schema, index)).collect();
                    self.value(&schemas, item, &format!("{key}[{index}]"), depth + 1, visit);
                }
            }
            _ => {}
        }
    }

    /// A schema and those that it refers to or is made of.
    fn parts(&self, schema: &'a Value, depth: usize, all: &mut Vec<&'a Value>) {
        if depth > DEPTH_MAX || all.len() > PARTS_MAX {
            return;
        }
        all.push(schema);
        let named = schema["$ref"].as_str().and_then(|name| name.strip_prefix('#'));
        let named = named.and_then(|pointer| self.root.pointer(pointer));
        let several = ["anyOf", "oneOf", "allOf"]
            .iter()
            .flat_map(|name| schema[*name].as_array());
        let one = ["if", "then", "else"].iter().filter_map(|name| schema.get(*name));
        for part in named.into_iter().chain(several.flatten()).chain(one) {
            self.parts(part, depth + 1, all);
        }
    }
}

/// The schemas of a field in the schema of its object. Of `additionalProperties` only one that says something counts.
fn of_field<'a>(schema: &'a Value, name: &str) -> Vec<&'a Value> {
    let mut found: Vec<&Value> = schema["properties"].get(name).into_iter().collect();
    for (pattern, schema) in schema["patternProperties"].as_object().into_iter().flatten() {
        let matching = jsonschema::validator_for(&serde_json::json!({ "pattern": pattern }));
        // One that can't be read is taken to match: rather hide too much.
        if matching.map_or(true, |matching| matching.is_valid(&Value::String(name.to_owned()))) {
            found.push(schema);
        }
    }
    if found.is_empty() {
        let rest = &schema["additionalProperties"];
        found.extend(rest.as_object().filter(|rest| !rest.is_empty()).map(|_| rest));
    }
    found
}

/// The schema of an item in the schema of its array.
fn of_item(schema: &Value, index: usize) -> Option<&Value> {
    let own = schema["prefixItems"].get(index).or_else(|| schema.get("items"))?;
    own.as_object().filter(|own| !own.is_empty()).map(|_| own)
}

fn make_absolute(value: &mut Value, base_dir: &Path) {
    if let Value::String(text) = value
        && !text.is_empty()
    {
        // An absolute path stays as it is. A base folder that isn't UTF-8 can't be said in JSON.
        if let Some(joined) = base_dir.join(&*text).to_str() {
            *text = normal(joined);
        }
    }
}

/// Fetches `{env: NAME}` or `{file: PATH}`; anything else is left for the schema to judge.
fn fetch_secret(value: &mut Value, base_dir: &Path) -> Result<(), String> {
    let Value::Object(fields) = &*value else { return Ok(()) };
    let text = |name: &str| fields.get(name).and_then(Value::as_str).filter(|_| fields.len() == 1);
    let fetched = match (text("env"), text("file")) {
        (Some(name), _) => variable(name, std::env::var(name))?,
        (_, Some(file)) => secret_file(&base_dir.join(file))?,
        _ => return Ok(()),
    };
    *value = Value::String(fetched);
    Ok(())
}

/// An environment variable's value. The error is in own words: the standard library's shows a value that isn't UTF-8.
fn variable(name: &str, value: Result<String, VarError>) -> Result<String, String> {
    value.map_err(|error| match error {
        VarError::NotPresent => format!("environment variable {name} is not set"),
        VarError::NotUnicode(_) => format!("environment variable {name} is not UTF-8"),
    })
}

/// A path without `.` in its midst, for messages.
fn normal(path: &str) -> String {
    Path::new(path)
        .components()
        .collect::<std::path::PathBuf>()
        .to_string_lossy()
        .into_owned()
}

fn secret_file(path: &Path) -> Result<String, String> {
    let name = path.display();
    let size = path.metadata().map_err(|error| format!("{name}: {error}"))?.len();
    if size > SECRET_MAX_BYTES {
        return Err(format!("{name}: {size} bytes are too many for a secret"));
    }
    let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({
            "type": "object", "additionalProperties": false, "required": ["path"],
            "properties": {
                "path": {"type": "string", "format": "path", "minLength": 1},
                "token": {"type": ["string", "null"], "format": "password"},
                "roots": {"type": "array", "items": {"$ref": "#/$defs/Root"}},
                "count": {"type": "integer", "minimum": 1},
            },
            "$defs": {"Root": {"type": "object", "properties": {"ca": {"anyOf": [{"type": "string", "format": "path"}]}}}},
        })
    }

    fn errors(settings: &Value) -> Vec<String> {
        let errors = resolve(settings, &schema(), Path::new("/etc/deskreel")).unwrap_err();
        errors
            .into_iter()
            .map(|error| format!("{} {}", error.key, error.message))
            .collect()
    }

    #[test]
    fn relative_paths_start_at_the_configurations_folder() {
        let settings = json!({"path": "./recordings", "roots": [{"ca": "ca.pem"}, {"ca": "/x.pem"}]});
        let resolved = resolve(&settings, &schema(), Path::new("/etc/deskreel")).unwrap();
        assert_eq!(
            resolved,
            json!({"path": "/etc/deskreel/recordings", "roots": [{"ca": "/etc/deskreel/ca.pem"}, {"ca": "/x.pem"}]})
        );
    }

    #[test]
    fn secrets_come_from_files_and_stay_out_of_messages() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "s3cret\n").unwrap();
        let settings = json!({"path": "/x", "token": {"file": "token"}});
        assert_eq!(resolve(&settings, &schema(), folder.path()).unwrap()["token"], "s3cret");
        let wrong = errors(&json!({"path": "/x", "token": {"file": "missing"}}));
        assert!(
            wrong[0].starts_with(".token /etc/deskreel/missing: No such file"),
            "{wrong:?}"
        );
        let wrong = errors(&json!({"path": "/x", "token": {"env": "DESKREEL_TEST_NO_SUCH_VARIABLE"}}));
        assert_eq!(
            wrong,
            [".token environment variable DESKREEL_TEST_NO_SUCH_VARIABLE is not set"]
        );
        let wrong = errors(&json!({"path": "/x", "token": ["s3cret"]}));
        assert!(
            wrong[0].starts_with(".token ") && !wrong[0].contains("s3cret"),
            "{wrong:?}"
        );
    }

    #[test]
    fn secrets_are_concealed_and_nothing_else() {
        let mut settings = json!({"path": "x", "token": "s3cret"});
        conceal(&mut settings, &schema());
        assert_eq!(settings, json!({"path": "x", "token": "(hidden)"}));
        let mut settings = json!({"path": ["x", {"deep": "s3cret"}], "count": 5, "token": null});
        conceal_all(&mut settings);
        assert_eq!(
            settings,
            json!({"path": "(hidden)", "count": "(hidden)", "token": null})
        );
    }

    #[test]
    fn a_secret_of_any_shape_is_concealed_and_where_it_is_found_is_not() {
        for token in [
            json!("s3cret"),
            json!(4711),
            json!(["s3cret"]),
            json!({"envv": "s3cret"}),
            json!({"env": "NAME", "x": "s3cret"}),
            json!({"env": ["s3cret"]}),
        ] {
            let mut settings = json!({"path": "x", "token": token});
            conceal(&mut settings, &schema());
            assert_eq!(settings["token"], "(hidden)", "{token}");
        }
        for token in [json!({"env": "NAME"}), json!({"file": "./token"}), json!(null)] {
            let mut settings = json!({"path": "x", "token": token});
            conceal(&mut settings, &schema());
            assert_eq!(settings["token"], token);
        }
    }

    #[test]
    fn what_the_schema_does_not_know_is_concealed() {
        let mut settings =
            json!({"path": "x", "tokn": "s3cret", "count": 3, "roots": [{"ca": "c", "key": ["s3cret"]}]});
        conceal(&mut settings, &schema());
        assert_eq!(
            settings,
            json!({"path": "x", "tokn": "(hidden)", "count": 3, "roots": [{"ca": "c", "key": "(hidden)"}]})
        );
        let mut settings = json!("s3cret");
        conceal(&mut settings, &schema());
        assert_eq!(settings, "(hidden)");
        // Known in one part is known; free values are not known from there on.
        let schema = json!({
            "allOf": [
                {"properties": {"a": {"type": "string"}, "free": true}},
                {"properties": {"b": {"$ref": "#/$defs/B"}}, "patternProperties": {"^s_": {"format": "password"}}},
                {"properties": {"list": {"type": "array"}, "map": {"additionalProperties": {"type": "string"}}}},
            ],
            "$defs": {"B": {"oneOf": [{"type": "null"}, {"type": "string", "format": "password"}]}},
        });
        let mut settings = json!({
            "a": "a", "b": "s3cret", "s_x": "s3cret", "t_x": "s3cret", "free": {"x": "s3cret"},
            "list": ["s3cret"], "map": {"k": "v"},
        });
        conceal(&mut settings, &schema);
        assert_eq!(
            settings,
            json!({
                "a": "a", "b": "(hidden)", "s_x": "(hidden)", "t_x": "(hidden)", "free": {"x": "(hidden)"},
                "list": ["(hidden)"], "map": {"k": "v"},
            })
        );
    }

    #[test]
    fn a_variable_that_is_not_utf8_stays_out_of_the_message() {
        use std::os::unix::ffi::OsStringExt as _;
        let value = std::ffi::OsString::from_vec(b"s3cret\xff".to_vec());
        let message = variable("NAME", Err(VarError::NotUnicode(value))).unwrap_err();
        assert_eq!(message, "environment variable NAME is not UTF-8");
    }

    #[test]
    fn every_error_names_its_key() {
        assert_eq!(errors(&json!({})), [".path is missing"]);
        assert_eq!(errors(&Value::Null), [".path is missing"]);
        assert_eq!(
            errors(&json!({"pahs": "x", "path": "x", "zzzzzz": 1})),
            [
                ".pahs unknown setting, the plugin knows count, path, roots, token",
                ".zzzzzz unknown setting, the plugin knows count, path, roots, token"
            ]
        );
        assert_eq!(
            errors(&json!({"path": "x", "tokem": "x"})),
            [".tokem unknown setting, did you mean `token`?"]
        );
        let wrong = errors(&json!({"path": 5, "count": 0, "roots": [{}, {"ca": 1}]}));
        let keys: Vec<_> = wrong.iter().map(|error| error.split(' ').next().unwrap()).collect();
        assert_eq!(keys, [".count", ".path", ".roots[1].ca"], "{wrong:?}");
    }
}
