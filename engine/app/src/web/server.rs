//! Connections: TLS or plain, HTTP/1.1, with a limit on everything.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::gateway::tls::Identities;

/// Connections at once.
const CONNECTIONS_MAX: usize = 512;
/// Connections at once from one address; a proxy on this machine has as many as there are.
const PER_ADDRESS_MAX: usize = 64;
/// How long TLS may take, and a request's head; also how long a connection may rest between two requests.
const PATIENCE: Duration = Duration::from_secs(20);
/// Longest life of a connection, but while something large is taken from it at a fair pace: whoever takes an answer byte by
/// byte gives the place back.
const LIFE_MAX: Duration = Duration::from_secs(600);
/// Longest head of a request, in bytes.
const HEAD_MAX_BYTES: usize = 32 << 10;
/// Most header fields of a request.
const FIELDS_MAX: usize = 64;
/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where a request comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// How long a connection may live; those who hand out something large put its end off.
#[derive(Debug, Clone)]
pub(super) struct Life(Arc<Mutex<Instant>>);

impl Life {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Instant::now() + LIFE_MAX)))
    }

    /// From now on as long as at the beginning.
    pub(super) fn extend(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + LIFE_MAX;
    }

    fn end(&self) -> Instant {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn over(&self) {
        while self.end() > Instant::now() {
            tokio::time::sleep_until(self.end()).await;
        }
    }
}

/// Answers until it is dropped.
pub(super) async fn serve(listener: TcpListener, tls: Option<Identities>, router: Router) {
    let places = Arc::new(Places::default());
    // Ends what still answers when this future is dropped.
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        match accepted {
            Ok((stream, peer)) => {
                let Some(place) = places.take(peer.ip()) else {
                    debug!(%peer, "too many connections to the pages");
                    continue;
                };
                let life = Life::new();
                let router = router
                    .clone()
                    .layer(Extension(Peer(peer)))
                    .layer(Extension(life.clone()));
                let tls = tls
                    .as_ref()
                    .map(|identities| TlsAcceptor::from(identities.current().config));
                connections.spawn(async move {
                    tokio::select! {
                        () = connection(stream, tls, router) => {}
                        () = life.over() => debug!(%peer, "a connection to the pages has lasted too long"),
                    }
                    drop(place);
                });
            }
            Err(error) => {
                warn!(%error, "accept on web.listen failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, tls: Option<TlsAcceptor>, router: Router) {
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(stream, router).await,
        Some(tls) => match timeout(PATIENCE, tls.accept(stream)).await {
            Ok(Ok(stream)) => requests(stream, router).await,
            Ok(Err(error)) => debug!(%error, "TLS with a browser"),
            Err(_) => debug!("TLS with a browser took too long"),
        },
    }
}

async fn requests(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, router: Router) {
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(PATIENCE)
        .max_buf_size(HEAD_MAX_BYTES)
        .max_headers(FIELDS_MAX)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await;
    if let Err(error) = served {
        debug!(%error, "a connection to the pages");
    }
}

/// Counts connections.
#[derive(Debug, Default)]
struct Places {
    taken: Mutex<HashMap<IpAddr, usize>>,
}

/// A connection's place; given back on drop.
struct Place {
    places: Arc<Places>,
    address: IpAddr,
}

impl Places {
    fn take(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.get(&address).copied().unwrap_or(0);
        let is_full = taken.values().sum::<usize>() >= CONNECTIONS_MAX;
        if is_full || (here >= PER_ADDRESS_MAX && !address.is_loopback()) {
            return None;
        }
        taken.insert(address, here + 1);
        Some(Place {
            places: Arc::clone(self),
            address,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(here) = taken.get_mut(&self.address) {
            *here = here.saturating_sub(1);
            if *here == 0 {
                taken.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn one_address_does_not_take_all_places() {
        let places = Arc::new(Places::default());
        let far: IpAddr = "192.0.2.1".parse().unwrap();
        let mut taken: Vec<_> = (0..PER_ADDRESS_MAX).map(|_| places.take(far).unwrap()).collect();
        assert!(places.take(far).is_none());
        taken.pop();
        assert!(places.take(far).is_some());
        assert!(places.take("192.0.2.2".parse().unwrap()).is_some());
        drop(taken);
        assert!(places.taken.lock().unwrap().is_empty());
    }
}
