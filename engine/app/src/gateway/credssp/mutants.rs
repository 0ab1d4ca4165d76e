//! Messages of CredSSP that are changed at random, at either side: nothing panics, and nobody gets on but by what both
//! sides meant. `DESKREEL_MUTANTS` and `DESKREEL_SEED` as for whole sessions; the numbers that the peers draw differ in each run.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use ironrdp_connector::sspi::credssp::{ClientMode, ClientState, CredSspClient, CredSspMode, write_ts_credentials};
use ironrdp_connector::sspi::{AuthIdentity, AuthIdentityBuffers, CredentialsBuffers, Username};
use tokio::io::{AsyncWrite, ReadBuf};

use super::client::{Account, LogonError, log_on};
use super::ntlm::Messages;
use super::seal::Seal;
use super::server::{ClientName, CredsspError, NtHash, Server, Step};
use super::tests::{KEY, in_spnego, nt_hash, raw};
use super::*;
use crate::gateway::tests::random::{Random, mutants, resident_bytes, seed};

/// Changed messages of a run of each test, unless `DESKREEL_MUTANTS` says otherwise.
const MESSAGES: usize = 1500;
/// What a long run may take more at its end than after its first half.
const GROWTH_MAX: u64 = 16 << 20;
/// Longer than anything that either side has to say.
const REPLY_MAX: usize = 1024;

const USER: &str = "alice:lab";
const DOMAIN: &str = "CORP";
const PASSWORD: &str = "Sesam-öffne-1";
const GUESS: &str = "Sesam-öffne-2";
/// Place of [`PASSWORD`] among what [`USER`] may know.
const RIGHT: usize = 1;

/// NTLM, alone or in SPNEGO; version; messages of the client.
type Kind = (fn() -> ClientMode, u32, usize);
const KINDS: [Kind; 5] = [
    (raw, 6, 3),
    (in_spnego, 6, 4),
    (raw, 5, 3),
    (raw, 2, 3),
    (in_spnego, 4, 4),
];

/// Places of lengths and offsets in NTLM's messages ([MS-NLMP] 2.2.1).
const NTLM_FIELDS: [usize; 8] = [12, 16, 20, 28, 36, 40, 44, 52];
const NTLM: &[u8] = b"NTLMSSP\0";

/// What decides in a message. The rest is wrapping, or nobody reads it.
#[derive(Debug, Default)]
struct Meaning {
    mechanisms: Option<Vec<u8>>,
    ntlm: Option<Vec<u8>>,
    mic: Option<Vec<u8>>,
    pub_key_auth: Option<Vec<u8>>,
    nonce: Option<Vec<u8>>,
    auth_info: Option<Vec<u8>>,
}

impl Meaning {
    fn of(message: &[u8]) -> Self {
        let Ok(request) = TsRequest::from_buffer(message) else {
            return Self::default();
        };
        let owned = |bytes: &[u8]| bytes.to_vec();
        let mut meaning = Self {
            pub_key_auth: request.pub_key_auth,
            nonce: request.client_nonce.map(Vec::from),
            auth_info: request.auth_info,
            ..Self::default()
        };
        let token = request.nego_tokens.unwrap_or_default();
        if token.starts_with(NTLM) {
            meaning.ntlm = Some(token);
        } else if let Ok(init) = spnego::init(&token) {
            meaning.mechanisms = Some(owned(init.mechanisms));
            meaning.ntlm = init.ntlm.map(owned);
        } else if let Ok(response) = spnego::response(&token) {
            meaning.ntlm = response.token.map(owned);
            meaning.mic = response.mic.map(owned);
        }
        meaning
    }

