//! `deskreel config check` and `deskreel config show`.

use std::fmt::Write as _;

use deskreel_config::{
    ClaimedIdentity, ClusterMode, Config, Document, Loaded, Mode, OnFailure, Resources, Verify, load_resources,
};
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Global, Listing, Outcome, UsageError};
use crate::access::{self, View, look};
use crate::host::Plugins;
use crate::output;

/// Check or show the configuration
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Check the configuration, the resources and the plugins' settings; every error is printed, exit code 2
    ///
    /// Plugins are loaded, and secrets in their settings are looked up, but none is opened: no storage is contacted.
    Check,
    /// Show every key with its value
    ///
    /// Examples:
    ///   deskreel config show --origin
    ///   deskreel config show --config /etc/deskreel.yaml --format json
    #[command(verbatim_doc_comment)]
    Show {
        /// Also show where each value comes from: file and line, variable or flag
        #[arg(long)]
        origin: bool,
        #[command(flatten)]
        listing: Listing,
    },
}

pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Check => check(global),
        Command::Show { origin, listing } => show(global, origin, listing),
    }
}

fn check(global: &Global) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let (mut errors, mut warnings) = (Vec::new(), Vec::new());
    let resources = match load_resources(&loaded.config.access.resources_dir) {
        Ok(resources) => {
            let view = in_force(&loaded, &resources, &mut errors, &mut warnings);
            let known = |name: &str| view.as_ref().is_some_and(|view| view.desktops.contains_key(name));
            let wrong = loaded.check_references(&resources, &known).err();
            errors.extend(wrong.map(|errors| errors.to_string()));
            resources
        }
        Err(wrong) => {
            errors.push(wrong.to_string());
            Resources::default()
        }
    };
    errors.extend(Plugins::new(&loaded).problems());
    errors.extend(crate::keep::problems(&loaded.config));
    if !errors.is_empty() {
        return Err(UsageError(errors.join("\n")).into());
    }
    output::print(output::Format::Text, &(), |()| found(global, &loaded, &resources))?;
    warnings.extend(loaded.warnings(&resources).iter().map(ToString::to_string));
    for warning in warnings {
        eprintln!("deskreel: warning: {}", output::visible(&warning));
    }
    Ok(Outcome::Fine)
}

/// What would be in force with the resource folder as it is; everything that is wrong with it, stored resources included.
fn in_force(loaded: &Loaded, folder: &Resources, errors: &mut Vec<String>, warnings: &mut Vec<String>) -> Option<View> {
    let now = OffsetDateTime::now_utc();
    let snapshot = match look(loaded) {
        Ok(snapshot) => snapshot,
        Err(error) => {
            errors.push(format!("{error:#}"));
            return None;
        }
    };
    let documents: Vec<&Document> = folder.documents.iter().collect();
    let found = access::check(&documents, &snapshot.without_configured(), now);
    errors.extend(found.errors.iter().map(ToString::to_string));
    warnings.extend(found.warnings.iter().map(ToString::to_string));
    let view = snapshot.view(now);
    if found.errors.is_empty() {
        warnings.extend(view.problems.iter().cloned());
    }
    errors.extend(view.unavailable.clone());
    warnings.extend(snapshot.switched_off());
    let claimed = &loaded.config.access;
    if claimed.claimed_identity == ClaimedIdentity::Allow {
        let unknown = claimed.claimed_roles.iter().filter(|role| !view.roles.contains(role));
        errors.extend(unknown.map(|role| {
            let origin = loaded.origin("access.claimed_roles");
            format!("{origin}: access.claimed_roles: there is no role {role:?}, so claimed names would be refused")
        }));
    }
    Some(view)
}

