//! Type-checked expressions: one type of node for each type of value, so that evaluation can't meet a wrong one.

use std::time::Duration;

use regex::Regex;
use time::OffsetDateTime;

use super::names::{BoolName, ListName, TextName, TextsName, TimeName};
use crate::pattern::Pattern;

#[derive(Debug, Clone)]
pub(crate) enum Bool {
    Name(BoolName),
    Or(Vec<Bool>),
    And(Vec<Bool>),
    Not(Box<Bool>),
    Equal(Text, Text),
    HasPrefix(Text, Text),
    Contains(List, Text),
    ContainsAny(List, List),
    ContainsAll(List, List),
    AllEqual(List, Text),
    AllEndWith(List, Text),
    IsSubset(List, Vec<Text>),
    RegexpMatch(List, Known<Pattern>),
    Before(Time, Time),
    Older(Time, Known<Duration>),
}

#[derive(Debug, Clone)]
pub(crate) enum Text {
    Literal(String),
    Name(TextName),
    Lookup(TextsName, Box<Text>),
}

#[derive(Debug, Clone)]
pub(crate) enum List {
    One(Text),
    Set(Vec<Text>),
    Name(ListName),
    Trait(Box<Text>),
    LabelsMatching(Known<Pattern>),
    Replace {
        list: Box<List>,
        regex: Known<Regex>,
        to: Text,
    },
    EmailLocal(Box<List>),
    Upper(Box<List>),
    Lower(Box<List>),
}

#[derive(Debug, Clone)]
pub(crate) enum Time {
    Name(TimeName),
    Written(Known<OffsetDateTime>),
}

/// Something that a text describes: read once if it is written out, else at each evaluation.
#[derive(Debug, Clone)]
pub(crate) enum Known<T> {
    Now(T),
    Later(Text),
}
