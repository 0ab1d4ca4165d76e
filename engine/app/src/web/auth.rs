//! Who is in: sign-ins, and the cookies that stand for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::answer::{Failure, blocking};
use super::desk::Desk;
use super::server::Peer;
use super::viewing::View;
use super::{Site, desk};

/// Sign-ins at once; the oldest makes room.
const SIGNED_MAX: usize = 10_000;
/// Sign-ins of one user at once; the oldest makes room.
const SIGNED_PER_USER_MAX: usize = 50;
/// Recordings that one sign-in may have open; the oldest makes room.
const VIEWS_MAX: usize = 64;
/// Longest user name and password, in bytes.
const NAME_MAX: usize = 255;
const PASSWORD_MAX: usize = 1024;
/// Passwords that are checked at once: each takes some tens of milliseconds and 19 MiB.
const CHECKS_MAX: usize = 4;

/// SHA-256 of a cookie's value: the value itself is kept nowhere.
type Key = [u8; 32];

/// All sign-ins.
pub(super) struct Doors {
    ttl: Duration,
    signed: Mutex<HashMap<Key, Entry>>,
    checks: tokio::sync::Semaphore,
}

struct Entry {
    user: String,
    csrf: String,
    begun: Instant,
    views: Vec<(Uuid, View)>,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub(super) struct Signed {
    key: Key,
    /// The user's name.
    pub(super) user: String,
    csrf: String,
    /// Where the request comes from.
    pub(super) address: IpAddr,
}

/// As [`Signed`], of a request that changes something and whose page knew the token.
#[derive(Debug, Clone)]
pub(super) struct Changing(pub(super) Signed);

fn random() -> String {
    let mut bytes = Zeroizing::new([0; 32]);
    rand::rng().fill_bytes(bytes.as_mut());
    hex::encode(bytes.as_ref())
}

fn key(value: &str) -> Key {
    Sha256::digest(value.as_bytes()).into()
}

impl Doors {
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            signed: Mutex::default(),
            checks: tokio::sync::Semaphore::new(CHECKS_MAX),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a user in; gives the cookie's value.
    pub(super) fn enter(&self, user: &str) -> String {
        let value = random();
        let entry = Entry {
            user: user.to_owned(),
            csrf: random(),
            begun: Instant::now(),
            views: Vec::new(),
        };
        let mut signed = self.lock();
        signed.retain(|_, entry| entry.begun.elapsed() < self.ttl);
        make_room(&mut signed, |entry| entry.user == user, SIGNED_PER_USER_MAX);
        make_room(&mut signed, |_| true, SIGNED_MAX);
        signed.insert(key(&value), entry);
        value
    }

    fn leave(&self, key: &Key) {
        self.lock().remove(key);
    }

    fn find(&self, value: &str, address: IpAddr) -> Option<Signed> {
        let key = key(value);
        let mut signed = self.lock();
        let entry = signed.get(&key)?;
        if entry.begun.elapsed() >= self.ttl {
            signed.remove(&key);
            return None;
        }
        Some(Signed {
            key,
            user: entry.user.clone(),
            csrf: entry.csrf.clone(),
            address,
        })
    }

    /// Remembers that somebody has opened a recording.
    pub(super) fn opened(&self, signed: &Signed, id: Uuid, view: View) {
        if let Some(entry) = self.lock().get_mut(&signed.key) {
            entry.views.retain(|(known, _)| *known != id);
            if entry.views.len() >= VIEWS_MAX {
                entry.views.remove(0);
            }
            entry.views.push((id, view));
        }
    }

    /// A recording that somebody has opened.
    pub(super) fn view(&self, signed: &Signed, id: Uuid) -> Option<View> {
        let signed_in = self.lock();
        let entry = signed_in.get(&signed.key)?;
        entry
            .views
            .iter()
            .find(|(known, _)| *known == id)
            .map(|(_, view)| view.clone())
    }
}

/// Removes the oldest of those that `counts` until fewer than `max` are left.
fn make_room(signed: &mut HashMap<Key, Entry>, counts: impl Fn(&Entry) -> bool, max: usize) {
    while signed.values().filter(|entry| counts(entry)).count() >= max {
        let oldest = signed
            .iter()
            .filter(|(_, entry)| counts(entry))
            .min_by_key(|(_, entry)| entry.begun);
        let Some(key) = oldest.map(|(key, _)| *key) else { return };
        signed.remove(&key);
    }
}

/// `__Host-` keeps other hosts of the domain from setting it; browsers demand TLS for it.
fn cookie_name(site: &Site) -> &'static str {
    if site.is_secure { "__Host-deskreel" } else { "deskreel" }
}

