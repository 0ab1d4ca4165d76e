//! A desktop that uses every channel, which no other one here does: devices, sound both ways, dynamic channels that may be and
//! that may not, monitors, touch; and that tells who has logged on, what the network is like and why it ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use deskreel_rdp::Direction;
use deskreel_rdp::wire::channel::{Chunk, Reassembler, single_chunk};
use deskreel_rdp::wire::dvc::{self, DvcPdu};
use deskreel_rdp::wire::mcs::{self, DomainPdu};
use deskreel_rdp::wire::share::{self, Sender, control, data};
use deskreel_rdp::wire::{monitor, rdpdr, touch};
use ironrdp_acceptor::{AcceptorResult, accept_finalize};
use ironrdp_pdu::gcc::ChannelName;
use ironrdp_pdu::{Action, PduResult};
use ironrdp_svc::{SvcMessage, SvcProcessor, SvcServerProcessor};
use ironrdp_tokio::FramedWrite as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use crate::connection::Drdynvc;
use crate::graphics::is_click;
use crate::{connection, serving};

/// The one account.
pub const USER: &str = "channels";
/// The desktop's size.
pub const SIZE: (u16, u16) = (1024, 768);
/// Dynamic channels that it opens, in this order; their numbers begin with 1.
pub const DYNAMIC: [&str; 10] = [
    touch::CHANNEL,
    monitor::DISPLAY_CHANNEL,
    "AUDIO_INPUT",
    "ECHO",
    "Microsoft::Windows::RDS::Video::Control::v08.01",
    "Microsoft::Windows::RDS::Geometry::v08.01",
    "Microsoft::Windows::RDS::MouseCursor",
    "Microsoft::Windows::RDS::CoreInput",
    "TSMF",
    "of_nobody",
];
/// Where its picture is cut into two monitors.
pub const SECOND_MONITOR: i32 = 600;
/// A cookie that would let its client in again, in the words of the desktop.
pub const COOKIE: [u8; 16] = *b"cookie of nobody";
/// Set Error Info of a user who logs off.
const LOGOFF_BY_USER: u32 = 0xC;
/// The desktop's own channel.
const SERVER: u16 = 1002;
/// Longest message of a client.
const MESSAGE_MAX: usize = 1 << 20;

/// What it has heard.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// Connections that came as far as a picture.
    pub sessions: usize,
    /// Dynamic channels, with the status of the answer.
    pub dynamic: Vec<(String, u32)>,
    /// Messages on dynamic channels, with the channel's name.
    pub said: Vec<(String, Vec<u8>)>,
    /// The client's devices: kind and name.
    pub devices: Vec<(u32, String)>,
    /// Formats of sound that the client plays.
    pub formats: Option<u16>,
    /// The client has played a piece of sound.
    pub played: bool,
    /// Fast-path PDUs with input.
    pub fast: usize,
    /// Slow-path PDUs with input.
    pub slow: usize,
}

impl Heard {
    /// The status of the answer about a channel.
    #[must_use]
    pub fn status(&self, name: &str) -> Option<u32> {
        let mut dynamic = self.dynamic.iter();
        dynamic.find(|(known, _)| known == name).map(|(_, status)| *status)
    }
}

/// A running desktop; dropping it ends it. The right button ends a session as if its user had logged off.
#[derive(Debug)]
pub struct ChannelsDesktop {
    /// Where it listens on loopback.
    pub port: u16,
    heard: Arc<Mutex<Heard>>,
    _stop: oneshot::Sender<()>,
}

impl ChannelsDesktop {
    /// Starts it on a thread of its own.
    ///
    /// # Errors
    /// No port, or no certificate can be made.
    pub fn start() -> anyhow::Result<Self> {
        let heard = Arc::new(Mutex::new(Heard::default()));
        let told = Arc::clone(&heard);
        let (port, stop) = serving::start("channels-desktop", async move |listener, tls| {
            serve(listener, &tls, &told).await;
        })?;
        Ok(Self {
            port,
            heard,
            _stop: stop,
        })
    }

