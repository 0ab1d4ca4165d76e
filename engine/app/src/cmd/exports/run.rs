//! `exports run`: the process that makes one export. The gateway starts it, reads its answer and stores the output.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use deskreel_config::Loaded;
use deskreel_sdk::ErrorKind;
use rustix::process::{
    Pid, Resource, Rlimit, Signal, getppid, getrlimit, set_parent_process_death_signal, setpriority_process, setrlimit,
};
use uuid::Uuid;

use crate::catalog::{Catalog, ExportState};
use crate::cmd::recordings::target::{open_storages, runtime, spool};
use crate::cmd::{Global, Outcome};
use crate::digest::digest_of;
use crate::dumps;
use crate::exports::{Answer, OUTPUT, PART, Report};
use crate::host::{ExporterHandle, Plugins};
use crate::replay::{Exported, Index, Known, Options, Place, Plan, Source, Stretch, export};

/// The lowest.
const NICE: i32 = 19;
/// Debian's; without it, nice alone gives the lowest priority that is not idle.
const IONICE: &str = "/usr/bin/ionice";

/// Arguments of `exports run`.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// Id of the recording
    #[arg(long)]
    recording: Uuid,
    /// The exporter's name
    #[arg(long)]
    exporter: String,
    /// The folder to work in
    #[arg(long)]
    work: PathBuf,
    /// Largest file that may be written
    #[arg(long)]
    max_bytes: u64,
    /// End when this process, which must be the parent, does
    #[arg(long)]
    end_with: i32,
}

pub(super) fn run(global: &Global, args: &Args) -> anyhow::Result<Outcome> {
    dumps::forbid()?;
    set_parent_process_death_signal(Some(Signal::KILL)).context("ask for a signal when the gateway ends")?;
    if getppid().map(Pid::as_raw_pid) != Some(args.end_with) {
        bail!("this is for the gateway to call: deskreel exports add ID --exporter NAME");
    }
    step_back();
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit {
        current: Some(maximum.map_or(args.max_bytes, |maximum| maximum.min(args.max_bytes))),
        maximum,
    };
    setrlimit(Resource::Fsize, limit).context("limit the size of files")?;
    let answer = make(global, args).unwrap_or_else(|error| Answer::Failed {
        for_good: is_final(&error),
        error: format!("{error:#}"),
    });
    println!("{}", serde_json::to_string(&answer).context("answer")?);
    Ok(Outcome::Fine)
}

/// Gives everybody else the processor and the disk first. To be called before there are threads: they inherit it.
fn step_back() {
    if let Err(error) = setpriority_process(None, NICE) {
        tracing::warn!(%error, "exporting at normal priority");
    }
    let idle = Command::new(IONICE)
        .args(["-c", "3", "-p", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !idle.is_ok_and(|status| status.success()) {
        tracing::debug!("no {IONICE}: the disk is used at the lowest priority that is not idle");
    }
}

/// Whether another attempt would end the same: the exporter has said that it can't do this.
fn is_final(error: &anyhow::Error) -> bool {
    let kind = error
        .downcast_ref::<deskreel_sdk::Error>()
        .map(deskreel_sdk::Error::kind);
    matches!(
        kind,
        Some(ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::InvalidSettings)
    )
}

fn make(global: &Global, args: &Args) -> anyhow::Result<Answer> {
    let loaded = global.load_quietly()?;
    let catalog = Catalog::open_read_only(&loaded.config.data_dir)?;
    // What the gateway begins is in the audit log.
    let begun = catalog.exports(args.recording)?;
    let begun = begun
        .iter()
        .any(|row| row.exporter == args.exporter && row.state == ExportState::Running);
    ensure!(begun, "no gateway has begun this export");
    let exporters = &loaded.config.exporters;
    let Some(config) = exporters.iter().find(|exporter| exporter.name == args.exporter) else {
        let error = format!("no exporter is named {} any more", args.exporter);
        return Ok(Answer::Failed { error, for_good: true });
    };
    let exporter = Plugins::new(&loaded).open_exporter(config)?;
    let first = exporter.formats.first().map(|format| format.id.clone());
    let format = config.format.clone().or(first).unwrap_or_default();
    let source = source(&loaded, &catalog, args.recording)?;
    let index = Index::read_whole(&source)?;
    if exporter.wants_frames && index.first_key().is_none() {
        let why = "the recording has no picture".to_owned();
        return Ok(Answer::Nothing { why });
    }
    write(&source, &index, &exporter, &format, &args.work).map(Answer::Made)
}

fn source(loaded: &Loaded, catalog: &Catalog, recording: Uuid) -> anyhow::Result<Source> {
    let runtime = runtime()?;
    let storages = open_storages(loaded, &runtime)?;
    let mut places = vec![spool(loaded, recording)];
    places.extend(storages.into_iter().map(|storage| Place::Storage(storage)));
    Ok(Source::known(
        recording,
        places,
        Known::from_catalog(catalog, recording)?,
        runtime,
    ))
}

/// Makes the output and gives it its name when it is whole and durable.
fn write(
    source: &Source,
    index: &Index,
    exporter: &ExporterHandle,
    format: &str,
    work: &Path,
) -> anyhow::Result<Report> {
    let info = exporter.format(format).cloned();
    let folder = info.as_ref().is_some_and(|info| info.folder);
    let (part, output) = (work.join(PART), work.join(OUTPUT));
    if folder {
        crate::private::create_dir(&part).with_context(|| format!("make {}", part.display()))?;
    }
    let stretch = if info.as_ref().is_some_and(|info| info.still) {
        Stretch::moment(index, None)
    } else {
        Stretch::whole(index)
    };
    let plan = Plan {
        format,
        stretch,
        options: &Options::default(),
        output: &part,
    };
    let exported = export(source, index, exporter, &plan, |_| true)?;
    let exported = exported.context("an export that nobody cancelled was cancelled")?;
    let info = info.context("an export in a format that there is not")?;
    let sha256 = digest_of(&part)?;
    sync(&part)?;
    fs::rename(&part, &output).with_context(|| format!("rename {} to {}", part.display(), output.display()))?;
    sync(work)?;
    Ok(Report {
        format: info.id,
        extension: info.extension,
        mime: info.mime,
        folder,
        files: exported.summary.files.max(1),
        bytes: exported.summary.bytes,
        sha256,
        notes: notes(&exported),
    })
}

fn notes(exported: &Exported) -> Vec<String> {
    let mut notes = exported.summary.notes.clone();
    notes.extend(exported.damage.iter().cloned());
    if exported.gaps > 0 {
        notes.push(format!("{} gaps in it: nothing was recorded there", exported.gaps));
    }
    if exported.undecoded > 0 {
        notes.push(format!(
            "{} PDUs in it could not be decoded: parts of the picture may be missing",
            exported.undecoded
        ));
    }
    notes
}

fn sync(path: &Path) -> anyhow::Result<()> {
    File::open(path)
        .and_then(|file| file.sync_all())
        .with_context(|| format!("fsync {}", path.display()))
}
