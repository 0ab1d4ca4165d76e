//! A proxy between a client and an HTTP server of this machine that does to requests what networks and servers do: refuses
//! them, cuts them off, keeps silent, garbles, dawdles. It can speak TLS, with good and with bad certificates.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};
use rustix::net::sockopt::set_socket_linger;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq)]
pub enum Fault {
    /// Answered by the proxy with this status and S3 error code; the server doesn't see it.
    Answer(u16, &'static str),
    /// The connection is reset after that many bytes of the request's body.
    CutRequest(u64),
    /// The server gets the request; the connection is reset after that many bytes of the answer's body, or before its head.
    CutAnswer(Option<u64>),
    /// The server doesn't see it, nobody answers, and the connection stays.
    Silence,
    /// A byte of the answer's body is changed, if it is longer than 3000.
    GarbleAnswer,
    /// A byte of the request's body is changed, if it is longer than 3000.
    GarbleRequest,
    /// The answer's body comes at so many bytes a second.
    Dribble(u64),
    /// The server gets the request so much later.
    Late(Duration),
}

#[derive(Debug)]
struct Rule {
    method: &'static str,
    part: String,
    left: usize,
    fault: Fault,
}

#[derive(Debug, Default)]
struct State {
    rules: Mutex<VecDeque<Rule>>,
    hits: Mutex<usize>,
    heads: Mutex<Vec<String>>,
}

/// A proxy. Dropping it closes its connections.
#[derive(Debug)]
pub struct Faults {
    /// Where clients connect on loopback.
    pub port: u16,
    state: Arc<State>,
    // In an option so that drop can take it without blocking.
    runtime: Option<Runtime>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Faults {
    /// A proxy in front of a port of this machine.
    ///
    /// # Errors
    /// No port is free.
    pub fn start(upstream: u16) -> anyhow::Result<Self> {
        Self::listen(upstream, None)
    }

    /// A proxy that its clients reach by TLS.
    ///
    /// # Errors
    /// No port is free, or the certificate is none.
    pub fn start_tls(upstream: u16, certificate: &Certificate) -> anyhow::Result<Self> {
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der.clone().into()],
                certificate.key.clone().try_into().map_err(anyhow::Error::msg)?,
            )?;
        Self::listen(upstream, Some(TlsAcceptor::from(Arc::new(config))))
    }

    fn listen(upstream: u16, tls: Option<TlsAcceptor>) -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()?;
        // Not bound by the runtime: tests that run on one themselves may not wait for another.
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        runtime.spawn(async move {
            let Ok(listener) = TcpListener::from_std(listener) else {
                return;
            };
            while let Ok((stream, _)) = listener.accept().await {
                let (state, tls) = (Arc::clone(&shared), tls.clone());
                tokio::spawn(async move {
                    let Ok(control) = stream.as_fd().try_clone_to_owned() else {
                        return;
                    };
                    let served = match tls {
                        None => serve(stream, upstream, &state).await,
                        Some(tls) => match tls.accept(stream).await {
                            Ok(stream) => serve(stream, upstream, &state).await,
                            Err(error) => Err(error.into()),
                        },
                    };
                    if served.is_err() {
                        reset(&control);
                    }
                });
            }
        });
        Ok(Self {
            port,
            state,
            runtime: Some(runtime),
        })
    }

    /// The next `times` requests of this method whose path has `part` in it get this fault; rules are tried in their order.
    pub fn add(&self, method: &'static str, part: &str, times: usize, fault: Fault) {
        let rule = Rule {
            method,
            part: part.to_owned(),
            left: times,
            fault,
        };
        locked(&self.state.rules).push_back(rule);
    }

    /// Forgets all rules.
    pub fn clear(&self) {
        locked(&self.state.rules).clear();
    }

    /// How many requests a rule has hit.
    #[must_use]
    pub fn hits(&self) -> usize {
        *locked(&self.state.hits)
    }

    /// The heads of all requests so far.
    #[must_use]
    pub fn heads(&self) -> Vec<String> {
        locked(&self.state.heads).clone()
    }

    /// How many requests had this method.
    #[must_use]
    pub fn requests(&self, method: &str) -> usize {
        locked(&self.state.heads)
            .iter()
            .filter(|head| head.split(' ').next() == Some(method))
            .count()
    }
}

