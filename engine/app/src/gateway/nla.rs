//! A client's logon by CredSSP, from its first TSRequest until the gateway has let it in or not. The desktop is not
//! contacted before.

use time::OffsetDateTime;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use zeroize::Zeroizing;

use deskreel_policy::Reason;

use super::Shared;
use super::credssp::server::{ClientName, CredsspError, Delegated, NtHash, Server, Step};
use super::credssp::{early, read_message, status};
use super::end::{EndReason, Ended};
use super::guard::Attempt;
use super::handshake::linger;
use super::judge::{Asked, Judged, Refusal, judge};
use super::name::TypedName;
use super::prove;
use super::session::{Account, Admitted};
use crate::access::Desktop;
use crate::credentials::{Candidate, Proof};

/// More messages than any client needs.
const ROUNDS_MAX: usize = 8;
/// A name with domain, desktop and login: longer ones belong to nobody, and they would stand in the log.
const NAME_MAX_BYTES: usize = 1024;

/// What was settled before the client said who it is.
pub(super) struct Offer<'a> {
    /// The listener's desktop: no other may be named.
    pub(super) bound: Option<&'a str>,
    /// The desktop if the name says none.
    pub(super) otherwise: Option<&'a str>,
    /// The client waits for an early user authorization result.
    pub(super) early_result: bool,
}

/// A client that may go on.
pub(super) struct Passed {
    /// What was decided.
    pub(super) judged: Judged,
    /// Where it goes.
    pub(super) desktop: Desktop,
    /// The password that the client has delegated, if it is the user's own and not a ticket's.
    pub(super) own: Option<Zeroizing<String>>,
}

/// What the gateway says to a client that has proved who it is.
type Verdict = Result<(Judged, Desktop), Refusal>;

/// The logon of one client.
struct Logon<'a, S> {
    shared: &'a Shared,
    admitted: &'a Admitted,
    stream: &'a mut S,
    offer: &'a Offer<'a>,
    account: &'a mut Account,
    server: Server,
    /// The CredSSP exchange is over.
    exchanged: bool,
}

/// Lets a client log on. What fails is told to the client.
///
/// # Errors
/// Why it was not let in.
pub(super) async fn log_on<S: AsyncRead + AsyncWrite + Unpin>(
    admitted: &Admitted,
    stream: &mut S,
    public_key: Vec<u8>,
    offer: &Offer<'_>,
    account: &mut Account,
) -> Result<Passed, Ended> {
    let mut logon = Logon {
        shared: &admitted.shared,
        admitted,
        stream,
        offer,
        account,
        server: Server::new(public_key),
        exchanged: false,
    };
    let refusal = match logon.run().await {
        Ok(passed) => return Ok(passed),
        Err(refusal) => refusal,
    };
    let ended = refusal.ended();
    if let Some(status) = status_of(ended.reason) {
        // after the exchange the client reads the early result and nothing else
        let told = logon.server.refuse(status).filter(|_| !logon.exchanged);
        let result = early_result(offer, early::ACCESS_DENIED);
        let words: Vec<&[u8]> = told
            .iter()
            .map(|told| told.as_slice())
            .chain(result.as_ref().map(<[u8; 4]>::as_slice))
            .collect();
        linger(logon.stream, &words).await;
    }
    Err(ended)
}

/// The early user authorization result, if the client waits for one.
pub(super) fn early_result(offer: &Offer<'_>, result: u32) -> Option<[u8; 4]> {
    offer.early_result.then(|| result.to_le_bytes())
}

/// What a refused client is told; `None` = it is gone. Whether a name exists, what its password is and what it may do
/// look alike.
fn status_of(reason: EndReason) -> Option<u32> {
    match reason {
        EndReason::ClientLogonAborted => None,
        // of a decision only who has proved the name learns
        EndReason::Locked | EndReason::LockViewStale | EndReason::Denied(Reason::UserLocked) => {
            Some(status::ACCOUNT_LOCKED_OUT)
        }
        EndReason::TooManyOfUser | EndReason::Denied(Reason::MfaUnavailable | Reason::DeviceTrustUnavailable) => {
            Some(status::ACCOUNT_RESTRICTION)
        }
        _ => Some(status::LOGON_FAILURE),
    }
}

/// A client that has said who it is, and has yet to prove it. Unless it does, the attempt counts as a failure.
struct Named<'a> {
    name: TypedName,
    candidates: Vec<Candidate>,
    attempt: Attempt<'a>,
}

impl<'a, S: AsyncRead + AsyncWrite + Unpin> Logon<'a, S> {
    async fn run(&mut self) -> Result<Passed, Refusal> {
        let mut named: Option<Named<'_>> = None;
        let mut decided: Option<(Verdict, bool)> = None;
        for _ in 0..ROUNDS_MAX {
            let message = read_message(self.stream).await.map_err(|error| aborted(&error))?;
            let mut step = match (self.server.process(&message), &named) {
                (Ok(step), _) => step,
                // a client may prove itself one message after it has named itself: a wrong password shows here too, and counts
                (Err(error), Some(named)) => return Err(self.denied(named, &error)),
                (Err(error), None) => return Err(failed(&error)),
            };
            if let Step::Named(name) = step {
                let is = self.named(&name).await?;
                let secrets: Vec<NtHash> = is.candidates.iter().map(|candidate| candidate.hash.clone()).collect();
                step = match self.server.verify(&secrets) {
                    Ok(step) => step,
                    Err(error) => return Err(self.denied(&is, &error)),
                };
                named = Some(is);
            }
            match step {
                Step::Reply(reply) => self.send(&reply).await?,
                Step::Proven(index) => {
                    let is = named.take().ok_or_else(|| failed(&CredsspError::Denied))?;
                    let candidate = is.candidates.into_iter().nth(index);
                    let candidate = candidate.ok_or_else(|| failed(&CredsspError::Denied))?;
                    if candidate.proof != Proof::Nobody {
                        is.attempt.succeeded();
                    }
                    let is_password = candidate.proof == Proof::Password;
                    let judged = self.judge(is.name, candidate.proof).await;
                    // only with an early result the client learns of a refusal by roles after the exchange
                    let judged = match judged {
                        Err(refusal) if !self.offer.early_result => return Err(refusal),
                        judged => judged,
                    };
                    decided = Some((judged, is_password));
                    let reply = self.server.confirm().map_err(|error| failed(&error))?;
                    self.send(&reply).await?;
                }
                Step::Finished(Delegated { password }) => {
                    self.exchanged = true;
                    let (judged, is_password) = decided.ok_or_else(|| failed(&CredsspError::Denied))?;
                    let (judged, desktop) = judged?;
                    return Ok(Passed {
                        judged,
                        desktop,
                        own: is_password.then_some(password),
                    });
                }
                Step::Named(_) => return Err(failed(&CredsspError::Denied)),
            }
        }
        Err(failed(&CredsspError::Protocol("it never comes to an end".to_owned())))
    }

