//! The built-in desktop: a small RDP server on `ironrdp-acceptor` that draws a [`Scene`] and takes typed text. It speaks
//! TLS, sends fast-path bitmap updates with RDP 6 planar compression ([MS-RDPBCGR] 2.2.9.1.1.3.1.2, [MS-RDPEGDI]
//! 2.2.2.5.1) and serves one client after another. It is for the demo: it knows one account and keeps nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use bytes::{BufMut as _, BytesMut};
use ironrdp_acceptor::{Acceptor, BeginResult, DesktopSize, accept_begin, accept_finalize};
use ironrdp_graphics::rdp6::{BitmapStreamEncoder, RgbAChannels};
use ironrdp_pdu::Action;
use ironrdp_pdu::input::fast_path::{FastPathInput, FastPathInputEvent, KeyboardFlags};
use ironrdp_pdu::nego::SecurityProtocol;
use ironrdp_pdu::rdp::capability_sets::{
    Bitmap, BitmapDrawingFlags, CapabilitySet, General, GeneralExtraFlags, Input, InputFlags, MultifragmentUpdate,
    Order, OrderFlags, OrderSupportExFlags, Pointer, VirtualChannel, VirtualChannelFlags,
};
use ironrdp_pdu::rdp::client_info::Credentials;
use ironrdp_tokio::{Framed, FramedWrite as _, LocalTokioStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tracing::debug;

use super::scene::Scene;
use crate::gateway::tls::{fingerprint, provider};

/// The one account that may log on.
pub(crate) const USER: &str = "demo";
/// Its password; it guards nothing.
pub(crate) const PASSWORD: &str = "demo";
/// The desktop's size in pixels, whatever the client asks for.
pub(crate) const SIZE: (u16, u16) = (1024, 768);
/// Time between two looks at the scene.
const FRAME: Duration = Duration::from_millis(50);
/// Bitmap updates are sent in squares of this many pixels.
const TILE: usize = 64;

/// A running desktop; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Desktop {
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// SHA-256 of its certificate, lower-case hex.
    pub(crate) fingerprint: String,
    _stop: oneshot::Sender<()>,
}

impl Desktop {
    /// Binds to a free loopback port and serves from a thread of its own (the acceptor's futures are not `Send`).
    ///
    /// # Errors
    /// No port, or no certificate can be made.
    pub(crate) fn start() -> anyhow::Result<Self> {
        let (config, fingerprint) = tls_config()?;
        let tls = TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").context("bind the demo desktop")?;
        listener.set_nonblocking(true).context("bind the demo desktop")?;
        let address = listener.local_addr().context("bind the demo desktop")?;
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .context("start the demo desktop's runtime")?;
        std::thread::Builder::new()
            .name("demo-desktop".to_owned())
            .spawn(move || {
                runtime.block_on(async {
                    tokio::select! {
                        // An error or the handle's end; either way the desktop is gone and its clients notice.
                        result = serve(listener, tls) => debug!(?result, "demo desktop ends"),
                        _ = stopped => {}
                    }
                });
            })
            .context("start the demo desktop")?;
        Ok(Self {
            address,
            fingerprint,
            _stop: stop,
        })
    }
}

fn tls_config() -> anyhow::Result<(ServerConfig, String)> {
    let made = rcgen::generate_simple_self_signed(vec!["demo-desktop".to_owned()]).context("make a certificate")?;
    let key = tokio_rustls::rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("make a key: {error}"))?;
    let fingerprint = fingerprint(made.cert.der());
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .context("set up TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .context("use the certificate")?;
    Ok((config, fingerprint))
}

async fn serve(listener: std::net::TcpListener, tls: TlsAcceptor) -> anyhow::Result<()> {
    let listener = TcpListener::from_std(listener).context("listen")?;
    let started = Instant::now();
    loop {
        let (stream, peer) = listener.accept().await.context("accept")?;
        if let Err(error) = session(stream, &tls, started).await {
            debug!(%peer, "demo desktop: session ended: {error:#}");
        }
    }
}

async fn session(stream: TcpStream, tls: &TlsAcceptor, started: Instant) -> anyhow::Result<()> {
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let (width, height) = SIZE;
    let credentials = Credentials {
        username: USER.to_owned(),
        password: PASSWORD.to_owned(),
        domain: None,
    };
    let mut acceptor = Acceptor::new(
        SecurityProtocol::SSL,
        DesktopSize { width, height },
        capabilities(width, height),
        Some(credentials),
    );
    let framed = Framed::<LocalTokioStream<TcpStream>>::new(stream);
    let BeginResult::ShouldUpgrade(stream) = accept_begin(framed, &mut acceptor).await.context("negotiate")? else {
        anyhow::bail!("the client asked for no security");
    };
    let stream = tls.accept(stream).await.context("accept TLS")?;
    acceptor.mark_security_upgrade_as_done();
    let framed = Framed::<LocalTokioStream<_>>::new(stream);
    let (mut framed, _result) = accept_finalize(framed, &mut acceptor)
        .await
        .context("finish the connection sequence")?;

    let mut screen = Screen::new(width, height);
    let mut ticks = tokio::time::interval(FRAME);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            // Reading is cancel-safe: a PDU that is not whole yet stays in the buffer.
            pdu = framed.read_pdu() => {
                let (action, pdu) = pdu.context("read from the client")?;
                if action == Action::FastPath {
                    screen.take_input(&pdu);
                } else if is_disconnect(&pdu) {
                    return Ok(());
                } else if is_refresh(&pdu) {
                    screen.forget();
                }
            }
            _ = ticks.tick() => {
                let updates = screen.updates(u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX))?;
                for update in updates {
                    framed.write_all(&update).await.context("write to the client")?;
                }
            }
        }
    }
}