/// The header that sets the cookie; an empty value removes it.
pub(super) fn set_cookie(site: &Site, value: &str) -> String {
    let secure = if site.is_secure { "; Secure" } else { "" };
    let age = if value.is_empty() { 0 } else { site.doors.ttl.as_secs() };
    format!(
        "{}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={age}{secure}",
        cookie_name(site)
    )
}

fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let texts = headers
        .get_all(header::COOKIE)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(';'))
        .find_map(|pair| pair.trim().strip_prefix(name)?.strip_prefix('='))
}

impl FromRequestParts<Arc<Site>> for Signed {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Failure> {
        let value = cookie(&parts.headers, cookie_name(site)).ok_or(Failure::SignedOut)?;
        let address = peer(parts)?;
        let signed = site.doors.find(value, address).ok_or(Failure::SignedOut)?;
        // Who was locked out or removed meanwhile is out at once.
        if !site.desk.lets_in(&signed.user) {
            site.doors.leave(&signed.key);
            return Err(Failure::SignedOut);
        }
        Ok(signed)
    }
}

impl FromRequestParts<Arc<Site>> for Changing {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, site: &Arc<Site>) -> Result<Self, Failure> {
        let signed = Signed::from_request_parts(parts, site).await?;
        let said = parts.headers.get("x-csrf-token").map(header::HeaderValue::as_bytes);
        // Compared by digest, so that the time tells nothing.
        let same = said.is_some_and(|said| Sha256::digest(said) == Sha256::digest(signed.csrf.as_bytes()));
        if same {
            Ok(Self(signed))
        } else {
            Err(Failure::Request("the page's token is missing: load the page again"))
        }
    }
}

fn peer(parts: &Parts) -> Result<IpAddr, Failure> {
    let peer = parts.extensions.get::<Peer>().copied();
    peer.map(|Peer(address)| address.ip())
        .ok_or_else(|| Failure::Internal(anyhow::anyhow!("a request without a peer")))
}

/// Who asks, by the connection alone.
pub(super) struct Caller(pub(super) IpAddr);

impl FromRequestParts<Arc<Site>> for Caller {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Site>) -> Result<Self, Failure> {
        peer(parts).map(Self)
    }
}

/// What the sign-in page sends.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    user: String,
    password: String,
}

/// `GET /api/me`
pub(super) async fn me(State(site): State<Arc<Site>>, signed: Signed) -> Json<Value> {
    Json(json!({
        "user": signed.user,
        "csrf": signed.csrf,
        "version": env!("CARGO_PKG_VERSION"),
        "alone": matches!(site.desk, Desk::Alone(_)),
    }))
}

/// `POST /api/sign-in`
pub(super) async fn sign_in(
    State(site): State<Arc<Site>>,
    Caller(address): Caller,
    Json(SignIn { user, password }): Json<SignIn>,
) -> Result<Response, Failure> {
    let password = Zeroizing::new(password);
    if user.len() > NAME_MAX || password.len() > PASSWORD_MAX {
        return Err(Failure::SignedOut);
    }
    let Ok(_permit) = site.doors.checks.try_acquire() else {
        return Err(Failure::TooMany("too many sign-ins at once: try again in a moment"));
    };
    let asked = Arc::clone(&site);
    let name = user.clone();
    let checked = blocking(move || match &asked.desk {
        Desk::Gateway(gateway) => gateway.check(&name, &password, address),
        Desk::Alone(_) => Ok(desk::Checked::Wrong),
    });
    match checked.await? {
        desk::Checked::Right => {
            info!(user, %address, "signed in to the pages");
            let value = site.doors.enter(&user);
            let cookie = [(header::SET_COOKIE, set_cookie(&site, &value))];
            Ok((StatusCode::OK, cookie, Json(json!({}))).into_response())
        }
        desk::Checked::Wrong => {
            warn!(user, %address, "a sign-in to the pages failed");
            Err(Failure::SignedOut)
        }
        desk::Checked::Blocked => {
            warn!(user, %address, "a sign-in to the pages was not listened to: too many failed before");
            Err(Failure::TooMany("too many sign-ins failed: try again later"))
        }
    }
}

/// `POST /api/sign-out`
pub(super) async fn sign_out(State(site): State<Arc<Site>>, Changing(signed): Changing) -> Response {
    site.doors.leave(&signed.key);
    ([(header::SET_COOKIE, set_cookie(&site, ""))], Json(json!({}))).into_response()
}
