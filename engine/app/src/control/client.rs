//! Asking a running gateway.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context as _, bail};

use super::SOCKET;
use super::protocol::{ANSWER_MAX_BYTES, Answer, Request};
use crate::access::closed;

/// The answers to one request, as they come.
pub(crate) struct Answers {
    stream: BufReader<UnixStream>,
}

/// Asks the gateway of this `data_dir`.
///
/// # Errors
/// No gateway runs there, or its socket may not be used.
pub(crate) fn ask(data_dir: &Path, request: &Request) -> anyhow::Result<Answers> {
    let path = data_dir.join(SOCKET);
    let mut stream = match UnixStream::connect(&path) {
        Ok(stream) => stream,
        Err(error)
            if matches!(
                error.kind(),
                std::io::ErrorKind::NotFound | std::io::ErrorKind::ConnectionRefused
            ) =>
        {
            bail!("no gateway runs on {}", data_dir.display())
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let uid = rustix::process::geteuid().as_raw();
            let owner = std::fs::metadata(data_dir).map_or(0, |metadata| metadata.uid());
            bail!(closed(data_dir, uid, owner));
        }
        Err(error) => return Err(error).with_context(|| format!("connect to {}", path.display())),
    };
    let mut line = serde_json::to_vec(request).context("write the request as JSON")?;
    line.push(b'\n');
    stream.write_all(&line).context("send the request")?;
    Ok(Answers {
        stream: BufReader::new(stream),
    })
}

/// The one answer to a request that has one.
///
/// # Errors
/// As [`ask`]; a gateway that says nothing.
pub(crate) fn ask_once(data_dir: &Path, request: &Request) -> anyhow::Result<Answer> {
    ask(data_dir, request)?
        .next()
        .context("the gateway closed the connection without an answer")?
}

impl Iterator for Answers {
    type Item = anyhow::Result<Answer>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut line = Vec::new();
        let read = (&mut self.stream).take(ANSWER_MAX_BYTES).read_until(b'\n', &mut line);
        match read {
            Ok(0) => None,
            Ok(_) => Some(serde_json::from_slice(&line).context("read the gateway's answer")),
            Err(error) => Some(Err(error).context("read from the gateway")),
        }
    }
}
