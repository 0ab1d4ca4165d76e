//! A look at a recording without playing it: its poster, and whether it is what was sealed.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State as Shared};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use deskreel_recording::{Event, Outcome, Picture, ScreenDecoder, Verifier, VerifyOptions, key_id};
use ed25519_dalek::VerifyingKey;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::Site;
use super::answer::{Failure, blocking};
use super::auth::Signed;
use super::desk::{Desk, VERIFY};
use crate::catalog::{SessionRow, State};
use crate::replay::{Index, Source};

/// Columns of a poster.
const POSTER_WIDTH: usize = 224;
/// Screen messages that are decoded for a poster at most.
const MESSAGES_MAX: usize = 200;

/// `GET /api/recordings/{id}/poster.png`
pub(super) async fn poster(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Path(id): Path<Uuid>,
) -> Result<Response, Failure> {
    let worker = Arc::clone(&site);
    let _permit = worker.shelf.workers.acquire().await.map_err(anyhow::Error::from)?;
    let png = blocking(move || {
        let (row, source) = site.desk.glance(&signed.user, id)?;
        // Who may list it may know that it is there; what it shows is for those who may read it.
        if !site.desk.may(&signed.user, &row).play {
            return Err(Failure::NotFound);
        }
        if let Some(known) = site.shelf.poster(id) {
            return Ok(known);
        }
        let drawn = draw(&site, &row, &source);
        let png = drawn.unwrap_or_else(|failure| {
            // The list shows a sign of a desktop instead; playing and verifying tell what is wrong.
            tracing::debug!(recording = %id, ?failure, "no poster");
            None
        });
        let png = png.unwrap_or_default();
        if row.state != State::Recording && !png.is_empty() {
            site.shelf.keep_poster(id, png.clone());
        }
        Ok(png)
    });
    let png = png.await?;
    if png.is_empty() {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let headers = [
        (header::CONTENT_TYPE, "image/png"),
        (header::CACHE_CONTROL, "private, max-age=300"),
    ];
    Ok((headers, png).into_response())
}

/// The picture at the end of a segment about a third into the recording.
fn draw(site: &Site, row: &SessionRow, source: &Source) -> Result<Option<Bytes>, Failure> {
    let starts: Vec<u32> = match &site.desk {
        Desk::Gateway(gateway) => {
            let segments = gateway.catalog.segments(row.id)?;
            segments
                .iter()
                .filter(|segment| segment.starts_with_key)
                .map(|segment| segment.number)
                .collect()
        }
        Desk::Alone(_) => {
            let index = Index::read(source)?;
            index
                .segments
                .iter()
                .filter(|segment| !segment.keys_ns.is_empty())
                .map(|segment| segment.number)
                .collect()
        }
    };
    let Some(number) = starts.get(starts.len() / 3) else {
        return Ok(None);
    };
    let segment = source.open_segment(*number)?;
    let mut screen = ScreenDecoder::new();
    let mut messages = 0;
    for event in segment.events() {
        let (_, event) = event.map_err(anyhow::Error::from)?;
        let Event::Screen(message) = event else { continue };
        if screen.picture().is_none() && !message.key {
            continue;
        }
        screen.apply(&message).map_err(anyhow::Error::from)?;
        messages += 1;
        if messages >= MESSAGES_MAX {
            break;
        }
    }
    screen.picture().map(|picture| small_png(&picture)).transpose()
}

/// A picture made small by averaging, as PNG.
fn small_png(picture: &Picture<'_>) -> Result<Bytes, Failure> {
    let (width, height) = (usize::from(picture.width), usize::from(picture.height));
    let columns = POSTER_WIDTH.min(width).max(1);
    let rows = (height * columns / width.max(1)).max(1);
    let mut rgb = Vec::with_capacity(columns * rows * 3);
    for row in 0..rows {
        let (top, bottom) = (
            row * height / rows,
            ((row + 1) * height / rows).max(row * height / rows + 1),
        );
        for column in 0..columns {
            let (left, right) = (
                column * width / columns,
                ((column + 1) * width / columns).max(column * width / columns + 1),
            );
            let mut sums = [0usize; 3];
            for y in top..bottom {
                let line = picture
                    .data
                    .get(y * picture.stride + left * 4..y * picture.stride + right * 4)
                    .unwrap_or_default();
                for pixel in line.as_chunks::<4>().0 {
                    for (sum, value) in sums.iter_mut().zip(pixel) {
                        *sum += usize::from(*value);
                    }
                }
            }
            let count = ((bottom - top) * (right - left)).max(1);
            rgb.extend(sums.map(|sum| u8::try_from(sum / count).unwrap_or(u8::MAX)));
        }
    }
    let size = |side: usize| u32::try_from(side).unwrap_or(u32::MAX);
    let mut png = Vec::new();
    let mut encoder = png::Encoder::new(&mut png, size(columns), size(rows));
    encoder.set_color(png::ColorType::Rgb);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().map_err(anyhow::Error::from)?;
    writer.write_image_data(&rgb).map_err(anyhow::Error::from)?;
    writer.finish().map_err(anyhow::Error::from)?;
    Ok(png.into())
}

/// `GET /api/recordings/{id}/verify`: of the copy that is played; `unverified` says why nothing can be said of it.
pub(super) async fn verify(
    Shared(site): Shared<Arc<Site>>,
    signed: Signed,
    Path(id): Path<Uuid>,
) -> Result<Json<Value>, Failure> {
    let worker = Arc::clone(&site);
    let _permit = worker.shelf.workers.acquire().await.map_err(anyhow::Error::from)?;
    blocking(move || {
        let keys = site.desk.keys();
        if keys.is_empty() {
            return Ok(Json(
                json!({"unverified": "There is no key to trust: name one with --public-key."}),
            ));
        }
        let report = match &site.desk {
            Desk::Alone(_) => {
                let source = site.desk.glance(&signed.user, id)?.1;
                if source.only().is_some() {
                    return Ok(Json(
                        json!({"unverified": "One segment alone can't be verified: play the whole folder."}),
                    ));
                }
                check(&source, keys)?
            }
            Desk::Gateway(gateway) => gateway.gated(&signed, |gate| {
                let looked = gate.look(&id.to_string(), VERIFY)?;
                let pass = gate.begin(&looked, Map::new()).map_err(anyhow::Error::from)?;
                let source = site.desk.again(&signed.user, &looked.row)?;
                let report = check(&source, keys)?;
                let mut details = Map::new();
                details.insert("result".to_owned(), report.get("outcome").cloned().unwrap_or_default());
                pass.done(Ok(details)).map_err(anyhow::Error::from)?;
                gateway.catalog.keep_report(id, &report)?;
                Ok::<_, Failure>(report)
            })?,
        };
        Ok(Json(report))
    })
    .await
}

/// Checks every seal, the chain and the manifest.
fn check(source: &Source, keys: &[VerifyingKey]) -> Result<Value, Failure> {
    let mut verifier = Verifier::new(VerifyOptions {
        recording: Some(source.recording()),
        trusted: keys.to_vec(),
        deep: false,
    });
    // Before the segments: what it lists must be there when they are looked for.
    let manifest = source.manifest()?;
    for number in source.segments()? {
        if let Some(bytes) = source.find_segment(number)? {
            verifier.segment(number, &bytes);
        }
    }
    let report = verifier.finish(manifest.as_deref());
    let findings: Vec<Value> = report
        .findings
        .iter()
        .map(|finding| json!({"broken": finding.broken, "text": finding.text}))
        .collect();
    Ok(json!({
        "outcome": match report.outcome {
            Outcome::Whole => "whole",
            Outcome::Findings => "findings",
            Outcome::Broken => "broken",
        },
        "findings": findings,
        "segments": report.segments,
        "bytes": report.bytes,
        "duration_ns": report.duration_ns,
        "key_id": keys.iter().map(key_id).collect::<Vec<_>>().join(", "),
        "checked": OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default(),
    }))
}
