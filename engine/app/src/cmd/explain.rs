//! `deskreel explain`: a Decision with every vote and reason, from the function that the gateway asks.

use std::path::PathBuf;

use anyhow::bail;
use deskreel_config::{Loaded, ResourceKind};
use deskreel_policy::{AccessRequest, Identity, ProvenBy, UserFacts, Verb, Verdict, render};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::change::{lines, warn};
use super::create;
use super::recordings::door::Rules;
use super::{Global, Listing, Outcome, UsageError};
use crate::access::recordings::{Asker, Ruler, facts};
use crate::access::{Ask, Snapshot, View, Who, check, look};
use crate::output;

/// Arguments of `explain`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit code 0 = allowed, 3 = denied.\n\nExamples:\n  \
                        deskreel explain --user alice --desktop lab\n  \
                        deskreel explain --user alice --desktop lab --login root --file new-roles.yaml\n  \
                        deskreel explain --user alice --recording ID --verb export")]
pub(crate) struct Args {
    /// Who asks
    #[arg(long, value_name = "NAME")]
    user: String,
    /// For which desktop
    #[arg(long, value_name = "NAME", required_unless_present = "recording")]
    desktop: Option<String>,
    /// For which recording, instead of a desktop
    #[arg(long, value_name = "ID", conflicts_with_all = ["desktop", "login"], requires = "verb")]
    recording: Option<String>,
    /// What for: list, read, export, download, watch, terminate or delete
    #[arg(long, value_name = "VERB", requires = "recording", value_parser = verb)]
    verb: Option<Verb>,
    /// With which account on it [default: not known yet]
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// When, as 2026-03-01T00:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// With this role too; may be repeated
    #[arg(long, value_name = "NAME")]
    role: Vec<String>,
    /// Without this role; may be repeated
    #[arg(long, value_name = "NAME")]
    without_role: Vec<String>,
    /// With the resources of this file in place of those of the same names; may be repeated
    #[arg(long, value_name = "FILE")]
    file: Vec<PathBuf>,
    /// Nothing proves the name but what the client says
    #[arg(long)]
    claimed: bool,
    /// Open sessions of the user
    #[arg(long, value_name = "N", default_value_t = 0)]
    open_sessions: u32,
    #[command(flatten)]
    listing: Listing,
}

/// A time as people write it.
///
/// # Errors
/// It is none.
pub(super) fn time(text: Option<&str>) -> anyhow::Result<OffsetDateTime> {
    match text {
        None => Ok(OffsetDateTime::now_utc()),
        Some(text) => OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| UsageError(format!("--at {text}: write it as 2026-03-01T00:00:00Z")).into()),
    }
}

/// What would be in force with the resources of `files`.
///
/// # Errors
/// Something is wrong with them.
pub(super) fn with_files(snapshot: Snapshot, files: &[PathBuf]) -> anyhow::Result<Snapshot> {
    let mut documents = Vec::new();
    for file in files {
        documents.extend(create::read(file, false)?.documents);
    }
    let refs: Vec<_> = documents.iter().collect();
    let found = check(&refs, &snapshot, OffsetDateTime::now_utc());
    if !found.errors.is_empty() {
        return Err(UsageError(lines(&found.errors)).into());
    }
    warn(&found.warnings);
    Ok(if documents.is_empty() {
        snapshot
    } else {
        snapshot.with(documents)
    })
}

/// Identity of somebody who logs on with a password.
pub(super) const PROVEN: Identity = Identity::Proven { by: ProvenBy::Password };

/// Runs `explain`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let now = time(args.at.as_deref())?;
    let snapshot = look(&loaded)?;
    // with other roles than one's own, the answer tells what those say
    let proposes = !(args.role.is_empty() && args.without_role.is_empty() && args.file.is_empty());
    let who = Who::is(&loaded.config.data_dir)?;
    permit(
        &who,
        &snapshot.view(OffsetDateTime::now_utc()),
        if proposes { "" } else { &args.user },
    )?;
    let view = with_files(snapshot, &args.file)?.view(now);
    if matches!(who, Who::Local { .. }) {
        // a role that can't be read shows in a Decision as one that denies everything
        for problem in &view.problems {
            eprintln!("deskreel: warning: {}", output::visible(problem));
        }
    }
    if let (Some(id), Some(verb)) = (&args.recording, args.verb) {
        return recording(&loaded, &view, args, id, verb, now);
    }
    let request = request(&view, args, now);
    if !args.claimed && !request.user.exists && view.cluster.claimed_identity == deskreel_config::ClaimedIdentity::Allow
    {
        eprintln!(
            "deskreel: there is no user {:?}; --claimed asks for the name as the gateway sees it when nothing proves it",
            args.user
        );
    }
    let decision = view.decide(&request);
    output::print(args.listing.format, &decision, render)?;
    Ok(match decision.verdict {
        Verdict::Allow | Verdict::NeedLogin => Outcome::Fine,
        Verdict::Deny => Outcome::Findings,
    })
}

fn request(view: &View, args: &Args, now: OffsetDateTime) -> AccessRequest {
    let mut request = view.request(&Ask {
        user: &args.user,
        identity: if args.claimed { Identity::Claimed } else { PROVEN },
        desktop: args.desktop.as_deref(),
        login: args.login.as_deref(),
        source: None,
        now,
        open_sessions: args.open_sessions,
    });
    change_roles(&mut request.user, args);
    request
}

fn change_roles(user: &mut UserFacts, args: &Args) {
    user.roles.extend(args.role.iter().cloned());
    user.roles.retain(|role| !args.without_role.contains(role));
}

/// The rule that decides about a recording.
fn recording(
    loaded: &Loaded,
    view: &View,
    args: &Args,
    id: &str,
    verb: Verb,
    now: OffsetDateTime,
) -> anyhow::Result<Outcome> {
    let row = Rules::open(loaded)?.known(loaded, id)?;
    let mut user = view.user(&args.user, if args.claimed { Identity::Claimed } else { PROVEN });
    change_roles(&mut user, args);
    let ruler = Ruler {
        asker: &Asker::User(user),
        roles: &view.roles,
        locks: &view.locks(),
        unavailable: view.unavailable.as_deref(),
    };
    let decision = ruler.may(verb, &facts(&row), now);
    output::print(args.listing.format, &decision, |decision| {
        let verdict = if decision.allowed { "allow" } else { "deny" };
        let rule = match (&decision.role, &decision.rule) {
            (Some(role), Some(rule)) => format!(" by role {role}, {rule}"),
            _ => String::new(),
        };
        format!("{verdict}{rule}: {}\n", decision.why)
    })?;
    Ok(if decision.allowed {
        Outcome::Fine
    } else {
        Outcome::Findings
    })
}

/// A verb as people write it.
///
/// # Errors
/// It is none of a recording's.
pub(super) fn verb(word: &str) -> Result<Verb, String> {
    const WORDS: &str = "list, read, export, download, watch, terminate, delete";
    if !WORDS.split(", ").any(|known| known == word) {
        return Err(format!("is not one of: {WORDS}"));
    }
    serde_json::from_value(word.into()).map_err(|error| error.to_string())
}

/// Who may read users and roles may ask about others; everybody about oneself.
pub(super) fn permit(who: &Who, view: &View, user: &str) -> anyhow::Result<()> {
    if matches!(who, Who::User(name) if name == user) {
        return Ok(());
    }
    for kind in [ResourceKind::User, ResourceKind::Role] {
        if let Err(why) = who.may(view, kind, Verb::Read, None) {
            bail!("{} may not ask about others: {why}", who.name());
        }
    }
    Ok(())
}
