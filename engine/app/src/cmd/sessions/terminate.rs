//! `sessions terminate`.

use super::problem;
use crate::access::sudo_user;
use crate::cmd::{Global, Outcome};
use crate::control::client::ask_once;
use crate::control::protocol::{Answer, Request};

/// Arguments of `sessions terminate`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel sessions terminate 01902b6e --reason 'account is being investigated'")]
pub(super) struct Args {
    /// Id of the session (a unique begin is enough)
    id: String,
    /// Why; stands in the recording, the catalog and the audit log
    #[arg(long, value_name = "TEXT")]
    reason: String,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let data_dir = global.load()?.config.data_dir;
    let request = Request::Terminate {
        id: args.id.clone(),
        reason: args.reason.clone(),
        sudo_user: sudo_user(),
    };
    match ask_once(&data_dir, &request)? {
        Answer::Terminating { id } => {
            println!("{id} is ending");
            Ok(Outcome::Fine)
        }
        other => Err(problem(other)),
    }
}
