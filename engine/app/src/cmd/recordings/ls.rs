//! `recordings ls`.

use std::collections::HashMap;

use serde::Serialize;
use time::OffsetDateTime;

use super::door::Rules;
use super::{moment, size};
use crate::catalog::{Catalog, ExportRow, ExportState, PlaceRow, SessionRow, State};
use crate::cmd::{Global, Listing, Outcome};
use crate::output::{self, utc};
use crate::pipeline::Fill;
use crate::replay::clock;

/// Shortest id that is printed: the time in it, to the millisecond.
const ID_MIN: usize = 13;
/// From this percentage on the spool is worth a line.
const FILL_ALERT: u8 = 80;

/// Arguments of `recordings ls`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel recordings ls --user alice --since 2d\n  \
    deskreel recordings ls --format json | jq -r '.[] | select(.gaps > 0) | .id'")]
pub(super) struct Args {
    /// Only recordings of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only recordings of this desktop
    #[arg(long, value_name = "NAME")]
    desktop: Option<String>,
    /// Only recordings in this state
    #[arg(long, value_enum)]
    state: Option<StateName>,
    /// Only sessions that started since then: 2h, 3d, 2024-05-01, RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::since)]
    since: Option<OffsetDateTime>,
    #[command(flatten)]
    listing: Listing,
}

/// The catalog's states on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
enum StateName {
    Recording,
    Delivering,
    Complete,
    Recovered,
    Damaged,
    NotRecorded,
    Deleted,
}

