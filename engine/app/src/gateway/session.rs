//! One session from accept to close.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use deskreel_rdp::wire::x224::{
    ConnectionRequest, confirm_flags, connection_confirm, protocol, requested_desktop, returning,
};
use tokio::io::{AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use tokio_rustls::{TlsAcceptor, rustls};
use tracing::{Instrument as _, info, info_span, warn};
use uuid::Uuid;

use super::credssp::early;
use super::desktop::{Desktop, DesktopLeg, Hello};
use super::end::{EndReason, Ended};
use super::grant::Grant;
use super::guard::Blocked;
use super::handover::Handover;
use super::judge::DesktopAccount;
use super::limits::Permit;
use super::tls::Identity;
use super::{SOCKET_BUFFER_BYTES, Shared, handshake, nla, prepare, prove, relay, tell};
use crate::access;
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
    /// The only desktop of the listener that it came through, if that is bound to one.
    bound: Option<String>,
    /// What a client has come back with that was sent here for another desktop.
    pub(super) handover: OnceLock<Handover>,
    /// Its place among the connections, and then among the sessions.
    pub(super) permit: Arc<Permit>,
    /// Closed when this is dropped: the session is over.
    pub(super) over: watch::Sender<()>,
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
    bound: Option<String>,
    permit: Permit,
    mut shutdown: watch::Receiver<bool>,
) {
    let id = Uuid::now_v7();
    let log = shared.sessions.audit();
    let audit = log.session(log.scope(id, &peer.to_string()));
    let permit = Arc::new(permit);
    let admitted = Admitted {
        shared,
        id,
        peer,
        started: SystemTime::now(),
        started_at: Instant::now(),
        audit,
        bound,
        handover: OnceLock::new(),
        permit: Arc::clone(&permit),
        over: watch::Sender::new(()),
    };
    let span = info_span!("session", %id, %peer);
    let work = async move {
        let mut account = Account::default();
        let ended = Box::pin(admitted.drive(stream, &mut shutdown, &mut account)).await;
        log_end(&ended, &account, admitted.started_at);
        let guard = &admitted.shared.guard;
        let is_news = || {
            let block = match ended.reason {
                EndReason::UserWaits => Blocked::Wait,
                EndReason::UserBlocked => Blocked::User,
                EndReason::AddressBlocked => Blocked::Address,
                _ => return true,
            };
            guard.is_news(block, &account.user, peer.ip(), Instant::now())
        };
        tell::over(&admitted.audit, &ended, &account, is_news).await;
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

/// A client whose desktop leg is ready.
struct Ready {
    client: TlsStream<ClientSocket>,
    desktop: Desktop,
    leg: DesktopLeg,
    /// Who is let in as whom, where that is known already.
    entry: Option<Entry>,
}

/// What is settled before the relay begins: on an NLA client leg.
pub(super) struct Entry {
    pub(super) grant: Arc<Grant>,
    /// What goes into Client Info.
    pub(super) logon: DesktopAccount,
}

impl Admitted {
    async fn drive(&self, stream: TcpStream, shutdown: &mut watch::Receiver<bool>, account: &mut Account) -> Ended {
        prepare(&stream);
        let mut client = BufReader::with_capacity(SOCKET_BUFFER_BYTES, stream);
        let stop = || Ended::new(EndReason::GatewayShutdown, "gateway is shutting down");
        let opened = tokio::select! {
            biased;
            () = stopping(shutdown) => Err(stop()),
            opened = self.open(&mut client) => opened,
        };
        let (request, security) = match opened {
            Ok(opened) => opened,
            Err(ended) => {
                handshake::refuse(&mut client, ended.reason).await;
                return ended;
            }
        };
        let ready = tokio::select! {
            biased;
            () = stopping(shutdown) => Err(stop()),
            ready = async {
                if security == protocol::SSL {
                    self.by_tls(client, &request, account).await
                } else {
                    self.by_nla(client, &request, security, account).await
                }
            } => ready,
        };
        match ready {
            Ok(ready) => {
                let Ready {
                    client,
                    desktop,
                    leg,
                    entry,
                } = ready;
                relay::run(self, &request, &desktop, leg, client, entry, shutdown, account).await
            }
            Err(ended) => ended,
        }
    }

    /// Reads the client's request and chooses how its leg is secured.
    async fn open(&self, client: &mut ClientSocket) -> Result<(ConnectionRequest, u32), Ended> {
        let shared = &self.shared;
        let request = timeout(shared.handshake_timeout, handshake::read_opening(client))
            .await
            .unwrap_or_else(|_| Err(self.too_slow("did not send its connection request")))?;
        let expected = returning(&request).and_then(|number| shared.handovers.take(number, Instant::now()));
        if let Some(handover) = expected {
            let before = handover.session.to_string();
            self.audit.update(|scope| scope.redirected_from = Some(before));
            handover.follow().await;
            // Err = there is but one request
            let _ = self.handover.set(handover);
        }
        let nobody = !prove::anybody(shared).await?;
        let security = handshake::choose_security(&request, &shared.client_security, nobody)?;
        let gives_way = nobody && security != handshake::choose_security(&request, &shared.client_security, false)?;
        if gives_way {
            info!("the client gets TLS and not NLA: no user has a password, and there is no ticket");
        }
        Ok((request, security))
    }

    /// A client without NLA: its credentials come when the desktop is waiting for them, so the desktop is connected to
    /// first. The client is still waiting for its confirm then, so whatever fails can be told.
    async fn by_tls(
        &self,
        mut client: ClientSocket,
        request: &ConnectionRequest,
        account: &mut Account,
    ) -> Result<Ready, Ended> {
        let reached = match prove::may_try(&self.shared, self.peer.ip()) {
            Ok(()) => self.reach_desktop(request, account).await,
            Err(ended) => Err(ended),
        };
        let (desktop, leg) = match reached {
            Ok(reached) => reached,
            Err(ended) => {
                handshake::refuse(&mut client, ended.reason).await;
                return Err(ended);
            }
        };
        let identity = self.shared.identities.current();
        let client = timeout(
            self.shared.handshake_timeout,
            self.accept_tls(client, protocol::SSL, &identity),
        )
        .await
        .unwrap_or_else(|_| Err(self.too_slow("did not finish its TLS handshake")))?;
        Ok(Ready {
            client,
            desktop,
            leg,
            entry: None,
        })
    }

    /// A client with NLA: nothing is done for it before it has proved who it is and is let in.
    async fn by_nla(
        &self,
        client: ClientSocket,
        request: &ConnectionRequest,
        security: u32,
        account: &mut Account,
    ) -> Result<Ready, Ended> {
        let shared = &self.shared;
        let identity = shared.identities.current();
        let accept = self.accept_tls(client, security, &identity);
        let mut client = timeout(shared.handshake_timeout, accept)
            .await
            .unwrap_or_else(|_| Err(self.too_slow("did not finish its TLS handshake")))?;
        let offer = nla::Offer {
            bound: self.bound(),
            otherwise: requested_desktop(request).or(shared.default_desktop.as_deref()),
            early_result: security == protocol::HYBRID_EX,
        };
        // people read certificate warnings before their client goes on
        let logon = nla::log_on(self, &mut client, identity.public_key.clone(), &offer, account);
        let passed = timeout(shared.activation_timeout, logon).await.unwrap_or_else(|_| {
            let detail = format!(
                "client did not log on within gateway.activation_timeout ({:?})",
                shared.activation_timeout
            );
            Err(Ended::new(EndReason::HandshakeTimeout, detail))
        })?;
        let reached = self.enter_desktop(passed).await;
        let result = if reached.is_ok() {
            early::SUCCESS
        } else {
            early::ACCESS_DENIED
        };
        let words = nla::early_result(&offer, result);
        match reached {
            Ok((desktop, leg, entry)) => {
                let tell = async {
                    client
                        .write_all(words.as_ref().map(<[u8; 4]>::as_slice).unwrap_or_default())
                        .await?;
                    client.flush().await
                };
                tell.await
                    .map_err(|error| Ended::new(EndReason::ClientLost, format!("write to the client: {error}")))?;
                Ok(Ready {
                    client,
                    desktop,
                    leg,
                    entry: Some(entry),
                })
            }
            Err(ended) => {
                handshake::linger(&mut client, words.as_ref().map(<[u8; 4]>::as_slice).as_slice()).await;
                Err(ended)
            }
        }
    }

    /// Connects to the desktop of a client that was let in, and logs on to it.
    async fn enter_desktop(&self, passed: nla::Passed) -> Result<(Desktop, DesktopLeg, Entry), Ended> {
        let nla::Passed { judged, desktop, own } = passed;
        self.permit.enter()?;
        let logon = judged.account(own, self.shared.secret_timeout).await?;
        let desktop = self.prepare(&desktop)?;
        let leg = self.connect(&desktop, Some(&logon.login), Some(&logon)).await?;
        let entry = Entry {
            grant: judged.grant,
            logon,
        };
        Ok((desktop, leg, entry))
    }

    /// The only desktop that it may be, if there is only one.
    fn bound(&self) -> Option<&str> {
        let handover = self.handover.get().map(|handover| handover.desktop.as_str());
        handover.or(self.bound.as_deref())
    }

    /// Finds the desktop that a request asks for and connects to it.
    async fn reach_desktop(
        &self,
        request: &ConnectionRequest,
        account: &mut Account,
    ) -> Result<(Desktop, DesktopLeg), Ended> {
        let requested = requested_desktop(request);
        if let (Some(bound), Some(requested)) = (self.bound(), requested)
            && bound != requested
        {
            let detail = format!("client asks for {requested:?}, but the listener leads to {bound:?}");
            return Err(Ended::new(EndReason::OtherDesktop, detail));
        }
        let shared = &self.shared;
        let named = self.bound().or(requested).or(shared.default_desktop.as_deref());
        let Some(name) = named else {
            return Err(Ended::new(
                EndReason::DesktopNotNamed,
                "client named no desktop and gateway.default_desktop is not set",
            ));
        };
        let desktop = shared.desktop(name).ok_or_else(|| {
            // a client's words: at most as long as a name may be, and quoted
            let name: String = name.chars().take(64).collect();
            Ended::new(EndReason::DesktopUnknown, format!("no desktop is named {name:?}"))
        })?;
        account.desktop.clone_from(&desktop.resource.name);
        let desktop = self.prepare(&desktop)?;
        // what comes behind a colon is for the gateway
        let cookie = request.cookie.as_deref().and_then(|cookie| cookie.split(':').next());
        let leg = self.connect(&desktop, cookie, None).await?;
        Ok((desktop, leg))
    }

    fn prepare(&self, desktop: &access::Desktop) -> Result<Desktop, Ended> {
        self.shared.desktops.prepare(&desktop.resource).map_err(|error| {
            let detail = format!("desktop {}: {error:#}", desktop.resource.name);
            Ended::new(EndReason::Internal, detail)
        })
    }

    async fn connect(
        &self,
        desktop: &Desktop,
        cookie: Option<&str>,
        logon: Option<&DesktopAccount>,
    ) -> Result<DesktopLeg, Ended> {
        let Shared {
            connect_timeout,
            desktops,
            ..
        } = &*self.shared;
        let token = self
            .handover
            .get()
            .and_then(|handover| handover.routing_token.as_deref());
        let hello = token.map_or(Hello::Cookie(cookie), Hello::Token);
        timeout(*connect_timeout, desktops.connect(desktop, hello, logon))
            .await
            .unwrap_or_else(|_| {
                Err(Ended::new(
                    EndReason::DesktopConnectTimeout,
                    format!(
                        "desktop {} at {} did not answer within gateway.connect_timeout ({connect_timeout:?})",
                        desktop.resource.name, desktop.resource.addr
                    ),
                ))
            })
    }

    /// Confirms `security` and does the TLS handshake.
    async fn accept_tls(
        &self,
        mut client: ClientSocket,
        security: u32,
        identity: &Identity,
    ) -> Result<TlsStream<ClientSocket>, Ended> {
        let aborted =
            |error: std::io::Error| Ended::new(EndReason::ClientTlsAborted, format!("client left before TLS: {error}"));
        let mut flags = confirm_flags::EXTENDED_CLIENT_DATA;
        // Which desktop it will be isn't always known yet; where it may not use it, the filter takes the client's offer out.
        if self.shared.has_graphics() {
            flags |= confirm_flags::DYNVC_GFX;
        }
        let confirm = connection_confirm(security, flags);
        client.write_all(&confirm).await.map_err(aborted)?;
        client.flush().await.map_err(aborted)?;
        let acceptor = TlsAcceptor::from(Arc::clone(&identity.config));
        acceptor.accept(client).await.map_err(|error| {
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
