//! `deskreel users`: local users.

use std::collections::BTreeMap;
use std::path::Path;

use deskreel_config::{Loaded, Resource, ResourceKind, read_stored};
use deskreel_policy::Verb;
use serde::Serialize;
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::change::Changer;
use super::{Global, Listing, Outcome, UsageError};
use crate::access::{Snapshot, Who, look};
use crate::audit::{Audit, Event, ResourceChange, ResourceVerb};
use crate::credentials::{Credentials, read_new_password};
use crate::{dumps, output};

/// Arguments of `users`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Add a user
    ///
    /// Examples:
    ///   deskreel users add alice --roles access,dev --logins alice,root
    ///   deskreel users add bob --roles access --trait teams=blue --password
    #[command(verbatim_doc_comment)]
    Add(Add),
    /// Set a user's password: asked for on a terminal, else the first line of standard input
    Passwd {
        /// The user
        name: String,
    },
    /// List users
    Ls {
        #[command(flatten)]
        listing: Listing,
    },
    /// Remove users, their passwords and their tickets
    Rm {
        /// The users
        #[arg(required = true, value_name = "NAME")]
        names: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Add {
    /// Name of the user
    name: String,
    /// Roles, divided by commas
    #[arg(long, value_delimiter = ',', value_name = "ROLES", required = true)]
    roles: Vec<String>,
    /// Accounts on desktops (the trait windows_logins), divided by commas
    #[arg(long, visible_alias = "windows-logins", value_delimiter = ',', value_name = "LOGINS")]
    logins: Vec<String>,
    /// A trait; may be repeated
    #[arg(long = "trait", value_name = "NAME=VALUE[,VALUE]")]
    traits: Vec<String>,
    /// Also set a password, as `users passwd` does
    #[arg(long)]
    password: bool,
}

/// Runs `users`.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    dumps::forbid()?;
    match args.command {
        Command::Add(args) => add(global, &args)?,
        Command::Passwd { name } => passwd(global, &name)?,
        Command::Ls { listing } => ls(global, listing)?,
        Command::Rm { names } => {
            let changer = Changer::open(global)?;
            for name in &names {
                changer.can_remove(ResourceKind::User, name)?;
            }
            for name in names {
                changer.remove(ResourceKind::User, &name)?;
            }
        }
    }
    Ok(Outcome::Fine)
}

fn add(global: &Global, args: &Add) -> anyhow::Result<()> {
    let mut traits: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    if !args.logins.is_empty() {
        traits.insert("windows_logins", args.logins.iter().map(String::as_str).collect());
    }
    for one in &args.traits {
        let Some((name, values)) = one.split_once('=').filter(|(name, _)| !name.is_empty()) else {
            return Err(UsageError(format!("--trait {one}: write it as NAME=VALUE")).into());
        };
        traits.entry(name).or_default().extend(values.split(','));
    }
    let source = json!({
        "kind": ResourceKind::User.as_str(),
        "version": ResourceKind::User.version(),
        "metadata": {"name": args.name},
        "spec": {"roles": args.roles, "traits": traits},
    });
    let document = read_stored(&source, Path::new("/")).map_err(|errors| UsageError(errors.to_string()))?;
    // a password that can't be read must not leave half a user
    let password = args.password.then(|| read_new_password(&args.name)).transpose()?;
    let changer = Changer::open(global)?;
    changer.add(document)?;
    if let Some(password) = password {
        Credentials::open(&changer.loaded.config.data_dir)?.set_password(&args.name, &password)?;
        println!("password of {} set", args.name);
    }
    Ok(())
}

fn passwd(global: &Global, name: &str) -> anyhow::Result<()> {
    let loaded = global.load()?;
    let snapshot = look(&loaded)?;
    let who = may_change(&loaded, &snapshot, name)?;
    if !snapshot.view(OffsetDateTime::now_utc()).users.contains_key(name) {
        anyhow::bail!("there is no user/{name}");
    }
    let password = read_new_password(name)?;
    tell_change(&loaded, &who, (ResourceKind::User, name), "password")?;
    Credentials::open(&loaded.config.data_dir)?.set_password(name, &password)?;
    println!("password of {name} set");
    Ok(())
}

