//! Who may go where: from a name, and what proves it, to a decision and to what the desktop is logged on with.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use deskreel_config::{ClaimedIdentity, Credentials, DesktopLogin, WindowsDesktop};
use deskreel_policy::{Decision, Identity, Reason, Verdict};
use deskreel_rdp::phase::{ClientLogon, Selector};
use time::OffsetDateTime;
use tracing::warn;
use zeroize::Zeroizing;

use super::end::{EndReason, Ended};
use super::grant::{Grant, identity_kind};
use super::name::{TypedName, split_domain};
use super::{Shared, prove, secret};
use crate::access::{Ask, Desktop, View};
use crate::audit::SessionAudit;
use crate::credentials::Proof;

/// Who asks, and for what.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// The user's name.
    pub(super) user: String,
    /// Whether that is proven.
    pub(super) identity: Identity,
    /// The account that was named.
    pub(super) login: Option<String>,
    /// The account that the user has by the own name.
    pub(super) own_login: String,
    /// Where the client is.
    pub(super) source: IpAddr,
    /// A session of the same user ends for this one: it doesn't count.
    pub(super) leaves: bool,
}

/// A session that may go on.
#[derive(Debug)]
pub(super) struct Judged {
    /// Who is let in as whom, and what rules the session.
    pub(super) grant: Arc<Grant>,
    /// Where the password for the desktop comes from.
    source: Source,
}

impl Judged {
    /// Whether the desktop is logged on with the password that the user types.
    pub(super) fn takes_own_password(&self) -> bool {
        matches!(self.source, Source::Own)
    }
}

/// Where the password for the desktop comes from.
#[derive(Debug)]
enum Source {
    /// A login of the desktop resource.
    Injected(DesktopLogin),
    /// The user's own, which is the desktop's too.
    Own,
    /// Nowhere: the desktop has to ask.
    Nowhere,
}

/// Whom the desktop is logged on with.
pub(super) struct DesktopAccount {
    /// The account.
    pub(super) login: String,
    /// Its domain.
    pub(super) domain: Option<String>,
    /// Its password; `None` = the desktop has to ask for it.
    pub(super) password: Option<Zeroizing<String>>,
}

impl std::fmt::Debug for DesktopAccount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DesktopAccount")
            .field("login", &self.login)
            .field("domain", &self.domain)
            .finish_non_exhaustive()
    }
}

/// A refusal, and the decision behind it, if it came to one.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) ended: Ended,
    pub(super) decision: Option<Arc<Decision>>,
}

impl Refusal {
    /// The end that a refusal comes to.
    pub(super) fn ended(self) -> Ended {
        match self.decision {
            Some(decision) => self.ended.by(&decision),
            None => self.ended,
        }
    }
}

impl From<Ended> for Refusal {
    fn from(ended: Ended) -> Self {
        Self { ended, decision: None }
    }
}

/// Decides whether `asked` may open a session on the desktop called `name`, which `desktop` is, if it is there.
///
/// # Errors
/// [`EndReason::Denied`] with the reason of policy; [`EndReason::LoginNotNamed`], [`EndReason::LoginWithoutCredentials`].
///
/// All of it goes by `view`, in which `desktop` was found: resources may change meanwhile.
pub(super) fn judge(
    shared: &Shared,
    view: &View,
    asked: &Asked,
    name: &str,
    desktop: Option<&Desktop>,
) -> Result<Judged, Refusal> {
    let credentials = desktop.map(|desktop| &desktop.resource.gateway.credentials);
    let first = match (&asked.login, credentials) {
        (Some(login), _) => Some(login.as_str()),
        (None, Some(Credentials::Logins(logins))) => match logins.as_slice() {
            [only] => Some(only.login.as_str()),
            _ => None,
        },
        (None, _) => Some(asked.own_login.as_str()),
    };
    let mut decision = evaluate(shared, view, asked, name, first);
    if decision.verdict == Verdict::NeedLogin {
        let login = choose(asked, &decision, credentials)?;
        decision = evaluate(shared, view, asked, name, Some(&login));
    }
    let refuse = |ended, decision| Refusal {
        ended,
        decision: Some(Arc::new(decision)),
    };
    let (Verdict::Allow, Some(desktop)) = (decision.verdict, desktop) else {
        let detail = format!("{:?} on {name:?}: {}", asked.user, decision.why);
        return Err(refuse(Ended::new(denied(decision.reason), detail), decision));
    };
    let typed = asked.login.as_deref().unwrap_or(&asked.own_login);
    let (login, source) = match &desktop.resource.gateway.credentials {
        Credentials::Logins(logins) => {
            let wanted = decision.login.clone().unwrap_or_default();
            let found = credentials_for(logins, &wanted, |login| {
                evaluate(shared, view, asked, name, Some(login)).verdict == Verdict::Allow
            });
            let Some(found) = found.filter(|_| asked.identity != Identity::Claimed) else {
                let detail = format!("desktop {name} has no credentials for login {wanted:?}");
                return Err(refuse(Ended::new(EndReason::LoginWithoutCredentials, detail), decision));
            };
            (found.login.clone(), Source::Injected(found.clone()))
        }
        // what the user types for the own name is not what another account takes
        Credentials::Passthrough if is_login(typed, &asked.own_login) => (typed.to_owned(), Source::Own),
        Credentials::Passthrough => (typed.to_owned(), Source::Nowhere),
    };
    for warning in &decision.warnings {
        let count = shared.access.count_warning();
        warn!(user = asked.user, desktop = name, warning, count, "decision");
    }
    let grant = Grant {
        user: asked.user.clone(),
        login,
        labels: desktop.facts.labels.clone(),
        decision,
    };
    Ok(Judged {
        grant: Arc::new(grant),
        source,
    })
}

