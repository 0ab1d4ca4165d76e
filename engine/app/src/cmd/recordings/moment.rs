//! Moments and stretches of time on the command line.

use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment of a recording: `12.5s`, `1m30s`, `00:01:30`, `01:30.250`.
///
/// # Errors
/// A message that says what is expected.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let parsed = if text.contains(':') { clock(text) } else { units(text) };
    parsed.ok_or_else(|| format!("{text:?} is not a time in the recording such as 12.5s, 1m30s or 00:01:30"))
}

/// A time since which: `2h`, `3d`, `2024-05-01` or RFC 3339.
///
/// # Errors
/// A message that says what is expected.
pub(in crate::cmd) fn since(text: &str) -> Result<OffsetDateTime, String> {
    if let Ok(time) = OffsetDateTime::parse(text, &Rfc3339) {
        return Ok(time);
    }
    if let Ok(midnight) = OffsetDateTime::parse(&format!("{text}T00:00:00Z"), &Rfc3339) {
        return Ok(midnight);
    }
    units(text)
        .and_then(|ago| OffsetDateTime::now_utc().checked_sub(ago.try_into().ok()?))
        .ok_or_else(|| format!("{text:?} is neither a time ago such as 2h or 3d nor a date such as 2024-05-01"))
}

/// `[[HH:]MM:]SS[.fraction]`.
fn clock(text: &str) -> Option<Duration> {
    let mut total = 0_u64;
    let mut parts = text.split(':').peekable();
    let mut count = 0;
    while let Some(part) = parts.next() {
        count += 1;
        if parts.peek().is_some() {
            // The first part may be any number, the others stay below 60.
            let value = digits(part).filter(|value| count == 1 || *value < 60)?;
            total = total.checked_add(value)?.checked_mul(60)?;
        } else {
            let seconds = decimal(part).filter(|seconds| *seconds < Duration::from_secs(60))?;
            return (count <= 3).then(|| Duration::from_secs(total).checked_add(seconds))?;
        }
    }
    None
}

/// Numbers with units: `1h2m3.5s`, `250ms`, `2d`.
fn units(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let (unit, after) = after.split_at(after.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(after.len()));
        let number = decimal(number)?;
        let value = match unit {
            "ms" => number.checked_div(1000),
            "s" => Some(number),
            "m" => number.checked_mul(60),
            "h" => number.checked_mul(3600),
            "d" => number.checked_mul(86_400),
            _ => None,
        };
        total = total.checked_add(value?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

/// A decimal number as seconds.
fn decimal(text: &str) -> Option<Duration> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let fraction_digits = u32::try_from(fraction.len()).ok().filter(|count| *count <= 9)?;
    let nanos = digits(fraction)? * 10_u64.pow(9 - fraction_digits);
    Some(Duration::new(digits(whole)?, u32::try_from(nanos).ok()?))
}

/// Digits only, no sign.
fn digits(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn moments() {
        for (text, ms) in [
            ("12.5s", 12_500),
            ("0s", 0),
            ("1m30s", 90_000),
            ("1h", 3_600_000),
            ("250ms", 250),
            ("1h2m3.004s", 3_723_004),
            ("00:01:30", 90_000),
            ("01:30.25", 90_250),
            ("100:00:00", 360_000_000),
            ("90:00", 5_400_000),
        ] {
            assert_eq!(parse(text).unwrap(), Duration::from_millis(ms), "{text}");
        }
        for text in [
            "",
            "12",
            "12.5",
            "s",
            "-1s",
            "1x",
            "1:2:3:4",
            "00:60",
            "00:60:00",
            ":30",
            "30:",
            "1.s",
            ".5s",
            "1m 30s",
            "∞s",
            "99999999999999999999s",
            "18446744073709551615d",
            "1.1234567890s",
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains("1m30s"), "{text}: {error}");
        }
    }

    #[test]
    fn times_since() {
        assert_eq!(since("2024-05-01").unwrap().unix_timestamp(), 1_714_521_600);
        assert_eq!(
            since("2024-05-01T10:00:00+02:00").unwrap().unix_timestamp(),
            1_714_550_400
        );
        let hour = OffsetDateTime::now_utc() - since("1h").unwrap();
        assert!((3599..3700).contains(&hour.whole_seconds()), "{hour}");
        assert!(since("yesterday").unwrap_err().contains("2024-05-01"));
        assert!(since("99999999999d").is_err());
    }
}
