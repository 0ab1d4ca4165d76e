//! `plugins check`: one process a check, and what they found.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use deskreel_sdk::abi::meta::Kind;
use deskreel_sdk::testkit::{self, Check};
use serde::Serialize;

use super::check_run::{self, AFTER_KILLS, EMPTY, SETTINGS, SWEEP, Said};
use crate::cmd::{Listing, Outcome, UsageError, progress};
use crate::host::candidate;
use crate::output;

/// Lines of a plugin's stderr that are shown.
const LAST_LINES: usize = 8;
/// How long puts may run before their process is killed; one round each.
const KILL_AFTER_MS: [u64; 8] = [1, 3, 7, 15, 30, 60, 120, 250];
/// How long the output of an ended process may take: a child of the plugin may hold it open.
const OUTPUT_GRACE: Duration = Duration::from_secs(2);

/// Arguments of `plugins check`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  deskreel plugins check target/debug/libdeskreel_storage_tape.so --settings sample.yaml\n  deskreel plugins check ./libdeskreel_exporter_gif.so --only frames"
)]
pub(super) struct Args {
    /// The built plugin
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// YAML with the settings, or with a `storages` or `exporters` entry as in deskreel.yaml; relative paths start at its
    /// folder [default: no settings]
    #[arg(long, value_name = "FILE")]
    settings: Option<PathBuf>,
    /// Only this check; may be repeated
    #[arg(long, value_name = "CHECK")]
    only: Vec<String>,
    /// How long one check may take
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = deskreel_config::parse_duration)]
    timeout: Duration,
    /// Run one step in this process: what the command starts for each check
    #[arg(long, hide = true, value_name = "STEP")]
    step: Option<String>,
    #[command(flatten)]
    listing: Listing,
}

/// What one check came to.
#[derive(Debug, Serialize)]
struct Checked {
    check: &'static str,
    about: &'static str,
    ok: bool,
    millis: u64,
    /// Why it failed.
    problem: Option<String>,
    /// What the plugin wrote to stderr last, where it failed.
    stderr: Vec<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(step) = &args.step {
        return check_run::run(&args.file, args.settings.as_deref(), step);
    }
    let meta = candidate::inspect(&args.file)?;
    let checks = wanted(meta.kind, &args.only)?;
    let runner = Runner {
        args,
        exe: std::env::current_exe().context("the path of deskreel")?,
    };
    // Loads it, and tells of a file or settings that can't be used before anything else.
    runner.usable(meta.kind)?;
    let bar = progress::bar(checks.len() as u64, "{bar:30} {pos}/{len} {msg}");
    bar.enable_steady_tick(Duration::from_millis(200));
    let mut checked = Vec::new();
    for check in checks {
        bar.set_message(check.name);
        checked.push(runner.check(check, meta.kind)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    output::print(args.listing.format, &checked, |checked| {
        text(&format!("{} plugin {} {}", meta.kind, meta.name, meta.version), checked)
    })?;
    let all = checked.iter().all(|checked| checked.ok);
    Ok(if all { Outcome::Fine } else { Outcome::Broken })
}

fn wanted(kind: Kind, only: &[String]) -> anyhow::Result<Vec<Check>> {
    let settings = Check {
        name: SETTINGS,
        about: "settings are read, unknown ones and nonsense refused",
    };
    let mut checks = vec![settings];
    match kind {
        Kind::Storage => {
            checks.extend(testkit::storage::CHECKS);
            checks.extend([testkit::open_close::CHECK, testkit::kills::CHECK]);
        }
        Kind::Exporter => checks.extend(testkit::exporter::CHECKS),
    }
    if let Some(unknown) = only
        .iter()
        .find(|name| !checks.iter().any(|check| check.name == **name))
    {
        let known: Vec<&str> = checks.iter().map(|check| check.name).collect();
        let message = format!("--only {unknown}: the checks of a {kind} are {}", known.join(", "));
        return Err(UsageError(message).into());
    }
    checks.retain(|check| only.is_empty() || only.iter().any(|name| name == check.name));
    Ok(checks)
}

struct Runner<'a> {
    args: &'a Args,
    exe: PathBuf,
}

/// How a step's process ended.
struct Ended {
    /// What it said, if it came so far.
    said: Option<Said>,
    /// Why it didn't, in words.
    end: String,
    stderr: Vec<String>,
}

impl Ended {
    /// Why the step failed, if it did.
    fn problem(&self) -> Option<String> {
        match &self.said {
            Some(Said::Done) => None,
            Some(Said::Failed { problem } | Said::Unusable { problem }) => Some(problem.clone()),
            Some(Said::Begun) | None => Some(self.end.clone()),
        }
    }
}

impl Runner<'_> {
    /// Whether file and settings can be used, and a storage is empty.
    fn usable(&self, kind: Kind) -> anyhow::Result<()> {
        let ended = self.step(if kind == Kind::Storage { EMPTY } else { SETTINGS }, None)?;
        match ended.said {
            Some(Said::Unusable { problem }) => Err(UsageError(problem).into()),
            // Of an exporter that is a check of its own, and a crash is told there.
            _ if kind == Kind::Exporter => Ok(()),
            Some(Said::Done) => Ok(()),
            Some(Said::Failed { problem }) => {
                let file = self.args.file.display();
                Err(UsageError(format!("{file}: the storage can't be opened and listed: {problem}")).into())
            }
            Some(Said::Begun) | None => {
                let file = self.args.file.display();
                Err(UsageError(format!("{file}: {}\n{}", ended.end, ended.stderr.join("\n"))).into())
            }
        }
    }

