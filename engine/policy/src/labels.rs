//! `windows_desktop_labels`: keys and patterns, matched against the labels of a desktop.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::pattern::Pattern;
use crate::template::{Template, Traits};

/// Labels of a desktop.
pub(crate) type Labels = BTreeMap<String, String>;

/// A label matcher as a role has it.
#[derive(Debug, Clone)]
pub(crate) enum LabelMatcher {
    /// It is the same for every user.
    Fixed(BoundLabels),
    /// Something in it holds a template, so it depends on the user.
    Templated(Vec<(Template, Vec<Value>)>),
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
pub(crate) struct BoundLabels {
    keys: Vec<BoundKey>,
    everything: bool,
}

#[derive(Debug, Clone)]
struct BoundKey {
    /// As it was written.
    source: String,
    /// `None` = its template comes to nothing.
    key: Option<String>,
    patterns: Vec<Pattern>,
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
        let mut keys = Vec::new();
        let mut templated = false;
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
            let mut patterns = Vec::new();
            for (index, value) in values.iter().enumerate() {
                match compile_value(value) {
                    Ok((value, loose)) => {
                        if loose {
                            find(Some(index), false, loose_anchors(&values[index]));
                        }
                        templated |= matches!(value, Value::Templated(_));
                        patterns.push(value);
                    }
                    Err(message) => find(Some(index), true, message),
                }
            }
            templated |= matches!(template, Template::Around { .. });
            keys.push((template, patterns));
        }
        let matcher = match templated {
            true => Self::Templated(keys),
            false => Self::Fixed(bind(&keys, &Traits::new())),
        };
        (matcher, findings)
    }

    pub(crate) fn is_templated(&self) -> bool {
        matches!(self, Self::Templated(_))
    }

    /// The matcher for a user with these traits. Patterns that come out of a template and can't be read match nothing.
    pub(crate) fn bind(&self, traits: &Traits) -> Cow<'_, BoundLabels> {
        match self {
            Self::Fixed(bound) => Cow::Borrowed(bound),
            Self::Templated(keys) => Cow::Owned(bind(keys, traits)),
        }
    }
}

fn bind(keys: &[(Template, Vec<Value>)], traits: &Traits) -> BoundLabels {
    let mut everything = false;
    let bind_key = |(template, values): &(Template, Vec<Value>)| {
        let key = template.expand(traits).ok().and_then(|keys| keys.into_iter().next());
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
        let all_any = !patterns.is_empty() && patterns.iter().all(|pattern| matches!(pattern, Pattern::Any));
        everything |= key.as_deref() == Some("*") && all_any;
        BoundKey {
            source: template.source().to_owned(),
            key,
            patterns,
        }
    };
    let keys = keys.iter().map(bind_key).collect();
    BoundLabels { keys, everything }
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

impl BoundLabels {
    /// How it stands to a desktop with these labels.
    pub(crate) fn matches(&self, labels: &Labels) -> LabelMatch<'_> {
        if self.everything {
            return LabelMatch::Everything;
        }
        if self.keys.is_empty() {
            return LabelMatch::NoKeys;
        }
        for bound in &self.keys {
            let Some(key) = bound.key.as_deref() else {
                return LabelMatch::Unresolved(&bound.source);
            };
            if key == "*" {
                // only `'*': '*'` has a meaning
                return LabelMatch::Differs(&bound.source);
            }
            let Some(value) = labels.get(key) else {
                return LabelMatch::Missing(key);
            };
            if !bound.patterns.iter().any(|pattern| pattern.matches(value)) {
                return LabelMatch::Differs(key);
            }
        }
        LabelMatch::Keys
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{LabelMatch, LabelMatcher, Labels};
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
            assert_eq!(bound.matches(&labels()), *expected, "{pairs:?}");
        }
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
