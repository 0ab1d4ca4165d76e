//! The desktop leg up to where MCS begins: TCP, X.224, TLS, the certificate check, CredSSP.

use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use deskreel_config::{DesktopSecurity, DesktopTls, TlsMin, Verify, WindowsDesktop};
use deskreel_rdp::wire::x224::{
    ConfirmError, ConnectionConfirm, connection_request, failure, protocol, routed_request,
};
use deskreel_rdp::wire::{PduKind, find_pdu};
use tokio::io::{AsyncBufRead, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig};
use tracing::{info, warn};

use super::credssp::client::{Account, LogonError};
use super::end::{EndReason, Ended};
use super::handshake::take;
use super::judge::DesktopAccount;
use super::pins::{Pins, Trust};
use super::{SOCKET_BUFFER_BYTES, credssp, prepare, tls};

/// A desktop's connection confirm has 11 or 19 bytes; nobody needs more than this.
const CONFIRM_LENGTH_MAX: usize = 512;

/// A desktop whose certificate was found good and, if it wanted CredSSP, that has let its account in.
pub(super) struct DesktopLeg {
    /// The stream; MCS comes next.
    pub(super) stream: TlsStream<BufReader<TcpStream>>,
    /// The protocols that the gateway has offered.
    pub(super) offered_protocols: u32,
    /// The protocol that the desktop selected.
    pub(super) selected_protocol: u32,
    /// SHA-256 of a certificate that is to be trusted on first use, once somebody is let in.
    pub(super) first_use: Option<String>,
}

/// What a desktop hears first.
#[derive(Debug, Clone, Copy)]
pub(super) enum Hello<'a> {
    /// The start of the user's name.
    Cookie(Option<&'a str>),
    /// The token of its load balancer.
    Token(&'a str),
}

impl Hello<'_> {
    fn request(self, protocols: u32) -> Vec<u8> {
        match self {
            Self::Cookie(cookie) => connection_request(protocols, cookie),
            Self::Token(token) => routed_request(protocols, token),
        }
    }
}

/// How desktops are reached and their certificates checked.
pub(super) struct Desktops {
    pins: Pins,
    any: Arc<ClientConfig>,
    tls_min: TlsMin,
}

/// One desktop, ready to be connected to.
pub(super) struct Desktop {
    /// As configured.
    pub(super) resource: Arc<WindowsDesktop>,
    connector: TlsConnector,
    server_name: ServerName<'static>,
    host: String,
}

impl Desktops {
    /// Prepares TLS towards desktops.
    ///
    /// # Errors
    /// TLS can't be had.
    pub(super) fn new(pins: Pins, tls_min: TlsMin) -> anyhow::Result<Self> {
        Ok(Self {
            pins,
            any: tls::any_certificate(tls_min)?,
            tls_min,
        })
    }

