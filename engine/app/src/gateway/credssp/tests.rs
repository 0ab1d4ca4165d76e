//! Our server against sspi's client, and our client against our server.

#![allow(clippy::unwrap_used, reason = "tests")]

use ironrdp_connector::sspi::credssp::{ClientMode, ClientState, CredSspClient, CredSspMode};
use ironrdp_connector::sspi::ntlm::NtlmConfig;
use ironrdp_connector::sspi::{AuthIdentity, NegotiateConfig, Username};
use md4::{Digest as _, Md4};
use tokio::io::AsyncWriteExt as _;

use super::client::{Account, LogonError, log_on};
use super::server::{ClientName, CredsspError, NtHash, Server, Step};
use super::*;

pub(super) const KEY: &[u8] = b"content of the subjectPublicKey";

pub(super) fn nt_hash(password: &str) -> NtHash {
    let text: Vec<u8> = password.encode_utf16().flat_map(u16::to_le_bytes).collect();
    Zeroizing::new(Md4::digest(text).into())
}

pub(super) fn raw() -> ClientMode {
    ClientMode::Ntlm(NtlmConfig::default())
}

pub(super) fn in_spnego() -> ClientMode {
    ClientMode::Negotiate(NegotiateConfig::new(
        Box::new(NtlmConfig::default()),
        Some("!kerberos,ntlm".to_owned()),
        "client".to_owned(),
    ))
}

/// What became of a logon: which secret was right, and the password that was delegated.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    name: ClientName,
    index: usize,
    password: String,
    /// Messages of the client.
    messages: usize,
}

/// sspi's client with `password` against our server with `secrets`.
fn logon(
    mode: ClientMode,
    version: u32,
    user: (&str, Option<&str>),
    password: &str,
    secrets: &[NtHash],
) -> Result<Outcome, CredsspError> {
    logon_with_key(mode, version, user, password, secrets, KEY)
}

fn logon_with_key(
    mode: ClientMode,
    version: u32,
    (user, domain): (&str, Option<&str>),
    password: &str,
    secrets: &[NtHash],
    seen_key: &[u8],
) -> Result<Outcome, CredsspError> {
    let identity = AuthIdentity {
        username: Username::new(user, domain).unwrap(),
        password: password.to_owned().into(),
    };
    let mut client = CredSspClient::new_with_version(
        seen_key.to_vec(),
        identity.into(),
        CredSspMode::WithCredentials,
        version,
        mode,
        "TERMSRV/gateway".to_owned(),
    )
    .unwrap();
    let mut server = Server::new(KEY.to_vec());
    let (mut name, mut index) = (None, None);
    let mut request = TsRequest::default();
    for messages in 1.. {
        let (ClientState::ReplyNeeded(message) | ClientState::FinalMessage(message)) =
            client.process(request).resolve_to_result().expect("the client goes on");
        let mut step = server.process(&encode(&message).unwrap())?;
        let reply = loop {
            match step {
                Step::Reply(reply) => break reply,
                Step::Named(named) => {
                    name = Some(named);
                    step = server.verify(secrets)?;
                }
                Step::Proven(proven) => {
                    index = Some(proven);
                    break server.confirm()?;
                }
                Step::Finished(delegated) => {
                    return Ok(Outcome {
                        name: name.unwrap(),
                        index: index.unwrap(),
                        password: delegated.password.to_string(),
                        messages,
                    });
                }
            }
        };
        request = TsRequest::from_buffer(&reply).unwrap();
    }
    unreachable!()
}

fn named(user: &str, domain: Option<&str>) -> ClientName {
    ClientName {
        user: user.to_owned(),
        domain: domain.map(str::to_owned),
    }
}

#[test]
fn right_passwords_by_ntlm_and_spnego() {
    for (mode, messages) in [(raw as fn() -> ClientMode, 3), (in_spnego, 4)] {
        for (user, domain) in [
            ("alice", None),
            ("alice:lab:root", None),
            ("alice", Some("CORP")),
            ("älice:läb", Some("CORP")),
        ] {
            let outcome = logon(mode(), 6, (user, domain), "sécret 1", &[nt_hash("sécret 1")]);
            let expected = Outcome {
                name: named(user, domain),
                index: 0,
                password: "sécret 1".to_owned(),
                messages,
            };
            assert_eq!(outcome, Ok(expected), "{user} {messages}");
        }
        // a name with an @ is one name
        let outcome = logon(mode(), 6, ("alice@example.com:lab", None), "x", &[nt_hash("x")]).unwrap();
        assert_eq!(outcome.name, named("alice@example.com:lab", None));
    }
}

