//! Types of an untyped tree, names in scope, numbers of arguments: everything that can be wrong before it runs.

use std::time::Duration;

use regex::Regex;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::names::{Name, Scope, hint, resolve};
use super::parse::{Fault, Node, Tree};
use super::tree::{Bool, Known, List, Text, Time};
use crate::dialect;
use crate::pattern::Pattern;

/// Every function, and what it takes, for messages.
const FUNCTIONS: [(&str, &str); 19] = [
    ("contains", "(list, string)"),
    ("contains_any", "(list, list)"),
    ("contains_all", "(list, list)"),
    ("equals", "(string, string)"),
    ("has_prefix", "(string, string)"),
    ("set", "(string, ...)"),
    ("all_equal", "(list, string)"),
    ("all_end_with", "(list, string)"),
    ("is_subset", "(list, string, ...)"),
    ("regexp.match", "(list, pattern)"),
    ("regexp.replace", "(list, regex, string)"),
    ("email.local", "(list)"),
    ("strings.upper", "(list)"),
    ("strings.lower", "(list)"),
    ("labels_matching", "(pattern)"),
    ("before", "(time, time)"),
    ("after", "(time, time)"),
    ("younger", "(time, duration)"),
    ("older", "(time, duration)"),
];

#[derive(Debug, Clone, Copy)]
pub(crate) struct Checker {
    pub(crate) scope: Scope,
}

impl Checker {
    pub(crate) fn bool(self, tree: &Tree) -> Result<Bool, Fault> {
        Ok(match &tree.node {
            Node::Or(items) => Bool::Or(self.each(items, Self::bool)?),
            Node::And(items) => Bool::And(self.each(items, Self::bool)?),
            Node::Not(inner) => Bool::Not(Box::new(self.bool(inner)?)),
            Node::Equal(left, right) => Bool::Equal(self.text(left)?, self.text(right)?),
            Node::NotEqual(left, right) => Bool::Not(Box::new(Bool::Equal(self.text(left)?, self.text(right)?))),
            Node::Call { name, arguments } => match self.bool_call(tree, name, arguments)? {
                Some(call) => call,
                None => return Err(self.mismatch(tree, "true or false")),
            },
            Node::Path { name, keys } if keys.is_empty() => match self.resolve(tree, name)? {
                Name::Bool(name) => Bool::Name(name),
                _ => return Err(self.mismatch(tree, "true or false")),
            },
            Node::Path { .. } | Node::Text(_) => return Err(self.mismatch(tree, "true or false")),
        })
    }

    fn bool_call(self, tree: &Tree, name: &str, arguments: &[Tree]) -> Result<Option<Bool>, Fault> {
        Ok(Some(match (name, arguments) {
            ("contains", [list, item]) => Bool::Contains(self.list(list)?, self.text(item)?),
            ("contains_any", [list, items]) => Bool::ContainsAny(self.list(list)?, self.list(items)?),
            ("contains_all", [list, items]) => Bool::ContainsAll(self.list(list)?, self.list(items)?),
            ("equals", [left, right]) => Bool::Equal(self.text(left)?, self.text(right)?),
            ("has_prefix", [text, prefix]) => Bool::HasPrefix(self.text(text)?, self.text(prefix)?),
            ("all_equal", [list, item]) => Bool::AllEqual(self.list(list)?, self.text(item)?),
            ("all_end_with", [list, end]) => Bool::AllEndWith(self.list(list)?, self.text(end)?),
            ("is_subset", [list, items @ ..]) if !items.is_empty() => {
                Bool::IsSubset(self.list(list)?, self.each(items, Self::text)?)
            }
            ("regexp.match", [list, pattern]) => Bool::RegexpMatch(self.list(list)?, self.pattern(pattern)?),
            ("before", [left, right]) => Bool::Before(self.time(left)?, self.time(right)?),
            ("after", [left, right]) => Bool::Before(self.time(right)?, self.time(left)?),
            ("older", [time, age]) => Bool::Older(self.time(time)?, self.duration(age)?),
            ("younger", [time, age]) => Bool::Not(Box::new(Bool::Older(self.time(time)?, self.duration(age)?))),
            _ => {
                self.known_call(tree, name, arguments)?;
                return Ok(None);
            }
        }))
    }

    /// A text and nothing else.
    fn text(self, tree: &Tree) -> Result<Text, Fault> {
        match self.maybe_text(tree)? {
            Some(text) => Ok(text),
            None => Err(self.mismatch(tree, "a string")),
        }
    }

    fn maybe_text(self, tree: &Tree) -> Result<Option<Text>, Fault> {
        Ok(match &tree.node {
            Node::Text(text) => Some(Text::Literal(text.clone())),
            Node::Path { name, keys } => match (self.resolve(tree, name)?, keys.as_slice()) {
                (Name::Text(name), []) => Some(Text::Name(name)),
                (Name::Texts(map), [key]) => Some(Text::Lookup(map, Box::new(self.text(key)?))),
                _ => None,
            },
            _ => None,
        })
    }

