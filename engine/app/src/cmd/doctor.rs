//! `deskreel doctor`: is this node as it should be?

use super::{Global, Listing, Outcome};
use crate::access::Who;
use crate::doctor::{Finding, Report, State, examine};
use crate::output::{self, visible};

/// Arguments of `doctor`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Looks at configuration, resources, files and keys, disks, catalog, audit log, clock, certificates, ports, \
                  storages, exporters and the running gateway. Changes nothing. Every finding says what to do.\n\nExit code 0 = all is well, 2 = the \
                  configuration or its resources can't be loaded, 3 = other findings, 4 = catalog or audit log are not as \
                  they were written.\n\nExamples:\n  deskreel doctor\n  deskreel doctor --format json | jq '.findings[] | \
                  select(.state != \"ok\")'"
)]
pub(crate) struct Args {
    #[command(flatten)]
    listing: Listing,
}

/// Checks that are about what an operator wrote.
const WRITTEN: [&str; 2] = ["configuration", "resources"];

/// Runs `doctor`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let mut report = Report::new();
    match global.load() {
        Ok(loaded) => {
            report.ok("configuration", global.file_and_why(&loaded));
            match Who::is(&loaded.config.data_dir) {
                Ok(_) => examine(&loaded, &mut report),
                // what it can't see, it would take for absent
                Err(error) => report.error(
                    "account",
                    format!("{error:#}"),
                    "run doctor as that account. Nothing else was looked at",
                ),
            }
        }
        Err(error) => {
            for line in format!("{error:#}").lines() {
                report.error(
                    "configuration",
                    line,
                    "mend it there; docs/configuration.md has every key. Nothing else was looked at",
                );
            }
        }
    }
    output::print(args.listing.format, &report, text)?;
    Ok(outcome(&report))
}

fn outcome(report: &Report) -> Outcome {
    let unloaded = |finding: &Finding| finding.state == State::Error && WRITTEN.contains(&finding.check);
    if report.count(State::Broken) > 0 {
        Outcome::Broken
    } else if report.findings.iter().any(unloaded) {
        Outcome::Misconfigured
    } else if report.count(State::Error) + report.count(State::Warning) > 0 {
        Outcome::Findings
    } else {
        Outcome::Fine
    }
}

fn text(report: &Report) -> String {
    let mut text = String::new();
    for Finding {
        check,
        state,
        what,
        remedy,
    } in &report.findings
    {
        let state = match state {
            State::Ok => "ok",
            State::Warning => "warning",
            State::Error => "error",
            State::Broken => "broken",
        };
        text.push_str(&format!("{state:<8} {check:<14} {}\n", visible(what)));
        if let Some(remedy) = remedy {
            text.push_str(&format!("{:<8} {:<14} -> {}\n", "", "", visible(remedy)));
        }
    }
    let bad = report.count(State::Error) + report.count(State::Broken);
    let counted = format!("{bad} errors, {} warnings\n", report.count(State::Warning));
    text + &counted
}
