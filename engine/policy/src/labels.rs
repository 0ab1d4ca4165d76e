//! `windows_desktop_labels`: keys and patterns, matched against the labels of a desktop.

use std::collections::BTreeMap;

use crate::pattern::Pattern;
use crate::template::{Template, Traits};

/// Labels of a desktop.
pub(crate) type Labels = BTreeMap<String, String>;

/// A label matcher as a role has it.
#[derive(Debug, Clone)]
pub(crate) struct LabelMatcher {
    /// What is the same for every user: the cheapest first, then in the order of keys.
    fixed: Vec<BoundKey>,
    /// Key or a value holds a template.
    templated: Vec<(Template, Vec<Value>)>,
}

#[derive(Debug, Clone)]
pub(crate) enum Value {
    Fixed(Pattern),
    Templated(Template),
}

/// What is wrong or odd, and at which key and value; `None` = the key itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) key: String,
    pub(crate) value: Option<usize>,
    pub(crate) message: String,
    pub(crate) is_error: bool,
}

/// A label matcher for one user: templates are filled in.
#[derive(Debug, Clone)]
pub(crate) struct BoundLabels<'r> {
    fixed: &'r [BoundKey],
    own: Vec<BoundKey>,
    everything: bool,
}

/// A key for one user.
#[derive(Debug, Clone)]
struct BoundKey {
    /// As it was written.
    source: String,
    /// `None` = its template comes to nothing.
    key: Option<String>,
    patterns: Vec<Pattern>,
    /// What its dearest pattern costs.
    cost: u8,
}

/// Labels of one desktop, for looking up many keys in their order.
pub(crate) struct LabelView<'d>(Vec<(&'d str, &'d str)>);

/// Labels that are looked at one by one before the rest is searched.
const STEPS: usize = 4;

impl<'d> LabelView<'d> {
    pub(crate) fn new(labels: &'d Labels) -> Self {
        let pairs = labels.iter().map(|(key, value)| (key.as_str(), value.as_str()));
        Self(pairs.collect())
    }

    /// The value of `key`, which is not before `from`; `from` moves on to it.
    fn value(&self, key: &str, from: &mut usize) -> Option<&'d str> {
        let rest = self.0.get(*from..)?;
        for (step, (known, value)) in rest.iter().take(STEPS).enumerate() {
            match (*known).cmp(key) {
                std::cmp::Ordering::Less => {}
                std::cmp::Ordering::Equal => {
                    *from += step;
                    return Some(value);
                }
                std::cmp::Ordering::Greater => return None,
            }
        }
        let found = rest.binary_search_by(|(known, _)| (*known).cmp(key)).ok()?;
        *from += found;
        rest.get(found).map(|(_, value)| *value)
    }
}

/// How a matcher stands to a desktop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LabelMatch<'b> {
    /// `'*': '*'`
    Everything,
    /// Every key matches.
    Keys,
    /// There are no keys.
    NoKeys,
    /// The desktop has no such label.
    Missing(&'b str),
    /// The label has another value.
    Differs(&'b str),
    /// A template comes to nothing.
    Unresolved(&'b str),
}

impl LabelMatch<'_> {
    pub(crate) fn is_match(self) -> bool {
        matches!(self, Self::Everything | Self::Keys)
    }

    /// In words.
    pub(crate) fn describe(self) -> String {
        match self {
            Self::Everything => "every desktop".to_owned(),
            Self::Keys => "every key matches".to_owned(),
            Self::NoKeys => "no keys".to_owned(),
            Self::Missing(key) => format!("the desktop has no label {key}"),
            Self::Differs(key) => format!("label {key} has another value"),
            Self::Unresolved(source) => format!("{source} comes to nothing for this user"),
        }
    }
}

impl LabelMatcher {
    /// Reads keys and values; findings are in their order.
    pub(crate) fn compile(labels: &BTreeMap<String, Vec<String>>) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let (mut fixed, mut templated) = (Vec::new(), Vec::new());
        for (key, values) in labels {
            let mut find = |value: Option<usize>, is_error: bool, message: String| {
                findings.push(Finding {
                    key: key.clone(),
                    value,
                    message,
                    is_error,
                });
            };
            if key == "*" && (values.is_empty() || values.iter().any(|value| value != "*")) {
                find(None, true, "the key * needs the value *".to_owned());
            }
            if key == "*" && labels.len() > 1 {
                find(
                    None,
                    false,
                    "'*': '*' matches every desktop: the other keys don't count".to_owned(),
                );
            }
            let template = match Template::compile(key) {
                Ok(template) => template,
                Err(message) => {
                    find(None, true, message);
                    continue;
                }
            };
            let mut patterns = Vec::with_capacity(values.len());
            for (index, value) in values.iter().enumerate() {
                match compile_value(value) {
                    Ok((value, loose)) => {
                        if loose {
                            find(Some(index), false, loose_anchors(&values[index]));
                        }
                        patterns.push(value);
                    }
                    Err(message) => find(Some(index), true, message),
                }
            }
            let is_fixed = patterns.iter().all(|value| matches!(value, Value::Fixed(_)));
            match matches!(template, Template::Literal(_)) && is_fixed {
                true => fixed.push(bind_key(&template, &patterns, &Traits::new())),
                false => templated.push((template, patterns)),
            }
        }
        fixed.sort_by(|a: &BoundKey, b| (a.cost, &a.key).cmp(&(b.cost, &b.key)));
        (Self { fixed, templated }, findings)
    }

    /// Something in it holds a template, so it depends on the user.
    pub(crate) fn is_templated(&self) -> bool {
        !self.templated.is_empty()
    }

    /// The matcher for a user with these traits. Patterns that come out of a template and can't be read match nothing.
    pub(crate) fn bind(&self, traits: &Traits) -> BoundLabels<'_> {
        let templated = self.templated.iter();
        let own: Vec<_> = templated
            .map(|(template, values)| bind_key(template, values, traits))
            .collect();
        BoundLabels {
            everything: self.fixed.iter().chain(&own).any(BoundKey::is_everything),
            fixed: &self.fixed,
            own,
        }
    }
}

