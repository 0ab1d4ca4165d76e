//! `recordings export`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use deskreel_config::Loaded;
use deskreel_policy::Verb;
use deskreel_sdk::abi::meta::FormatInfo;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

use super::digest::digest_of;
use super::output_file::OutputFile;
use super::target::{Found, Target, details, runtime};
use super::{moment, size};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::cmd::{Global, Outcome, UsageError};
use crate::host::{ExporterHandle, Plugins};
use crate::output::visible;
use crate::replay::{Exported, Index, Options, Overlay, Plan, Speed, Stretch, clock, export, nanoseconds};

/// Arguments of `recordings export`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel recordings export 01902b6e --format mp4 -o session.mp4\n  \
    deskreel recordings export 01902b6e --format mp4 -o fast.mp4 --skip-idle --speed 4 --overlay user,clock,keys\n  \
    deskreel recordings export 01902b6e 0190311f --format mp4 -o videos/\n  \
    deskreel recordings export 01902b6e --format frames --from 1m --to 1m30s -o pictures/\n  \
    deskreel recordings export 01902b6e --format png --from 1m30s --overlay user,clock -o moment.png\n\n\
    Formats, as far as the configuration has their exporters: mp4 and webm (video), gif (of a short stretch), frames (a folder with a \
    PNG for each change), png (one picture, the screen at --from), json (the events, a line each), and those of other plugins.\n\n\
    Exit code 3: done, but with gaps, damaged segments or undecoded parts; what is missing is marked in the picture."
)]
pub(super) struct Args {
    /// Ids of recordings (unique begins are enough), or folders with their objects
    #[arg(value_name = "ID|DIR", required = true, num_args = 1..)]
    recordings: Vec<String>,
    /// What to make: mp4, webm, gif, png, frames, json, or what else the configured exporters offer
    #[arg(long, value_name = "FORMAT")]
    format: String,
    /// The exporter of the configuration to use; default: the first that makes the format
    #[arg(long, value_name = "NAME")]
    exporter: Option<String>,
    /// The file, or for pictures the folder, to write; of several recordings, or with a / at its end, the folder to write
    /// them into. Default: the recording's id, here
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Where to begin: 12.5s, 1m30s, 00:01:30. Of png: the moment; default: the first picture
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    from: Option<Duration>,
    /// Where to end
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    to: Option<Duration>,
    #[command(flatten)]
    look: Look,
    /// Replace an output that exists
    #[arg(long)]
    force: bool,
}

/// How an export differs from the session as it was.
#[derive(Debug, Clone, clap::Args)]
struct Look {
    /// How fast: 2, 0.5, 16x
    #[arg(long, default_value = "1", value_name = "N")]
    speed: Speed,
    /// Leave out stretches in which nothing happens; of gaps, 3 seconds stay
    #[arg(long)]
    skip_idle: bool,
    /// Most pictures a second
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=240), value_name = "N")]
    fps_max: Option<u32>,
    /// Scale down to this width in pixels, where the screen is wider
    #[arg(long, value_parser = clap::value_parser!(u32).range(16..=16384), value_name = "PIXELS")]
    width: Option<u32>,
    /// Leave the pointer out
    #[arg(long)]
    no_pointer: bool,
    /// What a bar below the picture tells: keys typed (where recorded; named as on a US keyboard), clock, user
    #[arg(long, value_delimiter = ',', value_name = "keys,clock,user")]
    overlay: Vec<Part>,
    /// Keep every pixel as it was, in formats that can
    #[arg(long)]
    lossless: bool,
    /// Threads that encode; default: what the exporter's settings say
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64), value_name = "N")]
    jobs: Option<u32>,
}

/// A part of the bar below the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    Keys,
    Clock,
    User,
}

