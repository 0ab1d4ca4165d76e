//! The setting `interval`.

use deskreel_sdk::{Error, ErrorKind, Result};

/// Pictures closer than this make no sense: recordings have no more.
const MIN_NS: u64 = 1_000_000;

/// Nanoseconds of a number and a unit.
///
/// # Errors
/// `InvalidSettings` that says what is expected.
pub(crate) fn parse(text: &str) -> Result<u64> {
    let wrong = || {
        let message = format!("interval: {text:?} is not a time of at least 1ms such as 500ms, 1.5s, 1m or 1h");
        Error::new(ErrorKind::InvalidSettings, message)
    };
    let split = text.find(|c: char| c.is_ascii_alphabetic()).ok_or_else(wrong)?;
    let (number, unit) = text.split_at(split);
    let unit_ns: u64 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(wrong()),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let digits = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    let value = |text: &str| text.parse::<u64>().map_err(|_| wrong());
    let divisor = fraction.bytes().fold(1_u64, |divisor, _| divisor * 10);
    // At most 10^9 hours: below 2^63 nanoseconds times anything only for sensible values, hence the checks.
    let part = u128::from(value(fraction)?) * u128::from(unit_ns) / u128::from(divisor);
    let total = u128::from(value(whole)?) * u128::from(unit_ns) + part;
    match u64::try_from(total) {
        Ok(total) if total >= MIN_NS => Ok(total),
        _ => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn times_are_read() {
        for (text, ms) in [
            ("500ms", 500),
            ("1s", 1000),
            ("1.25s", 1250),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("0.5m", 30_000),
        ] {
            assert_eq!(parse(text).unwrap(), ms * 1_000_000, "{text}");
        }
        for text in [
            "",
            "s",
            "1",
            "-1s",
            "1d",
            "0s",
            "0.1ms",
            "1.s",
            ".5s",
            "1,5s",
            "1s ",
            "9999999999s",
            "999999999h",
        ] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidSettings, "{text}");
        }
    }
}
