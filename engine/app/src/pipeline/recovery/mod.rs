//! Closing what a crash left open, and going on with what it left undelivered.
//!
//! Nothing is invented: a manifest states only what sealed segments hold. Nothing is thrown away: what can't be read is
//! put aside, what doesn't fit stays where it is, and the recording says what is wrong with it. Every step may be
//! repeated, so recovery itself may be killed at any moment.

mod find;
pub(super) mod run;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use anyhow::Context as _;
use bytes::Bytes;
use deskreel_recording::event::SessionStart;
use deskreel_recording::recover::Closing;
use deskreel_recording::{Manifest, Segment, SigningKey, sha256};
use time::OffsetDateTime;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::courier::{Means, Order, key};
use super::delivery::{Live, ObjectId};
use super::recorder::{end_text, gap_row};
use super::sink::{Target, for_catalog, segment_row};
use super::{steps, trail};
use find::{Piece, Pieces};

use crate::audit::Event;
use crate::catalog::{self, Closed, IdentityKind, NewSession, Object, PlacementRow, SegmentRow, SessionRow, State};

/// What recovery works with.
#[derive(Clone)]
pub(super) struct Recovery {
    pub(super) means: Means,
    pub(super) key: SigningKey,
    pub(super) targets: Arc<[Target]>,
    pub(super) orders: mpsc::Sender<Order>,
    /// Required storages that did not answer, and when: not every recording waits for each of them anew.
    pub(super) silent: Arc<Mutex<BTreeMap<usize, Instant>>>,
}

/// What became of one recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It was closed before; its delivery goes on.
    Resumed,
    /// It was open and is closed now.
    Recovered,
    /// It is closed as far as it is whole; the catalog says what is wrong.
    Damaged,
}

/// When recovery runs, and so what it means that a sealed segment is nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum When {
    /// At start: it was in memory when the gateway was killed, and is lost.
    Start,
    /// While the gateway runs, after a recorder failed: it is still on its way.
    Running {
        /// Why it failed.
        reason: String,
    },
}

impl When {
    /// Why the recording has no end of its own.
    fn detail(&self) -> String {
        match self {
            Self::Start => "the gateway stopped during the session; the recording was closed afterwards".to_owned(),
            Self::Running { reason } => {
                format!(
                    "the recorder failed during the session, and the recording was closed from what was durable: {reason}"
                )
            }
        }
    }

    fn nothing_durable(&self) -> String {
        match self {
            Self::Start => "the gateway stopped before anything was durable".to_owned(),
            Self::Running { reason } => format!("the recorder failed before anything was durable: {reason}"),
        }
    }
}

impl Recovery {
    /// All recordings that need attention: open or undelivered ones of the catalog, and all with a folder in the spool.
    ///
    /// # Errors
    /// Catalog or spool that can't be read.
    pub(super) async fn list(&self) -> anyhow::Result<Vec<Uuid>> {
        let means = self.means.clone();
        let list = move || -> anyhow::Result<Vec<Uuid>> {
            let mut ids: BTreeSet<Uuid> = means
                .spool
                .recordings()
                .context("read the spool")?
                .into_iter()
                .collect();
            for state in [State::Recording, State::Delivering] {
                ids.extend(means.catalog.sessions_in(state)?.iter().map(|row| row.id));
            }
            Ok(ids.into_iter().collect())
        };
        tokio::task::spawn_blocking(list)
            .await
            .context("list what to recover")?
    }

    /// Brings one recording to its end: closes it if it is open, and hands to the courier what is not delivered.
    ///
    /// # Errors
    /// A storage, the spool or the catalog that doesn't answer: try again later, nothing is lost by it.
    pub(super) async fn recover(&self, recording: Uuid, when: &When) -> anyhow::Result<Outcome> {
        let row = self.row(recording).await?;
        if let Some(row) = row.as_ref().filter(|row| row.state != State::Recording)
            && self.resume(recording, row.state).await?
        {
            return Ok(Outcome::Resumed);
        }
        self.close(recording, row, when).await
    }

