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
    changes of screen and pointer are told only where --channel asks for them. json and yaml have every event with all that it says.")]
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
    for segment in &index.segments {
        if segment.last_ns < from_ns || segment.first_ns > to_ns {
            continue;
        }
        match one_segment(source, segment, &mut printer) {
            Err(error) if error.is::<NotWritten>() => return Err(error),
            Err(error) => {
                damaged = true;
                eprintln!("deskreel: left out: {}", visible(&format!("{error:#}")));
                let (from, to) = (clock(segment.first_ns), clock(segment.last_ns));
                let what = format!("Damaged, events from {from} to {to} are missing here: {error}");
                printer.told(vec![(segment.first_ns, what)])?;
            }
            Ok(()) => {}
        }
    }
    printer.finish()?;
    Ok(damaged)
}

fn one_segment(source: &Source, segment: &IndexedSegment, printer: &mut Printer<'_, impl Write>) -> anyhow::Result<()> {
    let opened = source.open_segment(segment.number)?;
    for event in opened.events() {
        let (time_ns, event) = event.with_context(|| format!("segment {} is damaged", segment.number))?;
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
        if format == Format::Text && !is_picture(event) {
            let lines = self.teller.take(time_ns, event);
            return self.told(lines);
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
    fn told(&mut self, lines: Vec<(u64, String)>) -> anyhow::Result<()> {
        if self.args.listing.format != Format::Text {
            return Ok(());
        }
        for (time_ns, text) in lines {
            writeln!(self.out, "{}  {}", clock(time_ns), visible(&text)).map_err(NotWritten)?;
        }
        Ok(())
    }

    fn finish(mut self) -> anyhow::Result<()> {
        let lines = self.teller.end();
        self.told(lines)?;
        if self.args.listing.format == Format::Json {
            let end = if self.separator == "[\n" { "[]\n" } else { "\n]\n" };
            self.out.write_all(end.as_bytes()).map_err(NotWritten)?;
        }
        Ok(())
    }
}

/// Whether an event only says how the picture changed.
fn is_picture(event: &Event) -> bool {
    matches!(event, Event::Screen(_) | Event::Pointer(_))
}
