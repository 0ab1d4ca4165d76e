//! `deskreel who-can`: the users that may open a desktop.

use deskreel_policy::Verdict;
use serde::Serialize;
use time::OffsetDateTime;

use super::explain::{PROVEN, permit};
use super::{Global, Listing, Outcome};
use crate::access::{Ask, Who, look};
use crate::output;

/// Arguments of `who-can`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0 = somebody, 3 = nobody.\n\nExamples:\n  deskreel who-can --desktop lab\n  \
                        deskreel who-can --desktop lab --login root"
)]
pub(crate) struct Args {
    /// The desktop
    #[arg(long, value_name = "NAME")]
    desktop: String,
    /// With this account on it [default: with any]
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
struct Row {
    user: String,
    logins: Vec<String>,
    roles: Vec<String>,
}

/// Runs `who-can`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let now = OffsetDateTime::now_utc();
    let view = look(&loaded)?.view(now);
    permit(&Who::is(&loaded.config.data_dir), &view, "")?;
    if view.desktop(&args.desktop, now).is_none() {
        anyhow::bail!("there is no windows_desktop/{}", args.desktop);
    }
    let mut rows = Vec::new();
    for user in view.users.keys() {
        let decision = view.decide(&view.request(&Ask {
            user,
            identity: PROVEN,
            desktop: Some(&args.desktop),
            login: args.login.as_deref(),
            source: None,
            now,
            open_sessions: 0,
        }));
        let logins = match decision.verdict {
            Verdict::Allow => decision.login.into_iter().collect(),
            Verdict::NeedLogin => decision.logins,
            Verdict::Deny => continue,
        };
        rows.push(Row {
            user: user.clone(),
            logins,
            roles: decision.roles,
        });
    }
    output::print(args.listing.format, &rows, |rows| {
        let row = |row: &Row| vec![row.user.clone(), row.logins.join(", "), row.roles.join(", ")];
        let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
        output::table(&["USER", "LOGINS", "ROLES"], &rows)
    })?;
    if view.cluster.claimed_identity == deskreel_config::ClaimedIdentity::Allow {
        eprintln!(
            "deskreel: any other name may be claimed too, with the roles {} (access.claimed_identity is allow)",
            view.cluster.claimed_roles.join(", ")
        );
    }
    Ok(if rows.is_empty() {
        Outcome::Findings
    } else {
        Outcome::Fine
    })
}
