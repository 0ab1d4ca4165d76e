//! A client with NLA that does what the real ones at hand don't: HYBRID_EX with its early user authorization result, SPNEGO
//! with and without a signature. What it is told is compared byte by byte.

use std::fs;
use std::path::Path;

use ironrdp_connector::sspi::credssp::{ClientMode, ClientState, CredSspClient, CredSspMode, TsRequest};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, NegotiateConfig, Username};
use tokio_rustls::client::TlsStream;
use zeroize::Zeroizing;

use super::*;
use crate::credentials::{Credentials, NewTicket};
use crate::demo::tests as demo;
use crate::gateway::credssp::{public_key, read_message};

pub(super) const PASSWORD: &str = "Sesam-oeffne-1";
pub(super) const LOGON_FAILURE: u32 = 0xC000_006D;
const ACCOUNT_LOCKED_OUT: u32 = 0xC000_0234;
const ACCESS_DENIED: u32 = 5;

/// How a client wraps its NTLM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wrap {
    Raw,
    Spnego,
    /// Without the signature of the list of mechanisms.
    SpnegoUnsigned,
}

/// What a client is told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// NTSTATUS of a refusal.
    pub(super) status: Option<u32>,
    /// The refusing message as it came.
    pub(super) refusal: Vec<u8>,
    /// What it knows was not seen before its `pubKeyAuth`.
    pub(super) late: bool,
    /// Early user authorization result.
    pub(super) early: Option<u32>,
}

/// Desktop `lab` at `addr`, and users: alice may, bob has no role, carol is disabled, dora expired, erin has no password,
/// frank is locked, gus has had too many sessions.
pub(super) fn folder(addr: SocketAddr, gateway: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let yaml = format!(
        "data_dir: ./data\ngateway: {{listen: '127.0.0.1:0', default_desktop: lab{gateway}}}\n\
         session_recording: off\naccess: {{resources_dir: ./resources}}\n"
    );
    fs::write(dir.path().join("deskreel.yaml"), yaml).unwrap();
    fs::create_dir(dir.path().join("resources")).unwrap();
    let mut resources = format!(
        "{{kind: windows_desktop, version: v3, metadata: {{name: lab, labels: {{env: test}}}}, spec: {{addr: '{addr}'}}}}\n---\n\
         {{kind: role, version: v7, metadata: {{name: tester}}, \
          spec: {{allow: {{windows_desktop_labels: {{env: test}}, windows_desktop_logins: ['{{{{internal.windows_logins}}}}']}}}}}}\n---\n\
         {{kind: lock, version: v2, metadata: {{name: l1}}, spec: {{target: {{user: frank}}, message: away}}}}\n"
    );
    for (name, roles, more) in [
        ("alice", "tester", ""),
        ("bob", "", ""),
        ("carol", "tester", "status: {is_locked: true}, "),
        ("dora", "tester", ""),
        ("erin", "tester", ""),
        ("frank", "tester", ""),
    ] {
        let expires = if name == "dora" {
            ", expires: '2020-01-01T00:00:00Z'"
        } else {
            ""
        };
        resources += &format!(
            "---\n{{kind: user, version: v2, metadata: {{name: {name}{expires}}}, \
             spec: {{{more}roles: [{roles}], traits: {{windows_logins: [{name}]}}}}}}\n"
        );
    }
    fs::write(dir.path().join("resources/all.yaml"), resources).unwrap();
    for name in ["alice", "bob", "carol", "dora", "frank"] {
        set_password(dir.path(), name);
    }
    dir
}

fn set_password(dir: &Path, user: &str) {
    let data = dir.join("data");
    fs::create_dir_all(&data).unwrap();
    let store = Credentials::open(&data).unwrap();
    store.set_password(user, &Zeroizing::new(PASSWORD.to_owned())).unwrap();
}

fn credssp(key: Vec<u8>, wrap: Wrap, user: &str, password: &str) -> CredSspClient {
    let identity = AuthIdentity {
        username: Username::new(user, None).unwrap(),
        password: password.to_owned().into(),
    };
    let ntlm = NtlmConfig::default();
    let mode = match wrap {
        Wrap::Raw => ClientMode::Ntlm(ntlm),
        Wrap::Spnego | Wrap::SpnegoUnsigned => {
            let packages = Some("!kerberos,ntlm".to_owned());
            ClientMode::Negotiate(NegotiateConfig::new(Box::new(ntlm), packages, "client".to_owned()))
        }
    };
    let target = "TERMSRV/gateway".to_owned();
    CredSspClient::new(key, identity.into(), CredSspMode::WithCredentials, mode, target).unwrap()
}

