//! `deskreel get`: resources in force.

use std::fmt::Write as _;
use std::io::Write as _;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use deskreel_config::{Loaded, Resource, ResourceKind};
use deskreel_policy::{ObjectFacts, Verb};
use serde::Serialize;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::{Global, Outcome, UsageError};
use crate::access::{Entry, Unloaded, Who, look, refused_problems, subject, unloaded};
use crate::output::{self, Format};

/// Arguments of `get`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel get role\n  deskreel get user/alice --format yaml\n  \
                        deskreel get session_recording_config --origin\n  deskreel get all --format yaml"
)]
pub(crate) struct Args {
    /// KIND, KIND/NAME or all; kinds are role, user, windows_desktop, session_recording_config, lock
    #[arg(value_name = "KIND[/NAME]")]
    what: String,
    /// Also show where each resource comes from: file and line, variable or flag
    #[arg(long)]
    origin: bool,
    /// How the resources are printed; text lists them, or shows the one
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// A kind and a name, as people write them.
///
/// # Errors
/// An unknown kind.
pub(super) fn parse(what: &str) -> anyhow::Result<(ResourceKind, Option<String>)> {
    let (kind, name) = match what.split_once('/') {
        Some((kind, name)) => (kind, Some(name.to_owned())),
        None => (what, None),
    };
    match ResourceKind::parse(kind) {
        // there is one
        Some(kind @ ResourceKind::SessionRecordingConfig) => {
            Ok((kind, Some(deskreel_config::RECORDING_CONFIG_NAME.to_owned())))
        }
        Some(kind) => Ok((kind, name.filter(|name| !name.is_empty()))),
        None => {
            let known = ResourceKind::ALL.map(ResourceKind::as_str).join(", ");
            Err(UsageError(format!("{kind}: unknown kind (known: {known})")).into())
        }
    }
}

/// Runs `get`.
pub(crate) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let snapshot = look(&loaded)?;
    let view = snapshot.view(OffsetDateTime::now_utc());
    let who = Who::is(&loaded.config.data_dir)?;
    let (kinds, name) = match args.what.as_str() {
        "all" => (ResourceKind::ALL.to_vec(), None),
        what => {
            let (kind, name) = parse(what)?;
            (vec![kind], name)
        }
    };
    // a list shows names; everything else shows what a resource says
    let verbs: &[Verb] = match (&name, args.format) {
        (Some(_), _) => &[Verb::Read],
        (None, Format::Text) => &[Verb::List],
        (None, _) => &[Verb::List, Verb::Read],
    };
    let asked = snapshot
        .entries
        .values()
        .filter(|entry| kinds.contains(&entry.kind()) && name.as_deref().is_none_or(|name| entry.name() == name));
    let mut hidden = None;
    let mut entries: Vec<Arc<Entry>> = Vec::new();
    for entry in asked {
        let object = snapshot.object(&entry.document, entry.origin);
        let see = |verb: &Verb| who.may_see(&view, entry.kind(), *verb, &object);
        match verbs.iter().try_for_each(see) {
            Ok(()) => entries.push(Arc::clone(entry)),
            Err(why) => hidden = Some(why),
        }
    }
    if let (true, Some(why)) = (entries.is_empty(), hidden) {
        bail!("{} may not see {}: {why}", who.name(), args.what);
    }
    if matches!(who, Who::Local { .. }) {
        tell_problems(&loaded, &view.problems)?;
    }
    if let (Some(name), true) = (&name, entries.is_empty()) {
        let [kind] = kinds[..] else { bail!("there is no {name}") };
        // who may not see it does not learn either that it is not there
        let nothing = ObjectFacts {
            name: name.clone(),
            ..ObjectFacts::default()
        };
        if let Err(why) = who.may(&view, kind, Verb::Read, Some(&nothing)) {
            bail!("{} may not see {}: {why}", who.name(), args.what);
        }
        bail!("there is no {}", subject(kind, name));
    }
    let text = printed(&entries, name.is_some(), args)?;
    std::io::stdout()
        .write_all(text.as_bytes())
        .context("write to stdout")?;
    Ok(Outcome::Fine)
}

/// Says what is wrong with what is in force, and what the folder says that is not.
fn tell_problems(loaded: &Loaded, problems: &[String]) -> anyhow::Result<()> {
    for problem in problems {
        eprintln!("deskreel: warning: {}", output::visible(problem));
    }
    // of a running gateway: a load that failed left no trace but in its log
    if let Unloaded::Refused(refused) = unloaded(loaded)? {
        for problem in refused_problems(Some(&refused)) {
            if !problems.contains(&problem) {
                eprintln!("deskreel: warning: {}", output::visible(&problem));
            }
        }
    }
    Ok(())
}

fn printed(entries: &[Arc<Entry>], is_one: bool, args: &Args) -> anyhow::Result<String> {
    let shown: Vec<Shown> = entries.iter().map(|entry| Shown::new(entry, args.origin)).collect();
    match (args.format, entries) {
        (Format::Json, _) => {
            let text = match shown.first() {
                Some(one) if is_one => serde_json::to_string_pretty(one),
                _ => serde_json::to_string_pretty(&shown),
            };
            Ok(output::visible_json(&text.context("print as JSON")?).into_owned() + "\n")
        }
        (Format::Text, entries) if !is_one => Ok(table(entries, args.origin)),
        (Format::Text, [entry]) => {
            let mut text = String::new();
            if args.origin {
                let _ = writeln!(text, "# {}", from(entry));
            }
            Ok(text + &yaml(&Shown::new(entry, false))?)
        }
        _ => {
            let documents: anyhow::Result<Vec<String>> = shown.iter().map(yaml).collect();
            Ok(documents?.join("---\n"))
        }
    }
}

