//! `recordings verify`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use deskreel_policy::Verb;
use deskreel_recording::{
    Finding, FindingKind, Outcome as Verdict, Report, Verifier, VerifyOptions, VerifyingKey, key_id,
};
use ed25519_dalek::pkcs8::DecodePublicKey as _;
use serde::Serialize;
use serde_json::Value;

use super::size;
use super::target::{Details, Found, Target, details, open_storages, recorded, runtime, spool};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{Catalog, SessionRow, State};
use crate::cmd::{Global, Listing, Outcome};
use crate::keys::NodeKey;
use crate::output;
use crate::replay::{Place, Source, clock};

/// A public key's file is a few hundred bytes.
const KEY_MAX_BYTES: u64 = 16 << 10;

/// Arguments of `recordings verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel recordings verify 01902b6e\n  \
    deskreel recordings verify ./copied --public-key node.pub.pem --deep")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// The key to trust instead of this node's: a PEM file as `keys show` prints it
    #[arg(long, value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// Decode every event and the whole picture as well
    #[arg(long)]
    deep: bool,
    #[command(flatten)]
    listing: Listing,
}

/// What was verified where.
#[derive(Debug, Serialize)]
struct Verified {
    /// The storage or folder.
    place: String,
    #[serde(flatten)]
    report: Report,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let mut verified = Vec::new();
    let trusted;
    let purpose = Purpose {
        verb: Verb::Read,
        what: RecordingAction::Verify,
        action: "verify",
    };
    match args.target.find(global, &runtime, purpose)? {
        Found::Files(source) => {
            trusted = match &args.public_key {
                Some(path) => public_key(path)?,
                None => node_key(&global.load()?.config.data_dir)?,
            };
            let report = verify(&source, trusted, args.deep)?;
            verified.push(Verified {
                place: args.target.recording.clone(),
                report,
            });
        }
        Found::Recording {
            id,
            row,
            loaded,
            access,
        } => {
            recorded(row.as_deref())?;
            let pass = access.0.gate().begin(&access.1, Details::new())?;
            trusted = match &args.public_key {
                Some(path) => public_key(path)?,
                None => node_key(&loaded.config.data_dir)?,
            };
            // Each storage has a copy of its own; what it waits for is in the spool.
            for storage in open_storages(&loaded, &runtime)? {
                let place = format!("storage {}", storage.name);
                let places = vec![Place::Storage(storage), spool(&loaded, id)];
                let source = Source::new(id, places, std::sync::Arc::clone(&runtime));
                let mut report = verify(&source, trusted, args.deep).with_context(|| place.clone())?;
                if let Some(row) = &row {
                    let catalog = Catalog::open_read_only(&loaded.config.data_dir)?;
                    compare(&mut report, row, catalog.segments(id)?.len() as u64);
                }
                verified.push(Verified { place, report });
            }
            pass.done(Ok(results(&verified)))?;
        }
    }
    if args.listing.format == output::Format::Text {
        output::print(args.listing.format, &verified, |verified| text(verified, &trusted))?;
    } else {
        output::print(args.listing.format, &verified, |_| String::new())?;
    }
    let worst = verified
        .iter()
        .map(|verified| outcome(verified.report.outcome))
        .max_by_key(|outcome| *outcome as u8);
    worst.context("no storage is configured")
}

/// What the audit log is told.
fn results(verified: &[Verified]) -> Details {
    let results = verified.iter().map(|Verified { place, report }| {
        let result = match report.outcome {
            Verdict::Whole => "whole",
            Verdict::Findings => "findings",
            Verdict::Broken => "broken",
        };
        (place.clone(), result.into())
    });
    details([("result", Value::Object(results.collect()))])
}

fn outcome(verdict: Verdict) -> Outcome {
    match verdict {
        Verdict::Whole => Outcome::Fine,
        Verdict::Findings => Outcome::Findings,
        Verdict::Broken => Outcome::Broken,
    }
}

pub(super) fn verify_source(source: &Source, trusted: VerifyingKey) -> anyhow::Result<Report> {
    verify(source, trusted, false)
}

