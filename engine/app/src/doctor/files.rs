//! Files that must be private or that nobody else may change, and the keys in them.

use std::fs::{self, Metadata};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use deskreel_config::Loaded;

use super::Report;
use crate::keys::NodeKey;

const CHECK: &str = "files";
/// What group and others may do with what is private: nothing.
const OTHERS: u32 = 0o077;
/// What others may not do with what the gateway believes: write.
const OTHERS_WRITE: u32 = 0o022;
/// Files of a folder that are told of; the rest is counted.
const TOLD_MAX: usize = 10;

/// Looks at files and keys.
pub(super) fn examine(loaded: &Loaded, report: &mut Report) {
    let config = &loaded.config;
    let told = report.findings.len();
    if let Ok(folder) = fs::metadata(&config.data_dir) {
        private("data_dir", &config.data_dir, &folder, report);
        inside(&config.data_dir, &folder, report);
        inside(&config.data_dir.join("audit"), &folder, report);
        inside(&config.data_dir.join("keys"), &folder, report);
    }
    for (name, key) in [
        ("gateway.private_key", &config.gateway.private_key),
        ("web.private_key", &config.web.private_key),
    ] {
        if let Some(key) = key
            && let Ok(metadata) = fs::metadata(key)
        {
            private(name, key, &metadata, report);
        }
    }
    let resources = &config.access.resources_dir;
    let believed = loaded.file.iter().map(|file| ("the configuration", file));
    let plugins = config.plugin_dirs.iter().map(|folder| ("plugin_dirs", folder));
    for (key, path) in believed.chain([("access.resources_dir", resources)]).chain(plugins) {
        unchangeable(key, path, report);
    }
    if let Ok(files) = fs::read_dir(resources) {
        for file in files.filter_map(Result::ok) {
            unchangeable("access.resources_dir", &file.path(), report);
        }
    }
    match NodeKey::load(&config.data_dir) {
        Ok(Some(key)) => report.ok(
            "key",
            format!("the node's key has the fingerprint {}", key.fingerprint()),
        ),
        Ok(None) => report.ok("key", "the node's key is made at the first start"),
        Err(error) => report.error(
            "key",
            format!("{error:#}"),
            "give it the mode and owner that it names, or restore it from a backup: a new key signs as another node",
        ),
    }
    if report.findings[told..]
        .iter()
        .all(|finding| finding.state == super::State::Ok)
    {
        report.ok(
            CHECK,
            "private files are private, and what the gateway believes only its owner can change",
        );
    }
}

/// Whether group and others are kept out.
fn private(key: &str, path: &Path, metadata: &Metadata, report: &mut Report) {
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let right = if metadata.is_dir() { "700" } else { "600" };
        report.error(
            CHECK,
            format!("{key} {} has mode {mode:o}: others may use it", path.display()),
            format!("chmod {right} {}", path.display()),
        );
    }
}

/// Files of a private folder: theirs must be its owner, or the service can't use what a command of root's made.
fn inside(folder: &Path, owner: &Metadata, report: &mut Report) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut foreign = Vec::new();
    for entry in entries.filter_map(Result::ok) {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() && !is_public(&entry.path()) {
            private("file", &entry.path(), &metadata, report);
        }
        if metadata.uid() != owner.uid() {
            foreign.push(entry.path().display().to_string());
        }
    }
    if !foreign.is_empty() {
        let count = foreign.len();
        foreign.truncate(TOLD_MAX);
        report.error(
            CHECK,
            format!(
                "{count} files in {} do not belong to the owner of data_dir (uid {}): {}",
                folder.display(),
                owner.uid(),
                foreign.join(", ")
            ),
            format!("chown -R --reference={0} {0}", folder.display()),
        );
    }
}

/// Certificates and public keys are for everybody, and locks hold nothing.
fn is_public(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.ends_with(".crt") || name.ends_with(".pub.pem") || name == "lock" || name.ends_with(".lock")
}

/// Whether nobody but owner and root may write: whoever writes here decides who gets in.
fn unchangeable(key: &str, path: &Path, report: &mut Report) {
    let Ok(metadata) = fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o7777;
    // a folder in which everybody removes only what is one's own
    let sticky = metadata.is_dir() && mode & 0o1000 != 0;
    if mode & OTHERS_WRITE != 0 && !sticky {
        report.error(
            CHECK,
            format!(
                "{key} {} has mode {:o}: others may change it",
                path.display(),
                mode & 0o777
            ),
            format!("chmod go-w {}", path.display()),
        );
    }
}