/// A resource as YAML, ready to be stored again, with nothing that a terminal obeys.
pub(super) fn yaml<T: Serialize>(shown: &T) -> anyhow::Result<String> {
    let mut text = output::visible_yaml(shown)?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn from(entry: &Entry) -> String {
    let origin = entry.origin.as_str();
    if entry.place.is_empty() {
        origin.to_owned()
    } else {
        format!("{origin}, {}", entry.place)
    }
}

fn table(entries: &[Arc<Entry>], origin: bool) -> String {
    let mut header = vec!["KIND", "NAME", "ORIGIN"];
    if origin {
        header.push("FROM");
    }
    header.push("DESCRIPTION");
    let row = |entry: &Arc<Entry>| {
        let mut row = vec![
            entry.kind().to_string(),
            entry.name().to_owned(),
            entry.origin.as_str().to_owned(),
        ];
        if origin {
            row.push(entry.place.clone());
        }
        row.push(description(entry));
        row
    };
    let rows: Vec<Vec<String>> = entries.iter().map(row).collect();
    output::table(&header, &rows)
}

/// What it is for, as whoever wrote it says; of a lock also what it locks, and until when.
fn description(entry: &Entry) -> String {
    let written = entry.document.source.pointer("/metadata/description");
    let written = written.and_then(Value::as_str).unwrap_or_default().to_owned();
    let Resource::Lock(lock) = &entry.document.resource else {
        return written;
    };
    let target = &lock.target;
    let targets = [
        ("user", &target.user),
        ("role", &target.role),
        ("desktop", &target.windows_desktop),
        ("login", &target.login),
    ];
    let mut words: Vec<String> = targets
        .into_iter()
        .filter_map(|(noun, name)| Some(format!("{noun} {}", name.as_ref()?)))
        .collect();
    words.extend(
        [lock.expires, lock.metadata.expires]
            .into_iter()
            .flatten()
            .min()
            .map(|end| {
                let word = if end <= OffsetDateTime::now_utc() {
                    "over since"
                } else {
                    "until"
                };
                format!("{word} {}", output::utc(end))
            }),
    );
    words.extend(lock.message.clone());
    words.push(written);
    words.retain(|word| !word.is_empty());
    words.join("; ")
}

/// A resource in the order in which people write it.
#[derive(Debug, Serialize)]
pub(super) struct Shown {
    kind: Value,
    version: Value,
    metadata: Value,
    #[serde(skip_serializing_if = "Value::is_null")]
    spec: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Map<String, Value>>,
}

impl Shown {
    /// Without secrets; with its origin in `status`, which is ignored when it is stored again.
    pub(super) fn new(entry: &Entry, origin: bool) -> Self {
        let mut shown = Self::of(entry.shown());
        if origin {
            let status = [("origin", entry.origin.as_str()), ("from", entry.place.as_str())];
            let status = status.map(|(key, value)| (key.to_owned(), Value::from(value)));
            shown.status = Some(Map::from_iter(status));
        }
        shown
    }

    /// A document.
    pub(super) fn of(mut document: Value) -> Self {
        let mut take = |key: &str| document.get_mut(key).map(Value::take).unwrap_or_default();
        Self {
            kind: take("kind"),
            version: take("version"),
            metadata: take("metadata"),
            spec: take("spec"),
            status: None,
        }
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;

    use deskreel_config::read_stored;

    use super::*;
    use crate::access::ResourceOrigin;

    fn entry(source: &Value) -> Arc<Entry> {
        let document = read_stored(source, Path::new("/")).unwrap();
        Arc::new(Entry::proposed(document, ResourceOrigin::Dynamic))
    }

    #[test]
    fn the_list_says_what_locks_lock() {
        let lock = |spec: Value, more: &str| {
            let metadata = serde_json::json!({"name": "l", "description": more});
            description(&entry(
                &serde_json::json!({"kind": "lock", "version": "v2", "metadata": metadata, "spec": spec}),
            ))
        };
        let of_two = serde_json::json!({"target": {"user": "ann", "windows_desktop": "lab"}, "message": "leave"});
        assert_eq!(lock(of_two, ""), "user ann; desktop lab; leave");
        let until = |time: &str| {
            lock(
                serde_json::json!({"target": {"login": "root"}, "expires": time}),
                "case 7",
            )
        };
        assert_eq!(
            until("2999-01-02T03:04:05Z"),
            "login root; until 2999-01-02 03:04:05Z; case 7"
        );
        assert_eq!(
            until("2001-01-02T03:04:05Z"),
            "login root; over since 2001-01-02 03:04:05Z; case 7"
        );
    }

    /// What is stored comes from files, which may come from anywhere.
    #[test]
    fn nothing_that_is_shown_reaches_the_terminal_as_a_command() {
        let description = "a\u{202e}b\u{9b}31m\u{1b}[2J\tc";
        let source = serde_json::json!({
            "kind": "role", "version": "v7", "metadata": {"name": "r", "description": description}, "spec": {},
        });
        let entries = [entry(&source)];
        for format in [Format::Json, Format::Yaml, Format::Text] {
            let args = Args {
                what: "role/r".to_owned(),
                origin: false,
                format,
            };
            let text = printed(&entries, true, &args).unwrap();
            let obeyed = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
            assert!(!text.contains(obeyed), "{format:?}: {text:?}");
            let back: Value = serde_saphyr::from_str(&text).unwrap();
            assert_eq!(back["metadata"]["description"], description, "{format:?}");
        }
    }
}
