//! One-line addresses of storages, as Teleport's `audit_sessions_uri` has them.

use crate::error::Error;

/// `scheme://host/path?name=value&...`, taken apart and percent-decoded.
///
/// ```
/// use deskreel_sdk::StorageUrl;
/// let url = StorageUrl::parse("url", "s3://bucket/a/b?region=eu-west-1&insecure=true").unwrap();
/// assert_eq!((url.scheme.as_str(), url.host.as_str(), url.path.as_str()), ("s3", "bucket", "a/b"));
/// assert_eq!(url.parameters[0], ("region".to_owned(), "eu-west-1".to_owned()));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StorageUrl {
    /// What stands before `://`, in lower case.
    pub scheme: String,
    /// Bucket or host; never empty.
    pub host: String,
    /// The rest before `?`, without slashes at its ends; may be empty.
    pub path: String,
    /// The parameters in their order. No name comes twice.
    pub parameters: Vec<(String, String)>,
}

impl StorageUrl {
    /// Takes an address apart. `setting` is the name of the setting that holds it, for messages; the address itself is in none, as
    /// it may hold what its writer took for a secret.
    ///
    /// # Errors
    /// `InvalidSettings` that says what is wrong.
    pub fn parse(setting: &str, text: &str) -> Result<Self, Error> {
        let wrong = |why: &str| Error::invalid_settings(format!("{setting}: {why}"));
        let (scheme, rest) = text
            .split_once("://")
            .ok_or_else(|| wrong("has no `://`, like s3://bucket/prefix?region=eu-west-1"))?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        if host.is_empty() {
            return Err(wrong("names no bucket"));
        }
        if host.contains('@') {
            return Err(wrong(
                "has a user name or password in it: set the credentials' own keys",
            ));
        }
        if query.contains('#') || rest.contains('#') {
            return Err(wrong("has a `#`"));
        }
        let decode =
            |text: &str| decode(text).ok_or_else(|| wrong("has a `%` that isn't followed by two hex digits of UTF-8"));
        let mut parameters: Vec<(String, String)> = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (name, value) = (decode(name)?, decode(&value.replace('+', " "))?);
            if parameters.iter().any(|(known, _)| *known == name) {
                return Err(wrong(&format!("has `{name}` twice")));
            }
            parameters.push((name, value));
        }
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            host: decode(host)?,
            path: decode(path)?.trim_matches('/').to_owned(),
            parameters,
        })
    }
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first == b'%' {
            let digits = rest.get(..2)?;
            let digit = |byte: u8| char::from(byte).to_digit(16);
            bytes.push(u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn parts_are_decoded() {
        let url = StorageUrl::parse("url", "GS://b/?credentialsPath=%2Fetc%2fa%20b.json&projectID=p&flag").unwrap();
        assert_eq!(
            (url.scheme.as_str(), url.host.as_str(), url.path.as_str()),
            ("gs", "b", "")
        );
        let expected = [("credentialsPath", "/etc/a b.json"), ("projectID", "p"), ("flag", "")];
        assert_eq!(
            url.parameters,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
    }

    #[test]
    fn what_can_not_be_read_is_refused_without_being_shown() {
        for bad in [
            "bucket",
            "s3://",
            "s3:///x",
            "s3://key:s3cret@b/x",
            "s3://b/%zz?s3cret",
            "s3://b/%f",
            "s3://b/%ff",
            "s3://b?a=1&a=2",
            "s3://b/#s3cret",
        ] {
            let error = StorageUrl::parse("url", bad).unwrap_err().to_string();
            assert!(
                error.starts_with("url: ") && !error.contains("s3cret"),
                "{bad}: {error}"
            );
        }
    }
}