impl BoundKey {
    /// `'*': '*'`
    fn is_everything(&self) -> bool {
        let any = |pattern: &Pattern| matches!(pattern, Pattern::Any);
        self.key.as_deref() == Some("*") && !self.patterns.is_empty() && self.patterns.iter().all(any)
    }
}

fn bind_key(template: &Template, values: &[Value], traits: &Traits) -> BoundKey {
    let key = match template {
        Template::Literal(key) => Some(key.clone()),
        around => around.expand(traits).ok().and_then(|keys| keys.into_iter().next()),
    };
    let mut patterns = Vec::with_capacity(values.len());
    for value in values {
        match value {
            Value::Fixed(pattern) => patterns.push(pattern.clone()),
            Value::Templated(template) => {
                let texts = template.expand(traits).unwrap_or_default();
                let compiled = texts.iter().filter_map(|text| Pattern::compile(text).ok());
                patterns.extend(compiled.map(|compiled| compiled.pattern));
            }
        }
    }
    BoundKey {
        source: template.source().to_owned(),
        key,
        cost: patterns.iter().map(Pattern::cost).max().unwrap_or_default(),
        patterns,
    }
}

fn compile_value(value: &str) -> Result<(Value, bool), String> {
    match Template::compile(value)? {
        Template::Literal(text) => {
            let compiled = Pattern::compile(&text)?;
            Ok((Value::Fixed(compiled.pattern), compiled.loose))
        }
        around => Ok((Value::Templated(around), false)),
    }
}

/// The lint for a regex with an alternative that is not anchored at both ends.
pub(crate) fn loose_anchors(pattern: &str) -> String {
    format!("{pattern} is not anchored on both sides of each |: write ^(a|b)$")
}

impl BoundLabels<'_> {
    /// How it stands to a desktop with these labels.
    pub(crate) fn matches(&self, labels: &LabelView<'_>) -> LabelMatch<'_> {
        if self.everything {
            return LabelMatch::Everything;
        }
        if self.fixed.is_empty() && self.own.is_empty() {
            return LabelMatch::NoKeys;
        }
        for bound in &self.own {
            if let Some(why) = bound.differs(labels, &mut 0) {
                return why;
            }
        }
        let (mut from, mut cost) = (0, 0);
        for bound in self.fixed {
            if cost != bound.cost {
                // the keys of each cost are in order
                (from, cost) = (0, bound.cost);
            }
            if let Some(why) = bound.differs(labels, &mut from) {
                return why;
            }
        }
        LabelMatch::Keys
    }
}

