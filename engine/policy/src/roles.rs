//! Roles, compiled.

use std::collections::BTreeMap;
use std::sync::Arc;

use deskreel_config::{LockingMode, Role, RoleConditions, RoleOptions};

use crate::expression::{Expression, Scope};
use crate::labels::LabelMatcher;
use crate::login::LoginMatcher;
use crate::presets::{IMPLICIT_ROLE, implicit, presets};
use crate::rules::CompiledRule;
use crate::{Problem, Severity, digest, options};

/// Compiled roles by name: the caller's, the presets that it does not override, and the implicit role. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RoleSet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    roles: BTreeMap<String, CompiledRole>,
    implicit: CompiledRole,
    digest: String,
}

/// One role, ready to be evaluated.
#[derive(Debug)]
pub(crate) struct CompiledRole {
    pub(crate) name: String,
    pub(crate) allow: Side,
    pub(crate) deny: Side,
    pub(crate) options: RoleOptions,
    /// It is one of ours, not the operator's.
    pub(crate) preset: bool,
}

/// `spec.allow` or `spec.deny`.
#[derive(Debug)]
pub(crate) struct Side {
    /// `None` = there are no keys; an error if a key or value can't be read.
    pub(crate) labels: Option<Result<LabelMatcher, String>>,
    pub(crate) expression: Option<Result<Expression, String>>,
    pub(crate) logins: LoginMatcher,
    pub(crate) has_logins: bool,
    pub(crate) rules: Vec<CompiledRule>,
}

impl Default for RoleSet {
    /// The presets and the implicit role.
    fn default() -> Self {
        Self::compile([]).0
    }
}

impl RoleSet {
    /// Compiles roles, and says all that is wrong with them, in the order of names and paths. A role with an error is
    /// in the set all the same: what can't be read in its allow grants nothing, in its deny it matches everything.
    pub fn compile<'a>(roles: impl IntoIterator<Item = &'a Role>) -> (Self, Vec<Problem>) {
        let mut problems = Vec::new();
        let mut compiled = BTreeMap::new();
        let mut digests = BTreeMap::new();
        for role in roles {
            let name = &role.metadata.name;
            let mut one = CompiledRole::compile(role, &mut problems);
            let twice = compiled.contains_key(name);
            if twice || name == IMPLICIT_ROLE {
                let message = if twice {
                    "there are two roles of this name"
                } else {
                    "the name is reserved"
                };
                problems.push(problem(name, "metadata.name", Severity::Error, message));
                one.close(message);
            }
            digests.insert(name.clone(), if twice { String::new() } else { digest_of(role) });
            compiled.insert(name.clone(), one);
        }
        let mut none = Vec::new();
        for preset in presets() {
            let name = &preset.metadata.name;
            if !compiled.contains_key(name) {
                digests.insert(name.clone(), digest_of(&preset));
                let mut one = CompiledRole::compile(&preset, &mut none);
                one.preset = true;
                compiled.insert(name.clone(), one);
            }
        }
        problems.sort();
        problems.dedup();
        let inner = Inner {
            roles: compiled,
            implicit: CompiledRole::compile(&implicit(), &mut none),
            digest: digest::digest(&digests),
        };
        (Self { inner: Arc::new(inner) }, problems)
    }

    /// Names, sorted, presets included, the implicit role not.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.inner.roles.keys().map(String::as_str)
    }

    /// There is a role of this name.
    #[must_use]
    pub fn contains(&self, name: &str) -> bool {
        self.inner.roles.contains_key(name)
    }

    pub(crate) fn role(&self, name: &str) -> Option<&CompiledRole> {
        self.inner.roles.get(name)
    }

    pub(crate) fn roles(&self) -> impl Iterator<Item = &CompiledRole> {
        self.inner.roles.values()
    }

    pub(crate) fn implicit(&self) -> &CompiledRole {
        &self.inner.implicit
    }

    /// Of all roles in the set.
    pub(crate) fn digest(&self) -> &str {
        &self.inner.digest
    }
}

fn problem(role: &str, path: impl Into<String>, severity: Severity, message: impl Into<String>) -> Problem {
    Problem {
        role: role.to_owned(),
        path: path.into(),
        severity,
        message: message.into(),
    }
}

