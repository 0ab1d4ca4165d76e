//! Who a user is: names against passwords and tickets.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use deskreel_policy::{Identity, ProvenBy};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::Shared;
use super::end::{EndReason, Ended};
use super::guard::{Attempt, Blocked};
use super::name::TypedName;
use crate::audit::{Login, LoginVia, SessionAudit};
use crate::credentials::{Candidate, Credentials, Proof, Ticket};

/// Passwords that are checked at once: argon2 takes 19 MiB and a core for some tens of milliseconds.
pub(super) const CHECKS_MAX: usize = 4;

/// A user whose name is proven.
#[derive(Debug)]
pub(super) struct Proven {
    /// How.
    pub(super) identity: Identity,
    /// The ticket, if it was one. It is used up.
    pub(super) ticket: Option<Ticket>,
}

/// Whether anybody has a password or a ticket.
///
/// # Errors
/// [`EndReason::Internal`]
pub(super) async fn anybody(shared: &Shared) -> Result<bool, Ended> {
    with_store(shared, Credentials::any).await
}

/// What all of `user`'s answers are checked against.
///
/// # Errors
/// [`EndReason::Internal`]
pub(super) async fn candidates(shared: &Shared, user: &str) -> Result<Vec<Candidate>, Ended> {
    let user = user.to_owned();
    with_store(shared, move |store| store.candidates(&user, OffsetDateTime::now_utc())).await
}

/// What `password` proves of `user` at `address`, and the count of that try: it stands until it is settled.
///
/// # Errors
/// As [`listen`]; [`EndReason::Internal`].
pub(super) async fn check<'a>(
    shared: &'a Shared,
    user: &str,
    address: IpAddr,
    password: &Zeroizing<String>,
) -> Result<(Option<Proof>, Attempt<'a>), Ended> {
    // Err = the gateway is gone
    let _turn = shared.checks.acquire().await;
    let attempt = listen(shared, user, address)?;
    let (user, password) = (user.to_owned(), password.clone());
    let verify = move |store: &Credentials| store.verify(&user, &password, OffsetDateTime::now_utc());
    match with_store(shared, verify).await {
        Ok(proof) => Ok((proof, attempt)),
        Err(ended) => {
            attempt.cancelled();
            Err(ended)
        }
    }
}

/// Takes what was proved for good: the user must be there, and a ticket must lead where the name leads and is used up. The
/// audit log hears of it; of failures it hears when the session is over.
///
/// # Errors
/// [`EndReason::UnknownUser`], [`EndReason::TicketElsewhere`], [`EndReason::TicketGone`].
pub(super) async fn accept(
    shared: &Shared,
    audit: &SessionAudit,
    name: &TypedName,
    proof: Proof,
) -> Result<Proven, Ended> {
    let user = &name.user;
    if !shared.access.view().users.contains_key(user) {
        let detail = format!("there is no user {user:?} any more");
        return Err(Ended::new(EndReason::UnknownUser, detail));
    }
    let proven = |by, word, ticket| {
        audit.login(user, Login::proved(LoginVia::Rdp, word));
        Proven {
            identity: Identity::Proven { by },
            ticket,
        }
    };
    match proof {
        Proof::Password => Ok(proven(ProvenBy::Password, "password", None)),
        Proof::Nobody => Err(Ended::new(
            EndReason::UnknownUser,
            format!("{user:?} has no password here"),
        )),
        Proof::Ticket(ticket) => {
            let other_desktop = name.desktop.as_ref().is_some_and(|desktop| *desktop != ticket.desktop);
            let other_login = name.login.is_some() && ticket.login.is_some() && name.login != ticket.login;
            if other_desktop || other_login {
                let detail = format!("ticket {} of {user} leads to {}", ticket.id, ticket.desktop);
                return Err(Ended::new(EndReason::TicketElsewhere, detail));
            }
            let id = ticket.id.clone();
            if !with_store(shared, move |store| store.take_ticket(&id)).await? {
                let detail = format!("ticket {} of {user} was used or has expired just now", ticket.id);
                return Err(Ended::new(EndReason::TicketGone, detail));
            }
            Ok(proven(ProvenBy::Ticket, "ticket", Some(ticket)))
        }
    }
}

/// Listens to a logon: it counts as failed until it has turned out right.
///
/// # Errors
/// [`EndReason::UserWaits`], [`EndReason::UserBlocked`], [`EndReason::AddressBlocked`]
pub(super) fn listen<'a>(shared: &'a Shared, user: &str, address: IpAddr) -> Result<Attempt<'a>, Ended> {
    shared
        .guard
        .listen(user, address, Instant::now())
        .map_err(|blocked| match blocked {
            Blocked::Wait => Ended::new(
                EndReason::UserWaits,
                format!("logons of {user:?} from {address} have failed, the next one comes too soon"),
            ),
            Blocked::User => Ended::new(
                EndReason::UserBlocked,
                format!("too many logons of {user:?} have failed (gateway.logon_failures_max)"),
            ),
            Blocked::Address => address_blocked(address),
        })
}

/// Whether anybody at `address` is listened to.
///
/// # Errors
/// [`EndReason::AddressBlocked`]
pub(super) fn may_try(shared: &Shared, address: IpAddr) -> Result<(), Ended> {
    if shared.guard.is_blocked(address, Instant::now()) {
        return Err(address_blocked(address));
    }
    Ok(())
}

fn address_blocked(address: IpAddr) -> Ended {
    Ended::new(
        EndReason::AddressBlocked,
        format!("too many logons from {address} have failed (gateway.logon_failures_per_address_max)"),
    )
}

/// Runs what blocks elsewhere.
pub(super) async fn with_store<T: Send + 'static>(
    shared: &Shared,
    work: impl FnOnce(&Credentials) -> anyhow::Result<T> + Send + 'static,
) -> Result<T, Ended> {
    let store = Arc::clone(&shared.credentials);
    let done = tokio::task::spawn_blocking(move || work(&store)).await;
    done.map_err(anyhow::Error::from)
        .and_then(|done| done)
        .map_err(|error| {
            Ended::new(
                EndReason::Internal,
                format!("look for passwords and tickets: {error:#}"),
            )
        })
}