    async fn row(&self, recording: Uuid) -> anyhow::Result<Option<SessionRow>> {
        let catalog = Arc::clone(&self.means.catalog);
        let find = move || match catalog.session(&recording.to_string()) {
            Ok(row) => Ok(Some(row)),
            Err(catalog::Error::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        };
        Ok(tokio::task::spawn_blocking(find).await??)
    }

    async fn placements(&self, recording: Uuid) -> anyhow::Result<Vec<PlacementRow>> {
        let catalog = Arc::clone(&self.means.catalog);
        Ok(tokio::task::spawn_blocking(move || catalog.placements(recording)).await??)
    }

    /// Hands what is undelivered of a closed recording to the courier. False when something that is not everywhere is
    /// not in the spool either: it was in memory when the gateway was killed.
    async fn resume(&self, recording: Uuid, state: State) -> anyhow::Result<bool> {
        let spool = Arc::clone(&self.means.spool);
        let found = tokio::task::spawn_blocking(move || spool.look(recording))
            .await?
            .context("read the spool")?;
        let mut missing: BTreeMap<Object, BTreeSet<usize>> = BTreeMap::new();
        for placement in self.placements(recording).await? {
            let lacking = missing.entry(placement.object).or_default();
            // A storage that is no longer configured gets nothing any more.
            let storage = self.targets.iter().position(|target| target.name == placement.storage);
            if placement.stored.is_none()
                && let Some(storage) = storage
            {
                lacking.insert(storage);
            }
        }
        let lost = missing
            .iter()
            .any(|(object, lacking)| !lacking.is_empty() && !found.has(*object));
        if state == State::Delivering && (lost || !missing.contains_key(&Object::Manifest)) {
            return Ok(false);
        }
        let in_spool = found.has(Object::Manifest);
        let superseded = found.open.iter().copied();
        let superseded = superseded.filter(|number| missing.contains_key(&Object::Segment(*number)));
        self.remove_open(recording, superseded.collect()).await?;
        for (object, size) in found.sealed {
            // What the catalog doesn't list is evidence that doesn't fit; it stays where it is.
            if let Some(missing) = missing.remove(&object) {
                self.deliver(ObjectId { recording, object }, size, missing).await?;
            }
        }
        if state == State::Delivering && !in_spool {
            // Every storage has it, and only the catalog was not told any more that this was all.
            let id = ObjectId {
                recording,
                object: Object::Manifest,
            };
            self.deliver(id, 0, BTreeSet::new()).await?;
        }
        Ok(true)
    }

    async fn deliver(&self, id: ObjectId, size: u64, missing: BTreeSet<usize>) -> anyhow::Result<()> {
        let order = Order::Deliver {
            id,
            size,
            payload: None,
            live: Live::No,
            missing: Some(missing),
        };
        self.orders
            .send(order)
            .await
            .map_err(|_| anyhow::anyhow!("the delivery has stopped"))
    }

    /// Closes an open recording.
    async fn close(&self, recording: Uuid, row: Option<SessionRow>, when: &When) -> anyhow::Result<Outcome> {
        let pieces = Pieces {
            listed: self.listed(recording).await?,
            stored: self.stored(recording).await?,
        };
        let mut found = Gathered {
            detail: when.detail(),
            nothing_durable: when.nothing_durable(),
            ..Gathered::default()
        };
        let mut closing = Closing::new(recording, vec![self.key.verifying_key()]);
        let mut problems = Vec::new();
        let mut numbers = 0;
        for number in 0.. {
            let id = ObjectId {
                recording,
                object: Object::Segment(number),
            };
            let piece = match self.piece(id, &pieces).await? {
                Some(piece) => Some(piece),
                None => self.reseal(id, number, &closing, &mut problems).await?,
            };
            numbers = number;
            let Some(piece) = piece else { break };
            if let Err(error) = closing.segment(&piece.bytes) {
                problems.push(format!("{} is damaged: {error}", id.object));
                break;
            }
            let segment = Segment::open(piece.bytes.clone())?;
            let seal = segment.seal().context("a sealed segment without a seal")?;
            found
                .segments
                .push((segment_row(seal, &piece.bytes), piece.in_spool, piece.at));
        }
        let stray = self.strays(recording, numbers, &pieces.listed).await?;
        if problems.is_empty() && !stray.is_empty() {
            problems.push(format!(
                "segment {numbers} is missing, {} after it are there",
                stray.len()
            ));
        }
        if let Some(row) = &row {
            found.lost = self.lost(row.id, numbers, &stray, problems.is_empty()).await?;
        }
        if matches!(when, When::Running { .. }) && !found.lost.is_empty() {
            anyhow::bail!("{} sealed segments are still on their way", found.lost.len());
        }
        if row.is_none() && found.segments.is_empty() && problems.is_empty() {
            let spool = Arc::clone(&self.means.spool);
            tokio::task::spawn_blocking(move || spool.remove_folder(recording))
                .await?
                .context("tidy the spool")?;
            return Ok(Outcome::Resumed);
        }
        let manifest = self
            .manifest(recording, closing, &found, &pieces, &mut problems)
            .await?;
        self.write(recording, row, found, manifest, problems).await
    }

    /// The manifest that there is, or one made from the segments. `None` when nothing was durable.
    async fn manifest(
        &self,
        recording: Uuid,
        closing: Closing,
        found: &Gathered,
        pieces: &Pieces,
        problems: &mut Vec<String>,
    ) -> anyhow::Result<Option<(Manifest, Piece)>> {
        let id = ObjectId {
            recording,
            object: Object::Manifest,
        };
        if let Some(piece) = self.piece(id, pieces).await? {
            let manifest = Manifest::parse(&piece.bytes)
                .and_then(|manifest| manifest.verify(&self.key.verifying_key()).map(|()| manifest));
            match manifest {
                Ok(manifest) => return Ok(Some((manifest, piece))),
                Err(error) => {
                    // Somebody else's: it stays where it is, and ours can't take its place.
                    problems.push(format!("the manifest that is there is not this node's: {error}"));
                    return Ok(None);
                }
            }
        }
        if found.segments.is_empty() {
            return Ok(None);
        }
        let detail = match found.lost.len() {
            0 => found.detail.clone(),
            lost => format!(
                "{}; {lost} sealed segments that no storage had yet are lost",
                found.detail
            ),
        };
        let bytes = Bytes::from(closing.finish(&detail, &self.key)?);
        let manifest = Manifest::parse(&bytes)?;
        let spool = Arc::clone(&self.means.spool);
        let copy = bytes.clone();
        tokio::task::spawn_blocking(move || spool.write(id, &copy))
            .await?
            .context("write the manifest to the spool")?;
        steps::reached("recovery: manifest");
        Ok(Some((
            manifest,
            Piece {
                bytes,
                in_spool: true,
                at: BTreeSet::new(),
            },
        )))
    }

    /// Tells the catalog, then the courier.
    async fn write(
        &self,
        recording: Uuid,
        row: Option<SessionRow>,
        found: Gathered,
        manifest: Option<(Manifest, Piece)>,
        mut problems: Vec<String>,
    ) -> anyhow::Result<Outcome> {
        // A kill between the two leaves a sealed segment beside what it was made of.
        self.remove_open(
            recording,
            found.segments.iter().map(|(segment, ..)| segment.number).collect(),
        )
        .await?;
        // What is at some storages only has to come to the others, so it goes to the spool first.
        for (segment, in_spool, at) in &found.segments {
            if !in_spool && at.len() < self.targets.len() {
                let id = ObjectId {
                    recording,
                    object: Object::Segment(segment.number),
                };
                self.fetch(id, at).await?;
            }
        }
        if let Some((_, piece)) = manifest
            .as_ref()
            .filter(|(_, piece)| !piece.in_spool && piece.at.len() < self.targets.len())
        {
            let (spool, bytes) = (Arc::clone(&self.means.spool), piece.bytes.clone());
            let id = ObjectId {
                recording,
                object: Object::Manifest,
            };
            tokio::task::spawn_blocking(move || spool.write(id, &bytes))
                .await?
                .context("write to the spool")?;
        }
        let recovered = manifest.as_ref().is_none_or(|(manifest, _)| manifest.body().recovered);
        if let Some((manifest, _)) = &manifest {
            let stated = manifest.body().segments.len();
            if stated != found.segments.len() {
                problems.push(format!(
                    "the manifest lists {stated} segments, {} are there",
                    found.segments.len()
                ));
            }
        } else if found.segments.is_empty() && problems.is_empty() {
            problems.push(found.nothing_durable.clone());
        }
        let outcome = match (&manifest, recovered) {
            (Some(_), false) if problems.is_empty() => Outcome::Resumed,
            (Some(_), _) if problems.is_empty() => Outcome::Recovered,
            // Nothing durable is what sync allows in the first seconds: recovered, with nothing.
            (None, _) if found.segments.is_empty() && problems.len() == 1 => Outcome::Recovered,
            _ => Outcome::Damaged,
        };
        let this = self.clone();
        let note = move || {
            this.note(recording, row.as_ref(), &found, manifest.as_ref(), &problems, outcome)
                .map(|()| (found, manifest))
        };
        let (found, manifest) = tokio::task::spawn_blocking(note).await??;
        steps::reached("recovery: in the catalog");
        for (segment, in_spool, at) in found.segments {
            let missing = self.missing(&at);
            if in_spool || !missing.is_empty() {
                let id = ObjectId {
                    recording,
                    object: Object::Segment(segment.number),
                };
                self.deliver(id, segment.bytes, missing).await?;
            }
        }
        if let Some((_, piece)) = manifest {
            // Also when every storage has it: the courier then says that the recording is complete.
            let missing = self.missing(&piece.at);
            let id = ObjectId {
                recording,
                object: Object::Manifest,
            };
            self.deliver(id, piece.bytes.len() as u64, missing).await?;
        }
        Ok(outcome)
    }

    /// All catalog rows of a closed recording.
    fn note(
        &self,
        recording: Uuid,
        row: Option<&SessionRow>,
        found: &Gathered,
        manifest: Option<&(Manifest, Piece)>,
        problems: &[String],
        outcome: Outcome,
    ) -> anyhow::Result<()> {
        let catalog = &self.means.catalog;
        let body = manifest.map(|(manifest, _)| manifest.body());
        let started = match row {
            Some(row) => row.started,
            None => {
                let start = body.and_then(|body| body.start.as_ref());
                let session = unknown_session(recording, start);
                catalog.session_started(&session)?;
                session.started
            }
        };
        for &number in &found.lost {
            catalog.segment_lost(recording, number)?;
        }
        let targets = for_catalog(&self.targets);
        let now = OffsetDateTime::now_utc();
        for (segment, _, at) in &found.segments {
            catalog.segment_sealed(recording, segment, &targets)?;
            for &storage in at {
                catalog.stored(
                    recording,
                    Object::Segment(segment.number),
                    &self.targets[storage].name,
                    now,
                )?;
            }
        }
        for gap in body.into_iter().flat_map(|body| &body.gaps) {
            catalog.gap(recording, &gap_row(gap))?;
        }
        let last_ns = found.segments.last().map_or(0, |(segment, ..)| segment.last_ns);
        let duration_ms = catalog::duration_ms(body.map_or(last_ns, |body| body.duration_ns));
        let problem = (!problems.is_empty()).then(|| problems.join("; "));
        let closed = Closed {
            state: match outcome {
                Outcome::Resumed => State::Delivering,
                Outcome::Recovered => State::Recovered,
                Outcome::Damaged => State::Damaged,
            },
            ended: started + std::time::Duration::from_millis(duration_ms),
            duration_ms,
            undecoded: body.map_or(0, |body| body.undecoded_count),
            end_reason: body.map_or_else(|| format!("recovered: {}", found.detail), |body| end_text(&body.end)),
            problem,
            manifest_sha256: manifest.map(|(_, piece)| hex::encode(sha256(&piece.bytes))),
        };
        self.tell(recording, &closed, found.segments.len())?;
        let manifest_targets = if manifest.is_some() { targets } else { Vec::new() };
        catalog.closed(recording, &closed, &manifest_targets)?;
        for &storage in manifest.into_iter().flat_map(|(_, piece)| &piece.at) {
            catalog.stored(recording, Object::Manifest, &self.targets[storage].name, now)?;
        }
        Ok(())
    }

    /// Tells the audit log, before the catalog knows that the session is over.
    fn tell(&self, recording: Uuid, closed: &Closed, segments: usize) -> anyhow::Result<()> {
        let mut row = self.means.catalog.session(&recording.to_string())?;
        if row.state != State::Recording {
            return Ok(());
        }
        row.ended = Some(closed.ended);
        row.end_reason = Some(closed.end_reason.clone());
        let recover = (closed.state != State::Delivering).then(|| Event::RecordingRecover {
            segments: u32::try_from(segments).unwrap_or(u32::MAX),
            digest: closed.manifest_sha256.clone(),
            problem: closed.problem.clone(),
        });
        trail::recovered(&self.means.audit, &row, recover)
    }

    /// Removes what sealed segments were made of.
    async fn remove_open(&self, recording: Uuid, numbers: Vec<u32>) -> anyhow::Result<()> {
        let spool = Arc::clone(&self.means.spool);
        let remove = move || {
            numbers
                .into_iter()
                .try_for_each(|number| spool.remove_open(recording, number))
        };
        tokio::task::spawn_blocking(remove).await?.context("tidy the spool")
    }

    /// Copies an object from a storage that has it to the spool.
    async fn fetch(&self, id: ObjectId, at: &BTreeSet<usize>) -> anyhow::Result<()> {
        let Some(&storage) = at.first() else { return Ok(()) };
        let storage = &self.means.storages[storage];
        let bytes = storage.get(key(id)).await;
        let bytes = bytes.with_context(|| format!("read {} at storage {}", key(id), storage.name()))?;
        let spool = Arc::clone(&self.means.spool);
        tokio::task::spawn_blocking(move || spool.write(id, &bytes))
            .await?
            .context("write to the spool")
    }

    fn missing(&self, at: &BTreeSet<usize>) -> BTreeSet<usize> {
        (0..self.targets.len())
            .filter(|storage| !at.contains(storage))
            .collect()
    }
}

/// The whole row of segments that was found: catalog row, whether it is in the spool, storages that have it.
#[derive(Default)]
struct Gathered {
    segments: Vec<(SegmentRow, bool, BTreeSet<usize>)>,
    /// Sealed segments that are nowhere.
    lost: Vec<u32>,
    /// Why the recording has no end of its own, and what is wrong if there is nothing of it.
    detail: String,
    nothing_durable: String,
}

/// A session that the catalog doesn't know, from the facts in its own recording.
pub(crate) fn unknown_session(recording: Uuid, start: Option<&SessionStart>) -> NewSession {
    let from_id = || {
        recording
            .get_timestamp()
            .map_or(0, |timestamp| u64::from(timestamp.to_unix().0 as u32) * 1_000_000)
    };
    let started_us = start.map_or_else(from_id, |start| start.started_unix_us);
    let started = OffsetDateTime::from_unix_timestamp_nanos(i128::from(started_us) * 1000);
    let text = |field: fn(&SessionStart) -> String| start.map_or_else(String::new, field);
    NewSession {
        id: recording,
        started: started.unwrap_or(OffsetDateTime::UNIX_EPOCH),
        user: text(|start| start.user.name.clone()),
        identity: match start {
            Some(start) if start.user.proven => IdentityKind::Proven,
            _ => IdentityKind::Claimed,
        },
        login: text(full_login),
        desktop: text(|start| start.desktop.name.clone()),
        desktop_addr: text(|start| start.desktop.addr.clone()),
        labels: start.map(|start| start.desktop.labels.clone()).unwrap_or_default(),
        roles: roles_of(start),
        decision: start.and_then(|start| start.decision.clone()),
        client_addr: text(|start| start.client.addr.clone()),
        client_name: text(|start| start.client.name.clone().unwrap_or_default()),
    }
}

/// Roles of the Decision in a recording.
fn roles_of(start: Option<&SessionStart>) -> Vec<String> {
    let roles = start.and_then(|start| start.decision.as_ref()?.get("roles").cloned());
    roles
        .and_then(|roles| serde_json::from_value(roles).ok())
        .unwrap_or_default()
}

/// `DOMAIN\login`, or the login alone.
pub(super) fn full_login(start: &SessionStart) -> String {
    match start.domain.as_deref() {
        Some(domain) if !domain.is_empty() => format!("{domain}\\{}", start.login),
        _ => start.login.clone(),
    }
}
