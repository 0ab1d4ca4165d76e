//! `plugins ls`.

use crate::cmd::{Global, Listing, Outcome};
use crate::host::{Listed, Plugins};
use crate::output;

/// Arguments of `plugins ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel plugins ls\n  deskreel plugins ls --format json | jq '.[].path'")]
pub(super) struct Args {
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let rows = Plugins::new(&loaded).list();
    output::print(args.listing.format, &rows, |rows| text(rows))?;
    let unusable = rows.iter().any(|row| row.problem.is_some());
    Ok(if unusable { Outcome::Findings } else { Outcome::Fine })
}

fn text(rows: &[Listed]) -> String {
    let or_dash = |text: Option<String>| text.filter(|text| !text.is_empty()).unwrap_or_else(|| "-".to_owned());
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            vec![
                or_dash(row.kind.map(|kind| kind.to_string())),
                row.name.clone(),
                or_dash(row.version.clone()),
                or_dash(row.abi.map(|abi| abi.to_string())),
                or_dash(row.sdk.clone()),
                or_dash(
                    row.rustc
                        .as_deref()
                        .and_then(|rustc| rustc.split(' ').next())
                        .map(str::to_owned),
                ),
                or_dash(Some(row.configured_as.join(" "))),
                or_dash(Some(row.path.display().to_string())),
                row.problem.clone().unwrap_or_else(|| "ok".to_owned()),
            ]
        })
        .collect();
    output::table(
        &[
            "KIND",
            "NAME",
            "VERSION",
            "ABI",
            "SDK",
            "RUSTC",
            "CONFIGURED AS",
            "PATH",
            "STATE",
        ],
        &cells,
    )
}
