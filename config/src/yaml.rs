//! YAML text to a tree that knows where everything stands. Bounded in size, depth and alias expansion.

use std::borrow::Cow;
use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use crate::scalar::printable;

/// Bytes of a configuration file.
pub(crate) const FILE_MAX_BYTES: u64 = 1 << 20;
/// Lists and mappings inside each other.
pub(crate) const DEPTH_MAX: usize = 32;
/// Values of one document, aliases expanded.
pub(crate) const NODES_MAX: usize = 50_000;
/// Bytes of all values of one document, aliases expanded.
pub(crate) const EXPANDED_MAX_BYTES: usize = 4 << 20;

/// A place in a file: line and column from 1, the column in characters. 0, 0 is the file as a whole.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) line: usize,
    pub(crate) column: usize,
}

impl Mark {
    fn of(span: Span) -> Self {
        Self {
            line: span.start.line().max(1),
            column: span.start.col() + 1,
        }
    }
}

/// How a scalar was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    /// Without quotes: may be null, a number, a boolean.
    Plain,
    /// Quoted, or a block: always text.
    Quoted,
    /// The text of a variable or flag, where nothing can be quoted for YAML: whatever the key needs.
    Bare,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) value: Yaml,
    pub(crate) mark: Mark,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Yaml {
    Scalar(String, Style),
    Sequence(Vec<Node>),
    /// Keys are unique, in the order of the file.
    Mapping(Vec<Pair>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Pair {
    pub(crate) key: String,
    pub(crate) key_mark: Mark,
    pub(crate) value: Node,
}

impl Node {
    pub(crate) fn null(mark: Mark) -> Self {
        Self {
            value: Yaml::Scalar(String::new(), Style::Plain),
            mark,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        matches!(&self.value, Yaml::Scalar(text, style)
            if *style != Style::Quoted && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// The value of `key`, if this is a mapping that has it.
    pub(crate) fn child(&self, key: &str) -> Option<&Self> {
        match &self.value {
            Yaml::Mapping(pairs) => pairs.iter().find(|pair| pair.key == key).map(|pair| &pair.value),
            _ => None,
        }
    }
}

/// What a text held. Documents are whole; one that a syntax error cuts is left out.
#[derive(Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) documents: Vec<Node>,
    pub(crate) errors: Vec<(Mark, String)>,
}

/// Reads all documents of `text`.
pub(crate) fn parse(text: &str) -> Parsed {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut builder = Builder {
        // all documents together: without aliases a text has fewer values than bytes
        nodes_left: NODES_MAX.max(text.len()),
        bytes_left: EXPANDED_MAX_BYTES.max(text.len()),
        ..Builder::default()
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let step = match event {
            Ok((event, span)) => builder.event(event, Mark::of(span)),
            Err(error) => {
                let mark = Mark {
                    line: error.marker().line().max(1),
                    column: error.marker().col() + 1,
                };
                Err((mark, format!("not YAML: {}", error.info())))
            }
        };
        if let Err(error) = step {
            builder.parsed.errors.push(error);
            break;
        }
    }
    builder.parsed
}

/// An error that ends the reading of the file.
type Fatal = (Mark, String);

enum Frame {
    Sequence {
        items: Vec<Node>,
    },
    Mapping {
        pairs: Vec<Pair>,
        pending: Pending,
        seen: HashMap<String, Mark>,
    },
}

/// What the next node of a mapping is.
enum Pending {
    Key,
    Value(String, Mark),
    /// The value of a key that was refused.
    Dropped,
}

#[derive(Default)]
struct Builder {
    parsed: Parsed,
    open: Vec<(Frame, Mark, usize)>,
    anchors: HashMap<usize, Anchor>,
    /// Of the document at hand.
    nodes: usize,
    bytes: usize,
    /// Of the whole text.
    nodes_left: usize,
    bytes_left: usize,
}

struct Anchor {
    node: Node,
    size: Size,
}

#[derive(Clone, Copy, Default)]
struct Size {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

impl Size {
    /// Depth is bounded by [`DEPTH_MAX`] before any node exists.
    fn of(node: &Node) -> Self {
        let mut size = Self {
            nodes: 1,
            bytes: 0,
            depth: 0,
        };
        let mut add = |node: &Node| {
            let inner = Self::of(node);
            size.nodes += inner.nodes;
            size.bytes += inner.bytes;
            size.depth = size.depth.max(inner.depth);
        };
        match &node.value {
            Yaml::Scalar(text, _) => size.bytes = text.len(),
            Yaml::Sequence(items) => items.iter().for_each(add),
            Yaml::Mapping(pairs) => pairs.iter().for_each(|pair| add(&pair.value)),
        }
        if let Yaml::Mapping(pairs) = &node.value {
            size.bytes += pairs.iter().map(|pair| pair.key.len()).sum::<usize>();
        }
        if !matches!(node.value, Yaml::Scalar(..)) {
            size.depth += 1;
        }
        size
    }
}

impl Builder {
    fn event(&mut self, event: Event<'_>, mark: Mark) -> Result<(), Fatal> {
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) => Ok(()),
            Event::DocumentEnd => {
                self.anchors.clear();
                self.nodes = 0;
                self.bytes = 0;
                Ok(())
            }
            Event::Scalar(text, style, anchor, tag) => {
                let text_tag = self.tag(tag.as_ref(), mark);
                let style = if style == ScalarStyle::Plain && !text_tag {
                    Style::Plain
                } else {
                    Style::Quoted
                };
                self.spend(
                    Size {
                        nodes: 1,
                        bytes: text.len(),
                        depth: 0,
                    },
                    mark,
                )?;
                self.add(
                    Node {
                        value: Yaml::Scalar(text.into_owned(), style),
                        mark,
                    },
                    anchor,
                );
                Ok(())
            }
            Event::SequenceStart(anchor, tag) => {
                self.tag(tag.as_ref(), mark);
                self.begin(Frame::Sequence { items: Vec::new() }, mark, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                self.tag(tag.as_ref(), mark);
                let frame = Frame::Mapping {
                    pairs: Vec::new(),
                    pending: Pending::Key,
                    seen: HashMap::new(),
                };
                self.begin(frame, mark, anchor)
            }
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some((frame, mark, anchor)) = self.open.pop() {
                    let value = match frame {
                        Frame::Sequence { items } => Yaml::Sequence(items),
                        Frame::Mapping { pairs, .. } => Yaml::Mapping(pairs),
                    };
                    self.add(Node { value, mark }, anchor);
                }
                Ok(())
            }
            Event::Alias(id) => {
                let Some(anchor) = self.anchors.get(&id) else {
                    return Err((mark, "an alias inside its own anchor".to_owned()));
                };
                let size = anchor.size;
                self.spend(size, mark)?;
                if let Some(anchor) = self.anchors.get(&id) {
                    self.add(anchor.node.clone(), 0);
                }
                Ok(())
            }
        }
    }

    fn begin(&mut self, frame: Frame, mark: Mark, anchor: usize) -> Result<(), Fatal> {
        self.spend(
            Size {
                nodes: 1,
                bytes: 0,
                depth: 1,
            },
            mark,
        )?;
        self.open.push((frame, mark, anchor));
        Ok(())
    }

    /// Counts what is about to be added against the limits.
    fn spend(&mut self, size: Size, mark: Mark) -> Result<(), Fatal> {
        self.nodes += size.nodes;
        self.bytes += size.bytes;
        if self.open.len() + size.depth > DEPTH_MAX {
            return Err((mark, format!("nested more than {DEPTH_MAX} deep")));
        }
        if self.nodes > NODES_MAX {
            return Err((mark, format!("more than {NODES_MAX} values (aliases count each time)")));
        }
        if self.bytes > EXPANDED_MAX_BYTES {
            return Err((
                mark,
                format!("more than {EXPANDED_MAX_BYTES} bytes of values (aliases count each time)"),
            ));
        }
        let all = (
            self.nodes_left.checked_sub(size.nodes),
            self.bytes_left.checked_sub(size.bytes),
        );
        let (Some(nodes_left), Some(bytes_left)) = all else {
            return Err((mark, "aliases make too much of this text".to_owned()));
        };
        (self.nodes_left, self.bytes_left) = (nodes_left, bytes_left);
        Ok(())
    }

    /// Refuses tags; true for the one that says text.
    fn tag(&mut self, tag: Option<&Cow<'_, Tag>>, mark: Mark) -> bool {
        let Some(tag) = tag else { return false };
        if tag.is_yaml_core_schema() && tag.suffix == "str" {
            return true;
        }
        self.parsed.errors.push((
            mark,
            format!("the tag {} is not supported", printable(&tag.to_string())),
        ));
        false
    }

    fn add(&mut self, node: Node, anchor: usize) {
        if anchor != 0 {
            let size = Size::of(&node);
            self.anchors.insert(
                anchor,
                Anchor {
                    node: node.clone(),
                    size,
                },
            );
        }
        let errors = &mut self.parsed.errors;
        match self.open.last_mut() {
            None => self.parsed.documents.push(node),
            Some((Frame::Sequence { items }, ..)) => items.push(node),
            Some((Frame::Mapping { pairs, pending, seen }, ..)) => match std::mem::replace(pending, Pending::Key) {
                Pending::Key => *pending = key(node, seen, errors),
                Pending::Value(key, key_mark) => pairs.push(Pair {
                    key,
                    key_mark,
                    value: node,
                }),
                Pending::Dropped => {}
            },
        }
    }
}

/// Takes `node` as a key of the mapping whose keys so far are `seen`.
fn key(node: Node, seen: &mut HashMap<String, Mark>, errors: &mut Vec<(Mark, String)>) -> Pending {
    let mark = node.mark;
    let refused = if node.is_null() {
        "a key is missing here".to_owned()
    } else {
        match node.value {
            Yaml::Scalar(text, Style::Plain) if text == "<<" => "merge keys (<<) are not supported".to_owned(),
            Yaml::Scalar(text, _) => match seen.get(&text) {
                Some(first) => {
                    format!("{}: duplicate key, first on line {}", printable(&text), first.line)
                }
                None => {
                    seen.insert(text.clone(), mark);
                    return Pending::Value(text, mark);
                }
            },
            _ => "a key must be text".to_owned(),
        }
    };
    errors.push((mark, refused));
    Pending::Dropped
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use proptest::prelude::*;

    use super::*;

    fn errors(text: &str) -> Vec<String> {
        parse(text)
            .errors
            .into_iter()
            .map(|(mark, text)| format!("{}:{}: {text}", mark.line, mark.column))
            .collect()
    }

    #[test]
    fn marks_keys_and_values() {
        let parsed = parse("a:\n  - b: 'c'\n");
        assert_eq!(parsed.errors, []);
        let Yaml::Mapping(pairs) = &parsed.documents[0].value else {
            panic!("mapping")
        };
        let Yaml::Sequence(items) = &pairs[0].value.value else {
            panic!("sequence")
        };
        let Yaml::Mapping(inner) = &items[0].value else {
            panic!("mapping")
        };
        assert_eq!(inner[0].key_mark, Mark { line: 2, column: 5 });
        assert_eq!(inner[0].value.mark, Mark { line: 2, column: 8 });
        assert_eq!(inner[0].value.value, Yaml::Scalar("c".to_owned(), Style::Quoted));
    }

    #[test]
    fn refuses_duplicate_and_odd_keys_and_goes_on() {
        assert_eq!(
            errors("a: 1\nb: {c: 1, c: 2}\na: 2\n[x]: 1\n<<: {}\n"),
            [
                "2:11: c: duplicate key, first on line 2",
                "3:1: a: duplicate key, first on line 1",
                "4:1: a key must be text",
                "5:1: merge keys (<<) are not supported",
            ]
        );
    }

    #[test]
    fn expands_aliases_within_limits() {
        let parsed = parse("a: &x {b: 1}\nc: *x\n");
        assert_eq!(parsed.errors, []);
        let root = &parsed.documents[0];
        assert_eq!(root.child("a").unwrap().child("b"), root.child("c").unwrap().child("b"));

        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let previous = level - 1;
            bomb += &format!(
                "a{level}: &a{level} [{}]\n",
                vec![format!("*a{previous}"); 10].join(", ")
            );
        }
        let found = errors(&bomb);
        assert!(
            found[0].ends_with("more than 50000 values (aliases count each time)"),
            "{found:?}"
        );

        let long = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(100_000), vec!["*a"; 100].join(", "));
        assert!(errors(&long)[0].contains("bytes of values"), "{:?}", errors(&long));
        assert!(!errors("a: &a [*a]\n").is_empty());
    }

    #[test]
    fn bounds_the_depth() {
        let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(errors(&deep(DEPTH_MAX)), [""; 0]);
        assert!(errors(&deep(DEPTH_MAX + 1))[0].ends_with("nested more than 32 deep"));
        assert!(!errors(&"[".repeat(100_000)).is_empty());
        // an alias can't go deeper than what is written out
        let alias = format!("a: &a {}\nb: [[*a]]\n", deep(DEPTH_MAX - 2));
        assert!(errors(&alias)[0].ends_with("nested more than 32 deep"));
    }

    #[test]
    fn refuses_tags() {
        assert_eq!(errors("a: !!str 1"), [""; 0]);
        assert_eq!(errors("a: !secret 1"), ["1:4: the tag !secret is not supported"]);
    }

    #[test]
    fn empty_text_has_no_document() {
        assert!(parse("").documents.is_empty());
        assert!(parse("# only a comment\n").documents.is_empty());
    }

    proptest! {
        #[test]
        fn never_panics_on_text(text in "\\PC{0,300}") {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_on_yaml_like_text(text in "([a-c&*!|>%@`~#'\"?:,\\[\\]{}<\\-]| |\n|\t|\r|: |- |\n  |---\n|\\.\\.\\.\n|&a |\\*a|!!|\u{feff}|\u{85}){0,80}") {
            let _ = parse(&text);
        }

        #[test]
        fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
