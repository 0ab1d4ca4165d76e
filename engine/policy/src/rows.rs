//! The order of checks: the first that applies decides.

use std::collections::BTreeMap;

use deskreel_config::{DeviceTrust, LockingMode, SessionMfa};

use crate::locks;
use crate::login::{Asked, Login};
use crate::subject::{RoleOnDesktop, Subject};
use crate::{DesktopFacts, Reason};

/// What a client learns of most denials: nothing.
const DENIED: &str = "access denied";

/// A denial.
#[derive(Debug, Clone)]
pub(crate) struct Denial {
    pub(crate) reason: Reason,
    /// For the client.
    pub(crate) message: String,
    /// For operators.
    pub(crate) why: String,
}

impl Denial {
    fn silent(reason: Reason, why: String) -> Self {
        Self {
            reason,
            message: DENIED.to_owned(),
            why,
        }
    }

    fn told(reason: Reason, message: String) -> Self {
        Self {
            reason,
            why: message.clone(),
            message,
        }
    }
}

/// An open door.
#[derive(Debug, Clone)]
pub(crate) struct Pass {
    /// The login in the spelling of a role.
    pub(crate) login: String,
    /// Roles that open it, by index.
    pub(crate) roles: Vec<usize>,
}

/// What comes out of the checks.
pub(crate) enum Outcome {
    Allow(Pass),
    NeedLogin(Vec<String>),
    Deny(Denial),
}

/// A subject with its logins in order: who grants which, who denies which.
pub(crate) struct Rows<'s> {
    subject: &'s Subject<'s>,
    /// Folded login to roles by index, each with its spelling.
    granted: BTreeMap<&'s str, Vec<(usize, &'s Login)>>,
    /// Folded login to roles by index.
    denied: BTreeMap<&'s str, Vec<usize>>,
    /// Roles that deny every login.
    deny_all: Vec<usize>,
}

impl<'s> Rows<'s> {
    pub(crate) fn new(subject: &'s Subject<'s>) -> Self {
        let mut rows = Self {
            subject,
            granted: BTreeMap::new(),
            denied: BTreeMap::new(),
            deny_all: Vec::new(),
        };
        for (index, bound) in subject.roles.iter().enumerate() {
            for login in &bound.allow.logins.logins {
                rows.granted.entry(&login.folded).or_default().push((index, login));
            }
            for login in &bound.deny.logins.logins {
                rows.denied.entry(&login.folded).or_default().push(index);
            }
            if bound.deny.logins.every {
                rows.deny_all.push(index);
            }
        }
        rows
    }

