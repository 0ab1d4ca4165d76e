//! The desktop that the bench asks, behind RDP for the gateway and behind plain TLS for the bridge, and its client.

use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::Context as _;
use deskreel_rdp::wire::find_pdu;
use ironrdp_acceptor::accept_finalize;
use ironrdp_core::{decode, encode_vec};
use ironrdp_pdu::input::MousePdu;
use ironrdp_pdu::input::fast_path::{FastPathInput, FastPathInputEvent};
use ironrdp_pdu::input::mouse::PointerFlags;
use peers::connection;
use peers::desktop::PASSWORD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::spawn_local;
use tokio_rustls::rustls::SupportedProtocolVersion;
use tokio_rustls::rustls::version::TLS13;
use tokio_rustls::{TlsAcceptor, client, server};

use super::streams::{Replies, SIZE};

/// The desktop's account.
const USER: &str = "bench";
/// What every leg speaks.
const VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13];
/// Bytes that are read at once.
const BUFFER_BYTES: usize = 64 * 1024;

/// A running desktop; dropping it ends it.
pub(crate) struct Desktop {
    /// Where RDP is spoken on loopback.
    pub(crate) rdp: u16,
    /// Where the same is had without the connection sequence.
    pub(crate) plain: u16,
    _stop: oneshot::Sender<()>,
}

impl Desktop {
    /// Serves any number of clients from a thread of its own.
    pub(crate) fn start(replies: Arc<Replies>) -> anyhow::Result<Self> {
        let bind = || -> anyhow::Result<_> {
            let listener = StdListener::bind("127.0.0.1:0").context("bind")?;
            listener.set_nonblocking(true).context("bind")?;
            let port = listener.local_addr().context("bind")?.port();
            Ok((listener, port))
        };
        let ((rdp_listener, rdp), (plain_listener, plain)) = (bind()?, bind()?);
        let tls = connection::tls_acceptor("bench", VERSIONS)?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start a runtime")?;
        std::thread::Builder::new()
            .name("desktop".to_owned())
            .spawn(move || {
                tokio::task::LocalSet::new().block_on(&runtime, async {
                    let _ = tokio::try_join!(
                        serve(rdp_listener, true, tls.clone(), Arc::clone(&replies)),
                        serve(plain_listener, false, tls, replies),
                        async { stopped.await.map_err(anyhow::Error::new) },
                    );
                });
            })
            .context("start the desktop")?;
        Ok(Self {
            rdp,
            plain,
            _stop: stop,
        })
    }
}

async fn serve(listener: StdListener, rdp: bool, tls: TlsAcceptor, replies: Arc<Replies>) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener)?;
    let tls = Rc::new(tls);
    loop {
        let (stream, _) = listener.accept().await?;
        let (tls, replies) = (Rc::clone(&tls), Arc::clone(&replies));
        spawn_local(async move {
            if let Err(error) = session(stream, rdp, &tls, &replies).await {
                eprintln!("desktop: {error:#}");
            }
        });
    }
}

async fn session(stream: TcpStream, rdp: bool, tls: &TlsAcceptor, replies: &Replies) -> anyhow::Result<()> {
    if !rdp {
        stream.set_nodelay(true)?;
        return answer(tls.accept(stream).await.context("accept TLS")?, Vec::new(), replies).await;
    }
    let mut acceptor = connection::acceptor(USER, SIZE);
    let framed = connection::accept_tls(stream, tls, &mut acceptor).await?;
    let (framed, _) = accept_finalize(framed, &mut acceptor)
        .await
        .context("finish the connection")?;
    let (stream, rest) = framed.into_inner();
    answer(stream, rest.to_vec(), replies).await
}

/// Sends what is asked for until the client leaves.
async fn answer(
    mut stream: server::TlsStream<TcpStream>,
    mut buffer: Vec<u8>,
    replies: &Replies,
) -> anyhow::Result<()> {
    loop {
        while let Some(length) = find_pdu(&buffer)?.filter(|length| *length <= buffer.len()) {
            let pdu: Vec<u8> = buffer.drain(..length).collect();
            // whatever else a client may say, it's no input
            if pdu[0] & 3 == 0 {
                let (number, times) = asked(&pdu)?;
                let reply = replies.all.get(number).context("asked for what there isn't")?;
                for _ in 0..times {
                    stream.write_all(reply).await.context("write")?;
                }
                stream.flush().await.context("write")?;
            }
        }
        buffer.reserve(BUFFER_BYTES);
        // Err = the client has left without a word, as the gateway does when it ends a session
        if stream.read_buf(&mut buffer).await.unwrap_or(0) == 0 {
            return Ok(());
        }
    }
}

/// A move of the mouse says which answer is wanted, and how often.
fn ask(number: usize, times: usize) -> anyhow::Result<Vec<u8>> {
    let moved = FastPathInputEvent::MouseEvent(MousePdu {
        flags: PointerFlags::MOVE,
        number_of_wheel_rotation_units: 0,
        x_position: u16::try_from(number)?,
        y_position: u16::try_from(times)?,
    });
    encode_vec(&FastPathInput::single(moved)).context("encode input")
}

fn asked(pdu: &[u8]) -> anyhow::Result<(usize, usize)> {
    let input: FastPathInput = decode(pdu).context("decode input")?;
    match input.input_events() {
        [FastPathInputEvent::MouseEvent(mouse)] => Ok((mouse.x_position.into(), mouse.y_position.into())),
        other => anyhow::bail!("no move of the mouse but {other:?}"),
    }
}

/// A client in its session.
pub(crate) struct Client {
    stream: client::TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

impl Client {
    /// By RDP's connection sequence, or by TLS alone.
    pub(crate) async fn connect(port: u16, rdp: bool) -> anyhow::Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.context("connect")?;
        stream.set_nodelay(true)?;
        let stream = if rdp {
            connection::connect_rdp(stream, VERSIONS, (USER, PASSWORD), SIZE).await?
        } else {
            connection::connect_tls(stream, VERSIONS).await?
        };
        Ok(Self {
            stream,
            buffer: Vec::with_capacity(BUFFER_BYTES),
        })
    }

    /// The cipher suite, to see that all legs do the same work.
    pub(crate) fn cipher(&self) -> String {
        let suite = self.stream.get_ref().1.negotiated_cipher_suite();
        suite.map_or_else(String::new, |suite| format!("{:?}", suite.suite()))
    }

    /// Asks, and takes the whole answer; it has to be what the desktop has sent, byte for byte. Gives its length.
    pub(crate) async fn trip(&mut self, replies: &Replies, number: usize, times: usize) -> anyhow::Result<usize> {
        self.stream.write_all(&ask(number, times)?).await.context("ask")?;
        self.stream.flush().await.context("ask")?;
        let reply = &replies.all[number];
        let total = reply.len() * times;
        let mut taken = 0;
        while taken < total {
            self.buffer.clear();
            let read = self
                .stream
                .read_buf(&mut self.buffer)
                .await
                .context("read the answer")?;
            anyhow::ensure!(read > 0, "the session ended after {taken} of {total} bytes");
            let at = taken % reply.len();
            let (head, tail) = self.buffer.split_at(read.min(reply.len() - at));
            let same = reply[at..].starts_with(head) && reply.starts_with(tail);
            anyhow::ensure!(same && taken + read <= total, "not what the desktop has sent");
            taken += read;
        }
        Ok(total)
    }

    /// Closes TLS, as a client does that is closed.
    pub(crate) async fn leave(mut self) {
        // Err = the other side was faster
        let _ = self.stream.shutdown().await;
    }
}
