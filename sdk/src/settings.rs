//! Types and a macro for the operator's settings.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// Declares settings: a struct (or several, and enums) with everything derived that the SDK needs. Unknown keys are refused.
///
/// It saves a dependency on serde and schemars; their field attributes work as usual. A struct that derives
/// `serde::Deserialize` and `schemars::JsonSchema` itself serves just as well.
///
/// ```
/// deskreel_sdk::settings! {
///     /// Settings of the tape library.
///     pub struct Settings {
///         /// The device.
///         pub device: deskreel_sdk::SettingPath,
///         /// Tapes to keep.
///         #[serde(default)]
///         #[schemars(range(max = 100))]
///         pub tapes: u32,
///     }
/// }
/// ```
#[macro_export]
macro_rules! settings {
    ($($item:item)+) => {
        $(
            #[derive(Debug, $crate::serde::Deserialize, $crate::schemars::JsonSchema)]
            #[serde(crate = "deskreel_sdk::serde", deny_unknown_fields)]
            #[schemars(crate = "deskreel_sdk::schemars")]
            $item
        )+
    };
}

/// A path in the settings. A relative one starts at the configuration file's folder: the engine makes it absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SettingPath(pub PathBuf);

impl Deref for SettingPath {
    type Target = Path;
    fn deref(&self) -> &Path {
        &self.0
    }
}

impl AsRef<Path> for SettingPath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl JsonSchema for SettingPath {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SettingPath".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "path", "minLength": 1})
    }
}

/// A secret in the settings. The operator writes the text, `{env: NAME}` or `{file: PATH}`; the plugin gets the text.
///
/// It shows up in no output: not in `Debug`, not in listings.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The text. Keep it out of logs and messages.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "format": "password"})
    }
}
