//! What holds for every request and every answer.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};

use super::Site;
use super::answer::Failure;

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
    let mut response = match refusal(&site, request.method(), request.headers()) {
        Some(why) => Failure::Request(why).into_response(),
        None => next.run(request).await,
    };
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
