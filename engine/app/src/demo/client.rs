//! The built-in client: `ironrdp-connector` and `ironrdp-session` behind a script of mouse and keys. It stands in for a
//! person with an RDP client, and remembers what it saw last, so that the demo can hold the recording against it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use ironrdp_connector::{ClientConnector, Config, Credentials, DesktopSize, ServerName};
use ironrdp_core::encode_vec;
use ironrdp_graphics::image_processing::PixelFormat;
use ironrdp_pdu::gcc::{ConnectionType, KeyboardType};
use ironrdp_pdu::input::MousePdu;
use ironrdp_pdu::input::fast_path::{FastPathInput, FastPathInputEvent, KeyboardFlags};
use ironrdp_pdu::input::mouse::PointerFlags;
use ironrdp_pdu::mcs::{DisconnectProviderUltimatum, DisconnectReason};
use ironrdp_pdu::rdp::capability_sets::{MajorPlatformType, RailSupportLevel};
use ironrdp_pdu::rdp::client_info::{CompressionType, PerformanceFlags, TimezoneInfo};
use ironrdp_pdu::x224::X224;
use ironrdp_session::image::DecodedImage;
use ironrdp_session::{ActiveStage, ActiveStageBuilder, ActiveStageOutput};
use ironrdp_tokio::{Framed, FramedWrite as _, LocalTokioStream};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::gateway::tls::{any_certificate, fingerprint};

/// What the script types into the desktop's notes.
const TEXT: &str = "This session goes through the gateway. Every click and pixel of it is in the recording.";
/// How long the gateway may take to close when the client has left.
const FAREWELL: Duration = Duration::from_secs(5);
/// Time between two inputs.
const STEP: Duration = Duration::from_millis(60);

/// Whom to connect to, as whom and for how long.
pub(super) struct Script {
    /// The gateway.
    pub(super) address: SocketAddr,
    /// User name, as the desktop knows it.
    pub(super) user: &'static str,
    /// Password.
    pub(super) password: &'static str,
    /// Screen size in pixels.
    pub(super) size: (u16, u16),
    /// How long to stay.
    pub(super) duration: Duration,
    /// SHA-256 of the certificate that the other side must show, lower-case hex.
    pub(super) fingerprint: String,
    /// Called a few times a second with the time that has passed.
    pub(super) progress: Box<dyn Fn(Duration) + Send>,
}

/// What the client had on its screen in the end.
pub(super) struct Seen {
    /// Pixels a row.
    pub(super) width: u16,
    /// Rows.
    pub(super) height: u16,
    /// `width * height * 4` bytes, RGBA.
    pub(super) rgba: Vec<u8>,
}

/// Runs the script on a thread of its own (the connector's futures are not `Send`).
///
/// # Errors
/// No connection, a certificate that is not the gateway's, or a session that the other side ended early.
pub(super) fn run(script: Script) -> anyhow::Result<Seen> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the demo client's runtime")?;
    std::thread::scope(|scope| {
        std::thread::Builder::new()
            .name("demo-client".to_owned())
            .spawn_scoped(scope, move || runtime.block_on(session(script)))
            .context("start the demo client")?
            .join()
            .map_err(|_panic| anyhow::anyhow!("the demo client panicked"))?
    })
}

async fn session(script: Script) -> anyhow::Result<Seen> {
    let stream = TcpStream::connect(script.address)
        .await
        .context("connect to the gateway")?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let own = stream.local_addr().context("ask for the own address")?;
    let mut connector = ClientConnector::new(config(script.user, script.password, script.size), own);

    let mut framed = Framed::<LocalTokioStream<TcpStream>>::new(stream);
    let upgrade = ironrdp_tokio::connect_begin(&mut framed, &mut connector)
        .await
        .context("negotiate with the gateway")?;
    let name = ServerNameOfGateway::try_from("gateway").context("name the gateway")?;
    let stream = TlsConnector::from(any_certificate(deskreel_config::TlsMin::Tls12)?)
        .connect(name, framed.into_inner_no_leftover())
        .await
        .context("TLS with the gateway")?;
    let certificate = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first)
        .context("the gateway showed no certificate")?;
    anyhow::ensure!(
        fingerprint(certificate) == script.fingerprint,
        "the certificate is not the gateway's"
    );

    let upgraded = ironrdp_tokio::mark_as_upgraded(upgrade, &mut connector);
    let mut framed = Framed::<LocalTokioStream<_>>::new(stream);
    let result = ironrdp_tokio::connect_finalize(
        upgraded,
        connector,
        &mut framed,
        &mut NoNetwork,
        ServerName::new("gateway"),
        Vec::new(),
        None,
    )
    .await
    .context("finish the connection sequence")?
    .into_connected()
    .context("finish the connection sequence")?;

    let DesktopSize { width, height } = result.desktop_size;
    let mut image = DecodedImage::new(PixelFormat::RgbA32, width, height);
    let mut stage = ActiveStageBuilder {
        static_channels: result.static_channels,
        user_channel_id: result.user_channel_id,
        io_channel_id: result.io_channel_id,
        message_channel_id: result.message_channel_id,
        share_id: result.share_id,
        compression_type: result.compression_type,
        enable_server_pointer: false,
        pointer_software_rendering: false,
    }
    .build();

    let started = Instant::now();
    let mut inputs = inputs(width, height).into_iter();
    let mut steps = tokio::time::interval(STEP);
    while started.elapsed() < script.duration {
        tokio::select! {
            // Reading is cancel-safe: a PDU that is not whole yet stays in the buffer.
            pdu = framed.read_pdu() => {
                let (action, pdu) = pdu.context("read from the gateway")?;
                for output in stage.process(&mut image, action, &pdu, None).context("decode the desktop's picture")? {
                    match output {
                        ActiveStageOutput::ResponseFrame(frame) => {
                            framed.write_all(&frame).await.context("write to the gateway")?;
                        }
                        ActiveStageOutput::Terminate(reason) => anyhow::bail!("the session was ended: {reason:?}"),
                        _ => {}
                    }
                }
            }
            _ = steps.tick() => {
                (script.progress)(started.elapsed());
                if let Some(event) = inputs.next() {
                    let pdu = encode_vec(&FastPathInput::single(event)).context("encode input")?;
                    framed.write_all(&pdu).await.context("write to the gateway")?;
                }
            }
        }
    }
    leave(&stage, framed).await?;
    Ok(Seen {
        width,
        height,
        rgba: image.data().to_vec(),
    })
}

