//! `deskreel resources`: check files before they are loaded, and see what they would change.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use deskreel_config::{ClaimedIdentity, ConfigError, Document, ResourceKind};
use deskreel_policy::{Decision, Identity, Verdict};
use serde::Serialize;
use time::OffsetDateTime;

use super::change::{lines, warning_line};
use super::create;
use super::explain::{PROVEN, permit, with_files};
use super::{Global, Listing, Outcome, UsageError};
use crate::access::{Ask, Snapshot, View, Who, check, languages, lint, look};
use crate::output::{self, visible_lines};

/// Arguments of `resources`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check files of resources, and say what may not be as meant
    ///
    /// Exit code 0 = fine, 3 = warnings or hints, 2 = errors.
    ///
    /// Examples:
    ///   deskreel resources check roles.yaml users.yaml
    ///   deskreel resources check ./resources
    #[command(verbatim_doc_comment)]
    Check {
        /// Files or folders [default: the resource folder]
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Show every user and desktop whose Decision the files would change
    ///
    /// Exit code 0 = none, 3 = some.
    ///
    /// Examples:
    ///   deskreel resources diff new-roles.yaml
    #[command(verbatim_doc_comment)]
    Diff {
        /// Files or folders
        #[arg(value_name = "FILE", required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        listing: Listing,
    },
}

/// Runs `resources`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Check { files } => check_files(global, files),
        Command::Diff { files, listing } => diff(global, files, *listing),
    }
}

/// Folders become the resource files in them.
fn expand(paths: &[PathBuf]) -> anyhow::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).map_err(|error| UsageError(format!("{}: {error}", path.display())))?;
        let mut inside: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        inside.retain(|path| {
            let hidden = path
                .file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with('.'));
            let yaml = path
                .extension()
                .is_some_and(|extension| extension == "yaml" || extension == "yml");
            yaml && !hidden && !path.is_dir()
        });
        inside.sort();
        files.extend(inside);
    }
    Ok(files)
}

fn check_files(global: &Global, paths: &[PathBuf]) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let folder = [loaded.config.access.resources_dir.clone()];
    let files = expand(if paths.is_empty() { &folder } else { paths })?;
    let (documents, mut warnings) = read_all(&files)?;
    let now = OffsetDateTime::now_utc();
    // what the files say may depend on what is stored, but a broken folder must not keep it from being checked
    let mut snapshot = look(&loaded).unwrap_or_else(|error| {
        // what is wrong with the folder is told below, if it is what is checked
        if !(paths.is_empty() && error.is::<UsageError>()) {
            eprintln!("deskreel: warning: what is in force can't be read and is left out of the check: {error:#}");
        }
        Snapshot::built_in()
    });
    if paths.is_empty() {
        // what the folder said before goes when it is loaded
        snapshot = snapshot.without_configured();
    }
    let refs: Vec<&Document> = documents.iter().collect();
    let found = check(&refs, &snapshot, now);
    if !found.errors.is_empty() {
        return Err(UsageError(lines(&found.errors)).into());
    }
    let view = snapshot.with(documents.clone()).view(now);
    warnings.extend(found.warnings);
    warnings.sort_by(|a, b| a.origin.cmp(&b.origin));
    let mut hints = found.lints;
    hints.extend(lint(&refs, &view, now));
    hints.sort_by(|a, b| a.origin.cmp(&b.origin));
    let all = warnings.iter().map(|warning| warning_line(warning, "warning"));
    let all: Vec<String> = all.chain(hints.iter().map(|hint| warning_line(hint, "hint"))).collect();
    for line in &all {
        println!("{}", visible_lines(line));
    }
    println!(
        "{} resources in {} files, {} findings",
        documents.len(),
        files.len(),
        all.len()
    );
    Ok(if all.is_empty() {
        Outcome::Fine
    } else {
        Outcome::Findings
    })
}

/// All documents of all files, and what is odd about them.
///
/// # Errors
/// A [`UsageError`] with everything that is wrong, in all files.
fn read_all(files: &[PathBuf]) -> anyhow::Result<(Vec<Document>, Vec<ConfigError>)> {
    let mut names: BTreeMap<(ResourceKind, String), String> = BTreeMap::new();
    let (mut documents, mut warnings, mut wrong) = (Vec::new(), Vec::new(), Vec::new());
    for file in files {
        let stream = match create::stream(file, false) {
            Ok(stream) => stream,
            Err(error) => {
                wrong.push(format!("{error:#}"));
                continue;
            }
        };
        wrong.extend(stream.errors.iter().map(ToString::to_string));
        if !stream.errors.is_empty() {
            let right: Vec<&Document> = stream.documents.iter().collect();
            wrong.extend(languages(&right).errors.iter().map(ToString::to_string));
        }
        warnings.extend(stream.warnings);
        for document in stream.documents {
            let place = document.place.to_string();
            match names.entry((document.kind, document.name.clone())) {
                Entry::Occupied(first) => {
                    let message = format!("used twice, first at {}", first.get());
                    wrong.push(document.error("metadata.name", message).to_string());
                }
                Entry::Vacant(free) => drop(free.insert(place)),
            }
            documents.push(document);
        }
    }
    if wrong.is_empty() {
        return Ok((documents, warnings));
    }
    Err(UsageError(wrong.join("\n")).into())
}