impl Look {
    fn options(&self) -> Options {
        let shows = |part| self.overlay.contains(&part);
        Options {
            speed: self.speed,
            skip_idle: self.skip_idle,
            fps_max: self.fps_max,
            width: self.width,
            no_pointer: self.no_pointer,
            overlay: Overlay {
                keys: shows(Part::Keys),
                clock: shows(Part::Clock),
                user: shows(Part::User),
            },
            lossless: self.lossless,
            threads: self.jobs,
        }
    }
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let mut command = Command {
        global,
        args,
        options: args.look.options(),
        cancelled: catch_signals(&runtime)?,
        runtime,
        exporter: None,
    };
    let several = args.recordings.len() > 1;
    let (mut outcome, mut failed) = (Outcome::Fine, 0);
    for (number, recording) in (1..).zip(&args.recordings) {
        let label = if several {
            format!("{number}/{} ", args.recordings.len())
        } else {
            String::new()
        };
        match command.one(recording, &label) {
            Ok(Outcome::Fine) => {}
            Ok(found) => outcome = found,
            Err(error) if several && !error.is::<UsageError>() && !command.is_cancelled() => {
                eprintln!("deskreel: {}", visible(&format!("{recording}: {error:#}")));
                failed += 1;
            }
            Err(error) => return Err(error),
        }
    }
    anyhow::ensure!(
        failed == 0,
        "{failed} of {} recordings were not exported",
        args.recordings.len()
    );
    Ok(outcome)
}

/// The command and what it needs for every recording.
struct Command<'a> {
    global: &'a Global,
    args: &'a Args,
    options: Options,
    cancelled: Arc<AtomicBool>,
    runtime: Arc<Runtime>,
    exporter: Option<ExporterHandle>,
}

impl Command<'_> {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Opens the exporter, if that is not done yet.
    fn choose(&mut self, found: &Found) -> anyhow::Result<()> {
        if self.exporter.is_none() {
            self.exporter = Some(match found {
                Found::Recording { loaded, .. } => exporter(loaded, self.args)?,
                // Files need no storage, but the exporter is the configuration's.
                Found::Files(_) => exporter(&self.global.load_quietly()?, self.args)?,
            });
        }
        Ok(())
    }

    /// Exports one recording.
    fn one(&mut self, recording: &str, label: &str) -> anyhow::Result<Outcome> {
        let args = self.args;
        let purpose = Purpose {
            verb: Verb::Export,
            what: RecordingAction::Export,
            action: "export",
        };
        let target = Target {
            recording: recording.to_owned(),
        };
        let found = target.find(self.global, &self.runtime, purpose)?;
        // Before the audit log is told that the recording is opened: with a wrong format or output nothing is.
        self.choose(&found)?;
        let exporter = self.exporter.as_ref().context("an exporter was found")?;
        let path = output_path(args, exporter, found.recording())?;
        let (folder, still) = exporter
            .format(&args.format)
            .map_or((false, false), |format| (format.folder, format.still));
        let output = OutputFile::new(&path, folder, args.force)?;
        let moment = |at: Option<Duration>| at.map(|at| clock(nanoseconds(at))).into();
        let told = [
            ("format", args.format.clone().into()),
            ("from", moment(args.from)),
            ("to", moment(args.to)),
        ];
        let mut opened = found.source(&self.runtime, details(told))?;
        let source = &opened.source;
        let index = Index::read_whole(source)?;
        let stretch = stretch(&index, args, still)?;
        let progress = Progress::new(stretch.to_ns - stretch.from_ns, label);
        let cancelled = &self.cancelled;
        let go_on = |done_ns| {
            progress.show(done_ns);
            !cancelled.load(Ordering::Relaxed)
        };
        let plan = Plan {
            format: &args.format,
            stretch,
            options: &self.options,
            output: output.temporary(),
        };
        let exported = export(source, &index, exporter, &plan, go_on);
        progress.bar.finish_and_clear();
        // The exporter's own end can't be interrupted, so a signal may have come since.
        let Some(exported) = exported?.filter(|_| !self.is_cancelled()) else {
            anyhow::bail!("cancelled: nothing was written");
        };
        let digest = digest_of(output.temporary())?;
        opened.done(details([
            ("bytes", exported.summary.bytes.into()),
            ("sha256", digest.into()),
        ]))?;
        output.finish()?;
        let bytes = size(exported.summary.bytes);
        let what = if still {
            format!("{bytes}, the screen at {}", clock(stretch.from_ns))
        } else {
            let frames = match exported.summary.frames {
                0 => String::new(),
                frames => format!("{frames} frames, "),
            };
            let length = clock(stretch.to_ns - stretch.from_ns);
            format!(
                "{frames}{bytes}, {length} of the session{}",
                shown_in(&exported, stretch)
            )
        };
        println!("{}  {what}", path.display());
        Ok(tell(&exported, index.end.is_none()))
    }
}

