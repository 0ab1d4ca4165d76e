//! A desktop that says what no other one here does: the graphics pipeline without H.264, old colour depths, every bulk
//! compression, drawing orders that nobody asked for. It shows one scene after another, the next one at each click of the client.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use deskreel_rdp::Direction;
use deskreel_rdp::wire::channel::{Chunk, single_chunk};
use deskreel_rdp::wire::dvc::{self, DvcPdu};
use deskreel_rdp::wire::egfx::{self, command, encode};
use deskreel_rdp::wire::mcs::{self, DomainPdu};
use deskreel_rdp::wire::share::{self, Sender};
use ironrdp_acceptor::accept_finalize;
use ironrdp_connector::Sequence as _;
use ironrdp_core::WriteBuf;
use ironrdp_graphics::zgfx::{CompressionMode, Compressor, compress_and_wrap_egfx};
use ironrdp_pdu::Action;
use ironrdp_tokio::{Framed, FramedRead, FramedWrite, single_sequence_step};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::{connection, serving};

/// The one account.
pub const USER: &str = "graphics";
/// The desktop's size.
pub const SIZE: (u16, u16) = (1024, 768);
/// Number of the dynamic channel.
const CHANNEL: u32 = 3;
/// The desktop's own channel.
const SERVER: u16 = 1002;
/// The channel of the picture, as the acceptor numbers it.
const IO_CHANNEL: u16 = 1003;
/// Fast-path input: events of a mouse, and the flag of a button that goes down.
const MOUSE: u8 = 1;
const BUTTON_DOWN: u16 = 0x8000;
const LEFT_BUTTON: u16 = 0x1000;

/// A running desktop; dropping it ends it.
#[derive(Debug)]
pub struct GraphicsDesktop {
    /// Where it listens on loopback.
    pub port: u16,
    /// The capability sets that clients have offered: version and flags.
    pub offered: Arc<Mutex<Vec<(u32, u32)>>>,
    _stop: oneshot::Sender<()>,
}

impl GraphicsDesktop {
    /// Serves these scenes, each a row of commands without their compression, on a thread of its own.
    ///
    /// # Errors
    /// No port, or no certificate can be made.
    pub fn start(scenes: Vec<Vec<Vec<u8>>>) -> anyhow::Result<Self> {
        Self::start_with(Script {
            scenes,
            ..Script::default()
        })
    }

    /// Serves scenes that are whole fast-path PDUs each, without the pipeline.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_fast_path(scenes: Vec<Vec<Vec<u8>>>) -> anyhow::Result<Self> {
        Self::start_with(Script {
            scenes,
            fast_path: true,
            ..Script::default()
        })
    }

    /// One that lets the client in and then sends it elsewhere.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_redirecting(redirection: Redirection) -> anyhow::Result<Self> {
        Self::start_with(Script {
            redirection: Some(redirection),
            ..Script::default()
        })
    }

    fn start_with(script: Script) -> anyhow::Result<Self> {
        let offered = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&offered);
        let (port, stop) = serving::start("graphics-desktop", async move |listener, tls| {
            serve(listener, &tls, &script, &told).await;
        })?;
        Ok(Self {
            port,
            offered,
            _stop: stop,
        })
    }
}

/// Where a desktop sends its clients.
#[derive(Debug)]
pub struct Redirection {
    /// The packet ([MS-RDPBCGR] 2.2.13.1).
    pub packet: Vec<u8>,
    /// Sent in place of the picture's beginning, as brokers do, not behind it.
    pub before_picture: bool,
}

/// What a desktop does.
#[derive(Debug, Default)]
struct Script {
    scenes: Vec<Vec<Vec<u8>>>,
    /// Scenes are PDUs, not commands of the pipeline.
    fast_path: bool,
    redirection: Option<Redirection>,
}

async fn serve(listener: TcpListener, tls: &TlsAcceptor, script: &Script, offered: &Mutex<Vec<(u32, u32)>>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = session(stream, tls, script, offered).await {
            eprintln!("graphics desktop: {error:#}");
        }
    }
}

/// What is sent next.
struct Show<'a> {
    scenes: std::slice::Iter<'a, Vec<Vec<u8>>>,
    compressor: Compressor,
}

impl Show<'_> {
    /// The next scene as PDUs of the dynamic channel.
    fn next(&mut self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut pdus = Vec::new();
        for commands in self.scenes.next().into_iter().flatten() {
            let message = compress_and_wrap_egfx(commands, &mut self.compressor, CompressionMode::Auto)
                .map_err(|error| anyhow::anyhow!("compress: {error}"))?;
            pdus.extend(dvc::data(CHANNEL, &message));
        }
        Ok(pdus)
    }
}

