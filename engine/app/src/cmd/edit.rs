//! `deskreel edit`: a resource in an editor.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use deskreel_config::{Document, ReadOptions, read_edited};
use similar::TextDiff;
use uuid::Uuid;

use super::change::{Changer, lines, warn};
use super::get::{Shown, parse, yaml};
use super::{Global, Outcome, UsageError};
use crate::access::{ChangeVerb, Entry, Force};
use crate::output::visible_lines;

/// Arguments of `edit`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "The editor is $VISUAL, else $EDITOR, else vi.\n\nExamples:\n  deskreel edit role/dev\n  \
                        EDITOR=nano deskreel edit user/alice"
)]
pub(crate) struct Args {
    /// What to edit
    #[arg(value_name = "KIND/NAME")]
    what: String,
    /// Replace also what the configuration says, until the next start or reload
    #[arg(long)]
    confirm: bool,
}

/// Runs `edit`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let (kind, Some(name)) = parse(&args.what)? else {
        return Err(UsageError(format!("{}: write it as KIND/NAME", args.what)).into());
    };
    let changer = Changer::open(global)?;
    let Some(entry) = changer.snapshot.entries.get(&(kind, name.clone())) else {
        bail!(
            "there is no {}{}",
            crate::access::subject(kind, &name),
            changer.near(kind, &name)
        );
    };
    changer.permit_read(entry)?;
    let before = yaml(&Shown::new(entry, false))?;
    let file = Draft::new(&before)?;
    file.edit()?;
    let after = file.text()?;
    if after == before {
        println!("not changed");
        file.remove();
        return Ok(Outcome::Fine);
    }
    let done = store(&changer, entry, args.confirm, &before, &after, &file.path);
    match done {
        Ok(()) => file.remove(),
        Err(error) => {
            let kept = format!("your text is kept in {}", file.path.display());
            // the kind of the error picks the exit code
            if error.is::<UsageError>() {
                return Err(UsageError(format!("{error:#}\n{kept}")).into());
            }
            return Err(error.context(kept));
        }
    }
    Ok(Outcome::Fine)
}

fn store(
    changer: &Changer,
    entry: &Entry,
    confirm: bool,
    before: &str,
    after: &str,
    path: &Path,
) -> anyhow::Result<()> {
    let (document, read) = read(entry, after, path)?;
    print!("{}", difference(entry, before, &document)?);
    let force = if confirm { Force::Confirmed } else { Force::Replace };
    let changes = changer.replace(&[document], force, Some(read))?;
    debug_assert!(changes.iter().all(|change| change.verb != ChangeVerb::Deleted));
    Ok(())
}

/// What an edit changes, as a diff of what `get` shows: without comments, and without secrets.
fn difference(entry: &Entry, before: &str, document: &Document) -> anyhow::Result<String> {
    let mut edited = entry.clone();
    edited.document = Arc::new(document.clone());
    let after = yaml(&Shown::new(&edited, false))?;
    if before == after && document.source != entry.document.source {
        return Ok("only secrets change, which are not shown\n".to_owned());
    }
    let diff = TextDiff::from_lines(before, &after);
    let mut diff = diff.unified_diff();
    // what stands in files and on terminals can be anything
    Ok(visible_lines(&diff.context_radius(3).header("in force", "edited").to_string()).into_owned())
}

/// The edited document, with the secrets that it hides, and the revision that it began with.
fn read(entry: &Entry, text: &str, path: &Path) -> anyhow::Result<(Document, u64)> {
    let base = &entry.document.base;
    let options = ReadOptions {
        file: path,
        base,
        skip_foreign: false,
    };
    let stream = read_edited(text, &options, &entry.document.source);
    if !stream.errors.is_empty() {
        return Err(UsageError(lines(&stream.errors)).into());
    }
    warn(&stream.warnings);
    let mut documents = stream.documents.into_iter();
    let (Some(mut document), None) = (documents.next(), documents.next()) else {
        return Err(UsageError(format!("{}: must hold one resource", path.display())).into());
    };
    if (document.kind, &document.name) != (entry.document.kind, &entry.document.name) {
        let message = format!(
            "{}: is {} now; kind and name can't be edited, make a new resource with create",
            path.display(),
            document.subject()
        );
        return Err(UsageError(message).into());
    }
    document.base.clone_from(base);
    let read = document.revision.unwrap_or(entry.revision);
    Ok((document, read))
}

/// The text while it is edited: a file that only its owner can read.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn new(text: &str) -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("deskreel-{}.yaml", Uuid::new_v4()));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {}", path.display()))?;
        file.write_all(text.as_bytes())
            .with_context(|| format!("write {}", path.display()))?;
        Ok(Self { path })
    }

    fn edit(&self) -> anyhow::Result<()> {
        let set = |name| std::env::var(name).ok().filter(|editor| !editor.trim().is_empty());
        let editor = set("VISUAL")
            .or_else(|| set("EDITOR"))
            .unwrap_or_else(|| "vi".to_owned());
        // the variable may hold arguments, as in "code --wait"
        let status = Command::new("sh")
            .args(["-c", &format!("{editor} \"$1\""), "deskreel-edit"])
            .arg(&self.path)
            .status()
            .with_context(|| format!("run {editor}"))?;
        if !status.success() {
            bail!(
                "{editor} ended with {status}; your text is kept in {}",
                self.path.display()
            );
        }
        Ok(())
    }

    fn text(&self) -> anyhow::Result<String> {
        std::fs::read_to_string(&self.path).with_context(|| format!("read {}", self.path.display()))
    }

    fn remove(&self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            eprintln!("deskreel: warning: remove {}: {error}", self.path.display());
        }
    }
}