    /// The client has said who it is.
    async fn named(&mut self, name: &ClientName) -> Result<Named<'a>, Refusal> {
        let shared = self.shared;
        let bytes = name.user.len() + name.domain.as_ref().map_or(0, String::len);
        if bytes > NAME_MAX_BYTES {
            return Err(failed(&CredsspError::Protocol(format!("a user name of {bytes} bytes"))));
        }
        let name = TypedName::parse(&name.user, name.domain.as_deref());
        self.account.user.clone_from(&name.user);
        if let Some(desktop) = name.desktop.as_deref().or(self.offer.bound).or(self.offer.otherwise) {
            desktop.clone_into(&mut self.account.desktop);
        }
        let attempt = prove::listen(shared, &name.user, self.admitted.peer.ip())?;
        match prove::candidates(shared, &name.user).await {
            Ok(candidates) => Ok(Named {
                name,
                candidates,
                attempt,
            }),
            Err(ended) => {
                attempt.cancelled();
                Err(ended.into())
            }
        }
    }

    fn denied(&self, named: &Named<'_>, error: &CredsspError) -> Refusal {
        if *error != CredsspError::Denied {
            return failed(error);
        }
        let shared = self.shared;
        let Named { name, candidates, .. } = named;
        let knows = candidates.iter().any(|candidate| candidate.proof != Proof::Nobody);
        let is_user = shared.access.view().users.contains_key(&name.user);
        let (reason, detail) = if knows && is_user {
            (EndReason::WrongPassword, format!("{:?}: {error}", name.user))
        } else if is_user {
            (
                EndReason::UnknownUser,
                format!("{:?} has neither a password nor a ticket", name.user),
            )
        } else {
            (EndReason::UnknownUser, format!("there is no user {:?}", name.user))
        };
        Ended::new(reason, detail).into()
    }

    /// The client has proved who it is: may it go where it wants to?
    async fn judge(&mut self, mut name: TypedName, proof: Proof) -> Result<(Judged, Desktop), Refusal> {
        let shared = self.shared;
        let bound = self.offer.bound;
        if let (Some(bound), Some(wanted)) = (bound, name.desktop.as_deref())
            && bound != wanted
        {
            let detail = format!("{} asks for {wanted:?}, but the listener leads to {bound:?}", name.user);
            return Err(Ended::new(EndReason::OtherDesktop, detail).into());
        }
        name.desktop = bound.map(str::to_owned).or(name.desktop);
        if let Some(handover) = self.admitted.handover.get() {
            handover.is_for(&name.user)?;
        }
        let proven = prove::accept(shared, &self.admitted.audit, &name, proof).await?;
        if let Some(ticket) = proven.ticket {
            name.desktop = Some(ticket.desktop);
            name.login = ticket.login.or(name.login);
        }
        let desktop = name.desktop.clone().or_else(|| self.offer.otherwise.map(str::to_owned));
        let Some(desktop) = desktop else {
            let detail = format!("{} named no desktop and gateway.default_desktop is not set", name.user);
            return Err(Ended::new(EndReason::DesktopNotNamed, detail).into());
        };
        self.account.desktop.clone_from(&desktop);
        let view = shared.access.view();
        let resource = view.desktop(&desktop, OffsetDateTime::now_utc()).cloned();
        let asked = Asked {
            own_login: name.own_login(),
            user: name.user,
            identity: proven.identity,
            login: name.login,
            source: self.admitted.peer.ip(),
            leaves: false,
        };
        let judged = judge(shared, &view, &asked, &desktop, resource.as_ref())?;
        match resource {
            Some(resource) => Ok((judged, resource)),
            None => Err(Ended::new(EndReason::DesktopUnknown, format!("no desktop is named {desktop:?}")).into()),
        }
    }

    async fn send(&mut self, message: &[u8]) -> Result<(), Refusal> {
        self.stream.write_all(message).await.map_err(|error| aborted(&error))?;
        self.stream.flush().await.map_err(|error| aborted(&error))
    }
}

fn aborted(error: &std::io::Error) -> Refusal {
    let reason = match error.kind() {
        std::io::ErrorKind::InvalidData => EndReason::ClientLogonInvalid,
        _ => EndReason::ClientLogonAborted,
    };
    Ended::new(reason, format!("CredSSP with the client: {error}")).into()
}

fn failed(error: &CredsspError) -> Refusal {
    let reason = match error {
        CredsspError::Protocol(_) => EndReason::ClientLogonInvalid,
        CredsspError::Denied => EndReason::WrongPassword,
    };
    Ended::new(reason, error.to_string()).into()
}
