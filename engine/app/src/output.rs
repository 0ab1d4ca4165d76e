//! Listings on stdout, in the format that the person asked for.

use std::borrow::Cow;
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

/// Prints `rows` as JSON or YAML, or as what `text` makes of them. Nothing in it reaches the terminal as a command.
///
/// # Errors
/// A closed or failing stdout.
pub(crate) fn print<T: Serialize>(format: Format, rows: &T, text: impl FnOnce(&T) -> String) -> anyhow::Result<()> {
    let mut printed = match format {
        Format::Text => visible_lines(&text(rows)).into_owned(),
        Format::Json => visible_json(&serde_json::to_string_pretty(rows).context("print as JSON")?).into_owned(),
        Format::Yaml => visible_yaml(rows)?,
    };
    if !printed.ends_with('\n') && !printed.is_empty() {
        printed.push('\n');
    }
    std::io::stdout()
        .write_all(printed.as_bytes())
        .context("write to stdout")
}

/// One line of text without anything that a terminal obeys: control characters and those that turn the direction of writing
/// stand as escapes. User names, window titles, file names and clipboards come from strangers, who must not draw on the
/// terminal of whoever lists them.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, is_obeyed, |c, out| out.extend(c.escape_default()))
}

/// As [`visible`], for text of several lines.
pub(crate) fn visible_lines(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |c| c != '\n' && is_obeyed(c),
        |c, out| out.extend(c.escape_default()),
    )
}

/// The same for JSON text, which means the same afterwards: such characters stand in strings only.
pub(crate) fn visible_json(json: &str) -> Cow<'_, str> {
    escaped(
        json,
        |c| c != '\n' && is_obeyed(c),
        |c, out| out.push_str(&format!("\\u{:04x}", u32::from(c))),
    )
}

/// YAML with nothing that a terminal obeys. Only quoted text has escapes, so what needs them is written as JSON, which is YAML.
pub(crate) fn visible_yaml<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let yaml = serde_saphyr::to_string(value).context("print as YAML")?;
    if !yaml.contains(|c| c != '\n' && is_obeyed(c)) {
        return Ok(yaml);
    }
    let json = serde_json::to_string_pretty(value).context("print as YAML")?;
    Ok(visible_json(&json).into_owned())
}

/// One item of a YAML list that is printed piece by piece, with the end of its line.
pub(crate) fn yaml_item<T: Serialize>(value: &T) -> anyhow::Result<String> {
    let mut item = serde_saphyr::to_string(&[value]).context("print as YAML")?;
    if item.contains(|c| c != '\n' && is_obeyed(c)) {
        let json = serde_json::to_string(value).context("print as YAML")?;
        item = format!("- {}", visible_json(&json));
    }
    if !item.ends_with('\n') {
        item.push('\n');
    }
    Ok(item)
}

fn escaped(text: &str, bad: impl Fn(char) -> bool, escape: impl Fn(char, &mut String)) -> Cow<'_, str> {
    if !text.contains(&bad) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if bad(c) {
            escape(c, &mut out);
        } else {
            out.push(c);
        }
    }
    Cow::Owned(out)
}

/// C0 and C1 controls, line and paragraph separators, and the marks, embeddings, overrides and isolates of bidirectional text
/// (Unicode, property Bidi_Control).
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A time to the second, in UTC.
pub(crate) fn utc(at: time::OffsetDateTime) -> String {
    let at = at.to_offset(time::UtcOffset::UTC);
    let (year, month, day) = at.to_calendar_date();
    let (hour, minute, second) = at.to_hms();
    format!(
        "{year}-{:02}-{day:02} {hour:02}:{minute:02}:{second:02}Z",
        u8::from(month)
    )
}

/// Aligned columns: a header and rows of cells, each made [`visible`].
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let columns = header.len();
    let rows: Vec<Vec<Cow<'_, str>>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| visible(cell)).collect())
        .collect();
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.chars().count()).collect();
    for row in &rows {
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
    for row in &rows {
        line(&mut row.iter().map(AsRef::as_ref));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTILE: &str = "a\u{1b}[2Jb\u{9b}31mc\u{202e}d\u{7}e\u{2066}f\u{200f}g\u{2028}h\rj\u{8}k\u{7f}";

    fn harmless(text: &str) -> bool {
        !text.chars().any(|c| c != '\n' && is_obeyed(c))
    }

    #[test]
    fn what_a_terminal_obeys_is_escaped() {
        assert!(harmless(&visible(HOSTILE)));
        assert!(
            visible(HOSTILE).starts_with("a\\u{1b}[2Jb\\u{9b}31mc\\u{202e}d\\u{7}"),
            "{}",
            visible(HOSTILE)
        );
        assert_eq!(visible("one\ntwo\tthree"), "one\\ntwo\\tthree");
        assert_eq!(visible_lines("one\ntwo\u{1b}"), "one\ntwo\\u{1b}");
        for text in ["", "plain", "Łódź 東京 😀 עברית", "a\\b"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text));
        }
    }

    #[test]
    fn cells_stay_in_their_row() {
        let rows = [vec![format!("x\ny{HOSTILE}"), "z".to_owned()]];
        let table = table(&["A", "B"], &rows);
        assert_eq!(table.lines().count(), 2);
        assert!(harmless(&table), "{table}");
    }

    #[test]
    fn json_and_yaml_are_harmless_and_mean_the_same() {
        let value = serde_json::json!({"name": HOSTILE, "two": "a\nb"});
        let json = serde_json::to_string_pretty(&value).unwrap_or_default();
        let shown = visible_json(&json);
        assert!(harmless(&shown), "{shown}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).ok(),
            Some(value.clone())
        );
        let value = serde_json::json!([value, {"name": "plain"}]);
        let yaml = visible_yaml(&value).unwrap_or_default();
        assert!(harmless(&yaml), "{yaml:?}");
        assert_eq!(
            serde_saphyr::from_str::<serde_json::Value>(&yaml).ok(),
            Some(value.clone())
        );
        let items: String = value
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|item| yaml_item(item).ok())
            .collect();
        assert!(harmless(&items), "{items:?}");
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&items).ok(), Some(value));
        assert_eq!(visible_yaml(&["a"]).ok(), serde_saphyr::to_string(&["a"]).ok());
    }
}
