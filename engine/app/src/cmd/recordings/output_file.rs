//! Files that a command makes: whole under their name, or not at all.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::cmd::UsageError;

/// An output under way, beside its final name; removed unless it is finished.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    temporary: PathBuf,
    folder: bool,
    finished: bool,
}

impl OutputFile {
    /// Prepares an output. For a folder, the temporary folder is made.
    ///
    /// # Errors
    /// Something is there already and may not be replaced; a folder that can't be written.
    pub(super) fn new(path: &Path, folder: bool, force: bool) -> anyhow::Result<Self> {
        check(path, folder, force)?;
        let Some(name) = path.file_name() else {
            return Err(UsageError(format!("-o {}: not a file name", path.display())).into());
        };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        if !parent.is_dir() {
            return Err(UsageError(format!(
                "-o {}: there is no folder {}",
                path.display(),
                parent.display()
            ))
            .into());
        }
        let temporary = parent.join(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()));
        let output = Self {
            path: path.to_owned(),
            temporary,
            folder,
            finished: false,
        };
        // Left by a process of the same id that was killed.
        output.remove(&output.temporary)?;
        if folder {
            std::fs::create_dir(&output.temporary).with_context(|| format!("make {}", output.temporary.display()))?;
        }
        Ok(output)
    }

    /// Where to write.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Gives the output its name.
    ///
    /// # Errors
    /// What the operating system says, with the path.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        let rename = || format!("rename {} to {}", self.temporary.display(), self.path.display());
        if self.folder && self.path.exists() {
            // A folder can't be replaced at once: the old one steps aside first.
            let old = self.temporary.with_extension("old");
            std::fs::rename(&self.path, &old).with_context(rename)?;
            std::fs::rename(&self.temporary, &self.path).with_context(rename)?;
            self.finished = true;
            return self.remove(&old);
        }
        std::fs::rename(&self.temporary, &self.path).with_context(rename)?;
        self.finished = true;
        Ok(())
    }

    fn remove(&self, path: &Path) -> anyhow::Result<()> {
        let removed = if self.folder {
            std::fs::remove_dir_all(path)
        } else {
            std::fs::remove_file(path)
        };
        match removed {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = self.remove(&self.temporary)
        {
            tracing::warn!("{error:#}");
        }
    }
}

fn check(path: &Path, folder: bool, force: bool) -> anyhow::Result<()> {
    let Ok(there) = path.symlink_metadata() else {
        return Ok(());
    };
    if !folder {
        if there.is_dir() {
            return Err(UsageError(format!("-o {}: is a folder", path.display())).into());
        }
        if !force {
            return Err(UsageError(format!("-o {}: exists; --force replaces it", path.display())).into());
        }
        return Ok(());
    }
    if !there.is_dir() {
        return Err(UsageError(format!("-o {}: is not a folder", path.display())).into());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry.with_context(|| format!("read {}", path.display()))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    if names.is_empty() {
        return Ok(());
    }
    if !force {
        return Err(UsageError(format!(
            "-o {}: is not empty; --force replaces an earlier export",
            path.display()
        ))
        .into());
    }
    // A slip such as `-o ~ --force` must cost nothing.
    let ours = names.iter().any(|name| name == "index.json")
        && names.iter().all(|name| name == "index.json" || name.ends_with(".png"));
    if !ours {
        bail!(
            "-o {}: holds files that no export made, it is not replaced",
            path.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let output = OutputFile::new(&path, false, false).unwrap();
        std::fs::write(output.temporary(), "half").unwrap();
        drop(output);
        assert!(names(folder.path()).is_empty());
        let output = OutputFile::new(&path, false, false).unwrap();
        std::fs::write(output.temporary(), "one").unwrap();
        output.finish().unwrap();
        assert_eq!(names(folder.path()), ["a.mp4"]);
        let error = OutputFile::new(&path, false, false).unwrap_err();
        assert!(
            error.to_string().contains("--force") && error.is::<UsageError>(),
            "{error}"
        );
        let output = OutputFile::new(&path, false, true).unwrap();
        std::fs::write(output.temporary(), "two").unwrap();
        output.finish().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn only_an_earlier_export_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let make = |force| -> anyhow::Result<()> {
            let output = OutputFile::new(&path, true, force)?;
            std::fs::write(output.temporary().join("index.json"), "{}")?;
            std::fs::write(output.temporary().join("1.png"), "")?;
            output.finish()
        };
        make(false).unwrap();
        assert!(make(false).unwrap_err().to_string().contains("--force"));
        make(true).unwrap();
        assert_eq!(names(&path), ["1.png", "index.json"]);
        std::fs::write(path.join("thesis.tex"), "").unwrap();
        assert!(make(true).is_err());
        assert_eq!(names(&path), ["1.png", "index.json", "thesis.tex"]);
        assert_eq!(names(folder.path()), ["frames"]);
    }

    #[test]
    fn wrong_places_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("no/such/a.mp4");
        assert!(OutputFile::new(&missing, false, false).unwrap_err().is::<UsageError>());
        assert!(
            OutputFile::new(folder.path(), false, true)
                .unwrap_err()
                .is::<UsageError>()
        );
    }
}
