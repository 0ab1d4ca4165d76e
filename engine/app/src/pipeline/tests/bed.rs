//! What the tests stand on: a data_dir, storages in folders that fail as told, sessions of real desktops.

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use deskreel_config::{Config, Mode, OnFailure, RecordingMode, Sources};
use deskreel_recording::event::{EndReason, SessionEnd};
use deskreel_recording::{Event, Report, ScreenDecoder, Segment, Verifier, VerifyOptions};
use deskreel_sdk::{Error, ErrorKind, PutOptions};
use uuid::Uuid;

pub(super) use super::fixture::Fixture;
use crate::catalog::{Catalog, State};
use crate::keys::NodeKey;
use crate::pipeline::{Answer, Sessions, Storage};

/// A storage in a folder, as the local plugin is one; fails as told.
pub(super) struct Folder {
    name: String,
    mode: Mode,
    required: bool,
    path: PathBuf,
    down: AtomicBool,
    hang: AtomicBool,
    /// Stores, and then says that it does not answer.
    loses_answers: AtomicBool,
    /// Calls the same bytes other bytes.
    forgets: AtomicBool,
    refuse: Mutex<Option<String>>,
    /// Keys in order of arrival.
    arrived: Mutex<Vec<String>>,
}

impl Folder {
    pub(super) fn new(name: &str, mode: Mode, required: bool, path: PathBuf) -> Self {
        fs::create_dir_all(&path).unwrap();
        Self {
            name: name.to_owned(),
            mode,
            required,
            path,
            down: AtomicBool::new(false),
            hang: AtomicBool::new(false),
            loses_answers: AtomicBool::new(false),
            forgets: AtomicBool::new(false),
            refuse: Mutex::default(),
            arrived: Mutex::default(),
        }
    }

    /// Answers with an error.
    pub(super) fn down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Doesn't answer puts; when that ends, those that wait fail.
    pub(super) fn hang(&self, hang: bool) {
        self.hang.store(hang, Ordering::SeqCst);
    }

    /// Stores and does not say so; and calls what is there something else, even if it is the same.
    pub(super) fn lie(&self, lies: bool) {
        self.loses_answers.store(lies, Ordering::SeqCst);
        self.forgets.store(true, Ordering::SeqCst);
    }

    /// Refuses keys that end so, for good.
    pub(super) fn refuse(&self, suffix: &str) {
        *self.refuse.lock().unwrap() = Some(suffix.to_owned());
    }

    pub(super) fn keys(&self, recording: Uuid) -> Vec<String> {
        let mut keys: Vec<String> = fs::read_dir(self.path.join(recording.to_string()))
            .map(|entries| {
                let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                names
                    .filter(|name| !name.starts_with('.'))
                    .map(|name| format!("{recording}/{name}"))
                    .collect()
            })
            .unwrap_or_default();
        keys.sort();
        keys
    }

    /// How many objects have arrived.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.lock().unwrap().len()
    }

    pub(super) fn manifest_came_last(&self, recording: Uuid) -> bool {
        let arrived = self.arrived.lock().unwrap();
        let last = arrived.iter().rfind(|key| key.starts_with(&recording.to_string()));
        last.is_some_and(|key| key.ends_with("manifest.json"))
    }

    pub(super) fn write(&self, key: &str, bytes: &[u8]) {
        let path = self.path.join(key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }

    pub(super) fn read(&self, key: &str) -> Option<Bytes> {
        fs::read(self.path.join(key)).ok().map(Bytes::from)
    }

    fn answers(&self) -> Result<(), Error> {
        if self.down.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Unavailable, "connection refused"));
        }
        Ok(())
    }

    async fn put(&self, key: String, bytes: Bytes) -> Result<(), Error> {
        let mut hung = false;
        while self.hang.load(Ordering::SeqCst) {
            hung = true;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if hung {
            return Err(Error::new(ErrorKind::Timeout, "timed out"));
        }
        self.answers()?;
        if self
            .refuse
            .lock()
            .unwrap()
            .as_ref()
            .is_some_and(|suffix| key.ends_with(suffix))
        {
            return Err(Error::invalid_input("object too large"));
        }
        match self.read(&key) {
            Some(there) if there == bytes && !self.forgets.load(Ordering::SeqCst) => return Ok(()),
            Some(_) => {
                return Err(Error::new(ErrorKind::AlreadyExists, "other bytes are there"));
            }
            None => {}
        }
        // Whole or not at all, also for a killed process.
        let path = self.path.join(&key);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_file_name(format!(".{}", path.file_name().unwrap().to_str().unwrap()));
        fs::write(&temporary, &bytes).unwrap();
        fs::rename(&temporary, &path).unwrap();
        self.arrived.lock().unwrap().push(key);
        if self.loses_answers.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::Timeout, "timed out"));
        }
        Ok(())
    }
}

