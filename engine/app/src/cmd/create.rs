//! `deskreel create`: resources from a file.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use deskreel_config::{Document, ReadOptions, Stream, read_resources};

use super::change::{Changer, lines, warn};
use super::{Global, Outcome, UsageError};
use crate::access::{Force, languages};

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel create role.yaml\n  deskreel create -f users.yaml\n  \
                        deskreel get role/dev --format yaml | deskreel create -f -"
)]
pub(crate) struct Args {
    /// YAML file with one or more resources; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Replace resources that exist
    #[arg(short, long)]
    force: bool,
    /// With -f: replace also what the configuration says, until the next start or reload
    #[arg(long, requires = "force")]
    confirm: bool,
    /// Skip resources of kinds that Deskreel has not
    #[arg(long)]
    skip_foreign: bool,
}

/// Runs `create`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let stream = read(&args.file, args.skip_foreign)?;
    if stream.documents.is_empty() {
        return Err(UsageError(format!("{}: holds no resources", args.file.display())).into());
    }
    let force = match (args.force, args.confirm) {
        (false, _) => Force::Create,
        (true, false) => Force::Replace,
        (true, true) => Force::Confirmed,
    };
    Changer::open(global)?.replace(&stream.documents, force, None)?;
    Ok(Outcome::Fine)
}

/// Reads a file of resources, or standard input; prints its warnings.
///
/// # Errors
/// A [`UsageError`] with everything that is wrong.
pub(super) fn read(file: &Path, skip_foreign: bool) -> anyhow::Result<Stream> {
    let stream = stream(file, skip_foreign)?;
    if !stream.errors.is_empty() {
        let right: Vec<&Document> = stream.documents.iter().collect();
        let mut errors = stream.errors;
        errors.extend(languages(&right).errors);
        errors.sort_by(|a, b| a.origin.cmp(&b.origin));
        return Err(UsageError(lines(&errors)).into());
    }
    warn(&stream.warnings);
    Ok(stream)
}

/// As [`read`], with what is wrong and odd in it.
///
/// # Errors
/// A file that can't be read.
pub(super) fn stream(file: &Path, skip_foreign: bool) -> anyhow::Result<Stream> {
    let here = std::env::current_dir().context("find the working folder")?;
    let stdin = file == Path::new("-");
    let text = if stdin {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .context("read standard input")?;
        text
    } else {
        std::fs::read_to_string(file).map_err(|error| UsageError(format!("{}: {error}", file.display())))?
    };
    let base = if stdin {
        here.clone()
    } else {
        here.join(file.parent().unwrap_or(Path::new("")))
    };
    let options = ReadOptions {
        file: if stdin { Path::new("stdin") } else { file },
        base: &base,
        skip_foreign,
    };
    Ok(read_resources(&text, &options))
}
