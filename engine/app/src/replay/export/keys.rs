//! What was typed, as a caption.

use deskreel_recording::event::{Input, KeyContent};

/// How long a caption stays after the last key.
const STAYS_NS: u64 = 3_000_000_000;
/// Bytes that a caption keeps at most.
const CAPTION_MAX_BYTES: usize = 4096;
/// What a caption says where the keys themselves are not recorded.
const UNRECORDED: &str = "typing (keys are not recorded)";

/// The keys of scan codes 0x01 to 0x58 on a US keyboard, without and with Shift. A recording has scan codes: what they write is
/// the layout's business, which it doesn't know.
const NAMES: [(&str, &str); 0x58] = keyboard();

const fn keyboard() -> [(&'static str, &'static str); 0x58] {
    let mut names = [("", ""); 0x58];
    let rows: [(usize, &[u8], &[u8]); 4] = [
        (0x02, b"1234567890-=", b"!@#$%^&*()_+"),
        (0x10, b"qwertyuiop[]", b"QWERTYUIOP{}"),
        (0x1e, b"asdfghjkl;'`", b"ASDFGHJKL:\"~"),
        (0x2b, b"\\zxcvbnm,./", b"|ZXCVBNM<>?"),
    ];
    let mut row = 0;
    while row < rows.len() {
        let (from, plain, shifted) = rows[row];
        let mut at = 0;
        while at < plain.len() {
            names[from + at - 1] = (one(plain, at), one(shifted, at));
            at += 1;
        }
        row += 1;
    }
    let special: [(usize, &str); 26] = [
        (0x01, "Esc"),
        (0x0e, "Backspace"),
        (0x0f, "Tab"),
        (0x1c, "Enter"),
        (0x39, " "),
        (0x37, "*"),
        (0x3a, "CapsLock"),
        (0x3b, "F1"),
        (0x3c, "F2"),
        (0x3d, "F3"),
        (0x3e, "F4"),
        (0x3f, "F5"),
        (0x40, "F6"),
        (0x41, "F7"),
        (0x42, "F8"),
        (0x43, "F9"),
        (0x44, "F10"),
        (0x57, "F11"),
        (0x58, "F12"),
        (0x45, "NumLock"),
        (0x46, "ScrollLock"),
        (0x4a, "-"),
        (0x4e, "+"),
        (0x48, "Up"),
        (0x50, "Down"),
        (0x4b, "Left"),
    ];
    let mut at = 0;
    while at < special.len() {
        let (code, name) = special[at];
        names[code - 1] = (name, name);
        at += 1;
    }
    let more: [(usize, &str); 6] = [
        (0x4d, "Right"),
        (0x47, "Home"),
        (0x4f, "End"),
        (0x49, "PageUp"),
        (0x51, "PageDown"),
        (0x53, "Delete"),
    ];
    let mut at = 0;
    while at < more.len() {
        names[more[at].0 - 1] = (more[at].1, more[at].1);
        at += 1;
    }
    names
}

const fn one(row: &'static [u8], at: usize) -> &'static str {
    match std::str::from_utf8(row.split_at(at).1.split_at(1).0) {
        Ok(text) => text,
        Err(_) => "",
    }
}

/// Keys that change what others mean.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Held {
    shift: bool,
    ctrl: bool,
    alt: bool,
    win: bool,
}

/// A key that went down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::replay) enum Pressed {
    /// Its name, or what it writes.
    Known(String),
    /// Which one is not recorded.
    Unrecorded,
}

/// What was typed lately.
#[derive(Debug, Default)]
pub(in crate::replay) struct Keys {
    held: Held,
    caption: String,
    until_ns: Option<u64>,
}

impl Keys {
    /// Takes an event in; the key that went down in words, such as `h`, `Enter` or `Ctrl+C`. `None` for everything else.
    /// `stays`: how much of the session passes while a caption that stays for so long is read.
    pub(in crate::replay) fn apply(
        &mut self,
        time_ns: u64,
        input: &Input,
        stays: impl Fn(u64) -> u64,
    ) -> Option<Pressed> {
        let Input::Key { down, content } = input else {
            return None;
        };
        let pressed = match content {
            Some(content) => Pressed::Known(self.pressed(*down, *content)?),
            None if *down => Pressed::Unrecorded,
            None => return None,
        };
        match &pressed {
            Pressed::Unrecorded => UNRECORDED.clone_into(&mut self.caption),
            Pressed::Known(word) if word.chars().count() == 1 => self.caption.push_str(word),
            Pressed::Known(word) => self.caption.push_str(&format!("[{word}]")),
        }
        // Only the end is ever shown.
        if self.caption.len() > CAPTION_MAX_BYTES {
            let from = self.caption.ceil_char_boundary(CAPTION_MAX_BYTES / 2);
            self.caption.drain(..from);
        }
        self.until_ns = Some(time_ns.saturating_add(stays(STAYS_NS)));
        Some(pressed)
    }

