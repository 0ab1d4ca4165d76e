//! The gateway: listener, handshakes, TLS and the relay between client and desktop.
//!
//! Life of a session, top to bottom: [`Gateway::run`] accepts -> [`limits`] admits -> [`session`] drives it:
//! [`handshake`] reads the client's request -> [`desktop`] connects to the desktop and checks its certificate -> the
//! client gets its confirm and TLS ([`tls`]) -> [`relay`] pumps PDUs both ways through the filter, with a copy to the
//! recorder -> [`end`] says why it ended, in the log, the catalog and, where the protocol allows it, to the client.

#[allow(dead_code, reason = "the handshake will use it")]
mod credssp;
mod desktop;
pub(crate) mod end;
pub(crate) mod grant;
mod handshake;
mod limits;
mod locks;
mod pins;
pub(crate) mod registry;
mod relay;
mod rights;
mod session;
mod tell;
pub(crate) mod tls;

#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use deskreel_config::{Config, Resources};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, error, info, warn};

use crate::access::Access;
use crate::pipeline::Sessions;
use desktop::Desktops;
use limits::Limits;
use pins::Pins;
use registry::Registry;
use tls::Identity;

/// Bytes read from a socket at once. rustls by itself asks for 4 KiB a read: a system call for each quarter of a record.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound gateway.
pub(crate) struct Gateway {
    listener: TcpListener,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

/// What all sessions share.
struct Shared {
    acceptor: TlsAcceptor,
    identity: Identity,
    desktops: Desktops,
    access: Arc<Access>,
    registry: Registry,
    sessions: Sessions,
    limits: Arc<Limits>,
    handshake_timeout: Duration,
    activation_timeout: Duration,
    connect_timeout: Duration,
    shutdown_timeout: Duration,
    screen_max_pixels: u64,
}

impl Gateway {
    /// Loads certificate and pins, prepares the desktops and binds the listener. Nothing is accepted yet.
    ///
    /// # Errors
    /// By configuration key, file or address.
    pub(crate) async fn bind(
        config: &Config,
        resources: &Resources,
        access: Arc<Access>,
        sessions: Sessions,
    ) -> anyhow::Result<Self> {
        let gateway = &config.gateway;
        let identity = Identity::load(
            gateway.certificate.as_deref(),
            gateway.private_key.as_deref(),
            &config.data_dir,
        )?;
        let pins = Pins::open(&config.data_dir)?;
        let desktops = Desktops::new(resources, gateway.default_desktop.as_deref(), pins)?;
        let listener = TcpListener::bind(gateway.listen)
            .await
            .with_context(|| format!("gateway.listen: bind {}", gateway.listen))?;
        let local_addr = listener
            .local_addr()
            .context("gateway.listen: ask for the bound address")?;
        let shared = Shared {
            acceptor: TlsAcceptor::from(Arc::clone(&identity.config)),
            identity,
            desktops,
            access,
            registry: Registry::new(usize::try_from(gateway.sessions_per_desktop_max).unwrap_or(usize::MAX)),
            sessions,
            limits: Limits::new(
                usize::try_from(gateway.sessions_max).unwrap_or(usize::MAX),
                usize::try_from(gateway.connections_per_address_max).unwrap_or(usize::MAX),
            ),
            handshake_timeout: gateway.handshake_timeout,
            activation_timeout: gateway.activation_timeout,
            connect_timeout: gateway.connect_timeout,
            shutdown_timeout: gateway.shutdown_timeout,
            screen_max_pixels: gateway.screen_max_pixels,
        };
        Ok(Self {
            listener,
            local_addr,
            shared: Arc::new(shared),
        })
    }

    /// Where clients connect to; tells the port when the configured one is 0.
    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The sessions that run.
    pub(crate) fn registry(&self) -> Registry {
        self.shared.registry.clone()
    }

    /// SHA-256 of the certificate that clients see, lower-case hex.
    pub(crate) fn fingerprint(&self) -> &str {
        &self.shared.identity.fingerprint
    }

    /// Serves until `stop` resolves, then ends the open sessions and waits for them, at most
    /// `gateway.shutdown_timeout`.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listener, shared, .. } = self;
        let (ending, ended) = watch::channel(false);
        let mut open = JoinSet::new();
        let mut stop = pin!(stop);
        let mut locks = pin!(locks::watch(&shared.access, &shared.registry));
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                () = &mut locks => {}
                Some(joined) = open.join_next() => report(joined),
                accepted = listener.accept() => match accepted {
                    Ok((stream, peer)) => accept(&mut open, &shared, stream, peer, &ended),
                    Err(error) => {
                        warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listener);
        info!(sessions = shared.limits.open(), "shutting down");
        // Err = no session listens
        let _ = ending.send(true);
        let all = async {
            while let Some(joined) = open.join_next().await {
                report(joined);
            }
        };
        if tokio::time::timeout(shared.shutdown_timeout, all).await.is_err() {
            warn!(
                sessions = open.len(),
                "gateway.shutdown_timeout is over, dropping the sessions that are left"
            );
            open.shutdown().await;
        }
    }
}

fn accept(
    open: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    ended: &watch::Receiver<bool>,
) {
    match shared.limits.admit(peer.ip()) {
        Ok(permit) => {
            open.spawn(session::serve(Arc::clone(shared), stream, peer, permit, ended.clone()));
        }
        Err(ended) => session::report_refused(peer, &ended),
    }
}

fn report(joined: Result<(), tokio::task::JoinError>) {
    if let Err(error) = joined
        && error.is_panic()
    {
        error!(%error, "a session's task panicked; its session is gone, the gateway serves on");
    }
}

/// Settings of both legs' sockets.
fn prepare(stream: &TcpStream) {
    // Neither is worth a session: a socket that refuses them is about to fail anyway.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "set TCP_NODELAY");
    }
    if let Err(error) = rustix::net::sockopt::set_socket_keepalive(stream, true) {
        debug!(%error, "set SO_KEEPALIVE");
    }
}
