//! Canonical JSON and its digest: keys sorted, no white space, so that equal inputs give equal digests anywhere.

use std::io::Write as _;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// SHA-256 of the canonical JSON of `value`, 64 lower-case hex digits.
pub(crate) fn digest(value: &impl Serialize) -> String {
    let mut bytes = Vec::new();
    write(&canonical(value), &mut bytes);
    hex::encode(Sha256::digest(&bytes))
}

/// The value as JSON. What we hash can be written as JSON: maps have text for keys.
pub(crate) fn canonical(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn write(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<_> = map.iter().collect();
            keys.sort_by_key(|(key, _)| *key);
            out.push(b'{');
            for (index, (key, value)) in keys.into_iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                scalar(key, out);
                out.push(b':');
                write(value, out);
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                write(item, out);
            }
            out.push(b']');
        }
        value => scalar(value, out),
    }
}

fn scalar(value: &(impl Serialize + ?Sized), out: &mut Vec<u8>) {
    // writing text, a number or a word to memory can't fail
    let _ = serde_json::to_writer(out.by_ref(), value);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    #[test]
    fn keys_are_sorted() {
        let value = serde_json::json!({"b": [1, {"d": null, "c": "x\n"}], "a": true});
        let mut bytes = Vec::new();
        super::write(&value, &mut bytes);
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            r#"{"a":true,"b":[1,{"c":"x\n","d":null}]}"#
        );
    }
}
