//! Peers that are broken, hostile or merely not there. Each gets a log line with a reason of its own, and the gateway
//! serves on with nothing left behind.

use std::cell::Cell;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use peers::Peers;
use peers::client::Client;
use peers::desktop::{Shadow, USER, Xrdp};
use peers::gateway::{Gateway, Settings};
use peers::process::{free_port, run, wait_for};

const SSL: u32 = 1;
const HYBRID: u32 = 2;
const RESTRICTED_ADMIN_MODE_REQUIRED: u8 = 1;

/// An X.224 connection request with a routing token that names the desktop ([MS-RDPBCGR] 2.2.1.1).
fn request(desktop: &str, negotiation: Option<(u8, u32)>) -> Vec<u8> {
    let mut variable = format!("Cookie: msts={desktop}\r\n").into_bytes();
    if let Some((flags, protocols)) = negotiation {
        variable.extend([1, flags, 8, 0]);
        variable.extend(protocols.to_le_bytes());
    }
    let indicator = u8::try_from(6 + variable.len()).unwrap();
    let total = u16::try_from(5 + 6 + variable.len()).unwrap();
    let mut pdu = vec![3, 0];
    pdu.extend(total.to_be_bytes());
    pdu.extend([indicator, 0xe0, 0, 0, 0, 0, 0]);
    pdu.extend(variable);
    pdu
}

struct Bench {
    gateway: Gateway,
    /// Endings in the log that were looked at already.
    endings: Cell<usize>,
}

impl Bench {
    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.gateway.port)).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends bytes, closes the sending side and reads whatever comes until the gateway closes.
    fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        // The gateway may have closed already, which is its right.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// Sends bytes, leaves the connection open and reads until the gateway closes.
    fn ask(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    }

    /// Sends a request, reads the confirm, then sends `then` instead of a TLS handshake and closes.
    fn confirmed(&self, then: &[u8]) {
        let mut stream = self.connect();
        stream.write_all(&request("lab", Some((0, SSL)))).unwrap();
        let mut confirm = [0; 19];
        stream.read_exact(&mut confirm).unwrap();
        assert_eq!(confirm[11], 2, "a negotiation response");
        let _ = stream.write_all(then);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    }

    /// The peer that was just there has one line about its end, with this reason. A second line of the same peer would
    /// be taken for the next peer's.
    fn expect(&self, reason: &str) {
        let index = self.endings.get();
        let mut found = None;
        wait_for(
            Duration::from_secs(60),
            &format!("an ending with reason {reason}"),
            || {
                found = self.reasons().into_iter().nth(index);
                Ok(found.is_some())
            },
        )
        .unwrap_or_else(|error| panic!("{error}; the log:\n{}", self.gateway.process.log()));
        assert_eq!(
            found.as_deref(),
            Some(reason),
            "the log:\n{}",
            self.gateway.process.log()
        );
        self.endings.set(index + 1);
    }

    /// The reason of every session or connection that has ended, in order.
    fn reasons(&self) -> Vec<String> {
        let log = self.gateway.process.log();
        log.lines()
            .filter(|line| line.contains("session ended") || line.contains("session refused"))
            .map(|line| {
                let reason = line.split("reason=").nth(1).unwrap_or_default();
                let word = |character: &char| character.is_ascii_alphanumeric() || *character == '_';
                reason.trim_start_matches('"').chars().take_while(word).collect()
            })
            .collect()
    }

    /// Open file descriptors and threads.
    fn held(&self) -> (usize, usize) {
        let count = |what: &str| {
            fs::read_dir(format!("/proc/{}/{what}", self.gateway.process.pid().as_raw_nonzero()))
                .unwrap()
                .count()
        };
        (count("fd"), count("task"))
    }

    /// Waits until it holds no more than `before`.
    fn gives_back(&self, before: (usize, usize)) -> anyhow::Result<()> {
        let what = "file descriptors and threads to be given back";
        wait_for(Duration::from_secs(60), what, || {
            let now = self.held();
            Ok(now.0 <= before.0 && now.1 <= before.1)
        })
        .map_err(|error| error.context(format!("before {before:?}, now {:?}", self.held())))
    }
}

/// The negotiation failure code in an answer.
fn failure(answer: &[u8]) -> Option<u8> {
    (answer.get(11) == Some(&3)).then(|| answer[15])
}

fn desktop(name: &str, port: u16, tls: &str) -> String {
    format!(
        "---\nkind: windows_desktop\nversion: v3\nmetadata: {{name: {name}}}\n\
         spec: {{addr: '127.0.0.1:{port}', gateway: {{tls: {tls}}}}}\n"
    )
}

