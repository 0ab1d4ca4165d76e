//! What an engine stands on: folders that are its alone, and its key.

use std::path::Path;

use anyhow::{Context as _, bail};

use super::lock::FolderLock;
use super::spool::Spool;
use crate::catalog::Catalog;
use crate::keys::{NodeKey, private_path};
use crate::private;

/// Takes the locks on `data_dir` and on the spool: several engines with their own `data_dir` may be pointed at one spool.
///
/// # Errors
/// Another engine that has one of them, a folder that can't be made.
pub(super) fn lock_folders(data_dir: &Path, spool: &Path) -> anyhow::Result<Vec<FolderLock>> {
    let mut locks = vec![FolderLock::take("data_dir", data_dir)?];
    // It may be the same folder by another name.
    private::create_dir_all(spool).with_context(|| format!("create spool.path {}", spool.display()))?;
    let same = std::fs::canonicalize(data_dir).ok() == std::fs::canonicalize(spool).ok();
    if !same {
        locks.push(FolderLock::take("spool.path", spool)?);
    }
    for folder in [data_dir, spool] {
        if let Some(mode) = private::open_to_others(folder) {
            let (folder, mode) = (folder.display(), format!("{mode:o}"));
            tracing::warn!(%folder, mode, "other accounts may look into this folder; make it 700");
        }
    }
    Ok(locks)
}

/// The node's key. A missing one is made only where nothing was recorded yet: what an earlier key signed can't be verified,
/// closed or told from a forgery with another one.
///
/// # Errors
/// A missing key where there are recordings; a key, catalog or spool that can't be read.
pub(super) fn node_key(data_dir: &Path, catalog: &Catalog, spool: &Spool) -> anyhow::Result<NodeKey> {
    let waiting = spool.recordings().context("read the spool")?;
    if NodeKey::load(data_dir)?.is_none() && (catalog.has_recordings()? || !waiting.is_empty()) {
        bail!(
            "the node key {} is missing, but there are recordings that it signed: put it back from a backup, or make a \
             new one with `deskreel keys new`",
            private_path(data_dir).display()
        );
    }
    let key = NodeKey::load_or_create(data_dir)?;
    tracing::info!(fingerprint = key.fingerprint(), "node key");
    Ok(key)
}
