//! `recordings purge`.

use std::cell::Cell;

use anyhow::bail;
use deskreel_policy::Verb;
use time::OffsetDateTime;

use super::door::Door;
use super::target::runtime;
use super::{moment, rm, size};
use crate::access::recordings::facts;
use crate::catalog::{Catalog, SessionRow};
use crate::cmd::{Global, Listing, Outcome, UsageError};
use crate::keep::erase::Eraser;
use crate::keep::open_all;
use crate::keep::purge::{Due, Purged, due, purge};
use crate::keep::retention::Rules;
use crate::output;

/// Arguments of `recordings purge`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel recordings purge --dry-run\n  \
    deskreel recordings purge --dry-run --at 2027-01-01\n  deskreel recordings purge --yes --max 1000")]
pub(super) struct Args {
    /// Only list what would be deleted
    #[arg(long)]
    dry_run: bool,
    /// List what would be deleted then: 2027-01-01, RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::since, requires = "dry_run")]
    at: Option<OffsetDateTime>,
    /// Delete so many at most [default: retention.purge_batch_max]
    #[arg(long, value_name = "N", conflicts_with = "dry_run")]
    max: Option<usize>,
    /// Don't ask
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load_quietly()?;
    let rules = Rules::new(&loaded.config.retention).map_err(UsageError)?;
    let door = Door::open(&loaded)?;
    let gate = door.gate();
    let now = OffsetDateTime::now_utc();
    let at = args.at.unwrap_or(now);
    let max = match args.dry_run {
        true => usize::MAX,
        false => args.max.unwrap_or(loaded.config.retention.purge_batch_max as usize),
    };
    let theirs = Cell::new(0);
    let wanted = |row: &SessionRow| {
        let session = facts(row);
        // of what the asker may not know of, not even the number is told
        let known = gate.ruler.knows(&session, now);
        let allowed = known && gate.ruler.may(Verb::Delete, &session, now).allowed;
        theirs.set(theirs.get() + usize::from(known && !allowed));
        allowed
    };
    let due = due(gate.catalog, &rules, at, max, wanted)?;
    let theirs = theirs.get();
    if theirs > 0 {
        eprintln!(
            "deskreel: {theirs} more are due, but the rules don't let {} delete them",
            gate.actor.user
        );
    }
    if args.dry_run {
        output::print(args.listing.format, &due, |due| text(due))?;
        return Ok(Outcome::Fine);
    }
    if due.is_empty() {
        output::print(args.listing.format, &Vec::<Purged>::new(), |_| {
            "nothing is due\n".to_owned()
        })?;
        return Ok(Outcome::Fine);
    }
    let bytes: u64 = due.iter().map(|due| due.bytes).sum();
    let question = format!("Delete {} recordings, {}, from all storages?", due.len(), size(bytes));
    if !args.yes && !rm::asked(&question)? {
        bail!("nothing was deleted");
    }
    let catalog = Catalog::open_beside(&loaded.config.data_dir)?;
    let runtime = runtime()?;
    let storages = open_all(&loaded, runtime.handle());
    let eraser = Eraser {
        handle: runtime.handle(),
        catalog: &catalog,
        storages: &storages,
        spool: &loaded.config.spool.path,
    };
    let mut purged = Vec::new();
    for due in due {
        purged.push(purge(&eraser, gate.audit, &gate.actor, due, now)?);
    }
    output::print(args.listing.format, &purged, |purged| done(purged))?;
    let refused = purged.iter().filter(|purged| purged.error.is_some()).count();
    Ok(if refused == 0 { Outcome::Fine } else { Outcome::Findings })
}

fn text(due: &[Due]) -> String {
    let bytes: u64 = due.iter().map(|due| due.bytes).sum();
    let cells: Vec<Vec<String>> = due
        .iter()
        .map(|due| {
            vec![
                due.id.to_string(),
                output::utc(due.ended),
                output::utc(due.kept_until),
                due.user.clone(),
                due.desktop.clone(),
                size(due.bytes),
                due.rule.clone(),
                due.problem.clone().unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    let table = output::table(
        &[
            "ID",
            "ENDED",
            "KEPT UNTIL",
            "USER",
            "DESKTOP",
            "SIZE",
            "RULE",
            "PROBLEM",
        ],
        &cells,
    );
    format!(
        "{table}{} recordings, {}; nothing was deleted\n",
        due.len(),
        size(bytes)
    )
}

fn done(purged: &[Purged]) -> String {
    let (mut deleted, mut bytes) = (0, 0);
    let mut lines = String::new();
    for purged in purged {
        match &purged.error {
            None => {
                deleted += 1;
                bytes += purged.due.bytes;
                lines.push_str(&format!("{} deleted\n", purged.due.id));
            }
            Some(error) => lines.push_str(&format!("{} NOT DELETED: {}\n", purged.due.id, output::visible(error))),
        }
    }
    format!("{lines}{deleted} recordings deleted, {}\n", size(bytes))
}
