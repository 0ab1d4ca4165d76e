//! The pages and what they load, embedded.

use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};

use super::Site;
use super::answer::{Failure, blocking};
use super::auth::Signed;
use super::desk::Desk;

/// A file's name below `/assets/`, its type and its bytes.
type File = (&'static str, &'static str, &'static [u8]);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = "text/css; charset=utf-8";
const PICTURE: &str = "image/svg+xml";
const PAGE: &str = "text/html; charset=utf-8";

macro_rules! files {
    ($($name:literal $kind:ident),+ $(,)?) => {
        &[$(($name, $kind, include_bytes!(concat!("pages/", $name)))),+]
    };
}

const FILES: &[File] = files![
    "base.css" STYLE, "sign-in.css" STYLE, "recordings.css" STYLE, "player.css" STYLE,
    "icons.svg" PICTURE, "favicon.svg" PICTURE,
    "common.js" SCRIPT, "sign-in.js" SCRIPT, "recordings.js" SCRIPT,
    "player/main.js" SCRIPT, "player/track.js" SCRIPT, "player/events.js" SCRIPT, "player/sheets.js" SCRIPT,
    "player/worker.js" SCRIPT, "player/thumbnails.js" SCRIPT, "player/recording.js" SCRIPT, "player/pointer.js" SCRIPT,
    "player/screen.js" SCRIPT, "player/mcap.js" SCRIPT, "player/zstd.js" SCRIPT, "player/keys.js" SCRIPT,
    "player/previews.js" SCRIPT, "player/body.js" SCRIPT,
];

/// Changes with the program, so that no browser mixes two versions of it.
static TAG: LazyLock<String> = LazyLock::new(|| {
    use sha2::{Digest as _, Sha256};
    let mut digest = Sha256::new();
    for (name, _, bytes) in FILES {
        digest.update(name);
        digest.update(bytes);
    }
    format!("\"{}\"", hex::encode(digest.finalize().get(..8).unwrap_or_default()))
});

/// The list of recordings.
pub(super) async fn recordings(State(site): State<Arc<Site>>, signed: Result<Signed, Failure>, uri: Uri) -> Response {
    match (&site.desk, signed) {
        // There is no list of one.
        (Desk::Alone(_), _) => Failure::NotFound.into_response(),
        (_, Ok(_)) => page(include_bytes!("pages/recordings.html")),
        (_, Err(failure)) => away(failure, &uri),
    }
}

/// Sign-in.
pub(super) async fn sign_in() -> Response {
    page(include_bytes!("pages/sign-in.html"))
}

/// The player, of a recording that this user may know of.
pub(super) async fn player(
    State(site): State<Arc<Site>>,
    signed: Result<Signed, Failure>,
    Path(id): Path<String>,
    uri: Uri,
) -> Response {
    match (&site.desk, signed) {
        (_, Ok(signed)) => {
            let asked = Arc::clone(&site);
            let found = blocking(move || {
                let id = id.parse().map_err(|_| Failure::NotFound)?;
                asked.desk.glance(&signed.user, id).map(drop)
            });
            match found.await {
                Ok(()) => page(include_bytes!("pages/player.html")),
                Err(failure) => failure.into_response(),
            }
        }
        // Nobody can sign in here: the address that the command printed was used already.
        (Desk::Alone(_), Err(_)) => Failure::NotFound.into_response(),
        (_, Err(failure)) => away(failure, &uri),
    }
}

/// To the sign-in page, which comes back.
fn away(failure: Failure, uri: &Uri) -> Response {
    if !matches!(failure, Failure::SignedOut) {
        return failure.into_response();
    }
    let here = uri.path_and_query().map_or("/", |here| here.as_str());
    let mut place = "/sign-in#".to_owned();
    for byte in here.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => place.push(char::from(byte)),
            other => place.push_str(&format!("%{other:02X}")),
        }
    }
    (StatusCode::SEE_OTHER, [(header::LOCATION, place)]).into_response()
}

/// A page that says why there is no other; `has_list`: whether there is a list to go to.
pub(super) fn error(status: StatusCode, title: &str, text: &str, has_list: bool) -> Response {
    let page = include_str!("pages/error.html")
        .replace("{title}", title)
        .replace("{text}", text)
        .replace("{hidden}", if has_list { "" } else { " hidden" });
    (status, [(header::CONTENT_TYPE, PAGE)], page).into_response()
}

fn page(bytes: &'static [u8]) -> Response {
    (
        [(header::CONTENT_TYPE, PAGE), (header::CACHE_CONTROL, "no-cache")],
        bytes,
    )
        .into_response()
}

/// What pages load.
pub(super) async fn file(Path(path): Path<String>, headers: HeaderMap) -> Result<Response, Failure> {
    let (_, kind, bytes) = FILES.iter().find(|(name, ..)| *name == path).ok_or(Failure::NotFound)?;
    let tag = TAG.as_str();
    let known = headers.get(header::IF_NONE_MATCH).is_some_and(|value| value == tag);
    let common = [(header::ETAG, tag), (header::CACHE_CONTROL, "no-cache")];
    Ok(if known {
        (StatusCode::NOT_MODIFIED, common).into_response()
    } else {
        (common, [(header::CONTENT_TYPE, *kind)], *bytes).into_response()
    })
}
