//! What plugins for buckets and other remote servers have in common: settings of the usual shape, texts of others in messages, and
//! how a put ends whose answer was lost.

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::future::Future;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::object::Key;
use crate::settings::SettingDuration;

/// The longest prefix: with the longest key behind it a name stays below the 1024 bytes that names of most servers may have.
pub const PREFIX_MAX_BYTES: usize = 256;
/// Longest text of others in a message.
pub const FOREIGN_MAX_CHARS: usize = 300;

/// Takes over what the setting `url` says of another setting. What is said twice is refused, even if it is the same.
///
/// # Errors
/// `InvalidSettings` that names the key.
pub fn set<T>(key: &str, place: &mut Option<T>, value: T) -> Result<()> {
    if place.is_some() {
        return Err(Error::invalid_settings(format!("{key}: is in `url` too")));
    }
    *place = Some(value);
    Ok(())
}

/// What the names of all objects start with: nothing, or a text that a key could be and a slash.
///
/// ```
/// use deskreel_sdk::bucket::key_prefix;
/// assert_eq!(key_prefix("/a/b/").unwrap(), "a/b/");
/// assert_eq!(key_prefix("").unwrap(), "");
/// assert!(key_prefix("a b").is_err());
/// ```
///
/// # Errors
/// `InvalidSettings` that names `prefix`.
pub fn key_prefix(text: &str) -> Result<String> {
    let text = text.trim_matches('/');
    if text.is_empty() {
        return Ok(String::new());
    }
    if text.len() > PREFIX_MAX_BYTES {
        return Err(Error::invalid_settings(format!(
            "prefix: is longer than {PREFIX_MAX_BYTES} bytes"
        )));
    }
    Key::new(text).map_err(|error| Error::invalid_settings(format!("prefix: {}", error.message())))?;
    Ok(format!("{text}/"))
}

/// Whether a text is `https://host:port` or `http://host:port` and nothing more. It is in no message, as it may hold what its
/// writer took for a place of a password.
///
/// # Errors
/// `InvalidSettings` that names `endpoint`.
pub fn check_endpoint(endpoint: &str) -> Result<()> {
    let wrong = |why: &str| Err(Error::invalid_settings(format!("endpoint: {why}")));
    let Some((scheme, host)) = endpoint.split_once("://") else {
        return wrong("needs https:// or http:// in front");
    };
    if !matches!(scheme, "https" | "http") {
        return wrong("is neither https:// nor http://");
    }
    let host = host.trim_end_matches('/');
    if host.is_empty() || host.contains(['/', '?', '#']) {
        return wrong("is not just a host and a port: the bucket has its own key");
    }
    if host.contains('@') {
        return wrong("has credentials in it: they have their own keys");
    }
    Ok(())
}

/// How long a server may take to begin an answer, and between two parts of one, where the settings don't say.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// The setting `answer_timeout`, or [`ANSWER_TIMEOUT`].
///
/// # Errors
/// `InvalidSettings` for one that no server keeps.
pub fn answer_timeout(setting: Option<SettingDuration>) -> Result<Duration> {
    match setting {
        None => Ok(ANSWER_TIMEOUT),
        Some(SettingDuration(time)) if time >= ANSWER_TIMEOUT_MIN => Ok(time),
        Some(_) => Err(Error::invalid_settings(format!(
            "answer_timeout: is less than {ANSWER_TIMEOUT_MIN:?}"
        ))),
    }
}

/// The shortest time that may be set.
const ANSWER_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// Of an object's metadata what HTTP headers can carry, up to `max_bytes` of names and values.
#[must_use]
pub fn header_metadata(metadata: &BTreeMap<String, String>, max_bytes: usize) -> BTreeMap<String, String> {
    let mut left = max_bytes;
    let name_fits = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    let value_fits = |value: &str| value.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    let mut kept = BTreeMap::new();
    for (name, value) in metadata {
        if name_fits(name) && value_fits(value) && name.len() + value.len() <= left {
            left -= name.len() + value.len();
            kept.insert(name.to_ascii_lowercase(), value.clone());
        }
    }
    kept
}

/// A text of a server or a library as it may stand in a message: one line of at most [`FOREIGN_MAX_CHARS`], whose addresses end
/// before their parameters (who knows the id of an upload, or a signed address, may use it).
#[must_use]
pub fn foreign(text: &str) -> String {
    let clean: String = without_queries(text)
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .take(FOREIGN_MAX_CHARS)
        .collect();
    clean.trim().trim_end_matches('.').to_owned()
}

fn without_queries(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(place) = rest.find("://") {
        let (before, address) = rest.split_at(place + 3);
        clean.push_str(before);
        let end = address
            .find(|c: char| c.is_whitespace() || ")\"'>".contains(c))
            .unwrap_or(address.len());
        let (address, after) = address.split_at(end);
        clean.push_str(address.split('?').next().unwrap_or_default());
        rest = after;
    }
    clean + rest
}

