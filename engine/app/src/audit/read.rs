//! Reading the log: listing, following, verifying. Readers take the lock only to learn how long the files are.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::{Map, Value};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::files::{self, CURRENT};
use super::{FOLDER, LINE_MAX_BYTES};

/// Longer than any line of the log.
const LINE_LIMIT_BYTES: u64 = 4 * LINE_MAX_BYTES as u64;

/// Which events are wanted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filter {
    /// Not older.
    pub(crate) from: Option<OffsetDateTime>,
    /// Not younger.
    pub(crate) to: Option<OffsetDateTime>,
    /// Names or codes; empty = all. `desktop.*` stands for every name that starts so.
    pub(crate) events: Vec<String>,
    /// Who.
    pub(crate) user: Option<String>,
    /// Beginning of the session's id.
    pub(crate) session: Option<String>,
}

/// An event of the log.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    /// The line as it stands in the log.
    pub(crate) text: String,
    /// The same, parsed.
    pub(crate) fields: Map<String, Value>,
}

impl Stored {
    pub(super) fn parse(line: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(line).ok()?;
        Some(Self {
            fields: serde_json::from_str(text).ok()?,
            text: text.to_owned(),
        })
    }

    /// A text field; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// Its number in the log.
    pub(crate) fn seq(&self) -> Option<u64> {
        self.fields.get("seq").and_then(Value::as_u64)
    }

    fn time(&self) -> Option<OffsetDateTime> {
        OffsetDateTime::parse(self.text("time"), &Rfc3339).ok()
    }
}

impl Filter {
    /// Nothing in that file can be wanted: it was written before.
    fn is_past(&self, file: &LogFile) -> bool {
        let Some(from) = self.from else { return false };
        file.last_seq.is_some() && file.modified.is_some_and(|modified| modified < from)
    }

    fn wants(&self, event: &Stored) -> bool {
        let time = event.time();
        let named = |wanted: &String| match wanted.strip_suffix('*') {
            Some(start) => event.text("event").starts_with(start),
            None => event.text("event") == wanted || event.text("code").eq_ignore_ascii_case(wanted),
        };
        self.from.is_none_or(|from| time.is_some_and(|time| time >= from))
            && self.to.is_none_or(|to| time.is_some_and(|time| time <= to))
            && (self.events.is_empty() || self.events.iter().any(named))
            && self.user.as_ref().is_none_or(|user| event.text("user") == user)
            && self.session.as_ref().is_none_or(|session| {
                let sid = event.text("sid");
                !sid.is_empty() && sid.starts_with(&session.to_ascii_lowercase())
            })
    }
}

/// Calls `each` with every wanted event, oldest first. Lines that can't be read are left out: verify tells of them.
///
/// # Errors
/// A log that can't be opened, and whatever `each` says.
pub(crate) fn read(
    data_dir: &Path,
    filter: &Filter,
    mut each: impl FnMut(Stored) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    for file in snapshot(&data_dir.join(FOLDER))? {
        if filter.is_past(&file) {
            continue;
        }
        let mut lines = file.lines()?;
        while let Some(line) = lines.next_line()? {
            if let Some(event) = Stored::parse(&line.bytes).filter(|event| line.whole && filter.wants(event)) {
                each(event)?;
            }
        }
    }
    Ok(())
}

/// The last `count` wanted events, oldest first.
///
/// # Errors
/// A log that can't be opened.
pub(crate) fn last(data_dir: &Path, filter: &Filter, count: usize) -> anyhow::Result<Vec<Stored>> {
    let mut found: VecDeque<Stored> = VecDeque::new();
    for file in snapshot(&data_dir.join(FOLDER))?.into_iter().rev() {
        if filter.is_past(&file) {
            break;
        }
        let wanted = count - found.len();
        let mut here = VecDeque::new();
        let mut lines = file.lines()?;
        while let Some(line) = lines.next_line()? {
            if let Some(event) = Stored::parse(&line.bytes).filter(|event| line.whole && filter.wants(event)) {
                here.push_back(event);
                if here.len() > wanted {
                    here.pop_front();
                }
            }
        }
        here.append(&mut found);
        found = here;
        if found.len() >= count {
            break;
        }
    }
    Ok(found.into())
}

/// What comes after the end of the log.
#[derive(Debug)]
pub(crate) struct Follow {
    folder: PathBuf,
    filter: Filter,
    last_seq: u64,
    /// Inode of the current file and how far it was read.
    read: (u64, u64),
}