async fn session(
    stream: TcpStream,
    tls: &TlsAcceptor,
    script: &Script,
    offered: &Mutex<Vec<(u32, u32)>>,
) -> anyhow::Result<()> {
    let redirection = script.redirection.as_ref();
    let mut acceptor = connection::acceptor(USER, SIZE);
    acceptor.attach_static_channel(connection::Drdynvc);
    let mut framed = connection::accept_tls(stream, tls, &mut acceptor).await?;
    if let Some(Redirection {
        packet,
        before_picture: true,
    }) = redirection
    {
        let mut buffer = WriteBuf::new();
        while acceptor.state().name() != "CapabilitiesSendServer" {
            single_sequence_step(&mut framed, &mut acceptor, &mut buffer)
                .await
                .context("let the client in")?;
        }
        framed.write_all(&redirect(IO_CHANNEL, packet)).await?;
        return gone(&mut framed).await;
    }
    let (mut framed, result) = accept_finalize(framed, &mut acceptor)
        .await
        .context("finish the connection")?;
    if let Some(Redirection { packet, .. }) = redirection {
        framed.write_all(&redirect(result.io_channel_id, packet)).await?;
        return gone(&mut framed).await;
    }
    if script.fast_path {
        return show_pdus(&mut framed, &script.scenes).await;
    }
    let channel = result.static_channels.get_channel_id_by_type::<connection::Drdynvc>();
    let channel = channel.context("the client has no drdynvc")?;
    let pdu = |data: &[u8]| mcs::send_data(Direction::ToClient, SERVER, channel, &single_chunk(data));

    let mut show = Show {
        scenes: script.scenes.iter(),
        compressor: Compressor::new(),
    };
    // capabilities, version 1
    framed.write_all(&pdu(&[0x50, 0, 1, 0])).await?;
    loop {
        let (action, bytes) = framed.read_pdu().await.context("read")?;
        let mut answers = Vec::new();
        if action == Action::FastPath {
            if is_click(&bytes, LEFT_BUTTON) {
                answers = show.next()?;
            }
        } else if let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(&bytes)
            && data.channel == channel
        {
            let chunk = Chunk::parse(bytes.get(data.payload).unwrap_or_default())?;
            match DvcPdu::parse(chunk.data, false)? {
                DvcPdu::Capabilities { .. } => {
                    let mut create = vec![0x10, CHANNEL as u8];
                    create.extend_from_slice(egfx::CHANNEL.as_bytes());
                    create.push(0);
                    answers.push(create);
                }
                DvcPdu::Data { data, .. } => {
                    if let Some(confirm) = confirm(data, offered)? {
                        let message = compress_and_wrap_egfx(&confirm, &mut show.compressor, CompressionMode::Auto)
                            .map_err(|error| anyhow::anyhow!("compress: {error}"))?;
                        answers.extend(dvc::data(CHANNEL, &message));
                        answers.extend(show.next()?);
                    }
                }
                _ => (),
            }
        } else if matches!(mcs::domain_pdu(&bytes), Ok(DomainPdu::Disconnect { .. })) {
            return Ok(());
        }
        for answer in answers {
            framed.write_all(&pdu(&answer)).await.context("write")?;
        }
    }
}

/// Sends one scene, and the next one at each click.
async fn show_pdus<S: FramedRead + FramedWrite>(framed: &mut Framed<S>, scenes: &[Vec<Vec<u8>>]) -> anyhow::Result<()> {
    let mut scenes = scenes.iter();
    loop {
        for pdu in scenes.next().into_iter().flatten() {
            framed.write_all(pdu).await.context("write")?;
        }
        loop {
            let (action, bytes) = framed.read_pdu().await.context("read")?;
            if action == Action::FastPath {
                if is_click(&bytes, LEFT_BUTTON) {
                    break;
                }
            } else if matches!(mcs::domain_pdu(&bytes), Ok(DomainPdu::Disconnect { .. })) {
                return Ok(());
            }
        }
    }
}

fn redirect(io_channel: u16, packet: &[u8]) -> Vec<u8> {
    let sender = Sender {
        direction: Direction::ToClient,
        initiator: SERVER,
        source: SERVER,
        io_channel,
        share_id: 0,
    };
    share::redirection(sender, packet)
}

/// Waits until the client has left.
async fn gone<S: FramedRead>(framed: &mut Framed<S>) -> anyhow::Result<()> {
    while framed.read_pdu().await.is_ok() {}
    Ok(())
}

/// The answer to a client's capabilities: the last set that it offers.
fn confirm(message: &[u8], offered: &Mutex<Vec<(u32, u32)>>) -> anyhow::Result<Option<Vec<u8>>> {
    for item in egfx::commands(message) {
        let item = item?;
        if item.kind != command::CAPS_ADVERTISE {
            continue;
        }
        let sets = egfx::capabilities(item.body)?;
        let flags = |body: &[u8]| body.first_chunk().map_or(0, |flags| u32::from_le_bytes(*flags));
        let mut told = offered.lock().unwrap_or_else(PoisonError::into_inner);
        told.extend(sets.iter().map(|set| (set.version, flags(set.body))));
        let last = sets.last().context("no capability set")?;
        let mut body = last.version.to_le_bytes().to_vec();
        body.extend_from_slice(&u32::try_from(last.body.len())?.to_le_bytes());
        body.extend_from_slice(last.body);
        return Ok(Some(encode(command::CAPS_CONFIRM, &body)));
    }
    Ok(None)
}

/// Whether a fast-path PDU says that this button went down.
pub(crate) fn is_click(pdu: &[u8], button: u16) -> bool {
    let long = pdu.get(1).is_some_and(|length| length & 0x80 != 0);
    let events = pdu.get(if long { 3 } else { 2 }..).unwrap_or_default();
    // the first event is enough: xdotool moves and clicks apart
    events.first().is_some_and(|header| header >> 5 == MOUSE)
        && events.get(1..3).is_some_and(|flags| {
            let flags = u16::from_le_bytes([flags[0], flags[1]]);
            flags & BUTTON_DOWN != 0 && flags & button != 0
        })
}
