//! Scalars that people write: durations, sizes, booleans; and text from files made fit for a terminal.

use std::fmt::Write as _;
use std::time::Duration;

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Units of a duration, longest first, in nanoseconds.
const DURATION_UNITS: [(&str, u64); 8] = [
    ("d", 86_400_000_000_000),
    ("h", 3_600_000_000_000),
    ("m", 60_000_000_000),
    ("s", 1_000_000_000),
    ("ms", 1_000_000),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("ns", 1),
];

/// Units of a size in the order in which one is chosen for printing.
const SIZE_UNITS: [(&str, u64); 9] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("TB", 1_000_000_000_000),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("B", 1),
];

/// Reads `12.5s`, `1h30m`, `30d`, `0`: Go's syntax and `d` for 24 hours. Exact to the nanosecond, at most 2^64 of them.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let wrong = || {
        format!(
            "{} is not a duration: write it as 12.5s, 1h30m or 30d (units ns, us, ms, s, m, h, d)",
            quoted(text)
        )
    };
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    if text.is_empty() {
        return Err(wrong());
    }
    let mut rest = text;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, after) = split_number(rest).ok_or_else(wrong)?;
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let (_, scale) = DURATION_UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(wrong)?;
        let part = number.times(*scale).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = after;
    }
    Ok(Duration::from_nanos(total))
}

/// Prints a duration so that [`parse_duration`] reads it back exactly (up to 2^64 nanoseconds).
pub fn format_duration(duration: Duration) -> String {
    let total = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    if total == 0 {
        return "0s".to_owned();
    }
    let mut out = String::new();
    let mut rest = total;
    for (unit, scale) in &DURATION_UNITS[..3] {
        if rest >= *scale {
            let _ = write!(out, "{}{unit}", rest / scale);
            rest %= scale;
        }
    }
    if rest > 0 {
        // after whole minutes the rest is in seconds; alone it is in the longest unit that makes it 1 or more
        let whole_units = &DURATION_UNITS[3..];
        let (unit, scale) = whole_units
            .iter()
            .find(|(_, scale)| !out.is_empty() || rest >= *scale)
            .copied()
            .unwrap_or(("ns", 1));
        let _ = write!(out, "{}", rest / scale);
        let fraction = rest % scale;
        if fraction > 0 {
            let digits = scale.ilog10() as usize;
            let text = format!("{fraction:0digits$}");
            let _ = write!(out, ".{}", text.trim_end_matches('0'));
        }
        out.push_str(unit);
    }
    out
}

/// Reads `4MiB`, `1.5GiB`, `10MB`, `4096`: a whole number of bytes. Units in any case.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || {
        format!(
            "{} is not a size: write it as 4MiB, 512KiB or 20GiB (units B, kB, KiB, MB, MiB, ... TiB)",
            quoted(text)
        )
    };
    let (number, unit) = split_number(text).ok_or_else(wrong)?;
    let unit = unit.trim_start();
    if unit.is_empty() {
        return number.times(1).ok_or_else(wrong);
    }
    let (_, scale) = SIZE_UNITS
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(unit))
        .ok_or_else(wrong)?;
    number.times(*scale).ok_or_else(wrong)
}

/// Prints a size so that [`parse_size`] reads it back exactly.
pub(crate) fn format_size(bytes: u64) -> String {
    let (unit, scale) = SIZE_UNITS
        .iter()
        .find(|(_, scale)| bytes > 0 && bytes.is_multiple_of(*scale))
        .copied()
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / scale)
}

/// Reads a boolean as Teleport's users write it, in any case.
pub(crate) fn parse_bool(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| word.eq_ignore_ascii_case(text));
    if is(&["true", "yes", "yeah", "y", "on", "1"]) {
        Some(true)
    } else if is(&["false", "no", "nope", "n", "off", "0"]) {
        Some(false)
    } else {
        None
    }
}

/// Reads RFC 3339 and spells it in UTC; the year 1, with which others say "not set", is none.
pub(crate) fn parse_time(text: &str) -> Result<Option<String>, String> {
    let wrong = || {
        format!(
            "{} is not a time: write it as 2026-03-01T00:00:00Z or 2026-03-01T00:00:00+01:00",
            quoted(text)
        )
    };
    // with an offset, the first days of the year 1 lie before the first time that can be said
    if text.starts_with("0001-01-01T") {
        return Ok(None);
    }
    let time = OffsetDateTime::parse(text, &Rfc3339).map_err(|_| wrong())?;
    let time = time.checked_to_offset(time::UtcOffset::UTC).ok_or_else(wrong)?;
    time.format(&Rfc3339).map(Some).map_err(|_| wrong())
}

/// A decimal number as written: `whole` and the digits after the point.
struct Decimal<'a> {
    whole: u64,
    fraction: &'a str,
}

impl Decimal<'_> {
    /// The number times `scale`; none when it is not whole or too large.
    fn times(&self, scale: u64) -> Option<u64> {
        let mut total = u128::from(self.whole) * u128::from(scale);
        if !self.fraction.is_empty() {
            let divisor = 10_u128.checked_pow(u32::try_from(self.fraction.len()).ok()?)?;
            let part = u128::from(self.fraction.parse::<u64>().ok()?) * u128::from(scale);
            if part % divisor != 0 {
                return None;
            }
            total += part / divisor;
        }
        u64::try_from(total).ok()
    }
}

