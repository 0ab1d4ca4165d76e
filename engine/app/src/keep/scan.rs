//! Holding a storage against the catalog: objects that nobody knows, rows without objects, wrong sizes and digests.
//!
//! Recordings move while this looks: a storage is listed before the catalog is read, so what is listed must be known; what is
//! known and was not listed is asked for once more before it counts as missing.

use std::collections::{BTreeMap, BTreeSet};

use deskreel_recording::sha256;
use deskreel_sdk::{ErrorKind, Key};
use serde::Serialize;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::objects::{Group, Met, Name, walk};
use crate::catalog::{Catalog, Object, SegmentRow, SessionRow, State};
use crate::host::StorageHandle;

/// Findings that are listed one by one; more are only counted.
const FINDINGS_MAX: usize = 10_000;

/// What may be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Kind {
    /// An object that belongs to no recording.
    Stranger,
    /// A recording that the catalog does not know.
    Unknown,
    /// Something is left of a deleted recording.
    Leftover,
    /// A segment that the catalog does not list.
    Unlisted,
    /// An object that should be there is not.
    Missing,
    /// An object has another size than what was sealed.
    Size,
    /// An object has other bytes than what was sealed.
    Digest,
    /// An object could not be read.
    Unreadable,
}

impl Kind {
    /// Whether something that was recorded is lost or damaged at this storage.
    pub(crate) fn is_loss(self) -> bool {
        matches!(self, Self::Missing | Self::Size | Self::Digest)
    }

    /// What to do.
    pub(crate) fn advice(self) -> &'static str {
        match self {
            Self::Stranger => "nothing of Deskreel's: remove it by hand if nobody needs it",
            Self::Unknown => "`deskreel catalog sync` adds it to the catalog",
            Self::Leftover => {
                "`deskreel recordings purge` deletes the rest where a deletion was refused; else remove it by hand"
            }
            Self::Unlisted => "more than the manifest lists: keep it, `deskreel recordings verify` judges it",
            Self::Missing | Self::Size | Self::Digest => {
                "`deskreel storages copy OTHER THIS --missing` fetches it from another storage; remove a damaged object first"
            }
            Self::Unreadable => "try again; `deskreel storages check` says what is in the way",
        }
    }
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// What.
    pub(crate) kind: Kind,
    /// Where.
    pub(crate) key: String,
    /// In words.
    pub(crate) text: String,
}

/// What was found at a storage.
#[derive(Debug, Clone, Default, Serialize)]
pub(crate) struct Scanned {
    /// The storage.
    pub(crate) storage: String,
    /// Recordings there.
    pub(crate) recordings: u64,
    /// Objects there.
    pub(crate) objects: u64,
    /// Bytes there.
    pub(crate) bytes: u64,
    /// Objects whose digest was compared.
    pub(crate) digests: u64,
    /// How much of each kind.
    pub(crate) counts: BTreeMap<Kind, u64>,
    /// One by one, as far as they are listed.
    pub(crate) findings: Vec<Finding>,
}

impl Scanned {
    fn find(&mut self, kind: Kind, key: impl Into<String>, text: impl Into<String>) {
        *self.counts.entry(kind).or_default() += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding {
                kind,
                key: key.into(),
                text: text.into(),
            });
        }
    }

    /// Whether anything is lost or damaged.
    pub(crate) fn is_broken(&self) -> bool {
        self.counts.keys().any(|kind| kind.is_loss())
    }
}

/// What a scan works with.
pub(crate) struct Scanner<'a> {
    /// To ask the storage with.
    pub(crate) handle: &'a Handle,
    /// The catalog.
    pub(crate) catalog: &'a Catalog,
    /// The storage.
    pub(crate) storage: &'a StorageHandle,
    /// Read every object and compare its digest.
    pub(crate) digests: bool,
}

