//! A pump as its watcher sees it.

use std::future::pending;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{Instrument as _, Span};

use super::pump::{Outcome, Pump};
use super::{LAST_WORDS, Mail};
use crate::gateway::end::{EndReason, Ended};

/// A running pump. Dropping it aborts the pump.
pub(super) struct Task<R, W> {
    handle: JoinHandle<Outcome<R, W>>,
    mail: mpsc::Sender<Mail>,
    over: bool,
    outcome: Option<Outcome<R, W>>,
}

impl<R, W> Task<R, W>
where
    R: AsyncRead + Unpin + Send + 'static,
    W: AsyncWrite + Unpin + Send + 'static,
{
    pub(super) fn spawn(pump: Pump<R, W>, mail: mpsc::Sender<Mail>) -> Self {
        let handle = tokio::spawn(pump.run().instrument(Span::current()));
        Self {
            handle,
            mail,
            over: false,
            outcome: None,
        }
    }

    /// Resolves once, when the pump ends by itself. Cancel safe.
    pub(super) async fn ended(&mut self) -> Ended {
        if self.over {
            return pending().await;
        }
        let joined = (&mut self.handle).await;
        self.over = true;
        match joined {
            Ok(outcome) => self.outcome.insert(outcome).ended.clone(),
            Err(error) => Ended::new(EndReason::Internal, format!("a relay task ended: {error}")),
        }
    }

    /// Lets the pump finish its PDU and takes the streams back; `None` if it doesn't within [`LAST_WORDS`].
    pub(super) async fn stop(mut self) -> Option<Outcome<R, W>> {
        if !self.over {
            // Err = its mailbox is full, then it hangs and is aborted below
            let _ = self.mail.try_send(Mail::Stop);
            let _ = timeout(LAST_WORDS, self.ended()).await;
        }
        self.outcome.take()
    }
}

impl<R, W> Drop for Task<R, W> {
    fn drop(&mut self) {
        self.handle.abort();
    }
}
