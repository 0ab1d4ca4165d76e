//! The relay: two pumps, one a direction, and who watches over them.
//!
//! Each pump is one task that owns the reading half of one leg and the writing half of the other. Nobody else writes to a
//! leg: what the gateway has to say itself reaches the pump as [`Mail`] and goes out between two PDUs. The session ends
//! when the first pump ends, the recorder fails or the gateway stops; [`run`] then tells the client why.

mod ends;
mod limits;
mod notes;
mod pace;
mod pump;
mod redirect;
mod state;
mod task;

use std::sync::Arc;
use std::time::Duration;

use deskreel_rdp::Direction;
use deskreel_rdp::wire::x224::ConnectionRequest;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_rustls::{client, server};

use super::desktop::{Desktop, DesktopLeg};
use super::end::{EndReason, Ended};
use super::handshake::drain;
use super::session::{Account, Admitted, Entry, stopping};
use pump::{Outcome, Pump};
use redirect::Words;
use state::Relay;
use task::Task;

/// How long the other pump may take to finish its PDU, and a leg to take its last words.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How long a broken connection may take to turn out as one that was closed in order.
const SECOND_THOUGHT: Duration = Duration::from_millis(250);
/// Messages that may wait for a pump.
const MAILBOX_LENGTH: usize = 64;

/// What a pump is told.
#[derive(Debug)]
pub(super) enum Mail {
    /// Send this PDU between two others.
    Inject(Vec<u8>),
    /// Finish the PDU at hand and give the stream back.
    Stop,
}

/// One leg's stream over TLS, in two halves.
type ClientStream = server::TlsStream<BufReader<TcpStream>>;
type DesktopStream = client::TlsStream<BufReader<TcpStream>>;

/// Relays until the session ends, and says the last words to both legs. Without an `entry` the session is decided when its
/// Client Info is about to go on.
#[expect(clippy::too_many_arguments, reason = "one caller, and each is another thing")]
pub(super) async fn run(
    admitted: &Admitted,
    request: &ConnectionRequest,
    desktop: &Desktop,
    leg: DesktopLeg,
    client: ClientStream,
    entry: Option<Entry>,
    shutdown: &mut watch::Receiver<bool>,
    account: &mut Account,
) -> Ended {
    let relay = Relay::new(admitted, request, desktop, &leg, entry);
    let (from_client, to_client) = tokio::io::split(client);
    let (from_desktop, to_desktop) = tokio::io::split(leg.stream);
    let (client_mail, client_mailbox) = mpsc::channel(MAILBOX_LENGTH);
    let (desktop_mail, desktop_mailbox) = mpsc::channel(MAILBOX_LENGTH);
    let pump = Pump::new(
        Direction::ToClient,
        from_desktop,
        to_client,
        Arc::clone(&relay),
        client_mailbox,
        desktop_mail.clone(),
    );
    let mut towards_client = Task::spawn(pump, client_mail.clone());
    let pump = Pump::new(
        Direction::ToDesktop,
        from_client,
        to_desktop,
        Arc::clone(&relay),
        desktop_mailbox,
        client_mail,
    );
    let mut towards_desktop = Task::spawn(pump, desktop_mail.clone());

    let ended = tokio::select! {
        ended = towards_client.ended() => ended,
        ended = towards_desktop.ended() => ended,
        ended = relay.watch(&desktop_mail) => ended,
        ended = relay.outlived() => ended,
        () = stopping(shutdown) => Ended::new(EndReason::GatewayShutdown, "gateway is shutting down"),
    };
    let ended = if relay.may_be_mistaken(&ended) {
        // A write fails before the read on the same leg can tell that the peer has left in order.
        let second = async {
            tokio::select! {
                ended = towards_client.ended() => ended,
                ended = towards_desktop.ended() => ended,
            }
        };
        timeout(SECOND_THOUGHT, second)
            .await
            .ok()
            .filter(|second| second.reason.is_ordinary())
            .unwrap_or(ended)
    } else {
        ended
    };
    let (client_end, desktop_end) = tokio::join!(towards_client.stop(), towards_desktop.stop());
    let (ended, words) = relay.last_words(ended).await;
    say_goodbye(&words, client_end, desktop_end).await;
    relay.close_recording(&ended);
    relay.settle(account);
    ended
}

/// Says `words` to the client, if its stream stands between two PDUs, and closes both legs.
async fn say_goodbye(
    words: &Words,
    client_end: Option<Outcome<ReadHalf<DesktopStream>, WriteHalf<ClientStream>>>,
    desktop_end: Option<Outcome<ReadHalf<ClientStream>, WriteHalf<DesktopStream>>>,
) {
    let (mut client_writer, mut desktop_reader) = (None, None);
    let (mut desktop_writer, mut client_reader) = (None, None);
    if let Some(Outcome { reader, writer, .. }) = client_end {
        (desktop_reader, client_writer) = (Some(reader), Some(writer));
    }
    if let Some(Outcome { reader, writer, .. }) = desktop_end {
        (client_reader, desktop_writer) = (Some(reader), Some(writer));
    }
    let nothing = Words::new();
    // What fails here fails to be said; the session is over all the same.
    let client = timeout(LAST_WORDS, close(client_reader, client_writer, words));
    let desktop = timeout(LAST_WORDS, close(desktop_reader, desktop_writer, &nothing));
    let _ = tokio::join!(client, desktop);
}

/// Sends `words`, closes the writing half and, if something was said, waits for the peer to close too.
async fn close<S: AsyncRead + AsyncWrite + Unpin>(
    reader: Option<ReadHalf<S>>,
    writer: Option<WriteHalf<S>>,
    words: &Words,
) -> std::io::Result<()> {
    let Some(mut writer) = writer else { return Ok(()) };
    for pdu in words {
        writer.write_all(pdu).await?;
    }
    writer.flush().await?;
    writer.shutdown().await?;
    match reader {
        Some(mut reader) if !words.is_empty() => drain(&mut reader).await,
        _ => Ok(()),
    }
}
