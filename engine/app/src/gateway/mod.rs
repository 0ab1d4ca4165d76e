//! The gateway: listener, handshakes, TLS and the relay between client and desktop.
//!
//! Life of a session, top to bottom: [`Gateway::run`] accepts -> [`limits`] admits -> [`session`] drives it:
//! [`handshake`] reads the client's request and chooses how its leg is secured. With NLA: TLS ([`tls`]) -> [`nla`] finds out
//! who it is ([`prove`]) and whether it may ([`judge`]) -> [`desktop`] connects, checks the certificate and logs on. Without:
//! [`desktop`] connects first, and [`judge`] has its say when Client Info is held back in the relay. Then [`relay`] pumps
//! PDUs both ways through the filter, with a copy to the recorder -> [`end`] says why it ended, in the log, the catalog and, where the protocol allows it, to the client.
//! A client that its desktop redirects is sent back here for another desktop: [`handover`] knows it when it comes.

mod credssp;
mod desktop;
pub(crate) mod end;
pub(crate) mod grant;
pub(crate) mod guard;
mod handover;
mod handshake;
mod judge;
mod limits;
mod locks;
mod name;
mod nla;
pub(crate) mod pins;
mod prove;
pub(crate) mod registry;
mod relay;
mod rights;
mod secret;
mod session;
mod tell;
pub(crate) mod tls;

#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use anyhow::Context as _;
use deskreel_config::{ClientSecurity, Config, Graphics, Resources};
use time::OffsetDateTime;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tracing::{debug, error, info, warn};

use crate::access::Access;
use crate::credentials::Credentials;
use crate::pipeline::Sessions;
use desktop::Desktops;
use guard::{Guard, GuardLimits};
use handover::Handovers;
use limits::{Limits, Maxima};
use pins::Pins;
use registry::Registry;
use tls::Identities;

/// Bytes read from a socket at once. rustls by itself asks for 4 KiB a read: a system call for each quarter of a record.
const SOCKET_BUFFER_BYTES: usize = 64 * 1024;
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound gateway.
pub(crate) struct Gateway {
    listeners: Vec<Listener>,
    local_addr: SocketAddr,
    shared: Arc<Shared>,
}

/// A bound address.
struct Listener {
    socket: TcpListener,
    /// The only desktop behind it, if there is only one.
    desktop: Option<String>,
}

