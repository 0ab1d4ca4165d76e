//! Regexes in the dialect that operators know from Teleport (RE2, as Go reads it), rewritten for the `regex` crate: both
//! run in linear time, but `\d \w \s \b` are ASCII there, classes have no set operations, and some escapes differ.

use std::fmt::Write as _;

use regex::{Regex, RegexBuilder};

use crate::limits::{EXPRESSION_MAX_BYTES, REGEX_MAX_BYTES};

/// Most repetitions that `{n,m}` may ask for.
const REPEAT_MAX: u32 = 1000;

/// Names between `[:` and `:]`.
const POSIX_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word",
    "xdigit",
];

/// A compiled regex and what is odd about it.
#[derive(Debug, Clone)]
pub(crate) struct Compiled {
    pub(crate) regex: Regex,
    /// An alternative outside of all groups lacks its own `^` or `$`.
    pub(crate) loose: bool,
}

/// Compiles `pattern`, searched unanchored as written.
pub(crate) fn compile(pattern: &str) -> Result<Compiled, String> {
    if pattern.len() > EXPRESSION_MAX_BYTES {
        return Err(format!("the regex is longer than {EXPRESSION_MAX_BYTES} bytes"));
    }
    let mut translation = Translation {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        depth: 0,
        after_end: false,
        loose: false,
    };
    translation.run()?;
    let regex = RegexBuilder::new(&translation.out)
        .size_limit(REGEX_MAX_BYTES)
        .dfa_size_limit(REGEX_MAX_BYTES)
        .build()
        .map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => format!("the regex takes more than {REGEX_MAX_BYTES} bytes compiled"),
            error => last_line(&error.to_string()),
        })?;
    Ok(Compiled {
        regex,
        loose: translation.loose,
    })
}

/// The regex crate draws a picture of the (rewritten) pattern above what it has to say.
fn last_line(message: &str) -> String {
    let line = message.lines().last().unwrap_or_default();
    format!("bad regex: {}", line.strip_prefix("error: ").unwrap_or(line))
}

struct Translation<'p> {
    rest: &'p str,
    out: String,
    depth: usize,
    /// What was written last is a `$`.
    after_end: bool,
    loose: bool,
}

