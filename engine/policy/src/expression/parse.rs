//! Text to tree. One grammar for label expressions, `where` and what stands in the braces of templates.
//!
//! ```text
//! expr = and {"||" and}   and = not {"&&" not}   not = "!" not | cmp   cmp = prim [("=="|"!=") prim]
//! prim = "(" expr ")" | STRING | call | path    call = NAME "(" [expr {"," expr}] ")"
//! path = IDENT {"." IDENT} {"[" expr "]"}        NAME = IDENT {"." IDENT}   STRING = "..." as in Go, or `...`
//! ```

use crate::limits::{EXPRESSION_DEPTH_MAX, EXPRESSION_MAX_BYTES};

/// A part of an expression and where it starts.
#[derive(Debug, Clone)]
pub(crate) struct Tree {
    pub(crate) at: usize,
    pub(crate) node: Node,
}

/// What a part of an expression is.
#[derive(Debug, Clone)]
pub(crate) enum Node {
    Or(Vec<Tree>),
    And(Vec<Tree>),
    Not(Box<Tree>),
    Equal(Box<Tree>, Box<Tree>),
    NotEqual(Box<Tree>, Box<Tree>),
    Text(String),
    Call { name: String, arguments: Vec<Tree> },
    Path { name: String, keys: Vec<Tree> },
}

/// What is wrong with an expression, and where: byte offset into its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) at: usize,
    pub(crate) message: String,
}

impl Fault {
    pub(crate) fn new(at: usize, message: impl Into<String>) -> Self {
        Self {
            at,
            message: message.into(),
        }
    }

    /// The message with the place in characters, from 1.
    pub(crate) fn describe(&self, text: &str) -> String {
        let before = text.get(..self.at).unwrap_or(text);
        format!("at character {}: {}", before.chars().count() + 1, self.message)
    }
}

