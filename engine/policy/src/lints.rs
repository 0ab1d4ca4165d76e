//! Lints that need more than one resource: roles that open or close nothing.

use time::OffsetDateTime;

use crate::labels::{LabelMatcher, LabelView};
use crate::roles::CompiledRole;
use crate::subject::{BoundRole, RoleOnDesktop};
use crate::{DesktopFacts, Problem, RoleSet, Severity, UserFacts};

/// Roles that match no desktop or no login, given all users and desktops, in the order of names. A role that depends on
/// its user (template, expression) is asked for the users that have it, and left out if nobody has.
#[must_use]
pub fn unused(roles: &RoleSet, users: &[UserFacts], desktops: &[DesktopFacts], now: OffsetDateTime) -> Vec<Problem> {
    let nobody = [UserFacts::default()];
    let mut problems = Vec::new();
    for role in roles.roles().filter(|role| !role.preset) {
        let depends = |side: &crate::roles::Side| {
            let labels = side
                .labels
                .as_ref()
                .is_some_and(|labels| labels.as_ref().is_ok_and(LabelMatcher::is_templated));
            labels || side.expression.is_some() || side.logins.is_templated()
        };
        let having: Vec<_> = match depends(&role.allow) || depends(&role.deny) {
            true => users.iter().filter(|user| user.roles.contains(&role.name)).collect(),
            false => nobody.iter().collect(),
        };
        if !having.is_empty() {
            check(role, &having, desktops, now, &mut problems);
        }
    }
    problems
}

fn check(
    role: &CompiledRole,
    users: &[&UserFacts],
    desktops: &[DesktopFacts],
    now: OffsetDateTime,
    problems: &mut Vec<Problem>,
) {
    let mut find = |path: &str, message: &str| {
        problems.push(Problem {
            role: role.name.clone(),
            path: path.to_owned(),
            severity: Severity::Lint,
            message: message.to_owned(),
        });
    };
    let bound: Vec<_> = users
        .iter()
        .map(|user| (*user, BoundRole::new(role, &user.traits)))
        .collect();
    let on_any = |matches: fn(&RoleOnDesktop<'_>) -> bool| {
        let on_desktop = |desktop: &DesktopFacts| {
            let labels = LabelView::new(&desktop.labels);
            let mut bound = bound.iter();
            bound.any(|(user, bound)| matches(&bound.on_desktop(user, desktop, &labels, now)))
        };
        desktops.is_empty() || desktops.iter().any(on_desktop)
    };
    let (allow, deny) = (role.allow.selects_desktops(), role.deny.selects_desktops());
    if allow && !on_any(|role| role.allow.opens()) {
        find("spec.allow", "the role opens no desktop that there is");
    }
    if deny && !on_any(|role| role.deny.closes()) {
        find("spec.deny", "the role denies no desktop that there is");
    }
    let path = "spec.allow.windows_desktop_logins";
    if !allow && role.allow.has_logins {
        find(
            path,
            "logins without labels or expression in the same role open nothing",
        );
    } else if allow && !role.allow.has_logins {
        find(path, "the role selects desktops but has no login: it opens nothing");
    } else if allow && bound.iter().all(|(_, bound)| bound.allow.logins.logins.is_empty()) {
        find(
            path,
            "the logins come to nothing for every user of the role: it opens nothing",
        );
    }
    let denies =
        |(_, bound): &(&UserFacts, BoundRole<'_>)| bound.deny.logins.every || !bound.deny.logins.logins.is_empty();
    if role.deny.has_logins && !bound.iter().any(denies) {
        find(
            "spec.deny.windows_desktop_logins",
            "the logins come to nothing for every user of the role: it denies none",
        );
    }
}
