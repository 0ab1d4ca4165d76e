//! `deskreel audit`: read, follow and check the audit log.

use std::fmt::Write as _;
use std::io::{BufWriter, ErrorKind, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use time::OffsetDateTime;

use super::recordings::door::Rules;
use super::recordings::moment;
use super::{Global, Listing, Outcome};
use crate::audit::{self, Filter, Follow, Report, Stored};
use crate::output::{self, Format, visible, visible_json, yaml_item};

/// Between two looks for new events.
const FOLLOW_INTERVAL: Duration = Duration::from_millis(200);
/// Longest value that a line for people shows.
const VALUE_MAX_CHARS: usize = 100;
/// Fields that stand elsewhere in a line for people, or that every event has.
const COMMON: [&str; 24] = [
    "ei",
    "event",
    "code",
    "time",
    "uid",
    "cluster_name",
    "node",
    "sid",
    "user",
    "login",
    "windows_user",
    "windows_domain",
    "desktop_name",
    "desktop_addr",
    "desktop_labels",
    "addr.remote",
    "proto",
    "windows_desktop_service",
    "roles",
    "decision",
    "participants",
    "session_start",
    "seq",
    "prev",
];

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List events, oldest first
    Ls(LsArgs),
    /// Print the last events; with -f also those to come
    Tail(TailArgs),
    /// Check that no line was changed or removed
    ///
    /// Exit code 0: every line is there as it was written. 3: so it is, but the log itself tells of something: a torn line,
    /// events that could not be written. 4: lines were changed or removed.
    ///
    /// The digest that is printed as `head`, kept elsewhere, proves later that nothing up to here was changed:
    ///
    ///   deskreel audit verify --head DIGEST
    #[command(verbatim_doc_comment)]
    Verify(VerifyArgs),
}

/// Which events.
#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// Only events since then: 2h, 3d, 2024-05-01, RFC 3339
    #[arg(long, value_name = "WHEN", value_parser = moment::since)]
    from: Option<OffsetDateTime>,
    /// Only events until then
    #[arg(long, value_name = "WHEN", value_parser = moment::since)]
    to: Option<OffsetDateTime>,
    /// Only this event, by name or code; desktop.* = every one that starts so; may be repeated
    #[arg(long, value_name = "NAME")]
    event: Vec<String>,
    /// Only events of this user
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// Only events of this session; the beginning of its id is enough
    #[arg(long, value_name = "ID")]
    session: Option<String>,
}

impl FilterArgs {
    fn filter(&self) -> Filter {
        Filter {
            from: self.from,
            to: self.to,
            events: self.event.clone(),
            user: self.user.clone(),
            session: self.session.clone(),
        }
    }
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel audit ls --from 1d --event session.recording.access\n  \
    deskreel audit ls --session 01902b6e --format json | jq -r '.[] | .time + \" \" + .event'"
)]
struct LsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "With --format json every event is one line, as it stands in the log.")]
struct TailArgs {
    /// How many
    #[arg(short = 'n', long = "lines", default_value_t = 10, value_name = "COUNT")]
    lines: usize,
    /// Go on with events as they are written
    #[arg(short = 'f', long)]
    follow: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    listing: Listing,
}