/// What all sessions share.
struct Shared {
    identities: Identities,
    client_security: Vec<ClientSecurity>,
    graphics: Graphics,
    default_desktop: Option<String>,
    desktops: Desktops,
    credentials: Arc<Credentials>,
    guard: Guard,
    /// Turns for checking passwords.
    checks: Semaphore,
    access: Arc<Access>,
    registry: Registry,
    sessions: Sessions,
    limits: Arc<Limits>,
    handovers: Handovers,
    handshake_timeout: Duration,
    activation_timeout: Duration,
    connect_timeout: Duration,
    shutdown_timeout: Duration,
    secret_timeout: Duration,
    bandwidth_max: Option<u64>,
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
        let identities = Identities::load(
            gateway.certificate.as_deref(),
            gateway.private_key.as_deref(),
            &config.data_dir,
            gateway.tls_min,
        )?;
        let desktops = Desktops::new(Pins::open(&config.data_dir)?, gateway.tls_min)?;
        for resource in &resources.desktops {
            // what can't be prepared is told now, not at the first session
            desktops
                .prepare(&Arc::new(resource.clone()))
                .with_context(|| format!("desktop {}", resource.name))?;
        }
        let (listeners, local_addr) = listen(gateway).await?;
        let shared = Shared {
            identities,
            client_security: gateway.client_security.clone(),
            graphics: gateway.graphics,
            default_desktop: gateway.default_desktop.clone(),
            desktops,
            credentials: Arc::new(Credentials::open(&config.data_dir)?),
            guard: Guard::new(GuardLimits {
                per_user_max: gateway.logon_failures_max,
                per_address_max: gateway.logon_failures_per_address_max,
                block: gateway.logon_block,
                trust: gateway.logon_trust,
            }),
            checks: Semaphore::new(prove::CHECKS_MAX),
            access,
            registry: Registry::new(usize::try_from(gateway.sessions_per_desktop_max).unwrap_or(usize::MAX)),
            sessions,
            limits: Limits::new(Maxima {
                sessions: usize::try_from(gateway.sessions_max).unwrap_or(usize::MAX),
                pending: usize::try_from(gateway.connections_pending_max).unwrap_or(usize::MAX),
                per_address: usize::try_from(gateway.connections_per_address_max).unwrap_or(usize::MAX),
            }),
            handovers: Handovers::default(),
            handshake_timeout: gateway.handshake_timeout,
            activation_timeout: gateway.activation_timeout,
            connect_timeout: gateway.connect_timeout,
            shutdown_timeout: gateway.shutdown_timeout,
            secret_timeout: gateway.secret_timeout,
            bandwidth_max: gateway.bandwidth_max,
            screen_max_pixels: gateway.screen_max_pixels,
        };
        Ok(Self {
            listeners,
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
    pub(crate) fn fingerprint(&self) -> String {
        self.shared.identities.current().fingerprint
    }

    /// Serves until `stop` resolves, then ends the open sessions and waits for them, at most
    /// `gateway.shutdown_timeout`.
    pub(crate) async fn run(self, stop: impl Future<Output = ()>) {
        let Self { listeners, shared, .. } = self;
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
                (accepted, bound) = next(&listeners) => match accepted {
                    Ok((stream, peer)) => accept(&mut open, &shared, stream, peer, bound, &ended),
                    Err(error) => {
                        warn!(%error, "accept failed");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        drop(listeners);
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

/// Binds `gateway.listen` and `gateway.listeners`; tells the port of the former.
async fn listen(gateway: &deskreel_config::Gateway) -> anyhow::Result<(Vec<Listener>, SocketAddr)> {
    let bind = async |key: &str, address: SocketAddr| {
        let socket = TcpListener::bind(address).await;
        socket.with_context(|| format!("{key}: bind {address}"))
    };
    let socket = bind("gateway.listen", gateway.listen).await?;
    let local_addr = socket
        .local_addr()
        .context("gateway.listen: ask for the bound address")?;
    let mut listeners = vec![Listener { socket, desktop: None }];
    for (index, listener) in gateway.listeners.iter().enumerate() {
        let key = format!("gateway.listeners[{index}].listen");
        listeners.push(Listener {
            socket: bind(&key, listener.listen).await?,
            desktop: Some(listener.desktop.clone()),
        });
    }
    Ok((listeners, local_addr))
}

/// The next connection, and the desktop that its listener is bound to. Cancel safe.
async fn next(listeners: &[Listener]) -> (std::io::Result<(TcpStream, SocketAddr)>, Option<String>) {
    poll_fn(|context| {
        for Listener { socket, desktop } in listeners {
            if let Poll::Ready(accepted) = socket.poll_accept(context) {
                return Poll::Ready((accepted, desktop.clone()));
            }
        }
        Poll::Pending
    })
    .await
}

impl Shared {
    /// The desktop of this name, if it is there.
    fn desktop(&self, name: &str) -> Option<crate::access::Desktop> {
        self.access.view().desktop(name, OffsetDateTime::now_utc()).cloned()
    }

    /// Whether some desktop may use the graphics pipeline.
    fn has_graphics(&self) -> bool {
        !matches!(self.graphics, Graphics::Legacy) || self.access.view().has_graphics(OffsetDateTime::now_utc())
    }
}

fn accept(
    open: &mut JoinSet<()>,
    shared: &Arc<Shared>,
    stream: TcpStream,
    peer: SocketAddr,
    bound: Option<String>,
    ended: &watch::Receiver<bool>,
) {
    match shared.limits.admit(peer.ip()) {
        Ok(permit) => {
            let shared = Arc::clone(shared);
            open.spawn(session::serve(shared, stream, peer, bound, permit, ended.clone()));
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
