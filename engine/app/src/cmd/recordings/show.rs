//! `recordings show`.

use anyhow::Context as _;
use deskreel_policy::Verb;
use deskreel_recording::event::{Gap, SessionEnd, SessionStart};
use serde::Serialize;
use time::OffsetDateTime;

use super::target::{Details, Found, Target, runtime};
use super::{ls, size};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::catalog::{self, Catalog, ExportRow, GapRow, PlacementRow, SessionRow, State};
use crate::cmd::{Global, Listing, Outcome, UsageError};
use crate::keep::retention::{Rules, ended};
use crate::output;
use crate::replay::{Index, clock};

/// Arguments of `recordings show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  deskreel recordings show 01902b6e --format yaml")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    listing: Listing,
}

/// A recording of the catalog.
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    session: SessionRow,
    gap_list: Vec<GapRow>,
    storages: Vec<Stored>,
    /// What async exporters have made of it, or will.
    exports: Vec<ExportRow>,
    /// Until when retention keeps it, and what says so; `null`: nothing in the configuration does.
    kept_until: Option<String>,
    /// What policy decided, where it was asked.
    decision: Option<serde_json::Value>,
    verify: String,
}

/// How much of a recording a storage has.
#[derive(Debug, Serialize, PartialEq, Eq)]
struct Stored {
    storage: String,
    required: bool,
    objects: usize,
    stored: usize,
    /// What is still on its way.
    pending: usize,
    manifest: bool,
    problems: Vec<String>,
}

/// A recording in a folder.
#[derive(Debug, Serialize)]
struct ShownFiles {
    id: uuid::Uuid,
    segments: usize,
    duration_ms: u64,
    start: Option<SessionStart>,
    end: Option<SessionEnd>,
    recovered: bool,
    undecoded: u64,
    gap_list: Vec<Gap>,
    verify: String,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let purpose = Purpose {
        verb: Verb::List,
        what: RecordingAction::Access,
        action: "show",
    };
    match args.target.find(global, &runtime, purpose)? {
        Found::Recording {
            row: Some(row), loaded, ..
        } => {
            let catalog = Catalog::open_read_only(&loaded.config.data_dir)?;
            let shown = Shown {
                gap_list: catalog.gaps(row.id)?,
                storages: by_storage(&catalog.placements(row.id)?),
                decision: catalog.decision(row.id)?,
                exports: catalog.exports(row.id)?,
                kept_until: kept_until(&loaded.config.retention, &row)?,
                verify: format!("deskreel recordings verify {}", row.id),
                session: *row,
            };
            output::print(args.listing.format, &shown, text)?;
        }
        found => {
            let opened = found.source(&runtime, Details::new())?;
            let source = &opened.source;
            let index = Index::read(source).context("read the recording")?;
            let shown = ShownFiles {
                id: source.recording(),
                segments: index.segments.len(),
                duration_ms: catalog::duration_ms(index.duration_ns),
                start: index.start,
                end: index.end,
                recovered: index.recovered,
                undecoded: index.undecoded,
                gap_list: index.gaps,
                verify: format!("deskreel recordings verify {} --public-key FILE", args.target.recording),
            };
            output::print(args.listing.format, &shown, text_of_files)?;
            opened.shown();
        }
    }
    Ok(Outcome::Fine)
}

fn kept_until(config: &deskreel_config::Retention, row: &SessionRow) -> anyhow::Result<Option<String>> {
    let rules = Rules::new(config).map_err(UsageError)?;
    let term = rules.term(row, OffsetDateTime::now_utc());
    Ok(term.filter(|_| row.state != State::Deleted).map(|term| {
        let until = term
            .until(ended(row))
            .map_or_else(|| "for ever".to_owned(), output::utc);
        format!("{until} ({})", term.source)
    }))
}

fn by_storage(placements: &[PlacementRow]) -> Vec<Stored> {
    let mut storages: Vec<Stored> = Vec::new();
    for placement in placements {
        let known = storages.iter().position(|stored| stored.storage == placement.storage);
        let place = known.unwrap_or_else(|| {
            storages.push(Stored {
                storage: placement.storage.clone(),
                required: placement.required,
                objects: 0,
                stored: 0,
                pending: 0,
                manifest: false,
                problems: Vec::new(),
            });
            storages.len() - 1
        });
        let stored = &mut storages[place];
        stored.objects += 1;
        if placement.stored.is_some() {
            stored.stored += 1;
            stored.manifest |= placement.object == catalog::Object::Manifest;
        }
        stored.pending += usize::from(placement.stored.is_none() && placement.problem.is_none());
        if let Some(problem) = &placement.problem {
            stored.problems.push(format!("{}: {problem}", placement.object));
        }
    }
    storages
}

/// `name  value` lines; no value leaves its line.
fn facts(rows: Vec<(&str, String)>) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    rows.into_iter()
        .map(|(name, value)| format!("{name:width$}  {}\n", output::visible(&value)))
        .collect()
}

