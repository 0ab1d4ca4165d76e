//! A walk over the folder in key order.

use std::fs;
use std::io::ErrorKind as Io;

use deskreel_sdk::prelude::*;

use crate::info;

/// The first keys of `prefix` after `after`.
pub(crate) fn page(root: &Path, prefix: &Prefix, after: Option<&Key>, limit: usize) -> Result<Page> {
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
    root: &'a Path,
    prefix: &'a str,
    after: &'a str,
    limit: usize,
    found: Vec<ObjectInfo>,
}

impl Walk<'_> {
    /// Adds what lies in a folder; `start` is what its keys start with: nothing, or a path that ends with a slash.
    fn folder(&mut self, start: &str) -> Result<()> {
        let path = self.root.join(start);
        let entries = match fs::read_dir(&path) {
            // Deleted during the walk, or never made.
            Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => return Ok(()),
            entries => entries.with_context(|| path.display().to_string())?,
        };
        let mut names = Vec::new();
        for entry in entries {
            let entry = entry.with_context(|| path.display().to_string())?;
            let kind = entry.file_type().with_context(|| entry.path().display().to_string())?;
            // Names that no key has (`~tmp`, a stranger's file) aren't ours; neither are links and devices.
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            if kind.is_dir() {
                names.push(format!("{start}{name}/"));
            } else if kind.is_file() {
                names.push(format!("{start}{name}"));
            }
        }
        // With the slash of a folder at its end, the order of the paths is the order of the keys.
        names.sort_unstable();
        for name in names {
            if self.found.len() > self.limit {
                break;
            }
            if name.ends_with('/') {
                let may_match = name.starts_with(self.prefix) || self.prefix.starts_with(&name);
                let may_follow = name.as_str() > self.after || self.after.starts_with(&name);
                if may_match && may_follow && Key::new(name.trim_end_matches('/')).is_ok() {
                    self.folder(&name)?;
                }
            } else if name.starts_with(self.prefix) && name.as_str() > self.after {
                self.object(name)?;
            }
        }
        Ok(())
    }

    fn object(&mut self, name: String) -> Result<()> {
        let path = self.root.join(&name);
        let Ok(key) = Key::new(name) else { return Ok(()) };
        match fs::symlink_metadata(&path) {
            Ok(facts) => self.found.push(info(key, &facts)),
            // Deleted during the walk.
            Err(error) if matches!(error.kind(), Io::NotFound | Io::NotADirectory) => {}
            Err(error) => return Err(Error::from(error).with_context(path.display())),
        }
        Ok(())
    }
}
