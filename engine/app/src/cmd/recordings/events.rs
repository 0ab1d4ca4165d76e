//! `recordings events`.

use std::io::{BufWriter, Write};

use anyhow::Context as _;
use deskreel_policy::Verb;
use deskreel_recording::Channel;
use serde_json::Value;

use super::moment;
use super::target::{Target, details, runtime};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::cmd::{Global, Listing, Outcome};
use crate::event_row::{line, row};
use crate::output::{Format, visible_json, yaml_item};
use crate::replay::{Index, Source, clock, nanoseconds};

/// Arguments of `recordings events`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel recordings events 01902b6e --channel session --channel clipboard\n  \
    deskreel recordings events ./copied/00000000.mcap --format json"
)]
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
    let index = Index::read(source)?;
    let mut out = BufWriter::new(std::io::stdout().lock());
    let printed = print(source, &index, args, &mut out).and_then(|()| out.flush().context("write to stdout"));
    match printed {
        // `| head` has seen enough.
        Err(error) if is_broken_pipe(&error) => {}
        printed => printed?,
    }
    opened.shown();
    Ok(Outcome::Fine)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// Prints as it reads: a day's events need not fit into memory.
fn print(source: &Source, index: &Index, args: &Args, out: &mut impl Write) -> anyhow::Result<()> {
    let from_ns = args.from.map_or(0, nanoseconds);
    let to_ns = args.to.map_or(u64::MAX, nanoseconds);
    // Events don't need the picture: no keyframe before `from` is sought, and nothing is decoded.
    let mut separator = "[\n";
    for segment in &index.segments {
        if segment.last_ns < from_ns || segment.first_ns > to_ns {
            continue;
        }
        let opened = source.open_segment(segment.number)?;
        for event in opened.events() {
            let (time_ns, event) = event.with_context(|| format!("segment {} is damaged", segment.number))?;
            let wanted = args.channel.is_empty() || args.channel.contains(&event.channel());
            if !wanted || time_ns < from_ns || time_ns > to_ns {
                continue;
            }
            let row = row(time_ns, &event)?;
            match args.listing.format {
                Format::Text => writeln!(out, "{}", line(&row)),
                Format::Json => {
                    let one = Value::Object(row).to_string();
                    write!(out, "{separator}  {}", visible_json(&one))
                }
                Format::Yaml => out.write_all(yaml_item(&row)?.as_bytes()),
            }
            .context("write to stdout")?;
            separator = ",\n";
        }
    }
    if args.listing.format == Format::Json {
        let end = if separator == "[\n" { "[]\n" } else { "\n]\n" };
        out.write_all(end.as_bytes()).context("write to stdout")?;
    }
    Ok(())
}
