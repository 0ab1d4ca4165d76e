//! The thread that writes: it takes what waits, writes it at once and tells whoever waited.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;

use super::event::{Event, LogEvent};
use super::log::Log;
use super::syslog::Syslog;
use super::{AuditError, Line, Message, Scope, timestamp};

/// Events that are written at once.
const BATCH_MAX: usize = 256;
/// Their bytes, above which no further one is added. With what chains them they fit into the smallest file.
const BATCH_MAX_BYTES: usize = 32 << 10;
/// Between two attempts to write what could not be written.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

pub(super) struct Writer {
    log: Log,
    syslog: Option<Syslog>,
    failing: watch::Sender<Option<String>>,
    /// Events that will never be in the log.
    lost: Arc<AtomicU64>,
    /// What could not be written and is tried again.
    backlog: VecDeque<Line>,
    backlog_max: usize,
}

impl Writer {
    pub(super) fn new(
        log: Log,
        syslog: Option<Syslog>,
        failing: watch::Sender<Option<String>>,
        lost: Arc<AtomicU64>,
        backlog_max: usize,
    ) -> Self {
        Self {
            log,
            syslog,
            failing,
            lost,
            backlog: VecDeque::new(),
            backlog_max,
        }
    }

    /// Works until nobody can send any more.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        loop {
            let first = if self.is_behind() {
                match messages.recv_timeout(RETRY_INTERVAL) {
                    Ok(message) => Some(message),
                    Err(RecvTimeoutError::Timeout) => None,
                    Err(RecvTimeoutError::Disconnected) => break,
                }
            } else {
                match messages.recv() {
                    Ok(message) => Some(message),
                    Err(_) => return,
                }
            };
            let mut bytes = 0;
            let mut batch = Vec::new();
            let mut next = first;
            while let Some(message) = next {
                bytes += message.line.body.len();
                if bytes > BATCH_MAX_BYTES && !batch.is_empty() {
                    self.write(std::mem::take(&mut batch));
                    bytes = message.line.body.len();
                }
                batch.push(message);
                let room = batch.len() < BATCH_MAX && bytes < BATCH_MAX_BYTES;
                next = if room { messages.try_recv().ok() } else { None };
            }
            self.write(batch);
        }
        self.write(Vec::new());
        let lost = self.lost.load(Ordering::Relaxed) + self.backlog.len() as u64;
        if lost > 0 {
            tracing::error!(lost, "events are not in the audit log and never will be");
        }
    }

    fn is_behind(&self) -> bool {
        !self.backlog.is_empty() || self.lost.load(Ordering::Relaxed) > 0 || self.failing.borrow().is_some()
    }

    fn write(&mut self, batch: Vec<Message>) {
        let written = self.catch_up().and_then(|()| {
            if batch.is_empty() {
                return Ok(());
            }
            let lines: Vec<Line> = batch.iter().map(|message| message.line.clone()).collect();
            self.put(&lines)
        });
        let result = match &written {
            Ok(()) => {
                self.succeeded();
                Ok(())
            }
            Err(error) => Err(self.failed(format!("{error:#}"))),
        };
        for Message { line, keep, done } in batch {
            if result.is_err() && keep {
                self.keep(line);
            }
            if let Some(done) = done {
                done(result.clone());
            }
        }
    }

    /// Writes what could not be written before, oldest first.
    fn catch_up(&mut self) -> anyhow::Result<()> {
        while !self.backlog.is_empty() {
            let mut bytes = 0;
            let fits = |line: &&Line| {
                bytes += line.body.len();
                bytes <= BATCH_MAX_BYTES
            };
            let lines: Vec<Line> = self.backlog.iter().take(BATCH_MAX).take_while(fits).cloned().collect();
            let lines = if lines.is_empty() {
                self.backlog.iter().take(1).cloned().collect()
            } else {
                lines
            };
            self.put(&lines)?;
            self.backlog.drain(..lines.len());
        }
        let count = self.lost.swap(0, Ordering::Relaxed);
        if count > 0 {
            let error = self.failing.borrow().clone().unwrap_or_default();
            let event = Event::Log(LogEvent::Lost { count, error });
            let line = self.log.stamp().line(&Scope::Node {}, &event);
            if let Err(error) = self.put(&[line]) {
                self.lost.fetch_add(count, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    }

    fn put(&mut self, lines: &[Line]) -> anyhow::Result<()> {
        let written = self.log.append(lines)?;
        if let Some(syslog) = &mut self.syslog {
            syslog.send(&written, &timestamp(OffsetDateTime::now_utc()));
        }
        Ok(())
    }

    fn keep(&mut self, line: Line) {
        if self.backlog.len() >= self.backlog_max {
            self.lost.fetch_add(1, Ordering::Relaxed);
        } else {
            self.backlog.push_back(line);
        }
    }

    fn succeeded(&self) {
        if self.failing.borrow().is_some() {
            tracing::warn!("the audit log can be written again");
            self.failing.send_replace(None);
        }
    }

    fn failed(&self, reason: String) -> AuditError {
        if self.failing.borrow().is_none() {
            tracing::error!(reason, "the audit log can't be written (audit.on_failure)");
        }
        self.failing.send_replace(Some(reason.clone()));
        AuditError { reason }
    }
}
