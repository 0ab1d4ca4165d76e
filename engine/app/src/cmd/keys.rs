//! `deskreel keys`: the node's signing key.

use std::path::Path;

use anyhow::bail;
use serde::Serialize;

use super::{Global, Listing, Outcome};
use crate::access::Who;
use crate::keys::{NodeKey, private_path};
use crate::output;
use crate::pipeline::FolderLock;

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
    /// Make a node key where the old one is lost
    ///
    /// The gateway makes its key by itself when it first starts. When the key is missing later, it refuses to start: put
    /// the key back from a backup if there is one. With a new key, older recordings verify only with the old public key,
    /// and those that were not closed are reported as damaged.
    New,
}

#[derive(Debug, Serialize)]
struct Shown {
    fingerprint: String,
    public_key: String,
}

/// Runs `keys`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let data_dir = &loaded.config.data_dir;
    Who::is(data_dir)?;
    let listing = match &args.command {
        Command::Show { listing } => listing,
        Command::New => return new(data_dir),
    };
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

fn new(data_dir: &Path) -> anyhow::Result<Outcome> {
    let path = private_path(data_dir);
    let _lock = FolderLock::take("data_dir", data_dir)?;
    if NodeKey::load(data_dir)?.is_some() {
        bail!("there is a node key at {}: it is not replaced", path.display());
    }
    let key = NodeKey::load_or_create(data_dir)?;
    println!("made {}, fingerprint {}", path.display(), key.fingerprint());
    Ok(Outcome::Fine)
}
