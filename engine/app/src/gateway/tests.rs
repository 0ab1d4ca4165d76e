//! A whole gateway in this process, and peers that the tests write themselves.

#![allow(clippy::unwrap_used, reason = "tests")]

mod bad_peers;
mod demo;
mod guesses;
mod mutants;
mod nla_client;
pub(super) mod random;
mod redirections;
mod sessions;
mod tls_versions;

use std::io::{self, Write};
use std::sync::Mutex;
use std::time::Duration;

use deskreel_config::{
    BulkCompression, ClaimedIdentity, Credentials, DesktopGateway, DesktopSecurity, DesktopTls, RecordingMode, Sources,
    Verify, WindowsDesktop,
};
use deskreel_rdp::wire::x224::{ConnectionConfirm, connection_confirm, connection_failure, connection_request};
use deskreel_rdp::wire::x224::{failure, protocol};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::fmt::MakeWriter;

use super::*;
use crate::pipeline::Storage;

/// A port that refuses connections, and is nobody else's while the tests run.
fn closed_port() -> SocketAddr {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = socket.local_addr().unwrap();
    std::mem::forget(socket);
    address
}

/// No test waits this long unless it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Log lines of this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Lines {
    /// All that was logged so far.
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    /// Reasons and details of the sessions that ended so far.
    fn ends(&self) -> Vec<(String, String)> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter_map(|line| {
                let reason = line.get("reason")?.as_str()?.to_owned();
                Some((reason, line.get("detail")?.as_str()?.to_owned()))
            })
            .collect()
    }
}

/// A running gateway.
struct Running {
    addr: SocketAddr,
    lines: Lines,
    seen: usize,
    /// Tasks that run as long as the gateway.
    tasks: usize,
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    task: JoinHandle<()>,
    _dir: TempDir,
    _log: DefaultGuard,
}

fn desktop(name: &str, addr: SocketAddr, tls: DesktopTls) -> WindowsDesktop {
    WindowsDesktop {
        name: name.to_owned(),
        addr: addr.to_string(),
        gateway: DesktopGateway {
            tls,
            security: DesktopSecurity::Auto,
            credentials: Credentials::Passthrough,
            bulk_compression: BulkCompression::Keep,
            graphics: None,
        },
        ..WindowsDesktop::default()
    }
}

fn first_use() -> DesktopTls {
    DesktopTls {
        verify: Verify::Pin,
        sha256: None,
        ca: None,
    }
}

/// Starts a gateway whose default desktop is `lab` at `addr`.
async fn start(addr: SocketAddr, change: impl FnOnce(&mut Config, &mut Resources)) -> Running {
    start_with(addr, change, Vec::new()).await
}

/// The same with storages.
async fn start_with(
    addr: SocketAddr,
    change: impl FnOnce(&mut Config, &mut Resources),
    storages: Vec<Arc<dyn Storage>>,
) -> Running {
    let (lines, log) = listen_to_log();
    let dir = tempfile::tempdir().unwrap();
    let sources = Sources {
        working_dir: dir.path().to_owned(),
        ..Sources::default()
    };
    let mut config = deskreel_config::load(&sources).unwrap().config;
    config.gateway.listen = "127.0.0.1:0".parse().unwrap();
    config.gateway.default_desktop = Some("lab".to_owned());
    config.session_recording.mode = RecordingMode::Off;
    config.access.claimed_identity = ClaimedIdentity::Allow;
    let mut resources = Resources {
        desktops: vec![desktop("lab", addr, first_use())],
        ..Resources::default()
    };
    change(&mut config, &mut resources);
    let sessions = Sessions::start(&config, storages).await.unwrap();
    let access = Access::fixed(&config, &resources.desktops);
    run(&config, &resources, access, sessions, dir, (lines, log)).await
}

