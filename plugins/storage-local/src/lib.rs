//! Storage plugin `local`: objects as files in a folder.
//!
//! A key is the file's path below the folder, or below one of the folders that shard it. `root` is that folder, `write` makes files appear whole and durably, `list` walks the folder in key
//! order. Names with `~` are this plugin's own: no key has that character.

mod list;
mod root;
mod write;

use std::fs::{self, File};
use std::io::ErrorKind as Io;
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, UNIX_EPOCH};

use deskreel_sdk::prelude::*;

use root::Root;

deskreel_sdk::settings! {
    /// Settings of the storage plugin `local`.
    pub struct Settings {
        /// The folder. Made when it is missing; must be on one file system, local or NFS.
        pub path: SettingPath,
        /// Space of the file system that is left free: puts that would use it are refused. Without it: one per cent, at most
        /// 1 GiB.
        #[serde(default)]
        pub min_free: Option<SettingSize>,
    }
}

/// Most keys of one page.
const PAGE_KEYS: usize = 1000;

/// Objects as files in a folder.
#[derive(Debug)]
pub struct Local {
    root: Root,
}

deskreel_sdk::export_storage!(Blocking<Local>);

impl Local {
    fn open_object(&self, key: &Key) -> Result<(File, fs::Metadata)> {
        self.root.ensure_same()?;
        let file = File::open(self.root.find(key)).map_err(|error| missing_or(error, key))?;
        let facts = file.metadata().context(key)?;
        if facts.is_file() {
            Ok((file, facts))
        } else {
            Err(not_found(key))
        }
    }
}

fn not_found(key: &Key) -> Error {
    Error::not_found(format!("no object `{key}`"))
}

fn missing_or(error: std::io::Error, key: &Key) -> Error {
    match error.kind() {
        // A part of the key may name a file, or the whole key a folder.
        Io::NotFound | Io::NotADirectory | Io::IsADirectory => not_found(key),
        _ => Error::from(error).with_context(key),
    }
}

fn info(key: Key, facts: &fs::Metadata) -> ObjectInfo {
    let mut info = ObjectInfo::new(key, facts.len());
    let since_1970 = facts
        .modified()
        .ok()
        .and_then(|modified| modified.duration_since(UNIX_EPOCH).ok());
    info.modified_unix_ms = since_1970.and_then(|since| u64::try_from(since.as_millis()).ok());
    info
}

impl BlockingStorage for Local {
    type Settings = Settings;

    fn open(settings: Settings, _: Context) -> Result<Self> {
        let root = Root::open(settings.path.0, settings.min_free.map(|size| size.0))?;
        write::remove_leftovers(&root);
        Ok(Self { root })
    }

    fn put(&self, key: &Key, bytes: Bytes, _: &PutOptions) -> Result<()> {
        write::put(&self.root, key, &write::Source::Bytes(&bytes)).context(key)
    }

    fn put_file(&self, key: &Key, file: &Path, _: &PutOptions) -> Result<()> {
        let source = File::open(file).context(file.display())?;
        write::put(&self.root, key, &write::Source::File(&source)).context(key)
    }

    fn get(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let (file, facts) = self.open_object(key)?;
        let size = facts.len();
        if range.start > range.end || range.start > size {
            let Range { start, end } = range;
            return Err(Error::invalid_input(format!(
                "{key}: range {start}..{end} of an object of {size} bytes"
            )));
        }
        let length = usize::try_from(range.end.min(size) - range.start)
            .map_err(|error| Error::invalid_input(error.to_string()))?;
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start).context(key)?;
        Ok(bytes.into())
    }

    fn stat(&self, key: &Key) -> Result<ObjectInfo> {
        self.root.ensure_same()?;
        let facts = fs::symlink_metadata(self.root.find(key)).map_err(|error| missing_or(error, key))?;
        if facts.is_file() {
            Ok(info(key.clone(), &facts))
        } else {
            Err(not_found(key))
        }
    }

    fn list(&self, prefix: &Prefix, after: Option<&Key>) -> Result<Page> {
        self.root.ensure_same()?;
        list::page(&self.root, prefix, after, PAGE_KEYS)
    }

    fn delete(&self, key: &Key) -> Result<()> {
        self.root.ensure_same()?;
        for path in self.root.places(key) {
            match fs::remove_file(&path) {
                Ok(()) => self.root.forget_empty_folders(&path)?,
                Err(error) if missing_or_folder(&error, &path) => {}
                Err(error) => return Err(Error::from(error).with_context(key)),
            }
        }
        Ok(())
    }

    fn check(&self) -> Result<()> {
        write::probe(&self.root).with_context(|| self.root.path().display().to_string())
    }

    fn profile(_: &Settings) -> Profile {
        let mut profile = Profile::default();
        profile.concurrency = 4;
        profile.op_timeout = Duration::from_secs(30);
        profile.recommended_mode = Some(Mode::Sync);
        profile
    }
}

fn missing_or_folder(error: &std::io::Error, path: &Path) -> bool {
    matches!(error.kind(), Io::NotFound | Io::NotADirectory | Io::IsADirectory) || path.is_dir()
}

#[cfg(test)]
mod tests;
