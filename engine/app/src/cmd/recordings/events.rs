//! `recordings events`.

use std::io::{BufWriter, Write};

use anyhow::Context as _;
use deskreel_policy::Verb;
use deskreel_recording::{Channel, Event};
use serde_json::Value;

use super::moment;
use super::target::{Target, details, runtime};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::cmd::{Global, Listing, Outcome};
use crate::event_row::{line, row};
use crate::output::{Format, visible, visible_json, yaml_item};
use crate::replay::{Index, IndexedSegment, Source, Teller, clock, nanoseconds};

/// Arguments of `recordings events`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  deskreel recordings events 01902b6e\n  \
    deskreel recordings events 01902b6e --channel session --channel clipboard\n  \
    deskreel recordings events ./copied/00000000.mcap --format json\n\n\
    As text it tells what happened, in words, a line each: what was typed is put together (keys are named as on a US keyboard), and \
    changes of screen and pointer and measures of the network are told only where --channel asks for them. json and yaml have every \
    event with all that it says.\n\n\
    Exit code 3: something is damaged or missing and left out; stderr says what, and as text a line stands where it would be.")]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Only this channel; may be repeated
    #[arg(long, value_parser = channel, value_name = "NAME")]
    channel: Vec<Channel>,
    /// Only events from this moment on
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    from: Option<std::time::Duration>,
    /// Only events up to this moment
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    to: Option<std::time::Duration>,
    #[command(flatten)]
    listing: Listing,
}

impl Args {
    /// The stretch that is asked for, in nanoseconds.
    fn between(&self) -> (u64, u64) {
        (self.from.map_or(0, nanoseconds), self.to.map_or(u64::MAX, nanoseconds))
    }
}

