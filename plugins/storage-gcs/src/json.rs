//! The small requests of Google's JSON API: facts, listing, deletion; and objects of servers that the library can't read.

use std::collections::BTreeMap;
use std::time::Duration;

use deskreel_sdk::bytes::{Buf as _, BytesMut};
use deskreel_sdk::prelude::*;
use deskreel_sdk::serde_json;
use google_cloud_auth::credentials::{CacheableResource, Credentials};
use http::{Extensions, HeaderMap};
use reqwest::{Client, Method, RequestBuilder};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::{ATTEMPTS, BACKOFF_FIRST, patience};
use crate::error::{Failure, unanswered};

/// Until a connection stands: long enough for a busy server that lets the first tries for one fall, which are 1, 2 and 4 s apart.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(8);
/// Below what servers wait before they close an idle connection.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);
/// The largest answer that is read: a page of 1000 objects has less.
const ANSWER_MAX_BYTES: u64 = 16 << 20;

/// Requests about one bucket.
pub(crate) struct Json {
    client: Client,
    /// Where the bucket's objects are.
    objects: String,
    credentials: Credentials,
    answer_timeout: Duration,
}

/// An object as the API describes it, as far as it matters.
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "deskreel_sdk::serde", default, rename_all = "camelCase")]
pub(crate) struct Object {
    pub(crate) name: String,
    size: String,
    updated: String,
    pub(crate) metadata: BTreeMap<String, String>,
}

impl Object {
    pub(crate) fn size(&self) -> u64 {
        self.size.parse().unwrap_or(0)
    }

    pub(crate) fn modified_unix_ms(&self) -> Option<u64> {
        let at = OffsetDateTime::parse(&self.updated, &Rfc3339).ok()?;
        u64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
    }
}

/// A page of a listing.
#[derive(Debug, Default, Deserialize)]
#[serde(crate = "deskreel_sdk::serde", default, rename_all = "camelCase")]
pub(crate) struct Listing {
    pub(crate) items: Vec<Object>,
    pub(crate) next_page_token: Option<String>,
}