    /// All checks. `on_desktop` is how each role stands to the desktop.
    pub(crate) fn outcome(
        &self,
        desktop: Option<&DesktopFacts>,
        on_desktop: &[RoleOnDesktop<'_>],
        login: Option<&str>,
    ) -> Outcome {
        let asked = login.map(|login| Asked::new(login, desktop));
        let logins = asked.as_ref().map(|asked| asked.deny.as_slice()).unwrap_or_default();
        if let Some(denial) = self.before_the_desktop(desktop, logins) {
            return Outcome::Deny(denial);
        }
        let Some(desktop) = desktop else {
            let denial = Denial::silent(Reason::DesktopUnknown, "there is no such desktop".to_owned());
            return Outcome::Deny(denial);
        };
        if let Some(asked) = asked {
            return match self.with_login(desktop, on_desktop, &asked) {
                Ok(pass) => Outcome::Allow(pass),
                Err(denial) => Outcome::Deny(denial),
            };
        }
        self.without_login(desktop, on_desktop)
    }

    /// Rows 1 to 3.
    fn before_the_desktop(&self, desktop: Option<&DesktopFacts>, logins: &[String]) -> Option<Denial> {
        let subject = self.subject;
        let target = locks::Subject {
            user: &subject.user.name,
            claimed: &subject.claimed,
            roles: &subject.role_names,
            desktop: desktop.map(|desktop| desktop.name.as_str()),
            logins,
        };
        for lock in &subject.locks {
            if let Some(hit) = target.hit(lock) {
                return Some(Denial {
                    reason: Reason::Locked,
                    message: locks::message(lock),
                    why: format!("lock {} is in force on {hit}", lock.metadata.name),
                });
            }
        }
        if subject.stale && subject.limits.lock_mode == LockingMode::Strict {
            let message = "access is refused while locks can't be checked".to_owned();
            return Some(Denial::told(Reason::LockViewStale, message));
        }
        if let Some((reason, why)) = &subject.standing {
            return Some(Denial::silent(*reason, why.clone()));
        }
        let proven = subject.request.identity != crate::Identity::Claimed;
        let claims_count = subject.cluster.claimed_identity == deskreel_config::ClaimedIdentity::Allow;
        (!proven && !claims_count).then(|| {
            let why = "the identity is merely claimed, and access.claimed_identity is deny".to_owned();
            Denial::silent(Reason::IdentityNotProven, why)
        })
    }

    /// Rows 5 to 8.
    fn with_login(
        &self,
        desktop: &DesktopFacts,
        on_desktop: &[RoleOnDesktop<'_>],
        asked: &Asked,
    ) -> Result<Pass, Denial> {
        self.deny_labels(desktop, on_desktop)?;
        self.deny_login(asked)?;
        let pass = self.open(desktop, on_desktop, asked)?;
        self.second_factor(&pass)?;
        self.device_trust(&pass)?;
        self.open_sessions()?;
        Ok(pass)
    }

    /// The rows for every login that roles with matching labels grant.
    fn without_login(&self, desktop: &DesktopFacts, on_desktop: &[RoleOnDesktop<'_>]) -> Outcome {
        if let Err(denial) = self.deny_labels(desktop, on_desktop) {
            return Outcome::Deny(denial);
        }
        if !on_desktop.iter().any(|role| role.allow.opens()) {
            return Outcome::Deny(self.no_desktop(desktop));
        }
        let why = format!(
            "no role that opens {} has a login for {}",
            desktop.name, self.subject.user.name
        );
        let mut furthest = Denial::silent(Reason::NoLogin, why);
        let mut first = true;
        let mut logins = Vec::new();
        for grants in self.granted.values() {
            let opening = grants
                .iter()
                .filter(|(index, _)| on_desktop.get(*index).is_some_and(|role| role.allow.opens()));
            let Some(login) = opening.map(|(_, login)| &login.written).min() else {
                continue;
            };
            let asked = Asked::new(login, Some(desktop));
            let locked = self.before_the_desktop(Some(desktop), &asked.deny);
            match locked.map_or_else(|| self.with_login(desktop, on_desktop, &asked), Err) {
                Ok(_) => logins.push(login.clone()),
                Err(denial) if first || denial.reason > furthest.reason => furthest = denial,
                Err(_) => {}
            }
            first = false;
        }
        if logins.is_empty() {
            return Outcome::Deny(furthest);
        }
        logins.sort();
        Outcome::NeedLogin(logins)
    }

    fn name(&self, index: usize) -> &'s str {
        self.subject
            .roles
            .get(index)
            .map(|bound| bound.role.name.as_str())
            .unwrap_or_default()
    }

    /// Row 5 for the desktop.
    fn deny_labels(&self, desktop: &DesktopFacts, on_desktop: &[RoleOnDesktop<'_>]) -> Result<(), Denial> {
        match on_desktop.iter().position(|role| role.deny.closes()) {
            Some(index) => {
                let why = format!("role {} denies desktop {}", self.name(index), desktop.name);
                Err(Denial::silent(Reason::DenyLabels, why))
            }
            None => Ok(()),
        }
    }

    /// Row 5 for the login.
    fn deny_login(&self, asked: &Asked) -> Result<(), Denial> {
        let named = asked
            .deny
            .iter()
            .filter_map(|name| Some((self.denied.get(name.as_str())?.first()?, name)));
        let by_name = named.min().map(|(index, name)| (*index, name.as_str()));
        let Some((index, name)) = by_name.or_else(|| self.deny_all.first().map(|index| (*index, "*"))) else {
            return Ok(());
        };
        let why = format!("role {} denies login {name}", self.name(index));
        Err(Denial::silent(Reason::DenyLogin, why))
    }

    fn no_desktop(&self, desktop: &DesktopFacts) -> Denial {
        let why = format!("no role of {} opens desktop {}", self.subject.user.name, desktop.name);
        Denial::silent(Reason::NoDesktop, why)
    }

    /// Row 6.
    fn open(&self, desktop: &DesktopFacts, on_desktop: &[RoleOnDesktop<'_>], asked: &Asked) -> Result<Pass, Denial> {
        let opens = |index: usize| on_desktop.get(index).is_some_and(|role| role.allow.opens());
        if !(0..on_desktop.len()).any(opens) {
            return Err(self.no_desktop(desktop));
        }
        for form in &asked.allow {
            let grants = self
                .granted
                .get(form.folded.as_str())
                .map(Vec::as_slice)
                .unwrap_or_default();
            let opening: Vec<_> = grants.iter().filter(|(index, _)| opens(*index)).collect();
            let spellings = opening.iter().map(|(_, login)| &login.written);
            if let Some(login) = spellings.min_by_key(|written| (**written != form.written, *written)) {
                let mut roles: Vec<_> = opening.iter().map(|(index, _)| *index).collect();
                roles.dedup();
                return Ok(Pass {
                    login: login.clone(),
                    roles,
                });
            }
        }
        let login = asked.allow.last().map(|form| form.written.as_str()).unwrap_or_default();
        let why = format!(
            "no single role of {} opens both desktop {} and login {login:?}",
            self.subject.user.name, desktop.name
        );
        Err(Denial::silent(Reason::NoLogin, why))
    }

    /// Row 7, MFA.
    fn second_factor(&self, pass: &Pass) -> Result<(), Denial> {
        let verified = self.subject.request.mfa_verified;
        let asks = |index: &&usize| {
            let option = self
                .subject
                .roles
                .get(**index)
                .and_then(|bound| bound.role.options.require_session_mfa);
            match option.unwrap_or(SessionMfa::No) {
                SessionMfa::No => false,
                SessionMfa::Yes => !verified,
                // which factor it was is not known
                _ => true,
            }
        };
        let who = match pass.roles.iter().find(asks) {
            Some(index) => format!("role {}", self.name(*index)),
            None if self.subject.cluster.require_session_mfa && !verified => "access.require_session_mfa".to_owned(),
            None => return Ok(()),
        };
        let message = format!("{who} requires MFA, which this gateway can't check yet");
        Err(Denial::told(Reason::MfaUnavailable, message))
    }

    /// Row 7, device trust.
    fn device_trust(&self, pass: &Pass) -> Result<(), Denial> {
        let asks = |index: &&usize| {
            let option = self
                .subject
                .roles
                .get(**index)
                .and_then(|bound| bound.role.options.device_trust_mode);
            option == Some(DeviceTrust::Required)
        };
        let Some(index) = pass.roles.iter().find(asks) else {
            return Ok(());
        };
        let name = self.name(*index);
        let message = format!("role {name} requires a trusted device, which this gateway can't check yet");
        Err(Denial::told(Reason::DeviceTrustUnavailable, message))
    }

    /// Row 8.
    fn open_sessions(&self) -> Result<(), Denial> {
        let open = self.subject.request.open_sessions;
        match self.subject.limits.sessions_max {
            Some(most) if open >= most => {
                let message = format!("too many sessions: {open} open, {most} allowed");
                Err(Denial::told(Reason::TooManySessions, message))
            }
            _ => Ok(()),
        }
    }
}
