//! `storages bench`.

use super::At;
use crate::cmd::{Listing, Outcome};
use crate::keep::bench::{Load, Measured, bench};
use crate::output;

/// Arguments of `storages bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel storages bench disk --objects 64 --mib 4 --concurrency 8")]
pub(super) struct Args {
    /// Name of the storage
    #[arg(value_name = "NAME")]
    name: String,
    /// Objects that are written, read and deleted
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    objects: u32,
    /// Size of each in MiB
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=256))]
    mib: u64,
    /// How many at a time [default: as many as the plugin likes]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=256))]
    concurrency: Option<u32>,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(at: &At, args: &Args) -> anyhow::Result<Outcome> {
    let storage = at.storage(&args.name)?;
    let concurrency = args.concurrency.map_or(storage.profile.concurrency.into(), u64::from);
    let load = Load {
        objects: args.objects,
        size: args.mib << 20,
        concurrency: usize::try_from(concurrency).unwrap_or(1).max(1),
    };
    let measured = bench(at.handle(), &storage, load)?;
    output::print(args.listing.format, &measured, |measured| text(measured, load))?;
    Ok(Outcome::Fine)
}

fn text(measured: &[Measured], load: Load) -> String {
    let cells: Vec<Vec<String>> = measured
        .iter()
        .map(|row| {
            vec![
                row.operation.to_owned(),
                row.count.to_string(),
                row.mib_per_second
                    .map_or_else(|| "-".to_owned(), |mib| format!("{mib:.1} MiB/s")),
                format!("{:.1} ms", row.p50_ms),
                format!("{:.1} ms", row.p90_ms),
                format!("{:.1} ms", row.p99_ms),
                format!("{:.1} ms", row.max_ms),
            ]
        })
        .collect();
    let header = ["OPERATION", "COUNT", "THROUGHPUT", "P50", "P90", "P99", "MAX"];
    let table = output::table(&header, &cells);
    format!("{} MiB each, {} at a time\n{table}", load.size >> 20, load.concurrency)
}