#[test]
fn each_has_its_own_reason_and_leaves_nothing_behind() -> anyhow::Result<()> {
    let Some(_peers) = Peers::take("each_has_its_own_reason_and_leaves_nothing_behind") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let xrdp = Xrdp::start(dir.path())?;
    let nla = Shadow::start(dir.path(), &["/sec:nla"])?;
    let web = TcpListener::bind("127.0.0.1:0")?;
    let web_port = web.local_addr()?.port();
    std::thread::spawn(move || {
        for stream in web.incoming() {
            let _ = stream.and_then(|mut stream| stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"));
        }
    });

    let home = dir.path().join("gateway");
    fs::create_dir_all(home.join("resources"))?;
    let wrong_pin = format!("{{verify: pin, sha256: '{}'}}", "0".repeat(64));
    let pin = "{verify: pin}";
    fs::write(
        home.join("resources/more.yaml"),
        desktop("down", free_port()?, pin)
            + &desktop("wrong-pin", xrdp.port, &wrong_pin)
            + &desktop("nla", nla.port, pin)
            + &desktop("web", web_port, pin),
    )?;
    // All peers come from one address: tasks that stay behind keep their places, and later peers are refused. Some room, since
    // an ending is logged a moment before its place is free.
    let settings = Settings {
        gateway: ", client_security: tls, connections_per_address_max: 4".to_owned(),
        ..Settings::of(xrdp.port, "sync")
    };
    let bench = Bench {
        gateway: Gateway::start(&home, &settings)?,
        endings: Cell::new(0),
    };

    // One session that goes well first, so that lazily made threads and files are there.
    let mut client = Client::start(dir.path(), "before", bench.gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    client.process.end();
    bench.gateway.wait_recording(0, &["complete"])?;
    std::thread::sleep(Duration::from_secs(1));
    bench.endings.set(bench.reasons().len());
    let before = bench.held();

    drop(bench.connect());
    bench.expect("port_scan");
    bench.say(b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n");
    bench.expect("http");
    bench.say(&[0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3]);
    bench.expect("tls_before_x224");
    bench.say(b"SSH-2.0-OpenSSH_9.2\r\n");
    bench.expect("ssh");
    bench.say(&[0xff; 64]);
    bench.expect("not_rdp");
    bench.say(&[3, 0, 0, 12, 2, 0xf0, 0x80, 0, 0, 0, 0, 0]);
    bench.expect("x224_not_a_request");
    bench.say(request("lab", Some((0, SSL))).get(..9).unwrap());
    bench.expect("x224_truncated");
    bench.say(&[&[3, 0, 0xff, 0xff, 0xfe, 0xe0][..], &[0; 4096][..]].concat());
    bench.expect("x224_oversized");
    bench.say(&[3, 0, 0, 11, 200, 0xe0, 0, 0, 0, 0, 0]);
    bench.expect("x224_malformed");
    assert_eq!(
        failure(&bench.ask(&request("lab", Some((0, HYBRID))))),
        Some(1),
        "SSL required by server"
    );
    bench.expect("client_requires_nla");
    bench.ask(&request("lab", None));
    bench.expect("client_without_tls");
    bench.ask(&request("lab", Some((RESTRICTED_ADMIN_MODE_REQUIRED, SSL))));
    bench.expect("client_restricted_admin");
    bench.confirmed(&[]);
    bench.expect("client_tls_aborted");
    bench.confirmed(b"this is not a TLS client hello, whatever else it may be");
    bench.expect("client_tls_failed");
    bench.ask(&request("nowhere", Some((0, SSL))));
    bench.expect("desktop_unknown");
    bench.ask(&request("down", Some((0, SSL))));
    bench.expect("desktop_unreachable");
    bench.ask(&request("wrong-pin", Some((0, SSL))));
    bench.expect("desktop_pin_mismatch");
    bench.ask(&request("nla", Some((0, SSL))));
    bench.expect("desktop_requires_nla");
    bench.ask(&request("web", Some((0, SSL))));
    bench.expect("desktop_not_rdp");
    // A peer that does everything right up to TLS and then talks nonsense.
    run(
        "timeout",
        &[
            "20",
            "python3",
            "-c",
            NONSENSE_AFTER_TLS,
            &bench.gateway.port.to_string(),
        ],
    )?;
    bench.expect("client_pdu_invalid");

    bench.gives_back(before)?;

    let mut client = Client::start(dir.path(), "after", bench.gateway.port, USER, &[])?;
    client.display.wait_painted(8)?;
    client.process.end();
    bench.gateway.wait_recording(1, &["complete"])?;
    assert_eq!(
        bench.reasons().len(),
        bench.endings.get() + 1,
        "one ending a peer, and one for the client that came last"
    );
    let log = bench.gateway.process.log();
    assert!(!log.contains(peers::desktop::PASSWORD), "the log holds a password");
    Ok(())
}

/// Who says nothing is not waited for longer than is allowed.
#[test]
fn who_says_nothing_is_left() -> anyhow::Result<()> {
    let Some(_peers) = Peers::without_xrdp("who_says_nothing_is_left") else {
        return Ok(());
    };
    let dir = tempfile::tempdir()?;
    let deaf = TcpListener::bind("127.0.0.1:0")?;
    let home = dir.path().join("gateway");
    fs::create_dir_all(home.join("resources"))?;
    let more = desktop("deaf", deaf.local_addr()?.port(), "{verify: pin}");
    fs::write(home.join("resources/more.yaml"), more)?;
    let settings = Settings {
        gateway: ", client_security: tls, handshake_timeout: 2s, connect_timeout: 2s".to_owned(),
        ..Settings::of(free_port()?, "sync")
    };
    let bench = Bench {
        gateway: Gateway::start(&home, &settings)?,
        endings: Cell::new(0),
    };
    let silence = || {
        bench.ask(&[3, 0, 0]);
        bench.expect("handshake_timeout");
        bench.ask(&request("deaf", Some((0, SSL))));
        bench.expect("desktop_connect_timeout");
    };
    // Once first, so that lazily made threads and files are there.
    silence();
    std::thread::sleep(Duration::from_secs(1));
    let held = bench.held();
    // What each leaves behind adds up.
    (0..3).for_each(|_| silence());
    bench.gives_back(held)
}

const NONSENSE_AFTER_TLS: &str = r#"
import socket, ssl, sys
s = socket.create_connection(("127.0.0.1", int(sys.argv[1])), 10)
s.sendall(bytes.fromhex("030000130ee000000000000100080001000000"))
s.recv(19)
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
c.check_hostname = False
c.verify_mode = ssl.CERT_NONE
t = c.wrap_socket(s)
t.sendall(b"\xff" * 300)
try:
    t.recv(100)
except OSError:
    pass
"#;