/// How long the export is, where that isn't how long the session was.
fn shown_in(exported: &Exported, stretch: Stretch) -> String {
    if exported.length_ns == stretch.to_ns - stretch.from_ns {
        String::new()
    } else {
        format!(" in {}", clock(exported.length_ns))
    }
}

/// Where a recording's export goes.
fn output_path(args: &Args, exporter: &ExporterHandle, recording: Uuid) -> anyhow::Result<PathBuf> {
    let format = exporter.format(&args.format).context("the exporter makes the format")?;
    let name = if format.extension.is_empty() {
        recording.to_string()
    } else {
        format!("{recording}.{}", format.extension)
    };
    let says_folder = |path: &Path| !format.folder && path.as_os_str().as_encoded_bytes().ends_with(b"/");
    Ok(match &args.output {
        None => PathBuf::from(name),
        Some(folder) if args.recordings.len() > 1 || says_folder(folder) => {
            match std::fs::create_dir(folder) {
                Err(error) if !folder.is_dir() => {
                    return Err(
                        UsageError(format!("-o {}: the folder can't be made: {error}", folder.display())).into(),
                    );
                }
                _ => {}
            }
            folder.join(name)
        }
        Some(folder) if !format.folder && folder.is_dir() => folder.join(name),
        Some(path) => path.clone(),
    })
}

/// What the person should know of the export.
fn tell(exported: &Exported, still_runs: bool) -> Outcome {
    for note in &exported.summary.notes {
        eprintln!("deskreel: {}", visible(note));
    }
    if exported.gaps > 0 {
        eprintln!("deskreel: {} gaps in it: nothing was recorded there", exported.gaps);
    }
    if exported.undecoded > 0 {
        eprintln!(
            "deskreel: {} PDUs in it could not be decoded: parts of the picture may be missing",
            exported.undecoded
        );
    }
    for damage in &exported.damage {
        eprintln!("deskreel: left out, marked as a gap: {}", visible(damage));
    }
    if still_runs {
        eprintln!("deskreel: the recording has no end yet: this is all that is sealed");
    }
    if exported.gaps > 0 || exported.undecoded > 0 || !exported.damage.is_empty() {
        Outcome::Findings
    } else {
        Outcome::Fine
    }
}

/// Becomes true on SIGINT and SIGTERM.
fn catch_signals(runtime: &Arc<Runtime>) -> anyhow::Result<Arc<AtomicBool>> {
    let cancelled = Arc::new(AtomicBool::new(false));
    let _inside = runtime.enter();
    for kind in [SignalKind::interrupt(), SignalKind::terminate()] {
        let mut signals = signal(kind).context("catch signals")?;
        let cancelled = Arc::clone(&cancelled);
        runtime.spawn(async move {
            while signals.recv().await.is_some() {
                cancelled.store(true, Ordering::Relaxed);
            }
        });
    }
    Ok(cancelled)
}

/// The exporter to use: the named one, or the first that makes the format.
fn exporter(loaded: &Loaded, args: &Args) -> anyhow::Result<ExporterHandle> {
    let exporter = find_exporter(loaded, args)?;
    let can_be = |format: &&FormatInfo| format.lossless;
    if args.look.lossless && !exporter.format(&args.format).as_ref().is_some_and(can_be) {
        let able: Vec<&str> = exporter.formats.iter().filter(can_be).map(|f| f.id.as_str()).collect();
        let able = if able.is_empty() {
            "no format without loss".to_owned()
        } else {
            format!("{} without loss", able.join(", "))
        };
        return Err(UsageError(format!(
            "--lossless: {} can't be so, exporter {} makes {able}",
            args.format, exporter.name
        ))
        .into());
    }
    Ok(exporter)
}

