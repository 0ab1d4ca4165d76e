//! The facts of a session, as catalog, recording and audit log keep them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use deskreel_policy::Decision;
use deskreel_rdp::phase::Monitor;
use deskreel_rdp::tap::TapConfig;
use deskreel_recording::event::{ClientFacts, DesktopFacts, SessionStart, UserFacts};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{convert, recovery, trail};
use crate::audit::SessionAudit;
use crate::catalog::{IdentityKind, NewSession};

/// What the gateway knows of a session when its recording starts.
#[derive(Debug, Clone)]
pub(crate) struct SessionFacts {
    /// UUIDv7, minted at accept: session id and recording id are one.
    pub(crate) id: Uuid,
    /// Wall-clock time of the accept.
    pub(crate) started: SystemTime,
    /// The same moment on the monotonic clock: time 0 of the recording.
    pub(crate) started_at: Instant,
    /// Who asks.
    pub(crate) user: String,
    /// Whether that is proven.
    pub(crate) identity: IdentityKind,
    /// The account on the desktop, as the client sent it.
    pub(crate) login: String,
    /// The login's domain, if the client sent one.
    pub(crate) domain: Option<String>,
    /// Name of the desktop resource.
    pub(crate) desktop: String,
    /// Where the desktop is, `host:port`.
    pub(crate) desktop_addr: String,
    /// Where the client came from.
    pub(crate) client_addr: SocketAddr,
    /// The computer name that the client gave.
    pub(crate) client_name: String,
    /// Client build from the client core data.
    pub(crate) client_build: Option<u32>,
    /// The client's monitors, as it listed them; empty for one.
    pub(crate) monitors: Vec<Monitor>,
    /// The session whose desktop sent the client on to this one's.
    pub(crate) redirected_from: Option<Uuid>,
    /// The desktop's labels.
    pub(crate) desktop_labels: BTreeMap<String, String>,
    /// What policy decided, where it was asked.
    pub(crate) decision: Option<Arc<Decision>>,
    /// The session's part of the audit log.
    pub(crate) audit: SessionAudit,
    /// What the tap has to know; `undecoded_max_bytes` is set by the pipeline.
    pub(crate) tap: TapConfig,
}

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
        extra: layout(&facts.monitors)
            .into_iter()
            .chain(
                facts
                    .redirected_from
                    .map(|id| ("redirected_from".to_owned(), id.to_string().into())),
            )
            .collect(),
    }
}

/// The client's monitors, where there are several.
fn layout(monitors: &[Monitor]) -> Option<(String, serde_json::Value)> {
    let told = || serde_json::to_value(convert::monitors(monitors)).ok();
    let several = monitors.len() > 1;
    Some(("monitors".to_owned(), several.then(told)??))
}

/// The Decision as catalog, audit log and manifest hold it.
pub(super) fn decision(facts: &SessionFacts) -> Option<serde_json::Value> {
    let decision = facts.decision.as_deref()?;
    serde_json::to_value(decision).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn monitors_are_told_by_their_place_in_the_picture() {
        let monitor = |left, top, right, bottom, primary| Monitor {
            left,
            top,
            right,
            bottom,
            primary,
        };
        let main = monitor(0, 0, 1919, 1079, true);
        assert_eq!((layout(&[]), layout(&[main])), (None, None));
        let told = layout(&[main, monitor(-1280, 56, -1, 1079, false)]);
        let expected = serde_json::json!([
            {"x": 1280, "y": 0, "width": 1920, "height": 1080, "primary": true},
            {"x": 0, "y": 56, "width": 1280, "height": 1024, "primary": false},
        ]);
        assert_eq!(told, Some(("monitors".to_owned(), expected)));
    }
}
