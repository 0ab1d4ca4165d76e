//! What a storage holds: objects with a key, bytes and some facts.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::Error;

/// The longest key, in bytes.
pub const KEY_MAX_BYTES: usize = 512;
/// The longest part of a key between two slashes, in bytes: what file systems allow, with room for a temporary suffix.
pub const KEY_PART_MAX_BYTES: usize = 200;

/// The name of an object: parts of `[A-Za-z0-9._=-]`, joined by single slashes.
///
/// A key never starts or ends with a slash and has no part that is empty, `.` or `..`, so a storage may use it as a relative
/// path without looking again. At most [`KEY_MAX_BYTES`] bytes, [`KEY_PART_MAX_BYTES`] a part. Keys sort by their bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Key(String);

impl Key {
    /// Checks a text and makes it a key.
    ///
    /// # Errors
    /// `InvalidInput` that says what is wrong.
    pub fn new(key: impl Into<String>) -> Result<Self, Error> {
        let key = key.into();
        check_characters("key", &key)?;
        if key.is_empty() {
            return Err(Error::invalid_input("key is empty"));
        }
        for part in key.split('/') {
            let wrong = match part {
                "" => Some("an empty part"),
                "." | ".." => Some("a part of dots"),
                part if part.len() > KEY_PART_MAX_BYTES => Some("a part that is too long"),
                _ => None,
            };
            if let Some(wrong) = wrong {
                return Err(Error::invalid_input(format!("key `{key}` has {wrong}")));
            }
        }
        Ok(Self(key))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The parts between slashes; at least one.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split('/')
    }
}

/// The start of the keys that a listing wants: any text that a key could start with, or nothing for all keys.
///
/// It compares bytes, not parts: `ab` matches `abc/d`; ask with `ab/` for a folder.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(String);

impl Prefix {
    /// Checks a text and makes it a prefix.
    ///
    /// # Errors
    /// `InvalidInput` that says what is wrong.
    pub fn new(prefix: impl Into<String>) -> Result<Self, Error> {
        let prefix = prefix.into();
        check_characters("prefix", &prefix)?;
        let parts = prefix.split('/').count();
        for (index, part) in prefix.split('/').enumerate() {
            // The last part may be empty (`ab/`) or the start of a longer one (`ab/.`).
            if index + 1 < parts && matches!(part, "" | "." | "..") {
                return Err(Error::invalid_input(format!("no key can start with `{prefix}`")));
            }
        }
        Ok(Self(prefix))
    }

    /// The prefix of every key.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the key starts with this.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        key.0.starts_with(&self.0)
    }
}

fn check_characters(what: &str, text: &str) -> Result<(), Error> {
    if text.len() > KEY_MAX_BYTES {
        return Err(Error::invalid_input(format!(
            "{what} of {} bytes, at most {KEY_MAX_BYTES} are allowed",
            text.len()
        )));
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || "._=/-".contains(*c)))
    {
        Some(wrong) => Err(Error::invalid_input(format!(
            "{what} {text:?} has the character {wrong:?}"
        ))),
        None => Ok(()),
    }
}

macro_rules! text_type {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = Error;
            fn try_from(text: String) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                Self::new(text)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}
text_type!(Key);
text_type!(Prefix);

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

/// What the engine wants kept with an object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct PutOptions {
    /// Media type, for storages that keep one.
    pub content_type: Option<String>,
    /// Small texts, for storages that keep them. Nothing depends on them.
    pub metadata: BTreeMap<String, String>,
    /// Seconds since 1970 before which nobody may delete the object. Only sent where the profile has `object_lock`.
    pub retain_until_unix_s: Option<u64>,
    /// Nobody may delete the object until the hold is lifted. Only sent where the profile has `object_lock`.
    pub legal_hold: bool,
}

/// Facts of one object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ObjectInfo {
    /// Its key.
    pub key: Key,
    /// Its size in bytes.
    pub size: u64,
    /// When it was stored, in milliseconds since 1970, if the storage knows.
    #[serde(default)]
    pub modified_unix_ms: Option<u64>,
}

impl ObjectInfo {
    /// The facts that every storage knows.
    #[must_use]
    pub fn new(key: Key, size: u64) -> Self {
        Self {
            key,
            size,
            modified_unix_ms: None,
        }
    }
}

/// One page of a listing, in key order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Page {
    /// The objects; empty only on the last page.
    pub objects: Vec<ObjectInfo>,
    /// Whether there are more; ask again after the last key of this page.
    #[serde(default)]
    pub more: bool,
}

impl Page {
    /// A page.
    #[must_use]
    pub fn new(objects: Vec<ObjectInfo>, more: bool) -> Self {
        Self { objects, more }
    }
}

/// When an object counts as stored; chosen in the configuration per storage.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// When the plugin has answered.
    Sync,
    /// When it is safe in the spool; the plugin gets it in the background.
    #[default]
    Async,
}

/// What a storage is like with certain settings; the engine adapts to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Profile {
    /// The largest object that `put` takes; larger ones are refused as `InvalidInput` before they reach the plugin.
    pub max_object_bytes: Option<u64>,
    /// How many puts at once do good.
    pub concurrency: u32,
    /// The time that one operation may take, unless the configuration says otherwise.
    pub op_timeout: Duration,
    /// Whether `retain_until_unix_s` and `legal_hold` are honoured.
    pub object_lock: bool,
    /// The mode that suits; the engine warns when another is configured.
    pub recommended_mode: Option<Mode>,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            max_object_bytes: None,
            concurrency: 4,
            op_timeout: Duration::from_secs(60),
            object_lock: false,
            recommended_mode: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn keys_that_leave_their_folder_are_refused() {
        for bad in [
            "", "/", "/a", "a/", "a//b", ".", "..", "a/../b", "../a", "a/..", "a/.", "a\\b", "a b", "a\0b", "ä", "~a",
            "a:b",
        ] {
            assert!(Key::new(bad).is_err(), "{bad:?}");
        }
        assert!(Key::new("a".repeat(KEY_PART_MAX_BYTES + 1)).is_err());
        assert!(Key::new("a/".repeat(KEY_MAX_BYTES / 2) + "a").is_err());
        for good in [
            "a",
            "a/b",
            "...",
            "a..b/c",
            ".a",
            "-",
            "0197/00000001.mcap",
            "k=v/x-y_z.json".replace('_', ".").as_str(),
        ] {
            assert!(Key::new(good).is_ok(), "{good:?}");
        }
        assert!(serde_json::from_str::<Key>("\"../x\"").is_err());
    }

    #[test]
    fn prefixes_match_bytes() {
        let key = Key::new("ab/cd").unwrap();
        for (prefix, matches) in [
            ("", true),
            ("a", true),
            ("ab/", true),
            ("ab/c", true),
            ("b", false),
            ("ab/cd/", false),
        ] {
            assert_eq!(Prefix::new(prefix).unwrap().matches(&key), matches, "{prefix}");
        }
        assert!(Prefix::new("../").is_err());
        assert!(Prefix::new("a//").is_err());
    }
}