impl Storage for Folder {
    fn name(&self) -> &str {
        &self.name
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn required(&self) -> bool {
        self.required
    }

    fn concurrency(&self) -> usize {
        3
    }

    fn put(&self, key: String, bytes: Bytes, _: PutOptions) -> Answer<'_, ()> {
        Box::pin(Self::put(self, key, bytes))
    }

    fn get(&self, key: String) -> Answer<'_, Bytes> {
        Box::pin(async move {
            self.answers()?;
            self.read(&key).ok_or_else(|| Error::not_found(key))
        })
    }

    fn get_range(&self, key: String, range: Range<u64>) -> Answer<'_, Bytes> {
        Box::pin(async move {
            let whole = Storage::get(self, key).await?;
            let end = range.end.min(whole.len() as u64);
            Ok(whole.slice(range.start as usize..end as usize))
        })
    }

    fn list(&self, prefix: String) -> Answer<'_, Vec<String>> {
        Box::pin(async move {
            self.answers()?;
            Ok(self.keys(prefix.trim_end_matches('/').parse().unwrap()))
        })
    }

    fn check(&self) -> Answer<'_, ()> {
        Box::pin(async move { self.answers() })
    }
}

pub(super) struct Bed {
    _temporary: Option<tempfile::TempDir>,
    pub(super) config: Config,
    pub(super) storages: Vec<Arc<Folder>>,
}

/// The configuration of a test in this folder.
pub(super) fn config(folder: &Path) -> Config {
    let sources = Sources {
        working_dir: folder.to_owned(),
        ..Sources::default()
    };
    let mut config = deskreel_config::load(&sources).unwrap().config;
    config.session_recording.mode = RecordingMode::On;
    config.session_recording.on_failure = OnFailure::Strict;
    // The machine's disk is not what is tested.
    config.spool.min_free_bytes = 0;
    config.spool.reserve_bytes = 1 << 16;
    // A frame for nearly every PDU, and segments of a few of them.
    config.recording.frame_interval = Duration::from_millis(1);
    config.recording.segment_max_bytes = 4000;
    config.recording.segment_max_age = Some(Duration::from_secs(10));
    config.gateway.shutdown_timeout = Duration::from_secs(30);
    config
}

impl Bed {
    pub(super) fn new(storages: &[(&str, Mode, bool)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bed = Self::at(folder.path(), storages);
        bed._temporary = Some(folder);
        bed
    }

    /// In a folder that somebody else made.
    pub(super) fn at(folder: &Path, storages: &[(&str, Mode, bool)]) -> Self {
        let config = config(folder);
        let storages = storages
            .iter()
            .map(|(name, mode, required)| {
                Arc::new(Folder::new(name, *mode, *required, folder.join("storages").join(name)))
            })
            .collect();
        Self {
            _temporary: None,
            config,
            storages,
        }
    }

    pub(super) async fn try_start(&self) -> anyhow::Result<Sessions> {
        let storages = self
            .storages
            .iter()
            .map(|storage| Arc::clone(storage) as Arc<dyn Storage>)
            .collect();
        Sessions::start(&self.config, storages).await
    }

    /// Started, and what the last run left is looked through.
    pub(super) async fn start(&self) -> Sessions {
        let sessions = self.start_unrecovered().await;
        sessions.recovered().await;
        sessions
    }

    pub(super) async fn start_unrecovered(&self) -> Sessions {
        // the last task of an engine that was stopped may hold the lock for a moment longer
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.try_start().await {
                Err(error) if format!("{error:#}").contains("is in use by another") && Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                started => return started.unwrap(),
            }
        }
    }