fn listen_to_log() -> (Lines, DefaultGuard) {
    let lines = Lines::default();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_writer(lines.clone())
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

/// Starts a gateway on `deskreel.yaml` and the folder `resources` in `dir`, with nothing recorded.
async fn start_in(dir: TempDir) -> Running {
    let log = listen_to_log();
    let sources = Sources {
        file: Some(dir.path().join("deskreel.yaml")),
        working_dir: dir.path().to_owned(),
        ..Sources::default()
    };
    let loaded = deskreel_config::load(&sources).unwrap();
    let resources = deskreel_config::load_resources(&loaded.config.access.resources_dir).unwrap();
    let access = Access::start(&loaded).unwrap();
    let sessions = Sessions::start(&loaded.config, Vec::new()).await.unwrap();
    run(&loaded.config, &resources, access, sessions, dir, log).await
}

async fn run(
    config: &Config,
    resources: &Resources,
    access: Arc<Access>,
    sessions: Sessions,
    dir: TempDir,
    (lines, log): (Lines, DefaultGuard),
) -> Running {
    let gateway = Gateway::bind(config, resources, access, sessions).await.unwrap();
    let addr = gateway.local_addr();
    let shared = Arc::clone(&gateway.shared);
    let (stop, stopped) = oneshot::channel();
    let task = tokio::spawn(gateway.run(async {
        let _ = stopped.await;
    }));
    Running {
        addr,
        lines,
        seen: 0,
        tasks: alive_tasks(),
        shared,
        stop: Some(stop),
        task,
        _dir: dir,
        _log: log,
    }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.addr).await.unwrap()
    }

    /// Sends `bytes` and closes the writing side; returns what the gateway says until it closes.
    async fn say(&self, bytes: &[u8]) -> Vec<u8> {
        let mut peer = self.connect().await;
        peer.write_all(bytes).await.unwrap();
        peer.shutdown().await.unwrap();
        read_all(&mut peer).await
    }

    /// Sends a connection request and returns the answer, leaving the stream open.
    async fn request(&self, protocols: u32) -> (TcpStream, Vec<u8>) {
        let mut peer = self.connect().await;
        peer.write_all(&connection_request(protocols, Some("anna")))
            .await
            .unwrap();
        let mut answer = vec![0; 19];
        let read = tokio::time::timeout(PATIENCE, peer.read_exact(&mut answer))
            .await
            .unwrap();
        if read.is_err() {
            answer.clear();
        }
        (peer, answer)
    }

    /// The reason of the next end; there is exactly one more than before.
    async fn next_end(&mut self) -> (String, String) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while self.lines.ends().len() <= self.seen {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        waited.await.expect("a session ends");
        self.seen += 1;
        let ends = self.lines.ends();
        assert_eq!(ends.len(), self.seen, "one line a session: {ends:?}");
        ends.last().unwrap().clone()
    }

    /// Tells the gateway to stop.
    fn stop_now(&mut self) {
        self.stop.take().unwrap().send(()).unwrap();
    }

    async fn expect(&mut self, reason: &str) {
        let (found, detail) = self.next_end().await;
        assert_eq!(found, reason, "{detail}");
    }

    /// No session, no socket, no task is left.
    async fn assert_clean(&self) {
        let clean = async {
            loop {
                let tasks = alive_tasks();
                if self.shared.limits.open() == 0 && sockets(self.addr.port()) == 0 && tasks <= self.tasks {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        if tokio::time::timeout(PATIENCE, clean).await.is_err() {
            panic!(
                "left: {} sessions, {} sockets, {} tasks of {}",
                self.shared.limits.open(),
                sockets(self.addr.port()),
                alive_tasks(),
                self.tasks
            );
        }
    }
}

fn alive_tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

async fn read_all(peer: &mut TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    // Err = a reset, which is an end too
    let _ = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut answer))
        .await
        .expect("the gateway closes");
    answer
}

/// Open, connected sockets of this process whose local port is `port`.
fn sockets(port: u16) -> usize {
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let local = format!(":{port:04X}");
    table
        .lines()
        .skip(1)
        .filter(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            // 0A = listening; inode 0 = no file descriptor any more
            fields[1].ends_with(&local) && fields[3] != "0A" && fields[9] != "0"
        })
        .count()
}
