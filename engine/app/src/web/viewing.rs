//! Playing a recording: opening it, which is an event, and then its index, its segments and its time line.

use std::fs;
use std::io::ErrorKind;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use deskreel_recording::Segment;
use deskreel_recording::event::Gap;
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::answer::{Failure, blocking};
use super::auth::{Changing, Signed};
use super::desk::{Desk, Gateway, PLAY, WATCH};
use super::listing::describe;
use super::{Site, download};
use crate::catalog::{SessionRow, State};
use crate::replay::{Index, Source, Summary, Timeline};

/// Largest open segment that is sent: far above `recording.segment_max_bytes`, at which a segment is sealed.
const OPEN_MAX_BYTES: u64 = 512 << 20;

/// A recording that somebody has opened.
#[derive(Debug, Clone)]
pub(super) struct View {
    row: SessionRow,
    /// Whether the open segment of the running session may be seen, too.
    watch: bool,
}

/// One segment, as the player's index has it.
#[derive(Debug, Serialize)]
struct Part {
    number: u32,
    bytes: u64,
    first_ns: u64,
    last_ns: u64,
    keys_ns: Vec<u64>,
    open: bool,
}

impl Part {
    fn of(number: u32, bytes: u64, summary: &Summary, open: bool) -> Self {
        Self {
            number,
            bytes,
            first_ns: summary.first_ns,
            last_ns: summary.last_ns,
            keys_ns: summary.keys_ns.clone(),
            open,
        }
    }
}

/// What a player needs to know before the first segment.
#[derive(Debug, Serialize)]
pub(super) struct Contents {
    live: bool,
    duration_ns: u64,
    segments: Vec<Part>,
    gaps: Vec<Gap>,
    #[serde(skip)]
    open: Option<Summary>,
}

/// `POST /api/recordings/{id}/play`: tells the audit log, and only then what there is.
pub(super) async fn play(
    Shared(site): Shared<Arc<Site>>,
    Changing(signed): Changing,
    Path(id): Path<Uuid>,
) -> Result<Json<Value>, Failure> {
    blocking(move || {
        let (row, source) = site.desk.show(&signed, id, PLAY)?;
        let may = site.desk.may(&signed.user, &row);
        let watch = is_running(&row) && may.watch;
        if watch {
            site.desk.show(&signed, id, WATCH)?;
        }
        let view = View { row, watch };
        let contents = contents(&site, &view, &source)?;
        let recording = describe(&site, &signed.user, &view.row)?;
        let target = site.desk.target(id);
        site.doors.opened(&signed, id, view);
        let mut answer = serde_json::to_value(contents).map_err(anyhow::Error::from)?;
        if let Value::Object(members) = &mut answer {
            members.insert("recording".to_owned(), recording);
            members.insert(
                "may".to_owned(),
                serde_json::to_value(may).map_err(anyhow::Error::from)?,
            );
            if let Desk::Gateway(gateway) = &site.desk
                && may.export
            {
                let files = download::finished(gateway, id)?;
                let files = files
                    .iter()
                    .map(|made| json!({"name": download::file_name(made), "bytes": made.bytes}));
                members.insert("exports".to_owned(), files.collect());
            }
            members.insert("target".to_owned(), target.into());
            members.insert("alone".to_owned(), matches!(site.desk, Desk::Alone(_)).into());
        }
        Ok(Json(answer))
    })
    .await
}

/// A recording that this user has opened and may still see. Blocks.
fn opened(site: &Site, signed: &Signed, id: Uuid) -> Result<(View, Source), Failure> {
    let Some(mut view) = site.doors.view(signed, id) else {
        // Told to those only who may know of it: the page opens it again, as after a restart.
        site.desk.glance(&signed.user, id)?;
        return Err(Failure::Closed);
    };
    let source = site.desk.again(&signed.user, &view.row)?;
    // Who loses the right to watch meanwhile goes on with what is sealed, as without it.
    view.watch = view.watch && site.desk.may(&signed.user, &view.row).watch;
    Ok((view, source))
}

/// `GET /api/recordings/{id}/index`: what there is by now.
pub(super) async fn index(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Path(id): Path<Uuid>,
) -> Result<Json<Contents>, Failure> {
    blocking(move || {
        let (mut view, source) = opened(&site, &signed, id)?;
        view.row = site.desk.glance(&signed.user, id)?.0;
        Ok(Json(contents(&site, &view, &source)?))
    })
    .await
}

/// `GET /api/recordings/{id}/timeline`
pub(super) async fn timeline(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Path(id): Path<Uuid>,
) -> Result<Json<Timeline>, Failure> {
    let worker = Arc::clone(&site);
    let _permit = worker.shelf.workers.acquire().await.map_err(anyhow::Error::from)?;
    blocking(move || {
        let (mut view, source) = opened(&site, &signed, id)?;
        view.row = site.desk.glance(&signed.user, id)?.0;
        let contents = contents(&site, &view, &source)?;
        let sealed = contents.segments.iter().filter(|part| !part.open);
        let summaries: Vec<_> = sealed
            .filter_map(|part| site.shelf.summary(&source, part.number))
            .collect();
        let parts = summaries.iter().map(Arc::as_ref).chain(&contents.open);
        Ok(Json(Timeline::of(parts, contents.duration_ns)))
    })
    .await
}

fn is_running(row: &SessionRow) -> bool {
    row.state == State::Recording && row.ended.is_none()
}

