//! `storages ls`.

use std::time::Instant;

use deskreel_config::Mode;
use serde::Serialize;
use time::OffsetDateTime;

use super::{At, ms};
use crate::catalog::Backlog;
use crate::cmd::recordings::size;
use crate::cmd::{Listing, Outcome};
use crate::keep::check::micros;
use crate::output;

/// Arguments of `storages ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel storages ls --format json | jq '.[] | select(.pending > 0) | .name'")]
pub(super) struct Args {
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    plugin: String,
    mode: &'static str,
    required: bool,
    /// Whether it can be used now.
    healthy: bool,
    /// How long it took to say so.
    check_micros: u64,
    /// Why not.
    problem: Option<String>,
    #[serde(flatten)]
    backlog: Backlog,
    /// When it was last looked through for what other nodes recorded.
    #[serde(with = "time::serde::rfc3339::option")]
    synced: Option<OffsetDateTime>,
    /// What hindered the last such look.
    sync_problem: Option<String>,
}

pub(super) fn run(at: &At, args: &Args) -> anyhow::Result<Outcome> {
    let catalog = at.catalog()?;
    let mut backlogs = catalog.backlogs()?;
    let mut syncs = catalog.syncs()?;
    let mut rows = Vec::new();
    for (config, opened) in at.loaded.config.storages.iter().zip(at.storages(&[])?) {
        let begun = Instant::now();
        let health = opened
            .storage
            .and_then(|storage| at.handle().block_on(storage.check()).map_err(|error| error.to_string()));
        let (synced, sync_problem) = syncs.remove(&config.name).unzip();
        rows.push(Row {
            name: config.name.clone(),
            plugin: config.plugin.clone(),
            mode: match config.mode {
                Mode::Sync => "sync",
                Mode::Async => "async",
            },
            required: config.required,
            healthy: health.is_ok(),
            check_micros: micros(begun.elapsed()),
            problem: health.err(),
            backlog: backlogs.remove(&config.name).unwrap_or_default(),
            synced: synced.filter(|at| *at > OffsetDateTime::UNIX_EPOCH),
            sync_problem: sync_problem.flatten(),
        });
    }
    output::print(args.listing.format, &rows, |rows| text(rows))?;
    for (name, backlog) in &backlogs {
        if backlog.stored > 0 {
            eprintln!(
                "deskreel: storage {name} is not configured any more, but the catalog has {} objects there",
                backlog.stored
            );
        }
    }
    let all = rows.iter().all(|row| row.healthy);
    Ok(if all { Outcome::Fine } else { Outcome::Findings })
}

fn text(rows: &[Row]) -> String {
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            let health = match &row.problem {
                None => format!("healthy ({})", ms(row.check_micros)),
                Some(problem) => problem.clone(),
            };
            let pending = match row.backlog.pending {
                0 => "-".to_owned(),
                pending => format!("{pending} objects, {}", size(row.backlog.pending_bytes)),
            };
            vec![
                row.name.clone(),
                row.plugin.clone(),
                row.mode.to_owned(),
                if row.required { "yes" } else { "no" }.to_owned(),
                format!("{} objects", row.backlog.stored),
                pending,
                row.backlog.failed.to_string(),
                row.synced.map_or_else(|| "-".to_owned(), output::utc),
                health,
            ]
        })
        .collect();
    let header = [
        "NAME", "PLUGIN", "MODE", "REQUIRED", "STORED", "PENDING", "REFUSED", "SYNCED", "HEALTH",
    ];
    output::table(&header, &cells)
}
