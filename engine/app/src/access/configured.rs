//! What the configuration says: the resource folder, and the section `session_recording`.

use std::path::Path;

use deskreel_config::{
    Document, Errors, Loaded, Origin, RECORDING_CONFIG_NAME, ResourceKind, read_folder, read_stored,
};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::snapshot::of_stored;
use super::view::Settings;
use super::{Checked, check, languages};
use crate::catalog::{StoredOrigin, StoredResource};
use crate::usage::UsageError;

/// Resources of origin config-file.
#[derive(Debug)]
pub(crate) struct Configured {
    /// Everything that was read, the section included.
    pub(crate) documents: Vec<(Document, String)>,
    /// What the folder said before, in place of what it says now.
    kept: Vec<StoredResource>,
    /// Why the folder can't be loaded, one line a finding.
    pub(crate) refused: Option<String>,
}

/// Where relative paths of the section start, which no resource of a folder has.
const SECTION_BASE: &str = "/";

impl Configured {
    /// What the configuration says, checked against what is `stored`. Where the folder can't be loaded but was once, what
    /// it said then stays: all of it, so that no half of a change is in force.
    ///
    /// # Errors
    /// A [`UsageError`] with everything that is wrong, if nothing was ever loaded.
    pub(crate) fn in_force(
        loaded: &Loaded,
        settings: &Settings,
        stored: &[StoredResource],
        loaded_before: bool,
    ) -> anyhow::Result<Self> {
        let folder = &loaded.config.access.resources_dir;
        let read = Self::read(loaded).and_then(|read| {
            if !folder.exists() && of_folders(stored).next().is_some() {
                let folder = folder.display();
                return Err(UsageError(format!(
                    "{folder}: is missing, and resources were loaded from there before; bring it back, or make an empty \
                     folder if there are to be none"
                ))
                .into());
            }
            read.check(settings, stored)?;
            Ok(read)
        });
        match read {
            Err(error) if loaded_before && error.is::<UsageError>() => Self::keep(loaded, stored, error.to_string()),
            read => read,
        }
    }

    /// The section as it is, and the folder as it was.
    fn keep(loaded: &Loaded, stored: &[StoredResource], refused: String) -> anyhow::Result<Self> {
        let section = section(loaded)?;
        let stays = |row: &&StoredResource| {
            let of_section = row.kind == ResourceKind::SessionRecordingConfig
                && (section.is_some() || row.base == Path::new(SECTION_BASE));
            row.origin == StoredOrigin::ConfigFile && !of_section
        };
        Ok(Self {
            kept: stored.iter().filter(stays).cloned().collect(),
            documents: section.into_iter().collect(),
            refused: Some(refused),
        })
    }

    /// What the documents get wrong together, and with what commands made.
    ///
    /// # Errors
    /// A [`UsageError`] with all of it.
    fn check(&self, settings: &Settings, stored: &[StoredResource]) -> anyhow::Result<()> {
        let documents: Vec<_> = self.documents.iter().map(|(document, _)| document).collect();
        // what the configuration said before is about to go
        let stays: Vec<_> = stored
            .iter()
            .filter(|row| row.origin == StoredOrigin::Dynamic)
            .collect();
        let before = of_stored(settings.clone(), stays);
        let Checked { errors, .. } = check(&documents, &before, OffsetDateTime::now_utc());
        if errors.is_empty() {
            return Ok(());
        }
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        Err(UsageError(lines.join("\n")).into())
    }

    /// Reads the folder and the section.
    ///
    /// # Errors
    /// A [`UsageError`] with everything that is wrong with a resource by itself.
    fn read(loaded: &Loaded) -> anyhow::Result<Self> {
        let (folder, mut errors) = read_folder(&loaded.config.access.resources_dir);
        if !errors.is_empty() {
            let right: Vec<&Document> = folder.documents.iter().collect();
            errors.extend(languages(&right).errors);
            errors.sort_by(|a, b| a.origin.cmp(&b.origin));
            return Err(UsageError(Errors::bounded(errors).to_string()).into());
        }
        let mut documents: Vec<(Document, String)> = folder
            .documents
            .into_iter()
            .map(|document| {
                let place = place(&document.place);
                (document, place)
            })
            .collect();
        if let Some((document, place)) = section(loaded)? {
            let in_folder = documents
                .iter()
                .find(|(document, _)| document.kind == ResourceKind::SessionRecordingConfig);
            if let Some((_, other)) = in_folder {
                return Err(UsageError(format!(
                    "{place}: session_recording: session_recording_config is set in {other} too, remove one of them"
                ))
                .into());
            }
            documents.push((document, place));
        }
        Ok(Self {
            documents,
            kept: Vec::new(),
            refused: None,
        })
    }

    /// The rows that are stored.
    pub(crate) fn stored(&self) -> Vec<StoredResource> {
        let row = |(document, place): &(Document, String)| StoredResource {
            kind: document.kind,
            name: document.name.clone(),
            origin: StoredOrigin::ConfigFile,
            revision: 0,
            document: document.source.to_string(),
            base: document.base.clone(),
            place: place.clone(),
        };
        self.documents
            .iter()
            .map(row)
            .chain(self.kept.iter().cloned())
            .collect()
    }

    /// Differs when anything in it does.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut rows = self.stored();
        rows.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
        for row in rows {
            for part in [row.document, row.base.display().to_string(), row.place] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hex::encode(hash.finalize())
    }
}

/// What came from resource folders.
fn of_folders(stored: &[StoredResource]) -> impl Iterator<Item = &StoredResource> {
    stored
        .iter()
        .filter(|row| row.origin == StoredOrigin::ConfigFile && row.base != Path::new(SECTION_BASE))
}

/// Whether what is stored came from another resource folder than this configuration's: a command that was given another
/// configuration must not replace what the gateway goes by.
pub(super) fn is_of_another_folder(loaded: &Loaded, stored: &[StoredResource]) -> bool {
    let folder = &loaded.config.access.resources_dir;
    of_folders(stored).any(|row| !row.base.starts_with(folder))
}

/// File and line, variable or flag.
pub(crate) fn place(origin: &Origin) -> String {
    match origin {
        Origin::File { path, line, .. } if *line > 0 => format!("{}:{line}", path.display()),
        origin => origin.to_string(),
    }
}

/// The section `session_recording` as a resource, if any of its keys is set.
fn section(loaded: &Loaded) -> anyhow::Result<Option<(Document, String)>> {
    let keys = ["mode", "on_failure", "input", "clipboard"];
    let set = keys
        .iter()
        .map(|key| loaded.origin(&format!("session_recording.{key}")))
        .find(|origin| *origin != Origin::Default);
    let Some(origin) = set else {
        return Ok(None);
    };
    let source = json!({
        "kind": "session_recording_config",
        "version": "v2",
        "metadata": {"name": RECORDING_CONFIG_NAME},
        "spec": loaded.values.get("session_recording"),
    });
    let document = read_stored(&source, Path::new(SECTION_BASE))
        .map_err(|errors| UsageError(format!("{origin}: session_recording: {errors}")))?;
    Ok(Some((document, place(&origin))))
}
