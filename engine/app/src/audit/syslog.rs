//! The copy of the log that goes to syslog: one RFC 5424 message an event, to a Unix datagram socket.

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};

use super::log::Written;

/// Facility `authpriv`: security and authorisation.
const FACILITY: u8 = 10;

/// The way to a syslog daemon. A copy that doesn't arrive is a warning, never a failure: the log itself is what counts.
#[derive(Debug)]
pub(super) struct Syslog {
    path: PathBuf,
    host: String,
    socket: Option<UnixDatagram>,
    /// Copies that did not arrive since the last that did.
    missed: u64,
}

impl Syslog {
    pub(super) fn new(path: &Path, host: &str) -> Self {
        // RFC 5424: printable ASCII; "-" = not known
        let host: String = host.chars().filter(char::is_ascii_graphic).take(255).collect();
        Self {
            path: path.to_owned(),
            host: if host.is_empty() { "-".to_owned() } else { host },
            socket: None,
            missed: 0,
        }
    }

    /// Sends a copy; never waits.
    pub(super) fn send(&mut self, lines: &[Written], time: &str) {
        for line in lines {
            let message = self.message(line, time);
            match self.try_send(message.as_bytes()) {
                Ok(()) => {
                    if self.missed > 0 {
                        tracing::warn!(missed = self.missed, "the copy of the audit log goes to syslog again");
                        self.missed = 0;
                    }
                }
                Err(error) => {
                    self.socket = None;
                    if self.missed == 0 {
                        let socket = self.path.display();
                        tracing::warn!(%socket, %error, "an event of the audit log was not copied (audit.syslog)");
                    }
                    self.missed += 1;
                }
            }
        }
    }

    fn try_send(&mut self, message: &[u8]) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                self.socket.insert(socket)
            }
        };
        match socket.send(message) {
            Ok(_) => Ok(()),
            // The daemon was started anew, so the socket is another one.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                let socket = UnixDatagram::unbound()?;
                socket.set_nonblocking(true)?;
                socket.connect(&self.path)?;
                self.socket.insert(socket).send(message).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    fn message(&self, line: &Written, time: &str) -> String {
        let severity = match line.code.as_bytes().last() {
            Some(b'E') => 3,
            Some(b'W') => 4,
            _ => 6,
        };
        format!(
            "<{}>1 {time} {} deskreel {} {} - {}",
            FACILITY * 8 + severity,
            self.host,
            std::process::id(),
            line.code,
            line.text
        )
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;

    fn line(code: &'static str) -> Written {
        Written {
            code,
            text: "{\"event\":\"x\"}".to_owned(),
        }
    }

    #[test]
    fn rfc_5424_with_the_line_as_it_stands_in_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let daemon = UnixDatagram::bind(&path).unwrap();
        let mut syslog = Syslog::new(&path, "gate way\n");
        syslog.send(&[line("TDP00W")], "2026-02-01T00:00:00.000Z");
        let mut buffer = [0; 1024];
        let length = daemon.recv(&mut buffer).unwrap();
        let expected = format!(
            "<84>1 2026-02-01T00:00:00.000Z gateway deskreel {} TDP00W - {{\"event\":\"x\"}}",
            std::process::id()
        );
        assert_eq!(String::from_utf8_lossy(&buffer[..length]), expected);
    }

    #[test]
    fn a_daemon_that_is_gone_costs_its_copies_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut syslog = Syslog::new(&path, "gateway");
        syslog.send(&[line("TDP00I")], "t");
        assert_eq!(syslog.missed, 1);
        let first = UnixDatagram::bind(&path).unwrap();
        syslog.send(&[line("TDP00I")], "t");
        assert_eq!(syslog.missed, 0);
        drop(first);
        std::fs::remove_file(&path).unwrap();
        let second = UnixDatagram::bind(&path).unwrap();
        second.set_nonblocking(true).unwrap();
        syslog.send(&[line("TDP00I")], "t");
        assert!(second.recv(&mut [0; 1024]).unwrap() > 0);
    }
}