    fn list(self, tree: &Tree) -> Result<List, Fault> {
        if let Some(text) = self.maybe_text(tree)? {
            return Ok(List::One(text));
        }
        Ok(match &tree.node {
            Node::Path { name, keys } => match (self.resolve(tree, name)?, keys.as_slice()) {
                (Name::List(name), []) => List::Name(name),
                (Name::Traits, [key]) => List::Trait(Box::new(self.text(key)?)),
                _ => return Err(self.mismatch(tree, "a list")),
            },
            Node::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
                ("set", items) => List::Set(self.each(items, Self::text)?),
                ("regexp.replace", [list, regex, to]) => List::Replace {
                    list: Box::new(self.list(list)?),
                    regex: self.regex(regex)?,
                    to: self.text(to)?,
                },
                ("email.local", [list]) => List::EmailLocal(Box::new(self.list(list)?)),
                ("strings.upper", [list]) => List::Upper(Box::new(self.list(list)?)),
                ("strings.lower", [list]) => List::Lower(Box::new(self.list(list)?)),
                ("labels_matching", [pattern]) if self.scope == Scope::Labels => {
                    List::LabelsMatching(self.pattern(pattern)?)
                }
                _ => {
                    self.known_call(tree, name, arguments)?;
                    return Err(self.mismatch(tree, "a list"));
                }
            },
            _ => return Err(self.mismatch(tree, "a list")),
        })
    }

    fn time(self, tree: &Tree) -> Result<Time, Fault> {
        if let Node::Path { name, keys } = &tree.node
            && let (Name::Time(name), []) = (self.resolve(tree, name)?, keys.as_slice())
        {
            return Ok(Time::Name(name));
        }
        match self.maybe_text(tree)? {
            Some(text) => Ok(Time::Written(known(tree, text, parse_time)?)),
            None => Err(self.mismatch(tree, "a time")),
        }
    }

    fn duration(self, tree: &Tree) -> Result<Known<Duration>, Fault> {
        known(tree, self.text(tree)?, parse_duration)
    }

    fn pattern(self, tree: &Tree) -> Result<Known<Pattern>, Fault> {
        known(tree, self.text(tree)?, parse_pattern)
    }

    fn regex(self, tree: &Tree) -> Result<Known<Regex>, Fault> {
        known(tree, self.text(tree)?, parse_regex)
    }

    fn each<T>(self, items: &[Tree], item: impl Fn(Self, &Tree) -> Result<T, Fault>) -> Result<Vec<T>, Fault> {
        items.iter().map(|tree| item(self, tree)).collect()
    }

    fn resolve(self, tree: &Tree, name: &str) -> Result<Name, Fault> {
        resolve(name, self.scope).map_err(|message| Fault::new(tree.at, message))
    }

    /// An error unless the function exists here and takes so many arguments.
    fn known_call(self, tree: &Tree, name: &str, arguments: &[Tree]) -> Result<(), Fault> {
        let fault = |message: String| Err(Fault::new(tree.at, message));
        let Some((_, takes)) = FUNCTIONS.iter().find(|(known, _)| *known == name) else {
            let hint = hint(name, FUNCTIONS.iter().map(|(known, _)| *known));
            return fault(format!("unknown function {name}{hint}"));
        };
        if name == "labels_matching" && self.scope != Scope::Labels {
            return fault(format!("{name} is known in label expressions only"));
        }
        let named = takes.matches(", ").count() + 1;
        let fits = match name {
            "set" => true,
            "is_subset" => arguments.len() >= 2,
            _ => arguments.len() == named,
        };
        if fits {
            return Ok(());
        }
        fault(format!(
            "it must be {name}{takes}, not with {} arguments",
            arguments.len()
        ))
    }

    /// The tree is sound or not, but it is not `wanted`.
    fn mismatch(self, tree: &Tree, wanted: &str) -> Fault {
        let is = match &tree.node {
            Node::Text(_) => "a string",
            Node::Or(_) | Node::And(_) | Node::Not(_) | Node::Equal(..) | Node::NotEqual(..) => "true or false",
            Node::Call { name, .. } => match name.as_str() {
                "set" | "regexp.replace" | "email.local" | "strings.upper" | "strings.lower" | "labels_matching" => {
                    "a list"
                }
                _ => "true or false",
            },
            Node::Path { name, keys } => match (resolve(name, self.scope), keys.len()) {
                (Err(message), _) => return Fault::new(tree.at, message),
                (Ok(Name::Texts(_) | Name::Traits), 0) => {
                    return Fault::new(tree.at, format!("{name} is a map: write {name}[\"key\"]"));
                }
                (Ok(Name::Texts(_)), 1) => "a string",
                (Ok(Name::Traits), 1) => "a list",
                (Ok(_), 1..) => return Fault::new(tree.at, format!("{name} has no such keys")),
                (Ok(Name::Bool(_)), 0) => "true or false",
                (Ok(Name::Text(_)), 0) => "a string",
                (Ok(Name::List(_)), 0) => "a list",
                (Ok(Name::Time(_)), 0) => "a time",
            },
        };
        Fault::new(tree.at, format!("this must be {wanted}, but it is {is}"))
    }
}

/// Reads what a literal says; anything else is read when it runs.
fn known<T>(tree: &Tree, text: Text, read: impl Fn(&str) -> Result<T, String>) -> Result<Known<T>, Fault> {
    match text {
        Text::Literal(text) => read(&text)
            .map(Known::Now)
            .map_err(|message| Fault::new(tree.at, message)),
        text => Ok(Known::Later(text)),
    }
}

pub(crate) fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    OffsetDateTime::parse(text, &Rfc3339).map_err(|_| format!("{text:?} is no time: write it as 2026-03-01T00:00:00Z"))
}

pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    deskreel_config::parse_duration(text)
}

pub(crate) fn parse_pattern(text: &str) -> Result<Pattern, String> {
    Pattern::compile(text).map(|compiled| compiled.pattern)
}

pub(crate) fn parse_regex(text: &str) -> Result<Regex, String> {
    dialect::compile(text).map(|compiled| compiled.regex)
}
