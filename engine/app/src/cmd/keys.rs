//! `deskreel keys`: the node's signing key.

use anyhow::bail;
use serde::Serialize;

use super::{Global, Listing, Outcome};
use crate::keys::{NodeKey, private_path};
use crate::output;

/// Arguments of `keys`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Print this node's public key and its fingerprint
    ///
    /// Give the public key to whoever verifies recordings elsewhere:
    ///
    ///   deskreel keys show > node.pub.pem
    ///   deskreel recordings verify DIR --public-key node.pub.pem
    #[command(verbatim_doc_comment)]
    Show {
        #[command(flatten)]
        listing: Listing,
    },
}

#[derive(Debug, Serialize)]
struct Shown {
    fingerprint: String,
    public_key: String,
}

/// Runs `keys`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let Command::Show { listing } = &args.command;
    let data_dir = &loaded.config.data_dir;
    let Some(key) = NodeKey::load(data_dir)? else {
        bail!(
            "no node key at {}: the gateway makes it when it first starts",
            private_path(data_dir).display()
        );
    };
    let shown = Shown {
        fingerprint: key.fingerprint(),
        public_key: key.public_pem()?,
    };
    // PEM readers skip text before the first BEGIN line, so the output as a whole is a key file.
    output::print(listing.format, &shown, |shown| {
        format!("fingerprint {}\n{}", shown.fingerprint, shown.public_key)
    })?;
    Ok(Outcome::Fine)
}
