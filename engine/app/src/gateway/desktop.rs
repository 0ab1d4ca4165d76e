//! The desktop leg up to TLS: TCP, X.224 with TLS alone, the certificate check.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use anyhow::Context as _;
use deskreel_config::{DesktopTls, Resources, Verify, WindowsDesktop};
use deskreel_rdp::wire::x224::{ConfirmError, ConnectionConfirm, connection_request, failure, protocol};
use deskreel_rdp::wire::{PduKind, find_pdu};
use tokio::io::{AsyncBufRead, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig};
use tracing::{info, warn};

use super::end::{EndReason, Ended};
use super::handshake::take;
use super::pins::{Pins, Trust};
use super::{SOCKET_BUFFER_BYTES, prepare, tls};

/// A desktop's connection confirm has 11 or 19 bytes; nobody needs more than this.
const CONFIRM_LENGTH_MAX: usize = 512;

/// A desktop that has selected TLS and whose certificate was found good.
pub(super) struct DesktopLeg {
    /// The stream; nothing was sent over TLS yet.
    pub(super) stream: TlsStream<BufReader<TcpStream>>,
    /// The protocol that the desktop selected.
    pub(super) selected_protocol: u32,
}

/// All configured desktops and how each one's certificate is checked.
pub(super) struct Desktops {
    desktops: HashMap<String, Desktop>,
    default: Option<String>,
    pins: Pins,
}

/// One desktop.
pub(super) struct Desktop {
    /// As configured.
    pub(super) resource: WindowsDesktop,
    connector: TlsConnector,
    server_name: ServerName<'static>,
}

impl Desktops {
    /// Prepares TLS for every desktop.
    ///
    /// # Errors
    /// An unusable `ca` or address, by desktop; a default desktop that isn't configured.
    pub(super) fn new(resources: &Resources, default: Option<&str>, pins: Pins) -> anyhow::Result<Self> {
        let any = tls::any_certificate()?;
        let mut desktops = HashMap::new();
        for resource in &resources.desktops {
            let desktop = Desktop::new(resource, &any).with_context(|| format!("desktop {}", resource.name))?;
            desktops.insert(resource.name.clone(), desktop);
        }
        if let Some(name) = default
            && !desktops.contains_key(name)
        {
            anyhow::bail!("gateway.default_desktop: no desktop is named {name}");
        }
        Ok(Self {
            desktops,
            default: default.map(str::to_owned),
            pins,
        })
    }

    /// The desktop that the client names, else the default one.
    ///
    /// # Errors
    /// [`EndReason::DesktopUnknown`], [`EndReason::DesktopNotNamed`]
    pub(super) fn resolve(&self, named: Option<&str>) -> Result<&Desktop, Ended> {
        let Some(name) = named.or(self.default.as_deref()) else {
            return Err(Ended::new(
                EndReason::DesktopNotNamed,
                "client named no desktop and gateway.default_desktop is not set",
            ));
        };
        self.desktops.get(name).ok_or_else(|| {
            // a client's words: at most as long as a name may be, and quoted
            let name: String = name.chars().take(64).collect();
            Ended::new(EndReason::DesktopUnknown, format!("no desktop is named {name:?}"))
        })
    }

    /// Connects to `desktop`, up to a TLS session whose certificate was checked. The caller bounds the time.
    ///
    /// # Errors
    /// A reason for each way in which a desktop can't be used.
    pub(super) async fn connect(&self, desktop: &Desktop, cookie: Option<&str>) -> Result<DesktopLeg, Ended> {
        let WindowsDesktop {
            name, addr, gateway, ..
        } = &desktop.resource;
        let tcp = TcpStream::connect(addr).await.map_err(|error| {
            Ended::new(
                EndReason::DesktopUnreachable,
                format!("connect to desktop {name} at {addr}: {error}"),
            )
        })?;
        prepare(&tcp);
        let mut stream = BufReader::with_capacity(SOCKET_BUFFER_BYTES, tcp);
        let offered = protocol::SSL;
        let lost = |error: io::Error| {
            Ended::new(
                EndReason::DesktopNotRdp,
                format!("desktop {name} at {addr} broke the negotiation off: {error}"),
            )
        };
        stream
            .write_all(&connection_request(offered, cookie))
            .await
            .map_err(lost)?;
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
        self.check(desktop, &gateway.tls, &tls::fingerprint(certificate))?;
        Ok(DesktopLeg {
            stream,
            selected_protocol,
        })
    }

    fn check(&self, desktop: &Desktop, how: &DesktopTls, sha256: &str) -> Result<(), Ended> {
        let WindowsDesktop { name, addr, .. } = &desktop.resource;
        match (how.verify, &how.sha256) {
            (Verify::Pin, Some(pinned)) if pinned.eq_ignore_ascii_case(sha256) => Ok(()),
            (Verify::Pin, Some(pinned)) => Err(Ended::new(
                EndReason::DesktopPinMismatch,
                format!("desktop {name} at {addr} shows certificate {sha256}, but spec.gateway.tls.sha256 is {pinned}"),
            )),
            (Verify::Pin, None) => {
                if self.pins.check(name, addr, sha256)? == Trust::FirstUse {
                    info!(
                        desktop = name,
                        addr, sha256, "desktop's certificate trusted on first use"
                    );
                }
                Ok(())
            }
            // the verifier of the handshake has done it
            (Verify::Ca, _) => Ok(()),
            (Verify::None, _) => {
                warn!(
                    desktop = name,
                    addr, sha256, "desktop's certificate is not verified (spec.gateway.tls.verify: none)"
                );
                Ok(())
            }
        }
    }
}

impl Desktop {
    fn new(resource: &WindowsDesktop, any: &Arc<ClientConfig>) -> anyhow::Result<Self> {
        let addr = &resource.addr;
        let (host, _) = addr.rsplit_once(':').with_context(|| format!("{addr} has no port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let server_name = ServerName::try_from(host).with_context(|| format!("{addr} is no host and port"))?;
        let config = match (resource.gateway.tls.verify, &resource.gateway.tls.ca) {
            (Verify::Ca, Some(ca)) => tls::signed_by(ca)?,
            (Verify::Ca, None) => anyhow::bail!("spec.gateway.tls.verify is ca, but ca is not set"),
            (Verify::Pin | Verify::None, _) => Arc::clone(any),
        };
        Ok(Self {
            resource: resource.clone(),
            connector: TlsConnector::from(config),
            server_name,
        })
    }
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
