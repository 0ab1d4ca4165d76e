//! `exports ls`.

use std::collections::HashSet;

use crate::catalog::{Catalog, ExportRow, ExportState};
use crate::cmd::recordings::door::Rules;
use crate::cmd::recordings::size;
use crate::cmd::{Global, Listing, Outcome};
use crate::output;

/// Arguments of `exports ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel exports ls --state failed\n  deskreel exports ls 01902b6e --format json")]
pub(super) struct Args {
    /// Only of the recording whose id begins so
    #[arg(value_name = "ID")]
    recording: Option<String>,
    /// Only exports in this state
    #[arg(long, value_enum)]
    state: Option<ExportState>,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let rules = Rules::open(&loaded)?;
    let catalog = Catalog::open_or_nothing(&loaded.config.data_dir)?;
    let (sessions, mut exports) = (catalog.sessions()?, catalog.all_exports()?);
    let visible = rules.ruler().visible(sessions);
    let ids: HashSet<uuid::Uuid> = visible.iter().map(|row| row.id).collect();
    let prefix = args.recording.as_deref().unwrap_or_default().to_ascii_lowercase();
    exports.retain(|export| {
        ids.contains(&export.session)
            && args.state.is_none_or(|state| state == export.state)
            && export.session.to_string().starts_with(&prefix)
    });
    output::print(args.listing.format, &exports, |exports| text(exports))?;
    Ok(Outcome::Fine)
}

fn text(exports: &[ExportRow]) -> String {
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let cells: Vec<Vec<String>> = exports
        .iter()
        .map(|export| {
            let made = export.made.as_ref();
            vec![
                export.session.to_string(),
                export.exporter.clone(),
                export.state.to_string(),
                export.attempts.to_string(),
                or_dash(made.map(|made| made.object.clone()).unwrap_or_default()),
                or_dash(made.map(|made| size(made.bytes)).unwrap_or_default()),
                or_dash(export.storages.join(", ")),
                or_dash(notes(export)),
            ]
        })
        .collect();
    let header = [
        "ID", "EXPORTER", "STATE", "ATTEMPTS", "OBJECT", "SIZE", "STORED", "NOTES",
    ];
    output::table(&header, &cells)
}

/// What a person should know.
fn notes(export: &ExportRow) -> String {
    let mut notes: Vec<String> = export.problem.iter().cloned().collect();
    if export.state == ExportState::Pending && export.attempts > 0 {
        notes.push(format!("again at {}", output::utc(export.next)));
    }
    notes.extend(export.made.iter().flat_map(|made| made.notes.iter().cloned()));
    notes.join("; ")
}
