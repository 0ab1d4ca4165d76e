//! Templates: `prefix{{ e }}suffix`, where `e` reads a trait of the user and may change each of its values.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use regex::Regex;

use crate::expression::{Node, Tree, hint, parse};
use crate::limits::EXPRESSION_MAX_BYTES;
use crate::{dialect, text};

/// Traits that `internal.` knows.
const INTERNAL_TRAITS: [&str; 12] = [
    "logins",
    "windows_logins",
    "kubernetes_groups",
    "kubernetes_users",
    "db_names",
    "db_users",
    "db_roles",
    "aws_role_arns",
    "azure_identities",
    "gcp_service_accounts",
    "jwt",
    "github_orgs",
];

/// Values among which repeated ones are looked for one by one.
const FEW: usize = 16;

/// Traits of a user.
pub(crate) type Traits = BTreeMap<String, Vec<String>>;

/// A text that may hold a template.
#[derive(Debug, Clone)]
pub(crate) enum Template {
    /// It holds none.
    Literal(String),
    /// It holds one.
    Around {
        /// As it was written.
        source: String,
        prefix: String,
        inner: Inner,
        suffix: String,
    },
}

/// What stands in the braces.
#[derive(Debug, Clone)]
pub(crate) enum Inner {
    Trait(String),
    EmailLocal(Box<Inner>),
    Replace { of: Box<Inner>, regex: Regex, to: String },
}

impl Template {
    pub(crate) fn compile(source: &str) -> Result<Self, String> {
        if source.len() > EXPRESSION_MAX_BYTES {
            return Err(format!("the text is longer than {EXPRESSION_MAX_BYTES} bytes"));
        }
        if !source.contains("{{") && !source.contains("}}") {
            return Ok(Self::Literal(source.to_owned()));
        }
        let malformed =
            || format!("{source:?} is no template: write prefix{{{{external.name}}}}suffix, without other braces");
        let (prefix, rest) = source.split_once("{{").ok_or_else(malformed)?;
        let (inner, suffix) = rest.rsplit_once("}}").ok_or_else(malformed)?;
        if prefix.contains(['{', '}']) || suffix.contains(['{', '}']) {
            return Err(malformed());
        }
        let tree = parse(inner).map_err(|fault| format!("in the braces, {}", fault.describe(inner)))?;
        let inner = compile_inner(&tree).map_err(|fault| format!("in the braces, {fault}"))?;
        Ok(Self::Around {
            source: source.to_owned(),
            prefix: prefix.trim_start().to_owned(),
            inner,
            suffix: suffix.trim_end().to_owned(),
        })
    }

    /// As it was written.
    pub(crate) fn source(&self) -> &str {
        match self {
            Self::Literal(text) => text,
            Self::Around { source, .. } => source,
        }
    }

    /// What it comes to: no empty and no repeated texts, in the order of the trait's values.
    ///
    /// # Errors
    /// Why it comes to nothing: a trait is missing, a function fails.
    pub(crate) fn expand(&self, traits: &Traits) -> Result<Vec<String>, String> {
        let (prefix, inner, suffix) = match self {
            Self::Literal(text) if text.is_empty() => return Ok(Vec::new()),
            Self::Literal(text) => return Ok(vec![text.clone()]),
            Self::Around {
                prefix, inner, suffix, ..
            } => (prefix, inner, suffix),
        };
        let mut results = inner.values(traits)?;
        match results.len() {
            // few: looking back is cheaper than a set
            0..=FEW => {
                for at in (0..results.len()).rev() {
                    let (before, rest) = results.split_at(at);
                    if rest
                        .first()
                        .is_none_or(|value| value.is_empty() || before.contains(value))
                    {
                        results.remove(at);
                    }
                }
            }
            _ => {
                let mut seen = BTreeSet::new();
                results.retain(|value| !value.is_empty() && seen.insert(Cow::clone(value)));
            }
        }
        let around = |value: Cow<'_, str>| match (prefix.as_str(), suffix.as_str()) {
            ("", "") => value.into_owned(),
            _ => format!("{prefix}{value}{suffix}"),
        };
        Ok(results.into_iter().map(around).collect())
    }
}

impl Inner {
    fn values<'t>(&self, traits: &'t Traits) -> Result<Vec<Cow<'t, str>>, String> {
        match self {
            Self::Trait(name) => {
                let values = traits
                    .get(name)
                    .ok_or_else(|| format!("the user has no trait {name}"))?;
                Ok(values.iter().map(|value| Cow::Borrowed(value.as_str())).collect())
            }
            Self::EmailLocal(of) => {
                let values = of.values(traits)?;
                let local = |value: &Cow<'_, str>| Ok(Cow::Owned(text::email_local(value)?.to_owned()));
                values.iter().map(local).collect()
            }
            Self::Replace { of, regex, to } => {
                let values = of.values(traits)?;
                let replaced = values
                    .iter()
                    .filter_map(|value| text::replace(regex, value, to).transpose());
                replaced.map(|value| value.map(Cow::Owned)).collect()
            }
        }
    }
}