impl Translation<'_> {
    fn run(&mut self) -> Result<(), String> {
        while let Some(c) = self.next() {
            let after_end = std::mem::replace(&mut self.after_end, c == '$');
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                ')' => {
                    self.depth = self.depth.saturating_sub(1);
                    self.out.push(')');
                }
                '|' => {
                    self.loose |= self.depth == 0 && !(after_end && self.rest.starts_with('^'));
                    self.out.push('|');
                }
                '{' => self.repeat()?,
                c => self.out.push(c),
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..).unwrap_or_default();
        Some(c)
    }

    fn literal(&mut self, c: char) {
        push_literal(&mut self.out, c);
    }

    /// After a backslash outside of a class.
    fn escape(&mut self) -> Result<(), String> {
        let Some(c) = self.rest.chars().next() else {
            return Err("bad regex: it ends with a backslash".to_owned());
        };
        match c {
            'A' | 'z' => {
                self.next();
                self.out.push('\\');
                self.out.push(c);
            }
            'b' | 'B' => {
                self.next();
                let _ = write!(self.out, r"(?-u:\{c})");
            }
            'Q' => {
                self.next();
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.rest = rest;
                for c in quoted.chars() {
                    push_literal(&mut self.out, c);
                }
            }
            _ => match self.set(c)? {
                Some(set) => {
                    let _ = write!(self.out, "[{set}]");
                }
                None => {
                    let c = self.character()?;
                    self.literal(c);
                }
            },
        }
        Ok(())
    }

    /// After a backslash, in a class or not: the inside of a class for `\d \D \s \S \w \W \pN \p{Name}`.
    fn set(&mut self, c: char) -> Result<Option<String>, String> {
        let set = match c {
            'd' => "0-9",
            'D' => "[^0-9]",
            's' => r"\t\n\x0C\r ",
            'S' => r"[^\t\n\x0C\r ]",
            'w' => "0-9A-Za-z_",
            'W' => "[^0-9A-Za-z_]",
            'p' | 'P' => {
                self.next();
                return self.property(c == 'P').map(Some);
            }
            _ => return Ok(None),
        };
        self.next();
        Ok(Some(set.to_owned()))
    }

    fn property(&mut self, negated: bool) -> Result<String, String> {
        let bad = || "bad regex: a property is written \\pL or \\p{Greek}".to_owned();
        let first = self.next().ok_or_else(bad)?;
        let (name, negated) = if first == '{' {
            let (name, rest) = self.rest.split_once('}').ok_or_else(bad)?;
            self.rest = rest;
            match name.strip_prefix('^') {
                Some(name) => (name.to_owned(), !negated),
                None => (name.to_owned(), negated),
            }
        } else {
            (first.to_string(), negated)
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(bad());
        }
        Ok(format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }))
    }

    /// After a backslash: one character.
    fn character(&mut self) -> Result<char, String> {
        let c = self.next().ok_or("bad regex: it ends with a backslash")?;
        match c {
            'a' => Ok('\x07'),
            'f' => Ok('\x0C'),
            't' => Ok('\t'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            'v' => Ok('\x0B'),
            'x' => self.hex(),
            '0'..='7' => self.octal(c),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() => Ok(c),
            c => Err(format!("bad regex: \\{c} is not supported")),
        }
    }

    fn hex(&mut self) -> Result<char, String> {
        let bad = || "bad regex: a character is written \\x7F or \\x{10FFFF}".to_owned();
        let digits = if let Some(rest) = self.rest.strip_prefix('{') {
            let (digits, rest) = rest.split_once('}').ok_or_else(bad)?;
            self.rest = rest;
            digits
        } else {
            let (digits, rest) = self.rest.split_at_checked(2).ok_or_else(bad)?;
            self.rest = rest;
            digits
        };
        if digits.is_empty() || !digits.chars().all(|c| c.is_ascii_hexdigit()) {
            return Err(bad());
        }
        let code = u32::from_str_radix(digits, 16).map_err(|_| bad())?;
        char::from_u32(code).ok_or_else(bad)
    }

    /// `\0`, `\12`, `\123`; a lone `\1` would be a back reference, which takes more than linear time.
    fn octal(&mut self, first: char) -> Result<char, String> {
        let mut code = first.to_digit(8).unwrap_or_default();
        let digit = |rest: &str| rest.chars().next().and_then(|c| c.to_digit(8));
        if first != '0' && digit(self.rest).is_none() {
            return Err(format!("bad regex: \\{first} is not supported"));
        }
        for _ in 0..2 {
            let Some(next) = digit(self.rest) else { break };
            code = code * 8 + next;
            self.next();
        }
        char::from_u32(code).ok_or_else(|| "bad regex: bad octal escape".to_owned())
    }

    /// After `[`.
    fn class(&mut self) -> Result<(), String> {
        let unclosed = || "bad regex: [ without ]".to_owned();
        self.out.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !first && self.rest.starts_with(']') {
                self.next();
                self.out.push(']');
                return Ok(());
            }
            first = false;
            if self.rest.starts_with("[:") && self.posix()? {
                continue;
            }
            if let Some(rest) = self.rest.strip_prefix('\\') {
                let c = rest.chars().next().ok_or_else(unclosed)?;
                let before = std::mem::replace(&mut self.rest, rest);
                if let Some(set) = self.set(c)? {
                    self.out.push_str(&set);
                    continue;
                }
                self.rest = before;
            }
            let low = self.class_character().ok_or_else(unclosed)??;
            self.literal(low);
            let after = self.rest.strip_prefix('-').filter(|rest| !rest.starts_with(']'));
            if let Some(rest) = after {
                self.rest = rest;
                let high = self.class_character().ok_or_else(unclosed)??;
                if high < low {
                    return Err(format!("bad regex: {low}-{high} is no range"));
                }
                self.out.push('-');
                self.literal(high);
            }
        }
    }

    fn class_character(&mut self) -> Option<Result<char, String>> {
        match self.next()? {
            '\\' => Some(self.character()),
            c => Some(Ok(c)),
        }
    }

    /// At `[:` in a class: whether a POSIX class stood there.
    fn posix(&mut self) -> Result<bool, String> {
        let Some((name, rest)) = self.rest.get(2..).and_then(|rest| rest.split_once(":]")) else {
            return Ok(false);
        };
        if !POSIX_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
            return Err(format!("bad regex: there is no class [:{name}:]"));
        }
        let _ = write!(self.out, "[:{name}:]");
        self.rest = rest;
        Ok(true)
    }

    /// After `(`.
    fn group(&mut self) -> Result<(), String> {
        self.depth += 1;
        self.out.push('(');
        let Some(rest) = self.rest.strip_prefix('?') else {
            return Ok(());
        };
        let named = rest.strip_prefix("P<").or_else(|| rest.strip_prefix('<'));
        if let Some(rest) = named.filter(|rest| !rest.starts_with(['=', '!'])) {
            self.out.push_str("?P<");
            self.rest = rest;
            return Ok(());
        }
        let end = rest
            .find(|c| !matches!(c, 'i' | 'm' | 's' | 'U' | '-'))
            .unwrap_or(rest.len());
        let (flags, rest) = rest.split_at(end);
        if !rest.starts_with([':', ')']) {
            return Err("bad regex: after (? only the flags i m s U, :, P<name> and <name> are supported".to_owned());
        }
        let _ = write!(self.out, "?{flags}");
        self.rest = rest;
        if let Some(rest) = rest.strip_prefix(':') {
            self.out.push(':');
            self.rest = rest;
        }
        Ok(())
    }

    /// After `{`: `{n}`, `{n,}`, `{n,m}`; anything else means the brace itself.
    fn repeat(&mut self) -> Result<(), String> {
        let counts = self.rest.split_once('}').and_then(|(counts, rest)| {
            let (low, high) = counts.split_once(',').unwrap_or((counts, ""));
            let digits = |text: &str| text.chars().all(|c| c.is_ascii_digit());
            (!low.is_empty() && digits(low) && digits(high)).then_some((counts, low, high, rest))
        });
        let Some((counts, low, high, rest)) = counts else {
            self.literal('{');
            return Ok(());
        };
        for count in [low, high].into_iter().filter(|count| !count.is_empty()) {
            if count.parse::<u32>().map_or(true, |count| count > REPEAT_MAX) {
                return Err(format!("bad regex: {{{counts}}} repeats more than {REPEAT_MAX} times"));
            }
        }
        let _ = write!(self.out, "{{{counts}}}");
        self.rest = rest;
        Ok(())
    }
}

