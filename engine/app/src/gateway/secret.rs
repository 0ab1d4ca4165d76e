//! Secrets of desktops' logins: read when they are needed, overwritten when they are not.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use deskreel_config::SecretSource;
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

/// Between two looks at a program that has not ended.
const COMMAND_POLL: Duration = Duration::from_millis(10);
/// What a program that is ended may take for that.
const GRACE: Duration = Duration::from_millis(200);
/// Secrets that are read at once. The threads of a runtime are limited, and others need them too.
static TURNS: Semaphore = Semaphore::const_new(32);
/// The longest secret.
const SECRET_BYTES_MAX: usize = 4096;

/// Reads a secret without blocking the runtime, and not longer than `limit`, whatever file or program do.
///
/// # Errors
/// Names the variable, file or program to blame, never what was read.
pub(super) async fn fetch(source: SecretSource, limit: Duration) -> anyhow::Result<Zeroizing<String>> {
    let reading = async {
        let turn = TURNS.acquire().await?;
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            read(&source, limit)
        });
        reading.await?
    };
    // a file on a file system that hangs can't be given up from within: its thread stays, and keeps its turn
    let read = tokio::time::timeout(limit + GRACE, reading).await;
    read.unwrap_or_else(|_| bail!("it was not read within gateway.secret_timeout ({limit:?})"))
}

/// Reads a secret. Blocks, a program's for at most `limit`.
fn read(source: &SecretSource, limit: Duration) -> anyhow::Result<Zeroizing<String>> {
    let mut secret = match source {
        SecretSource::Plain(text) => Zeroizing::new(text.clone()),
        SecretSource::Env(name) => {
            let value =
                std::env::var(name).map_err(|_| anyhow::anyhow!("variable {name} is not set, or is no text"))?;
            Zeroizing::new(value)
        }
        SecretSource::File(path) => file(path)?,
        SecretSource::Command(words) => command(words, limit)?,
    };
    let length = secret.trim_end_matches(['\r', '\n']).len();
    secret.truncate(length);
    if secret.is_empty() {
        bail!("the secret is empty");
    }
    Ok(secret)
}

fn file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    // without NONBLOCK the opening of a pipe waits for its writer
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let read = || -> anyhow::Result<Zeroizing<String>> {
        let mut file = File::from(rustix::fs::open(path, flags, Mode::empty()).context("open")?);
        if !file.metadata()?.is_file() {
            bail!("it is no regular file");
        }
        let mut bytes = Bytes::new();
        while bytes.read_some(&mut file)? {}
        bytes.into_text()
    };
    read().with_context(|| format!("read {}", path.display()))
}

