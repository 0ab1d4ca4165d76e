//! One direction of a session.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use deskreel_config::OnFailure;
use deskreel_rdp::Direction;
use deskreel_rdp::phase::{ClientLogon, PhaseEvent, Phases, Verdict};
use deskreel_rdp::wire::find_pdu;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::mpsc;
use zeroize::{Zeroize as _, Zeroizing};

use super::pace::{self, Pace};
use super::{Mail, Relay};
use crate::gateway::end::{EndReason, Ended};

/// Size of a fresh read buffer.
const BUFFER_BYTES: usize = 64 * 1024;
/// Free room below which a fresh buffer is had: one TLS record.
const ROOM_MIN_BYTES: usize = 16 * 1024;
/// What is there already is read on up to here before it is forwarded in one write.
const BATCH_MAX_BYTES: usize = 192 * 1024;
/// Injected PDUs that may wait for the end of a peer's own channel data.
const HELD_MAX: usize = 64;

/// A pump and its two halves.
pub(super) struct Pump<R, W> {
    direction: Direction,
    reader: R,
    writer: W,
    relay: Arc<Relay>,
    mailbox: mpsc::Receiver<Mail>,
    /// Mailbox of the other direction's pump, for what answers the sender.
    other: mpsc::Sender<Mail>,
    buffer: BytesMut,
    /// The next answer of the reader, when it came while a batch was filled.
    read_ahead: Option<io::Result<usize>>,
    held: VecDeque<Vec<u8>>,
    pace: Pace,
}

/// What is left of a pump. The writer stands between two PDUs.
pub(super) struct Outcome<R, W> {
    pub(super) ended: Ended,
    pub(super) reader: R,
    pub(super) writer: W,
}

/// What a leg is sent.
enum Piece {
    /// PDUs that nothing was done to, back to back, or one that was patched.
    Shared(Bytes),
    /// A PDU with credentials in it: overwritten when it is sent.
    Sensitive(Zeroizing<Vec<u8>>),
}

impl std::ops::Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Shared(bytes) => bytes,
            Self::Sensitive(bytes) => bytes,
        }
    }
}

/// The PDUs of one read, after the filter.
#[derive(Default)]
struct Batch {
    /// What goes on to the other leg, in order; neighbours that were not touched are one piece.
    forward: Vec<Piece>,
    /// What the recorder gets.
    tap: Vec<Bytes>,
    /// What goes back to the sender.
    replies: Vec<Vec<u8>>,
    /// The first Demand Active is in `forward` at this index: the recording has to be open before.
    activates_at: Option<usize>,
    /// A Client Info comes next: nothing of it, and nothing behind it, passes before it is decided.
    logon: Option<(ClientLogon, Zeroizing<Vec<u8>>)>,
    /// Why no PDU behind these may pass.
    ended: Option<Ended>,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Pump<R, W> {
    pub(super) fn new(
        direction: Direction,
        reader: R,
        writer: W,
        relay: Arc<Relay>,
        mailbox: mpsc::Receiver<Mail>,
        other: mpsc::Sender<Mail>,
    ) -> Self {
        let buffer = BytesMut::with_capacity(BUFFER_BYTES);
        let pace = Pace::new(relay.bandwidth_max());
        Self {
            direction,
            reader,
            writer,
            relay,
            mailbox,
            other,
            buffer,
            read_ahead: None,
            held: VecDeque::new(),
            pace,
        }
    }

    /// Pumps until this direction ends or [`Mail::Stop`] comes. Not cancel safe: the writer may then stand inside a PDU.
    pub(super) async fn run(mut self) -> Outcome<R, W> {
        let ended = loop {
            match self.turn().await {
                Ok(()) => {}
                Err(ended) => break ended,
            }
        };
        Outcome {
            ended,
            reader: self.reader,
            writer: self.writer,
        }
    }

    /// One read or one message, and all that follows from it.
    async fn turn(&mut self) -> Result<(), Ended> {
        let wait = self.pace.waits_until();
        let read = if let Some(read) = self.read_ahead.take_if(|_| wait.is_none()) {
            read
        } else {
            tokio::select! {
                biased;
                mail = self.mailbox.recv() => match mail {
                    Some(Mail::Inject(pdu)) => return self.inject(pdu).await,
                    Some(Mail::Stop) | None => return Err(Ended::new(EndReason::Internal, "stopped")),
                },
                () = pace::over(wait) => return Ok(()),
                read = fill(&mut self.reader, &mut self.buffer, &mut self.read_ahead), if wait.is_none() => read,
            }
        };
        match read {
            Ok(0) => Err(self.closed()),
            Ok(_) => self.pass_on().await,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.closed()),
            Err(error) => Err(self.relay.reading_failed(self.direction, &error)),
        }
    }

