//! Single values: what a key of each kind takes, spelled the one way.

use std::net::SocketAddr;

use serde_json::Value;

use crate::scalar::{
    format_duration, format_size, parse_bool, parse_duration, parse_size, parse_time, printable, quoted,
};
use crate::schema::{Choice, Kind};
use crate::yaml::Style;

/// Reads one scalar of a known kind and spells it the one way.
pub(crate) fn scalar(kind: Kind, text: &str, style: Style) -> Result<Value, String> {
    match kind {
        Kind::Bool => parse_bool(text)
            .map(Value::Bool)
            .ok_or_else(|| format!("{} is not a boolean: write true or false", quoted(text))),
        Kind::Choice(choice) => choose(choice, text),
        Kind::Limit => limit(text),
        Kind::Time => Ok(parse_time(text)?.map_or(Value::Null, Value::from)),
        Kind::Duration { min, max } => {
            let duration = parse_duration(text)?;
            if duration < min || duration > max {
                let (min, max) = (format_duration(min), format_duration(max));
                return Err(format!("{} is out of range: {min} to {max}", quoted(text)));
            }
            Ok(format_duration(duration).into())
        }
        Kind::Size { min, max } => {
            let size = parse_size(text)?;
            if size < min || size > max {
                return Err(format!(
                    "{} is out of range: {} to {}",
                    quoted(text),
                    format_size(min),
                    format_size(max)
                ));
            }
            Ok(format_size(size).into())
        }
        Kind::Count { min, max } => match text.parse::<u64>() {
            Ok(count) if (min..=max).contains(&count) => Ok(count.into()),
            _ => Err(format!("{} is not a number from {min} to {max}", quoted(text))),
        },
        Kind::Word(words) => word(words, text),
        Kind::Address => match text.parse::<SocketAddr>() {
            Ok(address) => Ok(address.to_string().into()),
            Err(_) => Err(format!(
                "{} is not an address: write IP:port, such as 0.0.0.0:3389 or [::]:3389",
                quoted(text)
            )),
        },
        Kind::Sha256 => {
            let digits: String = text
                .chars()
                .filter(|c| *c != ':')
                .collect::<String>()
                .to_ascii_lowercase();
            if digits.len() == 64 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                Ok(digits.into())
            } else {
                Err(format!("{} is not a SHA-256: write its 64 hex digits", quoted(text)))
            }
        }
        Kind::Name => {
            let text = text_value(text, style)?;
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            if text.len() <= 63 && text.starts_with(|c: char| fits(c) && c != '-') && text.chars().all(fits) {
                Ok(text.into())
            } else {
                Err(format!(
                    "{} is not a name: use up to 63 of a-z, 0-9, - and _",
                    quoted(text)
                ))
            }
        }
        Kind::Switch => match parse_bool(text) {
            Some(switch) => Ok(Value::Bool(switch)),
            None => scalar(Kind::Path, text, style),
        },
        Kind::Opaque => Ok(text.into()),
        Kind::Free => Ok(text_value(text, style)?.into()),
        Kind::Text | Kind::Path => {
            let text = text_value(text, style)?;
            if text.is_empty() {
                return Err(format!("{} can't be empty", kind.phrase()));
            }
            if text.contains('\0') {
                return Err(format!("{} holds a zero byte", quoted(text)));
            }
            Ok(text.into())
        }
        Kind::Texts
        | Kind::Words(_)
        | Kind::Paths
        | Kind::Labels
        | Kind::Patterns
        | Kind::Settings
        | Kind::Secret
        | Kind::Sections => Err(format!("must be {}, not a single value", kind.phrase())),
    }
}

/// One of `words`.
pub(crate) fn word(words: &[&str], text: &str) -> Result<Value, String> {
    match words.iter().find(|word| **word == text) {
        Some(word) => Ok((*word).into()),
        None => {
            let near = words.iter().find(|word| crate::schema::likeness(word, text) >= 0.6);
            let hint = near.map(|word| format!(", did you mean {word}?")).unwrap_or_default();
            Err(format!("{} is not one of: {}{hint}", quoted(text), words.join(", ")))
        }
    }
}

/// One of the words of `choice`, or a boolean that stands for one.
fn choose(choice: &Choice, text: &str) -> Result<Value, String> {
    if choice.words.contains(&text) {
        return Ok(text.into());
    }
    if let Some(index) = text.parse::<usize>().ok().filter(|_| choice.numbers)
        && let Some(word) = choice.words.get(index)
    {
        return Ok((*word).into());
    }
    match parse_bool(text) {
        Some(true) => Ok(choice.on.into()),
        Some(false) => Ok(choice.off.into()),
        None => word(choice.words, text),
    }
}

/// A duration where `never` and what is not above 0 mean none.
fn limit(text: &str) -> Result<Value, String> {
    if text == "never" {
        return Ok(Value::Null);
    }
    let negative = text.strip_prefix('-');
    let duration = parse_duration(negative.unwrap_or(text)).map_err(|message| format!("{message}; never for none"))?;
    if negative.is_some() || duration.is_zero() {
        return Ok(Value::Null);
    }
    Ok(format_duration(duration).into())
}

/// Text, unless it is written as a number or a boolean.
fn text_value(text: &str, style: Style) -> Result<&str, String> {
    match (style, plain(text)) {
        (Style::Plain, Ok(Value::String(_))) | (Style::Quoted | Style::Bare, _) => Ok(text),
        _ => Err(format!(
            "{} is a number or a boolean here; quote it: '{}'",
            quoted(text),
            printable(text)
        )),
    }
}

/// A plain scalar as YAML 1.2's core schema reads it, as far as JSON can say it.
pub(crate) fn plain(text: &str) -> Result<Value, String> {
    match text {
        "true" | "True" | "TRUE" => return Ok(true.into()),
        "false" | "False" | "FALSE" => return Ok(false.into()),
        _ => {}
    }
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let lower = unsigned.to_ascii_lowercase();
    if matches!(lower.as_str(), ".inf" | ".nan") {
        return Err(format!("{} can't be said in JSON", quoted(text)));
    }
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let too_large = || format!("{} is too large a number; quote it if it is text", quoted(text));
    for (prefix, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(number) = text.strip_prefix(prefix).filter(|number| digits(number, radix)) {
            return u64::from_str_radix(number, radix)
                .map(Value::from)
                .map_err(|_| too_large());
        }
    }
    if digits(unsigned, 10) {
        return match text.strip_prefix('-') {
            Some(_) => text.parse::<i64>().map(Value::from).map_err(|_| too_large()),
            None => unsigned.parse::<u64>().map(Value::from).map_err(|_| too_large()),
        };
    }
    let numeric = unsigned.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && unsigned.chars().any(|c| c.is_ascii_digit())
        && lower
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, '.' | 'e' | '+' | '-'));
    if numeric && let Ok(number) = text.parse::<f64>() {
        return serde_json::Number::from_f64(number)
            .map(Value::Number)
            .ok_or_else(too_large);
    }
    Ok(Value::String(text.to_owned()))
}
