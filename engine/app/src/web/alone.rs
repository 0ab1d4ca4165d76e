//! `deskreel recordings play`: the player for one recording, on loopback, for whoever has the one-time token.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use ed25519_dalek::VerifyingKey;
use rand::Rng as _;
use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;

use super::answer::Failure;
use super::auth::{Doors, set_cookie};
use super::desk::Desk;
use super::shelf::Shelf;
use super::{Site, router, server};
use crate::catalog::SessionRow;
use crate::replay::Source;

/// How long the player may be used after it was opened: a working day, as for a sign-in.
const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);

/// One recording.
pub(crate) struct Alone {
    /// What is known of it.
    pub(crate) row: SessionRow,
    source: Source,
    /// The keys to trust, if there are any.
    pub(crate) keys: Vec<VerifyingKey>,
    /// What the command was given, for the export's command.
    pub(crate) target: String,
    token: Mutex<Option<String>>,
}

/// The bound server.
pub(crate) struct Player {
    listener: TcpListener,
    site: Arc<Site>,
    /// The page to open; works once.
    pub(crate) url: String,
}

impl Alone {
    /// A recording that may be shown: whoever calls this has asked the rules and told the audit log.
    pub(crate) fn new(row: SessionRow, source: Source, keys: Vec<VerifyingKey>, target: String) -> Self {
        Self {
            row,
            source,
            keys,
            target,
            token: Mutex::new(None),
        }
    }

    pub(super) fn source(&self) -> Source {
        self.source.clone()
    }

    /// Binds a free port on loopback, or the one that is wanted.
    ///
    /// # Errors
    /// No port.
    pub(crate) async fn bind(self, port: u16) -> anyhow::Result<Player> {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let listener = TcpListener::bind(listen)
            .await
            .with_context(|| format!("listen on {listen}"))?;
        let origin = format!(
            "http://{}",
            listener.local_addr().context("ask where the player listens")?
        );
        let mut bytes = [0; 24];
        rand::rng().fill_bytes(&mut bytes);
        let token = hex::encode(bytes);
        let url = format!("{origin}/open/{token}");
        *self.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        let site = Site {
            doors: Doors::new(SESSION_TTL),
            desk: Desk::Alone(Box::new(self)),
            shelf: Shelf::default(),
            origin: Some(origin),
            is_secure: false,
        };
        Ok(Player {
            listener,
            site: Arc::new(site),
            url,
        })
    }
}

impl Player {
    /// Serves until it is dropped.
    pub(crate) async fn run(self) {
        server::serve(self.listener, None, router(self.site)).await;
    }
}

/// `GET /open/{token}`: once, the cookie and the way to the player.
pub(super) async fn open(Shared(site): Shared<Arc<Site>>, Path(said): Path<String>) -> Result<Response, Failure> {
    let Desk::Alone(alone) = &site.desk else {
        return Err(Failure::NotFound);
    };
    {
        let mut token = alone.token.lock().unwrap_or_else(PoisonError::into_inner);
        let same = token
            .as_ref()
            .is_some_and(|token| Sha256::digest(token) == Sha256::digest(&said));
        if !same {
            return Err(Failure::NotFound);
        }
        *token = None;
    }
    let value = site.doors.enter("local")?;
    let place = [
        (header::SET_COOKIE, set_cookie(&site, &value)),
        (header::LOCATION, format!("/play/{}", alone.row.id)),
    ];
    Ok((StatusCode::SEE_OTHER, place).into_response())
}