impl Json {
    pub(crate) fn new(
        endpoint: &str,
        bucket: &str,
        credentials: Credentials,
        answer_timeout: Duration,
    ) -> Result<Self> {
        let client = Client::builder()
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(answer_timeout)
            .pool_idle_timeout(IDLE_TIMEOUT)
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| Error::invalid_settings(format!("endpoint: {error}")))?;
        Ok(Self {
            client,
            objects: format!("{endpoint}/storage/v1/b/{bucket}/o"),
            credentials,
            answer_timeout,
        })
    }

    /// An object's facts.
    pub(crate) async fn object(&self, name: &str) -> Result<Object, Failure> {
        let fields = [("fields", "name,size,updated,metadata")];
        let body = self
            .ask(Method::GET, &format!("{}/{}", self.objects, escaped(name)), &fields)
            .await?;
        read(&body)
    }

    /// Deletes an object.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), Failure> {
        let url = format!("{}/{}", self.objects, escaped(name));
        self.ask(Method::DELETE, &url, &[]).await.map(drop)
    }

    /// Objects whose name starts with `prefix`, from `from` on.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        from: Option<&str>,
        token: Option<&str>,
        most: usize,
    ) -> Result<Listing, Failure> {
        let most = most.to_string();
        let mut query = vec![
            ("prefix", prefix),
            ("maxResults", &most),
            ("fields", "items(name,size,updated),nextPageToken"),
        ];
        query.extend(from.map(|from| ("startOffset", from)));
        query.extend(token.map(|token| ("pageToken", token)));
        read(&self.ask(Method::GET, &self.objects, &query).await?)
    }

    /// The bytes of an object in `range`, which is within it.
    pub(crate) async fn media(&self, name: &str, range: Range<u64>) -> Result<Bytes, Failure> {
        let Range { start, end } = range;
        let length = end - start;
        let headers = self.headers().await?;
        let request = self
            .client
            .get(format!("{}/{}", self.objects, escaped(name)))
            .query(&[("alt", "media")])
            .headers(headers)
            .header("range", format!("bytes={start}-{}", end - 1))
            .timeout(patience(self.answer_timeout, end));
        // A server that knows no ranges sends what lies before it, too, and behind it, which is not read.
        let (status, headers, body) = collect(request, range, Rest::Left).await?;
        if !(200..300).contains(&status) {
            return Err(Failure::answered(status, &headers, &body));
        }
        if body.len() as u64 != length {
            let text = format!("the answer has {} bytes of the range, not {length}", body.len());
            return Err(Failure::silence(Error::new(ErrorKind::Interrupted, text)));
        }
        Ok(body)
    }

    async fn ask(&self, method: Method, url: &str, query: &[(&str, &str)]) -> Result<Bytes, Failure> {
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(method.clone(), url, query).await {
                Ok(body) => return Ok(body),
                Err(failure) => failure,
            };
            if attempt >= ATTEMPTS || !failure.is_transient() {
                return Err(failure);
            }
            tokio::time::sleep(BACKOFF_FIRST * attempt * attempt).await;
            attempt += 1;
        }
    }

    async fn attempt(&self, method: Method, url: &str, query: &[(&str, &str)]) -> Result<Bytes, Failure> {
        let headers = self.headers().await?;
        let request = self.client.request(method, url).query(query).headers(headers);
        let (status, headers, body) = collect(request, 0..ANSWER_MAX_BYTES, Rest::Wrong).await?;
        if (200..300).contains(&status) {
            return Ok(body);
        }
        Err(Failure::answered(status, &headers, &body))
    }

    async fn headers(&self) -> Result<HeaderMap, Failure> {
        let asked = Box::pin(self.credentials.headers(Extensions::new()));
        match tokio::time::timeout(self.answer_timeout, asked).await {
            Ok(Ok(CacheableResource::New { data, .. })) => Ok(data),
            Ok(Ok(CacheableResource::NotModified)) => Ok(HeaderMap::new()),
            Ok(Err(error)) => Err(Failure::silence(unanswered(&error))),
            Err(_) => Err(Failure::late(self.answer_timeout)),
        }
    }
}

/// What an answer has behind the bytes that are read of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Not wanted: the connection is given up.
    Left,
    /// A defect.
    Wrong,
}

/// Sends a request and reads its answer: of a success the bytes in `range`, which may be all that there are.
async fn collect(request: RequestBuilder, range: Range<u64>, rest: Rest) -> Result<(u16, HeaderMap, Bytes), Failure> {
    let silence = |error: reqwest::Error| Failure::silence(unanswered(&error.without_url()));
    let mut answer = request.send().await.map_err(silence)?;
    let status = answer.status();
    let (mut skip, most, rest) = match status.as_u16() {
        206 => (0, range.end - range.start, rest),
        _ if status.is_success() => (range.start, range.end - range.start, rest),
        _ => (0, ANSWER_MAX_BYTES, Rest::Wrong),
    };
    let mut body = BytesMut::new();
    while let Some(mut part) = answer.chunk().await.map_err(silence)? {
        let before = part.len().min(usize::try_from(skip).unwrap_or(usize::MAX));
        skip -= before as u64;
        part.advance(before);
        if (body.len() + part.len()) as u64 > most {
            if rest == Rest::Left {
                let wanted = usize::try_from(most).unwrap_or(usize::MAX).saturating_sub(body.len());
                body.extend_from_slice(part.get(..wanted).unwrap_or(&part));
                break;
            }
            let text = format!("the server sends more than {most} bytes");
            return Err(Failure::silence(Error::internal(text)));
        }
        body.extend_from_slice(&part);
    }
    Ok((status.as_u16(), answer.headers().clone(), body.freeze()))
}

/// Of the characters that keys have, those that a path's part may not.
fn escaped(name: &str) -> String {
    name.replace('/', "%2F").replace('=', "%3D")
}

fn read<T: deskreel_sdk::serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    let text = |error: serde_json::Error| format!("the server's answer can't be read: {error}");
    serde_json::from_slice(body).map_err(|error| Failure::silence(Error::new(ErrorKind::Unavailable, text(error))))
}
