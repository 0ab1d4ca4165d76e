//! `deskreel plugins`: what plugins there are.

use clap::Subcommand;

use super::{Global, Listing, Outcome};
use crate::host::{Listed, Plugins};
use crate::output;

/// Arguments of `deskreel plugins`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the plugin files that are found and those that the configuration names, without running any
    ///
    /// Exit code 3 when one of them can't be used; the last column says why.
    #[command(after_help = "Examples:\n  deskreel plugins ls\n  deskreel plugins ls --format json | jq '.[].path'")]
    Ls {
        #[command(flatten)]
        listing: Listing,
    },
}

/// Runs the command.
///
/// # Errors
/// A configuration that can't be read, a closed stdout.
#[expect(clippy::needless_pass_by_value, reason = "as the other commands take theirs")]
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    let Command::Ls { listing } = args.command;
    let loaded = global.load()?;
    let rows = Plugins::new(&loaded).list();
    output::print(listing.format, &rows, |rows| text(rows))?;
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