    /// The sender's end of the stream.
    fn closed(&self) -> Ended {
        self.relay.closed(self.direction, self.buffer.len())
    }

    /// Filters what was read and passes it on.
    async fn pass_on(&mut self) -> Result<(), Ended> {
        loop {
            let mut batch = walk(&self.relay, self.direction, &mut self.buffer);
            let logon = batch.logon.take();
            self.deliver(batch).await?;
            let Some((logon, pdu)) = logon else { return Ok(()) };
            let pdu = self.relay.log_on(logon, pdu).await?;
            self.write(&[Piece::Sensitive(pdu)]).await?;
        }
    }

    /// Hands PDUs to recorder and receiver in the order that `on_failure` asks for.
    async fn deliver(&mut self, batch: Batch) -> Result<(), Ended> {
        if let Some(index) = batch.activates_at
            && let Err(ended) = self.relay.open_recording().await
        {
            // what came before the Demand Active is due to the client; it needs it to read the refusal
            self.write(batch.forward.get(..index).unwrap_or_default()).await?;
            return Err(ended);
        }
        match self.relay.on_failure() {
            OnFailure::Strict => {
                self.relay.record(self.direction, batch.tap).await?;
                self.write(&batch.forward).await?;
            }
            OnFailure::BestEffort => {
                // A part of it may have gone out: what the receiver may have seen is recorded also when the write fails.
                let written = self.write(&batch.forward).await;
                self.relay.record(self.direction, batch.tap).await?;
                written?;
            }
        }
        for reply in batch.replies {
            if self.other.try_send(Mail::Inject(reply)).is_err() {
                return Err(Ended::new(
                    EndReason::FilterError,
                    "the other direction does not take the gateway's answers",
                ));
            }
        }
        if !self.held.is_empty() {
            self.release().await?;
        }
        batch.ended.map_or(Ok(()), Err)
    }

    async fn inject(&mut self, pdu: Vec<u8>) -> Result<(), Ended> {
        if self.held.len() >= HELD_MAX {
            return Err(Ended::new(
                EndReason::FilterError,
                "a peer never finishes its channel data",
            ));
        }
        self.held.push_back(pdu);
        self.release().await
    }

    /// Sends the held PDUs that may go now, in their order.
    async fn release(&mut self) -> Result<(), Ended> {
        while let Some(pdu) = self.held.front() {
            if !self.relay.phases().may_inject(self.direction, pdu) {
                return Ok(());
            }
            if let Some(pdu) = self.held.pop_front() {
                self.write(&[Piece::Shared(Bytes::from(pdu))]).await?;
            }
        }
        Ok(())
    }

    async fn write(&mut self, pieces: &[Piece]) -> Result<(), Ended> {
        if pieces.is_empty() {
            return Ok(());
        }
        let mut bytes = 0;
        for piece in pieces {
            bytes += piece.len();
            self.writer
                .write_all(piece)
                .await
                .map_err(|error| self.relay.writing_failed(self.direction, &error))?;
        }
        // tokio-rustls keeps what the socket did not take until it is flushed
        self.writer
            .flush()
            .await
            .map_err(|error| self.relay.writing_failed(self.direction, &error))?;
        self.relay.count(self.direction, bytes);
        self.pace.spend(bytes);
        Ok(())
    }
}

