//! Types and a macro for the operator's settings.

use std::borrow::Cow;
use std::fmt;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::time::Duration;

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

/// A size in the settings: a number of bytes, or a text such as `512KiB`, `4MiB` or `1GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingSize(pub u64);

/// Units of [`SettingSize`] and their powers of two.
const SIZE_UNITS: [(&str, u32); 5] = [("KiB", 10), ("MiB", 20), ("GiB", 30), ("TiB", 40), ("B", 0)];

impl SettingSize {
    fn parse(text: &str) -> Option<Self> {
        let (number, shift) = SIZE_UNITS
            .iter()
            .find_map(|(unit, shift)| Some((text.strip_suffix(unit)?, *shift)))?;
        let number = number.trim_end();
        // Not `+5`.
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| digits)?;
        number.checked_mul(1 << shift).map(Self)
    }
}

impl<'de> Deserialize<'de> for SettingSize {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = SettingSize;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as `4MiB`, or a number of bytes")
            }
            fn visit_u64<E>(self, bytes: u64) -> Result<SettingSize, E> {
                Ok(SettingSize(bytes))
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SettingSize, E> {
                SettingSize::parse(text).ok_or_else(|| E::invalid_value(serde::de::Unexpected::Str(text), &self))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

impl JsonSchema for SettingSize {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SettingSize".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^[0-9]+ *([KMGT]i)?B$"}]
        })
    }
}

/// A time in the settings: a text such as `500ms`, `30s`, `5m` or `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SettingDuration(pub Duration);

/// Units of [`SettingDuration`] and their milliseconds. The longer one of two that end alike stands first.
const DURATION_UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

impl SettingDuration {
    fn parse(text: &str) -> Option<Self> {
        let (number, millis) = DURATION_UNITS
            .iter()
            .find_map(|(unit, millis)| Some((text.strip_suffix(unit)?, *millis)))?;
        let digits = number.bytes().all(|byte| byte.is_ascii_digit());
        let number: u64 = number.parse().ok().filter(|_| digits)?;
        number.checked_mul(millis).map(Duration::from_millis).map(Self)
    }
}

impl<'de> Deserialize<'de> for SettingDuration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let expected = &"a time such as `500ms`, `30s`, `5m` or `1h`";
        Self::parse(&text).ok_or_else(|| serde::de::Error::invalid_value(serde::de::Unexpected::Str(&text), expected))
    }
}

impl JsonSchema for SettingDuration {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "SettingDuration".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"})
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{SettingDuration, SettingSize};

    #[test]
    fn times_have_units() {
        for (text, millis) in [
            ("0s", 0),
            ("500ms", 500),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1h", 3_600_000),
        ] {
            let parsed = SettingDuration::parse(text);
            assert_eq!(parsed, Some(SettingDuration(Duration::from_millis(millis))), "{text}");
        }
        for text in ["", "s", "5", "-5s", "+5s", "1.5s", "5 s", "5S", "99999999999999999h"] {
            assert_eq!(SettingDuration::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0B", 0),
            ("512 KiB", 512 << 10),
            ("4MiB", 4 << 20),
            ("1GiB", 1 << 30),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(SettingSize::parse(text), Some(SettingSize(bytes)), "{text}");
        }
        for text in [
            "",
            "MiB",
            "4",
            "4MB",
            "-4MiB",
            "+4MiB",
            "4.5MiB",
            "4mib",
            "99999999999TiB",
        ] {
            assert_eq!(SettingSize::parse(text), None, "{text}");
        }
        assert_eq!(serde_json::from_str::<SettingSize>("7").ok(), Some(SettingSize(7)));
        assert!(serde_json::from_str::<SettingSize>("-7").is_err());
    }
}
