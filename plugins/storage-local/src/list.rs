//! A walk over the folder in key order.

use std::fs;
use std::io::ErrorKind as Io;

use deskreel_sdk::prelude::*;

use crate::info;
use crate::root::{Root, is_id, of_shard};

/// The first keys of `prefix` after `after`.
pub(crate) fn page(root: &Root, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Page> {
    let mut walk = Walk {
        root,
        prefix: prefix.as_str(),
        after: after.map_or("", Key::as_str),
        limit,
        found: Vec::new(),
    };
    walk.folder("")?;
    let more = walk.found.len() > limit;
    walk.found.truncate(limit);
    Ok(Page::new(walk.found, more))
}

struct Walk<'a> {
    root: &'a Root,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ObjectInfo>,
}

impl Walk<'_> {
    /// Adds what lies in a folder; `start` is what its keys start with: nothing, or a path that ends with a slash.
    fn folder(&mut self, start: &str) -> Result<()> {
        let (mut names, mut shards) = (Vec::new(), Vec::new());
        // A recording's folder may be at two places, see `Root::places`.
        let key = Key::new(format!("{start}x"));
        for place in key.iter().flat_map(|key| self.root.places(key)) {
            read(place.parent().unwrap_or(&place), start, &mut names, &mut shards)?;
        }
        if start.is_empty() {
            return self.root_folder(names, shards);
        }
        self.names(names)
    }

    /// The root, whose folders that shard are read one after the other, as long as keys are wanted.
    fn root_folder(&mut self, mut names: Vec<String>, mut shards: Vec<String>) -> Result<()> {
        names.sort_unstable();
        shards.sort_unstable();
        for shard in shards {
            // Whatever stands in the root itself and sorts before the end of this one.
            let rest = names.split_off(names.partition_point(|name| *name < shard || name.starts_with(&shard)));
            let mut first = std::mem::replace(&mut names, rest);
            if self.is_wanted(&shard) && self.found.len() <= self.limit {
                let path = self.root.path().join(format!("~{shard}"));
                let mut inside = Vec::new();
                read(&path, "", &mut inside, &mut Vec::new())?;
                first.extend(
                    inside
                        .into_iter()
                        .filter(|name| name.starts_with(&shard) && name.strip_suffix('/').is_some_and(is_id)),
                );
            }
            self.names(first)?;
        }
        self.names(names)
    }

    /// Whether keys that start so may be among those that are asked for.
    fn is_wanted(&self, start: &str) -> bool {
        let may_match = start.starts_with(self.prefix) || self.prefix.starts_with(start);
        let may_follow = start > self.after || self.after.starts_with(start);
        may_match && may_follow
    }

    /// Adds what has these names: paths, those of folders with a slash at their end, so that their order is the order of the keys.
    fn names(&mut self, mut names: Vec<String>) -> Result<()> {
        names.sort_unstable();
        names.dedup();
        for name in names {
            if self.found.len() > self.limit {
                break;
            }
            if name.ends_with('/') {
                if self.is_wanted(&name) && Key::new(name.trim_end_matches('/')).is_ok() {
                    self.folder(&name)?;
                }
            } else if name.starts_with(self.prefix) && name.as_str() > self.after {
                self.object(name)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, name: String) -> Result<()> {
        let Ok(key) = Key::new(name) else { return Ok(()) };
        let path = self.root.find(&key);
        match fs::symlink_metadata(&path) {
            Ok(facts) => self.found.push(info(key, &facts)),
            // Deleted during the walk.
            Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => {}
            Err(error) => return Err(Error::from(error).with_context(path.display())),
        }
        Ok(())
    }
}

/// Adds the names in a folder, and what the keys in those folders start with that shard the root.
fn read(path: &Path, start: &str, names: &mut Vec<String>, shards: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(path) {
        // Deleted during the walk, or never made.
        Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => return Ok(()),
        entries => entries.with_context(|| path.display().to_string())?,
    };
    for entry in entries {
        let entry = entry.with_context(|| path.display().to_string())?;
        let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
        // Names that no key has (`~tmp`, a stranger's file) aren't ours; neither are links and devices.
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        if kind.is_dir() {
            match of_shard(&name) {
                Some(shard) => shards.push(shard.to_owned()),
                None => names.push(format!("{start}{name}/")),
            }
        } else if kind.is_file() {
            names.push(format!("{start}{name}"));
        }
    }
    Ok(())
}