    /// Prepares TLS for one desktop.
    ///
    /// # Errors
    /// An unusable `ca` or address.
    pub(super) fn prepare(&self, resource: &Arc<WindowsDesktop>) -> anyhow::Result<Desktop> {
        let addr = &resource.addr;
        let (host, _) = addr.rsplit_once(':').with_context(|| format!("{addr} has no port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = ServerName::try_from(host.clone()).with_context(|| format!("{addr} is no host and port"))?;
        let config = match (resource.gateway.tls.verify, &resource.gateway.tls.ca) {
            (Verify::Ca, Some(ca)) => tls::signed_by(ca, self.tls_min)?,
            (Verify::Ca, None) => anyhow::bail!("spec.gateway.tls.verify is ca, but ca is not set"),
            (Verify::Pin | Verify::None, _) => Arc::clone(&self.any),
        };
        Ok(Desktop {
            resource: Arc::clone(resource),
            connector: TlsConnector::from(config),
            server_name,
            host,
        })
    }

    /// Connects to `desktop`, up to a TLS session whose certificate was checked, and logs on to it if it wants CredSSP. The
    /// caller bounds the time. `logon` is who is known by now: nobody on a TLS client leg.
    ///
    /// # Errors
    /// A reason for each way in which a desktop can't be used.
    pub(super) async fn connect(
        &self,
        desktop: &Desktop,
        hello: Hello<'_>,
        logon: Option<&DesktopAccount>,
    ) -> Result<DesktopLeg, Ended> {
        let resource = &desktop.resource;
        let WindowsDesktop {
            name, addr, gateway, ..
        } = &**resource;
        let offered = offer(resource, logon)?;
        let tcp = TcpStream::connect(addr).await.map_err(|error| {
            Ended::new(
                EndReason::DesktopUnreachable,
                format!("connect to desktop {name} at {addr}: {error}"),
            )
        })?;
        prepare(&tcp);
        let mut stream = BufReader::with_capacity(SOCKET_BUFFER_BYTES, tcp);
        let lost = |error: io::Error| {
            Ended::new(
                EndReason::DesktopNotRdp,
                format!("desktop {name} at {addr} broke the negotiation off: {error}"),
            )
        };
        stream.write_all(&hello.request(offered)).await.map_err(lost)?;
        let confirm = read_confirm(&mut stream)
            .await
            .map_err(|detail| Ended::new(EndReason::DesktopNotRdp, format!("desktop {name} at {addr}: {detail}")))?;
        let selected_protocol = confirm.selected(offered).map_err(|error| {
            let reason = match error {
                ConfirmError::Refused(failure::HYBRID_REQUIRED) => EndReason::DesktopRequiresNla,
                ConfirmError::Refused(failure::SSL_NOT_ALLOWED) | ConfirmError::StandardSecurity => {
                    EndReason::DesktopWithoutTls
                }
                ConfirmError::Malformed(_) => EndReason::DesktopNotRdp,
                ConfirmError::Refused(_) | ConfirmError::NotOffered(_) => EndReason::DesktopNegotiation,
            };
            Ended::new(reason, format!("desktop {name} at {addr}: {error}"))
        })?;
        let stream = desktop
            .connector
            .connect(desktop.server_name.clone(), stream)
            .await
            .map_err(|error| {
                let reason = if is_untrusted(&error) {
                    EndReason::DesktopUntrusted
                } else {
                    EndReason::DesktopTlsFailed
                };
                Ended::new(reason, format!("TLS with desktop {name} at {addr}: {error}"))
            })?;
        let certificate = stream
            .get_ref()
            .1
            .peer_certificates()
            .and_then(<[CertificateDer<'_>]>::first);
        let Some(certificate) = certificate else {
            return Err(Ended::new(
                EndReason::DesktopUntrusted,
                format!("desktop {name} at {addr} shows no certificate"),
            ));
        };
        let sha256 = tls::fingerprint(certificate);
        let trust = self.check(desktop, &gateway.tls, &sha256).await?;
        let mut leg = DesktopLeg {
            stream,
            offered_protocols: offered,
            selected_protocol,
            first_use: (trust == Trust::FirstUse).then_some(sha256),
        };
        // who may log on was let in before
        if logon.is_some()
            && let Some(sha256) = leg.first_use.take()
        {
            self.trust(&desktop.resource, &sha256).await?;
        }
        if let (protocol::HYBRID | protocol::HYBRID_EX, Some(logon)) = (selected_protocol, logon) {
            log_on(desktop, &mut leg, logon).await?;
        }
        Ok(leg)
    }

    /// Remembers a certificate that a desktop has shown for the first time.
    ///
    /// # Errors
    /// As [`Pins::remember`].
    pub(super) async fn trust(&self, resource: &Arc<WindowsDesktop>, sha256: &str) -> Result<(), Ended> {
        let trust = self.ask_pins(resource, sha256, Pins::remember).await?;
        let WindowsDesktop { name, addr, .. } = &**resource;
        if trust == Trust::FirstUse {
            info!(
                desktop = name,
                addr, sha256, "desktop's certificate trusted on first use"
            );
        }
        Ok(())
    }

    /// On a thread of its own: a `data_dir` that hangs holds up who comes, and nobody who is there.
    async fn ask_pins(
        &self,
        resource: &Arc<WindowsDesktop>,
        sha256: &str,
        ask: fn(&Pins, &str, &str, &str) -> Result<Trust, Ended>,
    ) -> Result<Trust, Ended> {
        let (pins, resource, sha256) = (self.pins.clone(), Arc::clone(resource), sha256.to_owned());
        tokio::task::spawn_blocking(move || ask(&pins, &resource.name, &resource.addr, &sha256))
            .await
            .unwrap_or_else(|panicked| Err(Ended::new(EndReason::Internal, format!("ask the pins: {panicked}"))))
    }

    async fn check(&self, desktop: &Desktop, how: &DesktopTls, sha256: &str) -> Result<Trust, Ended> {
        let WindowsDesktop { name, addr, .. } = &*desktop.resource;
        match (how.verify, &how.sha256) {
            (Verify::Pin, Some(pinned)) if pinned.eq_ignore_ascii_case(sha256) => Ok(Trust::Known),
            (Verify::Pin, Some(pinned)) => Err(Ended::new(
                EndReason::DesktopPinMismatch,
                format!("desktop {name} at {addr} shows certificate {sha256}, but spec.gateway.tls.sha256 is {pinned}"),
            )),
            (Verify::Pin, None) => self.ask_pins(&desktop.resource, sha256, Pins::check).await,
            // the verifier of the handshake has done it
            (Verify::Ca, _) => Ok(Trust::Known),
            (Verify::None, _) => {
                warn!(
                    desktop = name,
                    addr, sha256, "desktop's certificate is not verified (spec.gateway.tls.verify: none)"
                );
                Ok(Trust::Known)
            }
        }
    }
}

/// What a desktop is offered. Without a password there is nothing to log on with over CredSSP.
///
/// # Errors
/// [`EndReason::LoginWithoutCredentials`], [`EndReason::DesktopRequiresNla`]: the desktop's `security` wants CredSSP.
fn offer(resource: &WindowsDesktop, logon: Option<&DesktopAccount>) -> Result<u32, Ended> {
    let name = &resource.name;
    let has_password = logon.is_some_and(|logon| logon.password.is_some());
    match (resource.gateway.security, logon) {
        (DesktopSecurity::Tls, _) => Ok(protocol::SSL),
        (DesktopSecurity::Auto, _) if has_password => Ok(protocol::SSL | protocol::HYBRID | protocol::HYBRID_EX),
        (DesktopSecurity::Auto, _) => Ok(protocol::SSL),
        (DesktopSecurity::Nla, _) if has_password => Ok(protocol::HYBRID | protocol::HYBRID_EX),
        (DesktopSecurity::Nla, Some(logon)) => Err(Ended::new(
            EndReason::LoginWithoutCredentials,
            format!(
                "there is no password for {:?}, and desktop {name} wants NLA",
                logon.login
            ),
        )),
        (DesktopSecurity::Nla, None) => Err(Ended::new(
            EndReason::DesktopRequiresNla,
            format!("desktop {name} wants NLA (spec.gateway.security), which takes a client that uses NLA itself"),
        )),
    }
}

/// CredSSP over the desktop's leg.
async fn log_on(desktop: &Desktop, leg: &mut DesktopLeg, logon: &DesktopAccount) -> Result<(), Ended> {
    let WindowsDesktop { name, addr, .. } = &*desktop.resource;
    let failed = |reason, detail: String| {
        Ended::new(
            reason,
            format!("log on to desktop {name} at {addr} as {:?}: {detail}", logon.login),
        )
    };
    let certificates = leg.stream.get_ref().1.peer_certificates().unwrap_or_default();
    let certificate = certificates.first().map(AsRef::as_ref).unwrap_or_default();
    let public_key = credssp::public_key(certificate)
        .map_err(|error| failed(EndReason::DesktopLogonFailed, format!("its certificate: {error:#}")))?;
    let account = Account {
        login: &logon.login,
        domain: logon.domain.as_deref(),
        password: logon
            .password
            .as_ref()
            .map(|password| password.as_str())
            .unwrap_or_default(),
    };
    let early_result = leg.selected_protocol == protocol::HYBRID_EX;
    credssp::client::log_on(&mut leg.stream, public_key, &desktop.host, &account, early_result)
        .await
        .map_err(|error| {
            let reason = match error {
                LogonError::Refused(_) | LogonError::Unauthorised(_) | LogonError::Lost(_) => {
                    EndReason::DesktopLogonRefused
                }
                LogonError::Protocol(_) => EndReason::DesktopLogonFailed,
            };
            failed(reason, error.to_string())
        })
}

async fn read_confirm<S: AsyncBufRead + Unpin>(stream: &mut S) -> Result<ConnectionConfirm, String> {
    let mut pdu = Vec::new();
    loop {
        // a fast-path PDU is no answer, whatever its length
        if let Some(&first) = pdu.first()
            && PduKind::of(first) != Ok(PduKind::SlowPath)
        {
            return Err(format!("answers the connection request with byte {first:#04x}"));
        }
        let missing = match find_pdu(&pdu).map_err(|error| error.to_string())? {
            Some(length) if length > CONFIRM_LENGTH_MAX => {
                return Err(format!("answers the connection request with {length} bytes"));
            }
            Some(length) if pdu.len() >= length => break,
            Some(length) => length - pdu.len(),
            None => 1,
        };
        let taken = take(stream, missing, &mut pdu)
            .await
            .map_err(|error| error.to_string())?;
        if taken == 0 {
            return Err(format!(
                "closed after {} bytes of its answer to the connection request",
                pdu.len()
            ));
        }
    }
    ConnectionConfirm::parse(&pdu).map_err(|error| error.to_string())
}

fn is_untrusted(error: &io::Error) -> bool {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        .is_some_and(|inner| matches!(inner, rustls::Error::InvalidCertificate(_)))
}
