//! `sessions watch`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::problem;
use crate::cmd::{Global, Listing, Outcome};
use crate::control::client::ask;
use crate::control::protocol::{Answer, Request};
use crate::event_row::line;
use crate::output::{Format, visible, visible_json, yaml_item};

/// Arguments of `sessions watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel sessions watch 01902b6e\n  \
    deskreel sessions watch 01902b6e -o now.png --every 2s\n\nWith --format json every event is one line. \
    The picture's file is replaced as a whole each time.")]
pub(super) struct Args {
    /// Id of the session (a unique begin is enough)
    id: String,
    /// Keep the current picture in this file (PNG)
    #[arg(short, long, value_name = "FILE.png")]
    output: Option<PathBuf>,
    /// How often the picture is written
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = deskreel_config::parse_duration)]
    every: Duration,
    #[command(flatten)]
    listing: Listing,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let data_dir = global.load()?.config.data_dir;
    let interval_ms = u64::try_from(args.every.as_millis()).unwrap_or(u64::MAX);
    let request = Request::Watch {
        id: args.id.clone(),
        frame_interval_ms: args.output.as_ref().map(|_| interval_ms),
    };
    for answer in ask(&data_dir, &request)? {
        let shown = match answer? {
            Answer::Session { session } => show(args.listing.format, "session", serde_json::to_value(session)?),
            Answer::Event { event } => event_line(args.listing.format, &event),
            Answer::Frame { png, .. } => {
                if let Some(output) = &args.output {
                    let png = STANDARD.decode(png).context("read the gateway's picture")?;
                    replace(output, &png)?;
                }
                Ok(())
            }
            Answer::End { reason } => {
                let shown = show(args.listing.format, "end", Value::from(reason));
                return done(shown);
            }
            other => return Err(problem(other)),
        };
        if shown.is_err() {
            return done(shown);
        }
    }
    anyhow::bail!("the gateway has gone")
}

/// `| head` has seen enough.
fn done(shown: io::Result<()>) -> anyhow::Result<Outcome> {
    match shown {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(Outcome::Fine),
    }
}

fn event_line(format: Format, event: &Map<String, Value>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => writeln!(out, "{}", line(event)),
        Format::Json => writeln!(out, "{}", visible_json(&Value::Object(event.clone()).to_string())),
        Format::Yaml => out.write_all(yaml(event)?.as_bytes()),
    }
}

fn show(format: Format, name: &str, value: Value) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match (format, &value) {
        (Format::Text, Value::String(text)) => writeln!(out, "{name}: {}", visible(text)),
        (Format::Text, value) => {
            let field = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
            let (id, user, desktop) = (field("id"), field("user"), field("desktop"));
            writeln!(out, "{name} {}", visible(&format!("{id}: {user} on {desktop}")))
        }
        (Format::Json, _) => {
            let row = Value::Object(Map::from_iter([(name.to_owned(), value)]));
            writeln!(out, "{}", visible_json(&row.to_string()))
        }
        (Format::Yaml, _) => out.write_all(yaml(&Map::from_iter([(name.to_owned(), value)]))?.as_bytes()),
    }
}

/// One entry of a list that never ends.
fn yaml(row: &Map<String, Value>) -> io::Result<String> {
    yaml_item(row).map_err(io::Error::other)
}

/// Whoever looks at the file sees one picture or the next, never half of one.
fn replace(file: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let fresh = PathBuf::from(name);
    std::fs::write(&fresh, bytes)
        .and_then(|()| std::fs::rename(&fresh, file))
        .with_context(|| format!("write {}", file.display()))
}