impl Follow {
    /// From where the log ends now.
    ///
    /// # Errors
    /// A log that can't be opened.
    pub(crate) fn new(data_dir: &Path, filter: Filter) -> anyhow::Result<Self> {
        let folder = data_dir.join(FOLDER);
        let last_seq = files::end(&folder)?;
        Ok(Self {
            folder,
            filter,
            last_seq,
            read: (0, 0),
        })
    }

    /// Number of the last line that was seen.
    pub(crate) fn seq(&self) -> u64 {
        self.last_seq
    }

    /// The events that were written since the last call.
    ///
    /// # Errors
    /// A log that can't be opened.
    pub(crate) fn take(&mut self) -> anyhow::Result<Vec<Stored>> {
        let metadata = fs::metadata(self.folder.join(CURRENT));
        if metadata.is_ok_and(|metadata| (metadata.ino(), metadata.len()) == self.read) {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for file in snapshot(&self.folder)? {
            if file.last_seq.is_some_and(|last| last <= self.last_seq) {
                continue;
            }
            let (inode, size) = (file.inode, file.bytes);
            let from = if inode == self.read.0 { self.read.1 } else { 0 };
            let mut lines = file.lines_from(from)?;
            let mut whole_bytes = from;
            while let Some(line) = lines.next_line()? {
                if !line.whole {
                    break;
                }
                whole_bytes += line.bytes.len() as u64 + 1;
                let Some(event) = Stored::parse(&line.bytes) else {
                    continue;
                };
                if event.seq().is_some_and(|seq| seq > self.last_seq) {
                    self.last_seq = event.seq().unwrap_or(self.last_seq);
                    if self.filter.wants(&event) {
                        found.push(event);
                    }
                }
            }
            self.read = (inode, whole_bytes.min(size));
        }
        Ok(found)
    }
}

/// One file of the log, as long as it was when it was looked at.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) path: PathBuf,
    /// Of a file that is full: the number of its last line, by its name.
    last_seq: Option<u64>,
    file: File,
    inode: u64,
    pub(super) bytes: u64,
    modified: Option<OffsetDateTime>,
}

/// The files of the log, oldest first.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] as an anyhow error with the folder's name, files that can't be opened.
pub(super) fn snapshot(folder: &Path) -> anyhow::Result<Vec<LogFile>> {
    if !folder.exists() {
        bail!(
            "no audit log at {}: nothing was logged with this data_dir yet",
            folder.display()
        );
    }
    // Held while the files are opened: no line is half written, and none moves to another file.
    let _lock = files::share(folder)?;
    let mut files = Vec::new();
    let older = files::older(folder)?.into_iter().map(|(last, path)| (Some(last), path));
    for (last_seq, path) in older.chain([(None, folder.join(CURRENT))]) {
        match File::open(&path).and_then(|file| file.metadata().map(|metadata| (file, metadata))) {
            Ok((file, metadata)) => files.push(LogFile {
                path,
                last_seq,
                file,
                inode: metadata.ino(),
                bytes: metadata.len(),
                modified: metadata.modified().ok().map(OffsetDateTime::from),
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("open {}", path.display())),
        }
    }
    Ok(files)
}

impl LogFile {
    pub(super) fn lines(self) -> anyhow::Result<Lines> {
        self.lines_from(0)
    }

    fn lines_from(mut self, offset: u64) -> anyhow::Result<Lines> {
        self.file
            .seek(io::SeekFrom::Start(offset))
            .with_context(|| format!("read {}", self.path.display()))?;
        Ok(Lines {
            path: self.path,
            reader: BufReader::new(self.file.take(self.bytes.saturating_sub(offset))),
        })
    }
}

/// The lines of one file.
#[derive(Debug)]
pub(super) struct Lines {
    path: PathBuf,
    reader: BufReader<io::Take<File>>,
}

/// One line, without its line feed.
#[derive(Debug)]
pub(super) struct RawLine {
    pub(super) bytes: Vec<u8>,
    /// It had a line feed.
    pub(super) whole: bool,
}

impl Lines {
    /// The next line; `None` at the end.
    pub(super) fn next_line(&mut self) -> anyhow::Result<Option<RawLine>> {
        let mut bytes = Vec::new();
        let read = (&mut self.reader).take(LINE_LIMIT_BYTES).read_until(b'\n', &mut bytes);
        match read.with_context(|| format!("read {}", self.path.display()))? {
            0 => Ok(None),
            _ => {
                let whole = bytes.last() == Some(&b'\n');
                if whole {
                    bytes.pop();
                }
                Ok(Some(RawLine { bytes, whole }))
            }
        }
    }
}
