//! Keys put together to what was typed, for exporters that tell it as text.

/// A pause of this length ends a text.
const PAUSE_NS: u64 = 2_000_000_000;
/// Longest text of one line; more begins another one.
const TEXT_MAX: usize = 4096;

/// What keys made.
///
/// ```
/// use deskreel_sdk::{Typed, Typing};
///
/// let mut typing = Typing::default();
/// assert!(typing.key(1_000, "l").is_empty());
/// assert!(typing.key(2_000, "s").is_empty());
/// let done = typing.key(3_000, "Enter");
/// let text = Typed::Text { from_ns: 1_000, until_ns: 2_000, text: "ls".to_owned() };
/// assert_eq!(done, [text, Typed::Key { at_ns: 3_000, key: "Enter".to_owned() }]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Typed {
    /// A text: keys without a pause of two seconds or a key that makes none, corrections by Backspace applied.
    Text {
        /// Since the session's start.
        from_ns: u64,
        /// When its last key was pressed.
        until_ns: u64,
        /// What was typed.
        text: String,
    },
    /// A key that makes no text.
    Key {
        /// Since the session's start.
        at_ns: u64,
        /// Its name.
        key: String,
    },
}

/// The text that is being typed, from keys as [`MarkerKind::Key`](crate::MarkerKind::Key) names them.
#[derive(Debug, Default)]
pub struct Typing {
    text: String,
    from_ns: u64,
    until_ns: u64,
}

impl Typing {
    /// A key was pressed: what that completes. Calls come in time order.
    pub fn key(&mut self, at_ns: u64, key: &str) -> Vec<Typed> {
        let mut done = Vec::new();
        if at_ns.saturating_sub(self.until_ns) > PAUSE_NS || self.text.len() >= TEXT_MAX {
            done.extend(self.end());
        }
        let character = match key {
            "Space" => Some(' '),
            key => {
                let mut characters = key.chars();
                characters.next().filter(|_| characters.next().is_none())
            }
        };
        match character {
            Some(character) => {
                if self.text.is_empty() {
                    self.from_ns = at_ns;
                }
                self.text.push(character);
                self.until_ns = at_ns;
            }
            None if key == "Backspace" && !self.text.is_empty() => {
                self.text.pop();
                self.until_ns = at_ns;
            }
            None => {
                done.extend(self.end());
                done.push(Typed::Key {
                    at_ns,
                    key: key.to_owned(),
                });
            }
        }
        done
    }

    /// Something else happened, or all is over: the text ends here.
    pub fn end(&mut self) -> Option<Typed> {
        let text = std::mem::take(&mut self.text);
        (!text.is_empty()).then_some(Typed::Text {
            from_ns: self.from_ns,
            until_ns: self.until_ns,
            text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    fn typed(keys: &[(u64, &str)]) -> Vec<Typed> {
        let mut typing = Typing::default();
        let mut all: Vec<Typed> = keys.iter().flat_map(|(at, key)| typing.key(*at, key)).collect();
        all.extend(typing.end());
        all
    }

    fn text(from_ns: u64, until_ns: u64, text: &str) -> Typed {
        let text = text.to_owned();
        Typed::Text {
            from_ns,
            until_ns,
            text,
        }
    }

    fn key(at_ns: u64, key: &str) -> Typed {
        let key = key.to_owned();
        Typed::Key { at_ns, key }
    }

    #[test]
    fn words_are_words() {
        assert_eq!(
            typed(&[(S, "l"), (S + 1, "s"), (S + 2, "Space"), (S + 3, "ü"), (S + 4, "Enter")]),
            [text(S, S + 3, "ls ü"), key(S + 4, "Enter")]
        );
        assert_eq!(
            typed(&[(1, "a"), (2, "b"), (3, "Backspace"), (4, "c")]),
            [text(1, 4, "ac")]
        );
        assert_eq!(
            typed(&[(1, "Backspace"), (2, "Ctrl+C"), (3, "x")]),
            [key(1, "Backspace"), key(2, "Ctrl+C"), text(3, 3, "x")]
        );
    }

    #[test]
    fn a_pause_ends_a_text_and_nothing_grows_without_end() {
        assert_eq!(
            typed(&[(S, "a"), (9 * S, "b")]),
            [text(S, S, "a"), text(9 * S, 9 * S, "b")]
        );
        let keys: Vec<(u64, &str)> = (0..TEXT_MAX as u64 + 1).map(|at| (at, "x")).collect();
        let lengths: Vec<usize> = typed(&keys)
            .iter()
            .map(|typed| match typed {
                Typed::Text { text, .. } => text.len(),
                Typed::Key { .. } => 0,
            })
            .collect();
        assert_eq!(lengths, [TEXT_MAX, 1]);
    }
}
