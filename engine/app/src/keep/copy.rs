//! Copying recordings from one storage to another: every digest is checked on the way, the manifest goes last, and since a
//! put of the same bytes is a success, a copy that was interrupted is simply begun again.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use deskreel_recording::{Manifest, sha256};
use deskreel_sdk::{Error, Key, ObjectInfo, PutOptions};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::runtime::Handle;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::objects::{Group, Met, Name, of_recording, walk};
use super::retention::Rules;
use crate::catalog::{Catalog, Found, Object, State};
use crate::host::StorageHandle;

/// Attempts at one object before it is a problem; a later run takes it up again.
const ATTEMPTS: u32 = 4;
/// Before the second attempt; doubled for each further one.
const WAIT: Duration = Duration::from_millis(500);
/// Objects in flight at most, whatever the plugins like: each is in memory whole.
const CONCURRENCY_MAX: usize = 16;
/// Problems that are told one by one.
const PROBLEMS_MAX: usize = 100;

/// What a copy works with.
pub(crate) struct Copier<'a> {
    /// To ask the storages with.
    pub(crate) handle: &'a Handle,
    /// Where recordings are read.
    pub(crate) from: &'a Arc<StorageHandle>,
    /// Where they go.
    pub(crate) to: &'a Arc<StorageHandle>,
    /// The catalog, open for changes.
    pub(crate) catalog: &'a Catalog,
    /// How long a storage with object lock has to keep them.
    pub(crate) rules: &'a Rules,
    /// Leave out what is there in the same size.
    pub(crate) missing_only: bool,
    /// Now.
    pub(crate) now: OffsetDateTime,
}

/// What was copied.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Copied {
    /// Recordings that were looked at.
    pub(crate) recordings: u64,
    /// Objects that were put.
    pub(crate) objects: u64,
    /// Bytes of them.
    pub(crate) bytes: u64,
    /// Objects that were there already.
    pub(crate) present: u64,
    /// Recordings without a manifest: what is there was copied, and they are to be copied again when they are closed.
    pub(crate) open: u64,
    /// Recordings that the catalog knows as deleted: not copied.
    pub(crate) deleted: u64,
    /// What could not be copied.
    pub(crate) problems: Vec<String>,
    /// How many problems there were.
    pub(crate) failed: u64,
}

impl Copied {
    fn problem(&mut self, text: String) {
        self.failed += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(text);
        }
    }
}

/// One object on its way.
struct Job {
    key: Key,
    /// SHA-256 that it must have, hexadecimal, where that is known.
    digest: Option<String>,
    options: PutOptions,
}

