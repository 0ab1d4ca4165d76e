//! The process that makes one export: started, watched, ended.

use std::io::{BufRead as _, BufReader, Read};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Answer, END_FROM, Exports};
use crate::catalog::ExportRow;

/// Between two looks whether it has ended.
const TICK: Duration = Duration::from_millis(100);
/// Between two looks at disk and catalog.
const CHECK: Duration = Duration::from_secs(2);
/// Longest answer, and what is kept of what it says otherwise.
const ANSWER_MAX: u64 = 64 << 10;
/// SIGXFSZ: a file grew beyond what was allowed.
const FILE_TOO_LARGE: i32 = 25;

/// How it ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It answered.
    Answer(Answer),
    /// It was broken off, for a reason that is not its own.
    BrokenOff(String),
    /// Nobody wants it any more: the recording is being deleted.
    Unwanted,
}

/// This program, whatever lies under its name by now.
const PROGRAM: &str = "/proc/self/exe";

/// Runs the process to its end. Must be called by a thread that lives as long: the process is killed with it.
///
/// # Errors
/// A process that can't be started.
pub(super) fn export(exports: &Exports, row: &ExportRow, work: &Path) -> anyhow::Result<Ended> {
    let mut command = Command::new(PROGRAM);
    command
        .args(&exports.arguments)
        .args(["exports", "run", "--recording", &row.session.to_string()])
        .args(["--exporter", &row.exporter])
        .arg("--work")
        .arg(work)
        .args(["--max-bytes", &exports.limits.max_bytes.to_string()])
        .args(["--end-with", &std::process::id().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().context("start the process of an export")?;
    let (answer, said) = (read(child.stdout.take()), read(child.stderr.take()));
    let ended = watch(exports, row, &mut child);
    if !matches!(ended, Ok(Watched::Exited(_))) {
        let _ = child.kill();
        let _ = child.wait();
    }
    let text = |reader: thread::JoinHandle<String>| reader.join().unwrap_or_default();
    let (answer, said) = (text(answer), text(said));
    Ok(match ended? {
        Watched::Exited(status) => Ended::Answer(understand(status, &answer, &said, exports.limits.max_bytes)),
        Watched::TimedOut => Ended::Answer(Answer::Failed {
            error: format!("took longer than exports.timeout ({:?})", exports.limits.timeout),
            for_good: false,
        }),
        Watched::BrokenOff(why) => Ended::BrokenOff(why),
        Watched::Unwanted => Ended::Unwanted,
    })
}

enum Watched {
    Exited(ExitStatus),
    TimedOut,
    BrokenOff(String),
    Unwanted,
}

fn watch(exports: &Exports, row: &ExportRow, child: &mut Child) -> anyhow::Result<Watched> {
    let begun = Instant::now();
    let mut checked = begun;
    loop {
        if let Some(status) = child.try_wait().context("wait for the process of an export")? {
            return Ok(Watched::Exited(status));
        }
        if exports.is_stopping() {
            return Ok(Watched::BrokenOff("the gateway stopped while it was made".to_owned()));
        }
        if begun.elapsed() > exports.limits.timeout {
            return Ok(Watched::TimedOut);
        }
        if checked.elapsed() > CHECK {
            checked = Instant::now();
            if let Some(full) = exports.crowded(END_FROM) {
                return Ok(Watched::BrokenOff(format!("broken off: {full}")));
            }
            if !super::job::is_wanted(&exports.catalog, row) {
                return Ok(Watched::Unwanted);
            }
        }
        thread::sleep(TICK);
    }
}

/// Reads a pipe to its end, so that whoever writes never waits; what is too much is not kept.
fn read(pipe: Option<impl Read + Send + 'static>) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let Some(pipe) = pipe else { return String::new() };
        let mut kept = String::new();
        let mut lines = BufReader::new(pipe);
        let mut line = Vec::new();
        loop {
            line.clear();
            match lines.by_ref().take(ANSWER_MAX).read_until(b'\n', &mut line) {
                Ok(0) | Err(_) => return kept,
                Ok(_) if kept.len() as u64 + line.len() as u64 > ANSWER_MAX => kept.clear(),
                Ok(_) => {}
            }
            kept.push_str(&String::from_utf8_lossy(&line));
        }
    })
}

/// What the process came to. One that did not answer has crashed, or was killed.
fn understand(status: ExitStatus, answer: &str, said: &str, max_bytes: u64) -> Answer {
    if status.success()
        && let Some(answer) = answer.lines().last().and_then(|line| serde_json::from_str(line).ok())
    {
        return answer;
    }
    if status.signal() == Some(FILE_TOO_LARGE) {
        return Answer::Failed {
            error: format!("a file grew beyond exports.max_bytes ({max_bytes} bytes)"),
            for_good: true,
        };
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    let last = last.map(|line| format!(": {}", line.trim_start_matches("deskreel: ")));
    Answer::Failed {
        error: format!("the process ended with {status}{}", last.unwrap_or_default()),
        for_good: false,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn who_does_not_answer_has_crashed() {
        let killed = ExitStatus::from_raw(9);
        let failed = |answer| match answer {
            Answer::Failed { error, for_good } => (error, for_good),
            other => panic!("{other:?}"),
        };
        let whole = r#"{"answer":"nothing","why":"no picture"}"#;
        let (error, for_good) = failed(understand(killed, whole, "a\ndeskreel: out of memory\n\n", 9));
        assert!(
            error.contains("signal: 9") && error.ends_with("out of memory") && !for_good,
            "{error}"
        );
        let (error, for_good) = failed(understand(ExitStatus::from_raw(25), "", "", 9));
        assert!(error.contains("exports.max_bytes (9 bytes)") && for_good, "{error}");
        assert!(
            failed(understand(ExitStatus::from_raw(0), "{}", "", 9))
                .0
                .contains("exit status: 0")
        );
        let answer = understand(ExitStatus::from_raw(0), &format!("noise\n{whole}\n"), "", 9);
        assert_eq!(
            answer,
            Answer::Nothing {
                why: "no picture".to_owned()
            }
        );
    }

    #[test]
    fn a_pipe_is_read_to_its_end_and_not_kept_whole() {
        let mut much = vec![b'x'; 1 << 20];
        much.extend_from_slice(b"\nlast\n");
        let kept = read(Some(std::io::Cursor::new(much))).join().unwrap();
        assert!(
            kept.len() as u64 <= ANSWER_MAX && kept.ends_with("last\n"),
            "{}",
            kept.len()
        );
    }
}