/// DER of one element.
fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x82], &length[..], content].concat()
}

/// A NegTokenResp with the NTLM message in `token` and nothing else; the message says of itself that it has no integrity
/// check either ([MS-NLMP] 2.2.2.1, MsvAvFlags).
fn unsigned(token: &[u8]) -> Vec<u8> {
    let at = token.windows(8).position(|window| window == b"NTLMSSP\0").unwrap();
    let length = match token[..at] {
        [.., 4, 0x82, high, low] => usize::from(u16::from_be_bytes([high, low])),
        [.., 4, 0x81, length] | [.., 4, length] => usize::from(length),
        _ => panic!("no octet string"),
    };
    let mut message = token[at..at + length].to_vec();
    let flags = message.windows(8).position(|window| window == [6, 0, 4, 0, 2, 0, 0, 0]);
    message[flags.expect("MsvAvFlags") + 4] = 0;
    der(0xA1, &der(0x30, &der(0xA2, &der(4, &message))))
}

async fn send(stream: &mut TlsStream<TcpStream>, request: &TsRequest) {
    let mut bytes = Vec::new();
    request.encode_ts_request(&mut bytes).unwrap();
    stream.write_all(&bytes).await.unwrap();
    stream.flush().await.unwrap();
}

impl Running {
    /// Connects up to TLS.
    pub(super) async fn tls(&self, protocols: u32) -> (TlsStream<TcpStream>, u32) {
        let (stream, answer) = self.request(protocols).await;
        let Ok(ConnectionConfirm::Selected { protocol, .. }) = ConnectionConfirm::parse(&answer) else {
            panic!("{answer:02x?}");
        };
        let connector = TlsConnector::from(tls::any_certificate(deskreel_config::TlsMin::Tls12).unwrap());
        let stream = connector
            .connect(ServerName::try_from("gateway").unwrap(), stream)
            .await;
        (stream.unwrap(), protocol)
    }

    /// A whole logon; the stream is what is left of it.
    pub(super) async fn log_on(
        &self,
        protocols: u32,
        wrap: Wrap,
        user: &str,
        password: &str,
    ) -> (Told, TlsStream<TcpStream>) {
        let (mut stream, selected) = self.tls(protocols).await;
        let certificate = stream.get_ref().1.peer_certificates().unwrap()[0].clone();
        let mut client = credssp(public_key(&certificate).unwrap(), wrap, user, password);
        let mut told = Told::default();
        let mut answer = TsRequest::default();
        for round in 0.. {
            let (mut message, last) = match client.process(answer).resolve_to_result().unwrap() {
                ClientState::ReplyNeeded(message) => (message, false),
                ClientState::FinalMessage(message) => (message, true),
            };
            let token = message.nego_tokens.as_deref().unwrap_or_default();
            if wrap == Wrap::SpnegoUnsigned && round > 0 && token.windows(8).any(|window| window == b"NTLMSSP\0") {
                message.nego_tokens = Some(unsigned(token));
                send(&mut stream, &message).await;
                let reply = read_message(&mut stream).await.unwrap();
                if let Some(code) = TsRequest::from_buffer(&reply).unwrap().error_code {
                    told.status = Some(code.0);
                    told.refusal = reply.to_vec();
                    break;
                }
                told.late = true;
                message = TsRequest {
                    version: message.version,
                    pub_key_auth: Some(vec![7; 48]),
                    client_nonce: Some([7; 32]),
                    ..TsRequest::default()
                };
            }
            send(&mut stream, &message).await;
            if last {
                break;
            }
            let reply = read_message(&mut stream).await.unwrap();
            answer = TsRequest::from_buffer(&reply).unwrap();
            if let Some(code) = &answer.error_code {
                told.status = Some(code.0);
                told.refusal = reply.to_vec();
                break;
            }
        }
        if selected == protocol::HYBRID_EX {
            let early = tokio::time::timeout(PATIENCE, stream.read_u32_le()).await.unwrap();
            told.early = early.ok();
        }
        (told, stream)
    }
}