impl Copier<'_> {
    /// Bytes that lie at the source.
    ///
    /// # Errors
    /// What the storage says.
    pub(crate) fn size(&self, only: Option<Uuid>) -> anyhow::Result<u64> {
        let mut bytes = 0;
        self.each(only, |group| {
            bytes += group.bytes();
            Ok(true)
        })?;
        Ok(bytes)
    }

    /// Copies one recording or all. `meanwhile` gets the bytes that are done with after every recording and says whether to
    /// go on.
    ///
    /// # Errors
    /// A listing that fails, the catalog. Objects that can't be copied are in the answer.
    pub(crate) fn copy(&self, only: Option<Uuid>, meanwhile: &mut dyn FnMut(u64) -> bool) -> anyhow::Result<Copied> {
        let mut copied = Copied::default();
        self.each(only, |group| {
            copied.recordings += 1;
            self.recording(&group, &mut copied)?;
            Ok(meanwhile(group.bytes()))
        })?;
        Ok(copied)
    }

    fn each(&self, only: Option<Uuid>, mut meet: impl FnMut(Group) -> anyhow::Result<bool>) -> anyhow::Result<()> {
        if let Some(recording) = only {
            let group = of_recording(self.handle, self.from, recording)?;
            return meet(group).map(drop);
        }
        walk(self.handle, self.from, None, |met| match met {
            Met::Recording(group) => meet(group),
            Met::Stranger(_) => Ok(true),
        })
    }

    fn recording(&self, group: &Group, copied: &mut Copied) -> anyhow::Result<()> {
        let id = group.recording;
        let row = self.catalog.find(id)?;
        if row.as_ref().is_some_and(|row| row.state == State::Deleted) {
            copied.deleted += 1;
            return Ok(());
        }
        let options = self.rules.put_options(self.catalog, id, self.now);
        let there = of_recording(self.handle, self.to, id)?;
        let same = |name: &Name, object: &ObjectInfo| {
            let other = there.objects.get(name);
            self.missing_only && other.is_some_and(|other| other.size == object.size)
        };
        copied.open += u64::from(!group.objects.contains_key(&Name::Manifest));
        let digests = match self.digests(group) {
            Ok(digests) => digests,
            Err(error) => {
                copied.problem(format!("{id}: {error}"));
                return Ok(());
            }
        };
        let mut jobs = Vec::new();
        let mut last = None;
        let mut done: Vec<Object> = Vec::new();
        for (name, object) in &group.objects {
            if same(name, object) {
                copied.present += 1;
                done.extend(name.listed());
                continue;
            }
            let job = Job {
                key: object.key.clone(),
                digest: digests.get(name).cloned(),
                options: options.clone(),
            };
            match name {
                Name::Manifest => last = Some((name.clone(), job)),
                _ => jobs.push((name.clone(), job)),
            }
        }
        let failed_before = copied.failed;
        self.run(jobs, copied, &mut done);
        match last {
            Some(manifest) if copied.failed == failed_before => self.run(vec![manifest], copied, &mut done),
            Some(_) => copied.problem(format!("{id}: its manifest waits for the rest")),
            None => {}
        }
        if row.is_some() {
            let found = Found {
                storage: &self.to.name,
                required: self.to.required,
                objects: &done,
                at: self.now,
            };
            self.catalog.found(id, found)?;
        }
        Ok(())
    }

    /// The digests that the objects of a recording must have: by its manifest, else by the catalog.
    fn digests(&self, group: &Group) -> Result<BTreeMap<Name, String>, String> {
        let id = group.recording;
        let Some(manifest) = group.objects.get(&Name::Manifest) else {
            let known = self.catalog.segments(id).map_err(|error| error.to_string())?;
            let digest = |segment: crate::catalog::SegmentRow| (Name::Segment(segment.number), segment.sha256);
            return Ok(known.into_iter().map(digest).collect());
        };
        let bytes = self
            .handle
            .block_on(self.from.get(&manifest.key))
            .map_err(|error| error.to_string())?;
        let parsed = Manifest::parse(&bytes).map_err(|error| format!("{} is damaged: {error}", manifest.key))?;
        if parsed.body().recording != id {
            return Err(format!("{} is of recording {}", manifest.key, parsed.body().recording));
        }
        let mut digests = BTreeMap::from([(Name::Manifest, hex::encode(sha256(&bytes)))]);
        for entry in &parsed.body().segments {
            let seal = entry
                .seal()
                .map_err(|error| format!("{} is damaged: {error}", manifest.key))?;
            digests.insert(Name::Segment(seal.body().number), entry.sha256.clone());
        }
        Ok(digests)
    }

    /// Copies objects, several at a time.
    fn run(&self, jobs: Vec<(Name, Job)>, copied: &mut Copied, done: &mut Vec<Object>) {
        let liked = self.to.profile.concurrency.min(self.from.profile.concurrency);
        let width = usize::try_from(liked).unwrap_or(1).clamp(1, CONCURRENCY_MAX);
        self.handle.block_on(async {
            let mut running = JoinSet::new();
            let mut waiting = jobs.into_iter();
            loop {
                while running.len() < width
                    && let Some((name, job)) = waiting.next()
                {
                    let (from, to) = (Arc::clone(self.from), Arc::clone(self.to));
                    running.spawn(async move { (name, job.run(&from, &to).await) });
                }
                match running.join_next().await {
                    None => break,
                    Some(Ok((name, Ok(bytes)))) => {
                        copied.objects += 1;
                        copied.bytes += bytes;
                        done.extend(name.listed());
                    }
                    Some(Ok((_, Err(error)))) => copied.problem(error),
                    Some(Err(error)) => copied.problem(format!("a copy ended early: {error}")),
                }
            }
        });
    }
}

impl Job {
    async fn run(self, from: &StorageHandle, to: &StorageHandle) -> Result<u64, String> {
        let bytes: Bytes = again(|| from.get(&self.key)).await.map_err(|error| error.to_string())?;
        if let Some(digest) = &self.digest
            && *digest != hex::encode(sha256(&bytes))
        {
            return Err(format!(
                "storage {}: {}: its digest is not what was sealed: not copied",
                from.name, self.key
            ));
        }
        let size = bytes.len() as u64;
        again(|| to.put(&self.key, bytes.clone(), &self.options))
            .await
            .map_err(|error| error.to_string())?;
        Ok(size)
    }
}

/// Tries a few times what may work later.
async fn again<T, F: Future<Output = Result<T, Error>>>(mut act: impl FnMut() -> F) -> Result<T, Error> {
    let mut wait = WAIT;
    for _ in 1..ATTEMPTS {
        match act().await {
            Err(error) if error.kind().is_retryable() => {
                tokio::time::sleep(error.retry_after().unwrap_or(wait).min(WAIT * 60)).await;
                wait *= 2;
            }
            outcome => return outcome,
        }
    }
    act().await
}