    pub(super) fn catalog(&self) -> Catalog {
        Catalog::open_read_only(&self.config.data_dir).unwrap()
    }

    pub(super) async fn wait_for(&self, id: Uuid, state: State) {
        let catalog = self.catalog();
        let mut seen = None;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            let row = catalog.session(&id.to_string()).unwrap();
            if row.state == state {
                return;
            }
            seen = Some(row);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("never {state}: {seen:?}");
    }

    /// Files in the spool, relative to it.
    pub(super) fn spool_files(&self) -> Vec<PathBuf> {
        let mut files = Vec::new();
        let folders = fs::read_dir(&self.config.spool.path).unwrap();
        for folder in folders.map(|entry| entry.unwrap().path()) {
            // A folder may vanish between the two calls.
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                files.push(entry.path().strip_prefix(&self.config.spool.path).unwrap().to_owned());
            }
        }
        files.sort();
        files
    }

    pub(super) fn key(&self) -> NodeKey {
        NodeKey::load(&self.config.data_dir).unwrap().unwrap()
    }

    /// A recording as a storage has it.
    pub(super) fn recording(&self, storage: usize, id: Uuid) -> Stored {
        let storage = &self.storages[storage];
        let mut segments = Vec::new();
        while let Some(segment) = storage.read(&deskreel_recording::segment_key(id, segments.len() as u32)) {
            segments.push(segment);
        }
        Stored {
            id,
            segments,
            manifest: storage.read(&deskreel_recording::manifest_key(id)),
        }
    }
}

pub(super) struct Stored {
    pub(super) id: Uuid,
    pub(super) segments: Vec<Bytes>,
    pub(super) manifest: Option<Bytes>,
}

impl Stored {
    pub(super) fn verify(&self, bed: &Bed) -> Report {
        let options = VerifyOptions {
            recording: Some(self.id),
            trusted: vec![bed.key().public()],
            deep: true,
        };
        let mut verifier = Verifier::new(options);
        for (number, segment) in self.segments.iter().enumerate() {
            verifier.segment(number as u32, segment);
        }
        verifier.finish(self.manifest.as_deref())
    }

    pub(super) fn events(&self) -> Vec<(u64, Event)> {
        let mut events = Vec::new();
        for segment in &self.segments {
            let segment = Segment::open(segment.clone()).unwrap();
            events.extend(segment.events().map(|event| event.unwrap()));
        }
        events
    }

    /// Columns and RGB of the last picture.
    pub(super) fn last_picture(&self) -> (usize, Vec<u8>) {
        let mut decoder = ScreenDecoder::new();
        for (_, event) in self.events() {
            if let Event::Screen(message) = event {
                decoder.apply(&message).unwrap();
            }
        }
        let picture = decoder.picture().unwrap();
        let width = usize::from(picture.width);
        let rows = picture.data.chunks(picture.stride).take(usize::from(picture.height));
        let rgb = rows
            .flat_map(|row| row[..width * 4].chunks(4).flat_map(|pixel| pixel[..3].to_vec()))
            .collect();
        (width, rgb)
    }
}

pub(super) fn ended() -> SessionEnd {
    SessionEnd {
        reason: EndReason::ClientClosed,
        detail: Some("client disconnected".to_owned()),
        error_info: None,
    }
}

/// How long a test waits for what has to happen; only a test that fails takes so long.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);

pub(super) async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Counts by kind, for a look at what is in a recording.
pub(super) fn channels(events: &[(u64, Event)]) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for (_, event) in events {
        *counts.entry(event.channel().topic()).or_default() += 1;
    }
    counts
}