#[test]
fn the_one_of_several_secrets_that_is_right() {
    let secrets = ["a", "b", "c"].map(nt_hash);
    for mode in [raw, in_spnego] {
        for (index, password) in ["a", "b", "c"].into_iter().enumerate() {
            let outcome = logon(mode(), 6, ("alice", None), password, &secrets).unwrap();
            assert_eq!((outcome.index, outcome.password.as_str()), (index, password));
        }
    }
}

#[test]
fn wrong_passwords_and_unknown_users_end_alike() {
    for mode in [raw, in_spnego] {
        let wrong = logon(mode(), 6, ("alice", None), "wrong", &[nt_hash("right")]);
        assert_eq!(wrong, Err(CredsspError::Denied));
        let unknown = logon(mode(), 6, ("nobody", None), "x", &[]);
        assert_eq!(unknown, Err(CredsspError::Denied));
    }
}

#[test]
fn another_key_is_somebody_in_between() {
    for version in [2, 6] {
        for mode in [raw, in_spnego] {
            let denied = logon_with_key(mode(), version, ("alice", None), "x", &[nt_hash("x")], b"another key");
            assert_eq!(denied, Err(CredsspError::Denied), "version {version}");
        }
    }
}

#[test]
fn clients_of_before_the_nonce() {
    for version in [2, 3, 4, 5] {
        let outcome = logon(raw(), version, ("alice", None), "x", &[nt_hash("x")]);
        assert_eq!(outcome.map(|outcome| outcome.index), Ok(0), "version {version}");
    }
}

#[test]
fn refusals_bear_a_status_from_version_3_on() {
    for (version, told) in [(2, false), (3, true), (6, true)] {
        let mut server = Server::new(KEY.to_vec());
        assert!(
            server.refuse(status::LOGON_FAILURE).is_none(),
            "no version is known yet"
        );
        let request = TsRequest {
            version,
            nego_tokens: Some(b"neither".to_vec()),
            ..TsRequest::default()
        };
        assert!(matches!(
            server.process(&encode(&request).unwrap()),
            Err(CredsspError::Protocol(_))
        ));
        let refusal = server.refuse(status::LOGON_FAILURE);
        assert_eq!(refusal.is_some(), told);
        if let Some(refusal) = refusal {
            let code = TsRequest::from_buffer(&refusal).unwrap().error_code.unwrap();
            assert_eq!(code.0, 0xC000_006D);
        }
    }
}

#[test]
fn broken_messages_end_the_logon_and_nothing_else() {
    let mut server = Server::new(KEY.to_vec());
    for bytes in [&b""[..], b"\x30\x00", b"\x30\x05\xA0\x03\x02\x01\x06", &[0x30; 40]] {
        assert!(
            matches!(server.process(bytes), Err(CredsspError::Protocol(_))),
            "{bytes:?}"
        );
    }
    // no name, no workstation
    let negotiate = [&b"NTLMSSP\0\x01\0\0\0\x05\x02\0\0"[..], &[0; 16]].concat();
    let right = TsRequest {
        nego_tokens: Some(negotiate),
        ..TsRequest::default()
    };
    let right = encode(&right).unwrap();
    assert!(Server::new(KEY.to_vec()).process(&right).is_ok());
    assert!(server.process(&right).is_err(), "a logon that has failed goes on");
    assert!(server.confirm().is_err() && server.verify(&[nt_hash("x")]).is_err());
    // a short pubKeyAuth, a short authInfo
    let identity = AuthIdentity {
        username: Username::new("alice", None).unwrap(),
        password: "x".to_owned().into(),
    };
    let mut client = CredSspClient::new(
        KEY.to_vec(),
        identity.into(),
        CredSspMode::WithCredentials,
        raw(),
        "TERMSRV/x".to_owned(),
    )
    .unwrap();
    let mut server = Server::new(KEY.to_vec());
    let mut turn = |request, server: &mut Server, cut: bool| {
        let (ClientState::ReplyNeeded(mut message) | ClientState::FinalMessage(mut message)) =
            client.process(request).resolve_to_result().unwrap();
        if let Some(key) = message.pub_key_auth.as_mut().filter(|_| cut) {
            key.truncate(3);
        }
        server.process(&encode(&message).unwrap()).unwrap()
    };
    let Step::Reply(challenge) = turn(TsRequest::default(), &mut server, false) else {
        panic!("no challenge")
    };
    let step = turn(TsRequest::from_buffer(&challenge).unwrap(), &mut server, true);
    assert!(matches!(step, Step::Named(_)), "{step:?}");
    assert_eq!(server.verify(&[nt_hash("x")]).unwrap_err(), CredsspError::Denied);
}