/// What a program prints before it ends. What it leaves running is not waited for.
fn command(words: &[String], limit: Duration) -> anyhow::Result<Zeroizing<String>> {
    let (program, arguments) = words.split_first().context("no program is named")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let output = child.stdout.take().context("its output")?;
    let run = run(&mut child, output, limit);
    if run.is_err() {
        // Err = it is gone already, and all that it has started
        let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
        let _ = child.wait();
    }
    let (status, bytes) = run.with_context(|| format!("run {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    bytes.into_text().with_context(|| format!("read what {program} prints"))
}

fn run(child: &mut Child, mut output: ChildStdout, limit: Duration) -> anyhow::Result<(ExitStatus, Bytes)> {
    rustix::io::ioctl_fionbio(&output, true).context("set up its output")?;
    let started = Instant::now();
    let mut bytes = Bytes::new();
    loop {
        // asked before the last look at its output, which is then complete
        let ended = child.try_wait()?;
        while bytes.read_some(&mut output)? {}
        if let Some(status) = ended {
            return Ok((status, bytes));
        }
        if started.elapsed() >= limit {
            bail!("it did not end within gateway.secret_timeout ({limit:?})");
        }
        std::thread::sleep(COMMAND_POLL);
    }
}

/// A secret as it is read, in memory that never moves.
struct Bytes {
    buffer: Zeroizing<Vec<u8>>,
    length: usize,
}

impl Bytes {
    fn new() -> Self {
        Self {
            // one more, to see what is too long
            buffer: Zeroizing::new(vec![0; SECRET_BYTES_MAX + 1]),
            length: 0,
        }
    }

    /// Reads once; `false` = there is nothing more, or not now.
    fn read_some(&mut self, source: &mut impl Read) -> anyhow::Result<bool> {
        let room = self.buffer.get_mut(self.length..).unwrap_or_default();
        match source.read(room) {
            Ok(0) => Ok(false),
            Ok(read) => {
                self.length += read;
                if self.length > SECRET_BYTES_MAX {
                    bail!("longer than {SECRET_BYTES_MAX} bytes");
                }
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn into_text(self) -> anyhow::Result<Zeroizing<String>> {
        let bytes = self.buffer.get(..self.length).unwrap_or_default();
        let text = std::str::from_utf8(bytes).map_err(|_| anyhow::anyhow!("it is no text in UTF-8"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    /// Long enough for any program on any machine.
    const LIMIT: Duration = Duration::from_secs(60);

    fn words(words: &[&str]) -> SecretSource {
        SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
    }

    fn why(source: &SecretSource) -> String {
        format!("{:#}", read(source, LIMIT).unwrap_err())
    }

    #[test]
    fn every_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let read = |source: &SecretSource| read(source, LIMIT).unwrap();
        std::fs::write(&path, "from a file\r\n").unwrap();
        assert_eq!(*read(&SecretSource::File(path.clone())), "from a file");
        assert_eq!(*read(&words(&["printf", "a b\\n"])), "a b");
        assert_eq!(
            *read(&words(&["sh", "-c", "printf one; sleep 0.1; printf two"])),
            "onetwo"
        );
        assert_eq!(*read(&SecretSource::Plain("x".to_owned())), "x");
        std::fs::write(&path, "\n").unwrap();
        assert_eq!(why(&SecretSource::File(path.clone())), "the secret is empty");
        assert!(why(&SecretSource::Env("DESKREEL_NO_SUCH".to_owned())).contains("DESKREEL_NO_SUCH"));
        assert!(why(&SecretSource::File(dir.path().join("none"))).contains("none"));
        assert!(why(&words(&["sh", "-c", "echo hunter2; exit 3"])).contains("sh failed"));
        assert!(!why(&words(&["sh", "-c", "echo hunter2; exit 3"])).contains("hunter2"));
        assert!(why(&words(&["/no/such/program"])).contains("start /no/such/program"));
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(why(&SecretSource::File(path.clone())).contains("longer than 4096"));
        std::fs::write(&path, b"secret\xFF").unwrap();
        let why = why(&SecretSource::File(path));
        assert!(why.contains("UTF-8") && !why.contains("secret\u{FFFD}"), "{why}");
    }

    #[test]
    fn what_is_no_regular_file_is_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
        assert!(made.success());
        for path in [pipe.as_path(), dir.path(), Path::new("/dev/zero")] {
            let why = why(&SecretSource::File(path.to_owned()));
            assert!(why.contains("no regular file"), "{why}");
        }
    }

    #[test]
    fn a_child_that_keeps_the_output_open_is_not_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo secret", pid.display());
        assert_eq!(*read(&words(&["sh", "-c", &script]), LIMIT).unwrap(), "secret");
        let pid: i32 = std::fs::read_to_string(pid).unwrap().trim().parse().unwrap();
        let pid = Pid::from_raw(pid).unwrap();
        rustix::process::kill_process(pid, Signal::KILL).expect("a helper that was left behind on purpose lives");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; echo secret; wait", pid.display());
        let source = words(&["sh", "-c", &script]);
        let why = fetch(source, Duration::from_millis(500)).await.unwrap_err();
        let why = format!("{why:#}");
        assert!(why.contains("secret_timeout") && !why.contains("echo"), "{why}");
        let pid = std::fs::read_to_string(pid).unwrap();
        let state = || std::fs::read_to_string(format!("/proc/{}/stat", pid.trim()));
        // gone, or a zombie that nobody asks for
        while state().is_ok_and(|stat| !stat.contains(") Z ")) {
            tokio::time::sleep(COMMAND_POLL).await;
        }
        let endless = fetch(words(&["yes"]), LIMIT).await.unwrap_err();
        assert!(format!("{endless:#}").contains("longer than 4096"), "{endless:#}");
    }
}
