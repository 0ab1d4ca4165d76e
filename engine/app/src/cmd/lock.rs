//! `deskreel lock`: locks somebody or something out, at once.

use std::path::Path;

use anyhow::Context as _;
use deskreel_config::{ResourceKind, read_stored};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::change::Changer;
use super::{Global, Outcome, UsageError};
use crate::access::Force;

/// Arguments of `lock`.
#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("target").required(true).multiple(true),
    after_help = "Running sessions end within a second. Unlock with: deskreel rm lock/NAME\n\nExamples:\n  \
                  deskreel lock --user alice --message 'under investigation' --ttl 24h\n  deskreel lock --desktop lab"
)]
pub(crate) struct Args {
    /// Lock a user
    #[arg(long, value_name = "NAME", group = "target")]
    user: Option<String>,
    /// Lock everybody who has a role
    #[arg(long, value_name = "NAME", group = "target")]
    role: Option<String>,
    /// Lock a desktop
    #[arg(long, value_name = "NAME", group = "target")]
    desktop: Option<String>,
    /// Lock an account on all desktops
    #[arg(long, value_name = "NAME", group = "target")]
    login: Option<String>,
    /// What those who are locked out are told
    #[arg(long, value_name = "TEXT")]
    message: Option<String>,
    /// How long it holds [default: until it is removed]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Name of the lock [default: a new id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Runs `lock`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let expires = args.ttl.as_deref().map(end).transpose()?;
    let targets = [
        ("user", &args.user),
        ("role", &args.role),
        ("windows_desktop", &args.desktop),
        ("login", &args.login),
    ];
    let target: Map<String, Value> = targets
        .into_iter()
        .filter_map(|(key, name)| Some((key.to_owned(), name.as_deref()?.into())))
        .collect();
    let mut spec = Map::from_iter([("target".to_owned(), Value::Object(target))]);
    spec.extend(
        args.message
            .as_ref()
            .map(|message| ("message".to_owned(), message.as_str().into())),
    );
    spec.extend(expires.map(|expires| ("expires".to_owned(), expires.into())));
    let source = json!({
        "kind": ResourceKind::Lock.as_str(),
        "version": ResourceKind::Lock.version(),
        "metadata": {"name": args.name.clone().unwrap_or_else(|| Uuid::new_v4().to_string())},
        "spec": Value::Object(spec),
    });
    let document = read_stored(&source, Path::new("/")).map_err(|errors| UsageError(errors.to_string()))?;
    let changer = Changer::open(global)?;
    let view = changer.snapshot.view(OffsetDateTime::now_utc());
    let known = [
        (
            "user",
            &args.user,
            args.user.as_ref().is_some_and(|name| view.users.contains_key(name)),
        ),
        (
            "role",
            &args.role,
            args.role.as_ref().is_some_and(|name| view.roles.contains(name)),
        ),
        (
            "desktop",
            &args.desktop,
            args.desktop
                .as_ref()
                .is_some_and(|name| view.desktops.contains_key(name)),
        ),
    ];
    for (noun, name, is_known) in known {
        if let (Some(name), false) = (name, is_known) {
            eprintln!("deskreel: warning: there is no {noun} {name:?} now; it is locked all the same");
        }
    }
    changer.replace(&[document], Force::Create, None)?;
    Ok(Outcome::Fine)
}

fn end(ttl: &str) -> anyhow::Result<String> {
    let ttl = deskreel_config::parse_duration(ttl).map_err(|error| UsageError(format!("--ttl: {error}")))?;
    let end = OffsetDateTime::now_utc().checked_add(time::Duration::try_from(ttl).context("--ttl is too long")?);
    end.context("--ttl is too long")?
        .format(&Rfc3339)
        .context("print the end of the lock")
}
