//! Who is in: sign-ins, and the cookies that stand for them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;
use tracing::{info, warn};
use uuid::Uuid;
use zeroize::Zeroizing;

use super::answer::{Failure, blocking};
use super::desk::Desk;
use super::server::Peer;
use super::viewing::View;
use super::{Site, desk};
use crate::audit::{Login, LoginVia};
use crate::catalog::{self, Catalog, SignIn};

/// Sign-ins at once; the oldest makes room.
const SIGNED_MAX: usize = 10_000;
/// Sign-ins of one user at once; the oldest makes room.
const SIGNED_PER_USER_MAX: usize = 50;
/// Recordings that one sign-in may have open; the oldest makes room.
const VIEWS_MAX: usize = 64;
/// Longest user name and password, in bytes.
const NAME_MAX: usize = 255;
const PASSWORD_MAX: usize = 1024;
/// Characters of a browser's own name that the audit log gets.
const AGENT_MAX_CHARS: usize = 256;
/// Between two looks for sign-ins that are over.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How far clocks may jump back without ending sign-ins.
const CLOCK_SLACK: Duration = Duration::from_secs(300);
/// Passwords that are checked at once: each takes some tens of milliseconds and 19 MiB.
const CHECKS_MAX: usize = 4;

/// SHA-256 of a cookie's value: the value itself is kept nowhere.
type Key = [u8; 32];

/// All sign-ins: in memory, and in the catalog for the time after a restart.
pub(super) struct Doors {
    ttl: Duration,
    signed: Mutex<HashMap<Key, Entry>>,
    store: Option<Arc<Catalog>>,
    checks: tokio::sync::Semaphore,
}

struct Entry {
    user: String,
    begun: OffsetDateTime,
    views: Vec<(Uuid, View)>,
}

impl Entry {
    fn is_over(&self, ttl: Duration, now: OffsetDateTime) -> bool {
        let lasted = now - self.begun;
        // Nobody signs in tomorrow: the clock was wrong, and how long ago it was can't be told.
        lasted >= ttl || lasted + CLOCK_SLACK < time::Duration::ZERO
    }
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

/// The page's token: whoever has the cookie could make it, and nobody else can.
fn csrf(value: &str) -> String {
    hex::encode(Sha256::digest(format!("deskreel csrf {value}")))
}

impl Doors {
    /// Doors that nobody has passed yet.
    pub(super) fn new(ttl: Duration) -> Self {
        Self {
            ttl,
            signed: Mutex::default(),
            store: None,
            checks: tokio::sync::Semaphore::new(CHECKS_MAX),
        }
    }

    /// With the sign-ins that the catalog has. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) fn stored(ttl: Duration, store: Arc<Catalog>) -> catalog::Result<Self> {
        let kept = store.sign_ins()?.into_iter().map(|SignIn { token, user, begun }| {
            let views = Vec::new();
            (token, Entry { user, begun, views })
        });
        let doors = Self {
            signed: Mutex::new(kept.collect()),
            store: Some(store),
            ..Self::new(ttl)
        };
        doors.sweep(|_, _| true)?;
        Ok(doors)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn forget(&self, keys: &[Key]) -> catalog::Result<()> {
        match &self.store {
            Some(store) if !keys.is_empty() => store.signed_out(keys),
            _ => Ok(()),
        }
    }

    /// Lets a user in; gives the cookie's value. Blocks.
    ///
    /// # Errors
    /// The catalog's; nobody is in then.
    pub(super) fn enter(&self, user: &str) -> catalog::Result<String> {
        let value = random();
        let begun = OffsetDateTime::now_utc();
        if let Some(store) = &self.store {
            store.signed_in(&SignIn {
                token: key(&value),
                user: user.to_owned(),
                begun,
            })?;
        }
        let entry = Entry {
            user: user.to_owned(),
            begun,
            views: Vec::new(),
        };
        let mut signed = self.lock();
        let mut gone = make_room(&mut signed, |entry| entry.user == user, SIGNED_PER_USER_MAX);
        gone.extend(make_room(&mut signed, |_| true, SIGNED_MAX));
        signed.insert(key(&value), entry);
        drop(signed);
        self.forget(&gone)?;
        Ok(value)
    }