/// What an error says and what is behind it, as [`foreign`] text. Most wrappers say again what is in them: that stands once.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut texts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if !texts.iter().any(|known| known.contains(&text)) {
            texts.push(text);
        }
        next = error.source();
    }
    foreign(&texts.join(": "))
}

/// A create-only put that was not simply carried out.
#[derive(Debug)]
pub enum Unsettled {
    /// The server says that the name is taken, or about to be.
    Taken,
    /// Nobody knows whether it was carried out: no answer, or one that says so.
    Unknown(Error),
    /// It was not carried out.
    Refused(Error),
}

/// How such a put ends. `is_there` looks whether the object is there with the bytes that were put, and fails as `AlreadyExists` if
/// it is there with others; it is asked only where that matters.
///
/// # Errors
/// `AlreadyExists`; `Interrupted` where it was there a moment ago and is not now; else the error of the put.
pub async fn settle(put: Unsettled, is_there: impl Future<Output = Result<bool>>) -> Result<()> {
    match put {
        Unsettled::Taken => match is_there.await? {
            true => Ok(()),
            // Another put is about to win or was undone; or the object was deleted meanwhile.
            false => Err(Error::new(
                ErrorKind::Interrupted,
                "taken a moment ago, and not there now",
            )),
        },
        Unsettled::Unknown(error) if error.kind().is_retryable() => match is_there.await {
            Ok(true) => Ok(()),
            Err(other) if other.kind() == ErrorKind::AlreadyExists => Err(other),
            // The first error tells more.
            Ok(false) | Err(_) => Err(error),
        },
        Unsettled::Unknown(error) | Unsettled::Refused(error) => Err(error),
    }
}

/// The error of a put whose key holds other bytes.
#[must_use]
pub fn other_bytes() -> Error {
    Error::new(ErrorKind::AlreadyExists, "an object with other bytes is there")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn ended(put: Unsettled, is_there: Result<bool>) -> Result<(), ErrorKind> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let settled = runtime.block_on(settle(put, async { is_there }));
        settled.map_err(|error| error.kind())
    }

    #[test]
    fn a_put_without_an_answer_is_settled_by_what_is_there() {
        let away = || Error::new(ErrorKind::Unavailable, "away");
        let denied = || Error::new(ErrorKind::PermissionDenied, "no");
        let other = ErrorKind::AlreadyExists;
        for (put, is_there, expected) in [
            (Unsettled::Taken, Ok(true), Ok(())),
            (Unsettled::Taken, Ok(false), Err(ErrorKind::Interrupted)),
            (Unsettled::Taken, Err(other_bytes()), Err(other)),
            (Unsettled::Taken, Err(away()), Err(ErrorKind::Unavailable)),
            (Unsettled::Unknown(away()), Ok(true), Ok(())),
            (Unsettled::Unknown(away()), Ok(false), Err(ErrorKind::Unavailable)),
            (Unsettled::Unknown(away()), Err(other_bytes()), Err(other)),
            (Unsettled::Unknown(away()), Err(denied()), Err(ErrorKind::Unavailable)),
            (Unsettled::Unknown(denied()), Ok(true), Err(ErrorKind::PermissionDenied)),
            (Unsettled::Refused(away()), Ok(true), Err(ErrorKind::Unavailable)),
        ] {
            let what = format!("{put:?}, {is_there:?}");
            assert_eq!(ended(put, is_there), expected, "{what}");
        }
    }

    #[test]
    fn texts_of_others_are_one_short_line_without_parameters() {
        let said = foreign("a\nb <http://h/x?upload_id=s3cret> c.");
        assert_eq!(said, "a b <http://h/x> c");
        assert_eq!(foreign(&"x".repeat(1000)).len(), FOREIGN_MAX_CHARS);
    }

    #[test]
    fn only_what_headers_carry_is_kept() {
        let given = [("A-b", "x"), ("c", "\n"), ("d e", "x"), ("long", &"y".repeat(50))];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(header_metadata(&given, 40), [("a-b".to_owned(), "x".to_owned())].into());
    }

    #[test]
    fn endpoints_are_a_host_and_a_port() {
        for good in ["https://a", "http://a:1/"] {
            assert!(check_endpoint(good).is_ok(), "{good}");
        }
        for bad in [
            "a:1",
            "ftp://a",
            "https://",
            "https://a/b",
            "https://s3cret@a",
            "https://a?b",
        ] {
            let error = check_endpoint(bad).unwrap_err().to_string();
            assert!(error.starts_with("endpoint: ") && !error.contains("s3cret"), "{error}");
        }
    }
}
