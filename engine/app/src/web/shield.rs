//! What holds for every request and every answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::answer::Failure;
use super::desk::Desk;
use super::{Site, assets};

/// No script but our files, nothing from and to another host, no frame around the pages.
const POLICY: &str = "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; img-src 'self' blob:; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const HEADERS: &[(HeaderName, &str)] = &[
    (header::CONTENT_SECURITY_POLICY, POLICY),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
];
const MORE: &[(&str, &str)] = &[
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    (
        "permissions-policy",
        "camera=(), microphone=(), geolocation=(), usb=(), payment=()",
    ),
];

/// Refuses requests that another site's page made or that name another host; adds the headers that keep pages apart.
pub(super) async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let is_person = is_person(&request);
    let refused = refusal(&site, request.method(), request.headers());
    let mut response = match refused {
        Some(why) => Failure::Request(why).into_response(),
        None => next.run(request).await,
    };
    let status = response.status();
    if is_person && (status.is_client_error() || status.is_server_error()) {
        let is_alone = matches!(site.desk, Desk::Alone(_));
        let (title, text) = said(status, refused, is_alone);
        response = assets::error(status, title, text, !is_alone && refused.is_none());
    }
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in MORE {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if site.is_secure {
        headers.insert(
            header::STRICT_TRANSPORT_SECURITY,
            HeaderValue::from_static("max-age=31536000"),
        );
    }
    if !headers.contains_key(header::CACHE_CONTROL) {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response
}

/// Whether somebody looks at the answer, and not a script of ours.
fn is_person(request: &Request) -> bool {
    let accepted = request
        .headers()
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    request.method() == Method::GET && accepted.is_some_and(|accepted| accepted.contains("text/html"))
}

/// What people are told, as title and text. Nothing of the request is in it.
fn said(status: StatusCode, refused: Option<&'static str>, is_alone: bool) -> (&'static str, &'static str) {
    match (status, refused) {
        (_, Some(why)) => ("Not here", why),
        (StatusCode::NOT_FOUND, _) if is_alone => (
            "Not found",
            "The address that deskreel recordings play prints works once, in one browser. Run the command again for another.",
        ),
        (StatusCode::NOT_FOUND, _) => ("Not found", "There is no such page or recording, or it is not for you."),
        (StatusCode::UNAUTHORIZED, _) => ("Signed out", "Sign in to see this."),
        (StatusCode::FORBIDDEN, _) => (
            "Not allowed",
            "Your roles do not allow this. The attempt is in the audit log.",
        ),
        (StatusCode::TOO_MANY_REQUESTS, _) => (
            "Too much at once",
            "Others are doing the same just now. Try again in a moment.",
        ),
        _ => ("That did not work", "The server could not do that; its log says why."),
    }
}

fn refusal(site: &Site, method: &Method, headers: &HeaderMap) -> Option<&'static str> {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let origin = match &site.origin {
        Some(origin) => origin.clone(),
        None => format!("{}://{host}", if site.is_secure { "https" } else { "http" }),
    };
    // A name that somebody else's DNS points here must not make this server that somebody's.
    if !origin
        .split_once("://")
        .is_some_and(|(_, known)| known.eq_ignore_ascii_case(host))
    {
        return Some("this server has another name: see web.external_url");
    }
    if method == Method::GET || method == Method::HEAD {
        return None;
    }
    let foreign = text(header::ORIGIN).is_some_and(|said| !said.eq_ignore_ascii_case(&origin));
    let site = headers.get("sec-fetch-site").and_then(|value| value.to_str().ok());
    (foreign || site.is_some_and(|site| site != "same-origin")).then_some("the request came from another site's page")
}