fn find_exporter(loaded: &Loaded, args: &Args) -> anyhow::Result<ExporterHandle> {
    let plugins = Plugins::new(loaded);
    let configured = &loaded.config.exporters;
    let names = || {
        configured
            .iter()
            .map(|exporter| exporter.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    if let Some(name) = &args.exporter {
        let Some(config) = configured.iter().find(|exporter| exporter.name == *name) else {
            return Err(UsageError(format!("--exporter {name}: configured are {}", names())).into());
        };
        let exporter = plugins.open_exporter(config)?;
        return if exporter.format(&args.format).is_some() {
            Ok(exporter)
        } else {
            let formats: Vec<&str> = exporter.formats.iter().map(|format| format.id.as_str()).collect();
            Err(UsageError(format!(
                "--format {}: exporter {name} makes {}",
                args.format,
                formats.join(", ")
            ))
            .into())
        };
    }
    // One that is named like the format most likely makes it: it saves opening the others.
    let (likely, others): (Vec<_>, Vec<_>) = configured
        .iter()
        .partition(|config| config.plugin == args.format || config.name == args.format);
    let (mut offered, mut unusable) = (BTreeSet::new(), String::new());
    for config in likely.into_iter().chain(others) {
        let exporter = match plugins.open_exporter(config) {
            Ok(exporter) if exporter.format(&args.format).is_some() => return Ok(exporter),
            Ok(exporter) => exporter,
            Err(error) if config.plugin == args.format => return Err(error),
            Err(error) => {
                unusable.push_str(&format!("; exporter {} can't be used: {error:#}", config.name));
                continue;
            }
        };
        offered.extend(exporter.formats.iter().map(|format| format.id.clone()));
    }
    let offered = if offered.is_empty() {
        "no format".to_owned()
    } else {
        offered.into_iter().collect::<Vec<_>>().join(", ")
    };
    Err(UsageError(format!(
        "--format {}: the configured exporters make {offered}{unusable}",
        args.format
    ))
    .into())
}

/// The moment that a format of one picture shows.
fn moment_of(index: &Index, args: &Args) -> anyhow::Result<Stretch> {
    if args.to.is_some() {
        let message = format!("--to: {} is one picture, --from says of which moment", args.format);
        return Err(UsageError(message).into());
    }
    let moment = Stretch::moment(index, args.from.map(nanoseconds));
    if moment.from_ns > index.duration_ns {
        let (at, end) = (clock(moment.from_ns), clock(index.duration_ns));
        return Err(UsageError(format!("nothing at {at}: the recording lasts {end}")).into());
    }
    Ok(moment)
}

fn stretch(index: &Index, args: &Args, still: bool) -> anyhow::Result<Stretch> {
    if still {
        return moment_of(index, args);
    }
    let stretch = Stretch {
        from_ns: args.from.map_or(0, nanoseconds),
        to_ns: args.to.map_or(index.duration_ns, nanoseconds).min(index.duration_ns),
    };
    if stretch.from_ns >= stretch.to_ns {
        return Err(UsageError(format!(
            "nothing between {} and {}: the recording lasts {}",
            clock(stretch.from_ns),
            clock(args.to.map_or(index.duration_ns, nanoseconds)),
            clock(index.duration_ns)
        ))
        .into());
    }
    Ok(stretch)
}

/// The bar on stderr; nothing where stderr is no terminal.
struct Progress {
    bar: ProgressBar,
    begun: std::time::Instant,
}

impl Progress {
    fn new(length_ns: u64, label: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length_ns / 1_000_000), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("exporting {prefix}{bar:40} {percent:>3}%  {msg}  {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
        bar.set_prefix(label.to_owned());
        Self {
            bar,
            begun: std::time::Instant::now(),
        }
    }

    fn show(&self, done_ns: u64) {
        let done_ms = done_ns / 1_000_000;
        let spent_ms = u64::try_from(self.begun.elapsed().as_millis())
            .unwrap_or(u64::MAX)
            .max(1);
        self.bar.set_position(done_ms);
        if !self.bar.is_hidden() {
            self.bar.set_message(format!("{}x real time", done_ms / spent_ms));
        }
    }
}