/// Takes all whole PDUs out of `buffer` and asks the filter about each.
fn walk(relay: &Relay, direction: Direction, buffer: &mut BytesMut) -> Batch {
    let mut batch = Batch::default();
    // length of the run of PDUs at the start of the buffer that pass unchanged, and whether the recorder gets them
    let mut run = 0;
    let mut run_tap = false;
    let mut phases = relay.phases();
    loop {
        let rest = buffer.get(run..).unwrap_or_default();
        let length = match find_pdu(rest) {
            Ok(Some(length)) if length <= rest.len() => length,
            Ok(_) => break,
            Err(error) => {
                batch.ended = Some(relay.not_a_pdu(direction, &error));
                break;
            }
        };
        let pdu = rest.get(..length).unwrap_or_default();
        match phases.passes(direction, pdu) {
            Ok(Some(pass)) => {
                if pass.tap != run_tap {
                    batch.take_run(buffer, &mut run, run_tap);
                    run_tap = pass.tap;
                }
                run += length;
            }
            Ok(None) => {
                batch.take_run(buffer, &mut run, run_tap);
                batch.take_pdu(relay, direction, &mut phases, buffer, length);
            }
            Err(error) => batch.ended = Some(relay.filter_failed(&error)),
        }
        if batch.ended.is_some() || batch.logon.is_some() {
            break;
        }
    }
    drop(phases);
    batch.take_run(buffer, &mut run, run_tap);
    batch
}

impl Batch {
    /// Ends a run of untouched PDUs: they leave the buffer as one piece, shared by receiver and recorder.
    fn take_run(&mut self, buffer: &mut BytesMut, run: &mut usize, tap: bool) {
        if *run == 0 {
            return;
        }
        let piece = buffer.split_to(*run).freeze();
        *run = 0;
        if tap {
            self.tap.push(piece.clone());
        }
        self.forward.push(Piece::Shared(piece));
    }

    /// Takes one PDU that the filter may change, answer or swallow.
    fn take_pdu(
        &mut self,
        relay: &Relay,
        direction: Direction,
        phases: &mut Phases,
        buffer: &mut BytesMut,
        length: usize,
    ) {
        let mut original = buffer.split_to(length);
        let mut pdu = Zeroizing::new(original.to_vec());
        let verdict = match phases.pdu(direction, &mut pdu) {
            Ok(verdict) => verdict,
            Err(error) => {
                original.zeroize();
                self.ended = Some(relay.filter_failed(&error));
                return;
            }
        };
        let Verdict {
            forward,
            reply,
            tap,
            sensitive,
            logon,
            events,
        } = verdict;
        if sensitive {
            original.zeroize();
        }
        self.replies.extend(reply);
        for event in events {
            if matches!(event, PhaseEvent::Activating { activation: 1 }) {
                self.activates_at = Some(self.forward.len());
            }
            if let Err(ended) = relay.take_note(direction, event) {
                self.ended = Some(ended);
                return;
            }
        }
        if let Some(logon) = logon {
            self.logon = Some((logon, pdu));
            return;
        }
        if !forward {
            return;
        }
        if sensitive {
            self.forward.push(Piece::Sensitive(pdu));
            return;
        }
        let piece = Bytes::from(std::mem::take(&mut *pdu));
        if tap {
            self.tap.push(piece.clone());
        }
        self.forward.push(Piece::Shared(piece));
    }
}

/// Reads into `buffer`, and goes on as long as more is there at once: the fewer writes, the fewer TLS records and system
/// calls on the other leg. The answer that ends this, if it isn't "nothing yet", is left in `ahead`.
///
/// Cancel safe.
async fn fill<R: AsyncRead + Unpin>(
    reader: &mut R,
    buffer: &mut BytesMut,
    ahead: &mut Option<io::Result<usize>>,
) -> io::Result<usize> {
    make_room(buffer);
    let first = reader.read_buf(buffer).await?;
    let mut all = first;
    while first > 0 && buffer.len() < BATCH_MAX_BYTES {
        make_room(buffer);
        let mut read = pin!(reader.read_buf(buffer));
        match poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await {
            Poll::Pending => break,
            Poll::Ready(Ok(bytes)) if bytes > 0 => all += bytes,
            Poll::Ready(end) => {
                *ahead = Some(end);
                break;
            }
        }
    }
    Ok(all)
}

/// A fresh buffer only when the old one is used up: small PDUs that wait for the recorder then share one.
fn make_room(buffer: &mut BytesMut) {
    if buffer.capacity() - buffer.len() < ROOM_MIN_BYTES {
        buffer.reserve(BUFFER_BYTES);
    }
}
