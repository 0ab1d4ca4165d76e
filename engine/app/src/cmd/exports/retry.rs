//! `exports retry`.

use crate::catalog::ExportState;
use crate::cmd::{Global, Outcome};

/// Arguments of `exports retry`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel exports retry 01902b6e")]
pub(super) struct Args {
    /// Id of a recording (a unique begin is enough)
    #[arg(value_name = "ID")]
    recording: String,
    /// Only this exporter's
    #[arg(long, value_name = "NAME")]
    exporter: Option<String>,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let asked = super::ask(global, &args.recording, |_, row, exports| {
        let failed: Vec<String> = exports
            .iter()
            .filter(|export| export.state == ExportState::Failed)
            .filter(|export| args.exporter.as_ref().is_none_or(|name| *name == export.exporter))
            .map(|export| export.exporter.clone())
            .collect();
        anyhow::ensure!(!failed.is_empty(), "no export of recording {} has failed", row.id);
        Ok(failed)
    })?;
    for (row, exporter, _) in asked {
        println!("{}  {exporter}: queued, the gateway makes it", row.id);
    }
    Ok(Outcome::Fine)
}
