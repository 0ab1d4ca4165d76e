//! Files that a command makes: whole and durable under their name, or not at all. What is there already is replaced only on
//! demand, and what no export made never is.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::cmd::UsageError;

/// An output under way, beside its final name; removed unless it is finished.
#[derive(Debug)]
pub(super) struct OutputFile {
    path: PathBuf,
    temporary: PathBuf,
    folder: bool,
    force: bool,
    finished: bool,
}

impl OutputFile {
    /// Prepares an output. For a folder, the temporary folder is made.
    ///
    /// # Errors
    /// Something is there already and may not be replaced; a folder that can't be written.
    pub(super) fn new(path: &Path, folder: bool, force: bool) -> anyhow::Result<Self> {
        check(path, path, folder, force)?;
        let Some(name) = path.file_name() else {
            return Err(UsageError(format!("-o {}: not a file name", path.display())).into());
        };
        let parent = parent_of(path);
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
            force,
            finished: false,
        };
        // Left by a process of the same id that was killed.
        output.remove(&output.temporary)?;
        if folder {
            fs::create_dir(&output.temporary).with_context(|| format!("make {}", output.temporary.display()))?;
        }
        Ok(output)
    }

    /// Where to write.
    pub(super) fn temporary(&self) -> &Path {
        &self.temporary
    }

    /// Makes the output durable and gives it its name. An export takes its time: what came under that name meanwhile is
    /// treated as at the start.
    ///
    /// # Errors
    /// Something that may not be replaced is there by now; what the operating system says, with the path.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        self.sync_contents()?;
        let replaced = match (self.folder, self.force) {
            (true, true) => self.replace_folder()?,
            (false, true) => {
                check(&self.path, &self.path, false, true)?;
                fs::rename(&self.temporary, &self.path).with_context(|| self.renaming())?;
                None
            }
            (_, false) => {
                self.rename_new()?;
                None
            }
        };
        self.finished = true;
        sync(parent_of(&self.path))?;
        replaced.map_or(Ok(()), |old| self.remove(&old))
    }

    fn sync_contents(&self) -> anyhow::Result<()> {
        if self.folder {
            for entry in fs::read_dir(&self.temporary).with_context(|| format!("read {}", self.temporary.display()))? {
                sync(
                    &entry
                        .with_context(|| format!("read {}", self.temporary.display()))?
                        .path(),
                )?;
            }
        }
        sync(&self.temporary)
    }

    /// Gives the output its name unless that is taken; an empty folder may be there in place of a folder.
    fn rename_new(&self) -> anyhow::Result<()> {
        let renamed = if self.folder {
            // A folder replaces an empty folder and nothing else.
            fs::rename(&self.temporary, &self.path)
        } else {
            match renameat_with(CWD, &self.temporary, CWD, &self.path, RenameFlags::NOREPLACE) {
                // A file system without this flag: a hard link doesn't replace either.
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
                    fs::hard_link(&self.temporary, &self.path).and_then(|()| fs::remove_file(&self.temporary))
                }
                outcome => outcome.map_err(io::Error::from),
            }
        };
        match renamed {
            Err(error) if is_taken(&error) => {
                check(&self.path, &self.path, self.folder, false)?;
                Err(error).with_context(|| self.renaming())
            }
            outcome => outcome.with_context(|| self.renaming()),
        }
    }

    /// Gives a folder its name. A folder can't be replaced at once: the old one steps aside first. Returns where it is, to be
    /// removed.
    fn replace_folder(&self) -> anyhow::Result<Option<PathBuf>> {
        check(&self.path, &self.path, true, true)?;
        let old = self.temporary.with_extension("old");
        match fs::rename(&self.path, &old) {
            Err(error) if error.kind() == ErrorKind::NotFound => return self.rename_new().map(|()| None),
            outcome => outcome.with_context(|| self.renaming())?,
        }
        // Looked at again where nobody else finds it: files may have come since the look above.
        let replaced = check(&old, &self.path, true, true).and_then(|()| self.rename_new());
        let Err(error) = replaced else { return Ok(Some(old)) };
        match fs::rename(&old, &self.path) {
            Ok(()) => Err(error),
            Err(again) => Err(error.context(format!(
                "what was at {} is at {} now, it could not be put back ({again})",
                self.path.display(),
                old.display()
            ))),
        }
    }

    fn renaming(&self) -> String {
        format!("rename {} to {}", self.temporary.display(), self.path.display())
    }

    fn remove(&self, path: &Path) -> anyhow::Result<()> {
        let removed = if self.folder {
            fs::remove_dir_all(path)
        } else {
            fs::remove_file(path)
        };
        match removed {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a rename failed over what is there.
fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::AlreadyExists | ErrorKind::DirectoryNotEmpty | ErrorKind::NotADirectory | ErrorKind::IsADirectory
    )
}

