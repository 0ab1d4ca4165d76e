//! Who asks: the user that counts, its roles with templates filled in, the locks in force. Made once for a request,
//! then asked about any number of desktops.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use deskreel_config::{ClaimedIdentity, Lock};
use time::OffsetDateTime;

use crate::expression::{Expression, Facts};
use crate::labels::{BoundLabels, LabelMatch, LabelView};
use crate::limits::ROLES_PER_USER_MAX;
use crate::login::{BoundLogins, split};
use crate::roles::{CompiledRole, Side};
use crate::standing::{role_names, standing};
use crate::template::Traits;
use crate::{
    AccessRequest, Cluster, DesktopFacts, Identity, Limits, Locks, Reason, RoleSet, UserFacts, locks, options,
};

pub(crate) struct Subject<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) request: &'a AccessRequest,
    /// The user that counts: for a claimed name, what the cluster grants such names.
    pub(crate) user: Cow<'a, UserFacts>,
    /// What locks may call the user, if the name is merely claimed.
    pub(crate) claimed: Vec<String>,
    /// Why the user does not count.
    pub(crate) standing: Option<(Reason, String)>,
    /// Names of all roles, sorted, each once.
    pub(crate) role_names: Vec<String>,
    /// Those that exist, in the order of names.
    pub(crate) roles: Vec<BoundRole<'a>>,
    pub(crate) implicit: &'a CompiledRole,
    pub(crate) locks: Vec<&'a Lock>,
    /// The view of locks is outdated.
    pub(crate) stale: bool,
    pub(crate) limits: Limits,
}

/// A role for one user.
pub(crate) struct BoundRole<'a> {
    pub(crate) role: &'a CompiledRole,
    pub(crate) allow: BoundSide<'a>,
    pub(crate) deny: BoundSide<'a>,
}

pub(crate) struct BoundSide<'a> {
    labels: Option<Result<BoundLabels<'a>, &'a str>>,
    expression: Option<&'a Result<Expression, String>>,
    pub(crate) logins: Cow<'a, BoundLogins>,
    pub(crate) has_logins: bool,
}

/// How one side of a role stands to a desktop. `None` = it has no such matcher.
pub(crate) struct DesktopMatch<'s> {
    pub(crate) labels: Option<Result<LabelMatch<'s>, &'s str>>,
    pub(crate) expression: Option<Result<bool, String>>,
}

/// Both sides of a role.
pub(crate) struct RoleOnDesktop<'s> {
    pub(crate) allow: DesktopMatch<'s>,
    pub(crate) deny: DesktopMatch<'s>,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(set: &'a RoleSet, cluster: &'a Cluster, locks: &'a Locks, request: &'a AccessRequest) -> Self {
        let claimed = request.identity == Identity::Claimed && cluster.claimed_identity == ClaimedIdentity::Allow;
        let user = match claimed {
            true => Cow::Owned(claimed_user(&request.user.name, cluster)),
            false => Cow::Borrowed(&request.user),
        };
        let standing = match claimed {
            true => role_names(&user.roles, &user.name, set),
            false => standing(&user, set, request.now),
        };
        let names: BTreeSet<&String> = user.roles.iter().collect();
        let compiled = names.iter().filter_map(|name| set.role(name)).take(ROLES_PER_USER_MAX);
        let roles: Vec<_> = compiled.map(|role| BoundRole::new(role, &user.traits)).collect();
        let role_names = names.into_iter().cloned().collect();
        let plain: Vec<_> = roles.iter().map(|bound| bound.role).collect();
        Self {
            cluster,
            request,
            claimed: locks::claimed(&user.name, request.identity),
            standing,
            role_names,
            implicit: set.implicit(),
            locks: locks.in_force(request.now).collect(),
            stale: locks.is_stale(cluster, request.now),
            limits: options::limits(cluster, &plain),
            roles,
            user,
        }
    }

    pub(crate) fn compiled_roles(&self) -> Vec<&'a CompiledRole> {
        self.roles.iter().map(|bound| bound.role).collect()
    }

    /// How each role stands to a desktop, in the order of [`Subject::roles`].
    pub(crate) fn on_desktop(&self, desktop: &DesktopFacts) -> Vec<RoleOnDesktop<'_>> {
        let labels = LabelView::new(&desktop.labels);
        let on_desktop = |bound| BoundRole::on_desktop(bound, &self.user, desktop, &labels, self.request.now);
        self.roles.iter().map(on_desktop).collect()
    }
}

/// The roles of every claimed name, whether or not a user of that name exists; the name is its only login.
fn claimed_user(name: &str, cluster: &Cluster) -> UserFacts {
    let mut logins = vec![name.to_owned()];
    logins.extend(split(name).map(|(user, _)| user.to_owned()));
    UserFacts {
        name: name.to_owned(),
        roles: cluster.claimed_roles.clone(),
        traits: BTreeMap::from([("windows_logins".to_owned(), logins)]),
        exists: true,
        ..UserFacts::default()
    }
}

impl<'a> BoundRole<'a> {
    pub(crate) fn new(role: &'a CompiledRole, traits: &Traits) -> Self {
        Self {
            role,
            allow: BoundSide::new(&role.allow, traits),
            deny: BoundSide::new(&role.deny, traits),
        }
    }

    /// How it stands to a desktop, whose `labels` are ready to be looked up, for `user`.
    pub(crate) fn on_desktop(
        &self,
        user: &UserFacts,
        desktop: &DesktopFacts,
        labels: &LabelView<'_>,
        now: OffsetDateTime,
    ) -> RoleOnDesktop<'_> {
        let facts = Facts {
            user: Some(user),
            labels: Some(&desktop.labels),
            session: None,
            object: None,
            now,
        };
        RoleOnDesktop {
            allow: self.allow.on_desktop(&facts, labels),
            deny: self.deny.on_desktop(&facts, labels),
        }
    }
}

impl<'a> BoundSide<'a> {
    fn new(side: &'a Side, traits: &Traits) -> Self {
        let labels = side.labels.as_ref();
        Self {
            labels: labels.map(|labels| match labels {
                Ok(matcher) => Ok(matcher.bind(traits)),
                Err(message) => Err(message.as_str()),
            }),
            expression: side.expression.as_ref(),
            logins: side.logins.bind(traits),
            has_logins: side.has_logins,
        }
    }

    fn on_desktop(&self, facts: &Facts<'_>, labels: &LabelView<'_>) -> DesktopMatch<'_> {
        DesktopMatch {
            labels: self.labels.as_ref().map(|matcher| match matcher {
                Ok(matcher) => Ok(matcher.matches(labels)),
                Err(message) => Err(*message),
            }),
            expression: self.expression.map(|expression| match expression {
                Ok(expression) => expression.holds(facts),
                Err(message) => Err(message.clone()),
            }),
        }
    }
}

impl DesktopMatch<'_> {
    /// As allow: labels and expression, those it has; it needs one.
    pub(crate) fn opens(&self) -> bool {
        let labels = self
            .labels
            .as_ref()
            .is_none_or(|labels| labels.is_ok_and(LabelMatch::is_match));
        let expression = self
            .expression
            .as_ref()
            .is_none_or(|expression| *expression == Ok(true));
        (self.labels.is_some() || self.expression.is_some()) && labels && expression
    }

    /// As deny: labels or expression; what fails, matches.
    pub(crate) fn closes(&self) -> bool {
        let labels = self
            .labels
            .as_ref()
            .is_some_and(|labels| labels.is_ok_and(LabelMatch::is_match) || labels.is_err());
        labels
            || self
                .expression
                .as_ref()
                .is_some_and(|expression| *expression != Ok(false))
    }
}
