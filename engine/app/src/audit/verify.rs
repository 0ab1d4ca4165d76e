//! Whether the log is as it was written.

use std::path::Path;

use serde::Serialize;
use serde_json::Value;

use super::event::RemovedFile;
use super::files::{GENESIS, HEAD, Tail, read_head, sha256};
use super::read::{Stored, snapshot};
use super::{FOLDER, LogFile};

/// Findings that are listed; the rest is counted.
const FINDINGS_MAX: usize = 100;

/// What verify found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    /// Every line that was ever written is there as it was written, but for files removed by `audit.files_max`.
    pub(crate) whole: bool,
    /// How many files.
    pub(crate) files: usize,
    /// How many lines.
    pub(crate) lines: u64,
    /// Number of the first line that is there.
    pub(crate) first_seq: u64,
    /// Number of the last one.
    pub(crate) last_seq: u64,
    /// When the first event was.
    pub(crate) from: String,
    /// When the last one was.
    pub(crate) to: String,
    /// SHA-256 of the last line: noted elsewhere, it proves later that nothing before it was changed.
    pub(crate) head: String,
    /// What is wrong.
    pub(crate) findings: Vec<Finding>,
    /// Findings that are not listed.
    pub(crate) more: u64,
    /// What the log itself tells of: torn lines that were removed, events that could not be written.
    pub(crate) notes: Vec<Finding>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// The file's name.
    pub(crate) file: String,
    /// Its line, from 1 on; 0 = the file as a whole.
    pub(crate) line: u64,
    /// What it is.
    pub(crate) problem: String,
}

/// Checks every line of the log of `data_dir`. `head`: a digest that an earlier verify printed; a line with it must be
/// there.
///
/// # Errors
/// A log that can't be opened. What is wrong with it is in the report.
pub(crate) fn verify(data_dir: &Path, head: Option<&str>) -> anyhow::Result<Report> {
    let folder = data_dir.join(FOLDER);
    let files = snapshot(&folder)?;
    let noted = read_head(&folder)?;
    let mut check = Check {
        wanted: head.map(str::to_ascii_lowercase),
        ..Check::default()
    };
    check.report.files = files.len();
    for file in files {
        check.file(file)?;
    }
    Ok(check.finish(noted))
}

#[derive(Default)]
struct Check {
    report: Report,
    /// The line before; `None` before the first.
    last: Option<Tail>,
    /// What the first line says of the one before it.
    first_prev: String,
    /// Files that rotation removed.
    removed: Vec<RemovedFile>,
    wanted: Option<String>,
    file: String,
    line: u64,
}

impl Check {
    fn find(&mut self, problem: impl Into<String>) {
        let finding = self.here(problem);
        if self.report.findings.len() < FINDINGS_MAX {
            self.report.findings.push(finding);
        } else {
            self.report.more += 1;
        }
    }

    fn here(&self, problem: impl Into<String>) -> Finding {
        Finding {
            file: self.file.clone(),
            line: self.line,
            problem: problem.into(),
        }
    }

    fn file(&mut self, file: LogFile) -> anyhow::Result<()> {
        self.file = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        self.line = 0;
        let mut lines = file.lines()?;
        while let Some(line) = lines.next_line()? {
            self.line += 1;
            if line.whole {
                self.line(&line.bytes);
            } else {
                let note =
                    self.here("the last line is torn: a process was killed while it wrote; the next event mends it");
                self.report.notes.push(note);
            }
        }
        Ok(())
    }

    fn line(&mut self, bytes: &[u8]) {
        self.report.lines += 1;
        let digest = sha256(bytes);
        if self.wanted.as_deref() == Some(digest.as_str()) {
            self.wanted = None;
        }
        let event = Stored::parse(bytes);
        let number = event.as_ref().and_then(Stored::seq);
        let (Some(event), Some(seq)) = (event, number) else {
            self.find("is no line of an audit log");
            // What follows is compared with what it should have been.
            if let Some(last) = &mut self.last {
                last.seq += 1;
                last.sha256 = digest;
            }
            return;
        };
        self.link(seq, event.text("prev"));
        self.last = Some(Tail { seq, sha256: digest });
        if self.report.first_seq == 0 {
            self.report.first_seq = seq;
            event.text("time").clone_into(&mut self.report.from);
        }
        event.text("time").clone_into(&mut self.report.to);
        self.tells(&event);
    }

    /// Compares a line with the one before it.
    fn link(&mut self, seq: u64, prev: &str) {
        let Some(last) = self.last.clone() else {
            prev.clone_into(&mut self.first_prev);
            return;
        };
        if seq == last.seq + 1 {
            if prev != last.sha256 {
                self.find(format!(
                    "line {} of the log (the one before this) was changed",
                    last.seq
                ));
            }
        } else if seq > last.seq + 1 {
            self.find(format!(
                "lines {} to {} of the log are missing before this one",
                last.seq + 1,
                seq - 1
            ));
        } else {
            self.find(format!("line {seq} of the log stands after line {}", last.seq));
        }
    }

    /// Remembers what the log says of itself.
    fn tells(&mut self, event: &Stored) {
        match event.text("event") {
            "audit.log.rotate" => {
                let removed = event.fields.get("removed").cloned().unwrap_or(Value::Null);
                self.removed
                    .extend(serde_json::from_value::<Vec<RemovedFile>>(removed).unwrap_or_default());
            }
            "audit.log.repair" => {
                let note = self.here(format!("repaired: {}", event.text("message")));
                self.report.notes.push(note);
            }
            "audit.log.lost" => {
                let count = event.fields.get("count").and_then(Value::as_u64).unwrap_or(0);
                let note = self.here(format!(
                    "{count} events could not be written before: {}",
                    event.text("error")
                ));
                self.report.notes.push(note);
            }
            _ => {}
        }
        // A log that is damaged all over must not fill the memory.
        self.report.notes.truncate(FINDINGS_MAX);
    }

    fn finish(mut self, noted: Option<Tail>) -> Report {
        let first = self.report.first_seq;
        let accounted = |removed: &RemovedFile| removed.last_seq + 1 == first && removed.last_sha256 == self.first_prev;
        let begins = match first {
            0 => true,
            1 => self.first_prev == GENESIS,
            _ => self.removed.iter().any(accounted),
        };
        self.line = 0;
        if !begins {
            self.file = FOLDER.to_owned();
            let problem = if first == 1 {
                "the first line was changed".to_owned()
            } else {
                format!(
                    "lines 1 to {} are missing, and no audit.log.rotate tells of it",
                    first - 1
                )
            };
            self.find(problem);
        }
        let last = self.last.clone().unwrap_or_else(Tail::genesis);
        self.file = HEAD.to_owned();
        match noted {
            Some(head) if head.seq > last.seq => self.find(format!(
                "lines {} to {} of the log are missing at its end",
                last.seq + 1,
                head.seq
            )),
            Some(head) if head.seq == last.seq && head.sha256 != last.sha256 => {
                self.find("the last line was changed");
            }
            None if last.seq > 0 => self.find("is missing or unreadable: lines may be missing at the end of the log"),
            _ => {}
        }
        if let Some(wanted) = self.wanted.take() {
            self.file = FOLDER.to_owned();
            self.find(format!("no line has the digest {wanted}"));
        }
        self.report.last_seq = last.seq;
        self.report.head = last.sha256;
        self.report.whole = self.report.findings.is_empty();
        self.report
    }
}
