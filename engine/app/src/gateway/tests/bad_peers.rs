//! Peers that are broken, hostile or merely not there: each leaves one line with its own reason, and nothing else.

use std::io::Write as _;

use super::*;
use crate::gateway::tls::Identity;
use tokio_rustls::TlsAcceptor;

/// A desktop that answers every connection request with `answer` and then with `after`, and holds on until the gateway
/// closes. Its task ends with the fixture's runtime, so it runs on a thread of its own.
fn desktop_that_answers(answer: Vec<u8>, after: Vec<u8>) -> SocketAddr {
    use std::io::Read as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let mut scratch = [0; 4096];
            // the request, in one segment on the loopback
            if stream.read(&mut scratch).unwrap_or(0) > 0 && stream.write_all(&answer).is_ok() {
                let _ = stream.write_all(&after);
                while stream.read(&mut scratch).unwrap_or(0) > 0 {}
            }
        }
    });
    addr
}

/// A desktop that speaks TLS with its own certificate and then says nothing until the gateway closes.
pub(super) fn desktop_with_tls() -> (SocketAddr, String) {
    let dir = tempfile::tempdir().unwrap();
    let identity = Identity::load(None, None, dir.path()).unwrap();
    let fingerprint = identity.fingerprint.clone();
    (desktop_that_shows(identity), fingerprint)
}

/// The same with this certificate.
pub(super) fn desktop_that_shows(identity: Identity) -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            listener.set_nonblocking(true).unwrap();
            let listener = TcpListener::from_std(listener).unwrap();
            let acceptor = TlsAcceptor::from(identity.config);
            while let Ok((mut stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut request = vec![0; 4096];
                    let _ = stream.read(&mut request).await;
                    let _ = stream.write_all(&connection_confirm(protocol::SSL, 0)).await;
                    if let Ok(mut stream) = acceptor.accept(stream).await {
                        let _ = stream.read_to_end(&mut request).await;
                    }
                });
            }
        });
    });
    addr
}

#[tokio::test]
async fn strangers_leave_a_line_each_and_nothing_else() {
    let mut gateway = start(closed_port(), |_, _| {}).await;
    let whole = connection_request(protocol::SSL, Some("anna"));
    let cases: [(&[u8], &str); 9] = [
        (b"", "port_scan"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "http"),
        (&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC], "tls_before_x224"),
        (b"SSH-2.0-scan\r\n", "ssh"),
        (&[0xFF; 64], "not_rdp"),
        (&whole[..7], "x224_truncated"),
        (&[3, 0, 0xFF, 0xFF, 6, 0xE0], "x224_oversized"),
        (&[3, 0, 0, 4, 6, 0xE0], "x224_malformed"),
        (&[3, 0, 0, 11, 6, 0xD0, 0, 0, 0, 0, 0], "x224_not_a_request"),
    ];
    for (bytes, reason) in cases {
        assert_eq!(gateway.say(bytes).await, b"", "{reason} deserves no answer");
        gateway.expect(reason).await;
    }
    gateway.assert_clean().await;
}

/// Whoever comes and leaves doesn't choose the moment at which a desktop's certificate is trusted.
#[tokio::test]
async fn a_stranger_pins_no_certificate() {
    let (addr, _) = desktop_with_tls();
    let mut gateway = start(addr, |_, _| {}).await;
    let (stream, selected) = gateway.tls(protocol::SSL).await;
    assert_eq!(selected, protocol::SSL);
    drop(stream);
    gateway.expect("client_closed").await;
    let pins = gateway.shared.sessions.data_dir().join("pins.json");
    assert!(!pins.exists());
    gateway.assert_clean().await;
}

