//! Where a session's writer thread puts what the recorder made: into the spool or memory, the catalog, and on to the courier.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context as _;
use bytes::Bytes;
use deskreel_recording::{SealedSegment, sha256};
use tokio::sync::mpsc;

use super::courier::Order;
use super::delivery::{Live, ObjectId};
use super::session::Shared;
use super::spool::{OpenSegment, Spool};
use super::steps;
use crate::catalog::{Catalog, Closed, GapRow, Object, SegmentRow};

/// A storage that every recording goes to.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) name: String,
    pub(super) required: bool,
}

/// The targets as the catalog takes them.
pub(super) fn for_catalog(targets: &[Target]) -> Vec<(&str, bool)> {
    targets
        .iter()
        .map(|target| (target.name.as_str(), target.required))
        .collect()
}

/// The catalog's row of a sealed segment.
pub(super) fn segment_row(seal: &deskreel_recording::Seal, bytes: &[u8]) -> SegmentRow {
    let body = seal.body();
    SegmentRow {
        number: body.number,
        bytes: bytes.len() as u64,
        sha256: hex::encode(sha256(bytes)),
        first_ns: body.first_ns,
        last_ns: body.last_ns,
        starts_with_key: body.starts_with_key,
    }
}

/// Says whether what the disk did not take for this reason is to be tried again, after a pause of its own.
pub(super) type Again<'a> = &'a dyn Fn(&str) -> bool;

/// One session's way out. Everything in it blocks on the disk.
pub(super) struct Sink {
    pub(super) shared: Arc<Shared>,
    pub(super) spool: Arc<Spool>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) orders: mpsc::Sender<Order>,
    pub(super) targets: Arc<[Target]>,
    open: Option<OpenSegment>,
    /// The open segment that the disk did not take all of, and why: it has to be written whole.
    torn: Option<(u32, String)>,
    /// A sealed segment did not get its whole way. What is durable is all that may be stated of the recording, and only
    /// recovery looks at that.
    broken: bool,
}

impl Sink {
    pub(super) fn new(
        shared: Arc<Shared>,
        spool: Arc<Spool>,
        catalog: Arc<Catalog>,
        orders: mpsc::Sender<Order>,
        targets: Arc<[Target]>,
    ) -> Self {
        Self {
            shared,
            spool,
            catalog,
            orders,
            targets,
            open: None,
            torn: None,
            broken: false,
        }
    }

    fn spooled(&self) -> bool {
        self.shared.spooled.load(Ordering::Acquire)
    }

    /// Makes the next bytes of the open segment durable. With best effort, bytes that the disk does not take are no error:
    /// the recorder has them all until the segment is sealed, see [`Sink::torn`].
    ///
    /// # Errors
    /// The disk's.
    pub(super) fn append(&mut self, number: u32, bytes: &[u8]) -> anyhow::Result<()> {
        if self.torn.as_ref().is_some_and(|(torn, _)| *torn == number) {
            return Ok(());
        }
        let Err(error) = self.append_to_open(number, bytes) else {
            return Ok(());
        };
        // more of it may be on its way here
        self.torn = Some((number, format!("{error:#}")));
        if self.shared.is_strict() {
            return Err(error);
        }
        tracing::error!(session = %self.shared.id, error = format!("{error:#}"), "what was recorded is not durable yet");
        Ok(())
    }

    fn append_to_open(&mut self, number: u32, bytes: &[u8]) -> anyhow::Result<()> {
        let open = match &mut self.open {
            Some(open) => open,
            None => {
                let begun = self.spool.begin(self.shared.id, number);
                self.open.insert(begun.context("begin a segment in the spool")?)
            }
        };
        let appended = open.append(bytes);
        if appended.is_err() {
            // What follows would look durable and perhaps not be: the file stays as it is until the whole segment is written.
            self.open = None;
        }
        appended.context("append to the open segment in the spool")
    }

    /// What the disk said when it did not take all of the open segment, which can only be written whole once it is sealed.
    /// With strict nothing is made of that: the session ends.
    pub(super) fn torn(&self) -> Option<&str> {
        let torn = self.torn.as_ref().filter(|_| !self.shared.is_strict());
        torn.map(|(_, error)| error.as_str())
    }

