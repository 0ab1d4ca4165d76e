//! Handing out what is stored: a recording as an archive that `recordings verify` takes, and what exporters have made of it.
//!
//! The archive is a plain tar of the folder that `recordings download` makes. It is made while it is sent, a segment at a
//! time, and its length is known before: a browser that got less knows it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use axum::Extension;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{Path, State as Shared};
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use deskreel_recording::sha256;
use hyper::body::Frame;
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use tokio::runtime::Handle;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use uuid::Uuid;

use super::Site;
use super::answer::{Failure, blocking};
use super::auth::Signed;
use super::desk::{DOWNLOAD, Desk, FETCH, Gateway};
use super::server::Life;
use crate::access::recordings::Pass;
use crate::catalog::{ExportState, MadeRow, State};
use crate::replay::Source;

/// Bytes that are handed over at once.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes of an export that are asked of a storage at once.
const READ_BYTES: u64 = 4 << 20;
/// Pieces that wait for a browser.
const PIECES_MAX: usize = 4;
/// How long a browser may take for a piece.
const PATIENCE: Duration = Duration::from_secs(60);
/// Archives that are sent at once.
const DOWNLOADS_MAX: usize = 8;
/// Size of a tar's blocks.
const BLOCK: usize = 512;

/// Archives that may be sent at once.
pub(super) static DOWNLOADS: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(DOWNLOADS_MAX);

/// What is sent, as it is made.
struct Pieces(Receiver<io::Result<Bytes>>);

impl HttpBody for Pieces {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// Where pieces are put; each that is taken lets the connection live on.
pub(super) struct Tray {
    pieces: Sender<io::Result<Bytes>>,
    life: Life,
    runtime: Handle,
}

impl Tray {
    /// Hands bytes over. Blocks until the browser has taken what came before.
    ///
    /// # Errors
    /// The browser is gone, or too slow.
    pub(super) fn put(&self, mut bytes: Bytes) -> anyhow::Result<()> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            let sent = self
                .runtime
                .block_on(tokio::time::timeout(PATIENCE, self.pieces.send(Ok(piece))));
            match sent {
                Ok(Ok(())) => self.life.extend(),
                Ok(Err(_)) => bail!("the browser has gone"),
                Err(_) => bail!("the browser took nothing for {} seconds", PATIENCE.as_secs()),
            }
        }
        Ok(())
    }
}

/// An answer that `make` fills; it runs where it may block. A failure breaks the answer off.
pub(super) fn streamed(life: Life, make: impl FnOnce(&Tray) -> anyhow::Result<()> + Send + 'static) -> Body {
    let (pieces, body) = channel(PIECES_MAX);
    let tray = Tray {
        pieces,
        life,
        runtime: Handle::current(),
    };
    tokio::task::spawn_blocking(move || {
        if let Err(error) = make(&tray) {
            tracing::warn!(error = format!("{error:#}"), "a download was broken off");
            // Whoever waits for the rest learns that it does not come.
            let _ = tray.pieces.try_send(Err(io::Error::other("broken off")));
        }
    });
    Body::new(Pieces(body))
}

/// `GET /api/recordings/{id}/download`
pub(super) async fn recording(
    Shared(site): Shared<Arc<Site>>,
    Extension(life): Extension<Life>,
    signed: Signed,
    Path(id): Path<Uuid>,
) -> Result<Response, Failure> {
    let permit = DOWNLOADS
        .try_acquire()
        .map_err(|_| Failure::TooMany("too many downloads at once: try again in a moment"))?;
    let prepared = blocking(move || prepare(&site, &signed, id));
    let (pass, archive) = prepared.await?;
    let headers = [
        (header::CONTENT_TYPE, "application/x-tar".to_owned()),
        (header::CONTENT_LENGTH, archive.length().to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{id}.tar\""),
        ),
    ];
    let body = streamed(life, move |tray| {
        let _permit = permit;
        let told = archive.send(tray).map(|()| archive.told());
        let failed = told.as_ref().err().map(|error| format!("{error:#}"));
        pass.done(told.map_err(|error| format!("{error:#}")))?;
        failed.map_or(Ok(()), |failed| bail!(failed))
    });
    Ok((headers, body).into_response())
}