    /// Whether whoever reads `arrived` reads what this says.
    fn stands_in(&self, arrived: &Self) -> bool {
        let fields = |of: &Self| {
            [
                of.mechanisms.clone(),
                of.ntlm.clone(),
                of.mic.clone(),
                of.pub_key_auth.clone(),
                of.auth_info.clone(),
            ]
        };
        let mut both = fields(self).into_iter().zip(fields(arrived));
        // who is taken for older than the nonce seals without it
        let nonce = arrived.nonce.is_none() || self.nonce.is_none() || self.nonce == arrived.nonce;
        nonce && both.all(|(said, read)| said.is_none() || said == read)
    }
}

/// One side's messages as it sent them, and as they arrived.
#[derive(Default)]
struct Told(Vec<(Meaning, Meaning)>);

impl Told {
    fn add(&mut self, sent: &[u8], arrived: &[u8]) {
        self.0.push((Meaning::of(sent), Meaning::of(arrived)));
    }

    #[track_caller]
    fn assert_kept(&self) {
        for (sent, arrived) in &self.0 {
            assert!(sent.stands_in(arrived), "{sent:?} was read as {arrived:?}");
        }
    }
}

/// The last message of each place of an exchange, to be said again in another one.
type Heard = Vec<Vec<u8>>;

/// `message` with other bytes: of the whole, of one field in a wrapping that fits, of NTLM's fields, or out of another
/// exchange.
fn changed(random: &mut Random, message: &[u8], heard: &Heard) -> Vec<u8> {
    let mut bytes = message.to_vec();
    match random.below(8) {
        0..=2 => {
            random.change(&mut bytes, 2);
            if random.below(8) > 0 {
                fit(&mut bytes);
            }
        }
        3..=5 => {
            let Ok(mut request) = TsRequest::from_buffer(message) else {
                return bytes;
            };
            let other = heard.get(random.below(heard.len().max(1)));
            let other = other
                .and_then(|other| TsRequest::from_buffer(other).ok())
                .unwrap_or_default();
            let again = random.below(4) == 0;
            let (field, heard) = match random.below(3) {
                0 => (&mut request.nego_tokens, other.nego_tokens),
                1 => (&mut request.pub_key_auth, other.pub_key_auth),
                _ => (&mut request.auth_info, other.auth_info),
            };
            if again {
                *field = heard;
            } else {
                random.change(field.get_or_insert_default(), 0);
            }
            if random.below(8) == 0 {
                request.version = u32::try_from(random.below(9)).unwrap();
            }
            match &mut request.client_nonce {
                nonce if random.below(16) == 0 => *nonce = other.client_nonce,
                Some(nonce) if random.below(16) == 0 => {
                    let at = random.below(nonce.len());
                    random.replace(nonce, at);
                }
                _ => {}
            }
            bytes = encode(&request).unwrap().to_vec();
        }
        6 => {
            let start = bytes.windows(NTLM.len()).position(|window| window == NTLM);
            let room = bytes.len() - start.unwrap_or_default();
            let at = start.unwrap_or_default() + NTLM_FIELDS[random.below(NTLM_FIELDS.len())];
            let lies = [0, 1, room, room + 1, 0x7FFF, 0xFFFF, 0x7FFF_FFFF, 0xFFFF_FFFF];
            let lie = u32::try_from(lies[random.below(lies.len())]).unwrap().to_le_bytes();
            let length = [2, 4][random.below(2)];
            for (to, from) in bytes.iter_mut().skip(at).zip(lie).take(length) {
                *to = from;
            }
        }
        _ => {
            if let Some(other) = heard.get(random.below(heard.len().max(1))) {
                bytes.clone_from(other);
            }
        }
    }
    bytes
}

/// The length that a TSRequest really has, in its header.
fn fit(message: &mut [u8]) {
    let (length, header) = (message.len(), message.get_mut(..4));
    match header {
        Some([_, 0x82, high, low]) => [*high, *low] = u16::try_from(length - 4).unwrap().to_be_bytes(),
        Some([_, 0x81, low, _]) => *low = u8::try_from(length - 3).unwrap_or(0xFF),
        Some([_, low, ..]) => *low = u8::try_from(length - 2).unwrap_or(0x7F).min(0x7F),
        _ => {}
    }
}