    /// Whether a segment did not get its whole way: no manifest may be made, the recording has to be closed from what is
    /// durable.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// Something in here panicked: nothing is known of what it was at. Gives the words for it.
    pub(super) fn panicked(&mut self) -> &'static str {
        self.broken = true;
        self.open = None;
        "the writer panicked"
    }

    /// The spool's limits, where the spool is in use.
    ///
    /// # Errors
    /// Which one is reached.
    pub(super) fn room(&self) -> Result<(), String> {
        if self.spooled() { self.spool.room() } else { Ok(()) }
    }

    /// A segment is sealed: it becomes durable or is held in memory, the catalog learns of it, the courier gets it. If any
    /// of that fails, the segment is in the spool if that is possible at all, and [`Sink::is_broken`] from then on. `again`
    /// is asked where disk or catalog do not take it.
    ///
    /// # Errors
    /// Disk, catalog.
    pub(super) fn sealed(&mut self, segment: &SealedSegment, again: Again<'_>) -> anyhow::Result<()> {
        let id = self.id(Object::Segment(segment.number));
        steps::taken("sealed", id);
        if self.broken {
            // Only recovery states what there is now, and it looks for that in the spool.
            self.open = None;
            let written = self.write_anew(id, segment);
            return written.with_context(|| format!("write {} to the spool", id.object));
        }
        let mut durable = false;
        let passed = self.pass_on(id, segment, &mut durable, again);
        self.torn = None;
        let Err(mut error) = passed else {
            return Ok(());
        };
        self.broken = true;
        if !durable && let Err(lost) = self.write_anew(id, segment) {
            error = error.context(format!(
                "{} is lost, the spool does not take it either: {lost}",
                id.object
            ));
        }
        Err(error)
    }

    fn pass_on(
        &mut self,
        id: ObjectId,
        segment: &SealedSegment,
        durable: &mut bool,
        again: Again<'_>,
    ) -> anyhow::Result<()> {
        let payload = if self.spooled() {
            let mut written = self.spool_segment(id, segment);
            while let Err(error) = &written
                && again(&format!("write {} to the spool: {error}", id.object))
            {
                written = self.write_anew(id, segment);
            }
            written.with_context(|| format!("write {} to the spool", id.object))?;
            *durable = true;
            None
        } else {
            Some(segment.bytes.clone())
        };
        steps::reached("segment: durable");
        let row = segment_row(&segment.seal, &segment.bytes);
        self.shared.trail.sealed(row.bytes);
        self.note(again, |catalog| {
            catalog.segment_sealed(self.shared.id, &row, &for_catalog(&self.targets))
        })?;
        steps::reached("segment: in the catalog");
        self.send(id, row.bytes, payload)
    }

    fn spool_segment(&mut self, id: ObjectId, segment: &SealedSegment) -> std::io::Result<()> {
        if let (Some(open), Some(rest)) = (self.open.take(), segment.bytes.get(segment.taken..))
            && open.length() == segment.taken as u64
        {
            match open.seal(rest) {
                Ok(()) => return Ok(()),
                Err(error) => {
                    tracing::warn!(session = %id.recording, object = %id.object, %error, "written to the spool anew");
                }
            }
        }
        // The session went over to the spool within this segment, or a write to the open one failed.
        self.write_anew(id, segment)
    }

    fn write_anew(&self, id: ObjectId, segment: &SealedSegment) -> std::io::Result<()> {
        self.spool.write(id, &segment.bytes)?;
        self.spool.remove_open(id.recording, segment.number)
    }

    /// The recording is closed. Not where [`Sink::is_broken`]: a manifest may only state segments that are on their way to
    /// the storages. `again` is asked where disk or catalog do not take it.
    ///
    /// # Errors
    /// Disk, catalog; the recording has to be closed from what is durable then.
    pub(super) fn closed(&mut self, manifest: Vec<u8>, closed: &Closed, again: Again<'_>) -> anyhow::Result<()> {
        let passed = self.pass_on_manifest(manifest, closed, again);
        self.broken |= passed.is_err();
        passed
    }

    fn pass_on_manifest(&self, manifest: Vec<u8>, closed: &Closed, again: Again<'_>) -> anyhow::Result<()> {
        let id = self.id(Object::Manifest);
        let size = manifest.len() as u64;
        let payload = if self.spooled() {
            let mut written = self.spool.write(id, &manifest);
            while let Err(error) = &written
                && again(&format!("write the manifest to the spool: {error}"))
            {
                written = self.spool.write(id, &manifest);
            }
            written.context("write the manifest to the spool")?;
            None
        } else {
            Some(Bytes::from(manifest))
        };
        steps::reached("manifest: durable");
        self.note(again, |catalog| {
            catalog.closed(self.shared.id, closed, &for_catalog(&self.targets))
        })?;
        steps::reached("manifest: in the catalog");
        self.send(id, size, payload)
    }

    /// A gap, for listings; the recording has it as an event.
    ///
    /// # Errors
    /// The catalog's.
    pub(super) fn gap(&self, gap: &GapRow) -> anyhow::Result<()> {
        self.catalog.gap(self.shared.id, gap).map_err(Into::into)
    }

    /// From now on the file of the open segment can't be made durable.
    #[cfg(test)]
    pub(super) fn fail_to_sync(&mut self) {
        if let Some(open) = &mut self.open {
            open.fail_to_sync();
        }
    }

    /// Tells the catalog, which may share the disk with the spool: where that is full, the reserve makes room.
    fn note(&self, again: Again<'_>, tell: impl Fn(&Catalog) -> crate::catalog::Result<()>) -> anyhow::Result<()> {
        loop {
            let noted = self.spool.or_give_up_reserve(|| tell(&self.catalog));
            match noted.map_err(anyhow::Error::from) {
                Err(error) if again(&format!("{error:#}")) => {}
                noted => return noted,
            }
        }
    }

    fn id(&self, object: Object) -> ObjectId {
        ObjectId {
            recording: self.shared.id,
            object,
        }
    }

    fn send(&self, id: ObjectId, size: u64, payload: Option<Bytes>) -> anyhow::Result<()> {
        let live = match (self.shared.live.load(Ordering::Acquire), self.shared.all_sync) {
            (false, _) => Live::No,
            (true, false) => Live::Sync,
            (true, true) => Live::Required,
        };
        let held = payload.as_ref().map_or(0, |payload| payload.len() as u64);
        let order = Order::Deliver {
            id,
            size,
            payload,
            live,
            missing: None,
        };
        self.shared.hold(held);
        self.orders.blocking_send(order).map_err(|_| {
            self.shared.release(held);
            anyhow::anyhow!("the delivery has stopped")
        })
    }
}