fn verify(source: &Source, trusted: VerifyingKey, deep: bool) -> anyhow::Result<Report> {
    if source.only().is_some() {
        bail!("a segment alone can't be verified: name the folder with all of the recording");
    }
    let mut verifier = Verifier::new(VerifyOptions {
        recording: Some(source.recording()),
        trusted: vec![trusted],
        deep,
    });
    let numbers = source.segments()?;
    let manifest = source.manifest()?;
    if numbers.is_empty() && manifest.is_none() {
        bail!("nothing of recording {} is there", source.recording());
    }
    for number in numbers {
        verifier.segment(number, &source.segment(number)?);
    }
    Ok(verifier.finish(manifest.as_deref()))
}

/// What only the catalog knows: that there should be more.
fn compare(report: &mut Report, row: &SessionRow, segments: u64) {
    let closed = matches!(row.state, State::Complete | State::Delivering | State::Recovered);
    let open = report
        .findings
        .iter()
        .any(|finding| finding.kind == FindingKind::StillOpen);
    let mut missing = |kind, text: String| {
        report.outcome = Verdict::Broken;
        report.findings.push(Finding {
            kind,
            broken: true,
            segment: None,
            text,
        });
    };
    if closed && open {
        missing(
            FindingKind::Missing,
            format!(
                "the catalog says that the recording is {}, but there is no manifest",
                row.state
            ),
        );
    }
    if report.segments < segments {
        let text = format!("the catalog knows {segments} segments, {} are there", report.segments);
        missing(FindingKind::Missing, text);
    }
}

/// This node's own key.
pub(super) fn node_key(data_dir: &Path) -> anyhow::Result<VerifyingKey> {
    match NodeKey::load(data_dir)? {
        Some(key) => Ok(key.public()),
        None => bail!(
            "no key to trust: data_dir {} has none, and there is no --public-key",
            data_dir.display()
        ),
    }
}

/// A public key in a PEM file; text before it is skipped, so the output of `keys show` will do.
fn public_key(path: &Path) -> anyhow::Result<VerifyingKey> {
    let wrong = || format!("--public-key {}", path.display());
    let size = std::fs::metadata(path).with_context(wrong)?.len();
    if size > KEY_MAX_BYTES {
        bail!("{}: {size} bytes are no public key", wrong());
    }
    let text = std::fs::read_to_string(path).with_context(wrong)?;
    let pem = text.find("-----BEGIN PUBLIC KEY-----").and_then(|at| text.get(at..));
    let Some(pem) = pem else {
        bail!("{}: holds no line \"-----BEGIN PUBLIC KEY-----\"", wrong());
    };
    VerifyingKey::from_public_key_pem(pem)
        .map_err(|error| anyhow::anyhow!("{error}"))
        .with_context(|| format!("{} is no Ed25519 public key", wrong()))
}

fn text(verified: &[Verified], trusted: &VerifyingKey) -> String {
    let mut text = String::new();
    for Verified { place, report } in verified {
        let verdict = match report.outcome {
            Verdict::Whole => "whole: complete and unchanged",
            Verdict::Findings => "true, with findings",
            Verdict::Broken => "BROKEN",
        };
        text.push_str(&format!(
            "{place}: {verdict}\n  {} segments, {}, {}\n",
            report.segments,
            size(report.bytes),
            clock(report.duration_ns)
        ));
        for finding in &report.findings {
            let segment = finding
                .segment
                .map_or_else(String::new, |number| format!("segment {number}: "));
            let mark = if finding.broken { "broken" } else { "finding" };
            text.push_str(&format!("  {mark}: {segment}{}\n", finding.text));
        }
    }
    text.push_str(&format!("trusted key: {}\n", key_id(trusted)));
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn what_is_no_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert!(public_key(&path).is_err());
        for (content, expected) in [
            ("junk", "BEGIN PUBLIC KEY"),
            (
                "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
                "no Ed25519 public key",
            ),
        ] {
            std::fs::write(&path, content).unwrap();
            let error = format!("{:#}", public_key(&path).unwrap_err());
            assert!(error.contains(expected) && error.contains("--public-key"), "{error}");
        }
    }
}
