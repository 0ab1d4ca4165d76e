//! TLS on both legs: versions, authorities, a certificate that changes while sessions run.

use std::fs;
use std::path::Path;

use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig, SupportedProtocolVersion};

use super::sessions::{SHADOW, connected, read_pdu, send};
use super::*;
use crate::gateway::tls::{Identity, provider};

/// Connects with these versions of TLS alone.
async fn with_versions(gateway: &Running, versions: &[&'static SupportedProtocolVersion]) -> io::Result<()> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let (stream, _) = gateway.request(protocol::HYBRID).await;
    let name = ServerName::try_from("gateway").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map(drop)
}

#[tokio::test]
async fn older_versions_than_allowed_are_refused() {
    use deskreel_config::TlsMin;
    let nobody = closed_port();
    for (min, versions, reason) in [
        // this client trusts nobody: it comes as far as the certificate
        (TlsMin::Tls12, [&TLS12], "client_tls_aborted"),
        (TlsMin::Tls13, [&TLS13], "client_tls_aborted"),
        (TlsMin::Tls13, [&TLS12], "client_tls_failed"),
    ] {
        let mut gateway = start(nobody, |config, _| config.gateway.tls_min = min).await;
        with_versions(&gateway, &versions).await.unwrap_err();
        gateway.expect(reason).await;
        gateway.assert_clean().await;
    }
    // towards a desktop too
    let dir = tempfile::tempdir().unwrap();
    let made = Identity::load(None, None, dir.path()).unwrap();
    let addr = bad_peers::desktop_that_shows(made.clone());
    let mut gateway = start(addr, |config, _| config.gateway.tls_min = TlsMin::Tls13).await;
    let (_peer, answer) = gateway.request(protocol::SSL).await;
    assert!(matches!(
        ConnectionConfirm::parse(&answer),
        Ok(ConnectionConfirm::Selected { .. })
    ));
    drop(_peer);
    gateway.expect("client_tls_aborted").await;
    let old = Identity {
        config: tls12_only(dir.path()),
        ..made
    };
    let addr = bad_peers::desktop_that_shows(old);
    let mut gateway = start(addr, |config, _| config.gateway.tls_min = TlsMin::Tls13).await;
    let answer = gateway.say(&connection_request(protocol::SSL, None)).await;
    assert_eq!(answer.get(5), Some(&0x80), "{answer:02x?}");
    gateway.expect("desktop_tls_failed").await;
}

fn tls12_only(dir: &Path) -> Arc<ServerConfig> {
    use tokio_rustls::rustls::pki_types::pem::PemObject as _;
    use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(dir.join("gateway.crt")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(dir.join("gateway.key")).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key);
    Arc::new(config.unwrap())
}

/// An authority's certificate and, signed by it, one for `name` with its key, in files below `dir`.
fn signed(dir: &Path, name: &str) -> (std::path::PathBuf, Identity) {
    fs::create_dir_all(dir).unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::new()).unwrap();
    let own = dir.display().to_string();
    params.distinguished_name.push(rcgen::DnType::OrganizationName, own);
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_key = rcgen::KeyPair::generate().unwrap();
    let authority = params.self_signed(&authority_key).unwrap();
    let issuer = rcgen::Issuer::from_params(&params, &authority_key);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let [ca, certificate, private_key] = ["ca.pem", "leaf.pem", "leaf.key"].map(|file| dir.join(file));
    fs::write(&ca, authority.pem()).unwrap();
    fs::write(&certificate, leaf.pem() + &authority.pem()).unwrap();
    fs::write(&private_key, key.serialize_pem()).unwrap();
    let identity = Identity::load(Some(&certificate), Some(&private_key), dir).unwrap();
    (ca, identity)
}

