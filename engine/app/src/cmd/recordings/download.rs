//! `recordings download`.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use deskreel_policy::Verb;
use deskreel_recording::{Outcome as Verdict, sha256};

use super::output_file::OutputFile;
use super::size;
use super::target::{Target, details, runtime};
use super::verify::{node_keys, verify_source};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::cmd::{Global, Outcome};
use crate::output::visible;
use crate::replay::Source;

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
    // What was written is what is verified, not what was read.
    let written = Source::folder(output.temporary(), runtime)?;
    let report = verify_source(&written, &node_keys(&loaded)?, false)?;
    let (outcome, result) = match report.outcome {
        Verdict::Whole => (Outcome::Fine, "whole"),
        Verdict::Findings => (Outcome::Findings, "findings"),
        Verdict::Broken => (Outcome::Broken, "broken"),
    };
    opened.done(details([
        ("segments", report.segments.into()),
        ("bytes", copied.bytes.into()),
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

fn write(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let written = File::create_new(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.with_context(|| format!("write {}", path.display()))
}