/// A desktop that lets `password` in, over a pipe; its early result, if it has one.
async fn desktop(
    password: &str,
    answer: Option<u32>,
    account: &Account<'_>,
) -> (Result<(), LogonError>, Option<String>) {
    let (mut ours, mut theirs) = tokio::io::duplex(4096);
    let secrets = [nt_hash(password)];
    let serve = async move {
        let mut server = Server::new(KEY.to_vec());
        loop {
            let message = read_message(&mut theirs).await.ok()?;
            let mut step = server.process(&message).ok()?;
            if let Step::Named(_) = step {
                match server.verify(&secrets) {
                    Ok(next) => step = next,
                    Err(_) => {
                        theirs.write_all(&server.refuse(status::LOGON_FAILURE)?).await.ok()?;
                        return None;
                    }
                }
            }
            let reply = match step {
                Step::Reply(reply) => reply,
                Step::Proven(_) => server.confirm().ok()?,
                Step::Finished(delegated) => {
                    if let Some(answer) = answer {
                        theirs.write_all(&answer.to_le_bytes()).await.ok()?;
                    }
                    return Some(delegated.password.to_string());
                }
                Step::Named(_) => return None,
            };
            theirs.write_all(&reply).await.ok()?;
        }
    };
    let log_on = log_on(&mut ours, KEY.to_vec(), "desktop", account, answer.is_some());
    tokio::join!(log_on, serve)
}

#[tokio::test]
async fn logs_on_to_desktops() {
    let account = Account {
        login: "svc",
        domain: Some("CORP"),
        password: "pä55",
    };
    let (done, seen) = desktop("pä55", None, &account).await;
    done.unwrap();
    assert_eq!(seen.as_deref(), Some("pä55"));
    let (done, _) = desktop("pä55", Some(early::SUCCESS), &account).await;
    done.unwrap();
    let (denied, _) = desktop("pä55", Some(early::ACCESS_DENIED), &account).await;
    assert!(matches!(denied, Err(LogonError::Unauthorised(5))), "{denied:?}");
    let (refused, seen) = desktop("other", None, &account).await;
    assert!(matches!(refused, Err(LogonError::Refused(0xC000_006D))), "{refused:?}");
    assert_eq!(seen, None);
}

#[tokio::test]
async fn desktops_of_before_the_nonce_get_nothing_sealed() {
    for version in [2, 4] {
        let (mut ours, mut theirs) = tokio::io::duplex(4096);
        let serve = async move {
            let negotiate = read_message(&mut theirs).await.unwrap();
            let Ok(Step::Reply(challenge)) = Server::new(KEY.to_vec()).process(&negotiate) else {
                panic!("no challenge")
            };
            let mut request = TsRequest::from_buffer(&challenge).unwrap();
            request.version = version;
            theirs.write_all(&encode(&request).unwrap()).await.unwrap();
            assert!(read_message(&mut theirs).await.is_err(), "version {version}");
        };
        let account = Account {
            login: "svc",
            domain: None,
            password: "x",
        };
        let log_on = async move { log_on(&mut ours, KEY.to_vec(), "desktop", &account, false).await };
        let (refused, ()) = tokio::join!(log_on, serve);
        assert!(matches!(refused, Err(LogonError::Protocol(_))), "{refused:?}");
    }
}

#[tokio::test]
async fn messages_are_read_one_by_one_and_bounded() {
    let whole = encode(&TsRequest::default()).unwrap();
    let mut two = whole.to_vec();
    two.push(7);
    let mut stream = two.as_slice();
    assert_eq!(*read_message(&mut stream).await.unwrap(), *whole);
    assert_eq!(stream, [7]);
    for wrong in [
        &[3, 0, 0, 11][..],
        &[0x30, 0x82, 0xFF, 0xFF],
        &[0x30, 0x84, 1, 1, 1],
        &[0x30],
    ] {
        let mut stream = wrong;
        assert!(read_message(&mut stream).await.is_err(), "{wrong:?}");
    }
}

#[test]
fn binds_to_the_bits_of_the_key() {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    use rcgen::PublicKeyData as _;
    assert_eq!(public_key(certificate.der()).unwrap(), key.der_bytes());
    assert!(public_key(b"none").is_err());
}
