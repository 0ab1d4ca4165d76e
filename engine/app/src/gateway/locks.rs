//! Locks on sessions that run: a change of the live view reaches them at once, an expiry within a second.

use std::time::Duration;

use deskreel_policy::LockedOut;
use time::OffsetDateTime;
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use super::end::{EndReason, Ended};
use super::registry::Registry;
use crate::access::{Access, View};

/// How often time alone is looked at: a lock may begin to bite, or the view may grow old.
const INTERVAL: Duration = Duration::from_millis(500);

/// Ends the sessions that a lock is on. Never resolves.
pub(super) async fn watch(access: &Access, registry: &Registry) {
    let mut changed = access.changed();
    let mut alive = true;
    loop {
        let next = Instant::now() + INTERVAL;
        let view = access.view();
        enforce(&view, registry);
        tokio::select! {
            () = sleep_until(next) => {}
            told = changed.changed(), if alive => alive = told.is_ok(),
        }
    }
}

fn enforce(view: &View, registry: &Registry) {
    let now = OffsetDateTime::now_utc();
    for session in registry.list() {
        let ended = match view.locked_out(&session.facts.decision, Some(&session.facts.login), now) {
            None => continue,
            Some(LockedOut::Locked { name, message }) => {
                warn!(session = %session.facts.id, user = session.facts.user, lock = name, "ending a locked session");
                Ended::new(EndReason::Locked, message)
            }
            Some(LockedOut::ViewStale) => {
                warn!(session = %session.facts.id, user = session.facts.user, "ending a session: the view of the locks is too old");
                Ended::new(
                    EndReason::LockViewStale,
                    "the view of the locks is older than access.lock_stale_max",
                )
            }
        };
        session.end(ended);
    }
}