#[tokio::test]
async fn clients_without_common_security_are_told() {
    let mut gateway = start(closed_port(), |config, _| {
        config.gateway.client_security = vec![ClientSecurity::Tls];
    })
    .await;
    for (protocols, reason) in [
        (protocol::HYBRID, "client_requires_nla"),
        (protocol::STANDARD, "client_without_tls"),
    ] {
        let (peer, answer) = gateway.request(protocols).await;
        let told = ConnectionConfirm::parse(&answer).unwrap();
        assert_eq!(told, ConnectionConfirm::Failure(failure::SSL_REQUIRED));
        drop(peer);
        gateway.expect(reason).await;
    }
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_slow_client_is_timed_out() {
    let timeout = Duration::from_millis(50);
    let mut gateway = start(closed_port(), |config, _| {
        config.gateway.handshake_timeout = timeout;
    })
    .await;
    let mut peer = gateway.connect().await;
    peer.write_all(&[3, 0]).await.unwrap();
    gateway.expect("handshake_timeout").await;
    assert_eq!(read_all(&mut peer).await, b"");
    drop(peer);
    gateway.assert_clean().await;
}

#[tokio::test]
async fn desktops_that_cannot_be_used_have_their_own_reasons() {
    let nla = desktop_that_answers(connection_failure(failure::HYBRID_REQUIRED), Vec::new());
    let no_tls = desktop_that_answers(connection_failure(failure::SSL_NOT_ALLOWED), Vec::new());
    let standard = desktop_that_answers(connection_confirm(protocol::STANDARD, 0), Vec::new());
    let other = desktop_that_answers(connection_failure(failure::INCONSISTENT_FLAGS), Vec::new());
    let not_offered = desktop_that_answers(connection_confirm(protocol::HYBRID, 0), Vec::new());
    let http = desktop_that_answers(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Vec::new());
    let garbage = desktop_that_answers(connection_confirm(protocol::SSL, 0), vec![0x55; 64]);
    let silent = desktop_that_answers(Vec::new(), Vec::new());
    let cases = [
        (closed_port(), "desktop_unreachable", None),
        (nla, "desktop_requires_nla", Some(failure::HYBRID_REQUIRED)),
        (no_tls, "desktop_without_tls", Some(failure::SSL_NOT_ALLOWED)),
        (standard, "desktop_without_tls", Some(failure::SSL_NOT_ALLOWED)),
        (other, "desktop_negotiation", None),
        (not_offered, "desktop_negotiation", None),
        (http, "desktop_not_rdp", None),
        (garbage, "desktop_tls_failed", None),
        (silent, "desktop_connect_timeout", None),
    ];
    for (addr, reason, told) in cases {
        let mut gateway = start(addr, |config, _| {
            if reason == "desktop_connect_timeout" {
                config.gateway.connect_timeout = Duration::from_millis(50);
            }
        })
        .await;
        let answer = gateway
            .say(&connection_request(protocol::SSL | protocol::HYBRID, None))
            .await;
        match told {
            Some(code) => assert_eq!(
                ConnectionConfirm::parse(&answer),
                Ok(ConnectionConfirm::Failure(code)),
                "{reason}"
            ),
            // an X.224 disconnect request
            None => assert_eq!(answer.get(5), Some(&0x80), "{reason}: {answer:02x?}"),
        }
        gateway.expect(reason).await;
        gateway.assert_clean().await;
    }
}

#[tokio::test]
async fn desktops_are_found_by_name_only() {
    let mut gateway = start(closed_port(), |config, _| {
        config.gateway.default_desktop = None;
    })
    .await;
    gateway.say(&connection_request(protocol::SSL, None)).await;
    gateway.expect("desktop_not_named").await;
    gateway
        .say(&connection_request(protocol::SSL, Some("anna:nowhere")))
        .await;
    gateway.expect("desktop_unknown").await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_wrong_certificate_ends_the_attempt() {
    let (addr, fingerprint) = desktop_with_tls();
    let wrong = DesktopTls {
        sha256: Some("00".repeat(32)),
        ..first_use()
    };
    let right = DesktopTls {
        sha256: Some(fingerprint),
        ..first_use()
    };
    let authority = tempfile::tempdir().unwrap();
    Identity::load(None, None, authority.path()).unwrap();
    let untrusted = DesktopTls {
        verify: Verify::Ca,
        sha256: None,
        ca: Some(authority.path().join("gateway.crt")),
    };
    for (tls, reason) in [(wrong, "desktop_pin_mismatch"), (untrusted, "desktop_untrusted")] {
        let mut gateway = start(addr, |_, resources| {
            resources.desktops = vec![desktop("lab", addr, tls)];
        })
        .await;
        let answer = gateway.say(&connection_request(protocol::SSL, None)).await;
        assert_eq!(answer.get(5), Some(&0x80), "{answer:02x?}");
        gateway.expect(reason).await;
        gateway.assert_clean().await;
    }
    // the right pin gets further: to the client's own TLS, which this client does not want
    let mut gateway = start(addr, |_, resources| {
        resources.desktops = vec![desktop("lab", addr, right)];
    })
    .await;
    let (peer, answer) = gateway.request(protocol::SSL).await;
    assert!(matches!(
        ConnectionConfirm::parse(&answer),
        Ok(ConnectionConfirm::Selected {
            protocol: protocol::SSL,
            ..
        })
    ));
    drop(peer);
    gateway.expect("client_tls_aborted").await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn clients_hear_of_the_graphics_pipeline_where_it_may_be_used() {
    let (addr, _) = desktop_with_tls();
    let of_all = |graphics| (graphics, None);
    for ((gateway_wide, of_another), told) in [
        (of_all(Graphics::Auto), 0x03),
        (of_all(Graphics::Legacy), 0x01),
        (of_all(Graphics::Gfx), 0x03),
        // the desktop is not known yet
        ((Graphics::Auto, Some(Graphics::Legacy)), 0x03),
        ((Graphics::Legacy, Some(Graphics::Legacy)), 0x01),
        ((Graphics::Legacy, Some(Graphics::Auto)), 0x03),
        ((Graphics::Legacy, Some(Graphics::Gfx)), 0x03),
    ] {
        let mut gateway = start(addr, |config, resources| {
            config.gateway.graphics = gateway_wide;
            let mut other = desktop("other", addr, first_use());
            other.gateway.graphics = of_another;
            resources.desktops.push(other);
        })
        .await;
        let (peer, answer) = gateway.request(protocol::SSL).await;
        let Ok(ConnectionConfirm::Selected { flags, .. }) = ConnectionConfirm::parse(&answer) else {
            panic!("{answer:02x?}");
        };
        assert_eq!(flags, told, "{gateway_wide:?} {of_another:?}");
        drop(peer);
        gateway.expect("client_tls_aborted").await;
        gateway.assert_clean().await;
    }
}

#[tokio::test]
async fn clients_that_fail_in_tls_or_behind_it() {
    let (addr, _) = desktop_with_tls();
    let mut gateway = start(addr, |_, _| {}).await;

    let (mut peer, _) = gateway.request(protocol::SSL).await;
    peer.write_all(b"no TLS at all, but long enough").await.unwrap();
    read_all(&mut peer).await;
    gateway.expect("client_tls_failed").await;

    let connector = TlsConnector::from(tls::any_certificate(deskreel_config::TlsMin::Tls12).unwrap());
    let name = ServerName::try_from("gateway").unwrap();
    let (peer, _) = gateway.request(protocol::SSL).await;
    let mut peer = connector.connect(name.clone(), peer).await.unwrap();
    peer.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    gateway.expect("client_pdu_invalid").await;
    drop(peer);

    let (peer, _) = gateway.request(protocol::SSL).await;
    drop(connector.connect(name, peer).await.unwrap());
    gateway.expect("client_closed").await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_behind_tls_is_timed_out() {
    let (addr, _) = desktop_with_tls();
    let timeout = Duration::from_millis(50);
    let mut gateway = start(addr, |config, _| {
        config.gateway.activation_timeout = timeout;
    })
    .await;
    let connector = TlsConnector::from(tls::any_certificate(deskreel_config::TlsMin::Tls12).unwrap());
    let (peer, _) = gateway.request(protocol::SSL).await;
    let peer = connector
        .connect(ServerName::try_from("gateway").unwrap(), peer)
        .await
        .unwrap();
    gateway.expect("activation_timeout").await;
    drop(peer);
    gateway.assert_clean().await;
}

#[tokio::test]
async fn limits_refuse_and_recover() {
    let mut gateway = start(closed_port(), |config, _| {
        config.gateway.connections_per_address_max = 2;
    })
    .await;
    let first = gateway.connect().await;
    let second = gateway.connect().await;
    let mut third = gateway.connect().await;
    assert_eq!(read_all(&mut third).await, b"");
    gateway.expect("too_many_from_address").await;
    drop(first);
    gateway.expect("port_scan").await;
    drop(second);
    gateway.expect("port_scan").await;
    gateway.say(b"").await;
    gateway.expect("port_scan").await;
    drop(third);
    gateway.assert_clean().await;
}

#[tokio::test]
async fn strangers_fill_their_own_places_alone() {
    let mut gateway = start(closed_port(), |config, _| {
        config.gateway.sessions_max = 1;
        config.gateway.connections_pending_max = 2;
    })
    .await;
    let strangers = [gateway.connect().await, gateway.connect().await];
    let mut third = gateway.connect().await;
    assert_eq!(read_all(&mut third).await, b"");
    gateway.expect("too_many_pending").await;
    for stranger in strangers {
        drop(stranger);
        gateway.expect("port_scan").await;
    }
    drop(third);
    gateway.assert_clean().await;
}

#[tokio::test]
async fn shutdown_ends_what_is_open() {
    let (addr, _) = desktop_with_tls();
    let mut gateway = start(addr, |_, _| {}).await;
    let idle = gateway.connect().await;
    let connector = TlsConnector::from(tls::any_certificate(deskreel_config::TlsMin::Tls12).unwrap());
    let (peer, _) = gateway.request(protocol::SSL).await;
    let mut peer = connector
        .connect(ServerName::try_from("gateway").unwrap(), peer)
        .await
        .unwrap();
    gateway.stop_now();
    let mut rest = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, peer.read_to_end(&mut rest))
        .await
        .expect("the gateway closes");
    drop(idle);
    tokio::time::timeout(PATIENCE, &mut gateway.task)
        .await
        .unwrap()
        .unwrap();
    let ends = gateway.lines.ends();
    assert_eq!(ends.len(), 2, "{ends:?}");
    assert!(ends.iter().all(|(reason, _)| reason == "gateway_shutdown"), "{ends:?}");
    assert!(
        TcpStream::connect(gateway.addr).await.is_err(),
        "the port is free again"
    );
}