/// Leaves as people do who close the window: says so, closes TLS and takes what is still on its way, because data that nobody
/// reads would turn the close into a reset.
async fn leave(stage: &ActiveStage, mut framed: Framed<LocalTokioStream<TlsStream<TcpStream>>>) -> anyhow::Result<()> {
    for output in stage.graceful_shutdown().context("encode the farewell")? {
        if let ActiveStageOutput::ResponseFrame(frame) = output {
            framed.write_all(&frame).await.context("write to the gateway")?;
        }
    }
    let farewell = X224(DisconnectProviderUltimatum::from_reason(
        DisconnectReason::UserRequested,
    ));
    let farewell = encode_vec(&farewell).context("encode the farewell")?;
    framed.write_all(&farewell).await.context("write to the gateway")?;
    let (mut stream, _unread) = framed.into_inner();
    let close = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream, &mut tokio::io::sink()).await
    };
    // An error or a time-out: the other side was faster or does not close. The session is over either way.
    let _ = tokio::time::timeout(FAREWELL, close).await;
    Ok(())
}

/// A mouse on its way across the screen, a click into the notes, and text.
fn inputs(width: u16, height: u16) -> Vec<FastPathInputEvent> {
    let mouse = |flags, x_position, y_position| {
        FastPathInputEvent::MouseEvent(MousePdu {
            flags,
            number_of_wheel_rotation_units: 0,
            x_position,
            y_position,
        })
    };
    let (from, to) = ((width / 2, height / 4), (width / 5, height * 4 / 5));
    let mut events: Vec<_> = (0..=20u16)
        .map(|step| {
            let between = |from: u16, to: u16| {
                let (from, to, step) = (i32::from(from), i32::from(to), i32::from(step));
                u16::try_from(from + (to - from) * step / 20).unwrap_or(0)
            };
            mouse(PointerFlags::MOVE, between(from.0, to.0), between(from.1, to.1))
        })
        .collect();
    events.push(mouse(PointerFlags::DOWN | PointerFlags::LEFT_BUTTON, to.0, to.1));
    events.push(mouse(PointerFlags::LEFT_BUTTON, to.0, to.1));
    for unit in TEXT.encode_utf16() {
        events.push(FastPathInputEvent::UnicodeKeyboardEvent(KeyboardFlags::empty(), unit));
        events.push(FastPathInputEvent::UnicodeKeyboardEvent(KeyboardFlags::RELEASE, unit));
    }
    events
}

type ServerNameOfGateway = tokio_rustls::rustls::pki_types::ServerName<'static>;

pub(super) fn config(user: &str, password: &str, (width, height): (u16, u16)) -> Config {
    Config {
        desktop_size: DesktopSize { width, height },
        monitor_layout: None,
        desktop_scale_factor: 0,
        desktop_physical_size: None,
        desktop_orientation: None,
        device_scale_factor: None,
        monitor_extended_layout: None,
        relative_mouse_input: false,
        enable_tls: true,
        enable_credssp: false,
        enable_standard_rdp_security: false,
        credentials: Credentials::UsernamePassword {
            username: user.to_owned(),
            password: password.to_owned(),
        },
        domain: None,
        client_build: 1,
        client_name: "deskreel-demo".to_owned(),
        keyboard_type: KeyboardType::IBM_ENHANCED,
        keyboard_subtype: 0,
        keyboard_functional_keys_count: 12,
        keyboard_layout: 0x409,
        connection_type: ConnectionType::Lan,
        ime_file_name: String::new(),
        bitmap: None,
        dig_product_id: String::new(),
        client_dir: String::new(),
        alternate_shell: String::new(),
        work_dir: String::new(),
        remote_application_mode: false,
        rail_support_level: RailSupportLevel::empty(),
        platform: MajorPlatformType::UNIX,
        hardware_id: None,
        request_data: None,
        autologon: true,
        enable_audio_playback: false,
        enable_audio_capture: false,
        performance_flags: PerformanceFlags::default(),
        license_cache: None,
        timezone_info: TimezoneInfo::default(),
        compression_type: Some(CompressionType::K64),
        enable_server_pointer: false,
        pointer_software_rendering: false,
        multitransport_flags: None,
        support_dyn_vc_gfx_protocol: false,
    }
}

/// CredSSP with Kerberos would need a network client; the demo speaks TLS only.
pub(super) struct NoNetwork;

impl ironrdp_async::NetworkClient for NoNetwork {
    async fn send(
        &mut self,
        _request: &ironrdp_connector::sspi::generator::NetworkRequest,
    ) -> ironrdp_connector::ConnectorResult<Vec<u8>> {
        Err(ironrdp_connector::general_err!("the demo does not use Kerberos"))
    }
}
