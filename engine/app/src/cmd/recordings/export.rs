//! `recordings export`.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use deskreel_config::Loaded;
use deskreel_policy::Verb;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::digest::digest_of;
use super::output_file::OutputFile;
use super::target::{Target, details, quiet_log, runtime};
use super::{moment, size};
use crate::access::recordings::Purpose;
use crate::audit::RecordingAction;
use crate::cmd::{Global, Outcome, UsageError};
use crate::host::{ExporterHandle, Plugins};
use crate::output::visible;
use crate::replay::{Exported, Index, Stretch, clock, export, nanoseconds};

/// Arguments of `recordings export`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel recordings export 01902b6e --format mp4 -o session.mp4\n  \
    deskreel recordings export 01902b6e --format frames --from 1m --to 1m30s -o pictures/"
)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// What to make: mp4, frames, or what the configured exporters offer
    #[arg(long, value_name = "FORMAT")]
    format: String,
    /// The exporter of the configuration to use; default: the first that makes the format
    #[arg(long, value_name = "NAME")]
    exporter: Option<String>,
    /// The file, or for pictures the folder, to write
    #[arg(short, long, value_name = "OUT")]
    output: PathBuf,
    /// Where to begin: 12.5s, 1m30s, 00:01:30
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    from: Option<Duration>,
    /// Where to end
    #[arg(long, value_parser = moment::parse, value_name = "T")]
    to: Option<Duration>,
    /// Replace an output that exists
    #[arg(long)]
    force: bool,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    let runtime = runtime()?;
    let cancelled = catch_signals(&runtime)?;
    let purpose = Purpose {
        verb: Verb::Export,
        what: RecordingAction::Export,
        action: "export",
    };
    let found = args.target.find(global, &runtime, purpose)?;
    let moment = |at: Option<Duration>| at.map(|at| clock(nanoseconds(at))).into();
    let told = [
        ("format", args.format.clone().into()),
        ("from", moment(args.from)),
        ("to", moment(args.to)),
    ];
    let mut opened = found.source(&runtime, details(told))?;
    let loaded = match opened.loaded.take() {
        Some(loaded) => loaded,
        // Files need no storage, but the exporter is the configuration's.
        None => Box::new(global.load()?),
    };
    quiet_log(loaded.config.log);
    let exporter = exporter(&loaded, args)?;
    let folder = exporter.format(&args.format).is_some_and(|format| format.folder);
    let output = OutputFile::new(&args.output, folder, args.force)?;
    let source = &opened.source;
    let index = Index::read(source)?;
    let stretch = stretch(&index, args)?;
    let length_ns = stretch.to_ns - stretch.from_ns;
    let progress = Progress::new(length_ns);
    let go_on = |done_ns| {
        progress.show(done_ns);
        !cancelled.load(Ordering::Relaxed)
    };
    let exported = export(
        source,
        &index,
        &exporter,
        &args.format,
        stretch,
        output.temporary(),
        go_on,
    );
    progress.bar.finish_and_clear();
    // The exporter's own end can't be interrupted, so a signal may have come since.
    let Some(exported) = exported?.filter(|_| !cancelled.load(Ordering::Relaxed)) else {
        anyhow::bail!("cancelled: nothing was written");
    };
    let digest = digest_of(output.temporary())?;
    opened.done(details([
        ("bytes", exported.summary.bytes.into()),
        ("sha256", digest.into()),
    ]))?;
    output.finish()?;
    println!(
        "{}  {} frames, {}, {} of the session",
        args.output.display(),
        exported.summary.frames,
        size(exported.summary.bytes),
        clock(length_ns),
    );
    Ok(tell(&exported, index.end.is_none()))
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
    if still_runs {
        eprintln!("deskreel: the recording has no end yet: this is all that is sealed");
    }
    if exported.gaps > 0 || exported.undecoded > 0 {
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
    let mut offered = Vec::new();
    for config in likely.into_iter().chain(others) {
        let exporter = plugins.open_exporter(config)?;
        if exporter.format(&args.format).is_some() {
            return Ok(exporter);
        }
        offered.extend(exporter.formats.iter().map(|format| format.id.clone()));
    }
    let offered = if offered.is_empty() {
        "no format".to_owned()
    } else {
        offered.join(", ")
    };
    Err(UsageError(format!(
        "--format {}: the configured exporters make {offered}",
        args.format
    ))
    .into())
}

fn stretch(index: &Index, args: &Args) -> anyhow::Result<Stretch> {
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
    fn new(length_ns: u64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(length_ns / 1_000_000), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("exporting {bar:40} {percent:>3}%  {msg}  {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style);
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