#[tokio::test]
async fn early_results() {
    let (addr, _) = bad_peers::desktop_with_tls();
    for wrap in [Wrap::Raw, Wrap::Spnego] {
        let mut gateway = start_in(folder(addr, "")).await;
        let all = protocol::SSL | protocol::HYBRID | protocol::HYBRID_EX;
        let (told, stream) = gateway.log_on(all, wrap, "alice", PASSWORD).await;
        let welcome = Told {
            early: Some(0),
            ..Told::default()
        };
        assert_eq!(told, welcome, "{wrap:?}");
        drop(stream);
        gateway.expect("client_closed").await;
        // who has proved the own name but is not let in learns it after the exchange, and only that
        for (user, reason) in [
            ("bob", "denied_no_desktop"),
            ("carol", "denied_user_locked"),
            ("frank", "locked"),
            ("alice:nowhere", "denied_desktop_unknown"),
            ("alice:lab:root", "denied_no_login"),
        ] {
            let (told, _) = gateway.log_on(all, wrap, user, PASSWORD).await;
            let refused = Told {
                early: Some(ACCESS_DENIED),
                ..Told::default()
            };
            assert_eq!(told, refused, "{user} {wrap:?}");
            gateway.expect(reason).await;
        }
        let (told, _) = gateway.log_on(all, wrap, "alice", "wrong").await;
        assert_eq!(
            (told.status, told.early),
            (Some(LOGON_FAILURE), Some(ACCESS_DENIED)),
            "{wrap:?}"
        );
        gateway.expect("wrong_password").await;
    }
}

/// xfreerdp 2.11 offers HYBRID_EX (`/sec:ext`) and gives up when it is chosen; IronRDP's client is the only other one at hand
/// that knows it. One who may works on the desktop; who may not is told by the early result.
#[tokio::test]
async fn another_client_takes_the_early_result() {
    let desktop = demo::Desktop::start().unwrap();
    let dir = folder(desktop.address, "");
    let (file, secret) = (dir.path().join("resources/all.yaml"), dir.path().join("secret"));
    fs::write(&secret, demo::PASSWORD).unwrap();
    let login = format!("{{login: {}, password: {{file: '{}'}}}}", demo::USER, secret.display());
    let addr = format!("addr: '{}'", desktop.address);
    let resources = fs::read_to_string(&file).unwrap();
    let resources = resources
        .replace(
            &addr,
            &format!("{addr}, gateway: {{credentials: {{logins: [{login}]}}}}"),
        )
        .replace("windows_logins: [alice]", &format!("windows_logins: [{}]", demo::USER));
    fs::write(&file, resources).unwrap();
    let mut gateway = start_in(dir).await;
    let addr = gateway.addr;
    let connect = async |user, password| {
        let connected = demo::connect_by_nla(addr, (user, password), |shown| public_key(shown).unwrap());
        let connected = tokio::time::timeout(PATIENCE, connected).await.unwrap();
        connected.map_err(|error| format!("{:?}", error.kind()))
    };
    assert_eq!(connect("alice", PASSWORD).await, Ok(()));
    let (reason, detail) = gateway.next_end().await;
    assert!(reason.starts_with("client_"), "{reason}: {detail}");
    let (_, selected) = gateway
        .tls(protocol::SSL | protocol::HYBRID | protocol::HYBRID_EX)
        .await;
    assert_eq!(selected, protocol::HYBRID_EX, "what that client offers too");
    gateway.expect("client_logon_aborted").await;
    for (user, reason) in [
        ("bob", "denied_no_desktop"),
        ("carol", "denied_user_locked"),
        ("frank", "locked"),
    ] {
        assert_eq!(connect(user, PASSWORD).await, Err("AccessDenied".to_owned()), "{user}");
        gateway.expect(reason).await;
    }
    let refused = connect("alice", "wrong").await.unwrap_err();
    assert!(!refused.is_empty(), "{refused}");
    gateway.expect("wrong_password").await;
    gateway.assert_clean().await;
}