fn compile_inner(tree: &Tree) -> Result<Inner, String> {
    match &tree.node {
        Node::Path { name, keys } => trait_name(name, keys).map(Inner::Trait),
        Node::Call { name, arguments } => match (name.as_str(), arguments.as_slice()) {
            ("email.local", [of]) => Ok(Inner::EmailLocal(Box::new(compile_inner(of)?))),
            ("regexp.replace", [of, regex, to]) => match (&regex.node, &to.node) {
                (Node::Text(regex), Node::Text(to)) => Ok(Inner::Replace {
                    of: Box::new(compile_inner(of)?),
                    regex: dialect::compile(regex)?.regex,
                    to: to.clone(),
                }),
                _ => Err("regexp.replace takes a value and two strings".to_owned()),
            },
            ("email.local", _) => Err("email.local takes one value".to_owned()),
            ("regexp.replace", _) => Err("regexp.replace takes a value and two strings".to_owned()),
            _ => Err(format!(
                "unknown function {name}{}",
                hint(name, ["email.local", "regexp.replace"].into_iter())
            )),
        },
        _ => Err("only external.name, internal.name, email.local and regexp.replace are known".to_owned()),
    }
}

fn trait_name(name: &str, keys: &[Tree]) -> Result<String, String> {
    let (space, name) = match (name.split_once('.'), keys) {
        (Some((space, name)), []) if !name.contains('.') => (space, name),
        (None, [key]) => match &key.node {
            Node::Text(key) => (name, key.as_str()),
            _ => return Err(format!("write {name}[\"any name\"]")),
        },
        _ => {
            return Err(format!(
                "{name} is not known: write external.name or external[\"any name\"]"
            ));
        }
    };
    match space {
        "external" => Ok(name.to_owned()),
        "internal" if INTERNAL_TRAITS.contains(&name) => Ok(name.to_owned()),
        "internal" => {
            let hint = hint(name, INTERNAL_TRAITS.into_iter());
            Err(format!(
                "internal.{name} is not known{hint} (other traits are external.{name})"
            ))
        }
        _ => Err(format!(
            "unknown name {space}: traits are external.name and internal.name"
        )),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{Template, Traits};

    fn traits() -> Traits {
        let list = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        Traits::from([
            ("teams".to_owned(), list(&["red", "", "blue", "red"])),
            ("email".to_owned(), list(&["alice@example.com", "bob@example.org"])),
            ("mixed".to_owned(), list(&["alice@example.com", "no-at-sign"])),
            ("windows_logins".to_owned(), list(&["root"])),
            ("any name}}".to_owned(), list(&["x"])),
            ("empty".to_owned(), list(&[])),
        ])
    }

    #[test]
    fn expansion() {
        for (source, expected) in [
            ("plain", vec!["plain"]),
            ("pl{a}in", vec!["pl{a}in"]),
            ("", vec![]),
            ("{{external.teams}}", vec!["red", "blue"]),
            ("{{ external.teams }}", vec!["red", "blue"]),
            ("  a-{{external.teams}}-b  ", vec!["a-red-b", "a-blue-b"]),
            ("a {{external.teams}} b", vec!["a red b", "a blue b"]),
            ("{{internal.windows_logins}}", vec!["root"]),
            ("{{external.windows_logins}}", vec!["root"]),
            ("{{external[\"any name}}\"]}}", vec!["x"]),
            ("{{external.empty}}", vec![]),
            ("{{email.local(external.email)}}", vec!["alice", "bob"]),
            (
                r#"{{regexp.replace(external.email, "^(.*)@example\\.com$", "$1-adm")}}"#,
                vec!["alice-adm"],
            ),
            (
                r#"{{regexp.replace(external.email, `@(?P<d>.*)`, "_${d}")}}"#,
                vec!["alice_example.com", "bob_example.org"],
            ),
            (
                r#"{{regexp.replace(email.local(external.email), "b", "c")}}"#,
                vec!["coc"],
            ),
            (
                r#"{{email.local(regexp.replace(external.email, "alice", "a"))}}"#,
                vec!["a"],
            ),
            (r#"{{regexp.replace(external.teams, "e", "")}}"#, vec!["rd", "blu"]),
            (r#"{{regexp.replace(external.teams, "^red$", "")}}"#, vec![]),
        ] {
            let template = Template::compile(source).unwrap();
            assert_eq!(template.expand(&traits()).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn what_resolves_to_nothing_says_why() {
        for (source, why) in [
            ("{{external.nope}}", "the user has no trait nope"),
            ("{{email.local(external.mixed)}}", "\"no-at-sign\" is no mail address"),
        ] {
            assert_eq!(Template::compile(source).unwrap().expand(&traits()).unwrap_err(), why);
        }
    }

    #[test]
    fn what_does_not_compile() {
        for (source, why) in [
            ("{{", "is no template"),
            ("}}", "is no template"),
            ("}}{{", "is no template"),
            ("a{b{{external.a}}", "without other braces"),
            ("{{external.a}}{{external.b}}", "in the braces"),
            ("{{}}", "at character 1: something is missing"),
            ("{{external}}", "external is not known"),
            ("{{external.a.b}}", "external.a.b is not known"),
            ("{{external.a[\"b\"]}}", "external.a is not known"),
            ("{{external[external.a]}}", "write external[\"any name\"]"),
            ("{{internal.teams}}", "internal.teams is not known"),
            ("{{internal.window_logins}}", "did you mean windows_logins?"),
            ("{{user.name}}", "unknown name user"),
            ("{{\"a\"}}", "only external.name"),
            (
                "{{email.loca(external.a)}}",
                "unknown function email.loca, did you mean email.local?",
            ),
            ("{{email.local()}}", "takes one value"),
            ("{{regexp.replace(external.a, \"b\")}}", "a value and two strings"),
            (
                "{{regexp.replace(external.a, external.b, \"c\")}}",
                "a value and two strings",
            ),
            ("{{regexp.replace(external.a, \"(\", \"c\")}}", "bad regex"),
            ("{{external.a == \"b\"}}", "only external.name"),
        ] {
            let error = Template::compile(source).unwrap_err();
            assert!(error.contains(why), "{source}: {error}");
        }
    }
}
