//! Reassembly of fast-path updates that came in fragments, with a cap.

use crate::wire::fast_path::Fragmentation;

/// An update that is arriving.
#[derive(Default)]
pub(super) struct Fragments {
    /// Code of the update in `data`; none while nothing is arriving.
    code: Option<u8>,
    data: Vec<u8>,
}

/// What became of a fragment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// The update is whole: the fragment itself.
    Single,
    /// The update is whole: [`Fragments::data`], up to the next call of [`Fragments::clear`].
    Whole,
    /// More is to come.
    Partial,
    /// It belongs to nothing that is known.
    Orphan(&'static str),
    /// The update grew too large; what came so far is [`Fragments::data`].
    TooLarge,
}

impl Fragments {
    /// Whether an update is arriving that has to be given up when `fragment` begins another one.
    pub(super) fn is_cut_off_by(&self, fragment: Fragmentation) -> bool {
        self.code.is_some() && matches!(fragment, Fragmentation::Single | Fragmentation::First)
    }

    pub(super) fn data(&self) -> &[u8] {
        &self.data
    }

    /// Forgets the update; keeps a modest buffer.
    pub(super) fn clear(&mut self) {
        self.code = None;
        self.data.clear();
        self.data.shrink_to(1 << 20);
    }

    pub(super) fn push(&mut self, fragment: Fragmentation, code: u8, data: &[u8], max_bytes: usize) -> Step {
        match fragment {
            Fragmentation::Single => return Step::Single,
            Fragmentation::First => {
                self.data.clear();
                self.code = Some(code);
            }
            _ if self.code.is_none() => return Step::Orphan("fragment of an update whose beginning is missing"),
            _ if self.code != Some(code) => return Step::Orphan("fragment of another update than the one before"),
            _ => {}
        }
        if data.len() > max_bytes.saturating_sub(self.data.len()) {
            self.code = None;
            return Step::TooLarge;
        }
        self.data.extend_from_slice(data);
        if fragment == Fragmentation::Last {
            Step::Whole
        } else {
            Step::Partial
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Fragmentation::{First as FIRST, Last as LAST, Next as NEXT, Single as SINGLE};
    use super::*;

    #[test]
    fn reassembles_up_to_the_cap() {
        let mut fragments = Fragments::default();
        assert_eq!(fragments.push(SINGLE, 4, b"x", 10), Step::Single);
        assert_eq!(fragments.push(FIRST, 4, b"abc", 10), Step::Partial);
        assert_eq!(fragments.push(NEXT, 4, b"def", 10), Step::Partial);
        assert_eq!(fragments.push(LAST, 4, b"ghij", 10), Step::Whole);
        assert_eq!(fragments.data(), b"abcdefghij");
        fragments.clear();
        assert_eq!(fragments.push(FIRST, 4, b"abc", 10), Step::Partial);
        assert_eq!(fragments.push(LAST, 4, b"defghijk", 10), Step::TooLarge);
        assert_eq!(fragments.data(), b"abc");
        assert!(matches!(fragments.push(NEXT, 4, b"l", 10), Step::Orphan(_)));
    }

    #[test]
    fn knows_what_belongs_together() {
        let mut fragments = Fragments::default();
        assert!(matches!(fragments.push(LAST, 4, b"x", 10), Step::Orphan(_)));
        assert_eq!(fragments.push(FIRST, 4, b"abc", 10), Step::Partial);
        assert!(matches!(fragments.push(NEXT, 1, b"x", 10), Step::Orphan(_)));
        assert!(fragments.is_cut_off_by(SINGLE) && fragments.is_cut_off_by(FIRST));
        assert!(!fragments.is_cut_off_by(NEXT) && !fragments.is_cut_off_by(LAST));
    }
}