impl BoundKey {
    /// Why it does not match; `from` is where the key is looked for, and moves on to it.
    fn differs(&self, labels: &LabelView<'_>, from: &mut usize) -> Option<LabelMatch<'_>> {
        let Some(key) = self.key.as_deref() else {
            return Some(LabelMatch::Unresolved(&self.source));
        };
        if key == "*" {
            // only `'*': '*'` has a meaning
            return Some(LabelMatch::Differs(&self.source));
        }
        let Some(value) = labels.value(key, from) else {
            return Some(LabelMatch::Missing(key));
        };
        let matches = self.patterns.iter().any(|pattern| pattern.matches(value));
        (!matches).then_some(LabelMatch::Differs(key))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{LabelMatch, LabelMatcher, LabelView, Labels};
    use crate::template::Traits;

    fn matcher(pairs: &[(&str, &[&str])]) -> LabelMatcher {
        let keys = pairs.iter().map(|(key, values)| {
            let values = values.iter().map(|value| (*value).to_owned()).collect();
            ((*key).to_owned(), values)
        });
        LabelMatcher::compile(&keys.collect()).0
    }

    fn labels() -> Labels {
        let pairs = [("env", "dev"), ("team", "blue"), ("*", "star")];
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn traits() -> Traits {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Traits::from([
            ("teams".to_owned(), list(&["red", "blue"])),
            ("key".to_owned(), list(&["team", "env"])),
            ("star".to_owned(), list(&["*"])),
            ("glob".to_owned(), list(&["bl*"])),
            ("regex".to_owned(), list(&["^b.ue$"])),
            ("bad".to_owned(), list(&["^(e$"])),
        ])
    }

    #[test]
    fn templates_in_keys_and_values() {
        use LabelMatch::{Differs, Everything, Keys, Missing, NoKeys, Unresolved};
        type Pairs = &'static [(&'static str, &'static [&'static str])];
        let cases: &[(Pairs, LabelMatch<'_>)] = &[
            (&[], NoKeys),
            (&[("*", &["*"])], Everything),
            (&[("*", &["*"]), ("env", &["prod"])], Everything),
            (&[("*", &["star"])], Differs("*")),
            (&[("env", &["dev"]), ("team", &["red", "blue"])], Keys),
            (&[("env", &["dev"]), ("team", &["red"])], Differs("team")),
            (&[("env", &[])], Differs("env")),
            (&[("nope", &["*"])], Missing("nope")),
            (&[("team", &["{{external.teams}}"])], Keys),
            (&[("team", &["x{{external.teams}}"])], Differs("team")),
            (&[("team", &["{{external.glob}}"])], Keys),
            (&[("team", &["{{external.regex}}"])], Keys),
            (&[("team", &["{{external.bad}}"])], Differs("team")),
            (&[("team", &["{{external.nope}}", "blue"])], Keys),
            (&[("team", &["{{external.nope}}"])], Differs("team")),
            (&[("{{external.key}}", &["blue"])], Keys),
            (&[("{{external.key}}", &["dev"])], Differs("team")),
            (&[("{{external.nope}}", &["*"])], Unresolved("{{external.nope}}")),
            (&[("{{external.star}}", &["*"])], Everything),
            (&[("{{external.star}}", &["{{external.star}}"])], Everything),
            (&[("{{external.star}}", &["star"])], Differs("{{external.star}}")),
        ];
        for (pairs, expected) in cases {
            let matcher = matcher(pairs);
            let bound = matcher.bind(&traits());
            let labels = labels();
            assert_eq!(bound.matches(&LabelView::new(&labels)), *expected, "{pairs:?}");
        }
    }

    /// Every set of keys on desktops of every size, against the map.
    #[test]
    fn keys_are_found_wherever_they_stand() {
        for size in 0..12 {
            let labels: Labels = (0..size)
                .map(|at| (format!("k{:02}", at * 2), at.to_string()))
                .collect();
            let view = LabelView::new(&labels);
            for first in 0..25 {
                for second in first..25 {
                    let (mut from, keys) = (0, [first, second].map(|key| format!("k{key:02}")));
                    for key in &keys {
                        assert_eq!(
                            view.value(key, &mut from),
                            labels.get(key).map(String::as_str),
                            "{size} {keys:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn dear_patterns_come_last() {
        let matcher = matcher(&[
            ("a", &["^(x|dev)$"]),
            ("env", &["dev"]),
            ("team", &["b*", "x"]),
            ("z", &["*"]),
        ]);
        let mut labels = labels();
        let bound = matcher.bind(&Traits::new());
        let missing = |labels: &Labels| match bound.matches(&LabelView::new(labels)) {
            LabelMatch::Missing(key) => key.to_owned(),
            other => format!("{other:?}"),
        };
        assert_eq!(missing(&labels), "z");
        labels.insert("z".to_owned(), "1".to_owned());
        assert_eq!(missing(&labels), "a");
        labels.insert("a".to_owned(), "dev".to_owned());
        assert_eq!(missing(&labels), "Keys");
    }

    #[test]
    fn findings() {
        let all = [
            ("*", vec!["prod"]),
            ("a", vec!["ok", "^dev|test$"]),
            ("b", vec!["^($", "{{nope}}"]),
            ("{{", vec!["x"]),
        ];
        let labels = all
            .into_iter()
            .map(|(key, values)| (key.to_owned(), values.into_iter().map(str::to_owned).collect()));
        let (_, findings) = LabelMatcher::compile(&labels.collect());
        let short: Vec<_> = findings.iter().map(|f| (f.key.as_str(), f.value, f.is_error)).collect();
        assert_eq!(
            short,
            [
                ("*", None, true),
                ("*", None, false),
                ("a", Some(1), false),
                ("b", Some(0), true),
                ("b", Some(1), true),
                ("{{", None, true)
            ]
        );
    }
}