/// A user and desktop whose Decision changes.
#[derive(Debug, Serialize)]
struct Difference {
    user: String,
    desktop: String,
    before: String,
    after: String,
    changes: Vec<String>,
}

fn diff(global: &Global, paths: &[PathBuf], listing: Listing) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let now = OffsetDateTime::now_utc();
    let snapshot = look(&loaded)?;
    let before = snapshot.view(now);
    permit(&Who::is(&loaded.config.data_dir)?, &before, "")?;
    let after = with_files(snapshot, &expand(paths)?)?.view(now);
    let users: BTreeSet<&String> = before.users.keys().chain(after.users.keys()).collect();
    let desktops: BTreeSet<&String> = before.desktops.keys().chain(after.desktops.keys()).collect();
    let mut askers: Vec<(&str, Identity)> = users.iter().map(|user| (user.as_str(), PROVEN)).collect();
    let claims = |view: &View| view.cluster.claimed_identity == ClaimedIdentity::Allow;
    if claims(&before) || claims(&after) {
        askers.push((ANY_CLAIMED_NAME, Identity::Claimed));
    }
    let mut differences = Vec::new();
    for asker in &askers {
        for desktop in &desktops {
            differences.extend(compare((&before, &after), asker, desktop, now));
        }
    }
    output::print(listing.format, &differences, |differences| {
        let row = |one: &Difference| {
            vec![
                one.user.clone(),
                one.desktop.clone(),
                one.before.clone(),
                one.after.clone(),
                one.changes.join("; "),
            ]
        };
        let rows: Vec<Vec<String>> = differences.iter().map(row).collect();
        let pairs = askers.len() * desktops.len();
        let table = output::table(&["USER", "DESKTOP", "BEFORE", "AFTER", "CHANGES"], &rows);
        let table = if rows.is_empty() { String::new() } else { table };
        format!("{table}{} of {pairs} decisions change\n", rows.len())
    })?;
    Ok(if differences.is_empty() {
        Outcome::Fine
    } else {
        Outcome::Findings
    })
}

/// Stands for whoever nothing but the desktop's own logon proves.
const ANY_CLAIMED_NAME: &str = "(any claimed name)";

fn decide(
    view: &View,
    (user, identity): &(&str, Identity),
    desktop: &str,
    login: Option<&str>,
    now: OffsetDateTime,
) -> Decision {
    view.decide(&view.request(&Ask {
        user,
        identity: *identity,
        desktop: Some(desktop),
        login,
        source: None,
        now,
        open_sessions: 0,
    }))
}

/// A Decision in a few words.
fn summary(decision: &Decision) -> String {
    match decision.verdict {
        Verdict::Allow => format!("allow {}", decision.login.as_deref().unwrap_or_default()),
        Verdict::NeedLogin => format!("allow {}", decision.logins.join(", ")),
        Verdict::Deny => match &decision.reason {
            Some(reason) => format!("deny {}", word(reason)),
            None => "deny".to_owned(),
        },
    }
}

/// A value as its JSON word.
fn word<T: Serialize>(value: &T) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(value) => value.to_string(),
        Err(_) => String::new(),
    }
}

fn compare(
    (before, after): (&View, &View),
    asker: &(&str, Identity),
    desktop: &str,
    now: OffsetDateTime,
) -> Option<Difference> {
    let (old, new) = (
        decide(before, asker, desktop, None, now),
        decide(after, asker, desktop, None, now),
    );
    let logins = |decision: &Decision| match decision.verdict {
        Verdict::NeedLogin => decision.logins.clone(),
        Verdict::Allow => decision.login.iter().cloned().collect(),
        Verdict::Deny => Vec::new(),
    };
    let (old_logins, new_logins) = (logins(&old), logins(&new));
    let mut changes = Vec::new();
    for login in old_logins.iter().filter(|login| new_logins.contains(login)) {
        let (old, new) = (
            decide(before, asker, desktop, Some(login), now),
            decide(after, asker, desktop, Some(login), now),
        );
        for change in what_changes(&old, &new) {
            if !changes.contains(&change) {
                changes.push(change);
            }
        }
    }
    let (before, after) = (summary(&old), summary(&new));
    (before != after || !changes.is_empty()).then(|| Difference {
        user: asker.0.to_owned(),
        desktop: desktop.to_owned(),
        before,
        after,
        changes,
    })
}

/// What of recording, rights and limits differs, as `name: old -> new`.
fn what_changes(old: &Decision, new: &Decision) -> Vec<String> {
    let parts = |decision: &Decision| {
        let mut parts = BTreeMap::new();
        let sections = [
            ("recording", serde_json::to_value(&decision.recording)),
            ("rights", serde_json::to_value(&decision.rights)),
            ("limits", serde_json::to_value(&decision.limits)),
        ];
        for (section, value) in sections {
            let Ok(serde_json::Value::Object(map)) = value else {
                continue;
            };
            for (key, value) in map.into_iter().filter(|(key, _)| key != "because") {
                parts.insert(format!("{section}.{key}"), word(&value));
            }
        }
        parts
    };
    let (old, new) = (parts(old), parts(new));
    let keys: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let none = "null".to_owned();
    let changed = keys.into_iter().filter_map(|key| {
        let (old, new) = (old.get(key).unwrap_or(&none), new.get(key).unwrap_or(&none));
        (old != new).then(|| format!("{key}: {old} -> {new}"))
    });
    changed.collect()
}