fn evaluate(shared: &Shared, view: &View, asked: &Asked, name: &str, login: Option<&str>) -> Decision {
    let request = view.request(&Ask {
        user: &asked.user,
        identity: asked.identity,
        desktop: Some(name),
        login,
        source: Some(asked.source),
        now: OffsetDateTime::now_utc(),
        open_sessions: shared
            .registry
            .open_sessions(&asked.user, identity_kind(asked.identity))
            .saturating_sub(asked.leaves.into()),
    });
    view.decide(&request)
}

/// The end of a session that policy denies.
fn denied(reason: Option<Reason>) -> EndReason {
    match reason {
        Some(Reason::IdentityNotProven) => EndReason::IdentityDenied,
        Some(Reason::Locked) => EndReason::Locked,
        Some(Reason::LockViewStale) => EndReason::LockViewStale,
        Some(Reason::TooManySessions) => EndReason::TooManyOfUser,
        Some(reason) => EndReason::Denied(reason),
        None => EndReason::Internal,
    }
}

/// Which of several possible logins it is, if there is only one that makes sense.
fn choose(asked: &Asked, decision: &Decision, credentials: Option<&Credentials>) -> Result<String, Refusal> {
    let refuse = |reason, detail: String| Refusal {
        ended: Ended::new(reason, detail),
        decision: Some(Arc::new(decision.clone())),
    };
    let known: Vec<&String> = match credentials {
        Some(Credentials::Logins(logins)) => {
            let has = |login: &&String| logins.iter().any(|known| is_login(&known.login, login));
            decision.logins.iter().filter(has).collect()
        }
        _ => decision.logins.iter().collect(),
    };
    match known.as_slice() {
        [only] => Ok((*only).clone()),
        [] => Err(refuse(
            EndReason::LoginWithoutCredentials,
            format!(
                "roles allow {:?}, the desktop has credentials for none of them",
                decision.logins
            ),
        )),
        several => match several.iter().find(|login| is_login(login, &asked.own_login)) {
            Some(own) => Ok((*own).clone()),
            None => Err(refuse(
                EndReason::LoginNotNamed,
                format!("{several:?} are possible; name one as user:desktop:login"),
            )),
        },
    }
}

/// The credentials of an allowed login. Those of an account with a domain serve a login without one only if the roles
/// allow the account as it is: another domain's account is another account.
fn credentials_for<'a>(
    logins: &'a [DesktopLogin],
    wanted: &str,
    is_allowed: impl Fn(&str) -> bool,
) -> Option<&'a DesktopLogin> {
    let same = |login: &&DesktopLogin| login.login.to_lowercase() == wanted.to_lowercase();
    let alike = |login: &&DesktopLogin| is_login(&login.login, wanted) && is_allowed(&login.login);
    logins.iter().find(same).or_else(|| logins.iter().find(alike))
}

/// Accounts ignore case, and the domain may stand before either.
fn is_login(a: &str, b: &str) -> bool {
    let (a, b) = (split_domain(a).1, split_domain(b).1);
    a.to_lowercase() == b.to_lowercase()
}

impl Judged {
    /// What the desktop is logged on with. `own` is the password that the client has sent, if it may be used elsewhere.
    ///
    /// # Errors
    /// [`EndReason::SecretUnavailable`]
    pub(super) async fn account(
        &self,
        own: Option<Zeroizing<String>>,
        secret_timeout: Duration,
    ) -> Result<DesktopAccount, Ended> {
        let (domain, login) = split_domain(&self.grant.login);
        let domain = domain.filter(|domain| !domain.is_empty()).map(str::to_owned);
        let password = match &self.source {
            Source::Injected(login) => {
                let fetched = secret::fetch(login.password.clone(), secret_timeout).await;
                let password = fetched.map_err(|error| {
                    let detail = format!("password of login {} is not to be had: {error:#}", login.login);
                    Ended::new(EndReason::SecretUnavailable, detail)
                })?;
                return Ok(DesktopAccount {
                    login: login.login.clone(),
                    domain: login.domain.clone().or(domain),
                    password: Some(password),
                });
            }
            Source::Own => own.filter(|password| !password.is_empty()),
            Source::Nowhere => None,
        };
        Ok(DesktopAccount {
            login: login.to_owned(),
            domain,
            password,
        })
    }
}