/// What a check found, for people.
fn found(global: &Global, loaded: &Loaded, resources: &Resources) -> String {
    let Config {
        data_dir,
        gateway,
        session_recording,
        storages,
        exporters,
        access,
        ..
    } = &loaded.config;
    let mut out = String::new();
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<12}{}", output::visible(&text));
    };
    line("file", global.file_and_why(loaded));
    line("data", data_dir.display().to_string());
    line("listens on", gateway.listen.to_string());
    line(
        "recording",
        match (session_recording.mode, session_recording.on_failure) {
            (ClusterMode::Off, _) => "off".to_owned(),
            (mode, on_failure) => {
                let sync = if mode == ClusterMode::Sync {
                    "on, all storages sync"
                } else {
                    "on"
                };
                match on_failure {
                    OnFailure::Strict => format!("{sync}, strict"),
                    OnFailure::BestEffort => format!("{sync}, best_effort"),
                }
            }
        },
    );
    for storage in storages {
        let required = if storage.required { "required" } else { "not required" };
        line(
            "storage",
            format!(
                "{}: plugin {}, {}, {required}",
                storage.name,
                storage.plugin,
                mode(storage.mode)
            ),
        );
    }
    for exporter in exporters {
        line(
            "exporter",
            format!("{}: plugin {}, {}", exporter.name, exporter.plugin, mode(exporter.mode)),
        );
    }
    let folder = access.resources_dir.display();
    line(
        "resources",
        if resources.folder_missing {
            format!("{folder} does not exist")
        } else {
            format!(
                "{folder}, files: {}, desktops: {}",
                resources.files.len(),
                resources.desktops.len()
            )
        },
    );
    for desktop in &resources.desktops {
        let tls = &desktop.gateway.tls;
        let verify = match tls.verify {
            Verify::Pin if tls.sha256.is_some() => "pinned certificate",
            Verify::Pin => "certificate pinned on first use",
            Verify::Ca => "certificate checked by its CA",
            Verify::None => "certificate not checked",
        };
        let default = if gateway.default_desktop.as_ref() == Some(&desktop.name) {
            ", default"
        } else {
            ""
        };
        line(
            "desktop",
            format!("{}: {}, {verify}{default}", desktop.name, desktop.addr),
        );
    }
    out
}

fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Sync => "sync",
        Mode::Async => "async",
    }
}

/// `config show` without origins.
#[derive(Serialize)]
struct Values<'a> {
    file: Option<String>,
    config: &'a Map<String, Value>,
}

/// `config show --origin`.
#[derive(Serialize)]
struct Origins {
    file: Option<String>,
    entries: Vec<Entry>,
}

#[derive(Serialize)]
struct Entry {
    key: String,
    value: Value,
    origin: String,
}

fn show(global: &Global, origin: bool, listing: Listing) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let loaded = Plugins::new(&loaded).without_secrets();
    let file = loaded.file.as_ref().map(|file| file.display().to_string());
    let entries: Vec<Entry> = loaded
        .entries()
        .into_iter()
        .map(|entry| Entry {
            key: entry.key,
            value: entry.value,
            origin: entry.origin.to_string(),
        })
        .collect();
    let text = |entries: &[Entry]| {
        let header: &[&str] = if origin {
            &["KEY", "VALUE", "ORIGIN"]
        } else {
            &["KEY", "VALUE"]
        };
        let row = |entry: &Entry| {
            let mut row = vec![entry.key.clone(), plain(&entry.value)];
            if origin {
                row.push(entry.origin.clone());
            }
            row
        };
        let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
        format!(
            "file: {}\n\n{}",
            global.file_and_why(&loaded),
            output::table(header, &rows)
        )
    };
    if origin {
        output::print(listing.format, &Origins { file, entries }, |shown| text(&shown.entries))?;
    } else {
        output::print(
            listing.format,
            &Values {
                file,
                config: &loaded.values,
            },
            |_| text(&entries),
        )?;
    }
    Ok(Outcome::Fine)
}

/// A value in one line: text as it is unless that would be misread, everything else as JSON (which is YAML too).
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.chars().any(char::is_control) => text.clone(),
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_check_looks_at_the_settings_of_plugins() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("deskreel.yaml");
        let global = Global {
            config: Some(file.clone()),
            set: Vec::new(),
        };
        let check_with = |settings: &str| {
            let text = format!(
                "access: {{resources_dir: ./resources}}\n\
                 storages:\n  - {{name: a, plugin: local, settings: {{path: ./a}}}}\n  - {{name: b, plugin: local, settings: {settings}}}\n"
            );
            std::fs::write(&file, text).unwrap();
            check(&global)
        };
        check_with("{path: ./b}").unwrap();
        let error = check_with("{pahs: ./b}").unwrap_err();
        let text = error.to_string();
        assert!(error.is::<UsageError>(), "{text}");
        for part in [
            "deskreel.yaml:4:",
            "storages[1].settings.pahs: unknown setting",
            "storages[1].settings.path: is missing",
        ] {
            assert!(text.contains(part), "{part:?} in {text:?}");
        }
        assert!(!folder.path().join("a").exists(), "a storage was opened");
    }
}
