//! The facts of a session, as catalog, recording and audit log keep them.

use deskreel_recording::event::{ClientFacts, DesktopFacts, SessionStart, UserFacts};
use time::OffsetDateTime;

use super::session::SessionFacts;
use super::{recovery, trail};
use crate::catalog::{IdentityKind, NewSession};

/// The session as the catalog keeps it.
pub(super) fn new_session(facts: &SessionFacts) -> NewSession {
    NewSession {
        id: facts.id,
        started: OffsetDateTime::from(facts.started),
        user: facts.user.clone(),
        identity: facts.identity,
        login: recovery::full_login(&session_start(facts)),
        desktop: facts.desktop.clone(),
        desktop_addr: facts.desktop_addr.clone(),
        labels: facts.desktop_labels.clone(),
        roles: trail::roles(facts),
        decision: decision(facts),
        client_addr: facts.client_addr.to_string(),
        client_name: facts.client_name.clone(),
    }
}

/// The session as the recording states it.
pub(super) fn session_start(facts: &SessionFacts) -> SessionStart {
    let since_1970 = facts.started.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    SessionStart {
        recording: facts.id,
        started_unix_us: u64::try_from(since_1970.as_micros()).unwrap_or(u64::MAX),
        product: concat!("deskreel ", env!("CARGO_PKG_VERSION")).to_owned(),
        node: crate::node::name(),
        user: UserFacts {
            name: facts.user.clone(),
            proven: facts.identity == IdentityKind::Proven,
        },
        login: facts.login.clone(),
        domain: facts.domain.clone(),
        desktop: DesktopFacts {
            name: facts.desktop.clone(),
            addr: facts.desktop_addr.clone(),
            labels: facts.desktop_labels.clone(),
        },
        client: ClientFacts {
            addr: facts.client_addr.to_string(),
            name: (!facts.client_name.is_empty()).then(|| facts.client_name.clone()),
            build: facts.client_build,
        },
        decision: decision(facts),
        ..SessionStart::default()
    }
}

/// The Decision as catalog, audit log and manifest hold it.
pub(super) fn decision(facts: &SessionFacts) -> Option<serde_json::Value> {
    let decision = facts.decision.as_deref()?;
    serde_json::to_value(decision).ok()
}
