//! `exports add`.

use crate::cmd::{Global, Outcome, UsageError};

/// Arguments of `exports add`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel exports add 01902b6e --exporter mp4")]
pub(super) struct Args {
    /// Id of a recording (a unique begin is enough)
    #[arg(value_name = "ID")]
    recording: String,
    /// The exporter of the configuration; may be repeated
    #[arg(long, value_name = "NAME", required = true)]
    exporter: Vec<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let asked = super::ask(global, &args.recording, |loaded, _, _| {
        let known: Vec<&str> = loaded
            .config
            .exporters
            .iter()
            .map(|known| known.name.as_str())
            .collect();
        match args.exporter.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(UsageError(format!("--exporter {name}: configured are {}", known.join(", "))).into()),
            None => Ok(args.exporter.clone()),
        }
    })?;
    for (row, exporter, new) in asked {
        if new {
            println!("{}  {exporter}: queued, the gateway makes it", row.id);
        } else {
            println!("{}  {exporter}: is there or under way already", row.id);
        }
    }
    Ok(Outcome::Fine)
}
