//! `sessions watch`.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use super::problem;
use crate::access::sudo_user;
use crate::cmd::{Global, Listing, Outcome};
use crate::control::client::{Answers, ask};
use crate::control::protocol::{Answer, Request};
use crate::event_row;
use crate::output::{Format, visible, visible_json, yaml_item};
use crate::replay::Teller;

/// When nothing has been typed for so long, what was typed is told: longer than a pause that ends a text.
const TYPING_RESTS: Duration = Duration::from_millis(2500);
/// Answers of the gateway that wait to be printed.
const ANSWERS_MAX: usize = 64;

/// Arguments of `sessions watch`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel sessions watch 01902b6e\n  \
    deskreel sessions watch 01902b6e -o now.png --every 2s\n\nAs text it tells what happens, in words, a line each, as \
    `recordings events` does; what is typed is put together, and told when the typing rests. With --format json every event is one \
    line. The picture's file is replaced as a whole each time.")]
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
        sudo_user: sudo_user(),
    };
    let answers = waiting(ask(&data_dir, &request)?)?;
    let mut words = Words::default();
    loop {
        let answer = match next(&answers, words.due()) {
            Ok(answer) => answer?,
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                let told = print(&words.rest());
                if told.is_err() {
                    return done(told);
                }
                continue;
            }
        };
        let shown = match answer {
            Answer::Session { session } => show(args.listing.format, "session", serde_json::to_value(session)?),
            Answer::Event { event } => match args.listing.format {
                Format::Text => print(&words.take(&event, Instant::now())),
                format => event_line(format, &event),
            },
            Answer::Frame { png, .. } => {
                if let Some(output) = &args.output {
                    let png = STANDARD.decode(png).context("read the gateway's picture")?;
                    replace(output, &png)?;
                }
                Ok(())
            }
            Answer::End { reason } => {
                let told = print(&words.rest());
                return done(told.and_then(|()| show(args.listing.format, "end", Value::from(reason))));
            }
            other => {
                print(&words.rest()).context("write to stdout")?;
                return Err(problem(other));
            }
        };
        if shown.is_err() {
            return done(shown);
        }
    }
    print(&words.rest()).context("write to stdout")?;
    anyhow::bail!("the gateway has gone")
}

/// `| head` has seen enough.
fn done(shown: io::Result<()>) -> anyhow::Result<Outcome> {
    match shown {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error).context("write to stdout"),
        _ => Ok(Outcome::Fine),
    }
}

/// The answers, read on a thread of their own: what was typed is told also while none comes.
fn waiting(answers: Answers) -> anyhow::Result<Receiver<anyhow::Result<Answer>>> {
    let (sender, receiver) = sync_channel(ANSWERS_MAX);
    let read = move || {
        for answer in answers {
            if sender.send(answer).is_err() {
                return;
            }
        }
    };
    std::thread::Builder::new()
        .name("answers".to_owned())
        .spawn(read)
        .context("start a thread")?;
    Ok(receiver)
}

/// The next answer; no longer than until `due`, if there is one.
fn next<T>(answers: &Receiver<T>, due: Option<Instant>) -> Result<T, RecvTimeoutError> {
    match due {
        Some(due) => answers.recv_timeout(due.saturating_duration_since(Instant::now())),
        None => answers.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

/// What happens, in words.
#[derive(Debug, Default)]
struct Words {
    teller: Teller,
    /// When a key was pressed last, as long as not all of what was typed is told.
    typed: Option<Instant>,
}

impl Words {
    /// The lines that an event completes.
    fn take(&mut self, row: &Map<String, Value>, now: Instant) -> Vec<String> {
        let is_key = row.get("channel").is_some_and(|channel| channel == "input")
            && row.get("kind").is_some_and(|kind| kind == "key");
        let Some((time_ns, event)) = event_row::event(row) else {
            return Vec::new();
        };
        let lines = self.teller.take(time_ns, &event);
        if is_key {
            self.typed = Some(now);
        }
        lines.iter().map(Teller::printed).collect()
    }

    /// When the rest is to be told.
    fn due(&self) -> Option<Instant> {
        self.typed.map(|typed| typed + TYPING_RESTS)
    }

    /// What is not told yet.
    fn rest(&mut self) -> Vec<String> {
        self.typed = None;
        self.teller.end().iter().map(Teller::printed).collect()
    }
}

fn print(lines: &[String]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for line in lines {
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// An event for programs.
fn event_line(format: Format, event: &Map<String, Value>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => Ok(()),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use deskreel_recording::Event;
    use deskreel_recording::event::{Input, KeyContent, NetworkFacts, SessionEvent};

    use super::*;
    use crate::event_row::row;

    const S: u64 = 1_000_000_000;

    fn key(scancode: u16) -> Event {
        let content = Some(KeyContent {
            scancode: Some(scancode),
            ..KeyContent::default()
        });
        Event::Input(Input::Key { down: true, content })
    }

    #[test]
    fn what_is_typed_is_told_in_words_when_the_typing_rests() {
        let mut words = Words::default();
        let begun = Instant::now();
        assert_eq!(words.due(), None);
        assert_eq!(words.take(&row(S, &key(0x26)).unwrap(), begun), [""; 0]);
        let network = Event::Session(SessionEvent::Network(NetworkFacts::default()));
        let later = begun + Duration::from_secs(1);
        assert_eq!(words.take(&row(S + 5, &network).unwrap(), later), [""; 0]);
        assert_eq!(words.due(), Some(begun + TYPING_RESTS), "only typing puts it off");
        assert_eq!(words.take(&row(2 * S, &key(0x1f)).unwrap(), later), [""; 0]);
        assert_eq!(words.due(), Some(later + TYPING_RESTS));
        assert_eq!(words.rest(), ["00:00:01.000  Typed: ls"]);
        assert_eq!((words.due(), words.rest()), (None, Vec::new()));
        let resized = Event::Session(SessionEvent::Resized { width: 8, height: 9 });
        assert_eq!(
            words.take(&row(9 * S, &resized).unwrap(), later),
            ["00:00:09.000  The screen has 8x9 pixels"]
        );
    }

    #[test]
    fn nobody_waits_longer_than_until_it_is_due() {
        let (sender, answers) = sync_channel(1);
        let past = Some(Instant::now());
        assert_eq!(next::<u8>(&answers, past), Err(RecvTimeoutError::Timeout));
        sender.send(7).unwrap();
        assert_eq!(next(&answers, past), Ok(7));
        drop(sender);
        assert_eq!(next(&answers, None), Err(RecvTimeoutError::Disconnected));
        assert_eq!(next(&answers, past), Err(RecvTimeoutError::Disconnected));
    }
}