/// Asks the rules, tells the audit log, and looks what there is. Blocks.
fn prepare(site: &Site, signed: &Signed, id: Uuid) -> Result<(Pass, Archive), Failure> {
    // Whoever plays a folder has it.
    let Desk::Gateway(gateway) = &site.desk else {
        return Err(Failure::NotFound);
    };
    gateway.gated(signed, |gate| {
        let looked = gate.look(&id.to_string(), DOWNLOAD)?;
        is_stored(looked.row.state)?;
        let pass = gate.begin(&looked, Map::new()).map_err(anyhow::Error::from)?;
        let source = gateway.unshared(id)?;
        let manifest = source.manifest()?;
        let rows = gateway.catalog.segments(id)?;
        let segments = rows.iter().map(|row| (row.number, row.bytes)).collect();
        let archive = Archive {
            source,
            manifest,
            segments,
        };
        Ok((pass, archive))
    })
}

/// Of what is not recorded, or deleted, there is nothing to hand out, whatever a storage may still have.
fn is_stored(state: State) -> Result<(), Failure> {
    match state {
        State::NotRecorded | State::Deleted => Err(Failure::NotFound),
        _ => Ok(()),
    }
}

/// What async exporters have made of a recording and stored beside it, a file each.
///
/// # Errors
/// The catalog's.
pub(super) fn finished(gateway: &Gateway, id: Uuid) -> Result<Vec<MadeRow>, Failure> {
    let rows = gateway.catalog.exports(id)?.into_iter();
    let stored = rows.filter(|row| row.state == ExportState::Done && !row.storages.is_empty());
    Ok(stored
        .filter_map(|row| row.made)
        .filter(|made| file_name(made).is_some())
        .collect())
}

/// The name of an export that is one file.
pub(super) fn file_name(made: &MadeRow) -> Option<&str> {
    let name = made.object.strip_prefix("exports/")?;
    let is_plain = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"/\\".contains(&byte));
    is_plain.then_some(name)
}

/// `GET /api/recordings/{id}/exports/{name}`
pub(super) async fn export(
    Shared(site): Shared<Arc<Site>>,
    Extension(life): Extension<Life>,
    signed: Signed,
    Path((id, name)): Path<(Uuid, String)>,
) -> Result<Response, Failure> {
    let permit = DOWNLOADS
        .try_acquire()
        .map_err(|_| Failure::TooMany("too many downloads at once: try again in a moment"))?;
    let wanted = name.clone();
    let prepared = blocking(move || {
        let Desk::Gateway(gateway) = &site.desk else {
            return Err(Failure::NotFound);
        };
        gateway.gated(&signed, |gate| {
            let looked = gate.look(&id.to_string(), FETCH)?;
            is_stored(looked.row.state)?;
            let mut made = finished(gateway, id)?.into_iter();
            let made = made.rfind(|made| file_name(made) == Some(&wanted));
            let made = made.ok_or(Failure::NotFound)?;
            let told = [("object".to_owned(), made.object.clone().into())];
            let pass = gate
                .begin(&looked, told.into_iter().collect())
                .map_err(anyhow::Error::from)?;
            Ok((pass, made, gateway.unshared(id)?))
        })
    });
    let (pass, made, source) = prepared.await?;
    let headers = [
        (header::CONTENT_TYPE, made.mime.clone()),
        (header::CONTENT_LENGTH, made.bytes.to_string()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{id}-{name}\""),
        ),
    ];
    let body = streamed(life, move |tray| {
        let _permit = permit;
        let sent = send_file(tray, &source, &made).map_err(|error| format!("{error:#}"));
        let failed = sent.as_ref().err().cloned();
        pass.done(sent.map(|()| {
            let told = [("bytes", made.bytes.into()), ("sha256", made.sha256.clone().into())];
            told.map(|(name, value): (&str, Value)| (name.to_owned(), value))
                .into_iter()
                .collect()
        }))?;
        failed.map_or(Ok(()), |failed| bail!(failed))
    });
    Ok((headers, body).into_response())
}