/// Parses a whole text.
pub(crate) fn parse(text: &str) -> Result<Tree, Fault> {
    if text.len() > EXPRESSION_MAX_BYTES {
        let message = format!("the expression is longer than {EXPRESSION_MAX_BYTES} bytes");
        return Err(Fault::new(0, message));
    }
    let mut parser = Parser { text, at: 0, depth: 0 };
    let tree = parser.expression()?;
    parser.skip_space();
    match parser.peek() {
        None => Ok(tree),
        Some(c) => Err(Fault::new(parser.at, format!("{c:?} is not expected here"))),
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
}

impl Parser<'_> {
    fn rest(&self) -> &str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let c = self.peek()?;
        self.at += c.len_utf8();
        Some(c)
    }

    fn skip_space(&mut self) {
        let rest = self.rest();
        self.at += rest.len() - rest.trim_start().len();
    }

    /// Takes `token` if it comes next.
    fn take(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest().starts_with(token);
        if found {
            self.at += token.len();
        }
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), Fault> {
        if self.take(token) {
            return Ok(());
        }
        Err(Fault::new(self.at, format!("{token:?} is missing")))
    }

    /// One level deeper, for as long as `inner` runs.
    fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        if self.depth == EXPRESSION_DEPTH_MAX {
            let message = format!("it is nested deeper than {EXPRESSION_DEPTH_MAX}");
            return Err(Fault::new(self.at, message));
        }
        self.depth += 1;
        let result = inner(self);
        self.depth -= 1;
        result
    }

    fn expression(&mut self) -> Result<Tree, Fault> {
        self.nested(|parser| parser.row("||", Node::Or, |parser| parser.row("&&", Node::And, Self::not)))
    }

    /// `item {operator item}`: the item itself if there is but one.
    fn row(
        &mut self,
        operator: &str,
        node: impl FnOnce(Vec<Tree>) -> Node,
        mut item: impl FnMut(&mut Self) -> Result<Tree, Fault>,
    ) -> Result<Tree, Fault> {
        let first = item(self)?;
        if !self.take(operator) {
            return Ok(first);
        }
        let at = first.at;
        let mut items = vec![first, item(self)?];
        while self.take(operator) {
            items.push(item(self)?);
        }
        Ok(Tree { at, node: node(items) })
    }

    fn not(&mut self) -> Result<Tree, Fault> {
        self.skip_space();
        let at = self.at;
        if !self.take("!") {
            return self.comparison();
        }
        let inner = self.nested(Self::not)?;
        Ok(Tree {
            at,
            node: Node::Not(Box::new(inner)),
        })
    }

    fn comparison(&mut self) -> Result<Tree, Fault> {
        let left = self.primary()?;
        let at = left.at;
        let node = if self.take("==") {
            Node::Equal(Box::new(left), Box::new(self.primary()?))
        } else if self.take("!=") {
            Node::NotEqual(Box::new(left), Box::new(self.primary()?))
        } else {
            return Ok(left);
        };
        Ok(Tree { at, node })
    }

    fn primary(&mut self) -> Result<Tree, Fault> {
        self.skip_space();
        let at = self.at;
        let node = match self.peek() {
            Some('(') => {
                self.next();
                let inner = self.expression()?;
                self.expect(")")?;
                return Ok(Tree { at, node: inner.node });
            }
            Some('"') => Node::Text(self.quoted()?),
            Some('`') => Node::Text(self.raw()?),
            Some(c) if starts_name(c) => self.call_or_path()?,
            Some(c) => return Err(Fault::new(at, format!("{c:?} is not expected here"))),
            None => return Err(Fault::new(at, "something is missing at the end")),
        };
        Ok(Tree { at, node })
    }

    fn call_or_path(&mut self) -> Result<Node, Fault> {
        let mut name = self.identifier()?;
        while self.take(".") {
            self.skip_space();
            name.push('.');
            name.push_str(&self.identifier()?);
        }
        if self.take("(") {
            let mut arguments = Vec::new();
            if !self.take(")") {
                arguments.push(self.expression()?);
                while self.take(",") {
                    arguments.push(self.expression()?);
                }
                self.expect(")")?;
            }
            return Ok(Node::Call { name, arguments });
        }
        let mut keys = Vec::new();
        while self.take("[") {
            keys.push(self.expression()?);
            self.expect("]")?;
        }
        Ok(Node::Path { name, keys })
    }

    fn identifier(&mut self) -> Result<String, Fault> {
        let rest = self.rest();
        if !rest.starts_with(starts_name) {
            return Err(Fault::new(self.at, "a name is missing"));
        }
        let end = rest
            .find(|c: char| !(starts_name(c) || c.is_ascii_digit()))
            .unwrap_or(rest.len());
        let name = rest.get(..end).unwrap_or_default().to_owned();
        self.at += end;
        Ok(name)
    }

    /// At a backquote.
    fn raw(&mut self) -> Result<String, Fault> {
        let at = self.at;
        self.next();
        let Some((text, _)) = self.rest().split_once('`') else {
            return Err(Fault::new(at, "the string does not end"));
        };
        let (length, text) = (text.len(), text.replace('\r', ""));
        self.at += length + 1;
        Ok(text)
    }

    /// At a double quote.
    fn quoted(&mut self) -> Result<String, Fault> {
        let at = self.at;
        self.next();
        let mut bytes = Vec::new();
        loop {
            match self.next() {
                Some('"') => break,
                Some('\\') => self.escape(&mut bytes)?,
                Some('\n') | None => return Err(Fault::new(at, "the string does not end")),
                Some(c) => push(&mut bytes, c),
            }
        }
        String::from_utf8(bytes).map_err(|_| Fault::new(at, "the escapes in the string are no UTF-8"))
    }

    /// After a backslash.
    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), Fault> {
        let at = self.at;
        let bad = || Fault::new(at, "no such escape; write a backslash as \\\\");
        match self.next().ok_or_else(bad)? {
            'a' => bytes.push(7),
            'b' => bytes.push(8),
            'f' => bytes.push(12),
            'n' => bytes.push(b'\n'),
            'r' => bytes.push(b'\r'),
            't' => bytes.push(b'\t'),
            'v' => bytes.push(11),
            c @ ('\\' | '"') => push(bytes, c),
            'x' => bytes.push(u8::try_from(self.digits(2, 16).ok_or_else(bad)?).map_err(|_| bad())?),
            'u' => push(bytes, self.digits(4, 16).and_then(char::from_u32).ok_or_else(bad)?),
            'U' => push(bytes, self.digits(8, 16).and_then(char::from_u32).ok_or_else(bad)?),
            '0'..='7' => {
                self.at = at;
                bytes.push(u8::try_from(self.digits(3, 8).ok_or_else(bad)?).map_err(|_| bad())?);
            }
            _ => return Err(bad()),
        }
        Ok(())
    }

    fn digits(&mut self, count: usize, radix: u32) -> Option<u32> {
        let digits = self.rest().get(..count)?;
        if !digits.chars().all(|c| c.is_digit(radix)) {
            return None;
        }
        let value = u32::from_str_radix(digits, radix).ok()?;
        self.at += count;
        Some(value)
    }
}

