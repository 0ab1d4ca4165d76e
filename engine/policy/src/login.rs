//! Logins: templates of roles, forbidden characters, and the forms in which clients write an account.

use std::borrow::Cow;

use crate::DesktopFacts;
use crate::template::{Template, Traits};
use crate::text::fold;

/// Characters that no Windows account has.
const FORBIDDEN: &[char] = &[
    '"', '/', '\\', '[', ']', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>',
];

/// `windows_desktop_logins` of a role.
#[derive(Debug, Clone)]
pub(crate) enum LoginMatcher {
    /// The same for every user.
    Fixed(BoundLogins),
    /// An entry holds a template.
    Templated {
        entries: Vec<Template>,
        in_deny: bool,
        /// An entry could not be read.
        broken: bool,
    },
}

/// What is wrong or odd with the entry at an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) index: usize,
    pub(crate) message: String,
    pub(crate) is_error: bool,
}

/// A login as a role spells it, and as it compares.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Login {
    pub(crate) folded: String,
    pub(crate) written: String,
}

/// The logins of one role for one user.
#[derive(Debug, Clone, Default)]
pub(crate) struct BoundLogins {
    /// Sorted, each once.
    pub(crate) logins: Vec<Login>,
    /// `*` in deny: every login.
    pub(crate) every: bool,
}

/// Whether an account can have this name.
pub(crate) fn is_possible(login: &str) -> bool {
    !login.is_empty() && !login.contains(FORBIDDEN)
}

impl LoginMatcher {
    pub(crate) fn compile(entries: &[String], in_deny: bool) -> (Self, Vec<Finding>) {
        let (mut templates, mut broken, mut findings) = (Vec::new(), false, Vec::new());
        for (index, entry) in entries.iter().enumerate() {
            let mut find = |message: String, is_error| {
                findings.push(Finding {
                    index,
                    message,
                    is_error,
                });
            };
            match Template::compile(entry) {
                Ok(template) => {
                    let denies_all = in_deny && entry == "*";
                    if matches!(template, Template::Literal(_)) && !denies_all && !is_possible(entry) {
                        find(
                            format!("{entry:?} never matches: an account has none of \"/\\[]:;|=,+*?<>"),
                            false,
                        );
                    }
                    templates.push(template);
                }
                Err(message) => {
                    broken = true;
                    find(message, true);
                }
            }
        }
        let fixed = templates.iter().all(|entry| matches!(entry, Template::Literal(_)));
        let matcher = match fixed {
            true => Self::Fixed(bind(&templates, &Traits::new(), in_deny, broken)),
            false => Self::Templated {
                entries: templates,
                in_deny,
                broken,
            },
        };
        (matcher, findings)
    }

    /// An entry holds a template.
    pub(crate) fn is_templated(&self) -> bool {
        matches!(self, Self::Templated { .. })
    }

    /// The logins for a user with these traits.
    pub(crate) fn bind(&self, traits: &Traits) -> Cow<'_, BoundLogins> {
        match self {
            Self::Fixed(bound) => Cow::Borrowed(bound),
            Self::Templated {
                entries,
                in_deny,
                broken,
            } => Cow::Owned(bind(entries, traits, *in_deny, *broken)),
        }
    }
}

/// An entry of deny that can't be read denies every login.
fn bind(entries: &[Template], traits: &Traits, in_deny: bool, broken: bool) -> BoundLogins {
    let mut bound = BoundLogins {
        logins: Vec::with_capacity(entries.len()),
        every: in_deny && broken,
    };
    for written in entries
        .iter()
        .flat_map(|entry| entry.expand(traits).unwrap_or_default())
    {
        if in_deny && written == "*" {
            bound.every = true;
        } else if is_possible(&written) {
            bound.logins.push(Login {
                folded: fold(&written),
                written,
            });
        }
    }
    bound.logins.sort();
    bound.logins.dedup();
    bound
}

/// A login that a client wrote, in the forms that roles are asked with, folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// What an allow may name, the most specific first.
    pub(crate) allow: Vec<Login>,
    /// What a deny or a lock may name.
    pub(crate) deny: Vec<String>,
}

