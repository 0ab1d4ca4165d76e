//! The task that recovers: first what the last run left, then whatever a failing recorder leaves.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use uuid::Uuid;

use super::{Outcome, Recovery, When};

/// Until a recording whose storage doesn't answer is tried again; each further pause is twice as long.
const PAUSE: Duration = Duration::from_secs(2);
/// The longest of these pauses.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A recording whose recorder failed, and why.
pub(in crate::pipeline) type Repair = (Uuid, String);

/// Recovers what is in `found`, says so in `first_pass`, and goes on with what arrives and with what a storage did not
/// answer for.
pub(in crate::pipeline) async fn run(
    recovery: Recovery,
    found: Vec<Uuid>,
    mut arriving: mpsc::Receiver<Repair>,
    first_pass: watch::Sender<bool>,
) {
    let mut waiting: Vec<_> = found.into_iter().map(|recording| (recording, When::Start)).collect();
    let mut next = PAUSE;
    loop {
        for (recording, when) in std::mem::take(&mut waiting) {
            if !recover(&recovery, recording, &when).await {
                waiting.push((recording, when));
            }
        }
        first_pass.send_replace(true);
        let pause = if waiting.is_empty() {
            next = PAUSE;
            Duration::MAX
        } else {
            next
        };
        match tokio::time::timeout(pause, arriving.recv()).await {
            Ok(Some((recording, reason))) => waiting.push((recording, When::Running { reason })),
            Ok(None) => return,
            Err(_) => next = PAUSE_MAX.min(next * 2),
        }
    }
}

/// Recovers one recording and says so in the log. False: try again later.
async fn recover(recovery: &Recovery, recording: Uuid, when: &When) -> bool {
    match recovery.recover(recording, when).await {
        Ok(Outcome::Resumed) => tracing::debug!(session = %recording, "going on with the delivery of a recording"),
        Ok(Outcome::Recovered) => tracing::warn!(session = %recording, "closed a recording that a crash had left open"),
        Ok(Outcome::Damaged) => {
            tracing::error!(session = %recording, "a recording is damaged; `deskreel recordings show` says how");
        }
        Err(error) => {
            tracing::error!(session = %recording, error = format!("{error:#}"), "recovery has to wait");
            return false;
        }
    }
    true
}