/// The logons run side by side, and the gateway looks tickets up and takes them on threads.
#[tokio::test]
async fn of_logons_at_once_with_one_ticket_one_gets_in() {
    let (addr, _) = bad_peers::desktop_with_tls();
    let dir = folder(addr, ", logon_failures_max: 100");
    let store = Credentials::open(&dir.path().join("data")).unwrap();
    let gateway = start_in(dir).await;
    let new = NewTicket {
        user: "alice".to_owned(),
        desktop: "lab".to_owned(),
        login: None,
        ttl: Duration::from_secs(60),
    };
    let (_, secret) = store.issue_ticket(new).unwrap();
    let log_on = || gateway.log_on(protocol::HYBRID, Wrap::Raw, "alice", &secret);
    let (a, b, c, d, e, f) = tokio::join!(log_on(), log_on(), log_on(), log_on(), log_on(), log_on());
    let (told, streams): (Vec<_>, Vec<_>) = [a, b, c, d, e, f].into_iter().unzip();
    let inside = told.iter().filter(|told| told.status.is_none()).count();
    assert_eq!(inside, 1, "{told:?}");
    drop(streams);
    let ended = tokio::time::timeout(PATIENCE, async {
        while gateway.lines.ends().len() < 6 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    ended.await.expect("all end");
    let reasons: Vec<String> = gateway.lines.ends().into_iter().map(|(reason, _)| reason).collect();
    let closed = reasons.iter().filter(|reason| *reason == "client_closed").count();
    // the last of them may come when so many have failed that one has to wait
    let refused = |reason: &&String| ["ticket_gone", "wrong_password", "user_waits"].contains(&reason.as_str());
    assert_eq!((closed, reasons.iter().filter(refused).count()), (1, 5), "{reasons:?}");
}

#[tokio::test]
async fn a_desktop_that_is_away_shows_in_the_early_result() {
    let nobody = closed_port();
    let mut gateway = start_in(folder(nobody, "")).await;
    let (told, _) = gateway.log_on(protocol::HYBRID_EX, Wrap::Raw, "alice", PASSWORD).await;
    assert_eq!((told.status, told.early), (None, Some(ACCESS_DENIED)));
    gateway.expect("desktop_unreachable").await;
}

/// Whoever has not proved a name learns nothing of it: the answers are the same bytes for names that are there, that are
/// not, that are disabled, expired, locked or without a password.
#[tokio::test]
async fn refusals_are_the_same_bytes_for_everybody() {
    let nobody = closed_port();
    for (protocols, early) in [(protocol::HYBRID, None), (protocol::HYBRID_EX, Some(ACCESS_DENIED))] {
        for wrap in [Wrap::Raw, Wrap::Spnego, Wrap::SpnegoUnsigned] {
            let mut gateway = start_in(folder(nobody, "")).await;
            let (first, _) = gateway.log_on(protocols, wrap, "alice", "wrong").await;
            assert_eq!((first.status, first.early), (Some(LOGON_FAILURE), early), "{wrap:?}");
            assert!(!first.late, "{wrap:?}");
            gateway.expect("wrong_password").await;
            for (user, reason) in [
                ("bob", "wrong_password"),
                ("carol", "wrong_password"),
                ("dora", "unknown_user"),
                ("erin", "unknown_user"),
                ("frank", "wrong_password"),
                ("nobody", "unknown_user"),
                ("nobody:lab:root", "unknown_user"),
                ("alice:nowhere", "wrong_password"),
            ] {
                let (told, _) = gateway.log_on(protocols, wrap, user, "wrong").await;
                assert_eq!(told, first, "{user} {wrap:?}");
                gateway.expect(reason).await;
            }
        }
    }
    // who has proved the name may know that it is locked
    let mut gateway = start_in(folder(nobody, "")).await;
    for (user, reason) in [("frank", "locked"), ("carol", "denied_user_locked")] {
        let (told, _) = gateway.log_on(protocol::HYBRID, Wrap::Raw, user, PASSWORD).await;
        assert_eq!(told.status, Some(ACCOUNT_LOCKED_OUT));
        gateway.expect(reason).await;
    }
    for (user, reason) in [("bob", "denied_no_desktop"), ("dora", "unknown_user")] {
        let (told, _) = gateway.log_on(protocol::HYBRID, Wrap::Raw, user, PASSWORD).await;
        assert_eq!(told.status, Some(LOGON_FAILURE), "{user}");
        gateway.expect(reason).await;
    }
}