impl Drop for Faults {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// The next close sends a reset.
fn reset(control: &OwnedFd) {
    let _ = set_socket_linger(control, Some(Duration::ZERO));
}

impl State {
    fn fault(&self, head: &str) -> Option<Fault> {
        locked(&self.heads).push(head.to_owned());
        let mut words = head.split(' ');
        let (method, path) = (words.next()?, words.next()?);
        let mut rules = locked(&self.rules);
        let rule = rules
            .iter_mut()
            .find(|rule| rule.left > 0 && rule.method == method && path.contains(&rule.part))?;
        rule.left -= 1;
        *locked(&self.hits) += 1;
        Some(rule.fault.clone())
    }
}

/// One connection: requests one after the other. An error resets it.
async fn serve(client: impl AsyncRead + AsyncWrite + Unpin, upstream: u16, state: &State) -> anyhow::Result<()> {
    let (from_client, mut to_client) = tokio::io::split(client);
    let mut from_client = BufReader::new(from_client);
    let server = TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)).await?;
    let (from_server, mut to_server) = server.into_split();
    let mut from_server = BufReader::new(from_server);
    while let Some(head) = read_head(&mut from_client).await? {
        let fault = state.fault(&head);
        match &fault {
            Some(Fault::Answer(status, code)) => {
                let xml =
                    format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>a fault</Message></Error>");
                let answer = format!(
                    "HTTP/1.1 {status} Fault\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{xml}",
                    xml.len()
                );
                to_client.write_all(answer.as_bytes()).await?;
                to_client.flush().await?;
                // What the client still sends is read, or the close would reset what it should read.
                let _ = tokio::time::timeout(
                    Duration::from_millis(500),
                    pass(
                        &mut from_client,
                        &mut tokio::io::sink(),
                        Body::of(&head, true),
                        &Bend::default(),
                    ),
                )
                .await;
                to_client.shutdown().await?;
                return Ok(());
            }
            Some(Fault::Silence) => std::future::pending().await,
            Some(Fault::Late(late)) => tokio::time::sleep(*late).await,
            _ => {}
        }
        to_server.write_all(head.as_bytes()).await?;
        let bend = Bend::of_request(fault.as_ref());
        let sent = {
            let send = pass(&mut from_client, &mut to_server, Body::of(&head, true), &bend);
            let answer = answer(&mut from_server, &mut to_client, &head, fault.as_ref());
            tokio::pin!(send, answer);
            let mut sent = false;
            loop {
                tokio::select! {
                    outcome = &mut send, if !sent => { outcome?; sent = true; }
                    outcome = &mut answer => { outcome?; break sent; }
                }
            }
        };
        if !sent {
            // The server has answered before it read all: what follows can't be told apart.
            to_client.shutdown().await?;
            return Ok(());
        }
    }
    Ok(())
}

async fn answer<R, W>(from: &mut BufReader<R>, to: &mut W, request: &str, fault: Option<&Fault>) -> anyhow::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    loop {
        let head = read_head(from).await?.context("the server hung up")?;
        if fault == Some(&Fault::CutAnswer(None)) {
            bail!("a fault");
        }
        to.write_all(head.as_bytes()).await?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        if status == "100" {
            to.flush().await?;
            continue;
        }
        let empty = request.starts_with("HEAD ") || matches!(status, "204" | "304");
        let body = if empty { Body::Length(0) } else { Body::of(&head, false) };
        pass(from, to, body, &Bend::of_answer(fault)).await?;
        return Ok(());
    }
}

/// Start line and headers; `None` at the connection's end.
async fn read_head(from: &mut BufReader<impl AsyncRead + Unpin>) -> anyhow::Result<Option<String>> {
    let mut head = Vec::new();
    loop {
        if from.read_until(b'\n', &mut head).await? == 0 {
            return if head.is_empty() {
                Ok(None)
            } else {
                bail!("a torn head")
            };
        }
        if head.ends_with(b"\r\n\r\n") {
            return Ok(Some(String::from_utf8(head)?));
        }
    }
}

/// How a body ends.
#[derive(Debug, Clone, Copy)]
enum Body {
    Length(u64),
    Chunked,
    Close,
}

impl Body {
    fn of(head: &str, is_request: bool) -> Self {
        let lower = head.to_ascii_lowercase();
        let header = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if header("transfer-encoding:").is_some_and(|value| value.contains("chunked")) {
            return Self::Chunked;
        }
        match header("content-length:").and_then(|value| value.parse().ok()) {
            Some(length) => Self::Length(length),
            None if is_request => Self::Length(0),
            None => Self::Close,
        }
    }
}

/// Which byte of a body is changed: behind what some protocols put before an object's bytes.
const GARBLED_BYTE: u64 = 3000;