/// An MCS Disconnect Provider Ultimatum ([T.125] 7, choice 8) after the X.224 data header.
fn is_disconnect(pdu: &[u8]) -> bool {
    pdu.get(7).is_some_and(|choice| choice >> 2 == 8)
}

/// Share data of type Refresh Rect (33) or Suppress Output (35): the client wants the whole picture again.
fn is_refresh(pdu: &[u8]) -> bool {
    // TPKT 4, X.224 3, MCS send data 8 (two-byte length), share control 6, then share data with its type at +8.
    let long = pdu.get(13).is_some_and(|length| length & 0x80 != 0);
    let share = if long { 15 } else { 14 };
    matches!(pdu.get(share + 14), Some(33 | 35))
}

fn capabilities(width: u16, height: u16) -> Vec<CapabilitySet> {
    vec![
        CapabilitySet::General(General {
            extra_flags: GeneralExtraFlags::FASTPATH_OUTPUT_SUPPORTED,
            refresh_rect_support: true,
            suppress_output_support: true,
            ..General::default()
        }),
        CapabilitySet::Bitmap(Bitmap {
            pref_bits_per_pix: 32,
            desktop_width: width,
            desktop_height: height,
            desktop_resize_flag: true,
            drawing_flags: BitmapDrawingFlags::empty(),
        }),
        CapabilitySet::Order(Order::new(
            OrderFlags::NEGOTIATE_ORDER_SUPPORT | OrderFlags::ZERO_BOUNDS_DELTAS_SUPPORT,
            OrderSupportExFlags::empty(),
            0,
            0,
        )),
        CapabilitySet::Pointer(Pointer {
            color_pointer_cache_size: 25,
            pointer_cache_size: 25,
        }),
        CapabilitySet::Input(Input {
            input_flags: InputFlags::SCANCODES
                | InputFlags::MOUSEX
                | InputFlags::UNICODE
                | InputFlags::FASTPATH_INPUT
                | InputFlags::FASTPATH_INPUT_2,
            keyboard_layout: 0,
            keyboard_type: None,
            keyboard_subtype: 0,
            keyboard_function_key: 128,
            keyboard_ime_filename: String::new(),
        }),
        CapabilitySet::VirtualChannel(VirtualChannel {
            flags: VirtualChannelFlags::NO_COMPRESSION,
            chunk_size: None,
        }),
        CapabilitySet::MultiFragmentUpdate(MultifragmentUpdate {
            max_request_size: 1 << 20,
        }),
    ]
}

/// The scene and what the client has of it.
struct Screen {
    scene: Scene,
    sent: Vec<u8>,
    shift: bool,
}

impl Screen {
    fn new(width: u16, height: u16) -> Self {
        Self {
            scene: Scene::new(width, height),
            sent: Vec::new(),
            shift: false,
        }
    }

    /// The client has nothing any more: the next updates hold everything.
    fn forget(&mut self) {
        self.sent.clear();
    }

    fn take_input(&mut self, pdu: &[u8]) {
        // What can't be read is not for us to judge: it is a demo's keyboard.
        let Ok(input) = ironrdp_core::decode::<FastPathInput>(pdu) else {
            return;
        };
        for event in input.input_events() {
            match event {
                FastPathInputEvent::UnicodeKeyboardEvent(flags, code) if !flags.contains(KeyboardFlags::RELEASE) => {
                    if let Some(character) = char::from_u32(u32::from(*code)) {
                        self.scene
                            .type_character(if character == '\r' { '\n' } else { character });
                    }
                }
                FastPathInputEvent::KeyboardEvent(flags, code) => {
                    let down = !flags.contains(KeyboardFlags::RELEASE);
                    match (code, down) {
                        (0x2a | 0x36, _) => self.shift = down,
                        (_, true) => {
                            if let Some(character) = scan_code(*code, self.shift) {
                                self.scene.type_character(character);
                            }
                        }
                        (_, false) => {}
                    }
                }
                _ => {}
            }
        }
    }

