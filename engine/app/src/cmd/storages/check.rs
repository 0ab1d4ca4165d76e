//! `storages check`.

use serde::Serialize;

use super::{At, ms};
use crate::cmd::{Listing, Outcome};
use crate::keep::check::{Step, check};
use crate::output;

/// Arguments of `storages check`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel storages check\n  deskreel storages check cloud")]
pub(super) struct Args {
    /// Names of storages [default: all]
    #[arg(value_name = "NAME")]
    names: Vec<String>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
struct Checked {
    storage: String,
    ok: bool,
    /// Why it can't even be opened.
    problem: Option<String>,
    steps: Vec<Step>,
}

pub(super) fn run(at: &At, args: &Args) -> anyhow::Result<Outcome> {
    let mut checked = Vec::new();
    for opened in at.storages(&args.names)? {
        let (steps, problem) = match &opened.storage {
            Ok(storage) => (check(at.handle(), storage), None),
            Err(error) => (Vec::new(), Some(error.clone())),
        };
        checked.push(Checked {
            storage: opened.name,
            ok: problem.is_none() && steps.iter().all(|step| step.ok),
            problem,
            steps,
        });
    }
    output::print(args.listing.format, &checked, |checked| text(checked))?;
    let all = checked.iter().all(|checked| checked.ok);
    Ok(if all { Outcome::Fine } else { Outcome::Findings })
}

fn text(checked: &[Checked]) -> String {
    let mut cells = Vec::new();
    for checked in checked {
        if let Some(problem) = &checked.problem {
            cells.push(vec![
                checked.storage.clone(),
                "open".to_owned(),
                "FAILED".to_owned(),
                "-".to_owned(),
                problem.clone(),
            ]);
        }
        for step in &checked.steps {
            cells.push(vec![
                checked.storage.clone(),
                step.step.to_owned(),
                if step.ok { "ok" } else { "FAILED" }.to_owned(),
                ms(step.micros),
                step.problem.clone().unwrap_or_else(|| "-".to_owned()),
            ]);
        }
    }
    output::table(&["STORAGE", "STEP", "RESULT", "TOOK", "PROBLEM"], &cells)
}
