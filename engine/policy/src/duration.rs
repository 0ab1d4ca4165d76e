//! Durations in JSON, written as in the configuration: `1h30m`.

use std::time::Duration;

use deskreel_config::{format_duration, parse_duration};
use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

/// For `#[serde(with)]`: a duration that is always there.
pub(crate) mod required {
    use super::{Deserializer, Duration, Serializer, read};

    pub(crate) fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*duration))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        read(deserializer)
    }
}

/// For `#[serde(with)]`: a duration or `null`.
pub(crate) mod optional {
    use super::{Deserializer, Duration, Serializer, read_option};

    pub(crate) fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => serializer.serialize_some(&super::format_duration(*duration)),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        read_option(deserializer)
    }
}

fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    parse_duration(&String::deserialize(deserializer)?).map_err(D::Error::custom)
}

fn read_option<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(deserializer)?
        .map(|text| parse_duration(&text).map_err(D::Error::custom))
        .transpose()
}
