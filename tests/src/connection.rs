//! Both ends of RDP's connection sequence, by IronRDP: what the test desktops and the scripted clients share.

use std::net::Ipv4Addr;
use std::sync::Arc;

use anyhow::Context as _;
use ironrdp_acceptor::{Acceptor, BeginResult, accept_begin};
use ironrdp_connector::{
    BitmapConfig, ClientConnector, Config, ConnectionResult, ConnectorResult, ServerName, general_err, sspi,
};
use ironrdp_pdu::PduResult;
use ironrdp_pdu::gcc::{ChannelName, ConnectionType, KeyboardType};
use ironrdp_pdu::nego::SecurityProtocol;
use ironrdp_pdu::rdp::capability_sets::{
    Bitmap, BitmapDrawingFlags, CapabilitySet, General, GeneralExtraFlags, Input, InputFlags, MajorPlatformType,
    MultifragmentUpdate, Order, OrderFlags, OrderSupportExFlags, Pointer, RailSupportLevel, VirtualChannel,
    VirtualChannelFlags, client_codecs_capabilities,
};
use ironrdp_pdu::rdp::client_info::{Credentials, PerformanceFlags, TimezoneInfo};
use ironrdp_svc::{SvcClientProcessor, SvcMessage, SvcProcessor, SvcServerProcessor};
use ironrdp_tokio::{Framed, LocalTokioStream};
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName as TlsName, UnixTime};
use tokio_rustls::rustls::{
    ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme, SupportedProtocolVersion,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::desktop::PASSWORD;

/// TLS with a certificate of its own, in these versions.
///
/// # Errors
/// No certificate can be made.
pub fn tls_acceptor(name: &str, versions: &[&'static SupportedProtocolVersion]) -> anyhow::Result<TlsAcceptor> {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).context("make a certificate")?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der())
        .map_err(|error| anyhow::anyhow!("make a key: {error}"))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .context("set up TLS")?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .context("use the certificate")?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A desktop with one account, whose password is [`PASSWORD`].
#[must_use]
pub fn acceptor(user: &str, (width, height): (u16, u16)) -> Acceptor {
    let credentials = Credentials {
        username: user.to_owned(),
        password: PASSWORD.to_owned(),
        domain: None,
    };
    let size = ironrdp_acceptor::DesktopSize { width, height };
    Acceptor::new(
        SecurityProtocol::SSL,
        size,
        capabilities((width, height)),
        Some(credentials),
    )
}

/// A desktop's side up to where MCS begins.
///
/// # Errors
/// The client breaks off, or wants no TLS.
pub async fn accept_tls(
    stream: TcpStream,
    tls: &TlsAcceptor,
    acceptor: &mut Acceptor,
) -> anyhow::Result<Framed<LocalTokioStream<server::TlsStream<TcpStream>>>> {
    stream.set_nodelay(true)?;
    let framed = Framed::<LocalTokioStream<TcpStream>>::new(stream);
    let BeginResult::ShouldUpgrade(stream) = accept_begin(framed, acceptor).await.context("negotiate")? else {
        anyhow::bail!("the client asked for no security");
    };
    let stream = tls.accept(stream).await.context("accept TLS")?;
    acceptor.mark_security_upgrade_as_done();
    Ok(Framed::new(stream))
}

/// A client's TLS to a port of this machine, whatever certificate is shown there.
///
/// # Errors
/// No connection.
pub async fn connect_tls(
    stream: TcpStream,
    versions: &[&'static SupportedProtocolVersion],
) -> anyhow::Result<client::TlsStream<TcpStream>> {
    let provider = Arc::new(ring::default_provider());
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .context("set up TLS")?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(provider)))
        .with_no_client_auth();
    let name = TlsName::IpAddress(Ipv4Addr::LOCALHOST.into());
    let connector = TlsConnector::from(Arc::new(config));
    connector.connect(name, stream).await.context("connect by TLS")
}

/// A client's side of the whole sequence, by TLS and with RemoteFX; what follows on the stream is the session.
///
/// # Errors
/// The other side is no desktop, or refuses: then a [`ConnectorError`](ironrdp_connector::ConnectorError) is in the chain.
pub async fn connect_rdp(
    stream: TcpStream,
    versions: &[&'static SupportedProtocolVersion],
    (user, password): (&str, &str),
    size: (u16, u16),
) -> anyhow::Result<client::TlsStream<TcpStream>> {
    let config = client_config(user, password, size)?;
    let connector = ClientConnector::new(config, stream.local_addr()?);
    let (framed, _) = connect(stream, versions, connector).await?;
    let (stream, rest) = framed.into_inner();
    anyhow::ensure!(rest.is_empty(), "the desktop sends what nobody asked for");
    Ok(stream)
}

/// A client's side of the whole sequence, with the channel of the dynamic ones.
///
/// # Errors
/// As [`connect_rdp`]; the desktop has no such channel.
pub async fn connect_dynamic(
    stream: TcpStream,
    versions: &[&'static SupportedProtocolVersion],
    (user, password): (&str, &str),
    size: (u16, u16),
) -> anyhow::Result<DynamicClient> {
    let config = client_config(user, password, size)?;
    let mut connector = ClientConnector::new(config, stream.local_addr()?);
    connector.attach_static_channel(Drdynvc);
    let (framed, result) = connect(stream, versions, connector).await?;
    let channel = result.static_channels.get_channel_id_by_type::<Drdynvc>();
    Ok(DynamicClient {
        framed,
        user_channel: result.user_channel_id,
        channel: channel.context("the desktop has no drdynvc")?,
    })
}

/// A client behind the connection sequence, for what it says of its own.
#[expect(missing_debug_implementations, reason = "its connection has none")]
pub struct DynamicClient {
    /// The connection.
    pub framed: Framed<LocalTokioStream<client::TlsStream<TcpStream>>>,
    /// In whose name it speaks.
    pub user_channel: u16,
    /// The channel that carries the dynamic ones.
    pub channel: u16,
}

/// The static channel of the dynamic ones, whose data the tests' desktops and clients take themselves.
#[derive(Debug)]
pub(crate) struct Drdynvc;

ironrdp_core::impl_as_any!(Drdynvc);

impl SvcProcessor for Drdynvc {
    fn channel_name(&self) -> ChannelName {
        ChannelName::new(*b"drdynvc\0")
    }

    fn process(&mut self, _payload: &[u8]) -> PduResult<Vec<SvcMessage>> {
        Ok(Vec::new())
    }
}

impl SvcClientProcessor for Drdynvc {}
impl SvcServerProcessor for Drdynvc {}

async fn connect(
    stream: TcpStream,
    versions: &[&'static SupportedProtocolVersion],
    mut connector: ClientConnector,
) -> anyhow::Result<(Framed<LocalTokioStream<client::TlsStream<TcpStream>>>, ConnectionResult)> {
    let mut framed = Framed::<LocalTokioStream<TcpStream>>::new(stream);
    let upgrade = ironrdp_tokio::connect_begin(&mut framed, &mut connector)
        .await
        .context("negotiate")?;
    let stream = connect_tls(framed.into_inner_no_leftover(), versions).await?;
    let upgraded = ironrdp_tokio::mark_as_upgraded(upgrade, &mut connector);
    let mut framed = Framed::<LocalTokioStream<_>>::new(stream);
    let name = ServerName::new("gateway");
    let result =
        ironrdp_tokio::connect_finalize(upgraded, connector, &mut framed, &mut NoNetwork, name, Vec::new(), None)
            .await
            .context("finish the connection")?
            .into_connected()
            .context("finish the connection")?;
    Ok((framed, result))
}

/// Takes every certificate: the tests' own are all self-signed.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &TlsName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// Only Kerberos would need one.
struct NoNetwork;

impl ironrdp_tokio::NetworkClient for NoNetwork {
    async fn send(&mut self, _request: &sspi::generator::NetworkRequest) -> ConnectorResult<Vec<u8>> {
        Err(general_err!("no Kerberos here"))
    }
}

fn client_config(user: &str, password: &str, (width, height): (u16, u16)) -> anyhow::Result<Config> {
    let codecs = client_codecs_capabilities(&[]).map_err(|error| anyhow::anyhow!("name the codecs: {error}"))?;
    Ok(Config {
        desktop_size: ironrdp_connector::DesktopSize { width, height },
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
        credentials: ironrdp_connector::Credentials::UsernamePassword {
            username: user.to_owned(),
            password: password.to_owned(),
        },
        domain: None,
        client_build: 1,
        client_name: "scripted".to_owned(),
        keyboard_type: KeyboardType::IBM_ENHANCED,
        keyboard_subtype: 0,
        keyboard_functional_keys_count: 12,
        keyboard_layout: 0x409,
        connection_type: ConnectionType::Lan,
        ime_file_name: String::new(),
        bitmap: Some(BitmapConfig {
            lossy_compression: true,
            color_depth: 32,
            codecs,
        }),
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
        compression_type: None,
        enable_server_pointer: false,
        pointer_software_rendering: false,
        multitransport_flags: None,
        support_dyn_vc_gfx_protocol: false,
    })
}

fn capabilities((desktop_width, desktop_height): (u16, u16)) -> Vec<CapabilitySet> {
    vec![
        CapabilitySet::General(General {
            extra_flags: GeneralExtraFlags::FASTPATH_OUTPUT_SUPPORTED,
            ..General::default()
        }),
        CapabilitySet::Bitmap(Bitmap {
            pref_bits_per_pix: 32,
            desktop_width,
            desktop_height,
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
