//! Listings on stdout, in the format that the person asked for.

use std::io::Write as _;

use anyhow::Context as _;
use serde::Serialize;

/// How a listing is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns for people
    Text,
    /// JSON, stable field names
    Json,
    /// YAML, the same fields
    Yaml,
}

/// Prints `rows` as JSON or YAML, or as what `text` makes of them.
///
/// # Errors
/// A closed or failing stdout.
pub(crate) fn print<T: Serialize>(format: Format, rows: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let mut printed = match format {
        Format::Text => text(rows),
        Format::Json => serde_json::to_string_pretty(rows).context("print as JSON")?,
        Format::Yaml => serde_saphyr::to_string(rows).context("print as YAML")?,
    };
    if !printed.ends_with('\n') && !printed.is_empty() {
        printed.push('\n');
    }
    std::io::stdout()
        .write_all(printed.as_bytes())
        .context("write to stdout")
}

/// Aligned columns: a header and rows of cells.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut text = String::new();
        for (index, cell) in cells.enumerate().take(columns) {
            let pad = widths[index].saturating_sub(cell.chars().count());
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', pad + 2));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    };
    line(&mut header.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    out
}
