//! From the operator's settings to those that a plugin gets: paths made absolute, secrets fetched, all of it checked against
//! the plugin's JSON Schema.

use std::path::Path;

use serde_json::{Map, Value};

/// How deep schemas and settings may nest.
const DEPTH_MAX: usize = 32;
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
    Walk { root: schema }.value(schema, &mut resolved, "", 0, &mut |format, value, key| match format {
        "path" => make_absolute(value, base_dir),
        "password" => {
            if let Err(message) = fetch_secret(value, base_dir) {
                errors.push(SettingError {
                    key: key.to_owned(),
                    message,
                });
            }
        }
        _ => {}
    });
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

/// Replaces every secret by a word, for output.
pub(crate) fn conceal(settings: &mut Value, schema: &Value) {
    Walk { root: schema }.value(schema, settings, "", 0, &mut |format, value, _| {
        if format == "password" && value.is_string() {
            *value = Value::String(CONCEALED.to_owned());
        }
    });
}

/// Replaces every text by a word, for output: where the schema isn't known, any may be a secret.
pub(crate) fn conceal_all(settings: &mut Value) {
    match settings {
        Value::String(text) => CONCEALED.clone_into(text),
        Value::Array(items) => items.iter_mut().for_each(conceal_all),
        Value::Object(fields) => fields.values_mut().for_each(conceal_all),
        _ => {}
    }
}

/// What stands where a secret is.
const CONCEALED: &str = "(hidden)";

/// What happens to a value whose schema has a format: format, value, key.
type OnFormat<'a> = &'a mut dyn FnMut(&str, &mut Value, &str);

struct Walk<'a> {
    root: &'a Value,
}

impl Walk<'_> {
    /// Finds the formats of a schema, and of those that it consists of, in a value.
    fn value(&self, schema: &Value, value: &mut Value, key: &str, depth: usize, on_format: OnFormat<'_>) {
        if depth > DEPTH_MAX {
            return;
        }
        if let Some(name) = schema["$ref"].as_str()
            && let Some(target) = name.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer))
        {
            self.value(target, value, key, depth + 1, on_format);
        }
        for several in ["anyOf", "oneOf", "allOf"] {
            for schema in schema[several].as_array().into_iter().flatten() {
                self.value(schema, value, key, depth + 1, on_format);
            }
        }
        if let Some(format) = schema["format"].as_str() {
            on_format(format, value, key);
        }
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let own = &schema["properties"][name];
                    let schema = if own.is_null() {
                        &schema["additionalProperties"]
                    } else {
                        own
                    };
                    self.value(schema, field, &format!("{key}.{name}"), depth + 1, on_format);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let own = &schema["prefixItems"][index];
                    let schema = if own.is_null() { &schema["items"] } else { own };
                    self.value(schema, item, &format!("{key}[{index}]"), depth + 1, on_format);
                }
            }
            _ => {}
        }
    }
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
        (Some(name), _) => std::env::var(name).map_err(|error| format!("env {name}: {error}"))?,
        (_, Some(file)) => secret_file(&base_dir.join(file))?,
        _ => return Ok(()),
    };
    *value = Value::String(fetched);
    Ok(())
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
            [".token env DESKREEL_TEST_NO_SUCH_VARIABLE: environment variable not found"]
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
        let mut settings = json!({"path": ["x", {"deep": "s3cret"}], "count": 5, "token": {"env": "NAME"}});
        conceal_all(&mut settings);
        assert!(!settings.to_string().contains("s3cret"), "{settings}");
        assert_eq!(settings["count"], 5);
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