/// Splits a decimal number off the front. At most 18 digits after the point.
fn split_number(text: &str) -> Option<(Decimal<'_>, &str)> {
    let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (whole, rest) = text.split_at(digits(text));
    if whole.is_empty() {
        return None;
    }
    let (fraction, rest) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let (fraction, rest) = rest.split_at(digits(rest));
            if fraction.is_empty() || fraction.len() > 18 {
                return None;
            }
            (fraction.trim_end_matches('0'), rest)
        }
    };
    Some((
        Decimal {
            whole: whole.parse().ok()?,
            fraction,
        },
        rest,
    ))
}

/// Characters of foreign text that a message repeats.
const PRINTABLE_MAX: usize = 80;

/// Foreign text without control characters and not too long.
pub(crate) fn printable(text: &str) -> String {
    let mut out = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == PRINTABLE_MAX {
            out.push_str("...");
            break;
        }
        if c.is_control() || is_invisible(c) {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    out
}

/// Characters that reorder or hide text on a terminal.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// [`printable`] in double quotes.
pub(crate) fn quoted(text: &str) -> String {
    format!("\"{}\"", printable(text))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations() {
        let ms = Duration::from_millis;
        for (text, expected) in [
            ("12.5s", ms(12_500)),
            ("1h30m", ms(5_400_000)),
            ("1m30s", ms(90_000)),
            ("30d", ms(2_592_000_000)),
            ("40ms", ms(40)),
            ("1.5ms", Duration::from_micros(1500)),
            ("1.000000001s", Duration::from_nanos(1_000_000_001)),
            ("0", ms(0)),
            ("0s", ms(0)),
            ("90m", ms(5_400_000)),
        ] {
            assert_eq!(parse_duration(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "1.s",
            ".5s",
            "-1s",
            "1 s",
            "1x",
            "1s5",
            "0.1ns",
            "99999999999999d",
            "1e3s",
            "+1s",
        ] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        for (nanos, expected) in [
            (90_000_000_000, "1m30s"),
            (40_000_000, "40ms"),
            (12_500_000_000, "12.5s"),
            (60_500_000_000, "1m0.5s"),
            (86_400_000_000_000, "1d"),
        ] {
            assert_eq!(format_duration(Duration::from_nanos(nanos)), expected);
        }
    }

    #[test]
    fn sizes() {
        for (text, expected) in [
            ("4MiB", 4 << 20),
            ("4 mib", 4 << 20),
            ("1.5KiB", 1536),
            ("10MB", 10_000_000),
            ("4096", 4096),
            ("0", 0),
            ("0B", 0),
            ("2TiB", 2 << 40),
        ] {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in [
            "",
            "MiB",
            "4M",
            "4 Mi B",
            "1.0001KiB",
            "-1",
            "99999999999TiB",
            "0x10",
            "4MiB4MiB",
        ] {
            assert!(parse_size(text).is_err(), "{text}");
        }
        assert_eq!(format_size(4 << 20), "4MiB");
        assert_eq!(format_size(10_000_000), "10MB");
        assert_eq!(format_size(0), "0B");
    }

    #[test]
    fn booleans() {
        for text in ["true", "YES", "yeah", "y", "On", "1"] {
            assert_eq!(parse_bool(text), Some(true), "{text}");
        }
        for text in ["false", "No", "nope", "N", "OFF", "0"] {
            assert_eq!(parse_bool(text), Some(false), "{text}");
        }
        assert_eq!(parse_bool("2"), None);
    }

    #[test]
    fn times() {
        let utc = |text: &str| parse_time(text).map(Option::unwrap_or_default);
        assert_eq!(utc("2026-03-01T00:00:00Z").unwrap(), "2026-03-01T00:00:00Z");
        assert_eq!(utc("2026-03-01T01:30:00.5+01:30").unwrap(), "2026-03-01T00:00:00.5Z");
        assert_eq!(utc("0001-01-01T00:00:00Z").unwrap(), "");
        for text in ["", "2026-03-01", "2026-03-01T00:00:00", "2026-02-30T00:00:00Z", "never"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn messages_hold_no_control_characters() {
        assert_eq!(printable("a\u{1b}[31m\n\u{202e}"), "a\\u{1b}[31m\\u{a}\\u{202e}");
        assert_eq!(printable(&"x".repeat(500)).len(), PRINTABLE_MAX + 3);
    }

    proptest! {
        #[test]
        fn duration_round_trip(nanos in any::<u64>()) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn short_duration_round_trip(millis in 0_u64..200_000) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }

        #[test]
        fn size_round_trip(bytes in any::<u64>(), shift in 0_u32..60) {
            let bytes = bytes >> shift << (shift / 2);
            prop_assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }

        #[test]
        fn parsers_never_panic(text in "([0-9.]{0,25}(d|h|m|s|ms|us|\u{b5}s|B|MiB|kb|x| )?){0,4}") {
            let _ = parse_duration(&text);
            let _ = parse_size(&text);
            let _ = parse_bool(&text);
        }
    }
}