impl Asked {
    /// `DOMAIN\user` and `user@DOMAIN` mean `user` where DOMAIN is this desktop's; a deny or lock counts in any case.
    pub(crate) fn new(written: &str, desktop: Option<&DesktopFacts>) -> Self {
        let login = |written: &str| Login {
            folded: fold(written),
            written: written.to_owned(),
        };
        let mut allow = Vec::with_capacity(2);
        let mut deny = vec![fold(written)];
        if let Some((user, domain)) = split(written)
            && is_domain_of(domain, desktop)
        {
            allow.push(login(user));
        }
        allow.push(login(written));
        let mut rest = written;
        while let Some((user, _)) = split(rest) {
            deny.push(fold(user));
            rest = user;
        }
        Self { allow, deny }
    }
}

/// User and domain.
pub(crate) fn split(login: &str) -> Option<(&str, &str)> {
    match login.split_once('\\') {
        Some((domain, user)) => Some((user, domain)),
        None => login.rsplit_once('@'),
    }
}

fn is_domain_of(domain: &str, desktop: Option<&DesktopFacts>) -> bool {
    if domain == "." {
        return true;
    }
    let Some(desktop) = desktop else { return false };
    let full = desktop.domain.as_deref().unwrap_or_default();
    let first = full.split('.').next().unwrap_or_default();
    let domain = fold(domain);
    let same = |name: &str| !name.is_empty() && fold(name) == domain;
    same(&desktop.name) || same(full) || same(first)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::{Asked, LoginMatcher};
    use crate::DesktopFacts;
    use crate::template::Traits;

    #[test]
    fn forms_of_an_account() {
        let desktop = DesktopFacts {
            name: "d-dev".to_owned(),
            domain: Some("corp.example".to_owned()),
            ..DesktopFacts::default()
        };
        let cases: [(&str, &[&str], &[&str]); 12] = [
            ("Root", &["Root"], &["root"]),
            (r".\root", &["root", r".\root"], &[r".\root", "root"]),
            (r"CORP\root", &["root", r"CORP\root"], &[r"corp\root", "root"]),
            (
                r"corp.EXAMPLE\root",
                &["root", r"corp.EXAMPLE\root"],
                &[r"corp.example\root", "root"],
            ),
            (r"D-DEV\root", &["root", r"D-DEV\root"], &[r"d-dev\root", "root"]),
            (
                "root@corp.example",
                &["root", "root@corp.example"],
                &["root@corp.example", "root"],
            ),
            (r"OTHER\root", &[r"OTHER\root"], &[r"other\root", "root"]),
            ("root@other", &["root@other"], &["root@other", "root"]),
            (r"\root", &[r"\root"], &[r"\root", "root"]),
            (
                r"A\B\root@c",
                &[r"A\B\root@c"],
                &[r"a\b\root@c", r"b\root@c", "root@c", "root"],
            ),
            (r"example\root", &[r"example\root"], &[r"example\root", "root"]),
            ("", &[""], &[""]),
        ];
        for (written, allow, deny) in cases {
            let asked = Asked::new(written, Some(&desktop));
            let names: Vec<_> = asked.allow.iter().map(|login| login.written.as_str()).collect();
            assert_eq!(names, allow, "{written}");
            assert_eq!(asked.deny, deny, "{written}");
        }
        let bare = DesktopFacts {
            name: "d".to_owned(),
            ..DesktopFacts::default()
        };
        assert_eq!(Asked::new(r"\root", Some(&bare)).allow.len(), 1);
        assert_eq!(Asked::new(r"corp\root", None).allow.len(), 1);
    }

    #[test]
    fn entries() {
        let entries = ["a", "A", "b+c", "*", "{{external.x}}", "{{external.nope}}"].map(str::to_owned);
        let traits = Traits::from([("x".to_owned(), vec!["*".to_owned(), "d".to_owned(), "e/f".to_owned()])]);
        let (matcher, findings) = LoginMatcher::compile(&entries, false);
        assert_eq!(findings.iter().map(|finding| finding.index).collect::<Vec<_>>(), [2, 3]);
        let bound = matcher.bind(&traits);
        let written: Vec<_> = bound.logins.iter().map(|login| login.written.as_str()).collect();
        assert_eq!((written, bound.every), (vec!["A", "a", "d"], false));
        let (matcher, findings) = LoginMatcher::compile(&entries, true);
        assert_eq!(findings.len(), 1);
        assert!(matcher.bind(&traits).every);
        let (matcher, findings) = LoginMatcher::compile(&["{{".to_owned(), "a".to_owned()], true);
        assert!(findings[0].is_error && matcher.bind(&traits).every);
    }
}