/// `message` off a stream, as both sides read.
async fn read(message: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let mut stream = message;
    let read = read_message(&mut stream).await.ok()?;
    assert!(read.capacity() <= MESSAGE_BYTES_MAX && message.starts_with(&read));
    Some(read)
}

#[track_caller]
fn assert_unbroken(error: &str) {
    assert!(!error.contains("broke its reader"), "{error}");
}

/// What became of the changed messages.
#[derive(Debug, Default)]
struct Ends {
    changed: usize,
    /// They said the same, and the client got on.
    passed: usize,
    denied: usize,
    invalid: usize,
}

impl Ends {
    fn add(&mut self, error: &CredsspError) {
        assert_unbroken(&error.to_string());
        match error {
            CredsspError::Denied => self.denied += 1,
            CredsspError::Protocol(_) => self.invalid += 1,
        }
    }
}

fn client(mode: ClientMode, version: u32, password: &str) -> CredSspClient {
    let identity = AuthIdentity {
        username: Username::new(USER, Some(DOMAIN)).unwrap(),
        password: password.to_owned().into(),
    };
    let (mode, target) = (mode, "TERMSRV/gateway".to_owned());
    let with = CredSspMode::WithCredentials;
    CredSspClient::new_with_version(KEY.to_vec(), identity.into(), with, version, mode, target).unwrap()
}

fn say(client: &mut CredSspClient, heard: TsRequest) -> Option<Zeroizing<Vec<u8>>> {
    let (ClientState::ReplyNeeded(message) | ClientState::FinalMessage(message)) =
        client.process(heard).resolve_to_result().ok()?;
    Some(encode(&message).unwrap())
}

fn user() -> ClientName {
    ClientName {
        user: USER.to_owned(),
        domain: Some(DOMAIN.to_owned()),
    }
}

/// What somebody of this name may know. Others have passwords too.
fn secrets_of(name: &ClientName) -> Vec<NtHash> {
    match *name == user() {
        true => [GUESS.to_lowercase().as_str(), PASSWORD, ""].map(nt_hash).to_vec(),
        false => vec![nt_hash("another")],
    }
}

/// A client, mostly one that knows the password, whose messages are changed from some point on.
async fn against_the_server(random: &mut Random, heard: &mut Heard, ends: &mut Ends) {
    let (mode, version, rounds) = KINDS[random.below(KINDS.len())];
    let knows = random.below(4) > 0;
    let mut client = client(mode(), version, if knows { PASSWORD } else { GUESS });
    let mut server = Server::new(KEY.to_vec());
    let first = random.below(rounds);
    let mut told = Told::default();
    let (mut named, mut proven) = (None, false);
    let mut request = TsRequest::default();
    for round in 0.. {
        let Some(message) = say(&mut client, request) else {
            return;
        };
        let is_changed = round == first || round > first && random.below(2) == 0;
        let arriving = match is_changed {
            true => changed(random, &message, heard),
            false => message.to_vec(),
        };
        ends.changed += usize::from(is_changed);
        match heard.len() {
            0..8 => heard.push(message.to_vec()),
            places => message.as_slice().clone_into(&mut heard[random.below(places)]),
        }
        let Some(arrived) = read(&arriving).await else { return };
        told.add(&message, &arrived);
        let mut step = server.process(&arrived);
        if let Ok(Step::Named(name)) = &step {
            let secrets = secrets_of(name);
            named = Some(name.clone());
            step = server.verify(&secrets);
        }
        let reply = match step {
            Ok(Step::Reply(reply)) => reply,
            Ok(Step::Proven(index)) => {
                assert!(knows && index == RIGHT, "{index}");
                assert_eq!(named, Some(user()));
                told.assert_kept();
                proven = true;
                server.confirm().unwrap()
            }
            Ok(Step::Finished(delegated)) => {
                assert!(proven);
                assert_eq!(*delegated.password, PASSWORD);
                told.assert_kept();
                ends.passed += 1;
                return;
            }
            Ok(Step::Named(_)) => panic!("named twice"),
            Err(error) => {
                ends.add(&error);
                // it is over, even for the message that was meant
                assert!(server.process(&message).is_err() && server.confirm().is_err());
                return;
            }
        };
        assert!(reply.len() < REPLY_MAX);
        request = TsRequest::from_buffer(&reply).unwrap();
    }
}

