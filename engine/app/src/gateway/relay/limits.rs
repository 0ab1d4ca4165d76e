//! What ends a session from outside: its limits, locks, operators.

use std::time::Duration;

use deskreel_policy::Limits;
use tokio::time::{Instant, sleep, timeout_at};

use super::state::Relay;
use crate::gateway::end::{EndReason, Ended};
use crate::gateway::registry::Running;

/// Longest time between two looks at whether the user did something.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Looks within an idle time-out, so that a short one is not overrun by much.
const LOOKS_PER_TIMEOUT: u32 = 20;

impl Relay {
    /// Resolves when a limit of the Decision is reached, a lock is put on the session, or an operator ends it.
    pub(super) async fn outlived(&self) -> Ended {
        let (running, _) = self.running.wait().await;
        let limits = &running.facts.decision.limits;
        tokio::select! {
            ended = running.ended() => ended,
            ended = self.expired(running, limits) => ended,
        }
    }

    /// Resolves when the session has lasted, or nobody has used it, for as long as its Decision allows.
    async fn expired(&self, running: &Running, limits: &Limits) -> Ended {
        let end = Instant::from_std(running.facts.started_at).checked_add(limits.ends_after);
        let idle = self.idle(running, limits.idle_timeout);
        let Some(end) = end else { return idle.await };
        timeout_at(end, idle).await.unwrap_or_else(|_| {
            Ended::new(
                EndReason::SessionExpired,
                format!("the session has lasted {:?} (max_session_ttl)", limits.ends_after),
            )
        })
    }

    /// Takes note of when the user was active last. Resolves when that is too long ago.
    async fn idle(&self, running: &Running, idle_timeout: Option<Duration>) -> Ended {
        let interval = idle_timeout.map_or(LOOK_INTERVAL, |idle| LOOK_INTERVAL.min(idle / LOOKS_PER_TIMEOUT));
        let mut inputs = self.phases().inputs();
        running.touch();
        let mut last = Instant::now();
        loop {
            sleep(interval).await;
            let now = self.phases().inputs();
            if now != inputs {
                inputs = now;
                last = Instant::now();
                running.touch();
            }
            if let Some(idle) = idle_timeout
                && last.elapsed() >= idle
            {
                return Ended::new(
                    EndReason::IdleTimeout,
                    format!("no key, mouse or touch for {idle:?} (client_idle_timeout)"),
                );
            }
        }
    }
}