fn channel(name: &str) -> Result<Channel, String> {
    Channel::from_topic(name).ok_or_else(|| {
        let known: Vec<&str> = Channel::ALL.iter().map(|channel| channel.topic()).collect();
        format!("no channel {name:?}, there are {}", known.join(", "))
    })
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let purpose = Purpose {
        verb: Verb::Read,
        what: RecordingAction::Access,
        action: "events",
    };
    let found = args.target.find(global, &runtime, purpose)?;
    let moment = |at: Option<std::time::Duration>| at.map(|at| clock(nanoseconds(at))).into();
    let channels: Vec<&str> = args.channel.iter().map(|channel| channel.topic()).collect();
    let told = [
        ("from", moment(args.from)),
        ("to", moment(args.to)),
        ("channels", channels.into()),
    ];
    let opened = found.source(&runtime, details(told))?;
    let source = &opened.source;
    let index = Index::read_whole(source)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let printed = print(source, &index, args, &mut out).and_then(|damage| {
        out.flush().map_err(NotWritten)?;
        Ok(damage)
    });
    let damage = match printed {
        // `| head` has seen enough.
        Err(error) if is_broken_pipe(&error) => false,
        printed => printed?,
    };
    opened.shown();
    Ok(if damage { Outcome::Findings } else { Outcome::Fine })
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<NotWritten>()
        .is_some_and(|NotWritten(error)| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints as it reads: a day's events need not fit into memory. Answers whether anything is left out because it is damaged or
/// missing.
fn print(source: &Source, index: &Index, args: &Args, out: &mut impl Write) -> anyhow::Result<bool> {
    let (from_ns, to_ns) = args.between();
    for damage in &index.damage {
        eprintln!("deskreel: {}", visible(damage));
    }
    let mut damaged = !index.damage.is_empty();
    let mut printer = Printer::new(args, out);
    // Events don't need the picture: no keyframe before `from` is sought, and nothing is decoded.
    for (place, segment) in index.segments.iter().enumerate() {
        // Of one that could not be read it is known only where the next one begins; of the last, nothing.
        let next = index.segments.get(place + 1).map(|next| next.first_ns);
        let until_ns = match next {
            _ if !segment.events.is_empty() => segment.last_ns,
            Some(next_ns) => next_ns.max(segment.last_ns),
            None => u64::MAX,
        };
        if until_ns < from_ns || segment.first_ns > to_ns {
            continue;
        }
        let mut read_ns = segment.first_ns;
        match one_segment(source, segment, &mut printer, &mut read_ns) {
            Err(error) if error.is::<NotWritten>() => return Err(error),
            Err(error) => {
                let Some((left_from_ns, left_to_ns)) = left_out((read_ns, until_ns), (from_ns, to_ns)) else {
                    continue;
                };
                damaged = true;
                eprintln!("deskreel: left out: {}", visible(&format!("{error:#}")));
                let to = match left_to_ns {
                    u64::MAX => "the end".to_owned(),
                    to_ns => clock(to_ns),
                };
                let what = format!(
                    "Damaged, events from {} to {to} are missing here: {error}",
                    clock(left_from_ns)
                );
                printer.lost((left_from_ns, what))?;
            }
            Ok(()) => {}
        }
    }
    printer.finish()?;
    Ok(damaged)
}

/// What is missing of what was asked `between`, where nothing of `damaged` could be read; `None` where that was not asked for.
fn left_out(damaged: (u64, u64), between: (u64, u64)) -> Option<(u64, u64)> {
    let (from_ns, to_ns) = (damaged.0.max(between.0), damaged.1.min(between.1));
    (from_ns <= to_ns).then_some((from_ns, to_ns))
}

/// Prints a segment; `read_ns` becomes the time up to which it was read.
fn one_segment(
    source: &Source,
    segment: &IndexedSegment,
    printer: &mut Printer<'_, impl Write>,
    read_ns: &mut u64,
) -> anyhow::Result<()> {
    let opened = source.open_segment(segment.number)?;
    for event in opened.events() {
        let (time_ns, event) = event.with_context(|| format!("segment {} is damaged", segment.number))?;
        *read_ns = time_ns;
        printer.event(time_ns, &event)?;
    }
    Ok(())
}

/// Stdout does not take it: no word on the recording.
#[derive(Debug, thiserror::Error)]
#[error("write to stdout")]
struct NotWritten(#[source] std::io::Error);

/// Writes events in the format that was asked for.
struct Printer<'a, W> {
    args: &'a Args,
    between: (u64, u64),
    out: &'a mut W,
    teller: Teller,
    /// What stands before the next item of a JSON list.
    separator: &'static str,
}

impl<'a, W: Write> Printer<'a, W> {
    fn new(args: &'a Args, out: &'a mut W) -> Self {
        Self {
            args,
            between: args.between(),
            out,
            teller: Teller::default(),
            separator: "[\n",
        }
    }

    fn event(&mut self, time_ns: u64, event: &Event) -> anyhow::Result<()> {
        let (channels, format) = (&self.args.channel, self.args.listing.format);
        let wanted = channels.is_empty() || channels.contains(&event.channel());
        if !wanted || time_ns < self.between.0 || time_ns > self.between.1 {
            return Ok(());
        }
        if format == Format::Text && !Teller::passes_over(event) {
            let lines = self.teller.take(time_ns, event);
            return self.told(&lines);
        }
        if format == Format::Text && channels.is_empty() {
            return Ok(());
        }
        let row = row(time_ns, event)?;
        match format {
            Format::Text => writeln!(self.out, "{}", line(&row)),
            Format::Json => {
                let one = Value::Object(row).to_string();
                write!(self.out, "{}  {}", self.separator, visible_json(&one))
            }
            Format::Yaml => self.out.write_all(yaml_item(&row)?.as_bytes()),
        }
        .map_err(NotWritten)?;
        self.separator = ",\n";
        Ok(())
    }

    /// Prints what happened as text, a line each.
    fn told(&mut self, lines: &[(u64, String)]) -> anyhow::Result<()> {
        if self.args.listing.format != Format::Text {
            return Ok(());
        }
        for line in lines {
            writeln!(self.out, "{}", Teller::printed(line)).map_err(NotWritten)?;
        }
        Ok(())
    }

    /// Something is missing here: as text, a line says so.
    fn lost(&mut self, what: (u64, String)) -> anyhow::Result<()> {
        let mut lines = self.teller.lost();
        lines.push(what);
        self.told(&lines)
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let lines = self.teller.end();
        self.told(&lines)?;
        if self.args.listing.format == Format::Json {
            let end = if self.separator == "[\n" { "[]\n" } else { "\n]\n" };
            self.out.write_all(end.as_bytes()).map_err(NotWritten)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use std::path::Path;
    use std::sync::Arc;

    use clap::Parser as _;
    use deskreel_recording::event::{
        Button, EndReason, Input, KeyContent, NetworkFacts, SessionEnd, SessionEvent, SessionStart,
    };
    use deskreel_recording::{Recorder, RecorderOptions, SealedSegment, SigningKey};

    use super::*;

    const S: u64 = 1_000_000_000;

    #[derive(clap::Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn key(scancode: u16) -> Event {
        let content = Some(KeyContent {
            scancode: Some(scancode),
            ..KeyContent::default()
        });
        Event::Input(Input::Key { down: true, content })
    }

    /// A recording of three segments: `l` with Ctrl held, clicks, `s`.
    fn recording(folder: &Path) {
        let start = SessionStart {
            recording: uuid::Uuid::now_v7(),
            ..SessionStart::default()
        };
        let signing = SigningKey::from_bytes(&[7; 32]);
        let mut recorder = Recorder::new(start, signing, RecorderOptions::default()).unwrap();
        let write = |segment: Option<SealedSegment>| {
            let segment = segment.unwrap();
            let name = format!("{:08}.mcap", segment.number);
            std::fs::write(folder.join(name), &segment.bytes).unwrap();
        };
        let network = SessionEvent::Network(NetworkFacts {
            round_trip_ms: Some(12),
            ..NetworkFacts::default()
        });
        recorder.push(S, &key(0x26)).unwrap();
        recorder.push(S + 1, &Event::Session(network)).unwrap();
        recorder.push(S + 2, &key(0x26)).unwrap();
        recorder.push(S + 3, &key(0x1d)).unwrap();
        write(recorder.seal(2 * S).unwrap());
        for at in [3 * S, 5 * S] {
            let click = Input::MouseButton {
                button: Button::Left,
                down: true,
                x: 1,
                y: 2,
            };
            recorder.push(at, &Event::Input(click)).unwrap();
        }
        write(recorder.seal(6 * S).unwrap());
        recorder.push(7 * S, &key(0x1f)).unwrap();
        let end = SessionEnd {
            reason: EndReason::ClientClosed,
            detail: None,
            error_info: None,
        };
        let (last, manifest) = recorder.finish(8 * S, end).unwrap();
        write(last);
        std::fs::write(folder.join("manifest.json"), manifest).unwrap();
    }

    /// What is printed of a folder besides the session's begin and end, and whether something is left out.
    fn printed(folder: &Path, arguments: &[&str]) -> (Vec<String>, bool) {
        let words = ["events", "folder"];
        let args = Cli::try_parse_from(words.iter().chain(arguments)).unwrap().args;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let source = Source::folder(folder, Arc::new(runtime)).unwrap();
        let index = Index::read_whole(&source).unwrap();
        let mut out = Vec::new();
        let damaged = print(&source, &index, &args, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines = text.lines().filter(|line| !line.contains("The session"));
        (lines.map(str::to_owned).collect(), damaged)
    }

    #[test]
    fn what_is_missing_is_told_where_it_would_be_and_only_there() {
        let folder = tempfile::tempdir().unwrap();
        recording(folder.path());
        let (lines, damaged) = printed(folder.path(), &[]);
        assert_eq!(
            lines,
            [
                "00:00:01.000  Typed: ll",
                "00:00:03.000  Left click at 1, 2",
                "00:00:05.000  Left click at 1, 2",
                "00:00:07.000  Pressed Ctrl+S"
            ]
        );
        assert!(!damaged);
        let (lines, _) = printed(folder.path(), &["--channel", "session", "--to", "1500ms"]);
        assert!(lines.iter().any(|line| line.contains("round_trip_ms=12")), "{lines:?}");
        std::fs::remove_file(folder.path().join("00000001.mcap")).unwrap();
        let (lines, damaged) = printed(folder.path(), &[]);
        assert!(damaged);
        assert_eq!((lines.len(), lines[0].as_str()), (3, "00:00:01.000  Typed: ll"));
        assert!(
            lines[1].starts_with("00:00:03.000  Damaged, events from 00:00:03.000 to 00:00:0")
                && lines[1].contains("00000001.mcap"),
            "{lines:?}"
        );
        // Nobody knows whether Ctrl went up meanwhile.
        assert_eq!(lines[2], "00:00:07.000  Typed: s");
        let (lines, _) = printed(folder.path(), &["--from", "4s", "--to", "4.5s"]);
        assert!(lines[0].contains("from 00:00:04.000 to 00:00:04.500"), "{lines:?}");
        let (lines, damaged) = printed(folder.path(), &["--to", "2s"]);
        assert_eq!((lines.len(), damaged), (1, false), "{lines:?}");
    }

    #[test]
    fn no_more_is_told_to_be_missing_than_is() {
        let all = (0, u64::MAX);
        assert_eq!(left_out((5, 9), all), Some((5, 9)));
        assert_eq!(left_out((5, 9), (7, 8)), Some((7, 8)));
        // Damage behind what was asked for.
        assert_eq!(left_out((5, 9), (0, 4)), None);
    }
}
