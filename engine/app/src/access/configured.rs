//! What the configuration says: the resource folder, and the section `session_recording`.

use std::path::PathBuf;

use deskreel_config::{Document, Loaded, Origin, RECORDING_CONFIG_NAME, ResourceKind, load_resources, read_stored};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use crate::catalog::{StoredOrigin, StoredResource};
use crate::usage::UsageError;

/// Resources of origin config-file.
#[derive(Debug)]
pub(crate) struct Configured {
    /// Everything, the section included.
    pub(crate) documents: Vec<(Document, String)>,
}

impl Configured {
    /// Reads the folder and the section.
    ///
    /// # Errors
    /// A [`UsageError`] with everything that is wrong with a resource by itself.
    pub(crate) fn read(loaded: &Loaded) -> anyhow::Result<Self> {
        let folder =
            load_resources(&loaded.config.access.resources_dir).map_err(|errors| UsageError(errors.to_string()))?;
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
        Ok(Self { documents })
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
        self.documents.iter().map(row).collect()
    }

    /// Differs when anything in it does.
    pub(crate) fn digest(&self) -> String {
        let mut hash = Sha256::new();
        for (document, place) in &self.documents {
            for part in [
                document.source.to_string(),
                document.base.display().to_string(),
                place.clone(),
            ] {
                hash.update((part.len() as u64).to_be_bytes());
                hash.update(part);
            }
        }
        hex::encode(hash.finalize())
    }
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
    let document = read_stored(&source, &PathBuf::from("/"))
        .map_err(|errors| UsageError(format!("{origin}: session_recording: {errors}")))?;
    Ok(Some((document, place(&origin))))
}