/// Decides over a session on a TLS client leg, whose Client Info was held back, and says what goes to the desktop in place
/// of it; `None` = the client's own.
///
/// The desktop was connected to before, as `connected` has it. Where its resource has changed since, nothing of the new one,
/// its password least of all, may reach the old one.
///
/// The password in it is checked against the user's here; where it proves nothing, the name is merely claimed, and it is
/// up to `access.claimed_identity` whether the desktop may be asked.
///
/// # Errors
/// The session may not go on.
pub(super) async fn client_info(
    shared: &Shared,
    audit: &SessionAudit,
    connected: &WindowsDesktop,
    source: IpAddr,
    logon: &ClientLogon,
    selector: Option<&Selector>,
) -> Result<(Arc<Grant>, Option<DesktopAccount>), Refusal> {
    let mut name = TypedName::parse(&logon.user_name, Some(&logon.domain));
    name.desktop = Some(connected.name.clone());
    name.login = selector.and_then(|selector| selector.login.clone());
    let may_claim = shared.access.view().cluster.claimed_identity == ClaimedIdentity::Allow
        && connected.gateway.credentials == Credentials::Passthrough;
    let (identity, is_password) = match proof(shared, &name, source, &logon.password, may_claim).await {
        Ok(Some(proof)) => {
            let is_password = proof == Proof::Password;
            let proven = prove::accept(shared, audit, &name, proof).await?;
            if let Some(ticket) = proven.ticket {
                name.login = ticket.login.or(name.login);
            }
            (proven.identity, is_password)
        }
        // policy says no to a claimed name, if that is what the settings want
        Ok(None) => (Identity::Claimed, true),
        Err(_) if may_claim => (Identity::Claimed, true),
        Err(ended) => return Err(ended.into()),
    };
    // a claimed name's Client Info goes on with the client's own domain, so that is the account that counts
    let login = name.login.clone().map(|login| match split_domain(&login).0 {
        None if identity == Identity::Claimed && !logon.domain.is_empty() => format!("{}\\{login}", logon.domain),
        _ => login,
    });
    let asked = Asked {
        own_login: name.own_login(),
        user: name.user,
        identity,
        login,
        source,
        leaves: false,
    };
    let view = shared.access.view();
    let desktop = view.desktop(&connected.name, OffsetDateTime::now_utc());
    if desktop.is_none_or(|desktop| *desktop.resource != *connected) {
        let detail = format!(
            "desktop {:?} was changed or removed while the client logged on",
            connected.name
        );
        return Err(Ended::new(EndReason::DesktopChanged, detail).into());
    }
    let judged = judge(shared, &view, &asked, &connected.name, desktop)?;
    if identity == Identity::Claimed {
        return Ok((judged.grant, None));
    }
    let own = is_password.then(|| logon.password.clone());
    let account = judged.account(own, shared.secret_timeout).await?;
    Ok((judged.grant, Some(account)))
}

/// What the password of a Client Info proves; `None` = nothing, of a user of whom nothing could be proved. Where no
/// password was sent, nothing was guessed; nor where `may_claim` leaves the check of such a user to the desktop.
async fn proof(
    shared: &Shared,
    name: &TypedName,
    source: IpAddr,
    password: &Zeroizing<String>,
    may_claim: bool,
) -> Result<Option<Proof>, Ended> {
    if password.is_empty() || name.user.is_empty() {
        return Ok(None);
    }
    let (proof, attempt) = prove::check(shared, &name.user, source, password).await?;
    if proof.is_some() {
        attempt.succeeded();
        return Ok(proof);
    }
    let candidates = prove::candidates(shared, &name.user).await?;
    if candidates.iter().all(|candidate| candidate.proof == Proof::Nobody) {
        if may_claim {
            attempt.cancelled();
        }
        return Ok(None);
    }
    let detail = format!("{:?}: the password is wrong", name.user);
    Err(Ended::new(EndReason::WrongPassword, detail))
}

#[cfg(test)]
mod tests {
    use deskreel_config::SecretSource;

    use super::*;

    fn login(login: &str) -> DesktopLogin {
        DesktopLogin {
            login: login.to_owned(),
            domain: None,
            password: SecretSource::Env("NOWHERE".to_owned()),
        }
    }

    #[test]
    fn an_account_of_another_domain_is_another_account() {
        let logins = [login("CORP\\administrator"), login("Administrator"), login("LAB\\root")];
        let found = |wanted, allowed: &[&str]| {
            credentials_for(&logins, wanted, |login| allowed.contains(&login)).map(|found| found.login.as_str())
        };
        assert_eq!(found("administrator", &[]), Some("Administrator"));
        assert_eq!(found("corp\\administrator", &[]), Some("CORP\\administrator"));
        assert_eq!(found("root", &[]), None);
        assert_eq!(found("root", &["LAB\\root"]), Some("LAB\\root"));
        assert_eq!(found("guest", &["LAB\\root"]), None);
    }
}
