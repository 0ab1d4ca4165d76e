//! May this user open this login on this desktop?

use deskreel_config::LockingMode;
use serde::Serialize;

use crate::login::Asked;
use crate::rows::{Outcome, Rows};
use crate::subject::{BoundSide, DesktopMatch, RoleOnDesktop, Subject};
use crate::{
    AccessRequest, Cluster, Decision, DesktopFacts, Locks, Match, RoleMatch, RoleSet, SideMatch, Verdict, digest,
    options, recording,
};

/// Decides, totally and deterministically: equal inputs give equal bytes. Nothing is read but the arguments.
#[must_use]
pub fn evaluate(roles: &RoleSet, cluster: &Cluster, locks: &Locks, request: &AccessRequest) -> Decision {
    let subject = Subject::new(roles, cluster, locks, request);
    let desktop = request.desktop.as_ref();
    let on_desktop = desktop.map(|desktop| subject.on_desktop(desktop)).unwrap_or_default();
    let outcome = Rows::new(&subject).outcome(desktop, &on_desktop, request.login.as_deref());

    let compiled = subject.compiled_roles();
    let mut decision = Decision {
        verdict: Verdict::Deny,
        reason: None,
        message: String::new(),
        why: String::new(),
        user: request.user.name.clone(),
        identity: request.identity,
        roles: subject.role_names.clone(),
        desktop: desktop.map(|desktop| desktop.name.clone()),
        login: request.login.clone(),
        logins: Vec::new(),
        recording: recording::nothing(Vec::new()),
        rights: options::no_rights(),
        limits: subject.limits.clone(),
        matched: matched(&subject, &on_desktop, request),
        warnings: warnings(&subject),
        inputs_digest: inputs_digest(roles, cluster, locks, request),
        evaluated_at: request.now,
    };
    // told whatever the verdict: who asks why something is not recorded may be asking of a session that is not allowed
    let votes = recording::votes(&cluster.recording, &compiled, subject.implicit, desktop);
    match outcome {
        Outcome::Allow(pass) => {
            let opening = pass.roles.iter().filter_map(|index| compiled.get(*index));
            let opening: Vec<_> = opening.map(|role| role.name.as_str()).collect();
            decision.verdict = Verdict::Allow;
            decision.why = format!("opened by {}", opening.join(", "));
            decision.login = Some(pass.login);
            decision.recording = recording::merge(&cluster.recording, votes);
            decision.rights = options::rights(&compiled);
        }
        Outcome::NeedLogin(logins) => {
            decision.verdict = Verdict::NeedLogin;
            decision.why = format!("the login is not known yet: {} can be chosen", logins.len());
            decision.logins = logins;
            decision.recording = recording::nothing(votes);
        }
        Outcome::Deny(denial) => {
            decision.recording = recording::nothing(votes);
            decision.reason = Some(denial.reason);
            decision.message = denial.message;
            decision.why = denial.why;
        }
    }
    decision
}

/// What a user may reach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reachable {
    /// Index of the desktop in the list that was given.
    pub index: usize,
    /// Name of the desktop.
    pub desktop: String,
    /// Accounts that evaluate to allow, sorted; never empty.
    pub logins: Vec<String>,
}

/// Those of `desktops` on which the user of `request` has some allowed login, in their order. Desktop and login of the
/// request don't count. For lists: far cheaper than one [`evaluate`] for each.
#[must_use]
pub fn reachable<'d>(
    roles: &RoleSet,
    cluster: &Cluster,
    locks: &Locks,
    request: &AccessRequest,
    desktops: impl IntoIterator<Item = &'d DesktopFacts>,
) -> Vec<Reachable> {
    let subject = Subject::new(roles, cluster, locks, request);
    let rows = Rows::new(&subject);
    let reach = |(index, desktop): (usize, &DesktopFacts)| match rows.outcome(
        Some(desktop),
        &subject.on_desktop(desktop),
        None,
    ) {
        Outcome::NeedLogin(logins) => Some(Reachable {
            index,
            desktop: desktop.name.clone(),
            logins,
        }),
        Outcome::Allow(_) | Outcome::Deny(_) => None,
    };
    desktops.into_iter().enumerate().filter_map(reach).collect()
}

fn warnings(subject: &Subject<'_>) -> Vec<String> {
    let mut warnings = Vec::new();
    if subject.stale && subject.limits.lock_mode == LockingMode::BestEffort {
        warnings
            .push("the view of locks is older than access.lock_stale_max; lock mode best_effort goes on".to_owned());
    }
    warnings
}

fn matched(subject: &Subject<'_>, on_desktop: &[RoleOnDesktop<'_>], request: &AccessRequest) -> Vec<RoleMatch> {
    let asked = request
        .login
        .as_deref()
        .map(|login| Asked::new(login, request.desktop.as_ref()));
    let allowed: Vec<_> = asked
        .iter()
        .flat_map(|asked| &asked.allow)
        .map(|login| login.folded.as_str())
        .collect();
    let denied: Vec<_> = asked.iter().flat_map(|asked| &asked.deny).map(String::as_str).collect();
    let roles = subject.roles.iter().zip(on_desktop);
    let one = |(bound, on_desktop): (&crate::subject::BoundRole<'_>, &RoleOnDesktop<'_>)| RoleMatch {
        role: bound.role.name.clone(),
        allow: side(&on_desktop.allow, &bound.allow, &allowed),
        deny: side(&on_desktop.deny, &bound.deny, &denied),
    };
    roles.map(one).collect()
}

fn side(on_desktop: &DesktopMatch<'_>, bound: &BoundSide<'_>, asked: &[&str]) -> SideMatch {
    let labels = on_desktop.labels.as_ref().map(|labels| match labels {
        Ok(labels) if labels.is_match() => Match::Matched(labels.describe()),
        Ok(labels) => Match::Not(labels.describe()),
        Err(message) => Match::Failed((*message).to_owned()),
    });
    let expression = on_desktop.expression.as_ref().map(|expression| match expression {
        Ok(true) => Match::Matched("true".to_owned()),
        Ok(false) => Match::Not("false".to_owned()),
        Err(message) => Match::Failed(message.clone()),
    });
    let login = (bound.has_logins && !asked.is_empty()).then(|| {
        let found = asked
            .iter()
            .find_map(|name| bound.logins.logins.iter().find(|login| login.folded == *name));
        match found {
            Some(login) => Match::Matched(login.written.clone()),
            None if bound.logins.every => Match::Matched("*".to_owned()),
            None => Match::Not("no such login".to_owned()),
        }
    });
    SideMatch {
        labels,
        expression,
        login,
    }
}

/// All inputs, in which the order of what has none does not show.
#[derive(Serialize)]
struct Inputs<'a> {
    roles: &'a str,
    cluster: &'a Cluster,
    locks: &'a Locks,
    request: &'a AccessRequest,
}

fn inputs_digest(roles: &RoleSet, cluster: &Cluster, locks: &Locks, request: &AccessRequest) -> String {
    let (mut cluster, mut locks, mut request) = (cluster.clone(), locks.clone(), request.clone());
    for names in [&mut cluster.claimed_roles, &mut request.user.roles] {
        names.sort();
        names.dedup();
    }
    locks.locks.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    digest::digest(&Inputs {
        roles: roles.digest(),
        cluster: &cluster,
        locks: &locks,
        request: &request,
    })
}
