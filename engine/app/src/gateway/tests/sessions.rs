//! Sessions that real peers once had, played again through the gateway: what each leg receives is what the filter, asked
//! beside it, says; and how such sessions end.

use deskreel_config::OnFailure;
use deskreel_rdp::Direction;
use deskreel_rdp::phase::{self, FilterOptions, PhaseEvent, Phases, Verdict};
use deskreel_rdp::wire::find_pdu;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{client, server};

use super::*;
use crate::gateway::tls::Identity;
use crate::pipeline::{Answer, Storage};
use deskreel_sdk::{Error, ErrorKind, PutOptions};
use tokio_rustls::TlsAcceptor;

/// Captured handshakes and what followed; README.md beside them has the format.
pub(super) const XRDP: &[u8] = include_bytes!("../../../../rdp/fixtures/handshakes/xrdp_default.bin");
pub(super) const XRDP_RESIZE: &[u8] = include_bytes!("../../../../rdp/fixtures/handshakes/xrdp_resize.bin");
pub(super) const SHADOW: &[u8] = include_bytes!("../../../../rdp/fixtures/handshakes/shadow_default.bin");

/// The captured PDUs behind the X.224 negotiation.
pub(super) fn records(mut bytes: &[u8]) -> Vec<(Direction, Vec<u8>)> {
    let mut records = Vec::new();
    while let [way, a, b, c, d, rest @ ..] = bytes {
        let (pdu, rest) = rest.split_at(u32::from_le_bytes([*a, *b, *c, *d]) as usize);
        let direction = if *way == 0 {
            Direction::ToDesktop
        } else {
            Direction::ToClient
        };
        records.push((direction, pdu.to_vec()));
        bytes = rest;
    }
    records.split_off(2)
}

/// Both ends of one session.
pub(super) struct Ends {
    pub(super) client: client::TlsStream<TcpStream>,
    pub(super) desktop: server::TlsStream<TcpStream>,
    /// Says what the gateway's own filter will do.
    pub(super) model: Phases,
}

/// A gateway before a desktop that the test speaks for, and a session up to TLS on both legs.
pub(super) async fn connected(
    change: impl FnOnce(&mut Config, &mut Resources),
    storages: Vec<Arc<dyn Storage>>,
) -> (Running, Ends) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gateway = start_with(listener.local_addr().unwrap(), change, storages).await;
    let ends = meet(&gateway, &listener).await;
    (gateway, ends)
}

/// A session up to TLS on both legs; the desktop listens on `listener`.
pub(super) async fn meet(gateway: &Running, listener: &TcpListener) -> Ends {
    let said = connection_request(protocol::SSL | protocol::HYBRID, Some("anna"));
    meet_as(
        gateway,
        listener,
        &said,
        &connection_request(protocol::SSL, Some("anna")),
    )
    .await
}

/// The same of a client that says `said` first, of which the desktop hears `heard`.
pub(super) async fn meet_as(gateway: &Running, listener: &TcpListener, said: &[u8], heard: &[u8]) -> Ends {
    let desktop = async {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::load(None, None, dir.path()).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = vec![0; heard.len()];
        stream.read_exact(&mut request).await.unwrap();
        assert_eq!(request, heard);
        stream.write_all(&connection_confirm(protocol::SSL, 0)).await.unwrap();
        TlsAcceptor::from(identity.config).accept(stream).await.unwrap()
    };
    let client = async {
        let mut stream = gateway.connect().await;
        stream.write_all(said).await.unwrap();
        let mut answer = [0; 19];
        let answered = stream.read_exact(&mut answer);
        tokio::time::timeout(PATIENCE, answered).await.unwrap().unwrap();
        let connector = TlsConnector::from(tls::any_certificate(deskreel_config::TlsMin::Tls12).unwrap());
        connector
            .connect(ServerName::try_from("gateway").unwrap(), stream)
            .await
            .unwrap()
    };
    let (desktop, client) = tokio::join!(desktop, client);
    let model = model();
    Ends { client, desktop, model }
}

/// A filter like the gateway's own.
fn model() -> Phases {
    Phases::new(FilterOptions {
        requested_protocols: protocol::SSL | protocol::HYBRID,
        selected_protocol: protocol::SSL,
        desktop: "lab".to_owned(),
        graphics: phase::Graphics::Gfx,
        ..FilterOptions::default()
    })
}