fn parent_of(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or_else(|| Path::new("."))
}

/// Makes a file's bytes, or a folder's names, durable.
fn sync(path: &Path) -> anyhow::Result<()> {
    #[cfg(test)]
    tests::SYNCED.with_borrow_mut(|synced| synced.push(path.to_owned()));
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("fsync {}", path.display()))
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

/// Whether what is at a path may be replaced by the output `name`.
fn check(path: &Path, name: &Path, folder: bool, force: bool) -> anyhow::Result<()> {
    let Ok(there) = path.symlink_metadata() else {
        return Ok(());
    };
    let refuse = |why: &str| Err(UsageError(format!("-o {}: {why}", name.display())).into());
    match (folder, there.is_dir()) {
        (false, true) => return refuse("is a folder"),
        (true, false) => return refuse("is not a folder"),
        (false, false) if !there.is_file() && !there.is_symlink() => return refuse("is not a file"),
        (false, false) if !force => return refuse("exists; --force replaces it"),
        (false, false) => return Ok(()),
        (true, true) => {}
    }
    let (mut empty, mut pictures_only, mut index) = (true, true, false);
    for entry in fs::read_dir(path).with_context(|| format!("read {}", path.display()))? {
        let entry = entry.with_context(|| format!("read {}", path.display()))?;
        let entry_name = entry.file_name().to_string_lossy().into_owned();
        let is_index = entry_name == "index.json";
        empty = false;
        index |= is_index;
        pictures_only &=
            (is_index || entry_name.ends_with(".png")) && entry.file_type().is_ok_and(|kind| kind.is_file());
    }
    if empty {
        return Ok(());
    }
    if !force {
        return refuse("is not empty; --force replaces an earlier export");
    }
    // A slip such as `-o ~ --force` must cost nothing.
    if !(index && pictures_only) {
        bail!(
            "-o {}: holds files that no export made, it is not replaced",
            name.display()
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    thread_local! {
        /// What this thread has synced: what fsync did shows only after a power cut.
        pub(super) static SYNCED: std::cell::RefCell<Vec<PathBuf>> = const { std::cell::RefCell::new(Vec::new()) };
    }

    /// An export into a folder that has made its files and is about to finish.
    fn about_to_finish(path: &Path, force: bool) -> OutputFile {
        let output = OutputFile::new(path, true, force).unwrap();
        fs::write(output.temporary().join("index.json"), "new").unwrap();
        fs::write(output.temporary().join("1.png"), "new").unwrap();
        output
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let output = OutputFile::new(&path, false, false).unwrap();
        fs::write(output.temporary(), "half").unwrap();
        drop(output);
        assert!(names(folder.path()).is_empty());
        let output = OutputFile::new(&path, false, false).unwrap();
        fs::write(output.temporary(), "one").unwrap();
        output.finish().unwrap();
        assert_eq!(names(folder.path()), ["a.mp4"]);
        let error = OutputFile::new(&path, false, false).unwrap_err();
        assert!(
            error.to_string().contains("--force") && error.is::<UsageError>(),
            "{error}"
        );
        let output = OutputFile::new(&path, false, true).unwrap();
        fs::write(output.temporary(), "two").unwrap();
        output.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    #[test]
    fn only_an_earlier_export_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let make = |force| -> anyhow::Result<()> {
            let output = OutputFile::new(&path, true, force)?;
            fs::write(output.temporary().join("index.json"), "{}")?;
            fs::write(output.temporary().join("1.png"), "")?;
            output.finish()
        };
        make(false).unwrap();
        assert!(make(false).unwrap_err().to_string().contains("--force"));
        make(true).unwrap();
        assert_eq!(names(&path), ["1.png", "index.json"]);
        fs::write(path.join("thesis.tex"), "").unwrap();
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

    #[test]
    fn what_came_meanwhile_is_not_replaced_without_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.mp4");
        let output = OutputFile::new(&path, false, false).unwrap();
        fs::write(output.temporary(), "new").unwrap();
        fs::write(&path, "a colleague's").unwrap();
        let error = output.finish().unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().contains("--force"),
            "{error:#}"
        );
        assert_eq!(fs::read(&path).unwrap(), b"a colleague's");

        let path = folder.path().join("frames");
        let output = about_to_finish(&path, false);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("index.json"), "a colleague's").unwrap();
        let error = output.finish().unwrap_err();
        assert!(
            error.is::<UsageError>() && error.to_string().contains("--force"),
            "{error:#}"
        );
        assert_eq!(fs::read(path.join("index.json")).unwrap(), b"a colleague's");

        let path = folder.path().join("empty");
        let output = about_to_finish(&path, false);
        fs::create_dir(&path).unwrap();
        output.finish().unwrap();
        assert_eq!(names(&path), ["1.png", "index.json"]);
        assert_eq!(names(folder.path()), ["a.mp4", "empty", "frames"]);
    }

    #[test]
    fn what_came_meanwhile_is_looked_at_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        about_to_finish(&path, false).finish().unwrap();
        let output = about_to_finish(&path, true);
        fs::write(path.join("thesis.tex"), "years").unwrap();
        let error = output.finish().unwrap_err();
        assert!(error.to_string().contains("no export made"), "{error:#}");
        assert_eq!(names(&path), ["1.png", "index.json", "thesis.tex"]);
        fs::remove_file(path.join("thesis.tex")).unwrap();
        // A folder with a picture's name is no picture.
        fs::create_dir(path.join("old.png")).unwrap();
        assert!(OutputFile::new(&path, true, true).is_err());

        let path = folder.path().join("a.mp4");
        let output = OutputFile::new(&path, false, true).unwrap();
        fs::write(output.temporary(), "new").unwrap();
        fs::create_dir(&path).unwrap();
        assert!(output.finish().unwrap_err().is::<UsageError>());
        assert_eq!(names(folder.path()), ["a.mp4", "frames"]);
        assert!(
            OutputFile::new(Path::new("/dev/null"), false, true)
                .unwrap_err()
                .is::<UsageError>()
        );
    }

    #[test]
    fn the_old_folder_comes_back_when_the_new_one_can_t_take_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        about_to_finish(&path, false).finish().unwrap();
        let output = about_to_finish(&path, true);
        fs::remove_dir_all(output.temporary()).unwrap();
        assert!(output.replace_folder().is_err());
        assert_eq!(names(&path), ["1.png", "index.json"]);
        drop(output);
        assert_eq!(names(folder.path()), ["frames"]);
    }

    #[test]
    fn a_finished_output_is_durable() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("frames");
        let output = about_to_finish(&path, false);
        let temporary = output.temporary().to_owned();
        SYNCED.take();
        output.finish().unwrap();
        let mut synced = SYNCED.take();
        assert_eq!(synced.pop().as_deref(), Some(folder.path()), "its name");
        assert_eq!(synced.pop(), Some(temporary.clone()), "the names in it");
        synced.sort();
        assert_eq!(synced, [temporary.join("1.png"), temporary.join("index.json")]);
        let output = OutputFile::new(&folder.path().join("a.mp4"), false, true).unwrap();
        fs::write(output.temporary(), "new").unwrap();
        let temporary = output.temporary().to_owned();
        output.finish().unwrap();
        assert_eq!(SYNCED.take(), [temporary, folder.path().to_owned()]);
    }
}
