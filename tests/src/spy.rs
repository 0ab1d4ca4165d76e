//! A listener in front of a desktop that ends TLS on both sides and keeps what passes: what a desktop is told, and how many
//! bytes each side sends, with the gateway in between and without.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use deskreel_rdp::wire::capability::{self, Active};
use deskreel_rdp::wire::connect::{self, Block};
use deskreel_rdp::wire::mcs::{self, DomainPdu};
use deskreel_rdp::wire::share::{control, share_controls};
use deskreel_rdp::wire::{client_info::ClientInfo, find_pdu};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ALL_VERSIONS;

use crate::{connection, serving};

/// What is kept of either direction: more than a connection sequence has.
const KEPT_BYTES: usize = 256 << 10;

/// One connection as it passed, without TLS.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// The beginning of what the client sent.
    pub to_desktop: Vec<u8>,
    /// The beginning of what the desktop sent.
    pub to_client: Vec<u8>,
    /// All that the client sent.
    pub to_desktop_bytes: u64,
    /// All that the desktop sent.
    pub to_client_bytes: u64,
}

/// What a client tells a desktop, and the desktop a client: types and bodies.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// GCC blocks of Connect Initial.
    pub client: Vec<(u16, Vec<u8>)>,
    /// Performance flags and kind of compression of Client Info.
    pub info: (Option<u32>, u32),
    /// Capability sets of the first Demand Active.
    pub demanded: Vec<(u16, Vec<u8>)>,
    /// Those of the first Confirm Active.
    pub confirmed: Vec<(u16, Vec<u8>)>,
}

impl Seen {
    /// Reads the facts.
    ///
    /// # Errors
    /// The connection sequence isn't whole.
    pub fn facts(&self) -> anyhow::Result<Facts> {
        let mut facts = Facts::default();
        let mut info = None;
        for pdu in pdus(&self.to_desktop) {
            if facts.client.is_empty() {
                let blocks = connect::connect_initial(pdu).context("Connect Initial")?;
                facts.client = blocks
                    .iter()
                    .map(|Block { kind, body }| (*kind, pdu[body.clone()].to_vec()))
                    .collect();
            } else if info.is_none()
                && let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(pdu)
            {
                let read = ClientInfo::parse(&pdu[data.payload]).context("Client Info")?;
                // COMPRESSION and its type
                info = Some((read.performance_flags, read.flags & 0x1E80));
            } else if let Some(active) = active(pdu, control::CONFIRM_ACTIVE) {
                facts.confirmed = sets(pdu, &active);
                break;
            }
        }
        facts.info = info.context("no Client Info")?;
        let demand = pdus(&self.to_client).find_map(|pdu| Some((pdu, active(pdu, control::DEMAND_ACTIVE)?)));
        let (pdu, active) = demand.context("no Demand Active")?;
        facts.demanded = sets(pdu, &active);
        anyhow::ensure!(!facts.confirmed.is_empty(), "no Confirm Active");
        Ok(facts)
    }
}

fn sets(pdu: &[u8], active: &Active) -> Vec<(u16, Vec<u8>)> {
    let sets = active.sets.iter();
    sets.map(|set| (set.kind, pdu[set.body.clone()].to_vec())).collect()
}

/// The activation that a PDU holds, if it is of this kind.
fn active(pdu: &[u8], kind: u8) -> Option<Active> {
    let Ok(DomainPdu::Data(data)) = mcs::domain_pdu(pdu) else {
        return None;
    };
    let mut controls = share_controls(pdu, data.payload).flatten();
    let item = controls.find(|item| item.kind == kind)?;
    capability::active(pdu, &item).ok()
}

/// Whole PDUs.
fn pdus(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length = find_pdu(bytes).ok().flatten()?;
        let (pdu, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        Some(pdu)
    })
}

/// The listener; dropping it ends all that passes.
#[derive(Debug)]
pub struct Spy {
    /// Where it listens on loopback.
    pub port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    _stop: oneshot::Sender<()>,
}

impl Spy {
    /// Listens in front of a port of this machine, on a thread of its own.
    ///
    /// # Errors
    /// No port, or no certificate can be made.
    pub fn start(desktop: u16) -> anyhow::Result<Self> {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let (port, stop) = serving::start("spy", async move |listener, tls| {
            serve(listener, desktop, &tls, &kept).await;
        })?;
        Ok(Self {
            port,
            seen,
            _stop: stop,
        })
    }

    /// The connections so far, in their order.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(listener: TcpListener, desktop: u16, tls: &TlsAcceptor, seen: &Arc<Mutex<Vec<Seen>>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (tls, seen) = (tls.clone(), Arc::clone(seen));
        tokio::spawn(async move {
            if let Err(error) = pass(stream, desktop, &tls, &seen).await {
                eprintln!("spy: {error:#}");
            }
        });
    }
}

async fn pass(mut client: TcpStream, desktop: u16, tls: &TlsAcceptor, seen: &Mutex<Vec<Seen>>) -> anyhow::Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, desktop)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    copy_tpkt(&mut client, &mut server).await.context("request")?;
    copy_tpkt(&mut server, &mut client).await.context("confirm")?;
    let client = tls.accept(client).await.context("TLS of the client")?;
    let server = connection::connect_tls(server, ALL_VERSIONS).await?;
    let index = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Seen::default());
        seen.len() - 1
    };
    let (client_read, client_write) = tokio::io::split(client);
    let (server_read, server_write) = tokio::io::split(server);
    let keep = |to_client: bool| {
        move |bytes: &[u8]| {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(seen) = seen.get_mut(index) else { return };
            let (kept, count) = match to_client {
                true => (&mut seen.to_client, &mut seen.to_client_bytes),
                false => (&mut seen.to_desktop, &mut seen.to_desktop_bytes),
            };
            *count += bytes.len() as u64;
            kept.extend_from_slice(&bytes[..bytes.len().min(KEPT_BYTES.saturating_sub(kept.len()))]);
        }
    };
    // the first side that leaves ends both
    tokio::select! {
        () = relay(client_read, server_write, keep(false)) => (),
        () = relay(server_read, client_write, keep(true)) => (),
    }
    Ok(())
}

async fn copy_tpkt(from: &mut TcpStream, to: &mut TcpStream) -> anyhow::Result<()> {
    let mut pdu = vec![0; 4];
    from.read_exact(&mut pdu).await?;
    pdu.resize(usize::from(u16::from_be_bytes([pdu[2], pdu[3]])).max(4), 0);
    from.read_exact(&mut pdu[4..]).await?;
    to.write_all(&pdu).await?;
    Ok(())
}

async fn relay(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, keep: impl Fn(&[u8])) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        let bytes = &buffer[..length];
        keep(bytes);
        if to.write_all(bytes).await.is_err() || to.flush().await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}
