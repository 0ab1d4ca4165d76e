//! `deskreel tickets`: one-time tickets that let a user into one desktop.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use deskreel_config::ResourceKind;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::users::{may_change, tell_change};
use super::{Global, Listing, Outcome, UsageError};
use crate::access::{Who, look};
use crate::credentials::{Credentials, NewTicket, Ticket};
use crate::{dumps, output};

/// Arguments of `tickets`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a ticket and print its secret
    ///
    /// The user connects to the gateway, gives the own name and types or pastes the secret as the password. It works
    /// once and expires. Whether the user may open the desktop is decided by roles, as ever.
    ///
    /// Examples:
    ///   deskreel tickets create --user alice --desktop lab
    ///   deskreel tickets create --user alice --desktop lab --login root --ttl 10m -o lab.rdp
    #[command(verbatim_doc_comment)]
    Create(Create),
    /// List tickets that are still good
    Ls {
        #[command(flatten)]
        listing: Listing,
    },
    /// Withdraw tickets
    Rm {
        /// Ids, as `tickets ls` prints them
        #[arg(required = true, value_name = "ID")]
        ids: Vec<String>,
    },
}

#[derive(Debug, clap::Args)]
struct Create {
    /// Who may use it
    #[arg(long, value_name = "NAME")]
    user: String,
    /// Where it leads
    #[arg(long, value_name = "NAME")]
    desktop: String,
    /// The account on the desktop [default: the one that roles and desktop leave]
    #[arg(long, value_name = "NAME")]
    login: Option<String>,
    /// How long it is good, at most 24h
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    ttl: Duration,
    /// Also write a file for mstsc and other clients; the secret is not in it
    #[arg(short, long, value_name = "FILE.rdp")]
    output: Option<PathBuf>,
    /// HOST:PORT of the gateway as clients reach it, for that file [default: from gateway.listen]
    #[arg(long, value_name = "HOST:PORT", requires = "output")]
    address: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, Serialize)]
struct Shown {
    id: String,
    user: String,
    desktop: String,
    login: Option<String>,
    created: String,
    expires: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl From<Ticket> for Shown {
    fn from(ticket: Ticket) -> Self {
        let text = |time: OffsetDateTime| time.format(&Rfc3339).unwrap_or_default();
        Self {
            created: text(ticket.created),
            expires: text(ticket.expires),
            id: ticket.id,
            user: ticket.user,
            desktop: ticket.desktop,
            login: ticket.login,
            secret: None,
        }
    }
}

/// Runs `tickets`.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    dumps::forbid()?;
    let loaded = global.load()?;
    // who may not open the folder hears so, and not what SQLite makes of it
    Who::is(&loaded.config.data_dir)?;
    let store = Credentials::open(&loaded.config.data_dir)?;
    match args.command {
        Command::Create(args) => {
            if let Some(problem) = unusable(&args) {
                return Err(UsageError(problem).into());
            }
            let address = match &args.address {
                Some(address) => address.clone(),
                None => address(loaded.config.gateway.listen),
            };
            let snapshot = look(&loaded)?;
            let view = snapshot.view(OffsetDateTime::now_utc());
            if !view.users.contains_key(&args.user) {
                bail!("there is no user/{0}: `deskreel users add {0}` makes one", args.user);
            }
            if !view.desktops.contains_key(&args.desktop) {
                bail!("there is no windows_desktop/{}", args.desktop);
            }
            let who = may_change(&loaded, &snapshot, &args.user)?;
            // a file that can't be written must not cost a ticket
            let file = args.output.as_deref().map(create).transpose()?;
            tell_change(&loaded, &who, (ResourceKind::User, &args.user), "ticket")?;
            let (ticket, secret) = store.issue_ticket(NewTicket {
                user: args.user,
                desktop: args.desktop,
                login: args.login,
                ttl: args.ttl,
            })?;
            if let Some((mut file, path)) = file.zip(args.output) {
                file.write_all(rdp_file(&address, &ticket).as_bytes())
                    .with_context(|| format!("write {}", path.display()))?;
            }
            let shown = Shown {
                secret: Some(secret.to_string()),
                ..ticket.into()
            };
            output::print(args.listing.format, &shown, |shown| {
                eprintln!(
                    "ticket {} for {} on {}, good once until {}; the password is:",
                    shown.id, shown.user, shown.desktop, shown.expires
                );
                secret.to_string()
            })?;
        }
        Command::Ls { listing } => {
            let tickets: Vec<Shown> = store.tickets()?.into_iter().map(Shown::from).collect();
            output::print(listing.format, &tickets, |tickets| {
                let rows: Vec<Vec<String>> = tickets.iter().map(row).collect();
                output::table(&["ID", "USER", "DESKTOP", "LOGIN", "EXPIRES"], &rows)
            })?;
        }
        Command::Rm { ids } => {
            let snapshot = look(&loaded)?;
            for id in &ids {
                if let Some(ticket) = store.tickets()?.iter().find(|ticket| ticket.id == *id) {
                    let who = may_change(&loaded, &snapshot, &ticket.user)?;
                    tell_change(&loaded, &who, (ResourceKind::User, &ticket.user), "ticket")?;
                }
                if !store.take_ticket(id)? {
                    bail!("no ticket {id}: it was used, has expired or never was");
                }
            }
        }
    }
    Ok(Outcome::Fine)
}