/// A client that knows the password and the key of its session, and delegates what is none.
fn credentials(random: &mut Random, ends: &mut Ends) {
    let mut client = client(raw(), 6, PASSWORD);
    let mut server = Server::new(KEY.to_vec());
    let mut messages = Messages::default();
    let ntlm = |message: &[u8]| Meaning::of(message).ntlm.unwrap();
    let negotiate = say(&mut client, TsRequest::default()).unwrap();
    messages.negotiate = ntlm(&negotiate);
    let Ok(Step::Reply(challenge)) = server.process(&negotiate) else {
        panic!("no challenge")
    };
    messages.challenge = ntlm(&challenge);
    let authenticate = say(&mut client, TsRequest::from_buffer(&challenge).unwrap()).unwrap();
    messages.authenticate = ntlm(&authenticate);
    assert!(matches!(server.process(&authenticate), Ok(Step::Named(_))));
    assert!(matches!(server.verify(&[nt_hash(PASSWORD)]), Ok(Step::Proven(0))));
    server.confirm().unwrap();
    // its side of the session, with the first message behind it
    let mut seal = Seal::client(messages.session_key(&nt_hash(PASSWORD)).unwrap().as_ref());
    seal.seal(&[0; 32]);
    let buffers = AuthIdentityBuffers::from_utf8(USER, DOMAIN, PASSWORD);
    let whole = CredentialsBuffers::AuthIdentity(buffers);
    let mut plain = write_ts_credentials(&whole, CredSspMode::WithCredentials).unwrap();
    random.change(&mut plain, 0);
    let request = TsRequest {
        auth_info: Some(seal.seal(&plain)),
        ..TsRequest::default()
    };
    ends.changed += 1;
    match server.process(&encode(&request).unwrap()) {
        Ok(Step::Finished(delegated)) => {
            assert!(delegated.password.len() <= 3 * plain.len());
            ends.passed += 1;
        }
        Ok(step) => panic!("{step:?}"),
        Err(error) => ends.add(&error),
    }
}

/// A desktop that knows the account's password, or not, at the other end of a stream; its messages are changed from some point
/// on. It says nothing unasked, and has gone when it has nothing to say.
struct Desktop<'a> {
    random: &'a mut Random,
    heard: &'a mut Heard,
    ends: &'a mut Ends,
    server: Server,
    knows: bool,
    /// The first message that is changed.
    first: usize,
    told: Told,
    read: Vec<u8>,
    answer: io::Cursor<Vec<u8>>,
    /// What the gateway has delegated.
    password: Option<String>,
}

impl Desktop<'_> {
    /// What it says to what it has been sent; `None` = it goes away.
    fn hear(&mut self) -> Option<Vec<u8>> {
        let message = std::mem::take(&mut self.read);
        if Meaning::of(&message).auth_info.is_some() {
            self.told.assert_kept();
            assert!(self.knows, "the password goes to a desktop that doesn't know it");
        }
        let mut step = self.server.process(&message).ok()?;
        if let Step::Named(_) = step {
            let password = if self.knows { PASSWORD } else { GUESS };
            let verified = self.server.verify(&[nt_hash(password)]);
            step = match verified {
                Ok(step) => step,
                Err(_) => {
                    return self
                        .server
                        .refuse(status::LOGON_FAILURE)
                        .map(|refusal| refusal.to_vec());
                }
            };
        }
        let reply = match step {
            Step::Reply(reply) => reply,
            Step::Proven(_) => self.server.confirm().ok()?,
            Step::Finished(delegated) => {
                self.password = Some(delegated.password.to_string());
                return None;
            }
            Step::Named(_) => return None,
        };
        let round = self.told.0.len();
        let is_changed = round == self.first || round > self.first && self.random.below(2) == 0;
        let arriving = match is_changed {
            true => changed(self.random, &reply, self.heard),
            false => reply.to_vec(),
        };
        self.ends.changed += usize::from(is_changed);
        match self.heard.len() {
            0..4 => self.heard.push(reply.to_vec()),
            places => reply.as_slice().clone_into(&mut self.heard[self.random.below(places)]),
        }
        // what follows is not read
        let whole = spnego::length(&arriving).and_then(|(start, length)| arriving.get(..start + length));
        self.told.add(&reply, whole.unwrap_or(&arriving));
        Some(arriving)
    }
}