fn text(shown: &Shown) -> String {
    let row = &shown.session;
    let or_dash = |text: &str| {
        if text.is_empty() {
            "-".to_owned()
        } else {
            text.to_owned()
        }
    };
    let mut rows = vec![
        ("id", row.id.to_string()),
        ("state", row.state.to_string()),
        ("started", ls::started(row)),
        ("length", clock(row.duration_ms.saturating_mul(1_000_000))),
        ("user", format!("{} ({})", or_dash(&row.user), row.identity)),
        ("login", or_dash(&row.login)),
        ("desktop", or_dash(&row.desktop)),
        ("client", format!("{} ({})", row.client_addr, or_dash(&row.client_name))),
        ("ended", or_dash(row.end_reason.as_deref().unwrap_or(""))),
        ("size", format!("{} in {} segments", size(row.bytes), row.segments)),
        ("gaps", row.gaps.to_string()),
        ("undecoded", undecoded(row.undecoded)),
    ];
    rows.extend(row.problem.clone().map(|problem| ("problem", problem)));
    if let Some(node) = &row.node {
        let key = row
            .key_id
            .as_deref()
            .map(|key| format!(" (key {key})"))
            .unwrap_or_default();
        let trusted = if row.unproven {
            ", which is not trusted: what it says of the session is a claim"
        } else {
            ""
        };
        rows.push(("node", format!("{node}{key}{trusted}")));
    }
    rows.extend(row.hold.as_ref().map(|hold| {
        let by = row.held_by.as_deref().unwrap_or("-");
        let since = row.held.map(output::utc).unwrap_or_default();
        ("hold", format!("{hold} ({by}, {since})"))
    }));
    rows.extend(shown.kept_until.clone().map(|kept| ("kept until", kept)));
    if row.state != State::Deleted {
        rows.extend(row.doomed_problem.clone().map(|problem| ("deletion", problem)));
    }
    rows.extend(deleted(row).map(|deleted| ("deleted", deleted)));
    rows.extend(row.manifest_sha256.clone().map(|digest| ("manifest", digest)));
    rows.extend(shown.gap_list.iter().map(|gap| {
        let text = format!(
            "{} to {}: {}",
            clock(gap.from_ns),
            clock(gap.to_ns),
            gap.reason.replace('_', " ")
        );
        ("gap", text)
    }));
    for stored in &shown.storages {
        let required = if stored.required { "" } else { ", not required" };
        let manifest = if stored.manifest { " with the manifest" } else { "" };
        let text = format!(
            "{}: {} of {} objects{manifest}{}{required}",
            stored.storage,
            stored.stored,
            stored.objects,
            if stored.pending > 0 {
                format!(", {} pending", stored.pending)
            } else {
                String::new()
            }
        );
        rows.push(("storage", text));
        rows.extend(stored.problems.iter().map(|problem| ("", problem.clone())));
    }
    rows.extend(shown.exports.iter().map(|export| ("export", exported(export))));
    if !matches!(row.state, State::NotRecorded | State::Deleted) {
        rows.push(("verify", shown.verify.clone()));
    }
    facts(rows)
}

/// How an export stands, and what was made.
fn exported(export: &ExportRow) -> String {
    let mut text = format!("{}: {}", export.exporter, export.state);
    if let Some(made) = &export.made {
        text.push_str(&format!(", {}, {}", made.object, size(made.bytes)));
    }
    if !export.storages.is_empty() {
        text.push_str(&format!(", at {}", export.storages.join(", ")));
    }
    for note in export
        .problem
        .iter()
        .chain(export.made.iter().flat_map(|made| &made.notes))
    {
        text.push_str(&format!(" ({note})"));
    }
    text
}

/// When and by whom.
fn deleted(row: &SessionRow) -> Option<String> {
    let by = row.deleted_by.as_deref().unwrap_or("-");
    let why = row
        .deleted_why
        .as_deref()
        .map(|why| format!(" ({why})"))
        .unwrap_or_default();
    Some(format!("{} by {by}{why}", output::utc(row.deleted?)))
}

fn undecoded(count: u64) -> String {
    match count {
        0 => "0".to_owned(),
        // Never a silent black picture: whoever looks at the recording must know.
        _ => format!("{count} PDUs: parts of the picture may be missing (recordings events --channel undecoded)"),
    }
}

fn text_of_files(shown: &ShownFiles) -> String {
    let mut rows = vec![
        ("id", shown.id.to_string()),
        ("length", clock(shown.duration_ms.saturating_mul(1_000_000))),
        ("segments", shown.segments.to_string()),
    ];
    if let Some(start) = &shown.start {
        rows.push(("user", start.user.name.clone()));
        rows.push(("login", start.login.clone()));
        rows.push(("desktop", format!("{} ({})", start.desktop.name, start.desktop.addr)));
        rows.push(("client", start.client.addr.clone()));
    }
    let ended = match &shown.end {
        Some(end) => serde_json::to_value(end.reason)
            .ok()
            .and_then(|value| value.as_str().map(str::to_owned)),
        None => Some("not yet, or the manifest is missing".to_owned()),
    };
    rows.extend(ended.map(|ended| ("ended", ended)));
    rows.push(("gaps", shown.gap_list.len().to_string()));
    rows.push(("undecoded", undecoded(shown.undecoded)));
    rows.extend(
        shown
            .gap_list
            .iter()
            .map(|gap| ("gap", format!("{} to {}", clock(gap.from_ns), clock(gap.to_ns)))),
    );
    rows.push(("verify", shown.verify.clone()));
    facts(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fact_stays_in_its_line() {
        let text = facts(vec![
            ("user", "a\nstate  complete\u{1b}[2J\u{202e}".to_owned()),
            ("id", "1".to_owned()),
        ]);
        assert_eq!(text, "user  a\\nstate  complete\\u{1b}[2J\\u{202e}\nid    1\n");
    }
}