    /// Ends one sign-in. Blocks.
    ///
    /// # Errors
    /// The catalog's; it is over in this process all the same.
    fn leave(&self, key: &Key) -> catalog::Result<()> {
        self.lock().remove(key);
        self.forget(&[*key])
    }

    /// Ends the sign-ins whose time is over, and those of users who `may` not be in any more, by name and begin. Blocks.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) fn sweep(&self, may: impl Fn(&str, OffsetDateTime) -> bool) -> catalog::Result<()> {
        let now = OffsetDateTime::now_utc();
        let all: Vec<(Key, String, OffsetDateTime, bool)> = {
            let signed = self.lock();
            let rows = signed.iter();
            rows.map(|(key, entry)| (*key, entry.user.clone(), entry.begun, entry.is_over(self.ttl, now)))
                .collect()
        };
        let over = all
            .into_iter()
            .filter(|(_, user, begun, is_over)| *is_over || !may(user, *begun));
        let over: Vec<Key> = over.map(|(key, ..)| key).collect();
        self.lock().retain(|key, _| !over.contains(key));
        self.forget(&over)
    }

    fn find(&self, value: &str, address: IpAddr) -> Option<Signed> {
        let key = key(value);
        let signed = self.lock();
        let entry = signed.get(&key)?;
        (!entry.is_over(self.ttl, OffsetDateTime::now_utc())).then(|| Signed {
            key,
            user: entry.user.clone(),
            csrf: csrf(value),
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

/// Removes the oldest of those that `counts` until fewer than `max` are left, and says which.
fn make_room(signed: &mut HashMap<Key, Entry>, counts: impl Fn(&Entry) -> bool, max: usize) -> Vec<Key> {
    let mut gone = Vec::new();
    while signed.values().filter(|entry| counts(entry)).count() >= max {
        let oldest = signed
            .iter()
            .filter(|(_, entry)| counts(entry))
            .min_by_key(|(_, entry)| entry.begun);
        let Some(key) = oldest.map(|(key, _)| *key) else { break };
        signed.remove(&key);
        gone.push(key);
    }
    gone
}

/// Ends sign-ins whose time is over or whose user may not be in any more, until it is dropped.
pub(super) async fn sweep(site: Arc<Site>) {
    loop {
        tokio::time::sleep(SWEEP_EVERY).await;
        let site = Arc::clone(&site);
        let swept = tokio::task::spawn_blocking(move || match &site.desk {
            Desk::Gateway(gateway) => site.doors.sweep(|user, begun| gateway.still_lets_in(user, begun)),
            Desk::Alone(_) => Ok(()),
        });
        if let Ok(Err(error)) = swept.await {
            warn!(%error, "sign-ins can't be looked through");
        }
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
            let (doors, key) = (Arc::clone(site), signed.key);
            blocking(move || Ok(doors.doors.leave(&key)?)).await?;
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
pub(super) struct Credentials {
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

/// `GET /api/signed-in`: for the sign-in page. Whoever follows a link from another site comes without the cookie, as that is
/// `SameSite=Strict`, and is sent there; its own requests have the cookie.
pub(super) async fn signed_in(signed: Result<Signed, Failure>) -> Json<Value> {
    Json(json!({"in": signed.is_ok()}))
}

/// `POST /api/sign-in`
pub(super) async fn sign_in(
    State(site): State<Arc<Site>>,
    Caller(address): Caller,
    headers: HeaderMap,
    Json(Credentials { user, password }): Json<Credentials>,
) -> Result<Response, Failure> {
    let password = Zeroizing::new(password);
    if user.len() > NAME_MAX || password.len() > PASSWORD_MAX {
        return Err(Failure::SignedOut);
    }
    let Ok(_permit) = site.doors.checks.try_acquire() else {
        return Err(Failure::TooMany("too many sign-ins at once: try again in a moment"));
    };
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok());
    let agent: Option<String> = agent.map(|agent| agent.chars().take(AGENT_MAX_CHARS).collect());
    let (asked, name) = (Arc::clone(&site), user.clone());
    let entered = blocking(move || {
        let Desk::Gateway(gateway) = &asked.desk else {
            return Ok((desk::Checked::Wrong, String::new()));
        };
        let checked = gateway.check(&name, &password, address)?;
        let login = match checked {
            desk::Checked::Right => Login::proved(LoginVia::Web, "password"),
            desk::Checked::Wrong => Login::failed(LoginVia::Web, "logon_failed", "no such user, or another password"),
            // Whoever goes on guessing doesn't fill the audit log: the guesses that led to this are in it.
            desk::Checked::Blocked => return Ok((checked, String::new())),
        };
        let login = Login {
            address: Some(address.to_string()),
            user_agent: agent,
            ..login
        };
        gateway.tell(&name, login)?;
        let value = match checked {
            desk::Checked::Right => asked.doors.enter(&name)?,
            _ => String::new(),
        };
        Ok((checked, value))
    });
    let (checked, value) = entered.await?;
    match checked {
        desk::Checked::Right => {
            info!(user, %address, "signed in to the pages");
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
pub(super) async fn sign_out(State(site): State<Arc<Site>>, Changing(signed): Changing) -> Result<Response, Failure> {
    let doors = Arc::clone(&site);
    blocking(move || Ok(doors.doors.leave(&signed.key)?)).await?;
    Ok(([(header::SET_COOKIE, set_cookie(&site, ""))], Json(json!({}))).into_response())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    const TTL: Duration = Duration::from_secs(60);

    fn is_in(doors: &Doors, value: &str) -> bool {
        doors.find(value, IpAddr::from([127, 0, 0, 1])).is_some()
    }

    #[test]
    fn sign_ins_outlive_a_restart_and_end_when_they_must() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
        let doors = Doors::stored(TTL, Arc::clone(&catalog)).unwrap();
        let [ann, left, bob] = ["ann", "ann", "bob"].map(|user| doors.enter(user).unwrap());
        doors.leave(&key(&left)).unwrap();
        let again = || Doors::stored(TTL, Arc::clone(&catalog)).unwrap();
        let after = again();
        assert_eq!(
            [&ann, &left, &bob].map(|value| is_in(&after, value)),
            [true, false, true]
        );
        assert!(!is_in(&after, "made up"));
        let kept = format!("{:?}", catalog.sign_ins().unwrap());
        assert!(!kept.contains(&ann), "the cookie itself is kept nowhere");

        after.sweep(|user, _| user != "bob").unwrap();
        assert_eq!([is_in(&after, &ann), is_in(&after, &bob)], [true, false]);
        assert_eq!([is_in(&again(), &ann), is_in(&again(), &bob)], [true, false]);
        let short = Doors::stored(Duration::ZERO, Arc::clone(&catalog)).unwrap();
        assert!(!is_in(&short, &ann) && catalog.sign_ins().unwrap().is_empty());
    }

    #[test]
    fn the_oldest_makes_room() {
        let dir = tempfile::tempdir().unwrap();
        let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
        let doors = Doors::stored(TTL, Arc::clone(&catalog)).unwrap();
        let other = doors.enter("bob").unwrap();
        let values: Vec<String> = (0..=SIGNED_PER_USER_MAX).map(|_| doors.enter("ann").unwrap()).collect();
        let out = values.iter().filter(|value| !is_in(&doors, value)).count();
        assert_eq!((out, is_in(&doors, &other)), (1, true));
        assert_eq!(catalog.sign_ins().unwrap().len(), SIGNED_PER_USER_MAX + 1);
    }

    #[test]
    fn what_begins_tomorrow_is_over() {
        let now = OffsetDateTime::now_utc();
        let over = |begun| {
            let entry = Entry {
                user: String::new(),
                begun,
                views: Vec::new(),
            };
            entry.is_over(TTL, now)
        };
        assert_eq!(
            [
                now,
                now - TTL,
                now + time::Duration::hours(1),
                now + time::Duration::seconds(5)
            ]
            .map(over),
            [false, true, true, false]
        );
    }
}