fn push_literal(out: &mut String, c: char) {
    let _ = write!(out, "\\x{{{:X}}}", u32::from(c));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::compile;

    fn matches(pattern: &str, text: &str) -> bool {
        compile(pattern).unwrap().regex.is_match(text)
    }

    #[test]
    fn perl_classes_are_ascii() {
        for (pattern, yes, no) in [
            (r"^\d$", "7", "\u{663}"),
            (r"^\w$", "_", "\u{e9}"),
            (r"^\s$", "\t", "\u{a0}"),
            (r"^\W$", "\u{e9}", "a"),
            (r"^\D$", "\u{663}", "7"),
            (r"^\S$", "\u{a0}", " "),
            (r"^[\d-]+$", "1-2", "1_2"),
            (r"^[^\W]$", "a", "\u{e9}"),
            (r"^[^\D\S]$", "\u{0}", "5"),
            (r"\bab\b", "\u{e9}ab\u{e9}", "xab"),
            (r"a\Bb", "ab", "a b"),
        ] {
            let no_class = pattern == r"^[^\D\S]$";
            assert!(no_class || matches(pattern, yes), "{pattern} {yes}");
            assert!(!matches(pattern, no), "{pattern} {no}");
        }
    }

    #[test]
    fn classes_have_no_set_operations() {
        assert!(matches("^[a[b]$", "["));
        assert!(matches("^[a&&b]+$", "a&b"));
        assert!(matches("^[a~~b]+$", "a~b"));
        assert!(matches("^[]a]$", "]"));
        assert!(matches("^[^]a]$", "b"));
        assert!(matches("^[+--]$", ","));
        assert!(matches("^[a-]+$", "a-"));
        assert!(matches("^[[:alpha:]1]+$", "a1"));
        assert!(matches("^[[:^alpha:]]$", "1"));
        assert!(!matches("^[a-c-]$", "d"));
    }

    #[test]
    fn escapes_of_go() {
        assert!(matches(r"^\Qa.b\E$", "a.b"));
        assert!(!matches(r"^\Qa.b\E$", "axb"));
        assert!(matches(r"^\Qa+", "a+"));
        assert!(matches(r"^\101\x42\x{43}\.\<$", "ABC.<"));
        assert!(matches(r"^\pL\p{Greek}\p{^Greek}\PL$", "a\u{3b1}a1"));
        assert!(matches("^a{,3}$", "a{,3}"));
        assert!(matches("^a{2,3}$", "aaa"));
        assert!(matches("^x{$", "x{"));
        assert!(matches("(?i)^DEV$", "dev"));
        assert!(matches("^(?P<a>x)(?<b>y)(?:z)$", "xyz"));
    }

    #[test]
    fn what_is_refused() {
        for pattern in [
            r"\1",
            r"(a)\1",
            "(?=a)",
            "(?!a)",
            "(?<=a)b",
            "(?<!a)b",
            "(?x)a",
            "(?u)a",
            r"\C",
            r"\y",
            "[",
            "[a",
            "[b-a]",
            r"a\",
            "(a",
            "a)",
            "*a",
            "a{1001}",
            r"\p{No Such}",
            r"\pé",
            r"\x{110000}",
            r"\xZZ",
            "[[:nope:]]",
            r"[\b]",
            "(?P=a)",
            "(?#a)",
        ] {
            assert!(compile(pattern).is_err(), "{pattern}");
        }
        let big = "((a{1000}){1000}){1000}";
        assert!(compile(big).unwrap_err().contains("compiled"), "{big}");
        assert!(compile(&"a".repeat(8193)).unwrap_err().contains("8192"));
    }

    #[test]
    fn loose_anchors() {
        for (pattern, loose) in [
            ("^dev|test$", true),
            ("^(dev|test)$", false),
            ("^dev$|^test$", false),
            (r"^dev\|test$", false),
            ("^[|]$", false),
            ("^(a)|(b)$", true),
            (r"^a\$|^b$", true),
        ] {
            assert_eq!(compile(pattern).unwrap().loose, loose, "{pattern}");
        }
    }
}