/// What a fault does to a body.
#[derive(Debug, Default)]
struct Bend {
    cut: Option<u64>,
    garble: bool,
    rate: Option<u64>,
}

impl Bend {
    fn of_request(fault: Option<&Fault>) -> Self {
        match fault {
            Some(Fault::CutRequest(after)) => Self {
                cut: Some(*after),
                ..Self::default()
            },
            Some(Fault::GarbleRequest) => Self {
                garble: true,
                ..Self::default()
            },
            _ => Self::default(),
        }
    }

    fn of_answer(fault: Option<&Fault>) -> Self {
        match fault {
            Some(Fault::CutAnswer(after)) => Self {
                cut: *after,
                ..Self::default()
            },
            Some(Fault::GarbleAnswer) => Self {
                garble: true,
                ..Self::default()
            },
            Some(Fault::Dribble(rate)) => Self {
                rate: Some(*rate),
                ..Self::default()
            },
            _ => Self::default(),
        }
    }
}

async fn pass<R, W>(from: &mut BufReader<R>, to: &mut W, body: Body, bend: &Bend) -> anyhow::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut done = 0;
    match body {
        Body::Length(length) => copy(from, to, length, &mut done, bend).await?,
        Body::Close => copy(from, to, u64::MAX, &mut done, bend).await?,
        Body::Chunked => loop {
            let mut line = String::new();
            from.read_line(&mut line).await?;
            to.write_all(line.as_bytes()).await?;
            let size =
                u64::from_str_radix(line.trim().split(';').next().unwrap_or_default(), 16).context("a chunk's size")?;
            // The line end behind the chunk goes with it.
            copy(from, to, size, &mut done, bend).await?;
            let mut end = String::new();
            from.read_line(&mut end).await?;
            to.write_all(end.as_bytes()).await?;
            if size == 0 {
                break;
            }
        },
    }
    to.flush().await?;
    Ok(())
}

async fn copy<R, W>(from: &mut BufReader<R>, to: &mut W, length: u64, done: &mut u64, bend: &Bend) -> anyhow::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut buffer = vec![0; 16 << 10];
    let mut left = length;
    loop {
        let until_cut = bend.cut.map_or(u64::MAX, |cut| cut.saturating_sub(*done));
        if until_cut == 0 && left > 0 {
            to.flush().await?;
            // Let it arrive before the reset overtakes it.
            tokio::time::sleep(Duration::from_millis(20)).await;
            bail!("a fault");
        }
        let rate = bend.rate.map_or(u64::MAX, |rate| (rate / 10).max(1));
        let room = usize::try_from(left.min(until_cut).min(rate))
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if room == 0 {
            return Ok(());
        }
        let count = from.read(&mut buffer[..room]).await?;
        if count == 0 {
            return if length == u64::MAX {
                Ok(())
            } else {
                bail!("a torn body")
            };
        }
        let garbled = GARBLED_BYTE.checked_sub(*done).and_then(|at| usize::try_from(at).ok());
        if let Some(byte) = garbled.and_then(|at| buffer[..count].get_mut(at))
            && bend.garble
        {
            *byte ^= 0x20;
        }
        to.write_all(&buffer[..count]).await?;
        if bend.rate.is_some() {
            to.flush().await?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        left -= count as u64;
        *done += count as u64;
    }
}

/// A certificate for 127.0.0.1 and localhost, or one that isn't quite.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// What to trust, PEM.
    pub pem: String,
    der: Vec<u8>,
    key: Vec<u8>,
}

impl Certificate {
    /// One that clients may trust.
    ///
    /// # Errors
    /// It can't be made.
    pub fn good() -> anyhow::Result<Self> {
        Self::make(&["127.0.0.1", "localhost"], 4096)
    }

    /// One of another host.
    ///
    /// # Errors
    /// It can't be made.
    pub fn of_another_host() -> anyhow::Result<Self> {
        Self::make(&["elsewhere.example"], 4096)
    }

    /// One that has expired long ago.
    ///
    /// # Errors
    /// It can't be made.
    pub fn expired() -> anyhow::Result<Self> {
        Self::make(&["127.0.0.1", "localhost"], 2001)
    }

    fn make(names: &[&str], last_year: i32) -> anyhow::Result<Self> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut parameters = rcgen::CertificateParams::new(names)?;
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(last_year, 1, 1);
        let key = rcgen::KeyPair::generate()?;
        let certificate = parameters.self_signed(&key)?;
        Ok(Self {
            pem: certificate.pem(),
            der: certificate.der().to_vec(),
            key: key.serialize_der(),
        })
    }
}