    fn check(&self, check: Check, kind: Kind) -> anyhow::Result<Checked> {
        let begun = Instant::now();
        let ended = if check == testkit::kills::CHECK {
            self.kills()?
        } else {
            self.step(check.name, None)?
        };
        let problem = ended.problem();
        if problem.is_some() && kind == Kind::Storage && check.name != SETTINGS {
            // A process that ended early left its objects.
            self.step(SWEEP, None)?;
        }
        Ok(Checked {
            check: check.name,
            about: check.about,
            ok: problem.is_none(),
            millis: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            stderr: if problem.is_some() { ended.stderr } else { Vec::new() },
            problem,
        })
    }

    /// Kills a process in the midst of puts, and looks at what it left; several times.
    fn kills(&self) -> anyhow::Result<Ended> {
        for millis in KILL_AFTER_MS {
            let killed = self.step(testkit::kills::CHECK.name, Some(Duration::from_millis(millis)))?;
            // It fails by itself, before it is killed, where a put fails.
            if !matches!(killed.said, Some(Said::Begun)) {
                return Ok(killed);
            }
            let looked = self.step(AFTER_KILLS, None)?;
            if looked.problem().is_some() {
                return Ok(looked);
            }
        }
        self.step(AFTER_KILLS, None)
    }

    /// Runs one step in a process of its own. With `kill_after`, it is killed that long after it says that it has begun.
    fn step(&self, step: &str, kill_after: Option<Duration>) -> anyhow::Result<Ended> {
        let mut command = Command::new(&self.exe);
        command.args(["plugins", "check", "--step", step]).arg(&self.args.file);
        if let Some(settings) = &self.args.settings {
            command.arg("--settings").arg(settings);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().context("start a process for the check")?;
        let said = lines(child.stdout.take());
        let errors = lines(child.stderr.take());
        let status = self.wait(&mut child, &said, kill_after);
        // Whatever happened, it is ended and taken.
        let _ = child.kill();
        let _ = child.wait();
        let (last, end) = status?;
        let mut stderr = rest(&errors);
        stderr.drain(..stderr.len().saturating_sub(LAST_LINES));
        Ok(Ended {
            said: last,
            end,
            stderr,
        })
    }

    fn wait(
        &self,
        child: &mut Child,
        said: &Receiver<String>,
        kill_after: Option<Duration>,
    ) -> anyhow::Result<(Option<Said>, String)> {
        let mut deadline = Instant::now() + self.args.timeout;
        let mut last = None;
        loop {
            match said.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => last = Said::read(&line).or(last),
                Err(RecvTimeoutError::Timeout) => {
                    return Ok((last, format!("not done after {:?}, and killed", self.args.timeout)));
                }
                // It closed its output: it ended, or is about to.
                Err(RecvTimeoutError::Disconnected) => break,
            }
            match (&last, kill_after) {
                (Some(Said::Begun), Some(after)) => deadline = Instant::now() + after,
                (Some(Said::Begun) | None, _) => {}
                (Some(_), _) => return Ok((last, String::new())),
            }
        }
        let status = child.wait().context("wait for a check's process")?;
        Ok((last, ended(status)))
    }
}

/// The end of a process that should have said how the check went.
fn ended(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(signal), _) => {
            let name = match signal {
                4 => " (SIGILL)",
                6 => " (SIGABRT)",
                7 => " (SIGBUS)",
                8 => " (SIGFPE)",
                9 => " (SIGKILL)",
                11 => " (SIGSEGV)",
                _ => "",
            };
            format!("the plugin crashed: its process ended by signal {signal}{name}")
        }
        (None, code) => format!(
            "the plugin ended the process, with exit code {}",
            code.unwrap_or_default()
        ),
    }
}

/// The lines of a child's output, read on a thread of their own so that it never waits for us.
fn lines(output: Option<impl Read + Send + 'static>) -> Receiver<String> {
    let (sender, lines) = channel();
    if let Some(output) = output {
        std::thread::spawn(move || {
            for line in BufReader::new(output).split(b'\n').map_while(Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    return;
                }
            }
        });
    }
    lines
}

fn rest(lines: &Receiver<String>) -> Vec<String> {
    let deadline = Instant::now() + OUTPUT_GRACE;
    let next = || {
        lines
            .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            .ok()
    };
    std::iter::from_fn(next)
        .filter(|line| !line.trim().is_empty())
        .collect()
}

fn text(plugin: &str, checked: &[Checked]) -> String {
    let cells: Vec<Vec<String>> = checked
        .iter()
        .map(|row| {
            vec![
                row.check.to_owned(),
                if row.ok { "ok" } else { "FAILED" }.to_owned(),
                format!("{}.{:03} s", row.millis / 1000, row.millis % 1000),
                row.about.to_owned(),
            ]
        })
        .collect();
    let mut text = output::table(&["CHECK", "RESULT", "TOOK", "WHAT IT HOLDS"], &cells);
    let failed: Vec<&Checked> = checked.iter().filter(|row| !row.ok).collect();
    for row in &failed {
        let problem = row.problem.as_deref().unwrap_or_default();
        text.push_str(&format!("\n{}: {problem}\n", row.check));
        for line in &row.stderr {
            text.push_str(&format!("  | {line}\n"));
        }
    }
    text.push_str(&match failed.len() {
        0 => format!(
            "\n{plugin} keeps the contract: {} of {} checks passed\n",
            checked.len(),
            checked.len()
        ),
        failed => format!(
            "\n{plugin} does not keep the contract: {failed} of {} checks failed\n",
            checked.len()
        ),
    });
    text
}
