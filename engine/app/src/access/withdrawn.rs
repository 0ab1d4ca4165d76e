//! Rights that are used for a while, as that to watch a running session, and that may go meanwhile.

use std::time::Duration;

use deskreel_policy::{CatalogSession, Verb};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::recordings::{Asker, Ruler};
use super::view::View;
use super::watch::Access;

/// How often time alone is looked at: a lock may begin to bite, a user may expire.
const INTERVAL: Duration = Duration::from_millis(500);

/// Resolves when whoever `asker` finds in a view may not do `verb` with `session` any more; why. A lock, a role or a user
/// that changes is seen within a second. Cancel safe.
pub(crate) async fn withdrawn(
    access: &Access,
    asker: impl Fn(&View) -> Asker,
    verb: Verb,
    session: &CatalogSession,
) -> String {
    let mut changed = access.changed();
    let mut alive = true;
    loop {
        let view = changed.borrow_and_update().clone();
        if let Some(why) = refusal(&view, &asker(&view), verb, session) {
            return why;
        }
        tokio::select! {
            () = sleep(INTERVAL) => {}
            told = changed.changed(), if alive => alive = told.is_ok(),
        }
    }
}

fn refusal(view: &View, asker: &Asker, verb: Verb, session: &CatalogSession) -> Option<String> {
    let ruler = Ruler {
        asker,
        roles: &view.roles,
        locks: &view.locks(),
        unavailable: view.unavailable.as_deref(),
    };
    let rule = ruler.may(verb, session, OffsetDateTime::now_utc());
    (!rule.allowed).then_some(rule.why)
}
