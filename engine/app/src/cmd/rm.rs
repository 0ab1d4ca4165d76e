//! `deskreel rm`: removes a resource; what is built in comes back.

use super::change::Changer;
use super::get::parse;
use super::{Global, Outcome, UsageError};

/// Arguments of `rm`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel rm role/dev\n  deskreel rm lock/6f1c2e\n  \
                        deskreel rm session_recording_config      back to what is built in")]
pub(crate) struct Args {
    /// What to remove
    #[arg(value_name = "KIND/NAME", required = true)]
    what: Vec<String>,
}

/// Runs `rm`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let mut wanted = Vec::new();
    for what in &args.what {
        match parse(what)? {
            (kind, Some(name)) => wanted.push((kind, name)),
            (kind, None) => return Err(UsageError(format!("{what}: write {kind}/NAME")).into()),
        }
    }
    let changer = Changer::open(global)?;
    for (kind, name) in &wanted {
        changer.can_remove(*kind, name)?;
    }
    for (kind, name) in wanted {
        changer.remove(kind, &name)?;
    }
    Ok(Outcome::Fine)
}
