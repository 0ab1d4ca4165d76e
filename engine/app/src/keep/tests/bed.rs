//! Real storages of the local plugin in a folder, real recordings in them.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use deskreel_config::{Loaded, Sources};
use deskreel_recording::event::{DesktopFacts, EndReason, SessionEnd, SessionEvent, SessionStart, UserFacts};
use deskreel_recording::{Event, Recorder, RecorderOptions, SigningKey, manifest_key, segment_key};
use time::{Duration, OffsetDateTime};
use tokio::runtime::{Handle, Runtime};
use uuid::Uuid;

use crate::catalog::{Catalog, SessionRow};
use crate::keep::erase::Eraser;
use crate::keep::look::Trust;
use crate::keep::sync::{Scope, Synced, Syncer};
use crate::keep::{Opened, open_all};

pub(super) struct Bed {
    folder: tempfile::TempDir,
    pub(super) loaded: Loaded,
    pub(super) runtime: Runtime,
    pub(super) storages: Vec<Opened>,
}

/// What a recording is to be like.
pub(super) struct Wanted {
    pub(super) user: &'static str,
    pub(super) started: OffsetDateTime,
    pub(super) segments: u32,
    pub(super) manifest: bool,
}

pub(super) fn wanted() -> Wanted {
    Wanted {
        user: "alice",
        started: now() - Duration::hours(2),
        segments: 2,
        manifest: true,
    }
}

/// The time that tests live in.
pub(super) fn now() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_900_000_000).unwrap()
}

pub(super) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

/// The objects of a recording: keys and bytes, the manifest last.
pub(super) fn record(key: &SigningKey, wanted: &Wanted) -> (Uuid, Vec<(String, Bytes)>) {
    let seconds = u64::try_from(wanted.started.unix_timestamp()).unwrap();
    let id = Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, 0));
    let start = SessionStart {
        recording: id,
        started_unix_us: seconds * 1_000_000,
        node: "elsewhere".into(),
        user: UserFacts {
            name: wanted.user.into(),
            proven: true,
        },
        login: wanted.user.into(),
        desktop: DesktopFacts {
            name: "lab".into(),
            addr: "10.0.0.1:3389".into(),
            labels: [("env".to_owned(), "test".to_owned())].into(),
        },
        ..SessionStart::default()
    };
    let mut recorder = Recorder::new(start, key.clone(), RecorderOptions::default()).unwrap();
    let mut objects = Vec::new();
    for number in 0..wanted.segments {
        let at = u64::from(number + 1) * 1_000_000_000;
        let alert = SessionEvent::Alert {
            name: "test".into(),
            detail: format!("segment {number}"),
        };
        recorder.push(at, &Event::Session(alert)).unwrap();
        if wanted.manifest && number + 1 == wanted.segments {
            break;
        }
        let sealed = recorder.seal(at).unwrap().unwrap();
        objects.push((segment_key(id, number), sealed.bytes));
    }
    if wanted.manifest {
        let end = SessionEnd {
            reason: EndReason::ClientClosed,
            detail: None,
            error_info: None,
        };
        let (sealed, manifest) = recorder
            .finish(u64::from(wanted.segments) * 1_000_000_000, end)
            .unwrap();
        objects.extend(sealed.map(|sealed| (segment_key(id, sealed.number), sealed.bytes)));
        objects.push((manifest_key(id), Bytes::from(manifest)));
    }
    (id, objects)
}