fn row(ticket: &Shown) -> Vec<String> {
    let login = ticket.login.clone().unwrap_or_else(|| "-".to_owned());
    vec![
        ticket.id.clone(),
        ticket.user.clone(),
        ticket.desktop.clone(),
        login,
        ticket.expires.clone(),
    ]
}

/// What no client could log on with, or what would break out of the file.
fn unusable(args: &Create) -> Option<String> {
    let names = [
        ("--user", Some(&args.user)),
        ("--desktop", Some(&args.desktop)),
        ("--login", args.login.as_ref()),
        ("--address", args.address.as_ref()),
    ];
    names.into_iter().find_map(|(flag, name)| {
        let name = name?;
        let bad = name.is_empty() || name.chars().any(char::is_control);
        bad.then(|| format!("{flag}: empty, or with control characters"))
    })
}

fn duration(text: &str) -> Result<Duration, String> {
    deskreel_config::parse_duration(text)
}

/// Where clients reach a gateway that listens at `listen`.
fn address(listen: std::net::SocketAddr) -> String {
    if listen.ip().is_unspecified() {
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        format!("{name}:{}", listen.port())
    } else {
        listen.to_string()
    }
}

fn create(path: &Path) -> anyhow::Result<std::fs::File> {
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("create {}", path.display()))
}

/// The desktop stands there as routing token too: a client without NLA has no other way to say it.
fn rdp_file(address: &str, ticket: &Ticket) -> String {
    let mut user = format!("{}:{}", ticket.user, ticket.desktop);
    if let Some(login) = &ticket.login {
        user.push(':');
        user.push_str(login);
    }
    let lines = [
        format!("full address:s:{address}"),
        format!("username:s:{user}"),
        format!("loadbalanceinfo:s:{}", ticket.desktop),
        "prompt for credentials:i:1".to_owned(),
        "enablecredsspsupport:i:1".to_owned(),
        "authentication level:i:2".to_owned(),
        "negotiate security layer:i:1".to_owned(),
    ];
    lines.map(|line| line + "\r\n").concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use time::OffsetDateTime;

    use super::*;

    #[test]
    fn the_file_says_where_and_who_and_no_secret() {
        let ticket = Ticket {
            id: "1".to_owned(),
            user: "alice".to_owned(),
            desktop: "lab".to_owned(),
            login: Some("root".to_owned()),
            created: OffsetDateTime::UNIX_EPOCH,
            expires: OffsetDateTime::UNIX_EPOCH,
        };
        let text = rdp_file("gw.example:3389", &ticket);
        assert!(text.starts_with("full address:s:gw.example:3389\r\nusername:s:alice:lab:root\r\n"));
        assert!(text.contains("loadbalanceinfo:s:lab\r\n") && !text.contains("password"));
    }

    #[test]
    fn clients_need_a_name_or_an_address() {
        assert_eq!(address("192.0.2.1:3390".parse().unwrap()), "192.0.2.1:3390");
        let everywhere = address("0.0.0.0:3389".parse().unwrap());
        assert!(everywhere.ends_with(":3389") && !everywhere.starts_with("0.0.0.0"));
    }
}
