//! Where the gateway listens, and whether it answers.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use deskreel_config::Config;

use super::Report;
use crate::control::client::ask_once;
use crate::control::protocol::{Answer, Request};

const CHECK: &str = "port";

/// Looks at ports and control socket.
pub(super) fn examine(config: &Config, report: &mut Report) {
    let gateway = &config.gateway;
    let more = gateway
        .listeners
        .iter()
        .map(|listener| ("gateway.listeners", listener.listen));
    let pages = config.web.listen.map(|listen| ("web.listen", listen));
    let all = [("gateway.listen", gateway.listen)]
        .into_iter()
        .chain(more)
        .chain(pages);
    for (key, address) in all {
        if report.running {
            listening(key, address, report);
        } else {
            free(key, address, report);
        }
    }
    if !report.running {
        return report.ok("gateway", "no gateway runs on this data_dir");
    }
    match ask_once(&config.data_dir, &Request::List {}) {
        Ok(Answer::Sessions { sessions }) => {
            report.ok(
                "gateway",
                format!("runs and answers: {} sessions are open", sessions.len()),
            );
        }
        Ok(other) => report.error(
            "gateway",
            format!("runs, but does not answer as it should: {other:?}"),
            "run this as root or as the gateway's account, in the gateway's version",
        ),
        Err(error) => report.error(
            "gateway",
            format!("runs, but does not answer: {error:#}"),
            "look into its log; `deskreel sessions` does not work meanwhile",
        ),
    }
}

/// Whether the gateway could listen there.
fn free(key: &str, address: SocketAddr, report: &mut Report) {
    // port 0: any that is free
    let Err(error) = TcpListener::bind(address) else {
        return report.ok(CHECK, format!("{key} {address} is free"));
    };
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "stop the program that listens there (`ss -ltnp` names it), or choose another port",
        ErrorKind::PermissionDenied => {
            "give the service CAP_NET_BIND_SERVICE (systemd: `AmbientCapabilities=CAP_NET_BIND_SERVICE`), or choose a port from 1024 on"
        }
        ErrorKind::AddrNotAvailable => "write an address that this machine has, or 0.0.0.0 for all of them",
        _ => "choose another address",
    };
    report.error(CHECK, format!("{key} {address}: {error}"), remedy);
}

/// Whether somebody listens there, as the kernel says: a connection would be told of in the audit log.
fn listening(key: &str, address: SocketAddr, report: &mut Report) {
    if address.port() == 0 {
        return;
    }
    let mut known = false;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let Ok(text) = std::fs::read_to_string(table) else {
            continue;
        };
        known = true;
        if text.lines().any(|line| listens(line, address.port())) {
            return report.ok(CHECK, format!("{key} {address} is listened on"));
        }
    }
    if known {
        report.error(
            CHECK,
            format!("{key} {address}: a gateway runs on this data_dir, but nobody listens there"),
            "restart the gateway: it may run with another configuration",
        );
    }
}

/// Whether a line of /proc/net/tcp is of a socket that listens on a port.
fn listens(line: &str, port: u16) -> bool {
    const LISTEN: &str = "0A";
    let mut fields = line.split_whitespace();
    let (local, state) = (fields.nth(1), fields.nth(1));
    let of = local.and_then(|local| u16::from_str_radix(local.rsplit_once(':')?.1, 16).ok());
    of == Some(port) && state == Some(LISTEN)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::doctor::State;

    #[test]
    fn ports_that_are_taken_and_that_are_listened_on() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let mut report = Report::new();
        free("k", address, &mut report);
        listening("k", address, &mut report);
        drop(socket);
        free("k", address, &mut report);
        listening("k", address, &mut report);
        let states: Vec<State> = report.findings.iter().map(|finding| finding.state).collect();
        assert_eq!(states, [State::Error, State::Ok, State::Ok, State::Error], "{report:?}");
    }
}
