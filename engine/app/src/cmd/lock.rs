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
    /// How long it holds; never or 0 = until it is removed [default: never]
    #[arg(long, value_name = "DURATION")]
    ttl: Option<String>,
    /// Name of the lock [default: a new id]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
}

/// Runs `lock`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let expires = args.ttl.as_deref().map(end).transpose()?.flatten();
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
    changer.add(document)?;
    Ok(Outcome::Fine)
}

/// When a lock ends; `None` = never. A time of nothing means none is set, as everywhere: it must not be a lock that is over
/// before it begins.
fn end(ttl: &str) -> anyhow::Result<Option<String>> {
    if ttl == "never" {
        return Ok(None);
    }
    let ttl = deskreel_config::parse_duration(ttl).map_err(|error| UsageError(format!("--ttl: {error}, or never")))?;
    if ttl.is_zero() {
        return Ok(None);
    }
    let end = OffsetDateTime::now_utc().checked_add(time::Duration::try_from(ttl).context("--ttl is too long")?);
    let end = end.context("--ttl is too long")?.format(&Rfc3339);
    Ok(Some(end.context("print the end of the lock")?))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_time_of_nothing_locks_until_the_lock_is_removed() {
        for ttl in ["0", "0s", "never"] {
            assert_eq!(end(ttl).unwrap(), None, "{ttl}");
        }
        let ends = OffsetDateTime::parse(&end("1h").unwrap().unwrap(), &Rfc3339).unwrap();
        assert!(ends > OffsetDateTime::now_utc(), "{ends}");
        for ttl in ["soon", "-1h", ""] {
            assert!(end(ttl).unwrap_err().is::<UsageError>(), "{ttl}");
        }
    }
}
