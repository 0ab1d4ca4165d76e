//! One session from accept to close.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use deskreel_rdp::wire::x224::{ConnectionRequest, confirm_flags, connection_confirm, protocol, requested_desktop};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::rustls;
use tokio_rustls::server::TlsStream;
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::desktop::{Desktop, DesktopLeg};
use super::end::{EndReason, Ended};
use super::limits::Permit;
use super::{SOCKET_BUFFER_BYTES, Shared, handshake, prepare, relay, tell};
use crate::audit::SessionAudit;

/// The client's socket before TLS.
type ClientSocket = BufReader<TcpStream>;

/// A session that was let in.
pub(super) struct Admitted {
    pub(super) shared: Arc<Shared>,
    /// Session id and recording id.
    pub(super) id: Uuid,
    /// Where the client is.
    pub(super) peer: SocketAddr,
    /// Wall-clock time of the accept.
    pub(super) started: SystemTime,
    /// The same moment on the monotonic clock.
    pub(super) started_at: Instant,
    /// The session's part of the audit log.
    pub(super) audit: SessionAudit,
}

/// What the end's log line tells besides the reason.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Name of the desktop, once known.
    pub(super) desktop: String,
    /// Claimed user, once known.
    pub(super) user: String,
    /// Bytes of PDUs towards the client.
    pub(super) to_client_bytes: u64,
    /// Bytes of PDUs towards the desktop.
    pub(super) to_desktop_bytes: u64,
}

/// Serves one accepted connection and logs one line when it is over. `permit` is given back last.
pub(super) async fn serve(
    shared: Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    permit: Permit,
    mut shutdown: watch::Receiver<bool>,
) {
    let id = Uuid::now_v7();
    let log = shared.sessions.audit();
    let audit = log.session(log.scope(id, &peer.to_string()));
    let admitted = Admitted {
        shared,
        id,
        peer,
        started: SystemTime::now(),
        started_at: Instant::now(),
        audit,
    };
    let span = info_span!("session", %id, %peer);
    let work = async move {
        let mut account = Account::default();
        let ended = Box::pin(admitted.drive(stream, &mut shutdown, &mut account)).await;
        log_end(&ended, &account, admitted.started_at);
        tell::over(&admitted.audit, &ended, &account).await;
    };
    work.instrument(span).await;
    drop(permit);
}

/// Logs a connection that was over before it became a session.
pub(super) fn report_refused(peer: SocketAddr, ended: &Ended) {
    warn!(%peer, reason = ended.reason.code(), detail = ended.detail, "session refused");
}

fn log_end(ended: &Ended, account: &Account, started_at: Instant) {
    let Account {
        desktop,
        user,
        to_client_bytes,
        to_desktop_bytes,
        ..
    } = account;
    let Ended { reason, detail, .. } = ended;
    let duration_ms = u64::try_from(started_at.elapsed().as_millis()).unwrap_or(u64::MAX);
    let reason = reason.code();
    if ended.reason.is_ordinary() {
        info!(
            reason,
            detail, desktop, user, duration_ms, to_client_bytes, to_desktop_bytes, "session ended"
        );
    } else {
        warn!(
            reason,
            detail, desktop, user, duration_ms, to_client_bytes, to_desktop_bytes, "session ended"
        );
    }
}

/// Resolves when the gateway is told to stop.
pub(super) async fn stopping(shutdown: &mut watch::Receiver<bool>) {
    // Err = the gateway itself is gone, which is a stop too
    let _ = shutdown.wait_for(|stop| *stop).await;
}

impl Admitted {
    async fn drive(&self, stream: TcpStream, shutdown: &mut watch::Receiver<bool>, account: &mut Account) -> Ended {
        prepare(&stream);
        let mut client = BufReader::with_capacity(SOCKET_BUFFER_BYTES, stream);
        let reached = tokio::select! {
            biased;
            () = stopping(shutdown) => Err(Ended::new(EndReason::GatewayShutdown, "gateway is shutting down")),
            reached = self.reach_desktop(&mut client, account) => reached,
        };
        let (request, desktop, leg) = match reached {
            Ok(reached) => reached,
            Err(ended) => {
                handshake::refuse(&mut client, ended.reason).await;
                return ended;
            }
        };
        let accepted = tokio::select! {
            biased;
            () = stopping(shutdown) => Err(Ended::new(EndReason::GatewayShutdown, "gateway is shutting down")),
            accepted = timeout(self.shared.handshake_timeout, self.accept_tls(client)) => match accepted {
                Ok(accepted) => accepted,
                Err(_) => Err(self.too_slow("did not finish its TLS handshake")),
            },
        };
        match accepted {
            Ok(client) => relay::run(self, &request, desktop, leg, client, None, shutdown, account).await,
            Err(ended) => ended,
        }
    }

    /// Reads the client's request, finds the desktop that it asks for and connects to it. The client is still waiting
    /// for its confirm, so whatever fails here can be told.
    async fn reach_desktop(
        &self,
        client: &mut ClientSocket,
        account: &mut Account,
    ) -> Result<(ConnectionRequest, &Desktop, DesktopLeg), Ended> {
        let Shared {
            handshake_timeout,
            connect_timeout,
            desktops,
            ..
        } = &*self.shared;
        let request = timeout(*handshake_timeout, handshake::read_opening(client))
            .await
            .unwrap_or_else(|_| Err(self.too_slow("did not send its connection request")))?;
        handshake::check_security(&request)?;
        let desktop = desktops.resolve(requested_desktop(&request))?;
        let name = &desktop.resource.name;
        account.desktop.clone_from(name);
        let leg = timeout(*connect_timeout, desktops.connect(desktop, request.cookie.as_deref()))
            .await
            .unwrap_or_else(|_| {
                Err(Ended::new(
                    EndReason::DesktopConnectTimeout,
                    format!(
                        "desktop {name} at {} did not answer within gateway.connect_timeout ({connect_timeout:?})",
                        desktop.resource.addr
                    ),
                ))
            })?;
        Ok((request, desktop, leg))
    }

    /// Confirms TLS and does the handshake.
    async fn accept_tls(&self, mut client: ClientSocket) -> Result<TlsStream<ClientSocket>, Ended> {
        let aborted =
            |error: std::io::Error| Ended::new(EndReason::ClientTlsAborted, format!("client left before TLS: {error}"));
        let confirm = connection_confirm(protocol::SSL, confirm_flags::EXTENDED_CLIENT_DATA);
        client.write_all(&confirm).await.map_err(aborted)?;
        client.flush().await.map_err(aborted)?;
        self.shared.acceptor.accept(client).await.map_err(|error| {
            let alert = error
                .get_ref()
                .and_then(|inner| inner.downcast_ref::<rustls::Error>())
                .map(|inner| matches!(inner, rustls::Error::AlertReceived(_)));
            // no TLS error inside = the connection ended
            let reason = if alert.unwrap_or(true) {
                EndReason::ClientTlsAborted
            } else {
                EndReason::ClientTlsFailed
            };
            Ended::new(reason, format!("TLS with the client: {error}"))
        })
    }

    fn too_slow(&self, what: &str) -> Ended {
        Ended::new(
            EndReason::HandshakeTimeout,
            format!(
                "client {what} within gateway.handshake_timeout ({:?})",
                self.shared.handshake_timeout
            ),
        )
    }
}
