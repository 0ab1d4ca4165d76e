//! What an export shows of a recording, and how fast.

use std::str::FromStr;

/// Thousandths of real time that a person may ask for.
const SPEED_RANGE: std::ops::RangeInclusive<u32> = 100..=100_000;

/// How an export differs from the session as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// How fast.
    pub(crate) speed: Speed,
    /// Leave out stretches in which nothing happens.
    pub(crate) skip_idle: bool,
    /// Most frames a second; `None` leaves it to the exporter.
    pub(crate) fps_max: Option<u32>,
    /// Largest width in pixels; larger pictures are scaled down, smaller ones never up.
    pub(crate) width: Option<u32>,
    /// Leave the pointer out.
    pub(crate) no_pointer: bool,
    /// What a bar below the picture tells.
    pub(crate) overlay: Overlay,
    /// Keep the picture without loss; the exporter's format must be able to.
    pub(crate) lossless: bool,
    /// Threads that the exporter may keep busy; `None` leaves it to its settings.
    pub(crate) threads: Option<u32>,
}

/// What the bar below the picture tells.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Overlay {
    /// What was typed, where it was recorded.
    pub(crate) keys: bool,
    /// When it was.
    pub(crate) clock: bool,
    /// Who it was, and where.
    pub(crate) user: bool,
}

/// A factor of real time in thousandths: times stay whole numbers, and the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Speed(u32);

impl Default for Speed {
    fn default() -> Self {
        Self(1000)
    }
}

impl Speed {
    /// How long a stretch of the session takes in the export.
    pub(super) fn shorten(self, session_ns: u64) -> u64 {
        let scaled = u128::from(session_ns) * 1000 / u128::from(self.0.max(1));
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }

    /// How much of the session passes in a stretch of the export.
    pub(super) fn lengthen(self, export_ns: u64) -> u64 {
        let scaled = u128::from(export_ns) * u128::from(self.0) / 1000;
        u64::try_from(scaled).unwrap_or(u64::MAX)
    }
}

impl FromStr for Speed {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a speed from 0.1 to 100 such as 2, 0.5 or 16x");
        let (whole, fraction) = text
            .strip_suffix('x')
            .unwrap_or(text)
            .split_once('.')
            .unwrap_or((text.strip_suffix('x').unwrap_or(text), "0"));
        let digits = |text: &str| (1..=3).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(wrong());
        }
        let value = |text: &str| text.parse::<u32>().map_err(|_| wrong());
        let part = (fraction.len()..3).fold(value(fraction)?, |part, _| part * 10);
        Some(value(whole)? * 1000 + part)
            .filter(|speed| SPEED_RANGE.contains(speed))
            .map(Self)
            .ok_or_else(wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn speeds() {
        for (text, thousandths) in [
            ("1", 1000),
            ("2x", 2000),
            ("0.5", 500),
            ("1.25x", 1250),
            ("16", 16_000),
            ("0.1", 100),
        ] {
            assert_eq!(text.parse(), Ok(Speed(thousandths)), "{text}");
        }
        for text in ["", "x", "0", "0.05", "101", "-1", "1e3", "1.", ".5", "1.2345", "fast"] {
            assert!(text.parse::<Speed>().unwrap_err().contains("16x"), "{text}");
        }
        assert_eq!(Speed(16_000).shorten(3_600_000_000_000), 225_000_000_000);
        assert_eq!(Speed(500).lengthen(Speed(500).shorten(1_000_000)), 1_000_000);
        assert_eq!(Speed(100).shorten(u64::MAX), u64::MAX);
    }
}