    /// One fast-path PDU for every tile that changed since the last call.
    fn updates(&mut self, milliseconds: u64) -> anyhow::Result<Vec<BytesMut>> {
        self.scene.draw(milliseconds);
        let (width, height) = (self.scene.width, self.scene.height);
        let mut updates = Vec::new();
        let mut pixels = Vec::with_capacity(TILE * TILE * 4);
        for top in (0..height).step_by(TILE) {
            for left in (0..width).step_by(TILE) {
                let (columns, rows) = (TILE.min(width - left), TILE.min(height - top));
                let row = |index: usize| {
                    let from = ((top + index) * width + left) * 4;
                    from..from + columns * 4
                };
                let changed = (0..rows).any(|index| self.sent.get(row(index)) != self.scene.rgba.get(row(index)));
                if changed {
                    pixels.clear();
                    // Bitmap updates are sent bottom row first ([MS-RDPBCGR] 2.2.9.1.1.3.1.2.2).
                    for index in (0..rows).rev() {
                        pixels.extend_from_slice(self.scene.rgba.get(row(index)).unwrap_or_default());
                    }
                    updates.push(bitmap_update(left, top, columns, rows, &pixels)?);
                }
            }
        }
        self.sent.clone_from(&self.scene.rgba);
        Ok(updates)
    }
}

/// A fast-path PDU with one bitmap update of one rectangle, compressed as RDP 6 planes.
fn bitmap_update(left: usize, top: usize, width: usize, height: usize, rgba: &[u8]) -> anyhow::Result<BytesMut> {
    const UPDATE_BITMAP: u8 = 1;
    const COMPRESSED_WITHOUT_HEADER: u16 = 0x0401;
    let mut planes = vec![0; width * height * 4 + 64];
    let length = BitmapStreamEncoder::new(width, height)
        .encode_bitmap::<RgbAChannels>(rgba, &mut planes, true)
        .context("compress a tile")?;
    let data = planes.get(..length).context("compress a tile")?;

    let mut body = BytesMut::with_capacity(length + 32);
    let field = |value: usize| u16::try_from(value).context("a field of a bitmap update");
    for value in [
        1,
        1,
        field(left)?,
        field(top)?,
        field(left + width - 1)?,
        field(top + height - 1)?,
    ] {
        body.put_u16_le(value);
    }
    for value in [
        field(width)?,
        field(height)?,
        32,
        COMPRESSED_WITHOUT_HEADER,
        field(length)?,
    ] {
        body.put_u16_le(value);
    }
    body.extend_from_slice(data);

    // Fast-path header (action 0, two-byte length) and update header (single fragment, no bulk compression).
    let total = 3 + 3 + body.len();
    let mut pdu = BytesMut::with_capacity(total);
    pdu.put_u8(0);
    pdu.put_u16(0x8000 | field(total)?);
    pdu.put_u8(UPDATE_BITMAP);
    pdu.put_u16_le(field(body.len())?);
    pdu.extend_from_slice(&body);
    Ok(pdu)
}

/// The character of a key on a US keyboard, as far as the demo's notes need it.
fn scan_code(code: u8, shift: bool) -> Option<char> {
    const ROWS: [(u8, &str, &str); 4] = [
        (0x02, "1234567890-=\u{8}", "!@#$%^&*()_+\u{8}"),
        (0x10, "qwertyuiop[]\n", "QWERTYUIOP{}\n"),
        (0x1e, "asdfghjkl;'`", "ASDFGHJKL:\"~"),
        (0x2b, "\\zxcvbnm,./", "|ZXCVBNM<>?"),
    ];
    if code == 0x39 {
        return Some(' ');
    }
    ROWS.iter().rev().find_map(|(first, plain, shifted)| {
        let index = usize::from(code.checked_sub(*first)?);
        (if shift { shifted } else { plain }).chars().nth(index)
    })
}

#[cfg(test)]
mod tests {
    use super::{Screen, bitmap_update, scan_code};

    #[test]
    fn only_changed_tiles_are_sent() {
        let mut screen = Screen::new(256, 192);
        assert_eq!(screen.updates(0).expect("draws").len(), 4 * 3, "everything at first");
        assert_eq!(screen.updates(0).expect("draws").len(), 0, "nothing changed");
        screen.forget();
        assert_eq!(
            screen.updates(0).expect("draws").len(),
            4 * 3,
            "everything after a refresh"
        );
    }

    #[test]
    fn an_update_says_its_length() {
        let pdu = bitmap_update(64, 128, 8, 4, &[0x40; 8 * 4 * 4]).expect("fits");
        assert_eq!(usize::from(u16::from_be_bytes([pdu[1], pdu[2]]) & 0x7fff), pdu.len());
        assert_eq!(usize::from(u16::from_le_bytes([pdu[4], pdu[5]])), pdu.len() - 6);
    }

    #[test]
    fn keys_have_characters() {
        let typed: String = [0x23, 0x17, 0x39, 0x02]
            .iter()
            .filter_map(|code| scan_code(*code, false))
            .collect();
        assert_eq!(typed, "hi 1");
        assert_eq!(scan_code(0x1e, true), Some('A'));
        assert_eq!(scan_code(0x0e, false), Some('\u{8}'));
        assert_eq!(scan_code(0x1c, false), Some('\n'));
        assert_eq!(scan_code(0xff, false), None);
    }
}
