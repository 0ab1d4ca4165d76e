//! `gateway.bandwidth_max`: how fast one direction of a session may be.

use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// What may go out ahead of its time, so that small PDUs never wait for each other.
const BURST: Duration = Duration::from_millis(100);

/// One direction's speed. What is above waits: the sender's TCP slows down, nothing is dropped.
#[derive(Debug)]
pub(super) struct Pace {
    /// Bytes a second.
    max: Option<u64>,
    /// When all that has gone out would have, at that speed.
    due: Instant,
}

impl Pace {
    pub(super) fn new(max: Option<u64>) -> Self {
        Self {
            max,
            due: Instant::now(),
        }
    }

    /// This much has gone out.
    pub(super) fn spend(&mut self, bytes: usize) {
        let Some(max) = self.max else { return };
        let nanos = u128::from(bytes as u64) * 1_000_000_000 / u128::from(max.max(1));
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        self.due = self.due.max(Instant::now()) + time;
    }

    /// When more may be read; `None` = now.
    pub(super) fn waits_until(&self) -> Option<Instant> {
        self.max?;
        let until = self.due.checked_sub(BURST)?;
        (until > Instant::now()).then_some(until)
    }
}

/// Resolves at `until`; `None` = never. Cancel safe.
pub(super) async fn over(until: Option<Instant>) {
    match until {
        Some(until) => sleep_until(until).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[tokio::test]
    async fn what_is_above_waits() {
        let mut pace = Pace::new(Some(1000));
        assert_eq!(pace.waits_until(), None);
        pace.spend(50);
        assert_eq!(pace.waits_until(), None, "a burst");
        pace.spend(5000);
        let wait = pace.waits_until().unwrap() - Instant::now();
        assert!(
            wait > Duration::from_secs(4) && wait < Duration::from_secs(6),
            "{wait:?}"
        );
        pace.spend(usize::MAX);
        assert!(pace.waits_until().is_some());
        let mut free = Pace::new(None);
        free.spend(usize::MAX);
        assert_eq!(free.waits_until(), None);
    }
}