impl Scanner<'_> {
    /// Looks through the whole storage. `meanwhile` is called after every recording.
    ///
    /// # Errors
    /// A listing that fails, the catalog.
    pub(crate) fn scan(&self, meanwhile: &mut dyn FnMut(&Scanned)) -> anyhow::Result<Scanned> {
        let mut scanned = Scanned {
            storage: self.storage.name.clone(),
            ..Scanned::default()
        };
        let mut seen = BTreeSet::new();
        walk(self.handle, self.storage, None, |met| {
            match met {
                Met::Stranger(object) => {
                    scanned.objects += 1;
                    scanned.bytes += object.size;
                    scanned.find(Kind::Stranger, object.key.as_str(), "belongs to no recording");
                }
                Met::Recording(group) => {
                    seen.insert(group.recording);
                    scanned.recordings += 1;
                    scanned.objects += group.objects.len() as u64;
                    scanned.bytes += group.bytes();
                    self.group(&group, &mut scanned)?;
                    meanwhile(&scanned);
                }
            }
            Ok(true)
        })?;
        for recording in self.catalog.recordings_at(&self.storage.name)? {
            if !seen.contains(&recording) {
                let nothing = Group {
                    recording,
                    objects: BTreeMap::new(),
                };
                self.known(&nothing, &mut scanned)?;
            }
        }
        Ok(scanned)
    }

    fn group(&self, group: &Group, scanned: &mut Scanned) -> anyhow::Result<()> {
        let count = group.objects.len();
        let key = format!("{}/", group.recording);
        match self.catalog.find(group.recording)? {
            None => scanned.find(
                Kind::Unknown,
                key,
                format!("{count} objects of a recording that the catalog does not know"),
            ),
            Some(SessionRow {
                state: State::Deleted, ..
            }) => {
                scanned.find(Kind::Leftover, key, format!("{count} objects of a deleted recording"));
            }
            Some(_) => self.known(group, scanned)?,
        }
        Ok(())
    }

    /// A recording that the catalog knows.
    fn known(&self, group: &Group, scanned: &mut Scanned) -> anyhow::Result<()> {
        let id = group.recording;
        let segments: BTreeMap<u32, SegmentRow> = self
            .catalog
            .segments(id)?
            .into_iter()
            .map(|row| (row.number, row))
            .collect();
        let Some(row) = self.catalog.find(id)? else {
            return Ok(());
        };
        for placed in self.catalog.placements(id)? {
            if placed.storage != self.storage.name || placed.stored.is_none() {
                continue;
            }
            let name = match placed.object {
                Object::Segment(number) => Name::Segment(number),
                Object::Manifest => Name::Manifest,
            };
            if !group.objects.contains_key(&name) && self.is_missing(id, placed.object)? {
                scanned.find(
                    Kind::Missing,
                    key(id, placed.object),
                    "the catalog says that it is there",
                );
            }
        }
        for (name, object) in &group.objects {
            let expected = match name {
                Name::Segment(number) => match segments.get(number) {
                    Some(segment) if segment.bytes != object.size => {
                        let text = format!("{} bytes, {} were sealed", object.size, segment.bytes);
                        scanned.find(Kind::Size, object.key.as_str(), text);
                        continue;
                    }
                    Some(segment) => Some(segment.sha256.clone()),
                    None if row.manifest_sha256.is_some() => {
                        scanned.find(Kind::Unlisted, object.key.as_str(), "the catalog does not list it");
                        continue;
                    }
                    None => None,
                },
                Name::Manifest => row.manifest_sha256.clone(),
                Name::Hold | Name::Other(_) => None,
            };
            if let Some(expected) = expected.filter(|_| self.digests) {
                self.digest(&object.key, &expected, scanned);
            }
        }
        Ok(())
    }

    /// Compares digests of some objects that are taken by chance.
    ///
    /// # Errors
    /// The catalog.
    pub(crate) fn scrub(&self, sample: u32, meanwhile: &mut dyn FnMut(&Scanned)) -> anyhow::Result<Scanned> {
        let mut scanned = Scanned {
            storage: self.storage.name.clone(),
            ..Scanned::default()
        };
        for (recording, object, expected) in self.catalog.sample(&self.storage.name, sample)? {
            let key = Key::new(key(recording, object))?;
            scanned.objects += 1;
            self.digest(&key, &expected, &mut scanned);
            meanwhile(&scanned);
        }
        Ok(scanned)
    }

    fn digest(&self, key: &Key, expected: &str, scanned: &mut Scanned) {
        match self.handle.block_on(self.storage.get(key)) {
            Ok(bytes) => {
                scanned.digests += 1;
                let found = hex::encode(sha256(&bytes));
                if found != expected {
                    scanned.find(
                        Kind::Digest,
                        key.as_str(),
                        format!("SHA-256 {found}, {expected} was sealed"),
                    );
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {
                scanned.find(Kind::Missing, key.as_str(), "the catalog says that it is there");
            }
            Err(error) => scanned.find(Kind::Unreadable, key.as_str(), error.to_string()),
        }
    }

    /// Asked again: it may have been stored after the storage was listed, or deleted after that.
    fn is_missing(&self, recording: Uuid, object: Object) -> anyhow::Result<bool> {
        let there = self
            .handle
            .block_on(self.storage.stat(&Key::new(key(recording, object))?));
        let gone = there.is_err_and(|error| error.kind() == ErrorKind::NotFound);
        let still = |catalog: &Catalog| -> anyhow::Result<bool> {
            let placed = catalog.placements(recording)?;
            Ok(placed.iter().any(|placed| {
                placed.storage == self.storage.name && placed.object == object && placed.stored.is_some()
            }))
        };
        Ok(gone && still(self.catalog)?)
    }
}

fn key(recording: Uuid, object: Object) -> String {
    match object {
        Object::Segment(number) => deskreel_recording::segment_key(recording, number),
        Object::Manifest => deskreel_recording::manifest_key(recording),
    }
}