#[derive(Debug, clap::Args)]
struct VerifyArgs {
    /// SHA-256 that an earlier verify printed as head: a line with it must be there
    #[arg(long, value_name = "DIGEST")]
    head: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

/// Runs `audit`.
///
/// # Errors
/// Configuration, a log that can't be read.
pub(crate) fn run(global: &Global, args: Args) -> anyhow::Result<Outcome> {
    let loaded = global.load()?;
    let rules = Rules::open(&loaded)?;
    if let Err(why) = rules.ruler().may_audit(OffsetDateTime::now_utc()) {
        anyhow::bail!(why);
    }
    let data_dir = &loaded.config.data_dir;
    let done = match args.command {
        Command::Ls(args) => ls(data_dir, &args),
        Command::Tail(args) => tail(data_dir, &args),
        Command::Verify(args) => verify(data_dir, &args),
    };
    match done {
        // `| head` has seen enough.
        Err(error) if is_broken_pipe(&error) => Ok(Outcome::Fine),
        done => done,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<std::io::Error>();
    error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

fn ls(data_dir: &Path, args: &LsArgs) -> anyhow::Result<Outcome> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    let json = args.listing.format == Format::Json;
    let mut separator = "[\n";
    audit::read(data_dir, &args.filter.filter(), |event| {
        if json {
            write!(out, "{separator}  {}", visible_json(&event.text)).context("write to stdout")?;
            separator = ",\n";
            return Ok(());
        }
        print(&mut out, args.listing.format, &event)
    })?;
    if json {
        let end = if separator == "[\n" { "[]\n" } else { "\n]\n" };
        out.write_all(end.as_bytes()).context("write to stdout")?;
    }
    out.flush().context("write to stdout")?;
    Ok(Outcome::Fine)
}

fn tail(data_dir: &Path, args: &TailArgs) -> anyhow::Result<Outcome> {
    let format = args.listing.format;
    let mut out = BufWriter::new(std::io::stdout().lock());
    // In this order: what is written in between is seen twice rather than never, and `seq` tells.
    let mut follow = args
        .follow
        .then(|| Follow::new(data_dir, args.filter.filter()))
        .transpose()?;
    let end = follow.as_ref().map_or(u64::MAX, Follow::seq);
    for event in audit::last(data_dir, &args.filter.filter(), args.lines)? {
        if event.seq().is_none_or(|seq| seq <= end) {
            print(&mut out, format, &event)?;
        }
    }
    out.flush().context("write to stdout")?;
    while let Some(follow) = &mut follow {
        std::thread::sleep(FOLLOW_INTERVAL);
        for event in follow.take()? {
            print(&mut out, format, &event)?;
        }
        out.flush().context("write to stdout")?;
    }
    Ok(Outcome::Fine)
}

fn print(out: &mut impl Write, format: Format, event: &Stored) -> anyhow::Result<()> {
    match format {
        Format::Text => writeln!(out, "{}", line(event)),
        Format::Json => writeln!(out, "{}", visible_json(&event.text)),
        Format::Yaml => out.write_all(yaml_item(&event.fields)?.as_bytes()),
    }
    .context("write to stdout")
}

/// An event as one line: when, what, who, in which session, and what is special about it.
fn line(event: &Stored) -> String {
    let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { plain(text) };
    let sid = event.text("sid");
    let mut line = format!(
        "{}  {:<7} {:<30} {:<14} {:<13}",
        plain(event.text("time")),
        plain(event.text("code")),
        plain(event.text("event")),
        or_dash(event.text("user")),
        or_dash(sid.get(..13).unwrap_or(sid)),
    );
    let desktop = event.text("desktop_name");
    if !desktop.is_empty() {
        let login = event.text("login");
        let at = if login.is_empty() { "" } else { "@" };
        let _ = write!(line, " {}{at}{}", plain(login), plain(desktop));
    }
    for (name, value) in &event.fields {
        let empty =
            value.is_null() || value.as_str().is_some_and(str::is_empty) || value.as_array().is_some_and(Vec::is_empty);
        if empty || COMMON.contains(&name.as_str()) {
            continue;
        }
        let text = match value {
            Value::String(text) if !text.contains(char::is_whitespace) => plain(text),
            value => plain(&value.to_string()),
        };
        let _ = write!(line, " {}={text}", plain(name));
    }
    line.trim_end().to_owned()
}

/// Text of peers, harmless to a terminal and not too long.
fn plain(text: &str) -> String {
    match text.char_indices().nth(VALUE_MAX_CHARS) {
        Some((end, _)) => format!("{}...", visible(text.get(..end).unwrap_or_default())),
        None => visible(text).into_owned(),
    }
}

fn verify(data_dir: &Path, args: &VerifyArgs) -> anyhow::Result<Outcome> {
    let report = audit::verify(data_dir, args.head.as_deref())?;
    output::print(args.listing.format, &report, text)?;
    Ok(match (report.whole, report.notes.is_empty()) {
        (false, _) => Outcome::Broken,
        (true, false) => Outcome::Findings,
        (true, true) => Outcome::Fine,
    })
}

fn text(report: &Report) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "{} lines in {} files, {} to {}",
        report.lines, report.files, report.from, report.to
    );
    let _ = writeln!(out, "head        {} (line {} of the log)", report.head, report.last_seq);
    let kinds = [("FINDING", &report.findings), ("note", &report.notes)];
    for (kind, found) in kinds {
        for finding in found {
            let place = match finding.line {
                0 => finding.file.clone(),
                line => format!("{}:{line}", finding.file),
            };
            let _ = writeln!(out, "{kind:<11} {}: {}", plain(&place), plain(&finding.problem));
        }
    }
    if report.more > 0 {
        let _ = writeln!(out, "and {} findings more", report.more);
    }
    let verdict = match (report.whole, report.first_seq) {
        (true, 0 | 1) => "whole: every line is there as it was written",
        (true, _) => "whole: every line is there as it was written, but for files that audit.files_max removed",
        (false, _) => "BROKEN: the log is not as it was written",
    };
    let _ = writeln!(out, "{verdict}");
    out
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn a_line_for_people_holds_no_terminal_commands() {
        let text = r#"{"event":"desktop.channel.open","code":"DRC01I","time":"2026-02-01T00:00:00.000Z","user":"al\u001bice",
            "sid":"01902b6e-7c3a-7000-8000-000000000001","login":"root","desktop_name":"lab","channel":"a\u202eb c","seq":1}"#;
        let event = Stored {
            fields: serde_json::from_str(text).unwrap(),
            text: text.to_owned(),
        };
        assert_eq!(
            line(&event),
            "2026-02-01T00:00:00.000Z  DRC01I  desktop.channel.open           al\\u{1b}ice    01902b6e-7c3a root@lab \
             channel=\"a\\u{202e}b c\""
        );
    }
}