/// What the filter says, and makes of a Client Info that is let go as it is.
fn through(model: &mut Phases, direction: Direction, pdu: &mut Vec<u8>) -> Verdict {
    let mut verdict = model.pdu(direction, pdu).unwrap();
    if verdict.logon.take().is_some() {
        model.log_on(pdu, None).unwrap();
        verdict.forward = true;
    }
    verdict
}

pub(super) async fn read_pdu<S: AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let mut pdu = Vec::new();
    let read = async {
        loop {
            match find_pdu(&pdu).unwrap() {
                Some(length) if length == pdu.len() => return,
                _ => pdu.push(stream.read_u8().await.unwrap()),
            }
        }
    };
    tokio::time::timeout(PATIENCE, read).await.expect("a PDU arrives");
    pdu
}

pub(super) async fn send<S: AsyncWrite + Unpin>(stream: &mut S, bytes: &[u8]) {
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
}

impl Ends {
    async fn exchange(&mut self, direction: Direction, pdu: &[u8], forwarded: Option<Vec<u8>>, reply: Option<Vec<u8>>) {
        let Self { client, desktop, .. } = self;
        match direction {
            Direction::ToDesktop => exchange(client, desktop, pdu, forwarded, reply).await,
            Direction::ToClient => exchange(desktop, client, pdu, forwarded, reply).await,
        }
    }

    /// Plays a capture up to the first PDU of which the filter tells an event that `until` wants; sends that one, but
    /// expects nothing of it.
    async fn play_until(&mut self, capture: &[u8], until: impl Fn(&PhaseEvent) -> bool) {
        for (direction, pdu) in records(capture) {
            let mut expected = pdu.clone();
            let verdict = through(&mut self.model, direction, &mut expected);
            let last = verdict.events.iter().any(&until);
            let forwarded = (verdict.forward && !last).then_some(expected);
            self.exchange(direction, &pdu, forwarded, verdict.reply).await;
            if last {
                return;
            }
        }
        panic!("the capture does not come that far");
    }

    /// Plays what comes before the first PDU of which the filter tells an event that `until` wants, and gives that one.
    pub(super) async fn play_before(&mut self, capture: &[u8], until: impl Fn(&PhaseEvent) -> bool) -> Vec<u8> {
        let mut records = records(capture);
        let mut ahead = model();
        let is_it = |(direction, pdu): &(Direction, Vec<u8>)| {
            let verdict = through(&mut ahead, *direction, &mut pdu.clone());
            verdict.events.iter().any(&until)
        };
        let end = records.iter().position(is_it).expect("the capture comes that far");
        let (_, wanted) = records.remove(end);
        for (direction, pdu) in records.into_iter().take(end) {
            self.step(direction, &pdu).await;
        }
        wanted
    }

    pub(super) async fn step(&mut self, direction: Direction, pdu: &[u8]) {
        let mut expected = pdu.to_vec();
        let verdict = through(&mut self.model, direction, &mut expected);
        self.exchange(direction, pdu, verdict.forward.then_some(expected), verdict.reply)
            .await;
    }

    /// Plays a whole capture; checks what comes out on both legs.
    pub(super) async fn play(&mut self, capture: &[u8]) {
        for (direction, pdu) in records(capture) {
            self.step(direction, &pdu).await;
        }
    }

    /// What the client gets until the gateway closes.
    pub(super) async fn last_words(&mut self) -> Vec<u8> {
        let mut words = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.client.read_to_end(&mut words))
            .await
            .expect("the gateway closes");
        words
    }

    /// What the desktop gets until the gateway closes.
    async fn rest_at_desktop(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, self.desktop.read_to_end(&mut rest))
            .await
            .expect("the gateway closes");
        rest
    }
}