    /// What it has heard so far.
    #[must_use]
    pub fn heard(&self) -> Heard {
        lock(&self.heard).clone()
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn serve(listener: TcpListener, tls: &TlsAcceptor, heard: &Mutex<Heard>) {
    while let Ok((stream, _)) = listener.accept().await {
        if let Err(error) = session(stream, tls, heard).await {
            eprintln!("channels desktop: {error:#}");
        }
    }
}

/// A static channel, which the session itself serves.
macro_rules! channel {
    ($name:ident, $bytes:literal) => {
        #[derive(Debug)]
        struct $name;

        ironrdp_core::impl_as_any!($name);

        impl SvcProcessor for $name {
            fn channel_name(&self) -> ChannelName {
                ChannelName::new(*$bytes)
            }

            fn process(&mut self, _payload: &[u8]) -> PduResult<Vec<SvcMessage>> {
                Ok(Vec::new())
            }
        }

        impl SvcServerProcessor for $name {}
    };
}

channel!(Rdpdr, b"rdpdr\0\0\0");
channel!(Rdpsnd, b"rdpsnd\0\0");

#[derive(Clone, Copy, Debug)]
enum Kind {
    Dynamic,
    Devices,
    Sound,
}

/// A static channel of one session.
struct Channel {
    id: u16,
    kind: Kind,
    messages: Reassembler,
}

async fn session(stream: TcpStream, tls: &TlsAcceptor, heard: &Mutex<Heard>) -> anyhow::Result<()> {
    let mut acceptor = connection::acceptor(USER, SIZE);
    acceptor.attach_static_channel(Drdynvc);
    acceptor.attach_static_channel(Rdpdr);
    acceptor.attach_static_channel(Rdpsnd);
    let framed = connection::accept_tls(stream, tls, &mut acceptor).await?;
    let (mut framed, result) = accept_finalize(framed, &mut acceptor)
        .await
        .context("finish the connection")?;
    lock(heard).sessions += 1;
    let sender = Sender {
        direction: Direction::ToClient,
        initiator: SERVER,
        source: SERVER,
        io_channel: result.io_channel_id,
        share_id: 0x1_03EA,
    };
    let mut channels = channels(&result);
    for pdu in greeting(sender, &result, &channels) {
        framed.write_all(&pdu).await.context("greet")?;
    }
    loop {
        let (action, bytes) = framed.read_pdu().await.context("read")?;
        if action == Action::FastPath {
            lock(heard).fast += 1;
            if is_click(&bytes, RIGHT_BUTTON) {
                break;
            }
            continue;
        }
        let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(&bytes) else {
            return Ok(());
        };
        if data.channel == sender.io_channel {
            let input = |item: &share::ShareControl| {
                item.kind == control::DATA && share::share_data(&bytes, item).is_ok_and(|data| data.kind == data::INPUT)
            };
            let mut items = share::share_controls(&bytes, data.payload).flatten();
            lock(heard).slow += usize::from(items.any(|item| input(&item)));
            continue;
        }
        let Some(channel) = channels.iter_mut().find(|channel| channel.id == data.channel) else {
            continue;
        };
        let chunk = Chunk::parse(bytes.get(data.payload).unwrap_or_default())?;
        let Some(message) = channel.messages.push(&chunk)? else {
            continue;
        };
        let answers = match channel.kind {
            Kind::Dynamic => dynamic(message, heard)?,
            Kind::Devices => devices(message, heard)?,
            Kind::Sound => sound(message, heard),
        };
        for answer in answers {
            let pdu = mcs::send_data(Direction::ToClient, SERVER, channel.id, &single_chunk(&answer));
            framed.write_all(&pdu).await.context("write")?;
        }
    }
    framed.write_all(&share::set_error_info(sender, LOGOFF_BY_USER)).await?;
    framed.write_all(&mcs::disconnect_ultimatum()).await?;
    Ok(())
}

const RIGHT_BUTTON: u16 = 0x2000;

fn channels(result: &AcceptorResult) -> Vec<Channel> {
    let all = &result.static_channels;
    let ids = [
        (all.get_channel_id_by_type::<Drdynvc>(), Kind::Dynamic),
        (all.get_channel_id_by_type::<Rdpdr>(), Kind::Devices),
        (all.get_channel_id_by_type::<Rdpsnd>(), Kind::Sound),
    ];
    let known = ids.into_iter().filter_map(|(id, kind)| Some((id?, kind)));
    let channel = |(id, kind)| Channel {
        id,
        kind,
        messages: Reassembler::new(MESSAGE_MAX),
    };
    known.map(channel).collect()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// What it says unasked: who has logged on, a cookie, the monitors, the network, and the first word on each channel.
fn greeting(sender: Sender, result: &AcceptorResult, channels: &[Channel]) -> Vec<Vec<u8>> {
    let wide = |text: &str, room: usize| {
        let mut bytes: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
        bytes.resize(room, 0);
        bytes
    };
    // version 1: domain, user, session
    let logon = [
        words(&[0, 8]),
        wide("LAB", 52),
        words(&[18]),
        wide(USER, 512),
        words(&[7]),
    ]
    .concat();
    let mut cookie = vec![3, 0, 0, 0, 38, 0, 1, 0, 0, 0];
    cookie.extend(words(&[28, 28, 1, 7]));
    cookie.extend(COOKIE);
    cookie.resize(4 + 2 + 4 + 4 + 28 + 570, 0);
    let (right, bottom) = (i32::from(SIZE.0) - 1, i32::from(SIZE.1) - 1);
    let monitors = [
        [0, 0, SECOND_MONITOR - 1, bottom, 1],
        [SECOND_MONITOR, 0, right, bottom, 0],
    ];
    let layout = [
        words(&[2]),
        words(monitors.map(|edges| edges.map(i32::cast_unsigned)).as_flattened()),
    ]
    .concat();
    let mut pdus = vec![
        share::data_pdu(sender, data::SAVE_SESSION_INFO, &logon),
        share::data_pdu(sender, data::SAVE_SESSION_INFO, &cookie),
        share::data_pdu(sender, data::MONITOR_LAYOUT, &layout),
    ];
    if let Some(channel) = result.message_channel_id {
        // an auto-detect request that tells: round trip, bandwidth, average
        let mut told = vec![0, 0x10, 0, 0, 18, 0, 1, 0, 0xC0, 0x08];
        told.extend(words(&[11, 22_000, 33]));
        pdus.push(mcs::send_data(Direction::ToClient, SERVER, channel, &told));
    }
    for channel in channels {
        let first = match channel.kind {
            // capabilities, version 1
            Kind::Dynamic => vec![0x50, 0, 1, 0],
            // server announce, version 1.12, client 3
            Kind::Devices => vec![0x72, 0x44, 0x6E, 0x49, 1, 0, 12, 0, 3, 0, 0, 0],
            Kind::Sound => sound_formats(),
        };
        pdus.push(mcs::send_data(
            Direction::ToClient,
            SERVER,
            channel.id,
            &single_chunk(&first),
        ));
    }
    pdus
}

/// Two channels, 44100 times 16 bits a second ([MS-RDPEA] 2.2.2.1).
fn pcm() -> Vec<u8> {
    let mut format = vec![1, 0, 2, 0];
    format.extend(words(&[44_100, 176_400]));
    format.extend([4, 0, 16, 0, 0, 0]);
    format
}

fn sound_formats() -> Vec<u8> {
    // flags, volume, pitch, port; one format, block 0, version 6
    let body = [&[0; 14][..], &[1, 0, 0, 6, 0, 0], &pcm()].concat();
    [&[7, 0][..], &(body.len() as u16).to_le_bytes(), &body].concat()
}

fn dynamic(pdu: &[u8], heard: &Mutex<Heard>) -> anyhow::Result<Vec<Vec<u8>>> {
    let name = |id: u32| {
        let name = (id as usize).checked_sub(1).and_then(|at| DYNAMIC.get(at));
        name.copied().context("the number of no channel")
    };
    Ok(match DvcPdu::parse(pdu, false)? {
        DvcPdu::Capabilities { .. } => {
            let create = |(at, name): (usize, &&str)| [&[0x10, at as u8 + 1][..], name.as_bytes(), &[0]].concat();
            DYNAMIC.iter().enumerate().map(create).collect()
        }
        DvcPdu::CreateResponse { id, status } => {
            let name = name(id)?;
            lock(heard).dynamic.push((name.to_owned(), status));
            let first = match name {
                // ready, version 1
                touch::CHANNEL => vec![1, 0, 10, 0, 0, 0, 0, 0, 1, 0],
                // four monitors of this size
                monitor::DISPLAY_CHANNEL => words(&[5, 20, 4, 8192, 8192]),
                // version 1
                "AUDIO_INPUT" => vec![1, 1, 0, 0, 0],
                "ECHO" => b"echo".to_vec(),
                _ => Vec::new(),
            };
            let is_open = status & 0x8000_0000 == 0 && !first.is_empty();
            if is_open { dvc::data(id, &first) } else { Vec::new() }
        }
        DvcPdu::Data { id, data } => {
            let said = (name(id)?.to_owned(), data.to_vec());
            lock(heard).said.push(said);
            Vec::new()
        }
        _ => Vec::new(),
    })
}

fn devices(message: &[u8], heard: &Mutex<Heard>) -> anyhow::Result<Vec<Vec<u8>>> {
    const CLIENT_NAME: u16 = 0x434E;
    const CAPABILITIES: u16 = 0x4350;
    let core = |packet: u16, body: &[u8]| [&rdpdr::CORE.to_le_bytes()[..], &packet.to_le_bytes(), body].concat();
    Ok(match rdpdr::kind(message) {
        Some((rdpdr::CORE, CLIENT_NAME)) => {
            let mut sets = vec![5, 0, 0, 0, 1, 0, 44, 0];
            // version 2: system, its version, protocol 1.12, requests, messages about users and no more, two kinds early
            sets.extend(words(&[2, 2, 0, 0x000C_0001, 0xFFFF, 0, 7, 0, 0, 2]));
            for (kind, version) in [(2, 1), (3, 1), (4, 2), (5, 1)] {
                sets.extend([kind, 0, 8, 0]);
                sets.extend(words(&[version]));
            }
            // capabilities, the client's number
            vec![core(0x5350, &sets), core(0x4343, &[1, 0, 12, 0, 3, 0, 0, 0])]
        }
        // a user has logged on
        Some((rdpdr::CORE, CAPABILITIES)) => vec![core(0x554C, &[])],
        Some((rdpdr::CORE, rdpdr::packet::DEVICE_LIST_ANNOUNCE)) => {
            let mut answers = Vec::new();
            for device in rdpdr::devices(message)? {
                lock(heard).devices.push((device.kind, device.name.clone()));
                let reply = [device.id.to_le_bytes(), [0; 4]].concat();
                answers.push(core(rdpdr::packet::DEVICE_REPLY, &reply));
            }
            answers
        }
        _ => Vec::new(),
    })
}

fn sound(message: &[u8], heard: &Mutex<Heard>) -> Vec<Vec<u8>> {
    match (message.first(), message.get(18..20)) {
        (Some(7), Some(&[low, high])) => {
            lock(heard).formats = Some(u16::from_le_bytes([low, high]));
            // half a kilobyte of silence in the first format, as block 1; four bytes of it come before
            let wave = [0; 512];
            let length = (8 + wave.len() as u16).to_le_bytes();
            let info = [&[2, 0][..], &length, &[0, 0, 0, 0, 1, 0, 0, 0], &wave[..4]].concat();
            vec![info, wave.to_vec()]
        }
        // a block was played
        (Some(5), _) => {
            lock(heard).played = true;
            Vec::new()
        }
        _ => Vec::new(),
    }
}
