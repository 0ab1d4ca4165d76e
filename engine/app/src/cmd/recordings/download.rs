//! `recordings download`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use deskreel_config::Loaded;
use deskreel_policy::Verb;
use deskreel_recording::{Outcome as Verdict, sha256};

use super::output_file::OutputFile;
use super::size;
use super::target::{Target, details, runtime};
use super::verify::{node_keys, verify_source};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, MadeRow};
use crate::cmd::{Global, Outcome};
use crate::digest::digest_of;
use crate::output::visible;
use crate::replay::Source;

/// Read of an export at a time.
const PART_BYTES: u64 = 8 << 20;

/// Arguments of `recordings download`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel recordings download 01902b6e -o case-17\n  \
    deskreel recordings verify case-17 --public-key node.pub.pem")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The folder to make
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let purpose = Purpose {
        verb: Verb::Download,
        what: RecordingAction::Download,
        action: "download",
    };
    let runtime = runtime()?;
    let output = OutputFile::new(&args.output, true, false)?;
    let mut opened = args
        .target
        .find(global, &runtime, purpose)?
        .source(&runtime, details([]))?;
    let Some(loaded) = opened.loaded.take() else {
        bail!("{} is a copy already", args.target.recording);
    };
    let copied = copy(&opened.source, output.temporary())?;
    let exports = copy_exports(&opened.source, output.temporary())?;
    let changed = changed(&made(&loaded, &opened.source)?, output.temporary())?;
    // What was written is what is verified, not what was read.
    let written = Source::folder(output.temporary(), runtime)?;
    let report = verify_source(&written, &node_keys(&loaded)?, false)?;
    let (outcome, result) = match report.outcome {
        Verdict::Whole if !changed.is_empty() => (Outcome::Findings, "whole"),
        Verdict::Whole => (Outcome::Fine, "whole"),
        Verdict::Findings => (Outcome::Findings, "findings"),
        Verdict::Broken => (Outcome::Broken, "broken"),
    };
    opened.done(details([
        ("segments", report.segments.into()),
        ("bytes", (copied.bytes + exports.bytes).into()),
        ("exports", exports.files.into()),
        ("sha256", copied.manifest.clone().into()),
        ("result", result.into()),
    ]))?;
    output.finish()?;
    println!(
        "{}  {} segments, {}",
        args.output.display(),
        report.segments,
        size(copied.bytes)
    );
    match &copied.manifest {
        Some(digest) => println!("manifest SHA-256 {digest}"),
        None => eprintln!("deskreel: the recording has no manifest yet: this is all that is sealed"),
    }
    if exports.files > 0 {
        println!("exports  {} files, {}", exports.files, size(exports.bytes));
    }
    for name in &changed {
        eprintln!("deskreel: {} is not what the exporter made", visible(name));
    }
    for finding in &report.findings {
        eprintln!("deskreel: {}", visible(&finding.text));
    }
    Ok(outcome)
}

/// What was copied.
struct Copied {
    bytes: u64,
    /// SHA-256 of the manifest, hexadecimal.
    manifest: Option<String>,
}

/// Copies every object under the name that it has in a storage.
fn copy(source: &Source, folder: &Path) -> anyhow::Result<Copied> {
    // The manifest first: it comes after all segments, so that what it lists is there.
    let manifest = source.manifest()?;
    let mut bytes = 0;
    let numbers: BTreeSet<u32> = source.segments()?;
    for number in numbers {
        let segment = source.segment(number)?;
        write(&folder.join(format!("{number:08}.mcap")), &segment)?;
        bytes += segment.len() as u64;
    }
    if let Some(manifest) = &manifest {
        write(&folder.join("manifest.json"), manifest)?;
        bytes += manifest.len() as u64;
    }
    Ok(Copied {
        bytes,
        manifest: manifest.map(|manifest| hex::encode(sha256(&manifest))),
    })
}

/// Exports that were copied.
#[derive(Default)]
struct Exports {
    files: u64,
    bytes: u64,
}

/// Copies what exporters have stored beside the recording, under the names that it has there.
fn copy_exports(source: &Source, folder: &Path) -> anyhow::Result<Exports> {
    let mut copied = Exports::default();
    let mut folders = BTreeSet::new();
    for name in source.exports()? {
        // Storages are not trusted to have sane names.
        let sane = Path::new(&name)
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        ensure!(sane, "{name:?} is no name that an export could have");
        let path = folder.join(&name);
        let parent = path.parent().unwrap_or(folder);
        std::fs::create_dir_all(parent).with_context(|| format!("make {}", parent.display()))?;
        folders.insert(parent.to_owned());
        let mut file = File::create_new(&path).with_context(|| format!("write {}", path.display()))?;
        let mut at = 0;
        loop {
            let Some(part) = source.file_range(&name, at..at + PART_BYTES)? else {
                bail!("{name} is gone: it was listed a moment ago");
            };
            file.write_all(&part)
                .with_context(|| format!("write {}", path.display()))?;
            at += part.len() as u64;
            if (part.len() as u64) < PART_BYTES {
                break;
            }
        }
        file.sync_all().with_context(|| format!("write {}", path.display()))?;
        copied.files += 1;
        copied.bytes += at;
    }
    for folder in folders {
        let synced = File::open(&folder).and_then(|folder| folder.sync_all());
        synced.with_context(|| format!("fsync {}", folder.display()))?;
    }
    Ok(copied)
}

/// What the catalog knows of the exports.
fn made(loaded: &Loaded, source: &Source) -> anyhow::Result<Vec<MadeRow>> {
    let catalog = Catalog::open_or_nothing(&loaded.config.data_dir)?;
    let rows = catalog.exports(source.recording())?;
    Ok(rows
        .into_iter()
        .filter(|row| !row.storages.is_empty())
        .filter_map(|row| row.made)
        .collect())
}

/// The exports that are not there as they were made.
fn changed(made: &[MadeRow], folder: &Path) -> anyhow::Result<Vec<String>> {
    let mut changed = Vec::new();
    for made in made {
        let path = folder.join(made.object.trim_end_matches('/'));
        if !path.exists() || digest_of(&path)? != made.sha256 {
            changed.push(made.object.clone());
        }
    }
    Ok(changed)
}

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("write {}", path.display()))
}