    /// What follows does not join what was before: keys that were held may have gone up where nothing is known.
    pub(in crate::replay) fn release(&mut self) {
        self.held = Held::default();
    }

    /// A key that went down, in words.
    fn pressed(&mut self, down: bool, content: KeyContent) -> Option<String> {
        let code = content.scancode.unwrap_or(0);
        let held = match code {
            0x2a | 0x36 if !content.extended => Some(&mut self.held.shift),
            0x1d => Some(&mut self.held.ctrl),
            0x38 => Some(&mut self.held.alt),
            0x5b | 0x5c => Some(&mut self.held.win),
            _ => None,
        };
        if let Some(held) = held {
            *held = down;
            return None;
        }
        if !down {
            return None;
        }
        let name = match content.unicode {
            Some(unit) => char::from_u32(unit.into()).map_or("?".to_owned(), String::from),
            None => {
                let known = usize::from(code).checked_sub(1).and_then(|at| NAMES.get(at));
                let name = match (known, content.extended) {
                    (Some(("/", _)), true) => "/",
                    (Some((plain, shifted)), _) => {
                        if self.held.shift {
                            shifted
                        } else {
                            plain
                        }
                    }
                    (None, _) => "",
                };
                if name.is_empty() {
                    format!("key {code:02x}h")
                } else {
                    name.to_owned()
                }
            }
        };
        let Held { ctrl, alt, win, .. } = self.held;
        let chord: String = [(ctrl, "Ctrl+"), (alt, "Alt+"), (win, "Win+")]
            .iter()
            .filter_map(|(held, word)| held.then_some(*word))
            .collect();
        Some(if chord.is_empty() {
            name
        } else if name.chars().count() == 1 {
            format!("{chord}{}", name.to_uppercase())
        } else {
            format!("{chord}{name}")
        })
    }

    /// The end of the caption that fits into so many characters.
    pub(in crate::replay) fn caption(&self, characters: usize) -> String {
        let skip = self.caption.chars().count().saturating_sub(characters);
        self.caption.chars().skip(skip).collect()
    }

    /// When the caption goes, in the session's time; `None` while there is none.
    pub(in crate::replay) fn until_ns(&self) -> Option<u64> {
        self.until_ns
    }

    /// Takes the caption away.
    pub(in crate::replay) fn clear(&mut self) {
        self.caption.clear();
        self.until_ns = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(keys: &mut Keys, down: bool, scancode: u16) -> Option<Pressed> {
        let content = KeyContent {
            scancode: Some(scancode),
            ..KeyContent::default()
        };
        let content = Some(content);
        keys.apply(5, &Input::Key { down, content }, |stays| stays * 2)
    }

    #[test]
    fn keys_read_as_they_are_on_the_keyboard() {
        let mut keys = Keys::default();
        // H (with Shift), i, 1, Enter, Ctrl+C, F12, Left.
        for (down, code) in [
            (true, 0x2a),
            (true, 0x23),
            (false, 0x2a),
            (true, 0x17),
            (true, 0x02),
            (true, 0x1c),
        ] {
            key(&mut keys, down, code);
        }
        assert_eq!(key(&mut keys, true, 0x1d), None);
        assert_eq!(key(&mut keys, true, 0x2e), Some(Pressed::Known("Ctrl+C".into())));
        for code in [0x58, 0x4b] {
            assert!(key(&mut keys, true, code).is_some());
        }
        assert_eq!(key(&mut keys, false, 0x1d), None);
        for code in [0x39, 0x7d] {
            assert!(key(&mut keys, true, code).is_some());
        }
        assert_eq!(keys.caption(99), "Hi1[Enter][Ctrl+C][Ctrl+F12][Ctrl+Left] [key 7dh]");
        assert_eq!(keys.caption(4), "7dh]");
        assert_eq!(keys.until_ns(), Some(5 + 2 * STAYS_NS));
        keys.clear();
        assert_eq!((keys.caption(9), keys.until_ns()), (String::new(), None));
        for code in [0x2a, 0x1d, 0x38, 0x5b] {
            key(&mut keys, true, code);
        }
        keys.release();
        assert_eq!(key(&mut keys, true, 0x2e), Some(Pressed::Known("c".into())));
    }

    #[test]
    fn keys_that_are_not_recorded_are_not_invented() {
        let mut keys = Keys::default();
        for _ in 0..3 {
            let press = Input::Key {
                down: true,
                content: None,
            };
            assert_eq!(keys.apply(0, &press, |stays| stays), Some(Pressed::Unrecorded));
        }
        assert_eq!(keys.caption(99), UNRECORDED);
        let content = Some(KeyContent {
            unicode: Some(0xe9),
            ..KeyContent::default()
        });
        keys.clear();
        keys.apply(0, &Input::Key { down: true, content }, |stays| stays);
        assert_eq!(keys.caption(99), "é");
    }
}