impl StateName {
    fn state(self) -> State {
        match self {
            Self::Recording => State::Recording,
            Self::Delivering => State::Delivering,
            Self::Complete => State::Complete,
            Self::Recovered => State::Recovered,
            Self::Damaged => State::Damaged,
            Self::NotRecorded => State::NotRecorded,
            Self::Deleted => State::Deleted,
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let rules = Rules::open(&loaded)?;
    // Where nothing was recorded yet: an empty list, not a failure.
    let catalog = Catalog::open_or_nothing(&loaded.config.data_dir)?;
    let (rows, mut places, exports) = (catalog.sessions()?, catalog.places()?, catalog.all_exports()?);
    let mut rows = rules.ruler().visible(rows);
    let all: Vec<String> = rows.iter().map(|row| row.id.to_string()).collect();
    rows.retain(|row| args.wants(row));
    rows.sort_by_key(|row| (row.started, row.id));
    let mut by_recording: HashMap<uuid::Uuid, Vec<ExportRow>> = HashMap::new();
    for export in exports {
        by_recording.entry(export.session).or_default().push(export);
    }
    let rows: Vec<Listed> = rows
        .into_iter()
        .map(|row| Listed {
            storages: places.remove(&row.id).unwrap_or_default(),
            exports: by_recording.remove(&row.id).unwrap_or_default(),
            row,
        })
        .collect();
    output::print(args.listing.format, &rows, |rows| text(rows, &all))?;
    warn_of_the_spool(&loaded.config.spool);
    Ok(Outcome::Fine)
}

/// A session, and where its recording lives.
#[derive(Debug, Serialize)]
struct Listed {
    #[serde(flatten)]
    row: SessionRow,
    storages: Vec<PlaceRow>,
    exports: Vec<ExportRow>,
}

/// What waits in a spool that fills up is at no storage yet.
fn warn_of_the_spool(config: &deskreel_config::Spool) {
    let fill = Fill::of_folder(config).filter(|fill| fill.percent >= FILL_ALERT);
    if let Some(fill) = fill {
        eprintln!(
            "deskreel: the spool is {} % full ({}): {} wait for their storages, the disk has {} left",
            fill.percent,
            fill.limit,
            size(fill.used_bytes),
            size(fill.free_bytes)
        );
    }
}

impl Args {
    fn wants(&self, row: &SessionRow) -> bool {
        self.user.as_ref().is_none_or(|user| *user == row.user)
            && self.desktop.as_ref().is_none_or(|desktop| *desktop == row.desktop)
            && self.state.is_none_or(|state| state.state() == row.state)
            && self.since.is_none_or(|since| row.started >= since)
    }
}

fn text(rows: &[Listed], all: &[String]) -> String {
    let length = id_length(all);
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|Listed { row, storages, exports }| {
            let id = row.id.to_string();
            vec![
                id.get(..length).unwrap_or(&id).to_owned(),
                started(row),
                clock(row.duration_ms.saturating_mul(1_000_000))
                    .split('.')
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                row.state.to_string(),
                row.user.clone(),
                row.login.clone(),
                row.desktop.clone(),
                row.client_addr.clone(),
                size(row.bytes),
                stored(storages),
                notes(row, exports),
            ]
        })
        .collect();
    output::table(
        &[
            "ID", "STARTED", "LENGTH", "STATE", "USER", "LOGIN", "DESKTOP", "CLIENT", "SIZE", "STORED", "NOTES",
        ],
        &cells,
    )
}

/// The wall-clock start to the second, in UTC.
pub(super) fn started(row: &SessionRow) -> String {
    utc(row.started)
}

/// The storages that have something of it, and what is not there yet.
fn stored(storages: &[PlaceRow]) -> String {
    if storages.is_empty() {
        return "-".to_owned();
    }
    let place = |place: &PlaceRow| match (place.pending, place.failed) {
        (0, 0) => place.storage.clone(),
        (0, failed) => format!("{} ({failed} refused)", place.storage),
        (pending, _) => format!("{} ({pending} pending)", place.storage),
    };
    storages.iter().map(place).collect::<Vec<_>>().join(", ")
}

/// What a person should look at.
fn notes(row: &SessionRow, exports: &[ExportRow]) -> String {
    let mut notes = Vec::new();
    let count = |count: u64, one: &str, many: &str| format!("{count} {}", if count == 1 { one } else { many });
    if row.gaps > 0 {
        notes.push(count(row.gaps.into(), "gap", "gaps"));
    }
    if row.undecoded > 0 {
        notes.push(format!("{} undecoded", row.undecoded));
    }
    if let Some(node) = &row.node {
        notes.push(format!("of node {node}"));
    }
    if row.unproven {
        notes.push("signer not trusted".to_owned());
    }
    if row.hold.is_some() {
        notes.push("held".to_owned());
    }
    if row.doomed_problem.is_some() && row.state != State::Deleted {
        notes.push("deletion refused".to_owned());
    }
    for (state, words) in [
        (ExportState::Done, "exported"),
        (ExportState::Running, "being exported"),
        (ExportState::Pending, "to be exported"),
        (ExportState::Failed, "export failed"),
    ] {
        let names: Vec<&str> = exports
            .iter()
            .filter(|export| export.state == state && (state != ExportState::Done || export.made.is_some()))
            .map(|export| export.exporter.as_str())
            .collect();
        if !names.is_empty() {
            notes.push(format!("{words}: {}", names.join(" ")));
        }
    }
    notes.extend(row.problem.clone());
    if notes.is_empty() {
        "-".to_owned()
    } else {
        notes.join(", ")
    }
}

/// How many characters tell all ids apart.
fn id_length(ids: &[String]) -> usize {
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let common = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let longest = sorted
        .windows(2)
        .map(|pair| common(pair[0], pair[1]))
        .max()
        .unwrap_or(0);
    ID_MIN.max(longest + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_as_long_as_needed() {
        let ids = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<Vec<_>>();
        assert_eq!(id_length(&[]), 13);
        assert_eq!(id_length(&ids(&["01902b6e-7c3a-7000-8000-000000000001"])), 13);
        let same_ms = ids(&[
            "01902b6e-7c3a-7000-8000-000000000001",
            "01902b6f-7c3a-7000-8000-000000000001",
            "01902b6e-7c3a-7080-8000-000000000001",
        ]);
        assert_eq!(id_length(&same_ms), 17);
    }
}