/// Who is at the command line, if they may change what a user logs on with.
pub(super) fn may_change(loaded: &Loaded, snapshot: &Snapshot, user: &str) -> anyhow::Result<Who> {
    let who = Who::is(&loaded.config.data_dir)?;
    let entry = snapshot.entries.get(&(ResourceKind::User, user.to_owned()));
    let object = entry.map(|entry| snapshot.object(&entry.document, entry.origin));
    let view = snapshot.view(OffsetDateTime::now_utc());
    if let Err(why) = who.may(&view, ResourceKind::User, Verb::Update, object.as_ref()) {
        anyhow::bail!("{} may not change user/{user}: {why}", who.name());
    }
    Ok(who)
}

/// Writes the event of a change of something that belongs to a resource and is kept apart from it, as what a user logs on
/// with; where it can't be written, nothing may change.
pub(super) fn tell_change(
    loaded: &Loaded,
    who: &Who,
    (kind, name): (ResourceKind, &str),
    what: &str,
) -> anyhow::Result<()> {
    let event = Event::Resource(ResourceChange {
        kind: kind.into(),
        verb: ResourceVerb::Updated,
        name: name.to_owned(),
        origin: "dynamic".to_owned(),
        changed: vec![what.to_owned()],
    });
    Audit::open(&loaded.config)?.emit_or_fail(who.actor(), &event)?;
    Ok(())
}

#[derive(Debug, Serialize)]
struct Row {
    name: String,
    roles: Vec<String>,
    traits: BTreeMap<String, Vec<String>>,
    origin: String,
    has_password: bool,
    locked: bool,
    expires: Option<String>,
}

fn ls(global: &Global, listing: Listing) -> anyhow::Result<()> {
    let loaded = global.load()?;
    let snapshot = look(&loaded)?;
    let view = snapshot.view(OffsetDateTime::now_utc());
    let who = Who::is(&loaded.config.data_dir)?;
    let credentials = Credentials::open(&loaded.config.data_dir)
        .inspect_err(|error| eprintln!("deskreel: warning: who has a password can't be told: {error:#}"))
        .ok();
    let mut rows = Vec::new();
    let mut hidden = None;
    for entry in snapshot.entries.values() {
        let Resource::User(user) = &entry.document.resource else {
            continue;
        };
        let name = user.metadata.name.clone();
        let object = snapshot.object(&entry.document, entry.origin);
        if let Err(why) = [Verb::List, Verb::Read]
            .into_iter()
            .try_for_each(|verb| who.may_see(&view, ResourceKind::User, verb, &object))
        {
            hidden = Some(why);
            continue;
        }
        let has_password = match &credentials {
            Some(credentials) => credentials.has_password(&name)?,
            None => false,
        };
        let locks = view.locks();
        let lock = locks.on_user(&name, &user.roles, OffsetDateTime::now_utc());
        rows.push(Row {
            roles: user.roles.clone(),
            traits: user.traits.clone(),
            origin: entry.origin.as_str().to_owned(),
            has_password,
            locked: user.is_locked || lock.is_some(),
            expires: user.metadata.expires.and_then(|expires| expires.format(&Rfc3339).ok()),
            name,
        });
    }
    if let (true, Some(why)) = (rows.is_empty(), hidden) {
        anyhow::bail!("{} may not list users: {why}", who.name());
    }
    output::print(listing.format, &rows, |rows| {
        let row = |row: &Row| {
            let mut notes = Vec::new();
            if row.has_password {
                notes.push("password".to_owned());
            }
            if row.locked {
                notes.push("locked".to_owned());
            }
            notes.extend(row.expires.as_ref().map(|expires| format!("expires {expires}")));
            let logins = row.traits.get("windows_logins").map(|logins| logins.join(","));
            vec![
                row.name.clone(),
                row.roles.join(","),
                logins.unwrap_or_default(),
                row.origin.clone(),
                notes.join(", "),
            ]
        };
        let rows: Vec<Vec<String>> = rows.iter().map(row).collect();
        output::table(&["NAME", "ROLES", "LOGINS", "ORIGIN", "NOTES"], &rows)
    })
}