impl Bed {
    /// A bed with storages of these names.
    pub(super) fn new(names: &[&str], more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut text = format!("data_dir: ./data\n{more}storages:\n");
        for name in names {
            text.push_str(&format!(
                "  - {{name: {name}, plugin: local, settings: {{path: ./{name}}}}}\n"
            ));
        }
        let file = folder.path().join("deskreel.yaml");
        std::fs::write(&file, text).unwrap();
        let loaded = deskreel_config::load(&Sources {
            file: Some(file),
            working_dir: folder.path().to_owned(),
            ..Sources::default()
        })
        .unwrap();
        let runtime = Runtime::new().unwrap();
        let storages = open_all(&loaded, runtime.handle());
        assert!(storages.iter().all(|opened| opened.storage.is_ok()));
        Self {
            folder,
            loaded,
            runtime,
            storages,
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folders of a recording in a storage: what [`write`](Self::write) wrote lies in the root, what the plugin put in one of
    /// its own.
    fn folders(&self, storage: &str, id: Uuid) -> Vec<PathBuf> {
        let root = self.path(storage);
        let entries = std::fs::read_dir(&root).into_iter().flatten().flatten();
        let inside = entries.map(|entry| entry.path().join(id.to_string()));
        let all = inside.chain([root.join(id.to_string())]);
        all.filter(|path| path.is_dir()).collect()
    }

    /// The folder of a recording in a storage; the root's where it has none.
    pub(super) fn recording(&self, storage: &str, id: Uuid) -> PathBuf {
        let folders = self.folders(storage, id);
        let root = || self.path(storage).join(id.to_string());
        folders.into_iter().next().unwrap_or_else(root)
    }

    /// The files of a recording in a storage.
    pub(super) fn files(&self, storage: &str, id: Uuid) -> Vec<PathBuf> {
        let folders = self.folders(storage, id).into_iter();
        let entries = folders.flat_map(|folder| std::fs::read_dir(folder).into_iter().flatten().flatten());
        entries.map(|entry| entry.path()).collect()
    }

    pub(super) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    pub(super) fn storage(&self, index: usize) -> Arc<crate::host::StorageHandle> {
        self.storages[index].storage.clone().unwrap()
    }

    /// Writes objects where the storage has them.
    pub(super) fn write(&self, storage: &str, objects: &[(String, Bytes)]) {
        for (key, bytes) in objects {
            let path = self.path(storage).join(key);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        }
    }

    /// A recording at a storage.
    pub(super) fn record(&self, storage: &str, key: &SigningKey, wanted: &Wanted) -> Uuid {
        let (id, objects) = record(key, wanted);
        self.write(storage, &objects);
        id
    }

    /// A catalog of its own.
    pub(super) fn catalog(&self, name: &str) -> Catalog {
        Catalog::open(&self.path(name)).unwrap()
    }

    pub(super) fn rebuild(&self, catalog: &Catalog, trust: &Trust) -> Synced {
        self.sync_as(catalog, trust, true, Scope::All, now())
    }

    pub(super) fn sync(&self, catalog: &Catalog, trust: &Trust) -> Synced {
        self.sync_as(catalog, trust, false, Scope::All, now())
    }

    /// As [`Self::sync`], when the storage's own times count.
    pub(super) fn sync_today(&self, catalog: &Catalog, trust: &Trust) -> Synced {
        self.sync_as(catalog, trust, false, Scope::All, OffsetDateTime::now_utc())
    }

    pub(super) fn sync_as(
        &self,
        catalog: &Catalog,
        trust: &Trust,
        rebuild: bool,
        scope: Scope,
        now: OffsetDateTime,
    ) -> Synced {
        let syncer = Syncer {
            handle: self.handle(),
            catalog,
            trust,
            rebuild,
            now,
        };
        syncer.sync(&self.storages[0], scope, &mut |_| {}).unwrap()
    }

    pub(super) fn eraser<'a>(&'a self, catalog: &'a Catalog, storages: &'a [Opened]) -> Eraser<'a> {
        Eraser {
            handle: self.handle(),
            catalog,
            storages,
            spool: &self.loaded.config.spool.path,
        }
    }
}

pub(super) fn trust(own: &SigningKey) -> Trust {
    Trust {
        own: Some(own.verifying_key()),
        others: Vec::new(),
    }
}

pub(super) fn row(catalog: &Catalog, id: Uuid) -> SessionRow {
    catalog.find(id).unwrap().unwrap()
}
