#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deskreel_config::{Document, Loaded, ReadOptions, ResourceKind, Sources, read_edited, read_resources};
use deskreel_policy::{Identity, ProvenBy, Reason, Verdict};
use tempfile::TempDir;
use time::OffsetDateTime;

use super::entry::{ResourceOrigin, defaults};
use super::*;
use crate::catalog::{Catalog, StoredOrigin, StoredResource};

mod changes;
mod configured;
mod live;
mod references;
mod rules;
mod secrets;
mod unreadable;

/// A folder with a configuration and resources.
struct Bed {
    dir: TempDir,
}

impl Bed {
    fn new(config: &str, resources: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("resources")).unwrap();
        let bed = Self { dir };
        bed.write(config, resources);
        bed
    }

    fn write(&self, config: &str, resources: &str) {
        std::fs::write(self.dir.path().join("deskreel.yaml"), config).unwrap();
        std::fs::write(self.dir.path().join("resources/r.yaml"), resources).unwrap();
    }

    fn loaded(&self) -> Loaded {
        let sources = Sources {
            file: Some(PathBuf::from("deskreel.yaml")),
            working_dir: self.dir.path().to_owned(),
            ..Sources::default()
        };
        deskreel_config::load(&sources).unwrap_or_else(|errors| panic!("{errors}"))
    }

    fn catalog(&self) -> Catalog {
        Catalog::open(&self.loaded().config.data_dir).unwrap()
    }

    fn create(&self, text: &str, force: Force) -> Result<Vec<Change>, Refused> {
        replace(&self.catalog(), &documents(text), force, None, |_| Ok(()))
    }

    fn remove(&self, kind: ResourceKind, name: &str) -> Result<Change, Refused> {
        remove(&self.catalog(), kind, name, |_| Ok(()))
    }
}

fn documents(text: &str) -> Vec<Document> {
    let options = ReadOptions {
        file: Path::new("t.yaml"),
        base: Path::new("/"),
        skip_foreign: false,
    };
    let stream = read_resources(text, &options);
    assert!(stream.errors.is_empty(), "{:?}", stream.errors);
    stream.documents
}

const RECORDING: (ResourceKind, &str) = (ResourceKind::SessionRecordingConfig, "session-recording-config");

fn recording(mode: &str) -> String {
    format!("kind: session_recording_config\nversion: v2\nspec: {{mode: {mode}}}\n")
}

fn role(name: &str, spec: &str) -> String {
    format!("kind: role\nversion: v7\nmetadata: {{name: {name}}}\nspec: {spec}\n")
}

/// Waits for a view in which `seen` holds.
fn wait(access: &Access, seen: impl Fn(&View) -> bool) -> Duration {
    let begun = Instant::now();
    while !seen(&access.view()) {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "{:?}",
            access.view().problems
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    begun.elapsed()
}

/// Writes a row that no command would write.
fn damage(bed: &Bed, kind: ResourceKind, name: &str, document: &str) {
    let row = StoredResource {
        kind,
        name: name.to_owned(),
        origin: StoredOrigin::Dynamic,
        revision: 0,
        document: document.to_owned(),
        base: PathBuf::from("/"),
        place: String::new(),
    };
    let catalog = bed.catalog();
    let put = catalog.edit_resources(|table| table.put(&row).map_err(|error| catalog.resources_error(error)));
    put.unwrap();
}

/// Events about resources in the audit log, as `code name changed`.
fn events(bed: &Bed) -> Vec<String> {
    let all = crate::audit::last(
        &bed.loaded().config.data_dir,
        &crate::audit::Filter::default(),
        usize::MAX,
    )
    .unwrap();
    let resource = |stored: &crate::audit::Stored| {
        let field = |name: &str| stored.fields.get(name).cloned().unwrap_or_default();
        assert_eq!(field("origin"), "config-file", "{stored:?}");
        assert!(field("user").as_str()?.starts_with("local:"), "{stored:?}");
        let changed = field("changed").to_string();
        Some(format!(
            "{} {} {changed}",
            field("code").as_str()?,
            field("name").as_str()?
        ))
    };
    all.iter().filter_map(resource).collect()
}