impl AsyncRead for Desktop<'_> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.read.is_empty() {
            let answer = self.hear().unwrap_or_default();
            self.answer = io::Cursor::new(answer);
        }
        Pin::new(&mut self.answer).poll_read(context, into)
    }
}

impl AsyncWrite for Desktop<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        assert!(bytes.len() < 2 * MESSAGE_BYTES_MAX);
        self.read.extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

async fn against_the_client(random: &mut Random, heard: &mut Heard, ends: &mut Ends) {
    let account = Account {
        login: USER,
        domain: Some(DOMAIN),
        password: PASSWORD,
    };
    let (knows, first) = (random.below(4) > 0, random.below(2));
    let mut desktop = Desktop {
        random,
        heard,
        ends,
        server: Server::new(KEY.to_vec()),
        knows,
        first,
        told: Told::default(),
        read: Vec::new(),
        answer: io::Cursor::default(),
        password: None,
    };
    match log_on(&mut desktop, KEY.to_vec(), "desktop", &account, false).await {
        Ok(()) => {
            desktop.told.assert_kept();
            // what has been written last
            desktop.hear();
            assert_eq!(desktop.password.as_deref(), Some(PASSWORD));
            desktop.ends.passed += 1;
        }
        Err(error) => {
            assert_unbroken(&error.to_string());
            match error {
                LogonError::Refused(_) => desktop.ends.denied += 1,
                _ => desktop.ends.invalid += 1,
            }
        }
    }
}

/// Runs `turn` until enough messages are changed.
async fn run(name: &str, mut turn: impl AsyncFnMut(&mut Random, &mut Heard, &mut Ends)) -> Ends {
    let (long, seed) = (mutants(), seed());
    let count = long.unwrap_or(MESSAGES);
    let (mut random, mut heard, mut ends) = (Random::new(seed), Heard::new(), Ends::default());
    let mut resident = Vec::new();
    while ends.changed < count {
        turn(&mut random, &mut heard, &mut ends).await;
        if long.is_some() && ends.changed * 10 / count > resident.len() {
            resident.push(resident_bytes());
            println!("{name}, seed {seed}: {ends:?}, {resident:?} bytes");
        }
    }
    if let (Some(half), Some(last)) = (resident.get(4), resident.last()) {
        assert!(last.saturating_sub(*half) < GROWTH_MAX, "{resident:?} bytes");
    }
    assert!(ends.passed > 0 && ends.invalid > 0, "{ends:?}");
    ends
}

#[tokio::test]
async fn changed_messages_of_clients_prove_nothing() {
    let ends = run("clients", against_the_server).await;
    assert!(ends.denied > 0, "{ends:?}");
}

#[tokio::test]
async fn changed_credentials_end_the_logon_and_nothing_else() {
    run("credentials", async |random, _, ends| credentials(random, ends)).await;
}

#[tokio::test]
async fn changed_messages_of_desktops_get_no_credentials() {
    let ends = run("desktops", against_the_client).await;
    assert!(ends.denied > 0, "{ends:?}");
}