/// Sends an export; the last piece only when all of it is what was made.
fn send_file(tray: &Tray, source: &Source, made: &MadeRow) -> anyhow::Result<()> {
    let mut digest = Sha256::new();
    let mut at = 0;
    while at < made.bytes {
        let end = made.bytes.min(at + READ_BYTES);
        let found = source.file_range(&made.object, at..end)?;
        let piece = found.with_context(|| format!("{} is not there any more", made.object))?;
        ensure!(
            piece.len() as u64 == end - at,
            "{} is shorter than what was made",
            made.object
        );
        digest.update(&piece);
        at = end;
        if at == made.bytes {
            let found = hex::encode(digest.clone().finalize());
            ensure!(
                found == made.sha256,
                "{} is not what was made: its SHA-256 is {found}",
                made.object
            );
        }
        tray.put(piece)?;
    }
    Ok(())
}

/// A recording as a tar.
struct Archive {
    source: Source,
    manifest: Option<Bytes>,
    /// Numbers and lengths.
    segments: Vec<(u32, u64)>,
}

impl Archive {
    fn length(&self) -> u64 {
        let manifest = self.manifest.iter().map(|bytes| bytes.len() as u64);
        let entries = self.segments.iter().map(|(_, bytes)| *bytes).chain(manifest);
        let block = BLOCK as u64;
        entries.map(|bytes| block + bytes.next_multiple_of(block)).sum::<u64>() + 2 * block
    }

    fn send(&self, tray: &Tray) -> anyhow::Result<()> {
        let id = self.source.recording();
        for (number, length) in &self.segments {
            let bytes = self.source.segment(*number)?;
            let found = bytes.len() as u64;
            ensure!(
                found == *length,
                "segment {number} has {found} bytes, {length} were written"
            );
            put_file(tray, &format!("{id}/{number:08}.mcap"), bytes)?;
        }
        if let Some(manifest) = &self.manifest {
            put_file(tray, &format!("{id}/manifest.json"), manifest.clone())?;
        }
        tray.put(Bytes::from_static(&[0; 2 * BLOCK]))
    }

    fn told(&self) -> Map<String, Value> {
        let bytes: u64 = self.segments.iter().map(|(_, bytes)| bytes).sum();
        let digest = self.manifest.as_ref().map(|manifest| hex::encode(sha256(manifest)));
        [
            ("segments".to_owned(), self.segments.len().into()),
            ("bytes".to_owned(), bytes.into()),
            ("sha256".to_owned(), digest.into()),
        ]
        .into_iter()
        .collect()
    }
}

fn put_file(tray: &Tray, name: &str, bytes: Bytes) -> anyhow::Result<()> {
    let padding = bytes.len().next_multiple_of(BLOCK) - bytes.len();
    tray.put(head(name, bytes.len())?)?;
    tray.put(bytes)?;
    tray.put(Bytes::from_static(&[0; BLOCK]).slice(..padding))
}

/// The block before a file: POSIX ustar, with nothing in it that tells of this machine.
fn head(name: &str, length: usize) -> anyhow::Result<Bytes> {
    let mut block = [0u8; BLOCK];
    let mut at = |place: usize, text: &str| {
        let field = block.get_mut(place..place + text.len()).context("a field too long")?;
        field.copy_from_slice(text.as_bytes());
        anyhow::Ok(())
    };
    ensure!(name.len() <= 100, "{name} is too long a name");
    at(0, name)?;
    at(100, "0000600")?;
    at(108, "0000000")?;
    at(116, "0000000")?;
    at(124, &format!("{length:011o}"))?;
    at(136, &format!("{:011o}", 0))?;
    // The checksum counts itself as spaces.
    at(148, "        ")?;
    at(156, "0")?;
    at(257, "ustar")?;
    at(263, "00")?;
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    let sum = format!("{sum:06o}\0 ");
    if let Some(field) = block.get_mut(148..156) {
        field.copy_from_slice(sum.as_bytes());
    }
    Ok(Bytes::copy_from_slice(&block))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_is_not_stored_nothing_is_handed_out() {
        for state in [State::NotRecorded, State::Deleted] {
            assert!(matches!(is_stored(state), Err(Failure::NotFound)), "{state:?}");
        }
        for state in [
            State::Recording,
            State::Delivering,
            State::Complete,
            State::Recovered,
            State::Damaged,
        ] {
            assert!(is_stored(state).is_ok(), "{state:?}");
        }
    }
}
