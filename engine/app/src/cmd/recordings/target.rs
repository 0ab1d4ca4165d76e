//! What a command is about: an id of the catalog, a folder of objects, or one segment's file.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use deskreel_config::Loaded;
use serde_json::{Map, Value};
use tokio::runtime::{Builder, Runtime};
use uuid::Uuid;

use super::door::Door;
use crate::access::recordings::{Looked, Pass, Purpose, Refused};
use crate::catalog::{Error, SessionRow, State};
use crate::cmd::Global;
use crate::host::{Plugins, StorageHandle};
use crate::replay::{Known, Place, Source};

/// The argument of the commands that look at one recording.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Target {
    /// Id of a recording (a unique begin is enough), or a folder with its objects
    #[arg(value_name = "ID|DIR")]
    pub(super) recording: String,
}

/// What was found.
pub(super) enum Found {
    /// A recording that the catalog knows, or whose whole id was given.
    Recording {
        /// Its id.
        id: Uuid,
        /// What the catalog says of it.
        row: Option<Box<SessionRow>>,
        /// The configuration, for storages and keys.
        loaded: Box<Loaded>,
        /// The way to it, and what for.
        access: Box<(Door, Looked)>,
    },
    /// Objects outside of any storage.
    Files(Source),
}

/// What the audit log is told of an access, beside the common fields.
pub(in crate::cmd) type Details = Map<String, Value>;

/// Fields of [`Details`].
pub(in crate::cmd) fn details<const N: usize>(fields: [(&str, Value); N]) -> Details {
    let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
    fields.map(|(name, value)| (name.to_owned(), value)).collect()
}

/// A recording that may be read.
pub(super) struct Opened {
    /// Its objects.
    pub(super) source: Source,
    /// The configuration, if it was read for that.
    pub(super) loaded: Option<Box<Loaded>>,
    /// To be told how it ended; none for files outside of any storage.
    pass: Option<Pass>,
}

impl Opened {
    /// What was announced was shown.
    pub(super) fn shown(self) {
        if let Some(pass) = self.pass {
            pass.shown();
        }
    }

    /// Tells what is about to be handed out.
    ///
    /// # Errors
    /// The event can't be written: nothing may be handed out.
    pub(super) fn done(&mut self, details: Details) -> anyhow::Result<()> {
        match self.pass.take() {
            Some(pass) => Ok(pass.done(Ok(details))?),
            None => Ok(()),
        }
    }
}

/// A runtime for storages and signals: one thread, which also runs while the command computes.
pub(in crate::cmd) fn runtime() -> anyhow::Result<Arc<Runtime>> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .context("start the runtime")?;
    Ok(Arc::new(runtime))
}

impl Target {
    /// Looks the target up and asks the rules. Files outside of any storage know no rules but the operating system's.
    ///
    /// # Errors
    /// Configuration, catalog, an id that is unknown or not unique, files that are no recording, a refusal.
    pub(super) fn find(&self, global: &Global, runtime: &Arc<Runtime>, purpose: Purpose) -> anyhow::Result<Found> {
        let path = Path::new(&self.recording);
        let text = &self.recording;
        let may_be_id = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
        if !may_be_id && path.exists() {
            return self.files(runtime);
        }
        let loaded = global.load_quietly()?;
        let door = Door::open(&loaded)?;
        let found = door.gate().look(text, purpose);
        match (found, text.parse::<Uuid>()) {
            (Ok(looked), _) => Ok(Found::Recording {
                id: looked.row.id,
                row: Some(Box::new(looked.row.clone())),
                loaded: Box::new(loaded),
                access: Box::new((door, looked)),
            }),
            (Err(Refused::Catalog(Error::NotFound(_))), _) if path.is_dir() => self.files(runtime),
            // Another node's recording, in a storage that this node reads too.
            (Err(Refused::Catalog(Error::NotFound(_))), Ok(id)) => {
                let looked = door.gate().look_unlisted(id, purpose)?;
                Ok(Found::Recording {
                    id,
                    row: None,
                    loaded: Box::new(loaded),
                    access: Box::new((door, looked)),
                })
            }
            (Err(error), _) => Err(error.into()),
        }
    }

    fn files(&self, runtime: &Arc<Runtime>) -> anyhow::Result<Found> {
        let path = Path::new(&self.recording);
        let source = if path.is_dir() {
            Source::folder(path, Arc::clone(runtime))?
        } else {
            Source::segment_file(path, Arc::clone(runtime))?
        };
        Ok(Found::Files(source))
    }
}

impl Found {
    /// The recording's id.
    pub(super) fn recording(&self) -> Uuid {
        match self {
            Self::Recording { id, .. } => *id,
            Self::Files(source) => source.recording(),
        }
    }

    /// The recording's objects, from the spool and all storages, after the audit log was told. `details`: what of the
    /// recording is wanted, for that event.
    ///
    /// # Errors
    /// Storages that can't be opened, a session that was not recorded, an event that can't be written.
    pub(super) fn source(self, runtime: &Arc<Runtime>, details: Details) -> anyhow::Result<Opened> {
        match self {
            Self::Files(source) => Ok(Opened {
                source,
                loaded: None,
                pass: None,
            }),
            Self::Recording {
                id,
                row,
                loaded,
                access,
            } => {
                recorded(row.as_deref())?;
                let (door, looked) = &*access;
                let pass = door.gate().begin(looked, details)?;
                let storages = open_storages(&loaded, runtime)?;
                let known = Known::from_catalog(door.gate().catalog, id)?;
                let mut places = vec![spool(&loaded, id)];
                places.extend(storages.into_iter().map(|storage| Place::Storage(storage)));
                Ok(Opened {
                    source: Source::known(id, places, known, Arc::clone(runtime)),
                    loaded: Some(loaded),
                    pass: Some(pass),
                })
            }
        }
    }
}

/// Refuses sessions of which there is no recording.
pub(super) fn recorded(row: Option<&SessionRow>) -> anyhow::Result<()> {
    match row {
        Some(row) if row.state == State::NotRecorded => {
            let why = row.problem.as_deref().unwrap_or("no reason is known");
            anyhow::bail!("session {} was not recorded: {why}", row.id)
        }
        Some(row) if row.state == State::Deleted => {
            let by = row.deleted_by.as_deref().unwrap_or("nobody knows who");
            anyhow::bail!("recording {} was deleted by {by}", row.id)
        }
        _ => Ok(()),
    }
}

/// Opens the configured storages. One that can't be opened is skipped with a warning as long as another can.
pub(in crate::cmd) fn open_storages(
    loaded: &Loaded,
    runtime: &Arc<Runtime>,
) -> anyhow::Result<Vec<Arc<StorageHandle>>> {
    let plugins = Plugins::new(loaded);
    let mut opened = Vec::new();
    let mut failed = None;
    for config in &loaded.config.storages {
        match runtime.block_on(plugins.open_storage(config)) {
            Ok(storage) => opened.push(storage),
            Err(error) => {
                tracing::warn!(storage = config.name, "{error:#}");
                failed = Some(error);
            }
        }
    }
    match failed {
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok(opened),
    }
}

/// Where sealed segments wait for their storages.
pub(in crate::cmd) fn spool(loaded: &Loaded, id: Uuid) -> Place {
    Place::Folder(loaded.config.spool.path.join(id.to_string()))
}
