//! Clients that were sent back to the gateway, to be let in at another desktop: what is known of each until it is there.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use uuid::Uuid;

use super::end::{EndReason, Ended};

/// A client comes back at once; people may have to accept a certificate once more.
pub(super) const LIFE: Duration = Duration::from_secs(60);
/// Clients that may be on their way back; more are refused.
const WAITING_MAX: usize = 1024;
/// Redirections in a row, after which desktops are taken to send the client in a circle.
pub(super) const HOPS_MAX: u32 = 4;
/// How long a session may wait for the end of the one that it takes the place of: that one is saying goodbye.
const PREDECESSOR_WAIT: Duration = Duration::from_secs(10);

/// What a returning client's connection begins with. It lets nobody in: the client proves itself and is decided about anew.
#[derive(Debug, Clone)]
pub(super) struct Handover {
    /// The session that sent it.
    pub(super) session: Uuid,
    /// Who was sent.
    pub(super) user: String,
    /// Where to.
    pub(super) desktop: String,
    /// What that desktop's load balancer wants to hear.
    pub(super) routing_token: Option<String>,
    /// How many redirections led here.
    pub(super) hops: u32,
    /// Closed when the session before is over.
    pub(super) before: watch::Receiver<()>,
}

impl Handover {
    /// Waits until the session before is over, so that it takes no place of the user's any more. Cancel safe.
    pub(super) async fn follow(&self) {
        let mut before = self.before.clone();
        // nothing is ever sent; a session that does not end counts as what it is: open
        let _ = timeout(PREDECESSOR_WAIT, before.changed()).await;
    }

    /// Lets only its own user go on.
    ///
    /// # Errors
    /// [`EndReason::OtherDesktop`]
    pub(super) fn is_for(&self, user: &str) -> Result<(), Ended> {
        if self.user == user {
            return Ok(());
        }
        let detail = format!("{user:?} comes with what leads {:?} to {}", self.user, self.desktop);
        Err(Ended::new(EndReason::OtherDesktop, detail))
    }
}

/// All clients that are on their way back.
#[derive(Debug, Default)]
pub(super) struct Handovers {
    waiting: Mutex<HashMap<String, (Handover, Instant)>>,
}

impl Handovers {
    /// Expects a client; the number that it will come with, once and within [`LIFE`]. `None` = too many are expected.
    pub(super) fn expect(&self, handover: Handover, now: Instant) -> Option<String> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|_, (_, until)| *until > now);
        if waiting.len() >= WAITING_MAX {
            return None;
        }
        let number = Uuid::new_v4().simple().to_string();
        waiting.insert(number.clone(), (handover, now + LIFE));
        Some(number)
    }

    /// The client with this number is here.
    pub(super) fn take(&self, number: &str, now: Instant) -> Option<Handover> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (handover, until) = waiting.remove(number)?;
        (until > now).then_some(handover)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn handover() -> (watch::Sender<()>, Handover) {
        let (sender, before) = watch::channel(());
        let handover = Handover {
            session: Uuid::nil(),
            user: "ann".to_owned(),
            desktop: "lab".to_owned(),
            routing_token: None,
            hops: 1,
            before,
        };
        (sender, handover)
    }

    #[test]
    fn once_and_for_a_minute() {
        let handovers = Handovers::default();
        let (_sender, handover) = handover();
        let now = Instant::now();
        let number = handovers.expect(handover.clone(), now).unwrap();
        assert!(handovers.take("other", now).is_none());
        assert_eq!(handovers.take(&number, now).unwrap().desktop, "lab");
        assert!(handovers.take(&number, now).is_none());
        let late = handovers.expect(handover.clone(), now).unwrap();
        assert!(handovers.take(&late, now + LIFE).is_none());
        for _ in 0..WAITING_MAX {
            handovers.expect(handover.clone(), now).unwrap();
        }
        assert_eq!(handovers.expect(handover.clone(), now), None);
        // those that never came make room
        assert!(handovers.expect(handover, now + LIFE).is_some());
    }

    #[tokio::test]
    async fn it_waits_for_the_one_before_and_serves_one_user() {
        let (sender, handover) = handover();
        handover.is_for("ann").unwrap();
        assert_eq!(handover.is_for("bob").unwrap_err().reason, EndReason::OtherDesktop);
        let mut waits = Box::pin(handover.follow());
        tokio::select! {
            biased;
            () = &mut waits => panic!("the session before is still open"),
            () = std::future::ready(()) => {}
        }
        drop(sender);
        waits.await;
    }
}
