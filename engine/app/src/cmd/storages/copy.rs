//! `storages copy`.

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::At;
use crate::audit::{Audit, Event, Phase, Upkeep};
use crate::catalog::Catalog;
use crate::cmd::recordings::size;
use crate::cmd::{Listing, Outcome, UsageError, progress};
use crate::keep::copy::{Copied, Copier};
use crate::keep::retention::Rules;
use crate::output;

/// Arguments of `storages copy`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel storages copy disk cloud --missing\n  deskreel storages copy cloud disk --recording 01902b6e"
)]
pub(super) struct Args {
    /// Name of the storage to read
    #[arg(value_name = "FROM")]
    from: String,
    /// Name of the storage to write
    #[arg(value_name = "TO")]
    to: String,
    /// Leave out objects that are there in the same size; without it every object is put again, which proves that the same
    /// bytes are there
    #[arg(long)]
    missing: bool,
    /// Only this recording (a unique begin of its id is enough)
    #[arg(long, value_name = "ID")]
    recording: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(at: &At, args: &Args) -> anyhow::Result<Outcome> {
    if args.from == args.to {
        return Err(UsageError(format!("{} can't be copied to itself", args.from)).into());
    }
    let rules = Rules::new(&at.loaded.config.retention).map_err(UsageError)?;
    let (from, to) = (at.storage(&args.from)?, at.storage(&args.to)?);
    let catalog = Catalog::open(&at.loaded.config.data_dir)?;
    let only = match &args.recording {
        None => None,
        Some(text) => match text.parse() {
            Ok(id) => Some(id),
            Err(_) => Some(catalog.session(text)?.id),
        },
    };
    let audit = Audit::open(&at.loaded.config).context("open the audit log")?;
    let tell = |phase, error: Option<String>, mut details: Map<String, Value>| {
        details.insert("from".to_owned(), args.from.clone().into());
        let event = Event::StorageCopy(Upkeep {
            phase,
            storage: args.to.clone(),
            success: error.is_none(),
            error,
            details,
        });
        audit.emit_or_fail(at.actor.clone(), &event)
    };
    tell(Phase::Begun, None, Map::new())?;
    let copier = Copier {
        handle: at.handle(),
        from: &from,
        to: &to,
        catalog: &catalog,
        rules: &rules,
        missing_only: args.missing,
        now: OffsetDateTime::now_utc(),
    };
    let outcome = copier.size(only).and_then(|bytes| {
        let bar = progress::bar(
            bytes,
            "copying {bar:40} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
        );
        let copied = copier.copy(only, &mut |bytes| {
            bar.inc(bytes);
            true
        });
        bar.finish_and_clear();
        copied
    });
    let error = match &outcome {
        Err(error) => Some(format!("{error:#}")),
        Ok(copied) if copied.failed > 0 => Some(format!("{} objects could not be copied", copied.failed)),
        Ok(_) => None,
    };
    let details = match outcome.as_ref().map(serde_json::to_value) {
        Ok(Ok(Value::Object(mut details))) => {
            details.remove("problems");
            details
        }
        _ => Map::new(),
    };
    tell(Phase::Done, error, details)?;
    let copied = outcome?;
    if only.is_some() && copied.objects + copied.present + copied.deleted == 0 {
        bail!("storage {} has nothing of that recording", args.from);
    }
    output::print(args.listing.format, &copied, text)?;
    Ok(if copied.failed == 0 {
        Outcome::Fine
    } else {
        Outcome::Findings
    })
}

fn text(copied: &Copied) -> String {
    let mut text = format!(
        "{} recordings: {} objects copied, {}; {} were there already\n",
        copied.recordings,
        copied.objects,
        size(copied.bytes),
        copied.present
    );
    for (count, what) in [
        (
            copied.open,
            "have no manifest yet: copy them again when they are closed",
        ),
        (copied.deleted, "are deleted in the catalog and were left out"),
    ] {
        if count > 0 {
            text.push_str(&format!("{count} {what}\n"));
        }
    }
    for problem in &copied.problems {
        text.push_str(&format!("NOT COPIED: {}\n", output::visible(problem)));
    }
    let more = copied.failed.saturating_sub(copied.problems.len() as u64);
    if more > 0 {
        text.push_str(&format!("and {more} more\n"));
    }
    text
}
