//! `deskreel pins`: certificates of desktops that were trusted on first use.

use deskreel_config::ResourceKind;
use serde::Serialize;

use super::recordings::door::local;
use super::users::tell_change;
use super::{Global, Listing, Outcome};
use crate::access::Who;
use crate::gateway::pins::Pins;
use crate::output;

/// Arguments of `pins`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List what desktops showed first
    Ls {
        #[command(flatten)]
        listing: Listing,
    },
    /// Forget what desktops showed, as after their certificates were renewed
    ///
    /// Whatever answers at the desktop's address next is trusted, so look first: the log names the certificate that was refused.
    /// Or say which one is right, as spec.gateway.tls.sha256 of the desktop. A running gateway need not be stopped.
    ///
    /// Examples:
    ///   deskreel pins rm lab
    #[command(verbatim_doc_comment)]
    Rm {
        /// Names of desktops
        #[arg(required = true, value_name = "DESKTOP")]
        desktops: Vec<String>,
    },
}

#[derive(Debug, Serialize)]
struct Row {
    desktop: String,
    addr: String,
    sha256: String,
}

/// Runs `pins`.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    // who may not open the folder hears so
    let who = Who::is(&loaded.config.data_dir)?;
    let pins = Pins::open(&loaded.config.data_dir)?;
    match args.command {
        Command::Ls { listing } => {
            let rows = pins.all()?.into_iter().map(|(desktop, pin)| Row {
                desktop,
                addr: pin.addr,
                sha256: pin.sha256,
            });
            output::print(listing.format, &rows.collect::<Vec<_>>(), |rows| {
                let cells = |row: &Row| vec![row.desktop.clone(), row.addr.clone(), row.sha256.clone()];
                output::table(
                    &["DESKTOP", "ADDRESS", "SHA256"],
                    &rows.iter().map(cells).collect::<Vec<_>>(),
                )
            })?;
        }
        Command::Rm { mut desktops } => {
            desktops.sort();
            desktops.dedup();
            local(&loaded, "forget what a desktop showed")?;
            let known = pins.all()?;
            if let Some(desktop) = desktops.iter().find(|desktop| !known.contains_key(*desktop)) {
                anyhow::bail!("nothing is remembered of desktop {desktop}; `deskreel pins ls` lists what is");
            }
            for desktop in desktops {
                tell_change(&loaded, &who, (ResourceKind::WindowsDesktop, &desktop), "pin")?;
                let forgotten = pins.forget(&desktop, &known[&desktop])?;
                anyhow::ensure!(forgotten, "{desktop}: the pin has changed meanwhile; look again");
                println!("{desktop}: the next connection trusts what answers");
            }
        }
    }
    Ok(Outcome::Fine)
}
