//! Whether a process listens on an address, from `/proc`: nothing is bound, which would be in the process's way, and nothing
//! connects, which the process would take for a client.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Context as _;

/// State of a listening socket in `/proc/PID/net/tcp` (proc(5)).
const LISTENING: &str = "0A";
/// Columns there: local address and port, state, inode.
const LOCAL: usize = 1;
const STATE: usize = 3;
const INODE: usize = 9;

/// Whether the process `pid` itself has a socket that listens on `address`.
///
/// # Errors
/// `/proc` can't be read; a process that is gone listens on nothing.
pub(super) fn listens(pid: u32, address: SocketAddr) -> anyhow::Result<bool> {
    let table = match address {
        SocketAddr::V4(_) => format!("/proc/{pid}/net/tcp"),
        SocketAddr::V6(_) => format!("/proc/{pid}/net/tcp6"),
    };
    let sockets = match std::fs::read_to_string(&table) {
        Err(error) if is_gone(&error) => return Ok(false),
        sockets => sockets.with_context(|| format!("read {table}"))?,
    };
    let local = in_proc(address);
    let links: Vec<String> = sockets
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let listens = *fields.get(LOCAL)? == local && *fields.get(STATE)? == LISTENING;
            listens.then(|| format!("socket:[{}]", fields.get(INODE).copied().unwrap_or_default()))
        })
        .collect();
    let folder = format!("/proc/{pid}/fd");
    let files = match std::fs::read_dir(&folder) {
        Err(error) if is_gone(&error) => return Ok(false),
        files => files.with_context(|| format!("read {folder}"))?,
    };
    // One that is closed meanwhile has no link any more.
    let mut open = files.flatten().filter_map(|file| std::fs::read_link(file.path()).ok());
    Ok(open.any(|open| links.iter().any(|link| open.as_os_str() == link.as_str())))
}

fn is_gone(error: &std::io::Error) -> bool {
    // ESRCH: it ended between open and read.
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// An address as the kernel writes it there: 32-bit words of the address as this machine reads them, then the port.
fn in_proc(address: SocketAddr) -> String {
    let words: String = match address {
        SocketAddr::V4(address) => word(address.ip().octets()),
        SocketAddr::V6(address) => address
            .ip()
            .octets()
            .as_chunks::<4>()
            .0
            .iter()
            .map(|octets| word(*octets))
            .collect(),
    };
    format!("{words}:{:04X}", address.port())
}

fn word(octets: [u8; 4]) -> String {
    format!("{:08X}", u32::from_ne_bytes(octets))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use std::net::{TcpListener, TcpStream};
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn only_the_process_that_listens_does() {
        let own = std::process::id();
        for bind in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(bind) else {
                // A machine without IPv6.
                assert_ne!(bind, "127.0.0.1:0");
                continue;
            };
            let address = listener.local_addr().unwrap();
            assert!(listens(own, address).unwrap(), "{address}");
            // Another process does not, while the port is taken.
            let mut other = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
            assert!(!listens(other.id(), address).unwrap(), "{address}");
            other.kill().unwrap();
            other.wait().unwrap();
            assert!(!listens(other.id(), address).unwrap(), "a process that is gone");
            // A connection from that port is no listener.
            let _peer = TcpStream::connect(address).unwrap();
            let _accepted = listener.accept().unwrap();
            drop(listener);
            assert!(!listens(own, address).unwrap(), "{address}");
        }
    }
}