async fn exchange<S, R>(
    sender: &mut S,
    receiver: &mut R,
    pdu: &[u8],
    forwarded: Option<Vec<u8>>,
    reply: Option<Vec<u8>>,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    R: AsyncRead + Unpin,
{
    send(sender, pdu).await;
    if let Some(expected) = forwarded {
        assert_eq!(read_pdu(receiver).await, expected);
    }
    if let Some(expected) = reply {
        assert_eq!(read_pdu(sender).await, expected);
    }
}

#[tokio::test]
async fn captured_sessions_pass_as_the_filter_says() {
    for capture in [XRDP, XRDP_RESIZE, SHADOW] {
        let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
        ends.play(capture).await;
        drop(ends);
        let (reason, detail) = gateway.next_end().await;
        assert!(
            matches!(reason.as_str(), "client_closed" | "desktop_closed"),
            "{reason}: {detail}"
        );
        gateway.assert_clean().await;
    }
}

#[tokio::test]
async fn sessions_are_counted_when_they_have_logged_on() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let one = |config: &mut Config, resources: &mut Resources| {
        config.gateway.sessions_max = 1;
        resources.desktops[0].gateway.tls.verify = Verify::None;
    };
    let mut gateway = start_with(listener.local_addr().unwrap(), one, Vec::new()).await;
    let mut first = meet(&gateway, &listener).await;
    let mut second = meet(&gateway, &listener).await;
    first.play(XRDP).await;
    second
        .play_until(XRDP, |event| matches!(event, PhaseEvent::ClientInfo))
        .await;
    let words = second.last_words().await;
    assert_eq!(words, second.model.error_info(0x7).concat());
    assert_eq!(second.rest_at_desktop().await, b"", "Client Info stays here");
    drop(second);
    gateway.expect("too_many_sessions").await;
    drop(first);
    gateway.next_end().await;
    gateway.assert_clean().await;
    let mut third = meet(&gateway, &listener).await;
    third.play(XRDP).await;
    drop(third);
    gateway.next_end().await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn many_pdus_at_once_keep_their_order_and_bytes() {
    let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
    ends.play(SHADOW).await;
    // fast-path pointer positions: more than one batch, more than one TLS record, cut anywhere
    let mut updates = Vec::new();
    for index in 0..60_000_u32 {
        let position = index.to_le_bytes();
        updates.extend_from_slice(&[0x00, 0x09, 0x08, 0x04, 0x00]);
        updates.extend_from_slice(&position);
    }
    let Ends { client, desktop, .. } = &mut ends;
    let (mut client, mut desktop) = (client, desktop);
    let mut received = vec![0; updates.len()];
    let sending = async {
        for piece in updates.chunks(10_007) {
            send(&mut desktop, piece).await;
        }
    };
    let receiving = tokio::time::timeout(PATIENCE, client.read_exact(&mut received));
    let ((), received_all) = tokio::join!(sending, receiving);
    received_all.unwrap().unwrap();
    assert!(received == updates, "bytes differ");
    send(&mut client, &[0x04, 0x05, 0x00, 0x1E, 0x00]).await;
    assert_eq!(read_pdu(&mut desktop).await, [0x04, 0x05, 0x00, 0x1E, 0x00]);
    drop(ends);
    gateway.next_end().await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_stop_is_told_to_the_client() {
    let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
    ends.play(XRDP).await;
    gateway.stop_now();
    let words = ends.last_words().await;
    assert_eq!(words, ends.model.error_info(0x1).concat());
    assert!(!words.is_empty());
    drop(ends);
    gateway.expect("gateway_shutdown").await;
}

#[tokio::test]
async fn a_claimed_name_is_refused_before_the_desktop_hears_of_it() {
    let deny = |config: &mut Config, _: &mut Resources| config.access.claimed_identity = ClaimedIdentity::Deny;
    let (mut gateway, mut ends) = connected(deny, Vec::new()).await;
    ends.play_until(XRDP, |event| matches!(event, PhaseEvent::ClientInfo))
        .await;
    let words = ends.last_words().await;
    assert_eq!(words, ends.model.error_info(0x9).concat());
    assert_eq!(ends.rest_at_desktop().await, b"", "Client Info stays here");
    drop(ends);
    gateway.expect("identity_denied").await;
    // The event is written after the line in the log; no session is left when both are there.
    gateway.assert_clean().await;
    let data_dir = gateway.shared.sessions.data_dir();
    let told = crate::audit::last(data_dir, &crate::audit::Filter::default(), 10).unwrap();
    let refused = told.last().expect("a refusal is an event");
    assert_eq!(refused.text("code"), "TDP00W", "{}", refused.text);
    assert_eq!(refused.text("error"), "identity_denied");
    assert_eq!(refused.text("desktop_name"), "lab");
    assert!(!refused.text("user").is_empty());
    let decision = &refused.fields["decision"];
    assert_eq!(
        (&decision["verdict"], &decision["reason"]),
        (&"deny".into(), &"identity_not_proven".into())
    );
    gateway.assert_clean().await;
}

/// A name that nobody has, a wrong password: without NLA too the answers are the same, the desktop hears nothing, and it counts.
#[tokio::test]
async fn guesses_without_nla_look_alike_and_count() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let change = |config: &mut Config, _: &mut Resources| {
        config.access.claimed_identity = ClaimedIdentity::Deny;
        config.gateway.client_security = vec![ClientSecurity::Tls];
        config.gateway.logon_failures_per_address_max = 3;
        config.gateway.logon_block = Duration::from_secs(3600);
    };
    let mut gateway = start_with(listener.local_addr().unwrap(), change, Vec::new()).await;
    let mut first = Vec::new();
    for reason in ["identity_denied", "wrong_password", "wrong_password"] {
        let mut ends = meet(&gateway, &listener).await;
        let info = ends.play_before(XRDP, |event| matches!(event, PhaseEvent::ClientInfo));
        let info = info.await;
        let user = {
            through(&mut ends.model, Direction::ToDesktop, &mut info.clone());
            ends.model.facts().user_name.clone()
        };
        if reason != "identity_denied" {
            let another = zeroize::Zeroizing::new("another password".to_owned());
            gateway.shared.credentials.set_password(&user, &another).unwrap();
        }
        send(&mut ends.client, &info).await;
        let words = ends.last_words().await;
        assert!(!words.is_empty());
        if first.is_empty() {
            first.clone_from(&words);
        }
        assert_eq!(words, first, "{reason}");
        assert_eq!(ends.rest_at_desktop().await, b"", "Client Info stays here");
        drop(ends);
        gateway.expect(reason).await;
    }
    for _ in 0..3 {
        let answer = gateway.say(&connection_request(protocol::SSL, None)).await;
        assert_eq!(answer.get(5), Some(&0x80), "an X.224 disconnect request: {answer:02x?}");
        gateway.expect("address_blocked").await;
    }
    gateway.assert_clean().await;
    // who goes on guessing doesn't fill the audit log
    let told = crate::audit::last(gateway.shared.sessions.data_dir(), &crate::audit::Filter::default(), 20).unwrap();
    let errors: Vec<String> = told.iter().map(|event| event.text("error").to_string()).collect();
    assert_eq!(
        errors.iter().filter(|error| *error == "wrong_password").count(),
        4,
        "{errors:?}"
    );
    assert!(!errors.iter().any(|error| error == "address_blocked"), "{errors:?}");
}

/// A storage that keeps nothing; whether it takes it all the same.
pub(super) struct Nowhere {
    pub(super) takes: bool,
}

impl Storage for Nowhere {
    fn name(&self) -> &str {
        "nowhere"
    }

    fn mode(&self) -> deskreel_config::Mode {
        deskreel_config::Mode::Sync
    }

    fn required(&self) -> bool {
        true
    }

    fn concurrency(&self) -> usize {
        1
    }

    fn put(&self, _key: String, _bytes: bytes::Bytes, _: PutOptions) -> Answer<'_, ()> {
        let answer = if self.takes { Ok(()) } else { Err(broken()) };
        Box::pin(async { answer })
    }

    fn get(&self, _key: String) -> Answer<'_, bytes::Bytes> {
        Box::pin(async { Err(broken()) })
    }

    fn get_range(&self, _key: String, _range: std::ops::Range<u64>) -> Answer<'_, bytes::Bytes> {
        Box::pin(async { Err(broken()) })
    }

    fn list(&self, _prefix: String) -> Answer<'_, Vec<String>> {
        Box::pin(async { Err(broken()) })
    }

    fn check(&self) -> Answer<'_, ()> {
        let answer = if self.takes { Ok(()) } else { Err(broken()) };
        Box::pin(async { answer })
    }
}