fn contents(site: &Site, view: &View, source: &Source) -> Result<Contents, Failure> {
    match &site.desk {
        Desk::Gateway(gateway) if view.row.state == State::Recording => running(site, gateway, view, source),
        _ => {
            let index = Index::read(source)?;
            let part = |segment: &crate::replay::IndexedSegment| Part {
                number: segment.number,
                bytes: 0,
                first_ns: segment.first_ns,
                last_ns: segment.last_ns,
                keys_ns: segment.keys_ns.clone(),
                open: false,
            };
            Ok(Contents {
                live: false,
                duration_ns: index.duration_ns,
                segments: index.segments.iter().map(part).collect(),
                gaps: index.gaps,
                open: None,
            })
        }
    }
}

/// Of a session that runs: the sealed segments that the catalog knows, and the open one for those who may watch.
fn running(site: &Site, gateway: &Gateway, view: &View, source: &Source) -> Result<Contents, Failure> {
    let id = view.row.id;
    let mut contents = Contents {
        live: view.watch && is_running(&view.row),
        duration_ns: 0,
        segments: Vec::new(),
        gaps: Vec::new(),
        open: None,
    };
    for row in gateway.catalog.segments(id)? {
        // A synchronous storage may still be taking it; it is there a moment later.
        let Some(summary) = site.shelf.summary(source, row.number) else {
            break;
        };
        contents.gaps.extend(summary.gaps.iter().cloned());
        contents.segments.push(Part::of(row.number, row.bytes, &summary, false));
    }
    let next = contents.segments.last().map_or(0, |last| last.number + 1);
    let open = if view.watch {
        open_segment(gateway, id, next)?
    } else {
        None
    };
    if let Some(bytes) = open {
        let length = bytes.len() as u64;
        let summary = Segment::open_truncated(bytes).and_then(|segment| Summary::of(&segment));
        if let Some(summary) = summary.ok().filter(|summary| summary.last_ns > 0) {
            contents.gaps.extend(summary.gaps.iter().cloned());
            contents.segments.push(Part::of(next, length, &summary, true));
            contents.open = Some(summary);
        }
    }
    contents.duration_ns = contents.segments.last().map_or(0, |last| last.last_ns);
    Ok(contents)
}

/// The bytes of a running session's open segment, where it is in the spool.
fn open_segment(gateway: &Gateway, id: Uuid, number: u32) -> Result<Option<Bytes>, Failure> {
    let path = gateway.spool.join(id.to_string()).join(format!("{number:08}.open"));
    let read = || -> std::io::Result<Bytes> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        fs::File::open(&path)?.take(OPEN_MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(bytes.into())
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(anyhow::Error::new(error)
            .context(format!("read {}", path.display()))
            .into()),
    }
}

/// `GET /api/recordings/{id}/segments/{number}`, whole or a range.
pub(super) async fn segment(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Path((id, number)): Path<(Uuid, u32)>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let worker = Arc::clone(&site);
    let _permit = worker.shelf.readers.acquire().await.map_err(anyhow::Error::from)?;
    let bytes = blocking(move || {
        let (view, source) = opened(&site, &signed, id)?;
        if let Some(bytes) = source.find_segment(number)? {
            return Ok(bytes);
        }
        match &site.desk {
            Desk::Gateway(gateway) if view.watch => open_segment(gateway, id, number)?.ok_or(Failure::NotFound),
            _ => Err(Failure::NotFound),
        }
    });
    Ok(ranged(bytes.await?, &headers))
}

/// The bytes, or the one range of them that is asked for.
fn ranged(bytes: Bytes, headers: &HeaderMap) -> Response {
    let common = [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::ACCEPT_RANGES, "bytes"),
    ];
    let wanted = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some(wanted) = wanted
        .and_then(|text| text.strip_prefix("bytes="))
        .filter(|text| !text.contains(','))
    else {
        return (common, bytes).into_response();
    };
    let length = bytes.len();
    let number = |text: &str| text.parse::<usize>().ok();
    let range = match wanted.split_once('-') {
        Some(("", last)) => number(last).map(|last| (length.saturating_sub(last), length)),
        Some((first, "")) => number(first).map(|first| (first, length)),
        Some((first, last)) => number(first)
            .zip(number(last))
            .map(|(first, last)| (first, last.saturating_add(1).min(length))),
        None => None,
    };
    match range {
        Some((first, end)) if first < end => {
            let place = [(header::CONTENT_RANGE, format!("bytes {first}-{}/{length}", end - 1))];
            (StatusCode::PARTIAL_CONTENT, common, place, bytes.slice(first..end)).into_response()
        }
        _ => {
            let whole = [(header::CONTENT_RANGE, format!("bytes */{length}"))];
            (
                StatusCode::RANGE_NOT_SATISFIABLE,
                whole,
                Json(json!({"error": "no such range"})),
            )
                .into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ranges_are_cut_to_what_is_there() {
        let bytes = Bytes::from_static(b"0123456789");
        let check = |range: &str, status: u16, place: Option<&str>| {
            let headers = [(header::RANGE, range.parse().unwrap())].into_iter().collect();
            let response = ranged(bytes.clone(), &headers);
            assert_eq!(response.status().as_u16(), status, "{range}");
            let found = response.headers().get(header::CONTENT_RANGE);
            assert_eq!(found.map(|value| value.to_str().unwrap()), place, "{range}");
        };
        check("bytes=2-4", 206, Some("bytes 2-4/10"));
        check("bytes=7-", 206, Some("bytes 7-9/10"));
        check("bytes=-3", 206, Some("bytes 7-9/10"));
        check("bytes=5-99999999999999999999", 416, Some("bytes */10"));
        check("bytes=5-999", 206, Some("bytes 5-9/10"));
        check("bytes=10-", 416, Some("bytes */10"));
        check("bytes=4-2", 416, Some("bytes */10"));
        check("bytes=1-2,4-5", 200, None);
        check("pages=1", 200, None);
    }
}