/// Digest of a role in which order and repetition do not show.
fn digest_of(role: &Role) -> String {
    let mut role = role.clone();
    for side in [&mut role.allow, &mut role.deny] {
        for values in side.windows_desktop_labels.values_mut() {
            sort(values);
        }
        sort(&mut side.windows_desktop_logins);
        for rule in &mut side.rules {
            sort(&mut rule.resources);
            sort(&mut rule.verbs);
        }
        side.rules
            .sort_by_cached_key(|rule| digest::canonical(rule).to_string());
        side.rules.dedup();
    }
    digest::digest(&role)
}

fn sort(values: &mut Vec<String>) {
    values.sort();
    values.dedup();
}

impl CompiledRole {
    fn compile(role: &Role, problems: &mut Vec<Problem>) -> Self {
        let name = &role.metadata.name;
        if role.options.lock == Some(LockingMode::BestEffort) {
            let message = "best_effort relaxes the lock mode of every user of this role, even in a strict cluster";
            problems.push(problem(name, "spec.options.lock", Severity::Lint, message));
        }
        for (path, what) in options::unavailable(&role.options) {
            let message =
                format!("this gateway can't check {what} yet, so every session that the role opens is refused");
            problems.push(problem(name, path, Severity::Warning, message));
        }
        Self {
            name: name.clone(),
            allow: Side::compile(name, "spec.allow", &role.allow, problems),
            deny: Side::compile(name, "spec.deny", &role.deny, problems),
            options: role.options.clone(),
            preset: false,
        }
    }

    /// Lets the role deny everything: what it says can't be known.
    fn close(&mut self, why: &str) {
        self.deny.labels = Some(Err(why.to_owned()));
        self.deny.rules = vec![CompiledRule::everything(why)];
    }
}

impl Side {
    fn compile(role: &str, side: &str, conditions: &RoleConditions, problems: &mut Vec<Problem>) -> Self {
        let mut find = |path: String, severity, message: String| {
            problems.push(problem(role, format!("{side}.{path}"), severity, message));
        };
        let (matcher, findings) = LabelMatcher::compile(&conditions.windows_desktop_labels);
        let mut broken = None;
        for finding in findings {
            let key = &finding.key;
            let path = match finding.value {
                Some(index) => format!("windows_desktop_labels.{key}[{index}]"),
                None => format!("windows_desktop_labels.{key}"),
            };
            if finding.is_error {
                broken.get_or_insert_with(|| finding.message.clone());
            }
            let severity = if finding.is_error {
                Severity::Error
            } else {
                Severity::Lint
            };
            find(path, severity, finding.message);
        }
        let labels = match broken {
            Some(message) => Some(Err(message)),
            None => (!conditions.windows_desktop_labels.is_empty()).then_some(Ok(matcher)),
        };
        let expression = conditions.windows_desktop_labels_expression.as_ref().map(|text| {
            Expression::compile(text, Scope::Labels).inspect_err(|message| {
                let path = "windows_desktop_labels_expression".to_owned();
                find(path, Severity::Error, message.clone());
            })
        });
        let in_deny = side == "spec.deny";
        let (logins, findings) = LoginMatcher::compile(&conditions.windows_desktop_logins, in_deny);
        for finding in findings {
            let severity = if finding.is_error {
                Severity::Error
            } else {
                Severity::Warning
            };
            find(
                format!("windows_desktop_logins[{}]", finding.index),
                severity,
                finding.message,
            );
        }
        let rules = conditions.rules.iter().enumerate();
        Self {
            labels,
            expression,
            logins,
            has_logins: !conditions.windows_desktop_logins.is_empty(),
            rules: rules
                .map(|(index, rule)| {
                    CompiledRule::compile(
                        rule,
                        &format!("{side}.rules[{index}]"),
                        &mut |path, severity, message| {
                            problems.push(problem(role, path, severity, message));
                        },
                    )
                })
                .collect(),
        }
    }

    /// It speaks of desktops by labels or by an expression.
    pub(crate) fn selects_desktops(&self) -> bool {
        self.labels.is_some() || self.expression.is_some()
    }
}
