//! `deskreel who-can`: the users that may open a desktop, or do something with a recording.

use deskreel_config::Loaded;
use deskreel_policy::{Verb, Verdict};
use serde::Serialize;
use time::OffsetDateTime;

use super::explain::{PROVEN, permit, verb};
use super::recordings::door::Rules;
use super::{Global, Listing, Outcome};
use crate::access::recordings::{Asker, Ruler, facts};
use crate::access::{Ask, View, Who, look};
use crate::output;

/// Arguments of `who-can`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit code 0 = somebody, 3 = nobody.\n\nExamples:\n  deskreel who-can --desktop lab\n  \
                        deskreel who-can --desktop lab --login root\n  \
                        deskreel who-can --recording ID --verb export"
)]
pub(crate) struct Args {
    /// Who may open this desktop
    #[arg(long, value_name = "NAME", required_unless_present = "recording")]
    desktop: Option<String>,
    /// Who may do something with this recording, instead of a desktop
    #[arg(long, value_name = "ID", conflicts_with_all = ["desktop", "login"], requires = "verb")]
    recording: Option<String>,
    /// What: list, read, export, download, watch, terminate or delete
    #[arg(long, value_name = "VERB", requires = "recording", value_parser = verb)]
    verb: Option<Verb>,
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
    /// The roles, or the one that decided.
    by: String,
}

/// Runs `who-can`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let now = OffsetDateTime::now_utc();
    let view = look(&loaded)?.view(now);
    permit(&Who::is(&loaded.config.data_dir)?, &view, "")?;
    let rows = match (&args.desktop, &args.recording, args.verb) {
        (Some(desktop), ..) => of_desktop(&view, desktop, args.login.as_deref(), now)?,
        (None, Some(id), Some(verb)) => of_recording(&loaded, &view, id, verb, now)?,
        // the flags' own rules leave no other
        _ => Vec::new(),
    };
    output::print(args.listing.format, &rows, |rows| {
        let row = |row: &Row| vec![row.user.clone(), row.logins.join(", "), row.by.clone()];
        let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
        output::table(&["USER", "LOGINS", "ROLES"], &rows)
    })?;
    if args.desktop.is_some() && view.cluster.claimed_identity == deskreel_config::ClaimedIdentity::Allow {
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

fn of_desktop(view: &View, desktop: &str, login: Option<&str>, now: OffsetDateTime) -> anyhow::Result<Vec<Row>> {
    if view.desktop(desktop, now).is_none() {
        anyhow::bail!("there is no windows_desktop/{desktop}");
    }
    let mut rows = Vec::new();
    for user in view.users.keys() {
        let decision = view.decide(&view.request(&Ask {
            user,
            identity: PROVEN,
            desktop: Some(desktop),
            login,
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
            by: decision.roles.join(", "),
            logins,
        });
    }
    Ok(rows)
}

fn of_recording(loaded: &Loaded, view: &View, id: &str, verb: Verb, now: OffsetDateTime) -> anyhow::Result<Vec<Row>> {
    let session = facts(&Rules::open(loaded)?.known(loaded, id)?);
    let mut rows = Vec::new();
    for user in view.users.keys() {
        let ruler = Ruler {
            asker: &Asker::User(view.user(user, PROVEN)),
            roles: &view.roles,
            locks: &view.locks(),
            unavailable: view.unavailable.as_deref(),
        };
        let decision = ruler.may(verb, &session, now);
        if decision.allowed {
            rows.push(Row {
                user: user.clone(),
                logins: Vec::new(),
                by: decision.role.unwrap_or_default(),
            });
        }
    }
    Ok(rows)
}