fn starts_name(c: char) -> bool {
    c.is_ascii_alphabetic() || c == '_'
}

fn push(bytes: &mut Vec<u8>, c: char) {
    bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{Node, parse};

    fn text(source: &str) -> Result<String, String> {
        match parse(source).map_err(|fault| fault.describe(source))?.node {
            Node::Text(text) => Ok(text),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn strings_as_in_go() {
        for (source, expected) in [
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#""\a\b\f\n\r\t\v""#, "\x07\x08\x0C\n\r\t\x0B"),
            (r#""\x41\101\u00e9\U0001F600""#, "AA\u{e9}\u{1F600}"),
            (r#""\xc3\xa9""#, "\u{e9}"),
            (r#"`a\"b`"#, r#"a\"b"#),
            ("`a\r\nb`", "a\nb"),
            ("(\"a\")", "a"),
        ] {
            assert_eq!(text(source).as_deref(), Ok(expected), "{source}");
        }
        for source in [
            r#"""#,
            "`",
            r#""\q""#,
            r#""\'""#,
            r#""\xff""#,
            r#""\u12""#,
            r#""\ud800""#,
            r#""\400""#,
            "\"a\nb\"",
        ] {
            assert!(text(source).is_err(), "{source}");
        }
    }

    #[test]
    fn faults_say_where() {
        for (source, expected) in [
            ("", "at character 1: something is missing at the end"),
            ("a &&", "at character 5: something is missing at the end"),
            ("é", "at character 1: 'é' is not expected here"),
            ("\"é\" é", "at character 5: 'é' is not expected here"),
            ("f(a", "at character 4: \")\" is missing"),
            ("a[\"b\"", "at character 6: \"]\" is missing"),
            ("a.", "at character 3: a name is missing"),
            ("a == b == c", "at character 8: '=' is not expected here"),
            ("a b", "at character 3: 'b' is not expected here"),
            ("a | b", "at character 3: '|' is not expected here"),
        ] {
            let fault = parse(source).unwrap_err();
            assert_eq!(fault.describe(source), expected, "{source}");
        }
    }

    #[test]
    fn limits() {
        let deep = |levels: usize| format!("{}a{}", "(".repeat(levels), ")".repeat(levels));
        assert!(parse(&deep(63)).is_ok());
        assert!(parse(&deep(64)).is_err());
        assert!(parse(&format!("{}a", "!".repeat(63))).is_ok());
        assert!(parse(&format!("{}a", "!".repeat(64))).is_err());
        assert!(
            parse(&format!("a{}", " && a".repeat(1000))).is_ok(),
            "rows are no nesting"
        );
        assert!(parse(&" ".repeat(8193)).is_err());
    }
}
