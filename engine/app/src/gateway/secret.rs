//! Secrets of desktops' logins: read when they are needed, overwritten when they are not.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use deskreel_config::SecretSource;
use zeroize::Zeroizing;

/// How long a program may take to print a secret.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at a program that has not ended.
const COMMAND_POLL: Duration = Duration::from_millis(10);
/// The longest secret.
const SECRET_BYTES_MAX: u64 = 4096;

/// Reads a secret. Blocks.
///
/// # Errors
/// Names the variable, file or program to blame, never what was read.
pub(super) fn read(source: &SecretSource) -> anyhow::Result<Zeroizing<String>> {
    let secret = match source {
        SecretSource::Plain(text) => Zeroizing::new(text.clone()),
        SecretSource::Env(name) => {
            let value =
                std::env::var(name).map_err(|_| anyhow::anyhow!("variable {name} is not set, or is no text"))?;
            Zeroizing::new(value)
        }
        SecretSource::File(path) => file(path)?,
        SecretSource::Command(words) => command(words)?,
    };
    let length = secret.trim_end_matches(['\r', '\n']).len();
    let mut secret = secret;
    secret.truncate(length);
    if secret.is_empty() {
        bail!("the secret is empty");
    }
    Ok(secret)
}

fn file(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    let file = std::fs::File::open(path).with_context(|| format!("open {}", path.display()))?;
    text(file).with_context(|| format!("read {}", path.display()))
}

fn text(source: impl std::io::Read) -> anyhow::Result<Zeroizing<String>> {
    let mut text = Zeroizing::new(String::with_capacity(256));
    source.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        bail!("longer than {SECRET_BYTES_MAX} bytes");
    }
    Ok(text)
}

fn command(words: &[String]) -> anyhow::Result<Zeroizing<String>> {
    let (program, arguments) = words.split_first().context("no program is named")?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("start {program}"))?;
    let output = child.stdout.take().context("its output")?;
    // the reader ends with the program, or with whoever holds its output
    let reader = std::thread::spawn(move || text(output));
    let ended = wait(&mut child);
    if ended.is_err() {
        // Err = it is gone already
        let _ = child.kill();
        let _ = child.wait();
    }
    let status = ended.with_context(|| format!("run {program}"))?;
    if !status.success() {
        bail!("{program} failed ({status})");
    }
    let text = reader
        .join()
        .map_err(|_| anyhow::anyhow!("read what {program} prints"))?;
    text.with_context(|| format!("read what {program} prints"))
}

fn wait(child: &mut Child) -> anyhow::Result<std::process::ExitStatus> {
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if started.elapsed() >= COMMAND_TIMEOUT {
            bail!("it did not end within {COMMAND_TIMEOUT:?}");
        }
        std::thread::sleep(COMMAND_POLL);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn words(words: &[&str]) -> SecretSource {
        SecretSource::Command(words.iter().map(|word| (*word).to_owned()).collect())
    }

    #[test]
    fn every_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "from a file\r\n").unwrap();
        assert_eq!(*read(&SecretSource::File(path.clone())).unwrap(), "from a file");
        assert_eq!(*read(&words(&["printf", "a b\\n"])).unwrap(), "a b");
        assert_eq!(*read(&SecretSource::Plain("x".to_owned())).unwrap(), "x");
        std::fs::write(&path, "\n").unwrap();
        let why = |source: &SecretSource| format!("{:#}", read(source).unwrap_err());
        assert_eq!(why(&SecretSource::File(path.clone())), "the secret is empty");
        assert!(why(&SecretSource::Env("DESKREEL_NO_SUCH".to_owned())).contains("DESKREEL_NO_SUCH"));
        assert!(why(&SecretSource::File(dir.path().join("none"))).contains("none"));
        assert!(why(&words(&["sh", "-c", "echo hunter2; exit 3"])).contains("sh failed"));
        assert!(!why(&words(&["sh", "-c", "echo hunter2; exit 3"])).contains("hunter2"));
        assert!(why(&words(&["/no/such/program"])).contains("start /no/such/program"));
        std::fs::write(&path, "x".repeat(5000)).unwrap();
        assert!(why(&SecretSource::File(path)).contains("longer than 4096"));
    }
}
