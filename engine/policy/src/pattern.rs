//! One pattern of a label value: `*`, a glob, or `^...$`.

use regex::Regex;

use crate::dialect;
use crate::limits::EXPRESSION_MAX_BYTES;

/// A pattern, matched against a whole value.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// `*`
    Any,
    /// No `*` in it.
    Literal(String),
    /// The texts between the `*`; at least two.
    Glob(Vec<String>),
    /// Starts with `^`, ends with `$`; searched as written.
    Regex(Regex),
}

/// A pattern and what is odd about it.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) pattern: Pattern,
    /// See [`dialect::Compiled::loose`].
    pub(crate) loose: bool,
}

impl Pattern {
    pub(crate) fn compile(text: &str) -> Result<Compiled, String> {
        if text.len() > EXPRESSION_MAX_BYTES {
            return Err(format!("the pattern is longer than {EXPRESSION_MAX_BYTES} bytes"));
        }
        let mut loose = false;
        let pattern = if text == "*" {
            Self::Any
        } else if text.starts_with('^') && text.ends_with('$') {
            let compiled = dialect::compile(text)?;
            loose = compiled.loose;
            Self::Regex(compiled.regex)
        } else if text.contains('*') {
            Self::Glob(text.split('*').map(str::to_owned).collect())
        } else {
            Self::Literal(text.to_owned())
        };
        Ok(Compiled { pattern, loose })
    }

    /// What matching costs, roughly.
    pub(crate) fn cost(&self) -> u8 {
        match self {
            Self::Any | Self::Literal(_) => 0,
            Self::Glob(_) => 1,
            Self::Regex(_) => 2,
        }
    }

    pub(crate) fn matches(&self, value: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Literal(text) => text == value,
            Self::Glob(parts) => glob(parts, value),
            Self::Regex(regex) => regex.is_match(value),
        }
    }
}

/// Each part stands in `value` after the one before, the first at its start, the last at its end, and no newline
/// between them. Taking each part as early as possible is enough: a newline must be met by a newline of a part, so
/// parts can't be moved over one, and between newlines the earliest place leaves the most room.
fn glob(parts: &[String], value: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return false;
    };
    let Some(mut rest) = value.strip_prefix(first.as_str()) else {
        return false;
    };
    for part in middle {
        let Some(at) = rest.find(part.as_str()) else {
            return false;
        };
        let (run, found) = rest.split_at(at);
        if run.contains('\n') {
            return false;
        }
        rest = found.get(part.len()..).unwrap_or_default();
    }
    rest.strip_suffix(last.as_str()).is_some_and(|run| !run.contains('\n'))
}

/// Patterns of names or label values: `*`, text with `*` in it, or `^...$`. A text fits if any of them does.
#[derive(Debug, Clone)]
pub struct Patterns(Vec<Pattern>);

impl Patterns {
    /// Reads patterns as they stand in label conditions, without templates.
    ///
    /// # Errors
    /// What is wrong with one of them.
    pub fn compile<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let compiled = texts.into_iter().map(|text| {
            let compiled = Pattern::compile(text).map_err(|error| format!("{text:?}: {error}"))?;
            Ok(compiled.pattern)
        });
        compiled.collect::<Result<_, String>>().map(Self)
    }

    /// Whether any of them fits.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        self.0.iter().any(|pattern| pattern.matches(text))
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::Pattern;

    fn matches(pattern: &str, value: &str) -> bool {
        Pattern::compile(pattern).unwrap().pattern.matches(value)
    }

    #[test]
    fn values() {
        for (pattern, value, expected) in [
            ("dev", "dev", true),
            ("dev", "Dev", false),
            ("dev", "devops", false),
            ("dev*", "dev", true),
            ("dev*", "devops", true),
            ("*ops", "devops", true),
            ("d*o*s", "devops", true),
            ("d*x*s", "devops", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("**", "", true),
            ("*", "two\nlines", true),
            ("t*s", "two\nlines", false),
            ("us-west-?", "us-west-1", false),
            ("a.c", "abc", false),
            ("a.*", "a.b", true),
            ("a.*", "ab", false),
            ("^dev", "^dev", true),
            ("dev$", "dev$", true),
            ("^dev|test$", "devops", true),
            ("^(dev|test)$", "devops", false),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, value), expected, "{pattern} on {value:?}");
        }
    }

    proptest! {
        /// The glob is what Teleport makes of it: a regex with `(.*)` for each star.
        #[test]
        fn globs_are_the_regex(pattern in "[ab*\n]{0,7}", value in "[ab\n]{0,9}") {
            prop_assume!(pattern.contains('*') && pattern != "*");
            let parts: Vec<_> = pattern.split('*').map(regex::escape).collect();
            let reference = regex::Regex::new(&format!(r"\A{}\z", parts.join(".*"))).unwrap();
            prop_assert_eq!(matches(&pattern, &value), reference.is_match(&value));
        }
    }
}