#[tokio::test]
async fn desktops_of_an_authority() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, right) = signed(&dir.path().join("right"), "127.0.0.1");
    let (unknown, _) = signed(&dir.path().join("unknown"), "127.0.0.1");
    let (other_ca, other_name) = signed(&dir.path().join("other"), "other.example");
    let by = |verify, ca: Option<&Path>| DesktopTls {
        verify,
        sha256: None,
        ca: ca.map(Path::to_owned),
    };
    let [right, other_name] = [right, other_name].map(bad_peers::desktop_that_shows);
    for (addr, tls, refused) in [
        (right, by(Verify::Ca, Some(&ca)), None),
        (right, by(Verify::Ca, Some(&unknown)), Some("UnknownIssuer")),
        (other_name, by(Verify::Ca, Some(&other_ca)), Some("not valid for name")),
        (other_name, by(Verify::None, None), None),
    ] {
        let warns = tls.verify == Verify::None;
        let mut gateway = start(addr, |_, resources| {
            resources.desktops = vec![desktop("lab", addr, tls)];
        })
        .await;
        let (peer, answer) = gateway.request(protocol::SSL).await;
        drop(peer);
        let (reason, detail) = gateway.next_end().await;
        match refused {
            None => {
                assert_eq!(reason, "client_tls_aborted", "{detail}");
                assert!(matches!(
                    ConnectionConfirm::parse(&answer),
                    Ok(ConnectionConfirm::Selected { .. })
                ));
            }
            Some(word) => {
                assert_eq!(reason, "desktop_untrusted", "{detail}");
                assert!(detail.contains(word), "{detail}");
            }
        }
        assert_eq!(gateway.lines.text().contains("certificate is not verified"), warns);
        gateway.assert_clean().await;
    }
}

#[tokio::test]
async fn a_listener_leads_to_its_desktop_and_to_no_other() {
    let nobody = closed_port();
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut gateway = start(nobody, |config, resources| {
        config.gateway.listeners.push(deskreel_config::Listener {
            listen: free,
            desktop: "side".to_owned(),
        });
        resources.desktops.push(desktop("side", nobody, first_use()));
    })
    .await;
    for (cookie, reason, words) in [
        (Some("anna"), "desktop_unreachable", "desktop side"),
        (None, "desktop_unreachable", "desktop side"),
        (Some("anna:side"), "desktop_unreachable", "desktop side"),
        (Some("anna:lab"), "other_desktop", "the listener leads to \"side\""),
    ] {
        let mut peer = TcpStream::connect(free).await.unwrap();
        peer.write_all(&connection_request(protocol::SSL, cookie))
            .await
            .unwrap();
        read_all(&mut peer).await;
        let (found, detail) = gateway.next_end().await;
        assert_eq!(found, reason, "{cookie:?}: {detail}");
        assert!(detail.contains(words), "{detail}");
    }
    // the main address leads to the default desktop as ever
    gateway.say(&connection_request(protocol::SSL, Some("anna"))).await;
    let (_, detail) = gateway.next_end().await;
    assert!(detail.contains("desktop lab"), "{detail}");
}

#[tokio::test]
async fn a_new_certificate_is_shown_while_sessions_run_on() {
    let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
    ends.play(SHADOW).await;
    let other = tempfile::tempdir().unwrap();
    let new = Identity::load(None, None, other.path()).unwrap().fingerprint;
    let data_dir = gateway.shared.sessions.data_dir().to_owned();
    for file in ["gateway.key", "gateway.crt"] {
        fs::copy(other.path().join(file), data_dir.join(file)).unwrap();
    }
    let (stream, _) = gateway.tls(protocol::HYBRID).await;
    let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
    assert_eq!(tls::fingerprint(&shown), new);
    drop(stream);
    gateway.expect("client_logon_aborted").await;
    // the first session does not notice
    send(&mut ends.client, &[0x04, 0x05, 0x00, 0x1E, 0x00]).await;
    assert_eq!(read_pdu(&mut ends.desktop).await, [0x04, 0x05, 0x00, 0x1E, 0x00]);
    drop(ends);
    gateway.next_end().await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn no_tls_session_is_resumed() {
    use tokio_rustls::rustls::HandshakeKind;
    use tokio_rustls::rustls::client::Resumption;
    let nobody = closed_port();
    for min in [deskreel_config::TlsMin::Tls12, deskreel_config::TlsMin::Tls13] {
        let mut gateway = start(nobody, |_, _| {}).await;
        let mut config = (*tls::any_certificate(min).unwrap()).clone();
        config.resumption = Resumption::in_memory_sessions(16);
        let connector = TlsConnector::from(Arc::new(config));
        for _ in 0..3 {
            let (stream, _) = gateway.request(protocol::HYBRID).await;
            let name = ServerName::try_from("gateway").unwrap();
            let mut stream = connector.connect(name, stream).await.unwrap();
            assert_eq!(stream.get_ref().1.handshake_kind(), Some(HandshakeKind::Full));
            // what the gateway might send behind the handshake is read
            stream.shutdown().await.unwrap();
            let _ = stream.read_to_end(&mut Vec::new()).await;
            gateway.expect("client_logon_aborted").await;
        }
    }
}
