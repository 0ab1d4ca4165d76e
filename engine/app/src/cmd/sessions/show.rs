//! `sessions show`.

use super::{problem, recording, span};
use crate::cmd::{Global, Listing, Outcome};
use crate::control::client::ask_once;
use crate::control::protocol::{Answer, Request};
use crate::output;

/// Arguments of `sessions show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel sessions show 01902b6e")]
pub(super) struct Args {
    /// Id of the session (a unique begin is enough)
    id: String,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let data_dir = global.load()?.config.data_dir;
    let request = Request::Show { id: args.id.clone() };
    let session = match ask_once(&data_dir, &request)? {
        Answer::Session { session } => session,
        other => return Err(problem(other)),
    };
    output::print(args.listing.format, &session, |session| {
        let rows = [
            ("session", session.id.to_string()),
            ("user", format!("{} ({})", session.user, session.identity)),
            ("roles", session.roles.join(", ")),
            ("login", session.login.clone()),
            ("desktop", format!("{} at {}", session.desktop, session.desktop_addr)),
            ("client", format!("{} at {}", session.client_name, session.client_addr)),
            ("runs", span(session.duration_ms)),
            ("idle", span(session.idle_ms)),
            ("recording", recording(session)),
        ];
        let rows = rows.iter().map(|(name, value)| format!("{name:<10} {value}"));
        rows.collect::<Vec<_>>().join("\n")
    })?;
    Ok(Outcome::Fine)
}
