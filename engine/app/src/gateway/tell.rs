//! What the gateway tells the audit log when a session is over or was refused. The pipeline tells of what lies between.

use deskreel_policy::Identity;

use super::end::{EndReason, Ended};
use super::session::Account;
use crate::audit::{DisconnectReason, Event, Login, LoginVia, SessionAudit, SessionStart};

/// Writes what is to be said at the end, and waits until it is durable: a peer that is refused again and again waits for
/// the disk, not the other way round.
///
/// `is_news` is asked where there is something to say: false = the audit log has heard it lately.
pub(super) async fn over(audit: &SessionAudit, ended: &Ended, account: &Account, is_news: impl FnOnce() -> bool) {
    let events = if audit.is_told() {
        [disconnected(ended), None]
    } else {
        describe(audit, ended, account);
        let user = audit.scope().user;
        let is_login = is_failed_login(ended.reason) && !user.is_empty();
        let events = [rejected(ended), refused(audit, ended)];
        if !(is_login || events.iter().any(Option::is_some)) || !is_news() {
            return;
        }
        if is_login {
            let login = Login::failed(LoginVia::Rdp, ended.reason.code(), &ended.detail);
            audit.login(&user, login);
        }
        events
    };
    for event in events.into_iter().flatten() {
        if let Err(error) = audit.write(event).await {
            // The session is over; there is nothing left to refuse.
            tracing::error!(%error, "the end of a session");
        }
    }
}

/// The user had as many sessions as the roles allow.
fn rejected(ended: &Ended) -> Option<Event> {
    let decision = ended.decision.as_deref()?;
    (ended.reason == EndReason::TooManyOfUser).then(|| Event::SessionRejected {
        reason: "max_connections",
        maximum: decision.limits.sessions_max.unwrap_or_default().into(),
    })
}

/// The gateway ended a session that ran.
fn disconnected(ended: &Ended) -> Option<Event> {
    Some(Event::ClientDisconnect {
        reason: ended.detail.clone(),
        reason_code: disconnect_reason(ended.reason)?,
    })
}

/// Which ends are the gateway's own doing.
fn disconnect_reason(reason: EndReason) -> Option<DisconnectReason> {
    match reason {
        EndReason::RecorderFailed => Some(DisconnectReason::Recorder),
        EndReason::IdleTimeout => Some(DisconnectReason::Idle),
        EndReason::SessionExpired => Some(DisconnectReason::Ttl),
        EndReason::Locked => Some(DisconnectReason::Lock),
        EndReason::LockViewStale => Some(DisconnectReason::LockViewStale),
        EndReason::Terminated => Some(DisconnectReason::Terminated),
        _ => None,
    }
}

/// Whether a client has left, or has said nothing that makes sense, before anybody knew who it was.
fn is_clients_doing(reason: EndReason) -> bool {
    matches!(
        reason,
        EndReason::HandshakeTimeout
            | EndReason::ActivationTimeout
            | EndReason::ClientTlsAborted
            | EndReason::ClientTlsFailed
            | EndReason::ClientLogonAborted
            | EndReason::ClientLogonInvalid
            | EndReason::ClientLost
            | EndReason::ClientClosed
            | EndReason::ClientPduInvalid
            | EndReason::OtherDesktop
    )
}

/// Whether somebody said a name and did not prove it.
fn is_failed_login(reason: EndReason) -> bool {
    matches!(
        reason,
        EndReason::WrongPassword
            | EndReason::UnknownUser
            | EndReason::UserWaits
            | EndReason::UserBlocked
            | EndReason::AddressBlocked
            | EndReason::TicketElsewhere
            | EndReason::TicketGone
    )
}

/// What the refusals of a session say of it.
fn describe(audit: &SessionAudit, ended: &Ended, account: &Account) {
    audit.update(|scope| {
        if let Some(decision) = ended.decision.as_deref() {
            scope.user.clone_from(&decision.user);
            scope.roles.clone_from(&decision.roles);
            scope.set_login(decision.login.as_deref().unwrap_or_default(), None);
            scope.desktop_name = decision.desktop.clone().unwrap_or_default();
        }
        if scope.user.is_empty() {
            scope.user.clone_from(&account.user);
        }
        if scope.desktop_name.is_empty() {
            scope.desktop_name.clone_from(&account.desktop);
        }
    });
}

/// A session that never started. Of peers that said no name only the engine's log tells, unless it is the desktop that is to
/// blame: they are port scans, not people.
fn refused(audit: &SessionAudit, ended: &Ended) -> Option<Event> {
    let scope = audit.scope();
    if scope.user.is_empty() && (scope.desktop_name.is_empty() || is_clients_doing(ended.reason)) {
        return None;
    }
    let decision = ended.decision.as_deref();
    let identity = decision.map(|decision| match decision.identity {
        Identity::Proven { .. } => "proven",
        Identity::Claimed => "claimed",
    });
    Some(Event::SessionStart(Box::new(SessionStart {
        success: false,
        error: Some(ended.reason.code().to_owned()),
        message: Some(ended.detail.clone()),
        decision: decision.and_then(|decision| serde_json::to_value(decision).ok()),
        identity: identity.unwrap_or_default().to_owned(),
        ..SessionStart::default()
    })))
}