fn broken() -> Error {
    Error::new(ErrorKind::NoSpace, "disk is full")
}

#[tokio::test]
async fn nothing_is_shown_that_cannot_be_recorded() {
    let record = |config: &mut Config, _: &mut Resources| {
        config.session_recording.mode = RecordingMode::On;
        config.session_recording.on_failure = OnFailure::Strict;
    };
    let (mut gateway, mut ends) = connected(record, vec![Arc::new(Nowhere { takes: false })]).await;
    ends.play_until(XRDP, |event| matches!(event, PhaseEvent::Activating { .. }))
        .await;
    let words = ends.last_words().await;
    assert_eq!(words, ends.model.error_info(0x7).concat(), "no Demand Active");
    assert!(!words.is_empty());
    drop(ends);
    let (reason, detail) = gateway.next_end().await;
    assert_eq!(reason, "recording_refused", "{detail}");
    assert!(detail.contains("disk is full"), "{detail}");
    gateway.assert_clean().await;
}

#[tokio::test]
async fn half_a_pdu_and_the_end_is_a_lost_desktop() {
    let (mut gateway, mut ends) = connected(|_, _| {}, Vec::new()).await;
    ends.play(SHADOW).await;
    send(&mut ends.desktop, &[3, 0, 1]).await;
    ends.desktop.shutdown().await.unwrap();
    assert_eq!(ends.last_words().await, b"");
    drop(ends);
    gateway.expect("desktop_lost").await;
    gateway.assert_clean().await;
}

