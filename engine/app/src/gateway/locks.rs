//! Locks on sessions that run: a change of the live view reaches them at once, an expiry within a second.

use std::sync::Arc;
use std::time::Duration;

use deskreel_config::LockingMode;
use deskreel_policy::LockedOut;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::end::{EndReason, Ended};
use super::registry::{Facts, Registry, Running};
use crate::access::{Access, View};

/// How often time alone is looked at: a lock may begin to bite, or the view may grow old.
const INTERVAL: Duration = Duration::from_millis(500);

/// Ends the sessions that a lock is on. Never resolves.
pub(super) async fn watch(access: &Access, registry: &Registry) {
    let mut changed = access.changed();
    let mut alive = true;
    let mut stale_since = None;
    loop {
        let next = Instant::now() + INTERVAL;
        let view = access.view();
        tell_stale(&view, registry, &mut stale_since);
        enforce(&view, registry);
        tokio::select! {
            () = sleep_until(next) => {}
            told = changed.changed(), if alive => alive = told.is_ok(),
        }
    }
}

/// Says when the view of the locks grows too old to be trusted, and how many sessions go on by it all the same.
fn tell_stale(view: &View, registry: &Registry, since: &mut Option<Instant>) {
    let is_stale = view.locks().is_stale(&view.cluster, OffsetDateTime::now_utc());
    match (is_stale, *since) {
        (true, None) => {
            *since = Some(Instant::now());
            let sessions = registry.list();
            let goes_on = |session: &&Arc<Running>| session.facts.decision.limits.lock_mode == LockingMode::BestEffort;
            let sessions = sessions.iter().filter(goes_on).count();
            warn!(
                sessions,
                "the view of the locks is older than access.lock_stale_max; lock mode best_effort goes on"
            );
        }
        (false, Some(begun)) => {
            *since = None;
            info!(
                seconds = begun.elapsed().as_secs(),
                "the view of the locks is fresh again"
            );
        }
        _ => {}
    }
}

fn enforce(view: &View, registry: &Registry) {
    for session in registry.list() {
        if let Some(ended) = end_of(view, &session.facts) {
            let facts = &session.facts;
            warn!(session = %facts.id, user = facts.user, reason = ended.reason.code(), detail = ended.detail, "ending a session");
            session.end(ended);
        }
    }
}

/// The end of a session that a lock is on, or whose locks can't be known.
pub(super) fn end_of(view: &View, facts: &Facts) -> Option<Ended> {
    let locked = view.locked_out(&facts.decision, Some(&facts.login), OffsetDateTime::now_utc())?;
    Some(match locked {
        LockedOut::Locked { message, .. } => Ended::new(EndReason::Locked, message),
        LockedOut::ViewStale => Ended::new(
            EndReason::LockViewStale,
            "the view of the locks is older than access.lock_stale_max",
        ),
    })
}
