//! `storages scan` and `storages scrub`.

use anyhow::bail;
use indicatif::ProgressBar;
use serde_json::Map;

use super::At;
use crate::audit::{Audit, Event, Phase, Upkeep};
use crate::cmd::recordings::size;
use crate::cmd::{Listing, Outcome, progress};
use crate::keep::scan::{Scanned, Scanner};
use crate::output;

/// Findings that text shows one by one.
const SHOWN_MAX: usize = 50;

/// Arguments of `storages scan`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel storages scan disk\n  deskreel storages scan cloud --digests --format json"
)]
pub(super) struct ScanArgs {
    /// Names of storages [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Read every object and compare its digest, too
    #[arg(long)]
    digests: bool,
    #[command(flatten)]
    listing: Listing,
}

/// Arguments of `storages scrub`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel storages scrub disk --sample 500")]
pub(super) struct ScrubArgs {
    /// Names of storages [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    /// Objects that are read at each storage
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    sample: u32,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn scan(at: &At, args: &ScanArgs) -> anyhow::Result<Outcome> {
    each(at, &args.names, args.digests, args.listing, |scanner, bar| {
        scanner.scan(&mut |scanned| show(bar, scanned))
    })
}

pub(super) fn scrub(at: &At, args: &ScrubArgs) -> anyhow::Result<Outcome> {
    each(at, &args.names, true, args.listing, |scanner, bar| {
        let scanned = scanner.scrub(args.sample, &mut |scanned| show(bar, scanned))?;
        if scanned.is_broken() {
            let mut details = Map::new();
            details.insert("compared".to_owned(), scanned.digests.into());
            let found = scanned
                .findings
                .iter()
                .take(SHOWN_MAX)
                .map(|finding| finding.key.clone());
            details.insert("findings".to_owned(), found.collect::<Vec<_>>().into());
            let event = Event::StorageScrub(Upkeep {
                phase: Phase::Done,
                storage: scanned.storage.clone(),
                success: false,
                error: Some("objects are missing or are not what was sealed".to_owned()),
                details,
            });
            Audit::open(&at.loaded.config)?.emit_or_fail(at.actor.clone(), &event)?;
        }
        Ok(scanned)
    })
}

fn show(bar: &ProgressBar, scanned: &Scanned) {
    bar.set_message(format!(
        "{}: {} objects, {} findings",
        scanned.storage,
        scanned.objects,
        scanned.counts.values().sum::<u64>()
    ));
    bar.tick();
}

fn each(
    at: &At,
    names: &[String],
    digests: bool,
    listing: Listing,
    look: impl Fn(&Scanner<'_>, &ProgressBar) -> anyhow::Result<Scanned>,
) -> anyhow::Result<Outcome> {
    let catalog = at.catalog()?;
    let (mut scanned, mut failed) = (Vec::new(), false);
    for opened in at.storages(names)? {
        let found = match &opened.storage {
            Ok(storage) => {
                let bar = progress::spinner();
                let scanner = Scanner {
                    handle: at.handle(),
                    catalog: &catalog,
                    storage,
                    digests,
                };
                let found = look(&scanner, &bar);
                bar.finish_and_clear();
                // It says which storage.
                found.map_err(|error| format!("{error:#}"))
            }
            Err(error) => Err(error.clone()),
        };
        match found {
            Ok(found) => scanned.push(found),
            // The others are looked at all the same.
            Err(error) => {
                failed = true;
                eprintln!("deskreel: not looked at: {}", output::visible(&error));
            }
        }
    }
    output::print(listing.format, &scanned, |scanned| text(scanned))?;
    if scanned.is_empty() && failed {
        bail!("no storage could be looked at");
    }
    Ok(if scanned.iter().any(Scanned::is_broken) {
        Outcome::Broken
    } else if failed || scanned.iter().any(|scanned| !scanned.counts.is_empty()) {
        Outcome::Findings
    } else {
        Outcome::Fine
    })
}

fn text(scanned: &[Scanned]) -> String {
    let mut text = String::new();
    for scanned in scanned {
        text.push_str(&format!("storage {}: ", scanned.storage));
        if scanned.recordings > 0 || scanned.bytes > 0 {
            text.push_str(&format!(
                "{} recordings, {} objects, {}",
                scanned.recordings,
                scanned.objects,
                size(scanned.bytes)
            ));
        } else {
            text.push_str(&format!("{} objects", scanned.objects));
        }
        text.push_str(&match scanned.digests {
            0 => ", digests not compared\n".to_owned(),
            digests => format!(", {digests} digests compared\n"),
        });
        if scanned.counts.is_empty() {
            text.push_str("  nothing is wrong\n");
        }
        for finding in scanned.findings.iter().take(SHOWN_MAX) {
            text.push_str(&format!(
                "  {}: {}\n",
                output::visible(&finding.key),
                output::visible(&finding.text)
            ));
        }
        let more = scanned
            .counts
            .values()
            .sum::<u64>()
            .saturating_sub(scanned.findings.len().min(SHOWN_MAX) as u64);
        if more > 0 {
            text.push_str(&format!("  and {more} more (--format json lists them)\n"));
        }
        for (kind, count) in &scanned.counts {
            let word = serde_json::to_value(kind)
                .ok()
                .and_then(|word| word.as_str().map(str::to_owned));
            text.push_str(&format!("  {count} {}: {}\n", word.unwrap_or_default(), kind.advice()));
        }
    }
    text
}
