//! The facts of a session, as catalog, recording and audit log keep them.

use deskreel_rdp::phase::Monitor;
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
        extra: layout(&facts.monitors).into_iter().collect(),
    }
}

/// Where the client's monitors are in the picture that they make up together, where there are several.
fn layout(monitors: &[Monitor]) -> Option<(String, serde_json::Value)> {
    let left = monitors.iter().map(|monitor| monitor.left).min()?;
    let top = monitors.iter().map(|monitor| monitor.top).min()?;
    // Edges are inclusive; a client may claim anything.
    let length = |from: i32, to: i32| i64::from(to) - i64::from(from) + 1;
    let all = monitors.iter().map(|monitor| {
        serde_json::json!({
            "x": length(left, monitor.left) - 1,
            "y": length(top, monitor.top) - 1,
            "width": length(monitor.left, monitor.right),
            "height": length(monitor.top, monitor.bottom),
            "primary": monitor.primary,
        })
    });
    (monitors.len() > 1).then(|| ("monitors".to_owned(), all.collect()))
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