#[tokio::test]
async fn a_limited_session_is_no_faster_than_it_may_be() {
    const MAX: u64 = 200 << 10;
    let limit = |config: &mut Config, _: &mut Resources| config.gateway.bandwidth_max = Some(MAX);
    let (mut gateway, mut ends) = connected(limit, Vec::new()).await;
    ends.play(SHADOW).await;
    let updates = [0x00, 0x09, 0x08, 0x04, 0x00, 1, 0, 1, 0].repeat(60_000);
    let seconds = updates.len() as f64 / MAX as f64;
    let Ends { client, desktop, .. } = &mut ends;
    let (mut client, mut desktop) = (client, desktop);
    let mut received = vec![0; updates.len()];
    let begun = std::time::Instant::now();
    let sending = send(&mut desktop, &updates);
    let receiving = tokio::time::timeout(PATIENCE, client.read_exact(&mut received));
    let ((), received_all) = tokio::join!(sending, receiving);
    received_all.unwrap().unwrap();
    // what goes out in one write is only made up for afterwards, and some may be saved up
    let tolerated = 0.1 + f64::from(192 << 10) / MAX as f64;
    let took = begun.elapsed().as_secs_f64();
    assert!(took > seconds - tolerated, "{took} s instead of {seconds}");
    assert!(received == updates, "bytes differ");
    // the other direction is not held up by it
    send(&mut client, &[0x04, 0x05, 0x00, 0x1E, 0x00]).await;
    assert_eq!(read_pdu(&mut desktop).await, [0x04, 0x05, 0x00, 0x1E, 0x00]);
    drop(ends);
    gateway.next_end().await;
    gateway.assert_clean().await;
}

/// The desktop was connected to as the old resource says; what the new one says, a password of another machine above all,
/// is not for it.
#[tokio::test]
async fn a_desktop_that_changes_before_the_logon_gets_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let mut gateway = start_in(nla_client::folder(addr, ", client_security: tls")).await;
    let mut ends = meet(&gateway, &listener).await;
    let info = ends
        .play_before(XRDP, |event| matches!(event, PhaseEvent::ClientInfo))
        .await;
    let file = gateway._dir.path().join("resources/all.yaml");
    let text = std::fs::read_to_string(&file).unwrap();
    let logins =
        "spec: {addr: 'other.example:3389', gateway: {credentials: {logins: [{login: x, password: {env: X}}]}}}";
    let changed = text.replace(&format!("spec: {{addr: '{addr}'}}"), logins);
    assert_ne!(text, changed);
    std::fs::write(&file, changed).unwrap();
    let sources = Sources {
        file: Some(gateway._dir.path().join("deskreel.yaml")),
        working_dir: gateway._dir.path().to_owned(),
        ..Sources::default()
    };
    gateway
        .shared
        .access
        .reload(&deskreel_config::load(&sources).unwrap())
        .unwrap();
    through(&mut ends.model, Direction::ToDesktop, &mut info.clone());
    send(&mut ends.client, &info).await;
    assert_eq!(ends.last_words().await, ends.model.error_info(0x7).concat());
    assert_eq!(ends.rest_at_desktop().await, b"", "Client Info stays here");
    drop(ends);
    gateway.expect("desktop_changed").await;
}
