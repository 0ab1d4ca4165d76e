//! The pages: session recordings in a browser. HTTP in, JSON and the embedded pages out.
//!
//! Who asks is a local user who signed in ([`auth`]); what they may see is ruled by [`crate::access::recordings`], as on the
//! command line. The pages are in `pages/`: plain ES modules, embedded, without a build step and without a request to any
//! other host. `deskreel recordings play` serves the same player for one recording, without a gateway ([`alone`]).

pub(crate) mod alone;
mod answer;
mod assets;
mod auth;
mod desk;
mod download;
mod listing;
mod live;
mod look;
mod reader;
mod server;
mod shelf;
mod shield;
mod viewing;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use deskreel_config::{Config, TlsMin};
use tokio::net::TcpListener;

use crate::access::Access;
use crate::gateway::registry::Registry;
use crate::gateway::tls::Identities;
use crate::host::StorageHandle;
use crate::pipeline::Sessions;
use auth::Doors;
use desk::{Desk, Gateway};
use shelf::Shelf;

/// Longest body of a request.
const BODY_MAX_BYTES: usize = 16 << 10;

/// Everything that requests work with.
pub(crate) struct Site {
    /// Who is in.
    doors: Doors,
    /// What there is to see, and who may.
    desk: Desk,
    /// What was read already.
    shelf: Shelf,
    /// `web.external_url`, or the one address of `recordings play`.
    origin: Option<String>,
    /// Whether browsers come by TLS, to this server or to a proxy in front.
    is_secure: bool,
}

/// The bound server.
pub(crate) struct Web {
    listener: TcpListener,
    tls: Option<Identities>,
    site: Arc<Site>,
}

impl Web {
    /// Binds `web.listen`; `None` when that is not set.
    ///
    /// # Errors
    /// An address that can't be bound, a certificate or a catalog that can't be used.
    pub(crate) async fn bind(
        config: &Config,
        access: Arc<Access>,
        registry: Registry,
        sessions: &Sessions,
        storages: Vec<Arc<StorageHandle>>,
    ) -> anyhow::Result<Option<Self>> {
        let Some(listen) = config.web.listen else {
            return Ok(None);
        };
        let tls = match (&config.web.certificate, &config.web.private_key) {
            (Some(certificate), Some(private_key)) => {
                let identities =
                    Identities::load(Some(certificate), Some(private_key), &config.data_dir, TlsMin::Tls12);
                Some(identities.context("use web.certificate and web.private_key")?)
            }
            _ => None,
        };
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listen on {listen} (web.listen)"))?;
        let origin = config.web.external_url.clone();
        let is_secure = tls.is_some() || origin.as_deref().is_some_and(|url| url.starts_with("https://"));
        let gateway = Gateway::open(config, access, registry, sessions.audit().clone(), storages)?;
        let site = Site {
            doors: gateway.doors(config.web.session_ttl)?,
            desk: Desk::Gateway(Box::new(gateway)),
            shelf: Shelf::default(),
            origin,
            is_secure,
        };
        Ok(Some(Self {
            listener,
            tls,
            site: Arc::new(site),
        }))
    }

    /// Where it listens.
    ///
    /// # Errors
    /// The socket is gone.
    pub(crate) fn local_addr(&self) -> anyhow::Result<SocketAddr> {
        self.listener.local_addr().context("ask where the pages listen")
    }

    /// Serves until it is dropped.
    pub(crate) async fn run(self) {
        let reading = reader::run(Arc::clone(&self.site));
        let serving = server::serve(self.listener, self.tls, router(Arc::clone(&self.site)));
        let sweeping = auth::sweep(self.site);
        tokio::join!(reading, sweeping, serving);
    }
}

/// All that can be asked for.
fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(assets::recordings))
        .route("/sign-in", get(assets::sign_in))
        .route("/play/{id}", get(assets::player))
        .route("/open/{token}", get(alone::open))
        .route("/assets/{*path}", get(assets::file))
        .route("/api/me", get(auth::me))
        .route("/api/signed-in", get(auth::signed_in))
        .route("/api/sign-in", post(auth::sign_in))
        .route("/api/sign-out", post(auth::sign_out))
        .route("/api/recordings", get(listing::recordings))
        .route("/api/recordings/{id}", get(listing::recording))
        .route("/api/recordings/{id}/poster.png", get(look::poster))
        .route("/api/recordings/{id}/play", post(viewing::play))
        .route("/api/recordings/{id}/index", get(viewing::index))
        .route("/api/recordings/{id}/timeline", get(viewing::timeline))
        .route("/api/recordings/{id}/segments/{number}", get(viewing::segment))
        .route("/api/recordings/{id}/download", get(download::recording))
        .route("/api/recordings/{id}/exports/{name}", get(download::export))
        .route("/api/recordings/{id}/verify", get(look::verify))
        .route("/api/sessions/{id}/terminate", post(live::terminate))
        .fallback(answer::nothing_here)
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&site), shield::guard))
        .with_state(site)
}
